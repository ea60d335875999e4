//! The keys that a node holds, and which of them a message may have been secured with.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use mesh_crypto::{AppKey, DevKey, NetKey, NetworkKeys};
use mesh_wire::address::UnicastAddress;
use mesh_wire::{AppKeyIndex, NetKeyIndex};

/// Most NetKeys of a node.
pub const MAX_NET_KEYS: usize = 8;

/// Most AppKeys of a node.
pub const MAX_APP_KEYS: usize = 32;

/// Which key secures an access message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageKey {
    /// The AppKey with this index.
    App(AppKeyIndex),
    /// This node's own device key: between it and a Configuration Client.
    LocalDevice,
    /// The device key of the other node: this one is its Configuration Client.
    RemoteDevice,
}

/// A subnet that the node belongs to.
#[derive(Clone, Debug)]
pub struct Subnet {
    /// The index of its NetKey.
    pub index: NetKeyIndex,
    /// Its NetKey.
    pub net_key: NetKey,
    /// The material derived from it for managed flooding.
    pub flooding: NetworkKeys,
}

/// An application that the node takes part in.
#[derive(Clone, Debug)]
pub struct Application {
    /// The index of its AppKey.
    pub index: AppKeyIndex,
    /// The index of the NetKey that it is bound to.
    pub net_key_index: NetKeyIndex,
    /// Its AppKey.
    pub app_key: AppKey,
    /// AID: what a message says of the key.
    pub aid: u8,
}

/// All keys of a node.
#[derive(Clone, Debug)]
pub struct Keys {
    device: DevKey,
    subnets: Vec<Subnet>,
    applications: Vec<Application>,
    remote_devices: BTreeMap<UnicastAddress, (u8, DevKey)>,
}

impl Keys {
    /// A node's keys as provisioning leaves them: one NetKey, and its device key.
    pub fn new(device: DevKey, index: NetKeyIndex, net_key: NetKey) -> Self {
        let mut keys =
            Self { device, subnets: Vec::new(), applications: Vec::new(), remote_devices: BTreeMap::new() };
        keys.add_subnet(index, net_key);
        keys
    }

    /// This node's device key.
    pub fn device(&self) -> &DevKey {
        &self.device
    }

    /// The device key of the node that has an element at `address`, if it was added.
    pub fn remote_device(&self, address: UnicastAddress) -> Option<&DevKey> {
        let (first, (elements, key)) = self.remote_devices.range(..=address).next_back()?;
        (u16::from(address) - u16::from(*first) < u16::from(*elements)).then_some(key)
    }

    /// Adds the device key of another node with so many elements from `first` on.
    pub fn add_remote_device(&mut self, first: UnicastAddress, elements: u8, key: DevKey) {
        self.remote_devices.insert(first, (elements, key));
    }

    /// The subnets, in the order in which they were joined.
    pub fn subnets(&self) -> &[Subnet] {
        &self.subnets
    }

    /// The subnet whose NetKey has this index.
    pub fn subnet(&self, index: NetKeyIndex) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.index == index)
    }

    /// Joins a subnet. The caller has seen to it that there is room and the index is free.
    pub(crate) fn add_subnet(&mut self, index: NetKeyIndex, net_key: NetKey) {
        let flooding = NetworkKeys::flooding(&net_key);
        self.subnets.push(Subnet { index, net_key, flooding });
    }

    /// Leaves a subnet, and forgets the AppKeys bound to it; returns their indexes.
    pub(crate) fn remove_subnet(&mut self, index: NetKeyIndex) -> Vec<AppKeyIndex> {
        self.subnets.retain(|subnet| subnet.index != index);
        let bound: Vec<AppKeyIndex> =
            self.applications_of(index).map(|application| application.index).collect();
        self.applications.retain(|application| application.net_key_index != index);
        bound
    }

    /// The application whose AppKey has this index.
    pub fn application(&self, index: AppKeyIndex) -> Option<&Application> {
        self.applications.iter().find(|application| application.index == index)
    }

    /// The applications whose AppKeys are bound to a NetKey.
    pub fn applications_of(&self, net_key_index: NetKeyIndex) -> impl Iterator<Item = &Application> {
        self.applications.iter().filter(move |application| application.net_key_index == net_key_index)
    }

    /// How many AppKeys there are.
    pub fn application_count(&self) -> usize {
        self.applications.len()
    }

    /// Adds an AppKey. The caller has seen to it that there is room and the index is free.
    pub(crate) fn add_application(
        &mut self,
        index: AppKeyIndex,
        net_key_index: NetKeyIndex,
        app_key: AppKey,
    ) {
        let aid = app_key.aid();
        self.applications.push(Application { index, net_key_index, app_key, aid });
    }

    /// Forgets an AppKey.
    pub(crate) fn remove_application(&mut self, index: AppKeyIndex) {
        self.applications.retain(|application| application.index != index);
    }
}
