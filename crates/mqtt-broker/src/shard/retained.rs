//! Retained messages (§3.3.1.3): kept when they are published, sent in slices to those who subscribe.

use std::sync::Arc;
use std::time::Duration;

use clock::Instant;
use mqtt_wire::{Text, TopicFilter};

use super::deliver::Shapes;
use super::{Shard, Timer};
use crate::client::{Delivery, Subscription};
use crate::durable::Stored;
use crate::message::Message;
use crate::retained::Scan;

/// Levels of topics that are looked at before others get their turn.
const SLICE: usize = 512;

/// How long a look-up waits for a client that has not taken what it has got so far.
const PAUSE: Duration = Duration::from_millis(20);

/// The look-up of a new subscription's retained messages.
#[derive(Debug)]
pub(super) struct PendingScan {
    client: Text,
    subscription: Subscription,
    scan: Scan,
}

impl Shard {
    /// Retains a message, or removes what was retained.
    pub(super) fn retain(&mut self, message: &Arc<Message>, version: u64, stored: Option<Stored>) {
        if self.shared.retained.set(message, version, stored).is_err() {
            self.stats.dropped_retained_full += 1;
        } else if let Some(expires) = message.expires {
            let is_earlier = self.timers.get(&Timer::RetainedExpiry).is_none_or(|at| expires < at);
            if is_earlier {
                self.timers.set(Timer::RetainedExpiry, expires);
            }
        }
    }

    pub(super) fn expire_retained(&mut self, now: Instant) {
        if let Some(next) = self.shared.retained.expire(now) {
            self.timers.set(Timer::RetainedExpiry, next);
        }
    }

    /// Sends retained messages to a client that has just subscribed: one slice at once, so that a few messages
    /// follow SUBACK directly, the others when the shard has nothing else to do.
    pub(super) fn start_scans(
        &mut self,
        now: Instant,
        client: &Text,
        subscriptions: Vec<(TopicFilter, Subscription)>,
    ) {
        let mut budget = SLICE;
        for (filter, subscription) in subscriptions {
            let mut pending = PendingScan { client: client.clone(), subscription, scan: Scan::new(filter) };
            if budget > 0 {
                budget = budget.saturating_sub(self.scan_slice(now, &mut pending, budget).max(1));
            }
            if !pending.scan.is_done() {
                self.scans.push_back(pending);
            }
        }
        self.schedule_scans(now);
    }

    /// The next slice of the look-up whose turn it is.
    pub(super) fn continue_scans(&mut self, now: Instant) {
        let Some(mut pending) = self.scans.pop_front() else { return };
        let Some(client) = self.clients.get(&pending.client) else { return self.schedule_scans(now) };
        // Those who unsubscribed in the meantime get no more.
        if client.subscriptions.get(pending.scan.filter()) != Some(&pending.subscription) {
            return self.schedule_scans(now);
        }
        if !self.has_taken_enough(&pending.client) {
            self.scans.push_back(pending);
            return self.schedule_scans(now + PAUSE);
        }
        self.scan_slice(now, &mut pending, SLICE);
        if !pending.scan.is_done() {
            self.scans.push_back(pending);
        }
        self.schedule_scans(now);
    }

    fn schedule_scans(&mut self, at: Instant) {
        if !self.scans.is_empty() {
            self.timers.set(Timer::Retained, at);
        }
    }

    /// Whether a client is there and has room for a slice.
    fn has_taken_enough(&self, client: &Text) -> bool {
        let limits = &self.shared.limits;
        let Some(client) = self.clients.get(client) else { return false };
        let Some(connection) = client.connection.and_then(|id| self.connection(id)) else { return false };
        client.queue.len() <= limits.max_mqueue_len / 4
            && client.queue.bytes() <= limits.max_mqueue_bytes / 4
            && connection.waiting_bytes <= limits.max_out_buffer / 4
    }

    /// Sends one slice, and says how much of the budget it took.
    fn scan_slice(&mut self, now: Instant, pending: &mut PendingScan, budget: usize) -> usize {
        let shared = Arc::clone(&self.shared);
        let found = shared.retained.scan_stored(now, &mut pending.scan, budget);
        let taken = if pending.scan.is_done() { found.len() } else { budget };
        let Subscription { options, identifier } = pending.subscription;
        for (message, stored) in found {
            let qos = message.qos.min(options.qos);
            let identifiers = identifier.into_iter().collect();
            // RETAIN is always set here (§3.3.1.3).
            let mut delivery =
                Delivery { message, qos, retain: true, identifiers, group: None, stored: None };
            delivery.stored = self.record_copy(&pending.client, &delivery, stored);
            self.deliver_to(now, &pending.client, delivery, &mut Shapes::default());
        }
        taken
    }
}
