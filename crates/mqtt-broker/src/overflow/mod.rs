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

/// Numbers that a block has room for.
const NUMBERS: usize = ROOM / 4;

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
    /// Of those that were used and are not: some of them,
    spare: Vec<u32>,
    /// and one that has the numbers of others, and names the next of its kind.
    free: u32,
    /// How many there are.
    end: u32,
    used: u32,
}

impl Overflow {
    pub(crate) fn new(blocks: Box<dyn Blocks>) -> Arc<Self> {
        let (claims, spare, is_closed) = (Claims::default(), Vec::new(), false);
        Arc::new(Self(Mutex::new(Allocator {
            blocks,
            claims,
            is_closed,
            spare,
            free: NONE,
            end: 0,
            used: 0,
        })))
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
        if self.spare.is_empty() && self.free != NONE {
            self.load_free();
        }
        self.spare.pop().unwrap_or_else(|| {
            self.end += 1;
            self.end - 1
        })
    }

    /// Blocks behind one that cannot be read are not used again.
    fn load_free(&mut self) {
        let number = std::mem::replace(&mut self.free, NONE);
        let Ok((next, block)) = self.read(number) else { return };
        let mut numbers = &block[HEADER..];
        self.free = next;
        self.spare.push(number);
        self.spare.extend((0..NUMBERS).map(|_| numbers.get_u32()));
    }

    /// Takes back a block.
    fn release(&mut self, number: u32) {
        self.forget(1);
        if self.used == 0 {
            return;
        }
        self.spare.push(number);
        // Half stay, so that whoever takes and gives back one after the other does not write each time.
        if self.spare.len() > 2 * NUMBERS {
            let numbers: Vec<u8> =
                self.spare[1..=NUMBERS].iter().flat_map(|number| number.to_be_bytes()).collect();
            // What cannot be written stays, and is tried again with the next one.
            if self.write(self.spare[0], self.free, &numbers).is_ok() {
                self.free = self.spare[0];
                self.spare.drain(..=NUMBERS);
            }
        }
    }

    /// So many blocks are not used any more; which ones is not known, unless they are the last.
    fn forget(&mut self, count: u32) {
        self.used -= count;
        if self.used == 0 {
            self.spare.clear();
            (self.free, self.end) = (NONE, 0);
            // It only takes room until it is used again.
            let _ = self.blocks.clear();
        }
    }
}

fn checksum(number: u32, block: &[u8; BLOCK]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(number);
    hasher.update(&block[4..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::overflow::testing::Memory;

    #[derive(Clone, Debug)]
    enum Step {
        Allocate(u8),
        Release(u8),
        Fill(bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => any::<u8>().prop_map(Step::Allocate),
            4 => any::<u8>().prop_map(Step::Release),
            1 => any::<bool>().prop_map(Step::Fill),
        ]
    }

    proptest! {
        #[test]
        fn blocks_are_used_again_and_never_twice_at_a_time(steps in prop::collection::vec(step(), 1..60)) {
            let memory = Memory::default();
            let overflow = Overflow::new(Box::new(memory.clone()));
            let (mut used, mut most) = (BTreeSet::new(), 0);
            for step in steps {
                let mut allocator = overflow.lock();
                match step {
                    Step::Allocate(count) => for _ in 0..count {
                        let number = allocator.allocate();
                        prop_assert!(used.insert(number), "{number} is used already");
                        let _ = allocator.write(number, NONE, &[0xff; ROOM]);
                    },
                    Step::Release(count) => for _ in 0..count {
                        // Neither the first nor the last of them.
                        let middle = used.iter().nth(used.len() / 2).copied();
                        let Some(number) = middle.filter(|number| used.remove(number)) else { break };
                        allocator.release(number);
                    },
                    Step::Fill(is_full) => memory.0.lock().unwrap().is_full = is_full,
                }
                most = most.max(used.len());
                prop_assert!(allocator.end as usize <= most, "{} blocks for {most}", allocator.end);
                prop_assert_eq!(allocator.used as usize, used.len());
            }
            used.iter().for_each(|number| overflow.lock().release(*number));
            prop_assert!(memory.0.lock().unwrap().blocks.is_empty());
        }
    }

    #[test]
    fn what_is_damaged_is_not_used_again() {
        let memory = Memory::default();
        let overflow = Overflow::new(Box::new(memory.clone()));
        let mut allocator = overflow.lock();
        let numbers: Vec<u32> = (0..200).map(|_| allocator.allocate()).collect();
        numbers[1..].iter().for_each(|number| allocator.release(*number));
        memory.0.lock().unwrap().is_broken = true;
        let again: BTreeSet<u32> = (1..200).map(|_| allocator.allocate()).collect();
        assert_eq!(again.len(), 199);
        assert!(!again.contains(&0) && again.iter().any(|&number| number >= 200));
    }
}
