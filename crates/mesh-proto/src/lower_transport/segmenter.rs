use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use clock::{Instant, Timers};
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::lower_transport::{LowerTransportPdu, Segment, SegmentAck, SegmentedKind};
use mesh_wire::{NetKeyIndex, Seq, SeqAuth, Ttl};

use super::{MessageId, SarTransmitter};
use crate::discard::Discard;
use crate::keys::Credentials;
use crate::network::Outgoing;

/// How far the sequence number may run ahead of a message's SeqAuth before the receiver could no longer tell
/// which message a segment belongs to (MshPRT §3.5.3.1).
const SEQ_WINDOW: u32 = 8191;

/// A message that is sent in segments.
#[derive(Clone, Debug)]
pub struct SegmentedMessage {
    /// What the completion is reported under.
    pub id: MessageId,
    /// The subnet.
    pub net_key_index: NetKeyIndex,
    /// The TTL of its segments.
    pub ttl: Ttl,
    /// The sending element.
    pub src: UnicastAddress,
    /// The destination. There is at most one message at a time for each.
    pub dst: Address,
    /// Access or control, with what each segment says of it.
    pub kind: SegmentedKind,
    /// IV Index, and the sequence number of the first segment, which also secured the upper transport PDU.
    pub seq_auth: SeqAuth,
    /// The upper transport PDU: 1 to 384 octets (256 of a control message).
    pub upper: Vec<u8>,
    /// The material that secures its segments.
    pub credentials: Credentials,
}

/// Why a segmented message did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentedError {
    /// No acknowledgment of all segments came in all retransmissions.
    #[error("the destination did not acknowledge every segment")]
    Timeout,
    /// The destination refused it, as it has no room for it.
    #[error("the destination refused the message")]
    Refused,
    /// So many sequence numbers went by that the destination could not place the segments any more.
    #[error("the message took too long among others")]
    Overtaken,
}

/// A message whose sending has ended.
pub type Finished = (MessageId, Result<(), SegmentedError>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The next segment of this round is due.
    NextSegment(Address),
    /// The round has had its time for an acknowledgment.
    Round(Address),
}

/// Sends segmented messages (MshPRT §3.5.3.3), one at a time for each destination.
#[derive(Clone, Debug)]
pub struct Segmenter {
    sar: SarTransmitter,
    transfers: BTreeMap<Address, Transfer>,
    timers: Timers<Timer>,
    transmit: VecDeque<Outgoing>,
    finished: VecDeque<Finished>,
}

#[derive(Clone, Debug)]
struct Transfer {
    message: SegmentedMessage,
    seg_n: u8,
    /// Bit n: segment n was acknowledged.
    acknowledged: u32,
    /// Bit n: segment n is still to be sent in this round.
    pending: u32,
    first_seq_used: bool,
    retransmissions: u8,
    without_progress: u8,
}

impl Segmenter {
    /// A segmenter with these settings.
    pub fn new(sar: SarTransmitter) -> Self {
        Self {
            sar,
            transfers: BTreeMap::new(),
            timers: Timers::new(),
            transmit: VecDeque::new(),
            finished: VecDeque::new(),
        }
    }

    /// The settings.
    pub fn sar(&self) -> &SarTransmitter {
        &self.sar
    }

    /// Has these settings hold; the rounds of a message that is under way were counted before.
    pub fn set_sar(&mut self, sar: SarTransmitter) {
        self.sar = sar;
    }

    /// Whether a message to `dst` is under way, so that the next has to wait.
    pub fn is_busy(&self, dst: Address) -> bool {
        self.transfers.contains_key(&dst)
    }

    /// Whether any message is under way.
    pub fn is_sending(&self) -> bool {
        !self.transfers.is_empty()
    }

    /// Gives every message up: the IV Index that secured them is no longer sent with.
    pub fn cancel_all(&mut self) {
        while let Some(&dst) = self.transfers.keys().next() {
            self.finish(dst, Err(SegmentedError::Overtaken));
        }
    }

    /// Begins to send `message`. The caller has asked [`Segmenter::is_busy`] before.
    pub fn send(&mut self, now: Instant, message: SegmentedMessage) {
        let segments = message.upper.len().div_ceil(message.kind.segment_size()).clamp(1, 32);
        let seg_n = u8::try_from(segments - 1).unwrap_or(31);
        let dst = message.dst;
        let is_unicast = dst.unicast().is_some();
        let transfer = Transfer {
            seg_n,
            acknowledged: 0,
            pending: all_segments(seg_n),
            first_seq_used: false,
            retransmissions: if is_unicast {
                self.sar.unicast_retransmissions
            } else {
                self.sar.multicast_retransmissions
            },
            without_progress: self.sar.unicast_retransmissions_without_progress,
            message,
        };
        self.transfers.insert(dst, transfer);
        self.send_next_segment(now, dst);
    }

