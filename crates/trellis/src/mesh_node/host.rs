//! The node and what it is before, as the commands and the bearer drive them. Does no I/O.

use std::fmt::Display;
use std::time::Duration;

use anyhow::Context as _;
use clock::Instant;
use journal::Change;
use mesh_crypto::provisioning::AuthValue;
use mesh_crypto::{DevKey, PrivateKey};
use mesh_models::generic::OnOffServer;
use mesh_proto::access::Element;
use mesh_proto::bearer::{Received, Transmission};
use mesh_proto::foundation::{HealthServer, Product};
use mesh_proto::friend::FriendSettings;
use mesh_proto::low_power::LowPowerSettings;
use mesh_proto::network::Relay;
use mesh_proto::node::{
    self, Answer, Event, FriendshipRole, Node, NodeConfig, NodeOptions, OutgoingMessage, Provisioned,
    RecordKey,
};
use mesh_proto::provisioning::{
    Choice, DeviceConfig, DeviceEvent, GiveUp, OobValue, PbAdv, PbAdvConfig, Protocol as _, Provisionee,
    Provisioner, ProvisionerEvent,
};
use mesh_wire::access::Opcode;
use mesh_wire::address::UnicastAddress;
use mesh_wire::beacon::{Beacon, NetworkFlags, UnprovisionedDevice};
use mesh_wire::bearer::AdType;
use mesh_wire::foundation::{ConfigMessage, HealthMessage};
use mesh_wire::provisioning::{Capabilities, ProvisioningData};
use mesh_wire::{CompanyId, IvIndex, KeyIndex, ModelId, Transmit, Ttl};
use serde_json::{Value, json};

use super::addresses::Addresses;
use super::command::Command;
use super::memory::{self, Memory, RemoteDevice};
use super::oob::{self, DeviceOob, ProvisionerOob};
use super::{Feature, random_uuid, seed};

/// The company of a node that has none.
const COMPANY: CompanyId = CompanyId(0xffff);

/// How many elements the node has.
const OWN_ELEMENTS: u8 = 1;

/// A vendor's model that understands three opcodes, so that messages of any length can be tried.
const PLAYGROUND: ModelId = ModelId::Vendor(COMPANY, 1);
const PLAYGROUND_OPCODES: &[Opcode] =
    &[Opcode::Vendor(0, COMPANY), Opcode::Vendor(1, COMPANY), Opcode::Vendor(2, COMPANY)];

const ON_OFF_CLIENT: ModelId = ModelId::Sig(0x1001);

/// What the Configuration Client understands: each status and list.
const CONFIGURATION: &[Opcode] = &[
    Opcode::One(0x02),
    Opcode::One(0x06),
    Opcode::Two(0x8002),
    Opcode::Two(0x8003),
    Opcode::Two(0x800b),
    Opcode::Two(0x800e),
    Opcode::Two(0x8011),
    Opcode::Two(0x8014),
    Opcode::Two(0x8017),
    Opcode::Two(0x8019),
    Opcode::Two(0x801f),
    Opcode::Two(0x8025),
    Opcode::Two(0x8028),
    Opcode::Two(0x802a),
    Opcode::Two(0x802c),
    Opcode::Two(0x802e),
    Opcode::Two(0x803c),
    Opcode::Two(0x803e),
    Opcode::Two(0x8043),
    Opcode::Two(0x8044),
    Opcode::Two(0x8048),
    Opcode::Two(0x804a),
    Opcode::Two(0x804c),
    Opcode::Two(0x804e),
];

/// How a device is known and provisioned.
pub(super) struct Settings {
    pub(super) uuid: Option<[u8; 16]>,
    pub(super) oob: DeviceOob,
    pub(super) pb_adv_retry: Duration,
    pub(super) features: Vec<Feature>,
    pub(super) low_power: LowPowerSettings,
}

