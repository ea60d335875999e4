//! The gateway's own mesh node, joined with the rules of the bridge.

use std::collections::VecDeque;

use bytes::Bytes;
use clock::Instant;
use mesh_commission::cdb::{CdbError, NetworkDatabase};
use mesh_proto::bearer::{Received, Transmission};
use mesh_proto::keys::MessageKey;
use mesh_proto::node::{Command, CommandError, Event, Node, OutgoingMessage, RestoreError};
use mesh_proto::upper_transport::Destination;
use mesh_wire::address::Address;
use mesh_wire::foundation::ConfigMessage;
use mesh_wire::{AppKeyIndex, IvIndex};

use crate::bridge::{Bridge, Inbox, Publication, Settings, Statistics};
use crate::devices::Device;
use crate::elements::{MqttDevice, MqttDevices};
use crate::own_node::{self, OwnNode};
use crate::record::{self, Change, Stored};
use crate::scheduler::{Airtime, Lane, Subject};

/// How a gateway runs.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The first levels of all its topics.
    pub base_topic: String,
    /// The network's IV Index when the gateway first joins it; later it remembers.
    pub iv_index: IvIndex,
    /// What its random delays come from; another one at each start.
    pub seed: [u8; 32],
    /// How much it may send.
    pub airtime: Airtime,
    /// After how many missed status periods a node is offline; at least 1.
    pub availability_periods: u32,
    /// The first level of Home Assistant's discovery topics; `None`: nothing is published for it.
    pub discovery_prefix: Option<String>,
    /// Whether whoever may publish on `bridge/request/…` may have the network's keys.
    pub export_keys: bool,
    /// Milliseconds from 1970 to the origin of the time that it is told.
    pub origin_unix_ms: u64,
    /// Things that speak MQTT, as elements of the gateway's node, in the order of their addresses.
    pub devices: Vec<MqttDevice>,
}

