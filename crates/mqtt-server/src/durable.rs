//! The log on its disk: opened before anything else, written by a thread of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clock::Instant;
use journal::log::{self, Folder, Log, OpenError, Options, Position, Report, Storage, Writer, WriterThread};
use mqtt_broker::{Recovery, Settings, Shard, Shared, Unreadable};

use crate::config::DurabilityConfig;

/// The folder of the log in the data directory.
const FOLDER: &str = "log";

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
    /// Records that refer to a message that is lost.
    pub dangling: u64,
}

/// Reads the log of a data directory that no server uses, and leaves it as it is.
///
/// # Errors
/// Why it cannot be read.
pub fn check(data_dir: &Path) -> Result<Contents, LogError> {
    let path = data_dir.join(FOLDER);
    if !path.is_dir() {
        return Err(LogError::Folder { path, source: io::ErrorKind::NotFound.into() });
    }
    let storage = folder(data_dir)?;
    let (mut recovery, mut unreadable) = (Recovery::default(), None);
    let scanned = log::scan(&storage, |position, record| {
        if let Err(error) = recovery.apply(position, record) {
            unreadable.get_or_insert(error);
        }
    });
    let report = scanned.map_err(|source| LogError::Open { path: path.clone(), source })?;
    if let Some(source) = unreadable {
        return Err(LogError::Unreadable { path, source });
    }
    let [sessions, queued, retained] = recovery.counts();
    Ok(Contents { report, sessions, queued, retained, dangling: recovery.dangling() })
}

impl Store {
    /// Reads records, and waits for the disk.
    pub(crate) fn read(&self, positions: &[Position]) -> Vec<Option<Vec<u8>>> {
        self.log.read(&*self.storage, positions)
    }
}

impl Opened {
    /// Reads the log of a data directory, and makes one if there is none.
    pub(crate) fn open(config: &DurabilityConfig, salt: u64) -> Result<Self, LogError> {
        let path = config.data_dir.join(FOLDER);
        let storage: Arc<dyn Storage> = Arc::new(folder(&config.data_dir)?);
        let options =
            Options { fsync: config.fsync, segment_bytes: config.segment_bytes, ..Options::default() };
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
        tell(&report, &recovery);
        Ok(Self { store: Store { log: Arc::clone(writer.log()), storage }, writer, recovery, report })
    }

    /// Has new shards go on with it, and begins to write.
    pub(crate) fn start(
        self,
        now: Instant,
        settings: Settings,
        shards: usize,
    ) -> io::Result<(Arc<Shared>, Vec<Shard>, WriterThread)> {
        let (shared, mut shards) = new_shards(settings, shards, Some(Arc::clone(&self.store.log)));
        let store = self.store.clone();
        self.recovery.restore(now, &store.log, &mut shards, &mut |positions| store.read(positions));
        Ok((shared, shards, self.writer.start()?))
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

fn tell(report: &Report, recovery: &Recovery) {
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
}
