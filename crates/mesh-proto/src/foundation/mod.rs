//! The foundation models (MshPRT §4.4): the Configuration Server, through which a Configuration Client reads and
//! changes a node, and the Health Server.
//!
//! Conditions are checked in the order of §4.3.2, except that an unknown element comes before all else about
//! its models, as it does in other stacks: nothing can be said of a model of no element.

mod configuration;
mod health;
mod key_lists;
mod model_states;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use clock::Instant;
use mesh_wire::foundation::{ElementDescription, FeatureState, Features};
use mesh_wire::{CompanyId, NetKeyIndex};

use crate::access::Elements;

pub use configuration::ConfigurationServer;
pub use health::{FaultTest, HealthServer};

/// What a manufacturer says of a product, for the composition data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// CID.
    pub company: CompanyId,
    /// PID.
    pub product: u16,
    /// VID.
    pub version: u16,
}

/// The features of a node beside Relay: which it has, and which are on.
#[derive(Clone, Debug, Default)]
pub struct FeatureStates {
    /// The features that the node has.
    pub supported: Features,
    /// GATT Proxy.
    pub proxy: bool,
    /// Friend.
    pub friend: bool,
    /// Node Identity: the subnets in which a proxy says who it is, and until when.
    pub node_identity: BTreeMap<NetKeyIndex, Instant>,
}

/// How long a proxy says who it is (MshPRT §7.2.2.2.3).
pub const NODE_IDENTITY_TIME: Duration = Duration::from_secs(60);

impl FeatureStates {
    /// Has a proxy that is on say who it is for 60 seconds from `now`.
    pub fn start_node_identity(&mut self, now: Instant, subnet: NetKeyIndex) {
        if self.proxy {
            self.node_identity.insert(subnet, now + NODE_IDENTITY_TIME);
        }
    }

    /// Turns the proxy on or off; one that is off does not say who it is either (§4.2.12.1).
    pub fn set_proxy(&mut self, is_on: bool) {
        self.proxy = is_on && self.supported.contains(Features::PROXY);
        if !self.proxy {
            self.node_identity.clear();
        }
    }

    fn state(&self, feature: Features, is_on: bool) -> FeatureState {
        match (self.supported.contains(feature), is_on) {
            (false, _) => FeatureState::NotSupported,
            (true, false) => FeatureState::Disabled,
            (true, true) => FeatureState::Enabled,
        }
    }

    /// The GATT Proxy state.
    pub fn proxy_state(&self) -> FeatureState {
        self.state(Features::PROXY, self.proxy)
    }

    /// The Friend state.
    pub fn friend_state(&self) -> FeatureState {
        self.state(Features::FRIEND, self.friend)
    }

    /// The Node Identity state of a subnet.
    pub fn node_identity_state(&self, subnet: NetKeyIndex) -> FeatureState {
        self.state(Features::PROXY, self.node_identity.contains_key(&subnet))
    }
}

/// The elements as the composition data describes them.
pub(crate) fn describe(elements: &Elements) -> Vec<ElementDescription> {
    (elements.iter())
        .map(|element| ElementDescription {
            location: element.location,
            models: element.models.iter().map(|model| model.id).collect(),
        })
        .collect()
}
