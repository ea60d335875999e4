//! What the gateway must remember over a restart. Its node's records and the bridge's are stored together.

use std::collections::BTreeMap;

use mesh_proto::node::{Record, RecordKey};
use mesh_wire::address::UnicastAddress;

/// A new value, or `None`: the old one is to go.
pub(crate) type Change = Option<Vec<u8>>;

/// The key of the network database, as JSON.
pub(crate) const NETWORK: &str = "network";

/// The key of what a node has said it is: its Composition Data page 0.
pub(crate) fn device(address: UnicastAddress) -> String {
    format!("device/{address}")
}

/// The key of what an element has said of its ranges and sensors.
pub(crate) fn endpoint(address: UnicastAddress) -> String {
    format!("{ENDPOINT}{address}")
}

pub(crate) const ENDPOINT: &str = "endpoint/";

/// The key of a topic on which something is retained. `1`: it is to be taken back.
pub(crate) fn retained(topic: &str) -> String {
    format!("{RETAINED}{topic}")
}

pub(crate) const RETAINED: &str = "retained/";

/// Keys of the node's records begin with this, those of the bridge with [`BRIDGE`].
const NODE: u8 = b'n';
const BRIDGE: u8 = b'b';

/// What was stored before a restart.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) node: Vec<(RecordKey, Vec<u8>)>,
    pub(crate) bridge: BTreeMap<String, Vec<u8>>,
}

impl Stored {
    /// Sorts records by whose they are. A key that nobody knows is of a later version, and left alone.
    pub(crate) fn new(records: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        let mut stored = Self::default();
        for (key, value) in records {
            match key.split_first() {
                Some((&NODE, rest)) => {
                    stored.node.extend(RecordKey::from_octets(rest).map(|key| (key, value)));
                }
                Some((&BRIDGE, rest)) => {
                    if let Ok(key) = str::from_utf8(rest) {
                        stored.bridge.insert(key.to_owned(), value);
                    }
                }
                _ => {}
            }
        }
        stored
    }
}

/// A node's record for the store.
pub(crate) fn of_node(record: Record) -> (Vec<u8>, Change) {
    let mut key = vec![NODE];
    key.extend(record.key.to_octets());
    (key, record.value)
}

/// A bridge's record for the store.
pub(crate) fn of_bridge((key, change): (String, Change)) -> (Vec<u8>, Change) {
    let mut octets = vec![BRIDGE];
    octets.extend(key.into_bytes());
    (octets, change)
}
