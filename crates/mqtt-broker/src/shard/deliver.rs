//! From a message to the clients of this shard.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;
use clock::Instant;
use mqtt_wire::{Ack, Packet, PacketId, QoS, ReasonCode, SubscriptionOptions, Text, Version};

use super::connections::is_kept_offline;
use super::{ConnectionId, Shard};
use crate::client::Delivery;
use crate::message::Message;

/// A PUBLISH as it was written for one shape of receiver: all that differs between receivers of the same shape
/// is the packet identifier.
#[derive(Debug)]
struct Encoded {
    version: Version,
    qos: QoS,
    retain: bool,
    bytes: BytesMut,
    packet_id_at: Option<usize>,
}

/// The PUBLISHes of one message, written once for each shape.
#[derive(Debug, Default)]
struct Shapes(Vec<Encoded>);

impl Shapes {
    fn get(&mut self, now: Instant, delivery: &Delivery, version: Version) -> Option<&Encoded> {
        // MQTT 3.1 and 3.1.1 write the same PUBLISH.
        let version = if version == Version::V5 { Version::V5 } else { Version::V3_1_1 };
        let fits = |x: &Encoded| x.version == version && x.qos == delivery.qos && x.retain == delivery.retain;
        if let Some(index) = self.0.iter().position(fits) {
            return self.0.get(index);
        }
        let publish = delivery.message.to_publish(now, delivery.qos, delivery.retain);
        let mut bytes = BytesMut::new();
        let packet_id_at = publish.encode_head(version, &mut bytes).ok()?;
        bytes.extend_from_slice(&publish.payload);
        let Delivery { qos, retain, .. } = *delivery;
        self.0.push(Encoded { version, qos, retain, bytes, packet_id_at });
        self.0.last()
    }
}

impl Shard {
    /// Gives a message to every client of this shard that subscribes to its topic, once each: with the highest
    /// QoS of its matching subscriptions (§3.3.4).
    pub(super) fn deliver(&mut self, now: Instant, message: &Arc<Message>) {
        let mut receivers: BTreeMap<Text, SubscriptionOptions> = BTreeMap::new();
        self.subscriptions.for_each_match(&message.topic, |client, options| {
            if options.no_local && *client == message.publisher {
                return;
            }
            let merged = receivers.entry(client.clone()).or_insert(*options);
            merged.qos = merged.qos.max(options.qos);
            merged.retain_as_published |= options.retain_as_published;
        });
        let mut shapes = Shapes::default();
        for (client_id, options) in receivers {
            let delivery = Delivery {
                message: Arc::clone(message),
                qos: message.qos.min(options.qos),
                retain: message.retain && options.retain_as_published,
            };
            self.deliver_to(now, &client_id, delivery, &mut shapes);
        }
    }

    /// Gives a retained message to a client that has just subscribed.
    pub(super) fn deliver_retained(&mut self, now: Instant, client_id: &Text, delivery: Delivery) {
        self.deliver_to(now, client_id, delivery, &mut Shapes::default());
    }

    fn deliver_to(&mut self, now: Instant, client_id: &Text, delivery: Delivery, shapes: &mut Shapes) {
        let limits = self.shared.limits;
        let Some(client) = self.clients.get_mut(client_id) else { return };
        let Some(id) = client.connection else {
            if is_kept_offline(delivery.qos) && !client.enqueue(delivery, &limits) {
                self.stats.dropped_queue_full += 1;
            }
            return;
        };
        if delivery.qos == QoS::AtMostOnce {
            self.write(now, id, &delivery, None, shapes);
            return;
        }
        if !client.queue.is_empty() || !client.outbound.has_room() {
            if !client.enqueue(delivery, &limits) {
                self.stats.dropped_queue_full += 1;
            }
            return;
        }
        self.send_now(now, id, client_id, &delivery, shapes);
    }

