//! A million retained messages, and what SUBSCRIBE costs then: `cargo xtask bench retained`. What a filter with a
//! wildcard costs goes with what it matches, and no single step stalls the shard.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement may panic, and prints what it finds"
)]
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a measurement looks at the clock")]

use std::time::{Duration, Instant as Wall};

use bytes::BytesMut;
use clock::Instant;
use mqtt_broker::{ConnectionId, Limits, Shard, Shared};
use mqtt_wire::{
    Connect, Decoder, Packet, PacketId, Publish, QoS, Subscribe, SubscribeFilter, SubscriptionOptions, Text,
    TopicFilter, TopicName, Version,
};

const MESSAGES: usize = 1_000_000;

/// How many messages match each of the filters.
const MATCHES: [usize; 5] = [1, 100, 1_000, 10_000, 100_000];

fn main() {
    let limits = Limits {
        max_retained: 2 * MESSAGES,
        max_retained_bytes: usize::MAX / 2,
        max_memory: usize::MAX / 2,
        ..Limits::default()
    };
    let mut shard = Shard::new(0, Shared::new(1, limits));
    let publisher = connect(&mut shard, "publisher");
    let before = resident();
    let started = Wall::now();
    let groups = MATCHES.iter().flat_map(|&count| (0..count).map(move |n| format!("site{count}/{n}/state")));
    let rest = (0..).map(|n| format!("other/{}/{}/state", n / 1_000, n % 1_000));
    for topic in groups.chain(rest).take(MESSAGES) {
        let publish = Publish::new(TopicName::new(&topic).unwrap(), QoS::AtMostOnce, &b"21.5 degrees"[..]);
        give(&mut shard, publisher, Publish { retain: true, ..publish });
    }
    println!(
        "{MESSAGES} retained messages: {:.1} s to store, {} MB",
        started.elapsed().as_secs_f64(),
        (resident() - before) >> 20
    );
    println!("filter               messages   in all      each   longest step");
    for count in MATCHES {
        // The time of the fastest of several, as others use the machine too.
        let (all, longest) = (0..5).map(|_| subscribe(&mut shard, count)).min().unwrap();
        println!(
            "{:<20} {count:>8} {:>8.2} ms {:>6.2} µs {:>10.2} ms",
            format!("site{count}/+/state"),
            all.as_secs_f64() * 1e3,
            all.as_secs_f64() * 1e6 / count as f64,
            longest.as_secs_f64() * 1e3,
        );
    }
}

/// Subscribes, and takes all that follows; how long that took, and the longest step of it.
fn subscribe(shard: &mut Shard, count: usize) -> (Duration, Duration) {
    let id = connect(shard, "subscriber");
    let filter = TopicFilter::new(&format!("site{count}/+/state")).unwrap();
    let options = SubscriptionOptions::at_most(QoS::AtMostOnce);
    let filters = vec![SubscribeFilter { filter, options }];
    let packet = Subscribe { packet_id: PacketId::ONE, properties: Default::default(), filters };
    let (started, mut longest, mut bytes) = (Wall::now(), Duration::ZERO, BytesMut::new());
    let mut timed = |work: &mut dyn FnMut()| {
        let step = Wall::now();
        work();
        longest = longest.max(step.elapsed());
    };
    timed(&mut || give(shard, id, packet.clone()));
    loop {
        timed(&mut || {
            while let Some((_, output)) = shard.poll_transmit() {
                bytes.extend_from_slice(&output.bytes);
            }
        });
        if shard.poll_timeout().is_none_or(|next| next > Instant::ORIGIN) {
            break;
        }
        timed(&mut || shard.handle_timeout(Instant::ORIGIN));
    }
    let all = started.elapsed();
    let mut decoder = Decoder::new(Version::V5, u32::MAX);
    let received = std::iter::from_fn(|| decoder.decode(&mut bytes).unwrap());
    let received = received.filter(|packet| matches!(packet, Packet::Publish(_))).count();
    assert_eq!(received, count, "every retained message that matches came");
    shard.handle_closed(Instant::ORIGIN, id);
    (all, longest)
}

fn connect(shard: &mut Shard, name: &str) -> ConnectionId {
    let mut connect = Connect::new(Version::V5, Text::new(name).unwrap());
    connect.keep_alive = 0;
    let id = shard.handle_connect(Instant::ORIGIN, connect, Decoder::new(Version::V5, 1 << 20)).unwrap();
    while shard.poll_transmit().is_some() {}
    id
}

fn give(shard: &mut Shard, id: ConnectionId, packet: impl Into<Packet>) {
    let mut bytes = BytesMut::new();
    packet.into().encode(Version::V5, &mut bytes).unwrap();
    shard.handle_bytes(Instant::ORIGIN, id, &mut bytes);
}

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}
