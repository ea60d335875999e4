//! The messages of QoS 1 and 2 that wait for a client, or for a shared subscription.
//!
//! While the client is there and not far behind they are in memory. Else those that the log has are known by their place
//! in it ([`Away`]), and of many even that is outside of the memory ([`Chain`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use journal::log::Position;
use mqtt_wire::{QoS, Text, TopicFilter};

use crate::client::Delivery;
use crate::durable::Stored;
use crate::durable::record::{How, Ref};
use crate::limits::{Limits, OnQuota};
use crate::message::Message;
use crate::overflow::{Chain, Overflow, Place};

/// Messages of a queue that are in memory at most, if the log has them.
pub(crate) const READ_AHEAD: usize = 64;

/// A message that waits for its client, or for its acknowledgment: itself, or where the log has it.
#[derive(Clone, Debug)]
pub(crate) enum Queued {
    Here(Box<Delivery>),
    Stored(Box<Away>),
}

/// A message that is not in memory.
#[derive(Clone, Debug)]
pub(crate) struct Away {
    pub(crate) stored: Stored,
    pub(crate) how: How,
    /// The shared subscription that it is for, of one that was sent.
    pub(crate) group: Option<TopicFilter>,
    pub(crate) size: u32,
}

impl Queued {
    fn size(&self) -> usize {
        match self {
            Self::Here(delivery) => delivery.message.size(),
            Self::Stored(away) => away.size as usize,
        }
    }

    pub(crate) fn qos(&self) -> QoS {
        match self {
            Self::Here(delivery) => delivery.qos,
            Self::Stored(away) => away.how.qos,
        }
    }

    pub(crate) fn stored(&self) -> Option<&Stored> {
        match self {
            Self::Here(delivery) => delivery.stored.as_ref(),
            Self::Stored(away) => Some(&away.stored),
        }
    }

    pub(crate) fn group(&self) -> Option<&TopicFilter> {
        match self {
            Self::Here(delivery) => delivery.group.as_ref(),
            Self::Stored(away) => away.group.as_ref(),
        }
    }

    /// The same for whoever of its group gets it.
    pub(crate) fn for_group(mut self) -> Self {
        match &mut self {
            Self::Here(delivery) => {
                **delivery = Delivery::for_group(&delivery.message, delivery.stored.take())
            }
            Self::Stored(away) => {
                away.how = How::for_group();
                away.group = None;
            }
        }
        self
    }

    /// Has it be at another place of the log.
    pub(crate) fn set_stored(&mut self, stored: Stored) {
        match self {
            Self::Here(delivery) => delivery.stored = Some(stored),
            Self::Stored(away) => away.stored = stored,
        }
    }

    /// What is written down for a client to get it.
    pub(crate) fn to_ref(&self, client: &Text) -> Ref {
        match self {
            Self::Here(delivery) => delivery.to_ref(client),
            Self::Stored(away) => {
                Ref { client: client.clone(), how: away.how.clone(), group: away.group.clone() }
            }
        }
    }

    /// Has a message that was read from the log be in memory.
    pub(crate) fn load(&mut self, message: Arc<Message>) {
        if let Self::Stored(away) = self {
            let Away { stored, how: How { qos, retain, identifiers }, group, .. } = (**away).clone();
            let stored = Some(stored);
            let delivery = Delivery { message, qos, retain, identifiers, group, stored };
            *self = Self::Here(Box::new(delivery));
        }
    }

    /// The same with its message in the log only, if it is there.
    pub(crate) fn put_away(self) -> Self {
        match self {
            Self::Here(mut delivery) => match delivery.stored.take() {
                None => Self::Here(delivery),
                Some(stored) => {
                    let size = u32::try_from(delivery.message.size()).unwrap_or(u32::MAX);
                    let Delivery { qos, retain, identifiers, group, .. } = *delivery;
                    let how = How { qos, retain, identifiers };
                    Self::Stored(Box::new(Away { stored, how, group, size }))
                }
            },
            stored @ Self::Stored(_) => stored,
        }
    }
}

#[derive(Debug)]
enum Item {
    One(Queued),
    Chain(Box<Chain>),
}

