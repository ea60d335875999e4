//! The gateway's own node: what a network database says of it, and what it needs beyond that.

use std::time::Duration;

use clock::Instant;
use mesh_commission::cdb::{NetworkDatabase, NodeEntry, PublishPeriodEntry};
use mesh_crypto::{AppKey, DevKey, NetKey};
use mesh_models::client::CLIENTS;
use mesh_models::messages::{DeltaSet, LevelSet, MoveSet, OnOffSet};
use mesh_proto::access::Element;
use mesh_proto::foundation::Product;
use mesh_proto::network::Relay;
use mesh_proto::node::{Command, Node, NodeConfig, NodeOptions, Provisioned, RecordKey};
use mesh_wire::access::Opcode;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::foundation::{ConfigMessage, ModelRef, SubscriptionChange};
use mesh_wire::{AppKeyIndex, CompanyId, KeyIndex, ModelId, Transmit, Ttl};

use crate::devices::KnownNode;
use crate::elements::MqttDevice;
use crate::gateway::{GatewayConfig, GatewayError};
use crate::record::{NETWORK, Stored};

/// The Default TTL of nodes for which the database has none.
const DEFAULT_TTL: u8 = 5;

/// 0xFFFF is the company of those that have none.
const COMPANY: CompanyId = CompanyId(0xffff);

/// A model of the gateway's own that hears what buttons send to groups. It sets nothing.
pub(crate) const LISTENER: ModelId = ModelId::Vendor(COMPANY, 0x0001);

/// All addresses that a group can have (MshPRT §3.4.2.4): the gateway listens to every group.
const GROUP_ADDRESSES: usize = 0xfeff - 0xc000 + 1;

/// What buttons send.
const PRESSES: &[Opcode] = &[
    OnOffSet::OPCODE,
    OnOffSet::UNACKNOWLEDGED,
    LevelSet::OPCODE,
    LevelSet::UNACKNOWLEDGED,
    DeltaSet::OPCODE,
    DeltaSet::UNACKNOWLEDGED,
    MoveSet::OPCODE,
    MoveSet::UNACKNOWLEDGED,
];

/// What the gateway's Configuration Client understands: Config Composition Data Status and Config Model
/// Subscription Status.
const CONFIGURATION_ANSWERS: &[Opcode] = &[Opcode::One(0x02), Opcode::Two(0x801f)];

/// The gateway's own node, and the others.
pub(crate) struct OwnNode {
    pub(crate) node: Node,
    pub(crate) app_key: AppKeyIndex,
    pub(crate) address: UnicastAddress,
    pub(crate) known: Vec<KnownNode>,
}

/// The network as it was when the gateway stopped, with the nodes that the given database has in addition.
pub(crate) fn current(given: &NetworkDatabase, stored: &Stored) -> Result<NetworkDatabase, GatewayError> {
    let Some(text) = stored.bridge.get(NETWORK) else { return Ok(given.clone()) };
    let mut database = NetworkDatabase::from_json(&String::from_utf8_lossy(text))?;
    if database.mesh_uuid != given.mesh_uuid {
        let (stored, given) = (database.mesh_uuid.to_string(), given.mesh_uuid.to_string());
        return Err(GatewayError::OtherNetwork { stored, given });
    }
    let is_new = |node: &&NodeEntry| database.nodes.iter().all(|known| known.uuid != node.uuid);
    let new: Vec<NodeEntry> = given.nodes.iter().filter(is_new).cloned().collect();
    database.nodes.extend(new);
    Ok(database)
}

/// Makes the gateway's own node, with the client models that it needs, bound to the first AppKey of its NetKey.
pub(crate) fn make(
    now: Instant,
    config: &GatewayConfig,
    database: &NetworkDatabase,
    stored: Vec<(RecordKey, Vec<u8>)>,
) -> Result<OwnNode, GatewayError> {
    let own = (database.provisioners.iter())
        .find_map(|provisioner| database.provisioner_node(provisioner))
        .ok_or(GatewayError::NoAddress)?;
    let address = unicast(own)?;
    check_room(config, database, own)?;
    let net_key = database.net_keys.first().ok_or(GatewayError::NoAppKey)?;
    let app_key = database.app_keys.iter().find(|key| key.bound_net_key == net_key.index);
    let app_key = app_key.ok_or(GatewayError::NoAppKey)?;
    let net_key_index = KeyIndex::new(net_key.index).ok_or(GatewayError::Range("a NetKey index"))?;
    let index = KeyIndex::new(app_key.index).ok_or(GatewayError::Range("an AppKey index"))?;
    let provisioned = Provisioned {
        net_key: NetKey::new(net_key.key.0),
        net_key_index,
        iv_index: config.iv_index,
        address,
        dev_key: DevKey::new(own.device_key.as_ref().ok_or(GatewayError::NoAddress)?.0),
    };
    let mut node = Node::restore(now, provisioned, node_config(config, database, own)?, stored)?;
    let key = AppKey::new(app_key.key.0);
    node.handle_command(now, Command::Configure(ConfigMessage::AppKeyAdd { net_key_index, index, key }))?;
    for model in own_models(config, address) {
        node.handle_command(now, Command::Configure(ConfigMessage::ModelAppBind { index, model }))?;
        // The groups may be others than before the restart; the bridge has it subscribe to those that there are.
        node.handle_command(now, Command::Configure(ConfigMessage::ModelSubscriptionDeleteAll { model }))?;
    }
    let mut known = Vec::new();
    for entry in database.nodes.iter().filter(|entry| entry.uuid != own.uuid && !entry.excluded) {
        let Some(device_key) = &entry.device_key else { continue };
        let node_of = known_node(entry)?;
        let (address, elements) = (node_of.address, node_of.element_count);
        let key = DevKey::new(device_key.0);
        node.handle_command(now, Command::AddDeviceKey { address, elements, key })?;
        known.push(node_of);
    }
    Ok(OwnNode { node, app_key: index, address, known })
}

