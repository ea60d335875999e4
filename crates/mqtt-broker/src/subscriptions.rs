use mqtt_wire::{TopicFilter, TopicName};

use crate::filters::Filters;
use crate::row::Row;

/// Topic filters and who subscribed to them: finding all that match a topic costs by the topic's levels and
/// what matches, not by the number of subscriptions.
#[derive(Clone, Debug)]
pub struct SubscriptionTree<S, O> {
    filters: Filters<Row<S, O>>,
}

impl<S, O> Default for SubscriptionTree<S, O> {
    fn default() -> Self {
        Self { filters: Filters::default() }
    }
}

/// What [`SubscriptionTree::insert`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inserted<O> {
    /// The options that the same subscriber had for the same filter.
    pub replaced: Option<O>,
    /// Whether the filter had no subscriber before.
    pub is_first: bool,
}

impl<S: Ord + Clone, O> SubscriptionTree<S, O> {
    /// Adds or replaces a subscription.
    pub fn insert(&mut self, filter: &TopicFilter, subscriber: S, options: O) -> Inserted<O> {
        let subscribers = self.filters.get_or_new(filter.as_bytes());
        let is_first = subscribers.is_empty();
        Inserted { replaced: subscribers.insert(subscriber, options), is_first }
    }

    /// Ends a subscription. `None`: there was none; else whether it was the filter's last.
    pub fn remove(&mut self, filter: &TopicFilter, subscriber: &S) -> Option<bool> {
        let remove = |subscribers: &mut Row<S, O>| {
            let removed = subscribers.remove(subscriber);
            (removed.map(|_| subscribers.is_empty()), subscribers.is_empty())
        };
        self.filters.change(filter.as_bytes(), remove).flatten()
    }

    /// Calls `found` for each subscription that matches (§4.7).
    pub fn for_each_match(&self, topic: &TopicName, mut found: impl FnMut(&S, &O)) {
        self.filters.for_each_match(topic.as_bytes(), topic.is_system(), |subscribers| {
            subscribers.iter().for_each(|(subscriber, options)| found(subscriber, options));
        });
    }

    /// Gives back room in tables that were filled in order.
    pub(crate) fn repack(&mut self) {
        self.filters.repack();
    }

    /// Whether there is no subscription.
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn filter() -> impl Strategy<Value = TopicFilter> {
        "(\\+|[ab$]{0,1})(/(\\+|[ab]{0,1})){0,3}(/#)?|#"
            .prop_filter_map("a filter", |text| TopicFilter::new(&text).ok())
    }

    fn topic() -> impl Strategy<Value = TopicName> {
        "[ab$]{0,1}(/[ab]{0,1}){0,3}".prop_filter_map("a topic", |text| TopicName::new(&text).ok())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

        #[test]
        fn the_tree_agrees_with_a_linear_scan(
            operations in vec((any::<bool>(), filter(), 0..4_u8), 0..60),
            topics in vec(topic(), 1..20),
        ) {
            let mut tree = SubscriptionTree::default();
            let mut list: BTreeSet<(TopicFilter, u8)> = BTreeSet::new();
            for (is_insert, filter, subscriber) in operations {
                let others = list.iter().filter(|(other, _)| *other == filter).count();
                if is_insert {
                    let inserted = tree.insert(&filter, subscriber, ());
                    prop_assert_eq!(inserted.is_first, others == 0);
                    prop_assert_eq!(inserted.replaced.is_none(), list.insert((filter, subscriber)));
                } else {
                    let was_there = list.remove(&(filter.clone(), subscriber));
                    prop_assert_eq!(tree.remove(&filter, &subscriber), was_there.then_some(others == 1));
                }
            }
            for topic in topics {
                let mut found = Vec::new();
                tree.for_each_match(&topic, |&subscriber, ()| found.push(subscriber));
                found.sort_unstable();
                let mut wanted: Vec<u8> =
                    list.iter().filter(|(filter, _)| filter.matches(&topic)).map(|(_, subscriber)| *subscriber).collect();
                wanted.sort_unstable();
                prop_assert_eq!(found, wanted, "{}", topic);
            }
            for (filter, subscriber) in list {
                tree.remove(&filter, &subscriber);
            }
            prop_assert!(tree.is_empty(), "nothing is left of what was removed");
        }
    }
}
