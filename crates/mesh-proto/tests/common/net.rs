//! A few nodes that hear each other, in virtual time, with their hosts' stores.
#![allow(unreachable_pub, dead_code, reason = "shared by the tests that include it")]

use std::collections::BTreeMap;
use std::time::Duration;

use clock::Instant;
use mesh_crypto::{AppKey, DevKey, NetKey};
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
use mesh_wire::foundation::{ConfigMessage, ModelRef, Status};
use mesh_wire::{AppKeyIndex, CompanyId, IvIndex, KeyIndex, ModelId, NetKeyIndex, Transmit, Ttl};

pub const COMPANY: CompanyId = CompanyId(0xffff);
pub const MODEL: ModelId = ModelId::Vendor(COMPANY, 1);
pub const HELLO: Opcode = Opcode::Vendor(1, COMPANY);
pub const NET: NetKeyIndex = KeyIndex::ZERO;
pub const APP: AppKeyIndex = KeyIndex::ZERO;
pub const SECOND: Duration = Duration::from_secs(1);
pub const HOUR: Duration = Duration::from_secs(3600);

pub type Store = BTreeMap<[u8; 3], Vec<u8>>;

pub fn unicast(address: u16) -> UnicastAddress {
    UnicastAddress::new(address).unwrap()
}

pub fn net_key(number: u8) -> NetKey {
    NetKey::new([number; 16])
}

pub fn app_key(number: u8) -> AppKey {
    AppKey::new([0x80 | number; 16])
}

pub struct Net {
    pub now: Instant,
    pub nodes: Vec<Node>,
    pub stores: Vec<Store>,
    pub events: Vec<(usize, Event)>,
    /// All that was sent, and by whom.
    pub sent: Vec<(usize, Transmission)>,
    /// Whether what one sends reaches another.
    pub hears: fn(usize, usize) -> bool,
    /// What the node with an address has beyond the usual.
    pub options: fn(u16) -> NodeOptions,
}

pub fn parts(address: u16, elements: Vec<Element>, options: NodeOptions) -> (Provisioned, NodeConfig) {
    let transmit = Transmit::from_octet(0);
    let provisioned = Provisioned {
        net_key: net_key(1),
        net_key_index: NET,
        iv_index: IvIndex(5),
        address: unicast(address),
        dev_key: DevKey::new([u8::try_from(address).unwrap(); 16]),
    };
    let config = NodeConfig {
        product: Product { company: COMPANY, product: 1, version: 1 },
        elements,
        network_transmit: transmit,
        relay: Relay { enabled: false, retransmit: transmit },
        default_ttl: Ttl::new(5).unwrap(),
        seed: [u8::try_from(address).unwrap(); 32],
        options,
    };
    (provisioned, config)
}

pub fn restore(now: Instant, address: u16, elements: Vec<Element>, store: &Store) -> Node {
    restore_with(now, address, elements, NodeOptions::default(), store)
}

pub fn restore_with(
    now: Instant,
    address: u16,
    elements: Vec<Element>,
    options: NodeOptions,
    store: &Store,
) -> Node {
    let (provisioned, config) = parts(address, elements, options);
    let stored = store.iter().map(|(key, value)| (RecordKey::from_octets(key).unwrap(), value.clone()));
    Node::restore(now, provisioned, config, stored).unwrap()
}

pub fn elements() -> Vec<Element> {
    vec![Element::new(0).with_host(MODEL, &[HELLO])]
}

/// A hello with so many octets.
pub fn message(to: Address, octets: usize) -> OutgoingMessage {
    OutgoingMessage {
        element: 0,
        destination: Destination::Address(to),
        key: MessageKey::App(APP),
        ttl: None,
        payload: HELLO.with(&vec![7; octets]),
        segmented: false,
    }
}

impl Net {
    /// Nodes with the addresses 1, 2, … that have one application and a model for it.
    pub fn new(count: u16) -> Self {
        Self::with_options(count, |_| NodeOptions::default())
    }