/// Has a model of the gateway's node subscribe.
pub(crate) fn subscribe(now: Instant, node: &mut Node, element: u8, model: ModelId, address: Address) {
    let Some(element) = node.address().element(element) else { return };
    let (change, model) = (SubscriptionChange::Add, ModelRef { element, model });
    let request = ConfigMessage::ModelSubscriptionChange { change, address, model };
    // There is room for every group that there can be.
    let _ = node.handle_command(now, Command::Configure(request));
}

/// The models that are bound to the AppKey.
fn own_models(config: &GatewayConfig, address: UnicastAddress) -> Vec<ModelRef> {
    let clients = CLIENTS.iter().map(|(model, _)| ModelRef { element: address, model: *model });
    let listener = ModelRef { element: address, model: LISTENER };
    let devices = (1..=u8::MAX).zip(&config.devices).filter_map(|(index, device)| {
        Some(ModelRef { element: address.element(index)?, model: device.model() })
    });
    clients.chain([listener]).chain(devices).collect()
}

/// Room for every element of the network, and for as many that may be added before the next start.
fn replay_list_for(database: &NetworkDatabase) -> u16 {
    let elements: usize = database.nodes.iter().map(|node| node.elements.len()).sum();
    u16::try_from(elements * 2).unwrap_or(u16::MAX).max(NodeOptions::default().replay_list)
}

fn node_config(
    config: &GatewayConfig,
    database: &NetworkDatabase,
    own: &NodeEntry,
) -> Result<NodeConfig, GatewayError> {
    let mut primary = Element::new(0)
        .with_host(LISTENER, PRESSES)
        .with_host(ModelId::CONFIGURATION_CLIENT, CONFIGURATION_ANSWERS);
    for (client, opcodes) in CLIENTS {
        primary = primary.with_host(client, opcodes);
    }
    let transmit = transmit_of(own);
    Ok(NodeConfig {
        product: Product { company: COMPANY, product: 0, version: 1 },
        elements: std::iter::once(primary).chain(config.devices.iter().map(MqttDevice::element)).collect(),
        network_transmit: transmit,
        relay: Relay { enabled: own.features.is_some_and(|x| x.relay == Some(1)), retransmit: transmit },
        default_ttl: Ttl::new(own.default_ttl.unwrap_or(DEFAULT_TTL)).ok_or(GatewayError::Range("a TTL"))?,
        seed: config.seed,
        options: NodeOptions {
            replay_list: replay_list_for(database),
            subscriptions: GROUP_ADDRESSES,
            ..NodeOptions::default()
        },
    })
}

/// That the addresses after the gateway's own are free for as many MQTT devices.
fn check_room(
    config: &GatewayConfig,
    database: &NetworkDatabase,
    own: &NodeEntry,
) -> Result<(), GatewayError> {
    let needed = config.devices.len();
    let first = own.unicast_address.0;
    let free = |entry: &&NodeEntry| entry.uuid != own.uuid && entry.unicast_address.0 > first;
    let next = database.nodes.iter().filter(free).map(|entry| entry.unicast_address.0).min();
    let room = next.map_or(usize::from(u8::MAX), |next| usize::from(next - first - 1));
    if needed > room.min(usize::from(u8::MAX)) { Err(GatewayError::NoRoom { needed }) } else { Ok(()) }
}

/// Three transmissions 20 ms apart, unless the database says otherwise.
fn transmit_of(own: &NodeEntry) -> Transmit {
    let from_database = own
        .network_transmit
        .and_then(|transmit| Transmit::new(transmit.count, Duration::from_millis(transmit.interval.into())));
    from_database.unwrap_or(Transmit::from_octet(0x0a))
}

fn known_node(entry: &NodeEntry) -> Result<KnownNode, GatewayError> {
    let named = |element: &mesh_commission::cdb::ElementEntry| Some((element.index, element.name.clone()?));
    let publications =
        entry.elements.iter().flat_map(|element| &element.models).filter_map(|model| model.publish.as_ref());
    Ok(KnownNode {
        address: unicast(entry)?,
        element_count: u8::try_from(entry.elements.len()).unwrap_or(u8::MAX).max(1),
        element_names: entry.elements.iter().filter_map(named).collect(),
        uuid: entry.uuid.to_string(),
        name: entry.name.clone(),
        default_ttl: entry.default_ttl.unwrap_or(DEFAULT_TTL),
        period: publications.filter_map(|publication| period_of(publication.period)).min(),
    })
}

fn period_of(period: PublishPeriodEntry) -> Option<Duration> {
    let steps = u32::from(period.number_of_steps);
    (steps > 0).then(|| Duration::from_millis(u64::from(steps * period.resolution)))
}

fn unicast(entry: &NodeEntry) -> Result<UnicastAddress, GatewayError> {
    UnicastAddress::new(entry.unicast_address.0).ok_or(GatewayError::Range("an address of a node"))
}
