use std::io;
use std::path::PathBuf;

/// Why records cannot be read or stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has the data directory.
    #[error(
        "{} is in use by another process; stop that one, or choose another data directory", path.display()
    )]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// The file is not what was written.
    #[error(
        "{} is damaged ({reason}); restore a copy, or remove it and begin without what it held", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is of a format that is not known yet.
    #[error(
        "{} has format {found}, and this version reads format {known}; run the version that wrote it, or choose \
         another data directory", path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format of this version.
        known: u32,
    },
    /// The disk is full. Nothing of the commit was stored; it can be tried again.
    #[error("no space is left for {}; free some", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The file system failed. The commit may be tried again.
    #[error("cannot use {}: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The thread that writes has ended.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub(super) fn of_io(path: PathBuf, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Self::Damaged { path, reason: error.to_string() }
            }
            _ => Self::Io { path, reason: error.to_string() },
        }
    }

    pub(super) fn of_redb(path: PathBuf, error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => Self::of_io(path, &error),
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Self::Locked { path },
            redb::Error::PreviousIo | redb::Error::LockPoisoned(_) => {
                Self::Io { path, reason: error.to_string() }
            }
            // What is left is about a file that is not as this crate writes it.
            _ => Self::Damaged { path, reason: error.to_string() },
        }
    }
}
