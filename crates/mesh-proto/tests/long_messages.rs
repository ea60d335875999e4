//! Access messages of 380 octets, the most that there are, and of one more, from node to node.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/net.rs"]
mod net;

use mesh_crypto::LabelUuid;
use mesh_proto::access::Element;
use mesh_proto::keys::MessageKey;
use mesh_proto::node::{Command, CommandError, Event, OutgoingMessage};
use mesh_proto::upper_transport::Destination;
use mesh_wire::access::{MAX_PAYLOAD, Opcode};
use mesh_wire::address::Address;
use mesh_wire::foundation::{ConfigMessage, ModelRef, SubscriptionChange};
use mesh_wire::{CompanyId, ModelId};
use net::{APP, NET, Net, SECOND, Store, app_key, restore};

const COMPANY: CompanyId = CompanyId(0xffff);
const MODEL: ModelId = ModelId::Vendor(COMPANY, 1);
const OPCODE: Opcode = Opcode::Vendor(1, COMPANY);
const LABEL: LabelUuid = LabelUuid([7; 16]);
const GROUP: u16 = 0xc123;

fn message(destination: Destination, length: usize) -> OutgoingMessage {
    let parameters: Vec<u8> = (0..length - 3).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let payload = OPCODE.with(&parameters);
    OutgoingMessage {
        element: 0,
        destination,
        key: MessageKey::App(APP),
        ttl: None,
        payload,
        segmented: false,
    }
}

/// A node that sends, and two whose model subscribes to a group and a label.
fn network() -> Net {
    let mut net = Net::new(3);
    let now = net.now;
    for (index, address) in [1, 2, 3].into_iter().enumerate() {
        let element = Element::new(0).with_host(MODEL, &[OPCODE]);
        net.nodes[index] = restore(now, address, vec![element], &Store::new());
        net.configure(index, ConfigMessage::AppKeyAdd { net_key_index: NET, index: APP, key: app_key(1) });
        let model = ModelRef { element: net.nodes[index].address(), model: MODEL };
        net.configure(index, ConfigMessage::ModelAppBind { index: APP, model });
        if index > 0 {
            let change = SubscriptionChange::Add;
            let address = Address::from(GROUP);
            net.configure(index, ConfigMessage::ModelSubscriptionChange { change, address, model });
            net.configure(
                index,
                ConfigMessage::ModelSubscriptionVirtualAddressChange { change, label: LABEL, model },
            );
        }
    }
    net
}

#[test]
fn a_message_of_380_octets_reaches_a_node_a_group_and_a_label_whole() {
    for (destination, receivers) in [
        (Destination::Address(Address::from(2)), &[1][..]),
        (Destination::Address(Address::from(GROUP)), &[1, 2]),
        (Destination::Label(LABEL), &[1, 2]),
    ] {
        let mut net = network();
        let sent = message(destination, MAX_PAYLOAD);
        assert_eq!(sent.payload.len(), 380);
        net.events.clear();
        net.command(0, Command::Send(sent.clone()));
        net.run(30 * SECOND);
        let heard: Vec<usize> = (net.events.iter())
            .filter_map(|(index, event)| match event {
                Event::Message(message) => {
                    assert_eq!(message.opcode.with(&message.parameters), sent.payload);
                    Some(*index)
                }
                _ => None,
            })
            .collect();
        let mut sorted = heard.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, receivers, "{destination:?}, each once");
    }
}

#[test]
fn a_message_of_381_octets_is_not_sent() {
    let mut net = network();
    let now = net.now;
    let long = message(Destination::Address(Address::from(2)), MAX_PAYLOAD + 1);
    let refused = net.nodes[0].handle_command(now, Command::Send(long));
    assert!(matches!(refused, Err(CommandError::Length)), "{refused:?}");
}
