//! How fast messages of QoS 1 become durable, and come back: `cargo xtask bench durable`.
//!
//! Publishers send messages of 200 bytes to a session that is away, each with a window of messages that are not
//! acknowledged; then the session comes back and takes them all; then the server starts again with a full queue.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement may panic, and prints")]

mod load;

use std::path::Path;
use std::time::{Duration, Instant};

use mqtt_server::{Config, DurabilityConfig, Fsync, Limits, ListenerConfig, Server};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SECONDS: u64 = 4;

/// Messages for some seconds: as many as go, or so many a second.
fn messages(number: usize, rate: Option<u32>) -> impl Iterator<Item = load::Outgoing> {
    let start = Instant::now();
    let pause = rate.map(|rate| Duration::from_secs(1) / rate);
    (0_u32..).map_while(move |count| {
        let due = pause.map(|pause| start + pause * count);
        let is_over = due.unwrap_or_else(Instant::now) >= start + Duration::from_secs(SECONDS);
        (!is_over).then(|| load::Outgoing { topic: format!("t/{number}"), retain: false, due })
    })
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

async fn measure(folder: &Path, name: &str, fsync: Fsync, case: (usize, usize, Option<u32>)) {
    let (publishers, window, rate) = case;
    let server = Server::start(config(folder, fsync)).await.unwrap();
    let address = server.local_addresses()[0];
    tokio::task::spawn_blocking(move || load::subscribe(address, "absent", "t/#")).await.unwrap();
    let before = server.log_stats().unwrap();
    let start = Instant::now();
    let threads: Vec<_> = (0..publishers)
        .map(|number| {
            std::thread::spawn(move || {
                let messages = messages(number, rate.map(|rate| rate / u32::try_from(publishers).unwrap()));
                load::publish(address, &format!("publisher-{number}"), window, messages)
            })
        })
        .collect();
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
    let drained = tokio::task::spawn_blocking(move || load::drain(address, "absent", count)).await.unwrap();
    println!(
        "| {name} | {publishers} × {window}{} | {:.0} | {:.1} / {:.1} / {:.1} | {syncs} | {:.0} | {written} | {:.0} | {:.2} ({stopped:.1?}) |",
        rate.map_or(String::new(), |rate| format!(", {rate} a second")),
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

/// The kind of file system that a folder is on, as the system calls it.
fn file_system(folder: &Path) -> String {
    let folder = std::fs::canonicalize(folder).unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    // Device, where it is mounted, kind.
    let kinds = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let at = words.next().filter(|at| folder.starts_with(at))?;
        Some((at.len(), words.next()?.to_owned()))
    });
    kinds.max().map_or_else(|| "an unknown file system".to_owned(), |(_, kind)| kind)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let parent = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let cores = std::thread::available_parallelism().unwrap();
    println!(
        "Messages of {} bytes for a session that is away, {SECONDS} s each; {}, {cores} cores for publishers and server\n",
        load::PAYLOAD,
        file_system(Path::new(&parent))
    );
    println!(
        "| fsync | publishers × window | acknowledged/s | p50 / p99 / p99.9 ms | fdatasyncs | messages per sync | bytes written per message | drained/s | start with the queue, s (stop) |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let interval = Fsync::Interval(Duration::from_millis(100));
    for (name, fsync, case) in [
        ("always", Fsync::Always, (1, 1, None)),
        ("always", Fsync::Always, (1, 100, None)),
        ("always", Fsync::Always, (4, 100, None)),
        ("always", Fsync::Always, (4, 1_000, None)),
        ("always", Fsync::Always, (16, 1_000, None)),
        // Half of what is promised at least: how late what comes at an even pace is.
        ("always", Fsync::Always, (1, 100, Some(50_000))),
        ("always", Fsync::Always, (1, 1_000, Some(50_000))),
        ("always", Fsync::Always, (4, 1_000, Some(50_000))),
        ("interval 100 ms", interval, (1, 100, None)),
        ("interval 100 ms", interval, (4, 1_000, None)),
        ("never", Fsync::Never, (1, 100, None)),
        ("never", Fsync::Never, (4, 1_000, None)),
    ] {
        let folder = Path::new(&parent).join("bench-durable");
        let _ = std::fs::remove_dir_all(&folder);
        measure(&folder, name, fsync, case).await;
        let _ = std::fs::remove_dir_all(&folder);
    }
}
