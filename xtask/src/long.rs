//! `cargo xtask long` and `cargo xtask sabotage`: the simulations in full, and whether they would find a fault.

use std::path::Path;
use std::process::Command;

use anyhow::bail;

use crate::crash::{self, Broker};
use crate::fuzz::{self, Extent};
use crate::interop;

/// The crates that have a simulation.
const SIMULATED: [&str; 2] = ["mqtt-broker", "mesh-proto"];
/// Inputs of each fuzz target.
const FUZZ_INPUTS: u64 = 1_000_000;

/// How often the program is killed, with each kind of broker.
const CRASHES: u32 = 50;

/// How often the broker alone is killed.
const BROKER_CRASHES: u32 = 300;

/// Runs the simulations and fuzz targets with as many seeds and inputs as the project promises, and kills the program as often.
pub(crate) fn run(root: &Path, seeds: u64, install: bool) -> anyhow::Result<()> {
    simulate(root, &["--release"], &[("TRELLIS_SEEDS", &seeds.to_string())])?;
    fuzz::run(root, Extent::Runs(FUZZ_INPUTS), "")?;
    crash_broker(root, BROKER_CRASHES, 1)?;
    let peers = interop::peers(root, install)?;
    for broker in [Broker::Own, Broker::Mosquitto] {
        crash::run(root, &peers, CRASHES, broker, 1)?;
    }
    Ok(())
}

/// Puts each named fault into the broker and into a mesh node, in builds for tests only, and sees whether the simulation finds it.
pub(crate) fn sabotage(root: &Path) -> anyhow::Result<()> {
    simulate(root, &["--features", "sabotage"], &[])
}

/// Kills the broker under load, on disks that keep what they were given and on disks that do not, and looks at the order
/// of its system calls.
pub(crate) fn crash_broker(root: &Path, rounds: u32, seed: u64) -> anyhow::Result<()> {
    for (test, options) in [("crash", &[][..]), ("crash_disk", &[]), ("trace", &["--ignored"])] {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["test", "--package", "trellis", "--test", test, "--", "--nocapture"]).args(options);
        cargo.envs([("TRELLIS_ROUNDS", rounds.to_string()), ("TRELLIS_SEED", seed.to_string())]);
        if !cargo.current_dir(root).status()?.success() {
            bail!("the broker does not keep what it promises; what was printed names the seed");
        }
    }
    Ok(())
}

fn simulate(root: &Path, options: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<()> {
    for package in SIMULATED {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["test", "--package", package, "--test", "simulation"]).args(options);
        cargo.args(["--", "--nocapture"]).current_dir(root).envs(environment.iter().copied());
        if !cargo.status()?.success() {
            bail!(
                "the simulation of {package} failed; what it printed names the seed, TRELLIS_SEED=… runs it alone"
            );
        }
    }
    Ok(())
}
