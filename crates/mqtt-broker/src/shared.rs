//! Shared subscriptions (MQTT 5.0 §4.8.2), on the shard that owns them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use mqtt_wire::{QoS, Text, TopicFilter};

use crate::client::Delivery;
use crate::limits::SharedStrategy;
use crate::message::Message;
use crate::overflow::Overflow;
use crate::queue::{Queue, Queued};
use crate::routes::ShardId;
use crate::stable_hash;

/// The groups that a shard owns, by their whole filter: `$share/group/filter`.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: BTreeMap<TopicFilter, Group>,
    /// State of the random strategy. Whether it can be foreseen does not matter.
    random: u64,
}

/// The members of a shared subscription, and what none of them can take now.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// In the order of their names.
    members: Vec<Member>,
    /// How many of them are there, and how many of those have room.
    online: usize,
    open: usize,
    next: usize,
    sticky: Option<Text>,
    pub(crate) waiting: Queue,
    /// How many at the front of those a member has given back.
    returned: usize,
    /// Whether messages of it are being read from the log.
    pub(crate) is_loading: bool,
}

#[derive(Clone, Debug)]
struct Member {
    client: Text,
    shard: ShardId,
    /// `None` while it is away; else how many messages it can take, for all that is known.
    room: Option<u16>,
    /// The room that it had when it last told.
    told: u16,
    /// How many messages it was sent since it was asked for its room, if the answer is to come.
    asked: Option<u16>,
}

/// Who gets a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picked {
    pub(crate) client: Text,
    pub(crate) shard: ShardId,
    /// Whether it is to be asked for its room.
    pub(crate) is_asked: bool,
}

impl Groups {
    /// Adds a member, with the room that it has; whether the group is new.
    pub(crate) fn join(
        &mut self,
        group: &TopicFilter,
        client: Text,
        shard: ShardId,
        room: Option<u16>,
    ) -> bool {
        let is_new = !self.groups.contains_key(group);
        let group = self.groups.entry(group.clone()).or_default();
        let member = Member { client, shard, room: None, told: 0, asked: None };
        let index = match group.members.binary_search_by(|other| other.client.cmp(&member.client)) {
            Ok(index) => index,
            Err(index) => {
                group.members.insert(index, member);
                index
            }
        };
        group.change(index, |member| member.tells(room, true));
        is_new
    }

    /// Takes a member out. If it was the last, the group is gone: returns what waited for it.
    pub(crate) fn leave(&mut self, group: &TopicFilter, client: &Text) -> Option<Queue> {
        let found = self.groups.get_mut(group)?;
        let index = found.index_of(client)?;
        found.change(index, |member| member.room = None);
        found.members.remove(index);
        if !found.members.is_empty() {
            return None;
        }
        self.groups.remove(group).map(|group| group.waiting)
    }

    pub(crate) fn get_mut(&mut self, group: &TopicFilter) -> Option<&mut Group> {
        self.groups.get_mut(group)
    }

    /// The names of groups behind one, for which messages may wait.
    pub(crate) fn waiting_after(&self, last: Option<&TopicFilter>, most: usize) -> Vec<TopicFilter> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.groups.range::<TopicFilter, _>((from, Bound::Unbounded));
        let waiting = behind.filter(|(_, group)| !group.waiting.is_empty());
        waiting.take(most).map(|(name, _)| name.clone()).collect()
    }

    /// Who gets `message`, if it can take it at once. One of QoS 0 goes to anybody who is there.
    pub(crate) fn pick(
        &mut self,
        group: &TopicFilter,
        strategy: SharedStrategy,
        message: &Message,
    ) -> Option<Picked> {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let random = mix(self.random);
        let group = self.groups.get_mut(group)?;
        let those = |group: &Group, can: fn(&Member) -> bool| -> Vec<usize> {
            (0..group.members.len()).filter(|&index| can(&group.members[index])).collect()
        };
        let takes_room = message.qos > QoS::AtMostOnce;
        let mut candidates =
            those(group, if strategy.names_one() { Member::is_here } else { Member::has_room });
        if candidates.is_empty() && !takes_room {
            candidates = those(group, Member::is_here);
        }
        let index = group.choose(&candidates, strategy, message, random)?;
        if takes_room && !group.members[index].has_room() {
            return None;
        }
        let is_asked = takes_room && group.change(index, Member::send);
        let Member { client, shard, .. } = &group.members[index];
        Some(Picked { client: client.clone(), shard: *shard, is_asked })
    }
}

