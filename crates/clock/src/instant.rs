use core::ops::{Add, AddAssign, Sub};
use core::time::Duration;

/// A point in time, in whole microseconds since an origin that the driver chooses.
///
/// The range is 584,000 years; additions saturate, so that "never" can be had by adding
/// [`Duration::MAX`]. Two instants compare only within one driver's time line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// Where the driver's time line starts.
    pub const ORIGIN: Self = Self(0);

    /// The instant `micros` microseconds after the origin.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Rounds a fraction of a microsecond up, so that a timer is never due early.
    fn add(self, duration: Duration) -> Self {
        let micros = duration.as_nanos().div_ceil(1_000);
        Self(self.0.saturating_add(u64::try_from(micros).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// The same as [`Instant::saturating_since`].
    fn sub(self, earlier: Self) -> Duration {
        self.saturating_since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_is_early_and_never_overflows() {
        let one_nano_late = Instant::ORIGIN + Duration::from_nanos(1);
        assert_eq!(one_nano_late.as_micros(), 1);
        assert_eq!(one_nano_late + Duration::MAX, Instant::from_micros(u64::MAX));
        assert_eq!(Instant::ORIGIN - one_nano_late, Duration::ZERO);
    }
}