    /// The same, with options by their addresses.
    pub fn with_options(count: u16, options: fn(u16) -> NodeOptions) -> Self {
        // They have been there for long, so that they may begin an IV Update.
        let long_ago = vec![0, 0, 0, 5, 0, 0xff, 0xff, 0xff, 0xff];
        let store = Store::from([(RecordKey::IvUpdate.to_octets(), long_ago)]);
        let nodes = (1..=count)
            .map(|address| restore_with(Instant::ORIGIN, address, elements(), options(address), &store));
        let mut net = Self {
            now: Instant::ORIGIN,
            nodes: nodes.collect(),
            stores: vec![store.clone(); usize::from(count)],
            events: Vec::new(),
            sent: Vec::new(),
            hears: |_, _| true,
            options,
        };
        for index in 0..net.nodes.len() {
            net.configure(
                index,
                ConfigMessage::AppKeyAdd { net_key_index: NET, index: APP, key: app_key(1) },
            );
            let model = ModelRef { element: net.nodes[index].address(), model: MODEL };
            net.configure(index, ConfigMessage::ModelAppBind { index: APP, model });
        }
        net
    }

    pub fn configure(&mut self, index: usize, request: ConfigMessage) -> ConfigMessage {
        match self.command(index, Command::Configure(request)) {
            Answer::Configured(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub fn command(&mut self, index: usize, command: Command) -> Answer {
        let answer = self.nodes[index].handle_command(self.now, command).unwrap();
        self.store(index);
        answer
    }

    pub fn store(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        for Record { key, value } in node.take_records() {
            match value {
                Some(value) => self.stores[index].insert(key.to_octets(), value),
                None => self.stores[index].remove(&key.to_octets()),
            };
        }
        node.handle_stored();
    }

    /// Power goes and comes back, on a time line that begins anew for the node only in what it knows.
    pub fn restart(&mut self, index: usize) {
        let address = u16::from(self.nodes[index].address());
        let options = (self.options)(address);
        self.nodes[index] = restore_with(self.now, address, elements(), options, &self.stores[index]);
    }

    /// Says hello, and returns who heard it.
    pub fn hello(&mut self, from: usize, to: Address, octets: usize) -> Vec<usize> {
        self.events.clear();
        self.command(from, Command::Send(message(to, octets)));
        self.run(5 * SECOND);
        let heard = self.events.iter().filter(|(_, event)| matches!(event, Event::Message(_)));
        let mut heard: Vec<usize> = heard.map(|(index, _)| *index).collect();
        heard.sort_unstable();
        heard
    }

    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.exchange();
            let next = self.nodes.iter().filter_map(Node::poll_timeout).min();
            let Some(next) = next.filter(|&next| next <= end) else { break };
            self.now = self.now.max(next);
            for index in 0..self.nodes.len() {
                self.nodes[index].handle_timeout(self.now);
            }
        }
        self.now = end;
    }

    fn exchange(&mut self) {
        loop {
            let mut is_quiet = true;
            for from in 0..self.nodes.len() {
                self.store(from);
                while let Some(event) = self.nodes[from].poll_event() {
                    self.events.push((from, event));
                }
                while let Some(sent) = self.nodes[from].poll_transmit() {
                    is_quiet = false;
                    for to in (0..self.nodes.len()).filter(|&to| to != from) {
                        if (self.hears)(from, to) && self.nodes[to].is_listening() {
                            self.nodes[to].handle_pdu(self.now, &received(&sent));
                        }
                    }
                    self.sent.push((from, sent));
                }
            }
            if is_quiet {
                return;
            }
        }
    }

    pub fn beacons(&self) -> usize {
        self.sent.iter().filter(|(_, sent)| sent.ad_type == AdType::MeshBeacon).count()
    }
}

pub fn received(sent: &Transmission) -> Received<'_> {
    Received { ad_type: sent.ad_type, data: &sent.data, rssi: -50 }
}

pub fn status_of(answer: &ConfigMessage) -> Status {
    use ConfigMessage as M;
    match answer {
        M::NetKeyStatus { status, .. }
        | M::AppKeyStatus { status, .. }
        | M::AppKeyList { status, .. }
        | M::KeyRefreshPhaseStatus { status, .. }
        | M::NodeIdentityStatus { status, .. }
        | M::ModelAppStatus { status, .. }
        | M::ModelPublicationStatus { status, .. }
        | M::ModelSubscriptionStatus { status, .. }
        | M::HeartbeatPublicationStatus { status, .. }
        | M::HeartbeatSubscriptionStatus { status, .. } => *status,
        other => panic!("{other:?} has no status"),
    }
}
