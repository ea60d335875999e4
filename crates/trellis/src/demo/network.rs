//! The network of a building: its database, with all keys and addresses, and the nodes that it describes.

use std::time::Duration;

use anyhow::Context as _;
use clock::Instant;
use mesh_commission::cdb::{
    AddressRange, AppKeyEntry, ElementEntry, GroupEntry, Hex16, ID, Key, ModelEntry, NetKeyEntry,
    NetworkDatabase, NodeEntry, NodeFeatures, NodeKey, ProvisionerEntry, PublishEntry, PublishPeriodEntry,
    PublishRetransmitEntry, SCHEMA, SceneRange, Security, TransmitEntry, Uuid,
};
use mesh_crypto::{AppKey, DevKey, NetKey};
use mesh_proto::foundation::Product;
use mesh_proto::network::Relay;
use mesh_proto::node::{Command, Node, NodeConfig, NodeOptions, Provisioned, RecordKey};
use mesh_sim::building::{Building, Fixture, Kind};
use mesh_wire::address::UnicastAddress;
use mesh_wire::foundation::{
    ConfigMessage, ModelRef, Publication, PublishDestination, PublishPeriod, PublishRetransmit,
    SubscriptionChange,
};
use mesh_wire::{CompanyId, IvIndex, KeyIndex, ModelId, Transmit, Ttl};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng as _;

use super::fixtures;

/// The IV Index of a young network.
pub(crate) const IV_INDEX: u32 = 0;

/// The address of the gateway's first element; those of its MQTT devices follow.
pub(crate) const GATEWAY_ADDRESS: u16 = 0x0001;

/// The address of the first node of the building.
const FIRST_NODE: u16 = 0x0100;

/// The address of the first group.
const FIRST_GROUP: u16 = 0xc000;

/// Default TTL of all nodes: enough for a large building.
const TTL: u8 = 12;

/// Transmissions of each PDU, and the time between two: Zephyr's defaults.
const TRANSMISSIONS: u8 = 3;
const INTERVAL: Duration = Duration::from_millis(20);

/// Statuses a second that a whole building publishes at most; larger ones do it more rarely, so that airtime remains
/// for people.
const STATUSES_PER_SECOND: f64 = 1.5;

/// The members of the group of all rooms.
const LIGHTS: (&str, usize) = ("lights", 10);

/// Presses are published three times, 100 ms apart: nobody acknowledges them.
const PRESS_RETRANSMIT: PublishRetransmitEntry = PublishRetransmitEntry { count: 2, interval: 100 };
const NO_RETRANSMIT: PublishRetransmitEntry = PublishRetransmitEntry { count: 0, interval: 50 };

/// How often the nodes of a building publish their states, if one asks for `wanted`.
pub(super) fn status_period(nodes: usize, wanted: Duration) -> Duration {
    let nodes = f64::from(u32::try_from(nodes).unwrap_or(u32::MAX));
    if wanted.is_zero() { wanted } else { wanted.max(Duration::from_secs_f64(nodes / STATUSES_PER_SECOND)) }
}

/// Describes the network of a building, with keys from `rng`.
pub(super) fn describe(
    building: &Building,
    rng: &mut ChaCha20Rng,
    period: Duration,
    timestamp: String,
) -> anyhow::Result<NetworkDatabase> {
    let mut key = || {
        let mut key = [0; 16];
        rng.fill_bytes(&mut key);
        key
    };
    let gateway = Uuid(uuid(key()));
    let mut database = empty(Uuid(uuid(key())), gateway, key(), key(), timestamp);
    database.nodes.push(gateway_entry(gateway, key()));
    let groups = groups_of(building);
    database.groups = groups
        .iter()
        .map(|group| GroupEntry {
            name: group.name.clone(),
            address: Hex16(group.address).to_string(),
            parent_address: "0000".to_owned(),
        })
        .collect();
    let period = period_entry(period);
    let mut address = FIRST_NODE;
    for (number, fixture) in building.fixtures.iter().enumerate() {
        let (id, dev_key) = (Uuid(uuid(key())), key());
        let entry =
            node_entry(fixture, address, id, dev_key, |model| publication(fixture, model, &groups, period));
        let mut entry = entry;
        for model in entry.elements.iter_mut().flat_map(|element| &mut element.models) {
            let groups = groups.iter().filter(|group| group.members.contains(&number));
            model.subscribe = groups.map(|group| Hex16(group.address).to_string()).collect();
        }
        let count = u16::try_from(entry.elements.len()).context("a node has too many elements")?;
        database.nodes.push(entry);
        address =
            address.checked_add(count).filter(|x| *x < 0x8000).context("the building has too many nodes")?;
    }
    Ok(database)
}

