use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::bail;

use crate::mesh_node::{self, Feature, Options};

/// Run one Bluetooth Mesh node by hand
///
/// The node waits to be provisioned, or makes a network of its own. It reads commands from the standard input, a line
/// each, and prints what happens, a JSON object each:
///
///   create NETKEY ADDRESS                  make a network, with this node as its provisioner
///   provision UUID ADDRESS [static HEX]    provision a device into it
///   enter VALUE                            the number or text that is asked for
///   send DST app:INDEX|dev HEX [segmented] send an access message; DST is an address or label:UUID
///   local HEX                              have the own Configuration Server carry out a message
///   iv start|finish|test                   begin or end an IV Update, or lift its 96 hours
///   low-power on|off                      look for a Friend and sleep, or stay awake
///   poll                                   ask the Friend now
///   quit
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct MeshNode {
    /// What carries advertisements: unix:PATH is the socket of `bluetooth-meshd --io unit:PATH`
    #[arg(long)]
    bearer: Bearer,
    /// The UUID by which the node is known before it is provisioned; random when it is left out
    #[arg(long, value_name = "HEX", value_parser = octets::<16>)]
    uuid: Option<[u8; 16]>,
    /// A value of up to 32 octets that the provisioner has too, for authentication
    #[arg(long, value_name = "HEX", value_parser = any_octets)]
    static_oob: Option<Octets>,
    /// After how long without an answer provisioning repeats itself; BlueZ needs 3s
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = humantime::parse_duration)]
    pb_adv_retry: Duration,
    /// What the node is beyond a relay: a Friend for nodes that sleep, or one of those
    #[arg(long, value_name = "FEATURE", value_enum, value_delimiter = ',')]
    features: Vec<Feature>,
    /// Write what was on the air to a file that Wireshark reads
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
}

/// Octets in hexadecimal.
#[derive(Clone, Debug)]
struct Octets(Vec<u8>);

#[derive(Clone, Debug)]
enum Bearer {
    Unix(PathBuf),
}

impl FromStr for Bearer {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            _ => bail!("{text} is no bearer; say unix:PATH"),
        }
    }
}

fn any_octets(text: &str) -> anyhow::Result<Octets> {
    mesh_node::any_octets(text).map(Octets)
}

fn octets<const N: usize>(text: &str) -> anyhow::Result<[u8; N]> {
    mesh_node::octets(text)
}

pub(crate) async fn run(args: MeshNode) -> anyhow::Result<()> {
    let Bearer::Unix(path) = args.bearer;
    let uuid = match args.uuid {
        Some(uuid) => uuid,
        None => mesh_node::random_uuid()?,
    };
    mesh_node::run(Options {
        path,
        uuid,
        static_oob: args.static_oob.map(|Octets(octets)| octets),
        pb_adv_retry: args.pb_adv_retry,
        features: args.features,
        pcap: args.pcap,
    })
    .await
}
