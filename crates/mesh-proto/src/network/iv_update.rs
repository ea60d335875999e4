//! The IV Update and IV Index Recovery procedures (MshPRT §3.11.5, §3.11.6).

use core::time::Duration;

use clock::Instant;
use mesh_wire::IvIndex;

const HOUR: Duration = Duration::from_secs(3600);

/// The least time in either state.
pub const MIN_IN_STATE: Duration = Duration::from_secs(96 * 3600);

/// The longest time in which an update is in progress.
pub const MAX_IN_PROGRESS: Duration = Duration::from_secs(144 * 3600);

/// The least time between two recoveries.
pub const MIN_BETWEEN_RECOVERIES: Duration = Duration::from_secs(192 * 3600);

/// How far ahead an IV Index may be that is recovered to.
const RECOVERY_RANGE: u32 = 42;

/// The IV Index of a node, and how far an update of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IvUpdate {
    index: IvIndex,
    is_in_progress: bool,
    /// For how long it has been in this state; `None` when no time has to be waited for.
    since: Option<Span>,
    /// The state begins when the node is told the time: it was provisioned just now.
    is_new: bool,
    /// How long the last recovery is past, if it was less than 192 hours ago.
    recovered: Option<Span>,
    /// The 96 hours do not hold, for tests with other devices.
    is_test_mode: bool,
    /// Whether this node began the update, so that it also ends it after 96 hours.
    is_ours: bool,
    /// The update is over for others, and for this node as soon as its segmented messages are.
    is_ending: bool,
}

/// Time that goes by, over restarts, too: the time line may begin anew with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    /// What had gone by at `from`.
    before: Duration,
    from: Instant,
}

impl Span {
    const fn starting(from: Instant) -> Self {
        Self { before: Duration::ZERO, from }
    }

    fn at(self, now: Instant) -> Duration {
        self.before + (now - self.from)
    }

    /// When so much will have gone by.
    fn end(self, limit: Duration) -> Instant {
        self.from + limit.saturating_sub(self.before)
    }
}

/// What became of the IV Index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IvChange {
    /// An update has begun. What is sent is still secured with the IV Index before; sequence numbers go on.
    Started,
    /// The update is over. Sequence numbers begin at 0.
    Finished,
    /// Updates were missed. Sequence numbers begin at 0, unless what is sent is secured as before.
    Recovered {
        /// Whether sequence numbers begin at 0.
        resets_seq: bool,
    },
}

/// What a node keeps of this over a restart: hours, since clocks begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredIvUpdate {
    /// IV Index.
    pub index: IvIndex,
    /// Whether an update is in progress.
    pub is_in_progress: bool,
    /// Whether this node began it.
    pub is_ours: bool,
    /// Hours in this state; 0xFFFF: no limit holds.
    pub hours: u16,
    /// Hours since the last recovery; 0xFFFF: no limit holds.
    pub hours_since_recovery: u16,
}

/// Why the state cannot be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IvUpdateError {
    /// It was changed less than 96 hours ago.
    #[error("the IV Update state was changed less than 96 hours ago")]
    TooEarly,
    /// It is in that state.
    #[error("the IV Update is in that state already")]
    Already,
    /// Only members of the primary subnet begin an update.
    #[error("only a node of the primary subnet may begin an IV Update")]
    NotPrimary,
    /// Segmented messages are being sent; the update ends when they are.
    #[error("the IV Update ends when the segmented messages that are being sent have ended")]
    Deferred,
}

impl IvUpdate {
    /// The state that provisioning gives. The 96 hours hold in the normal state only (MshPRT §3.11.5).
    pub const fn new(index: IvIndex, is_in_progress: bool) -> Self {
        Self {
            index,
            is_in_progress,
            since: None,
            is_new: !is_in_progress,
            recovered: None,
            is_test_mode: false,
            is_ours: false,
            is_ending: false,
        }
    }

    /// Has the state that provisioning gave begin.
    pub(crate) fn begin(&mut self, now: Instant) {
        if core::mem::take(&mut self.is_new) {
            self.since = Some(Span::starting(now));
        }
    }

    /// Goes on from what was stored.
    pub fn restore(now: Instant, stored: StoredIvUpdate) -> Self {
        let span =
            |hours: u16| (hours != u16::MAX).then(|| Span { before: HOUR * u32::from(hours), from: now });
        let (since, recovered) = (span(stored.hours), span(stored.hours_since_recovery));
        let new = Self::new(stored.index, stored.is_in_progress);
        Self { since, recovered, is_ours: stored.is_ours, is_new: false, ..new }
    }

