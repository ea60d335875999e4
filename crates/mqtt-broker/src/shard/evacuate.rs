//! Copying forward what is still wanted of the front of the log, so that the front can go.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use clock::Instant;
use journal::log::Position;
use mqtt_wire::{QoS, Text, TopicFilter};

use super::store::{Load, Whose};
use super::{Shard, Timer};
use crate::durable::Stored;
use crate::durable::record::{self, MessageId, MessageRecord, Record, Ref};
use crate::message::Message;
use crate::queue::{Queued, READ_AHEAD};

/// Clients that are looked at before others get their turn.
const SLICE: usize = 64;

/// Records that are read at a time.
const BATCH: usize = 128;

/// Requests for records at a time.
const MAX_OUTSTANDING: usize = 16;

/// The least time between two passes.
const PAUSE: Duration = Duration::from_secs(1);

/// A pass over everything that a shard has stored.
#[derive(Debug, Default)]
pub(super) struct Evacuation {
    before: Option<Position>,
    /// The last client that was looked at.
    cursor: Option<Text>,
    /// The last shared subscription, when the clients are through.
    group_cursor: Option<TopicFilter>,
    next: Instant,
    /// Requests for records to copy that have not been answered.
    outstanding: usize,
    /// What was copied in this pass: a message is copied once, whoever has to get it.
    moved: BTreeMap<MessageId, Stored>,
}

impl Evacuation {
    fn is_over(&self) -> bool {
        self.before.is_none() && self.outstanding == 0
    }
}

impl Shard {
    /// Begins a pass if the log asks for one.
    pub(super) fn look_for_evacuation(&mut self, now: Instant) {
        let wanted = self.store.log.as_ref().and_then(|log| log.evacuate_before());
        let evacuation = &mut self.store.evacuation;
        if let Some(before) = wanted.filter(|_| evacuation.is_over() && evacuation.next <= now) {
            *evacuation = Evacuation { before: Some(before), next: now + PAUSE, ..Evacuation::default() };
            self.timers.set(Timer::Evacuation, now);
        }
    }

    pub(super) fn evacuate_some(&mut self, now: Instant) {
        let Some(before) = self.store.evacuation.before else { return };
        let from = self.store.evacuation.cursor.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let clients: Vec<Text> =
            self.clients.range((from, Bound::Unbounded)).take(SLICE).map(|(id, _)| id.clone()).collect();
        for client_id in &clients {
            if self.store.evacuation.outstanding >= MAX_OUTSTANDING
                || self.evacuate_client(now, client_id, before)
            {
                // It goes on with this client when something was read.
                return;
            }
            self.store.evacuation.cursor = Some(client_id.clone());
        }
        if clients.len() == SLICE {
            return self.timers.set(Timer::Evacuation, now);
        }
        let groups = self.groups.waiting_after(self.store.evacuation.group_cursor.as_ref(), SLICE);
        for group in &groups {
            if self.store.evacuation.outstanding >= MAX_OUTSTANDING || self.evacuate_group(group, before) {
                return;
            }
            self.store.evacuation.group_cursor = Some(group.clone());
        }
        if groups.len() == SLICE {
            return self.timers.set(Timer::Evacuation, now);
        }
        self.evacuate_retained(before);
        self.store.evacuation.before = None;
    }

    /// Says whether there is more to do for the client when records that were asked for are read.
    fn evacuate_client(&mut self, now: Instant, client_id: &Text, before: Position) -> bool {
        let Some(client) = self.clients.get_mut(client_id) else { return false };
        let has_old_record = client.record.as_ref().is_some_and(|hold| hold.position() < before);
        if has_old_record || !client.was_sent_from(before) {
            self.stats.dropped_unreachable += client.take_up() as u64;
        }
        if has_old_record {
            self.record_session(now, client_id, true);
        }
        let Some(client) = self.clients.get_mut(client_id) else { return false };
        let has_more = client.queue.unroll_before(before, BATCH);
        self.stats.dropped_unreachable += client.queue.take_unreachable() as u64;
        let all = client.outbound.messages().map(|(_, sent)| sent).chain(client.queue.iter());
        let Old { here, away } = Old::of(all, before);
        self.move_for(client_id, &here);
        if away.is_empty() {
            self.put_away_again(client_id);
        }
        self.load_for_copy(&Whose::Client(client_id.clone()), &away);
        has_more
    }

    /// The same for what waits for a shared subscription.
    fn evacuate_group(&mut self, name: &TopicFilter, before: Position) -> bool {
        let Some(group) = self.groups.get_mut(name) else { return false };
        let has_more = group.waiting.unroll_before(before, BATCH);
        self.stats.dropped_unreachable += group.waiting.take_unreachable() as u64;
        let Old { here, away } = Old::of(group.waiting.iter(), before);
        self.move_for_group(name, &here);
        self.load_for_copy(&Whose::Group(name.clone()), &away);
        has_more
    }

