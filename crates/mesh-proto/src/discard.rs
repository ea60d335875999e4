use alloc::collections::BTreeMap;

/// Why something that was received is not passed on. Ordinary on a shared medium, so it is counted, not
/// logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Discard {
    /// Bearer: an AD type that this node has no use for.
    AdType,
    /// Beacon: of no subnet of this node, or of one in a state that is over.
    Beacon,
    /// Network: too short, too long, or of values that are prohibited.
    NetworkPdu,
    /// Network: no key of this node has its NID, or none of those fits.
    NetworkKey,
    /// Network: it was here before.
    Cached,
    /// Network: this node sent it.
    OwnSource,
    /// Network: for others; relayed, if this node relays and the TTL allows it.
    NotForThisNode,
    /// Proxy: of a connection that is not there, or that has no use for it.
    Proxy,
    /// Lower transport: its layout is none that the specification has.
    TransportPdu,
    /// Lower transport: not newer than what its source sent before.
    Replayed,
    /// Lower transport: the replay list has no room for one more source.
    ReplayListFull,
    /// Lower transport: of a segmented message that is older than the newest of its source.
    OldSegment,
    /// Lower transport: a segment that is there already, or of a message that is whole.
    RepeatedSegment,
    /// Lower transport: it does not fit the segments before it.
    SegmentMismatch,
    /// Lower transport: too many messages are being put together.
    ReassemblyFull,
    /// Lower transport: an acknowledgment of nothing that this node sends.
    UnknownAck,
    /// Upper transport: no application or device key of this node fits.
    TransportKey,
    /// Upper transport: a control message that this node has no use for.
    ControlOpcode,
    /// Friendship: it is of no friendship of this node, or nothing that was waited for.
    Friendship,
    /// Access: its layout is none that the specification has.
    AccessPdu,
    /// Access: no model that it reaches knows its opcode under its key.
    NoModel,
    /// Access: a model found its parameters too long, too short or prohibited (MshPRT §3.7.3.4).
    Parameters,
}

/// How often each [`Discard`] happened.
#[derive(Clone, Debug, Default)]
pub struct DiscardCounts(BTreeMap<Discard, u64>);

impl DiscardCounts {
    pub(crate) fn count(&mut self, discard: Discard) {
        *self.0.entry(discard).or_default() += 1;
    }

    /// How often `discard` happened.
    pub fn get(&self, discard: Discard) -> u64 {
        self.0.get(&discard).copied().unwrap_or_default()
    }

    /// Those that happened, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Discard, u64)> {
        self.0.iter().map(|(&discard, &count)| (discard, count))
    }
}
