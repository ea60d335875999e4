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

/// A broker, which ends with this value.
struct Running {
    child: Child,
    port: String,
}

impl Running {
    /// Starts it, and reads what it prints up to the line that holds `last`.
    fn start(arguments: &[&str], last: &str) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_trellis"));
        let mut child = program.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let port = lines
            .find_map(|line| Some(line.split("127.0.0.1:").nth(1)?.split([',', ' ']).next()?.to_owned()));
        assert!(lines.any(|line| line.contains(last)), "no line holds {last:?}");
        Self { child, port: port.unwrap() }
    }

    fn run(&self, command: &str, arguments: &[&str]) -> String {
        let output = trellis(&[&[command, "-h", "127.0.0.1", "-p", &self.port][..], arguments].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn one_message_turns_on_a_lamp_four_hops_away_and_its_state_comes_back() {
    let folder = std::env::temp_dir().join(format!("trellis-demo-{}", std::process::id()));
    let data = folder.to_str().unwrap();
    let flags = ["demo", "--mqtt-port", "0", "--http-port", "0", "--still", "--fresh", "--data-dir", data];
    let mut demo = Running::start(&flags, "Ctrl-C stops it");
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

#[test]
fn a_server_serves_the_mesh_of_its_file() {
    let folder = std::env::temp_dir().join(format!("trellis-serve-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("trellis.toml");
    let write = |radio: &str| {
        let data = folder.join("data");
        let text = format!(
            "data_dir = {data:?}\n[[listeners]]\nname = \"a\"\ntype = \"tcp\"\nbind = \"127.0.0.1:0\"\n\
             [console]\nbind = \"127.0.0.1:0\"\n[[mesh]]\nbase_topic = \"office\"\n{radio}"
        );
        std::fs::write(&path, text).unwrap();
    };
    write("");
    let flags = ["serve", "-c", path.to_str().unwrap()];
    let refused = trellis(&flags);
    assert!(!refused.status.success() && text(&refused.stderr).contains("add radio = "), "{refused:?}");

    write("radio = { type = \"simulated\", nodes = 8 }");
    let server = Running::start(&flags, "Network ");
    let devices = server.run("sub", &["-t", "office/bridge/devices", "--count", "1"]);
    assert_eq!(devices.matches("\"unicast_address\"").count(), 8, "{devices}");
    drop(server);
    std::fs::remove_dir_all(&folder).unwrap();
}
