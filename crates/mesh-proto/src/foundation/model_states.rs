use alloc::vec::Vec;

use mesh_wire::AppKeyIndex;
use mesh_wire::address::Address;
use mesh_wire::foundation::{
    ConfigMessage, Features, ModelRef, Publication, PublishDestination, Status, SubscriptionChange,
};

use super::ConfigurationServer;
use crate::access::{MAX_BINDINGS, ModelEntry};
use crate::upper_transport::Destination;

/// The Model Publication, Subscription List and Model to AppKey List states (MshPRT §4.2.3, §4.2.4, §4.2.6).
impl ConfigurationServer<'_> {
    pub(super) fn handle_subscription(&mut self, request: &ConfigMessage) -> Option<ConfigMessage> {
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

    pub(super) fn handle_publication(&mut self, request: &ConfigMessage) -> Option<ConfigMessage> {
        match request {
            ConfigMessage::ModelPublicationGet { model } => {
                Some(publication_status(*model, self.publication(*model)))
            }
            ConfigMessage::ModelPublicationSet { publication, model } => {
                let result = self.set_publication(*model, publication);
                Some(publication_status(*model, result))
            }
            _ => None,
        }
    }

    pub(super) fn handle_binding(&mut self, request: &ConfigMessage) -> Option<ConfigMessage> {
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
        if entry.has_device_keys() {
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
        if entry.has_device_keys() {
            return Err(Status::InvalidPublishParameters);
        }
        Ok(entry.publication.unwrap_or(Publication::NONE))
    }

    fn set_publication(&mut self, model: ModelRef, publication: &Publication) -> Result<Publication, Status> {
        self.publication(model)?;
        let supported = self.features.supported;
        let entry = self.entry(model)?;
        if publication.destination == PublishDestination::Address(Address::Unassigned) {
            entry.publication = None;
            return Ok(Publication::NONE);
        }
        if !entry.bindings.contains(&publication.app_key_index) {
            return Err(Status::InvalidAppKeyIndex);
        }
        if publication.friendship_credentials && !supported.contains(Features::LOW_POWER) {
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
        let most = self.elements.max_subscriptions();
        let result = self.subscriber(model).and_then(|entry| {
            let subscriptions = &mut entry.subscriptions;
            match change {
                SubscriptionChange::Delete => subscriptions.retain(|known| *known != to),
                SubscriptionChange::Overwrite => *subscriptions = alloc::vec![to],
                SubscriptionChange::Add if subscriptions.contains(&to) => {}
                SubscriptionChange::Add if subscriptions.len() >= most => {
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
        if entry.has_device_keys() { Err(Status::NotASubscribeModel) } else { Ok(entry) }
    }

    fn entry(&mut self, model: ModelRef) -> Result<&mut ModelEntry, Status> {
        let element = self.own_element(model.element).ok_or(Status::InvalidAddress)?;
        self.elements.model_mut(element, model.model).ok_or(Status::InvalidModel)
    }
}

pub(super) fn unbind(model: &mut ModelEntry, index: AppKeyIndex) {
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

pub(super) fn into_status(result: Result<(), Status>) -> Status {
    result.err().unwrap_or(Status::Success)
}
