//! A node that sleeps, on the simulated medium: its Receive Window is wide enough for what radios do, and messages reach
//! it over relays and its Friend.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use clock::Instant;
use mesh_crypto::{AppKey, DevKey, NetKey};
use mesh_proto::access::Element;
use mesh_proto::foundation::Product;
use mesh_proto::friend::FriendSettings;
use mesh_proto::keys::MessageKey;
use mesh_proto::low_power::LowPowerSettings;
use mesh_proto::network::Relay;
use mesh_proto::node::{Command, Event, Node, NodeConfig, NodeOptions, OutgoingMessage, Provisioned};
use mesh_proto::upper_transport::Destination;
use mesh_sim::{MediumConfig, Position, StationId, World};
use mesh_wire::access::Opcode;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::foundation::{ConfigMessage, ModelRef};
use mesh_wire::{CompanyId, IvIndex, KeyIndex, ModelId, Transmit, Ttl};

const COMPANY: CompanyId = CompanyId(0xffff);
const MODEL: ModelId = ModelId::Vendor(COMPANY, 1);
const HELLO: Opcode = Opcode::Vendor(1, COMPANY);

fn node(address: u16, options: NodeOptions) -> Node {
    let address = UnicastAddress::new(address).unwrap();
    let transmit = Transmit::new(3, Duration::from_millis(20)).unwrap();
    let (net_key_index, index) = (KeyIndex::ZERO, KeyIndex::ZERO);
    let provisioned = Provisioned {
        net_key: NetKey::new([1; 16]),
        net_key_index,
        iv_index: IvIndex(0),
        address,
        dev_key: DevKey::new([2; 16]),
    };
    let config = NodeConfig {
        product: Product { company: COMPANY, product: 1, version: 1 },
        elements: vec![Element::new(0).with_host(MODEL, &[HELLO])],
        network_transmit: transmit,
        relay: Relay { enabled: options.low_power.is_none(), retransmit: transmit },
        default_ttl: Ttl::new(6).unwrap(),
        seed: [u8::try_from(u16::from(address)).unwrap(); 32],
        options,
    };
    let mut node = Node::new(provisioned, config);
    let key = AppKey::new([3; 16]);
    let model = ModelRef { element: address, model: MODEL };
    for request in
        [ConfigMessage::AppKeyAdd { net_key_index, index, key }, ConfigMessage::ModelAppBind { index, model }]
    {
        node.handle_command(Instant::ORIGIN, Command::Configure(request)).unwrap();
    }
    node
}

fn send(world: &mut World, from: StationId, to: u16, octets: usize) {
    let message = OutgoingMessage {
        element: 0,
        destination: Destination::Address(Address::from(to)),
        key: MessageKey::App(KeyIndex::ZERO),
        ttl: None,
        payload: HELLO.with(&vec![7; octets]),
        segmented: false,
    };
    let now = world.now();
    world.with_node(now, from, |node| node.handle_command(now, Command::Send(message))).unwrap().unwrap();
}

fn run(world: &mut World, duration: Duration) -> Vec<(StationId, Event)> {
    let end = world.now() + duration;
    while world.step_until(end) {}
    std::iter::from_fn(|| world.poll_event()).collect()
}

#[test]
fn a_sleeping_node_at_the_end_of_a_row_gets_what_is_for_it_and_is_heard() {
    let mut world = World::new(7, MediumConfig { interference: 0.02, ..MediumConfig::default() });
    let friend = || NodeOptions { friend: Some(FriendSettings::default()), ..NodeOptions::default() };
    let sleeps = NodeOptions { low_power: Some(LowPowerSettings::default()), ..NodeOptions::default() };
    let options = [NodeOptions::default(), friend(), friend(), sleeps];
    let stations: Vec<StationId> = (1..)
        .zip(options)
        .map(|(address, options)| {
            let position = Position::new(f64::from(address) * 6.0, 0.0);
            world.add_node(&address.to_string(), position, node(address, options))
        })
        .collect();
    let (first, last) = (stations[0], stations[3]);
    let now = world.now();
    world.with_node(now, last, |node| node.handle_command(now, Command::LowPower(true))).unwrap().unwrap();
    run(&mut world, Duration::from_secs(10));
    assert!(world.node(last).unwrap().friend().is_some(), "it has found a Friend");
    let mut got = [0, 0];
    for round in 0..20 {
        let octets = if round % 2 == 0 { 4 } else { 60 };
        send(&mut world, first, 4, octets);
        send(&mut world, last, 1, octets);
        for (station, event) in run(&mut world, Duration::from_secs(20)) {
            if let Event::Message(_) = event {
                got[usize::from(station == last)] += 1;
            }
        }
    }
    assert!(got[0] >= 18 && got[1] >= 18, "{got:?} of 20 to the first, and to the last");
    assert!(world.node(last).unwrap().friend().is_some(), "still, or again");
}
