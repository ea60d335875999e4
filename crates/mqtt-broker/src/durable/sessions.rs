//! The sessions of an earlier run, and what waits for them.

use std::collections::{BTreeSet, HashMap, VecDeque};

use bytes::Bytes;
use foldhash::fast::FixedState;
use journal::log::Position;
use mqtt_wire::{PacketId, QoS, Text, TopicFilter};
use smallvec::SmallVec;

use super::Stored;
use super::record::{How, MessageId, SessionRecord};
use super::recovery::At;
use crate::client::Subscription;
use crate::overflow::Place;
use crate::row::Row;
use crate::{PARTITIONS, partition_of, shard_of_partition};

/// Sessions by their names.
///
/// There may be far more of them than a processor's caches have room for, and their messages are in the log in the order
/// in which they were published, not by session. So messages wait, those for sessions of a partition together, and are
/// queued when there are many of them, or somebody looks.
#[derive(Debug)]
pub(crate) struct Sessions(Vec<Partition>);

#[derive(Debug, Default)]
struct Partition {
    sessions: HashMap<Text, Session, FixedState>,
    waiting: Vec<Waiting>,
    /// The names of the sessions for which they wait, one after the other.
    names: Vec<u8>,
}

#[derive(Debug)]
struct Waiting {
    name_length: u16,
    entry: Entry,
}

/// Messages that wait in a partition at most.
const MAX_WAITING: usize = 4_096;

impl Default for Sessions {
    fn default() -> Self {
        Self((0..PARTITIONS).map(|_| Partition::default()).collect())
    }
}

impl Sessions {
    /// The partition of a session, in which nothing waits any more.
    fn partition(&mut self, name: &[u8]) -> &mut Partition {
        let partition = &mut self.0[partition_of(name)];
        partition.take_in();
        partition
    }

    pub(crate) fn get_mut(&mut self, name: &[u8]) -> Option<&mut Session> {
        self.partition(name).sessions.get_mut(name)
    }

    /// The session of this name, which is a new one if there is none.
    pub(crate) fn get_or_new(&mut self, name: &Text) -> &mut Session {
        self.partition(name.as_bytes()).get_or_new(name)
    }

    /// Queues a message for the session of this name, which is a new one if there is none.
    pub(crate) fn push(&mut self, name: &[u8], entry: Entry) {
        let partition = &mut self.0[partition_of(name)];
        // A text is never longer.
        let name_length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        partition.names.extend_from_slice(name);
        partition.waiting.push(Waiting { name_length, entry });
        if partition.waiting.len() >= MAX_WAITING {
            partition.take_in();
        }
    }

    pub(crate) fn remove(&mut self, name: &Text) -> Option<Session> {
        self.partition(name.as_bytes()).sessions.remove(name)
    }

    /// How many sessions there are, and messages in all their queues.
    pub(crate) fn counts(&mut self) -> [usize; 2] {
        self.0.iter_mut().for_each(Partition::take_in);
        let queued = |partition: &Partition| -> usize {
            partition.sessions.values().map(|session| session.queue.len()).sum()
        };
        [self.0.iter().map(|partition| partition.sessions.len()).sum(), self.0.iter().map(queued).sum()]
    }

    /// The names of those that have no record.
    pub(crate) fn without_record(&mut self) -> Vec<Text> {
        self.0.iter_mut().for_each(Partition::take_in);
        let all = self.0.iter().flat_map(|partition| &partition.sessions);
        all.filter(|(_, session)| session.record.is_none()).map(|(name, _)| name.clone()).collect()
    }

    /// All of them, in the order of their names, for each of so many shards.
    pub(crate) fn of_shards(self, shards: usize) -> Vec<Vec<(Text, Session)>> {
        let mut all: Vec<Vec<_>> = (0..shards).map(|_| Vec::new()).collect();
        for (number, mut partition) in self.0.into_iter().enumerate() {
            partition.take_in();
            all[shard_of_partition(number, shards)].extend(partition.sessions);
        }
        all.iter_mut().for_each(|all| all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other)));
        all
    }
}

impl Partition {
    fn get_or_new(&mut self, name: &Text) -> &mut Session {
        // A name from the log would keep all of its record.
        self.sessions.entry(name.detached()).or_default()
    }

    fn take_in(&mut self) {
        let mut names = &self.names[..];
        for Waiting { name_length, entry } in self.waiting.drain(..) {
            let (name, rest) = names.split_at(name_length.into());
            names = rest;
            match self.sessions.get_mut(name) {
                Some(session) => session.push(entry),
                // What is no name is nobody's.
                None => Text::try_from(Bytes::copy_from_slice(name))
                    .into_iter()
                    .for_each(|name| self.sessions.entry(name).or_default().push(entry.clone())),
            }
        }
        self.names.clear();
    }
}

