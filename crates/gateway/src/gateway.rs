//! The gateway's own mesh node, joined with the rules of the bridge.

use bytes::Bytes;
use clock::Instant;
use mesh_commission::cdb::{NetworkDatabase, NodeEntry};
use mesh_crypto::{AppKey, DevKey, NetKey};
use mesh_models::generic::{ON_OFF_CLIENT, ON_OFF_CLIENT_OPCODES, OnOffStatus};
use mesh_proto::access::{Element, ReceivedMessage};
use mesh_proto::bearer::{Received, Transmission};
use mesh_proto::foundation::Product;
use mesh_proto::keys::MessageKey;
use mesh_proto::network::Relay;
use mesh_proto::node::{Command, CommandError, Event, Node, NodeConfig, OutgoingMessage, Provisioned};
use mesh_proto::upper_transport::Destination;
use mesh_wire::access::Opcode;
use mesh_wire::address::UnicastAddress;
use mesh_wire::foundation::{ConfigMessage, ModelRef};
use mesh_wire::{AppKeyIndex, CompanyId, IvIndex, KeyIndex, ModelId, Transmit, Ttl};
use serde_json::json;

use crate::bridge::{Bridge, Inbox, Publication, Statistics};
use crate::devices::{Device, KnownNode};
use crate::exchanges::{Kind, Subject};

/// The Default TTL of nodes for which the database has none.
const DEFAULT_TTL: u8 = 5;

/// Config Composition Data Status, all that the gateway's Configuration Client understands.
const CONFIGURATION_CLIENT_OPCODES: &[Opcode] = &[Opcode::One(0x02)];

/// How a gateway runs.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The first levels of all its topics.
    pub base_topic: String,
    /// The network's IV Index, which is not part of the database.
    pub iv_index: IvIndex,
    /// What its random delays come from.
    pub seed: [u8; 32],
}

/// Why a gateway cannot be made of a database.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// No provisioner is a node.
    #[error(
        "no provisioner of the network database is a node with an address and a device key, which the gateway could be"
    )]
    NoAddress,
    /// The network has no application key.
    #[error(
        "the network database has no AppKey that is bound to its first NetKey, so that no lamp can be controlled"
    )]
    NoAppKey,
    /// A number is outside of its range.
    #[error("{0} in the network database is outside of its range")]
    Range(&'static str),
    /// The gateway's own node refuses its configuration.
    #[error("the gateway's node cannot be configured: {0}")]
    Node(#[from] CommandError),
}

/// A gateway between a mesh network and MQTT topics, without I/O: PDUs of a bearer and messages of a broker go in
/// and out.
#[derive(Debug)]
pub struct Gateway {
    node: Node,
    bridge: Bridge,
    app_key: AppKeyIndex,
}

impl Gateway {
    /// A gateway that is the first provisioner of the network that `database` describes.
    ///
    /// # Errors
    /// What the database lacks.
    pub fn new(
        now: Instant,
        config: &GatewayConfig,
        database: &NetworkDatabase,
    ) -> Result<Self, GatewayError> {
        let own = (database.provisioners.iter())
            .find_map(|provisioner| database.provisioner_node(provisioner))
            .ok_or(GatewayError::NoAddress)?;
        let (mut node, app_key) = own_node(now, config, database, own)?;
        let mut known = Vec::new();
        for entry in database.nodes.iter().filter(|entry| entry.uuid != own.uuid && !entry.excluded) {
            let Some(device_key) = &entry.device_key else { continue };
            let address = unicast(entry)?;
            let elements = u8::try_from(entry.elements.len()).unwrap_or(u8::MAX).max(1);
            let key = DevKey::new(device_key.0);
            node.handle_command(now, Command::AddDeviceKey { address, elements, key })?;
            known.push(known_node(entry, address, elements));
        }
        let network = json!({
            "name": database.mesh_name,
            "uuid": database.mesh_uuid.to_string(),
            "gateway_address": own.unicast_address.to_string().to_lowercase(),
        });
        let mut bridge = Bridge::new(&config.base_topic, network, known);
        bridge.start(now);
        let mut gateway = Self { node, bridge, app_key };
        gateway.pump(now);
        Ok(gateway)
    }

    /// The Topic Filter to which its host subscribes, with No Local if the broker has it.
    pub fn subscription(&self) -> String {
        self.bridge.topics().filter()
    }

    /// The will of its connection: what the broker publishes when the gateway is gone.
    pub fn will(&self) -> Publication {
        Publication {
            topic: self.bridge.topics().bridge("state"),
            payload: br#"{"state":"offline"}"#.to_vec(),
            retain: true,
            correlation_data: None,
        }
    }

    /// Takes note that a broker is there, with the subscription made.
    pub fn handle_connected(&mut self) {
        self.bridge.handle_connected();
    }

    /// Takes a message of its subscription.
    pub fn handle_publish(&mut self, now: Instant, inbox: &Inbox<'_>) {
        self.bridge.handle_publish(now, inbox);
        self.pump(now);
    }

    /// Takes what a bearer received.
    pub fn handle_pdu(&mut self, now: Instant, received: &Received<'_>) {
        self.node.handle_pdu(now, received);
        self.pump(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.node.handle_timeout(now);
        self.bridge.handle_timeout(now);
        self.pump(now);
    }

    /// When [`Gateway::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.node.poll_timeout(), self.bridge.poll_timeout()].into_iter().flatten().min()
    }

    /// The next advertisement to be sent.
    pub fn poll_transmit(&mut self) -> Option<Transmission> {
        self.node.poll_transmit()
    }

    /// The next message to be published, with QoS 1.
    pub fn poll_publish(&mut self) -> Option<Publication> {
        self.bridge.poll_publish()
    }

    /// The nodes, in the order of their addresses.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.bridge.devices()
    }

    /// The node that most transmissions lie between, of those that were heard, and how many.
    pub fn farthest(&self) -> Option<(&Device, u8)> {
        self.bridge.farthest()
    }

    /// What it has done.
    pub fn statistics(&self) -> Statistics {
        self.bridge.statistics()
    }

    /// Carries messages between node and bridge until there are none.
    fn pump(&mut self, now: Instant) {
        loop {
            if let Some(event) = self.node.poll_event() {
                if let Event::Message(message) = event {
                    self.handle_message(now, &message);
                }
            } else if let Some((subject, payload)) = self.bridge.poll_request() {
                // Without room or sequence numbers the request stays unanswered, and is repeated.
                let _ = self.node.handle_command(now, Command::Send(self.outgoing(subject, payload)));
            } else {
                return;
            }
        }
    }

    fn outgoing(&self, subject: Subject, payload: Vec<u8>) -> OutgoingMessage {
        let key = match subject.kind {
            Kind::Composition => MessageKey::RemoteDevice,
            Kind::Get | Kind::Set => MessageKey::App(self.app_key),
        };
        let destination = Destination::Address(subject.address.into());
        OutgoingMessage { element: 0, destination, key, ttl: None, payload, segmented: false }
    }

    fn handle_message(&mut self, now: Instant, message: &ReceivedMessage) {
        self.bridge.note_distance(message.source, message.ttl.into());
        if message.model == ON_OFF_CLIENT {
            if let Ok(status) = OnOffStatus::decode(&message.parameters) {
                self.bridge.handle_status(now, message.source, &status);
            }
        } else if let Ok(ConfigMessage::CompositionDataStatus { page: 0, data }) =
            ConfigMessage::decode(message.opcode, &message.parameters)
        {
            self.bridge.handle_composition(now, message.source, &data);
        }
    }
}

