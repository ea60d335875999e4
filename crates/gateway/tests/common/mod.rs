//! A gateway and real nodes on a medium without loss, in virtual time, with a broker that only remembers.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a test may panic, and needs what it needs"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use gateway::{Gateway, GatewayConfig, Inbox, MqttDevice};
use mesh_commission::cdb::{ElementEntry, GroupEntry, Hex16, Key, ModelEntry, NetworkDatabase, NodeEntry};
use mesh_commission::cdb::{
    NodeKey, PublishEntry, PublishPeriodEntry, PublishRetransmitEntry, Security, Uuid,
};
use mesh_crypto::{AppKey, DevKey, NetKey};
use mesh_models::generic::{BatteryServer, BatteryStatus, LevelServer, Outlet};
use mesh_models::lighting::{Light, LightKind};
use mesh_models::sensor::{PropertyId, Sensor, SensorServer};
use mesh_models::switch::SWITCH_MODELS;
use mesh_proto::access::Element;
use mesh_proto::bearer::Received;
use mesh_proto::foundation::Product;
use mesh_proto::network::Relay;
use mesh_proto::node::{Command, Node, NodeConfig, NodeOptions, Provisioned};
use mesh_wire::address::UnicastAddress;
use mesh_wire::bearer::AdType;
use mesh_wire::foundation::{ConfigMessage, ModelRef, Publication, PublishDestination, PublishPeriod};
use mesh_wire::{CompanyId, IvIndex, KeyIndex, ModelId, Transmit, Ttl};
use serde_json::Value;

/// How long a PDU is on its way.
const AIR: Duration = Duration::from_millis(10);
const NET_KEY: [u8; 16] = [0x7c; 16];
const APP_KEY: [u8; 16] = [0xcb; 16];
pub const GATEWAY: u16 = 0x0001;
pub const TTL: u8 = 5;

/// What a node of a test is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Light(LightKind),
    Outlet,
    Level,
    /// Two rockers, each publishing to the first group.
    Switch,
    Thermometer,
    Contact,
    Battery,
}

/// The network of a test: names and kinds, in the order of their addresses, 0x10 apart.
#[derive(Default)]
pub struct Plan<'a> {
    pub nodes: &'a [(&'a str, Kind)],
    /// Groups from 0xC000 on, with their members.
    pub groups: &'a [(&'a str, &'a [&'a str])],
    pub devices: Vec<MqttDevice>,
    /// Steps of 10 s after which nodes publish their states; 0: only when they change.
    pub period: u8,
}

struct Inhabitant {
    name: String,
    node: Node,
    is_cut: bool,
}

/// Gateway, nodes, and all that was published.
pub struct Bus {
    pub now: Instant,
    pub gateway: Gateway,
    pub config: GatewayConfig,
    pub database: NetworkDatabase,
    inhabitants: Vec<Inhabitant>,
    /// What is on its way, by arrival: from whom (`None`: the gateway), and what.
    air: Vec<(Instant, Option<usize>, mesh_proto::bearer::Transmission)>,
    /// What the gateway has stored.
    pub stored: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Everything that was published, in order.
    pub published: Vec<(String, String)>,
    /// What a broker would have retained.
    pub retained: BTreeMap<String, String>,
    /// Network PDUs that the gateway has sent, and when.
    pub sent: Vec<Instant>,
}

pub fn address_of(index: usize) -> u16 {
    u16::try_from((index + 1) * 0x10).unwrap()
}

fn unicast(address: u16) -> UnicastAddress {
    UnicastAddress::new(address).unwrap()
}

fn elements_of(kind: Kind) -> Vec<Element> {
    let one = |element: Element| vec![element];
    match kind {
        Kind::Light(kind) => one(Element::new(0).with_server(Light::new(kind))),
        Kind::Outlet => one(Element::new(0).with_server(Outlet::new())),
        Kind::Level => one(Element::new(0).with_server(LevelServer::new(0))),
        Kind::Switch => (0..2)
            .map(|_| {
                SWITCH_MODELS.into_iter().fold(Element::new(0), |element, id| element.with_host(id, &[]))
            })
            .collect(),
        Kind::Thermometer => one(Element::new(0).with_server(SensorServer::new(vec![
            Sensor::new(PropertyId::PRECISE_PRESENT_AMBIENT_TEMPERATURE),
            Sensor::new(PropertyId::PRESENT_AMBIENT_RELATIVE_HUMIDITY),
        ]))),
        Kind::Contact => {
            one(Element::new(0)
                .with_server(SensorServer::new(vec![Sensor::new(PropertyId::PRESENCE_DETECTED)])))
        }
        Kind::Battery => {
            let status = BatteryStatus { level: Some(93), ..BatteryStatus::default() };
            one(Element::new(0).with_server(BatteryServer::new(status)))
        }
    }
}

