//! The life of a connection and its session: CONNECT, takeover, DISCONNECT, keep alive, expiry, will.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use clock::Instant;
use mqtt_proto::server::{ProtocolError, ServerConnection};
use mqtt_proto::session::Resend;
use mqtt_wire::{
    Ack, ConnAck, Connect, Decoder, Disconnect, Packet, Properties, Publish, QoS, ReasonCode, Text, Version,
};

use super::{Connection, ConnectionId, EndReason, Ended, Shard, Timer};
use crate::client::Client;
use crate::limits::Limits;
use crate::message::Message;

impl Shard {
    /// Opens a connection with its CONNECT, which has to carry a Client Identifier of this shard: the client's,
    /// or one from [`Shard::assign_client_id`]. `decoder` has read CONNECT and nothing after it.
    ///
    /// # Errors
    /// The CONNACK, as bytes, that refuses the connection; it is to be closed after them.
    pub fn handle_connect(
        &mut self,
        now: Instant,
        connect: Connect,
        decoder: Decoder,
    ) -> Result<ConnectionId, (ProtocolError, BytesMut)> {
        self.open(now, connect, decoder, false)
    }

    /// The same for a client whose identifier was assigned: it is told which (§3.2.2.3.7).
    ///
    /// # Errors
    /// As [`Shard::handle_connect`].
    pub fn handle_connect_assigned(
        &mut self,
        now: Instant,
        connect: Connect,
        decoder: Decoder,
    ) -> Result<ConnectionId, (ProtocolError, BytesMut)> {
        self.open(now, connect, decoder, true)
    }

    fn open(
        &mut self,
        now: Instant,
        mut connect: Connect,
        decoder: Decoder,
        is_assigned: bool,
    ) -> Result<ConnectionId, (ProtocolError, BytesMut)> {
        let limits = self.shared.limits;
        if let Err(error) = self.check(&connect) {
            return Err((error, refusal(connect.version, ReasonCode::from(&error))));
        }
        self.take_over(now, &connect.client_id);
        if connect.clean_start {
            self.end_session(now, &connect.client_id.clone());
        }
        let client_id = connect.client_id.clone();
        let session_present = self.clients.contains_key(&client_id);
        self.next_epoch += 1;
        let epoch = self.next_epoch;
        let proto = ServerConnection::new(now, &connect);
        let slot = self.connections.insert(Connection {
            epoch,
            client: client_id.clone(),
            proto,
            decoder,
            out: BytesMut::new(),
            is_dirty: false,
            is_closing: false,
        });
        let id = ConnectionId { slot, epoch };
        self.cancel_expiry(&client_id);
        let client = self.clients.entry(client_id.clone()).or_insert_with(|| Client::new(client_id.clone()));
        client.open(id, &mut connect, &limits);
        let granted = client.expiry;
        let connack = connack(&connect, session_present, granted, is_assigned, &limits);
        self.send(now, id, &connack.into());
        self.start_keep_alive(id);
        self.resend(now, id);
        self.pump(now, id);
        Ok(id)
    }

    fn check(&self, connect: &Connect) -> Result<(), ProtocolError> {
        let limits = &self.shared.limits;
        if connect.properties.authentication_method.is_some() {
            return Err(ProtocolError::AuthenticationMethod);
        }
        if connect.will.as_ref().is_some_and(|will| will.topic.levels().count() > limits.max_topic_levels) {
            return Err(ProtocolError::TopicLevels);
        }
        let is_new_session = !self.clients.contains_key(&connect.client_id);
        if is_new_session && self.clients.len() >= limits.max_sessions {
            return Err(ProtocolError::TooManySessions);
        }
        Ok(())
    }

    /// Sends again what an earlier connection left unacknowledged, in its order (§4.4).
    fn resend(&mut self, now: Instant, id: ConnectionId) {
        let packets = self.with_client(id, |client| {
            (client.outbound.resend())
                .map(|resend| match resend {
                    Resend::Publish(packet_id, delivery) => {
                        let publish = delivery.message.to_publish(now, delivery.qos, delivery.retain);
                        Publish { dup: true, packet_id: Some(packet_id), ..publish }.into()
                    }
                    Resend::PubRel(packet_id) => Packet::PubRel(Ack::new(packet_id)),
                })
                .collect::<Vec<Packet>>()
        });
        for packet in packets.unwrap_or_default() {
            self.send(now, id, &packet);
        }
    }

    /// Ends the connection that a client has, for a new one (§3.1.4).
    fn take_over(&mut self, now: Instant, client_id: &Text) {
        if let Some(old) = self.clients.get(client_id).and_then(|client| client.connection) {
            self.disconnect(now, old, ReasonCode::SessionTakenOver, EndReason::TakenOver);
        }
    }

    pub(super) fn handle_disconnect(&mut self, now: Instant, id: ConnectionId, disconnect: &Disconnect) {
        let max_expiry = self.shared.limits.session_expiry_interval;
        let outcome = self.with_client(id, |client| {
            if let Some(seconds) = disconnect.properties.session_expiry_interval {
                if client.expiry.is_zero() && seconds != 0 {
                    return Err(ProtocolError::SessionExpiry);
                }
                client.expiry = Duration::from_secs(seconds.into()).min(max_expiry);
            }
            if disconnect.reason_code != ReasonCode::DisconnectWithWillMessage {
                client.will = None;
            }
            Ok(())
        });
        match outcome {
            Some(Err(error)) => self.fail(now, id, error),
            _ => self.close(now, id, EndReason::Client(disconnect.reason_code)),
        }
    }