/// Makes the node of a fixture: the one that `stored` came from or, without any, one that was just configured.
pub(super) fn make_node(
    database: &NetworkDatabase,
    entry: &NodeEntry,
    fixture: &Fixture,
    seed: [u8; 32],
    stored: Vec<(RecordKey, Vec<u8>)>,
) -> anyhow::Result<Node> {
    let now = Instant::ORIGIN;
    let address =
        UnicastAddress::new(entry.unicast_address.0).context("the address is no unicast address")?;
    let transmit =
        Transmit::new(TRANSMISSIONS, INTERVAL).context("the transmit settings are out of range")?;
    let (net_key, app_key) = (database.net_keys.first(), database.app_keys.first());
    let (net_key, app_key) = net_key.zip(app_key).context("the network has no keys")?;
    let dev_key = entry.device_key.as_ref().context("the node has no device key")?;
    let provisioned = Provisioned {
        net_key: NetKey::new(net_key.key.0),
        net_key_index: KeyIndex::ZERO,
        iv_index: IvIndex(IV_INDEX),
        address,
        dev_key: DevKey::new(dev_key.0),
    };
    let config = NodeConfig {
        product: Product { company: CompanyId(0xffff), product: fixtures::product(fixture.kind), version: 1 },
        elements: fixtures::elements(fixture.kind),
        network_transmit: transmit,
        relay: Relay { enabled: fixture.relay, retransmit: transmit },
        default_ttl: Ttl::new(TTL).context("the TTL is out of range")?,
        seed,
        options: NodeOptions::default(),
    };
    let is_new = stored.is_empty();
    let mut node = Node::restore(now, provisioned, config, stored)?;
    if is_new {
        let (net_key_index, index) = (KeyIndex::ZERO, KeyIndex::ZERO);
        let key = AppKey::new(app_key.key.0);
        node.handle_command(now, Command::Configure(ConfigMessage::AppKeyAdd { net_key_index, index, key }))?;
        for request in configuration(entry, address)? {
            node.handle_command(now, Command::Configure(request))?;
        }
    }
    Ok(node)
}

/// The messages with which a provisioner would bring about what the database says of a node's models.
fn configuration(entry: &NodeEntry, address: UnicastAddress) -> anyhow::Result<Vec<ConfigMessage>> {
    let mut messages = Vec::new();
    for element in &entry.elements {
        let element_address =
            address.element(element.index).context("an element's address is out of range")?;
        for described in &element.models {
            let id = u16::from_str_radix(&described.model_id, 16).context("a model is none of the SIG's")?;
            let model = ModelRef { element: element_address, model: ModelId::Sig(id) };
            messages.push(ConfigMessage::ModelAppBind { index: KeyIndex::ZERO, model });
            for group in &described.subscribe {
                let address = u16::from_str_radix(group, 16).context("a group is none")?.into();
                let change = SubscriptionChange::Add;
                messages.push(ConfigMessage::ModelSubscriptionChange { change, address, model });
            }
            if let Some(publish) = &described.publish {
                let publication = publication_of(publish)?;
                messages.push(ConfigMessage::ModelPublicationSet { publication, model });
            }
        }
    }
    Ok(messages)
}

fn publication_of(publish: &PublishEntry) -> anyhow::Result<Publication> {
    let destination: u16 = u16::from_str_radix(&publish.address, 16).context("a publish address is none")?;
    let resolution = match publish.period.resolution {
        100 => 0,
        1_000 => 1,
        10_000 => 2,
        _ => 3,
    };
    let steps = u8::try_from(publish.retransmit.interval / 50).unwrap_or(1).saturating_sub(1);
    Ok(Publication {
        destination: PublishDestination::Address(destination.into()),
        app_key_index: KeyIndex::ZERO,
        friendship_credentials: false,
        ttl: None,
        period: PublishPeriod(resolution << 6 | publish.period.number_of_steps & 0x3f),
        retransmit: PublishRetransmit(publish.retransmit.count & 0x07 | steps << 3),
    })
}