impl GatewayConfig {
    /// Topics below `mesh`, the default airtime, offline after three missed periods, discovery for Home Assistant.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            base_topic: "mesh".to_owned(),
            iv_index: IvIndex(0),
            seed,
            airtime: Airtime::default(),
            availability_periods: 3,
            discovery_prefix: Some("homeassistant".to_owned()),
            export_keys: false,
            origin_unix_ms: 0,
            devices: Vec::new(),
        }
    }
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
    /// The MQTT devices need elements that another node has.
    #[error(
        "the MQTT devices need {needed} elements after the gateway's own, and the addresses of another node begin \
         before; configure fewer, or give the gateway a larger range of addresses"
    )]
    NoRoom {
        /// How many.
        needed: usize,
    },
    /// What was stored is of another network.
    #[error("the stored state is of the network {stored}, not of {given}; use another data directory")]
    OtherNetwork {
        /// The UUID that was stored.
        stored: String,
        /// The UUID of the database.
        given: String,
    },
    /// The stored database cannot be read.
    #[error("the stored network database cannot be read: {0}")]
    Database(#[from] CdbError),
    /// A record of the gateway's node cannot be read.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The gateway's own node refuses its configuration.
    #[error("the gateway's node cannot be configured: {0}")]
    Node(#[from] CommandError),
}

/// A gateway between a mesh network and MQTT topics, without I/O: PDUs of a bearer and messages of a broker go in
/// and out. What it has to remember goes out as well, and nothing else while that is being stored.
#[derive(Debug)]
pub struct Gateway {
    node: Node,
    bridge: Bridge,
    app_key: AppKeyIndex,
    devices: MqttDevices,
    transmissions: VecDeque<Transmission>,
    /// Whether records were taken that are not stored yet.
    is_storing: bool,
    /// Records of the bridge that wait for those of the node, or the other way round.
    records: Vec<(Vec<u8>, Change)>,
}

impl Gateway {
    /// A gateway that is the first provisioner of the network that `database` describes. `stored` is what
    /// [`Gateway::take_records`] gave before a restart, and empty at the first start.
    ///
    /// # Errors
    /// What the database lacks, or what of the stored records cannot be read.
    pub fn new(
        now: Instant,
        config: &GatewayConfig,
        database: &NetworkDatabase,
        stored: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
    ) -> Result<Self, GatewayError> {
        let records: Vec<(Vec<u8>, Vec<u8>)> = stored.into_iter().collect();
        let stored = Stored::new(records.iter().cloned());
        let database = own_node::current(database, &stored)?;
        let OwnNode { node, app_key, address, known } = own_node::make(now, config, &database, stored.node)?;
        let settings = Settings {
            base: config.base_topic.clone(),
            airtime: config.airtime,
            availability_periods: config.availability_periods.max(1),
            discovery_prefix: config.discovery_prefix.clone(),
            may_export_keys: config.export_keys,
            origin_unix_ms: config.origin_unix_ms,
            own: address,
        };
        let [first_tid, ..] = config.seed;
        let mut bridge = Bridge::new(now, settings, database, known, first_tid);
        for (key, value) in &records {
            bridge.note_stored(key, Some(value));
        }
        bridge.restore(&stored.bridge);
        bridge.start(now);
        let devices = MqttDevices::new(&config.devices);
        let mut gateway = Self {
            node,
            bridge,
            app_key,
            devices,
            transmissions: VecDeque::new(),
            is_storing: false,
            records: Vec::new(),
        };
        gateway.join_groups(now);
        gateway.pump(now);
        Ok(gateway)
    }

    /// The Topic Filters to which its host subscribes, with No Local if the broker has it, and whether what is
    /// retained is wanted.
    pub fn subscriptions(&self) -> Vec<(String, bool)> {
        let commands = (self.bridge.topics().filter(), false);
        let birth = self.bridge.birth_topic().map(|topic| (topic, false));
        let states = self.devices.iter().filter_map(|(_, device)| Some((device.state_topic.clone()?, true)));
        std::iter::once(commands).chain(birth).chain(states).collect()
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

    /// Takes note that a broker is there, with the subscriptions made.
    pub fn handle_connected(&mut self, now: Instant) {
        self.bridge.handle_connected(now);
        self.pump(now);
    }

    /// Takes note that the broker is gone. What is not retained is kept until it is back.
    pub fn handle_disconnected(&mut self) {
        self.bridge.handle_disconnected();
    }

    /// Takes note that the broker has taken a publication.
    pub fn handle_published(&mut self, now: Instant, publication: &Publication) {
        if publication.retain && publication.payload.is_empty() {
            self.bridge.handle_forgotten(&publication.topic);
            self.pump(now);
        }
    }

    /// Takes a message of its subscriptions.
    pub fn handle_publish(&mut self, now: Instant, inbox: &Inbox<'_>) {
        match self.devices.handle_state(now, &mut self.node, inbox.topic, inbox.payload) {
            Some(Ok(())) => {}
            Some(Err(error)) => self.bridge.log_error(&error),
            None => self.bridge.handle_publish(now, inbox),
        }
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
        [self.node.poll_timeout(), self.bridge.poll_timeout(), self.devices.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next advertisement to be sent; none while records wait to be stored.
    pub fn poll_transmit(&mut self) -> Option<Transmission> {
        if self.is_held_back() { None } else { self.transmissions.pop_front() }
    }

    /// The next message to be published, with QoS 1; none while records wait to be stored.
    pub fn poll_publish(&mut self) -> Option<Publication> {
        if self.is_held_back() { None } else { self.bridge.poll_publish() }
    }

    /// Takes what is to be stored, key and new value (or `None`: the key is to go), all together or none. Nothing
    /// is sent or published until [`Gateway::handle_stored`] is called.
    pub fn take_records(&mut self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        if self.is_storing {
            return Vec::new();
        }
        let records = std::mem::take(&mut self.records);
        self.is_storing = !records.is_empty();
        for (key, change) in &records {
            self.bridge.note_stored(key, change.as_deref());
        }
        records
    }

    /// The records that were taken are stored.
    pub fn handle_stored(&mut self, now: Instant) {
        self.is_storing = false;
        self.node.handle_stored();
        self.pump(now);
    }

    /// The nodes, in the order of their addresses.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.bridge.devices()
    }

    /// The node that most transmissions lie between, of those that were heard, and how many.
    pub fn farthest(&self) -> Option<(&Device, u8)> {
        self.bridge.farthest()
    }

    /// The network as it is now.
    pub fn database(&self) -> &NetworkDatabase {
        self.bridge.database()
    }

    /// What it has done.
    pub fn statistics(&self) -> Statistics {
        self.bridge.statistics()
    }

    fn is_held_back(&self) -> bool {
        self.is_storing || !self.records.is_empty()
    }

    /// Carries messages between node and bridge until there are none.
    fn pump(&mut self, now: Instant) {
        loop {
            if let Some(event) = self.node.poll_event() {
                if let Event::Message(message) = event {
                    if message.key == MessageKey::RemoteDevice {
                        self.bridge.note_heard(now, &message);
                        self.handle_configuration(now, &message);
                    } else {
                        self.bridge.handle_message(now, &message);
                    }
                }
            } else if let Some(address) = self.bridge.poll_subscription() {
                self.join_group(now, address);
            } else if let Some((subject, payload)) = self.bridge.poll_request(now) {
                // Without room or sequence numbers the request stays unanswered, and is repeated.
                let _ = self.node.handle_command(now, Command::Send(self.outgoing(subject, payload)));
            } else {
                break;
            }
        }
        for (topic, payload) in self.devices.commands(now, &self.node) {
            self.bridge.publish_command(topic, payload);
        }
        while let Some(transmission) = self.node.poll_transmit() {
            self.bridge.handle_sent(now);
            self.transmissions.push_back(transmission);
        }
        self.collect_records();
    }

    /// Node and bridge are stored together. While the node's records are on their way to the store it gives none.
    fn collect_records(&mut self) {
        if self.is_storing {
            return;
        }
        self.records.extend(self.node.take_records().into_iter().map(record::of_node));
        self.records.extend(self.bridge.take_changes().into_iter().map(record::of_bridge));
    }

    fn outgoing(&self, subject: Subject, payload: Vec<u8>) -> OutgoingMessage {
        let key = match subject.lane {
            Lane::Configure => MessageKey::RemoteDevice,
            Lane::Get(_) | Lane::Set => MessageKey::App(self.app_key),
        };
        let destination = Destination::Address(subject.destination);
        OutgoingMessage { element: 0, destination, key, ttl: None, payload, segmented: false }
    }

    fn handle_configuration(&mut self, now: Instant, message: &mesh_proto::access::ReceivedMessage) {
        match ConfigMessage::decode(message.opcode, &message.parameters) {
            Ok(ConfigMessage::CompositionDataStatus { page: 0, data }) => {
                self.bridge.handle_composition(now, message.source, &data);
            }
            Ok(answer) => self.bridge.handle_configured(now, message.source, &answer),
            Err(_) => {}
        }
    }

    /// Has the elements of MQTT devices listen to the groups of their configuration.
    fn join_groups(&mut self, now: Instant) {
        let wanted: Vec<(u8, mesh_wire::ModelId, Vec<String>)> = (self.devices.iter())
            .map(|(element, device)| (element, device.model(), device.groups.clone()))
            .collect();
        for (element, model, groups) in wanted {
            for name in groups {
                match self.bridge.group_address(&name) {
                    Some(address) => own_node::subscribe(now, &mut self.node, element, model, address),
                    None => {
                        self.bridge.complain(format!("an MQTT device listens to {name:?}, which is no group"))
                    }
                }
            }
        }
    }

    /// Has the gateway hear what buttons send to a group.
    fn join_group(&mut self, now: Instant, address: Address) {
        own_node::subscribe(now, &mut self.node, 0, own_node::LISTENER, address);
    }
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
