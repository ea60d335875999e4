//! `cargo xtask interop`: real peers against us. A peer that cannot be had is a failure, never skipped.

mod demo;
mod mesh;
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
    /// BlueZ's bluetooth-meshd and a node of ours, each as the provisioner of the other
    Mesh,
}

/// Runs one suite, or all.
pub(crate) fn run(root: &Path, suite: Option<Suite>, install: bool) -> anyhow::Result<()> {
    let install = install || std::env::var("CI").is_ok_and(|ci| ci == "true");
    process::build_trellis(root)?;
    if matches!(suite, None | Some(Suite::Mesh)) {
        mesh::run(root, &peers::MeshPeers::get(root, install)?)?;
    }
    if suite == Some(Suite::Mesh) {
        return Ok(());
    }
    let peers = peers::Peers::get(root, install)?;
    if suite != Some(Suite::Demo) {
        mqtt::run(root, &peers)?;
    }
    if suite != Some(Suite::Mqtt) {
        demo::run(root, &peers)?;
    }
    Ok(())
}
