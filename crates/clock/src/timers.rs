use alloc::collections::{BTreeMap, BTreeSet};

use crate::Instant;

/// A table of timers, at most one for each key.
///
/// Setting, cancelling and popping cost O(log n). Timers that are due at the same instant fire in the
/// order of their keys, so that a run is reproducible.
#[derive(Clone, Debug)]
pub struct Timers<K> {
    by_key: BTreeMap<K, Instant>,
    by_time: BTreeSet<(Instant, K)>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Timers<K> {
    /// A table without timers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts the timer `key`, or moves it when it is running.
    pub fn set(&mut self, key: K, at: Instant) {
        if let Some(before) = self.by_key.insert(key.clone(), at) {
            self.by_time.remove(&(before, key.clone()));
        }
        self.by_time.insert((at, key));
    }

    /// Stops the timer `key`; says whether it was running.
    pub fn cancel(&mut self, key: &K) -> bool {
        let Some(at) = self.by_key.remove(key) else {
            return false;
        };
        self.by_time.remove(&(at, key.clone()));
        true
    }

    /// When the timer `key` fires, if it is running.
    pub fn get(&self, key: &K) -> Option<Instant> {
        self.by_key.get(key).copied()
    }

    /// When the first timer fires. May change with each call that takes `&mut self`.
    pub fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|&(at, _)| at)
    }

    /// Takes one timer that is due at `now`; the earliest first.
    pub fn pop_expired(&mut self, now: Instant) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }

    /// How many timers are running.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether no timer is running.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_is_set_again_fires_once_at_its_new_time() {
        let mut timers = Timers::new();
        timers.set('a', Instant::from_micros(10));
        timers.set('a', Instant::from_micros(20));
        assert_eq!(timers.pop_expired(Instant::from_micros(15)), None);
        assert_eq!(timers.pop_expired(Instant::from_micros(20)), Some('a'));
        assert_eq!(timers.pop_expired(Instant::from_micros(99)), None);
        assert!(timers.is_empty());
    }

    #[test]
    fn timers_due_together_fire_in_the_order_of_time_then_key() {
        let mut timers = Timers::new();
        for (key, at) in [(3, 5), (1, 5), (2, 4)] {
            timers.set(key, Instant::from_micros(at));
        }
        assert!(timers.cancel(&3));
        assert!(!timers.cancel(&3));
        let now = Instant::from_micros(5);
        let fired: alloc::vec::Vec<_> = core::iter::from_fn(|| timers.pop_expired(now)).collect();
        assert_eq!(fired, [2, 1]);
    }
}
