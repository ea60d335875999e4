//! Transition times, and the states that take their time (MMDL §3.1.3, §3.2.1).

use core::time::Duration;

use clock::Instant;

/// The Generic Default Transition Time format: `steps:6 resolution:2` from the least significant bit.
/// 63 steps: unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransitionTime(u8);

/// The units of the resolutions, in milliseconds.
const RESOLUTIONS_MS: [u64; 4] = [100, 1_000, 10_000, 600_000];

/// The most steps of a known time.
const MAX_STEPS: u64 = 62;

impl TransitionTime {
    /// At once.
    pub const IMMEDIATE: Self = Self(0);

    /// The longest: 62 steps of 10 minutes.
    pub const MAX: Duration = Duration::from_millis(MAX_STEPS * RESOLUTIONS_MS[3]);

    /// The shortest time that can be said and is not below `duration`, in the finest resolution that reaches
    /// it; [`TransitionTime::MAX`] for all that is longer.
    pub fn at_least(duration: Duration) -> Self {
        let ms = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        for (resolution, unit) in (0_u8..).zip(RESOLUTIONS_MS) {
            let steps = ms.div_ceil(unit);
            if let Ok(steps @ 0..=62) = u8::try_from(steps) {
                return Self(resolution << 6 | steps);
            }
        }
        Self(0xfe)
    }

    /// How long it is; `None`: unknown.
    pub fn duration(self) -> Option<Duration> {
        let steps = u64::from(self.0 & 0x3f);
        (steps <= MAX_STEPS).then(|| Duration::from_millis(steps * RESOLUTIONS_MS[usize::from(self.0 >> 6)]))
    }

    /// From its octet, which in a status message may say "unknown".
    pub const fn from_octet(octet: u8) -> Self {
        Self(octet)
    }

    /// Its octet.
    pub const fn to_octet(self) -> u8 {
        self.0
    }
}

/// What a Set message may say of a transition: `Transition Time:8 Delay:8`, both or neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// How long the change takes.
    pub time: TransitionTime,
    /// How long the server waits before, in steps of 5 ms.
    pub delay: u8,
}

impl Transition {
    /// No delay, no time.
    pub const AT_ONCE: Self = Self { time: TransitionTime::IMMEDIATE, delay: 0 };

    /// How long the server waits before the change begins.
    pub fn delay_duration(self) -> Duration {
        Duration::from_millis(u64::from(self.delay) * 5)
    }

    /// From the reception of the message to the end of the change.
    pub fn total(self) -> Duration {
        self.delay_duration() + self.time.duration().unwrap_or_default()
    }
}

/// How long a message of the same sender, destination and TID is taken for the same transaction
/// (MMDL §3.4.1.2.4 and its like).
const TRANSACTION: Duration = Duration::from_secs(6);

/// Tells a repeated message from a new one.
#[derive(Clone, Debug)]
pub struct Transactions<S> {
    last: Option<(S, u8, Instant)>,
}

impl<S> Default for Transactions<S> {
    fn default() -> Self {
        Self { last: None }
    }
}

impl<S: PartialEq> Transactions<S> {
    /// Whether a message with this TID, from and to `path`, begins a transaction. A repetition does not, and
    /// does not make the transaction last longer.
    pub fn is_new(&mut self, now: Instant, path: S, tid: u8) -> bool {
        let is_repeated = (self.last.as_ref())
            .is_some_and(|(last, last_tid, at)| *last == path && *last_tid == tid && now - *at < TRANSACTION);
        if !is_repeated {
            self.last = Some((path, tid, now));
        }
        !is_repeated
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_time_is_never_said_shorter_than_it_is_and_at_most_a_step_longer(ms in 0_u64..=37_200_000) {
            let duration = Duration::from_millis(ms);
            let said = TransitionTime::at_least(duration).duration().unwrap();
            prop_assert!(said >= duration);
            let finest = RESOLUTIONS_MS.into_iter().find(|unit| ms <= unit * MAX_STEPS).unwrap();
            prop_assert!(said - duration < Duration::from_millis(finest));
        }

        #[test]
        fn every_known_octet_comes_back_as_the_same_time(octet: u8) {
            let time = TransitionTime::from_octet(octet);
            if let Some(duration) = time.duration() {
                prop_assert_eq!(TransitionTime::at_least(duration).duration(), Some(duration));
            }
        }
    }

    #[test]
    fn what_is_too_long_is_said_as_the_longest() {
        assert_eq!(TransitionTime::at_least(Duration::MAX).duration(), Some(TransitionTime::MAX));
    }

    #[test]
    fn a_transaction_lasts_six_seconds_from_its_first_message() {
        let mut transactions = Transactions::default();
        let at = |ms| Instant::ORIGIN + Duration::from_millis(ms);
        assert!(transactions.is_new(at(0), 'a', 7));
        assert!(!transactions.is_new(at(5_999), 'a', 7));
        assert!(transactions.is_new(at(6_000), 'a', 7));
        assert!(transactions.is_new(at(6_001), 'b', 7));
        assert!(transactions.is_new(at(6_002), 'b', 8));
    }
}
