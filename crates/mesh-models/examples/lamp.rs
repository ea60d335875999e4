//! A lamp: one element with a Generic OnOff Server, and what its firmware's loop does.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;

use clock::Instant;
use mesh_crypto::{AppKey, DevKey, NetKey};
use mesh_models::{generic::OnOffServer, messages::ON_OFF_SERVER};
use mesh_proto::access::Element;
use mesh_proto::bearer::{Received, Transmission};
use mesh_proto::foundation::Product;
use mesh_proto::network::Relay;
use mesh_proto::node::{Command, Event, Node, NodeConfig, NodeOptions, Provisioned};
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::foundation::{ConfigMessage, ModelRef, SubscriptionChange};
use mesh_wire::{CompanyId, IvIndex, KeyIndex, Transmit, Ttl};

/// A node as provisioning leaves it, which gives it keys and an address.
pub(crate) fn node(address: u16, element: Element) -> Result<Node, Box<dyn Error>> {
    let address = UnicastAddress::try_from(address)?;
    let transmit = Transmit::new(3, std::time::Duration::from_millis(20)).ok_or("no such timing")?;
    let (net_key, dev_key) = (NetKey::new([1; 16]), DevKey::new([2; 16]));
    let provisioned =
        Provisioned { net_key, net_key_index: KeyIndex::ZERO, iv_index: IvIndex(0), address, dev_key };
    let config = NodeConfig {
        product: Product { company: CompanyId(0xffff), product: 1, version: 1 },
        elements: vec![element],
        network_transmit: transmit,
        relay: Relay { enabled: true, retransmit: transmit },
        default_ttl: Ttl::new(5).ok_or("no such TTL")?,
        seed: [3; 32], // in a product: from its random number generator
        options: NodeOptions::default(),
    };
    let mut node = Node::new(provisioned, config);
    let key = AppKey::new([4; 16]); // in a product: a Configuration Client sends this, and what follows
    let add = ConfigMessage::AppKeyAdd { net_key_index: KeyIndex::ZERO, index: KeyIndex::ZERO, key };
    node.handle_command(Instant::ORIGIN, Command::Configure(add))?;
    Ok(node)
}

/// A lamp that belongs to the group 0xC000.
pub(crate) fn lamp(address: u16) -> Result<Node, Box<dyn Error>> {
    let mut lamp = node(address, Element::new(0).with_server(OnOffServer::new(false)))?;
    let model = ModelRef { element: lamp.address(), model: ON_OFF_SERVER };
    let (change, address) = (SubscriptionChange::Add, Address::from(0xc000));
    for request in [
        ConfigMessage::ModelAppBind { index: KeyIndex::ZERO, model },
        ConfigMessage::ModelSubscriptionChange { change, address, model },
    ] {
        lamp.handle_command(Instant::ORIGIN, Command::Configure(request))?;
    }
    Ok(lamp)
}

/// One turn of the loop: in what the radio heard, out what it is to send, and the light follows.
pub(crate) fn turn(node: &mut Node, now: Instant, heard: Option<&Received<'_>>) -> Vec<Transmission> {
    heard.into_iter().for_each(|heard| node.handle_pdu(now, heard));
    if node.poll_timeout().is_some_and(|due| due <= now) {
        node.handle_timeout(now);
    }
    while let Some(event) = node.poll_event() {
        if let (Event::Changed { .. }, Some(lamp)) = (event, node.server::<OnOffServer>(0)) {
            println!("{} is {}", node.address(), if lamp.is_on(now) { "on" } else { "off" });
        }
    }
    std::iter::from_fn(|| node.poll_transmit()).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut lamp = lamp(0x0002)?;
    let sent = turn(&mut lamp, Instant::ORIGIN, None);
    println!("{} advertisements, next turn at {:?}", sent.len(), lamp.poll_timeout());
    Ok(())
}
