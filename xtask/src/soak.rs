//! `cargo xtask soak`: a long day of a real server.

use std::path::Path;
use std::process::Command;

use anyhow::bail;

use crate::interop::{build_trellis, trellis};

/// Runs it for so long, at so many messages a second, or at half of what this machine reaches.
pub(crate) fn run(root: &Path, minutes: u32, rate: Option<u32>) -> anyhow::Result<()> {
    build_trellis(root)?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "--release", "--package", "trellis", "--example", "soak", "--"]);
    cargo
        .arg(trellis(root, "").get_program())
        .arg(minutes.to_string())
        .args(rate.map(|rate| rate.to_string()));
    if !cargo.current_dir(root).status()?.success() {
        bail!("the server did not live through it as it should");
    }
    Ok(())
}
