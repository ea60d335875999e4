//! Going on with what an earlier run left ([`Recovery`]).

use std::sync::Arc;

use clock::Instant;
use journal::log::{Log, Position};
use mqtt_wire::{QoS, Text, TopicFilter, TopicName};

use super::deliver::Shapes;
use super::{Shard, Subscriber};
use crate::client::{Client, ClientWill};
use crate::durable::Stored;
use crate::durable::record::{How, MessageId, Record, Ref};
use crate::durable::recovery::{At, InGroup, Kept, KeptMessage, Recovery, Unrouted};
use crate::durable::sessions::{Entry, Session};
use crate::message::Message;
use crate::queue::{Away, Queue, Queued};
use crate::retained::STRIPES;
use crate::routes::{ShardId, ShardSet};
use crate::{Shared, partition_of, shard_of_partition};

/// In the place of a shard: all of them are done with a message.
pub(crate) const ALL_SHARDS: u8 = 254;

/// For whom a message is that was on its way: clients of these shards, of so many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Only {
    shards: ShardSet,
    of: usize,
}

impl Only {
    /// Whether somebody with this identifier is among them.
    pub(super) fn includes(self, identifier: &str) -> bool {
        self.shards.contains(shard_of_partition(partition_of(identifier.as_bytes()), self.of))
    }
}

/// Reads records.
type Read<'a> = dyn Fn(&[Position]) -> Vec<Option<Vec<u8>>> + Sync + 'a;

/// A part of the work that needs no other.
pub type Job<'a> = Box<dyn FnOnce() + Send + 'a>;

