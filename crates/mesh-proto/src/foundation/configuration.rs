use alloc::vec::Vec;

use clock::Instant;
use mesh_wire::access::MAX_PAYLOAD;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::foundation::{
    CompositionData, ConfigMessage, FeatureState, Features, HeartbeatPublication, Status,
};
use mesh_wire::{NetKeyIndex, Ttl};

use super::FeatureStates;
use crate::access::Elements;
use crate::beacon::Beacons;
use crate::friend::Friend;
use crate::heartbeat::Heartbeats;
use crate::keys::Keys;
use crate::network::NetworkLayer;

/// The states that the Configuration Server serves, wherever they are kept.
#[derive(Debug)]
pub struct ConfigurationServer<'a> {
    /// When the request came.
    pub now: Instant,
    /// The address of the primary element.
    pub address: UnicastAddress,
    /// NetKeys, AppKeys, device keys.
    pub keys: &'a mut Keys,
    /// Bindings, subscriptions, publications.
    pub elements: &'a mut Elements,
    /// Relay, Network Transmit.
    pub network: &'a mut NetworkLayer,
    /// Secure Network Beacon.
    pub beacons: &'a mut Beacons,
    /// Heartbeat Publication and Subscription.
    pub heartbeats: &'a mut Heartbeats,
    /// GATT Proxy, Friend, Node Identity.
    pub features: &'a mut FeatureStates,
    /// The Poll Timeouts of Low Power nodes, if the node may be their Friend.
    pub friend: Option<&'a Friend>,
    /// Default TTL.
    pub default_ttl: &'a mut Ttl,
    /// Composition Data page 0.
    pub composition: &'a CompositionData,
}

