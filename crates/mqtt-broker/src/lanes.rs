//! What shards tell each other, and in which order it is taken up.
//!
//! Each shard has a lane for what comes from each other shard and from itself; what is in a lane is taken up in
//! its order. Lanes are independent of one another, but for one case: of two retained messages of a topic that
//! came through different shards, the later one may be at its receiver first. It then waits for the other, and
//! its lane with it, so that nobody is left with the older value.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mqtt_wire::{Text, TopicFilter, TopicName};

use crate::durable::Stored;
use crate::message::Message;
use crate::queue::Queued;
use crate::routes::ShardId;
use crate::stable_hash;

/// Something that a shard sent, by its number among all that it sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) shard: ShardId,
    pub(crate) number: u64,
}

/// What one shard tells another.
#[derive(Clone, Debug)]
pub struct PeerMessage {
    pub(crate) place: Place,
    /// What the receiver has to have taken up before.
    pub(crate) after: Option<Place>,
    pub(crate) body: Body,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// A message that interests a client there. `stored`: where the log has it, if it has. `is_owed`: the receiver
    /// has to write down who gets it, even if nobody does.
    Publish { message: Arc<Message>, stored: Option<Stored>, is_owed: bool },
    /// To the owner of a shared subscription: a client takes part.
    Join { group: TopicFilter, client: Text, shard: ShardId, token: u64, is_durable: bool, room: Option<u16> },
    /// From the owner: from now on it does.
    Joined { client: Text, token: u64 },
    /// To the owner: a client takes part no more.
    Leave { group: TopicFilter, client: Text },
    /// To the owner: how many messages a client can take, or that it is away (`None`).
    Member { group: TopicFilter, client: Text, room: Option<u16>, is_answer: bool },
    /// From the owner: how many messages can the client take?
    Ask { group: TopicFilter, client: Text },
    /// From the owner: a message for a client.
    Assign { group: TopicFilter, client: Text, message: Arc<Message>, stored: Option<Stored> },
    /// To the owner: the client cannot take messages, or not any more. It tells when it can.
    Refused { group: TopicFilter, client: Text, refused: Vec<Queued> },
}

/// What a shard got and has not taken up.
#[derive(Debug)]
pub(crate) struct Lanes(Vec<Lane>);

#[derive(Debug, Default)]
struct Lane {
    /// The number of the last that was taken up.
    done: u64,
    waiting: VecDeque<PeerMessage>,
}

impl Lanes {
    pub(crate) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| Lane::default()).collect())
    }

    pub(crate) fn push(&mut self, message: PeerMessage) {
        self.0[message.place.shard].waiting.push_back(message);
    }

    /// Takes the next that has nothing to wait for.
    ///
    /// Lanes cannot wait for each other in a circle: what is waited for was sent earlier than what waits, and
    /// each lane is in the order in which it was sent.
    pub(crate) fn pop(&mut self) -> Option<Body> {
        let is_ready = |lane: &Lane| {
            lane.waiting.front().is_some_and(|message| {
                message.after.is_none_or(|after| self.0[after.shard].done >= after.number)
            })
        };
        let index = self.0.iter().position(is_ready)?;
        let lane = &mut self.0[index];
        let message = lane.waiting.pop_front()?;
        lane.done = message.place.number;
        Some(message.body)
    }

    /// How many have not been taken up.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|lane| lane.waiting.len()).sum()
    }
}

/// Topics share an order by their hash: more slots, fewer that wait for another topic's message.
const SLOTS: usize = 1_024;

/// The order of retained messages, in which all shards agree.
#[derive(Debug)]
pub(crate) struct RetainedOrder(Vec<Mutex<Slot>>);

/// While it is held, no other retained message of the topic is published.
#[derive(Debug)]
pub(crate) struct Slot {
    version: u64,
    /// For each shard, the last retained message that was sent to it.
    last: Box<[Option<Place>]>,
}

impl RetainedOrder {
    pub(crate) fn new(shards: usize) -> Self {
        let slot = || Slot { version: 0, last: vec![None; shards].into() };
        Self((0..SLOTS).map(|_| Mutex::new(slot())).collect())
    }

    pub(crate) fn lock(&self, topic: &TopicName) -> MutexGuard<'_, Slot> {
        let index = usize::try_from(stable_hash(topic.as_bytes()) % SLOTS as u64).unwrap_or(0);
        self.0[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// A version that is higher than all before it.
    pub(crate) fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Takes note of a version of an earlier run.
    pub(crate) fn raise(&mut self, version: u64) {
        self.version = self.version.max(version);
    }

    /// Takes note that `place` goes to a shard, and says after what it is to be taken up there.
    pub(crate) fn follow(&mut self, to: ShardId, place: Place) -> Option<Place> {
        let before = self.last[to].replace(place);
        before.filter(|before| before.shard != place.shard)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use clock::Instant;
    use mqtt_wire::{Publish, QoS};

    use super::*;

    fn publish(shard: ShardId, number: u64, after: Option<(ShardId, u64)>) -> PeerMessage {
        let payload = Bytes::from(format!("{shard}.{number}"));
        let publish = Publish::new(TopicName::new("t").unwrap(), QoS::AtMostOnce, payload);
        let message = Arc::new(Message::of_publish(Instant::ORIGIN, Text::default(), publish));
        let after = after.map(|(shard, number)| Place { shard, number });
        PeerMessage {
            place: Place { shard, number },
            after,
            body: Body::Publish { message, stored: None, is_owed: false },
        }
    }

    fn drain(lanes: &mut Lanes) -> Vec<Bytes> {
        std::iter::from_fn(|| lanes.pop())
            .filter_map(|body| match body {
                Body::Publish { message, .. } => Some(message.payload.clone()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn what_came_too_early_waits_and_its_lane_with_it() {
        let mut lanes = Lanes::new(3);
        lanes.push(publish(1, 1, Some((0, 5))));
        lanes.push(publish(1, 2, None));
        lanes.push(publish(2, 1, None));
        assert_eq!(drain(&mut lanes), ["2.1"], "lane 2 has nothing to do with it");
        lanes.push(publish(0, 4, None));
        assert_eq!(drain(&mut lanes), ["0.4"]);
        lanes.push(publish(0, 5, None));
        assert_eq!(drain(&mut lanes), ["0.5", "1.1", "1.2"]);
        assert_eq!(lanes.len(), 0);
    }

    #[test]
    fn a_retained_message_follows_the_last_one_that_went_the_same_way() {
        let order = RetainedOrder::new(3);
        let topic = TopicName::new("t").unwrap();
        let mut slot = order.lock(&topic);
        let (first, second) = (Place { shard: 0, number: 7 }, Place { shard: 1, number: 3 });
        assert_eq!(slot.next_version(), 1);
        assert_eq!(slot.follow(2, first), None);
        assert_eq!(slot.next_version(), 2);
        assert_eq!(slot.follow(2, second), Some(first));
        assert_eq!(slot.follow(1, second), None, "the first did not go there");
        assert_eq!(slot.follow(2, Place { shard: 1, number: 4 }), None, "a lane is in order anyway");
    }
}
