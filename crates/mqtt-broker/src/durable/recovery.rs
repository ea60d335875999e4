//! What the records of an earlier run say together: its sessions, their queues, what is retained, and what was on its
//! way.

use std::collections::{BTreeMap, HashMap, hash_map};

use bytes::Bytes;
use foldhash::fast::FixedState;
use journal::log::Position;
use mqtt_wire::{PacketId, QoS, Text, TopicFilter, TopicName};

use super::lost::Lost;
use super::record::{Head, MessageId, PlainRefs, Record, Ref, SessionRecord, Whole};
use super::sessions::{Entry, Session, Sessions};
use crate::client::Subscription;
use crate::retained::{STRIPES, stripe_of};
use crate::shard::ALL_SHARDS;

/// Puts together what the records of a log say, one after the other ([`Recovery::apply`]), for the shards that go on
/// with it ([`Recovery::restore`]).
#[derive(Debug, Default)]
pub struct Recovery {
    /// Messages that are on their way, and copies.
    messages: HashMap<MessageId, Known, FixedState>,
    /// Those that are retained, on their way or not.
    kept: HashMap<MessageId, At, FixedState>,
    pub(crate) sessions: Sessions,
    /// By the parts of the topics ([`stripe_of`]).
    pub(crate) retained: [HashMap<TopicName, Kept, FixedState>; STRIPES],
    pub(crate) groups: BTreeMap<(MessageId, TopicFilter), InGroup>,
    /// What records refer to and is not there.
    lost: Lost,
    /// Whether records were lost.
    pub(crate) is_damaged: bool,
}

/// A record that this version does not know. The log was written by a newer one, or by something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log holds a record that this version does not know, at position {}", .0.0)]
pub struct Unreadable(pub Position);

/// Where a record is, and the bytes of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) position: Position,
    pub(crate) bytes: u32,
}

#[derive(Debug)]
struct Known {
    at: At,
    /// The shards that have not written down who gets it.
    remaining: u64,
    of_shards: u8,
    /// The record, if it is of QoS 2 and to be retained: until it is.
    pending: Option<Bytes>,
}

impl Known {
    /// A message that needs nothing more.
    fn at(at: At) -> Self {
        Self { at, remaining: 0, of_shards: 0, pending: None }
    }

    /// A shard has written down who gets it.
    fn route(&mut self, shard: Option<u8>) {
        match shard {
            None => {}
            Some(ALL_SHARDS) => self.remaining = 0,
            Some(shard) => self.remaining &= !(1 << (shard % 64)),
        }
    }

    /// Whether nothing will refer to it any more but what does already.
    fn is_over(&self) -> bool {
        self.remaining == 0 && self.pending.is_none()
    }
}

/// A message that was on its way.
#[derive(Debug)]
pub(crate) struct Unrouted {
    pub(crate) id: MessageId,
    pub(crate) at: At,
    pub(crate) shards: u64,
    pub(crate) of_shards: u8,
    pub(crate) is_to_be_retained: bool,
}

/// What is retained for a topic, or that something was taken back.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) version: u64,
    pub(crate) message: Option<KeptMessage>,
}

/// A retained message.
#[derive(Debug)]
pub(crate) struct KeptMessage {
    pub(crate) id: MessageId,
    pub(crate) at: At,
    pub(crate) record: Bytes,
}

/// A message that a shared subscription has to get.
#[derive(Debug)]
pub(crate) struct InGroup {
    pub(crate) at: At,
    /// In whose queue it is.
    pub(crate) holder: Option<Text>,
}

