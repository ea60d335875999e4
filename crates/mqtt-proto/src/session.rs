//! Messages of QoS 1 and 2 on their way (MQTT 5.0 §4.3, §4.4, §4.9).

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU16;

use mqtt_wire::{PacketId, QoS, ReasonCode};

/// An acknowledgment for a packet identifier that is not in use, or not in that state (0x92).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no message with this packet identifier waits for this")]
pub struct UnknownPacketId;

/// What has to be sent again when a session goes on over a new connection (§4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resend<'a, M> {
    /// The PUBLISH, with DUP.
    Publish(PacketId, &'a M),
    /// The PUBREL.
    PubRel(PacketId),
}

/// Which acknowledgment a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "the packets' names")]
enum State {
    PubAck,
    PubRec,
    PubComp,
}

/// The message is `None` once only the packet identifier is needed.
type Inflight<M> = VecDeque<(PacketId, State, Option<M>)>;

/// Messages that were sent and not acknowledged, in the order in which they were sent.
#[derive(Clone, Debug)]
pub struct Outbound<M> {
    /// Most sessions have none on their way, and there may be many of those.
    inflight: Option<Box<Inflight<M>>>,
    /// How many at the end of `inflight` have not been sent again on this connection.
    unsent: u16,
    next: PacketId,
    last: PacketId,
    window: u16,
}

impl<M> Outbound<M> {
    /// At most `window` messages at a time: the receiver's Receive Maximum, or less (§4.9).
    pub fn new(window: u16) -> Self {
        let last = PacketId(NonZeroU16::MAX);
        Self { inflight: None, unsent: 0, next: PacketId::ONE, last, window }
    }

    /// The same, with packet identifiers up to `last` only: a client needs others for SUBSCRIBE.
    pub fn with_ids_up_to(window: u16, last: PacketId) -> Self {
        Self { last, ..Self::new(window) }
    }

    /// Changes the window, for a new connection.
    pub fn set_window(&mut self, window: u16) {
        self.window = window;
    }

    /// Gives back the room that more messages once took.
    pub fn shrink_to_fit(&mut self) {
        self.inflight.take_if(|inflight| inflight.is_empty());
        self.inflight.iter_mut().for_each(|inflight| inflight.shrink_to_fit());
    }

    /// Whether another message may be sent; those of an earlier connection go first.
    pub fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// How many of them.
    pub fn room(&self) -> usize {
        if self.unsent == 0 { usize::from(self.window).saturating_sub(self.len()) } else { 0 }
    }

    /// Whether nothing waits for an acknowledgment.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages wait for an acknowledgment.
    pub fn len(&self) -> usize {
        self.inflight.as_ref().map_or(0, |inflight| inflight.len())
    }

    /// Takes a packet identifier for a message that is now sent; `None` without room.
    pub fn send(&mut self, message: M, qos: QoS) -> Option<PacketId> {
        if !self.has_room() {
            return None;
        }
        let state = if qos == QoS::ExactlyOnce { State::PubRec } else { State::PubAck };
        let id = self.free_id()?;
        self.inflight.get_or_insert_default().push_back((id, state, Some(message)));
        Some(id)
    }

    /// PUBACK: the message, which has arrived.
    pub fn handle_puback(&mut self, id: PacketId) -> Result<Option<M>, UnknownPacketId> {
        self.take(id, State::PubAck)
    }

    /// PUBREC: whether it is to be followed by PUBREL, which it is unless the receiver refused the message
    /// (§4.3.3).
    pub fn handle_pubrec(&mut self, id: PacketId, reason: ReasonCode) -> Result<bool, UnknownPacketId> {
        if reason.is_error() {
            return self.take(id, State::PubRec).map(|_| false);
        }
        let found = self.iter_mut().find(|(used, ..)| *used == id).ok_or(UnknownPacketId)?;
        match found.1 {
            State::PubRec => {
                found.1 = State::PubComp;
                found.2 = None;
                Ok(true)
            }
            // A PUBREC that came twice: PUBREL is sent again.
            State::PubComp => Ok(true),
            State::PubAck => Err(UnknownPacketId),
        }
    }

    /// PUBCOMP: the exchange is over.
    pub fn handle_pubcomp(&mut self, id: PacketId) -> Result<(), UnknownPacketId> {
        self.take(id, State::PubComp).map(|_| ())
    }

    /// The message that was sent under an identifier, until the other side has it.
    pub fn message(&self, id: PacketId) -> Option<&M> {
        self.iter().find(|(used, ..)| *used == id).and_then(|(.., message)| message.as_ref())
    }

