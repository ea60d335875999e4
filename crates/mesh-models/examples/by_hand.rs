//! A node driven by hand, step by step: what goes in, what comes out, and when it wants to be called again.
#![allow(
    clippy::print_stdout,
    dead_code,
    reason = "an example shows what happens, and uses a part of another"
)]

use std::error::Error;

use clock::Instant;
use mesh_models::generic::OnOffServer;
use mesh_models::messages::{ON_OFF_CLIENT, OnOffSet, OnOffStatus};
use mesh_proto::access::Element;
use mesh_proto::bearer::Received;
use mesh_proto::keys::MessageKey;
use mesh_proto::node::{Command, Event, OutgoingMessage};
use mesh_proto::upper_transport::Destination;
use mesh_wire::KeyIndex;
use mesh_wire::address::Address;
use mesh_wire::foundation::{ConfigMessage, ModelRef};

#[path = "lamp.rs"]
mod lamp;

/// Runs the example.
pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    // A client: its model's messages are the host's, which is this program.
    let mut client = lamp::node(0x0001, Element::new(0).with_host(ON_OFF_CLIENT, &[OnOffStatus::OPCODE]))?;
    let model = ModelRef { element: client.address(), model: ON_OFF_CLIENT };
    let mut now = Instant::ORIGIN;
    let bind = ConfigMessage::ModelAppBind { index: KeyIndex::ZERO, model };
    client.handle_command(now, Command::Configure(bind))?;
    let mut lamp = lamp::lamp(0x0002)?;

    // A command goes in; the PDU that it becomes comes out, secured twice.
    let on = OutgoingMessage {
        element: 0,
        destination: Destination::Address(Address::from(0x0002)),
        key: MessageKey::App(KeyIndex::ZERO),
        ttl: None,
        payload: OnOffSet::new(true, 7, None).encode(),
        segmented: false,
    };
    client.handle_command(now, Command::Send(on))?;
    let sent = client.poll_transmit().ok_or("nothing was sent")?;
    println!("client: {:02x?}, {} times, {:?} apart", &sent.data[..], sent.count, sent.interval);

    // The lamp hears it. Its answer waits 20 to 50 ms, so that not all answer at once.
    lamp.handle_pdu(now, &Received { ad_type: sent.ad_type, data: &sent.data, rssi: -60 });
    println!("lamp on: {:?}", lamp.server::<OnOffServer>(0).map(|server| server.is_on(now)));
    let answer = loop {
        now = lamp.poll_timeout().ok_or("the lamp waits for nothing")?;
        lamp.handle_timeout(now);
        // Beacons are sent in between: the client takes all.
        let Some(sent) = lamp.poll_transmit() else { continue };
        client.handle_pdu(now, &Received { ad_type: sent.ad_type, data: &sent.data, rssi: -60 });
        let received = std::iter::from_fn(|| client.poll_event()).find_map(|event| match event {
            Event::Message(message) => Some(message),
            _ => None,
        });
        if let Some(message) = received {
            break message;
        }
    };
    println!("{} answers {:?}", answer.source, OnOffStatus::decode(&answer.parameters)?);
    for (discard, count) in client.discards().iter() {
        println!("not passed on: {discard:?}, {count} times");
    }
    Ok(())
}
