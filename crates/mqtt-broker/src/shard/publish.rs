//! From a publisher to the shards that its topic interests.

use std::sync::Arc;

use clock::Instant;
use mqtt_proto::server::ProtocolError;
use mqtt_proto::session::Receipt;
use mqtt_wire::{Ack, Packet, PacketId, Publish, QoS, ReasonCode, TopicName, Version};

use super::{ConnectionId, PeerMessage, ROUTE_CACHE, Shard};
use crate::message::Message;
use crate::routes::ShardSet;

impl Shard {
    pub(super) fn handle_publish(&mut self, now: Instant, id: ConnectionId, publish: Publish) {
        if publish.topic.levels().count() > self.shared.limits.max_topic_levels {
            return self.fail(now, id, ProtocolError::TopicLevels);
        }
        if !self.may_publish(id, &publish.topic) {
            return self.refuse_publish(now, id, &publish);
        }
        let (qos, packet_id) = (publish.qos, publish.packet_id);
        if let (QoS::ExactlyOnce, Some(packet_id)) = (qos, packet_id) {
            match self.receipt(id, packet_id) {
                Some(Receipt::New) => {}
                Some(Receipt::Repeated) => return self.send(now, id, &Packet::PubRec(Ack::new(packet_id))),
                Some(Receipt::Exceeded) => return self.fail(now, id, ProtocolError::ReceiveMaximum),
                None => return,
            }
        }
        let Some(publisher) = self.connection(id).map(|connection| connection.client.clone()) else { return };
        self.stats.messages_received += 1;
        let has_receivers = self.route(now, &Arc::new(Message::of_publish(now, publisher, publish)));
        let reason = if has_receivers { ReasonCode::Success } else { ReasonCode::NoMatchingSubscribers };
        match (qos, packet_id) {
            (QoS::AtLeastOnce, Some(packet_id)) => {
                self.send(now, id, &Packet::PubAck(Ack::with_reason(packet_id, reason)));
            }
            (QoS::ExactlyOnce, Some(packet_id)) => {
                self.send(now, id, &Packet::PubRec(Ack::with_reason(packet_id, reason)));
            }
            _ => {}
        }
    }

    /// Clients of MQTT 5.0 know the Receive Maximum; the others are bound by their 65,535 packet identifiers.
    fn receipt(&mut self, id: ConnectionId, packet_id: PacketId) -> Option<Receipt> {
        let limit = match self.connection(id)?.proto.version() {
            Version::V5 => usize::from(self.shared.limits.max_awaiting_rel),
            _ => usize::MAX,
        };
        self.with_client(id, |client| client.inbound.handle_publish(packet_id, limit))
    }

    /// Retains a message if it is to be, and gives it to every shard that it interests; says whether there is
    /// one. The index is changed first: a subscriber that comes in between finds the message in one or both.
    pub(super) fn route(&mut self, now: Instant, message: &Arc<Message>) -> bool {
        if message.retain && self.shared.retained.set(message).is_err() {
            self.stats.dropped_retained_full += 1;
        }
        let shards = self.interested(&message.topic);
        for peer in shards.iter().filter(|&peer| peer != self.id) {
            self.peers[peer].push(PeerMessage::Publish(Arc::clone(message)));
        }
        if shards.contains(self.id) {
            self.deliver(now, message);
        }
        shards != ShardSet::default()
    }

    /// Whether more waits for other shards than should: publishers are not read until it is less.
    pub fn is_congested(&self) -> bool {
        self.peers.iter().any(|batch| batch.len() >= self.shared.limits.max_peer_backlog)
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
        self.route_cache.insert(topic.clone(), found);
        found.0
    }
}
