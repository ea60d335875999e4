use alloc::collections::VecDeque;
use alloc::vec::Vec;

use mesh_crypto::Mic;
use mesh_wire::IvIndex;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::lower_transport::{ACCESS_SEGMENT, LowerTransportPdu, SegmentAck, UNSEGMENTED_ACCESS};
use mesh_wire::network::NetworkPdu;
use mesh_wire::{SeqAuth, SeqZero, Ttl};

use crate::keys::MessageKey;
use crate::network::Outgoing;
use crate::upper_transport::Destination;

/// What waits in a Friend Queue.
#[derive(Clone, Debug)]
pub enum Stored {
    /// It came over the air, and goes on with the IV Index that it came with; its TTL is one less already.
    Received {
        /// What it says.
        pdu: NetworkPdu,
        /// The IV Index.
        iv_index: IvIndex,
    },
    /// The Friend's own. Its sequence number is taken when it is sent: one that was taken earlier could come after
    /// that of a Subscription List Confirm, and would be refused as played back.
    Own(Outgoing),
    /// An access message of the Friend's own elements, which is secured when it is sent.
    Access(OwnMessage),
    /// A Friend Update, which tells how things are when it is sent.
    Update,
}

/// An access message from the Friend's own elements to its Low Power node.
#[derive(Clone, Debug)]
pub struct OwnMessage {
    /// The element that sends it.
    pub src: UnicastAddress,
    /// Whom it is for.
    pub destination: Destination,
    /// The key that secures it.
    pub key: MessageKey,
    /// The TTL.
    pub ttl: Ttl,
    /// Opcode and parameters.
    pub payload: Vec<u8>,
    /// Whether it goes in segments although it is short enough.
    pub segmented: bool,
}

/// What a PDU was sent as: the same is sent again if the Low Power node did not get it.
type Sent = (NetworkPdu, IvIndex);

/// The Friend Queue of a Low Power node (MshPRT §3.5.5): in order, each entry kept until it is acknowledged, the
/// oldest discarded for want of room.
#[derive(Clone, Debug)]
pub struct FriendQueue {
    entries: VecDeque<(Stored, Option<Sent>)>,
    capacity: usize,
}

impl OwnMessage {
    /// Whether it goes in segments.
    pub fn is_segmented(&self) -> bool {
        self.segmented || self.payload.len() + Mic::Bits32.octets() > UNSEGMENTED_ACCESS
    }

    /// How many lower transport PDUs it is.
    pub fn pdus(&self) -> usize {
        match self.is_segmented() {
            true => (self.payload.len() + Mic::Bits32.octets()).div_ceil(ACCESS_SEGMENT),
            false => 1,
        }
    }
}

impl FriendQueue {
    /// A queue for so many lower transport PDUs.
    pub fn new(capacity: usize) -> Self {
        Self { entries: VecDeque::new(), capacity }
    }