impl Recovery {
    /// Takes the next record.
    ///
    /// # Errors
    /// When the record is of no kind that this version knows.
    pub fn apply(&mut self, position: Position, body: &[u8]) -> Result<(), Unreadable> {
        let at = At { position, bytes: u32::try_from(body.len()).unwrap_or(u32::MAX) };
        if let Some(head) = Head::of(body) {
            return self.message(at, &head, body);
        }
        if let Some(refs) = PlainRefs::of(body)
            && self.plain_refs(&refs)
        {
            return Ok(());
        }
        match Record::decode(body).map_err(|_| Unreadable(position))? {
            // It would have a head.
            Record::Message(_) => return Err(Unreadable(position)),
            Record::Refs { id, shard, refs, groups, is_moved } => {
                self.refs(id, shard, refs, groups, is_moved);
            }
            Record::Retained { id, version } => self.retained_from_now_on(id, version)?,
            Record::Deleted { id, version, topic } => {
                if let Some(known) = self.messages.get_mut(&id) {
                    known.pending = None;
                }
                self.retain(id, topic, version, None);
            }
            // Whoever refers to what is not there is counted.
            Record::Alias { of } => {
                if let Some(at) = self.at(of) {
                    self.messages.insert(position.0, Known::at(at));
                }
            }
            Record::GroupDone { id, group } => {
                self.lost.done(group.as_str(), id);
                self.group_done(id, &group);
            }
            Record::Session(record) => self.session(at, record),
            Record::Ended { client } => self.ended(&client),
            Record::Subscribed { client, filter, subscription } => {
                // A text from the log would keep all of its record.
                let filter = filter.detached();
                self.with(&client, |session| session.subscriptions.insert(filter, subscription));
            }
            Record::Unsubscribed { client, filter } => {
                self.with(&client, |session| session.subscriptions.remove(&filter));
            }
            Record::Sent { client, id, packet_id } => self.sent(&client, id, packet_id),
            Record::Received { client, packet_id } => self.received(&client, packet_id),
            Record::Completed { client, packet_id } => {
                self.with(&client, |session| session.outbound.retain(|(id, _)| *id != packet_id));
            }
            Record::Done { client, id, group } => {
                self.lost.done(client.as_str(), id);
                self.with(&client, |session| session.forget(id, group.as_ref()));
                if let Some(group) = group {
                    self.groups.remove(&(id, group));
                }
            }
            Record::Released { client, packet_id } => {
                self.with(&client, |session| session.receipts.remove(&packet_id));
            }
        }
        Ok(())
    }

    /// Records of the log are lost. What they said of exchanges of QoS 2 is in doubt from now on.
    pub fn tell_damaged(&mut self) {
        self.is_damaged = true;
    }

    /// After the last record: what is left of sessions that have none is not theirs any more.
    pub(crate) fn finish(&mut self) {
        let strangers = self.sessions.without_record();
        strangers.iter().for_each(|client| self.ended(client));
    }

    /// Messages that were on their way, in their order.
    pub(crate) fn unrouted(&self) -> Vec<Unrouted> {
        let is_unrouted = |known: &Known| known.remaining != 0 || known.pending.is_some();
        let mut found: Vec<Unrouted> = (self.messages.iter())
            .filter(|(_, known)| is_unrouted(known))
            .map(|(&id, known)| Unrouted {
                id,
                at: known.at,
                shards: known.remaining,
                of_shards: known.of_shards,
                is_to_be_retained: known.pending.is_some(),
            })
            .collect();
        found.sort_unstable_by_key(|unrouted| unrouted.id);
        found
    }

    /// How many sessions there are, messages in all their queues, and retained messages.
    pub fn counts(&mut self) -> [u64; 3] {
        let [sessions, queued] = self.sessions.counts();
        let retained = self.retained.iter().flatten().filter(|(_, kept)| kept.message.is_some()).count();
        [sessions, queued, retained].map(|count| count as u64)
    }

    /// How many messages are lost that clients and shared subscriptions had to get, by the names of these; and how many
    /// more there are than were counted for each.
    pub fn lost(&self) -> (BTreeMap<&str, u64>, u64) {
        self.lost.counts()
    }

    fn with<T>(&mut self, client: &Text, work: impl FnOnce(&mut Session) -> T) -> Option<T> {
        self.sessions.get_mut(client.as_bytes()).map(work)
    }

    fn message(&mut self, at: At, head: &Head<'_>, record: &[u8]) -> Result<(), Unreadable> {
        let id = head.copy_of.unwrap_or(at.position.0);
        if let Some(receipt) = head.receipt
            && let Some(session) = self.sessions.get_mut(head.publisher)
        {
            session.receipts.insert(receipt);
        }
        // A copy says how many shards there are only when it was imported on its way.
        let is_new = head.copy_of.is_none() || head.of_shards > 0;
        let record = head.retain.then(|| Bytes::copy_from_slice(record));
        let pending = record.clone().filter(|_| head.version == 0 && is_new);
        let new = Known { remaining: head.shards, of_shards: head.of_shards, pending, ..Known::at(at) };
        self.messages.entry(id).and_modify(|known| known.at = at).or_insert(new);
        match record {
            Some(record) if head.version > 0 => self.retain_message(id, at, head.version, head, record),
            _ => Ok(()),
        }
    }

