//! The broker loses its process and its disk what was not synced, again and again, under load; syncs are torn, the disk is
//! full, bits flip, a sync is lost. What no disk has damaged is there; what one has damaged is named, and not served.
//!
//! `TRELLIS_ROUNDS=300` kills it more often, `TRELLIS_SEED=17` at other moments. Needs a loopback and a disk.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod load;
mod lossy;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use journal::log::{self, Position};
use load::{
    PUBLISHERS, Shared, arrive, check, check_retained, number, open, options, publish_on, read_on, subscribe,
};
use mqtt_server::{Config, DurabilityConfig, Limits, ListenerConfig, Server, check_log, log_folder};
use mqtt_wire::QoS;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Sessions that are away until the end.
const ABSENT: [&str; 2] = ["absent-0", "absent-1"];

/// A test reads logs in its own process, and has them locked meanwhile. A process that another test starts at that moment
/// would keep them locked until it is a server.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Of the frame around a record.
const FRAME: u64 = 11;

/// Has the server of another process run in this one; see [`Process::start`].
#[ignore = "a part of the other tests"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server() {
    let Ok(folder) = std::env::var("TRELLIS_TEST_SERVER").map(PathBuf::from) else { return };
    tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR).with_writer(std::io::stderr).init();
    let bind = ([127, 0, 0, 1], u16::try_from(number("TRELLIS_TEST_PORT", 0)).unwrap()).into();
    let unlimited = usize::MAX / 4;
    let config = Config {
        listeners: vec![ListenerConfig::new("test", bind)],
        sys_interval: Duration::ZERO,
        durability: Some(DurabilityConfig { segment_bytes: 64 * 1024, ..DurabilityConfig::new(&folder) }),
        limits: Limits { max_mqueue_len: unlimited, max_mqueue_bytes: unlimited, ..Limits::default() },
        ..Config::default()
    };
    let disk = lossy::Lossy::new(log_folder(&folder).unwrap(), folder.clone(), number("TRELLIS_SEED", 1));
    let _server = Server::start_on(config, Some(Arc::new(disk))).await.unwrap();
    std::future::pending().await
}

/// A server of its own process, on a disk with faults.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    async fn start(folder: &Path, port: u16, seed: u64) -> Self {
        let log = folder.join("stderr");
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_server", "--ignored", "--nocapture"])
            .env("TRELLIS_TEST_SERVER", folder)
            .env("TRELLIS_TEST_PORT", port.to_string())
            .env("TRELLIS_SEED", seed.to_string())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut started = Self { child, log };
        let listens = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                assert!(!started.has_ended(), "the server does not start: {}", started.said());
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(60), listens).await.expect("the server listens");
        started
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What it logged.
    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

/// A data directory, the load on it, and what is known of that.
struct World {
    folder: tempfile::TempDir,
    port: u16,
    random: ChaCha8Rng,
    seed: u64,
    book: Shared,
    load: Vec<JoinHandle<()>>,
}

impl World {
    /// With sessions that are away.
    async fn new(seed: u64) -> (Self, Process) {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let process = Process::start(folder.path(), port, seed).await;
        for id in ABSENT {
            let (client, _messages) = open(port, options(id, false)).await;
            subscribe(&client, "load/#", QoS::ExactlyOnce).await;
            subscribe(&client, "load/+/0", QoS::AtLeastOnce).await;
        }
        let random = ChaCha8Rng::seed_from_u64(seed);
        (Self { folder, port, random, seed, book: Shared::default(), load: Vec::new() }, process)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random.next_u64() % limit
    }

    async fn start(&mut self) -> Process {
        let seed = self.random.next_u64();
        Process::start(self.folder.path(), self.port, seed).await
    }

    fn begin_load(&mut self) {
        self.load = (0..PUBLISHERS)
            .map(|number| tokio::spawn(publish_on(self.port, number, Arc::clone(&self.book))))
            .collect();
    }

    fn end_load(&mut self) {
        self.load.drain(..).for_each(|task| task.abort());
    }

    fn order(&self, name: &str) {
        std::fs::write(self.folder.path().join(name), "").unwrap();
    }

    fn withdraw(&self, name: &str) {
        // It may have been followed, and gone.
        let _ = std::fs::remove_file(self.folder.path().join(name));
    }

    fn acknowledged(&self) -> BTreeSet<String> {
        self.book.lock().unwrap().acknowledged.clone()
    }

    /// Waits for so many more acknowledgments.
    async fn acknowledges(&self, more: usize) {
        let enough = self.acknowledged().len() + more;
        let goes_on = || self.book.lock().unwrap().acknowledged.len() >= enough;
        assert!(until(Duration::from_secs(60), goes_on).await, "seed {}: it goes on", self.seed);
    }

