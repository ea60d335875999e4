//! `trellis mesh-node` as somebody at a keyboard uses it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

/// How long a line may take: simulated air loses some of what is sent, as air does.
const PATIENCE: Duration = Duration::from_secs(60);

struct Node {
    process: Child,
    input: ChildStdin,
    lines: Receiver<Value>,
    /// Lines that came while another was waited for.
    passed: Vec<Value>,
}

impl Node {
    fn start(data_dir: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_trellis"))
            .args(["mesh-node", "--bearer", "sim:1", "--data-dir"])
            .arg(data_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        let input = process.stdin.take().unwrap();
        Self { process, input, lines, passed: Vec::new() }
    }

    fn say(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    /// The next line that is of this event; others are of no interest.
    fn hear(&mut self, event: &str) -> Value {
        self.hear_within(event, PATIENCE).unwrap_or_else(|| panic!("no {event}"))
    }

    /// The same, also if it came already while another was waited for.
    fn have_heard(&mut self, event: &str) -> Value {
        match self.passed.iter().position(|line| line["event"] == event) {
            Some(index) => self.passed.remove(index),
            None => self.hear(event),
        }
    }

    fn hear_within(&mut self, event: &str, patience: Duration) -> Option<Value> {
        loop {
            let line = self.lines.recv_timeout(patience).ok()?;
            if line["event"] == event {
                return Some(line);
            }
            self.passed.push(line);
        }
    }

    /// Sends the lamp a message, as often as it takes.
    fn send(&mut self, key: &str, message: &str, answer: &str) -> Value {
        for _ in 0..8 {
            self.say(&format!("send 0100 {key} {message}"));
            if let Some(line) = self.hear_within(answer, Duration::from_secs(8)) {
                return line;
            }
        }
        panic!("no {answer}")
    }

    fn local(&mut self, message: &str) -> String {
        self.say(&format!("local {message}"));
        self.hear("configured")["payload"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_node_provisions_a_lamp_in_simulated_air_and_goes_on_after_being_killed() {
    let folder = std::env::temp_dir().join(format!("trellis-mesh-node-{}", std::process::id()));
    let mut node = Node::start(&folder);
    let uuid = node.hear("unprovisioned")["uuid"].clone();
    node.say("create 00112233445566778899aabbccddeeff 0001");
    node.hear("provisioned");
    let device = node.have_heard("device")["uuid"].as_str().unwrap().to_owned();
    node.say(&format!("provision {device} 0100"));
    assert_eq!(node.hear("added")["address"], "0100");
    // AppKey Add on both, Model App Bind on the lamp, Generic OnOff Set.
    assert_eq!(node.local("00000000ffeeddccbbaa99887766554433221100"), "800300000000");
    let status = node.send("dev", "00000000ffeeddccbbaa99887766554433221100", "message");
    assert_eq!(status["payload"], "800300000000");
    assert_eq!(node.send("dev", "803d000100000010", "message")["payload"], "803e00000100000010");
    assert_eq!(node.send("app:0", "82020101", "lamp")["on"], true);
    node.process.kill().unwrap();
    node.process.wait().unwrap();

    let mut again = Node::start(&folder);
    assert_eq!(again.hear("restarted")["address"], "0001");
    // NetKey List and AppKey List.
    assert_eq!(again.local("8042"), "80430000");
    assert_eq!(again.local("80010000"), "80020000000000");
    // It is in the network with the device key of the lamp, which in this air is a new device.
    again.say("send 0100 dev 8008ff");
    again.hear("done");
    // A reset empties the directory, but for who it is.
    again.local("8049");
    again.hear("reset");
    again.say("quit");
    again.process.wait().unwrap();
    let mut third = Node::start(&folder);
    assert_eq!(third.hear("unprovisioned")["uuid"], uuid);
    third.say("quit");
    third.process.wait().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn times_that_allow_no_friendship_are_refused_in_a_sentence() {
    for (flag, time, sentence) in [
        ("--receive-delay", "9ms", "a Receive Delay of 9ms cannot be asked for; it is 10 to 255 ms"),
        ("--poll-timeout", "96h", "a Poll Timeout of 345600s cannot be asked for"),
        ("--poll-interval", "60s", "a node that asks every 60s loses a Friend with a Poll Timeout of 60s"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trellis"));
        command.args(["mesh-node", "--bearer", "sim:0", "--features", "low-power", flag, time]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success(), "{flag}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(sentence) && text.trim().lines().count() == 1, "{text}");
    }
}