    fn retained_from_now_on(&mut self, id: MessageId, version: u64) -> Result<(), Unreadable> {
        let known = self.messages.get_mut(&id);
        if let Some((at, record)) = known.and_then(|known| Some((known.at, known.pending.take()?)))
            && let Some(head) = Head::of(&record)
        {
            self.retain_message(id, at, version, &head, record.clone())?;
        }
        self.settle(id);
        Ok(())
    }

    fn retain_message(
        &mut self,
        id: MessageId,
        at: At,
        version: u64,
        head: &Head<'_>,
        record: Bytes,
    ) -> Result<(), Unreadable> {
        let topic =
            Text::try_from(Bytes::copy_from_slice(head.topic)).map_err(|_| Unreadable(at.position))?;
        let topic = TopicName::try_from(topic).map_err(|_| Unreadable(at.position))?;
        self.retain(id, topic, version, head.has_payload.then_some(KeptMessage { id, at, record }));
        Ok(())
    }

    fn retain(&mut self, id: MessageId, topic: TopicName, version: u64, message: Option<KeptMessage>) {
        let kept =
            self.retained[stripe_of(topic.levels())].entry(topic).or_insert(Kept { version, message: None });
        if kept.version > version {
            return;
        }
        let at = message.as_ref().map(|message| message.at);
        if let Some(before) = std::mem::replace(kept, Kept { version, message }).message {
            self.kept.remove(&before.id);
        }
        if let Some(at) = at {
            self.kept.insert(id, at);
        }
        self.settle(id);
    }

    fn at(&self, id: MessageId) -> Option<At> {
        self.messages.get(&id).map(|known| known.at).or_else(|| self.kept.get(&id).copied())
    }

    /// Forgets a message that nothing will refer to any more but what does already.
    fn settle(&mut self, id: MessageId) {
        if let hash_map::Entry::Occupied(known) = self.messages.entry(id)
            && known.get().is_over()
        {
            known.remove();
        }
    }

    /// Whether the message is there.
    fn plain_refs(&mut self, PlainRefs { id, shard, refs }: &PlainRefs<'_>) -> bool {
        let hash_map::Entry::Occupied(mut known) = self.messages.entry(*id) else { return false };
        let at = known.get().at;
        for (client, qos, retain) in refs {
            self.sessions.push(client, Entry::plain(*id, at, *qos, *retain));
        }
        known.get_mut().route(*shard);
        if known.get().is_over() {
            known.remove();
        }
        true
    }

    fn refs(
        &mut self,
        id: MessageId,
        shard: Option<u8>,
        refs: Vec<Ref>,
        groups: Vec<TopicFilter>,
        is_moved: bool,
    ) {
        let all_groups = refs.iter().filter_map(|one| one.group.as_ref()).chain(&groups);
        let in_group = all_groups
            .clone()
            .find_map(|group| self.groups.get(&(id, group.clone())).map(|in_group| in_group.at));
        let Some(at) = self.at(id).or(in_group) else {
            self.lost.refer(id, &refs, &groups);
            return;
        };
        for group in groups {
            let before = self.groups.insert((id, group.clone()), InGroup { at, holder: None });
            if let Some(holder) = before.and_then(|in_group| in_group.holder) {
                self.with(&holder, |session| session.forget(id, Some(&group)));
            }
        }
        for Ref { client, how, group } in refs {
            if let Some(group) = &group {
                self.hand_over(id, at, group, &client, is_moved);
            }
            let session = self.sessions.get_or_new(&client);
            let entry = Entry::new(id, at, how, group);
            if !is_moved || !session.replace(&entry) {
                session.push(entry);
            }
        }
        if let Some(known) = self.messages.get_mut(&id) {
            known.route(shard);
        }
        if !is_moved {
            self.settle(id);
        }
    }

