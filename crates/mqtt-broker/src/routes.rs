use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use mqtt_wire::{TopicFilter, TopicName};
use smallvec::SmallVec;

use crate::filters::Filters;
use crate::stable_hash;

/// A shard, by its number.
pub type ShardId = usize;

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(u64);

impl ShardSet {
    /// Most shards that a broker can have.
    pub const MAX: usize = 64;

    /// Adds a shard.
    pub fn insert(&mut self, shard: ShardId) {
        self.0 |= 1 << shard;
    }

    /// Whether a shard is in it.
    pub fn contains(self, shard: ShardId) -> bool {
        self.0 >> shard & 1 == 1
    }

    /// The shards that are in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there is none in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Its shards.
    pub fn iter(self) -> impl Iterator<Item = ShardId> {
        (0..Self::MAX).filter(move |&shard| self.contains(shard))
    }
}

/// The shards that a topic interests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// All of them.
    pub all: ShardSet,
    /// Those with sessions that outlast a restart and have to get what is published with QoS 1 or 2.
    pub durable: ShardSet,
}

/// Stripes of the table, by the first level of topics.
const STRIPES: usize = 64;

/// Which shards have a subscriber of which topic filter.
///
/// A look-up gives something else only when a shard's first subscriber of a filter has come or its last one has gone.
/// Each stripe has a generation that every such change raises, so that a shard can keep what it looked up and see at the
/// price of two atomic reads that it still holds.
#[derive(Debug)]
pub struct RouteTable {
    /// By the hash of the first level; the last stripe holds the filters that begin with a wildcard.
    stripes: Vec<Stripe>,
}

#[derive(Debug, Default)]
struct Stripe {
    generation: AtomicU64,
    filters: RwLock<Filters<Routes>>,
}

/// The shards of one filter: mostly one.
type Routes = SmallVec<[Route; 1]>;

#[derive(Clone, Copy, Debug)]
struct Route {
    shard: u8,
    /// Whether messages go there.
    is_open: bool,
    /// How many durable clients and groups the filter has there.
    durable: u32,
}

/// How new a looked-up set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(u64, u64);

impl Default for RouteTable {
    fn default() -> Self {
        Self::new()
    }
}

impl RouteTable {
    /// A table without routes.
    pub fn new() -> Self {
        Self { stripes: (0..=STRIPES).map(|_| Stripe::default()).collect() }
    }

    /// Has messages of topics that match `filter` go to `shard`. From when this returns, every later look-up
    /// finds it.
    pub fn insert(&self, filter: &TopicFilter, shard: ShardId) {
        self.change(filter, shard, |route| !std::mem::replace(&mut route.is_open, true));
    }

    /// Ends that.
    pub fn remove(&self, filter: &TopicFilter, shard: ShardId) {
        self.change(filter, shard, |route| std::mem::replace(&mut route.is_open, false));
    }

    /// `shard` has one durable subscriber of `filter` more: messages of topics that match it are stored for it.
    pub fn insert_durable(&self, filter: &TopicFilter, shard: ShardId) {
        self.change(filter, shard, |route| {
            route.durable += 1;
            route.durable == 1
        });
    }

    /// It has one less.
    pub fn remove_durable(&self, filter: &TopicFilter, shard: ShardId) {
        self.change(filter, shard, |route| {
            route.durable = route.durable.saturating_sub(1);
            route.durable == 0
        });
    }

    /// `work` says whether look-ups give something else from now on.
    fn change(&self, filter: &TopicFilter, shard: ShardId, work: impl FnOnce(&mut Route) -> bool) {
        let Ok(shard) = u8::try_from(shard) else { return };
        let stripe = self.stripe_of_filter(filter);
        let mut filters = stripe.filters.write().unwrap_or_else(PoisonError::into_inner);
        let routes = filters.get_or_new(filter.as_bytes());
        let at = routes.iter().position(|route| route.shard == shard).unwrap_or_else(|| {
            routes.push(Route { shard, is_open: false, durable: 0 });
            routes.len() - 1
        });
        let (is_changed, route) = (work(&mut routes[at]), routes[at]);
        if !route.is_open && route.durable == 0 {
            filters.change(filter.as_bytes(), |routes| {
                routes.remove(at);
                ((), routes.is_empty())
            });
        }
        if is_changed {
            stripe.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// The shards that `topic` interests.
    pub fn lookup(&self, topic: &TopicName) -> (Interest, Generation) {
        // Taken first: a change that comes in between makes the answer look older than it is, never newer.
        let generation = self.generation(topic);
        let mut interest = Interest::default();
        for stripe in self.stripes_of_topic(topic) {
            let filters = stripe.filters.read().unwrap_or_else(PoisonError::into_inner);
            filters.for_each_match(topic.as_bytes(), topic.is_system(), |routes| {
                for route in routes {
                    if route.is_open {
                        interest.all.insert(route.shard.into());
                    }
                    if route.durable > 0 {
                        interest.durable.insert(route.shard.into());
                    }
                }
            });
        }
        (interest, generation)
    }

    /// Gives back room in tables that were filled in order.
    pub(crate) fn repack(&self) {
        for stripe in &self.stripes {
            stripe.filters.write().unwrap_or_else(PoisonError::into_inner).repack();
        }
    }

    /// How new a look-up of `topic` would be.
    pub fn generation(&self, topic: &TopicName) -> Generation {
        let [own, wild] =
            self.stripes_of_topic(topic).map(|stripe| stripe.generation.load(Ordering::Acquire));
        Generation(own, wild)
    }

    fn stripes_of_topic(&self, topic: &TopicName) -> [&Stripe; 2] {
        [self.stripe(topic.levels().next()), &self.stripes[STRIPES]]
    }

    fn stripe_of_filter(&self, filter: &TopicFilter) -> &Stripe {
        match filter.levels().next() {
            Some(b"+" | b"#") => &self.stripes[STRIPES],
            level => self.stripe(level),
        }
    }

    fn stripe(&self, first_level: Option<&[u8]>) -> &Stripe {
        let hash = stable_hash(first_level.unwrap_or_default()) % STRIPES as u64;
        &self.stripes[usize::try_from(hash).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::new(text).unwrap()
    }

    #[test]
    fn a_topic_goes_to_the_shards_with_a_matching_filter_only() {
        let routes = RouteTable::new();
        for (text, shard) in [("a/b", 0), ("a/+", 1), ("+/b", 2), ("#", 3), ("c/#", 4)] {
            routes.insert(&filter(text), shard);
        }
        let shards =
            |topic: &str| routes.lookup(&TopicName::new(topic).unwrap()).0.all.iter().collect::<Vec<_>>();
        assert_eq!(shards("a/b"), [0, 1, 2, 3]);
        assert_eq!(shards("c"), [3, 4]);
        assert!(shards("$SYS/x").is_empty());
        routes.remove(&filter("#"), 3);
        assert_eq!(shards("c"), [4]);
    }

    #[test]
    fn a_change_that_may_matter_raises_the_generation() {
        let routes = RouteTable::new();
        let topic = TopicName::new("a/b").unwrap();
        let before = routes.lookup(&topic).1;
        assert_eq!(routes.generation(&topic), before);
        routes.insert(&filter("a/+"), 0);
        let after = routes.generation(&topic);
        assert_ne!(after, before);
        routes.insert(&filter("+/x"), 0);
        assert_ne!(routes.generation(&topic), after);
    }
}
