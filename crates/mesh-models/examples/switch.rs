//! A switch on a wall, and a lamp that hears it.
#![allow(
    clippy::print_stdout,
    dead_code,
    reason = "an example shows what happens, and uses a part of another"
)]

use std::error::Error;

use clock::Instant;
use mesh_models::messages::ON_OFF_CLIENT;
use mesh_models::switch::Switch;
use mesh_proto::access::Element;
use mesh_proto::bearer::Received;
use mesh_proto::node::{Command, Node};
use mesh_wire::KeyIndex;
use mesh_wire::address::Address;
use mesh_wire::foundation::{
    ConfigMessage, ModelRef, Publication, PublishDestination, PublishPeriod, PublishRetransmit,
};

#[path = "lamp.rs"]
mod lamp;

/// A node whose Generic OnOff Client publishes to the group 0xC000, as a Configuration Client sets it.
pub(crate) fn switch(address: u16) -> Result<Node, Box<dyn Error>> {
    let mut switch = lamp::node(address, Element::new(0).with_host(ON_OFF_CLIENT, &[]))?;
    let model = ModelRef { element: switch.address(), model: ON_OFF_CLIENT };
    let publication = Publication {
        destination: PublishDestination::Address(Address::from(0xc000)),
        app_key_index: KeyIndex::ZERO,
        friendship_credentials: false,
        ttl: None,
        period: PublishPeriod(0),
        retransmit: PublishRetransmit(0),
    };
    for request in [
        ConfigMessage::ModelAppBind { index: KeyIndex::ZERO, model },
        ConfigMessage::ModelPublicationSet { publication, model },
    ] {
        switch.handle_command(Instant::ORIGIN, Command::Configure(request))?;
    }
    Ok(switch)
}

/// Runs the example.
pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let (mut switch, mut lamp) = (switch(0x0001)?, lamp::lamp(0x0002)?);
    let now = Instant::ORIGIN;
    let mut rocker = Switch::new(0);
    for on in [true, false] {
        switch.handle_command(now, rocker.on_off(on, None))?;
        // Between the two there is air.
        for sent in lamp::turn(&mut switch, now, None) {
            let heard = Received { ad_type: sent.ad_type, data: &sent.data, rssi: -60 };
            lamp::turn(&mut lamp, now, Some(&heard));
        }
    }
    Ok(())
}