/// Everything that runs by hand.
pub(super) struct Host {
    pb_adv_retry: Duration,
    features: Vec<Feature>,
    low_power: LowPowerSettings,
    /// What is to be stored; `None`: nothing ever is.
    changes: Option<Vec<Change>>,
    /// Whether what is stored is to be forgotten.
    is_reset: bool,
    /// Whether the node was taken out of its network.
    has_left: bool,
    device: Option<PbAdv<Provisionee>>,
    node: Option<Node>,
    provisioner: Option<(PbAdv<Provisioner>, Provision)>,
    /// What may not be given to another node.
    addresses: Addresses,
    lines: Vec<Value>,
}

/// What a provisioning that is under way gives to its device.
struct Provision {
    /// None: the next that is free.
    address: Option<UnicastAddress>,
    oob: ProvisionerOob,
}

impl Host {
    /// A device that waits to be provisioned, or the node that `memory` is of.
    pub(super) fn new(now: Instant, settings: &Settings, memory: Memory) -> anyhow::Result<Self> {
        let uuid = match settings.uuid.or(memory.uuid) {
            Some(uuid) => uuid,
            None => random_uuid()?,
        };
        let mut host = Self {
            pb_adv_retry: settings.pb_adv_retry,
            features: settings.features.clone(),
            low_power: settings.low_power,
            changes: memory.keeps.then(|| vec![memory::uuid(uuid)]),
            is_reset: false,
            has_left: false,
            device: None,
            node: None,
            provisioner: None,
            addresses: Addresses::default(),
            lines: Vec::new(),
        };
        if let Some(provisioned) = memory.provisioned {
            host.addresses.give(provisioned.address, OWN_ELEMENTS);
            for (address, elements) in memory.given {
                host.addresses.give(address, elements);
            }
            host.node = Some(host.make_node(now, provisioned, memory.records)?);
            for device in memory.devices {
                host.addresses.give(device.0, device.1);
                host.add_device(now, device);
            }
            host.lines.clear();
            let address = host.node.as_ref().map(|node| node.address().to_string());
            host.lines.push(json!({"event": "restarted", "address": address}));
            return Ok(host);
        }
        let key = settings.oob.key_pair(memory.oob_key)?;
        host.wait_for_provisioner(now, uuid, &settings.oob, key)?;
        Ok(host)
    }

    /// Makes it a device that can be provisioned.
    fn wait_for_provisioner(
        &mut self,
        now: Instant,
        uuid: [u8; 16],
        oob: &DeviceOob,
        key: Option<PrivateKey>,
    ) -> anyhow::Result<()> {
        let mut line = json!({"event": "unprovisioned", "uuid": hex::encode(uuid)});
        if let Some(key) = &key {
            line["public_key"] = json!(hex::encode(key.public_key().as_bytes()));
            self.store(memory::oob_key(key));
        }
        self.lines.push(line);
        let config = DeviceConfig {
            oob_private_key: key,
            static_oob: oob.static_value.as_deref().map(AuthValue::from_octets),
            requires_oob: oob.is_required,
            output: oob.output,
            input: oob.input,
            ..DeviceConfig::new(OWN_ELEMENTS)
        };
        let beacon = UnprovisionedDevice { uuid, oob_information: 0, uri_hash: None };
        let device = Provisionee::new(config, seed()?);
        let pb_adv = PbAdvConfig { retry: self.pb_adv_retry, ..PbAdvConfig::default() };
        self.device = Some(PbAdv::device(now, device, beacon, pb_adv, seed()?));
        Ok(())
    }