    /// The messages that the other side may not have.
    pub fn messages(&self) -> impl Iterator<Item = (PacketId, &M)> {
        self.iter().filter_map(|(id, _, message)| Some((*id, message.as_ref()?)))
    }

    /// The same, to change them.
    pub fn messages_mut(&mut self) -> impl Iterator<Item = (PacketId, &mut M)> {
        self.iter_mut().filter_map(|(id, _, message)| Some((*id, message.as_mut()?)))
    }

    /// The identifiers of messages of QoS 2 that the other side has and has not completed.
    pub fn received(&self) -> impl Iterator<Item = PacketId> {
        self.iter().filter(|(_, state, _)| *state == State::PubComp).map(|(id, ..)| *id)
    }

    /// Takes everything out that is on its way, in its order, and `None` for a message that the other side has: for a
    /// client that is away. [`Outbound::restore`] puts it back.
    pub fn take_all(&mut self) -> impl Iterator<Item = (PacketId, Option<M>)> + use<M> {
        self.unsent = 0;
        let all = self.inflight.take();
        all.into_iter().flat_map(|inflight| *inflight).map(|(id, _, message)| (id, message))
    }

    /// Puts back what was on its way, or takes over what an earlier run had sent: a message of this QoS, or `None` when
    /// the other side has it. Goes on with other identifiers.
    pub fn restore(&mut self, id: PacketId, message: Option<(M, QoS)>) {
        let (state, message) = match message {
            Some((message, QoS::ExactlyOnce)) => (State::PubRec, Some(message)),
            Some((message, _)) => (State::PubAck, Some(message)),
            None => (State::PubComp, None),
        };
        self.inflight.get_or_insert_default().push_back((id, state, message));
        self.next =
            id.0.checked_add(1).map(PacketId).filter(|&next| next <= self.last).unwrap_or(PacketId::ONE);
    }

    /// What has to be sent again, in its order.
    pub fn resend(&self) -> impl Iterator<Item = Resend<'_, M>> {
        self.iter().map(|(id, _, message)| match message {
            Some(message) => Resend::Publish(*id, message),
            None => Resend::PubRel(*id),
        })
    }

    /// A new connection begins: everything has to be sent again, in its order, as [`Outbound::next_resend`]
    /// says.
    pub fn begin_resend(&mut self) {
        self.unsent = u16::try_from(self.len()).unwrap_or(u16::MAX);
    }

    /// Whether there is something that has to be sent again and was not.
    pub fn has_unsent(&self) -> bool {
        self.unsent > 0
    }

    /// What is to be sent again next, as far as the window allows: the new connection's Receive Maximum may be
    /// less than what is on its way (§4.9). PUBREL is not bound by it.
    pub fn next_resend(&mut self) -> Option<Resend<'_, M>> {
        self.next_resend_if(|_| true)
    }

    /// The same, if its message can be sent already.
    pub fn next_resend_if(&mut self, is_ready: impl FnOnce(&M) -> bool) -> Option<Resend<'_, M>> {
        let sent = self.len() - usize::from(self.unsent);
        let (id, _, message) = self.inflight.as_ref()?.get(sent)?;
        let may_go = |message| sent < usize::from(self.window) && is_ready(message);
        if !message.as_ref().is_none_or(may_go) {
            return None;
        }
        self.unsent -= 1;
        Some(match message {
            Some(message) => Resend::Publish(*id, message),
            None => Resend::PubRel(*id),
        })
    }

    /// Forgets a message that cannot be sent on this connection, as if it had been acknowledged.
    pub fn abandon(&mut self, id: PacketId) {
        let index = self.iter().position(|(used, ..)| *used == id);
        index.and_then(|index| self.remove(index));
    }

    /// The messages that the other side has not received for all that is known: of QoS 1 without PUBACK, of
    /// QoS 2 without PUBREC. For a session that has ended.
    pub fn into_messages(self) -> impl Iterator<Item = M> {
        self.inflight.into_iter().flat_map(|inflight| *inflight).filter_map(|(.., message)| message)
    }

    fn remove(&mut self, index: usize) -> Option<(PacketId, State, Option<M>)> {
        if index >= self.len() - usize::from(self.unsent) {
            self.unsent -= 1;
        }
        self.inflight.as_mut()?.remove(index)
    }

    fn iter(&self) -> impl Iterator<Item = &(PacketId, State, Option<M>)> {
        self.inflight.iter().flat_map(|inflight| inflight.iter())
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut (PacketId, State, Option<M>)> {
        self.inflight.iter_mut().flat_map(|inflight| inflight.iter_mut())
    }

    fn take(&mut self, id: PacketId, state: State) -> Result<Option<M>, UnknownPacketId> {
        let index = self.iter().position(|(used, at, _)| *used == id && *at == state);
        let (.., message) = index.and_then(|index| self.remove(index)).ok_or(UnknownPacketId)?;
        Ok(message)
    }

    fn free_id(&mut self) -> Option<PacketId> {
        for _ in 0..=self.len() {
            let id = self.next;
            self.next =
                id.0.checked_add(1).map(PacketId).filter(|&next| next <= self.last).unwrap_or(PacketId::ONE);
            if !self.iter().any(|(used, ..)| *used == id) {
                return Some(id);
            }
        }
        None
    }
}

