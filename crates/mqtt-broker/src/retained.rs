use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use clock::Instant;
use mqtt_wire::{TopicFilter, TopicName};

use crate::message::Message;
use crate::stable_hash;

const STRIPES: usize = 64;

/// The retained messages of a broker (§3.3.1.3), by topic, shared by all shards.
#[derive(Debug)]
pub struct RetainedMessages {
    stripes: Vec<RwLock<Level>>,
    count: AtomicUsize,
    bytes: AtomicUsize,
    max_count: usize,
    max_bytes: usize,
}

/// A level of the topic tree.
#[derive(Debug, Default)]
struct Level {
    children: BTreeMap<Box<[u8]>, Level>,
    message: Option<Arc<Message>>,
}

/// There is no room for one more retained message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no room for more retained messages")]
pub struct RetainedFull;

impl RetainedMessages {
    /// Room for so many messages with so many bytes, topics included.
    pub fn new(max_count: usize, max_bytes: usize) -> Self {
        let stripes = (0..STRIPES).map(|_| RwLock::default()).collect();
        Self { stripes, count: AtomicUsize::new(0), bytes: AtomicUsize::new(0), max_count, max_bytes }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Retains `message` in the place of the one before; an empty payload only removes that one.
    ///
    /// # Errors
    /// When there is no room. The one before is kept then.
    pub fn set(&self, message: &Arc<Message>) -> Result<(), RetainedFull> {
        let levels: Vec<&[u8]> = message.topic.levels().collect();
        let mut root = self.stripe(&message.topic).write().unwrap_or_else(PoisonError::into_inner);
        if message.payload.is_empty() {
            if let Some(before) = root.remove(&levels) {
                self.forget(&before);
            }
            return Ok(());
        }
        let before = root.get(&levels);
        let freed = before.map_or((0, 0), |before| (1, size(before)));
        let count = self.len() - freed.0;
        let bytes = self.bytes.load(Ordering::Relaxed) - freed.1;
        if count >= self.max_count || bytes + size(message) > self.max_bytes {
            return Err(RetainedFull);
        }
        let before = root.insert(&levels, Arc::clone(message));
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size(message), Ordering::Relaxed);
        if let Some(before) = before {
            self.forget(&before);
        }
        Ok(())
    }

    /// All whose topic matches `filter` and that have not expired.
    pub fn matching(&self, now: Instant, filter: &TopicFilter) -> Vec<Arc<Message>> {
        let levels: Vec<&[u8]> = filter.levels().collect();
        let mut found = Vec::new();
        let is_wild = matches!(levels.first(), Some(&(b"+" | b"#")));
        let stripes = if is_wild {
            &self.stripes[..]
        } else {
            let index = stripe_of(levels.first().copied().unwrap_or_default());
            &self.stripes[index..=index]
        };
        for stripe in stripes {
            let root = stripe.read().unwrap_or_else(PoisonError::into_inner);
            root.collect(&levels, true, &mut found);
        }
        found.retain(|message| !message.has_expired(now));
        found
    }

    fn forget(&self, message: &Message) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(size(message), Ordering::Relaxed);
    }

    fn stripe(&self, topic: &TopicName) -> &RwLock<Level> {
        &self.stripes[stripe_of(topic.levels().next().unwrap_or_default())]
    }
}

fn stripe_of(first_level: &[u8]) -> usize {
    usize::try_from(stable_hash(first_level) % STRIPES as u64).unwrap_or(0)
}

/// What a message counts for.
fn size(message: &Message) -> usize {
    message.topic.as_bytes().len() + message.payload.len()
}

impl Level {
    fn get(&self, levels: &[&[u8]]) -> Option<&Arc<Message>> {
        match levels.split_first() {
            None => self.message.as_ref(),
            Some((level, rest)) => self.children.get(*level)?.get(rest),
        }
    }

    fn insert(&mut self, levels: &[&[u8]], message: Arc<Message>) -> Option<Arc<Message>> {
        match levels.split_first() {
            None => self.message.replace(message),
            Some((level, rest)) => self.children.entry((*level).into()).or_default().insert(rest, message),
        }
    }