    /// What to store.
    pub fn stored(&self, now: Instant) -> StoredIvUpdate {
        let hours = |span: Option<Span>, limit: Duration| match span.map(|span| span.at(now)) {
            Some(time) if time < limit => u16::try_from(time.as_secs() / HOUR.as_secs()).unwrap_or(u16::MAX),
            _ => u16::MAX,
        };
        StoredIvUpdate {
            index: self.index,
            is_in_progress: self.is_in_progress,
            is_ours: self.is_ours,
            // The limit of a state that lasts 144 hours at most is also that of the 96 hours.
            hours: if self.is_new { 0 } else { hours(self.since, MAX_IN_PROGRESS) },
            hours_since_recovery: hours(self.recovered, MIN_BETWEEN_RECOVERIES),
        }
    }

    /// The IV Index of the network: what beacons say.
    pub const fn index(&self) -> IvIndex {
        self.index
    }

    /// Whether an update is in progress.
    pub const fn is_in_progress(&self) -> bool {
        self.is_in_progress
    }

    /// The IV Index with which this node secures: while an update is in progress, the one before.
    pub const fn sending(&self) -> IvIndex {
        match self.index.0.checked_sub(1) {
            Some(previous) if self.is_in_progress => IvIndex(previous),
            _ => self.index,
        }
    }

    /// The IV Index that secured a PDU with this IVI: the current one or the one before.
    pub const fn receiving(&self, ivi: bool) -> Option<IvIndex> {
        self.index.of_received(ivi)
    }

    /// Has the 96 hours not hold any more, or hold again (MshPRT §3.11.5.1).
    pub const fn set_test_mode(&mut self, is_test_mode: bool) {
        self.is_test_mode = is_test_mode;
    }

    /// Begins an update.
    ///
    /// # Errors
    /// When the present state does not allow it.
    pub fn start(&mut self, now: Instant) -> Result<IvChange, IvUpdateError> {
        if self.is_in_progress {
            return Err(IvUpdateError::Already);
        }
        if !self.has_had_its_time(now) {
            return Err(IvUpdateError::TooEarly);
        }
        let next = IvIndex(self.index.0.checked_add(1).ok_or(IvUpdateError::Already)?);
        self.enter(now, next, true);
        self.is_ours = true;
        Ok(IvChange::Started)
    }

    /// Ends an update.
    ///
    /// # Errors
    /// When the present state does not allow it, or not yet: while segmented messages are being sent, which
    /// would have segments under two IV Indexes.
    pub fn finish(&mut self, now: Instant, is_sending: bool) -> Result<IvChange, IvUpdateError> {
        if !self.is_in_progress {
            return Err(IvUpdateError::Already);
        }
        if !self.has_had_its_time(now) {
            return Err(IvUpdateError::TooEarly);
        }
        if is_sending {
            self.is_ending = true;
            return Err(IvUpdateError::Deferred);
        }
        self.enter(now, self.index, false);
        Ok(IvChange::Finished)
    }

    /// Takes what an authentic beacon or Friend Update says. The caller has seen to it that it is of the primary
    /// subnet, or of any when the node is no member of that.
    pub fn handle_beacon(
        &mut self,
        now: Instant,
        index: IvIndex,
        is_in_progress: bool,
        is_sending: bool,
    ) -> Option<IvChange> {
        let ahead = index.0.checked_sub(self.index.0).filter(|&ahead| ahead <= RECOVERY_RANGE)?;
        match (self.is_in_progress, ahead, is_in_progress) {
            // The same state; or a beacon of an update that is over, played back.
            (false, 0, _) | (true, 0, true) => None,
            (true, 0, false) => self.finish(now, is_sending).ok(),
            (false, 1, true) if self.has_had_its_time(now) => {
                self.enter(now, index, true);
                Some(IvChange::Started)
            }
            _ => self.recover(now, index, is_in_progress),
        }
    }

    /// Whether the update ends as soon as segmented messages have: until then none is begun.
    pub const fn is_ending(&self) -> bool {
        self.is_ending
    }

    /// Ends an update that is due: after 96 hours when this node began it, after 144 in any case, and when others have
    /// ended it and segmented messages had to be waited for.
    pub fn handle_timeout(&mut self, now: Instant, is_sending: bool) -> Option<IvChange> {
        let is_due = self.is_ending || self.end().is_some_and(|end| end <= now);
        if self.is_in_progress && is_due { self.finish(now, is_sending).ok() } else { None }
    }

