//! Records: small values under keys, in one file.

mod error;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase as _, StorageBackend, TableDefinition};
use tokio::sync::oneshot;

pub use error::StoreError;
use writer::{Job, Writer};

/// A record and its new value; `None`: it is to go.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// A key and its value.
pub type Stored = (Vec<u8>, Vec<u8>);

/// The file in the data directory.
const FILE: &str = "state.redb";

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// What the store says about itself: `version`.
const FORMAT: TableDefinition<'_, &str, u32> = TableDefinition::new("format");

/// The format of this version.
const VERSION: u32 = 1;

/// Memory for pages of the file. All records of a network of thousands are a few megabytes.
const CACHE: usize = 8 << 20;

/// Records under keys, kept in the file `state.redb` of a data directory, for their owner's eyes only (mode 0600).
///
/// Clones, and what [`RecordStore::within`] returns, are handles of the same store. The file is closed with the last
/// of them.
#[derive(Clone, Debug)]
pub struct RecordStore {
    writer: Arc<Writer>,
    prefix: Vec<u8>,
}

/// A commit on its way. As a future, or waited for by a thread, it ends when the changes are on the disk, or cannot
/// be brought there. They are committed even if it is dropped.
#[derive(Debug)]
#[must_use = "the changes are not stored before it has ended"]
pub struct Commit(oneshot::Receiver<Result<(), StoreError>>);

impl RecordStore {
    /// Opens the store of a data directory, and makes both if there are none.
    ///
    /// # Errors
    /// What is in the way, and what to do about it.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let path = data_dir.join(FILE);
        let failed = |error: &std::io::Error| StoreError::of_io(path.clone(), error);
        std::fs::create_dir_all(data_dir).map_err(|error| failed(&error))?;
        let folder = File::open(data_dir).map_err(|error| failed(&error))?;
        folder.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::Locked { path: data_dir.to_owned() },
            TryLockError::Error(error) => failed(&error),
        })?;
        if !path.exists() {
            create(&folder, &path)?;
        }
        Self::start(path.clone(), Some(folder), move || {
            let file = secret_file(&path, false).map_err(|error| StoreError::of_io(path.clone(), &error))?;
            let backend = FileBackend::new(file);
            open(&path, backend.map_err(|error| StoreError::of_redb(path.clone(), error.into()))?)
        })
    }

    /// A store on what `open` opens, now and after a failure. `lock` is held until it is closed.
    fn start(
        path: PathBuf,
        lock: Option<File>,
        open: impl FnMut() -> Result<Database, StoreError> + Send + 'static,
    ) -> Result<Self, StoreError> {
        Ok(Self { writer: Arc::new(Writer::start(path, lock, Box::new(open))?), prefix: Vec::new() })
    }

    /// The records whose keys begin with `prefix`, as a store of their own: their keys go without it.
    #[must_use]
    pub fn within(&self, prefix: &[u8]) -> Self {
        Self { writer: self.writer.clone(), prefix: [&self.prefix, prefix].concat() }
    }

    /// All records, in the order of their keys, after all commits that began before. Blocks while they are read.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn load(&self) -> Result<Vec<Stored>, StoreError> {
        let (done, loaded) = std::sync::mpsc::sync_channel(1);
        self.writer.submit(Job::Load { prefix: self.prefix.clone(), done });
        loaded.recv().map_err(|_| StoreError::Closed)?
    }

    /// Commits changes: all of them, or none. Commits take effect in the order of their calls; those that wait
    /// together share one write to the disk.
    pub fn commit(&self, mut changes: Vec<Change>) -> Commit {
        if !self.prefix.is_empty() {
            for (key, _) in &mut changes {
                key.splice(0..0, self.prefix.iter().copied());
            }
        }
        let (done, commit) = oneshot::channel();
        self.writer.submit(Job::Commit { changes, done });
        Commit(commit)
    }
}

impl Commit {
    /// Blocks until it has ended. Not for tasks of an asynchronous runtime, which await it.
    ///
    /// # Errors
    /// Why nothing of it was stored. After [`StoreError::Io`] it may have been stored all the same.
    pub fn wait(self) -> Result<(), StoreError> {
        self.0.blocking_recv().unwrap_or(Err(StoreError::Closed))
    }
}

impl Future for Commit {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|ended| ended.unwrap_or(Err(StoreError::Closed)))
    }
}

/// Makes an empty store under another name first: a crash leaves all of it, or nothing.
fn create(folder: &File, path: &Path) -> Result<(), StoreError> {
    let failed = |error: std::io::Error| StoreError::of_io(path.to_owned(), &error);
    let unfinished = path.with_extension("redb.new");
    let backend = FileBackend::new(secret_file(&unfinished, true).map_err(failed)?);
    initialize(path, backend.map_err(|error| StoreError::of_redb(path.to_owned(), error.into()))?)?;
    std::fs::rename(&unfinished, path).map_err(failed)?;
    folder.sync_all().map_err(failed)
}

fn secret_file(path: &Path, truncate: bool) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(truncate).truncate(truncate).mode(0o600);
    let file = options.open(path)?;
    // A file that was there before keeps its mode otherwise.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

fn initialize(path: &Path, backend: impl StorageBackend) -> Result<(), StoreError> {
    let work = move || {
        let database = Builder::new().create_with_backend(backend)?;
        let transaction = database.begin_write()?;
        transaction.open_table(FORMAT)?.insert("version", VERSION)?;
        transaction.open_table(RECORDS)?;
        transaction.commit()?;
        Ok(())
    };
    work().map_err(|error| StoreError::of_redb(path.to_owned(), error))
}

/// Opens a store that was made before, and checks all of it: it is small, and what is stored here is not worth
/// less than the milliseconds.
fn open(path: &Path, backend: impl StorageBackend) -> Result<Database, StoreError> {
    let work = move || {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
        let database = builder.create_with_backend(backend)?;
        let version = database.begin_read()?.open_table(FORMAT)?.get("version")?.map(|x| x.value());
        Ok((database, version))
    };
    match work().map_err(|error| StoreError::of_redb(path.to_owned(), error))? {
        (database, Some(VERSION)) => Ok(database),
        (_, found) => {
            Err(StoreError::Format { path: path.to_owned(), found: found.unwrap_or(0), known: VERSION })
        }
    }
}