    /// How many lower transport PDUs it holds, Friend Updates aside.
    pub fn len(&self) -> usize {
        self.entries.iter().map(|(stored, _)| pdus(stored)).sum()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether more waits behind the oldest entry.
    pub fn has_more(&self) -> bool {
        self.entries.len() > 1
    }

    /// Whether a message of so many PDUs fits at all.
    pub fn fits(&self, pdus: usize) -> bool {
        pdus <= self.capacity
    }

    /// Adds an entry, unless it is there already, and discards what it replaces and what has no room beside it.
    pub fn push(&mut self, new: Stored) {
        if self.is_known(&new) {
            return;
        }
        if let Some(ack) = acknowledgment(&new) {
            // A newer acknowledgment of the same message says all that the older one did, whichever comes first.
            let is_of_message = |old: &Stored| acknowledgment(old) == Some(ack);
            if self.entries.iter().any(|(old, _)| is_of_message(old) && place(old) > place(&new)) {
                return;
            }
            self.entries.retain(|(old, _)| acknowledgment(old) != Some(ack));
        }
        if !matches!(new, Stored::Update) {
            while self.len() + pdus(&new) > self.capacity && self.discard_oldest() {}
        }
        self.entries.push_back((new, None));
    }

    fn is_known(&self, new: &Stored) -> bool {
        self.entries.iter().any(|(old, sent)| match (new, old) {
            (Stored::Received { pdu: new, .. }, Stored::Received { pdu: old, .. }) => {
                (new.src, new.seq) == (old.src, old.seq)
            }
            // One that is not sent yet will tell of this change too.
            (Stored::Update, Stored::Update) => sent.is_none(),
            _ => false,
        })
    }

    /// Discards the oldest entry that is no Friend Update, and what is of no use without it: the other segments of
    /// its message.
    fn discard_oldest(&mut self) -> bool {
        let Some(oldest) = self.entries.iter().position(|(stored, _)| !matches!(stored, Stored::Update))
        else {
            return false;
        };
        if let Some((discarded, _)) = self.entries.remove(oldest)
            && let Some(message) = segmented_message(&discarded)
        {
            self.entries.retain(|(stored, _)| segmented_message(stored) != Some(message));
        }
        true
    }

    /// The oldest entry was received: it goes, if it was sent.
    pub fn acknowledge(&mut self) {
        if let Some((_, Some(_))) = self.entries.front() {
            self.entries.pop_front();
        }
    }

    /// The oldest entry, and what it was sent as, if it was. Those that came with an IV Index which is accepted no
    /// more are discarded.
    pub fn oldest(&mut self, iv_index: IvIndex) -> Option<(&Stored, Option<&Sent>)> {
        let is_old = |at: IvIndex| at.0.saturating_add(1) < iv_index.0;
        self.entries.retain(|(stored, sent)| match (stored, sent) {
            (_, Some((_, at))) | (Stored::Received { iv_index: at, .. }, _) => !is_old(*at),
            _ => true,
        });
        self.entries.front().map(|(stored, sent)| (stored, sent.as_ref()))
    }

    /// Discards the segments of own messages that were not sent: their message was begun under another IV Index.
    pub fn discard_begun(&mut self) {
        self.entries.retain(|(stored, sent)| {
            sent.is_some()
                || !matches!(stored, Stored::Own(x) if matches!(x.pdu, LowerTransportPdu::Segment(_)))
        });
    }

    /// Remembers what the oldest entry is sent as.
    pub fn fix(&mut self, pdu: NetworkPdu, iv_index: IvIndex) {
        if let Some((_, sent)) = self.entries.front_mut() {
            *sent = Some((pdu, iv_index));
        }
    }

    /// Puts the PDUs of an access message in its place at the front.
    pub fn expand(&mut self, pdus: Vec<Stored>) {
        self.entries.pop_front();
        for stored in pdus.into_iter().rev() {
            self.entries.push_front((stored, None));
        }
    }
}

fn pdus(stored: &Stored) -> usize {
    match stored {
        Stored::Access(message) => message.pdus(),
        // There are two at most, and the room was promised to others.
        Stored::Update => 0,
        _ => 1,
    }
}

fn lower(stored: &Stored) -> Option<(UnicastAddress, Address, LowerTransportPdu)> {
    match stored {
        Stored::Received { pdu, .. } => {
            Some((pdu.src, pdu.dst, LowerTransportPdu::decode(pdu.ctl, &pdu.transport_pdu).ok()?))
        }
        Stored::Own(outgoing) => Some((outgoing.src, outgoing.dst, outgoing.pdu.clone())),
        Stored::Access(_) | Stored::Update => None,
    }
}

/// Where what was received is in what its source sends.
fn place(stored: &Stored) -> Option<SeqAuth> {
    match stored {
        Stored::Received { pdu, iv_index } => Some(pdu.seq_auth(*iv_index)),
        Stored::Own(_) | Stored::Access(_) | Stored::Update => None,
    }
}

/// The message that a Segment Acknowledgment is of.
fn acknowledgment(stored: &Stored) -> Option<(UnicastAddress, Address, SeqZero)> {
    match lower(stored)? {
        (src, dst, LowerTransportPdu::SegmentAck(SegmentAck { seq_zero, .. })) => Some((src, dst, seq_zero)),
        _ => None,
    }
}

/// The message that a segment is of.
fn segmented_message(stored: &Stored) -> Option<(UnicastAddress, Address, SeqZero)> {
    match lower(stored)? {
        (src, dst, LowerTransportPdu::Segment(segment)) => Some((src, dst, segment.seq_zero)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use mesh_wire::Seq;
    use mesh_wire::lower_transport::{KeyHint, Segment, SegmentedKind};

    use super::*;

    fn received(src: u16, seq: u32, pdu: &LowerTransportPdu) -> Stored {
        let pdu = NetworkPdu {
            ctl: pdu.ctl(),
            ttl: Ttl::new(3).unwrap(),
            seq: Seq::new(seq).unwrap(),
            src: UnicastAddress::new(src).unwrap(),
            dst: Address::from(9),
            transport_pdu: pdu.encode(),
        };
        Stored::Received { pdu, iv_index: IvIndex(5) }
    }

    fn message(seq: u32) -> Stored {
        received(1, seq, &LowerTransportPdu::UnsegmentedAccess(KeyHint::Device, [7; 5].as_slice().into()))
    }

    fn ack(src: u16, seq: u32, of: u32, block_ack: u32) -> Stored {
        let ack = SegmentAck { on_behalf: false, seq_zero: SeqZero::truncate(of), block_ack };
        received(src, seq, &LowerTransportPdu::SegmentAck(ack))
    }

    fn segment(seq: u32, seg_o: u8) -> Stored {
        let kind = SegmentedKind::Access { key: KeyHint::Device, szmic: false };
        let octets = [7; 12].as_slice().into();
        let seq_zero = SeqZero::truncate(40);
        received(1, seq, &LowerTransportPdu::Segment(Segment { kind, seq_zero, seg_o, seg_n: 1, octets }))
    }

    /// Sends, and has acknowledged, everything: the sequence numbers, 0 for a Friend Update.
    fn drain(queue: &mut FriendQueue) -> Vec<u32> {
        let mut seen = Vec::new();
        while let Some((stored, _)) = queue.oldest(IvIndex(5)) {
            let (pdu, iv_index) = match stored.clone() {
                Stored::Received { pdu, iv_index } => (pdu, iv_index),
                _ => (NetworkPdu { seq: Seq::ZERO, ..pdu_of(&message(0)) }, IvIndex(5)),
            };
            seen.push(pdu.seq.into());
            queue.fix(pdu, iv_index);
            queue.acknowledge();
        }
        seen
    }

    fn pdu_of(stored: &Stored) -> NetworkPdu {
        let Stored::Received { pdu, .. } = stored else { panic!("received") };
        pdu.clone()
    }

    #[test]
    fn the_oldest_but_a_friend_update_makes_room() {
        let mut queue = FriendQueue::new(3);
        queue.push(Stored::Update);
        (1..=4).for_each(|seq| queue.push(message(seq)));
        queue.push(message(4));
        assert_eq!(drain(&mut queue), [0, 2, 3, 4]);
        (1..=3).for_each(|seq| queue.push(message(seq)));
        queue.push(Stored::Update);
        queue.push(Stored::Update);
        assert_eq!(drain(&mut queue), [1, 2, 3, 0]);
    }

    #[test]
    fn a_segment_goes_with_the_rest_of_its_message() {
        let mut queue = FriendQueue::new(3);
        (0..2).for_each(|number| queue.push(segment(40 + u32::from(number), number)));
        queue.push(message(50));
        queue.push(message(51));
        assert_eq!(drain(&mut queue), [50, 51]);
    }

    #[test]
    fn a_newer_acknowledgment_replaces_the_older_one_of_the_same_message() {
        let mut queue = FriendQueue::new(8);
        for stored in [ack(1, 1, 7, 1), ack(1, 2, 8, 1), ack(2, 3, 7, 1), message(4), ack(1, 5, 7, 3)] {
            queue.push(stored);
        }
        assert_eq!(drain(&mut queue), [2, 3, 4, 5]);
    }

    #[test]
    fn an_older_acknowledgment_that_comes_later_does_not_replace_the_newer_one() {
        let mut queue = FriendQueue::new(8);
        for stored in [ack(1, 5, 7, 3), message(6), ack(1, 2, 7, 1)] {
            queue.push(stored);
        }
        assert_eq!(drain(&mut queue), [5, 6]);
    }

    #[test]
    fn what_was_not_sent_is_not_acknowledged_and_what_was_is_sent_again_as_it_was() {
        let mut queue = FriendQueue::new(2);
        queue.push(message(1));
        queue.acknowledge();
        assert!(queue.oldest(IvIndex(5)).unwrap().1.is_none());
        queue.fix(pdu_of(&message(1)), IvIndex(5));
        queue.push(message(2));
        assert_eq!(queue.oldest(IvIndex(6)).unwrap().1, Some(&(pdu_of(&message(1)), IvIndex(5))));
        // Discarded before it was acknowledged: the acknowledgment is not of the next one.
        queue.push(message(3));
        queue.acknowledge();
        assert_eq!(queue.len(), 2);
        assert!(queue.oldest(IvIndex(7)).is_none(), "of an IV Index that nobody accepts any more");
    }

    #[test]
    fn an_own_message_counts_by_its_pdus_and_takes_its_place() {
        let own = OwnMessage {
            src: UnicastAddress::new(3).unwrap(),
            destination: Destination::Address(Address::from(9)),
            key: MessageKey::LocalDevice,
            ttl: Ttl::ZERO,
            payload: alloc::vec![1; 12],
            segmented: false,
        };
        assert_eq!(own.pdus(), 2);
        assert_eq!(OwnMessage { payload: alloc::vec![1; 11], ..own.clone() }.pdus(), 1);
        let mut queue = FriendQueue::new(3);
        queue.push(message(1));
        queue.push(message(2));
        queue.push(Stored::Access(own));
        assert_eq!(queue.len(), 3);
        queue.acknowledge();
        queue.fix(pdu_of(&message(2)), IvIndex(5));
        queue.acknowledge();
        queue.expand(alloc::vec![segment(40, 0), segment(41, 1)]);
        assert_eq!(drain(&mut queue), [40, 41]);
        assert!(queue.fits(3) && !queue.fits(4) && queue.is_empty() && !queue.has_more());
    }
}
