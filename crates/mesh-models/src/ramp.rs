//! A number that takes its time to become another (MMDL §3.1.3).

use core::time::Duration;

use clock::Instant;

use crate::transition::{Transition, TransitionTime};

/// A number that may be on its way to another: it stays what it is during the delay, and then changes evenly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ramp {
    from: i32,
    to: i32,
    begins: Instant,
    ends: Instant,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Still,
    Delayed,
    Moving,
}

impl Ramp {
    /// A number that stays what it is.
    pub(crate) const fn new(value: i32) -> Self {
        Self { from: value, to: value, begins: Instant::ORIGIN, ends: Instant::ORIGIN, stage: Stage::Still }
    }

    /// What it is at `now`.
    pub(crate) fn value(&self, now: Instant) -> i32 {
        if self.stage == Stage::Still || now >= self.ends {
            return self.to;
        }
        let (gone, whole) = ((now - self.begins).as_micros(), (self.ends - self.begins).as_micros());
        let way = i128::from(self.to) - i128::from(self.from);
        let made = way * i128::try_from(gone).unwrap_or(0) / i128::try_from(whole.max(1)).unwrap_or(1);
        // It lies between two numbers of 32 bits.
        self.from + i32::try_from(made).unwrap_or(0)
    }

    /// What it will be when nothing changes any more.
    pub(crate) const fn target(&self) -> i32 {
        self.to
    }

    /// Whether it is on its way, its delay over.
    pub(crate) fn is_moving(&self, now: Instant) -> bool {
        self.stage != Stage::Still && now >= self.begins && now < self.ends
    }

    /// How long it takes yet; `None` when it stays what it is.
    pub(crate) fn remaining(&self, now: Instant) -> Option<TransitionTime> {
        (self.stage != Stage::Still && now < self.ends).then(|| TransitionTime::at_least(self.ends - now))
    }

    /// Sends it to `target`, which begins after the delay and takes the time of `transition`.
    pub(crate) fn go(&mut self, now: Instant, target: i32, transition: Transition) {
        let begins = now + transition.delay_duration();
        self.go_until(now, target, begins, now + transition.total());
    }

    /// Sends it off at so much per transition time, as far as `limit` (MMDL §3.3.2.2.4).
    pub(crate) fn go_at(&mut self, now: Instant, per_time: i32, limit: i32, transition: Transition) {
        let time = transition.time.duration().unwrap_or_default();
        let from = self.value(now);
        let way = (i64::from(limit) - i64::from(from)).unsigned_abs();
        let speed = u64::from(per_time.unsigned_abs());
        let is_beyond = (limit < from) != (per_time < 0);
        if speed == 0 || time.is_zero() || is_beyond {
            return self.jump(from);
        }
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).saturating_mul(way) / speed;
        let begins = now + transition.delay_duration();
        self.go_until(now, limit, begins, begins + Duration::from_micros(micros));
    }

    /// Makes it `value`, at once.
    pub(crate) const fn jump(&mut self, value: i32) {
        *self = Self::new(value);
    }

    /// When [`Ramp::advance`] is next due.
    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Still => None,
            Stage::Delayed => Some(self.begins),
            Stage::Moving => Some(self.ends),
        }
    }

    /// Takes the steps that are due; tells whether it began to move or came to its end.
    pub(crate) fn advance(&mut self, now: Instant) -> bool {
        let before = self.stage;
        if self.stage == Stage::Delayed && now >= self.begins {
            self.stage = Stage::Moving;
        }
        if self.stage == Stage::Moving && now >= self.ends {
            self.jump(self.to);
        }
        self.stage != before
    }

    fn go_until(&mut self, now: Instant, target: i32, begins: Instant, ends: Instant) {
        let from = self.value(now);
        if ends <= now || (from == target && begins <= now) {
            return self.jump(target);
        }
        let stage = if begins > now { Stage::Delayed } else { Stage::Moving };
        *self = Self { from, to: target, begins, ends, stage };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ORIGIN + Duration::from_millis(ms)
    }

    fn over(ms: u64, delay: u8) -> Transition {
        Transition { time: TransitionTime::at_least(Duration::from_millis(ms)), delay }
    }

    #[test]
    fn it_waits_changes_evenly_and_stays() {
        let mut ramp = Ramp::new(100);
        ramp.go(at(0), 300, over(1_000, 20));
        assert_eq!(ramp.poll_timeout(), Some(at(100)));
        assert_eq!(
            [0, 99, 100, 600, 1_100, 9_000].map(|ms| ramp.value(at(ms))),
            [100, 100, 100, 200, 300, 300]
        );
        assert!(ramp.advance(at(100)) && !ramp.advance(at(500)) && ramp.is_moving(at(500)));
        assert_eq!(ramp.remaining(at(100)).unwrap().duration(), Some(Duration::from_secs(1)));
        assert!(ramp.advance(at(1_100)));
        assert_eq!((ramp.poll_timeout(), ramp.remaining(at(1_100))), (None, None));
    }

    #[test]
    fn it_can_turn_round_on_its_way_and_come_down() {
        let mut ramp = Ramp::new(0);
        ramp.go(at(0), 1_000, over(1_000, 0));
        ramp.go(at(500), 0, over(1_000, 0));
        assert_eq!([500, 1_000, 1_500].map(|ms| ramp.value(at(ms))), [500, 250, 0]);
    }

    #[test]
    fn a_move_goes_on_to_its_limit_at_its_speed() {
        let mut ramp = Ramp::new(0);
        ramp.go_at(at(0), -100, -32_768, over(1_000, 0));
        assert_eq!(ramp.value(at(1_000)), -100);
        assert_eq!(ramp.value(at(10_000)), -1_000);
        assert_eq!(ramp.value(at(400_000)), -32_768);
        ramp.go_at(at(10_000), 0, 32_767, over(1_000, 0));
        assert_eq!((ramp.value(at(20_000)), ramp.poll_timeout()), (-1_000, None));
    }
}