/// A group of lamps.
struct Group {
    name: String,
    address: u16,
    /// Numbers of fixtures.
    members: Vec<usize>,
    /// The room that it is of.
    room: Option<usize>,
}

/// The lamps of each room, and ten from everywhere.
fn groups_of(building: &Building) -> Vec<Group> {
    let is_lamp = |&number: &usize| building.fixtures[number].kind.is_lamp();
    let rooms = building.rooms.iter().enumerate().map(|(room, described)| {
        let members: Vec<usize> = described.fixtures.iter().copied().filter(is_lamp).collect();
        (described.name.clone(), members, Some(room))
    });
    let ten = (0..building.fixtures.len()).filter(is_lamp).take(LIGHTS.1).collect();
    let all = std::iter::once((LIGHTS.0.to_owned(), ten, None)).chain(rooms);
    (FIRST_GROUP..)
        .zip(all.filter(|(_, members, _): &(_, Vec<usize>, _)| !members.is_empty()))
        .map(|(address, (name, members, room))| Group { name, address, members, room })
        .collect()
}

/// Where a model of a fixture publishes, if it does: a switch to the lamps of its room, all others to the gateway.
fn publication(
    fixture: &Fixture,
    model: ModelId,
    groups: &[Group],
    period: PublishPeriodEntry,
) -> Option<PublishEntry> {
    if !fixtures::publishes(fixture.kind, model) {
        return None;
    }
    let never = PublishPeriodEntry { number_of_steps: 0, resolution: 100 };
    let (address, period, retransmit) = if fixture.kind == Kind::Switch {
        let room = groups.iter().find(|group| group.room == Some(fixture.room))?;
        (room.address, never, PRESS_RETRANSMIT)
    } else {
        (GATEWAY_ADDRESS, period, NO_RETRANSMIT)
    };
    Some(PublishEntry {
        address: Hex16(address).to_string(),
        index: 0,
        ttl: 255,
        credentials: 0,
        period,
        retransmit,
    })
}

/// The shortest period that is not below `period`.
fn period_entry(period: Duration) -> PublishPeriodEntry {
    let resolutions = [100_u32, 1_000, 10_000, 600_000];
    let steps = |resolution: u32| period.as_millis().div_ceil(u128::from(resolution));
    let resolution = resolutions.into_iter().find(|&resolution| steps(resolution) <= 63).unwrap_or(600_000);
    let number_of_steps = u8::try_from(steps(resolution)).unwrap_or(63).min(63);
    PublishPeriodEntry { number_of_steps, resolution }
}

/// A version 4 UUID of random octets (RFC 9562 §5.4).
fn uuid(mut octets: [u8; 16]) -> [u8; 16] {
    octets[6] = octets[6] & 0x0f | 0x40;
    octets[8] = octets[8] & 0x3f | 0x80;
    octets
}

fn empty(
    mesh_uuid: Uuid,
    gateway: Uuid,
    net_key: [u8; 16],
    app_key: [u8; 16],
    timestamp: String,
) -> NetworkDatabase {
    let range = |low, high| vec![AddressRange { low_address: Hex16(low), high_address: Hex16(high) }];
    NetworkDatabase {
        schema: SCHEMA.to_owned(),
        id: ID.to_owned(),
        version: "1.0.1".to_owned(),
        mesh_uuid,
        mesh_name: "Simulated building".to_owned(),
        timestamp: timestamp.clone(),
        partial: false,
        net_keys: vec![NetKeyEntry {
            name: "Building".to_owned(),
            index: 0,
            phase: 0,
            key: Key(net_key),
            old_key: None,
            min_security: Security::Secure,
            timestamp,
        }],
        app_keys: vec![AppKeyEntry {
            name: "Everything".to_owned(),
            index: 0,
            bound_net_key: 0,
            key: Key(app_key),
            old_key: None,
        }],
        provisioners: vec![ProvisionerEntry {
            provisioner_name: "Trellis".to_owned(),
            uuid: gateway,
            allocated_unicast_range: range(0x0001, 0x7fff),
            allocated_group_range: range(0xc000, 0xcfff),
            allocated_scene_range: vec![SceneRange { first_scene: Hex16(1), last_scene: Hex16(0xff) }],
        }],
        nodes: Vec::new(),
        groups: Vec::new(),
        scenes: Vec::new(),
        network_exclusions: Vec::new(),
    }
}

