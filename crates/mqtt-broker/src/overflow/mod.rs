//! Where the queues of clients that are away, or far behind, go: a few bytes for each message, in blocks beside the
//! memory.
//!
//! The log has the messages, and who is to get them; this only spares a start to find out again. What is in the blocks
//! is worth nothing after the process. A queue is a [`Chain`] of blocks, each of which names the next; in memory are
//! the ends of it, whatever its length. What was sent to a client and not acknowledged is a [`Parcel`].

mod chain;
mod parcel;
mod place;
#[cfg(test)]
pub(crate) mod testing;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Buf as _;
use journal::log::{Claims, Hold};

pub(crate) use self::chain::Chain;
pub(crate) use self::parcel::{Parcel, Sent};
pub(crate) use self::place::Place;

/// Bytes of a block. Each queue has one in memory.
pub const BLOCK: usize = 128;

/// Bytes before the entries of a block: `check:32 · next:32`.
const HEADER: usize = 8;

/// Bytes of a block for entries. Behind the last one there are zeros.
const ROOM: usize = BLOCK - HEADER;

/// In the place of a block's number: there is none.
const NONE: u32 = u32::MAX;

/// Blocks by their numbers, from 0 on.
pub trait Blocks: std::fmt::Debug + Send {
    /// A block that was written.
    ///
    /// # Errors
    /// What the system says, here and below.
    fn read(&mut self, number: u32) -> io::Result<[u8; BLOCK]>;
    /// Writes a block.
    fn write(&mut self, number: u32, block: &[u8; BLOCK]) -> io::Result<()>;
    /// Forgets all blocks.
    fn clear(&mut self) -> io::Result<()>;
}

/// The blocks of a shard.
#[derive(Debug)]
pub(crate) struct Overflow(Mutex<Allocator>);

#[derive(Debug)]
struct Allocator {
    blocks: Box<dyn Blocks>,
    /// Those of all messages that are in chains.
    claims: Claims,
    /// The shard has ended.
    is_closed: bool,
    /// The first of those that were used and are not, each of which names the next.
    free: u32,
    /// How many there are.
    end: u32,
    used: u32,
}

impl Overflow {
    pub(crate) fn new(blocks: Box<dyn Blocks>) -> Arc<Self> {
        let (claims, is_closed) = (Claims::default(), false);
        Arc::new(Self(Mutex::new(Allocator { blocks, claims, is_closed, free: NONE, end: 0, used: 0 })))
    }

    /// Takes over the claims of messages that are about to be put into chains ([`Chain::push`]).
    pub(crate) fn claim(&self, claims: Claims) {
        self.lock().claims.append(claims);
    }

    pub(crate) fn absorb(&self, hold: Hold) {
        self.lock().claims.absorb(hold);
    }

    /// The shard ends, and nothing is given back any more.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
    }

    fn lock(&self) -> MutexGuard<'_, Allocator> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Allocator {
    fn read(&mut self, number: u32) -> io::Result<(u32, [u8; BLOCK])> {
        let block = self.blocks.read(number)?;
        let mut header = &block[..HEADER];
        let (check, next) = (header.get_u32(), header.get_u32());
        if check != checksum(number, &block) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a block is damaged"));
        }
        Ok((next, block))
    }

    fn write(&mut self, number: u32, next: u32, entries: &[u8]) -> io::Result<()> {
        let mut block = [0; BLOCK];
        block[4..HEADER].copy_from_slice(&next.to_be_bytes());
        block[HEADER..HEADER + entries.len()].copy_from_slice(entries);
        let check = checksum(number, &block);
        block[..4].copy_from_slice(&check.to_be_bytes());
        self.blocks.write(number, &block)
    }

    fn allocate(&mut self) -> u32 {
        self.used += 1;
        if self.free != NONE {
            let number = self.free;
            // Blocks behind one that cannot be read are not used again.
            self.free = self.read(number).map_or(NONE, |(next, _)| next);
            return number;
        }
        self.end += 1;
        self.end - 1
    }

    /// Takes back a row of `count` blocks, the last of which may not be written.
    fn release(&mut self, first: u32, last: u32, count: u32) {
        self.used -= count;
        if self.used == 0 {
            (self.free, self.end) = (NONE, 0);
            // It only takes room until it is used again.
            let _ = self.blocks.clear();
        } else if self.write(last, self.free, &[]).is_ok() {
            self.free = first;
        }
    }
}

fn checksum(number: u32, block: &[u8; BLOCK]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(number);
    hasher.update(&block[4..]);
    hasher.finalize()
}
