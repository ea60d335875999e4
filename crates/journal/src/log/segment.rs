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
    pub fn absorb(&mut self, mut hold: Hold) {
        // It has nothing to give back any more.
        let bytes = std::mem::take(&mut hold.bytes);
        self.add(&hold.segment, bytes.into());
    }

    /// Takes over other claims.
    pub fn append(&mut self, mut other: Self) {
        for (segment, bytes) in std::mem::take(&mut other.0) {
            self.add(&segment, bytes);
        }
    }

    fn add(&mut self, segment: &Arc<Segment>, bytes: u64) {
        match self.0.binary_search_by_key(&segment.base, |(segment, _)| segment.base) {
            Ok(at) => self.0[at].1 += bytes,
            Err(at) => self.0.insert(at, (Arc::clone(segment), bytes)),
        }
    }

    /// Claims records by their places and what they count for, each in one of these segments.
    pub(super) fn of(
        segments: impl Iterator<Item = Arc<Segment>>,
        records: impl Iterator<Item = (Position, u32)>,
    ) -> Self {
        let mut claims = Self(segments.map(|segment| (segment, 0)).collect());
        for (position, bytes) in records {
            let at = claims.0.partition_point(|(segment, _)| segment.base <= position);
            if let Some((_, sum)) = at.checked_sub(1).and_then(|at| claims.0.get_mut(at)) {
                *sum += u64::from(bytes);
            }
        }
        claims.0.retain(|(_, bytes)| *bytes > 0);
        for (segment, bytes) in &claims.0 {
            segment.live.fetch_add(*bytes, Ordering::Relaxed);
        }
        claims
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
            claims.absorb(Hold::new(segment, Position(position), bytes));
        }
        assert_eq!((first.live(), second.live()), (10, 5));
        let hold = claims.split(Position(50), 3).unwrap();
        assert_eq!((hold.position(), first.live()), (Position(50), 10));
        drop(hold);
        assert_eq!(first.live(), 7);
        assert!(claims.split(Position(50), 8).is_none(), "more than was taken over");
        drop(claims.split(Position(10), 7));
        assert_eq!((first.live(), second.live()), (0, 5));
        drop(claims);
        assert_eq!(second.live(), 0);
    }

    #[test]
    fn many_claims_at_once_are_the_same_as_one_by_one() {
        let segments = [Segment::new(Position(0)), Segment::new(Position(100)), Segment::new(Position(200))];
        let records = [(Position(250), 2), (Position(5), 3), (Position(0), 4)];
        let mut claims = Claims::of(segments.iter().cloned(), records.into_iter());
        let live = || segments.each_ref().map(|segment| segment.live());
        assert_eq!(live(), [7, 0, 2]);
        let mut others = Claims::default();
        others.absorb(Hold::new(&segments[1], Position(100), 9));
        claims.append(others);
        assert_eq!(live(), [7, 9, 2]);
        drop(claims.split(Position(5), 3));
        assert_eq!(live(), [4, 9, 2]);
        drop(claims);
        assert_eq!(live(), [0, 0, 0]);
    }
}
