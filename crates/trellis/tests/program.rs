//! The program as its users run it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::TcpListener;
use std::process::{Command, Output};

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
