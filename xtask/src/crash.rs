//! `cargo xtask crash`: kills the program in the middle of commands, again and again, and looks at what it does after
//! each start and at what was on the air.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;

use crate::interop::{Mosquitto, Peers, Running, capture, free_port, home, pause, trellis};

/// Which broker the gateway has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Broker {
    /// The one in the same process, which is killed with it
    Own,
    /// mosquitto, which is itself killed and started again in the middle
    Mosquitto,
}

/// Every lamp obeys within so many seconds of a start.
const CONTROLLABLE_S: &str = "5";

/// The same after the broker was killed: paho waits a second before it connects again.
const RECONNECTED_S: &str = "10";

/// Kills `rounds` times.
pub(crate) fn run(root: &Path, peers: &Peers, rounds: u32, broker: Broker, seed: u64) -> anyhow::Result<()> {
    println!("crash: {rounds} rounds with {broker:?} broker, seed {seed}");
    let folder = root.join("target/interop").join(format!("crash-{broker:?}").to_lowercase());
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut random = seed;
    let port = free_port()?;
    let mut mosquitto = (broker == Broker::Mosquitto).then(|| Mosquitto::start(&folder, port)).transpose()?;
    let first = folder.join("first.pcap");
    let program = start(root, &folder, &first, broker, port)?;
    // It gets to know its nodes, which it has to do only once.
    home::run(root, peers, port, &["known"])?;
    program.kill();
    let mut captures = vec![first];
    for round in 0..rounds {
        let pcap = folder.join(format!("{round}.pcap"));
        captures.push(pcap.clone());
        let program = start(root, &folder, &pcap, broker, port)?;
        command_until(root, peers, port, &folder, CONTROLLABLE_S, &mut random, || {
            program.kill();
            Ok(())
        })
        .with_context(|| format!("in round {round}"))?;
        if let Some(running) = mosquitto.take_if(|_| round == rounds / 2) {
            // The gateway lives on, the broker forgets everything.
            let program = start(root, &folder, &with_broker(&mut captures, &folder, round), broker, port)?;
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

fn start(root: &Path, folder: &Path, pcap: &Path, broker: Broker, port: u16) -> anyhow::Result<Running> {
    let http = free_port()?;
    let mut program = match broker {
        Broker::Own => {
            let mut demo = trellis(root, "demo");
            demo.args(["--mqtt-port", &port.to_string(), "--http-port", &http.to_string()]);
            demo
        }
        Broker::Mosquitto => {
            let mut gateway = trellis(root, "gateway");
            gateway.arg("--broker").arg(format!("mqtt://127.0.0.1:{port}"));
            gateway.env("TRELLIS_LOG", "error");
            gateway
        }
    };
    program.args(["--still", "--data-dir"]).arg(folder.join("data")).arg("--pcap").arg(pcap);
    match broker {
        Broker::Own => Running::server(&mut program, http),
        Broker::Mosquitto => Running::started(&mut program),
    }
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
    let controllable = crate::interop::next_line(&mut said)?.context("not every lamp obeyed")?;
    print!("{controllable} ");
    // A linear congruential generator: the moments are to differ, and to be the same for the same seed.
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    pause(Duration::from_millis(20 + (*random >> 33) % 1_200));
    kill()?;
    println!("{}", crate::interop::next_line(&mut said)?.unwrap_or_default());
    person.wait()
}
