use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::frame::{self, Found, Kind};
use super::{Fsync, Log, Position, Storage, usage};

/// The back of a log: the only one that writes. Runs on a thread of its own ([`super::WriterThread`]), or turn by turn.
#[derive(Debug)]
pub struct Writer {
    log: Arc<Log>,
    storage: Arc<dyn Storage>,
    /// The segment that is written to, once there is one.
    current: Option<Position>,
    /// Whether something was written since the last sync.
    is_dirty: bool,
    /// Up to where it was written.
    written: Position,
}

/// Segments at which cleaning up begins to be worth it.
const FEW_SEGMENTS: usize = 4;

/// What is read at a time, so that neighbours of a record come with it.
const CHUNK: usize = 64 * 1024;

impl Writer {
    pub(super) fn new(log: Arc<Log>, storage: Arc<dyn Storage>) -> Self {
        let written = log.end();
        Self { log, storage, current: None, is_dirty: false, written }
    }

    /// The front of the log.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Writes what was appended, syncs it if [`Fsync::Always`] or `must_sync` asks for it, and removes what is not
    /// wanted any more.
    ///
    /// # Errors
    /// What the storage says. Nothing is lost: the next turn tries again.
    pub fn turn(&mut self, must_sync: bool) -> io::Result<()> {
        let result = self.try_turn(must_sync);
        if self.log.is_stuck.swap(result.is_err(), Ordering::Relaxed) != result.is_err() {
            // Those who wait for less congestion look again.
            self.log.durable.send_modify(|_| {});
        }
        result
    }

