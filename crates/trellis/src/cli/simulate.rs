use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use crate::demo::Plan;
use crate::simulation::Simulation;

/// Run the demo's building in virtual time and print its event log
///
/// The gateway dims the lamps in turn, the farthest first. The same seed gives the same log, byte for byte.
#[derive(Debug, clap::Args)]
pub(crate) struct Simulate {
    /// What all randomness of the building comes from
    #[arg(long, default_value = "1")]
    seed: u64,
    /// An office of so many nodes instead of the home
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=2000))]
    nodes: Option<u16>,
    /// How often a lamp is dimmed
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
    let plan = Plan { nodes: args.nodes.map(usize::from), status_period: Duration::from_secs(30) };
    let mut simulation = Simulation::new(&plan, args.seed, !args.quiet, args.pcap.is_some())?;
    let report = simulation.dim_lamps(args.round_trips, super::print)?;
    if let Some(path) = &args.pcap {
        let capture = simulation.take_pcap();
        std::fs::write(path, capture).with_context(|| format!("cannot write {}", path.display()))?;
        crate::demo::write_keys(path, simulation.database())?;
    }
    super::print(&report.to_string())
}