#[derive(Debug, Default)]
pub(crate) struct Session {
    /// `None` until its record has come: that may have been copied forward, behind what it refers to.
    pub(crate) record: Option<Box<SessionRecord>>,
    /// Its last whole record.
    pub(crate) whole_at: Option<At>,
    pub(crate) subscriptions: Row<TopicFilter, Subscription>,
    pub(crate) receipts: BTreeSet<PacketId>,
    /// Messages of QoS 2 that were sent, and `None` for those that the client has.
    pub(crate) outbound: VecDeque<(PacketId, Option<Entry>)>,
    /// In the order in which they were published.
    pub(crate) queue: VecDeque<Entry>,
}

/// A message that a client has to get. There may be millions of them.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: MessageId,
    position: Position,
    bytes: u32,
    pub(super) qos: QoS,
    retain: bool,
    more: Option<Box<More>>,
}

/// What most entries have nothing of.
#[derive(Clone, Debug)]
struct More {
    identifiers: SmallVec<[u32; 1]>,
    group: Option<TopicFilter>,
}

impl Entry {
    pub(super) fn new(id: MessageId, at: At, how: How, group: Option<TopicFilter>) -> Self {
        let How { qos, retain, identifiers } = how;
        let has_more = !identifiers.is_empty() || group.is_some();
        let more = has_more.then(|| Box::new(More { identifiers, group }));
        Self { more, ..Self::plain(id, at, qos, retain) }
    }

    pub(super) fn plain(id: MessageId, at: At, qos: QoS, retain: bool) -> Self {
        let At { position, bytes } = at;
        Self { id, position, bytes, qos, retain, more: None }
    }

    pub(crate) fn at(&self) -> At {
        At { position: self.position, bytes: self.bytes }
    }

    pub(crate) fn how(&self) -> How {
        let identifiers = self.more.as_ref().map_or_else(SmallVec::new, |more| more.identifiers.clone());
        How { qos: self.qos, retain: self.retain, identifiers }
    }

    pub(crate) fn group(&self) -> Option<&TopicFilter> {
        self.more.as_ref().and_then(|more| more.group.as_ref())
    }

    /// What a chain of a client's queue knows of it, if it has no more to it.
    pub(crate) fn place(&self, client: &Text) -> Option<Place> {
        let how = self.how();
        let is_plain = self.group().is_none() && Place::has_room(&how);
        is_plain.then(|| Place {
            id: self.id,
            position: self.position,
            claim: Stored::claim_for_client(self.bytes, client),
            size: self.bytes,
            how,
        })
    }

    pub(super) fn into_group(self) -> Option<TopicFilter> {
        self.more.and_then(|more| more.group)
    }

    fn is(&self, id: MessageId, group: Option<&TopicFilter>) -> bool {
        self.id == id && self.group() == group
    }
}

impl Session {
    pub(super) fn push(&mut self, entry: Entry) {
        // A record that was copied forward stands behind later messages.
        let is_late = self.queue.back().is_some_and(|last| last.id > entry.id);
        if is_late {
            let at = self.queue.partition_point(|other| other.id <= entry.id);
            self.queue.insert(at, entry);
        } else {
            self.queue.push_back(entry);
        }
    }

    /// Puts an entry in the place of the one for the same message, if there is one, queued or sent.
    pub(super) fn replace(&mut self, entry: &Entry) -> bool {
        let group = entry.group();
        let place = match self.position(entry.id, group) {
            Some(index) => self.queue.get_mut(index),
            None => self
                .outbound
                .iter_mut()
                .find_map(|(_, sent)| sent.as_mut().filter(|sent| sent.is(entry.id, group))),
        };
        place.map(|place| place.clone_from(entry)).is_some()
    }

    fn position(&self, id: MessageId, group: Option<&TopicFilter>) -> Option<usize> {
        // It is in the order of identities.
        let first = self.queue.partition_point(|entry| entry.id < id);
        let same = self.queue.iter().skip(first).take_while(|entry| entry.id == id);
        same.enumerate().find(|(_, entry)| entry.is(id, group)).map(|(index, _)| first + index)
    }

    pub(super) fn forget(&mut self, id: MessageId, group: Option<&TopicFilter>) {
        if let Some(at) = self.position(id, group) {
            self.queue.remove(at);
        } else {
            self.outbound.retain(|(_, entry)| entry.as_ref().is_none_or(|entry| !entry.is(id, group)));
        }
    }
}
