//! `cargo xtask interop`: real peers against us. A peer that cannot be had is a failure, never skipped.

mod demo;
mod mqtt;
mod peers;
mod process;

use std::path::Path;

use clap::ValueEnum;

/// What is run against what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// mosquitto's clients, paho-mqtt, MQTT.js and gmqtt on the broker
    Mqtt,
    /// The demo: mosquitto's clients, 100 round trips, and its capture in tshark
    Demo,
}

/// Runs one suite, or all.
pub(crate) fn run(root: &Path, suite: Option<Suite>, install: bool) -> anyhow::Result<()> {
    let install = install || std::env::var("CI").is_ok_and(|ci| ci == "true");
    let peers = peers::Peers::get(root, install)?;
    process::build_trellis(root)?;
    if suite != Some(Suite::Demo) {
        mqtt::run(root, &peers)?;
    }
    if suite != Some(Suite::Mqtt) {
        demo::run(root, &peers)?;
    }
    Ok(())
}
