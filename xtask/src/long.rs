//! `cargo xtask long` and `cargo xtask sabotage`: the simulations in full, and whether they would find a fault.

use std::path::Path;
use std::process::Command;

use anyhow::bail;

use crate::crash;
use crate::fuzz::{self, Extent};

/// The crates that have a simulation.
const SIMULATED: [&str; 2] = ["mqtt-broker", "mesh-proto"];
/// Inputs of each fuzz target.
const FUZZ_INPUTS: u64 = 1_000_000;

/// Runs the simulations and fuzz targets with as many seeds and inputs as the project promises, and kills the program as often.
pub(crate) fn run(root: &Path, seeds: u64, install: bool) -> anyhow::Result<()> {
    simulate(root, &["--release"], &[("TRELLIS_SEEDS", &seeds.to_string())])?;
    fuzz::run(root, Extent::Runs(FUZZ_INPUTS), "")?;
    crash::run(root, None, None, 1, install)
}

/// Puts each named fault into the broker and into a mesh node, in builds for tests only, and sees whether the simulation finds it.
pub(crate) fn sabotage(root: &Path) -> anyhow::Result<()> {
    simulate(root, &["--features", "sabotage"], &[])
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