    fn try_turn(&mut self, must_sync: bool) -> io::Result<()> {
        // Whatever made them worthless was appended before, and is durable after this turn.
        let dead = self.dead_segments();
        let (start, batch) = self.take();
        let end = Position(start.0 + batch.len() as u64);
        if !batch.is_empty() {
            self.write(start, &batch)?;
            self.log.counters.written.fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
        let is_safe = self.log.options.fsync == Fsync::Always || must_sync || !dead.is_empty();
        if is_safe && self.is_dirty {
            self.sync()?;
        }
        {
            let mut front = self.log.lock();
            front.writing = None;
            self.written = end;
            if !self.is_dirty {
                front.synced = end;
            }
        }
        self.log.durable.send_if_modified(|durable| std::mem::replace(durable, end) != end);
        if !dead.is_empty() {
            self.remove(dead)?;
        }
        self.look_for_waste();
        Ok(())
    }

    /// What is to be written: of a turn that failed, or all that was appended since.
    fn take(&self) -> (Position, Arc<Vec<u8>>) {
        let mut front = self.log.lock();
        if let Some((start, batch)) = &front.writing {
            return (*start, Arc::clone(batch));
        }
        let start = front.start;
        let capacity = front.buffer.len();
        let batch = Arc::new(std::mem::replace(&mut front.buffer, Vec::with_capacity(capacity)));
        front.start = Position(start.0 + batch.len() as u64);
        front.is_wanted = false;
        front.writing = Some((start, Arc::clone(&batch)));
        (start, batch)
    }

    fn write(&mut self, start: Position, batch: &[u8]) -> io::Result<()> {
        let end = Position(start.0 + batch.len() as u64);
        let pieces: Vec<(Position, Position)> = {
            let front = self.log.lock();
            let first = front.segment_of(start).map(|segment| (segment.base, start));
            let cuts = front.segments.range(start..end).map(|(base, _)| (*base, *base));
            first.into_iter().filter(|(base, _)| *base < start).chain(cuts).collect()
        };
        let ends = pieces.iter().skip(1).map(|(base, _)| *base).chain([end]).collect::<Vec<_>>();
        for ((base, from), until) in pieces.into_iter().zip(ends) {
            if self.current != Some(base) {
                // What comes before a segment is on the disk when the segment is: only the last one can have a
                // tail that was not synced.
                if self.is_dirty && self.log.options.fsync != Fsync::Never {
                    self.sync()?;
                }
                self.current = Some(base);
            }
            if from == base {
                self.storage.create(base)?;
            }
            self.is_dirty = true;
            self.storage.write(base, from.0 - base.0, slice(batch, start, from, until))?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Some(current) = self.current {
            self.storage.sync(current)?;
            self.log.counters.syncs.fetch_add(1, Ordering::Relaxed);
        }
        self.is_dirty = false;
        Ok(())
    }

    /// Syncs what was written, and says so in the log, so that every damage of it is found.
    ///
    /// # Errors
    /// What the storage says.
    pub fn close(&mut self) -> io::Result<()> {
        self.turn(true)?;
        if self.current.is_some() {
            let mut front = self.log.lock();
            let synced = front.synced.0.to_be_bytes();
            front.frame(self.log.salt, Kind::Synced, &synced);
        }
        self.turn(true)
    }

    /// Segments at the front of which nothing is wanted. The last one never is among them.
    fn dead_segments(&self) -> Vec<Position> {
        let front = self.log.lock();
        let all_but_last = front.segments.values().take(front.segments.len().saturating_sub(1));
        let written = all_but_last.take_while(|segment| segment.live() == 0);
        let dead: Vec<_> =
            written.map(|segment| segment.base).filter(|base| Some(*base) < self.current).collect();
        // Looked at after the claims: `keep_all` is said before the first of them goes.
        if self.log.keeps_all.load(Ordering::SeqCst) { Vec::new() } else { dead }
    }

    fn remove(&self, dead: Vec<Position>) -> io::Result<()> {
        for base in dead {
            self.storage.remove(base)?;
            self.log.lock().segments.remove(&base);
        }
        Ok(())
    }

    fn look_for_waste(&self) {
        let front = self.log.lock();
        let (bytes, live) = usage(&front.segments, front.end());
        self.log.is_full.store(live > self.log.options.max_live_bytes, Ordering::Relaxed);
        let second = front.segments.keys().nth(1).copied();
        let is_waste = front.segments.len() >= FEW_SEGMENTS && live < bytes / 2;
        let before = second.filter(|_| is_waste).unwrap_or_default();
        self.log.evacuate.store(before.0, Ordering::Relaxed);
    }
}

impl Log {
    /// Reads records back, in the order of `positions`, wherever they are by now; `None` for one that is damaged or
    /// cannot be read. Neighbours are read together: sorted positions are cheapest. Waits for the disk.
    pub fn read(&self, storage: &dyn Storage, positions: &[Position]) -> Vec<Option<Vec<u8>>> {
        let mut chunk = (Position(0), Vec::new());
        positions.iter().map(|&position| self.read_one(storage, position, &mut chunk)).collect()
    }

    fn read_one(
        &self,
        storage: &dyn Storage,
        position: Position,
        chunk: &mut (Position, Vec<u8>),
    ) -> Option<Vec<u8>> {
        let base = {
            let front = self.lock();
            let in_memory =
                [Some((front.start, &front.buffer)), front.writing.as_ref().map(|(p, b)| (*p, &**b))];
            for (start, bytes) in in_memory.into_iter().flatten() {
                let end = Position(start.0 + bytes.len() as u64);
                if (start..end).contains(&position) {
                    return record(slice(bytes, start, position, end), self.salt, position);
                }
            }
            front.segment_of(position)?.base
        };
        let end = Position(chunk.0.0 + chunk.1.len() as u64);
        if (chunk.0..end).contains(&position)
            && let Some(found) = record(slice(&chunk.1, chunk.0, position, end), self.salt, position)
        {
            return Some(found);
        }
        let offset = position.0 - base.0;
        chunk.0 = position;
        chunk.1.clear();
        storage.read(base, offset, CHUNK, &mut chunk.1).ok()?;
        let whole = frame::HEADER + frame::body_length(&chunk.1).min(frame::MAX_BODY);
        if let Some(rest) = whole.checked_sub(chunk.1.len()) {
            storage.read(base, offset + chunk.1.len() as u64, rest, &mut chunk.1).ok()?;
        }
        record(&chunk.1, self.salt, position)
    }
}

fn record(bytes: &[u8], salt: u64, position: Position) -> Option<Vec<u8>> {
    match frame::read(bytes, salt, position) {
        Found::Frame(Kind::Record, body) => Some(body.to_vec()),
        _ => None,
    }
}

/// The bytes between two positions, of `bytes` that begin at `start`.
fn slice(bytes: &[u8], start: Position, from: Position, until: Position) -> &[u8] {
    let at = |position: Position| usize::try_from(position.0 - start.0).unwrap_or(usize::MAX);
    bytes.get(at(from)..at(until)).unwrap_or_default()
}
