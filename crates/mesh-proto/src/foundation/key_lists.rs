use mesh_crypto::{AppKey, NetKey};
use mesh_wire::foundation::{ConfigMessage, KeyRefreshTransition, Status};
use mesh_wire::{AppKeyIndex, NetKeyIndex};

use super::ConfigurationServer;
use super::model_states::{into_status, unbind};
use crate::keys::{KeyRefreshPhase, MAX_APP_KEYS, MAX_NET_KEYS};

/// The NetKey List and AppKey List states, and the refresh of their keys (MshPRT §4.2.4, §4.2.5, §4.2.14).
impl ConfigurationServer<'_> {
    pub(super) fn handle_net_key(
        &mut self,
        request: &ConfigMessage,
        via: NetKeyIndex,
    ) -> Option<ConfigMessage> {
        let (status, index) = match request {
            ConfigMessage::NetKeyAdd { index, key } => {
                let status = match self.keys.subnet(*index) {
                    Some(subnet) if subnet.current.net_key == *key => Status::Success,
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
                        self.leave(*index);
                        Status::Success
                    }
                };
                (status, *index)
            }
            ConfigMessage::NetKeyUpdate { index, key } => (self.update_net_key(*index, key), *index),
            ConfigMessage::KeyRefreshPhaseGet { index } => return Some(self.phase_status(*index)),
            ConfigMessage::KeyRefreshPhaseSet { index, transition } => {
                match (self.keys.subnet(*index).map(|subnet| subnet.phase), transition) {
                    (Some(KeyRefreshPhase::First), KeyRefreshTransition::UseNewKeys) => {
                        self.keys.use_new_keys(*index);
                    }
                    (Some(_), KeyRefreshTransition::RevokeOldKeys) => self.keys.revoke_old_keys(*index),
                    _ => {}
                }
                return Some(self.phase_status(*index));
            }
            ConfigMessage::NetKeyGet => {
                let indexes = self.keys.subnets().iter().map(|subnet| subnet.index).collect();
                return Some(ConfigMessage::NetKeyList { indexes });
            }
            _ => return None,
        };
        Some(ConfigMessage::NetKeyStatus { status, index })
    }

    pub(super) fn handle_app_key(&mut self, request: &ConfigMessage) -> Option<ConfigMessage> {
        let (status, net_key_index, index) = match request {
            ConfigMessage::AppKeyAdd { net_key_index, index, key } => {
                let status = match self.keys.application(*index) {
                    Some(stored) if stored.current.app_key != *key => Status::KeyIndexAlreadyStored,
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
            ConfigMessage::AppKeyUpdate { net_key_index, index, key } => {
                let status = into_status(self.update_app_key(*net_key_index, *index, key));
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

    /// What goes with a subnet: its AppKeys, and what is sent in it.
    fn leave(&mut self, index: NetKeyIndex) {
        for app_key in self.keys.remove_subnet(index) {
            self.forget_app_key(app_key);
        }
        let keys = &*self.keys;
        self.beacons.retain(|subnet| keys.subnet(subnet).is_some());
        self.heartbeats.leave(self.now, index);
        self.features.node_identity.remove(&index);
    }

    /// A refresh begins with a key that is new; the same again changes nothing, another has to wait for its end.
    fn update_net_key(&mut self, index: NetKeyIndex, key: &NetKey) -> Status {
        let Some(subnet) = self.keys.subnet(index) else { return Status::InvalidNetKeyIndex };
        match (subnet.phase, &subnet.new) {
            (KeyRefreshPhase::Normal, _) if subnet.current.net_key != *key => {
                self.keys.update_subnet(index, key.clone());
                Status::Success
            }
            (KeyRefreshPhase::First, Some(new)) if new.net_key == *key => Status::Success,
            _ => Status::CannotUpdate,
        }
    }

    fn update_app_key(
        &mut self,
        net_key_index: NetKeyIndex,
        index: AppKeyIndex,
        key: &AppKey,
    ) -> Result<(), Status> {
        let application = self.keys.application(index).ok_or(Status::InvalidAppKeyIndex)?;
        self.keys.subnet(net_key_index).ok_or(Status::InvalidNetKeyIndex)?;
        // §3.11.4: in the first phase of the NetKey that it is bound to, another key than it has; also one after another.
        let bound = self.keys.subnet(application.net_key_index);
        let is_first_phase = bound.is_some_and(|subnet| subnet.phase == KeyRefreshPhase::First);
        let is_known = application.new.as_ref().is_some_and(|new| new.app_key == *key);
        if !is_first_phase || (application.current.app_key == *key && !is_known) {
            return Err(Status::CannotUpdate);
        }
        if application.net_key_index != net_key_index {
            return Err(Status::InvalidBinding);
        }
        self.keys.update_application(index, key.clone());
        Ok(())
    }

    fn phase_status(&self, index: NetKeyIndex) -> ConfigMessage {
        let subnet = self.keys.subnet(index);
        let status = if subnet.is_some() { Status::Success } else { Status::InvalidNetKeyIndex };
        let phase = subnet.map_or(0, |subnet| subnet.phase as u8);
        ConfigMessage::KeyRefreshPhaseStatus { status, index, phase }
    }

    /// What goes with an AppKey: bindings, and the publications that use it (MshPRT §4.3.2.40).
    fn forget_app_key(&mut self, index: AppKeyIndex) {
        for (_, model) in self.elements.models_mut() {
            unbind(model, index);
        }
    }
}
