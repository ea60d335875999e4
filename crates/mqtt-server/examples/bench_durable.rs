//! How fast messages of QoS 1 become durable, and come back: `cargo xtask bench durable`.
//!
//! Publishers send messages of 200 bytes to a session that is away, each with a window of messages that are not
//! acknowledged; then the session comes back and takes them all; then the server starts again with a full queue.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement may panic, and prints")]

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mqtt_server::{Config, DurabilityConfig, Fsync, Limits, ListenerConfig, Server};
use mqtt_wire::{
    Ack, Connect, Decoder, Packet, PacketId, Publish, QoS, Subscribe, SubscribeFilter, SubscriptionOptions,
    Text, TopicFilter, TopicName, Version,
};

const PAYLOAD: usize = 200;
const SECONDS: u64 = 4;

fn packet(packet: &Packet) -> BytesMut {
    let mut bytes = BytesMut::new();
    packet.encode(Version::V3_1_1, &mut bytes).unwrap();
    bytes
}

fn open(address: SocketAddr, id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut connect = Connect::new(Version::V3_1_1, Text::new(id).unwrap());
    (connect.clean_start, connect.keep_alive) = (false, 0);
    stream.write_all(&packet(&connect.into())).unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    stream
}

/// Publishes for some seconds; how long each message took until it was acknowledged.
fn publish(address: SocketAddr, number: usize, window: usize) -> Vec<Duration> {
    let mut stream = open(address, &format!("publisher-{number}"));
    let topic = TopicName::new(&format!("t/{number}")).unwrap();
    let mut message = Publish::new(topic, QoS::AtLeastOnce, vec![7_u8; PAYLOAD]);
    let (mut sent, mut latencies) = (VecDeque::new(), Vec::new());
    let (mut next, mut acks) = (0_u16, [0; 64 * 1024]);
    let (start, mut rest) = (Instant::now(), 0);
    loop {
        let is_over = start.elapsed() > Duration::from_secs(SECONDS);
        let mut bytes = BytesMut::new();
        while sent.len() < window && !is_over {
            next = next % 60_000 + 1;
            message.packet_id = PacketId::new(next);
            message.encode(Version::V3_1_1, &mut bytes).unwrap();
            sent.push_back(Instant::now());
        }
        stream.write_all(&bytes).unwrap();
        if sent.is_empty() {
            return latencies;
        }
        rest += stream.read(&mut acks).unwrap();
        // A PUBACK has four bytes.
        for _ in 0..rest / 4 {
            latencies.extend(sent.pop_front().map(|at| at.elapsed()));
        }
        rest %= 4;
    }
}

fn subscribe(address: SocketAddr, id: &str) {
    let mut stream = open(address, id);
    let options = SubscriptionOptions::at_most(QoS::AtLeastOnce);
    let filters = vec![SubscribeFilter { filter: TopicFilter::new("t/#").unwrap(), options }];
    let subscribe = Subscribe { packet_id: PacketId::ONE, properties: Default::default(), filters };
    stream.write_all(&packet(&subscribe.into())).unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
}

fn drain(address: SocketAddr, id: &str, count: usize) -> Duration {
    let start = Instant::now();
    let mut stream = open(address, id);
    let (mut decoder, mut input, mut got) = (Decoder::new(Version::V3_1_1, 1 << 20), BytesMut::new(), 0);
    let mut chunk = vec![0; 64 * 1024];
    while got < count {
        let length = stream.read(&mut chunk).unwrap();
        input.extend_from_slice(&chunk[..length]);
        let mut answers = BytesMut::new();
        while let Some(packet) = decoder.decode(&mut input).unwrap() {
            if let Packet::Publish(publish) = packet {
                got += 1;
                let ack = Packet::PubAck(Ack::new(publish.packet_id.unwrap()));
                ack.encode(Version::V3_1_1, &mut answers).unwrap();
            }
        }
        stream.write_all(&answers).unwrap();
    }
    start.elapsed()
}

fn config(folder: &Path, fsync: Fsync) -> Config {
    let durability = DurabilityConfig { fsync, ..DurabilityConfig::new(folder) };
    let limits = Limits {
        max_mqueue_len: usize::MAX,
        max_mqueue_bytes: usize::MAX,
        max_inflight: 1_000,
        ..Limits::default()
    };
    Config {
        listeners: vec![ListenerConfig::new("bench", "127.0.0.1:0".parse().unwrap())],
        sys_interval: Duration::ZERO,
        durability: Some(durability),
        limits,
        ..Config::default()
    }
}

async fn measure(folder: &Path, name: &str, fsync: Fsync, publishers: usize, window: usize) {
    let server = Server::start(config(folder, fsync)).await.unwrap();
    let address = server.local_addresses()[0];
    tokio::task::spawn_blocking(move || subscribe(address, "absent")).await.unwrap();
    let before = server.log_stats().unwrap();
    let start = Instant::now();
    let threads: Vec<_> =
        (0..publishers).map(|number| std::thread::spawn(move || publish(address, number, window))).collect();
    let mut latencies = tokio::task::spawn_blocking(move || {
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    })
    .await
    .unwrap();
    let seconds = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let count = latencies.len();
    // In thousandths.
    let at = |share: usize| latencies[(count - 1) * share / 1_000].as_secs_f64() * 1e3;
    let after = server.log_stats().unwrap();
    let syncs = (after.syncs - before.syncs).max(1);
    let written = (after.written_bytes - before.written_bytes) / count as u64;
    let start = Instant::now();
    server.shutdown().await;
    let stopped = start.elapsed();
    let start = Instant::now();
    let server = Server::start(config(folder, fsync)).await.unwrap();
    let started = start.elapsed();
    let address = server.local_addresses()[0];
    let drained = tokio::task::spawn_blocking(move || drain(address, "absent", count)).await.unwrap();
    println!(
        "| {name} | {publishers} × {window} | {:.0} | {:.1} / {:.1} / {:.1} | {syncs} | {:.0} | {written} | {:.0} | {:.2} ({stopped:.1?}) |",
        count as f64 / seconds,
        at(500),
        at(990),
        at(999),
        count as f64 / syncs as f64,
        count as f64 / drained.as_secs_f64(),
        started.as_secs_f64(),
    );
    server.shutdown().await;
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let parent = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    println!(
        "| fsync | publishers × window | acknowledged/s | p50 / p99 / p99.9 ms | syncs | messages per sync | bytes written per message | drained/s | start with the queue, s (stop) |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let interval = Fsync::Interval(Duration::from_millis(100));
    for (name, fsync, publishers, window) in [
        ("always", Fsync::Always, 1, 1),
        ("always", Fsync::Always, 1, 100),
        ("always", Fsync::Always, 4, 100),
        ("always", Fsync::Always, 4, 1_000),
        ("always", Fsync::Always, 16, 1_000),
        ("interval 100 ms", interval, 4, 1_000),
        ("never", Fsync::Never, 4, 1_000),
    ] {
        let folder = Path::new(&parent).join("bench-durable");
        let _ = std::fs::remove_dir_all(&folder);
        measure(&folder, name, fsync, publishers, window).await;
        let _ = std::fs::remove_dir_all(&folder);
    }
}
