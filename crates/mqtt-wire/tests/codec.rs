//! What holds for every packet, and for everything that is not one.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use bytes::{BufMut as _, BytesMut};
use common::{VERSIONS, decoder, encode, packet, topic_filter, topic_name};
use mqtt_wire::{Decoder, Packet, Version};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn decoding_what_was_encoded_gives_the_packet_back((version, packet) in packet()) {
        let mut wire = encode(&packet, version);
        prop_assert_eq!(decoder(&packet, version).decode(&mut wire), Ok(Some(packet)));
        prop_assert!(wire.is_empty());
    }

    #[test]
    fn what_follows_a_packet_is_neither_read_nor_taken((version, packet) in packet(), tail in vec(any::<u8>(), 0..8)) {
        let mut wire = encode(&packet, version);
        wire.extend_from_slice(&tail);
        prop_assert_eq!(decoder(&packet, version).decode(&mut wire), Ok(Some(packet)));
        prop_assert_eq!(&wire[..], &tail[..]);
    }

    #[test]
    fn every_truncation_asks_for_more((version, packet) in packet()) {
        let wire = encode(&packet, version);
        for length in 0..wire.len() {
            let mut part = BytesMut::from(&wire[..length]);
            prop_assert_eq!(decoder(&packet, version).decode(&mut part), Ok(None));
            prop_assert_eq!(&part[..], &wire[..length], "nothing is taken of a packet that is not whole");
        }
    }

    #[test]
    fn a_frame_whose_length_was_cut_fails_and_takes_no_more_than_the_frame((version, packet) in packet(), tail in vec(any::<u8>(), 8)) {
        let wire = encode(&packet, version);
        // Frames below 128 bytes have one byte of Remaining Length, which can be made smaller.
        if wire.len() < 130 && wire[1] > 0 {
            for shorter in 0..wire[1] {
                let mut cut = wire.clone();
                cut[1] = shorter;
                cut.truncate(2 + usize::from(shorter));
                cut.extend_from_slice(&tail);
                let mut decoder = decoder(&packet, version);
                if let Ok(Some(other)) = decoder.decode(&mut cut) {
                    // A shorter payload or list is a packet too, but not the same one.
                    prop_assert_ne!(&other, &packet);
                    prop_assert_eq!(&cut[..], &tail[..]);
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_packets_or_an_error(bytes in vec(any::<u8>(), 0..200), version in 0..4_usize) {
        read_all(&bytes, version);
    }

    #[test]
    fn a_changed_packet_is_a_packet_or_an_error((version, packet) in packet(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let mut wire = encode(&packet, version);
        let at = at.index(wire.len());
        wire[at] ^= 1_u8 << bit;
        let index = VERSIONS.iter().position(|&x| x == version).unwrap();
        read_all(&wire, index);
        read_all(&wire, 3);
    }

    #[test]
    fn the_way_the_bytes_are_cut_makes_no_difference(packets in vec(packet(), 1..5), cuts in vec(1..9_usize, 1..20)) {
        let version = packets[0].0;
        let packets: Vec<Packet> = (packets.into_iter())
            .filter(|(v, packet)| *v == version && !matches!(packet, Packet::Connect(_)))
            .map(|(_, packet)| packet)
            .collect();
        let wire: Vec<u8> = packets.iter().flat_map(|packet| encode(packet, version)).collect();
        let mut decoder = Decoder::new(version, 1 << 20);
        let (mut input, mut decoded, mut rest) = (BytesMut::new(), Vec::new(), &wire[..]);
        let mut cuts = cuts.into_iter().cycle();
        while !rest.is_empty() {
            let (part, after) = rest.split_at(cuts.next().unwrap().min(rest.len()));
            input.put_slice(part);
            rest = after;
            while let Some(packet) = decoder.decode(&mut input).unwrap() {
                decoded.push(packet);
            }
        }
        prop_assert_eq!(decoded, packets);
    }

    #[test]
    fn a_filter_agrees_with_its_definition(filter in topic_filter(), topic in topic_name()) {
        let (filter_text, topic_text) = (filter.as_str().to_owned(), topic.as_str().to_owned());
        prop_assert_eq!(filter.matches(&topic), matches(&filter_text, &topic_text), "{} {}", filter_text, topic_text);
    }
}

/// §4.7 in the plainest way.
fn matches(filter: &str, topic: &str) -> bool {
    fn rest(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) => true,
            ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => rest(filter, topic),
            ([level, filter @ ..], [wanted, topic @ ..]) => level == wanted && rest(filter, topic),
            _ => false,
        }
    }
    if topic.starts_with('$') && (filter.starts_with('+') || filter.starts_with('#')) {
        return false;
    }
    let levels = |text| str::split(text, '/').collect::<Vec<&str>>();
    rest(&levels(filter), &levels(topic))
}

/// Reads all packets of a stream; each that is read is one that can be written and read again.
fn read_all(bytes: &[u8], version: usize) {
    let mut decoder = match VERSIONS.get(version) {
        Some(&version) => Decoder::new(version, 1 << 16),
        None => Decoder::for_server(1 << 16),
    };
    let mut input = BytesMut::from(bytes);
    while let Ok(Some(packet)) = decoder.decode(&mut input) {
        let version = match &packet {
            Packet::Connect(connect) => connect.version,
            _ => decoder.version().unwrap_or(Version::V5),
        };
        let mut again = encode(&packet, version);
        let mut reader = common::decoder(&packet, version);
        assert_eq!(reader.decode(&mut again), Ok(Some(packet)));
    }
}
