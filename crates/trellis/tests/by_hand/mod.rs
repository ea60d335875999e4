//! A `trellis mesh-node` and who sits at its keyboard.
#![allow(unreachable_pub, dead_code, reason = "shared by the tests that include it")]

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

/// How long a line may take: simulated air loses some of what is sent, as air does.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Node {
    pub process: Child,
    input: ChildStdin,
    lines: Receiver<Value>,
    /// Lines that came while another was waited for.
    passed: Vec<Value>,
}

impl Node {
    pub fn start<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_trellis"))
            .arg("mesh-node")
            .args(arguments)
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

    pub fn say(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    /// The next line that is of this event; others are of no interest.
    pub fn hear(&mut self, event: &str) -> Value {
        self.hear_within(event, PATIENCE).unwrap_or_else(|| panic!("no {event}"))
    }

    /// The same, also if it came already while another was waited for.
    pub fn have_heard(&mut self, event: &str) -> Value {
        match self.passed.iter().position(|line| line["event"] == event) {
            Some(index) => self.passed.remove(index),
            None => self.hear(event),
        }
    }

    pub fn hear_within(&mut self, event: &str, patience: Duration) -> Option<Value> {
        loop {
            let line = self.lines.recv_timeout(patience).ok()?;
            if line["event"] == event {
                return Some(line);
            }
            self.passed.push(line);
        }
    }

    /// Sends the lamp a message, as often as it takes.
    pub fn send(&mut self, key: &str, message: &str, answer: &str) -> Value {
        for _ in 0..8 {
            self.say(&format!("send 0100 {key} {message}"));
            if let Some(line) = self.hear_within(answer, Duration::from_secs(8)) {
                return line;
            }
        }
        panic!("no {answer}")
    }

    pub fn local(&mut self, message: &str) -> String {
        self.say(&format!("local {message}"));
        self.hear("configured")["payload"].as_str().unwrap().to_owned()
    }

    /// Ends it, and waits until it has.
    pub fn quit(mut self) {
        self.say("quit");
        self.process.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
