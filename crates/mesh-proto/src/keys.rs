//! The keys that a node holds, and which of them a message may have been secured with.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use mesh_crypto::{AppKey, DevKey, FriendshipParameters, NetKey, NetworkKeys};
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

/// Which security material a network PDU is secured with (MshPRT §3.9.6.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// The subnet's: all its nodes can read it.
    #[default]
    Flooding,
    /// A friendship's: only its two nodes can.
    Friendship(FriendshipParameters),
}

/// The security material of a friendship. It follows the refresh of its NetKey.
#[derive(Clone, Debug)]
struct Friendship {
    net_key_index: NetKeyIndex,
    parameters: FriendshipParameters,
    current: NetworkKeys,
    new: Option<NetworkKeys>,
}

/// How far the refresh of a subnet's key is (MshPRT §3.11.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyRefreshPhase {
    /// 0: there is none.
    #[default]
    Normal,
    /// 1: the new key is being handed out; the old one sends, both receive.
    First,
    /// 2: the new key sends, both receive.
    Second,
}

/// A NetKey and what is derived from it.
#[derive(Clone, Debug)]
pub struct NetMaterial {
    /// The key.
    pub net_key: NetKey,
    /// The material for managed flooding.
    pub flooding: NetworkKeys,
    /// The public name of the subnet under this key.
    pub network_id: [u8; 8],
}

/// A subnet that the node belongs to.
#[derive(Clone, Debug)]
pub struct Subnet {
    /// The index of its NetKey.
    pub index: NetKeyIndex,
    /// The NetKey; during a refresh the old one.
    pub current: NetMaterial,
    /// The new NetKey, during a refresh.
    pub new: Option<NetMaterial>,
    /// How far the refresh is. A node that was provisioned in the second phase knows only one key.
    pub phase: KeyRefreshPhase,
}

/// An AppKey and its AID.
#[derive(Clone, Debug)]
pub struct AppMaterial {
    /// The key.
    pub app_key: AppKey,
    /// AID: what a message says of the key.
    pub aid: u8,
}

/// An application that the node takes part in.
#[derive(Clone, Debug)]
pub struct Application {
    /// The index of its AppKey.
    pub index: AppKeyIndex,
    /// The index of the NetKey that it is bound to.
    pub net_key_index: NetKeyIndex,
    /// The AppKey; during a refresh the old one.
    pub current: AppMaterial,
    /// The new AppKey, during a refresh of the NetKey.
    pub new: Option<AppMaterial>,
}

impl From<NetKey> for NetMaterial {
    fn from(net_key: NetKey) -> Self {
        Self { flooding: NetworkKeys::flooding(&net_key), network_id: net_key.network_id(), net_key }
    }
}

impl From<AppKey> for AppMaterial {
    fn from(app_key: AppKey) -> Self {
        Self { aid: app_key.aid(), app_key }
    }
}

impl Subnet {
    /// What PDUs and beacons are sent with.
    pub fn sending(&self) -> &NetMaterial {
        match (self.phase, &self.new) {
            (KeyRefreshPhase::Second, Some(new)) => new,
            _ => &self.current,
        }
    }

    /// All that PDUs are accepted with.
    pub fn receiving(&self) -> impl Iterator<Item = &NetMaterial> {
        core::iter::once(&self.current).chain(&self.new)
    }
}

impl Application {
    /// All that messages are accepted with.
    pub fn receiving(&self) -> impl Iterator<Item = &AppMaterial> {
        core::iter::once(&self.current).chain(&self.new)
    }
}

/// Security material that PDUs are accepted with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receiving<'a> {
    pub(crate) net_key_index: NetKeyIndex,
    pub(crate) credentials: Credentials,
    /// Whether it comes from the new key of a refresh.
    pub(crate) is_new: bool,
    pub(crate) keys: &'a NetworkKeys,
}

/// All keys of a node.
#[derive(Clone, Debug)]
pub struct Keys {
    device: DevKey,
    subnets: Vec<Subnet>,
    applications: Vec<Application>,
    friendships: Vec<Friendship>,
    remote_devices: BTreeMap<UnicastAddress, (u8, DevKey)>,
}