/// Messages that wait for a client, in their order.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    items: VecDeque<Item>,
    len: u32,
    bytes: usize,
    /// Messages that are out of reach until the next start.
    unreachable: u32,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// What the messages count for.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Messages that were found to be out of reach, since this was last asked.
    pub(crate) fn take_unreachable(&mut self) -> usize {
        std::mem::take(&mut self.unreachable) as usize
    }

    /// Queues a message. If its client is away, or far behind, a message that the log has stays there.
    pub(crate) fn push(&mut self, delivery: Delivery, is_away: bool, overflow: Option<&Arc<Overflow>>) {
        let queued = Queued::Here(Box::new(delivery));
        // What is for a group may have to go to another member at once.
        let is_left = (is_away || self.len() >= READ_AHEAD) && queued.group().is_none();
        self.restore(if is_left { queued.put_away() } else { queued }, overflow);
    }

    /// The same within limits: returns what goes for it, the oldest or itself, as [`OnQuota`] says. The last message
    /// stays, however large it is.
    pub(crate) fn push_within(
        &mut self,
        delivery: Delivery,
        is_away: bool,
        overflow: Option<&Arc<Overflow>>,
        limits: &Limits,
        is_log_full: bool,
    ) -> Vec<Queued> {
        let is_log_full = is_log_full && !self.is_empty();
        let is_over = |queue: &Self, messages: usize, bytes: usize| {
            !queue.is_empty()
                && (queue.len() + messages > limits.max_mqueue_len
                    || queue.bytes() + bytes > limits.max_mqueue_bytes)
        };
        if limits.on_quota == OnQuota::DropNew && (is_log_full || is_over(self, 1, delivery.message.size())) {
            return vec![Queued::Here(Box::new(delivery))];
        }
        self.push(delivery, is_away, overflow);
        let mut dropped = Vec::new();
        // Of a log that is full, one goes for one that comes.
        while self.len() > 1
            && ((is_log_full && dropped.is_empty()) || is_over(self, 0, 0))
            && let Some(oldest) = self.pop()
        {
            dropped.push(oldest);
        }
        dropped
    }

    /// Queues what was queued before a restart.
    pub(crate) fn restore(&mut self, queued: Queued, overflow: Option<&Arc<Overflow>>) {
        self.len += 1;
        self.bytes += queued.size();
        self.append(queued, overflow);
    }

    fn append(&mut self, queued: Queued, overflow: Option<&Arc<Overflow>>) {
        let place = match &queued {
            Queued::Stored(away) if away.group.is_none() && Place::has_room(&away.how) => {
                Some(Place::of(away))
            }
            _ => None,
        };
        match (queued, overflow, place) {
            (Queued::Stored(away), Some(overflow), Some(place)) => {
                overflow.absorb(away.stored.hold);
                self.chain(&place, overflow);
            }
            (queued, ..) => self.items.push_back(Item::One(queued)),
        }
    }

    /// Puts a message into the last chain whose claim the overflow has.
    fn chain(&mut self, place: &Place, overflow: &Arc<Overflow>) {
        if let Some(Item::Chain(chain)) = self.items.back_mut()
            && chain.takes(place.position)
        {
            return chain.push(place);
        }
        let mut chain = Box::new(Chain::new(overflow, place.position));
        chain.push(place);
        if self.items.is_empty() {
            // Mostly it stays alone.
            self.items.reserve_exact(1);
        }
        self.items.push_back(Item::Chain(chain));
    }

    /// Queues what was queued before a restart, and whose claim the overflow has.
    pub(crate) fn restore_claimed(&mut self, place: &Place, overflow: &Arc<Overflow>) {
        self.len += 1;
        self.bytes += place.size as usize;
        self.chain(place, overflow);
    }

    /// Takes the oldest message.
    pub(crate) fn pop(&mut self) -> Option<Queued> {
        self.unroll(1, 1);
        let Item::One(queued) = self.items.pop_front()? else { return None };
        self.len -= 1;
        self.bytes -= queued.size();
        Some(queued)
    }

    /// The oldest message, if it is in memory.
    pub(crate) fn next_loaded(&self) -> Option<&Delivery> {
        match self.items.front()? {
            Item::One(Queued::Here(delivery)) => Some(delivery),
            _ => None,
        }
    }

    /// Takes the oldest message, if it is in memory.
    pub(crate) fn pop_loaded(&mut self) -> Option<Delivery> {
        let Item::One(Queued::Here(_)) = self.items.front()? else { return None };
        match self.pop()? {
            Queued::Here(delivery) => Some(*delivery),
            Queued::Stored(_) => None,
        }
    }

    /// Has the first `wanted` messages be known one by one, and `most` from one chain.
    fn unroll(&mut self, wanted: usize, most: usize) {
        let mut at = 0;
        while at < wanted {
            match self.items.get(at) {
                None => return,
                Some(Item::One(_)) => at += 1,
                Some(Item::Chain(_)) => {
                    let before = self.items.len();
                    if self.unroll_at(at, most, None) == 0 && self.items.len() == before {
                        return;
                    }
                }
            }
        }
    }

    /// Takes messages out of the chain at an index, to its place. Says how many.
    fn unroll_at(&mut self, at: usize, most: usize, before: Option<Position>) -> usize {
        let Some(Item::Chain(chain)) = self.items.get_mut(at) else { return 0 };
        match chain.take(most, before) {
            Ok(taken) => {
                if chain.len() == 0 {
                    self.items.remove(at);
                }
                let count = taken.len();
                for (index, away) in taken.into_iter().enumerate() {
                    self.items.insert(at + index, Item::One(Queued::Stored(Box::new(away))));
                }
                count
            }
            Err(_) => {
                self.len -= u32::try_from(chain.len()).unwrap_or(0);
                self.bytes -= chain.bytes();
                self.unreachable += u32::try_from(chain.len()).unwrap_or(u32::MAX);
                if let Some(Item::Chain(chain)) = self.items.remove(at) {
                    chain.abandon();
                }
                0
            }
        }
    }

    /// Leaves to the log what it has, but for the first `keep` messages.
    pub(crate) fn put_away(&mut self, keep: usize, overflow: Option<&Arc<Overflow>>) {
        let rest = self.items.split_off(keep.min(self.items.len()));
        for item in rest {
            match item {
                Item::One(queued) if queued.group().is_none() => {
                    self.bytes -= queued.size();
                    let queued = queued.put_away();
                    self.bytes += queued.size();
                    self.append(queued, overflow);
                }
                Item::One(queued) => self.items.push_back(Item::One(queued)),
                Item::Chain(chain) => self.items.push_back(Item::Chain(chain)),
            }
        }
        self.items.shrink_to_fit();
    }

    /// Where the next messages are, if the first of them is not in memory.
    pub(crate) fn next_to_load(&mut self) -> Vec<Position> {
        if let Some(Item::Chain(_) | Item::One(Queued::Stored(_))) = self.items.front() {
            self.unroll(READ_AHEAD, READ_AHEAD);
        }
        let away = self.items.iter().map_while(|item| match item {
            Item::One(Queued::Stored(away)) => Some(away.stored.position()),
            _ => None,
        });
        away.take(READ_AHEAD).collect()
    }

    /// Puts messages that were read from the log to their places, if they are still there. Returns those that could
    /// not be read.
    pub(crate) fn take_loaded(
        &mut self,
        mut loaded: BTreeMap<Position, Option<Arc<Message>>>,
    ) -> Vec<Queued> {
        let mut lost = Vec::new();
        let mut at = 0;
        while !loaded.is_empty() && at < self.items.len().min(2 * READ_AHEAD) {
            let Item::One(queued @ Queued::Stored(_)) = &mut self.items[at] else {
                at += 1;
                continue;
            };
            let size = queued.size();
            match queued.stored().and_then(|stored| loaded.remove(&stored.position())) {
                None => at += 1,
                Some(Some(message)) => {
                    self.bytes = self.bytes - size + message.size();
                    queued.load(message);
                    at += 1;
                }
                Some(None) => {
                    self.len -= 1;
                    self.bytes -= size;
                    if let Some(Item::One(queued)) = self.items.remove(at) {
                        lost.push(queued);
                    }
                }
            }
        }
        lost
    }

    /// Takes messages out that are known one by one, by their places in the log.
    pub(crate) fn take_at(&mut self, positions: &BTreeSet<Position>) -> Vec<Queued> {
        let is_meant =
            |queued: &Queued| queued.stored().is_some_and(|stored| positions.contains(&stored.position()));
        let mut taken = Vec::new();
        for item in std::mem::take(&mut self.items) {
            match item {
                Item::One(queued) if is_meant(&queued) => {
                    self.len -= 1;
                    self.bytes -= queued.size();
                    taken.push(queued);
                }
                other => self.items.push_back(other),
            }
        }
        taken
    }

    /// Takes the messages of shared subscriptions out of the queue, which are in memory: another member can have them.
    pub(crate) fn take_shared(&mut self) -> Vec<Queued> {
        let mut shared = Vec::new();
        for item in std::mem::take(&mut self.items) {
            match item {
                Item::One(queued) if queued.group().is_some() => {
                    self.len -= 1;
                    self.bytes -= queued.size();
                    shared.push(queued);
                }
                other => self.items.push_back(other),
            }
        }
        shared
    }

    /// Has others come before its own messages.
    pub(crate) fn prepend(&mut self, mut others: Self) {
        self.len += others.len;
        self.bytes += others.bytes;
        others.items.append(&mut self.items);
        self.items = others.items;
    }

    /// Has a message come behind so many others, which are known one by one.
    pub(crate) fn insert(&mut self, at: usize, queued: Queued) {
        self.len += 1;
        self.bytes += queued.size();
        self.items.insert(at.min(self.items.len()), Item::One(queued));
    }

    /// Those that are known one by one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Queued> {
        self.items.iter().filter_map(|item| match item {
            Item::One(queued) => Some(queued),
            Item::Chain(_) => None,
        })
    }

    /// The same, to change where they are.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Queued> {
        self.items.iter_mut().filter_map(|item| match item {
            Item::One(queued) => Some(queued),
            Item::Chain(_) => None,
        })
    }

    /// Has up to `most` messages whose places are before `before` be known one by one. Says whether there were any.
    pub(crate) fn unroll_before(&mut self, before: Position, most: usize) -> bool {
        let has_old = |item: &Item| matches!(item, Item::Chain(chain) if !chain.is_from(before));
        while let Some(at) = self.items.iter().position(has_old) {
            if self.unroll_at(at, most, Some(before)) > 0 {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests;
