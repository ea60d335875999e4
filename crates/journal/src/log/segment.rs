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

    /// What it counts for.
    pub fn bytes(&self) -> u32 {
        self.bytes
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

/// Claims on many records at once, which knows only how much of each segment is wanted: a few bytes for each segment,
/// however many records there are.
#[derive(Debug, Default)]
pub struct Claims(Vec<(Arc<Segment>, u64)>);

impl Claims {
    /// Takes over a claim.
    pub fn absorb(&mut self, hold: &Hold) {
        hold.segment.live.fetch_add(hold.bytes.into(), Ordering::Relaxed);
        // Records come in about the order in which they are.
        match self.0.iter_mut().rev().find(|(segment, _)| segment.base == hold.segment.base) {
            Some((_, bytes)) => *bytes += u64::from(hold.bytes),
            None => {
                let at = self.0.partition_point(|(segment, _)| segment.base < hold.segment.base);
                self.0.insert(at, (Arc::clone(&hold.segment), hold.bytes.into()));
            }
        }
    }

    /// Gives a claim back that was taken over, by its place and its bytes ([`Hold::bytes`]).
    pub fn split(&mut self, position: Position, bytes: u32) -> Option<Hold> {
        let at = self.0.partition_point(|(segment, _)| segment.base <= position).checked_sub(1)?;
        let (segment, left) = &mut self.0[at];
        *left = left.checked_sub(bytes.into())?;
        let hold = Hold { segment: Arc::clone(segment), position, bytes };
        if *left == 0 {
            self.0.remove(at);
        }
        Some(hold)
    }

    /// The first position of the oldest segment of which something is wanted.
    pub fn oldest(&self) -> Option<Position> {
        self.0.first().map(|(segment, _)| segment.base)
    }

    /// Keeps what is claimed until the log is closed.
    pub fn keep(&mut self) {
        self.0 = Vec::new();
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        for (segment, bytes) in &self.0 {
            segment.live.fetch_sub(*bytes, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_come_out_as_they_went_in() {
        let (first, second) = (Segment::new(Position(0)), Segment::new(Position(100)));
        let holds = [(&first, 10, 7), (&second, 120, 5), (&first, 50, 3)];
        let mut claims = Claims::default();
        for (segment, position, bytes) in holds {
            claims.absorb(&Hold::new(segment, Position(position), bytes));
        }
        assert_eq!((first.live(), second.live()), (10, 5));
        assert_eq!(claims.oldest(), Some(Position(0)));
        let hold = claims.split(Position(50), 3).unwrap();
        assert_eq!((hold.position(), first.live()), (Position(50), 10));
        drop(hold);
        assert_eq!(first.live(), 7);
        assert!(claims.split(Position(50), 8).is_none(), "more than was taken over");
        drop(claims.split(Position(10), 7));
        assert_eq!((claims.oldest(), first.live()), (Some(Position(100)), 0));
        drop(claims);
        assert_eq!(second.live(), 0);
    }

    #[test]
    fn what_is_kept_stays_wanted() {
        let segment = Segment::new(Position(0));
        let mut claims = Claims::default();
        claims.absorb(&Hold::new(&segment, Position(1), 4));
        claims.keep();
        drop(claims);
        assert_eq!(segment.live(), 4);
    }
}