    fn load_for_copy(&mut self, whose: &Whose, away: &[Position]) {
        for positions in away.chunks(BATCH) {
            self.store.evacuation.outstanding += 1;
            self.request_load(Load::for_copy(whose.clone(), positions.to_vec()));
        }
    }

    /// Leaves to the log again what had to be looked at of a client.
    fn put_away_again(&mut self, client_id: &Text) {
        if let Some(client) = self.clients.get_mut(client_id) {
            match client.connection {
                Some(_) => client.queue.put_away(READ_AHEAD, self.store.overflow.as_ref()),
                None => client.put_away(self.store.overflow.as_ref()),
            }
        }
    }

    /// What was read for this: copies it, but for what is of no use any more.
    pub(super) fn copy_loaded(&mut self, whose: &Whose, messages: &BTreeMap<Position, Option<Arc<Message>>>) {
        self.store.evacuation.outstanding -= 1;
        if self.store.evacuation.before.is_some() {
            self.timers.set(Timer::Evacuation, self.now);
        }
        let (mut damaged, mut expired) = (BTreeSet::new(), BTreeSet::new());
        for (&position, message) in messages {
            match message {
                None => _ = damaged.insert(position),
                Some(message) if message.has_expired(self.now) => _ = expired.insert(position),
                Some(_) => {}
            }
        }
        match whose {
            Whose::Client(client) => self.copy_for_client(client, messages, &damaged, &expired),
            Whose::Group(group) => self.copy_for_group(group, messages, &damaged, &expired),
        }
    }

    fn copy_for_client(
        &mut self,
        client_id: &Text,
        messages: &BTreeMap<Position, Option<Arc<Message>>>,
        damaged: &BTreeSet<Position>,
        expired: &BTreeSet<Position>,
    ) {
        let Some(client) = self.clients.get_mut(client_id) else { return };
        let lost_sent = client.outbound.messages().filter(
            |(_, sent)| matches!(sent, Queued::Stored(away) if damaged.contains(&away.stored.position())),
        );
        let lost_sent = lost_sent.map(|(packet_id, _)| packet_id).collect();
        let (damaged, expired) = (client.queue.take_at(damaged), client.queue.take_at(expired));
        let all = client.outbound.messages().map(|(_, sent)| sent).chain(client.queue.iter());
        let read = those_read(all, messages);
        self.stats.dropped_damaged += damaged.len() as u64;
        self.stats.dropped_expired += expired.len() as u64;
        self.finish_all(client_id, &damaged);
        self.finish_all(client_id, &expired);
        self.give_up_sent(client_id, lost_sent);
        self.move_for(client_id, &read);
        self.put_away_again(client_id);
    }

