//! Has a real server live through a long day: `cargo xtask soak`. Arguments: the program, minutes, and messages a second,
//! without which it is half of what this machine reaches under this load.
//!
//! Publishers write for a client that reads, one that reads slowly, and one that comes now and then; others come,
//! subscribe, leave, and their sessions expire. In the end memory is flat within 5 %, the log on the disk bounded, and the
//! server has not warned of anything.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement may panic, and prints")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mqtt_client::{Broker, Client, Messages, Options, Scheme};
use mqtt_wire::{Publish, QoS, SubscribeFilter, SubscriptionOptions, TopicFilter, TopicName, Version};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

const PUBLISHERS: u32 = 4;
/// Messages that each of them may have on their way.
const LANES: u32 = 100;
const PAYLOAD: usize = 200;
const SEGMENT: u64 = 8 << 20;
/// Messages that wait for one session at most.
const QUEUE: u64 = 10_000;
/// Sessions that are behind, or away.
const BEHIND: u64 = 2;
/// What a message of the queues takes in the log, its references included.
const STORED: u64 = 400;
/// What the log may take at so many messages a second: twice what waits, and four files; one that is written, and one that
/// is copied; and what comes in a second, until files at the front are gone.
fn max_disk(rate: u32) -> u64 {
    2 * BEHIND * QUEUE * STORED + 6 * SEGMENT + u64::from(rate) * STORED
}

const SAMPLE: Duration = Duration::from_secs(2);
/// How long the highest rate is waited for, and then looked at.
const WARM_UP: Duration = Duration::from_secs(15);

struct Server {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
    page: u16,
}

