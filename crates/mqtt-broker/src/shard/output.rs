//! The out-buffer of each connection.

use std::sync::atomic::Ordering;

use clock::Instant;
use journal::log::Position;
use mqtt_wire::{Disconnect, Packet, Properties, ReasonCode, Text, Version};

use super::store::Held;
use super::{Connection, ConnectionId, Output, Shard};
use crate::end::EndReason;
use crate::lanes::Body;
use mqtt_proto::server::ProtocolError;

/// Bytes in an out-buffer beyond which messages wait as messages: they can still be dropped then, oldest first,
/// and are written when there is room.
pub(super) const FULL: usize = 256 * 1024;

impl Connection {
    /// Whether a message may be written now.
    pub(super) fn has_room(&self) -> bool {
        self.out.len() < FULL && self.is_open && !self.is_closing
    }
}

impl Shard {
    /// What is to be written next, at most once for each connection that has something.
    pub fn poll_transmit(&mut self) -> Option<(ConnectionId, Output)> {
        loop {
            let id = self.poll_dirty()?;
            if let Some(output) = self.take_output(id) {
                return Some((id, output));
            }
        }
    }

    /// A connection that has something to be written. For hosts that leave it here until the connection can
    /// take it.
    pub fn poll_dirty(&mut self) -> Option<ConnectionId> {
        self.dirty.pop_front()
    }

    /// What is to be written to a connection; `None` when it is gone. What has waited for this room follows: the
    /// connection may have something again at once.
    pub fn take_output(&mut self, id: ConnectionId) -> Option<Output> {
        let connection = self.connection_mut(id)?;
        connection.is_dirty = false;
        let output = Output { bytes: connection.out.split().freeze(), close: connection.is_closing };
        self.memory.fetch_sub(output.bytes.len(), Ordering::Relaxed);
        self.stats.bytes_sent += output.bytes.len() as u64;
        // Time has not gone on since something was last handled, as far as messages are concerned, whose expiry
        // is in seconds.
        self.pump(self.now, id);
        Some(output)
    }

    /// Sends a packet of the server's own.
    ///
    /// Reason Strings and User Properties are left out where the client does not want them (§3.1.2.11.7) or they
    /// make the packet too large for it ([MQTT-3.2.2-19] and its like). A client that does not even read its
    /// acknowledgments is closed.
    pub(super) fn send(&mut self, now: Instant, id: ConnectionId, packet: Packet) {
        let most = self.shared.limits.max_out_buffer;
        let Some(connection) = self.connection_mut(id).filter(|connection| !connection.is_closing) else {
            return;
        };
        if matches!(packet, Packet::ConnAck(_)) {
            connection.is_open = true;
        } else if !connection.is_open {
            let until = connection.held.back().map_or(Position::default(), |(until, _)| *until);
            return self.hold_back(now, id, until, Held::Packet(Box::new(packet)));
        }
        let has_ended = matches!(packet, Packet::Disconnect(_));
        let may_explain = connection.proto.request_problem_information
            || matches!(packet, Packet::Disconnect(_) | Packet::ConnAck(_));
        let packet = if may_explain { packet } else { without_explanation(packet) };
        let before = connection.out.len();
        let fits = connection.encode(&packet) || connection.encode(&without_explanation(packet));
        let added = connection.out.len() - before;
        let is_stuck = connection.out.len() > most + FULL;
        self.memory.fetch_add(added, Ordering::Relaxed);
        self.mark_dirty(id);
        if has_ended {
            return;
        }
        if !fits {
            self.fail(now, id, ProtocolError::AnswerTooLarge);
        } else if is_stuck && let Some(connection) = self.connection_mut(id) {
            let unread = connection.out.split().len();
            self.memory.fetch_sub(unread, Ordering::Relaxed);
            self.disconnect(now, id, ReasonCode::QuotaExceeded, EndReason::SlowConsumer);
        }
    }

    pub(super) fn mark_dirty(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connection_mut(id)
            && !connection.is_dirty
        {
            connection.is_dirty = true;
            self.dirty.push_back(id);
        }
    }

    /// Ends a connection from this side: a client of MQTT 5.0 is told why (§4.13).
    pub(super) fn disconnect(&mut self, now: Instant, id: ConnectionId, code: ReasonCode, reason: EndReason) {
        let mut disconnect = Disconnect::new(code);
        disconnect.properties.reason_string = Text::new(&reason.to_string()).ok();
        self.disconnect_with(now, id, disconnect, reason);
    }

    pub(super) fn disconnect_with(
        &mut self,
        now: Instant,
        id: ConnectionId,
        disconnect: Disconnect,
        reason: EndReason,
    ) {
        let is_told =
            |connection: &Connection| connection.is_open && connection.proto.version() == Version::V5;
        if self.connection(id).is_some_and(is_told) {
            self.send(now, id, disconnect.into());
        }
        self.close(now, id, reason);
    }

    /// Tells the owners of a client's shared subscriptions whether it can take messages.
    pub(super) fn report_member(&mut self, client_id: &Text) {
        let Some(client) = self.clients.get_mut(client_id).filter(|client| client.shared > 0) else { return };
        let room = client.tell_room();
        let groups: Vec<_> =
            client.subscriptions.keys().filter(|filter| filter.share().is_some()).cloned().collect();
        for group in groups {
            let owner = self.shared.shard_of_group(&group);
            self.tell(owner, Body::Member { group, client: client_id.clone(), room, is_answer: false });
        }
    }
}

impl Connection {
    /// Appends a packet, if the client takes one of its size.
    fn encode(&mut self, packet: &Packet) -> bool {
        let most = usize::try_from(self.proto.maximum_packet_size).unwrap_or(usize::MAX);
        let before = self.out.len();
        let is_written = packet.encode(self.proto.version(), &mut self.out).is_ok();
        if is_written && self.out.len() - before <= most {
            return true;
        }
        self.out.truncate(before);
        false
    }
}

/// The same packet without Reason String and User Properties.
pub(super) fn without_explanation(mut packet: Packet) -> Packet {
    let strip = |properties: &mut Properties| {
        properties.reason_string = None;
        properties.user_properties.clear();
    };
    match &mut packet {
        Packet::ConnAck(connack) => strip(&mut connack.properties),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            strip(&mut ack.properties);
        }
        Packet::SubAck(suback) => strip(&mut suback.properties),
        Packet::UnsubAck(unsuback) => strip(&mut unsuback.properties),
        Packet::Disconnect(disconnect) => strip(&mut disconnect.properties),
        _ => {}
    }
    packet
}
