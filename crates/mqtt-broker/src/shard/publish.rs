//! From a publisher to the shards that its topic interests.

use std::sync::Arc;

use clock::Instant;
use mqtt_proto::server::ProtocolError;
use mqtt_proto::session::Receipt;
use mqtt_wire::{Ack, Packet, PacketId, Publish, QoS, ReasonCode, Text, TopicName, Version};

use super::{ConnectionId, ROUTE_CACHE, Shard};
use crate::lanes::{Body, PeerMessage};
use crate::message::Message;
use crate::routes::ShardSet;
use crate::sabotage::{self, Fault};

/// When to look next whether the memory is used up: looking costs a read from every other core.
#[derive(Debug, Default)]
pub(super) struct MemoryWatch {
    bytes: usize,
    is_full: bool,
}

/// Bytes that a shard takes in between two looks.
const LOOK_EVERY: usize = 256 * 1024;

impl Shard {
    pub(super) fn handle_publish(&mut self, now: Instant, id: ConnectionId, publish: Publish) {
        if let Err(error) = self.check_publish(&publish) {
            return self.fail(now, id, error);
        }
        self.count_received(publish.qos);
        if !self.may_publish(id, &publish.topic) {
            return self.refuse_publish(now, id, &publish);
        }
        if self.is_memory_full(publish.payload.len()) {
            return self.refuse_for_memory(now, id, &publish);
        }
        let (qos, packet_id) = (publish.qos, publish.packet_id);
        if let (QoS::ExactlyOnce, Some(packet_id)) = (qos, packet_id) {
            match self.receipt(id, packet_id) {
                Some(Receipt::New) => {}
                Some(Receipt::Repeated) => return self.send(now, id, Packet::PubRec(Ack::new(packet_id))),
                Some(Receipt::Exceeded) => return self.fail(now, id, ProtocolError::ReceiveMaximum),
                None => return,
            }
        }
        let Some(publisher) = self.connection(id).map(|connection| connection.client.clone()) else { return };
        let has_receivers = self.publish(now, Message::of_publish(now, publisher, publish));
        let reason = if has_receivers { ReasonCode::Success } else { ReasonCode::NoMatchingSubscribers };
        self.acknowledge(now, id, qos, packet_id, reason);
    }

    fn check_publish(&self, publish: &Publish) -> Result<(), ProtocolError> {
        let limits = &self.shared.limits;
        if publish.topic.levels().count() > limits.max_topic_levels {
            return Err(ProtocolError::TopicLevels);
        }
        if publish.qos > limits.max_qos_allowed {
            return Err(ProtocolError::QoS);
        }
        if publish.retain && !limits.retain_available {
            return Err(ProtocolError::Retain);
        }
        Ok(())
    }

    fn count_received(&mut self, qos: QoS) {
        self.stats.messages_received += 1;
        match qos {
            QoS::AtMostOnce => self.stats.messages_qos0_received += 1,
            QoS::AtLeastOnce => self.stats.messages_qos1_received += 1,
            QoS::ExactlyOnce => self.stats.messages_qos2_received += 1,
        }
    }

