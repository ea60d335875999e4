//! Checks and chores of the project: `cargo xtask --help`.

#![allow(clippy::print_stdout, reason = "a chore tells what it does")]

mod fuzz;
mod generate;
mod interop;
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
    /// Run every fuzz target
    Fuzz {
        /// For how long, in all
        #[arg(long, default_value = "60")]
        seconds: u64,
    },
    /// Run real peers against us
    Interop {
        /// Which; all of them when it is left out
        suite: Option<interop::Suite>,
        /// Install what is missing (implied by CI=true)
        #[arg(long)]
        install: bool,
    },
    /// Check the rules of the architecture that no compiler checks
    Tidy,
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::ImportTestdata { dir } => testdata::import(&dir, &root()),
        Command::Generate => generate::run(&root()),
        Command::Fuzz { seconds } => fuzz::run(&root(), seconds),
        Command::Interop { suite, install } => interop::run(&root(), suite, install),
        Command::Tidy => tidy::check(&root()),
    }
}

/// The folder of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}
