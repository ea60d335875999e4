use alloc::collections::{BTreeSet, VecDeque};

use mesh_wire::address::UnicastAddress;
use mesh_wire::{IvIndex, Seq};

/// Entries that the cache holds. A PDU can come back as long as a relay anywhere still repeats it, so that the
/// cache must outlast the traffic of that time: a busy neighbourhood has some 100 PDUs a second.
const CAPACITY: usize = 512;

/// What makes a PDU the same PDU. Not its TTL, which each relay lowers, nor its NetMIC, which follows.
type Entry = (IvIndex, UnicastAddress, Seq);

/// The network message cache (MshPRT §3.4.6.5): the oldest entry makes room for the newest.
#[derive(Clone, Debug, Default)]
pub(super) struct MessageCache {
    known: BTreeSet<Entry>,
    order: VecDeque<Entry>,
}

impl MessageCache {
    pub(super) fn contains(&self, entry: &Entry) -> bool {
        self.known.contains(entry)
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        if !self.known.insert(entry) {
            return;
        }
        self.order.push_back(entry);
        if self.order.len() > CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_makes_room() {
        let entry = |seq| (IvIndex(0), UnicastAddress::new(1).unwrap(), Seq::new(seq).unwrap());
        let mut cache = MessageCache::default();
        for seq in 0..=u32::try_from(CAPACITY).unwrap() {
            cache.insert(entry(seq));
            cache.insert(entry(seq));
        }
        assert!(!cache.contains(&entry(0)) && cache.contains(&entry(1)));
        assert_eq!((cache.known.len(), cache.order.len()), (CAPACITY, CAPACITY));
    }
}
