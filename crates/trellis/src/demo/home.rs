//! The demo's building: its network, its lamps as nodes, and the medium between them.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clock::Instant;
use gateway::GatewayConfig;
use mesh_commission::cdb::{
    AddressRange, AppKeyEntry, ElementEntry, Hex16, ID, Key, ModelEntry, NetKeyEntry, NetworkDatabase,
    NodeEntry, NodeFeatures, NodeKey, ProvisionerEntry, SCHEMA, SceneRange, Security, TransmitEntry, Uuid,
};
use mesh_crypto::{AppKey, DevKey, NetKey};
use mesh_models::generic::{ON_OFF_CLIENT, ON_OFF_SERVER, OnOffServer};
use mesh_proto::access::Element;
use mesh_proto::foundation::Product;
use mesh_proto::network::Relay;
use mesh_proto::node::{Command, Node, NodeConfig, Provisioned};
use mesh_sim::building::{self, Lamp};
use mesh_sim::{Pcap, StationId, World};
use mesh_wire::address::UnicastAddress;
use mesh_wire::foundation::{ConfigMessage, ModelRef};
use mesh_wire::{CompanyId, IvIndex, KeyIndex, ModelId, Transmit, Ttl};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// The IV Index of a young network.
pub(crate) const IV_INDEX: u32 = 0;

/// The address of the gateway's element.
pub(crate) const GATEWAY_ADDRESS: u16 = 0x0001;

/// The address of the first lamp; the others follow.
const FIRST_LAMP: u16 = 0x0002;

/// Default TTL of all nodes: enough for the building and some to spare.
const TTL: u8 = 7;

/// Transmissions of each PDU, and the time between two: Zephyr's defaults.
const TRANSMISSIONS: u8 = 3;
const INTERVAL: Duration = Duration::from_millis(20);

/// A building with its network.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) world: World,
    /// The station at which the gateway sends and receives.
    pub(crate) port: StationId,
    pub(crate) database: NetworkDatabase,
    lamps: Vec<(Lamp, StationId)>,
    gateway_seed: [u8; 32],
}

impl Home {
    /// Builds it. All keys and all randomness come from `seed`: the building is a toy, and its keys with it.
    pub(crate) fn build(seed: u64, timestamp: String) -> anyhow::Result<Self> {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut key = || {
            let mut key = [0; 16];
            rng.fill_bytes(&mut key);
            key
        };
        let (net_key, app_key) = (key(), key());
        let gateway_uuid = Uuid(uuid(key()));
        let mut database = empty_database(Uuid(uuid(key())), gateway_uuid, net_key, app_key, timestamp);
        let gateway = node_entry(gateway_uuid, GATEWAY_ADDRESS, key(), "gateway", ON_OFF_CLIENT);
        database.nodes.push(gateway);
        let mut nodes = Vec::new();
        for (lamp, address) in building::lamps().into_iter().zip(FIRST_LAMP..) {
            let (dev_key, id) = (key(), Uuid(uuid(key())));
            database.nodes.push(node_entry(id, address, dev_key, &lamp.name, ON_OFF_SERVER));
            nodes.push((lamp, address, dev_key));
        }
        let mut seed_of = || {
            let mut seed = [0; 32];
            rng.fill_bytes(&mut seed);
            seed
        };
        let gateway_seed = seed_of();
        let mut world = World::new(seed, building::medium());
        let port = world.add_port("gateway", building::GATEWAY);
        let mut lamps = Vec::new();
        for (lamp, address, dev_key) in nodes {
            let node = lamp_node(address, net_key, app_key, dev_key, seed_of())
                .with_context(|| format!("cannot set up the lamp {}", lamp.name))?;
            let station = world.add_node(&lamp.name, lamp.position, node);
            lamps.push((lamp, station));
        }
        Ok(Self { world, port, database, lamps, gateway_seed })
    }

    /// How the gateway of this building runs.
    pub(crate) fn gateway_config(&self) -> GatewayConfig {
        let base_topic = "mesh".to_owned();
        GatewayConfig { base_topic, iv_index: IvIndex(IV_INDEX), seed: self.gateway_seed }
    }

    /// The name of the lamp with the most hops.
    pub(crate) fn farthest_lamp(&self) -> &str {
        self.lamps.iter().max_by_key(|(lamp, _)| lamp.hops).map_or("", |(lamp, _)| &lamp.name)
    }

