//! Nodes on a medium without loss, in virtual time: who hears whom is stated.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a test may panic, and needs what it needs"
)]

pub mod home;

use std::collections::BTreeMap;
use std::time::Duration;

use clock::Instant;
use mesh_crypto::{AppKey, DevKey, NetKey};
use mesh_models::client::CLIENTS;
use mesh_models::generic::OnOffServer;
use mesh_models::messages::ON_OFF_SERVER;
use mesh_proto::access::Element;
use mesh_proto::bearer::{Received, Transmission};
use mesh_proto::foundation::Product;
use mesh_proto::keys::MessageKey;
use mesh_proto::network::Relay;
use mesh_proto::node::{
    Answer, Command, Event, Node, NodeConfig, NodeOptions, OutgoingMessage, Provisioned, Record, RecordKey,
};
use mesh_proto::upper_transport::Destination;
use mesh_wire::access::Opcode;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::bearer::AdType;
use mesh_wire::foundation::{ConfigMessage, ModelRef};
use mesh_wire::{CompanyId, IvIndex, KeyIndex, ModelId, Transmit, Ttl};

pub const NET_KEY: NetKey = NetKey::new([0x11; 16]);
pub const APP: KeyIndex = KeyIndex::ZERO;
pub const TTL: u8 = 5;

pub fn unicast(address: u16) -> UnicastAddress {
    UnicastAddress::new(address).unwrap()
}

pub fn dev_key(address: u16) -> DevKey {
    DevKey::new([u8::try_from(address & 0xff).unwrap(); 16])
}

pub fn app_key() -> AppKey {
    AppKey::new([0x22; 16])
}

/// A node with these elements.
pub fn node(address: u16, elements: Vec<Element>) -> Node {
    let (provisioned, config) = parts(address, elements);
    Node::new(provisioned, config)
}

/// The node that `store` came from, or a new one without any.
pub fn restored(address: u16, elements: Vec<Element>, store: &Store) -> Node {
    let (provisioned, config) = parts(address, elements);
    let stored = store.iter().map(|(key, value)| (RecordKey::from_octets(key).unwrap(), value.clone()));
    Node::restore(Instant::ORIGIN, provisioned, config, stored).unwrap()
}

/// What a node's host keeps.
pub type Store = BTreeMap<[u8; 3], Vec<u8>>;

pub fn store(node: &mut Node, store: &mut Store) {
    for Record { key, value } in node.take_records() {
        match value {
            Some(value) => store.insert(key.to_octets(), value),
            None => store.remove(&key.to_octets()),
        };
    }
    node.handle_stored();
}

pub fn received(sent: &Transmission) -> Received<'_> {
    Received { ad_type: sent.ad_type, data: &sent.data, rssi: -60 }
}

fn parts(address: u16, elements: Vec<Element>) -> (Provisioned, NodeConfig) {
    let transmit = Transmit::from_octet(0x0a);
    let provisioned = Provisioned {
        net_key: NET_KEY,
        net_key_index: KeyIndex::ZERO,
        iv_index: IvIndex(7),
        address: unicast(address),
        dev_key: dev_key(address),
    };
    let config = NodeConfig {
        product: Product { company: CompanyId(0xffff), product: 1, version: 2 },
        elements,
        network_transmit: transmit,
        relay: Relay { enabled: true, retransmit: transmit },
        default_ttl: Ttl::new(TTL).unwrap(),
        seed: [u8::try_from(address & 0xff).unwrap(); 32],
        options: NodeOptions::default(),
    };
    (provisioned, config)
}

/// A lamp that knows the application.
pub fn lamp(address: u16) -> Node {
    let mut lamp = node(address, vec![Element::new(0x0100).with_server(OnOffServer::new(false))]);
    add_application(&mut lamp);
    bind(&mut lamp, address, ON_OFF_SERVER);
    lamp
}

/// A node with the Proxy feature.
pub fn proxy(address: u16) -> Node {
    let (provisioned, mut config) = parts(address, vec![Element::new(0)]);
    config.options.proxy = true;
    Node::new(provisioned, config)
}

