use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use clock::{Instant, Timers};
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::lower_transport::{Segment, SegmentAck, SegmentedKind};
use mesh_wire::{NetKeyIndex, SeqAuth, Ttl};

use super::SarReceiver;
use super::segmenter::all_segments;
use crate::discard::Discard;
use crate::network::Arrived;

/// Messages that may be put together at the same time, whole ones that are remembered included.
const MAX_SESSIONS: usize = 64;

/// The same, of one source.
const MAX_SESSIONS_OF_SOURCE: usize = 4;

/// A message is one of a source to a destination.
type Path = (UnicastAddress, Address);

/// A message that has become whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassembled {
    /// Access or control, with what its segments say of it.
    pub kind: SegmentedKind,
    /// The SeqAuth that its upper transport PDU was secured with.
    pub seq_auth: SeqAuth,
    /// The upper transport PDU.
    pub upper: Vec<u8>,
}

/// An acknowledgment that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The subnet.
    pub net_key_index: NetKeyIndex,
    /// The element that acknowledges.
    pub src: UnicastAddress,
    /// The element that sent the message.
    pub dst: UnicastAddress,
    /// The TTL of the segment; an acknowledgment of one with TTL 0 has TTL 0 (MshPRT §3.5.2.3.1).
    pub received_ttl: Ttl,
    /// The acknowledgment.
    pub ack: SegmentAck,
}

/// Where a segment came from and to.
#[derive(Clone, Copy, Debug)]
pub struct SegmentSource {
    /// The subnet.
    pub net_key_index: NetKeyIndex,
    /// The sender.
    pub src: UnicastAddress,
    /// The destination: an element of this node, or a group or virtual address.
    pub dst: Address,
    /// The TTL with which it arrived.
    pub ttl: Ttl,
    /// The segment's own place in what its source sends.
    pub seq_auth: SeqAuth,
    /// Whether a Low Power node has it of its Friend, which has acknowledged the whole message.
    pub by_friend: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Acknowledge(Path),
    /// Repeat an acknowledgment, so often.
    Repeat(Path),
    Discard(Path),
}

/// Puts segmented messages together (MshPRT §3.5.3.4).
#[derive(Clone, Debug)]
pub struct Reassembler {
    sar: SarReceiver,
    sessions: BTreeMap<Path, Session>,
    timers: Timers<Timer>,
    acks: VecDeque<Ack>,
}

#[derive(Clone, Debug)]
struct Session {
    net_key_index: NetKeyIndex,
    ttl: Ttl,
    seq_auth: SeqAuth,
    kind: SegmentedKind,
    seg_n: u8,
    received: u32,
    /// The upper transport PDU as far as it is known; emptied once it is whole.
    upper: Vec<u8>,
    last_ack: Option<Instant>,
    /// How often the last acknowledgment is still to be repeated.
    repetitions: u8,
    last_segment: Instant,
    /// The message did not become whole in time. Segments that come later do not begin it anew: the sender would take
    /// acknowledgments of both halves for one of the whole.
    is_failed: bool,
    /// It comes of a Friend Queue: it takes as long as it takes, and ends with the friendship (MshPRT §3.5.3.5).
    by_friend: bool,
}

impl From<&Arrived> for SegmentSource {
    fn from(arrived: &Arrived) -> Self {
        Self {
            net_key_index: arrived.net_key_index,
            src: arrived.pdu.src,
            dst: arrived.pdu.dst,
            ttl: arrived.pdu.ttl,
            seq_auth: arrived.seq_auth(),
            by_friend: false,
        }
    }
}

impl Session {
    fn is_over(&self) -> bool {
        self.is_whole() || self.is_failed
    }

    fn is_whole(&self) -> bool {
        self.received == all_segments(self.seg_n)
    }
}

impl Reassembler {
    /// A reassembler with these settings.
    pub fn new(sar: SarReceiver) -> Self {
        Self { sar, sessions: BTreeMap::new(), timers: Timers::new(), acks: VecDeque::new() }
    }

    /// The settings.
    pub fn sar(&self) -> &SarReceiver {
        &self.sar
    }

    /// Has these settings hold from the next segment on.
    pub fn set_sar(&mut self, sar: SarReceiver) {
        self.sar = sar;
    }

