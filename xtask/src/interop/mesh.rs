//! BlueZ's bluetooth-meshd and `trellis mesh-node`, each as the provisioner of the other, and what tshark makes of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::peers::MeshPeers;
use super::process::{output, trellis};

/// Runs both directions, and has tshark decrypt what was on the air.
pub(crate) fn run(root: &Path, peers: &MeshPeers) -> anyhow::Result<()> {
    let folder = root.join("target/interop/mesh");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let program = PathBuf::from(trellis(root, "mesh-node").get_program());
    let mut probe = Command::new("bash");
    probe.arg(root.join("testdata/peers/meshd-unit.sh")).arg(&peers.python);
    probe.arg(root.join("interop/mesh_bluez.py")).arg(&program).arg(&folder);
    print!("{}", output(&mut probe)?);
    let mut update = Command::new(&peers.python);
    update.arg(root.join("interop/mesh_iv_update.py")).arg(&program).arg(&folder);
    print!("{}", output(&mut update)?);
    check_capture(&folder)?;
    check_other_capture(&folder)?;
    check_update_capture(&folder)
}

fn keys_of(folder: &Path, run: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&fs::read_to_string(folder.join(run).with_extension("json"))?)?)
}

/// How many PDUs tshark finds malformed, and the opcodes of the messages that it decrypted.
fn dissect(tshark: &mut Command) -> anyhow::Result<(usize, BTreeSet<String>)> {
    tshark.args(["-T", "fields", "-e", "_ws.malformed", "-e", "btmesh.model.opcode"]);
    let shown = output(tshark)?;
    let malformed = shown.lines().filter(|line| !line.starts_with('\t')).count();
    let opcodes =
        shown.lines().filter_map(|line| line.split('\t').nth(1)).filter(|opcode| !opcode.is_empty());
    Ok((malformed, opcodes.map(str::to_owned).collect()))
}

/// tshark on one run's capture, with these NetKeys and AppKeys at these IV Indexes, and the device key of the two ends.
fn tshark(
    folder: &Path,
    run: &str,
    keys: &[(&str, &str)],
    iv_indexes: &[u32],
    device: (&str, [&str; 2]),
) -> Command {
    let mut tshark = Command::new("tshark");
    tshark.arg("-2").arg("-r").arg(folder.join(run).with_extension("pcap"));
    for (net_key, app_key) in keys {
        for iv_index in iv_indexes {
            let row = format!("uat:btmesh_nw_keys:\"0x{net_key}\",\"0x{app_key}\",\"0x{iv_index:08x}\"");
            tshark.args(["-o", &row]);
        }
    }
    let (dev_key, addresses) = device;
    for address in addresses {
        tshark.args(["-o", &format!("uat:btmesh_dev_keys:\"0x{dev_key}\",\"{address}\"")]);
    }
    tshark
}

/// Checks that nothing is malformed, and that tshark decrypted messages with these opcodes.
fn check(tshark: &mut Command, run: &str, wanted: &[&str]) -> anyhow::Result<()> {
    let (malformed, opcodes) = dissect(tshark)?;
    println!("tshark, {run}: {malformed} malformed; messages decrypted: {opcodes:?}");
    ensure!(malformed == 0, "tshark finds PDUs malformed");
    for &opcode in wanted {
        ensure!(opcodes.contains(opcode), "tshark did not decrypt a message {opcode}");
    }
    Ok(())
}

/// The run in which we provision meshd.
fn check_capture(folder: &Path) -> anyhow::Result<()> {
    let run = "we-provision";
    let keys = keys_of(folder, run)?;
    let field = |name: &str, at: usize| keys[name][at].as_str().context("a key");
    let pairs =
        [(field("net_keys", 0)?, field("app_keys", 0)?), (field("net_keys", 1)?, field("app_keys", 1)?)];
    let dev_key = keys["dev_key"].as_str().context("a device key")?;
    // The IV Index before and after the update.
    let mut tshark = tshark(folder, run, &pairs, &[0, 1], (dev_key, ["0x0200", "0x0005"]));
    let wanted = ["0x0002", "0x8003", "0x803e", "0x801f", "0x8202", "0x8044", "0x8017"];
    check(&mut tshark, run, &wanted)
}

/// The run in which meshd begins and ends an IV Update.
fn check_update_capture(folder: &Path) -> anyhow::Result<()> {
    let run = "meshd-updates";
    let keys = keys_of(folder, run)?;
    let net_key = keys["net_keys"][0].as_str().context("a key")?;
    let dev_key = keys["dev_key"].as_str().context("a device key")?;
    let unused = "0".repeat(32);
    for iv_index in [0, 1] {
        let mut tshark =
            tshark(folder, run, &[(net_key, &unused)], &[iv_index], (dev_key, ["0x0100", "0x0001"]));
        check(&mut tshark, &format!("{run}, IV Index {iv_index}"), &["0x800c", "0x800e"])?;
    }
    Ok(())
}

/// The run in which meshd provisions us, whose application key only meshd knows.
fn check_other_capture(folder: &Path) -> anyhow::Result<()> {
    let run = "meshd-provisions";
    let keys = keys_of(folder, run)?;
    let unused = "0".repeat(32);
    let net_keys = keys["net_keys"].as_array().context("keys")?.iter().filter_map(Value::as_str);
    let pairs: Vec<(&str, &str)> = net_keys.map(|net_key| (net_key, unused.as_str())).collect();
    let dev_key = keys["dev_key"].as_str().context("a device key")?;
    let mut tshark = tshark(folder, run, &pairs, &[0], (dev_key, ["0x0100", "0x0001"]));
    check(&mut tshark, run, &["0x8003", "0x803e", "0x801f", "0x8019", "0x8044"])
}