    /// Sends what the window allows of what waits for the client of a connection.
    pub(super) fn pump(&mut self, now: Instant, id: ConnectionId) {
        loop {
            let next = self.with_client(id, |client| {
                let has_room = client.outbound.has_room();
                has_room
                    .then(|| client.queue.pop_front())
                    .flatten()
                    .map(|delivery| (client.id.clone(), delivery))
            });
            let Some(Some((client_id, delivery))) = next else { return };
            self.send_now(now, id, &client_id, &delivery, &mut Shapes::default());
        }
    }

    /// Sends a message of QoS 1 or 2, for which there is room.
    fn send_now(
        &mut self,
        now: Instant,
        id: ConnectionId,
        client_id: &Text,
        delivery: &Delivery,
        shapes: &mut Shapes,
    ) {
        if delivery.message.has_expired(now) {
            self.stats.dropped_expired += 1;
            return;
        }
        if !self.fits(now, id, delivery, shapes) {
            // [MQTT-3.1.2-25]: as if it had been sent.
            self.stats.dropped_too_large += 1;
            return;
        }
        let Some(client) = self.clients.get_mut(client_id) else { return };
        if let Some(packet_id) = client.outbound.send(delivery.clone(), delivery.qos) {
            self.write(now, id, delivery, Some(packet_id), shapes);
        }
    }

    fn fits(&mut self, now: Instant, id: ConnectionId, delivery: &Delivery, shapes: &mut Shapes) -> bool {
        let Some(connection) = self.connection(id) else { return false };
        let most = usize::try_from(connection.proto.maximum_packet_size).unwrap_or(usize::MAX);
        shapes
            .get(now, delivery, connection.proto.version())
            .is_some_and(|encoded| encoded.bytes.len() <= most)
    }

    fn write(
        &mut self,
        now: Instant,
        id: ConnectionId,
        delivery: &Delivery,
        packet_id: Option<PacketId>,
        shapes: &mut Shapes,
    ) {
        if packet_id.is_none() {
            if delivery.message.has_expired(now) {
                self.stats.dropped_expired += 1;
                return;
            }
            if !self.fits(now, id, delivery, shapes) {
                self.stats.dropped_too_large += 1;
                return;
            }
        }
        let most = self.shared.limits.max_out_buffer;
        let Some(connection) = self.connection_mut(id).filter(|connection| !connection.is_closing) else {
            return;
        };
        if packet_id.is_none() && connection.out.len() > most {
            self.stats.dropped_slow_consumer += 1;
            return;
        }
        let Some(encoded) = shapes.get(now, delivery, connection.proto.version()) else { return };
        let start = connection.out.len();
        connection.out.extend_from_slice(&encoded.bytes);
        if let (Some(at), Some(packet_id)) = (encoded.packet_id_at, packet_id) {
            connection.out[start + at..start + at + 2].copy_from_slice(&packet_id.0.get().to_be_bytes());
        }
        self.stats.messages_sent += 1;
        self.mark_dirty(id);
    }

    pub(super) fn handle_pubrec(&mut self, now: Instant, id: ConnectionId, ack: &Ack) {
        let outcome =
            self.with_client(id, |client| client.outbound.handle_pubrec(ack.packet_id, ack.reason_code));
        match outcome {
            Some(Ok(true)) => self.send(now, id, &Packet::PubRel(Ack::new(ack.packet_id))),
            Some(Ok(false)) => self.pump(now, id),
            Some(Err(_)) if !ack.reason_code.is_error() => {
                let reason = ReasonCode::PacketIdentifierNotFound;
                self.send(now, id, &Packet::PubRel(Ack::with_reason(ack.packet_id, reason)));
            }
            _ => {}
        }
    }
}

/// The PUBLISH of a retained message differs in RETAIN only, which is always set (§3.3.1.3).
pub(super) fn retained(message: Arc<Message>, qos: QoS) -> Delivery {
    let qos = message.qos.min(qos);
    Delivery { message, qos, retain: true }
}
