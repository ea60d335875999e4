//! The Configuration Server (MshPRT §4.4.1): what a Configuration Client reads and changes in a node.
//!
//! Conditions are checked in the order of §4.3.2, except that an unknown element comes before all else about
//! its models, as it does in other stacks: nothing can be said of a model of no element.

use alloc::vec::Vec;

use mesh_wire::access::MAX_PAYLOAD;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::foundation::{
    CompositionData, ConfigMessage, ElementDescription, FeatureState, ModelRef, Publication,
    PublishDestination, Status, SubscriptionChange,
};
use mesh_wire::{AppKeyIndex, CompanyId, NetKeyIndex, Ttl};

use crate::access::{Access, Elements, MAX_BINDINGS, MAX_SUBSCRIPTIONS, ModelEntry};
use crate::keys::{Keys, MAX_APP_KEYS, MAX_NET_KEYS};
use crate::network::NetworkLayer;
use crate::upper_transport::Destination;

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

/// The states that the Configuration Server serves, wherever they are kept.
#[derive(Debug)]
pub struct ConfigurationServer<'a> {
    /// NetKeys, AppKeys, device keys.
    pub keys: &'a mut Keys,
    /// Bindings, subscriptions, publications.
    pub elements: &'a mut Elements,
    /// Relay, Network Transmit.
    pub network: &'a mut NetworkLayer,
    /// Default TTL.
    pub default_ttl: &'a mut Ttl,
    /// Composition Data page 0.
    pub composition: &'a CompositionData,
}

