//! A log of records: appended by many, written by one thread, synced for all that wait at once.
//!
//! [`Log`] is the front, in memory: an appended record has its [`Position`] at once, and [`Log::durable`] says up to
//! where records have been made as safe as [`Fsync`] asks; whoever waits for that is told by [`Log::watch`]. [`Writer`]
//! is the back: each [`Writer::turn`] takes all that was appended, writes it, syncs it, and removes segments at the front
//! that nobody claims any more ([`Hold`]). [`open`] reads what an earlier run left.
//!
//! A disk that is full, or fails, holds up the turn and is tried again; nothing is lost, and [`Log::is_congested`] says
//! that it is time to take in less.

pub mod fault;
mod frame;
mod recovery;
mod segment;
mod storage;
#[cfg(test)]
mod tests;
mod thread;
mod writer;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use self::frame::Kind;
use self::segment::Segment;

pub use self::recovery::{Loss, OpenError, Report, open, view};
pub use self::segment::{Claims, Hold};
pub use self::storage::{Folder, Storage};
pub use self::thread::WriterThread;
pub use self::writer::Writer;

/// A place in the log: bytes since its beginning, those of segments that are gone included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// Bytes that are written without waiting for more.
const MUCH: usize = 64 * 1024;

/// When the writer has the system bring to the disk what it wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before anything that was appended counts as durable.
    Always,
    /// So often. What was written counts as durable at once, and a power cut may take that much of it.
    Interval(Duration),
    /// When the system likes. The end of the process takes nothing, a power cut may take everything since.
    Never,
}

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// When to sync.
    pub fsync: Fsync,
    /// About how large a segment becomes, in bytes.
    pub segment_bytes: u64,
    /// Bytes that may wait to be written before the log is congested.
    pub max_waiting_bytes: usize,
    /// Bytes of records that are wanted before the log is full.
    pub max_live_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fsync: Fsync::Always,
            segment_bytes: 64 << 20,
            max_waiting_bytes: 32 << 20,
            max_live_bytes: 8 << 30,
        }
    }
}

/// Where a record was put.
#[derive(Debug)]
pub struct Appended {
    /// The record's place, and a claim on it.
    pub hold: Hold,
    /// What [`Log::durable`] has to reach until the record is durable.
    pub end: Position,
}

/// The front of a log. Never waits for a disk.
#[derive(Debug)]
pub struct Log {
    options: Options,
    salt: u64,
    front: Mutex<Front>,
    /// The writer waits for something to write.
    appended: Condvar,
    durable: watch::Sender<Position>,
    is_stuck: AtomicBool,
    is_full: AtomicBool,
    keeps_all: AtomicBool,
    evacuate: AtomicU64,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    written: AtomicU64,
    syncs: AtomicU64,
    records: AtomicU64,
}

/// What a log has done, and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Records that were appended.
    pub records: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// Syncs.
    pub syncs: u64,
    /// Segments that there are.
    pub segments: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Bytes of the records in them that are still wanted, at most.
    pub live_bytes: u64,
}

#[derive(Debug)]
struct Front {
    /// What was appended and not taken by the writer, from position `start` on.
    buffer: Vec<u8>,
    start: Position,
    /// What the writer has taken and not written to the end.
    writing: Option<(Position, Arc<Vec<u8>>)>,
    /// All segments; the last one is appended to.
    segments: BTreeMap<Position, Arc<Segment>>,
    synced: Position,
    /// Somebody waits for what is in the buffer, or it has become much.
    is_wanted: bool,
    is_writer_waiting: bool,
    is_closing: bool,
}

impl Front {
    fn end(&self) -> Position {
        Position(self.start.0 + self.buffer.len() as u64)
    }

    fn frame(&mut self, salt: u64, kind: Kind, body: &[u8]) -> Position {
        let position = self.end();
        frame::write(&mut self.buffer, salt, position, kind, body);
        position
    }

    fn begin_segment(&mut self, salt: u64) {
        let base = self.end();
        self.buffer.extend_from_slice(&frame::segment_header(base, salt));
        self.segments.insert(base, Segment::new(base));
    }

    fn segment_of(&self, position: Position) -> Option<&Arc<Segment>> {
        self.segments.range(..=position).next_back().map(|(_, segment)| segment)
    }
}

impl Log {
    fn new(options: Options, salt: u64, segments: BTreeMap<Position, Arc<Segment>>, end: Position) -> Self {
        let front = Front {
            buffer: Vec::new(),
            start: end,
            writing: None,
            segments,
            synced: end,
            is_wanted: false,
            is_writer_waiting: false,
            is_closing: false,
        };
        Self {
            options,
            salt,
            front: Mutex::new(front),
            appended: Condvar::new(),
            durable: watch::Sender::new(end),
            is_stuck: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            keeps_all: AtomicBool::new(false),
            evacuate: AtomicU64::new(0),
            counters: Counters::default(),
        }
    }

    /// Appends a record of at most 256 MB, behind all that were appended before.
    pub fn append(&self, body: &[u8]) -> Appended {
        self.put(body, true)
    }

