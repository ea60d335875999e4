//! When Secure Network beacons are sent (MshPRT §3.10.3, §3.11.1): the more of a subnet's beacons are heard, the
//! fewer a node adds.

use alloc::collections::BTreeMap;
use core::time::Duration;

use clock::Instant;
use mesh_wire::NetKeyIndex;

/// The shortest time between two beacons of a subnet, and the time in which one is expected from all its nodes.
pub const MIN_INTERVAL: Duration = Duration::from_secs(10);

/// The longest time between two beacons of a node.
pub const MAX_INTERVAL: Duration = Duration::from_secs(600);

/// The beacons of a node, subnet by subnet.
#[derive(Clone, Debug, Default)]
pub struct Beacons {
    /// The Secure Network Beacon state.
    is_enabled: bool,
    subnets: BTreeMap<NetKeyIndex, Schedule>,
}

#[derive(Clone, Copy, Debug)]
struct Schedule {
    next: Instant,
    /// When the observation period began: two intervals before the next beacon.
    observed_since: Instant,
    last: Instant,
    /// Beacons heard before and after the last one that was sent.
    observed: [u32; 2],
}

impl Beacons {
    /// Whether beacons are sent.
    pub fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// Has beacons sent, or not; those of the subnets begin with [`Beacons::join`].
    pub fn set_enabled(&mut self, is_enabled: bool) {
        self.is_enabled = is_enabled;
        if !is_enabled {
            self.subnets.clear();
        }
    }

    /// Begins with the beacons of a subnet, after `delay`, unless they go on already.
    pub fn join(&mut self, now: Instant, subnet: NetKeyIndex, delay: Duration) {
        if self.is_enabled {
            self.subnets.entry(subnet).or_insert(Schedule {
                next: now + delay,
                observed_since: now,
                last: now,
                observed: [0; 2],
            });
        }
    }

    /// Ends the beacons of subnets that the node has left.
    pub fn retain(&mut self, is_joined: impl Fn(NetKeyIndex) -> bool) {
        self.subnets.retain(|&subnet, _| is_joined(subnet));
    }

    /// Sends a beacon of each subnet after `delay`: something has changed that others wait to hear.
    pub fn hurry(&mut self, now: Instant, delay: Duration) {
        for schedule in self.subnets.values_mut() {
            schedule.next = schedule.next.min(now + delay);
        }
    }

    /// Counts a beacon of a subnet that was heard.
    pub fn observe(&mut self, subnet: NetKeyIndex) {
        if let Some(schedule) = self.subnets.get_mut(&subnet) {
            schedule.observed[1] = schedule.observed[1].saturating_add(1);
        }
    }

    /// A subnet whose beacon is due at `now`, if there is one; the time of its next one follows from what was heard:
    /// observation period × (observed beacons + 1) / (observation period / 10 s).
    pub fn pop_due(&mut self, now: Instant) -> Option<NetKeyIndex> {
        let (&subnet, schedule) = self.subnets.iter_mut().find(|(_, schedule)| schedule.next <= now)?;
        let observed = schedule.observed[0].saturating_add(schedule.observed[1]);
        // The first period is as long as a beacon had to be waited for; shorter ones say too little.
        let interval = if now - schedule.observed_since < MIN_INTERVAL {
            MIN_INTERVAL
        } else {
            MIN_INTERVAL.saturating_mul(observed.saturating_add(1)).min(MAX_INTERVAL)
        };
        *schedule = Schedule {
            next: now + interval,
            observed_since: schedule.last,
            last: now,
            observed: [schedule.observed[1], 0],
        };
        Some(subnet)
    }

    /// When [`Beacons::pop_due`] next has one.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.subnets.values().map(|schedule| schedule.next).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBNET: NetKeyIndex = NetKeyIndex::ZERO;

    /// The intervals of a node that hears so many beacons in each of its intervals.
    fn intervals(heard: u32) -> [u64; 4] {
        let mut beacons = Beacons::default();
        beacons.set_enabled(true);
        beacons.join(Instant::ORIGIN, SUBNET, Duration::from_secs(1));
        core::array::from_fn(|_| {
            let now = beacons.poll_timeout().expect("a beacon is due");
            assert_eq!(beacons.pop_due(now), Some(SUBNET));
            assert_eq!(beacons.pop_due(now), None);
            (0..heard).for_each(|_| beacons.observe(SUBNET));
            (beacons.poll_timeout().expect("another is due") - now).as_secs()
        })
    }

    #[test]
    fn the_interval_is_10_to_600_seconds_by_what_is_heard() {
        assert_eq!(intervals(0), [10; 4]);
        assert_eq!(intervals(1), [10, 20, 30, 30]);
        assert_eq!(intervals(1000), [10, 600, 600, 600]);
    }

    #[test]
    fn nothing_is_sent_when_the_state_is_off_or_the_subnet_is_left() {
        let mut beacons = Beacons::default();
        beacons.join(Instant::ORIGIN, SUBNET, Duration::ZERO);
        assert_eq!(beacons.poll_timeout(), None);
        beacons.set_enabled(true);
        beacons.join(Instant::ORIGIN, SUBNET, Duration::ZERO);
        assert!(beacons.poll_timeout().is_some());
        beacons.retain(|_| false);
        assert_eq!(beacons.poll_timeout(), None);
    }
}
