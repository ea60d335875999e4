//! Where segments are kept. The seam at which tests lose what was not synced, tear writes, fill the disk and flip bits.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::Position;

/// Segments by the position of their first byte.
///
/// What was written survives a power cut once `sync` has returned for its segment; segments that were created or
/// removed do at once.
pub trait Storage: std::fmt::Debug + Send + Sync + 'static {
    /// The segments that there are, in order.
    ///
    /// # Errors
    /// What the system says, here and below.
    fn list(&self) -> io::Result<Vec<Position>>;
    /// Makes an empty segment, or empties the one that there is.
    fn create(&self, base: Position) -> io::Result<()>;
    /// Writes all of `bytes`. After an error anything of it may have been written.
    fn write(&self, base: Position, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Has everything that was written to the segment outlast a power cut.
    fn sync(&self, base: Position) -> io::Result<()>;
    /// Appends to `out` at most `length` bytes from `offset` on; less where the segment ends.
    fn read(&self, base: Position, offset: u64, length: usize, out: &mut Vec<u8>) -> io::Result<()>;
    /// Bytes of the segment.
    fn length(&self, base: Position) -> io::Result<u64>;
    /// Cuts a segment off, durably.
    fn truncate(&self, base: Position, length: u64) -> io::Result<()>;
    /// Removes a segment.
    fn remove(&self, base: Position) -> io::Result<()>;
}

/// Segments as files of a folder, named after their position in hexadecimal digits, for their owner's eyes only.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    folder: File,
    /// Those that were used last.
    open: Mutex<BTreeMap<Position, Arc<File>>>,
}

/// Files that are kept open.
const MAX_OPEN: usize = 64;

const SUFFIX: &str = ".log";

impl Folder {
    /// The folder at `path`, which is made if there is none, and is this process's alone until it is dropped.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another process has it; else what the system says.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&path)?;
        let folder = File::open(&path)?;
        folder.try_lock()?;
        Ok(Self { path, folder, open: Mutex::default() })
    }

    fn file_path(&self, base: Position) -> PathBuf {
        self.path.join(format!("{:016x}{SUFFIX}", base.0))
    }

    fn file(&self, base: Position) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&base) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(OpenOptions::new().read(true).write(true).open(self.file_path(base))?);
        // The newest is written all the time, the others are read in turn.
        if open.len() >= MAX_OPEN {
            open.pop_first();
        }
        open.insert(base, Arc::clone(&file));
        Ok(file)
    }

    fn forget(&self, base: Position) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&base);
    }
}

impl Storage for Folder {
    fn list(&self) -> io::Result<Vec<Position>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let digits = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            found.extend(digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).map(Position));
        }
        found.sort_unstable();
        Ok(found)
    }

    fn create(&self, base: Position) -> io::Result<()> {
        self.forget(base);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600).open(self.file_path(base))?;
        self.folder.sync_all()
    }

    fn write(&self, base: Position, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(base)?.write_all_at(bytes, offset)
    }

    fn sync(&self, base: Position) -> io::Result<()> {
        self.file(base)?.sync_data()
    }

    fn read(&self, base: Position, offset: u64, length: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let file = self.file(base)?;
        let left = file.metadata()?.len().saturating_sub(offset);
        let before = out.len();
        out.resize(before + length.min(usize::try_from(left).unwrap_or(length)), 0);
        file.read_exact_at(&mut out[before..], offset)
    }

    fn length(&self, base: Position) -> io::Result<u64> {
        Ok(self.file(base)?.metadata()?.len())
    }

    fn truncate(&self, base: Position, length: u64) -> io::Result<()> {
        let file = self.file(base)?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn remove(&self, base: Position) -> io::Result<()> {
        self.forget(base);
        std::fs::remove_file(self.file_path(base))?;
        self.folder.sync_all()
    }
}
