//! `interop/home.py`: what a person does with the lamps, run against a gateway.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;

use super::peers::Peers;
use super::process::output;

/// Characters of a report that are worth showing.
const SHOWN: usize = 300;

/// Runs one of its suites against the broker on `port`, shows what it says, and returns it.
pub(crate) fn run(root: &Path, peers: &Peers, port: u16, arguments: &[&str]) -> anyhow::Result<Value> {
    let report = output(&mut command(root, peers, port, arguments))?;
    let shown: String = report.trim_end().chars().take(SHOWN).collect();
    println!("{}: {shown}", arguments.join(" "));
    serde_json::from_str(&report).with_context(|| format!("it prints no JSON: {report}"))
}

/// The same, to be started.
pub(crate) fn command(root: &Path, peers: &Peers, port: u16, arguments: &[&str]) -> Command {
    let mut command = Command::new(&peers.python);
    command.arg(root.join("interop/home.py")).arg(port.to_string()).args(arguments);
    command
}
