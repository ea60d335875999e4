//! Heartbeat Publication and Subscription (MshPRT §3.6.7, §4.2.18, §4.2.19).

use core::time::Duration;

use clock::Instant;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::foundation::{Features, HeartbeatPublication, HeartbeatSubscription};
use mesh_wire::heartbeat::{self, Heartbeat};
use mesh_wire::{NetKeyIndex, Ttl};

/// A count that does not end.
const INDEFINITELY: u16 = 0xffff;

/// The heartbeats of a node.
#[derive(Clone, Debug)]
pub struct Heartbeats {
    publication: HeartbeatPublication,
    /// How many are still to be published.
    left: u16,
    next: Option<Instant>,
    subscription: Subscription,
}

#[derive(Clone, Copy, Debug)]
struct Subscription {
    source: Address,
    destination: Address,
    end: Option<Instant>,
    count: u16,
    min_hops: u8,
    max_hops: u8,
}

impl Subscription {
    const NONE: Self = Self {
        source: Address::Unassigned,
        destination: Address::Unassigned,
        end: None,
        count: 0,
        min_hops: 0,
        max_hops: 0,
    };
}

impl Default for Heartbeats {
    fn default() -> Self {
        let (publication, subscription) = (HeartbeatPublication::NONE, Subscription::NONE);
        Self { publication, left: 0, next: None, subscription }
    }
}

impl Heartbeats {
    /// The publication as it was set.
    pub fn publication(&self) -> &HeartbeatPublication {
        &self.publication
    }

    /// The publication as a status tells it: with the count that is left.
    pub fn publication_status(&self) -> HeartbeatPublication {
        HeartbeatPublication { count_log: heartbeat::to_log(self.left), ..self.publication }
    }

    /// Sets the publication; the first Heartbeat is due at once.
    pub fn set_publication(&mut self, now: Instant, publication: HeartbeatPublication) {
        if publication.destination == Address::Unassigned {
            self.publication = HeartbeatPublication::NONE;
            (self.left, self.next) = (0, None);
            return;
        }
        self.publication = publication;
        self.left = match publication.count_log {
            0 => 0,
            0xff => INDEFINITELY,
            // 0x11 would be one more than fits, and is less than indefinitely.
            log => heartbeat::from_log(log).and_then(|count| u16::try_from(count).ok()).unwrap_or(0xfffe),
        };
        let is_periodic = self.left > 0 && publication.period_log > 0;
        self.next = is_periodic.then_some(now);
    }

    /// Ends the publication if it is in this subnet, which the node has left.
    pub fn leave(&mut self, now: Instant, subnet: NetKeyIndex) {
        if self.publication.net_key_index == subnet {
            self.set_publication(now, HeartbeatPublication::NONE);
        }
    }

    /// Whether a Heartbeat is due at `now`; it counts as sent.
    pub fn pop_due(&mut self, now: Instant) -> bool {
        let Some(due) = self.next.filter(|&due| due <= now) else { return false };
        if self.left != INDEFINITELY {
            self.left = self.left.saturating_sub(1);
        }
        let period = heartbeat::from_log(self.publication.period_log).unwrap_or(0);
        let period = Duration::from_secs(period.into());
        // What was slept through is not made up for.
        self.next = (self.left > 0).then(|| if due + period > now { due + period } else { now + period });
        true
    }

    /// When [`Heartbeats::pop_due`] next has one.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Whether the change of these features is to be told at once.
    pub fn is_triggered_by(&self, changed: Features) -> bool {
        self.publication.destination != Address::Unassigned && self.publication.features.0 & changed.0 != 0
    }

    /// Begins to count anew for 2^(n-1) seconds, or ends the subscription.
    pub fn subscribe(&mut self, now: Instant, source: Address, destination: Address, period_log: u8) {
        let seconds = heartbeat::from_log(period_log).unwrap_or(0);
        if source == Address::Unassigned || destination == Address::Unassigned || seconds == 0 {
            // What was counted is told by the answer to this, and no more after that (§4.4.1.2.16).
            let (source, destination, end) = (Address::Unassigned, Address::Unassigned, None);
            self.subscription = Subscription { source, destination, end, ..self.subscription };
            return;
        }
        self.subscription = Subscription {
            source,
            destination,
            end: Some(now + Duration::from_secs(seconds.into())),
            count: 0,
            min_hops: 0x7f,
            max_hops: 0,
        };
    }

    /// The group whose heartbeats are counted at `now`.
    pub fn subscribed(&self, now: Instant) -> Option<Address> {
        self.subscription.end.filter(|&end| now < end).map(|_| self.subscription.destination)
    }

    /// Counts a Heartbeat that arrived, if it is one of those.
    pub fn receive(
        &mut self,
        now: Instant,
        source: UnicastAddress,
        destination: Address,
        ttl: Ttl,
        heartbeat: &Heartbeat,
    ) {
        if self.subscribed(now) != Some(destination) || self.subscription.source != source.into() {
            return;
        }
        let hops = heartbeat.hops(ttl);
        let subscription = &mut self.subscription;
        subscription.count = subscription.count.saturating_add(1);
        subscription.min_hops = subscription.min_hops.min(hops);
        subscription.max_hops = subscription.max_hops.max(hops);
    }

