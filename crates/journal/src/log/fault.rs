//! A disk for tests, which does to a log what disks do: loses what was not synced, tears writes, is full, flips bits.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Position, Storage};

/// Segments in memory, of which a part is only there until the power goes. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    segments: BTreeMap<Position, Contents>,
    room: Option<u64>,
    loses_syncs: bool,
    syncs: u64,
}

#[derive(Clone, Debug, Default)]
struct Contents {
    /// As a reader sees it.
    bytes: Vec<u8>,
    /// As the disk has it.
    durable: Vec<u8>,
    /// What was written since the last sync.
    writes: Vec<(usize, usize)>,
}

impl FaultyDisk {
    /// Lets it hold no more than `bytes` from now on; `None`: as much as there is.
    pub fn limit(&self, bytes: Option<u64>) {
        self.lock().room = bytes;
    }

    /// From now on says that it has synced, and has not.
    pub fn lose_syncs(&self, loses: bool) {
        self.lock().loses_syncs = loses;
    }

    /// How often it was synced.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.lock().segments.values().map(|contents| contents.bytes.len() as u64).sum()
    }

    /// The power goes: of what was not synced, each write survives wholly, in part or not at all, as `choose` says
    /// with a number below its argument.
    pub fn cut_power(&self, mut choose: impl FnMut(usize) -> usize) {
        for contents in self.lock().segments.values_mut() {
            let mut after = std::mem::take(&mut contents.durable);
            for (offset, length) in contents.writes.drain(..) {
                let kept = match choose(3) {
                    0 => 0,
                    1 => choose(length + 1),
                    _ => length,
                };
                // The file system may have made room before it had the bytes.
                after.resize(after.len().max(offset + kept), 0);
                after[offset..offset + kept].copy_from_slice(&contents.bytes[offset..offset + kept]);
            }
            contents.bytes.clone_from(&after);
            contents.durable = after;
        }
    }

    /// Flips one bit of all, by its number; returns where, if there is that much.
    pub fn flip(&self, bit: u64) -> Option<(Position, u64)> {
        let mut at = bit / 8;
        for (base, contents) in &mut self.lock().segments {
            let length = contents.bytes.len() as u64;
            if at < length {
                let index = usize::try_from(at).ok()?;
                contents.bytes[index] ^= 1 << (bit % 8);
                contents.durable.clone_from(&contents.bytes);
                return Some((*base, at));
            }
            at -= length;
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn segment(&mut self, base: Position) -> io::Result<&mut Contents> {
        self.segments.get_mut(&base).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Storage for FaultyDisk {
    fn list(&self) -> io::Result<Vec<Position>> {
        Ok(self.lock().segments.keys().copied().collect())
    }

    fn create(&self, base: Position) -> io::Result<()> {
        self.lock().segments.insert(base, Contents::default());
        Ok(())
    }

    fn write(&self, base: Position, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        let used: u64 = state.segments.values().map(|contents| contents.bytes.len() as u64).sum();
        let room = state.room.map_or(u64::MAX, |room| room.saturating_sub(used));
        let contents = state.segment(base)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let new = (offset + bytes.len()).saturating_sub(contents.bytes.len()) as u64;
        let missing = usize::try_from(new.saturating_sub(room)).unwrap_or(usize::MAX);
        let fits = bytes.len().saturating_sub(missing);
        contents.bytes.resize(contents.bytes.len().max(offset + fits), 0);
        contents.bytes[offset..offset + fits].copy_from_slice(&bytes[..fits]);
        contents.writes.push((offset, fits));
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&self, base: Position) -> io::Result<()> {
        let mut state = self.lock();
        state.syncs += 1;
        if !state.loses_syncs {
            let contents = state.segment(base)?;
            contents.durable.clone_from(&contents.bytes);
            contents.writes.clear();
        }
        Ok(())
    }

    fn read(&self, base: Position, offset: u64, length: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let mut state = self.lock();
        let bytes = &state.segment(base)?.bytes;
        let from = usize::try_from(offset).map_err(io::Error::other)?.min(bytes.len());
        out.extend_from_slice(&bytes[from..bytes.len().min(from.saturating_add(length))]);
        Ok(())
    }

    fn length(&self, base: Position) -> io::Result<u64> {
        Ok(self.lock().segment(base)?.bytes.len() as u64)
    }

    fn truncate(&self, base: Position, length: u64) -> io::Result<()> {
        let mut state = self.lock();
        let contents = state.segment(base)?;
        contents.bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        contents.durable.clone_from(&contents.bytes);
        contents.writes.clear();
        Ok(())
    }

    fn remove(&self, base: Position) -> io::Result<()> {
        self.lock().segments.remove(&base);
        Ok(())
    }
}
