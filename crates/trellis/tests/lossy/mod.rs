//! A disk that does what disks do when the power goes, under a server that is really killed.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use journal::log::{Folder, Position, Storage};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// What a disk writes wholly or not at all.
const SECTOR: usize = 512;

/// A folder to which nothing goes before it is synced: what was not is lost with the process. What else it does wrong
/// files beside it say, so that it can be told while the server runs.
#[derive(Debug)]
pub(crate) struct Lossy {
    folder: Folder,
    /// Holds `full`: there is no room. `tears`: a sync, soon, writes some of the sectors only, and the process ends.
    /// `loses`: the next sync does nothing, says that it did, and leaves what it lost in `lost`.
    orders: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: ChaCha8Rng,
    /// What was written and not synced, in order.
    waiting: BTreeMap<Position, Vec<(u64, Vec<u8>)>>,
    /// What a sync has lost, which is read as if it were there.
    lost: BTreeMap<Position, Vec<(u64, Vec<u8>)>>,
}

impl Lossy {
    pub(crate) fn new(folder: Folder, orders: PathBuf, seed: u64) -> Self {
        let random = ChaCha8Rng::seed_from_u64(seed);
        let state = State { random, waiting: BTreeMap::new(), lost: BTreeMap::new() };
        Self { folder, orders, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_told(&self, order: &str) -> bool {
        self.orders.join(order).exists()
    }

    /// Writes some sectors, and ends the process.
    fn tear(&self, base: Position, writes: Vec<(u64, Vec<u8>)>, random: &mut ChaCha8Rng) -> ! {
        for (offset, bytes) in writes {
            let mut at = 0;
            while at < bytes.len() {
                let place = usize::try_from(offset).unwrap() + at;
                let end = bytes.len().min(at + SECTOR - place % SECTOR);
                if random.next_u64().is_multiple_of(2) {
                    self.folder.write(base, place as u64, &bytes[at..end]).unwrap();
                }
                at = end;
            }
        }
        std::process::abort();
    }
}

impl Storage for Lossy {
    fn list(&self) -> io::Result<Vec<Position>> {
        self.folder.list()
    }

    fn create(&self, base: Position) -> io::Result<()> {
        let mut state = self.lock();
        state.waiting.remove(&base);
        state.lost.remove(&base);
        self.folder.create(base)
    }

    fn write(&self, base: Position, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let is_full = self.is_told("full");
        let fits = if is_full { &bytes[..bytes.len() / 2] } else { bytes };
        self.lock().waiting.entry(base).or_default().push((offset, fits.to_vec()));
        if is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&self, base: Position) -> io::Result<()> {
        let mut state = self.lock();
        let writes = state.waiting.remove(&base).unwrap_or_default();
        if self.is_told("tears") && state.random.next_u64().is_multiple_of(40) {
            self.tear(base, writes, &mut state.random);
        }
        if self.is_told("loses") && !writes.is_empty() {
            std::fs::remove_file(self.orders.join("loses"))?;
            let lost: Vec<u8> = writes.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            std::fs::write(self.orders.join("lost"), lost)?;
            state.lost.entry(base).or_default().extend(writes);
            return Ok(());
        }
        for (offset, bytes) in writes {
            self.folder.write(base, offset, &bytes)?;
        }
        self.folder.sync(base)
    }

    fn read(&self, base: Position, offset: u64, length: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let end = self.length(base)?.min(offset.saturating_add(length as u64));
        let mut bytes = Vec::new();
        self.folder.read(base, offset, length, &mut bytes)?;
        bytes.resize(usize::try_from(end.saturating_sub(offset)).unwrap(), 0);
        let state = self.lock();
        for (at, written) in
            [&state.lost, &state.waiting].into_iter().filter_map(|all| all.get(&base)).flatten()
        {
            let (from, until) = ((*at).max(offset), (at + written.len() as u64).min(end));
            if from < until {
                let [to, of] = [from - offset, from - at].map(|x| usize::try_from(x).unwrap());
                let length = usize::try_from(until - from).unwrap();
                bytes[to..to + length].copy_from_slice(&written[of..of + length]);
            }
        }
        out.append(&mut bytes);
        Ok(())
    }

    fn length(&self, base: Position) -> io::Result<u64> {
        let state = self.lock();
        let writes = [&state.lost, &state.waiting].into_iter().filter_map(|all| all.get(&base)).flatten();
        let end = writes.map(|(at, bytes)| at + bytes.len() as u64).max();
        Ok(self.folder.length(base)?.max(end.unwrap_or(0)))
    }

    fn truncate(&self, base: Position, length: u64) -> io::Result<()> {
        self.folder.truncate(base, length)
    }

    fn remove(&self, base: Position) -> io::Result<()> {
        let mut state = self.lock();
        state.waiting.remove(&base);
        state.lost.remove(&base);
        self.folder.remove(base)
    }
}
