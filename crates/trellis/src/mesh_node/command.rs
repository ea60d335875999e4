use std::str::FromStr;

use anyhow::{Context as _, bail};
use mesh_crypto::{LabelUuid, NetKey};
use mesh_proto::keys::MessageKey;
use mesh_proto::node::IvUpdateCommand;
use mesh_proto::upper_transport::Destination;
use mesh_wire::KeyIndex;
use mesh_wire::address::{Address, UnicastAddress};

use super::oob::ProvisionerOob;
use super::{any_octets, octets};

/// A line of the standard input.
#[derive(Debug)]
pub(super) enum Command {
    Create {
        net_key: NetKey,
        address: UnicastAddress,
    },
    /// Without an address, the next that is free.
    Provision {
        uuid: [u8; 16],
        address: Option<UnicastAddress>,
        oob: ProvisionerOob,
    },
    Cancel,
    Enter(String),
    Send {
        destination: Destination,
        key: MessageKey,
        payload: Vec<u8>,
        segmented: bool,
    },
    Local(Vec<u8>),
    Iv(IvUpdateCommand),
    LowPower(bool),
    Poll,
    Quit,
}

impl FromStr for Command {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> anyhow::Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok(match words[..] {
            ["create", net_key, at] => {
                Self::Create { net_key: NetKey::new(octets(net_key)?), address: unicast(at)? }
            }
            ["provision", uuid, at, ref oob @ ..] => Self::Provision {
                uuid: octets(uuid)?,
                address: if at == "next" { None } else { Some(unicast(at)?) },
                oob: ProvisionerOob::parse(oob)?,
            },
            ["cancel"] => Self::Cancel,
            ["enter", value] => Self::Enter(value.to_owned()),
            ["send", to, key, payload] => Self::send(to, key, payload, false)?,
            ["send", to, key, payload, "segmented"] => Self::send(to, key, payload, true)?,
            ["local", payload] => Self::Local(any_octets(payload)?),
            ["iv", "start"] => Self::Iv(IvUpdateCommand::Start),
            ["iv", "finish"] => Self::Iv(IvUpdateCommand::Finish),
            ["iv", "test"] => Self::Iv(IvUpdateCommand::TestMode(true)),
            ["low-power", "on"] => Self::LowPower(true),
            ["low-power", "off"] => Self::LowPower(false),
            ["poll"] => Self::Poll,
            ["quit"] => Self::Quit,
            _ => bail!("no such command: {line}; see --help"),
        })
    }
}

impl Command {
    fn send(to: &str, key: &str, payload: &str, segmented: bool) -> anyhow::Result<Self> {
        let destination = match to.strip_prefix("label:") {
            Some(label) => Destination::Label(LabelUuid(octets(label)?)),
            None => Destination::Address(address(to)?),
        };
        let key = match key.strip_prefix("app:") {
            Some(index) => {
                let index = index.parse().ok().and_then(KeyIndex::new).context("no index of an AppKey")?;
                MessageKey::App(index)
            }
            None if key == "dev" => MessageKey::RemoteDevice,
            None => bail!("{key} is no key; say dev or app:INDEX"),
        };
        let payload = any_octets(payload)?;
        Ok(Self::Send { destination, key, payload, segmented })
    }
}

fn address(text: &str) -> anyhow::Result<Address> {
    let address = u16::from_str_radix(text, 16).context("an address has four hexadecimal digits")?;
    Ok(Address::from(address))
}

fn unicast(text: &str) -> anyhow::Result<UnicastAddress> {
    address(text)?.unicast().context("an element's address is 0001 to 7fff")
}
