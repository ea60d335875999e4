//! From a message to the clients of this shard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use clock::Instant;
use mqtt_proto::session::Resend;
use mqtt_proto::topic_alias::Alias;
use mqtt_wire::{
    Ack, Packet, PacketId, Publish, QoS, ReasonCode, SubscriptionOptions, Text, TopicFilter, TopicName,
    Version,
};
use smallvec::SmallVec;

use super::restore::Only;
use super::store::Held;
use super::{Connection, ConnectionId, Shard, Subscriber};
use crate::client::{Client, Delivery, Subscription};
use crate::durable::Stored;
use crate::durable::record::{self, How, Record, Ref};
use crate::message::Message;
use crate::queue::Queued;
use crate::sabotage::{self, Fault};

/// A PUBLISH as it was written for one shape of receiver: all that differs between receivers of the same shape
/// is the packet identifier.
#[derive(Debug)]
struct Encoded {
    version: Version,
    qos: QoS,
    retain: bool,
    identifiers: SmallVec<[u32; 1]>,
    bytes: BytesMut,
    packet_id_at: Option<usize>,
}

/// The PUBLISHes of one message, written once for each shape.
#[derive(Debug, Default)]
pub(super) struct Shapes(Vec<Encoded>);

impl Shapes {
    fn get(&mut self, now: Instant, delivery: &Delivery, version: Version) -> Option<&Encoded> {
        // MQTT 3.1 and 3.1.1 write the same PUBLISH.
        let version = if version == Version::V5 { Version::V5 } else { Version::V3_1_1 };
        let fits = |x: &Encoded| {
            x.version == version
                && x.qos == delivery.qos
                && x.retain == delivery.retain
                && (version != Version::V5 || x.identifiers == delivery.identifiers)
        };
        if let Some(index) = self.0.iter().position(fits) {
            return self.0.get(index);
        }
        let publish = delivery.to_publish(now);
        let mut bytes = BytesMut::new();
        let packet_id_at = publish.encode_head(version, &mut bytes).ok()?;
        bytes.extend_from_slice(&publish.payload);
        let (qos, retain, identifiers) = (delivery.qos, delivery.retain, delivery.identifiers.clone());
        self.0.push(Encoded { version, qos, retain, identifiers, bytes, packet_id_at });
        self.0.last()
    }
}

impl Delivery {
    pub(crate) fn to_ref(&self, client: &Text) -> Ref {
        let how = How { qos: self.qos, retain: self.retain, identifiers: self.identifiers.clone() };
        Ref { client: client.clone(), how, group: self.group.clone() }
    }

    fn to_publish(&self, now: Instant) -> Publish {
        let mut publish = self.message.to_publish(now, self.qos, self.retain);
        publish.properties.subscription_identifiers = self.identifiers.clone();
        publish
    }
}

/// What a client's matching subscriptions ask for together (§3.3.4).
struct Merged {
    options: SubscriptionOptions,
    identifiers: SmallVec<[u32; 1]>,
}

impl Shard {
    /// Gives a message to every client of this shard that subscribes to its topic, once each: with the highest
    /// QoS of its matching subscriptions (§3.3.4). And to one member of each shared subscription that this shard
    /// owns. `is_owed`: it is written down who gets it, even if nobody does.
    pub(super) fn deliver(
        &mut self,
        now: Instant,
        message: &Arc<Message>,
        stored: Option<&Stored>,
        is_owed: bool,
    ) {
        let (deliveries, groups) = self.receivers(message, stored, None);
        if let Some(stored) = stored {
            let owed = groups.iter().filter(|group| self.is_durable_group(group)).cloned().collect();
            self.record_refs(stored, &deliveries, owed, is_owed);
        }
        let mut shapes = Shapes::default();
        for (client_id, delivery) in deliveries {
            self.deliver_to(now, &client_id, delivery, &mut shapes);
        }
        for group in groups {
            let stored = stored.filter(|_| self.is_durable_group(&group)).cloned();
            self.dispatch(now, &group, message, stored);
        }
    }

