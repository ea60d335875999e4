//! The log on its disk: opened before anything else, written by a thread of its own.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clock::Instant;
use journal::log::{self, Folder, Log, OpenError, Options, Position, Report, Storage, Writer, WriterThread};
use mqtt_broker::{BLOCK, Blocks, Recovery, Settings, Shard, Shared, Unreadable};

use crate::config::DurabilityConfig;

/// The folder of the log in the data directory.
pub(crate) const FOLDER: &str = "log";

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another process has it.
    #[error("{} is in use by another process; stop that one, or choose another data directory", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The system does not let it be used.
    #[error("cannot use the folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Open {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// It holds something unknown.
    #[error("{}: {source}; use the version that wrote it, or a newer one", path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// What.
        source: Unreadable,
    },
}

/// The log, and where it is kept: for shards, which read from it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) log: Arc<Log>,
    storage: Arc<dyn Storage>,
}

/// A log that was read and is not written yet.
pub(crate) struct Opened {
    pub(crate) store: Store,
    writer: Writer,
    recovery: Recovery,
    pub(crate) report: Report,
    data_dir: PathBuf,
}

/// The folder of the log of a data directory.
///
/// # Errors
/// Why it cannot be had.
pub fn folder(data_dir: &Path) -> Result<Folder, LogError> {
    let path = data_dir.join(FOLDER);
    Folder::open(path.clone()).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => LogError::Locked { path },
        _ => LogError::Folder { path, source },
    })
}

/// What a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// What is whole and what is lost.
    pub report: Report,
    /// Sessions.
    pub sessions: u64,
    /// Messages in the queues of sessions.
    pub queued: u64,
    /// Retained messages.
    pub retained: u64,
    /// Whose messages are lost with what is damaged.
    pub losers: Losers,
}

/// Clients and shared subscriptions of which messages are lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losers {
    /// Some of them, those that lost most first, and how many each has lost.
    pub some: Vec<(String, u64)>,
    /// How many there are.
    pub count: u64,
    /// Messages that they have lost, each counted for each of them.
    pub messages: u64,
}

/// Of those that lost messages, how many are named.
const NAMED: usize = 20;

impl Losers {
    fn of(recovery: &Recovery) -> Self {
        let (counts, more) = recovery.lost();
        let mut some: Vec<_> = counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        some.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        some.truncate(NAMED);
        Self { some, count: counts.len() as u64, messages: counts.values().sum::<u64>() + more }
    }
}

/// A log that no server uses, which stays as it is.
pub(crate) struct View {
    pub(crate) storage: Folder,
    pub(crate) log: Log,
    pub(crate) recovery: Recovery,
    pub(crate) report: Report,
}

impl View {
    pub(crate) fn of(data_dir: &Path) -> Result<Self, LogError> {
        let path = data_dir.join(FOLDER);
        if !path.is_dir() {
            return Err(LogError::Folder { path, source: io::ErrorKind::NotFound.into() });
        }
        let storage = folder(data_dir)?;
        let (mut recovery, mut unreadable) = (Recovery::default(), None);
        let viewed = log::view(&storage, |position, record| {
            if let Err(error) = recovery.apply(position, record) {
                unreadable.get_or_insert(error);
            }
        });
        let (log, report) = viewed.map_err(|source| LogError::Open { path: path.clone(), source })?;
        match unreadable {
            Some(source) => Err(LogError::Unreadable { path, source }),
            None => Ok(Self { storage, log, recovery, report }),
        }
    }
}

/// Reads the log of a data directory that no server uses, and leaves it as it is.
///
/// # Errors
/// Why it cannot be read.
pub fn check(data_dir: &Path) -> Result<Contents, LogError> {
    let View { mut recovery, report, .. } = View::of(data_dir)?;
    let [sessions, queued, retained] = recovery.counts();
    Ok(Contents { report, sessions, queued, retained, losers: Losers::of(&recovery) })
}

impl Store {
    /// Reads records, and waits for the disk.
    pub(crate) fn read(&self, positions: &[Position]) -> Vec<Option<Vec<u8>>> {
        self.log.read(&*self.storage, positions)
    }
}

impl Opened {
    /// Reads the log of a data directory, and makes one if there is none.
    pub(crate) fn open(
        config: &DurabilityConfig,
        storage: Arc<dyn Storage>,
        salt: u64,
    ) -> Result<Self, LogError> {
        let path = config.data_dir.join(FOLDER);
        let options = Options {
            fsync: config.fsync,
            segment_bytes: config.segment_bytes,
            max_live_bytes: config.max_log_bytes,
            ..Options::default()
        };
        let (mut recovery, mut unreadable) = (Recovery::default(), None);
        let visit = |position, record: &[u8]| {
            if let Err(error) = recovery.apply(position, record) {
                unreadable.get_or_insert(error);
            }
        };
        let opened = log::open(Arc::clone(&storage), options, salt, visit);
        let (writer, report) = opened.map_err(|source| LogError::Open { path: path.clone(), source })?;
        if let Some(source) = unreadable {
            return Err(LogError::Unreadable { path, source });
        }
        if !report.losses.is_empty() {
            recovery.tell_damaged();
        }
        tell(&report, &mut recovery);
        let store = Store { log: Arc::clone(writer.log()), storage };
        Ok(Self { store, writer, recovery, report, data_dir: config.data_dir.clone() })
    }

