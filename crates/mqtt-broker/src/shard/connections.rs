//! The life of a connection: CONNECT, takeover, DISCONNECT, keep alive.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clock::Instant;
use journal::log::Position;
use mqtt_proto::server::{ProtocolError, ServerConnection, Terms};
use mqtt_wire::{Connect, Decoder, Disconnect, ReasonCode, Text};

use super::admission::Refusal;
use super::connack::{self, Accepted};
use super::events::Connected;
use super::{Connection, ConnectionId, Shard, Timer};
use crate::end::{EndReason, Ended};

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
    ) -> Result<ConnectionId, (Refusal, BytesMut)> {
        self.open(now, connect, decoder, false, None)
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
    ) -> Result<ConnectionId, (Refusal, BytesMut)> {
        self.open(now, connect, decoder, true, None)
    }

    /// `proof` is the server's last word to a client that authenticated with a method.
    pub(super) fn open(
        &mut self,
        now: Instant,
        mut connect: Connect,
        decoder: Decoder,
        is_assigned: bool,
        proof: Option<Bytes>,
    ) -> Result<ConnectionId, (Refusal, BytesMut)> {
        self.now = now;
        if let Err(reason) = self.check(&connect, proof.is_some()) {
            return Err((reason, self.refuse_connect(&connect, reason)));
        }
        // Not a slice of the packet, which the session would keep.
        let client_id = connect.client_id.detached();
        let written = self.store.last;
        self.take_over(now, &client_id);
        if connect.clean_start {
            self.end_session(now, &client_id);
        }
        let session_present = self.clients.contains_key(&client_id);
        let id = self.insert_connection(now, &connect, client_id.clone(), decoder);
        self.cancel_session_timer(&client_id);
        let client = self.clients.entry(client_id.clone()).or_default();
        self.stats.dropped_unreachable += client.take_up() as u64;
        client.open(id, &mut connect, &self.shared.limits);
        self.record_opened(now, &client_id);
        let client = self.clients.entry(client_id.clone()).or_default();
        let accepted = Accepted { session_present, granted_expiry: client.expiry(), is_assigned, proof };
        let connack = connack::accept(&connect, &accepted, &self.shared.settings);
        // What it says of the session is durable.
        let until = if self.store.last > written { self.store.last } else { Position::default() };
        self.answer(now, id, until, connack.into());
        self.start_keep_alive(id);
        self.report_member(&client_id);
        let event = Connected {
            version: connect.version,
            keep_alive: connect.keep_alive,
            clean_start: connect.clean_start,
            expiry_seconds: accepted.granted_expiry.as_secs(),
            username: connect.username,
        };
        self.announce_connected(now, &client_id, &event);
        self.drain_lanes(now);
        Ok(id)
    }

    fn insert_connection(
        &mut self,
        now: Instant,
        connect: &Connect,
        client: Text,
        decoder: Decoder,
    ) -> ConnectionId {
        let limits = &self.shared.limits;
        let terms = Terms {
            topic_alias_maximum: limits.max_topic_alias,
            outgoing_aliases: limits.max_outgoing_topic_alias,
            server_keep_alive: limits.server_keepalive,
        };
        let epoch = NonZeroU64::MIN.saturating_add(self.last_epoch);
        self.last_epoch = epoch.get();
        let slot = self.connections.insert(Box::new(Connection {
            epoch,
            client,
            proto: ServerConnection::new(now, connect, terms),
            decoder,
            out: BytesMut::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            held: VecDeque::new(),
            is_open: false,
            is_dirty: false,
            is_closing: false,
        }));
        ConnectionId { slot, epoch }
    }

    /// Why a connection is refused, and how its client is told.
    fn check(&mut self, connect: &Connect, is_proved: bool) -> Result<(), Refusal> {
        if let Some(drain) = &self.drained {
            return Err(Refusal::Drained(drain.code));
        }
        let is_full = self.is_memory_full(0);
        let limits = &self.shared.limits;
        let will = connect.will.as_deref();
        let error = if is_full {
            Some(ProtocolError::Memory)
        } else if connect.properties.authentication_method.is_some() && !is_proved {
            Some(ProtocolError::AuthenticationMethod)
        } else if will.is_some_and(|will| will.topic.levels().count() > limits.max_topic_levels) {
            Some(ProtocolError::TopicLevels)
        } else if will.is_some_and(|will| will.qos > limits.max_qos_allowed) {
            Some(ProtocolError::QoS)
        } else if will.is_some_and(|will| will.retain && !limits.retain_available) {
            Some(ProtocolError::Retain)
        } else if self.clients.len() >= limits.max_sessions && !self.clients.contains_key(&connect.client_id)
        {
            Some(ProtocolError::TooManySessions)
        } else {
            None
        };
        error.map_or(Ok(()), |error| Err(Refusal::Protocol(error)))
    }

    /// The CONNACK, as bytes, that refuses a connection.
    pub(super) fn refuse_connect(&mut self, connect: &Connect, reason: Refusal) -> BytesMut {
        self.stats.refused += 1;
        let server = self.drained.as_ref().and_then(|drain| drain.server.as_ref());
        connack::refuse(connect, reason.into(), &reason.to_string(), server)
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
                if client.expiry().is_zero() && seconds != 0 {
                    return Err(ProtocolError::SessionExpiry);
                }
                client.set_expiry(Duration::from_secs(seconds.into()).min(max_expiry));
            }
            // [MQTT-3.14.4-3]: any other code leaves the will in place.
            if disconnect.reason_code == ReasonCode::NORMAL_DISCONNECTION {
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
        connection.waiting = VecDeque::new();
        connection.held = VecDeque::new();
        let (client_id, version) = (connection.client.clone(), connection.proto.version());
        self.mark_dirty(id);
        self.timers.cancel(&Timer::KeepAlive(id));
        self.stats.ended[reason.kind() as usize] += 1;
        self.ended.push_back(Ended { connection: id, client_id: client_id.clone(), version, reason });
        self.announce_disconnected(now, &client_id, version, reason);
        self.leave_session(now, &client_id);
        self.drain_lanes(now);
    }

    /// Forgets a connection that is gone.
    pub(super) fn remove(&mut self, id: ConnectionId) {
        if self.connection(id).is_some() {
            let connection = self.connections.remove(id.slot);
            self.access.forget(id);
            self.memory.fetch_sub(connection.out.len(), Ordering::Relaxed);
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
}
