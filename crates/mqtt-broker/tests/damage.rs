//! What a shard makes of a log from which records are missing.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use bytes::BytesMut;
use clock::Instant;
use journal::log::fault::FaultyDisk;
use journal::log::{Options, Position, Writer, open};
use mqtt_broker::{ConnectionId, Recovery, Settings, Shard, Shared};
use mqtt_wire::{
    Ack, Connect, Decoder, Packet, PacketId, Publish, QoS, Text, TopicFilter, TopicName, Version,
};

const NOW: Instant = Instant::ORIGIN;

struct Broker {
    shard: Shard,
    shared: Arc<Shared>,
    writer: Writer,
    losses: usize,
}

impl Broker {
    fn start(disk: &FaultyDisk) -> Self {
        let mut recovery = Recovery::default();
        let apply = |position, record: &[u8]| recovery.apply(position, record).unwrap();
        let (writer, report) = open(Arc::new(disk.clone()), Options::default(), 1, apply).unwrap();
        if !report.losses.is_empty() {
            recovery.tell_damaged();
        }
        let log = Arc::clone(writer.log());
        let shared = Shared::with_log(1, Settings::default(), Some(Arc::clone(&log)));
        let mut shards = [Shard::new(0, Arc::clone(&shared))];
        let read = |positions: &[Position]| log.read(disk, positions);
        recovery.restore(NOW, &log, &mut shards, &read, |jobs| jobs.into_iter().for_each(|job| job()));
        let [shard] = shards;
        let mut broker = Self { shard, shared, writer, losses: report.losses.len() };
        broker.turn();
        broker
    }

    fn turn(&mut self) {
        self.writer.turn(true).unwrap();
        self.shard.handle_durable(NOW);
    }

    /// A client whose session goes on.
    fn connect(&mut self) -> ConnectionId {
        let mut connect = Connect::new(Version::V5, Text::new("writer").unwrap());
        (connect.clean_start, connect.properties.session_expiry_interval) = (false, Some(1_000));
        self.shard.handle_connect(NOW, connect, Decoder::new(Version::V5, 1_000)).unwrap()
    }

    fn give(&mut self, id: ConnectionId, packet: impl Into<Packet>) {
        let mut bytes = BytesMut::new();
        packet.into().encode(Version::V5, &mut bytes).unwrap();
        self.shard.handle_bytes(NOW, id, &mut bytes);
        self.turn();
    }

    fn publish(&mut self, id: ConnectionId, payload: &'static str, dup: bool) {
        let publish = Publish::new(TopicName::new("t").unwrap(), QoS::ExactlyOnce, payload);
        self.give(id, Publish { packet_id: Some(PacketId::ONE), retain: true, dup, ..publish });
    }

    fn retained(&self) -> Vec<bytes::Bytes> {
        let all = self.shared.retained.matching(NOW, &TopicFilter::new("#").unwrap());
        all.iter().map(|message| message.payload.clone()).collect()
    }
}

/// A log whose record that the first message's exchange is over is damaged, or is not.
fn log(is_damaged: bool) -> FaultyDisk {
    let disk = FaultyDisk::default();
    let mut broker = Broker::start(&disk);
    let id = broker.connect();
    broker.publish(id, "first", false);
    broker.give(id, Packet::PubRel(Ack::new(PacketId::ONE)));
    let end = disk.bytes();
    // So that it is known to have been on the disk.
    for _ in 0..2 {
        let publish = Publish::new(TopicName::new("t").unwrap(), QoS::AtLeastOnce, "between");
        broker.give(id, Publish { packet_id: PacketId::new(9), retain: true, ..publish });
    }
    drop(broker);
    if is_damaged {
        disk.flip((end - 1) * 8).unwrap();
    }
    disk
}

#[test]
fn a_new_message_is_not_taken_for_one_whose_release_was_damaged() {
    for is_damaged in [false, true] {
        let mut broker = Broker::start(&log(is_damaged));
        assert_eq!(broker.losses, usize::from(is_damaged));
        let id = broker.connect();
        broker.publish(id, "second", false);
        assert_eq!(broker.retained(), ["second"], "damaged: {is_damaged}");
        broker.publish(id, "the second again, so that this is not looked at", true);
        assert_eq!(broker.retained(), ["second"], "damaged: {is_damaged}");
    }
}
