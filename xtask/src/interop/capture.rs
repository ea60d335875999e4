//! What tshark says of a capture, with the keys that the program wrote beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::process::output;

/// A network PDU as tshark decrypts it: originator, sequence number, destination, TTL, and the decrypted rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pdu {
    pub(crate) src: u16,
    pub(crate) seq: u32,
    pub(crate) dst: u16,
    pub(crate) ttl: u8,
    /// What it carries under the network layer, in hex.
    pub(crate) transport: String,
    /// The opcode of an access message that fits into it, in hex.
    pub(crate) opcode: String,
}

/// All network PDUs of a capture that tshark can decrypt, in order.
pub(crate) fn pdus(pcap: &Path) -> anyhow::Result<Vec<Pdu>> {
    let mut keys = pcap.as_os_str().to_owned();
    keys.push(".keys");
    let keys = Path::new(&keys);
    let mut command = Command::new("xargs");
    command.arg("tshark").arg("-2").arg("-r").arg(pcap);
    // xargs puts the keys behind what is given here, so that the fields come first.
    command.args(["-Y", "btmesh.dst", "-T", "fields"]);
    for field in ["src", "seq", "dst", "ttl", "transp_pdu", "model.opcode"] {
        command.arg("-e").arg(format!("btmesh.{field}"));
    }
    let file = fs::File::open(keys).with_context(|| format!("there is no {}", keys.display()))?;
    let text = output(command.stdin(file))?;
    text.lines().map(parse).collect()
}

fn parse(line: &str) -> anyhow::Result<Pdu> {
    let fields: Vec<&str> = line.split('\t').collect();
    ensure!(fields.len() == 6, "tshark prints {line:?}");
    let wrong = || format!("tshark prints {line:?}");
    Ok(Pdu {
        src: fields[0].parse().with_context(wrong)?,
        seq: fields[1].parse().with_context(wrong)?,
        dst: fields[2].parse().with_context(wrong)?,
        ttl: fields[3].parse().with_context(wrong)?,
        transport: fields[4].to_owned(),
        opcode: fields[5].to_owned(),
    })
}

/// Which sequence numbers were used for more than one PDU: originator and number.
pub(crate) fn repeated<'a>(pdus: impl IntoIterator<Item = &'a Pdu>) -> Vec<(u16, u32)> {
    let mut first: BTreeMap<(u16, u32), (u16, &str)> = BTreeMap::new();
    let mut repeated = Vec::new();
    for pdu in pdus {
        let said = (pdu.dst, pdu.transport.as_str());
        if *first.entry((pdu.src, pdu.seq)).or_insert(said) != said {
            repeated.push((pdu.src, pdu.seq));
        }
    }
    repeated
}