    fn remove(&mut self, levels: &[&[u8]]) -> Option<Arc<Message>> {
        let Some((level, rest)) = levels.split_first() else { return self.message.take() };
        let child = self.children.get_mut(*level)?;
        let removed = child.remove(rest);
        if child.message.is_none() && child.children.is_empty() {
            self.children.remove(*level);
        }
        removed
    }

    /// `is_first`: a wildcard does not match a level that begins with `$` there (§4.7.2).
    fn collect(&self, filter: &[&[u8]], is_first: bool, found: &mut Vec<Arc<Message>>) {
        let reachable = |level: &[u8]| !is_first || level.first() != Some(&b'$');
        match filter.split_first() {
            None => found.extend(self.message.clone()),
            Some((&b"#", _)) => {
                found.extend(self.message.clone());
                for (_, child) in self.children.iter().filter(|(level, _)| reachable(level)) {
                    child.collect(filter, false, found);
                }
            }
            Some((&b"+", rest)) => {
                for (_, child) in self.children.iter().filter(|(level, _)| reachable(level)) {
                    child.collect(rest, false, found);
                }
            }
            Some((level, rest)) => {
                if let Some(child) = self.children.get(*level) {
                    child.collect(rest, false, found);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mqtt_wire::{Publish, QoS, Text};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn message(topic: &TopicName, payload: &[u8]) -> Arc<Message> {
        let publish = Publish::new(topic.clone(), QoS::AtMostOnce, Bytes::copy_from_slice(payload));
        Arc::new(Message::of_publish(Instant::ORIGIN, Text::default(), publish))
    }

    proptest! {
        #[test]
        fn the_index_agrees_with_a_map(
            sets in vec(("[ab$]{0,1}(/[ab]{0,1}){0,3}", vec(any::<u8>(), 0..3)), 0..40),
            filters in vec("(\\+|[ab$]{0,1})(/(\\+|[ab]{0,1})){0,3}(/#)?|#", 1..10),
        ) {
            let retained = RetainedMessages::new(1_000, 100_000);
            let mut map = BTreeMap::new();
            for (topic, payload) in sets {
                let Ok(topic) = TopicName::new(&topic) else { continue };
                retained.set(&message(&topic, &payload)).unwrap();
                if payload.is_empty() {
                    map.remove(&topic);
                } else {
                    map.insert(topic, payload);
                }
            }
            prop_assert_eq!(retained.len(), map.len());
            for filter in filters.iter().filter_map(|text| TopicFilter::new(text).ok()) {
                let mut found: Vec<_> = (retained.matching(Instant::ORIGIN, &filter).into_iter())
                    .map(|message| (message.topic.clone(), message.payload.to_vec()))
                    .collect();
                found.sort();
                let wanted: Vec<_> = map.clone().into_iter().filter(|(topic, _)| filter.matches(topic)).collect();
                prop_assert_eq!(found, wanted);
            }
        }
    }

    #[test]
    fn a_full_index_keeps_what_it_has_and_still_replaces() {
        let topics = ["a", "b", "c"].map(|topic| TopicName::new(topic).unwrap());
        let retained = RetainedMessages::new(2, 8);
        assert_eq!(retained.set(&message(&topics[0], b"123")), Ok(()));
        assert_eq!(retained.set(&message(&topics[1], b"1234")), Err(RetainedFull), "9 bytes");
        assert_eq!(retained.set(&message(&topics[1], b"1")), Ok(()));
        assert_eq!(retained.set(&message(&topics[2], b"")), Ok(()), "there is nothing to remove");
        assert_eq!(retained.set(&message(&topics[2], b"1")), Err(RetainedFull), "3 messages");
        assert_eq!(retained.set(&message(&topics[0], b"321")), Ok(()));
        assert_eq!(retained.set(&message(&topics[0], b"")), Ok(()));
        assert_eq!((retained.len(), retained.bytes.load(Ordering::Relaxed)), (1, 2));
    }
}
