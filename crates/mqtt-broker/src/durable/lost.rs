//! Whose messages are gone: what records refer to and is not in the log.
//!
//! Not all of that is lost: a message that everybody had goes with its segment, and records behind it that speak of it
//! stay. Those come with the record that says that their client was through with it.

use std::collections::BTreeMap;

use mqtt_wire::{PacketId, Text, TopicFilter};

use super::record::{MessageId, Ref};

/// What is remembered at most; what is more is only counted.
const MAX_REMEMBERED: usize = 100_000;

/// Messages that clients and shared subscriptions have to get, and that are not there.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// By the name of the client or shared subscription; with the identifier under which it was sent with QoS 2.
    missing: BTreeMap<(String, MessageId), Option<PacketId>>,
    more: u64,
}

impl Lost {
    pub(super) fn refer(&mut self, id: MessageId, refs: &[Ref], groups: &[TopicFilter]) {
        for Ref { client, group, .. } in refs {
            if let Some(group) = group {
                self.done(group.as_str(), id);
            }
            self.miss(client.as_str(), id);
        }
        groups.iter().for_each(|group| self.miss(group.as_str(), id));
    }

    fn miss(&mut self, name: &str, id: MessageId) {
        if self.missing.len() < MAX_REMEMBERED {
            self.missing.insert((name.to_owned(), id), None);
        } else {
            self.more += 1;
        }
    }

    pub(super) fn done(&mut self, name: &str, id: MessageId) {
        if !self.missing.is_empty() {
            self.missing.remove(&(name.to_owned(), id));
        }
    }

    pub(super) fn sent(&mut self, client: &Text, id: MessageId, packet_id: PacketId) {
        if !self.missing.is_empty()
            && let Some(sent) = self.missing.get_mut(&(client.as_str().to_owned(), id))
        {
            *sent = Some(packet_id);
        }
    }

    pub(super) fn received(&mut self, client: &Text, packet_id: PacketId) {
        let mut theirs = self.of(client);
        let found = theirs.find(|(_, sent)| **sent == Some(packet_id)).map(|(key, _)| key.clone());
        drop(theirs);
        found.and_then(|key| self.missing.remove(&key));
    }

    pub(super) fn ended(&mut self, client: &Text) {
        let theirs: Vec<_> = self.of(client).map(|(key, _)| key.clone()).collect();
        for key in theirs {
            self.missing.remove(&key);
        }
    }

    fn of(&self, client: &Text) -> impl Iterator<Item = (&(String, MessageId), &Option<PacketId>)> {
        let name = client.as_str().to_owned();
        self.missing.range((name.clone(), 0)..=(name, MessageId::MAX))
    }

    /// How many there are for each client and shared subscription, and how many more that were not remembered.
    pub(super) fn counts(&self) -> (BTreeMap<&str, u64>, u64) {
        let mut counts = BTreeMap::new();
        for (name, _) in self.missing.keys() {
            *counts.entry(name.as_str()).or_default() += 1;
        }
        (counts, self.more)
    }
}

#[cfg(test)]
mod tests {
    use mqtt_wire::QoS;

    use super::*;
    use crate::durable::record::How;

    #[test]
    fn what_a_client_had_before_it_went_is_not_lost() {
        let to = |client: &str| Ref {
            client: Text::new(client).unwrap(),
            how: How { qos: QoS::ExactlyOnce, retain: false, identifiers: Default::default() },
            group: None,
        };
        let client = Text::new("a").unwrap();
        let mut lost = Lost::default();
        for id in [1, 2, 3] {
            lost.refer(id, &[to("a"), to("b")], &[]);
        }
        lost.done("a", 1);
        lost.sent(&client, 2, PacketId::ONE);
        lost.received(&client, PacketId::ONE);
        assert_eq!(lost.counts(), (BTreeMap::from([("a", 1), ("b", 3)]), 0));
        lost.ended(&Text::new("b").unwrap());
        assert_eq!(lost.counts(), (BTreeMap::from([("a", 1)]), 0));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut lost = Lost::default();
        let group = [TopicFilter::new("$share/g/a").unwrap()];
        for id in 0..MAX_REMEMBERED as u64 + 5 {
            lost.refer(id, &[], &group);
        }
        assert_eq!(lost.counts(), (BTreeMap::from([("$share/g/a", MAX_REMEMBERED as u64)]), 5));
    }
}
