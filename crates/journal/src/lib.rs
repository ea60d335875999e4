//! What has to outlast a restart, and a power cut.
//!
//! [`RecordStore`] keeps small records in one file: changes that are committed together are there together, or none
//! of them is, and a commit that has been reported is there after any crash.
//!
//! Not for: messages (thousands a second want a log, and get one in this crate when the broker needs it), or for data
//! that several processes share.
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

pub mod records;

pub use records::{Change, Commit, RecordStore, StoreError, Stored};
