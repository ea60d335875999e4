//! Connections that never come to a session: a server has to bear as many as its system lets strangers open.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// At the same time, if the limit of open files allows it.
const AT_ONCE: u64 = 19_000;

/// One after the other; `TRELLIS_LONG` has all of the 100,000.
const IN_SUCCESSION: usize = 10_000;

/// How much more memory the server may have meanwhile.
const GROWTH_KB: u64 = 100 * 1024;

/// A CONNECT that announces 256 MB.
const ENORMOUS: [u8; 5] = [0x10, 0xff, 0xff, 0xff, 0x7f];

/// MQTT 3.1.1, client `a`, clean session.
const CONNECT: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a";

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let config = std::env::temp_dir().join(format!("trellis-half-open-{}.toml", std::process::id()));
        let listener = "[[listeners]]\nname = 'a'\ntype = 'tcp'\nbind = '127.0.0.1:0'\n";
        fs::write(&config, format!("{listener}[console]\nbind = '127.0.0.1:0'\n")).unwrap();
        let mut serve = Command::new(env!("CARGO_BIN_EXE_trellis"));
        serve.args(["serve", "-c"]).arg(&config).env("TRELLIS_LOG", "error");
        let mut child = serve.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let line = lines.find(|line| line.contains("MQTT 3.1")).unwrap();
        fs::remove_file(config).unwrap();
        let address = line.split(" on ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        Self { child, address }
    }

    fn resident_kb(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Connects a client that means it, and says how long that took.
    fn connect(&self) -> Duration {
        let started = Instant::now();
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(CONNECT).unwrap();
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).unwrap();
        assert_eq!(connack, [0x20, 2, 0, 0]);
        started.elapsed()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nineteen_thousand_half_open_connections_cost_little_and_keep_nobody_out() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    let server = Server::start();
    server.connect();
    let before = server.resident_kb();
    let mut open = Vec::new();
    for number in 0..AT_ONCE.min(limit - 200) {
        let mut stream = TcpStream::connect(server.address).unwrap();
        // Half of them do not even say how much they announce. The server may have closed it already.
        let _ = stream.write_all(if number % 2 == 0 { &ENORMOUS } else { &ENORMOUS[..2] });
        open.push(stream);
    }
    let growth = server.resident_kb().saturating_sub(before);
    println!("{} connections at once: {growth} KB", open.len());
    assert!(growth < GROWTH_KB, "{growth} KB for {} connections", open.len());
    // Those before it have had their second once it gets a place.
    let first = server.connect();
    let second = server.connect();
    println!("a good client connects in {first:?}, and the next in {second:?}");
    assert!(second < Duration::from_secs(1), "{second:?}");
    drop(open);
    let count = if std::env::var_os("TRELLIS_LONG").is_some() { 100_000 } else { IN_SUCCESSION };
    for _ in 0..count {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let _ = stream.write_all(&ENORMOUS);
    }
    let growth = server.resident_kb().saturating_sub(before);
    println!("{count} connections in succession: {growth} KB");
    assert!(growth < GROWTH_KB, "{growth} KB after {count} connections");
    assert!(server.connect() < Duration::from_secs(1));
}
