//! The program as its users run it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};

fn trellis(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trellis")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn two_processes_with_one_seed_print_the_same_log_and_another_seed_another() {
    let log = |seed| trellis(&["simulate", "--round-trips", "3", "--seed", seed]).stdout;
    let first = log("7");
    assert!(text(&first).lines().count() > 1_000, "{}", text(&first));
    assert_eq!(first, log("7"));
    assert_ne!(first, log("8"));
}

#[test]
fn a_taken_port_is_one_clear_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = std::env::temp_dir().join(format!("trellis-taken-{port}"));
    let data = folder.to_str().unwrap();
    for flags in [["--mqtt-port", &port, "--http-port", "0"], ["--mqtt-port", "0", "--http-port", &port]] {
        let output = trellis(&[&["demo", "--data-dir", data][..], &flags].concat());
        assert!(!output.status.success());
        let message = text(&output.stderr);
        assert_eq!(message.trim_end().lines().count(), 1, "{message}");
        assert!(
            message.contains(&format!("127.0.0.1:{port}")) && message.contains("choose another port"),
            "{message}"
        );
    }
}

#[test]
fn a_configuration_that_is_wrong_says_where() {
    let path = std::env::temp_dir().join(format!("trellis-config-{}.toml", std::process::id()));
    std::fs::write(&path, "[mqtt]\nmax_packetsize = \"1MB\"\n").unwrap();
    let output = trellis(&["serve", "-c", path.to_str().unwrap()]);
    std::fs::remove_file(&path).unwrap();
    assert!(!output.status.success());
    let message = text(&output.stderr);
    assert!(message.contains("max_packetsize") && message.contains("line 2"), "{message}");
}

/// The demo, which ends with this value.
struct Demo {
    child: Child,
    port: String,
}

impl Demo {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("trellis-demo-{}", std::process::id()));
        let mut demo = Command::new(env!("CARGO_BIN_EXE_trellis"));
        demo.args(["demo", "--mqtt-port", "0", "--http-port", "0", "--still", "--fresh", "--data-dir"])
            .arg(folder);
        let mut child = demo.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let port =
            lines.find_map(|line| Some(line.split("127.0.0.1:").nth(1)?.split(',').next()?.to_owned()));
        assert!(lines.any(|line| line.contains("Ctrl-C stops it")));
        Self { child, port: port.unwrap() }
    }

    fn run(&self, command: &str, arguments: &[&str]) -> String {
        let output = trellis(&[&[command, "-h", "127.0.0.1", "-p", &self.port][..], arguments].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).to_owned()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn one_message_turns_on_a_lamp_four_hops_away_and_its_state_comes_back() {
    let mut demo = Demo::start();
    let topic = "mesh/upper/bedroom/ceiling";
    // `null` until it was read; then what the lamp said.
    while !demo.run("sub", &["-t", topic, "--count", "1"]).contains("\"state\":\"OFF\"") {}
    demo.run("pub", &["-t", &format!("{topic}/set"), "-m", "{\"state\":\"ON\"}", "-q", "1"]);
    while !demo.run("sub", &["-t", topic, "--count", "1", "-V", "3.1.1"]).contains("\"state\":\"ON\"") {}
    let info = demo.run("sub", &["-t", "mesh/bridge/info", "--count", "1"]);
    assert!(info.contains("\"farthest\":{\"address\":"), "{info}");
    let interrupted = Command::new("kill").args(["-INT", &demo.child.id().to_string()]).status().unwrap();
    assert!(interrupted.success() && demo.child.wait().unwrap().success(), "SIGINT stops it cleanly");
}
