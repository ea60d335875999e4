use std::collections::BTreeSet;

use super::{Hex16, NetworkDatabase, NodeEntry};

/// Why a network database cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CdbError {
    /// It is not in the format.
    #[error("the network database is not in the Mesh Configuration Database format: {0}")]
    Format(String),
    /// It has no NetKey, or no provisioner.
    #[error("the network database has no {0}; a network needs at least one")]
    Missing(&'static str),
    /// Two entries have the same index or UUID.
    #[error("the network database has two {kind} with {value}; remove one of them")]
    Twice {
        /// What they are.
        kind: &'static str,
        /// What they share.
        value: String,
    },
    /// A number lies outside of its range.
    #[error("{what} of the network database is {value}; it can be {range}")]
    Range {
        /// Which.
        what: String,
        /// What it is.
        value: String,
        /// What it can be.
        range: &'static str,
    },
    /// The addresses of two nodes overlap.
    #[error("the addresses of the nodes at {first} and {second} overlap; one of them has to be given others")]
    Overlap {
        /// One node.
        first: String,
        /// The other.
        second: String,
    },
    /// Something is named that is not there.
    #[error("{whose} of the network database names {what}, which it does not have")]
    Unknown {
        /// Who names it.
        whose: String,
        /// What.
        what: String,
    },
    /// A subscription to an address that cannot be subscribed to.
    #[error("node {node} of the network database subscribes to {address}, which is no group or label")]
    Subscription {
        /// The node.
        node: String,
        /// The address.
        address: String,
    },
}

impl NetworkDatabase {
    /// Checks what the format alone does not.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), CdbError> {
        if self.net_keys.is_empty() {
            return Err(CdbError::Missing("NetKey"));
        }
        if self.provisioners.is_empty() {
            return Err(CdbError::Missing("provisioner"));
        }
        unique("NetKeys", self.net_keys.iter().map(|key| format!("index {}", key.index)))?;
        unique("AppKeys", self.app_keys.iter().map(|key| format!("index {}", key.index)))?;
        unique("nodes", self.nodes.iter().map(|node| format!("UUID {}", node.uuid)))?;
        for key in &self.net_keys {
            check_index("the NetKey index", key.index)?;
        }
        for key in &self.app_keys {
            check_index("the AppKey index", key.index)?;
            if !self.net_keys.iter().any(|net_key| net_key.index == key.bound_net_key) {
                let what = format!("NetKey {}", key.bound_net_key);
                return Err(CdbError::Unknown { whose: format!("AppKey {}", key.index), what });
            }
        }
        for node in &self.nodes {
            node.check()?;
        }
        self.check_addresses()
    }

    fn check_addresses(&self) -> Result<(), CdbError> {
        let mut ranges: Vec<(u32, u32, Hex16)> = Vec::new();
        for node in &self.nodes {
            let first = u32::from(node.unicast_address.0);
            let last = first + u32::try_from(node.elements.len().max(1)).unwrap_or(u32::MAX) - 1;
            if first == 0 || last > 0x7fff {
                let (what, value) = ("an address of a node".to_owned(), node.unicast_address.to_string());
                return Err(CdbError::Range { what, value, range: "0001 to 7FFF" });
            }
            ranges.push((first, last, node.unicast_address));
        }
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            if let [(_, last, first_node), (next, _, second_node)] = pair
                && next <= last
            {
                let (first, second) = (first_node.to_string(), second_node.to_string());
                return Err(CdbError::Overlap { first, second });
            }
        }
        Ok(())
    }
}

impl NodeEntry {
    fn check(&self) -> Result<(), CdbError> {
        let node = self.unicast_address.to_string();
        if self.default_ttl.is_some_and(|ttl| ttl == 1 || ttl > 127) {
            let value = self.default_ttl.unwrap_or_default().to_string();
            return Err(CdbError::Range {
                what: format!("defaultTTL of node {node}"),
                value,
                range: "0 or 2 to 127",
            });
        }
        let has_app_key = |index: u16| self.app_keys.iter().any(|key| key.index == index);
        for model in self.elements.iter().flat_map(|element| &element.models) {
            let used = model.bind.iter().copied().chain(model.publish.iter().map(|publish| publish.index));
            if let Some(index) = used.into_iter().find(|&index| !has_app_key(index)) {
                let what = format!("AppKey {index}");
                return Err(CdbError::Unknown {
                    whose: format!("model {} of node {node}", model.model_id),
                    what,
                });
            }
            for address in &model.subscribe {
                let is_label = address.len() == 32;
                let group = u16::from_str_radix(address, 16).ok().filter(|_| address.len() == 4);
                if !is_label && !group.is_some_and(|group| (0xc000..0xffff).contains(&group)) {
                    return Err(CdbError::Subscription { node, address: address.clone() });
                }
            }
        }
        if let Some(heartbeat) = &self.heartbeat_pub
            && !self.net_keys.iter().any(|key| key.index == heartbeat.index)
        {
            let what = format!("NetKey {}", heartbeat.index);
            return Err(CdbError::Unknown { whose: format!("heartbeatPub of node {node}"), what });
        }
        Ok(())
    }
}

fn check_index(what: &str, index: u16) -> Result<(), CdbError> {
    let (what, value) = (what.to_owned(), index.to_string());
    if index < 4096 { Ok(()) } else { Err(CdbError::Range { what, value, range: "0 to 4095" }) }
}

fn unique(kind: &'static str, values: impl Iterator<Item = String>) -> Result<(), CdbError> {
    let mut seen = BTreeSet::new();
    for value in values {
        if !seen.insert(value.clone()) {
            return Err(CdbError::Twice { kind, value });
        }
    }
    Ok(())
}