impl ConfigurationServer<'_> {
    /// Carries out a request that came in the subnet `via`, and returns its answer; `None` for messages that
    /// a server does not get, and for those whose values are prohibited.
    pub fn handle(&mut self, request: &ConfigMessage, via: NetKeyIndex) -> Option<ConfigMessage> {
        use ConfigMessage as M;
        Some(match request {
            // A page that is not there is answered with the largest below it, which is page 0.
            M::CompositionDataGet { .. } => {
                M::CompositionDataStatus { page: 0, data: self.composition_data() }
            }
            M::NetKeyAdd { .. }
            | M::NetKeyUpdate { .. }
            | M::NetKeyDelete { .. }
            | M::NetKeyGet
            | M::KeyRefreshPhaseGet { .. }
            | M::KeyRefreshPhaseSet { .. } => self.handle_net_key(request, via)?,
            M::AppKeyAdd { .. } | M::AppKeyUpdate { .. } | M::AppKeyDelete { .. } | M::AppKeyGet { .. } => {
                self.handle_app_key(request)?
            }
            M::ModelAppBind { .. } | M::ModelAppUnbind { .. } | M::ModelAppGet { .. } => {
                self.handle_binding(request)?
            }
            M::ModelPublicationGet { .. } | M::ModelPublicationSet { .. } => {
                self.handle_publication(request)?
            }
            M::ModelSubscriptionChange { .. }
            | M::ModelSubscriptionVirtualAddressChange { .. }
            | M::ModelSubscriptionDeleteAll { .. }
            | M::ModelSubscriptionGet { .. } => self.handle_subscription(request)?,
            M::HeartbeatPublicationGet
            | M::HeartbeatPublicationSet { .. }
            | M::HeartbeatSubscriptionGet
            | M::HeartbeatSubscriptionSet { .. } => self.handle_heartbeat(request)?,
            M::NodeReset => M::NodeResetStatus,
            _ => self.handle_feature(request)?,
        })
    }

    /// The states of the node as a whole.
    fn handle_feature(&mut self, request: &ConfigMessage) -> Option<ConfigMessage> {
        use ConfigMessage as M;
        let is_on = |state: &FeatureState| *state == FeatureState::Enabled;
        match request {
            M::DefaultTtlSet { ttl } => *self.default_ttl = *ttl,
            M::RelaySet { relay, retransmit } => {
                self.network.relay.enabled = is_on(relay);
                self.network.relay.retransmit = *retransmit;
            }
            M::NetworkTransmitSet { transmit } => self.network.network_transmit = *transmit,
            M::BeaconSet { beacon } => self.beacons.set_enabled(is_on(beacon)),
            M::GattProxySet { proxy } => self.features.set_proxy(is_on(proxy)),
            M::FriendSet { friend } => {
                self.features.friend = is_on(friend) && self.features.supported.contains(Features::FRIEND);
            }
            _ => {}
        }
        Some(match request {
            M::DefaultTtlGet | M::DefaultTtlSet { .. } => M::DefaultTtlStatus { ttl: *self.default_ttl },
            M::RelayGet | M::RelaySet { .. } => {
                let relay = on_or_off(self.network.relay.enabled);
                M::RelayStatus { relay, retransmit: self.network.relay.retransmit }
            }
            M::NetworkTransmitGet | M::NetworkTransmitSet { .. } => {
                M::NetworkTransmitStatus { transmit: self.network.network_transmit }
            }
            M::BeaconGet | M::BeaconSet { .. } => {
                M::BeaconStatus { beacon: on_or_off(self.beacons.is_enabled()) }
            }
            M::GattProxyGet | M::GattProxySet { .. } => {
                M::GattProxyStatus { proxy: self.features.proxy_state() }
            }
            M::FriendGet | M::FriendSet { .. } => M::FriendStatus { friend: self.features.friend_state() },
            M::NodeIdentityGet { index } => self.node_identity_status(*index, FeatureState::Disabled),
            M::NodeIdentitySet { index, identity } => {
                if is_on(identity) && self.keys.subnet(*index).is_some() {
                    self.features.start_node_identity(self.now, *index);
                } else {
                    self.features.node_identity.remove(index);
                }
                self.node_identity_status(*index, *identity)
            }
            // A node that is no friend of the node with this address has no timeout of it.
            M::LowPowerNodePollTimeoutGet { address } => {
                let friend = self.friend.as_ref();
                let poll_timeout = friend.map_or(0, |friend| friend.poll_timeout_of(self.now, *address));
                M::LowPowerNodePollTimeoutStatus { address: *address, poll_timeout }
            }
            _ => return None,
        })
    }

    /// Of a subnet that the node does not know it tells what was `asked` for (§4.4.1.2.12).
    fn node_identity_status(&self, index: NetKeyIndex, asked: FeatureState) -> ConfigMessage {
        match self.keys.subnet(index) {
            Some(_) => ConfigMessage::NodeIdentityStatus {
                status: Status::Success,
                index,
                identity: self.features.node_identity_state(index),
            },
            None => ConfigMessage::NodeIdentityStatus {
                status: Status::InvalidNetKeyIndex,
                index,
                identity: asked,
            },
        }
    }

    fn handle_heartbeat(&mut self, request: &ConfigMessage) -> Option<ConfigMessage> {
        use ConfigMessage as M;
        Some(match request {
            M::HeartbeatPublicationGet => {
                let publication = self.heartbeats.publication_status();
                M::HeartbeatPublicationStatus { status: Status::Success, publication }
            }
            M::HeartbeatPublicationSet { publication } => {
                let is_off = publication.destination == Address::Unassigned;
                if !is_off && self.keys.subnet(publication.net_key_index).is_none() {
                    let (status, publication) = (Status::InvalidNetKeyIndex, *publication);
                    return Some(M::HeartbeatPublicationStatus { status, publication });
                }
                // Bits of features that are reserved are not kept (§4.2.18.5).
                let features = Features(publication.features.0 & 0x0f);
                self.heartbeats.set_publication(self.now, HeartbeatPublication { features, ..*publication });
                let publication = self.heartbeats.publication_status();
                M::HeartbeatPublicationStatus { status: Status::Success, publication }
            }
            M::HeartbeatSubscriptionGet => {
                let subscription = self.heartbeats.subscription_status(self.now);
                M::HeartbeatSubscriptionStatus { status: Status::Success, subscription }
            }
            M::HeartbeatSubscriptionSet { source, destination, period_log } => {
                // Of unicast addresses only the primary element's (§4.3.2.65).
                if destination.unicast().is_some_and(|address| address != self.address) {
                    return None;
                }
                self.heartbeats.subscribe(self.now, *source, *destination, *period_log);
                let subscription = self.heartbeats.subscription_that_was_set(self.now);
                M::HeartbeatSubscriptionStatus { status: Status::Success, subscription }
            }
            _ => return None,
        })
    }

    /// Page 0, as far as whole elements of it fit into one message.
    fn composition_data(&self) -> Vec<u8> {
        let mut composition = self.composition.clone();
        loop {
            let data = composition.encode();
            if data.len() + 2 <= MAX_PAYLOAD || composition.elements.pop().is_none() {
                return data;
            }
        }
    }

    pub(super) fn own_element(&self, address: UnicastAddress) -> Option<u8> {
        self.network.own_element(address)
    }
}

const fn on_or_off(is_on: bool) -> FeatureState {
    if is_on { FeatureState::Enabled } else { FeatureState::Disabled }
}