/// What to do with a PUBLISH of QoS 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It is new: take the message, and answer PUBREC.
    New,
    /// It was received before and not released: answer PUBREC only.
    Repeated,
    /// More messages wait for their PUBREL than allowed (Receive Maximum exceeded).
    Exceeded,
}

/// Messages of QoS 2 that were received and not released yet (§4.3.3, method B).
#[derive(Clone, Debug, Default)]
pub struct Inbound {
    /// And whether it is in doubt that they were not released. Most sessions have none.
    #[allow(clippy::box_collection, reason = "a third of the room in those that have none")]
    unreleased: Option<Box<BTreeMap<PacketId, bool>>>,
}

impl Inbound {
    /// PUBLISH of QoS 2.
    pub fn handle_publish(&mut self, id: PacketId, dup: bool, limit: usize) -> Receipt {
        let unreleased = self.unreleased.get_or_insert_default();
        if let Some(is_doubtful) = unreleased.get_mut(&id) {
            // What is sent again has DUP [MQTT-3.3.1-1]: this is another message, so the one before was released.
            let is_new = std::mem::take(is_doubtful) && !dup;
            return if is_new { Receipt::New } else { Receipt::Repeated };
        }
        if unreleased.len() >= limit {
            return Receipt::Exceeded;
        }
        unreleased.insert(id, false);
        Receipt::New
    }

    /// Messages that were received and not released.
    pub fn unreleased(&self) -> impl Iterator<Item = PacketId> {
        self.unreleased.iter().flat_map(|unreleased| unreleased.keys().copied())
    }

    /// Takes over what an earlier run had received. `is_doubtful`: it may have been released, and nobody knows.
    pub fn restore(&mut self, id: PacketId, is_doubtful: bool) {
        self.unreleased.get_or_insert_default().insert(id, is_doubtful);
    }

    /// PUBREL: whether the message was there to be released.
    pub fn handle_pubrel(&mut self, id: PacketId) -> bool {
        let is_known = self.unreleased.as_mut().is_some_and(|unreleased| unreleased.remove(&id).is_some());
        self.unreleased.take_if(|unreleased| unreleased.is_empty());
        is_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: u16) -> PacketId {
        PacketId::new(id).unwrap()
    }

    #[test]
    fn the_window_is_kept_and_identifiers_in_use_are_not_given_again() {
        let mut outbound = Outbound::new(2);
        assert_eq!(outbound.send('a', QoS::AtLeastOnce), Some(id(1)));
        assert_eq!(outbound.send('b', QoS::ExactlyOnce), Some(id(2)));
        assert_eq!(outbound.send('c', QoS::AtLeastOnce), None);
        assert_eq!(outbound.handle_puback(id(2)), Err(UnknownPacketId), "PUBACK answers QoS 1 only");
        assert_eq!(outbound.handle_puback(id(1)), Ok(Some('a')));
        outbound.next = id(u16::MAX);
        assert_eq!(outbound.send('c', QoS::AtLeastOnce), Some(id(u16::MAX)));
        assert_eq!(outbound.handle_puback(id(u16::MAX)), Ok(Some('c')));
        outbound.next = id(2);
        assert_eq!(outbound.send('d', QoS::AtLeastOnce), Some(id(3)), "2 is in use, and 0 is none");
    }

    #[test]
    fn a_refused_message_of_qos_2_is_over() {
        let mut outbound = Outbound::new(9);
        let used = outbound.send('a', QoS::ExactlyOnce).unwrap();
        assert_eq!(outbound.handle_pubrec(used, ReasonCode::NotAuthorized), Ok(false));
        assert!(outbound.is_empty());
        assert_eq!(outbound.handle_pubrec(used, ReasonCode::Success), Err(UnknownPacketId));
    }

