//! Blocks for tests.

use std::io;
use std::sync::{Arc, Mutex};

use super::{BLOCK, Blocks};

/// Blocks in memory, which cannot be written or read while it is said so. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(pub(crate) Arc<Mutex<State>>);

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) blocks: Vec<[u8; BLOCK]>,
    pub(crate) is_full: bool,
    pub(crate) is_broken: bool,
    pub(crate) most: usize,
}

impl Blocks for Memory {
    fn read(&mut self, number: u32) -> io::Result<[u8; BLOCK]> {
        let state = self.0.lock().unwrap();
        match state.blocks.get(number as usize) {
            Some(block) if !state.is_broken => Ok(*block),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn write(&mut self, number: u32, block: &[u8; BLOCK]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let length = state.blocks.len().max(number as usize + 1);
        state.blocks.resize(length, [0; BLOCK]);
        state.blocks[number as usize] = *block;
        state.most = state.most.max(length);
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.0.lock().unwrap().blocks.clear();
        Ok(())
    }
}
