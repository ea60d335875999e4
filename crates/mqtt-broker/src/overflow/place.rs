//! What the blocks say of a message.

use bytes::Buf as _;
use journal::log::{Claims, Position};
use mqtt_wire::{QoS, TopicFilter};
use smallvec::SmallVec;

use super::ROOM;
use crate::durable::Stored;
use crate::durable::record::{How, MessageId};
use crate::queue::Away;

/// Subscription Identifiers of a message at most, so that a block has room for it.
const IDENTIFIERS: usize = 16;

const _: () = assert!(Place::LARGEST <= ROOM, "a block has room for each");

/// In the first byte, beside the QoS, which is never 0.
const RETAIN: u8 = 1 << 2;
const HAS_ID: u8 = 1 << 3;
const HAS_IDENTIFIERS: u8 = 1 << 4;

/// Where a message is in the log, and how it goes to its client.
///
/// In a block: `QoS, RETAIN and what follows:8 · position:64 · claim:32 · size:32`, and only if it is not the position
/// `id:64`, and only if there are any `count:8 · count × Subscription Identifier:32`.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) id: MessageId,
    pub(crate) position: Position,
    /// What the claim on its record counts for.
    pub(crate) claim: u32,
    pub(crate) size: u32,
    pub(crate) how: How,
}

impl Place {
    /// Bytes of one with no more than is always there, as most are.
    pub(super) const SMALLEST: usize = 1 + 8 + 4 + 4;
    /// Bytes of one that has everything.
    pub(super) const LARGEST: usize = Self::SMALLEST + 8 + 1 + IDENTIFIERS * 4;

    /// Whether there is room for its Subscription Identifiers: mostly it matches one subscription.
    pub(crate) fn has_room(how: &How) -> bool {
        how.identifiers.len() <= IDENTIFIERS
    }

    /// Of a message that there is room for, and whose claim is about to be given to the overflow.
    pub(crate) fn of(away: &Away) -> Self {
        let Away { stored, how, size, .. } = away;
        let (position, claim) = (stored.position(), stored.hold.bytes());
        Self { id: stored.id, position, claim, size: *size, how: how.clone() }
    }

    pub(super) fn put(&self, bytes: &mut impl Extend<u8>) {
        let How { qos, retain, identifiers } = &self.how;
        let has_id = self.id != self.position.0;
        let mut bits = *qos as u8;
        for (is_set, bit) in [(*retain, RETAIN), (has_id, HAS_ID), (!identifiers.is_empty(), HAS_IDENTIFIERS)]
        {
            bits |= if is_set { bit } else { 0 };
        }
        bytes.extend([bits]);
        bytes.extend(self.position.0.to_be_bytes());
        bytes.extend(self.claim.to_be_bytes());
        bytes.extend(self.size.to_be_bytes());
        if has_id {
            bytes.extend(self.id.to_be_bytes());
        }
        if !identifiers.is_empty() {
            // There are no more than a byte counts.
            bytes.extend(u8::try_from(identifiers.len()));
            bytes.extend(identifiers.iter().flat_map(|identifier| identifier.to_be_bytes()));
        }
    }

    /// Takes the first of some, if there is one: behind the last there are zeros.
    pub(super) fn take(bytes: &mut &[u8]) -> Option<Self> {
        let bits = bytes.try_get_u8().ok().filter(|&bits| bits != 0)?;
        let position = bytes.try_get_u64().ok()?;
        let (claim, size) = (bytes.try_get_u32().ok()?, bytes.try_get_u32().ok()?);
        let id = if bits & HAS_ID == 0 { position } else { bytes.try_get_u64().ok()? };
        let count = if bits & HAS_IDENTIFIERS == 0 { 0 } else { bytes.try_get_u8().ok()? };
        let identifiers: SmallVec<[u32; 1]> = (0..count).map_while(|_| bytes.try_get_u32().ok()).collect();
        let how = How { qos: QoS::try_from(bits & 3).ok()?, retain: bits & RETAIN != 0, identifiers };
        Some(Self { id, position: Position(position), claim, size, how })
    }

    /// The message with its claim, if that is among these.
    pub(super) fn claimed(self, group: Option<TopicFilter>, claims: &mut Claims) -> Option<Away> {
        let Self { id, position, claim, size, how } = self;
        let hold = claims.split(position, claim)?;
        Some(Away { stored: Stored { id, hold }, how, group, size })
    }
}
