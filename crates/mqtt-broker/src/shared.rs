//! Shared subscriptions (MQTT 5.0 §4.8.2), on the shard that owns them.

use std::collections::BTreeMap;

use mqtt_wire::{Text, TopicFilter};

use crate::limits::SharedStrategy;
use crate::message::Message;
use crate::routes::ShardId;
use crate::stable_hash;

/// Whether a member of a group can take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MemberState {
    /// It is online, and its window is open.
    Open,
    /// It is online, and messages wait for its window.
    Busy,
    /// It has a session and no connection.
    Offline,
}

/// The groups that a shard owns, by their whole filter: `$share/group/filter`.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: BTreeMap<TopicFilter, Group>,
    /// State of the random strategy. Whether it can be foreseen does not matter.
    random: u64,
}

#[derive(Debug, Default)]
struct Group {
    /// In the order of their names.
    members: Vec<Member>,
    next: usize,
    sticky: Option<Text>,
}

#[derive(Clone, Debug)]
struct Member {
    client: Text,
    shard: ShardId,
    state: MemberState,
}

/// Who gets a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picked {
    pub(crate) client: Text,
    pub(crate) shard: ShardId,
    /// Whether nobody else is left who could take it at once.
    pub(crate) is_last: bool,
}

impl Groups {
    /// Adds a member; whether the group is new.
    pub(crate) fn join(&mut self, group: &TopicFilter, client: Text, shard: ShardId) -> bool {
        let is_new = !self.groups.contains_key(group);
        let members = &mut self.groups.entry(group.clone()).or_default().members;
        match members.binary_search_by(|member| member.client.cmp(&client)) {
            Ok(index) => members[index].state = MemberState::Open,
            Err(index) => members.insert(index, Member { client, shard, state: MemberState::Open }),
        }
        is_new
    }

    /// Takes a member out; whether it was the last, and the group is gone.
    pub(crate) fn leave(&mut self, group: &TopicFilter, client: &Text) -> bool {
        let Some(found) = self.groups.get_mut(group) else { return false };
        found.members.retain(|member| member.client != *client);
        let is_empty = found.members.is_empty();
        if is_empty {
            self.groups.remove(group);
        }
        is_empty
    }

    pub(crate) fn set_state(&mut self, group: &TopicFilter, client: &Text, state: MemberState) {
        let members = self.groups.get_mut(group).map(|group| &mut group.members);
        if let Some(member) = members.and_then(|all| all.iter_mut().find(|member| member.client == *client)) {
            member.state = state;
        }
    }

    /// Who gets `message`, other than `tried`. When all have been tried, somebody has to take it anyway.
    pub(crate) fn pick(
        &mut self,
        group: &TopicFilter,
        strategy: SharedStrategy,
        message: &Message,
        tried: &[Text],
    ) -> Option<Picked> {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let random = mix(self.random);
        let group = self.groups.get_mut(group)?;
        let untried: Vec<usize> =
            (0..group.members.len()).filter(|&index| !tried.contains(&group.members[index].client)).collect();
        let pool: Vec<usize> =
            if untried.is_empty() { (0..group.members.len()).collect() } else { untried.clone() };
        let best = pool.iter().map(|&index| group.members[index].state).min()?;
        let candidates: Vec<usize> =
            pool.into_iter().filter(|&index| group.members[index].state == best).collect();
        let index = group.choose(&candidates, strategy, message, random)?;
        let Member { client, shard, .. } = group.members[index].clone();
        // Members that are busy or away are only asked when nobody else is left.
        Some(Picked { client, shard, is_last: untried.len() <= 1 || best != MemberState::Open })
    }
}

impl Group {
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
    use mqtt_wire::{Publish, QoS, TopicName};

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
            assert_eq!(groups.join(&group(), text(name), index), index == 0);
        }
        groups
    }

    fn picked(groups: &mut Groups, strategy: SharedStrategy, topic: &str, publisher: &str) -> String {
        groups.pick(&group(), strategy, &message(topic, publisher), &[]).unwrap().client.to_string()
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
        groups.set_state(&group(), &text(&first), MemberState::Offline);
        let second = picked(&mut groups, SharedStrategy::Sticky, "t", "p");
        assert_ne!(first, second);
        groups.set_state(&group(), &text(&first), MemberState::Open);
        assert_eq!(picked(&mut groups, SharedStrategy::Sticky, "t", "p"), second, "it sticks to the new one");
    }

    #[test]
    fn those_who_can_take_it_at_once_go_first_and_somebody_has_to_take_it() {
        let mut groups = of_three();
        groups.set_state(&group(), &text("a"), MemberState::Offline);
        groups.set_state(&group(), &text("b"), MemberState::Busy);
        let mut pick = |tried: &[&str]| {
            let tried: Vec<Text> = tried.iter().map(|name| text(name)).collect();
            let picked = groups.pick(&group(), SharedStrategy::RoundRobin, &message("t", "p"), &tried);
            picked.map(|picked| (picked.client.to_string(), picked.is_last)).unwrap()
        };
        assert_eq!(pick(&[]), ("c".to_owned(), false));
        assert_eq!(pick(&["c"]), ("b".to_owned(), true));
        assert_eq!(pick(&["c", "b"]), ("a".to_owned(), true));
        assert_eq!(pick(&["a", "b", "c"]), ("c".to_owned(), true));
    }

    #[test]
    fn a_group_ends_with_its_last_member() {
        let mut groups = of_three();
        assert!(!groups.leave(&group(), &text("a")));
        assert!(!groups.leave(&group(), &text("b")));
        assert!(groups.leave(&group(), &text("c")));
        assert!(!groups.leave(&group(), &text("c")), "there is none");
        assert_eq!(groups.pick(&group(), SharedStrategy::Random, &message("t", "p"), &[]), None);
    }
}
