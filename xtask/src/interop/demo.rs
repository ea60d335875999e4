//! The demo as a user sees it: its topics, a hundred round trips, and its capture in tshark.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::peers::Peers;
use super::process::{Running, free_port, output, trellis};

/// The farthest lamp of the demo's building; `bridge/info` has to agree.
const ROOM: &str = "bedroom";
const HOPS: u64 = 4;
const ROUND_TRIPS: usize = 100;
const MEDIAN_MS: u64 = 400;

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
    demo.args(["--mqtt-port", &port.to_string(), "--http-port", &http.to_string(), "--seed", "7"]);
    demo.arg("--data-dir").arg(folder.join("data")).arg("--pcap").arg(&pcap);
    let demo = Running::server(&mut demo, http)?;

    let lamp = format!("{ROOM}/ceiling");
    let round_trips = Path::new(env!("CARGO_MANIFEST_DIR")).join("../interop/round_trips.py");
    let report = output(Command::new(&peers.python).arg(round_trips).args([
        &port.to_string(),
        &lamp,
        &ROUND_TRIPS.to_string(),
    ]))?;
    print!("{ROUND_TRIPS} round trips to {lamp}: {report}");
    let report: Value = serde_json::from_str(&report)?;
    ensure!(report["confirmed"] == ROUND_TRIPS && report["lost"] == 0, "round trips were lost");
    ensure!(
        report["median_ms"].as_u64().is_some_and(|ms| ms < MEDIAN_MS),
        "the median is not below {MEDIAN_MS} ms"
    );
    check_topics(port)?;
    check_farthest(port)?;
    demo.interrupt()?;
    check_capture(&pcap)
}

/// What `mosquitto_sub -t mesh/#` shows.
fn check_topics(port: u16) -> anyhow::Result<()> {
    let port = port.to_string();
    let mut subscribe = Command::new("mosquitto_sub");
    subscribe.args(["-h", "127.0.0.1", "-p", &port, "-t", "mesh/#", "-v", "-C", "11"]);
    let shown = output(&mut subscribe)?;
    let payload_of = |topic: &str| {
        let line = shown.lines().find(|line| line.split(' ').next() == Some(topic));
        line.map(|line| line[topic.len() + 1..].to_owned())
            .with_context(|| format!("no {topic} in:\n{shown}"))
    };
    ensure!(payload_of("mesh/bridge/state")? == r#"{"state":"online"}"#);
    let devices: Value = serde_json::from_str(&payload_of("mesh/bridge/devices")?)?;
    let interviewed =
        devices.as_array().map(|list| list.iter().filter(|device| device["interviewed"] == true).count());
    ensure!(interviewed == Some(8), "eight lamps have said what they are, not {interviewed:?}");
    Ok(())
}

/// What `bridge/info` says of the farthest lamp. A distance is the smallest that was seen, so that lamps which have
/// said little yet may seem farther than they are: they are asked some more.
fn check_farthest(port: u16) -> anyhow::Result<()> {
    let port = port.to_string();
    let run = |program: &str, arguments: &[&str]| {
        output(Command::new(program).args(["-h", "127.0.0.1", "-p", &port]).args(arguments))
    };
    let mut farthest = Value::Null;
    for _ in 0..10 {
        let info: Value =
            serde_json::from_str(&run("mosquitto_sub", &["-t", "mesh/bridge/info", "-C", "1"])?)?;
        farthest = info["farthest"].clone();
        if farthest["hops"] == HOPS && farthest["name"].as_str().is_some_and(|name| name.starts_with(ROOM)) {
            println!("bridge/info: the farthest lamp is {farthest}");
            return Ok(());
        }
        for lamp in ["living", "study", ROOM]
            .iter()
            .flat_map(|room| [format!("{room}/ceiling"), format!("{room}/table")])
        {
            // The state is published when the lamp has answered.
            let ask = format!(
                "(sleep 0.2; mosquitto_pub -h 127.0.0.1 -p {port} -t 'mesh/{lamp}/get' -m '') & \
                 mosquitto_sub -h 127.0.0.1 -p {port} -t 'mesh/{lamp}' -C 2 -W 10"
            );
            output(Command::new("sh").args(["-c", &ask]))?;
        }
    }
    bail!("bridge/info names {farthest}, not a lamp of the {ROOM} at {HOPS} hops")
}

/// That tshark decrypts the commands and their confirmations, relayed with falling TTL.
fn check_capture(pcap: &Path) -> anyhow::Result<()> {
    let mut keys = pcap.as_os_str().to_owned();
    keys.push(".keys");
    let keys = Path::new(&keys);
    let mut command = Command::new("xargs");
    command.arg("tshark").arg("-2").arg("-r").arg(pcap);
    // xargs puts the keys behind what is given here, so that the fields come first.
    command.args(["-Y", "btmesh.model.opcode", "-T", "fields"]);
    for field in ["btmesh.src", "btmesh.dst", "btmesh.ttl", "btmesh.model.opcode"] {
        command.args(["-e", field]);
    }
    let decrypted = output(command.stdin(fs::File::open(keys)?))?;
    for (what, opcode, src, dst) in
        [("Generic OnOff Set", "0x8202", "1", "8"), ("Generic OnOff Status", "0x8204", "8", "1")]
    {
        let ttls: BTreeSet<u8> = (decrypted.lines())
            .map(|line| line.split('\t').collect::<Vec<&str>>())
            .filter(|fields| fields[..2] == [src, dst] && fields[3] == opcode)
            .filter_map(|fields| fields[2].parse().ok())
            .collect();
        println!("tshark: {what} from {src} to {dst} with TTL {ttls:?}");
        ensure!(
            [7, 6, 5, 4].iter().all(|ttl| ttls.contains(ttl)),
            "{what} was not seen on each of four hops"
        );
    }
    Ok(())
}
