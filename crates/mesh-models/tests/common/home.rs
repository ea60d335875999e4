//! A lamp and somebody who uses it.

use std::time::Duration;

use mesh_models::lighting::{Light, LightKind};
use mesh_models::messages::{LevelGet, LevelStatus, OnOffGet, OnOffStatus};
use mesh_proto::access::Element;
use mesh_proto::keys::MessageKey;
use mesh_proto::node::OutgoingMessage;
use mesh_proto::upper_transport::Destination;
use mesh_wire::ModelId;
use mesh_wire::access::Opcode;
use mesh_wire::address::Address;

use super::{APP, Medium, add_application, bind, client, node};

/// A lamp at 0x0002 whose models are all bound, and a client at 0x0001 that hears all statuses.
pub fn home(kind: LightKind) -> Medium {
    let mut lamp = node(2, vec![Element::new(0).with_server(Light::new(kind))]);
    add_application(&mut lamp);
    let models: Vec<(u16, ModelId)> = (lamp.composition().elements.iter().zip(2..))
        .flat_map(|(element, address)| element.models.iter().map(move |&model| (address, model)))
        .filter(|(_, model)| *model != ModelId::CONFIGURATION_SERVER)
        .collect();
    for (address, model) in models {
        bind(&mut lamp, address, model);
    }
    Medium::full(vec![client(1), lamp])
}

pub fn send(home: &mut Medium, element: u8, payload: Vec<u8>) {
    let destination = Destination::Address(Address::from(2 + u16::from(element)));
    let key = MessageKey::App(APP);
    home.send(0, OutgoingMessage { element: 0, destination, key, ttl: None, payload, segmented: false });
    home.run(Duration::from_millis(100));
}

/// Sends a message and returns the parameters of the answer with this opcode.
pub fn ask(home: &mut Medium, element: u8, payload: Vec<u8>, answer: Opcode) -> Vec<u8> {
    home.messages(0);
    send(home, element, payload);
    let answers: Vec<_> = home.messages(0).into_iter().filter(|(opcode, ..)| *opcode == answer).collect();
    let [(_, parameters, _)] = &answers[..] else { panic!("one {answer:?}: {answers:?}") };
    parameters.clone()
}

pub fn light(home: &Medium) -> &Light {
    home.nodes[1].server(0).unwrap()
}

pub fn lightness(home: &Medium) -> u16 {
    light(home).lightness(home.now)
}

pub fn level(home: &mut Medium, element: u8) -> i16 {
    let answer = ask(home, element, LevelGet {}.encode(), LevelStatus::OPCODE);
    LevelStatus::decode(&answer).unwrap().present_level
}

pub fn is_on(home: &mut Medium) -> bool {
    let answer = ask(home, 0, OnOffGet {}.encode(), OnOffStatus::OPCODE);
    OnOffStatus::decode(&answer).unwrap().present_on_off
}