    /// When [`IvUpdate::handle_timeout`] is next due. One that waits for segmented messages is due when they end.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_ending { None } else { self.end() }
    }

    fn end(&self) -> Option<Instant> {
        let since = self.since.filter(|_| self.is_in_progress)?;
        Some(since.end(if self.is_ours { MIN_IN_STATE } else { MAX_IN_PROGRESS }))
    }

    fn has_had_its_time(&self, now: Instant) -> bool {
        self.is_test_mode || (!self.is_new && self.since.is_none_or(|since| since.at(now) >= MIN_IN_STATE))
    }

    fn recover(&mut self, now: Instant, index: IvIndex, is_in_progress: bool) -> Option<IvChange> {
        if self.recovered.is_some_and(|last| last.at(now) < MIN_BETWEEN_RECOVERIES) {
            return None;
        }
        let before = self.sending();
        self.enter(now, index, is_in_progress);
        // After a recovery the 96 hours do not hold (§3.11.6).
        self.since = None;
        self.recovered = Some(Span::starting(now));
        Some(IvChange::Recovered { resets_seq: self.sending() != before })
    }

    fn enter(&mut self, now: Instant, index: IvIndex, is_in_progress: bool) {
        self.index = index;
        self.is_in_progress = is_in_progress;
        self.since = Some(Span::starting(now));
        self.is_new = false;
        self.is_ours = false;
        self.is_ending = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn at(hours: u32) -> Instant {
        Instant::ORIGIN + HOUR * hours
    }

    fn normal(index: u32) -> IvUpdate {
        let mut iv = IvUpdate::new(IvIndex(index), false);
        iv.begin(at(0));
        iv
    }

    #[test]
    fn an_update_takes_96_to_144_hours_and_sends_with_the_index_before() {
        let mut iv = normal(5);
        assert_eq!(iv.start(at(95)), Err(IvUpdateError::TooEarly));
        assert_eq!(iv.start(at(96)), Ok(IvChange::Started));
        assert_eq!((iv.index(), iv.sending()), (IvIndex(6), IvIndex(5)));
        assert_eq!((iv.receiving(true), iv.receiving(false)), (Some(IvIndex(5)), Some(IvIndex(6))));
        assert_eq!(iv.start(at(97)), Err(IvUpdateError::Already));
        assert_eq!(iv.finish(at(191), false), Err(IvUpdateError::TooEarly));
        assert_eq!(iv.poll_timeout(), Some(at(192)));
        assert_eq!(iv.handle_timeout(at(192), true), None, "segments are being sent");
        assert_eq!(iv.handle_timeout(at(193), false), Some(IvChange::Finished));
        assert_eq!((iv.index(), iv.sending()), (IvIndex(6), IvIndex(6)));
        // Two starts are 192 hours apart at least.
        assert_eq!(iv.start(at(193 + 95)), Err(IvUpdateError::TooEarly));
    }

    #[test]
    fn others_end_it_or_the_144_hours_do() {
        let mut iv = normal(5);
        assert_eq!(iv.handle_beacon(at(96), IvIndex(6), true, false), Some(IvChange::Started));
        assert_eq!(iv.handle_beacon(at(100), IvIndex(6), false, false), None, "too early");
        assert_eq!(iv.poll_timeout(), Some(at(96 + 144)));
        let mut other = iv;
        assert_eq!(iv.handle_beacon(at(192), IvIndex(6), false, false), Some(IvChange::Finished));
        assert_eq!(other.handle_timeout(at(96 + 144), false), Some(IvChange::Finished));
    }

    /// Z#60258: a beacon of an update that is over, played back.
    #[test]
    fn an_update_does_not_begin_again_under_its_own_index() {
        let mut iv = normal(6);
        assert_eq!(iv.handle_beacon(at(500), IvIndex(6), true, false), None);
        assert_eq!(iv.handle_beacon(at(500), IvIndex(5), true, false), None, "nor an older one");
        assert!(!iv.is_in_progress() && iv.index() == IvIndex(6));
    }

    #[test]
    fn the_four_rows_of_recovery() {
        // (state, index ahead, flag) → sequence numbers begin at 0.
        for (in_progress, ahead, flag, expected) in [
            (false, 1, false, Some(true)),
            (true, 1, false, Some(true)),
            (true, 1, true, Some(true)),
            (false, 1, true, Some(false)),
            (false, 2, false, Some(true)),
            (false, 2, true, Some(true)),
            (true, 42, true, Some(true)),
            (false, 43, true, None),
        ] {
            let mut iv = IvUpdate { is_in_progress: in_progress, ..normal(5) };
            let change = iv.handle_beacon(at(1), IvIndex(5 + ahead), flag, true);
            let row = (in_progress, ahead, flag);
            assert_eq!(change, expected.map(|resets_seq| IvChange::Recovered { resets_seq }), "{row:?}");
            if expected.is_some() {
                assert_eq!((iv.index(), iv.is_in_progress()), (IvIndex(5 + ahead), flag), "{row:?}");
                assert_eq!(iv.handle_beacon(at(2), IvIndex(9 + ahead), flag, false), None, "192 hours");
                let again = iv.handle_beacon(at(1 + 192), IvIndex(9 + ahead), flag, false);
                assert!(matches!(again, Some(IvChange::Recovered { .. })));
            }
        }
        // An update that begins too early is recovered to, once in 192 hours; one that is due is just followed.
        let mut iv = normal(5);
        iv.recovered = Some(Span::starting(at(0)));
        assert_eq!(iv.handle_beacon(at(1), IvIndex(6), true, false), None);
        assert_eq!(iv.handle_beacon(at(96), IvIndex(6), true, false), Some(IvChange::Started));
    }

    #[test]
    fn test_mode_lifts_the_96_hours_only() {
        let mut iv = normal(5);
        iv.set_test_mode(true);
        assert_eq!(iv.start(at(0)), Ok(IvChange::Started));
        assert_eq!(iv.handle_beacon(at(0), IvIndex(6), false, false), Some(IvChange::Finished));
        assert_eq!(iv.handle_beacon(at(0), IvIndex(6), true, false), None);
    }

    /// "If the node is added to a network when the network is in Normal operation, then it shall operate in Normal
    /// operation for at least 96 hours", and without that restriction while an update is in progress (§3.11.5).
    #[test]
    fn a_new_node_begins_no_update_for_96_hours_and_follows_the_one_that_is_in_progress() {
        let mut iv = IvUpdate::new(IvIndex(5), false);
        assert_eq!(iv.start(at(0)), Err(IvUpdateError::TooEarly));
        assert_eq!(iv.stored(at(0)).hours, 0, "a restart does not lift it");
        iv.begin(at(10));
        iv.begin(at(20));
        assert_eq!(iv.start(at(10 + 95)), Err(IvUpdateError::TooEarly));
        let mut other = iv;
        assert_eq!(iv.start(at(10 + 96)), Ok(IvChange::Started));
        let recovered = Some(IvChange::Recovered { resets_seq: false });
        assert_eq!(other.handle_beacon(at(11), IvIndex(6), true, false), recovered);
        let mut iv = IvUpdate::new(IvIndex(6), true);
        iv.begin(at(0));
        assert_eq!(iv.handle_beacon(at(1), IvIndex(6), false, false), Some(IvChange::Finished));
    }

    #[test]
    fn hours_outlast_a_restart() {
        let mut iv = normal(5);
        assert_eq!(iv.start(at(96)), Ok(IvChange::Started));
        let stored = iv.stored(at(96 + 50));
        assert_eq!((stored.hours, stored.hours_since_recovery), (50, u16::MAX));
        let start = Instant::ORIGIN + DAY * 100;
        let mut restored = IvUpdate::restore(start, stored);
        assert_eq!(restored.finish(start + HOUR * 45, false), Err(IvUpdateError::TooEarly));
        assert_eq!(restored.finish(start + HOUR * 46, false), Ok(IvChange::Finished));
        // The clock of a process begins anew with it. An hour here and there, and the update ends all the same.
        let mut stored = iv.stored(at(96 + 50));
        for restart in 0..46 {
            let mut restarted = IvUpdate::restore(Instant::ORIGIN, stored);
            assert_eq!(restarted.poll_timeout(), Some(at(46 - restart)));
            assert_eq!(restarted.finish(at(0), false), Err(IvUpdateError::TooEarly), "{restart}");
            stored = restarted.stored(at(1));
        }
        let mut restarted = IvUpdate::restore(Instant::ORIGIN, stored);
        assert_eq!(restarted.handle_timeout(at(0), false), Some(IvChange::Finished));
        // As do the 192 hours between two recoveries.
        let mut recovered = normal(5);
        assert!(recovered.handle_beacon(at(1), IvIndex(7), false, false).is_some());
        let stored = recovered.stored(at(1 + 191));
        let mut restarted = IvUpdate::restore(Instant::ORIGIN, stored);
        assert_eq!(restarted.handle_beacon(at(0), IvIndex(9), false, false), None);
        assert!(restarted.handle_beacon(at(1), IvIndex(9), false, false).is_some());
        assert_eq!(IvUpdate::restore(start, IvUpdate::new(IvIndex(1), true).stored(start)).since, None);
    }
}