fn product_of(kind: Kind) -> u16 {
    match kind {
        Kind::Light(LightKind::Dimmable) => 1,
        Kind::Light(LightKind::Tunable) => 2,
        Kind::Light(LightKind::Coloured) => 3,
        Kind::Switch => 4,
        Kind::Contact => 5,
        Kind::Thermometer => 8,
        Kind::Outlet => 9,
        Kind::Level | Kind::Battery => 10,
    }
}

fn make_node(address: u16, kind: Kind) -> Node {
    let transmit = Transmit::from_octet(0);
    let provisioned = Provisioned {
        net_key: NetKey::new(NET_KEY),
        net_key_index: KeyIndex::ZERO,
        iv_index: IvIndex(0),
        address: unicast(address),
        dev_key: DevKey::new([u8::try_from(address & 0xff).unwrap(); 16]),
    };
    let config = NodeConfig {
        product: Product { company: CompanyId(0xffff), product: product_of(kind), version: 1 },
        elements: elements_of(kind),
        network_transmit: transmit,
        relay: Relay { enabled: false, retransmit: transmit },
        default_ttl: Ttl::new(TTL).unwrap(),
        seed: [u8::try_from(address & 0xff).unwrap(); 32],
        options: NodeOptions::default(),
    };
    Node::new(provisioned, config)
}

impl Bus {
    pub fn new(plan: Plan<'_>) -> Self {
        let mut database = NetworkDatabase::from_json(include_str!("../network.json")).unwrap();
        database.nodes.retain(|node| node.uuid == database.provisioners[0].uuid);
        database.net_keys[0].key = Key(NET_KEY);
        database.app_keys[0].key = Key(APP_KEY);
        database.groups.clear();
        let own = database.nodes[0].clone();
        let mut inhabitants = Vec::new();
        for (index, (name, kind)) in plan.nodes.iter().enumerate() {
            let address = address_of(index);
            let mut node = make_node(address, *kind);
            let groups: Vec<u16> = (0xc000..)
                .zip(plan.groups)
                .filter(|(_, (_, members))| members.contains(name))
                .map(|(group, _)| group)
                .collect();
            let entry = configure(&mut node, &own, name, *kind, &groups, plan.period);
            database.nodes.push(entry);
            inhabitants.push(Inhabitant { name: (*name).to_owned(), node, is_cut: false });
        }
        for (address, (name, _)) in (0xc000_u16..).zip(plan.groups) {
            let (name, parent_address) = ((*name).to_owned(), "0000".to_owned());
            database.groups.push(GroupEntry { name, address: Hex16(address).to_string(), parent_address });
        }
        let config = GatewayConfig { devices: plan.devices, ..GatewayConfig::new([7; 32]) };
        let now = Instant::ORIGIN;
        let gateway = Gateway::new(now, &config, &database, []).unwrap();
        let mut bus = Self {
            now,
            gateway,
            config,
            database,
            inhabitants,
            air: Vec::new(),
            stored: BTreeMap::new(),
            published: Vec::new(),
            retained: BTreeMap::new(),
            sent: Vec::new(),
        };
        bus.drain();
        bus
    }

    /// A bus whose gateway is connected and knows all its nodes.
    pub fn known(plan: Plan<'_>) -> Self {
        let mut bus = Self::new(plan);
        bus.connect();
        let end = bus.now + Duration::from_secs(300);
        let is_known = |bus: &Self| {
            bus.gateway.devices().all(|device| {
                device.composition.is_some() && device.endpoints.iter().all(gateway::Endpoint::is_known)
            })
        };
        while !is_known(&bus) {
            assert!(bus.now < end, "the gateway does not get to know its nodes");
            bus.run(Duration::from_millis(100));
        }
        bus.run(Duration::from_secs(20));
        bus.published.clear();
        bus
    }

    pub fn connect(&mut self) {
        self.gateway.handle_connected(self.now);
        self.drain();
    }

    /// Kills the gateway, and starts it again from what it had stored.
    pub fn restart(&mut self) {
        let stored = self.stored.clone();
        let config = GatewayConfig { seed: [9; 32], ..self.config.clone() };
        self.gateway = Gateway::new(self.now, &config, &self.database, stored).unwrap();
        self.drain();
    }

    pub fn cut(&mut self, name: &str, is_cut: bool) {
        self.find(name).is_cut = is_cut;
    }

    fn find(&mut self, name: &str) -> &mut Inhabitant {
        self.inhabitants.iter_mut().find(|x| x.name == name).unwrap()
    }