    /// What is to be stored, all together, before the next call of [`Host::poll_transmit`].
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        let Some(changes) = &mut self.changes else { return Vec::new() };
        let mut changes = std::mem::take(changes);
        if let Some(node) = &mut self.node {
            changes.extend(node.take_records().into_iter().map(memory::record));
        }
        changes
    }

    pub(super) fn handle_stored(&mut self, now: Instant) {
        if let Some(node) = &mut self.node {
            node.handle_stored();
        }
        self.follow_up(now);
    }

    /// Whether the node was taken out of its network since this was asked last.
    pub(super) fn take_reset(&mut self) -> bool {
        std::mem::take(&mut self.is_reset)
    }

    fn store(&mut self, change: Change) {
        if let Some(changes) = &mut self.changes {
            changes.push(change);
        }
    }

    pub(super) fn take_lines(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.lines)
    }

    pub(super) fn complain(&mut self, error: &impl Display) {
        self.lines.push(json!({"event": "error", "error": error.to_string()}));
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Transmission> {
        let device = self.device.as_mut().and_then(PbAdv::poll_transmit);
        let device = device.or_else(|| self.provisioner.as_mut().and_then(|(x, _)| x.poll_transmit()));
        device.or_else(|| self.node.as_mut().and_then(Node::poll_transmit))
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let device = self.device.as_ref().and_then(PbAdv::poll_timeout);
        let provisioner = self.provisioner.as_ref().and_then(|(x, _)| x.poll_timeout());
        [device, provisioner, self.node.as_ref().and_then(Node::poll_timeout)].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(device) = &mut self.device {
            device.handle_timeout(now);
        }
        if let Some((provisioner, _)) = &mut self.provisioner {
            provisioner.handle_timeout(now);
        }
        if let Some(node) = &mut self.node {
            node.handle_timeout(now);
        }
        self.follow_up(now);
    }

    pub(super) fn handle_pdu(&mut self, now: Instant, received: &Received<'_>) {
        if received.ad_type == AdType::MeshBeacon
            && let Ok(Beacon::UnprovisionedDevice(device)) = Beacon::decode(received.data)
        {
            self.lines.push(json!({"event": "device", "uuid": hex::encode(device.uuid)}));
            return;
        }
        if let Some(device) = &mut self.device {
            device.handle_pdu(now, received);
        }
        if let Some((provisioner, _)) = &mut self.provisioner {
            provisioner.handle_pdu(now, received);
        }
        // A node that sleeps hears nothing.
        if let Some(node) = self.node.as_mut().filter(|node| node.is_listening()) {
            node.handle_pdu(now, received);
        }
        self.follow_up(now);
    }

    /// Carries a command out; what is wrong with it is printed, only a broken system ends the program.
    pub(super) fn handle_command(&mut self, now: Instant, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Create { .. } if self.node.is_some() && !self.has_left => {
                self.complain(&"the node belongs to a network already; local 8049 takes it out");
            }
            Command::Create { net_key, address } => {
                // It waits for no other provisioner any more, and what was given was given in another network.
                self.device = None;
                self.has_left = false;
                self.addresses = Addresses::default();
                let mut dev_key = [0; 16];
                getrandom::fill(&mut dev_key)?;
                let provisioned = Provisioned {
                    net_key,
                    net_key_index: KeyIndex::ZERO,
                    iv_index: IvIndex(0),
                    address,
                    dev_key: DevKey::new(dev_key),
                };
                self.become_node(now, provisioned, NetworkFlags::default())?;
            }
            Command::Provision { uuid, address, oob } => {
                self.provision(now, uuid, Provision { address, oob })?;
            }
            Command::Cancel => self.cancel(now),
            Command::Enter(value) => {
                self.enter(now, &value);
            }
            Command::Send { destination, key, payload, segmented } => {
                let message = OutgoingMessage { element: 0, destination, key, ttl: None, payload, segmented };
                self.ask_node(now, node::Command::Send(message));
            }
            Command::Local(payload) => {
                let request = Opcode::decode(&payload)
                    .and_then(|(opcode, parameters)| ConfigMessage::decode(opcode, parameters));
                match request {
                    Ok(request) => self.ask_node(now, node::Command::Configure(request)),
                    Err(error) => self.complain(&error),
                }
            }
            Command::Iv(command) => self.ask_node(now, node::Command::IvUpdate(command)),
            Command::LowPower(is_on) => self.ask_node(now, node::Command::LowPower(is_on)),
            Command::Poll => self.ask_node(now, node::Command::Poll),
            Command::Quit => {}
        }
        self.follow_up(now);
        Ok(())
    }

    fn ask_node(&mut self, now: Instant, command: node::Command) {
        let Some(node) = &mut self.node else {
            self.complain(&"the node belongs to no network yet");
            return;
        };
        match node.handle_command(now, command) {
            Ok(Answer::Configured(answer)) => {
                self.lines.push(json!({"event": "configured", "payload": hex::encode(answer.encode())}));
            }
            Ok(_) => self.lines.push(json!({"event": "done"})),
            Err(error) => self.complain(&error),
        }
    }

    fn provision(&mut self, now: Instant, uuid: [u8; 16], provision: Provision) -> anyhow::Result<()> {
        if self.node.is_none() || self.has_left {
            self.complain(&"the node belongs to no network that it could take a device into; create one");
        } else if self.provisioner.as_ref().is_some_and(|(link, _)| !link.protocol().is_done()) {
            self.complain(&"another device is being provisioned; wait for it, or cancel");
        } else if let Err(error) = self.addresses.find(provision.address, 1) {
            self.complain(&error);
        } else {
            let settings = PbAdvConfig { retry: self.pb_adv_retry, ..PbAdvConfig::default() };
            let provisioner = Provisioner::new(0, seed()?);
            let link = PbAdv::open(now, provisioner, uuid, settings, seed()?);
            self.provisioner = Some((link, provision));
        }
        Ok(())
    }

    /// Ends a provisioning that is under way, as provisioner or as device.
    fn cancel(&mut self, now: Instant) {
        if let Some((link, _)) = &mut self.provisioner {
            link.with_protocol(now, Provisioner::cancel);
        }
        if let Some(link) = &mut self.device {
            link.with_protocol(now, |device| device.give_up(GiveUp::UnexpectedError));
        }
    }

    /// Whether a value is asked for that this can be; it is taken then.
    pub(super) fn enter(&mut self, now: Instant, text: &str) -> bool {
        let value = text.parse().map_or_else(|_| OobValue::Text(text.to_owned()), OobValue::Number);
        let text = OobValue::Text(text.to_owned());
        let mut is_taken = false;
        if let Some((link, _)) = &mut self.provisioner {
            is_taken |=
                link.with_protocol(now, |x| x.enter_value(now, &value).or(x.enter_value(now, &text))).is_ok();
        }
        if let Some(link) = &mut self.device {
            is_taken |=
                link.with_protocol(now, |x| x.enter_value(now, &value).or(x.enter_value(now, &text))).is_ok();
        }
        self.follow_up(now);
        is_taken
    }

    fn become_node(
        &mut self,
        now: Instant,
        provisioned: Provisioned,
        flags: NetworkFlags,
    ) -> anyhow::Result<()> {
        self.lines.push(json!({
            "event": "provisioned",
            "address": provisioned.address.to_string(),
            "net_key": hex::encode(provisioned.net_key.as_bytes()),
            "dev_key": hex::encode(provisioned.dev_key.as_bytes()),
            "iv_index": provisioned.iv_index.0,
        }));
        self.store(memory::provisioned(&provisioned));
        self.addresses.give(provisioned.address, OWN_ELEMENTS);
        self.node = Some(self.make_node(now, provisioned, Vec::new())?.with_network_flags(flags));
        Ok(())
    }

    fn add_device(&mut self, now: Instant, device: RemoteDevice) {
        self.store(memory::device(&device));
        let (address, elements, key) = device;
        self.ask_node(now, node::Command::AddDeviceKey { address, elements, key });
    }

    /// The node that `records` are of; a new one without any.
    fn make_node(
        &self,
        now: Instant,
        provisioned: Provisioned,
        records: Vec<(RecordKey, Vec<u8>)>,
    ) -> anyhow::Result<Node> {
        let transmit = Transmit::from_octet(0x0a);
        let element = Element::new(0x0100)
            .with_server(HealthServer::new(COMPANY, vec![0], Box::new(|_| Vec::new())))
            .with_server(OnOffServer::new(false))
            .with_host(ModelId::CONFIGURATION_CLIENT, CONFIGURATION)
            .with_host(ModelId::HEALTH_CLIENT, &HealthMessage::CLIENT_OPCODES)
            .with_host(ON_OFF_CLIENT, &[Opcode::Two(0x8204)])
            .with_host(PLAYGROUND, PLAYGROUND_OPCODES);
        let config = NodeConfig {
            product: Product { company: COMPANY, product: 1, version: 1 },
            elements: vec![element],
            network_transmit: transmit,
            relay: Relay { enabled: true, retransmit: transmit },
            default_ttl: Ttl::new(7).unwrap_or(Ttl::MAX),
            seed: seed()?,
            options: NodeOptions {
                friend: self.has(Feature::Friend).then(FriendSettings::default),
                low_power: self.has(Feature::LowPower).then_some(self.low_power),
                ..NodeOptions::default()
            },
        };
        Ok(match &self.changes {
            Some(_) => Node::restore(now, provisioned, config, records)?,
            None => Node::new(provisioned, config),
        })
    }

    fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    /// Tells what has happened, and does what follows from it.
    fn follow_up(&mut self, now: Instant) {
        self.follow_device(now);
        self.follow_provisioner(now);
        while let Some(event) = self.node.as_mut().and_then(Node::poll_event) {
            if event == Event::Reset {
                (self.is_reset, self.has_left) = (true, true);
            }
            let line = self.describe(now, &event);
            self.lines.push(line);
        }
        // The acknowledgments and the Link Close of a session that has ended are still to be sent.
        if self.device.as_ref().is_some_and(PbAdv::is_finished) {
            self.device = None;
        }
    }

    fn follow_device(&mut self, now: Instant) {
        while let Some(event) =
            self.device.as_mut().and_then(|device| device.with_protocol(now, Provisionee::poll_event))
        {
            match event {
                DeviceEvent::Provisioned { data, dev_key } => {
                    let ProvisioningData { net_key, net_key_index, flags, iv_index, address } = data;
                    let provisioned = Provisioned { net_key, net_key_index, iv_index, address, dev_key };
                    if let Err(error) = self.become_node(now, provisioned, flags) {
                        self.complain(&error);
                    }
                }
                DeviceEvent::ShowValue { action, size, value } => {
                    let name = oob::output_name(action);
                    self.lines.push(oob::show(name, action.is_counted(), size, &value));
                }
                DeviceEvent::EnterValue { action, size } => {
                    let action = oob::input_name(action);
                    self.lines.push(json!({"event": "enter", "action": action, "size": size}));
                }
                DeviceEvent::Attention(duration) => {
                    self.lines.push(json!({"event": "attention", "seconds": duration.as_secs()}));
                }
                DeviceEvent::HideValue => self.lines.push(json!({"event": "hide"})),
                DeviceEvent::Failed(failure) => {
                    self.lines.push(json!({"event": "provisioning_failed", "error": failure.to_string()}));
                }
            }
        }
    }

    fn follow_provisioner(&mut self, now: Instant) {
        while let Some((link, provision)) = &mut self.provisioner {
            let Some(event) = link.with_protocol(now, Provisioner::poll_event) else { return };
            match event {
                ProvisionerEvent::Capabilities(capabilities) => {
                    self.lines.push(oob::describe(&capabilities));
                    let choice = choose(self.node.as_ref(), &self.addresses, provision, &capabilities);
                    let chosen =
                        choice.and_then(|x| Ok(link.with_protocol(now, |link| link.choose(now, x))?));
                    if let Err(error) = chosen {
                        // Why says more than that it was called off.
                        link.with_protocol(now, |link| {
                            link.cancel();
                            link.poll_event()
                        });
                        self.complain(&error);
                    }
                }
                ProvisionerEvent::Addresses { address, elements } => {
                    self.addresses.give(address, elements);
                    self.store(memory::given(address, elements));
                }
                ProvisionerEvent::Provisioned(new) => {
                    self.lines.push(json!({
                        "event": "added",
                        "address": new.address.to_string(),
                        "elements": new.elements,
                        "dev_key": hex::encode(new.dev_key.as_bytes()),
                        "authenticated": new.is_authenticated,
                    }));
                    self.add_device(now, (new.address, new.elements, new.dev_key));
                }
                ProvisionerEvent::Failed(failure) => self.complain(&failure),
                ProvisionerEvent::ShowValue { action, size, value } => {
                    let name = oob::input_name(action);
                    self.lines.push(oob::show(name, action.is_counted(), size, &value));
                }
                ProvisionerEvent::EnterValue { action, size } => {
                    let action = oob::output_name(action);
                    self.lines.push(json!({"event": "enter", "action": action, "size": size}));
                }
                ProvisionerEvent::HideValue => self.lines.push(json!({"event": "hide"})),
            }
        }
    }

    fn describe(&self, now: Instant, event: &Event) -> Value {
        match event {
            Event::Message(message) => json!({
                "event": "message",
                "source": message.source.to_string(),
                "destination": message.destination.address().to_string(),
                "model": message.model.to_string(),
                "payload": hex::encode(message.opcode.with(&message.parameters)),
            }),
            Event::Changed { .. } => {
                let lamp = self.node.as_ref().and_then(|node| node.server::<OnOffServer>(0));
                json!({"event": "changed", "on": lamp.is_some_and(|lamp| lamp.is_on(now))})
            }
            Event::Sent { result, .. } => {
                json!({"event": "sent", "error": result.as_ref().err().map(ToString::to_string)})
            }
            Event::IvIndex { index, is_in_progress } => {
                json!({"event": "iv_index", "index": index.0, "in_progress": is_in_progress})
            }
            Event::KeyRefresh { net_key_index, phase } => json!({
                "event": "key_refresh",
                "net_key_index": u16::from(*net_key_index),
                "phase": *phase as u8,
            }),
            Event::Heartbeat { source, hops, features } => json!({
                "event": "heartbeat",
                "source": source.to_string(),
                "hops": hops,
                "features": features.0,
            }),
            Event::Friendship { with, role, has_begun } => json!({
                "event": "friendship",
                "with": with.to_string(),
                "role": match role {
                    FriendshipRole::Friend => "friend",
                    FriendshipRole::LowPower => "low_power",
                },
                "begun": has_begun,
            }),
            Event::ProxyFilter { connection, filter_type, list_size } => json!({
                "event": "proxy_filter",
                "connection": connection.0,
                "type": *filter_type as u8,
                "addresses": list_size,
            }),
            Event::Reset => json!({"event": "reset"}),
        }
    }
}

/// What a device gets from the network that the node belongs to.
fn choose(
    node: Option<&Node>,
    addresses: &Addresses,
    provision: &Provision,
    capabilities: &Capabilities,
) -> anyhow::Result<Choice> {
    let node = node.context("the node belongs to no network any more")?;
    let subnet = node.subnets().first().context("the node has no NetKey any more")?;
    let beacon = node.secure_network_beacon(subnet.index).context("the node has no NetKey any more")?;
    Ok(Choice {
        authentication: provision.oob.authentication(capabilities),
        oob_public_key: provision.oob.public_key,
        allows_cmac: true,
        data: ProvisioningData {
            net_key: subnet.sending().net_key.clone(),
            net_key_index: subnet.index,
            flags: beacon.flags,
            iv_index: node.iv_update().index(),
            address: addresses.find(provision.address, capabilities.elements)?,
        },
    })
}
