//! The way down: from a model to the bearers.

use alloc::collections::{BTreeMap, VecDeque};

use clock::Instant;
use mesh_crypto::Mic;
use mesh_wire::NetKeyIndex;
use mesh_wire::access::MAX_PAYLOAD;
use mesh_wire::address::Address;
use mesh_wire::foundation::ConfigMessage;
use mesh_wire::lower_transport::{LowerTransportPdu, SegmentedKind, UNSEGMENTED_ACCESS};
use mesh_wire::{SeqAuth, Ttl};

use super::{CommandError, Event, MAX_WAITING, Node, OutgoingMessage, SendError, Timer};
use crate::keys::{Credentials, MessageKey};
use crate::lower_transport::{MessageId, SegmentedMessage};
use crate::network::{Outgoing, SequenceExhausted};
use crate::upper_transport::{self, Envelope};

/// Segmented messages that may wait for one to the same destination. A peer that never acknowledges must not
/// take the room of others.
const MAX_QUEUED_FOR_DESTINATION: usize = 4;

/// Messages that are not secured yet. Their sequence number is taken when they are sent, not before: numbers
/// that are taken early would arrive late, and be taken for a replay.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    next_number: u64,
    next_id: u32,
    /// For their time to come.
    delayed: BTreeMap<u64, Unsent>,
    /// For the segmented message to the same destination to end.
    queued: VecDeque<Unsent>,
}

#[derive(Clone, Debug)]
struct Unsent {
    id: MessageId,
    net_key_index: NetKeyIndex,
    message: OutgoingMessage,
    /// Whether a Low Power node sends it under the material of its friendship, while it has a Friend.
    by_friend: bool,
}

impl Waiting {
    fn len(&self) -> usize {
        self.delayed.len() + self.queued.len()
    }

    /// Queues behind the message to the same destination.
    fn queue(&mut self, unsent: Unsent) -> Result<(), SendError> {
        let dst = unsent.message.destination.address();
        let queued = self.queued.iter().filter(|other| other.message.destination.address() == dst).count();
        if queued >= MAX_QUEUED_FOR_DESTINATION {
            return Err(SendError::Busy);
        }
        self.queued.push_back(unsent);
        Ok(())
    }

    fn next_id(&mut self) -> MessageId {
        self.next_id = self.next_id.wrapping_add(1);
        MessageId(self.next_id)
    }
}

impl Node {
    /// Sends a message for the host.
    pub(super) fn send(&mut self, now: Instant, message: OutgoingMessage) -> Result<MessageId, CommandError> {
        if usize::from(message.element) >= self.elements.len() {
            return Err(CommandError::UnknownElement(message.element));
        }
        if message.payload.is_empty() || message.payload.len() > MAX_PAYLOAD {
            return Err(CommandError::Length);
        }
        if message.ttl.is_some_and(|ttl| u8::from(ttl) == 1) {
            return Err(CommandError::Ttl);
        }
        if self.waiting.len() >= MAX_WAITING {
            return Err(CommandError::Busy);
        }
        let primary = self.keys.subnets().first().map_or(NetKeyIndex::ZERO, |subnet| subnet.index);
        let net_key_index = upper_transport::subnet_of(&self.keys, message.key, primary)
            .map_err(|upper_transport::UnknownKey| CommandError::UnknownKey)?;
        let id = self.waiting.next_id();
        match self.send_or_queue(now, Unsent { id, net_key_index, message, by_friend: true }) {
            Ok(()) => Ok(id),
            Err(SendError::SequenceExhausted) => Err(CommandError::SequenceExhausted),
            Err(SendError::Busy) => Err(CommandError::Busy),
            Err(_) => Err(CommandError::UnknownKey),
        }
    }

    /// Sends a message of the node's own at `at`, a Low Power node `by_friend`. Without room it is dropped, as if it
    /// were lost on the air.
    /// Returns the number under which it waits.
    pub(super) fn wait(
        &mut self,
        at: Instant,
        net_key_index: NetKeyIndex,
        message: OutgoingMessage,
        by_friend: bool,
    ) -> Option<u64> {
        if self.waiting.len() >= MAX_WAITING {
            return None;
        }
        let number = self.waiting.next_number;
        self.waiting.next_number += 1;
        let id = self.waiting.next_id();
        self.waiting.delayed.insert(number, Unsent { id, net_key_index, message, by_friend });
        self.timers.set(Timer::Waiting(number), at);
        Some(number)
    }

    /// Drops a message that still waits under this number.
    pub(super) fn give_up_waiting(&mut self, number: u64) {
        if self.waiting.delayed.remove(&number).is_some() {
            self.timers.cancel(&Timer::Waiting(number));
        }
    }

    pub(super) fn send_waiting(&mut self, now: Instant, number: u64) {
        let Some(unsent) = self.waiting.delayed.remove(&number) else {
            return;
        };
        // Only the Configuration Server answers under the node's own device key.
        let is_farewell = unsent.message.key == MessageKey::LocalDevice
            && unsent.message.payload == ConfigMessage::NodeResetStatus.encode();
        let id = unsent.id;
        if let Err(error) = self.send_or_queue(now, unsent) {
            self.events.push_back(Event::Sent { id, result: Err(error) });
        }
        if is_farewell {
            self.reset();
        }
    }

