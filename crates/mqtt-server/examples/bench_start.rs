//! How long a server takes to be there again after kill -9: `cargo xtask bench start`.
//!
//! One process fills the log: sessions that are away, each with messages of its own, and retained messages, all of 200
//! bytes; then it is killed. The page cache is emptied, if this may be done, and another process starts with the log. Then
//! the same with sessions only, for the memory that each of them takes.
#![allow(unsafe_code, reason = "the allocator's library is C")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement may panic, and prints")]

mod load;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mqtt_server::{Config, DurabilityConfig, Limits, ListenerConfig, Server};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WINDOW: usize = 1_000;
const SUBSCRIBERS: usize = 32;

fn config(folder: &Path) -> Config {
    let limits = Limits { max_retained: usize::MAX, ..Limits::default() };
    Config {
        listeners: vec![ListenerConfig::new("bench", "127.0.0.1:0".parse().unwrap())],
        sys_interval: Duration::ZERO,
        durability: Some(DurabilityConfig::new(folder)),
        limits,
        ..Config::default()
    }
}

fn outgoing(topic: String, retain: bool) -> load::Outgoing {
    load::Outgoing { topic, retain, due: None }
}

/// Fills the log, and is killed.
fn fill(address: SocketAddr, sessions: usize, each: usize, retained: usize) -> ! {
    // What publishing takes, whatever the number of sessions, is there before.
    let topics = (0..sessions).map(|number| outgoing(format!("nobody/{number}"), false));
    load::publish(address, "first", WINDOW, topics);
    let without = resident();
    // One sync is for all that wait at that moment.
    std::thread::scope(|scope| {
        for first in 0..SUBSCRIBERS {
            scope.spawn(move || {
                for number in (first..sessions).step_by(SUBSCRIBERS) {
                    load::subscribe(address, &format!("session-{number}"), &format!("s/{number}"));
                }
            });
        }
    });
    for round in 0..each {
        let topics = (0..sessions).map(|number| outgoing(format!("s/{number}"), false));
        load::publish(address, &format!("publisher-{round}"), WINDOW, topics);
    }
    if retained == 0 {
        let bytes = resident().saturating_sub(without) / sessions;
        println!("{sessions} sessions, filled: {bytes} bytes of memory each");
    }
    let topics =
        (0..retained).map(|number| outgoing(format!("r/{}/{}", number % 1_000, number / 1_000), true));
    load::publish(address, "publisher", WINDOW, topics);
    std::process::abort();
}

/// Resident memory of this process, in bytes, when what is not used was given back, as the program does.
fn resident() -> usize {
    // SAFETY: it may be called at any time, from any thread.
    unsafe { libmimalloc_sys::mi_collect(true) };
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn drop_caches() -> bool {
    Command::new("sync").status().is_ok() && std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

async fn start(folder: &Path, sessions: usize, each: usize, retained: usize) {
    let (is_cold, without) = (drop_caches(), resident());
    let begin = Instant::now();
    let server = Server::start(config(folder)).await.unwrap();
    let address = server.local_addresses()[0];
    tokio::task::spawn_blocking(move || drop(load::open(address, "good", true))).await.unwrap();
    let started = begin.elapsed();
    let (log, memory) = (server.log_stats().unwrap(), resident());
    let begin = Instant::now();
    // One that no earlier start has drained.
    let name = format!("session-{}", u64::from(std::process::id()) % sessions as u64);
    tokio::task::spawn_blocking(move || load::drain(address, &name, each)).await.unwrap();
    println!(
        "{} page cache: {:.1} s until a client is served; log of {} MB, {} MB of memory; a session of {each} messages drained in {:.1} ms",
        if is_cold { "cold" } else { "warm" },
        started.as_secs_f64(),
        log.bytes >> 20,
        memory >> 20,
        begin.elapsed().as_secs_f64() * 1e3,
    );
    if retained == 0 {
        println!(
            "{sessions} sessions, after a start: {} bytes of memory each",
            (memory - without) / sessions
        );
    }
    // It takes a while to give everything back, which is nobody's business here.
    std::process::abort();
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize, otherwise| arguments.get(at).map_or(otherwise, |x| x.parse().unwrap());
    let folder = Path::new(&arguments[1]).join("bench-start");
    let (sessions, each, retained) = (number(2, 100_000), number(3, 100), number(4, 1_000_000));
    match arguments.get(5).map(String::as_str) {
        Some("fill") => {
            let server = Server::start(config(&folder)).await.unwrap();
            let address = server.local_addresses()[0];
            tokio::task::spawn_blocking(move || fill(address, sessions, each, retained)).await.unwrap();
        }
        Some(_) => start(&folder, sessions, each, retained).await,
        None => {
            for (each, retained) in [(each, retained), (each.min(20), 0)] {
                let _ = std::fs::remove_dir_all(&folder);
                println!("{sessions} sessions with {each} messages each, {retained} retained messages");
                for phase in ["fill", "start", "start"] {
                    let mut child = Command::new(std::env::current_exe().unwrap());
                    child
                        .arg(&arguments[1])
                        .args([sessions, each, retained].map(|x| x.to_string()))
                        .arg(phase);
                    child.stderr(Stdio::null()).status().unwrap();
                }
            }
            let _ = std::fs::remove_dir_all(&folder);
        }
    }
}
