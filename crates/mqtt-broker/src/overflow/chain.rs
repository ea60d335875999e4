//! The queue of a client, in a row of blocks each of which names the next.

use std::io;
use std::sync::Arc;

use bytes::Buf as _;
use journal::log::{Hold, Position};
use mqtt_wire::QoS;
use smallvec::SmallVec;

use super::{HEADER, Overflow, ROOM};
use crate::durable::Stored;
use crate::durable::record::{How, MessageId};
use crate::queue::Away;

/// Bytes of most entries.
const SMALLEST: usize = 17;

/// Bytes of an entry that has everything.
const LARGEST: usize = SMALLEST + 8 + 4;

/// In the first byte of an entry, beside the QoS, which is never 0.
const RETAIN: u8 = 1 << 2;
const HAS_ID: u8 = 1 << 3;
const HAS_IDENTIFIER: u8 = 1 << 4;

/// A message of a chain: `QoS, RETAIN and what follows:8 · position:64 · claim:32 · size:32`, and only if it is not the
/// position `id:64`, and only if there is one `Subscription Identifier:32`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) id: MessageId,
    pub(crate) position: Position,
    /// What the claim on its record counts for.
    pub(crate) claim: u32,
    pub(crate) size: u32,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) identifier: Option<u32>,
}

impl Place {
    /// `None`: there are more Subscription Identifiers than there is room for, as it matches several subscriptions, or it
    /// is for a group.
    pub(crate) fn of(away: &Away) -> Option<Self> {
        let Away { stored, how, group, size } = away;
        let identifier = how.identifiers.first().copied();
        (how.identifiers.len() <= 1 && group.is_none()).then(|| Self {
            id: stored.id,
            position: stored.position(),
            claim: stored.hold.bytes(),
            size: *size,
            qos: how.qos,
            retain: how.retain,
            identifier,
        })
    }

    fn to_bytes(self) -> SmallVec<[u8; LARGEST]> {
        let id = Some(self.id).filter(|&id| id != self.position.0);
        let mut bits = self.qos as u8;
        for (is_set, bit) in
            [(self.retain, RETAIN), (id.is_some(), HAS_ID), (self.identifier.is_some(), HAS_IDENTIFIER)]
        {
            bits |= if is_set { bit } else { 0 };
        }
        let mut bytes = SmallVec::new();
        bytes.push(bits);
        bytes.extend_from_slice(&self.position.0.to_be_bytes());
        bytes.extend_from_slice(&self.claim.to_be_bytes());
        bytes.extend_from_slice(&self.size.to_be_bytes());
        id.into_iter().for_each(|id| bytes.extend_from_slice(&id.to_be_bytes()));
        self.identifier.into_iter().for_each(|x| bytes.extend_from_slice(&x.to_be_bytes()));
        bytes
    }

    /// The first of some entries, and those behind it.
    fn split(mut entries: &[u8]) -> Option<(Self, &[u8])> {
        let bits = entries.try_get_u8().ok().filter(|&bits| bits != 0)?;
        let position = entries.try_get_u64().ok()?;
        let (claim, size) = (entries.try_get_u32().ok()?, entries.try_get_u32().ok()?);
        let id = if bits & HAS_ID == 0 { position } else { entries.try_get_u64().ok()? };
        let identifier = if bits & HAS_IDENTIFIER == 0 { None } else { Some(entries.try_get_u32().ok()?) };
        let qos = QoS::try_from(bits & 3).ok()?;
        let retain = bits & RETAIN != 0;
        Some((Self { id, position: Position(position), claim, size, qos, retain, identifier }, entries))
    }

    fn into_away(self, hold: Hold) -> Away {
        let identifiers = self.identifier.into_iter().collect();
        let how = How { qos: self.qos, retain: self.retain, identifiers };
        Away { stored: Stored { id: self.id, hold }, how, group: None, size: self.size }
    }
}

/// Bytes of the first entries, as many as a block has room for.
fn length_of_block(entries: &[u8]) -> usize {
    let mut rest = entries;
    while let Some((_, behind)) =
        Place::split(rest).filter(|(_, behind)| entries.len() - behind.len() <= ROOM)
    {
        rest = behind;
    }
    entries.len() - rest.len()
}

/// Messages of a queue, in their order, which is that of their places in the log.
#[derive(Debug)]
pub(crate) struct Chain {
    overflow: Arc<Overflow>,
    /// The first block that was written, and the one that is to be written next.
    row: Option<(u32, u32)>,
    /// Blocks of the row, the last one included.
    blocks: u32,
    /// Bytes of entries of the first block, or of `tail`, that were taken.
    taken: u32,
    /// Entries behind the blocks: less than a block is full of, unless blocks cannot be written.
    tail: SmallVec<[u8; ROOM]>,
    len: u32,
    bytes: usize,
    /// No message is before this place.
    first: Position,
    last: Position,
}

