//! What shared subscriptions promise when their members cannot take what is for them (MQTT 5.0 §4.8.2).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use clock::Instant;
use journal::log::fault::FaultyDisk;
use journal::log::{Options, Position, Writer, open};
use mqtt_broker::{ConnectionId, Limits, Recovery, Settings, Shard, Shared};
use mqtt_wire::{
    Ack, Connect, Decoder, Packet, PacketId, Publish, QoS, Subscribe, SubscribeFilter, SubscriptionOptions,
    Text, TopicFilter, TopicName, Version,
};

/// A broker of one shard, and a publisher.
struct Broker {
    shard: Shard,
    writer: Writer,
    disk: FaultyDisk,
    publisher: ConnectionId,
    now: Instant,
}

impl Broker {
    fn start(disk: &FaultyDisk) -> Self {
        let mut recovery = Recovery::default();
        let options = Options { segment_bytes: 4_096, ..Options::default() };
        let apply = |position, record: &[u8]| recovery.apply(position, record).unwrap();
        let (writer, _) = open(Arc::new(disk.clone()), options, 1, apply).unwrap();
        let log = Arc::clone(writer.log());
        let limits = Limits { max_inflight: 10, ..Limits::default() };
        let shared = Shared::with_log(1, Settings { limits, ..Settings::default() }, Some(Arc::clone(&log)));
        let mut shards = [Shard::new(0, shared)];
        let read = |positions: &[Position]| log.read(disk, positions);
        recovery.restore(Instant::ORIGIN, &log, &mut shards, &read, |jobs| {
            jobs.into_iter().for_each(|job| job())
        });
        let [mut shard] = shards;
        let connect = Connect::new(Version::V5, Text::new("publisher").unwrap());
        let publisher =
            shard.handle_connect(Instant::ORIGIN, connect, Decoder::new(Version::V5, 1_000)).unwrap();
        Self { shard, writer, disk: disk.clone(), publisher, now: Instant::ORIGIN }
    }

    fn turn(&mut self) {
        self.now += Duration::from_millis(100);
        self.writer.turn(true).unwrap();
        self.shard.handle_timeout(self.now);
        self.shard.handle_durable(self.now);
        while let Some(load) = self.shard.poll_load() {
            let records = self.writer.log().read(&self.disk, &load.positions);
            self.shard.handle_loaded(self.now, load, records);
        }
    }

    fn give(&mut self, id: ConnectionId, packet: impl Into<Packet>) {
        let mut bytes = BytesMut::new();
        packet.into().encode(Version::V5, &mut bytes).unwrap();
        self.shard.handle_bytes(self.now, id, &mut bytes);
        self.turn();
    }

    fn publish(&mut self, numbers: std::ops::Range<u32>) {
        self.publish_to("jobs", numbers);
    }

    fn publish_to(&mut self, topic: &str, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let publish = Publish::new(TopicName::new(topic).unwrap(), QoS::AtLeastOnce, number.to_string());
            self.give(self.publisher, Publish { packet_id: Some(PacketId::ONE), ..publish });
        }
    }

    /// A worker comes, or comes back.
    fn join(&mut self, name: &str) -> ConnectionId {
        self.connect(name, "$share/workers/jobs")
    }

    fn connect(&mut self, name: &str, filter: &str) -> ConnectionId {
        let mut connect = Connect::new(Version::V5, Text::new(name).unwrap());
        (connect.clean_start, connect.properties.session_expiry_interval) = (false, Some(1_000_000));
        let id = self.shard.handle_connect(self.now, connect, Decoder::new(Version::V5, 1_000)).unwrap();
        let filter = TopicFilter::new(filter).unwrap();
        let options = SubscriptionOptions::at_most(QoS::AtLeastOnce);
        let filters = vec![SubscribeFilter { filter, options }];
        self.give(id, Subscribe { packet_id: PacketId::ONE, properties: Default::default(), filters });
        id
    }

    /// What a worker was sent: the packet identifiers and the numbers.
    fn sent(&mut self, id: ConnectionId) -> Vec<(PacketId, u32)> {
        let mut bytes = BytesMut::new();
        while let Some(output) = self.shard.take_output(id).filter(|output| !output.bytes.is_empty()) {
            bytes.extend_from_slice(&output.bytes);
            self.turn();
        }
        let mut decoder = Decoder::new(Version::V5, 1 << 20);
        let packets = std::iter::from_fn(|| decoder.decode(&mut bytes).unwrap());
        let number = |publish: &Publish| std::str::from_utf8(&publish.payload).unwrap().parse().unwrap();
        packets
            .filter_map(|packet| match packet {
                Packet::Publish(publish) => Some((publish.packet_id?, number(&publish))),
                _ => None,
            })
            .collect()
    }

    /// Has a worker acknowledge what comes, until nothing more does or it had so many.
    fn work(&mut self, id: ConnectionId, most: usize) -> Vec<u32> {
        let mut done = Vec::new();
        loop {
            let sent = self.sent(id);
            let is_over = sent.is_empty();
            for (packet_id, number) in sent {
                if done.len() == most {
                    return done;
                }
                done.push(number);
                self.give(id, Packet::PubAck(Ack::new(packet_id)));
            }
            if is_over {
                return done;
            }
        }
    }

    fn leave(&mut self, id: ConnectionId) {
        self.shard.handle_closed(self.now, id);
        self.turn();
    }
}