    /// Who gets a message. `only`: no others.
    pub(super) fn receivers(
        &self,
        message: &Arc<Message>,
        stored: Option<&Stored>,
        only: Option<Only>,
    ) -> (Vec<(Text, Delivery)>, Vec<TopicFilter>) {
        let mut receivers: BTreeMap<Text, Merged> = BTreeMap::new();
        let mut groups = Vec::new();
        self.subscriptions.for_each_match(&message.topic, |subscriber, subscription| {
            let Subscription { options, identifier } = subscription;
            let is_meant = |name: &str| only.is_none_or(|only| only.includes(name));
            let client = match subscriber {
                Subscriber::Client(client) => client,
                Subscriber::Group(group) if is_meant(group.as_str()) => return groups.push(group.clone()),
                Subscriber::Group(_) => return,
            };
            if (options.no_local && *client == message.publisher) || !is_meant(client) {
                return;
            }
            let merged = (receivers.entry(client.clone()))
                .or_insert_with(|| Merged { options: *options, identifiers: SmallVec::new() });
            merged.options.qos = merged.options.qos.max(options.qos);
            merged.options.retain_as_published |= options.retain_as_published;
            merged.identifiers.extend(*identifier);
        });
        let to_delivery = |(client_id, Merged { options, identifiers }): (Text, Merged)| {
            let qos = message.qos.min(options.qos);
            let is_stored = qos > QoS::AtMostOnce
                && stored.is_some()
                && self.clients.get(&client_id).is_some_and(|client| client.is_durable);
            let delivery = Delivery {
                message: Arc::clone(message),
                qos,
                retain: message.retain && options.retain_as_published,
                identifiers,
                group: None,
                stored: stored.filter(|_| is_stored).map(|stored| stored.for_client(&client_id)),
            };
            (client_id, delivery)
        };
        (receivers.into_iter().map(to_delivery).collect(), groups)
    }

    /// Writes down who of this shard has to get a message: from then on it is done with it.
    fn record_refs(
        &mut self,
        stored: &Stored,
        deliveries: &[(Text, Delivery)],
        groups: Vec<TopicFilter>,
        is_owed: bool,
    ) {
        let durable = deliveries.iter().filter(|(_, delivery)| delivery.stored.is_some());
        let refs: Vec<Ref> = durable.map(|(client, delivery)| delivery.to_ref(client)).collect();
        if is_owed || !refs.is_empty() || !groups.is_empty() {
            let shard = u8::try_from(self.id).ok();
            self.record(&Record::Refs { id: stored.id, shard, refs, groups, is_moved: false });
        }
    }

    /// Writes down that one client has to get a message, if it outlasts a restart.
    pub(super) fn record_ref(
        &mut self,
        client_id: &Text,
        delivery: &Delivery,
        stored: Option<Stored>,
    ) -> Option<Stored> {
        let stored = stored.filter(|_| self.outlasts_a_restart(client_id, delivery))?;
        let refs = vec![delivery.to_ref(client_id)];
        self.record(&Record::Refs { id: stored.id, shard: None, refs, groups: Vec::new(), is_moved: false });
        Some(stored.for_client(client_id))
    }

    /// The same for what is retained, which the client may have to get as a message, too: under a name of its own.
    pub(super) fn record_copy(
        &mut self,
        client_id: &Text,
        delivery: &Delivery,
        stored: Option<Stored>,
    ) -> Option<Stored> {
        let Stored { id, hold } = stored.filter(|_| self.outlasts_a_restart(client_id, delivery))?;
        let alias = self.record(&Record::Alias { of: id })?.hold.position().0;
        self.record_ref(client_id, delivery, Some(Stored { id: alias, hold }))
    }

    fn outlasts_a_restart(&self, client_id: &Text, delivery: &Delivery) -> bool {
        let is_durable = self.clients.get(client_id).is_some_and(|client| client.is_durable);
        is_durable && delivery.qos > QoS::AtMostOnce
    }

    pub(super) fn deliver_to(
        &mut self,
        now: Instant,
        client_id: &Text,
        delivery: Delivery,
        shapes: &mut Shapes,
    ) {
        let Some(client) = self.clients.get_mut(client_id) else { return };
        let connection = client.connection.and_then(|id| Some((id, self.connections.get_mut(id.slot)?)));
        let Some((id, connection)) = connection else {
            if is_kept_offline(delivery.qos) {
                self.enqueue(client_id, delivery);
            }
            return;
        };
        if delivery.qos == QoS::AtMostOnce {
            if connection.has_room() && connection.waiting.is_empty() {
                self.write(now, id, &delivery, None, false, shapes);
            } else {
                self.wait(id, delivery);
            }
            return;
        }
        if !connection.has_room() || !client.queue.is_empty() || !client.outbound.has_room() {
            return self.enqueue(client_id, delivery);
        }
        self.send_now(now, id, client_id, &delivery, shapes);
    }

    /// Has a message of QoS 1 or 2 wait for its client.
    fn enqueue(&mut self, client_id: &Text, delivery: Delivery) {
        let (limits, overflow) = (self.shared.limits, self.store.overflow.as_ref());
        let Some(client) = self.clients.get_mut(client_id) else { return };
        let (is_away, queue) = (client.connection.is_none(), &mut client.queue);
        let is_log_full = is_away && self.store.is_full();
        let dropped = queue.push_within(delivery, is_away, overflow, &limits, is_log_full);
        let unreachable = queue.take_unreachable();
        self.count_dropped(&dropped, unreachable, is_log_full);
        self.finish_all(client_id, &dropped);
        let Some(client) = self.clients.get_mut(client_id) else { return };
        if client.shared > 0 && client.connection.is_some() && !client.is_busy {
            self.report_member(client_id);
        }
    }