    /// Has somebody, or something, act on a node.
    pub fn act<T>(&mut self, name: &str, act: impl FnOnce(&mut Node, Instant) -> T) -> T {
        let now = self.now;
        let result = act(&mut self.find(name).node, now);
        self.drain();
        result
    }

    /// Publishes a message to the gateway, with a Response Topic.
    pub fn publish(&mut self, topic: &str, payload: &str) {
        let data = Some(Bytes::from_static(b"7"));
        let inbox = Inbox::new(topic, payload.as_bytes()).answered_on("answers", data);
        self.gateway.handle_publish(self.now, &inbox);
        self.drain();
    }

    /// The same, and returns the answers that came within `duration`.
    pub fn command(&mut self, topic: &str, payload: &str, duration: Duration) -> Vec<Value> {
        self.published.clear();
        self.publish(topic, payload);
        self.run(duration);
        self.json_of("answers")
    }

    /// A command that is confirmed within two seconds; the state that it led to.
    pub fn set(&mut self, name: &str, payload: &str) -> Value {
        let answers = self.command(&format!("mesh/{name}/set"), payload, Duration::from_secs(2));
        let [answer] = &answers[..] else { panic!("{payload}: {answers:?}") };
        assert_eq!(answer["status"], "ok", "{payload}: {answer}");
        answer["data"].clone()
    }

    /// What was published on a topic.
    pub fn payloads_of(&self, topic: &str) -> Vec<&str> {
        self.published
            .iter()
            .filter(|(other, _)| other == topic)
            .map(|(_, payload)| payload.as_str())
            .collect()
    }

    pub fn json_of(&self, topic: &str) -> Vec<Value> {
        self.payloads_of(topic).into_iter().map(|payload| serde_json::from_str(payload).unwrap()).collect()
    }

    /// What is retained on a topic.
    pub fn retained_json(&self, topic: &str) -> Value {
        self.retained.get(topic).map_or(Value::Null, |payload| serde_json::from_str(payload).unwrap())
    }

    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.drain();
        loop {
            let due = self.air.iter().map(|(at, ..)| *at).chain(self.gateway.poll_timeout());
            let due = due.chain(self.inhabitants.iter().filter_map(|x| x.node.poll_timeout())).min();
            let Some(at) = due.filter(|&at| at <= end) else { break };
            self.now = self.now.max(at);
            self.step();
        }
        self.now = end;
    }

    fn step(&mut self) {
        let now = self.now;
        let (arrived, air): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.air).into_iter().partition(|x| x.0 <= now);
        self.air = air;
        for (_, from, sent) in arrived {
            let received = Received { ad_type: sent.ad_type, data: &sent.data, rssi: -60 };
            let is_cut = from.is_some_and(|from| self.inhabitants[from].is_cut);
            if is_cut {
                continue;
            }
            for (index, inhabitant) in self.inhabitants.iter_mut().enumerate() {
                if from != Some(index) && !inhabitant.is_cut {
                    inhabitant.node.handle_pdu(now, &received);
                }
            }
            if from.is_some() {
                self.gateway.handle_pdu(now, &received);
            }
        }
        for inhabitant in &mut self.inhabitants {
            if inhabitant.node.poll_timeout().is_some_and(|at| at <= now) {
                inhabitant.node.handle_timeout(now);
            }
        }
        if self.gateway.poll_timeout().is_some_and(|at| at <= now) {
            self.gateway.handle_timeout(now);
        }
        self.drain();
    }

    fn drain(&mut self) {
        let arrival = self.now + AIR;
        for (index, inhabitant) in self.inhabitants.iter_mut().enumerate() {
            while let Some(sent) = inhabitant.node.poll_transmit() {
                self.air.push((arrival, Some(index), sent));
            }
            while inhabitant.node.poll_event().is_some() {}
        }
        loop {
            let records = self.gateway.take_records();
            if !records.is_empty() {
                assert!(self.gateway.poll_transmit().is_none() && self.gateway.poll_publish().is_none());
                for (key, change) in records {
                    match change {
                        Some(value) => _ = self.stored.insert(key, value),
                        None => _ = self.stored.remove(&key),
                    }
                }
                self.gateway.handle_stored(self.now);
                continue;
            }
            if let Some(sent) = self.gateway.poll_transmit() {
                self.sent.extend((sent.ad_type == AdType::MeshMessage).then_some(self.now));
                self.air.push((arrival, None, sent));
            } else if let Some(publication) = self.gateway.poll_publish() {
                let payload = String::from_utf8(publication.payload.clone()).unwrap();
                if publication.retain {
                    if payload.is_empty() {
                        self.retained.remove(&publication.topic);
                    } else {
                        self.retained.insert(publication.topic.clone(), payload.clone());
                    }
                }
                self.published.push((publication.topic.clone(), payload));
                self.gateway.handle_published(self.now, &publication);
            } else {
                break;
            }
        }
    }
}

