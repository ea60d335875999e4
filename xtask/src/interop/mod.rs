//! `cargo xtask interop`: real peers against us. A peer that cannot be had is a failure, never skipped.

pub(crate) mod capture;
mod demo;
pub(crate) mod home;
mod mesh;
mod mosquitto;
mod mqtt;
mod peers;
mod process;
mod secure;

use std::path::Path;

use clap::ValueEnum;

pub(crate) use mosquitto::Mosquitto;
pub(crate) use peers::Peers;
pub(crate) use process::{Running, build_trellis, free_port, next_line, pause, trellis};

/// What is run against what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// mosquitto's clients, paho-mqtt, MQTT.js, gmqtt, aiomqtt and rumqttc on the broker, and the examples of docs/clients
    Mqtt,
    /// The demo: everything that its lamps can be, a cut relay, and its capture in tshark
    Demo,
    /// The gateway in front of mosquitto
    Gateway,
    /// BlueZ's bluetooth-meshd and a node of ours, each as the provisioner of the other
    Mesh,
}

/// Runs one suite, or all.
pub(crate) fn run(root: &Path, suite: Option<Suite>, install: bool) -> anyhow::Result<()> {
    let is_wanted = |one| suite.is_none_or(|suite| suite == one);
    if is_wanted(Suite::Mesh) {
        build_trellis(root)?;
        mesh::run(root, &peers::MeshPeers::get(root, install || is_ci())?)?;
    }
    if suite == Some(Suite::Mesh) {
        return Ok(());
    }
    let peers = peers(root, install)?;
    if is_wanted(Suite::Mqtt) {
        mqtt::run(root, &peers)?;
        secure::run(root, &peers)?;
    }
    if is_wanted(Suite::Demo) {
        demo::run(root, &peers)?;
    }
    if is_wanted(Suite::Gateway) {
        mosquitto::run(root, &peers)?;
    }
    Ok(())
}

/// The peers, and the program that they are run against.
pub(crate) fn peers(root: &Path, install: bool) -> anyhow::Result<Peers> {
    let peers = Peers::get(root, install || is_ci())?;
    build_trellis(root)?;
    Ok(peers)
}

/// The program that shows system calls.
pub(crate) fn tracer(install: bool) -> anyhow::Result<()> {
    peers::debian(&[("strace", "strace")], install || is_ci())
}

fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| ci == "true")
}