impl Member {
    fn is_here(&self) -> bool {
        self.room.is_some()
    }

    fn has_room(&self) -> bool {
        self.room.is_some_and(|room| room > 0)
    }

    /// Takes note of a message for it; says whether it is to be asked for its room now: when half of it is used, so
    /// that the answer is there before the rest is.
    fn send(&mut self) -> bool {
        let room = self.room.unwrap_or(0).saturating_sub(1);
        self.room = self.room.map(|_| room);
        match &mut self.asked {
            Some(sent) => {
                *sent = sent.saturating_add(1);
                false
            }
            None => self.ask_at(self.told / 2),
        }
    }

    fn ask_at(&mut self, least: u16) -> bool {
        let is_due = self.asked.is_none() && self.room.is_some_and(|room| room <= least);
        if is_due {
            self.asked = Some(0);
        }
        is_due
    }

    /// What it says of its room. Says whether it is to be asked again: when it was sent as much since it was asked.
    fn tells(&mut self, room: Option<u16>, is_answer: bool) -> bool {
        let sent = if is_answer { self.asked.take().unwrap_or(0) } else { 0 };
        self.room = room.map(|room| room.saturating_sub(sent));
        self.told = room.unwrap_or(0);
        self.told > 0 && self.ask_at(0)
    }
}

impl Group {
    fn index_of(&self, client: &Text) -> Option<usize> {
        self.members.binary_search_by(|member| member.client.cmp(client)).ok()
    }

    fn change<T>(&mut self, index: usize, change: impl FnOnce(&mut Member) -> T) -> T {
        let member = &mut self.members[index];
        let counts = |member: &Member| (usize::from(member.is_here()), usize::from(member.has_room()));
        let before = counts(member);
        let outcome = change(member);
        let after = counts(member);
        self.online = self.online + after.0 - before.0;
        self.open = self.open + after.1 - before.1;
        outcome
    }

    /// A member says how many messages it can take, or that it is away (`None`). Says which shard is to ask it again, if
    /// it is.
    pub(crate) fn tells(&mut self, client: &Text, room: Option<u16>, is_answer: bool) -> Option<ShardId> {
        let index = self.index_of(client)?;
        let is_asked = self.change(index, |member| member.tells(room, is_answer));
        is_asked.then(|| self.members[index].shard)
    }

    /// A member has no room, and will tell when it has.
    pub(crate) fn is_full(&mut self, client: &Text) {
        if let Some(index) = self.index_of(client) {
            self.change(index, |member| member.room = member.room.map(|_| 0));
        }
    }

    /// Whether nobody is there who could take a message, now or soon.
    pub(crate) fn is_away(&self) -> bool {
        self.online == 0
    }

    pub(crate) fn has_room(&self) -> bool {
        self.open > 0
    }

    /// Has messages that a member gave back wait before those that nobody had.
    pub(crate) fn take_back(&mut self, all: Vec<Queued>, overflow: Option<&Arc<Overflow>>) {
        if self.is_away() {
            let mut back = Queue::default();
            all.into_iter().for_each(|queued| back.restore(queued.put_away(), overflow));
            self.waiting.prepend(back);
            self.returned = 0;
            return;
        }
        self.returned = self.returned.min(self.waiting.len());
        for queued in all {
            self.waiting.insert(self.returned, queued);
            self.returned += 1;
        }
    }

    /// Leaves to the log what waits, but for the first `keep` messages.
    pub(crate) fn put_away(&mut self, keep: usize, overflow: Option<&Arc<Overflow>>) {
        self.waiting.put_away(keep, overflow);
        self.returned = self.returned.min(keep);
    }

    /// The next message, if it is in memory.
    pub(crate) fn next_loaded(&self) -> Option<&Arc<Message>> {
        self.waiting.next_loaded().map(|delivery| &delivery.message)
    }

    /// Takes it.
    pub(crate) fn pop_loaded(&mut self) -> Option<Delivery> {
        let delivery = self.waiting.pop_loaded()?;
        self.returned = self.returned.saturating_sub(1);
        Some(delivery)
    }

