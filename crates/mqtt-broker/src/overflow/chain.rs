//! The queue of a client, in a row of blocks each of which names the next.

use std::io;
use std::sync::Arc;

use journal::log::Position;
use smallvec::SmallVec;

use super::{HEADER, Overflow, Place, ROOM};
use crate::queue::Away;

/// Bytes of the first entries, as many as a block has room for.
fn length_of_block(entries: &[u8]) -> usize {
    let (mut rest, mut length) = (entries, 0);
    while Place::take(&mut rest).is_some() && entries.len() - rest.len() <= ROOM {
        length = entries.len() - rest.len();
    }
    length
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
        let mut entry = SmallVec::<[u8; Place::LARGEST]>::new();
        place.put(&mut entry);
        // What cannot be written stays, and is tried again with the next one.
        let _ = self.make_room(entry.len());
        self.tail.extend_from_slice(&entry);
        let _ = self.make_room(Place::SMALLEST);
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
                allocator.release(next);
                return Err(error);
            }
            self.blocks += 1;
            self.row = Some((first, next));
            self.tail.drain(..length);
        }
        Ok(())
    }

    /// Takes the oldest messages: as many as lie together, and no more than `most`, as long as their places are
    /// before `before`.
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
        let (mut behind, mut is_through) = (entries.len(), true);
        while let Some(place) = Place::take(&mut entries) {
            self.first = place.position;
            if taken.len() >= most || before.is_some_and(|before| place.position >= before) {
                is_through = false;
                break;
            }
            self.taken += u32::try_from(behind - entries.len()).unwrap_or(0);
            (behind, count) = (entries.len(), count + 1);
            self.bytes -= place.size as usize;
            // It was taken over with the entry.
            taken.extend(place.claimed(None, &mut allocator.claims));
        }
        self.len -= count;
        if let (true, Some((next, _)), Some((first, last))) = (is_through, block, self.row) {
            allocator.release(first);
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
        if let Some((_, last)) = self.row {
            let mut allocator = self.overflow.lock();
            // There are others only if they cannot be read.
            allocator.forget(self.blocks - 1);
            allocator.release(last);
        }
    }
}
