//! Whether files have changed.

use std::path::PathBuf;
use std::time::SystemTime;

/// When each file was last changed, and how long it is; `None`: it is not there.
pub(crate) type Stamps = Vec<Option<(SystemTime, u64)>>;

/// The stamps of files as they are now. Links are followed, so a link to another file is a change.
pub(crate) fn stamps(files: &[PathBuf]) -> Stamps {
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files.iter().map(stamp).collect()
}
