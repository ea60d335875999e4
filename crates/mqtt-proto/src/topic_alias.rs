//! Topic Aliases (MQTT 5.0 §3.3.2.3.4): a number for a topic, on one connection and in one direction.

use mqtt_wire::TopicName;

/// The aliases that the other side has given to topics.
#[derive(Clone, Debug, Default)]
pub struct IncomingAliases {
    topics: Vec<Option<TopicName>>,
    maximum: u16,
}

impl IncomingAliases {
    /// Aliases from 1 to `maximum`; with 0 there are none.
    pub fn new(maximum: u16) -> Self {
        Self { topics: Vec::new(), maximum }
    }

    /// The topic of a PUBLISH with this alias: its own, which the alias stands for from now on, or the one that
    /// the alias stands for. `None`: the alias is 0, above the maximum, or stands for nothing.
    pub fn resolve(&mut self, alias: u16, topic: &TopicName) -> Option<TopicName> {
        if alias == 0 || alias > self.maximum {
            return None;
        }
        let index = usize::from(alias) - 1;
        if topic.is_empty() {
            return self.topics.get(index)?.clone();
        }
        if self.topics.len() <= index {
            self.topics.resize(index + 1, None);
        }
        // Not a slice of the packet, which may have a large payload.
        self.topics[index] = Some(topic.detached());
        Some(topic.clone())
    }
}

/// What a sender does with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// The name has to be sent.
    None,
    /// The name is sent with an alias that stands for it from then on.
    New(u16),
    /// The alias is sent in the place of the name.
    Known(u16),
}

/// The aliases that this side gives to topics.
///
/// A topic has its place by its hash: one that comes again and again is soon known, whatever else is sent, and
/// what it costs to find out does not depend on the number of aliases.
#[derive(Clone, Debug, Default)]
pub struct OutgoingAliases {
    topics: Vec<Option<TopicName>>,
}

/// Shorter names are sent as they are: an alias is a property of three bytes.
const WORTH_AN_ALIAS: usize = 4;

impl OutgoingAliases {
    /// Aliases from 1 to `maximum`, the other side's Topic Alias Maximum or less.
    pub fn new(maximum: u16) -> Self {
        Self { topics: vec![None; usize::from(maximum)] }
    }

    /// How many there are.
    pub fn maximum(&self) -> u16 {
        u16::try_from(self.topics.len()).unwrap_or(u16::MAX)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// How a PUBLISH that is now sent names its topic.
    pub fn assign(&mut self, topic: &TopicName) -> Alias {
        let bytes = topic.as_bytes();
        if self.topics.is_empty() || bytes.len() < WORTH_AN_ALIAS {
            return Alias::None;
        }
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let index = usize::try_from(hash % self.topics.len() as u64).unwrap_or(0);
        let alias = u16::try_from(index + 1).unwrap_or(u16::MAX);
        let place = &mut self.topics[index];
        if place.as_ref() == Some(topic) {
            return Alias::Known(alias);
        }
        *place = Some(topic.detached());
        Alias::New(alias)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_alias_of_the_other_side_stands_for_the_last_topic_it_was_given() {
        let (a, b) = (TopicName::new("a").unwrap(), TopicName::new("b").unwrap());
        let mut aliases = IncomingAliases::new(2);
        assert_eq!(aliases.resolve(1, &TopicName::empty()), None, "it stands for nothing yet");
        assert_eq!(aliases.resolve(1, &a), Some(a.clone()));
        assert_eq!(aliases.resolve(1, &TopicName::empty()), Some(a.clone()));
        assert_eq!(aliases.resolve(1, &b), Some(b.clone()));
        assert_eq!(aliases.resolve(1, &TopicName::empty()), Some(b));
        assert_eq!(aliases.resolve(0, &a), None);
        assert_eq!(aliases.resolve(3, &a), None, "above the maximum");
    }

    proptest! {
        #[test]
        fn what_one_side_assigns_the_other_resolves(
            maximum in 0..6_u16,
            topics in proptest::collection::vec("[ab]{1,6}", 0..60),
        ) {
            let (mut sender, mut receiver) = (OutgoingAliases::new(maximum), IncomingAliases::new(maximum));
            for topic in topics {
                let topic = TopicName::new(&topic).unwrap();
                let resolved = match sender.assign(&topic) {
                    Alias::None => Some(topic.clone()),
                    Alias::New(alias) => receiver.resolve(alias, &topic),
                    Alias::Known(alias) => receiver.resolve(alias, &TopicName::empty()),
                };
                prop_assert_eq!(resolved, Some(topic));
            }
        }
    }
}