impl Chain {
    pub(crate) fn new(overflow: &Arc<Overflow>, first: Position) -> Self {
        Self {
            overflow: Arc::clone(overflow),
            row: None,
            blocks: 0,
            taken: 0,
            tail: SmallVec::new(),
            len: 0,
            bytes: 0,
            first,
            last: first,
        }
    }

    /// How many messages there are.
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// What they count for.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether none is before this place. It may say so only when somebody has tried to take one ([`Chain::take`]).
    pub(crate) fn is_from(&self, position: Position) -> bool {
        self.first >= position
    }

    /// Whether a message of this place can go behind the others.
    pub(crate) fn takes(&self, position: Position) -> bool {
        position >= self.last
    }

    /// Puts a message behind the others, whose claim the overflow has ([`Overflow::claim`]).
    pub(crate) fn push(&mut self, place: &Place) {
        self.last = place.position;
        self.len += 1;
        self.bytes += place.size as usize;
        let entry = place.to_bytes();
        // What cannot be written stays, and is tried again with the next one.
        let _ = self.make_room(entry.len());
        self.tail.extend_from_slice(&entry);
        let _ = self.make_room(SMALLEST);
    }

    /// Writes blocks until there is room for so many bytes in the tail.
    fn make_room(&mut self, bytes: usize) -> io::Result<()> {
        if self.tail.len() + bytes <= ROOM {
            return Ok(());
        }
        self.forget_taken();
        let overflow = Arc::clone(&self.overflow);
        let mut allocator = overflow.lock();
        while self.tail.len() + bytes > ROOM {
            let (first, here) = *self.row.get_or_insert_with(|| {
                self.blocks += 1;
                let number = allocator.allocate();
                (number, number)
            });
            let next = allocator.allocate();
            let length = length_of_block(&self.tail);
            if let Err(error) = allocator.write(here, next, &self.tail[..length]) {
                allocator.release(next, next, 1);
                return Err(error);
            }
            self.blocks += 1;
            self.row = Some((first, next));
            self.tail.drain(..length);
        }
        Ok(())
    }

    /// Takes the oldest messages: as many as lie together, and no more than `most` , as long as their
    /// places are before `before`.
    ///
    /// # Errors
    /// When they cannot be read: then what is left of the chain is of no use, and stays wanted in the log.
    pub(crate) fn take(&mut self, most: usize, before: Option<Position>) -> io::Result<Vec<Away>> {
        let overflow = Arc::clone(&self.overflow);
        let mut allocator = overflow.lock();
        let (mut taken, mut count) = (Vec::new(), 0);
        let block = self.first_block().map(|first| allocator.read(first)).transpose()?;
        let all = match &block {
            Some((_, block)) => &block[HEADER..],
            None => &self.tail[..],
        };
        let mut entries = &all[self.taken as usize..];
        let mut is_through = true;
        while let Some((place, rest)) = Place::split(entries) {
            self.first = place.position;
            if taken.len() >= most || before.is_some_and(|before| place.position >= before) {
                is_through = false;
                break;
            }
            self.taken += u32::try_from(entries.len() - rest.len()).unwrap_or(0);
            (entries, count) = (rest, count + 1);
            self.bytes -= place.size as usize;
            // It was taken over with the entry.
            let Some(hold) = allocator.claims.split(place.position, place.claim) else { continue };
            taken.push(place.into_away(hold));
        }
        self.len -= count;
        if let (true, Some((next, _)), Some((first, last))) = (is_through, block, self.row) {
            allocator.release(first, first, 1);
            self.blocks -= 1;
            self.row = Some((next, last));
            self.taken = 0;
        }
        drop(allocator);
        if self.taken as usize * 2 > ROOM {
            self.forget_taken();
        }
        Ok(taken)
    }

    /// The oldest block, if there is one.
    fn first_block(&self) -> Option<u32> {
        self.row.filter(|(first, next)| first != next).map(|(first, _)| first)
    }

    /// Makes room where entries of the tail were taken.
    fn forget_taken(&mut self) {
        if self.first_block().is_none() {
            self.tail.drain(..self.taken as usize);
            self.taken = 0;
        }
    }

    /// Has what is left stay in the log, although nobody will find it here.
    pub(crate) fn abandon(mut self) {
        self.len = 0;
    }
}

/// Gives back what it claims, which takes as long as reading all of it.
impl Drop for Chain {
    fn drop(&mut self) {
        if self.overflow.lock().is_closed {
            return;
        }
        while self.len > 0 && self.take(usize::MAX, None).is_ok() {}
        if let Some((first, last)) = self.row {
            self.overflow.lock().release(first, last, self.blocks);
        }
    }
}