    /// Ends a connection; its session goes on as long as it is to. What is written already is still sent.
    pub(super) fn close(&mut self, now: Instant, id: ConnectionId, reason: EndReason) {
        let Some(connection) = self.connection_mut(id).filter(|connection| !connection.is_closing) else {
            return;
        };
        connection.is_closing = true;
        let client_id = connection.client.clone();
        self.mark_dirty(id);
        self.timers.cancel(&Timer::KeepAlive(id));
        self.ended.push_back(Ended { client_id: client_id.clone(), reason });
        let Some(client) = self.clients.get_mut(&client_id) else { return };
        client.connection = None;
        let (delay, expiry) = (client.will_delay(), client.expiry);
        client.will_at = client.will.is_some().then(|| now + delay);
        if delay.is_zero() {
            self.publish_will(now, &client_id);
        }
        if expiry.is_zero() {
            self.end_session(now, &client_id);
        } else {
            self.start_expiry(now, &client_id);
        }
    }

    /// Forgets a connection that is gone.
    pub(super) fn remove(&mut self, id: ConnectionId) {
        if self.connection(id).is_some() {
            self.connections.remove(id.slot);
            self.access.forget(id);
        }
    }

    fn start_keep_alive(&mut self, id: ConnectionId) {
        if let Some(deadline) =
            self.connection(id).and_then(|connection| connection.proto.keep_alive_deadline())
        {
            self.timers.set(Timer::KeepAlive(id), deadline);
        }
    }

    /// The timer is not moved with every packet: it looks, when it fires, whether it fired too early.
    pub(super) fn check_keep_alive(&mut self, now: Instant, id: ConnectionId) {
        let is_held_back = self.is_congested();
        let Some(connection) = self.connection_mut(id) else { return };
        if is_held_back {
            connection.proto.forgive_silence(now);
        }
        match connection.proto.keep_alive_deadline() {
            Some(deadline) if deadline <= now => self.fail(now, id, ProtocolError::KeepAlive),
            Some(_) => self.start_keep_alive(id),
            None => {}
        }
    }

    fn start_expiry(&mut self, now: Instant, client_id: &Text) {
        self.cancel_expiry(client_id);
        let Some(client) = self.clients.get(client_id) else { return };
        let end = now + client.expiry;
        let at = client.will_at.map_or(end, |will| will.min(end));
        let number = self.next_expiring;
        self.next_expiring += 1;
        self.expiring.insert(number, client_id.clone());
        self.expiring_numbers.insert(client_id.clone(), number);
        // After a will, `check_session` sets the timer again, for the session's own end.
        self.timers.set(Timer::Session(number), at);
    }

    fn cancel_expiry(&mut self, client_id: &Text) {
        if let Some(number) = self.expiring_numbers.remove(client_id) {
            self.expiring.remove(&number);
            self.timers.cancel(&Timer::Session(number));
        }
    }

    pub(super) fn check_session(&mut self, now: Instant, number: u64) {
        let Some(client_id) = self.expiring.get(&number).cloned() else { return };
        let will_at = self.clients.get(&client_id).and_then(|client| client.will_at);
        match will_at {
            Some(at) if at <= now => {
                let (left, delay) = match self.clients.get(&client_id) {
                    Some(client) => (client.expiry, client.will_delay()),
                    None => return,
                };
                self.publish_will(now, &client_id);
                if left <= delay {
                    self.end_session(now, &client_id);
                } else {
                    self.timers.set(Timer::Session(number), now + (left - delay));
                }
            }
            _ => self.end_session(now, &client_id),
        }
    }

    fn publish_will(&mut self, now: Instant, client_id: &Text) {
        let Some(client) = self.clients.get_mut(client_id) else { return };
        client.will_at = None;
        if let Some(will) = client.will.take() {
            let message = Message::of_will(now, client_id.clone(), *will);
            self.route(now, &Arc::new(message));
        }
    }

    /// Ends a session: its will, if it waits, is published, and its subscriptions are gone (§3.1.3.2.2).
    fn end_session(&mut self, now: Instant, client_id: &Text) {
        self.publish_will(now, client_id);
        self.cancel_expiry(client_id);
        if let Some(client) = self.clients.remove(client_id) {
            for filter in client.subscriptions.keys() {
                self.forget_subscription(filter, client_id);
            }
        }
    }
}

pub(super) fn refusal(version: Version, reason_code: ReasonCode) -> BytesMut {
    let mut out = BytesMut::new();
    let connack = ConnAck { session_present: false, reason_code, properties: Properties::default() };
    // A CONNACK without properties is always small enough to be written.
    let _ = Packet::from(connack).encode(version, &mut out);
    out
}

/// The CONNACK that accepts. It says what this server does not have (§3.2.2.3); the Topic Alias Maximum is 0 by
/// being absent.
fn connack(
    connect: &Connect,
    session_present: bool,
    granted_expiry: Duration,
    is_assigned: bool,
    limits: &Limits,
) -> ConnAck {
    let asked = connect.properties.session_expiry_interval.unwrap_or(0);
    let granted = u32::try_from(granted_expiry.as_secs()).unwrap_or(u32::MAX);
    let properties = Properties {
        session_expiry_interval: (granted != asked).then_some(granted),
        assigned_client_identifier: is_assigned.then(|| connect.client_id.clone()),
        receive_maximum: Some(limits.max_awaiting_rel),
        maximum_packet_size: Some(limits.max_packet_size),
        subscription_identifiers_available: Some(false),
        shared_subscription_available: Some(false),
        ..Properties::default()
    };
    ConnAck { session_present, reason_code: ReasonCode::Success, properties }
}

/// Whether a message of this QoS is kept for a client that is not there.
pub(super) fn is_kept_offline(qos: QoS) -> bool {
    qos != QoS::AtMostOnce
}
