//! From a publisher to the shards that its topic interests.

use std::sync::Arc;

use clock::Instant;
use journal::log::Position;
use mqtt_proto::server::ProtocolError;
use mqtt_proto::session::Receipt;
use mqtt_wire::{Ack, Packet, PacketId, Publish, QoS, ReasonCode, Text, TopicName, Version};

use super::{ConnectionId, ROUTE_CACHE, Shard};
use crate::durable::Stored;
use crate::lanes::{Body, PeerMessage};
use crate::message::Message;
use crate::routes::{Interest, ShardSet};
use crate::sabotage::{self, Fault};

/// When to look next whether the memory is used up: looking costs a read from every other core.
#[derive(Debug, Default)]
pub(super) struct MemoryWatch {
    bytes: usize,
    is_full: bool,
}

/// Bytes that a shard takes in between two looks.
const LOOK_EVERY: usize = 256 * 1024;

/// What became of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Published {
    /// Whether it interests anybody.
    pub(super) has_receivers: bool,
    /// What has to be durable before it is acknowledged.
    pub(super) until: Position,
}

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
            match self.receipt(id, packet_id, publish.dup) {
                Some(Receipt::New) => {}
                Some(Receipt::Repeated) => {
                    return self.answer_for_all(now, id, Packet::PubRec(Ack::new(packet_id)));
                }
                Some(Receipt::Exceeded) => return self.fail(now, id, ProtocolError::ReceiveMaximum),
                None => return,
            }
        }
        let Some(publisher) = self.connection(id).map(|connection| connection.client.clone()) else { return };
        let receipt = packet_id.filter(|_| qos == QoS::ExactlyOnce);
        let published = self.publish(now, Message::of_publish(now, publisher, publish), receipt);
        let has_receivers = published.has_receivers;
        let reason = if has_receivers { ReasonCode::Success } else { ReasonCode::NoMatchingSubscribers };
        self.acknowledge(now, id, published.until, (qos, packet_id), reason);
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
        until: Position,
        (qos, packet_id): (QoS, Option<PacketId>),
        reason: ReasonCode,
    ) {
        let Some(packet_id) = packet_id else { return };
        let mut ack = Ack::with_reason(packet_id, reason);
        if reason.is_error() {
            ack.properties.reason_string = Text::new(&reason.to_string()).ok();
        }
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.answer(now, id, until, Packet::PubAck(ack)),
            QoS::ExactlyOnce => self.answer(now, id, until, Packet::PubRec(ack)),
        }
    }

    /// Refuses a message whose client may not publish it. Clients of MQTT 3.x cannot be told: for them it is
    /// acknowledged ([MQTT-3.3.5-2] there).
    fn refuse_publish(&mut self, now: Instant, id: ConnectionId, publish: &Publish) {
        self.stats.dropped_not_authorized += 1;
        let is_v5 = self.connection(id).is_some_and(|connection| connection.proto.version() == Version::V5);
        if let (false, QoS::ExactlyOnce, Some(packet_id)) = (is_v5, publish.qos, publish.packet_id) {
            // Its exchange goes on to PUBCOMP.
            self.receipt(id, packet_id, publish.dup);
        }
        let which = (publish.qos, publish.packet_id);
        self.acknowledge(now, id, Position::default(), which, ReasonCode::NotAuthorized);
    }

    /// Without memory nothing is acknowledged that would not be kept: clients of MQTT 5.0 are told, others lose
    /// their connection and send it again later.
    fn refuse_for_memory(&mut self, now: Instant, id: ConnectionId, publish: &Publish) {
        self.stats.dropped_memory += 1;
        let is_v5 = self.connection(id).is_some_and(|connection| connection.proto.version() == Version::V5);
        if publish.qos == QoS::AtMostOnce || is_v5 {
            let which = (publish.qos, publish.packet_id);
            self.acknowledge(now, id, Position::default(), which, ReasonCode::QuotaExceeded);
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
    fn receipt(&mut self, id: ConnectionId, packet_id: PacketId, dup: bool) -> Option<Receipt> {
        let limit = match self.connection(id)?.proto.version() {
            Version::V5 => usize::from(self.shared.limits.max_awaiting_rel),
            _ => usize::MAX,
        };
        if sabotage::is(Fault::NoQoS2Receipt) {
            return Some(Receipt::New);
        }
        self.with_client(id, |client| client.inbound.handle_publish(packet_id, dup, limit))
    }

    /// Publishes a message of the server's own.
    pub fn publish_system(&mut self, now: Instant, publish: Publish) {
        self.now = now;
        self.route(now, &Arc::new(Message::of_publish(now, Text::default(), publish)), None);
    }

    /// Publishes a message. `receipt`: of QoS 2, the identifier with which a client sent it.
    pub(super) fn publish(&mut self, now: Instant, message: Message, receipt: Option<PacketId>) -> Published {
        let published = self.route(now, &Arc::new(message.charged(&self.memory)), receipt);
        if !published.has_receivers {
            self.stats.dropped_no_subscribers += 1;
        }
        published
    }

    /// Has the log store a message if somebody needs it after a restart, and sends it on its way: at once, or from
    /// a client with QoS 2 when its receipt is durable.
    fn route(&mut self, now: Instant, message: &Arc<Message>, receipt: Option<PacketId>) -> Published {
        let Interest { all, durable } = self.interested(&message.topic);
        if receipt.is_some()
            && self.is_to_be_stored(message, durable)
            && let Some(stored) = self.store_message(message, receipt, durable, 0)
        {
            self.route_when_durable(Arc::clone(message), stored, durable);
            return Published { has_receivers: !all.union(durable).is_empty(), until: self.store.last };
        }
        self.forward(now, message, None)
    }

    /// Messages that no durable session and no retained topic needs are not stored.
    fn is_to_be_stored(&self, message: &Message, durable: ShardSet) -> bool {
        let is_needed = message.retain || (message.qos > QoS::AtMostOnce && !durable.is_empty());
        self.store.log.is_some() && is_needed && !message.topic.is_system()
    }

    /// Retains a message if it is to be, and gives it to every shard that it interests. The index is changed first:
    /// a subscriber that comes in between finds the message in one or both. What is retained is published, and
    /// stored, in the order of its versions, whichever shards it goes through. `stored`: where the log has it
    /// already, and the shards to which it is owed.
    pub(super) fn forward(
        &mut self,
        now: Instant,
        message: &Arc<Message>,
        stored: Option<(Stored, ShardSet)>,
    ) -> Published {
        let place = self.next_place();
        let shared = Arc::clone(&self.shared);
        let mut order = message.retain.then(|| shared.order.lock(&message.topic));
        let version = order.as_mut().map_or(0, |order| order.next_version());
        let Interest { all, durable } = self.interested(&message.topic);
        let mut until = Position::default();
        let (stored, owed) = match stored {
            Some((stored, owed)) => {
                if message.retain {
                    self.record_retained(message, stored.id, version);
                }
                (Some(stored), owed)
            }
            None if self.is_to_be_stored(message, durable) => {
                let owed = if message.qos > QoS::AtMostOnce { durable } else { ShardSet::default() };
                let stored = self.store_message(message, None, owed, version);
                until = self.store.last;
                (stored, owed)
            }
            None => (None, ShardSet::default()),
        };
        if message.retain {
            self.retain(message, version, stored.clone());
        }
        let shards = all.union(owed);
        for peer in shards.iter() {
            let after = order.as_mut().and_then(|order| order.follow(peer, place));
            let after = after.filter(|_| !sabotage::is(Fault::RetainedWithoutVersion));
            let stored = stored.clone().filter(|_| owed.union(durable).contains(peer));
            let body = Body::Publish { message: Arc::clone(message), stored, is_owed: owed.contains(peer) };
            self.post(peer, PeerMessage { place, after, body });
        }
        drop(order);
        self.drain_lanes(now);
        Published { has_receivers: !shards.is_empty(), until }
    }

    /// The shards that a topic interests, as far as possible without a lock.
    fn interested(&mut self, topic: &TopicName) -> Interest {
        if let Some((interest, generation)) = self.route_cache.get(topic)
            && *generation == self.shared.routes.generation(topic)
        {
            return *interest;
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
