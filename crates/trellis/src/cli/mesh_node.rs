use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use mesh_proto::low_power::LowPowerSettings;

use mesh_proto::provisioning::OobActions;
use mesh_wire::provisioning::{InputAction, OutputAction};

use crate::mesh_node::oob::{self, DeviceOob, OobKey};
use crate::mesh_node::{self, Bearer, Feature, Options};

/// Run one Bluetooth Mesh node by hand
///
/// The node waits to be provisioned, or makes a network of its own. It reads commands from the standard input, a line
/// each, and prints what happens, a JSON object each:
///
///   create NETKEY ADDRESS                  make a network, with this node as its provisioner
///   provision UUID ADDRESS|next [HOW]      provision a device into it; HOW it is authenticated, if at all:
///     static HEX                             by a value that came with it
///     output ACTION[:SIZE]                   by what it shows: blink, beep, vibrate, number, string
///     input ACTION[:SIZE]                    by what is done at it: push, twist, number, string
///     ... key HEX                            and, or only, by its public key
///   cancel                                 end a provisioning that is under way
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
    /// What carries advertisements: unix:PATH is the socket of `bluetooth-meshd --io unit:PATH`, or of a node that runs with
    /// unix-listen:PATH; sim is simulated air
    /// with three lamps along a corridor that wait to be provisioned, sim:N with so many
    #[arg(long, value_parser = bearer)]
    bearer: Bearer,
    /// The UUID by which the node is known before it is provisioned; random when it is left out
    #[arg(long, value_name = "HEX", value_parser = octets::<16>)]
    uuid: Option<[u8; 16]>,
    /// A value of up to 32 octets that the provisioner has too, for authentication
    #[arg(long, value_name = "HEX", value_parser = static_value)]
    static_oob: Option<Octets>,
    /// How the device can show a value: blink, beep, vibrate, number, string
    #[arg(long, value_name = "ACTION", value_parser = oob::output_action, value_delimiter = ',')]
    output_oob: Vec<OutputAction>,
    /// Most digits or characters that it can show
    #[arg(long, value_name = "SIZE", default_value = "4", value_parser = clap::value_parser!(u8).range(1..=8))]
    output_oob_size: u8,
    /// How a value can be given to the device, by `enter`: push, twist, number, string
    #[arg(long, value_name = "ACTION", value_parser = oob::input_action, value_delimiter = ',')]
    input_oob: Vec<InputAction>,
    /// Most digits or characters that can be given to it
    #[arg(long, value_name = "SIZE", default_value = "4", value_parser = clap::value_parser!(u8).range(1..=8))]
    input_oob_size: u8,
    /// The private key of the device, whose public key is printed, for the provisioner; `random` for a new one, which
    /// --data-dir keeps
    #[arg(long, value_name = "HEX|random", value_parser = oob::key)]
    oob_key: Option<OobKey>,
    /// Refuse to be provisioned without authentication
    #[arg(long)]
    only_oob: bool,
    /// After how long without an answer provisioning repeats itself; BlueZ needs 3s
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = humantime::parse_duration)]
    pb_adv_retry: Duration,
    /// What the node is beyond a relay: a Friend for nodes that sleep, or one of those
    #[arg(long, value_name = "FEATURE", value_enum, value_delimiter = ',')]
    features: Vec<Feature>,
    /// How long a node that sleeps gives its Friend to prepare an answer (Receive Delay): 10ms to 255ms
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = humantime::parse_duration)]
    receive_delay: Duration,
    /// After how long a silence a friendship is over (Poll Timeout): 1s to 95h 59m 59.9s
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    poll_timeout: Duration,
    /// How often a node that sleeps asks its Friend when nothing waits; more often than the Poll Timeout
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    poll_interval: Duration,
    /// Write what was on the air to a file that Wireshark reads
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Keep what the node must remember here, so that it goes on after a restart; it forgets everything without
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Octets in hexadecimal.
#[derive(Clone, Debug)]
struct Octets(Vec<u8>);

/// Most devices in simulated air.
const MAX_DEVICES: u8 = 100;

fn bearer(text: &str) -> anyhow::Result<Bearer> {
    match text.split_once(':') {
        Some(("unix", path)) if !path.is_empty() => Ok(Bearer::Unix(path.into())),
        Some(("unix-listen", path)) if !path.is_empty() => Ok(Bearer::UnixListen(path.into())),
        None if text == "sim" => Ok(Bearer::Simulated(3)),
        Some(("sim", count)) => match count.parse() {
            Ok(count) if count <= MAX_DEVICES => Ok(Bearer::Simulated(count)),
            _ => bail!("{count} is no number of lamps; say 0 to {MAX_DEVICES}"),
        },
        _ => bail!("{text} is no bearer; say unix:PATH, unix-listen:PATH, sim or sim:N"),
    }
}

fn static_value(text: &str) -> anyhow::Result<Octets> {
    oob::static_value(text).map(Octets)
}

fn octets<const N: usize>(text: &str) -> anyhow::Result<[u8; N]> {
    mesh_node::octets(text)
}

/// A bit for each action, and the size if there is any.
fn actions(actions: impl Iterator<Item = u8>, size: u8) -> OobActions {
    match actions.fold(0, |bits, action| bits | 1 << action) {
        0 => OobActions::default(),
        actions => OobActions { size, actions },
    }
}

pub(crate) async fn run(args: MeshNode) -> anyhow::Result<()> {
    let low_power = LowPowerSettings::with_times(args.receive_delay, args.poll_timeout, args.poll_interval)?;
    mesh_node::run(Options {
        bearer: args.bearer,
        uuid: args.uuid,
        oob: DeviceOob {
            static_value: args.static_oob.map(|Octets(octets)| octets),
            output: actions(args.output_oob.iter().map(|&action| action as u8), args.output_oob_size),
            input: actions(args.input_oob.iter().map(|&action| action as u8), args.input_oob_size),
            key: args.oob_key,
            is_required: args.only_oob,
        },
        pb_adv_retry: args.pb_adv_retry,
        features: args.features,
        low_power,
        pcap: args.pcap,
        data_dir: args.data_dir,
    })
    .await
}