    pub(super) fn count_dropped(&mut self, dropped: &[Queued], unreachable: usize, is_log_full: bool) {
        self.stats.dropped_unreachable += unreachable as u64;
        if is_log_full {
            self.stats.dropped_log_full += dropped.len() as u64;
        } else {
            self.stats.dropped_queue_full += dropped.len() as u64;
        }
    }

    /// Has a message of QoS 0 wait for a connection that does not read fast enough, and drops the oldest ones
    /// that are too many.
    fn wait(&mut self, id: ConnectionId, delivery: Delivery) {
        let most = self.shared.limits.max_out_buffer;
        let Some(connection) = self.connection_mut(id).filter(|connection| !connection.is_closing) else {
            return;
        };
        connection.waiting_bytes += delivery.message.size();
        connection.waiting.push_back(delivery);
        let mut dropped = 0;
        while connection.waiting_bytes > most
            && let Some(oldest) = connection.waiting.pop_front()
        {
            connection.waiting_bytes -= oldest.message.size();
            dropped += 1;
        }
        self.stats.dropped_slow_consumer += dropped;
    }

    /// Sends what the connection and its window have room for: first again what an earlier connection left
    /// unacknowledged, in its order (§4.4), then what waits.
    pub(super) fn pump(&mut self, now: Instant, id: ConnectionId) {
        let Some(client_id) = self.connection(id).map(|connection| connection.client.clone()) else { return };
        while self.connection(id).is_some_and(Connection::has_room) && self.resend_next(now, id) {}
        while self.connection(id).is_some_and(Connection::has_room) {
            let next = self.with_client(id, |client| {
                let has_room = client.outbound.has_room();
                has_room.then(|| client.queue.pop_loaded()).flatten()
            });
            let Some(Some(delivery)) = next else { break };
            self.send_now(now, id, &client_id, &delivery, &mut Shapes::default());
        }
        self.load_more(&client_id);
        while let Some(connection) = self.connection_mut(id).filter(|connection| connection.has_room())
            && let Some(delivery) = connection.waiting.pop_front()
        {
            connection.waiting_bytes -= delivery.message.size();
            self.write(now, id, &delivery, None, false, &mut Shapes::default());
        }
        let is_free_again = |client: &Client| {
            let room = client.room_for_shared();
            // A quarter of its window, so that it is not told for each message.
            client.is_busy && room > 0 && room * 3 >= client.outbound.len()
        };
        if self.clients.get(&client_id).is_some_and(|client| is_free_again(client)) {
            self.report_member(&client_id);
            self.drain_lanes(now);
        }
    }

