//! What has to outlast a restart, and a power cut.
//!
//! [`RecordStore`] keeps small records in one file: changes that are committed together are there together, or none
//! of them is, and a commit that has been reported is there after any crash.
//!
//! [`log`] keeps many records: appended by many threads, written by one, synced for all that wait at once; what is not
//! wanted any more goes from its front.
//!
//! Not for: data that several processes share.
//!
//! ```
//! use journal::RecordStore;
//!
//! # let folder = tempfile::tempdir()?;
//! # let data_dir = folder.path();
//! let store = RecordStore::open(data_dir)?;
//! let lamps = store.within(b"lamp/");
//! let commit = lamps.commit(vec![(b"kitchen".to_vec(), Some(b"on".to_vec()))]);
//! commit.wait()?; // in a task: commit.await
//! assert_eq!(lamps.load()?, [(b"kitchen".to_vec(), b"on".to_vec())]);
//! assert_eq!(store.load()?[0].0, b"lamp/kitchen");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod log;
pub mod records;

pub use records::{Change, Commit, RecordStore, StoreError, Stored};