/// Gives a node its application key, its publications and its subscriptions, and describes it.
#[allow(clippy::too_many_lines, reason = "the configuration and its description are read side by side")]
fn configure(
    node: &mut Node,
    own: &NodeEntry,
    name: &str,
    kind: Kind,
    groups: &[u16],
    period: u8,
) -> NodeEntry {
    let now = Instant::ORIGIN;
    let (net_key_index, index) = (KeyIndex::ZERO, KeyIndex::ZERO);
    let mut configure = |request| _ = node.handle_command(now, Command::Configure(request)).unwrap();
    configure(ConfigMessage::AppKeyAdd { net_key_index, index, key: AppKey::new(APP_KEY) });
    let address = node.address();
    let composition = node.composition().clone();
    let is_switch = kind == Kind::Switch;
    let destination = if is_switch { 0xc000 } else { GATEWAY };
    let mut elements = Vec::new();
    for (element_index, element) in (0_u8..).zip(&composition.elements) {
        let mut models = Vec::new();
        for &id in element.models.iter().filter(|id| ![ModelId::Sig(0), ModelId::Sig(1)].contains(id)) {
            let model = ModelRef { element: address.element(element_index).unwrap(), model: id };
            let mut configure = |request| _ = node.handle_command(now, Command::Configure(request)).unwrap();
            configure(ConfigMessage::ModelAppBind { index, model });
            let publication = Publication {
                destination: PublishDestination::Address(destination.into()),
                app_key_index: index,
                friendship_credentials: false,
                ttl: None,
                period: PublishPeriod(if is_switch { 0 } else { 0x80 | period }),
                retransmit: mesh_wire::foundation::PublishRetransmit(if is_switch { 1 } else { 0 }),
            };
            let publishes = is_published(id);
            if publishes {
                configure(ConfigMessage::ModelPublicationSet { publication, model });
            }
            for &group in groups {
                let change = mesh_wire::foundation::SubscriptionChange::Add;
                configure(ConfigMessage::ModelSubscriptionChange { change, address: group.into(), model });
            }
            let number_of_steps = if is_switch { 0 } else { period };
            models.push(ModelEntry {
                model_id: id.to_string(),
                bind: vec![0],
                subscribe: groups.iter().map(|&group| Hex16(group).to_string()).collect(),
                publish: publishes.then(|| PublishEntry {
                    address: Hex16(destination).to_string(),
                    index: 0,
                    ttl: 255,
                    credentials: 0,
                    period: PublishPeriodEntry { number_of_steps, resolution: 10_000 },
                    retransmit: PublishRetransmitEntry { count: 0, interval: 50 },
                }),
            });
        }
        let element_name = is_switch.then(|| ["left", "right"][usize::from(element_index)].to_owned());
        elements.push(ElementEntry { name: element_name, index: element_index, location: Hex16(0), models });
    }
    let raw: u16 = address.into();
    let mut uuid = [0x44; 16];
    uuid[14..].copy_from_slice(&raw.to_be_bytes());
    NodeEntry {
        uuid: Uuid(uuid),
        unicast_address: Hex16(raw),
        device_key: Some(Key([u8::try_from(raw & 0xff).unwrap(); 16])),
        security: Security::Secure,
        net_keys: vec![NodeKey { index: 0, updated: false }],
        app_keys: vec![NodeKey { index: 0, updated: false }],
        name: Some(name.to_owned()),
        default_ttl: Some(TTL),
        elements,
        ..own.clone()
    }
}

/// The models whose publications say all there is to know.
fn is_published(id: ModelId) -> bool {
    use mesh_models::messages::{
        BATTERY_SERVER, CTL_SERVER, HSL_SERVER, LEVEL_CLIENT, LEVEL_SERVER, LIGHTNESS_SERVER, ON_OFF_CLIENT,
        ON_OFF_SERVER,
    };
    let published = [
        BATTERY_SERVER,
        CTL_SERVER,
        HSL_SERVER,
        LEVEL_CLIENT,
        LEVEL_SERVER,
        LIGHTNESS_SERVER,
        ON_OFF_CLIENT,
        ON_OFF_SERVER,
        mesh_models::sensor::SENSOR_SERVER,
    ];
    published.contains(&id)
}

/// The topics of a set of retained messages that begin with `prefix`.
pub fn topics<'a>(retained: &'a BTreeMap<String, String>, prefix: &str) -> BTreeSet<&'a str> {
    retained.keys().filter(|topic| topic.starts_with(prefix)).map(String::as_str).collect()
}