    /// The same for a record that nobody waits for: it is written with others, or after a tenth of a second.
    pub fn append_later(&self, body: &[u8]) -> Appended {
        self.put(body, false)
    }

    /// Somebody waits for what was appended later ([`Log::append_later`]).
    pub fn hurry(&self) {
        let mut front = self.lock();
        if !front.buffer.is_empty() && !std::mem::replace(&mut front.is_wanted, true) {
            self.wake(&mut front);
        }
    }

    fn wake(&self, front: &mut Front) {
        if std::mem::take(&mut front.is_writer_waiting) {
            self.appended.notify_one();
        }
    }

    fn put(&self, body: &[u8], is_wanted: bool) -> Appended {
        let mut front = self.lock();
        let is_first = front.buffer.is_empty();
        let last = front.segments.last_key_value().map(|(base, _)| *base);
        let is_full = |base: Position| front.end().0 - base.0 >= self.options.segment_bytes;
        if last.is_none_or(is_full) {
            front.begin_segment(self.salt);
        }
        if is_first {
            let synced = front.synced.0.to_be_bytes();
            front.frame(self.salt, Kind::Synced, &synced);
        }
        let position = front.frame(self.salt, Kind::Record, body);
        let end = front.end();
        let segment = front.segments.last_key_value().map(|(_, segment)| Arc::clone(segment));
        // There is always a last segment by now.
        let segment = segment.unwrap_or_else(|| Segment::new(position));
        front.is_wanted |= is_wanted || front.buffer.len() >= MUCH;
        // The first one tells the writer that there is something, and from when on.
        if front.is_wanted || is_first {
            self.wake(&mut front);
        }
        drop(front);
        self.counters.records.fetch_add(1, Ordering::Relaxed);
        Appended { hold: Hold::new(&segment, position, frame::HEADER + body.len()), end }
    }

    /// Up to where everything is as safe as [`Fsync`] asks.
    pub fn durable(&self) -> Position {
        *self.durable.borrow()
    }

    /// Tells of every change of [`Log::durable`].
    pub fn watch(&self) -> watch::Receiver<Position> {
        self.durable.subscribe()
    }

    /// Where the next record will be, or behind it.
    pub fn end(&self) -> Position {
        self.lock().end()
    }

    /// Claims a record that was read when the log was opened.
    pub fn hold(&self, position: Position, body: usize) -> Option<Hold> {
        let front = self.lock();
        front.segment_of(position).map(|segment| Hold::new(segment, position, frame::HEADER + body))
    }

    /// Claims many records at once that were read when the log was opened: their places, and what each counts for
    /// ([`Hold::bytes`]).
    pub fn claim(&self, records: impl Iterator<Item = (Position, u32)>) -> Claims {
        let segments: Vec<_> = self.lock().segments.values().cloned().collect();
        Claims::of(segments.into_iter(), records)
    }

    /// What a claim on a record counts for ([`Hold::bytes`]), with so many bytes more ([`Hold::with`]).
    pub fn claim_bytes(body: u32, more: usize) -> u32 {
        let more = u32::try_from(frame::HEADER + more).unwrap_or(u32::MAX);
        body.saturating_add(more)
    }

    /// Whether more waits to be written than should, or cannot be written.
    pub fn is_congested(&self) -> bool {
        self.is_stuck() || self.lock().buffer.len() > self.options.max_waiting_bytes
    }

    /// Whether the last turn of the writer failed.
    pub fn is_stuck(&self) -> bool {
        self.is_stuck.load(Ordering::Relaxed)
    }

    /// Whether more is wanted of it than should be. It takes records all the same.
    pub fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// From now on no segment is removed: whoever has claims is about to end, and they go with it although the records
    /// are wanted after the next start.
    pub fn keep_all(&self) {
        self.keeps_all.store(true, Ordering::SeqCst);
    }

    /// More than half of the log is not wanted any more, but its front is: what is wanted of the records before
    /// this position is to be appended again, and the old claims are to go.
    pub fn evacuate_before(&self) -> Option<Position> {
        Some(Position(self.evacuate.load(Ordering::Relaxed))).filter(|position| position.0 > 0)
    }

    /// What it has done, and holds.
    pub fn stats(&self) -> LogStats {
        let front = self.lock();
        let (bytes, live_bytes) = usage(&front.segments, front.end());
        LogStats {
            records: self.counters.records.load(Ordering::Relaxed),
            written_bytes: self.counters.written.load(Ordering::Relaxed),
            syncs: self.counters.syncs.load(Ordering::Relaxed),
            segments: front.segments.len() as u64,
            bytes,
            live_bytes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Front> {
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of all segments, and of what is wanted of them.
fn usage(segments: &BTreeMap<Position, Arc<Segment>>, end: Position) -> (u64, u64) {
    let ends = segments.keys().skip(1).copied().chain([end]);
    segments.values().zip(ends).fold((0, 0), |(bytes, live), (segment, end)| {
        let size = end.0.saturating_sub(segment.base.0);
        // A record that many claim is there once.
        (bytes + size, live + segment.live().min(size))
    })
}