    /// Takes a segment. Returns the message that it makes whole, if it does.
    pub fn handle_segment(
        &mut self,
        now: Instant,
        source: SegmentSource,
        segment: &Segment,
    ) -> Result<Option<Reassembled>, Discard> {
        let seq_auth = SeqAuth::of_segment(source.seq_auth, segment.seq_zero).ok_or(Discard::TransportPdu)?;
        let path = (source.src, source.dst);
        match self.sessions.get(&path) {
            Some(session) if seq_auth < session.seq_auth => return Err(Discard::OldSegment),
            Some(session) if seq_auth == session.seq_auth && session.is_failed => {
                return Err(Discard::OldSegment);
            }
            Some(session) if seq_auth == session.seq_auth && session.is_whole() => {
                self.acknowledge_again(now, path);
                return Err(Discard::RepeatedSegment);
            }
            Some(session) if seq_auth == session.seq_auth => {
                let fits = session.kind == segment.kind
                    && session.seg_n == segment.seg_n
                    && session.net_key_index == source.net_key_index;
                if !fits {
                    return Err(Discard::SegmentMismatch);
                }
            }
            // A newer message of the same source to the same destination takes the place of the older one.
            _ => self.begin(now, source, seq_auth, segment)?,
        }
        self.add(now, &source, segment)
    }

    /// The SeqAuth of a segmented message decides whether it is new, however late its segments are sent; this
    /// is it for a message that is being, or was last, put together.
    pub fn knows(&self, source: &SegmentSource, segment: &Segment) -> bool {
        let seq_auth = SeqAuth::of_segment(source.seq_auth, segment.seq_zero);
        let session = self.sessions.get(&(source.src, source.dst));
        session.is_some_and(|session| Some(session.seq_auth) == seq_auth)
    }

    /// Whether the message of this source to this destination is being, or was last, put together.
    pub fn is_receiving(&self, path: (UnicastAddress, Address), seq_auth: SeqAuth) -> bool {
        self.sessions.get(&path).is_some_and(|session| session.seq_auth == seq_auth)
    }