    /// Has new shards go on with it, and begins to write.
    pub(crate) fn start(
        self,
        now: Instant,
        settings: Settings,
        shards: usize,
    ) -> io::Result<(Arc<Shared>, Vec<Shard>, WriterThread)> {
        let (shared, shards) = new_shards(settings, shards, Some(Arc::clone(&self.store.log)));
        let with_overflow = |shard: Shard| {
            let blocks = FileBlocks::make(&self.data_dir, shard.id())?;
            Ok(shard.with_overflow(Box::new(blocks)))
        };
        let mut shards = shards.into_iter().map(with_overflow).collect::<io::Result<Vec<_>>>()?;
        let store = self.store.clone();
        let read = |positions: &[Position]| store.read(positions);
        self.recovery.restore(now, &store.log, &mut shards, &read, |jobs| {
            std::thread::scope(|scope| jobs.into_iter().for_each(|job| drop(scope.spawn(job))));
        });
        Ok((shared, shards, self.writer.start()?))
    }
}

/// Blocks in a file without a name, which goes with the process.
#[derive(Debug)]
struct FileBlocks {
    file: File,
    /// Where `last` begins.
    end: u32,
    /// The last blocks, which are not in the file yet: a start fills millions of them, one behind the other.
    last: Vec<u8>,
}

/// Bytes that are written to the file at once.
const TOGETHER: usize = 64 << 10;

impl FileBlocks {
    fn make(folder: &Path, number: usize) -> io::Result<Self> {
        let path = folder.join(format!("overflow-{number}"));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        std::fs::remove_file(path)?;
        Ok(Self { file, end: 0, last: Vec::new() })
    }

    fn offset(number: u32) -> u64 {
        u64::from(number) * BLOCK as u64
    }

    /// Where a block is, or will be, in `last`; `None`: it is before that.
    fn place(&self, number: u32) -> Option<usize> {
        number.checked_sub(self.end).map(|index| index as usize * BLOCK)
    }
}

impl Blocks for FileBlocks {
    fn read(&mut self, number: u32) -> io::Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        match self.place(number) {
            None => self.file.read_exact_at(&mut block, Self::offset(number))?,
            Some(at) => {
                let written = self.last.get(at..at + BLOCK).ok_or(io::ErrorKind::UnexpectedEof)?;
                block.copy_from_slice(written);
            }
        }
        Ok(block)
    }

    fn write(&mut self, number: u32, block: &[u8; BLOCK]) -> io::Result<()> {
        let Some(mut at) = self.place(number) else {
            return self.file.write_all_at(block, Self::offset(number));
        };
        if at + BLOCK > TOGETHER {
            // If it cannot be written, this block is not taken, and those before stay.
            self.file.write_all_at(&self.last, Self::offset(self.end))?;
            self.last.clear();
            (self.end, at) = (number, 0);
        }
        if self.last.len() < at + BLOCK {
            // What lies between was never written, so nobody reads it.
            self.last.resize(at + BLOCK, 0);
        }
        self.last[at..at + BLOCK].copy_from_slice(block);
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        (self.end, self.last) = (0, Vec::new());
        self.file.set_len(0)
    }
}

/// New shards.
pub(crate) fn new_shards(
    settings: Settings,
    shards: usize,
    log: Option<Arc<Log>>,
) -> (Arc<Shared>, Vec<Shard>) {
    let shared = Shared::with_log(shards, settings, log);
    let shards = (0..shared.shards()).map(|id| Shard::new(id, Arc::clone(&shared))).collect();
    (shared, shards)
}

fn tell(report: &Report, recovery: &mut Recovery) {
    let [sessions, messages, retained] = recovery.counts();
    let (records, bytes) = (report.records, report.bytes);
    tracing::info!(records, bytes, sessions, messages, retained, "the log was read");
    if report.unfinished > 0 {
        let bytes = report.unfinished;
        tracing::info!(bytes, "the end of the log was cut off by a crash, before it was acknowledged");
    }
    for loss in &report.losses {
        tracing::error!(%loss, "the log is damaged; what was there is lost, what comes after it is not");
    }
    let losers = Losers::of(recovery);
    for (name, messages) in &losers.some {
        tracing::error!(name, messages, "messages for it were lost with what is damaged in the log");
    }
    if losers.count > losers.some.len() as u64 {
        let (clients, messages) = (losers.count, losers.messages);
        tracing::error!(clients, messages, "these were not all who lost messages");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Numbers that go up, some left out for a while, and any other.
        #[test]
        fn blocks_are_what_was_written_last(
            steps in prop::collection::vec((0..9_u32, 0..3_000_u32, any::<u8>()), 1..4_000),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut blocks = FileBlocks::make(folder.path(), 0).unwrap();
            let (mut written, mut next) = (BTreeMap::new(), 0);
            for (kind, number, byte) in steps {
                let number = match kind {
                    0 if byte == 0 => {
                        blocks.clear().unwrap();
                        written.clear();
                        next = 0;
                        continue;
                    }
                    0 => number,
                    gap => next + gap % 3,
                };
                next = next.max(number + 1);
                blocks.write(number, &[byte; BLOCK]).unwrap();
                written.insert(number, byte);
                prop_assert_eq!(blocks.read(number).unwrap(), [byte; BLOCK]);
            }
            for (number, byte) in written {
                prop_assert_eq!(blocks.read(number).unwrap(), [byte; BLOCK]);
            }
        }
    }
}