    /// Takes an acknowledgment that arrived from `src`, addressed to the element `dst` (MshPRT §3.5.3.3.2).
    pub fn handle_ack(
        &mut self,
        now: Instant,
        src: UnicastAddress,
        dst: UnicastAddress,
        net_key_index: NetKeyIndex,
        ack: SegmentAck,
    ) -> Result<(), Discard> {
        // With OBO another node, the Friend, answers for the destination.
        let answers = |transfer: &Transfer| {
            transfer.message.src == dst
                && transfer.message.net_key_index == net_key_index
                && transfer.message.seq_auth.seq.zero() == ack.seq_zero
                && (ack.on_behalf || transfer.message.dst == Address::Unicast(src))
                && transfer.message.dst.unicast().is_some()
        };
        let (&peer, transfer) =
            self.transfers.iter_mut().find(|(_, x)| answers(x)).ok_or(Discard::UnknownAck)?;
        if ack.block_ack == 0 {
            self.finish(peer, Err(SegmentedError::Refused));
            return Ok(());
        }
        let all = all_segments(transfer.seg_n);
        let news = ack.block_ack & all & !transfer.acknowledged;
        transfer.acknowledged |= news;
        transfer.pending &= !transfer.acknowledged;
        if transfer.acknowledged == all {
            self.finish(peer, Ok(()));
            return Ok(());
        }
        // While a round is being sent, what it learns only shortens it.
        if transfer.pending != 0 || news == 0 {
            return Ok(());
        }
        transfer.without_progress = self.sar.unicast_retransmissions_without_progress;
        self.start_round(now, peer);
        Ok(())
    }

    /// Sends what is due, and gives up what had its time.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop_expired(now) {
            match timer {
                Timer::NextSegment(dst) => self.send_next_segment(now, dst),
                Timer::Round(dst) => self.end_round(now, dst),
            }
        }
    }

    /// When [`Segmenter::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next segment to be sent.
    pub fn poll_transmit(&mut self) -> Option<Outgoing> {
        self.transmit.pop_front()
    }

    /// The next message whose sending has ended.
    pub fn poll_finished(&mut self) -> Option<Finished> {
        self.finished.pop_front()
    }

    /// Tells of a sequence number that was given out: messages that it overtook are given up.
    pub fn handle_seq(&mut self, seq: Seq) {
        let is_overtaken = |transfer: &Transfer| {
            u32::from(seq).saturating_sub(transfer.message.seq_auth.seq.into()) > SEQ_WINDOW
        };
        while let Some(dst) =
            self.transfers.iter().find(|(_, transfer)| is_overtaken(transfer)).map(|(&dst, _)| dst)
        {
            self.finish(dst, Err(SegmentedError::Overtaken));
        }
    }

    fn send_next_segment(&mut self, now: Instant, dst: Address) {
        let Some(transfer) = self.transfers.get_mut(&dst) else {
            return;
        };
        if transfer.pending != 0 {
            self.transmit.push_back(transfer.take_next());
        }
        if transfer.pending != 0 {
            self.timers.set(Timer::NextSegment(dst), now + self.sar.segment_interval);
            return;
        }
        let wait = if dst.unicast().is_some() {
            self.sar.unicast_interval(transfer.message.ttl.into())
        } else {
            self.sar.multicast_retransmissions_interval
        };
        self.timers.set(Timer::Round(dst), now + wait);
    }

    fn end_round(&mut self, now: Instant, dst: Address) {
        let Some(transfer) = self.transfers.get_mut(&dst) else {
            return;
        };
        if dst.unicast().is_none() {
            if transfer.retransmissions == 0 {
                self.finish(dst, Ok(()));
            } else {
                self.start_round(now, dst);
            }
            return;
        }
        if transfer.retransmissions == 0 || transfer.without_progress == 0 {
            self.finish(dst, Err(SegmentedError::Timeout));
            return;
        }
        transfer.without_progress -= 1;
        self.start_round(now, dst);
    }

    /// Sends what is missing once more, if another round is allowed.
    fn start_round(&mut self, now: Instant, dst: Address) {
        let Some(transfer) = self.transfers.get_mut(&dst) else {
            return;
        };
        if transfer.retransmissions == 0 {
            // The acknowledgment of the last round may still be on its way.
            return;
        }
        transfer.retransmissions -= 1;
        transfer.pending = all_segments(transfer.seg_n) & !transfer.acknowledged;
        self.timers.cancel(&Timer::Round(dst));
        self.send_next_segment(now, dst);
    }

    fn finish(&mut self, dst: Address, result: Result<(), SegmentedError>) {
        self.timers.cancel(&Timer::NextSegment(dst));
        self.timers.cancel(&Timer::Round(dst));
        if let Some(transfer) = self.transfers.remove(&dst) {
            self.finished.push_back((transfer.message.id, result));
        }
    }
}

impl Transfer {
    /// Takes the lowest pending segment. The first transmission of all has the message's own sequence number.
    fn take_next(&mut self) -> Outgoing {
        let index = self.pending.trailing_zeros();
        self.pending &= self.pending - 1;
        let size = self.message.kind.segment_size();
        let start = usize::try_from(index).unwrap_or(0) * size;
        let end = (start + size).min(self.message.upper.len());
        let seg_o = u8::try_from(index).unwrap_or(self.seg_n);
        let segment = Segment {
            kind: self.message.kind,
            seq_zero: self.message.seq_auth.seq.zero(),
            seg_o,
            seg_n: self.seg_n,
            octets: self.message.upper.get(start..end).unwrap_or_default().into(),
        };
        let seq = (!self.first_seq_used).then_some(self.message.seq_auth.seq);
        self.first_seq_used = true;
        Outgoing {
            net_key_index: self.message.net_key_index,
            ttl: self.message.ttl,
            src: self.message.src,
            dst: self.message.dst,
            pdu: LowerTransportPdu::Segment(segment),
            credentials: self.message.credentials,
            seq,
        }
    }
}

/// A bit for each segment up to the last.
pub(super) fn all_segments(seg_n: u8) -> u32 {
    u32::MAX >> (31 - u32::from(seg_n.min(31)))
}