/// The gateway's own node, with the client models that it needs, bound to the first AppKey of its NetKey.
fn own_node(
    now: Instant,
    config: &GatewayConfig,
    database: &NetworkDatabase,
    own: &NodeEntry,
) -> Result<(Node, AppKeyIndex), GatewayError> {
    let net_key = database.net_keys.first().ok_or(GatewayError::NoAppKey)?;
    let app_key = database.app_keys.iter().find(|key| key.bound_net_key == net_key.index);
    let app_key = app_key.ok_or(GatewayError::NoAppKey)?;
    let net_key_index = KeyIndex::new(net_key.index).ok_or(GatewayError::Range("a NetKey index"))?;
    let index = KeyIndex::new(app_key.index).ok_or(GatewayError::Range("an AppKey index"))?;
    let address = unicast(own)?;
    let provisioned = Provisioned {
        net_key: NetKey::new(net_key.key.0),
        net_key_index,
        iv_index: config.iv_index,
        address,
        dev_key: DevKey::new(own.device_key.as_ref().ok_or(GatewayError::NoAddress)?.0),
    };
    let element = Element::new(0)
        .with_host(ON_OFF_CLIENT, ON_OFF_CLIENT_OPCODES)
        .with_host(ModelId::CONFIGURATION_CLIENT, CONFIGURATION_CLIENT_OPCODES);
    let transmit = transmit_of(own);
    let node_config = NodeConfig {
        // 0xFFFF is the company of those that have none.
        product: Product { company: CompanyId(0xffff), product: 0, version: 1 },
        elements: vec![element],
        network_transmit: transmit,
        relay: Relay { enabled: own.features.is_some_and(|x| x.relay == Some(1)), retransmit: transmit },
        default_ttl: Ttl::new(own.default_ttl.unwrap_or(DEFAULT_TTL)).ok_or(GatewayError::Range("a TTL"))?,
        seed: config.seed,
    };
    let mut node = Node::new(provisioned, node_config);
    let model = ModelRef { element: address, model: ON_OFF_CLIENT };
    let key = AppKey::new(app_key.key.0);
    for request in
        [ConfigMessage::AppKeyAdd { net_key_index, index, key }, ConfigMessage::ModelAppBind { index, model }]
    {
        node.handle_command(now, Command::Configure(request))?;
    }
    Ok((node, index))
}

/// Three transmissions 20 ms apart, unless the database says otherwise.
fn transmit_of(own: &NodeEntry) -> Transmit {
    let from_database = own.network_transmit.and_then(|transmit| {
        Transmit::new(transmit.count, core::time::Duration::from_millis(transmit.interval.into()))
    });
    from_database.unwrap_or(Transmit::from_octet(0x0a))
}

fn known_node(entry: &NodeEntry, address: UnicastAddress, element_count: u8) -> KnownNode {
    let element_names =
        entry.elements.iter().filter_map(|element| Some((element.index, element.name.clone()?))).collect();
    KnownNode {
        address,
        element_count,
        element_names,
        uuid: entry.uuid.to_string(),
        name: entry.name.clone(),
        default_ttl: entry.default_ttl.unwrap_or(DEFAULT_TTL),
    }
}

fn unicast(entry: &NodeEntry) -> Result<UnicastAddress, GatewayError> {
    UnicastAddress::new(entry.unicast_address.0).ok_or(GatewayError::Range("an address of a node"))
}

impl<'a> Inbox<'a> {
    /// A message without a Response Topic.
    pub fn new(topic: &'a str, payload: &'a [u8]) -> Self {
        Self { topic, payload, retain: false, response_topic: None, correlation_data: None }
    }

    /// The same with a Response Topic.
    #[must_use]
    pub fn answered_on(self, response_topic: &'a str, correlation_data: Option<Bytes>) -> Self {
        Self { response_topic: Some(response_topic), correlation_data, ..self }
    }
}