#[test]
fn what_nobody_can_take_waits_for_the_first_who_can_whoever_left_last() {
    let disk = FaultyDisk::default();
    let mut broker = Broker::start(&disk);
    let (one, two) = (broker.join("one"), broker.join("two"));
    broker.leave(one);
    broker.leave(two);
    broker.publish(0..300);
    let one = broker.join("one");
    assert_eq!(broker.work(one, 100), (0..100).collect::<Vec<_>>());
    drop(broker);

    let mut broker = Broker::start(&disk);
    let two = broker.join("two");
    broker.publish(300..310);
    let mut rest = broker.work(two, usize::MAX);
    assert_eq!(rest.split_off(rest.len() - 210), (100..310).collect::<Vec<_>>());
    assert!(rest.is_empty(), "{rest:?} was acknowledged");
    let one = broker.join("one");
    assert_eq!(broker.work(one, usize::MAX), [0; 0]);
    drop(broker);

    let mut broker = Broker::start(&disk);
    let one = broker.join("one");
    assert_eq!(broker.work(one, usize::MAX), [0; 0], "all are over");
}

#[test]
fn a_member_that_does_not_acknowledge_holds_up_no_more_than_its_window() {
    let mut broker = Broker::start(&FaultyDisk::default());
    let (slow, fast) = (broker.join("slow"), broker.join("fast"));
    let mut done = Vec::new();
    for round in 0..20 {
        broker.publish(round * 10..round * 10 + 10);
        done.extend(broker.work(fast, usize::MAX));
    }
    let held: Vec<u32> = broker.sent(slow).into_iter().map(|(_, number)| number).collect();
    assert_eq!(held.len(), 10, "{held:?}");
    // With its session it would wait for it; what it has not acknowledged goes to others when that ends.
    broker.leave(slow);
    broker.publish(200..210);
    done.extend(broker.work(fast, usize::MAX));
    let mut all: Vec<u32> = done.iter().chain(&held).copied().collect();
    all.sort_unstable();
    assert_eq!(all, (0..210).collect::<Vec<_>>());
    let slow = broker.join("slow");
    assert_eq!(broker.work(slow, usize::MAX), held, "again, and in its order");
}

#[test]
fn what_waits_for_a_group_is_bounded_as_a_queue_is() {
    let mut broker = Broker::start(&FaultyDisk::default());
    let one = broker.join("one");
    broker.leave(one);
    let most = u32::try_from(Limits::default().max_mqueue_len).unwrap();
    broker.publish(0..most + 5);
    assert_eq!(broker.shard.stats().dropped_queue_full, 5, "the oldest go");
    let one = broker.join("one");
    assert_eq!(broker.work(one, usize::MAX), (5..most + 5).collect::<Vec<_>>());
}

#[test]
fn what_waits_for_a_group_is_copied_forward_when_little_else_of_the_log_is_wanted() {
    let disk = FaultyDisk::default();
    let mut broker = Broker::start(&disk);
    let one = broker.join("one");
    broker.publish(0..5);
    assert_eq!(broker.sent(one).len(), 5, "they are not acknowledged");
    broker.leave(one);
    broker.publish(5..100);
    let other = broker.connect("other", "other");
    for _ in 0..50 {
        broker.publish_to("other", 0..50);
        broker.work(other, usize::MAX);
    }
    let stats = broker.writer.log().stats();
    assert!(stats.bytes < 60_000, "{stats:?} of more than 500,000 that were written");
    drop(broker);

    let mut broker = Broker::start(&disk);
    let one = broker.join("one");
    assert_eq!(broker.work(one, usize::MAX), (0..100).collect::<Vec<_>>());
    drop(broker);
    let mut broker = Broker::start(&disk);
    let one = broker.join("one");
    assert_eq!(broker.work(one, usize::MAX), [0; 0], "all are over");
}
