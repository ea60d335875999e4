//! `cargo xtask bench`: measurements, as tables.

use std::path::Path;
use std::process::Command;

use anyhow::bail;
use clap::ValueEnum;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bench {
    /// What SUBSCRIBE costs beside a million retained messages
    Retained,
    /// Half-open connections: 19,000 at once and 100,000 in succession, in memory
    HalfOpen,
    /// The mesh stack on one core: PDUs and segments a second, bytes a node
    Mesh,
    /// How fast messages become durable and come back, on the disk that holds `target`
    Durable,
    /// How long a server takes to start with 10 million messages in 100,000 sessions and a million retained ones: needs
    /// 8 GB of the disk that holds `target`
    Start,
}

/// Measures: time with the optimisations of a release, memory as the tests are built.
pub(crate) fn run(root: &Path, bench: Bench) -> anyhow::Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root);
    let words = match bench {
        Bench::Retained => "run --quiet --release --package mqtt-broker --example retained",
        Bench::Durable => "run --quiet --release --package mqtt-server --example bench_durable -- target",
        Bench::Start => "run --quiet --release --package mqtt-server --example bench_start -- target",
        Bench::HalfOpen => "test --quiet --package trellis --test half_open -- --nocapture",
        Bench::Mesh => "run --quiet --release --package mesh-io --example bench_mesh",
    };
    cargo.args(words.split(' ')).env("TRELLIS_LONG", "1");
    if !cargo.status()?.success() {
        bail!("the measurement failed");
    }
    Ok(())
}
