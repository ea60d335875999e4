//! The Mesh Configuration Database, version 1.0.1.

mod check;
mod hex;

pub use check::CdbError;
use serde::{Deserialize, Serialize};

pub use self::hex::{Hex16, Key, Uuid};

/// The value of `$schema`.
pub const SCHEMA: &str = "http://json-schema.org/draft-04/schema#";

/// The value of `id`.
pub const ID: &str = "https://www.bluetooth.com/specifications/specs/mesh-cdb-1-0-1-schema.json#";

/// A network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkDatabase {
    /// [`SCHEMA`].
    #[serde(rename = "$schema")]
    pub schema: String,
    /// [`ID`], or that of an older version.
    pub id: String,
    /// The version of the format: `1.0.1`.
    pub version: String,
    /// The network's UUID.
    #[serde(rename = "meshUUID")]
    pub mesh_uuid: Uuid,
    /// The network's name.
    pub mesh_name: String,
    /// When it was changed last (RFC 3339).
    pub timestamp: String,
    /// Whether it is an export of a part. Old drafts do not say.
    #[serde(default)]
    pub partial: bool,
    /// The NetKeys; at least one.
    pub net_keys: Vec<NetKeyEntry>,
    /// The AppKeys.
    pub app_keys: Vec<AppKeyEntry>,
    /// Those who may add nodes; at least one.
    pub provisioners: Vec<ProvisionerEntry>,
    /// The nodes, among them the provisioners that have an address.
    pub nodes: Vec<NodeEntry>,
    /// The groups.
    pub groups: Vec<GroupEntry>,
    /// The scenes.
    pub scenes: Vec<SceneEntry>,
    /// Addresses that are not to be used again yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_exclusions: Vec<ExclusionEntry>,
}

/// Whether every node of a subnet was provisioned with out-of-band data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// Yes; `high` in drafts.
    #[serde(alias = "high")]
    Secure,
    /// No; `low` in drafts.
    #[serde(alias = "low")]
    Insecure,
}

/// A NetKey.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetKeyEntry {
    /// Its name.
    pub name: String,
    /// Its index, 0 to 4095; 0 is the primary subnet's.
    pub index: u16,
    /// Key Refresh Phase, 0 to 2.
    pub phase: u8,
    /// The key.
    pub key: Key,
    /// The key before, in phases 1 and 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_key: Option<Key>,
    /// How its nodes were provisioned.
    pub min_security: Security,
    /// When its phase changed last (RFC 3339).
    pub timestamp: String,
}

/// An AppKey.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppKeyEntry {
    /// Its name.
    pub name: String,
    /// Its index, 0 to 4095.
    pub index: u16,
    /// The index of its NetKey.
    pub bound_net_key: u16,
    /// The key.
    pub key: Key,
    /// The key before, during a key refresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_key: Option<Key>,
}

/// A provisioner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvisionerEntry {
    /// Its name.
    pub provisioner_name: String,
    /// Its UUID, also as a node.
    #[serde(rename = "UUID")]
    pub uuid: Uuid,
    /// The unicast addresses that it may give.
    pub allocated_unicast_range: Vec<AddressRange>,
    /// The group addresses that it may give.
    pub allocated_group_range: Vec<AddressRange>,
    /// The scene numbers that it may give.
    pub allocated_scene_range: Vec<SceneRange>,
}

/// A range of addresses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressRange {
    /// The first.
    pub low_address: Hex16,
    /// The last.
    pub high_address: Hex16,
}

/// A range of scene numbers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SceneRange {
    /// The first.
    pub first_scene: Hex16,
    /// The last.
    pub last_scene: Hex16,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeEntry {
    /// Its UUID.
    #[serde(rename = "UUID")]
    pub uuid: Uuid,
    /// The address of its primary element.
    pub unicast_address: Hex16,
    /// Its device key; not in partial exports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_key: Option<Key>,
    /// How it was provisioned.
    pub security: Security,
    /// The NetKeys that it has.
    pub net_keys: Vec<NodeKey>,
    /// The AppKeys that it has.
    pub app_keys: Vec<NodeKey>,
    /// Whether its configuration is complete.
    pub config_complete: bool,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Company.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<Hex16>,
    /// Product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<Hex16>,
    /// Version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vid: Option<Hex16>,
    /// Replay list entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crpl: Option<Hex16>,
    /// Its features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<NodeFeatures>,
    /// Whether it sends Secure Network beacons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_network_beacon: Option<bool>,
    /// Its Default TTL: 0, or 2 to 127.
    #[serde(default, rename = "defaultTTL", skip_serializing_if = "Option::is_none")]
    pub default_ttl: Option<u8>,
    /// Network Transmit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_transmit: Option<TransmitEntry>,
    /// Relay Retransmit; absent where the node cannot relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay_retransmit: Option<TransmitEntry>,
    /// Its elements, the primary one first.
    pub elements: Vec<ElementEntry>,
    /// Whether it is not to be trusted any more.
    #[serde(alias = "blacklisted")]
    pub excluded: bool,
    /// Heartbeat Publication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_pub: Option<HeartbeatPublication>,
    /// Heartbeat Subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_sub: Option<HeartbeatSubscription>,
}

