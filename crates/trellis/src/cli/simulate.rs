use std::path::PathBuf;

use anyhow::Context as _;

use crate::simulation::Simulation;

/// Run the demo's building in virtual time and print its event log
///
/// The gateway turns the farthest lamp on and off. The same seed gives the same log, byte for byte.
#[derive(Debug, clap::Args)]
pub(crate) struct Simulate {
    /// What all randomness of the building comes from
    #[arg(long, default_value = "1")]
    seed: u64,
    /// How often the farthest lamp is switched
    #[arg(long, default_value = "10")]
    round_trips: u32,
    /// Print the summary only
    #[arg(long)]
    quiet: bool,
    /// Write what was on the air to a file that Wireshark reads; FILE.keys says how to decrypt it
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
}

pub(crate) fn run(args: &Simulate) -> anyhow::Result<()> {
    let mut simulation = Simulation::new(args.seed, !args.quiet, args.pcap.is_some())?;
    let report = simulation.switch_farthest(args.round_trips, super::print)?;
    if let Some(path) = &args.pcap {
        let capture = simulation.take_pcap();
        std::fs::write(path, capture).with_context(|| format!("cannot write {}", path.display()))?;
        crate::demo::write_keys(path, simulation.database())?;
    }
    super::print(&report.to_string())
}
