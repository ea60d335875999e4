use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Position;

/// What is known of a segment while the log is open: how much of it is still wanted.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) base: Position,
    live: AtomicU64,
}

/// A claim on a record: its segment stays while there is one.
///
/// A claim may go as soon as the record that makes the old one worthless was *appended*: segments are removed only
/// after the sync that follows.
#[derive(Debug)]
pub struct Hold {
    segment: Arc<Segment>,
    position: Position,
    bytes: u32,
}

impl Segment {
    pub(super) fn new(base: Position) -> Arc<Self> {
        Arc::new(Self { base, live: AtomicU64::new(0) })
    }

    /// Bytes of the records that are claimed; a record counts once for each claim.
    pub(super) fn live(&self) -> u64 {
        self.live.load(Ordering::Acquire)
    }
}

impl Hold {
    pub(super) fn new(segment: &Arc<Segment>, position: Position, bytes: usize) -> Self {
        // At least one: an empty record is wanted, too.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).max(1);
        segment.live.fetch_add(bytes.into(), Ordering::Relaxed);
        Self { segment: Arc::clone(segment), position, bytes }
    }

    /// The same claim for a record that others stand for, too: so many bytes more of the segment are wanted with it.
    #[must_use]
    pub fn with(&self, bytes: usize) -> Self {
        Self::new(&self.segment, self.position, (self.bytes as usize).saturating_add(bytes))
    }

    /// Where the record is.
    pub fn position(&self) -> Position {
        self.position
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        Self::new(&self.segment, self.position, self.bytes as usize)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.segment.live.fetch_sub(self.bytes.into(), Ordering::Release);
    }
}