impl Keys {
    /// A node's keys as provisioning leaves them: one NetKey, and its device key.
    pub fn new(device: DevKey, index: NetKeyIndex, net_key: NetKey) -> Self {
        let mut keys = Self {
            device,
            subnets: Vec::new(),
            applications: Vec::new(),
            friendships: Vec::new(),
            remote_devices: BTreeMap::new(),
        };
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

    /// Forgets the device key of another node.
    pub fn remove_remote_device(&mut self, first: UnicastAddress) {
        self.remote_devices.remove(&first);
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
    pub fn add_subnet(&mut self, index: NetKeyIndex, net_key: NetKey) {
        let phase = KeyRefreshPhase::Normal;
        self.subnets.push(Subnet { index, current: net_key.into(), new: None, phase });
    }

    /// Begins the refresh of a subnet's key. The caller has seen to it that there is none.
    pub(crate) fn update_subnet(&mut self, index: NetKeyIndex, net_key: NetKey) {
        if let Some(subnet) = self.subnet_mut(index) {
            subnet.phase = KeyRefreshPhase::First;
            for friendship in self.friendships.iter_mut().filter(|x| x.net_key_index == index) {
                friendship.new = Some(NetworkKeys::friendship(&net_key, friendship.parameters));
            }
        }
        if let Some(subnet) = self.subnet_mut(index) {
            subnet.new = Some(net_key.into());
        }
    }

    /// Has a refresh that is under way use the new keys.
    pub(crate) fn use_new_keys(&mut self, index: NetKeyIndex) {
        if let Some(subnet) = self.subnet_mut(index) {
            subnet.phase = KeyRefreshPhase::Second;
        }
    }

    /// Ends a refresh: the old keys are no more, those of the applications that were refreshed with the NetKey
    /// included.
    pub(crate) fn revoke_old_keys(&mut self, index: NetKeyIndex) {
        if let Some(subnet) = self.subnet_mut(index) {
            if let Some(new) = subnet.new.take() {
                subnet.current = new;
            }
            subnet.phase = KeyRefreshPhase::Normal;
        }
        for application in self.applications.iter_mut().filter(|x| x.net_key_index == index) {
            if let Some(new) = application.new.take() {
                application.current = new;
            }
        }
        for friendship in self.friendships.iter_mut().filter(|x| x.net_key_index == index) {
            if let Some(new) = friendship.new.take() {
                friendship.current = new;
            }
        }
    }

    /// Adds the material of a friendship in a subnet of this node.
    pub(crate) fn add_friendship(&mut self, net_key_index: NetKeyIndex, parameters: FriendshipParameters) {
        self.remove_friendship(net_key_index, parameters);
        let Some(subnet) = self.subnet(net_key_index) else { return };
        let derive = |material: &NetMaterial| NetworkKeys::friendship(&material.net_key, parameters);
        let (current, new) = (derive(&subnet.current), subnet.new.as_ref().map(derive));
        self.friendships.push(Friendship { net_key_index, parameters, current, new });
    }

    /// Forgets the material of a friendship.
    pub(crate) fn remove_friendship(&mut self, net_key_index: NetKeyIndex, parameters: FriendshipParameters) {
        self.friendships.retain(|x| x.net_key_index != net_key_index || x.parameters != parameters);
    }

    /// What a PDU is sent with in a subnet; `None` when the node does not have it, or no longer.
    pub fn sending_material(
        &self,
        net_key_index: NetKeyIndex,
        credentials: Credentials,
    ) -> Option<&NetworkKeys> {
        let subnet = self.subnet(net_key_index)?;
        let Credentials::Friendship(parameters) = credentials else {
            return Some(&subnet.sending().flooding);
        };
        let is_it = |x: &&Friendship| x.net_key_index == net_key_index && x.parameters == parameters;
        let friendship = self.friendships.iter().find(is_it)?;
        match (subnet.phase, &friendship.new) {
            (KeyRefreshPhase::Second, Some(new)) => Some(new),
            _ => Some(&friendship.current),
        }
    }

    /// All that PDUs are accepted with, and whether it comes from the new key of a refresh.
    pub(crate) fn receiving_material(&self) -> impl Iterator<Item = Receiving<'_>> {
        let flooding = self.subnets.iter().flat_map(|subnet| {
            subnet.receiving().zip([false, true]).map(move |(material, is_new)| Receiving {
                net_key_index: subnet.index,
                credentials: Credentials::Flooding,
                is_new,
                keys: &material.flooding,
            })
        });
        let friendship = self.friendships.iter().flat_map(|friendship| {
            core::iter::once(&friendship.current).chain(&friendship.new).zip([false, true]).map(
                move |(keys, is_new)| Receiving {
                    net_key_index: friendship.net_key_index,
                    credentials: Credentials::Friendship(friendship.parameters),
                    is_new,
                    keys,
                },
            )
        });
        flooding.chain(friendship)
    }

    fn subnet_mut(&mut self, index: NetKeyIndex) -> Option<&mut Subnet> {
        self.subnets.iter_mut().find(|subnet| subnet.index == index)
    }

    /// What messages are sent with under the AppKey with this index.
    pub fn sending_application(&self, index: AppKeyIndex) -> Option<&AppMaterial> {
        let application = self.application(index)?;
        let phase = self.subnet(application.net_key_index).map(|subnet| subnet.phase);
        match (&application.new, phase) {
            (Some(new), Some(KeyRefreshPhase::Second)) => Some(new),
            _ => Some(&application.current),
        }
    }

    /// Leaves all subnets and applications, to join those that were stored.
    pub(crate) fn clear(&mut self) {
        self.subnets.clear();
        self.applications.clear();
        self.friendships.clear();
    }

    /// Leaves a subnet, and forgets the AppKeys bound to it; returns their indexes.
    pub(crate) fn remove_subnet(&mut self, index: NetKeyIndex) -> Vec<AppKeyIndex> {
        self.subnets.retain(|subnet| subnet.index != index);
        self.friendships.retain(|friendship| friendship.net_key_index != index);
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
    pub fn add_application(&mut self, index: AppKeyIndex, net_key_index: NetKeyIndex, app_key: AppKey) {
        self.applications.push(Application { index, net_key_index, current: app_key.into(), new: None });
    }

    /// Gives an application its new key, for when the refresh of its NetKey is that far.
    pub(crate) fn update_application(&mut self, index: AppKeyIndex, app_key: AppKey) {
        if let Some(application) = self.applications.iter_mut().find(|x| x.index == index) {
            application.new = Some(app_key.into());
        }
    }

    /// Forgets an AppKey.
    pub(crate) fn remove_application(&mut self, index: AppKeyIndex) {
        self.applications.retain(|application| application.index != index);
    }
}