    fn acknowledge(
        &mut self,
        now: Instant,
        id: ConnectionId,
        qos: QoS,
        packet_id: Option<PacketId>,
        reason: ReasonCode,
    ) {
        let Some(packet_id) = packet_id else { return };
        let mut ack = Ack::with_reason(packet_id, reason);
        if reason.is_error() {
            ack.properties.reason_string = Text::new(&reason.to_string()).ok();
        }
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.send(now, id, Packet::PubAck(ack)),
            QoS::ExactlyOnce => self.send(now, id, Packet::PubRec(ack)),
        }
    }

    /// Refuses a message whose client may not publish it. Clients of MQTT 3.x cannot be told: for them it is
    /// acknowledged ([MQTT-3.3.5-2] there).
    fn refuse_publish(&mut self, now: Instant, id: ConnectionId, publish: &Publish) {
        self.stats.dropped_not_authorized += 1;
        let is_v5 = self.connection(id).is_some_and(|connection| connection.proto.version() == Version::V5);
        if let (false, QoS::ExactlyOnce, Some(packet_id)) = (is_v5, publish.qos, publish.packet_id) {
            // Its exchange goes on to PUBCOMP.
            self.receipt(id, packet_id);
        }
        self.acknowledge(now, id, publish.qos, publish.packet_id, ReasonCode::NotAuthorized);
    }

    /// Without memory nothing is acknowledged that would not be kept: clients of MQTT 5.0 are told, others lose
    /// their connection and send it again later.
    fn refuse_for_memory(&mut self, now: Instant, id: ConnectionId, publish: &Publish) {
        self.stats.dropped_memory += 1;
        let is_v5 = self.connection(id).is_some_and(|connection| connection.proto.version() == Version::V5);
        if publish.qos == QoS::AtMostOnce || is_v5 {
            self.acknowledge(now, id, publish.qos, publish.packet_id, ReasonCode::QuotaExceeded);
        } else {
            self.fail(now, id, ProtocolError::Memory);
        }
    }

    /// Whether the memory is used up, after so many bytes more.
    pub(super) fn is_memory_full(&mut self, bytes: usize) -> bool {
        self.memory_watch.bytes += bytes + 256;
        if self.memory_watch.is_full || self.memory_watch.bytes >= LOOK_EVERY {
            self.memory_watch = MemoryWatch { bytes: 0, is_full: self.shared.memory.is_full() };
        }
        self.memory_watch.is_full
    }

    /// Clients of MQTT 5.0 know the Receive Maximum; the others are bound by their 65,535 packet identifiers.
    fn receipt(&mut self, id: ConnectionId, packet_id: PacketId) -> Option<Receipt> {
        let limit = match self.connection(id)?.proto.version() {
            Version::V5 => usize::from(self.shared.limits.max_awaiting_rel),
            _ => usize::MAX,
        };
        if sabotage::is(Fault::NoQoS2Receipt) {
            return Some(Receipt::New);
        }
        self.with_client(id, |client| client.inbound.handle_publish(packet_id, limit))
    }

    /// Publishes a message of the server's own.
    pub fn publish_system(&mut self, now: Instant, publish: Publish) {
        self.now = now;
        self.route(now, &Arc::new(Message::of_publish(now, Text::default(), publish)));
    }

    /// Publishes a message, and says whether it interests anybody.
    pub(super) fn publish(&mut self, now: Instant, message: Message) -> bool {
        let has_receivers = self.route(now, &Arc::new(message.charged(&self.memory)));
        if !has_receivers {
            self.stats.dropped_no_subscribers += 1;
        }
        has_receivers
    }

    /// Retains a message if it is to be, and gives it to every shard that it interests; says whether there is
    /// one. The index is changed first: a subscriber that comes in between finds the message in one or both.
    /// What is retained is published in the order of its versions, whichever shards it goes through.
    fn route(&mut self, now: Instant, message: &Arc<Message>) -> bool {
        let place = self.next_place();
        let shared = Arc::clone(&self.shared);
        let mut order = message.retain.then(|| shared.order.lock(&message.topic));
        if let Some(order) = &mut order {
            self.retain(message, order.next_version());
        }
        let shards = self.interested(&message.topic);
        for peer in shards.iter() {
            let after = order.as_mut().and_then(|order| order.follow(peer, place));
            let after = after.filter(|_| !sabotage::is(Fault::RetainedWithoutVersion));
            self.post(peer, PeerMessage { place, after, body: Body::Publish(Arc::clone(message)) });
        }
        drop(order);
        self.drain_lanes(now);
        shards != ShardSet::default()
    }

    /// The shards that a topic interests, as far as possible without a lock.
    fn interested(&mut self, topic: &TopicName) -> ShardSet {
        if let Some((shards, generation)) = self.route_cache.get(topic)
            && *generation == self.shared.routes.generation(topic)
        {
            return *shards;
        }
        if self.route_cache.len() >= ROUTE_CACHE {
            self.route_cache.clear();
        }
        let found = self.shared.routes.lookup(topic);
        // Not a slice of the packet, which may have a large payload.
        self.route_cache.insert(topic.detached(), found);
        found.0
    }
}