impl Recovery {
    /// Has new shards go on with it, before anything else happens to them. `read` gives the records at positions of the
    /// log; `run` does all the jobs that it is given, in any order or side by side. Messages that were on their way go
    /// on, and those of shared subscriptions that nobody has.
    pub fn restore(
        mut self,
        now: Instant,
        log: &Log,
        shards: &mut [Shard],
        read: &Read<'_>,
        run: impl FnOnce(Vec<Job<'_>>),
    ) {
        self.finish();
        let Some(first) = shards.first() else { return };
        let shared = Arc::clone(&first.shared);
        shards.iter_mut().for_each(|shard| shard.store.is_damaged = self.is_damaged);
        // Ordered maps are filled faster in their order.
        let sessions = std::mem::take(&mut self.sessions).of_shards(shards.len());
        let mut restored: Vec<_> = shards.iter().map(|_| Restored::default()).collect();
        let mut waiting: Vec<_> = shards.iter().map(|_| Vec::new()).collect();
        let mut jobs: Vec<Job<'_>> = Vec::new();
        let (of, all) = (restored.len(), std::mem::take(&mut self.retained));
        let mut retained = all.into_iter().collect::<Vec<_>>();
        for restored in &mut restored {
            let some = retained.split_off(retained.len().saturating_sub(STRIPES.div_ceil(of)));
            let shared = &shared;
            jobs.push(Box::new(move || {
                some.into_iter().for_each(|stripe| restored.restore_retained(shared, log, stripe));
            }));
        }
        for ((shard, sessions), waiting) in shards.iter_mut().zip(sessions).zip(&mut waiting) {
            jobs.push(Box::new(move || *waiting = shard.restore_sessions(now, log, sessions)));
        }
        run(jobs);
        shared.routes.repack();
        shards[0].take_restored(now, &restored);
        exchange(now, shards);
        let nobodys = std::mem::take(&mut self.groups).into_iter().filter(|(_, it)| it.holder.is_none());
        let mut waiting: Vec<_> = waiting.into_iter().flatten().collect();
        waiting.extend(nobodys.map(|((id, group), InGroup { at, .. })| (id, group, at)));
        waiting.sort_unstable_by_key(|(id, ..)| *id);
        for (id, group, at) in waiting {
            shards[shared.shard_of_group(&group)].restore_waiting(log, id, group, at);
        }
        for unrouted in self.unrouted() {
            go_on(now, log, shards, &unrouted, read);
        }
        exchange(now, shards);
    }
}

/// What became of retained messages that were not retained again.
#[derive(Default)]
struct Restored {
    damaged: u64,
    without_room: u64,
}

impl Restored {
    fn restore_retained(
        &mut self,
        shared: &Shared,
        log: &Log,
        retained: impl IntoIterator<Item = (TopicName, Kept)>,
    ) {
        let memory = shared.memory.counter(0);
        let mut retained: Vec<_> = retained.into_iter().collect();
        retained.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        for (topic, Kept { version, message }) in retained {
            shared.order.lock(&topic).raise(version);
            let Some(KeptMessage { id, at, record }) = message else { continue };
            let Ok(Record::Message(record)) = Record::decode_shared(record) else {
                self.damaged += 1;
                continue;
            };
            let stored = log.hold(at.position, at.bytes as usize).map(|hold| Stored { id, hold });
            let message = Arc::new(shared.message_of_record(*record, &memory));
            let is_kept = shared.retained.set(&message, version, stored).is_ok();
            self.without_room += u64::from(!is_kept);
        }
    }
}

/// Has shards tell each other what they have to, until there is nothing left.
fn exchange(now: Instant, shards: &mut [Shard]) {
    loop {
        let mut batches = Vec::new();
        for shard in &mut *shards {
            shard.drain_lanes(now);
            batches.extend(std::iter::from_fn(|| shard.poll_peer()));
        }
        if batches.is_empty() {
            return;
        }
        for (to, batch) in batches {
            shards[to].handle_peer(now, batch);
        }
    }
}

/// Routes a message that was on its way when the run ended. Who gets it is written down at once for all: it is routed
/// wholly, or again after the next start.
fn go_on(now: Instant, log: &Log, shards: &mut [Shard], unrouted: &Unrouted, read: &Read<'_>) {
    let id = unrouted.id;
    let Some((message, stored)) = shards[0].fetch(log, id, unrouted.at, read) else {
        // It is counted, and over: nobody claims it, and its segment may go.
        shards[0].record(&routed(id, Vec::new(), Vec::new()));
        if unrouted.is_to_be_retained {
            shards[0].record(&Record::Retained { id, version: 0 });
        }
        return;
    };
    if unrouted.is_to_be_retained {
        shards[0].retain_late(&message, &stored);
    }
    let only = Only { shards: ShardSet::from_bits(unrouted.shards), of: unrouted.of_shards.into() };
    let (mut refs, mut owed, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for shard in &mut *shards {
        let (deliveries, groups) = shard.receivers(&message, Some(&stored), Some(only));
        let durable = deliveries.iter().filter(|(_, delivery)| delivery.stored.is_some());
        refs.extend(durable.map(|(client, delivery)| delivery.to_ref(client)));
        owed.extend(groups.iter().cloned());
        all.push((deliveries, groups));
    }
    shards[0].record(&routed(id, refs, owed));
    for (shard, (deliveries, groups)) in shards.iter_mut().zip(all) {
        for (client, delivery) in deliveries {
            shard.deliver_to(now, &client, delivery, &mut Shapes::default());
        }
        for group in groups {
            shard.dispatch(now, &group, &message, Some(stored.clone()));
        }
    }
}

/// That all shards are done with a message.
fn routed(id: MessageId, refs: Vec<Ref>, groups: Vec<TopicFilter>) -> Record {
    Record::Refs { id, shard: Some(ALL_SHARDS), refs, groups, is_moved: false }
}

/// A message for a client, in the log.
fn away(client_id: &Text, log: &Log, entry: &Entry) -> Option<Away> {
    let At { position, bytes } = entry.at();
    let hold = log.hold(position, bytes as usize)?;
    let stored = Stored { id: entry.id, hold }.for_client(client_id);
    Some(Away { stored, how: entry.how(), group: entry.group().cloned(), size: bytes })
}

impl Shard {
    fn take_restored(&mut self, now: Instant, restored: &[Restored]) {
        self.stats.dropped_damaged += restored.iter().map(|one| one.damaged).sum::<u64>();
        self.stats.dropped_retained_full += restored.iter().map(|one| one.without_room).sum::<u64>();
        self.expire_retained(now);
    }

    fn retain_late(&mut self, message: &Arc<Message>, stored: &Stored) {
        let shared = Arc::clone(&self.shared);
        let mut order = shared.order.lock(&message.topic);
        let version = order.next_version();
        self.record_retained(message, stored.id, version);
        self.retain(message, version, Some(stored.clone()));
    }

    /// A message and its claim.
    fn fetch(&mut self, log: &Log, id: MessageId, at: At, read: &Read<'_>) -> Option<(Arc<Message>, Stored)> {
        let hold = log.hold(at.position, at.bytes as usize)?;
        let record = read(&[at.position]).pop().flatten();
        let message = record.and_then(|record| self.message_of(&record));
        if message.is_none() {
            self.stats.dropped_damaged += 1;
        }
        Some((message?, Stored { id, hold }))
    }

    /// Returns what waits for shared subscriptions: whoever had it may not be the first to come back.
    fn restore_sessions(
        &mut self,
        now: Instant,
        log: &Log,
        mut sessions: Vec<(Text, Session)>,
    ) -> Vec<(MessageId, TopicFilter, At)> {
        let mut waiting = Vec::new();
        for (_, session) in &mut sessions {
            session.queue.retain(|entry| match entry.group() {
                None => true,
                Some(group) => {
                    waiting.push((entry.id, group.clone(), entry.at()));
                    false
                }
            });
        }
        if let Some(overflow) = &self.store.overflow {
            let places = sessions.iter().flat_map(|(client_id, session)| {
                session.queue.iter().filter_map(|entry| entry.place(client_id))
            });
            overflow.claim(log.claim(places.map(|place| (place.position, place.claim))));
        }
        for (client_id, session) in sessions {
            self.restore_session(now, log, &client_id, session);
        }
        // What was filled in order is half empty.
        self.clients = std::mem::take(&mut self.clients).into_iter().collect();
        self.due = std::mem::take(&mut self.due).into_iter().collect();
        self.subscriptions.repack();
        waiting
    }

    fn restore_waiting(&mut self, log: &Log, id: MessageId, name: TopicFilter, at: At) {
        let hold = log.hold(at.position, at.bytes as usize);
        let (Some(group), Some(hold)) = (self.groups.get_mut(&name), hold) else {
            self.stats.dropped_no_member += 1;
            self.record_done(&Record::GroupDone { id, group: name });
            return;
        };
        let (stored, how, size) = (Stored { id, hold }, How::for_group(), at.bytes);
        let away = Away { stored, how, group: None, size };
        group.waiting.restore(Queued::Stored(Box::new(away)), self.store.overflow.as_ref());
    }

    fn restore_session(&mut self, now: Instant, log: &Log, client_id: &Text, session: Session) {
        let Session { record, whole_at, subscriptions, receipts, outbound, queue } = session;
        let Some(record) = record else { return };
        let was_connected = record.left_ms == 0;
        let left_ms = if was_connected { self.to_unix_ms(now) } else { record.left_ms };
        let after = |shard: &Self, delay: std::time::Duration| {
            let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            shard.at_unix_ms(left_ms.saturating_add(delay))
        };
        let mut client = Box::<Client>::default();
        client.set_expiry(record.expiry);
        client.is_durable = !record.expiry.is_zero();
        client.will = record.will.map(ClientWill::new);
        let (end, will) = (after(self, client.expiry()), after(self, client.will_delay()));
        client.ends_at = Some(end);
        client.will.iter_mut().for_each(|it| it.at = Some(will));
        client.record = whole_at.and_then(|at| log.hold(at.position, at.bytes as usize));
        let is_doubtful = self.store.is_damaged;
        receipts.into_iter().for_each(|id| client.inbound.restore(id, is_doubtful));
        for (packet_id, entry) in outbound {
            match entry {
                None => client.outbound.restore(packet_id, None),
                Some(entry) => {
                    let sent = away(client_id, log, &entry).map(|away| Queued::Stored(Box::new(away)));
                    if sent.is_none() {
                        // The client may have it, and use its identifier until it gets PUBREL.
                        self.record(&Record::Received { client: client_id.clone(), packet_id });
                    }
                    client.outbound.restore(packet_id, sent.map(|sent| (sent, QoS::ExactlyOnce)));
                }
            }
        }
        client.queue = self.restore_queue(client_id, log, queue);
        let shared = subscriptions.keys().filter(|filter| filter.share().is_some()).count();
        client.shared = u32::try_from(shared).unwrap_or(u32::MAX);
        client.subscriptions = subscriptions;
        let (is_durable, has_record) = (client.is_durable, client.record.is_some());
        self.clients.insert(client_id.clone(), client);
        self.set_session_timer(client_id);
        self.restore_subscriptions(client_id, is_durable);
        if was_connected || !has_record {
            self.record_session(now, client_id, !has_record);
        }
        if let Some(client) = self.clients.get_mut(client_id) {
            client.put_away(self.store.overflow.as_ref());
        }
        self.report_member(client_id);
    }

    fn restore_queue(&self, client_id: &Text, log: &Log, entries: impl IntoIterator<Item = Entry>) -> Queue {
        let (mut queue, overflow) = (Queue::default(), self.store.overflow.clone());
        for entry in entries {
            if let (Some(overflow), Some(place)) = (&overflow, entry.place(client_id)) {
                queue.restore_claimed(&place, overflow);
            } else if let Some(away) = away(client_id, log, &entry) {
                queue.restore(Queued::Stored(Box::new(away)), overflow.as_ref());
            }
        }
        queue
    }

    fn restore_subscriptions(&mut self, client_id: &Text, is_durable: bool) {
        let Some(client) = self.clients.get(client_id) else { return };
        let subscriptions: Vec<_> =
            client.subscriptions.iter().map(|(filter, x)| (filter.detached(), *x)).collect();
        for (filter, subscription) in subscriptions {
            if filter.share().is_some() {
                self.join(filter, client_id.clone(), 0);
                continue;
            }
            if is_durable && subscription.options.qos > QoS::AtMostOnce {
                self.count_durable(&filter, true);
            }
            let subscriber = Subscriber::Client(client_id.clone());
            if self.subscriptions.insert(&filter, subscriber, subscription).is_first {
                self.shared.routes.insert(&filter, self.id);
            }
        }
    }

    /// The number of this shard.
    pub fn id(&self) -> ShardId {
        self.id
    }
}