/// A client of lamps and of configuration servers.
pub fn client(address: u16) -> Node {
    const CONFIGURATION: &[Opcode] = &[
        Opcode::One(0x02),
        Opcode::Two(0x8003),
        Opcode::Two(0x803e),
        Opcode::Two(0x801f),
        Opcode::Two(0x8019),
    ];
    let element =
        CLIENTS.into_iter().fold(Element::new(0), |element, (id, opcodes)| element.with_host(id, opcodes));
    let mut client = node(address, vec![element.with_host(ModelId::CONFIGURATION_CLIENT, CONFIGURATION)]);
    add_application(&mut client);
    for (model, _) in CLIENTS {
        bind(&mut client, address, model);
    }
    client
}

pub fn configure(node: &mut Node, request: ConfigMessage) -> ConfigMessage {
    let answer = node.handle_command(Instant::ORIGIN, Command::Configure(request)).unwrap();
    let Answer::Configured(answer) = answer else { panic!("{answer:?}") };
    answer
}

pub fn add_application(node: &mut Node) {
    let request = ConfigMessage::AppKeyAdd { net_key_index: KeyIndex::ZERO, index: APP, key: app_key() };
    configure(node, request);
}

pub fn bind(node: &mut Node, address: u16, model: ModelId) {
    let model = ModelRef { element: unicast(address), model };
    configure(node, ConfigMessage::ModelAppBind { index: APP, model });
}

pub fn to(address: u16, key: MessageKey, payload: Vec<u8>) -> OutgoingMessage {
    let destination = Destination::Address(Address::from(address));
    OutgoingMessage { element: 0, destination, key, ttl: None, payload, segmented: false }
}

/// Nodes, and which of them hear each other.
pub struct Medium {
    pub nodes: Vec<Node>,
    hears: fn(usize, usize) -> bool,
    pub now: Instant,
    pub transmissions: usize,
    pub events: Vec<(usize, Event)>,
}

impl Medium {
    /// All hear all.
    pub fn full(nodes: Vec<Node>) -> Self {
        Self { nodes, hears: |_, _| true, now: Instant::ORIGIN, transmissions: 0, events: Vec::new() }
    }

    /// Each hears its neighbours only.
    pub fn chain(nodes: Vec<Node>) -> Self {
        Self { hears: |a, b| a.abs_diff(b) == 1, ..Self::full(nodes) }
    }

    pub fn send(&mut self, from: usize, message: OutgoingMessage) {
        self.nodes[from].handle_command(self.now, Command::Send(message)).unwrap();
    }

    /// Lets `duration` go by.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.exchange();
            let next = self.nodes.iter().filter_map(Node::poll_timeout).min();
            let Some(next) = next.filter(|&next| next <= end) else { break };
            self.now = self.now.max(next);
            for node in &mut self.nodes {
                node.handle_timeout(self.now);
            }
        }
        self.now = end;
    }

    fn exchange(&mut self) {
        loop {
            let sent = self
                .nodes
                .iter_mut()
                .enumerate()
                .find_map(|(from, node)| Some((from, node.poll_transmit()?)));
            for (index, node) in self.nodes.iter_mut().enumerate() {
                self.events.extend(std::iter::from_fn(|| node.poll_event()).map(|event| (index, event)));
            }
            let Some((from, transmission)) = sent else { return };
            self.transmissions += usize::from(transmission.ad_type == AdType::MeshMessage);
            for (to, node) in self.nodes.iter_mut().enumerate() {
                if from != to && (self.hears)(from, to) {
                    let received =
                        Received { ad_type: transmission.ad_type, data: &transmission.data, rssi: -60 };
                    node.handle_pdu(self.now, &received);
                }
            }
        }
    }

    /// Takes the messages that node `index` got, as opcode, parameters and TTL.
    pub fn messages(&mut self, index: usize) -> Vec<(Opcode, Vec<u8>, u8)> {
        let (own, others) =
            std::mem::take(&mut self.events).into_iter().partition(|(node, _)| *node == index);
        self.events = others;
        let own: Vec<(usize, Event)> = own;
        own.into_iter()
            .filter_map(|(_, event)| match event {
                Event::Message(message) => Some((message.opcode, message.parameters, message.ttl.into())),
                _ => None,
            })
            .collect()
    }

    pub fn is_on(&self, index: usize) -> bool {
        self.nodes[index].server::<OnOffServer>(0).unwrap().is_on(self.now)
    }
}
