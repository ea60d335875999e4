//! `cargo xtask crash`: kills the program, again and again, and looks for what it had promised after each start. The
//! broker is killed under load, demo and gateway in the middle of commands; of those, too, what was on the air is read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;

use crate::interop::{self, Mosquitto, Peers, Running, capture, free_port, home, pause, trellis};

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Victim {
    /// The broker, on disks that keep what they were given and on disks that do not; needs strace
    Broker,
    /// The demo: broker, gateway and building
    Demo,
    /// The gateway in front of mosquitto, which is itself killed and started again in the middle
    Gateway,
}

impl Victim {
    /// How often it has to live through it before a release.
    fn rounds(self) -> u32 {
        match self {
            Self::Broker => 300,
            Self::Demo | Self::Gateway => 50,
        }
    }
}

/// Every lamp obeys within so many seconds of a start.
const CONTROLLABLE_S: &str = "5";

/// The same after the broker was killed: paho waits a second before it connects again.
const RECONNECTED_S: &str = "10";

/// Kills one, or each in turn.
pub(crate) fn run(
    root: &Path,
    victim: Option<Victim>,
    rounds: Option<u32>,
    seed: u64,
    install: bool,
) -> anyhow::Result<()> {
    for one in [Victim::Broker, Victim::Demo, Victim::Gateway] {
        let rounds = rounds.unwrap_or(one.rounds());
        match one {
            _ if victim.is_some_and(|victim| victim != one) => {}
            Victim::Broker => {
                interop::tracer(install)?;
                under_load(root, rounds, seed)?;
            }
            Victim::Demo | Victim::Gateway => {
                in_commands(root, &interop::peers(root, install)?, rounds, one, seed)?;
            }
        }
    }
    Ok(())
}

/// Kills the broker under load, and looks at the order of its system calls.
fn under_load(root: &Path, rounds: u32, seed: u64) -> anyhow::Result<()> {
    for (test, options) in [("crash", &[][..]), ("crash_disk", &[]), ("trace", &["--ignored"])] {
        let mut cargo = Command::new(env!("CARGO"));
        // As people run it: a build for debugging has the disk wait for it.
        cargo.args(["test", "--release", "--package", "trellis", "--test", test]);
        cargo.args(["--", "--nocapture"]).args(options);
        cargo.envs([("TRELLIS_ROUNDS", rounds.to_string()), ("TRELLIS_SEED", seed.to_string())]);
        if !cargo.current_dir(root).status()?.success() {
            bail!("the broker does not keep what it promises; what was printed names the seed");
        }
    }
    Ok(())
}

/// Kills demo or gateway in the middle of commands.
fn in_commands(root: &Path, peers: &Peers, rounds: u32, victim: Victim, seed: u64) -> anyhow::Result<()> {
    println!("crash: {rounds} rounds with the {victim:?}, seed {seed}");
    let folder = root.join("target/interop").join(format!("crash-{victim:?}").to_lowercase());
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut random = seed;
    let port = free_port()?;
    let mut mosquitto = (victim == Victim::Gateway).then(|| Mosquitto::start(&folder, port)).transpose()?;
    let first = folder.join("first.pcap");
    let program = start(root, &folder, &first, victim, port)?;
    // It gets to know its nodes, which it has to do only once.
    home::run(root, peers, port, &["known"])?;
    program.kill();
    let mut captures = vec![first];
    for round in 0..rounds {
        let pcap = folder.join(format!("{round}.pcap"));
        captures.push(pcap.clone());
        let program = start(root, &folder, &pcap, victim, port)?;
        command_until(root, peers, port, &folder, CONTROLLABLE_S, &mut random, || {
            program.kill();
            Ok(())
        })
        .with_context(|| format!("in round {round}"))?;
        if let Some(running) = mosquitto.take_if(|_| round == rounds / 2) {
            // The gateway lives on, the broker forgets everything.
            let program = start(root, &folder, &with_broker(&mut captures, &folder, round), victim, port)?;
            command_until(root, peers, port, &folder, CONTROLLABLE_S, &mut random, || {
                running.kill();
                Ok(())
            })?;
            mosquitto = Some(Mosquitto::start(&folder, port)?);
            command_until(root, peers, port, &folder, RECONNECTED_S, &mut random, || {
                program.kill();
                Ok(())
            })
            .context("after mosquitto was killed and started again")?;
            println!("mosquitto was killed and started again");
        }
    }
    let mut pdus = Vec::new();
    for pcap in &captures {
        pdus.extend(capture::pdus(pcap)?);
    }
    let repeated = capture::repeated(&pdus);
    println!(
        "{} network PDUs of {} captures; sequence numbers used twice: {}",
        pdus.len(),
        captures.len(),
        repeated.len()
    );
    ensure!(repeated.is_empty(), "used for two PDUs (originator, sequence number): {repeated:?}");
    Ok(())
}

fn with_broker(captures: &mut Vec<PathBuf>, folder: &Path, round: u32) -> PathBuf {
    let pcap = folder.join(format!("{round}-broker.pcap"));
    captures.push(pcap.clone());
    pcap
}

fn start(root: &Path, folder: &Path, pcap: &Path, victim: Victim, port: u16) -> anyhow::Result<Running> {
    let http = free_port()?;
    let mut program = if victim == Victim::Demo {
        let mut demo = trellis(root, "demo");
        demo.args(["--mqtt-port", &port.to_string(), "--http-port", &http.to_string()]);
        demo
    } else {
        let mut gateway = trellis(root, "gateway");
        gateway.arg("--broker").arg(format!("mqtt://127.0.0.1:{port}"));
        gateway.env("TRELLIS_LOG", "error");
        gateway
    };
    program.args(["--still", "--data-dir"]).arg(folder.join("data")).arg("--pcap").arg(pcap);
    if victim == Victim::Demo { Running::server(&mut program, http) } else { Running::started(&mut program) }
}

/// Has the lamps obey, and goes on with commands until, at a random moment, `kill` is called.
fn command_until(
    root: &Path,
    peers: &Peers,
    port: u16,
    folder: &Path,
    seconds: &str,
    random: &mut u64,
    kill: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let state = folder.join("possible.json");
    let state = state.to_str().context("the folder's name is no text")?;
    let (person, mut said) =
        Running::reading(&mut home::command(root, peers, port, &["crash", state, seconds]))?;
    let controllable = interop::next_line(&mut said)?.context("not every lamp obeyed")?;
    print!("{controllable} ");
    // A linear congruential generator: the moments are to differ, and to be the same for the same seed.
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    pause(Duration::from_millis(20 + (*random >> 33) % 1_200));
    kill()?;
    println!("{}", interop::next_line(&mut said)?.unwrap_or_default());
    person.wait()
}
