//! A server that is taken out of service sends its clients to another one, and says in its metrics why they left.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// MQTT 5.0, clean start, client `a`.
const CONNECT: &[u8] = b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01a";

/// Server Reference (§3.14.2.2.5): its identifier, its length and the text of the configuration.
const REFERENCE: &[u8] = b"\x1c\0\x12other.example:1883";

struct Server {
    child: Child,
    mqtt: SocketAddr,
    page: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let config = std::env::temp_dir().join(format!("trellis-drain-{}.toml", std::process::id()));
        let text = "[[listeners]]\nname = 'a'\ntype = 'tcp'\nbind = '127.0.0.1:0'\n\
            [console]\nbind = '127.0.0.1:0'\n[drain]\nserver_reference = 'other.example:1883'\n";
        fs::write(&config, text).unwrap();
        let mut serve = Command::new(env!("CARGO_BIN_EXE_trellis"));
        serve.args(["serve", "-c"]).arg(&config).env("TRELLIS_LOG", "error");
        let mut child = serve.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let line = lines.find(|line| line.contains("MQTT 3.1")).unwrap();
        let mqtt = line.split(" on ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        let line = lines.find(|line| line.contains("http://")).unwrap();
        let page = line.split("http://").nth(1).unwrap().trim_end_matches('/').parse().unwrap();
        fs::remove_file(config).unwrap();
        // What it says when it ends has to go somewhere.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, mqtt, page }
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }

    /// Connects; the stream and the reason code of CONNACK, with the rest of it.
    fn connect(&self) -> (TcpStream, u8, Vec<u8>) {
        let mut stream = TcpStream::connect(self.mqtt).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(CONNECT).unwrap();
        let packet = read_packet(&mut stream);
        assert_eq!(packet[0], 0x20);
        (stream, packet[3], packet)
    }

    /// Connects until it is answered with this reason code: signals take their time.
    fn connect_until(&self, code: u8) -> (TcpStream, Vec<u8>) {
        let started = Instant::now();
        loop {
            let (stream, got, packet) = self.connect();
            if got == code {
                return (stream, packet);
            }
            assert!(started.elapsed() < Duration::from_secs(10), "{got:#x}");
        }
    }

    /// Whether a line of `/metrics` is there within a while.
    fn says(&self, line: &str) -> bool {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(10) {
            let mut stream = TcpStream::connect(self.page).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            if text.lines().any(|other| other == line) {
                return true;
            }
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A packet of fewer than 128 bytes.
fn read_packet(stream: &mut TcpStream) -> Vec<u8> {
    let mut packet = vec![0; 2];
    stream.read_exact(&mut packet).unwrap();
    packet.resize(2 + usize::from(packet[1]), 0);
    stream.read_exact(&mut packet[2..]).unwrap();
    packet
}

fn refers(packet: &[u8]) -> bool {
    packet.windows(REFERENCE.len()).any(|part| part == REFERENCE)
}

#[test]
fn a_server_sends_its_clients_away_and_takes_them_again() {
    let mut server = Server::start();
    let (mut first, _) = server.connect_until(0);
    server.signal("-USR1");
    let goodbye = read_packet(&mut first);
    assert_eq!((goodbye[0], goodbye[2]), (0xe0, 0x9c), "DISCONNECT, Use another server");
    assert!(refers(&goodbye), "{goodbye:x?}");
    let (_, refusal) = server.connect_until(0x9c);
    assert!(refers(&refusal), "{refusal:x?}");
    assert!(server.says("trellis_ended_connections_total{reason=\"drained\"} 1"));
    server.signal("-USR2");
    let (mut again, _) = server.connect_until(0);
    server.signal("-TERM");
    let goodbye = read_packet(&mut again);
    assert_eq!((goodbye[0], goodbye[2]), (0xe0, 0x9c));
    assert!(refers(&goodbye), "{goodbye:x?}");
    assert!(server.child.wait().unwrap().success());
}