impl Server {
    /// In `target`, which is on a disk.
    async fn start(program: &Path) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (port, page) = (free(), free());
        let folder = tempfile::tempdir_in("target").unwrap();
        let config = folder.path().join("trellis.toml");
        let text = format!(
            "data_dir = {:?}\n[[listeners]]\nname = 'soak'\ntype = 'tcp'\nbind = '127.0.0.1:{port}'\n\
             [console]\nbind = '127.0.0.1:{page}'\n[durability]\nsegment_size = '{}MB'\n\
             [mqtt]\nmax_mqueue_len = {QUEUE}\n",
            folder.path().join("data"),
            SEGMENT >> 20
        );
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(folder.path().join("stderr")).unwrap();
        let mut server = Command::new(program);
        server.args(["serve", "-c"]).arg(&config).env("TRELLIS_LOG", "warn");
        let child = server.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let is_there = |port: u16| TcpStream::connect(("127.0.0.1", port)).is_ok();
        while !is_there(port) || !is_there(page) {
            sleep(Duration::from_millis(20)).await;
        }
        Self { child, folder, port, page }
    }

    /// Resident memory, in KiB.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the server runs");
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn disk(&self) -> u64 {
        let entries = std::fs::read_dir(self.folder.path().join("data/log")).unwrap();
        // A file may go between the two calls.
        entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum()
    }

    /// Warnings and errors.
    fn complaints(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("stderr")).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn metric(&self, name: &str) -> u64 {
        let mut socket = TcpStream::connect(("127.0.0.1", self.page)).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: soak\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("there is no {name}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn open(port: u16, id: &str, expiry_s: u32) -> (Client, Messages) {
    let options = Options {
        version: Version::V5,
        clean_start: false,
        session_expiry_interval: Some(expiry_s),
        timeout: Duration::from_secs(60),
        ..Options::new(id)
    };
    let broker = Broker { port, ..Broker::new(Scheme::Mqtt, "127.0.0.1") };
    Client::open(broker, options).await.unwrap()
}

async fn subscribe(client: &Client, filter: &str) {
    let options = SubscriptionOptions::at_most(QoS::AtLeastOnce);
    let filter = SubscribeFilter { filter: TopicFilter::new(filter).unwrap(), options };
    client.subscribe(vec![filter]).await.unwrap();
}

/// Publishes at its part of the rate, or as fast as it goes.
async fn publish(port: u16, number: u32, rate: Option<u32>, acknowledged: Arc<AtomicU64>) {
    let (client, _messages) = open(port, &format!("publisher-{number}"), 3_600).await;
    let client = Arc::new(client);
    let between = rate.map(|rate| Duration::from_secs(1) * PUBLISHERS * LANES / rate.max(1));
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let (client, acknowledged) = (Arc::clone(&client), Arc::clone(&acknowledged));
        lanes.spawn(async move {
            let mut ticks = between.map(|between| {
                let mut ticks = interval_at(Instant::now() + between * lane / LANES, between);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                ticks
            });
            let topic = TopicName::new(&format!("soak/{number}/{lane}")).unwrap();
            loop {
                if let Some(ticks) = &mut ticks {
                    ticks.tick().await;
                }
                let message = Publish::new(topic.clone(), QoS::AtLeastOnce, vec![b'x'; PAYLOAD]);
                client.publish(message).await.unwrap();
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    lanes.join_next().await;
}

/// Reads, and pauses after each message.
async fn read(port: u16, id: &'static str, filter: &'static str, pause: Duration) {
    let (client, mut messages) = open(port, id, 3_600).await;
    subscribe(&client, filter).await;
    loop {
        messages.next().await.unwrap();
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
}

/// Comes for a second now and then, and takes what has waited.
async fn visit(port: u16) {
    loop {
        let (client, mut messages) = open(port, "visitor", 3_600).await;
        subscribe(&client, "soak/1/#").await;
        let until = Instant::now() + Duration::from_secs(1);
        while tokio::time::timeout_at(until, messages.next()).await.is_ok() {}
        drop((client, messages));
        sleep(Duration::from_secs(5)).await;
    }
}

/// Comes, subscribes, and never comes again.
async fn pass_by(port: u16, lane: u32) {
    for number in 0_u64.. {
        let (client, messages) = open(port, &format!("passer-by-{lane}-{number}"), 3).await;
        subscribe(&client, "soak/2/1").await;
        sleep(Duration::from_millis(100)).await;
        drop((client, messages));
    }
}

/// All clients, and what was acknowledged to them.
fn load(port: u16, rate: Option<u32>) -> (JoinSet<()>, Arc<AtomicU64>) {
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    tasks.spawn(read(port, "reader", "soak/#", Duration::ZERO));
    tasks.spawn(read(port, "slow", "soak/0/#", Duration::from_millis(20)));
    tasks.spawn(visit(port));
    (0..3).for_each(|lane| drop(tasks.spawn(pass_by(port, lane))));
    for number in 0..PUBLISHERS {
        tasks.spawn(publish(port, number, rate, Arc::clone(&acknowledged)));
    }
    (tasks, acknowledged)
}

/// Messages a second that this machine reaches under this load, on a server of its own.
async fn highest_rate(program: &Path) -> u32 {
    let server = Server::start(program).await;
    let (_tasks, acknowledged) = load(server.port, None);
    sleep(WARM_UP).await;
    let (before, start) = (acknowledged.load(Ordering::Relaxed), Instant::now());
    sleep(WARM_UP).await;
    let count = acknowledged.load(Ordering::Relaxed) - before;
    let rate = u32::try_from(count / start.elapsed().as_secs()).unwrap();
    println!("as fast as it goes: {rate} messages a second");
    rate
}

fn median(values: &[u64]) -> u64 {
    let mut values = values.to_vec();
    values.sort_unstable();
    values[values.len() / 2]
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let program = PathBuf::from(arguments.next().expect("the program"));
    let minutes: u32 = arguments.next().expect("minutes").parse().unwrap();
    let rate = match arguments.next() {
        Some(rate) => rate.parse().unwrap(),
        None => highest_rate(&program).await / 2,
    };
    let server = Server::start(&program).await;
    let (mut tasks, acknowledged) = load(server.port, Some(rate));
    let samples = usize::try_from(u64::from(minutes) * 60 / SAMPLE.as_secs()).unwrap();
    assert!(samples >= 30, "a minute at least");
    let every = (samples / 30).max(1);
    println!(
        "{minutes} minutes, {rate} messages a second of {PAYLOAD} bytes with QoS 1; the log may take {} MB",
        max_disk(rate) >> 20
    );
    println!(
        "{:>7} {:>9} {:>8} {:>8} {:>10} {:>9} {:>10}",
        "s", "RSS KiB", "disk MB", "live MB", "messages/s", "sessions", "complaints"
    );
    let (mut memory, mut most_disk) = (Vec::new(), 0);
    let (mut before, mut since) = (0, Instant::now());
    let start = Instant::now();
    for sample in 0..samples {
        sleep(SAMPLE).await;
        assert!(tasks.try_join_next().is_none(), "a client has ended: {:?}", server.complaints());
        memory.push(server.memory());
        most_disk = most_disk.max(server.disk());
        if sample % every == 0 {
            let count = acknowledged.load(Ordering::Relaxed);
            let rate = (count - before) as f64 / since.elapsed().as_secs_f64();
            (before, since) = (count, Instant::now());
            println!(
                "{:>7} {:>9} {:>8} {:>8} {rate:>10.0} {:>9} {:>10}",
                start.elapsed().as_secs(),
                memory[memory.len() - 1],
                server.disk() >> 20,
                server.metric("trellis_log_live_bytes") >> 20,
                server.metric("trellis_sessions"),
                server.complaints().len()
            );
        }
    }
    // What waits at a moment makes a tenth of the memory, for minutes: so long pieces, without the beginning.
    let tenth = samples / 10;
    let (early, late) = (median(&memory[tenth..4 * tenth]), median(&memory[samples - 3 * tenth..]));
    let growth = (late as f64 / early as f64 - 1.0) * 100.0;
    let complaints = server.complaints();
    println!(
        "{} acknowledged; RSS {early} KiB at first, {late} KiB in the end ({growth:+.1} %); at most {} MB on the disk; {} \
         sessions expired",
        acknowledged.load(Ordering::Relaxed),
        most_disk >> 20,
        server.metric("trellis_expired_sessions_total")
    );
    assert!(complaints.is_empty(), "the server warns: {:?}", &complaints[..complaints.len().min(9)]);
    assert!(most_disk <= max_disk(rate), "{most_disk} bytes on the disk");
    assert!(growth.abs() <= 5.0, "memory is not flat");
}