impl ConfigurationServer<'_> {
    /// Carries out a request that came in the subnet `via`, and returns its answer; `None` for messages that
    /// a server does not get.
    pub fn handle(&mut self, request: &ConfigMessage, via: NetKeyIndex) -> Option<ConfigMessage> {
        use ConfigMessage as M;
        Some(match request {
            // A page that is not there is answered with the largest below it, which is page 0.
            M::CompositionDataGet { .. } => {
                M::CompositionDataStatus { page: 0, data: self.composition_data() }
            }
            M::DefaultTtlGet => M::DefaultTtlStatus { ttl: *self.default_ttl },
            M::DefaultTtlSet { ttl } => {
                *self.default_ttl = *ttl;
                M::DefaultTtlStatus { ttl: *ttl }
            }
            M::RelayGet => self.relay_status(),
            M::RelaySet { relay, retransmit } => {
                self.network.relay.enabled = *relay == FeatureState::Enabled;
                self.network.relay.retransmit = *retransmit;
                self.relay_status()
            }
            M::NetworkTransmitGet => M::NetworkTransmitStatus { transmit: self.network.network_transmit },
            M::NetworkTransmitSet { transmit } => {
                self.network.network_transmit = *transmit;
                M::NetworkTransmitStatus { transmit: *transmit }
            }
            M::NetKeyAdd { .. } | M::NetKeyDelete { .. } | M::NetKeyGet => {
                self.handle_net_key(request, via)?
            }
            M::AppKeyAdd { .. } | M::AppKeyDelete { .. } | M::AppKeyGet { .. } => {
                self.handle_app_key(request)?
            }
            M::ModelAppBind { .. } | M::ModelAppUnbind { .. } | M::ModelAppGet { .. } => {
                self.handle_binding(request)?
            }
            M::ModelPublicationGet { model } => publication_status(*model, self.publication(*model)),
            M::ModelPublicationSet { publication, model } => {
                let result = self.set_publication(*model, publication);
                publication_status(*model, result)
            }
            M::ModelSubscriptionChange { .. }
            | M::ModelSubscriptionVirtualAddressChange { .. }
            | M::ModelSubscriptionDeleteAll { .. }
            | M::ModelSubscriptionGet { .. } => self.handle_subscription(request)?,
            M::NodeReset => M::NodeResetStatus,
            _ => return None,
        })
    }

    fn handle_subscription(&mut self, request: &ConfigMessage) -> Option<ConfigMessage> {
        use ConfigMessage as M;
        Some(match request {
            M::ModelSubscriptionChange { change, address, model } => {
                let status = self.change_subscription(*change, Destination::Address(*address), *model);
                M::ModelSubscriptionStatus { status, address: *address, model: *model }
            }
            M::ModelSubscriptionVirtualAddressChange { change, label, model } => {
                let status = self.change_subscription(*change, Destination::Label(*label), *model);
                M::ModelSubscriptionStatus { status, address: label.hash().into(), model: *model }
            }
            M::ModelSubscriptionDeleteAll { model } => {
                let status = into_status(self.subscriber(*model).map(|entry| entry.subscriptions.clear()));
                self.share_subscriptions(*model);
                M::ModelSubscriptionStatus { status, address: Address::Unassigned, model: *model }
            }
            M::ModelSubscriptionGet { model } => match self.subscriber(*model) {
                Ok(entry) => {
                    let addresses = entry.subscriptions.iter().map(Destination::address).collect();
                    M::ModelSubscriptionList { status: Status::Success, model: *model, addresses }
                }
                Err(status) => M::ModelSubscriptionList { status, model: *model, addresses: Vec::new() },
            },
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

    fn relay_status(&self) -> ConfigMessage {
        let relay = if self.network.relay.enabled { FeatureState::Enabled } else { FeatureState::Disabled };
        ConfigMessage::RelayStatus { relay, retransmit: self.network.relay.retransmit }
    }

    fn handle_net_key(&mut self, request: &ConfigMessage, via: NetKeyIndex) -> Option<ConfigMessage> {
        let (status, index) = match request {
            ConfigMessage::NetKeyAdd { index, key } => {
                let status = match self.keys.subnet(*index) {
                    Some(subnet) if subnet.net_key == *key => Status::Success,
                    Some(_) => Status::KeyIndexAlreadyStored,
                    None if self.keys.subnets().len() >= MAX_NET_KEYS => Status::InsufficientResources,
                    None => {
                        self.keys.add_subnet(*index, key.clone());
                        Status::Success
                    }
                };
                (status, *index)
            }
            ConfigMessage::NetKeyDelete { index } => {
                let status = match self.keys.subnet(*index) {
                    None => Status::Success,
                    // Without the key that carried the request the answer could not be sent.
                    Some(_) if *index == via => Status::CannotRemove,
                    Some(_) => {
                        for app_key in self.keys.remove_subnet(*index) {
                            self.forget_app_key(app_key);
                        }
                        Status::Success
                    }
                };
                (status, *index)
            }
            ConfigMessage::NetKeyGet => {
                let indexes = self.keys.subnets().iter().map(|subnet| subnet.index).collect();
                return Some(ConfigMessage::NetKeyList { indexes });
            }
            _ => return None,
        };
        Some(ConfigMessage::NetKeyStatus { status, index })
    }

    fn handle_app_key(&mut self, request: &ConfigMessage) -> Option<ConfigMessage> {
        let (status, net_key_index, index) = match request {
            ConfigMessage::AppKeyAdd { net_key_index, index, key } => {
                let status = match self.keys.application(*index) {
                    Some(stored) if stored.app_key != *key => Status::KeyIndexAlreadyStored,
                    None if self.keys.application_count() >= MAX_APP_KEYS => Status::InsufficientResources,
                    _ if self.keys.subnet(*net_key_index).is_none() => Status::InvalidNetKeyIndex,
                    Some(stored) if stored.net_key_index != *net_key_index => Status::InvalidNetKeyIndex,
                    Some(_) => Status::Success,
                    None => {
                        self.keys.add_application(*index, *net_key_index, key.clone());
                        Status::Success
                    }
                };
                (status, *net_key_index, *index)
            }
            ConfigMessage::AppKeyDelete { net_key_index, index } => {
                let status = match self.keys.application(*index) {
                    _ if self.keys.subnet(*net_key_index).is_none() => Status::InvalidNetKeyIndex,
                    Some(stored) if stored.net_key_index != *net_key_index => Status::InvalidNetKeyIndex,
                    Some(_) => {
                        self.keys.remove_application(*index);
                        self.forget_app_key(*index);
                        Status::Success
                    }
                    None => Status::Success,
                };
                (status, *net_key_index, *index)
            }
            ConfigMessage::AppKeyGet { net_key_index } => {
                let is_known = self.keys.subnet(*net_key_index).is_some();
                let status = if is_known { Status::Success } else { Status::InvalidNetKeyIndex };
                let indexes =
                    self.keys.applications_of(*net_key_index).map(|application| application.index).collect();
                return Some(ConfigMessage::AppKeyList { status, net_key_index: *net_key_index, indexes });
            }
            _ => return None,
        };
        Some(ConfigMessage::AppKeyStatus { status, net_key_index, index })
    }

    /// What goes with an AppKey: bindings, and the publications that use it (MshPRT §4.3.2.40).
    fn forget_app_key(&mut self, index: AppKeyIndex) {
        for (_, model) in self.elements.models_mut() {
            unbind(model, index);
        }
    }

    fn handle_binding(&mut self, request: &ConfigMessage) -> Option<ConfigMessage> {
        Some(match request {
            ConfigMessage::ModelAppBind { index, model } => {
                let status = into_status(self.bind(*index, *model));
                ConfigMessage::ModelAppStatus { status, index: *index, model: *model }
            }
            ConfigMessage::ModelAppUnbind { index, model } => {
                let is_known = self.keys.application(*index).is_some();
                let result = self.entry(*model).and_then(|entry| {
                    if !is_known {
                        return Err(Status::InvalidAppKeyIndex);
                    }
                    unbind(entry, *index);
                    Ok(())
                });
                ConfigMessage::ModelAppStatus { status: into_status(result), index: *index, model: *model }
            }
            ConfigMessage::ModelAppGet { model } => match self.entry(*model) {
                Ok(entry) => {
                    let indexes = entry.bindings.clone();
                    ConfigMessage::ModelAppList { status: Status::Success, model: *model, indexes }
                }
                Err(status) => ConfigMessage::ModelAppList { status, model: *model, indexes: Vec::new() },
            },
            _ => return None,
        })
    }

    fn bind(&mut self, index: AppKeyIndex, model: ModelRef) -> Result<(), Status> {
        let is_known = self.keys.application(index).is_some();
        let entry = self.entry(model)?;
        if !is_known {
            return Err(Status::InvalidAppKeyIndex);
        }
        if matches!(entry.access, Access::Foundation) {
            return Err(Status::CannotBind);
        }
        if entry.bindings.contains(&index) {
            return Ok(());
        }
        if entry.bindings.len() >= MAX_BINDINGS {
            return Err(Status::InsufficientResources);
        }
        entry.bindings.push(index);
        Ok(())
    }

    fn publication(&mut self, model: ModelRef) -> Result<Publication, Status> {
        let entry = self.entry(model)?;
        if matches!(entry.access, Access::Foundation) {
            return Err(Status::InvalidPublishParameters);
        }
        Ok(entry.publication.unwrap_or(Publication::NONE))
    }

    fn set_publication(&mut self, model: ModelRef, publication: &Publication) -> Result<Publication, Status> {
        self.publication(model)?;
        let entry = self.entry(model)?;
        if publication.destination == PublishDestination::Address(Address::Unassigned) {
            entry.publication = None;
            return Ok(Publication::NONE);
        }
        if !entry.bindings.contains(&publication.app_key_index) {
            return Err(Status::InvalidAppKeyIndex);
        }
        if publication.friendship_credentials {
            return Err(Status::FeatureNotSupported);
        }
        entry.publication = Some(*publication);
        Ok(*publication)
    }

    fn change_subscription(
        &mut self,
        change: SubscriptionChange,
        to: Destination,
        model: ModelRef,
    ) -> Status {
        let result = self.subscriber(model).and_then(|entry| {
            let subscriptions = &mut entry.subscriptions;
            match change {
                SubscriptionChange::Delete => subscriptions.retain(|known| *known != to),
                SubscriptionChange::Overwrite => *subscriptions = alloc::vec![to],
                SubscriptionChange::Add if subscriptions.contains(&to) => {}
                SubscriptionChange::Add if subscriptions.len() >= MAX_SUBSCRIPTIONS => {
                    return Err(Status::InsufficientResources);
                }
                SubscriptionChange::Add => subscriptions.push(to),
            }
            Ok(())
        });
        self.share_subscriptions(model);
        into_status(result)
    }

    fn share_subscriptions(&mut self, model: ModelRef) {
        if let Some(element) = self.own_element(model.element) {
            self.elements.share_subscriptions(element, model.model);
        }
    }

    fn subscriber(&mut self, model: ModelRef) -> Result<&mut ModelEntry, Status> {
        let entry = self.entry(model)?;
        if matches!(entry.access, Access::Foundation) { Err(Status::NotASubscribeModel) } else { Ok(entry) }
    }

    fn entry(&mut self, model: ModelRef) -> Result<&mut ModelEntry, Status> {
        let element = self.own_element(model.element).ok_or(Status::InvalidAddress)?;
        self.elements.model_mut(element, model.model).ok_or(Status::InvalidModel)
    }

    fn own_element(&self, address: UnicastAddress) -> Option<u8> {
        self.network.own_element(address)
    }
}

fn unbind(model: &mut ModelEntry, index: AppKeyIndex) {
    model.bindings.retain(|binding| *binding != index);
    if model.publication.is_some_and(|publication| publication.app_key_index == index) {
        model.publication = None;
    }
}

fn publication_status(model: ModelRef, result: Result<Publication, Status>) -> ConfigMessage {
    let (status, publication) = match result {
        Ok(publication) => (Status::Success, publication),
        Err(status) => (status, Publication::NONE),
    };
    ConfigMessage::ModelPublicationStatus { status, publication, model }
}

fn into_status(result: Result<(), Status>) -> Status {
    result.err().unwrap_or(Status::Success)
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