    /// A message of a group is a client's now, and nobody else's. The same client may have given it back before.
    fn hand_over(&mut self, id: MessageId, at: At, group: &TopicFilter, client: &Text, is_moved: bool) {
        let holder = self.groups.insert((id, group.clone()), InGroup { at, holder: Some(client.clone()) });
        let is_another = |before: &Text| !is_moved || before != client;
        if let Some(before) = holder.and_then(|in_group| in_group.holder).filter(is_another) {
            self.with(&before, |session| session.forget(id, Some(group)));
        }
    }

    fn group_done(&mut self, id: MessageId, group: &TopicFilter) {
        let holder = self.groups.remove(&(id, group.clone())).and_then(|in_group| in_group.holder);
        if let Some(holder) = holder {
            self.with(&holder, |session| session.forget(id, Some(group)));
        }
    }

    fn session(&mut self, at: At, mut record: Box<SessionRecord>) {
        let whole = record.whole.take();
        let session = self.sessions.get_or_new(&record.client);
        session.record = Some(record);
        if let Some(Whole { subscriptions, receipts, received }) = whole {
            session.whole_at = Some(at);
            let detached = |(filter, x): (TopicFilter, Subscription)| (filter.detached(), x);
            session.subscriptions = subscriptions.into_iter().map(detached).collect();
            session.receipts = receipts.into_iter().collect();
            session.outbound.retain(|(_, entry)| entry.is_some());
            session.outbound.extend(received.into_iter().map(|id| (id, None)));
        }
    }

    /// What a session had of shared subscriptions is to go to others, but for what was sent with QoS 2
    /// ([MQTT-4.8.2-5]).
    fn ended(&mut self, client: &Text) {
        self.lost.ended(client);
        let Some(session) = self.sessions.remove(client) else { return };
        for (_, entry) in session.outbound {
            if let Some((id, group)) = entry.and_then(|entry| Some((entry.id, entry.into_group()?))) {
                self.groups.remove(&(id, group));
            }
        }
        for entry in session.queue {
            let id = entry.id;
            if let Some(group) = entry.into_group()
                && let Some(in_group) = self.groups.get_mut(&(id, group))
                && in_group.holder.as_ref() == Some(client)
            {
                in_group.holder = None;
            }
        }
    }

    fn sent(&mut self, client: &Text, id: MessageId, packet_id: PacketId) {
        self.lost.sent(client, id, packet_id);
        let Some(session) = self.sessions.get_mut(client.as_bytes()) else { return };
        let is_known = |(used, entry): &(PacketId, Option<Entry>)| {
            *used == packet_id && entry.as_ref().is_some_and(|entry| entry.id == id)
        };
        if session.outbound.iter().any(is_known) {
            // It was copied forward.
            return;
        }
        let first = session.queue.partition_point(|entry| entry.id < id);
        let is_it = |entry: &Entry| entry.id == id && entry.qos == QoS::ExactlyOnce;
        let index = session
            .queue
            .iter()
            .skip(first)
            .take_while(|entry| entry.id == id)
            .position(is_it)
            .map(|index| first + index);
        let was_known = session.outbound.iter().position(|(used, _)| *used == packet_id);
        if let Some(entry) = index.and_then(|index| session.queue.remove(index)) {
            was_known.and_then(|at| session.outbound.remove(at));
            // A record that was copied forward stands behind later messages.
            let is_later = |(_, other): &(PacketId, Option<Entry>)| other.as_ref().is_some_and(|x| x.id > id);
            let at = session.outbound.iter().position(is_later).unwrap_or(session.outbound.len());
            session.outbound.insert(at, (packet_id, Some(entry)));
        } else if was_known.is_none() {
            // What was sent is gone, or was never here: the client may have it, and then it uses the identifier.
            session.outbound.push_back((packet_id, None));
        }
    }

    fn received(&mut self, client: &Text, packet_id: PacketId) {
        self.lost.received(client, packet_id);
        let entry = self.with(client, |session| {
            if let Some((_, entry)) = session.outbound.iter_mut().find(|(used, _)| *used == packet_id) {
                return entry.take();
            }
            // The message, and that it was sent, may be gone: the identifier is in use until it is completed.
            session.outbound.push_back((packet_id, None));
            None
        });
        if let Some((id, group)) = entry.flatten().and_then(|entry| Some((entry.id, entry.into_group()?))) {
            self.groups.remove(&(id, group));
        }
    }
}