fn gateway_entry(uuid: Uuid, dev_key: [u8; 16]) -> NodeEntry {
    let element = ElementEntry { name: None, index: 0, location: Hex16(0), models: Vec::new() };
    entry("gateway", GATEWAY_ADDRESS, uuid, dev_key, false, vec![element])
}

fn node_entry(
    fixture: &Fixture,
    address: u16,
    uuid: Uuid,
    dev_key: [u8; 16],
    publish: impl Fn(ModelId) -> Option<PublishEntry>,
) -> NodeEntry {
    let elements = mesh_proto::access::Elements::new(fixtures::elements(fixture.kind));
    let described = (0_u8..).zip(elements.iter()).map(|(index, element)| {
        let models = element.models.iter().map(|model| ModelEntry {
            model_id: model.id.to_string(),
            bind: vec![0],
            subscribe: Vec::new(),
            publish: publish(model.id),
        });
        ElementEntry {
            name: fixtures::element_name(fixture.kind, index).map(str::to_owned),
            index,
            location: Hex16(element.location),
            models: models.collect(),
        }
    });
    entry(&fixture.name, address, uuid, dev_key, fixture.relay, described.collect())
}

fn entry(
    name: &str,
    address: u16,
    uuid: Uuid,
    dev_key: [u8; 16],
    relay: bool,
    elements: Vec<ElementEntry>,
) -> NodeEntry {
    let key = NodeKey { index: 0, updated: false };
    let transmit = TransmitEntry { count: TRANSMISSIONS, interval: 20 };
    NodeEntry {
        uuid,
        unicast_address: Hex16(address),
        device_key: Some(Key(dev_key)),
        security: Security::Secure,
        net_keys: vec![key],
        app_keys: vec![key],
        config_complete: true,
        name: Some(name.to_owned()),
        cid: None,
        pid: None,
        vid: None,
        crpl: None,
        features: Some(NodeFeatures { relay: Some(u8::from(relay)), ..NodeFeatures::default() }),
        secure_network_beacon: None,
        default_ttl: Some(TTL),
        network_transmit: Some(transmit),
        relay_retransmit: relay.then_some(transmit),
        elements,
        excluded: false,
        heartbeat_pub: None,
        heartbeat_sub: None,
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng as _;

    use super::*;

    #[test]
    fn the_database_of_every_building_is_one_that_others_can_read() {
        for building in [Building::home(), Building::office(200)] {
            let period = status_period(building.fixtures.len(), Duration::from_secs(30));
            let mut rng = ChaCha20Rng::seed_from_u64(1);
            let database = describe(&building, &mut rng, period, "2026-01-01T00:00:00Z".to_owned()).unwrap();
            assert_eq!(NetworkDatabase::from_json(&database.to_json()).unwrap(), database);
            for (fixture, entry) in building.fixtures.iter().zip(&database.nodes[1..]) {
                let node = make_node(&database, entry, fixture, [0; 32], Vec::new()).unwrap();
                assert_eq!(node.composition().elements.len(), entry.elements.len(), "{}", fixture.name);
            }
            assert_eq!(database.groups[0].name, "lights");
        }
    }

    #[test]
    fn a_period_is_the_next_that_can_be_said() {
        let period = |seconds| {
            let PublishPeriodEntry { number_of_steps, resolution } =
                period_entry(Duration::from_secs(seconds));
            u32::from(number_of_steps) * resolution / 1_000
        };
        assert_eq!([0, 1, 30, 63, 64, 333, 700].map(period), [0, 1, 30, 63, 70, 340, 1_200]);
        assert_eq!(status_period(30, Duration::from_secs(30)), Duration::from_secs(30));
        assert_eq!(status_period(600, Duration::from_secs(30)), Duration::from_secs(400));
        assert!(status_period(600, Duration::ZERO).is_zero());
    }
}
