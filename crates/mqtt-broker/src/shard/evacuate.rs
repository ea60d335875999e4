//! Copying forward what is still wanted of the front of the log, so that the front can go.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use clock::Instant;
use journal::log::Position;
use mqtt_wire::{QoS, Text};

use super::store::Load;
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
        let (mut here, mut away) = (Vec::new(), Vec::new());
        for queued in client.outbound.messages().map(|(_, sent)| sent).chain(client.queue.iter()) {
            let Some(stored) = queued.stored().filter(|stored| stored.position() < before) else { continue };
            match queued {
                Queued::Here(delivery) => here.push((Arc::clone(&delivery.message), stored.clone())),
                Queued::Stored(_) => away.push(stored.position()),
            }
        }
        self.move_for(client_id, &here);
        if away.is_empty() {
            self.put_away_again(client_id);
        }
        for positions in away.chunks(BATCH) {
            let (client, positions) = (client_id.clone(), positions.to_vec());
            self.store.evacuation.outstanding += 1;
            self.request_load(Load { client, positions, is_for_copy: true });
        }
        has_more
    }

    /// What was looked at of a client that is away.
    fn put_away_again(&mut self, client_id: &Text) {
        if let Some(client) = self.clients.get_mut(client_id) {
            match client.connection {
                Some(_) => client.queue.put_away(READ_AHEAD, self.store.overflow.as_ref()),
                None => client.put_away(self.store.overflow.as_ref()),
            }
        }
    }

    /// What was read for this: copies it, but for what is of no use any more.
    pub(super) fn copy_loaded(
        &mut self,
        client_id: &Text,
        messages: &BTreeMap<Position, Option<Arc<Message>>>,
    ) {
        self.store.evacuation.outstanding -= 1;
        if self.store.evacuation.before.is_some() {
            self.timers.set(Timer::Evacuation, self.now);
        }
        let now = self.now;
        let Some(client) = self.clients.get_mut(client_id) else { return };
        let (mut damaged, mut expired) = (BTreeSet::new(), BTreeSet::new());
        for (&position, message) in messages {
            match message {
                None => _ = damaged.insert(position),
                Some(message) if message.has_expired(now) => _ = expired.insert(position),
                Some(_) => {}
            }
        }
        let lost_sent = client.outbound.messages().filter(
            |(_, sent)| matches!(sent, Queued::Stored(away) if damaged.contains(&away.stored.position())),
        );
        let lost_sent = lost_sent.map(|(packet_id, _)| packet_id).collect();
        let (damaged, expired) = (client.queue.take_at(&damaged), client.queue.take_at(&expired));
        let mut read = Vec::new();
        let all = client.outbound.messages().map(|(_, sent)| sent).chain(client.queue.iter());
        for stored in all.filter_map(Queued::stored) {
            if let Some(Some(message)) = messages.get(&stored.position()) {
                read.push((Arc::clone(message), stored.clone()));
            }
        }
        self.stats.dropped_damaged += damaged.len() as u64;
        self.stats.dropped_expired += expired.len() as u64;
        self.finish_all(client_id, &damaged);
        self.finish_all(client_id, &expired);
        self.give_up_sent(client_id, lost_sent);
        self.move_for(client_id, &read);
        self.put_away_again(client_id);
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
                records.push(moved_ref(id, sent.move_to(new, client_id), is_durable));
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
            records.push(moved_ref(id, queued.move_to(new, client_id), is_durable));
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

/// That a client, or only its group, has to get the copy of a message.
fn moved_ref(id: MessageId, one: Ref, is_durable: bool) -> Record {
    let group = one.group.clone();
    let (refs, groups) =
        if is_durable { (vec![one], Vec::new()) } else { (Vec::new(), group.into_iter().collect()) };
    Record::Refs { id, shard: None, refs, groups, is_moved: true }
}