    /// The subscription as it is told to who asks.
    pub fn subscription_status(&self, now: Instant) -> HeartbeatSubscription {
        let is_off = self.subscription.destination == Address::Unassigned;
        if is_off { Subscription::NONE } else { self.subscription }.status(now)
    }

    /// The subscription as it is told to who has just set it: if that ended it, with what was counted.
    pub fn subscription_that_was_set(&self, now: Instant) -> HeartbeatSubscription {
        self.subscription.status(now)
    }
}

impl Subscription {
    fn status(self, now: Instant) -> HeartbeatSubscription {
        let Self { source, destination, end, count, min_hops, max_hops } = self;
        let left = end.map_or(Duration::ZERO, |end| end - now).as_secs();
        HeartbeatSubscription {
            source,
            destination,
            period_log: heartbeat::to_status_log(u32::try_from(left).unwrap_or(u32::MAX)),
            count_log: if count == u16::MAX { 0xff } else { heartbeat::to_status_log(count.into()) },
            min_hops,
            max_hops,
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_wire::KeyIndex;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ORIGIN + Duration::from_secs(seconds)
    }

    fn publication(count_log: u8, period_log: u8) -> HeartbeatPublication {
        HeartbeatPublication {
            destination: Address::from(0xc000),
            count_log,
            period_log,
            ttl: Ttl::MAX,
            features: Features(1),
            net_key_index: KeyIndex::ZERO,
        }
    }

    #[test]
    fn a_publication_counts_down_from_the_first_at_once() {
        let mut heartbeats = Heartbeats::default();
        heartbeats.set_publication(at(0), publication(3, 4));
        assert_eq!(heartbeats.publication_status().count_log, 3);
        for second in [0, 8, 16, 24] {
            assert_eq!(heartbeats.poll_timeout(), Some(at(second)));
            assert!(heartbeats.pop_due(at(second)));
            assert!(!heartbeats.pop_due(at(second)));
        }
        assert_eq!(heartbeats.poll_timeout(), None);
        assert_eq!(heartbeats.publication_status().count_log, 0);
        heartbeats.set_publication(at(0), publication(0xff, 1));
        assert!(heartbeats.pop_due(at(0)) && heartbeats.publication_status().count_log == 0xff);
        heartbeats.set_publication(at(0), publication(0x11, 1));
        assert!(heartbeats.pop_due(at(0)) && heartbeats.left == 0xfffd);
        // Without a period nothing is periodic, but changes are told.
        heartbeats.set_publication(at(0), publication(3, 0));
        assert_eq!(heartbeats.poll_timeout(), None);
        assert!(heartbeats.is_triggered_by(Features::RELAY) && !heartbeats.is_triggered_by(Features::FRIEND));
        heartbeats.leave(at(0), KeyIndex::ZERO);
        assert_eq!(*heartbeats.publication(), HeartbeatPublication::NONE);
    }

    #[test]
    fn a_subscription_counts_hops_until_its_period_is_over() {
        let mut heartbeats = Heartbeats::default();
        let (source, group) = (UnicastAddress::new(5).unwrap(), Address::from(0xc000));
        heartbeats.subscribe(at(0), source.into(), group, 5);
        let beat = Heartbeat { init_ttl: Ttl::MAX, features: Features(0) };
        let status = heartbeats.subscription_status(at(0));
        assert_eq!((status.count_log, status.min_hops, status.max_hops), (0, 0x7f, 0));
        for (from, to, ttl) in [(5, group, 0x7f), (5, group, 0x7d), (6, group, 1), (5, 0xc001.into(), 1)] {
            let from = UnicastAddress::new(from).unwrap();
            heartbeats.receive(at(1), from, to, Ttl::new(ttl).unwrap(), &beat);
        }
        heartbeats.receive(at(16), source, group, Ttl::ZERO, &beat);
        let status = heartbeats.subscription_status(at(8));
        assert_eq!((status.period_log, status.count_log), (4, 2));
        assert_eq!((status.min_hops, status.max_hops), (1, 3));
        assert_eq!(heartbeats.subscription_status(at(99)).period_log, 0);
        // Hops never come to more than 127.
        heartbeats.subscribe(at(0), source.into(), group, 5);
        heartbeats.receive(at(0), source, group, Ttl::ZERO, &beat);
        assert_eq!(heartbeats.subscription_status(at(0)).max_hops, 0x7f);
        // Any of three ways ends it. The answer tells once more what was counted, of nobody.
        for (source, destination, period_log) in [
            (Address::Unassigned, group, 5),
            (source.into(), Address::Unassigned, 5),
            (source.into(), group, 0),
        ] {
            let mut heartbeats = heartbeats.clone();
            heartbeats.subscribe(at(0), source, destination, period_log);
            assert_eq!(heartbeats.subscribed(at(0)), None);
            let mut status = heartbeats.subscription_that_was_set(at(0));
            assert_eq!((status.count_log, status.min_hops, status.max_hops), (1, 0x7f, 0x7f));
            (status.count_log, status.min_hops, status.max_hops) = (0, 0, 0);
            assert_eq!(heartbeats.subscription_status(at(0)), status);
            assert_eq!((status.source, status.destination), (Address::Unassigned, Address::Unassigned));
            assert_eq!(status.period_log, 0);
        }
    }
}