    /// Records the medium in a file.
    pub(crate) fn capture_to(&mut self, path: &Path) -> anyhow::Result<File> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.world.capture(Pcap::new(u64::try_from(since_1970.as_micros()).unwrap_or(0)));
        Ok(file)
    }

    /// What the medium does to messages, in a sentence.
    pub(crate) fn describe_medium(&self) -> String {
        let medium = self.world.medium();
        let stations: Vec<StationId> =
            std::iter::once(self.port).chain(self.lamps.iter().map(|x| x.1)).collect();
        let losses = (stations.iter().flat_map(|&from| stations.iter().map(move |&to| (from, to))))
            .filter(|(from, to)| from != to)
            .filter_map(|(from, to)| medium.link(from, to));
        let (least, most) =
            losses.fold((1.0_f64, 0.0_f64), |(least, most), (_, loss)| (least.min(loss), most.max(loss)));
        let (least, most) = (format!("{:.0}", least * 100.0), format!("{:.0}", most * 100.0));
        let share = if least == most { least } else { format!("{least} to {most}") };
        format!(
            "simulated; it loses {share} % of the single receptions on every link to interference, and more while \
             others send; a wall lets a message through to the next room only"
        )
    }
}

/// A version 4 UUID of random octets (RFC 9562 §5.4).
fn uuid(mut octets: [u8; 16]) -> [u8; 16] {
    octets[6] = octets[6] & 0x0f | 0x40;
    octets[8] = octets[8] & 0x3f | 0x80;
    octets
}

fn empty_database(
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
        mesh_name: "First light".to_owned(),
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
            name: "Lights".to_owned(),
            index: 0,
            bound_net_key: 0,
            key: Key(app_key),
            old_key: None,
        }],
        provisioners: vec![ProvisionerEntry {
            provisioner_name: "Trellis".to_owned(),
            uuid: gateway,
            allocated_unicast_range: range(0x0001, 0x0fff),
            allocated_group_range: range(0xc000, 0xc0ff),
            allocated_scene_range: vec![SceneRange { first_scene: Hex16(1), last_scene: Hex16(0xff) }],
        }],
        nodes: Vec::new(),
        groups: Vec::new(),
        scenes: Vec::new(),
        network_exclusions: Vec::new(),
    }
}

fn node_entry(uuid: Uuid, address: u16, dev_key: [u8; 16], name: &str, model: ModelId) -> NodeEntry {
    let key = NodeKey { index: 0, updated: false };
    let transmit = TransmitEntry { count: TRANSMISSIONS, interval: 20 };
    let is_lamp = model == ON_OFF_SERVER;
    let models =
        vec![ModelEntry { model_id: model.to_string(), bind: vec![0], subscribe: Vec::new(), publish: None }];
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
        features: Some(NodeFeatures { relay: Some(u8::from(is_lamp)), ..NodeFeatures::default() }),
        secure_network_beacon: None,
        default_ttl: Some(TTL),
        network_transmit: Some(transmit),
        relay_retransmit: is_lamp.then_some(transmit),
        elements: vec![ElementEntry { name: None, index: 0, location: Hex16(0), models }],
        excluded: false,
        heartbeat_pub: None,
        heartbeat_sub: None,
    }
}

/// A lamp that relays, with the application key that its Generic OnOff Server is bound to.
fn lamp_node(
    address: u16,
    net_key: [u8; 16],
    app_key: [u8; 16],
    dev_key: [u8; 16],
    seed: [u8; 32],
) -> anyhow::Result<Node> {
    let address = UnicastAddress::new(address).context("the address is no unicast address")?;
    let transmit =
        Transmit::new(TRANSMISSIONS, INTERVAL).context("the transmit settings are out of range")?;
    let (net_key_index, index) = (KeyIndex::ZERO, KeyIndex::ZERO);
    let provisioned = Provisioned {
        net_key: NetKey::new(net_key),
        net_key_index,
        iv_index: IvIndex(IV_INDEX),
        address,
        dev_key: DevKey::new(dev_key),
    };
    let config = NodeConfig {
        product: Product { company: CompanyId(0xffff), product: 1, version: 1 },
        elements: vec![Element::new(0).with_server(OnOffServer::new(false))],
        network_transmit: transmit,
        relay: Relay { enabled: true, retransmit: transmit },
        default_ttl: Ttl::new(TTL).context("the TTL is out of range")?,
        seed,
    };
    let mut node = Node::new(provisioned, config);
    let model = ModelRef { element: address, model: ON_OFF_SERVER };
    let key = AppKey::new(app_key);
    for request in
        [ConfigMessage::AppKeyAdd { net_key_index, index, key }, ConfigMessage::ModelAppBind { index, model }]
    {
        node.handle_command(Instant::ORIGIN, Command::Configure(request))?;
    }
    Ok(node)
}
