use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The memory that messages and output take, against what they may take in all.
///
/// Each shard counts on its own, so that counting costs no traffic between cores; what one shard has counted,
/// another may give back.
#[derive(Debug)]
pub struct Memory {
    counters: Vec<Arc<AtomicUsize>>,
    max: usize,
}

/// Bytes that are counted until this value is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    counter: Arc<AtomicUsize>,
    bytes: usize,
}

impl Memory {
    pub(crate) fn new(shards: usize, max: usize) -> Self {
        Self { counters: (0..shards).map(|_| Arc::default()).collect(), max }
    }

    /// Bytes of all messages and of all output that waits for its connection. Counters of shards may be ahead of
    /// one another, so that this is exact only while nothing moves.
    pub fn used(&self) -> usize {
        self.counters.iter().fold(0, |sum: usize, counter| sum.wrapping_add(counter.load(Ordering::Relaxed)))
    }

    /// Whether nothing more is to be taken in.
    pub fn is_full(&self) -> bool {
        self.used() >= self.max
    }

    pub(crate) fn counter(&self, shard: usize) -> Arc<AtomicUsize> {
        Arc::clone(&self.counters[shard])
    }
}

impl Charge {
    pub(crate) fn new(counter: &Arc<AtomicUsize>, bytes: usize) -> Self {
        counter.fetch_add(bytes, Ordering::Relaxed);
        Self { counter: Arc::clone(counter), bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_is_given_back_when_it_is_dropped_anywhere() {
        let memory = Memory::new(2, 100);
        let first = Charge::new(&memory.counter(0), 60);
        let second = Charge::new(&memory.counter(1), 40);
        assert!(memory.is_full());
        drop(first);
        assert!(!memory.is_full());
        drop(second);
        assert_eq!(memory.used(), 0);
    }
}
