//! Segmentation and reassembly between two ends over a channel that loses, repeats and reorders.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use clock::Instant;
use mesh_proto::Discard;
use mesh_proto::keys::Credentials;
use mesh_proto::lower_transport::{
    MessageId, Reassembler, SarReceiver, SarTransmitter, SegmentSource, SegmentedError, SegmentedMessage,
    Segmenter,
};
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::lower_transport::{KeyHint, LowerTransportPdu, Segment, SegmentAck, SegmentedKind};
use mesh_wire::{IvIndex, KeyIndex, Seq, SeqAuth, Ttl};
use proptest::prelude::*;

const SRC: u16 = 0x0003;
const DST: u16 = 0x1201;
const KIND: SegmentedKind = SegmentedKind::Access { key: KeyHint::Device, szmic: false };

fn unicast(address: u16) -> UnicastAddress {
    UnicastAddress::new(address).unwrap()
}

fn at(seq: u32) -> SeqAuth {
    SeqAuth { iv_index: IvIndex(0), seq: Seq::new(seq).unwrap() }
}

fn message(dst: u16, seq: u32, upper: Vec<u8>) -> SegmentedMessage {
    SegmentedMessage {
        id: MessageId(1),
        net_key_index: KeyIndex::ZERO,
        ttl: Ttl::new(4).unwrap(),
        src: unicast(SRC),
        dst: Address::from(dst),
        kind: KIND,
        seq_auth: at(seq),
        upper,
        credentials: Credentials::Flooding,
    }
}

fn source(dst: u16, seq: u32) -> SegmentSource {
    SegmentSource {
        net_key_index: KeyIndex::ZERO,
        src: unicast(SRC),
        dst: Address::from(dst),
        ttl: Ttl::new(4).unwrap(),
        seq_auth: at(seq),
        by_friend: false,
    }
}

fn segment_of(pdu: LowerTransportPdu) -> Segment {
    let LowerTransportPdu::Segment(segment) = pdu else { panic!("a segment") };
    segment
}

/// What came of sending one message.
struct Outcome {
    delivered: Vec<Vec<u8>>,
    finished: Vec<Result<(), SegmentedError>>,
    transmissions: usize,
    took: Duration,
}

