use std::collections::BTreeMap;

use mqtt_wire::{TopicFilter, TopicName};

/// Topic filters and who subscribed to them: finding all that match a topic costs by the topic's levels and
/// what matches, not by the number of subscriptions.
#[derive(Clone, Debug)]
pub struct SubscriptionTree<S, O> {
    root: Node<S, O>,
}

#[derive(Clone, Debug)]
struct Node<S, O> {
    /// By the text of the next level.
    children: BTreeMap<Box<[u8]>, Node<S, O>>,
    /// `+` as the next level.
    any: Option<Box<Node<S, O>>>,
    /// Filters that end here.
    here: BTreeMap<S, O>,
    /// Filters that end here with `#`.
    below: BTreeMap<S, O>,
}

impl<S, O> Default for Node<S, O> {
    fn default() -> Self {
        Self { children: BTreeMap::new(), any: None, here: BTreeMap::new(), below: BTreeMap::new() }
    }
}

impl<S, O> Default for SubscriptionTree<S, O> {
    fn default() -> Self {
        Self { root: Node::default() }
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
        let mut node = &mut self.root;
        let mut ends_with_hash = false;
        for level in filter.levels() {
            match level {
                b"#" => ends_with_hash = true,
                b"+" => node = node.any.get_or_insert_default(),
                level => node = node.children.entry(level.into()).or_default(),
            }
        }
        let subscribers = if ends_with_hash { &mut node.below } else { &mut node.here };
        let is_first = subscribers.is_empty();
        Inserted { replaced: subscribers.insert(subscriber, options), is_first }
    }

    /// Ends a subscription. `None`: there was none; else whether it was the filter's last.
    pub fn remove(&mut self, filter: &TopicFilter, subscriber: &S) -> Option<bool> {
        let levels: Vec<&[u8]> = filter.levels().collect();
        self.root.remove(&levels, subscriber)
    }

    /// Calls `found` for each subscription that matches (§4.7).
    pub fn for_each_match(&self, topic: &TopicName, mut found: impl FnMut(&S, &O)) {
        let levels: Vec<&[u8]> = topic.levels().collect();
        self.root.visit(&levels, topic.is_system(), &mut found);
    }

    /// Whether there is no subscription.
    pub fn is_empty(&self) -> bool {
        self.root.is_empty()
    }
}

impl<S: Ord, O> Node<S, O> {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.any.is_none() && self.here.is_empty() && self.below.is_empty()
    }

    /// The recursion is as deep as a topic has levels, which the broker limits.
    fn remove(&mut self, levels: &[&[u8]], subscriber: &S) -> Option<bool> {
        match levels {
            [] => self.here.remove(subscriber).map(|_| self.here.is_empty()),
            [b"#"] => self.below.remove(subscriber).map(|_| self.below.is_empty()),
            [b"+", rest @ ..] => {
                let child = self.any.as_mut()?;
                let removed = child.remove(rest, subscriber);
                if child.is_empty() {
                    self.any = None;
                }
                removed
            }
            [level, rest @ ..] => {
                let child = self.children.get_mut(*level)?;
                let removed = child.remove(rest, subscriber);
                if child.is_empty() {
                    self.children.remove(*level);
                }
                removed
            }
        }
    }

    /// `no_wildcard`: the first level of a topic that begins with `$` is not matched by one (§4.7.2).
    fn visit(&self, levels: &[&[u8]], no_wildcard: bool, found: &mut impl FnMut(&S, &O)) {
        if !no_wildcard {
            // `#` includes its parent level, so that a filter may end before the topic does or with it.
            self.below.iter().for_each(|(subscriber, options)| found(subscriber, options));
        }
        let Some((level, rest)) = levels.split_first() else {
            self.here.iter().for_each(|(subscriber, options)| found(subscriber, options));
            return;
        };
        if let Some(any) = self.any.as_ref().filter(|_| !no_wildcard) {
            any.visit(rest, false, found);
        }
        if let Some(child) = self.children.get(*level) {
            child.visit(rest, false, found);
        }
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
