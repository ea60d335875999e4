//! The demo as a user sees it: its topics, everything that its lamps can be, a relay that is cut, and its capture in
//! tshark.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::capture::{self, Pdu};
use super::home;
use super::peers::Peers;
use super::process::{Running, check, free_port, output, trellis};

const ROUND_TRIPS: usize = 100;

/// A lamp that only one relay reaches, and that relay.
const LAMP: &str = "ground/shed/lamp";
const RELAY: &str = "ground/office/ceiling";

/// Runs the demo and looks at all that it shows.
pub(crate) fn run(root: &Path, peers: &Peers) -> anyhow::Result<()> {
    let folder = root.join("target/interop/demo");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let (port, http) = (free_port()?, free_port()?);
    let pcap = folder.join("demo.pcap");
    let mut demo = trellis(root, "demo");
    demo.args(["--mqtt-port", &port.to_string(), "--http-port", &http.to_string(), "--seed", "7", "--still"]);
    demo.arg("--data-dir").arg(folder.join("data")).arg("--pcap").arg(&pcap);
    let demo = Running::server(&mut demo, http)?;

    let suite = |arguments: &[&str]| home::run(root, peers, port, arguments);
    suite(&["lamps"])?;
    suite(&["round-trips", &ROUND_TRIPS.to_string()])?;
    suite(&["slider", "ground/living/ceiling"])?;
    let group = suite(&["group", "lights"])?;
    ensure!(group["members"] == 10, "the group of all rooms has {} members", group["members"]);
    publish(port, "demo/radio-cut", RELAY)?;
    suite(&["cut", LAMP])?;
    publish(port, "demo/radio-mend", RELAY)?;
    suite(&["mended", LAMP])?;
    check_topics(port)?;
    demo.interrupt()?;
    check_capture(&pcap, &group)
}

fn publish(port: u16, topic: &str, payload: &str) -> anyhow::Result<()> {
    let mut publish = Command::new("mosquitto_pub");
    check(publish.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-t", topic, "-m", payload]))
}

/// What `mosquitto_sub -t mesh/#` shows.
fn check_topics(port: u16) -> anyhow::Result<()> {
    let mut subscribe = Command::new("mosquitto_sub");
    subscribe.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", "mesh/#", "-v", "-W", "2"]);
    // It ends with its time, which is no error here.
    let shown = String::from_utf8_lossy(&subscribe.output()?.stdout).into_owned();
    let payload_of = |topic: &str| {
        let line = shown.lines().find(|line| line.split(' ').next() == Some(topic));
        line.map(|line| line[topic.len() + 1..].to_owned())
            .with_context(|| format!("no {topic} in:\n{shown}"))
    };
    ensure!(payload_of("mesh/bridge/state")? == r#"{"state":"online"}"#);
    let devices: Value = serde_json::from_str(&payload_of("mesh/bridge/devices")?)?;
    let devices = devices.as_array().context("bridge/devices is no list")?;
    let interviewed = devices.iter().filter(|device| device["interviewed"] == true).count();
    println!("bridge/devices: {} nodes, {interviewed} interviewed", devices.len());
    ensure!(devices.len() >= 24 && interviewed == devices.len(), "not all nodes have said what they are");
    let info: Value = serde_json::from_str(&payload_of("mesh/bridge/info")?)?;
    println!("bridge/info: the farthest node is {}", info["farthest"]);
    ensure!(info["farthest"]["hops"].as_u64().is_some_and(|hops| hops >= 4), "nobody is four hops away");
    Ok(())
}

/// That tshark decrypts the commands, relayed with falling TTL; that a group is one message; and that no sequence
/// number came twice.
fn check_capture(pcap: &Path, group: &Value) -> anyhow::Result<()> {
    let pdus = capture::pdus(pcap)?;
    println!("tshark: {} network PDUs decrypted", pdus.len());
    let address = group["address"].as_str().and_then(|hex| u16::from_str_radix(hex, 16).ok());
    let to_group: BTreeSet<u32> =
        pdus.iter().filter(|pdu| pdu.src == 1 && Some(pdu.dst) == address).map(|pdu| pdu.seq).collect();
    println!("tshark: the command to the group of ten took {} sequence number", to_group.len());
    ensure!(to_group.len() == 1, "it should be one message");
    let ttls = |of: &dyn Fn(&Pdu) -> bool| -> BTreeSet<u8> {
        pdus.iter().filter(|pdu| of(pdu)).map(|pdu| pdu.ttl).collect()
    };
    let commands = ttls(&|pdu| pdu.src == 1 && Some(pdu.dst) == address);
    println!("tshark: it was seen with TTL {commands:?}");
    ensure!(commands.len() >= 4, "it was not relayed over four hops");
    let repeated = capture::repeated(&pdus);
    ensure!(repeated.is_empty(), "used for two PDUs (originator, sequence number): {repeated:?}");
    let malformed = output(Command::new("tshark").arg("-r").arg(pcap).args(["-Y", "_ws.malformed"]))?;
    ensure!(malformed.trim().is_empty(), "tshark finds malformed packets:\n{malformed}");
    Ok(())
}