    fn choose(
        &mut self,
        candidates: &[usize],
        strategy: SharedStrategy,
        message: &Message,
        random: u64,
    ) -> Option<usize> {
        let by_hash = |hash: u64| {
            usize::try_from(hash % candidates.len().max(1) as u64)
                .ok()
                .and_then(|at| candidates.get(at))
                .copied()
        };
        match strategy {
            SharedStrategy::Random => by_hash(random),
            SharedStrategy::HashTopic => by_hash(stable_hash(message.topic.as_bytes())),
            SharedStrategy::HashClientId => by_hash(stable_hash(message.publisher.as_bytes())),
            SharedStrategy::RoundRobin => {
                let next = self.next;
                let index = candidates.iter().copied().find(|&index| index >= next);
                let index = index.or_else(|| candidates.first().copied())?;
                self.next = index + 1;
                Some(index)
            }
            SharedStrategy::Sticky => {
                let same = candidates
                    .iter()
                    .copied()
                    .find(|&index| Some(&self.members[index].client) == self.sticky.as_ref());
                let index = same.or_else(|| by_hash(random))?;
                self.sticky = Some(self.members[index].client.clone());
                Some(index)
            }
        }
    }
}

/// SplitMix64's output function.
fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// The filter that the messages of a group match.
pub(crate) fn inner_filter(group: &TopicFilter) -> Option<TopicFilter> {
    group.share().and_then(|(_, filter)| TopicFilter::new(filter).ok())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use clock::Instant;
    use mqtt_wire::{Publish, TopicName};

    use super::*;

    fn text(text: &str) -> Text {
        Text::new(text).unwrap()
    }

    fn message(topic: &str, publisher: &str) -> Message {
        let publish = Publish::new(TopicName::new(topic).unwrap(), QoS::AtLeastOnce, Bytes::new());
        Message::of_publish(Instant::ORIGIN, text(publisher), publish)
    }

    fn group() -> TopicFilter {
        TopicFilter::new("$share/g/#").unwrap()
    }

    fn of_three() -> Groups {
        let mut groups = Groups::default();
        for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
            assert_eq!(groups.join(&group(), text(name), index, Some(10_000)), index == 0);
        }
        groups
    }

    fn picked(groups: &mut Groups, strategy: SharedStrategy, topic: &str, publisher: &str) -> String {
        groups.pick(&group(), strategy, &message(topic, publisher)).unwrap().client.to_string()
    }

    #[test]
    fn each_strategy_does_what_its_name_says() {
        let mut groups = of_three();
        let turns: Vec<_> =
            (0..6).map(|_| picked(&mut groups, SharedStrategy::RoundRobin, "t", "p")).collect();
        assert_eq!(turns, ["a", "b", "c", "a", "b", "c"]);
        for (strategy, differs_by_topic) in
            [(SharedStrategy::HashTopic, true), (SharedStrategy::HashClientId, false)]
        {
            let names = |groups: &mut Groups, number: usize| {
                let name = format!("n{number}");
                let (topic, publisher) =
                    if differs_by_topic { (name.as_str(), "p") } else { ("t", name.as_str()) };
                picked(groups, strategy, topic, publisher)
            };
            let once: Vec<_> = (0..50).map(|number| names(&mut groups, number)).collect();
            let again: Vec<_> = (0..50).map(|number| names(&mut groups, number)).collect();
            assert_eq!(once, again);
            assert!(["a", "b", "c"].iter().all(|name| once.iter().any(|other| other == name)));
        }
        let random: Vec<_> = (0..50).map(|_| picked(&mut groups, SharedStrategy::Random, "t", "p")).collect();
        assert!(["a", "b", "c"].iter().all(|name| random.iter().any(|other| other == name)));
        let first = picked(&mut groups, SharedStrategy::Sticky, "t", "p");
        assert!((0..50).all(|_| picked(&mut groups, SharedStrategy::Sticky, "t", "p") == first));
        tell(&mut groups, &first, None);
        let second = picked(&mut groups, SharedStrategy::Sticky, "t", "p");
        assert_ne!(first, second);
        tell(&mut groups, &first, Some(10_000));
        assert_eq!(picked(&mut groups, SharedStrategy::Sticky, "t", "p"), second, "it sticks to the new one");
    }

    fn tell(groups: &mut Groups, client: &str, room: Option<u16>) {
        assert_eq!(groups.get_mut(&group()).unwrap().tells(&text(client), room, false), None);
    }

    #[test]
    fn those_who_have_room_get_messages_and_whoever_is_there_those_of_qos_0() {
        let mut groups = of_three();
        tell(&mut groups, "a", None);
        tell(&mut groups, "b", Some(0));
        let pick = |groups: &mut Groups, qos| {
            let publish = Publish::new(TopicName::new("t").unwrap(), qos, Bytes::new());
            let message = Message::of_publish(Instant::ORIGIN, text("p"), publish);
            let picked = groups.pick(&group(), SharedStrategy::RoundRobin, &message);
            picked.map(|picked| picked.client.to_string())
        };
        assert_eq!(pick(&mut groups, QoS::AtLeastOnce).as_deref(), Some("c"));
        tell(&mut groups, "c", None);
        assert_eq!(pick(&mut groups, QoS::AtLeastOnce), None);
        assert!(!groups.get_mut(&group()).unwrap().is_away());
        assert_eq!(pick(&mut groups, QoS::AtMostOnce).as_deref(), Some("b"));
        tell(&mut groups, "b", None);
        assert_eq!(pick(&mut groups, QoS::AtMostOnce), None);
        assert!(groups.get_mut(&group()).unwrap().is_away());
    }

    #[test]
    fn a_strategy_that_names_one_member_waits_for_it_while_it_is_there() {
        for strategy in [SharedStrategy::Sticky, SharedStrategy::HashTopic, SharedStrategy::HashClientId] {
            let mut groups = of_three();
            let pick = |groups: &mut Groups| {
                let picked = groups.pick(&group(), strategy, &message("t", "p"));
                picked.map(|picked| picked.client.to_string())
            };
            let first = pick(&mut groups).unwrap();
            tell(&mut groups, &first, Some(0));
            assert_eq!(pick(&mut groups), None, "{strategy:?}");
            tell(&mut groups, &first, Some(1));
            assert_eq!(pick(&mut groups), Some(first.clone()), "{strategy:?}");
            tell(&mut groups, &first, None);
            assert_ne!(pick(&mut groups).unwrap(), first, "{strategy:?}");
        }
    }

    #[test]
    fn a_member_is_sent_no_more_than_it_has_room_for_and_asked_in_time() {
        let mut groups = Groups::default();
        groups.join(&group(), text("a"), 7, Some(4));
        let pick = |groups: &mut Groups| {
            let picked = groups.pick(&group(), SharedStrategy::RoundRobin, &message("t", "p"));
            picked.map(|picked| picked.is_asked)
        };
        let picked: Vec<_> = (0..5).map(|_| pick(&mut groups)).collect();
        assert_eq!(picked, [Some(false), Some(true), Some(false), Some(false), None]);
        let tells =
            |groups: &mut Groups, room| groups.get_mut(&group()).unwrap().tells(&text("a"), Some(room), true);
        assert_eq!(tells(&mut groups, 3), None, "it was sent two since it was asked");
        assert_eq!([pick(&mut groups), pick(&mut groups)], [Some(true), None]);
        assert_eq!(tells(&mut groups, 1), None);
        assert_eq!([pick(&mut groups), pick(&mut groups)], [Some(true), None]);
        assert_eq!(tells(&mut groups, 0), None, "it tells when it has room");
        assert_eq!(pick(&mut groups), None);
        assert_eq!(groups.get_mut(&group()).unwrap().tells(&text("a"), Some(2), false), None);
        assert_eq!([pick(&mut groups), pick(&mut groups)], [Some(true), Some(false)]);
        assert_eq!(tells(&mut groups, 1), Some(7), "it was sent as much meanwhile");
        groups.get_mut(&group()).unwrap().is_full(&text("a"));
        assert_eq!(tells(&mut groups, 1), None);
        assert_eq!(pick(&mut groups), Some(true));
    }

    #[test]
    fn a_group_ends_with_its_last_member() {
        let mut groups = of_three();
        assert!(groups.leave(&group(), &text("a")).is_none());
        assert!(groups.leave(&group(), &text("b")).is_none());
        assert!(groups.leave(&group(), &text("c")).is_some());
        assert!(groups.leave(&group(), &text("c")).is_none(), "there is none");
        assert_eq!(groups.pick(&group(), SharedStrategy::Random, &message("t", "p")), None);
    }
}