    /// Hands what the layers have ready to the bearers, until there is no more.
    pub(super) fn flush(&mut self, now: Instant) {
        loop {
            if let Some(mut segment) = self.segmenter.poll_transmit() {
                if self.keys.sending_material(segment.net_key_index, segment.credentials).is_none() {
                    // The friendship has ended meanwhile.
                    segment.credentials = Credentials::Flooding;
                }
                // Without sequence numbers the message is given up by its timers.
                let _ = self.send_network(&segment);
            } else if let Some(ack) = self.poll_ack() {
                let ttl = if ack.received_ttl == Ttl::ZERO { Ttl::ZERO } else { self.default_ttl };
                let pdu = LowerTransportPdu::SegmentAck(ack.ack);
                let (net_key_index, src, dst) = (ack.net_key_index, ack.src, Address::Unicast(ack.dst));
                let credentials = Credentials::Flooding;
                let _ = self.send_network(&Outgoing {
                    net_key_index,
                    ttl,
                    src,
                    dst,
                    pdu,
                    credentials,
                    seq: None,
                });
            } else if self.do_for_friendships(now) {
            } else if let Some((id, result)) = self.segmenter.poll_finished() {
                self.events.push_back(Event::Sent { id, result: result.map_err(SendError::Segmented) });
                self.finish_iv_update(now);
                self.send_queued(now);
            } else {
                self.follow_low_power(now);
                self.follow_proxy(now);
                return;
            }
        }
    }

    /// Sends those of the queued messages whose destination has become free, in their order.
    fn send_queued(&mut self, now: Instant) {
        for unsent in core::mem::take(&mut self.waiting.queued) {
            let id = unsent.id;
            if let Err(error) = self.send_or_queue(now, unsent) {
                self.events.push_back(Event::Sent { id, result: Err(error) });
            }
        }
    }

    fn send_or_queue(&mut self, now: Instant, unsent: Unsent) -> Result<(), SendError> {
        let dst = unsent.message.destination.address();
        if dst.unicast().is_some() && self.has_low_power_node(unsent.net_key_index, dst) {
            let result = self.store_message(unsent.net_key_index, &unsent.message);
            self.events.push_back(Event::Sent { id: unsent.id, result });
            return Ok(());
        }
        let is_segmented = unsent.message.segmented
            || unsent.message.payload.len() + Mic::Bits32.octets() > UNSEGMENTED_ACCESS;
        // An IV Update that waits for segmented messages to end must not wait for ever (MshPRT §3.11.5).
        if is_segmented && (self.segmenter.is_busy(dst) || self.network.iv.is_ending()) {
            return self.waiting.queue(unsent);
        }
        let Unsent { id, net_key_index, message, by_friend } = unsent;
        self.loop_back(now, net_key_index, &message);
        if dst.unicast().is_some_and(|address| self.network.own_element(address).is_some()) {
            self.events.push_back(Event::Sent { id, result: Ok(()) });
            return Ok(());
        }
        if self.has_low_power_node(net_key_index, dst) {
            // What has no room for a group's message misses it, as others may.
            let _ = self.store_message(net_key_index, &message);
        }
        let credentials = self.credentials(net_key_index, by_friend);
        self.send_secured(now, id, net_key_index, credentials, &message, is_segmented)
    }

    fn send_secured(
        &mut self,
        now: Instant,
        id: MessageId,
        net_key_index: NetKeyIndex,
        credentials: Credentials,
        message: &OutgoingMessage,
        is_segmented: bool,
    ) -> Result<(), SendError> {
        let Some(src) = self.address.element(message.element) else {
            return Err(SendError::UnknownKey);
        };
        let dst = message.destination.address();
        let ttl = message.ttl.unwrap_or(self.default_ttl);
        self.spare_sequence(now);
        let seq = self.network.take_seq().map_err(|SequenceExhausted| SendError::SequenceExhausted)?;
        self.record_sequence();
        self.segmenter.handle_seq(seq);
        let seq_auth = SeqAuth { iv_index: self.network.iv_index(), seq };
        let envelope = Envelope { net_key_index, src, dst, seq_auth };
        let (key, to) = (message.key, &message.destination);
        let secured = upper_transport::secure(&self.keys, key, to, &envelope, &message.payload, Mic::Bits32)
            .map_err(|upper_transport::UnknownKey| SendError::UnknownKey)?;
        if is_segmented {
            let kind = SegmentedKind::Access { key: secured.hint, szmic: false };
            let upper = secured.upper;
            let message =
                SegmentedMessage { id, net_key_index, ttl, src, dst, kind, seq_auth, upper, credentials };
            self.segmenter.send(now, message);
            return Ok(());
        }
        let pdu = LowerTransportPdu::UnsegmentedAccess(secured.hint, secured.upper.into());
        self.send_network(&Outgoing { net_key_index, ttl, src, dst, pdu, credentials, seq: Some(seq) })?;
        self.events.push_back(Event::Sent { id, result: Ok(()) });
        Ok(())
    }

    pub(super) fn send_network(&mut self, outgoing: &Outgoing) -> Result<(), SendError> {
        if outgoing.pdu.ctl() && self.store_control(outgoing) {
            return Ok(());
        }
        self.send_at_once(outgoing)
    }

    /// Sends a PDU, whoever it is for.
    pub(super) fn send_at_once(&mut self, outgoing: &Outgoing) -> Result<(), SendError> {
        let transmission = self.network.send(&self.keys, outgoing);
        self.record_sequence();
        if let Ok(Some(transmission)) = &transmission {
            // What a friendship secures goes over no connection (MshPRT §3.4.5.2).
            if outgoing.credentials == Credentials::Flooding {
                self.proxy.send_network_pdu(outgoing.dst, &transmission.data, None);
            }
        }
        self.transmit.extend(transmission.map_err(|SequenceExhausted| SendError::SequenceExhausted)?);
        Ok(())
    }
}