/// Sends one message; `fate` says of each PDU in turn, segments and acknowledgments alike, how often it arrives.
fn transfer(dst: u16, seq: u32, upper: &[u8], mut fate: impl FnMut() -> usize) -> Outcome {
    let mut segmenter = Segmenter::new(SarTransmitter::default());
    let mut reassembler = Reassembler::new(SarReceiver::default());
    let mut now = Instant::ORIGIN;
    let mut next_seq = seq + 1;
    let mut outcome =
        Outcome { delivered: Vec::new(), finished: Vec::new(), transmissions: 0, took: Duration::ZERO };
    segmenter.send(now, message(dst, seq, upper.to_vec()));
    loop {
        while let Some(pdu) = segmenter.poll_transmit() {
            outcome.transmissions += 1;
            let seq = pdu.seq.map_or(next_seq, u32::from);
            next_seq += 1;
            let segment = segment_of(pdu.pdu);
            for _ in 0..fate() {
                if let Ok(Some(whole)) = reassembler.handle_segment(now, source(dst, seq), &segment) {
                    outcome.delivered.push(whole.upper);
                }
            }
        }
        while let Some(ack) = reassembler.poll_ack() {
            assert_eq!((u16::from(ack.src), u16::from(ack.dst)), (DST, SRC));
            for _ in 0..fate() {
                let _ = segmenter.handle_ack(now, ack.src, ack.dst, KeyIndex::ZERO, ack.ack);
            }
        }
        while let Some((_, result)) = segmenter.poll_finished() {
            outcome.finished.push(result);
            outcome.took = now - Instant::ORIGIN;
        }
        let Some(next) = [segmenter.poll_timeout(), reassembler.poll_timeout()].into_iter().flatten().min()
        else {
            return outcome;
        };
        now = next;
        segmenter.handle_timeout(now);
        reassembler.handle_timeout(now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_message_is_delivered_once_or_given_up(
        upper in prop::collection::vec(any::<u8>(), 1..=384),
        seq in 0_u32..0x00ff_0000,
        fates in prop::collection::vec(prop_oneof![3 => Just(1_usize), 1 => Just(0), 1 => Just(2)], 1..200),
    ) {
        let mut fates = fates.into_iter().cycle();
        let outcome = transfer(DST, seq, &upper, || fates.next().unwrap());
        prop_assert!(outcome.delivered.len() <= 1);
        prop_assert_eq!(outcome.finished.len(), 1);
        if let Some(delivered) = outcome.delivered.first() {
            prop_assert_eq!(delivered, &upper);
        }
        if outcome.finished[0].is_ok() {
            prop_assert_eq!(outcome.delivered.len(), 1);
        }
    }

    #[test]
    fn without_loss_every_segment_is_sent_once(upper in prop::collection::vec(any::<u8>(), 1..=384), seq in 0_u32..0xff_0000) {
        let outcome = transfer(DST, seq, &upper, || 1);
        prop_assert_eq!(&outcome.delivered, &vec![upper.clone()]);
        prop_assert_eq!(&outcome.finished[..], &[Ok(())]);
        prop_assert_eq!(outcome.transmissions, upper.len().div_ceil(12));
    }

    #[test]
    fn any_segments_in_any_order_never_panic(
        segments in prop::collection::vec((any::<bool>(), 0_u32..0x4000, prop::collection::vec(any::<u8>(), 1..17), 1_u16..9), 0..200),
    ) {
        let mut reassembler = Reassembler::new(SarReceiver::default());
        for (index, (ctl, seq, octets, from)) in segments.into_iter().enumerate() {
            let now = Instant::from_micros(index as u64 * 70_000);
            reassembler.handle_timeout(now);
            if let Ok(LowerTransportPdu::Segment(segment)) = LowerTransportPdu::decode(ctl, &octets) {
                let _ = reassembler.handle_segment(now, SegmentSource { src: unicast(from), ..source(DST, seq) }, &segment);
            }
        }
    }
}

#[test]
fn a_group_message_is_repeated_and_nobody_acknowledges_it() {
    let outcome = transfer(0xc001, 9, &[7; 30], || 1);
    assert_eq!(outcome.delivered, [vec![7; 30]]);
    assert_eq!(outcome.finished, [Ok(())]);
    assert_eq!(outcome.transmissions, 9, "three segments, three times");
}

#[test]
fn a_silent_destination_is_given_up_after_three_rounds() {
    let outcome = transfer(DST, 9, &[7; 24], || 0);
    assert_eq!(outcome.finished, [Err(SegmentedError::Timeout)]);
    assert_eq!(outcome.transmissions, 6);
    // Three rounds of one segment interval (60 ms) and 200 + 3 * 50 ms of waiting, at TTL 4.
    assert_eq!(outcome.took, Duration::from_millis(3 * (60 + 350)));
}

#[test]
fn a_384_octet_message_takes_the_sar_interval_for_each_segment() {
    let outcome = transfer(DST, 9, &[7; 384], || 1);
    assert_eq!(outcome.finished, [Ok(())]);
    assert_eq!(outcome.took, Duration::from_millis(31 * 60), "32 segments, 60 ms apart");
}

#[test]
fn a_single_segment_is_a_message_too() {
    let outcome = transfer(DST, 0, &[1, 2, 3, 4, 5], || 1);
    assert_eq!((outcome.delivered.len(), outcome.transmissions), (1, 1));
}

#[test]
fn a_refusal_ends_the_message_and_foreign_acknowledgments_do_not() {
    let mut segmenter = Segmenter::new(SarTransmitter::default());
    segmenter.send(Instant::ORIGIN, message(DST, 0x09ab, vec![0; 24]));
    let ack = |seq_zero, on_behalf, block_ack| SegmentAck {
        on_behalf,
        seq_zero: mesh_wire::SeqZero::truncate(seq_zero),
        block_ack,
    };
    let mut handle = |src: u16, net_key, ack| {
        segmenter.handle_ack(
            Instant::ORIGIN,
            unicast(src),
            unicast(SRC),
            KeyIndex::new(net_key).unwrap(),
            ack,
        )
    };
    assert_eq!(handle(DST, 0, ack(0x09ac, false, 0)), Err(Discard::UnknownAck), "another SeqZero");
    assert_eq!(handle(0x0077, 0, ack(0x09ab, false, 0)), Err(Discard::UnknownAck), "another source");
    assert_eq!(handle(DST, 1, ack(0x09ab, false, 0)), Err(Discard::UnknownAck), "another NetKey");
    assert_eq!(handle(0x0077, 0, ack(0x09ab, true, 1)), Ok(()), "a Friend answers for the destination");
    assert_eq!(handle(DST, 0, ack(0x09ab, false, 0)), Ok(()));
    assert_eq!(segmenter.poll_finished(), Some((MessageId(1), Err(SegmentedError::Refused))));
    assert!(!segmenter.is_busy(Address::from(DST)));
}

#[test]
fn a_finished_message_is_acknowledged_again_but_not_delivered_again() {
    let mut reassembler = Reassembler::new(SarReceiver::default());
    let segment = |seg_o: u8| Segment {
        kind: KIND,
        seq_zero: Seq::new(5).unwrap().zero(),
        seg_o,
        seg_n: 1,
        octets: [seg_o; 12].into(),
    };
    let now = Instant::ORIGIN;
    assert_eq!(reassembler.handle_segment(now, source(DST, 5), &segment(0)), Ok(None));
    assert!(reassembler.handle_segment(now, source(DST, 6), &segment(1)).unwrap().is_some());
    assert_eq!(reassembler.poll_ack().unwrap().ack.block_ack, 0b11);
    assert_eq!(reassembler.handle_segment(now, source(DST, 7), &segment(0)), Err(Discard::RepeatedSegment));
    assert_eq!(reassembler.poll_ack(), None, "not more often than every 150 ms");
    let later = now + Duration::from_millis(150);
    assert_eq!(reassembler.handle_segment(later, source(DST, 8), &segment(0)), Err(Discard::RepeatedSegment));
    assert_eq!(reassembler.poll_ack().unwrap().ack.block_ack, 0b11);
}

#[test]
fn an_unfinished_message_is_forgotten_after_the_discard_timeout() {
    let mut reassembler = Reassembler::new(SarReceiver::default());
    let first = Segment {
        kind: KIND,
        seq_zero: Seq::new(5).unwrap().zero(),
        seg_o: 0,
        seg_n: 1,
        octets: [0; 12].into(),
    };
    reassembler.handle_segment(Instant::ORIGIN, source(DST, 5), &first).unwrap();
    reassembler.handle_timeout(Instant::ORIGIN + Duration::from_secs(10));
    assert_eq!(reassembler.poll_timeout(), None);
    assert!(reassembler.poll_ack().is_some(), "of what was there");
    let second = Segment { seg_o: 1, ..first };
    let later = Instant::ORIGIN + Duration::from_secs(11);
    // The sender has an acknowledgment of the first: with one of the second it would take the message for delivered.
    let late = reassembler.handle_segment(later, source(DST, 6), &second);
    assert_eq!(late, Err(Discard::OldSegment));
    assert_eq!(reassembler.poll_ack(), None);
    let next = Segment { seq_zero: Seq::new(7).unwrap().zero(), ..second };
    assert_eq!(reassembler.handle_segment(later, source(DST, 8), &next), Ok(None), "the next begins");
}

/// Takes the first or second half of a message from `src`.
fn half(reassembler: &mut Reassembler, src: u16, dst: u16, seg_o: u8) -> Result<(), Discard> {
    let segment = Segment {
        kind: KIND,
        seq_zero: Seq::new(5).unwrap().zero(),
        seg_o,
        seg_n: 1,
        octets: [0; 12].into(),
    };
    let source = SegmentSource { src: unicast(src), ..source(dst, 5 + u32::from(seg_o)) };
    reassembler.handle_segment(Instant::ORIGIN, source, &segment).map(|_| ())
}

/// 64 messages are put together at the same time, and remembered; who comes then is refused until one of them is whole.
#[test]
fn all_sources_together_have_room_for_64_messages() {
    let mut reassembler = Reassembler::new(SarReceiver::default());
    for number in 0..64 {
        assert_eq!(half(&mut reassembler, 0x0100 + number / 4, 0xc000 + number, 0), Ok(()));
    }
    assert_eq!(half(&mut reassembler, 0x0200, DST, 0), Err(Discard::ReassemblyFull));
    let refusal = reassembler.poll_ack().unwrap();
    assert_eq!((refusal.dst, refusal.ack.block_ack), (unicast(0x0200), 0));
    assert_eq!(half(&mut reassembler, 0x0200, 0xc000, 0), Err(Discard::ReassemblyFull));
    assert_eq!(reassembler.poll_ack(), None, "nobody acknowledges for a group");
    for number in 0..64 {
        assert_eq!(
            half(&mut reassembler, 0x0100 + number / 4, 0xc000 + number, 1),
            Ok(()),
            "none was pushed out"
        );
        assert_eq!(half(&mut reassembler, 0x0200 + number, DST, 0), Ok(()), "a whole one makes room");
    }
    assert_eq!(half(&mut reassembler, 0x0300, DST, 0), Err(Discard::ReassemblyFull));
}

#[test]
fn one_source_cannot_take_all_the_room() {
    let mut reassembler = Reassembler::new(SarReceiver::default());
    let begin = |reassembler: &mut Reassembler, src, dst| half(reassembler, src, dst, 0);
    for group in 0xc000..0xc004 {
        assert_eq!(begin(&mut reassembler, 1, group), Ok(()));
    }
    assert_eq!(begin(&mut reassembler, 1, 0xc004), Err(Discard::ReassemblyFull));
    assert_eq!(begin(&mut reassembler, 1, DST), Err(Discard::ReassemblyFull));
    assert_eq!(reassembler.poll_ack().unwrap().ack.block_ack, 0, "a unicast sender is told");
    assert_eq!(begin(&mut reassembler, 2, DST), Ok(()));
}