    fn copy_for_group(
        &mut self,
        name: &TopicFilter,
        messages: &BTreeMap<Position, Option<Arc<Message>>>,
        damaged: &BTreeSet<Position>,
        expired: &BTreeSet<Position>,
    ) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let (damaged, expired) = (group.waiting.take_at(damaged), group.waiting.take_at(expired));
        let read = those_read(group.waiting.iter(), messages);
        self.stats.dropped_damaged += damaged.len() as u64;
        self.stats.dropped_expired += expired.len() as u64;
        for queued in damaged.iter().chain(&expired) {
            self.finish_group(queued.stored(), name);
        }
        self.move_for_group(name, &read);
        if let Some(group) = self.groups.get_mut(name) {
            let keep = if group.is_away() { 0 } else { READ_AHEAD };
            group.put_away(keep, self.store.overflow.as_ref());
        }
    }

    /// Has what waits for a shared subscription refer to copies at the end of the log.
    fn move_for_group(&mut self, name: &TopicFilter, messages: &[(Arc<Message>, Stored)]) {
        let mut moves = BTreeMap::new();
        for (message, old) in messages {
            moves.extend(self.copy(message, old).map(|new| (old.position(), new)));
        }
        let Some(group) = self.groups.get_mut(name) else { return };
        let mut ids = Vec::new();
        for queued in group.waiting.iter_mut() {
            let new = queued.stored().and_then(|stored| moves.get(&stored.position())).cloned();
            ids.extend(new.as_ref().map(|new| new.id));
            new.into_iter().for_each(|new| queued.set_stored(new));
        }
        for id in ids {
            // Whoever had it before has it no more.
            let groups = vec![name.clone()];
            self.record(&Record::Refs { id, shard: None, refs: Vec::new(), groups, is_moved: true });
        }
    }

    /// Has everything that a client holds of these messages refer to copies at the end of the log.
    fn move_for(&mut self, client_id: &Text, messages: &[(Arc<Message>, Stored)]) {
        let mut moves = BTreeMap::new();
        for (message, old) in messages {
            let copy = self.copy(message, old).map(|new| new.for_client(client_id));
            moves.extend(copy.map(|new| (old.position(), new)));
        }
        let Some(client) = self.clients.get_mut(client_id).filter(|_| !moves.is_empty()) else { return };
        let is_durable = client.is_durable;
        let mut records = Vec::new();
        let moved =
            |stored: Option<&Stored>| stored.and_then(|stored| moves.get(&stored.position())).cloned();
        for (packet_id, sent) in client.outbound.messages_mut() {
            if let Some(new) = moved(sent.stored()) {
                let id = new.id;
                sent.set_stored(new);
                records.push(moved_ref(id, sent.to_ref(client_id), is_durable));
                if is_durable && sent.qos() == QoS::ExactlyOnce {
                    records.push(Record::Sent { client: client_id.clone(), id, packet_id });
                }
            }
        }
        let mut left = moves.len();
        for queued in client.queue.iter_mut() {
            if left == 0 {
                break;
            }
            let Some(new) = moved(queued.stored()) else { continue };
            left -= 1;
            let id = new.id;
            queued.set_stored(new);
            records.push(moved_ref(id, queued.to_ref(client_id), is_durable));
        }
        for record in &records {
            self.record(record);
        }
    }

    /// The copy of a message at the end of the log.
    fn copy(&mut self, message: &Message, old: &Stored) -> Option<Stored> {
        if let Some(moved) = self.store.evacuation.moved.get(&old.id) {
            return Some(moved.clone());
        }
        let stored = self.append_copy(message, old, 0)?;
        self.store.evacuation.moved.insert(old.id, stored.clone());
        Some(stored)
    }

    fn append_copy(&mut self, message: &Message, old: &Stored, version: u64) -> Option<Stored> {
        let appended = self.record(&Record::Message(Box::new(MessageRecord {
            copy_of: Some(old.id),
            publisher: message.publisher.clone(),
            receipt: None,
            shards: 0,
            of_shards: 0,
            version,
            expires_ms: message.expires.map_or(0, |at| self.to_unix_ms(at)),
            publish: record::to_publish(message),
        })))?;
        Some(Stored { id: old.id, hold: appended.hold })
    }

    /// Copies retained messages while nobody can replace them: an older version never stands behind a newer one.
    fn evacuate_retained(&mut self, before: Position) {
        let shared = Arc::clone(&self.shared);
        for (message, version, old) in shared.retained.stored_before(before, self.id, shared.shards()) {
            let _order = shared.order.lock(&message.topic);
            if shared.retained.version(&message.topic) == Some(version)
                && let Some(stored) = self.append_copy(&message, &old, version)
            {
                shared.retained.moved(&message.topic, version, stored);
            }
        }
    }
}

/// Messages that are before a place of the log: those that are in memory, and where the others are.
struct Old {
    here: Vec<(Arc<Message>, Stored)>,
    away: Vec<Position>,
}

impl Old {
    fn of<'a>(all: impl Iterator<Item = &'a Queued>, before: Position) -> Self {
        let mut old = Self { here: Vec::new(), away: Vec::new() };
        for queued in all {
            let Some(stored) = queued.stored().filter(|stored| stored.position() < before) else { continue };
            match queued {
                Queued::Here(delivery) => old.here.push((Arc::clone(&delivery.message), stored.clone())),
                Queued::Stored(_) => old.away.push(stored.position()),
            }
        }
        old
    }
}

/// Those of some that were read.
fn those_read<'a>(
    all: impl Iterator<Item = &'a Queued>,
    messages: &BTreeMap<Position, Option<Arc<Message>>>,
) -> Vec<(Arc<Message>, Stored)> {
    let read = |stored: &Stored| {
        let message = messages.get(&stored.position())?.as_ref()?;
        Some((Arc::clone(message), stored.clone()))
    };
    all.filter_map(Queued::stored).filter_map(read).collect()
}

/// That a client, or only its group, has to get the copy of a message.
fn moved_ref(id: MessageId, one: Ref, is_durable: bool) -> Record {
    let group = one.group.clone();
    let (refs, groups) =
        if is_durable { (vec![one], Vec::new()) } else { (Vec::new(), group.into_iter().collect()) };
    Record::Refs { id, shard: None, refs, groups, is_moved: true }
}