    /// Sends one more of what an earlier connection left; `false`: there is none, or no room for it.
    fn resend_next(&mut self, now: Instant, id: ConnectionId) -> bool {
        let is_here = |sent: &Queued| matches!(sent, Queued::Here(_));
        let next = self.with_client(id, |client| match client.outbound.next_resend_if(is_here)? {
            Resend::Publish(packet_id, Queued::Here(delivery)) => Some((packet_id, Some(delivery.clone()))),
            // It would have to be read first.
            Resend::Publish(_, Queued::Stored(_)) => None,
            Resend::PubRel(packet_id) => Some((packet_id, None)),
        });
        match next.flatten() {
            None => return false,
            Some((packet_id, None)) => self.answer_for_all(now, id, Packet::PubRel(Ack::new(packet_id))),
            Some((packet_id, Some(delivery))) => {
                let dup = !sabotage::is(Fault::LostDup);
                let mut shapes = Shapes::default();
                if self.fits(now, id, &delivery, &mut shapes) {
                    if delivery.qos == QoS::ExactlyOnce {
                        // The record of its identifier may have to become durable yet.
                        let held = Held::Publish { packet_id, delivery, dup };
                        self.hold_back(now, id, self.store.last, held);
                    } else {
                        self.write(now, id, &delivery, Some(packet_id), dup, &mut shapes);
                    }
                } else {
                    self.stats.dropped_too_large += 1;
                    self.with_client(id, |client| client.outbound.abandon(packet_id));
                    self.finish_delivery(id, &delivery);
                }
            }
        }
        true
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
            return self.finish_delivery(id, delivery);
        }
        if !self.fits(now, id, delivery, shapes) {
            // [MQTT-3.1.2-25]: as if it had been sent.
            self.stats.dropped_too_large += 1;
            return self.finish_delivery(id, delivery);
        }
        let Some(client) = self.clients.get_mut(client_id) else { return };
        let is_durable = client.is_durable;
        let sent = Queued::Here(Box::new(delivery.clone()));
        if let Some(packet_id) = client.outbound.send(sent, delivery.qos) {
            if is_durable && delivery.qos == QoS::ExactlyOnce {
                // It leaves only when it is known which identifier it has, even if it is not in the log itself: the
                // client keeps the identifier over a crash.
                let stored = delivery.stored.as_ref().map_or(record::NOT_STORED, |stored| stored.id);
                self.record(&Record::Sent { client: client_id.clone(), id: stored, packet_id });
                let held = Held::Publish { packet_id, delivery: Box::new(delivery.clone()), dup: false };
                self.hold_back(now, id, self.store.last, held);
            } else {
                self.write(now, id, delivery, Some(packet_id), false, shapes);
            }
            if sabotage::is(Fault::ForgottenWhenSent) {
                self.with_client(id, |client| client.outbound.abandon(packet_id));
            }
        }
    }

    fn fits(&mut self, now: Instant, id: ConnectionId, delivery: &Delivery, shapes: &mut Shapes) -> bool {
        let Some(connection) = self.connection(id) else { return false };
        // A Topic Alias adds three bytes where it is new.
        let alias = if connection.proto.has_aliases() { 3 } else { 0 };
        let most = usize::try_from(connection.proto.maximum_packet_size).unwrap_or(usize::MAX);
        shapes
            .get(now, delivery, connection.proto.version())
            .is_some_and(|encoded| encoded.bytes.len() + alias <= most)
    }

    pub(super) fn write(
        &mut self,
        now: Instant,
        id: ConnectionId,
        delivery: &Delivery,
        packet_id: Option<PacketId>,
        dup: bool,
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
        let Some(connection) = self.connection_mut(id).filter(|connection| !connection.is_closing) else {
            return;
        };
        let start = connection.out.len();
        if connection.proto.has_aliases() {
            connection.write_with_alias(now, delivery, packet_id, dup);
        } else if let Some(encoded) = shapes.get(now, delivery, connection.proto.version()) {
            connection.out.extend_from_slice(&encoded.bytes);
            if dup {
                connection.out[start] |= 0b1000;
            }
            if let (Some(at), Some(packet_id)) = (encoded.packet_id_at, packet_id) {
                connection.out[start + at..start + at + 2].copy_from_slice(&packet_id.0.get().to_be_bytes());
            }
        }
        let added = connection.out.len() - start;
        self.memory.fetch_add(added, Ordering::Relaxed);
        self.stats.messages_sent += 1;
        match delivery.qos {
            QoS::AtMostOnce => self.stats.messages_qos0_sent += 1,
            QoS::AtLeastOnce => self.stats.messages_qos1_sent += 1,
            QoS::ExactlyOnce => self.stats.messages_qos2_sent += 1,
        }
        self.mark_dirty(id);
    }

    pub(super) fn handle_pubrec(&mut self, now: Instant, id: ConnectionId, ack: &Ack) {
        let packet_id = ack.packet_id;
        let outcome = self.with_client(id, |client| {
            let sent = client.outbound.message(packet_id).cloned();
            (client.outbound.handle_pubrec(packet_id, ack.reason_code), sent, client.is_durable)
        });
        let Some((outcome, sent, is_durable)) = outcome else { return };
        match outcome {
            Ok(true) => {
                if is_durable {
                    self.record_exchange(id, |client| Record::Received { client, packet_id });
                } else {
                    self.finish_sent(id, sent.as_ref());
                }
                self.answer_for_all(now, id, Packet::PubRel(Ack::new(packet_id)));
            }
            Ok(false) => {
                self.finish_sent(id, sent.as_ref());
                self.pump(now, id);
            }
            Err(_) if !ack.reason_code.is_error() => {
                let reason = ReasonCode::PacketIdentifierNotFound;
                self.send(now, id, Packet::PubRel(Ack::with_reason(ack.packet_id, reason)));
            }
            Err(_) => {}
        }
    }
}

impl Connection {
    /// A PUBLISH whose topic is named, or not, as this connection's aliases say: it cannot be shared.
    fn write_with_alias(
        &mut self,
        now: Instant,
        delivery: &Delivery,
        packet_id: Option<PacketId>,
        dup: bool,
    ) {
        let mut publish = delivery.to_publish(now);
        publish.packet_id = packet_id;
        publish.dup = dup;
        match self.proto.assign_alias(&publish.topic) {
            Alias::None => {}
            Alias::New(alias) => publish.properties.topic_alias = Some(alias),
            Alias::Known(alias) => {
                publish.properties.topic_alias = Some(alias);
                publish.topic = TopicName::empty();
            }
        }
        // It fits: that was seen before an identifier was taken for it.
        let _ = publish.encode(self.proto.version(), &mut self.out);
    }
}

/// Whether a message of this QoS is kept for a client that is not there.
fn is_kept_offline(qos: QoS) -> bool {
    qos != QoS::AtMostOnce
}
