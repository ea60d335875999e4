//! `$SYS/brokers/<node>/clients/<client id>/connected` and `…/disconnected`, as EMQX has them.

use clock::Instant;
use mqtt_wire::{Publish, QoS, Text, TopicName, Version};
use serde_json::json;

use super::Shard;
use crate::end::EndReason;

impl Shard {
    pub(super) fn announce_connected(&mut self, now: Instant, client_id: &Text, event: &Connected) {
        let Some(topic) = self.event_topic(client_id, "connected") else { return };
        let payload = json!({
            "clientid": client_id.as_str(),
            "username": event.username.as_ref().map_or("undefined", |name| name.as_str()),
            "proto_ver": event.version as u8,
            "keepalive": event.keep_alive,
            "clean_start": event.clean_start,
            "expiry_interval": event.expiry_seconds,
            "connected_at": self.unix_ms(now),
        });
        self.publish_event(now, topic, &payload);
    }

    pub(super) fn announce_disconnected(
        &mut self,
        now: Instant,
        client_id: &Text,
        version: Version,
        reason: EndReason,
    ) {
        let Some(topic) = self.event_topic(client_id, "disconnected") else { return };
        let payload = json!({
            "clientid": client_id.as_str(),
            "proto_ver": version as u8,
            "reason": reason.kind().name(),
            "description": reason.to_string(),
            "disconnected_at": self.unix_ms(now),
        });
        self.publish_event(now, topic, &payload);
    }

    /// The topic of an event, if it interests anybody. An identifier with a wildcard in it has none.
    fn event_topic(&mut self, client_id: &Text, event: &str) -> Option<TopicName> {
        let topic = format!("$SYS/brokers/{}/clients/{client_id}/{event}", self.shared.settings.node);
        let topic = TopicName::new(&topic).ok()?;
        (self.shared.routes.lookup(&topic).0.all.iter().next().is_some()).then_some(topic)
    }

    fn publish_event(&mut self, now: Instant, topic: TopicName, payload: &serde_json::Value) {
        self.publish_system(now, Publish::new(topic, QoS::AtMostOnce, payload.to_string()));
    }

    fn unix_ms(&self, now: Instant) -> u64 {
        let since_1970 = self.shared.settings.started + (now - Instant::ORIGIN);
        u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
    }
}

/// What the event of a connection says.
pub(super) struct Connected {
    pub(super) username: Option<Text>,
    pub(super) version: Version,
    pub(super) keep_alive: u16,
    pub(super) clean_start: bool,
    pub(super) expiry_seconds: u64,
}