    /// What a session gets that was away, until it has all of this, or no more comes for a while.
    async fn drain(&self, id: &str, expected: &BTreeSet<String>) -> std::collections::BTreeMap<String, u64> {
        let (_client, messages) = open(self.port, options(id, false)).await;
        let theirs = Shared::default();
        let reader = tokio::spawn(read_on(messages, Arc::clone(&theirs)));
        arrive(&theirs, expected).await;
        reader.abort();
        let seen = theirs.lock().unwrap().seen.clone();
        let published = &self.book.lock().unwrap().published;
        let strange: Vec<_> = seen.keys().filter(|payload| !published.contains(*payload)).collect();
        assert!(strange.is_empty(), "seed {}: {id} got what nobody sent: {strange:?}", self.seed);
        seen
    }

    /// Records of the log: where, how long their frames are, and what they hold.
    fn records(&self) -> Vec<(Position, u64, Vec<u8>)> {
        let mut records = Vec::new();
        let folder = log_folder(self.folder.path()).unwrap();
        log::view(&folder, |at, body| records.push((at, FRAME + body.len() as u64, body.to_vec()))).unwrap();
        records
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits for something, for so long at most; whether it came.
async fn until(most: Duration, mut has_come: impl FnMut() -> bool) -> bool {
    let comes = async {
        while !has_come() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(most, comes).await.is_ok()
}

/// The acknowledged payloads that stand in one of these records or pieces.
fn within(acknowledged: &BTreeSet<String>, bytes: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(bytes);
    // A payload is the last of its record, and no other begins with it and goes on.
    acknowledged.iter().filter(|payload| text.contains(payload.as_str())).cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_synced_goes_with_the_process_and_syncs_are_torn_and_the_disk_is_full() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (rounds, seed) = (number("TRELLIS_ROUNDS", 4), number("TRELLIS_SEED", 1));
    let (mut world, process) = World::new(seed).await;
    let (client, messages) = open(world.port, options("present", true)).await;
    subscribe(&client, "load/#", QoS::ExactlyOnce).await;
    let reader = tokio::spawn(read_on(messages, Arc::clone(&world.book)));
    world.begin_load();
    let mut process = Some(process);
    let (mut torn, mut full) = (0, 0);
    for round in 0..rounds {
        let mut running = match process.take() {
            Some(process) => process,
            None => world.start().await,
        };
        let pause = Duration::from_millis(20 + world.below(300));
        match round % 3 {
            0 => sleep(pause).await,
            1 => {
                world.order("tears");
                torn += u32::from(until(Duration::from_secs(20), || running.has_ended()).await);
            }
            _ => {
                world.acknowledges(1).await;
                world.order("full");
                sleep(pause).await;
                // Killed while it is full, or after it went on.
                if world.below(2) == 0 {
                    world.withdraw("full");
                    world.acknowledges(1).await;
                }
                full += 1;
            }
        }
        drop(running);
        ["tears", "full"].iter().for_each(|order| world.withdraw(order));
        println!("seed {seed}, round {round}: {} acknowledged", world.acknowledged().len());
    }
    let last = world.start().await;
    world.acknowledges(1).await;
    world.end_load();
    let acknowledged = world.acknowledged();
    arrive(&world.book, &acknowledged).await;
    check("the one who is there", &acknowledged, &world.book.lock().unwrap().seen, seed);
    reader.abort();
    for id in ABSENT {
        let seen = world.drain(id, &acknowledged).await;
        check(id, &acknowledged, &seen, seed);
    }
    let retained = world.book.lock().unwrap().retained.clone();
    check_retained(world.port, &retained, seed).await;
    drop(last);
    let found = check_log(world.folder.path()).unwrap();
    assert_eq!((found.report.losses.len(), found.losers.count), (0, 0), "seed {seed}: {found:?}");
    println!(
        "{rounds} rounds with {torn} torn syncs and {full} full disks, seed {seed}: {} acknowledged, none lost, none \
         of QoS 2 twice",
        acknowledged.len()
    );
}

/// The absent sessions whose messages were hit while the record of who gets them was not, and was there.
fn known_losers(records: &[(Position, u64, Vec<u8>)], hit: &[u64]) -> BTreeSet<&'static str> {
    let is_hit = |at: u64, length: u64| hit.iter().any(|byte| (at..at + length).contains(byte));
    let contains = |body: &[u8], part: &[u8]| body.windows(part.len()).any(|bytes| bytes == part);
    let (hit, whole): (Vec<_>, Vec<_>) = records.iter().partition(|(at, length, _)| is_hit(at.0, *length));
    let messages: Vec<[u8; 8]> = hit.iter().map(|(at, ..)| at.0.to_be_bytes()).collect();
    let knows = |body: &[u8], name: &str| {
        contains(body, name.as_bytes()) && messages.iter().any(|id| contains(body, id))
    };
    ABSENT.into_iter().filter(|name| whole.iter().any(|(.., body)| knows(body, name))).collect()
}

#[expect(clippy::too_many_lines, reason = "one story: the damage, its report, and what came")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits_and_a_lost_sync_take_what_they_hit_and_it_is_named() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (rounds, seed) = (number("TRELLIS_ROUNDS", 4).div_ceil(4), number("TRELLIS_SEED", 1));
    let (mut flips, mut lost_in_all) = (0, 0);
    for round in 0..rounds {
        let seed = seed + round;
        let (mut world, process) = World::new(seed).await;
        drop(process);
        let beginning = world.records().last().map_or(0, |(at, length, _)| at.0 + length);
        let process = world.start().await;
        world.begin_load();
        world.acknowledges(200).await;
        let loses_sync = round % 2 == 1;
        if loses_sync {
            world.order("loses");
            let order = world.folder.path().join("loses");
            assert!(until(Duration::from_secs(60), || !order.exists()).await, "seed {seed}: a sync is lost");
            world.acknowledges(200).await;
        }
        drop(process);
        world.end_load();
        // A publisher that has not ended yet cannot find the next server. If its session is what was damaged, it would
        // publish again what it does not know to have arrived.
        world.port = free_port();
        let acknowledged = world.acknowledged();
        let mut damaged = BTreeSet::new();
        let (mut places, mut losers) = (Vec::new(), BTreeSet::new());
        if loses_sync {
            let lost = std::fs::read(world.folder.path().join("lost")).unwrap();
            damaged = within(&acknowledged, &lost);
        } else {
            let records = world.records();
            let end = records.last().map_or(0, |(at, ..)| at.0) * 3 / 4;
            let eligible: Vec<_> =
                records.iter().filter(|(at, ..)| (beginning..end).contains(&at.0)).collect();
            for _ in 0..5 {
                let (at, length, body) =
                    eligible[usize::try_from(world.below(eligible.len() as u64)).unwrap()];
                let byte = at.0 + world.below(*length);
                let bit = world.below(8);
                flip(&world.folder.path().join("log"), byte, bit);
                damaged.extend(within(&acknowledged, body));
                places.push(byte);
                flips += 1;
            }
            losers = known_losers(&records, &places);
        }
        let found = check_log(world.folder.path()).unwrap();
        for byte in &places {
            let has_it = |loss: &log::Loss| {
                let start = loss.segment.0 + loss.offset;
                (start..start + loss.bytes).contains(byte)
            };
            assert!(found.report.losses.iter().any(has_it), "seed {seed}: {byte} is not among {found:?}");
        }
        assert!(!found.report.losses.is_empty(), "seed {seed}: {found:?}");
        if !loses_sync {
            assert!(
                found.report.losses.len() <= places.len(),
                "seed {seed}: more than was damaged: {found:?}"
            );
        }
        if !loses_sync {
            assert_eq!(found.losers.count, losers.len() as u64, "seed {seed}: {losers:?}, {found:?}");
        }
        let process = world.start().await;
        let expected = &acknowledged - &damaged;
        for id in ABSENT {
            let seen = world.drain(id, &expected).await;
            check(id, &expected, &seen, seed);
        }
        let reported = process.said().matches("the log is damaged").count();
        assert_eq!(reported, found.report.losses.len(), "seed {seed}: {}", process.said());
        drop(process);
        lost_in_all += damaged.len();
        println!("seed {seed}: {} of {} were damaged, and named", damaged.len(), acknowledged.len());
    }
    println!(
        "{rounds} rounds, seed {seed}: {flips} bits flipped; {lost_in_all} messages lost that were damaged, no other"
    );
}

/// Flips a bit of the log.
fn flip(folder: &Path, byte: u64, bit: u64) {
    use std::os::unix::fs::FileExt as _;
    let mut bases: Vec<u64> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            u64::from_str_radix(entry.unwrap().file_name().to_str()?.strip_suffix(".log")?, 16).ok()
        })
        .collect();
    bases.sort_unstable();
    let base = bases.into_iter().rfind(|base| *base <= byte).unwrap();
    let path = folder.join(format!("{base:016x}.log"));
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut one = [0];
    file.read_exact_at(&mut one, byte - base).unwrap();
    one[0] ^= 1 << bit;
    file.write_all_at(&one, byte - base).unwrap();
}