    /// Sends acknowledgments that are due, and forgets messages that did not become whole in time.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop_expired(now) {
            match timer {
                Timer::Acknowledge(path) => self.acknowledge(now, path),
                Timer::Repeat(path) => self.repeat(now, path),
                Timer::Discard(path) => {
                    if let Some(session) = self.sessions.get_mut(&path) {
                        (session.is_failed, session.upper) = (true, Vec::new());
                    }
                    self.timers.cancel(&Timer::Acknowledge(path));
                    self.timers.cancel(&Timer::Repeat(path));
                }
            }
        }
    }

    /// A friendship has ended: what came of the Friend Queue in part is cancelled (MshPRT §3.5.3.5).
    pub(crate) fn cancel_by_friend(&mut self) {
        self.sessions.retain(|_, session| !session.by_friend || session.is_over());
    }

    /// When [`Reassembler::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next acknowledgment to be sent.
    pub fn poll_ack(&mut self) -> Option<Ack> {
        self.acks.pop_front()
    }

    fn begin(
        &mut self,
        now: Instant,
        source: SegmentSource,
        seq_auth: SeqAuth,
        segment: &Segment,
    ) -> Result<(), Discard> {
        let path = (source.src, source.dst);
        if source.by_friend {
            // A Friend has the segments of a message one after the other: what is not whole now never will be.
            let is_over = |session: &Session| !session.by_friend || session.is_over();
            self.sessions.retain(|other, session| other.0 != source.src || is_over(session));
        }
        if !self.sessions.contains_key(&path) && !self.make_room(source.src) {
            if let Some(own) = source.dst.unicast() {
                self.refuse(source, own, segment);
            }
            return Err(Discard::ReassemblyFull);
        }
        self.timers.cancel(&Timer::Acknowledge(path));
        self.timers.cancel(&Timer::Repeat(path));
        let size = segment.kind.segment_size();
        let session = Session {
            net_key_index: source.net_key_index,
            ttl: source.ttl,
            seq_auth,
            kind: segment.kind,
            seg_n: segment.seg_n,
            received: 0,
            upper: alloc::vec![0; (usize::from(segment.seg_n) + 1) * size],
            last_ack: None,
            repetitions: 0,
            last_segment: now,
            is_failed: false,
            by_friend: source.by_friend,
        };
        self.sessions.insert(path, session);
        Ok(())
    }

    fn add(
        &mut self,
        now: Instant,
        source: &SegmentSource,
        segment: &Segment,
    ) -> Result<Option<Reassembled>, Discard> {
        let path = (source.src, source.dst);
        let Some(session) = self.sessions.get_mut(&path) else {
            return Ok(None);
        };
        let bit = 1 << segment.seg_o;
        if session.received & bit != 0 {
            return Err(Discard::RepeatedSegment);
        }
        session.received |= bit;
        session.ttl = source.ttl;
        session.last_segment = now;
        session.by_friend = source.by_friend;
        let start = usize::from(segment.seg_o) * session.kind.segment_size();
        if let Some(place) = session.upper.get_mut(start..start + segment.octets.len()) {
            place.copy_from_slice(&segment.octets);
        }
        if segment.seg_o == segment.seg_n {
            session.upper.truncate(start + segment.octets.len());
        }
        if source.by_friend {
            self.timers.cancel(&Timer::Discard(path));
            self.timers.cancel(&Timer::Acknowledge(path));
        } else {
            self.timers.set(Timer::Discard(path), now + self.sar.discard_timeout);
        }
        if !session.is_whole() {
            if path.1.unicast().is_some() && !source.by_friend {
                self.timers.set(Timer::Acknowledge(path), now + self.sar.acknowledgment_delay(segment.seg_n));
            }
            return Ok(None);
        }
        let (kind, seq_auth) = (session.kind, session.seq_auth);
        let upper = core::mem::take(&mut session.upper);
        self.timers.cancel(&Timer::Discard(path));
        self.timers.cancel(&Timer::Acknowledge(path));
        self.acknowledge(now, path);
        Ok(Some(Reassembled { kind, seq_auth, upper }))
    }

    fn acknowledge_again(&mut self, now: Instant, path: Path) {
        let pause = self.sar.acknowledgment_pause();
        let last = self.sessions.get(&path).and_then(|session| session.last_ack);
        if last.is_none_or(|last| now - last >= pause) {
            self.acknowledge(now, path);
        }
    }

    /// Acknowledges what is there, and has that repeated if the message is long (MshPRT §3.5.3.4).
    fn acknowledge(&mut self, now: Instant, path: Path) {
        if let Some(session) = self.sessions.get_mut(&path) {
            let is_long = session.seg_n > self.sar.segments_threshold;
            session.repetitions = if is_long { self.sar.acknowledgment_retransmissions } else { 0 };
        }
        self.send_ack(now, path);
    }

    fn repeat(&mut self, now: Instant, path: Path) {
        if let Some(session) = self.sessions.get_mut(&path) {
            session.repetitions = session.repetitions.saturating_sub(1);
        }
        self.send_ack(now, path);
    }

    fn send_ack(&mut self, now: Instant, path: Path) {
        let (src, Address::Unicast(own)) = path else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&path) else {
            return;
        };
        session.last_ack = Some(now);
        let ack = SegmentAck {
            on_behalf: false,
            seq_zero: session.seq_auth.seq.zero(),
            block_ack: session.received,
        };
        let net_key_index = session.net_key_index;
        if session.repetitions > 0 {
            self.timers.set(Timer::Repeat(path), now + self.sar.segment_reception_interval);
        } else {
            self.timers.cancel(&Timer::Repeat(path));
        }
        self.acks.push_back(Ack { net_key_index, src: own, dst: src, received_ttl: session.ttl, ack });
    }

    fn refuse(&mut self, source: SegmentSource, own: UnicastAddress, segment: &Segment) {
        let ack = SegmentAck { on_behalf: false, seq_zero: segment.seq_zero, block_ack: 0 };
        let net_key_index = source.net_key_index;
        self.acks.push_back(Ack { net_key_index, src: own, dst: source.src, received_ttl: source.ttl, ack });
    }

    /// Makes room for one more message of `src`, if need be by forgetting the oldest that is whole, or failed, or that
    /// a Friend has only a part of.
    fn make_room(&mut self, src: UnicastAddress) -> bool {
        let of_source = self.sessions.keys().filter(|path| path.0 == src).count();
        let is_crowded = of_source >= MAX_SESSIONS_OF_SOURCE;
        if !is_crowded && self.sessions.len() < MAX_SESSIONS {
            return true;
        }
        let oldest = (self.sessions.iter())
            .filter(|(_, session)| session.is_over() || session.by_friend)
            .filter(|(path, _)| !is_crowded || path.0 == src)
            .min_by_key(|(_, session)| session.last_segment)
            .map(|(&path, _)| path);
        oldest.and_then(|path| self.sessions.remove(&path)).is_some()
    }
}
