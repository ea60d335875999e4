//! Sessions without a connection: delayed wills and expiry (§3.1.2.11.2, §3.1.3.2.2, §4.1).

use clock::Instant;
use mqtt_wire::{QoS, Text};

use super::Shard;
use crate::durable::record::Record;
use crate::message::Message;
use crate::queue::Queued;

impl Shard {
    /// The connection of a session is gone: its will is published, now or later, and the session ends, now or
    /// later. What waits for it of shared subscriptions goes to other members.
    pub(super) fn leave_session(&mut self, now: Instant, client_id: &Text) {
        let Some(client) = self.clients.get_mut(client_id) else { return };
        client.connection = None;
        let (delay, expiry) = (client.will_delay(), client.expiry());
        client.will.iter_mut().for_each(|will| will.at = Some(now + delay));
        if delay.is_zero() {
            self.publish_will(now, client_id);
        }
        if expiry.is_zero() {
            return self.end_session(now, client_id);
        }
        self.report_member(client_id);
        let waiting = self.clients.get_mut(client_id).map(|client| client.queue.take_shared());
        self.give_back(client_id, waiting.unwrap_or_default());
        let Some(client) = self.clients.get_mut(client_id) else { return };
        client.put_away(self.store.overflow.as_ref());
        client.ends_at = Some(now + client.expiry());
        // After a will, `check_session` sets the timer again, for the session's own end.
        self.set_session_timer(client_id);
        self.leave_record(now, client_id);
    }

    pub(super) fn check_session(&mut self, now: Instant, client_id: &Text) {
        let Some(client) = self.clients.get(client_id).filter(|client| client.connection.is_none()) else {
            return;
        };
        let ends_at = client.ends_at.unwrap_or(now);
        if client.will_at().is_some_and(|at| at <= now) {
            self.publish_will(now, client_id);
            self.leave_record(now, client_id);
        }
        if ends_at <= now {
            self.stats.sessions_expired += 1;
            self.end_session(now, client_id);
        } else {
            self.set_session_timer(client_id);
        }
    }

    /// Does what is due for sessions without a connection.
    pub(super) fn check_due_sessions(&mut self, now: Instant) {
        while self.due.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, client_id)) = self.due.pop_first()
        {
            self.check_session(now, &client_id);
        }
    }

    /// Has [`Shard::check_session`] be called when something is due for it.
    pub(super) fn set_session_timer(&mut self, client_id: &Text) {
        let at = self.clients.get(client_id).and_then(|client| client.due());
        self.due.extend(at.map(|at| (at, client_id.clone())));
    }

    /// Ends that; comes before what is due changes.
    pub(super) fn cancel_session_timer(&mut self, client_id: &Text) {
        let at = self.clients.get(client_id).and_then(|client| client.due());
        at.map(|at| self.due.remove(&(at, client_id.clone())));
    }

    /// Writes down that the connection of a session is gone, or its will published.
    fn leave_record(&mut self, now: Instant, client_id: &Text) {
        let Some(client) = self.clients.get_mut(client_id).filter(|client| client.record.is_some()) else {
            return;
        };
        let has_expiry = !client.expiry().is_zero();
        let was_durable = std::mem::replace(&mut client.is_durable, has_expiry);
        if was_durable != client.is_durable {
            let is_durable = client.is_durable;
            self.change_durability(client_id, is_durable);
        }
        self.record_session(now, client_id, false);
    }

    fn publish_will(&mut self, now: Instant, client_id: &Text) {
        let Some(client) = self.clients.get_mut(client_id) else { return };
        let will = client.will.take().map(|will| will.will);
        if let Some(will) = will.filter(|will| !will.topic.as_str().starts_with("$SYS/")) {
            self.publish(now, Message::of_will(now, client_id.clone(), will), None);
        }
    }

    /// Ends a session: its will, if it waits, is published, and its subscriptions are gone (§3.1.3.2.2). Messages
    /// of shared subscriptions that it has not taken go to other members, but for those of QoS 2 that were sent
    /// ([MQTT-4.8.2-5]).
    pub(super) fn end_session(&mut self, now: Instant, client_id: &Text) {
        self.cancel_session_timer(client_id);
        self.publish_will(now, client_id);
        let Some(mut client) = self.clients.remove(client_id) else { return };
        if client.record.is_some() {
            self.record(&Record::Ended { client: client_id.clone() });
        }
        for (filter, subscription) in client.subscriptions.iter() {
            if client.is_durable {
                self.forget_durable(filter, *subscription);
            }
            self.forget_subscription(filter, client_id);
        }
        let waiting = client.queue.take_shared();
        if client.shared > 0 {
            self.stats.dropped_unreachable += client.take_up() as u64;
        }
        let (sent, over): (Vec<_>, Vec<_>) =
            client.outbound.into_messages().partition(|sent| sent.qos() == QoS::AtLeastOnce);
        for queued in over {
            if let Some(group) = queued.group() {
                self.finish_group(queued.stored(), group);
            }
        }
        let unfinished: Vec<Queued> = sent.into_iter().chain(waiting).collect();
        self.give_back(client_id, unfinished);
        self.drain_lanes(now);
    }
}