/// A key that a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeKey {
    /// Its index.
    pub index: u16,
    /// Whether the node has the new key, during a key refresh.
    pub updated: bool,
}

/// The features of a node: 0 off, 1 on, 2 not supported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct NodeFeatures {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub friend: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low_power: Option<u8>,
}

/// Network Transmit or Relay Retransmit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransmitEntry {
    /// Transmissions: 1 to 8.
    pub count: u8,
    /// Milliseconds between two: 10 to 320.
    pub interval: u16,
}

/// Heartbeat Publication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatPublication {
    /// Where to.
    pub address: Hex16,
    /// Seconds between two.
    pub period: u32,
    /// TTL.
    pub ttl: u8,
    /// NetKey index.
    pub index: u16,
    /// The features whose change is told.
    pub features: Vec<String>,
}

/// Heartbeat Subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatSubscription {
    /// From where.
    pub source: Hex16,
    /// Sent where to.
    pub destination: Hex16,
}

/// An element.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ElementEntry {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its number, from 0.
    pub index: u8,
    /// Where it is, in the numbers of the GATT Namespace Descriptors.
    pub location: Hex16,
    /// Its models.
    pub models: Vec<ModelEntry>,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelEntry {
    /// Four hexadecimal digits, or eight of which the first four are the company.
    pub model_id: String,
    /// The AppKeys that it is bound to.
    pub bind: Vec<u16>,
    /// Groups (four digits) and labels (32) that it subscribes to.
    pub subscribe: Vec<String>,
    /// Where it publishes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<PublishEntry>,
}

/// A publication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishEntry {
    /// An address (four digits) or a label (32).
    pub address: String,
    /// AppKey index.
    pub index: u16,
    /// TTL; 255: the node's default.
    pub ttl: u8,
    /// 0: managed flooding; 1: friendship credentials.
    pub credentials: u8,
    /// How often.
    pub period: PublishPeriodEntry,
    /// Repetitions.
    pub retransmit: PublishRetransmitEntry,
}

/// A publish period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishPeriodEntry {
    /// 0 to 63.
    pub number_of_steps: u8,
    /// Milliseconds of a step: 100, 1000, 10000 or 600000.
    pub resolution: u32,
}

/// Repetitions of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishRetransmitEntry {
    /// Repetitions: 0 to 7.
    pub count: u8,
    /// Milliseconds between two: 50 to 1600.
    pub interval: u16,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupEntry {
    /// Its name.
    pub name: String,
    /// An address (four digits) or a label (32).
    pub address: String,
    /// The group that it is part of; `0000`: none.
    #[serde(default = "no_parent")]
    pub parent_address: String,
}

/// A scene.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SceneEntry {
    /// Its name.
    pub name: String,
    /// Its number.
    #[serde(alias = "scene")]
    pub number: Hex16,
    /// The nodes that have it.
    pub addresses: Vec<Hex16>,
}

/// Addresses that are not to be used again before the IV Index has grown by two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExclusionEntry {
    /// The IV Index when they were excluded.
    pub iv_index: u32,
    /// The addresses.
    pub addresses: Vec<Hex16>,
}

fn no_parent() -> String {
    "0000".to_owned()
}

impl NetworkDatabase {
    /// Reads and checks a database.
    ///
    /// # Errors
    /// What is not as the format, or as a network, has to be.
    pub fn from_json(text: &str) -> Result<Self, CdbError> {
        let database: Self =
            serde_json::from_str(text).map_err(|error| CdbError::Format(error.to_string()))?;
        database.check()?;
        Ok(database)
    }

    /// Writes the database.
    ///
    /// # Panics
    /// Never: everything in it can be written as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts, numbers and lists can be written as JSON")
    }

    /// The node that a provisioner is.
    pub fn provisioner_node(&self, provisioner: &ProvisionerEntry) -> Option<&NodeEntry> {
        self.nodes.iter().find(|node| node.uuid == provisioner.uuid)
    }
}
