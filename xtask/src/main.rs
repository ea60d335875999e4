//! Checks and chores of the project: `cargo xtask --help`.

#![allow(clippy::print_stdout, reason = "a chore tells what it does")]

mod bench;
mod conformance;
mod crash;
mod fuzz;
mod generate;
mod interop;
mod long;
mod no_std;
mod soak;
mod testdata;
mod tidy;

use std::path::{Path, PathBuf};

use clap::Parser;

/// Checks and chores of the project
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Command {
    /// Copy the shared facts and peer scripts that tests need into the repository
    ImportTestdata {
        /// The folder that holds `mesh`, `mqtt` and `peers`
        dir: PathBuf,
    },
    /// Write the source files that are made of the facts in `testdata/`
    Generate,
    /// Kill the program, again and again, and look for what it had promised
    Crash {
        /// Which part of it; each in turn when it is left out
        victim: Option<crash::Victim>,
        /// How often [default: 300 times the broker, 50 times the others]
        #[arg(long)]
        rounds: Option<u32>,
        /// What the moments come from
        #[arg(long, default_value = "1")]
        seed: u64,
        /// Install the peers that are missing (implied by CI=true)
        #[arg(long)]
        install: bool,
    },
    /// Run the cases of the MQTT standards against a broker
    Conformance {
        /// Where the broker listens, as HOST:PORT
        #[arg(required_unless_present = "write")]
        address: Option<String>,
        /// Let it end connections of MQTT 5.0 without a reason code: the standard mostly only advises one
        #[arg(long)]
        lenient: bool,
        /// Only cases whose name holds this
        #[arg(long, default_value = "")]
        only: String,
        /// Keep what failed in the documentation's table, under this name of the broker
        #[arg(long, value_name = "BROKER")]
        record: Option<String>,
        /// Renew docs/conformance/mqtt.md, and run nothing
        #[arg(long)]
        write: bool,
    },
    /// Measure something, and print it as a table
    Bench {
        /// What
        what: bench::Bench,
    },
    /// Run every fuzz target
    Fuzz {
        /// For how long, in all
        #[arg(long, default_value = "60")]
        seconds: u64,
        /// With so many inputs each, however long that takes
        #[arg(long, conflicts_with = "seconds")]
        runs: Option<u64>,
        /// Only targets whose name holds this
        #[arg(long, default_value = "")]
        only: String,
    },
    /// Run real peers against us
    Interop {
        /// Which; all of them when it is left out
        suite: Option<interop::Suite>,
        /// Install what is missing (implied by CI=true)
        #[arg(long)]
        install: bool,
    },
    /// Run the simulations and fuzz targets with all the seeds and inputs that the project promises, and the crashes
    Long {
        /// How many
        #[arg(long, default_value = "10000")]
        seeds: u64,
        /// Install the peers that are missing
        #[arg(long)]
        install: bool,
    },
    /// Build the mesh stack for a microcontroller, without the standard library
    NoStd {
        /// Install the compiler's library for it, if it is missing (implied by CI=true)
        #[arg(long)]
        install: bool,
    },
    /// Put named faults into the broker and into a mesh node, and see whether the simulations find them
    Sabotage,
    /// Have a server live under load, and see that memory and disk stay as they are
    Soak {
        /// For how long
        #[arg(long, default_value = "30")]
        minutes: u32,
        /// Messages a second [default: half of what this machine reaches]
        #[arg(long)]
        rate: Option<u32>,
    },
    /// Check the rules of the architecture that no compiler checks
    Tidy,
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::ImportTestdata { dir } => testdata::import(&dir, &root()),
        Command::Generate => generate::run(&root()),
        Command::Crash { victim, rounds, seed, install } => {
            crash::run(&root(), victim, rounds, seed, install)
        }
        Command::Conformance { write: true, .. } => conformance::write(&root()),
        Command::Conformance { address, lenient, only, record, .. } => {
            conformance::run(&root(), &address.unwrap_or_default(), lenient, &only, record.as_deref())
        }
        Command::Bench { what } => bench::run(&root(), what),
        Command::Fuzz { seconds, runs, only } => {
            let extent = runs.map_or(fuzz::Extent::Seconds(seconds), fuzz::Extent::Runs);
            fuzz::run(&root(), extent, &only)
        }
        Command::Interop { suite, install } => interop::run(&root(), suite, install),
        Command::Long { seeds, install } => long::run(&root(), seeds, install),
        Command::NoStd { install } => no_std::run(&root(), install),
        Command::Sabotage => long::sabotage(&root()),
        Command::Soak { minutes, rate } => soak::run(&root(), minutes, rate),
        Command::Tidy => tidy::check(&root()),
    }
}

/// The folder of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}