    #[test]
    fn what_is_sent_again_keeps_its_order() {
        let mut outbound = Outbound::new(9);
        let ids: Vec<_> =
            ['a', 'b', 'c'].into_iter().filter_map(|m| outbound.send(m, QoS::ExactlyOnce)).collect();
        outbound.handle_pubrec(ids[1], ReasonCode::Success).unwrap();
        let again: Vec<_> = outbound.resend().collect();
        assert_eq!(
            again,
            [Resend::Publish(ids[0], &'a'), Resend::PubRel(ids[1]), Resend::Publish(ids[2], &'c')]
        );
        assert_eq!(outbound.handle_pubrec(ids[1], ReasonCode::Success), Ok(true), "PUBREC may come again");
    }

    #[test]
    fn a_smaller_window_of_a_new_connection_is_kept_when_messages_are_sent_again() {
        let mut outbound = Outbound::new(9);
        let ids: Vec<_> =
            ['a', 'b', 'c'].into_iter().filter_map(|m| outbound.send(m, QoS::AtLeastOnce)).collect();
        outbound.set_window(1);
        outbound.begin_resend();
        assert_eq!(outbound.next_resend(), Some(Resend::Publish(ids[0], &'a')));
        assert_eq!(outbound.next_resend(), None);
        assert!(!outbound.has_room(), "what is new waits for what is old");
        outbound.handle_puback(ids[0]).unwrap();
        assert_eq!(outbound.next_resend(), Some(Resend::Publish(ids[1], &'b')));
        outbound.abandon(ids[1]);
        assert_eq!(outbound.next_resend(), Some(Resend::Publish(ids[2], &'c')));
        outbound.handle_puback(ids[2]).unwrap();
        assert!(outbound.has_room());
    }

    #[test]
    fn what_is_put_back_is_sent_again_under_its_identifiers_when_it_is_ready() {
        let mut outbound = Outbound::new(9);
        let ids: Vec<_> = [('a', QoS::AtLeastOnce), ('b', QoS::ExactlyOnce), ('c', QoS::ExactlyOnce)]
            .into_iter()
            .filter_map(|(message, qos)| outbound.send(message, qos))
            .collect();
        outbound.handle_pubrec(ids[1], ReasonCode::Success).unwrap();
        let away: Vec<_> = outbound.take_all().collect();
        assert_eq!(away, [(ids[0], Some('a')), (ids[1], None), (ids[2], Some('c'))]);
        assert!(outbound.is_empty());
        for ((id, message), qos) in
            away.into_iter().zip([QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce])
        {
            outbound.restore(id, message.map(|message| (message, qos)));
        }
        outbound.begin_resend();
        assert_eq!(outbound.next_resend_if(|_| false), None, "nothing overtakes it");
        assert!(outbound.has_unsent());
        assert_eq!(outbound.next_resend_if(|message| *message == 'a'), Some(Resend::Publish(ids[0], &'a')));
        assert_eq!(outbound.next_resend_if(|_| false), Some(Resend::PubRel(ids[1])), "it has no message");
        assert_eq!(outbound.next_resend(), Some(Resend::Publish(ids[2], &'c')));
        assert!(!outbound.has_unsent());
        assert_eq!(outbound.handle_puback(ids[0]), Ok(Some('a')));
        assert_eq!(outbound.handle_pubcomp(ids[1]), Ok(()));
        assert_eq!(outbound.handle_pubrec(ids[2], ReasonCode::Success), Ok(true));
    }

    #[test]
    fn a_message_of_qos_2_is_taken_once() {
        let mut inbound = Inbound::default();
        assert_eq!(inbound.handle_publish(id(7), false, 1), Receipt::New);
        assert_eq!(inbound.handle_publish(id(7), false, 1), Receipt::Repeated);
        assert_eq!(inbound.handle_publish(id(8), false, 1), Receipt::Exceeded);
        assert!(inbound.handle_pubrel(id(7)));
        assert!(!inbound.handle_pubrel(id(7)));
        assert_eq!(inbound.handle_publish(id(7), false, 1), Receipt::New);
    }

    #[test]
    fn what_is_sent_for_the_first_time_is_no_repetition_of_what_may_have_been_released() {
        let mut inbound = Inbound::default();
        inbound.restore(id(1), true);
        inbound.restore(id(2), true);
        inbound.restore(id(3), false);
        assert_eq!(inbound.handle_publish(id(1), true, 9), Receipt::Repeated);
        assert_eq!(inbound.handle_publish(id(2), false, 9), Receipt::New);
        assert_eq!(inbound.handle_publish(id(2), false, 9), Receipt::Repeated, "it is known by now");
        assert_eq!(inbound.handle_publish(id(3), false, 9), Receipt::Repeated);
    }
}
