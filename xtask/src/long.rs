//! `cargo xtask long` and `cargo xtask sabotage`: the simulations in full, and whether they would find a fault.

use std::path::Path;
use std::process::Command;

use anyhow::bail;

/// Runs the simulations with as many seeds as the project promises.
pub(crate) fn run(root: &Path, seeds: u64) -> anyhow::Result<()> {
    let seeds = seeds.to_string();
    simulate(root, &["--release"], &[("TRELLIS_SEEDS", &seeds)])
}

/// Puts each named fault into the broker, in builds for tests only, and sees whether the simulation finds it.
pub(crate) fn sabotage(root: &Path) -> anyhow::Result<()> {
    simulate(root, &["--features", "sabotage"], &[])
}

fn simulate(root: &Path, options: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--package", "mqtt-broker", "--test", "simulation"]).args(options);
    cargo.args(["--", "--nocapture"]).current_dir(root).envs(environment.iter().copied());
    if !cargo.status()?.success() {
        bail!("the simulation failed; what it printed names the seed, TRELLIS_SEED=… runs it alone");
    }
    Ok(())
}
