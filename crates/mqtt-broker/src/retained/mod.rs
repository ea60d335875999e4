//! The retained messages of a broker (§3.3.1.3), shared by all shards.

mod tree;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use clock::Instant;
use journal::log::Position;
use mqtt_wire::{TopicFilter, TopicName};

use self::tree::{Level, Retained, Text, Walk};
use crate::durable::Stored;
use crate::message::Message;
use crate::stable_hash;

/// Parts of the topics, by their first two levels: whole sites often have one first level.
pub(crate) const STRIPES: usize = 16;

/// The retained messages of a broker (§3.3.1.3), by topic, shared by all shards.
#[derive(Debug)]
pub struct RetainedMessages {
    stripes: Vec<RwLock<Level>>,
    /// What expires, and when.
    expiring: Mutex<BTreeSet<(Instant, TopicName)>>,
    count: AtomicUsize,
    bytes: AtomicUsize,
    max_count: usize,
    max_bytes: usize,
}

/// There is no room for one more retained message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no room for more retained messages")]
pub(crate) struct RetainedFull;

/// A look-up that is made in slices. What it finds is what is retained when its slice is made, so that it is
/// never older than what a subscriber has got in the meantime.
#[derive(Debug)]
pub struct Scan {
    filter: TopicFilter,
    stripe: usize,
    /// The last stripe that can have something, and one.
    end: usize,
    from: Option<Vec<Text>>,
}

impl Scan {
    /// A look-up of all that matches `filter`.
    pub fn new(filter: TopicFilter) -> Self {
        let is_wildcard = |level: &[u8]| matches!(level, b"+" | b"#");
        let (stripe, end) = if filter.levels().take(2).any(is_wildcard) {
            (0, STRIPES)
        } else {
            let stripe = stripe_of(filter.levels());
            (stripe, stripe + 1)
        };
        Self { filter, stripe, end, from: None }
    }

    /// The filter.
    pub fn filter(&self) -> &TopicFilter {
        &self.filter
    }

    /// Whether everything has been looked at.
    pub fn is_done(&self) -> bool {
        self.stripe >= self.end
    }
}

impl RetainedMessages {
    /// Room for so many messages with so many bytes, topics included.
    pub fn new(max_count: usize, max_bytes: usize) -> Self {
        let stripes = (0..STRIPES).map(|_| RwLock::default()).collect();
        let (count, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { stripes, expiring: Mutex::default(), count, bytes, max_count, max_bytes }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Their bytes, topics included.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Retains `message` as `version` in the place of the one before; an empty payload only removes that one.
    ///
    /// # Errors
    /// When there is no room. The one before is kept then.
    pub(crate) fn set(
        &self,
        message: &Arc<Message>,
        version: u64,
        stored: Option<Stored>,
    ) -> Result<(), RetainedFull> {
        let levels: Vec<&[u8]> = message.topic.levels().collect();
        let mut root = self.stripe(&message.topic).write().unwrap_or_else(PoisonError::into_inner);
        if message.payload.is_empty() {
            if let Some(before) = root.remove(&levels) {
                self.forget(&before.message);
            }
            return Ok(());
        }
        let (mut count, mut bytes) = (self.len() + 1, self.bytes() + size(message));
        if (count > self.max_count || bytes > self.max_bytes)
            && let Some(before) = root.get(&levels)
        {
            count -= 1;
            bytes -= size(&before.message);
        }
        if count > self.max_count || bytes > self.max_bytes {
            return Err(RetainedFull);
        }
        let before = root.insert(&levels, Retained { message: Arc::clone(message), version, stored });
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size(message), Ordering::Relaxed);
        if let Some(before) = before {
            self.forget(&before.message);
        }
        if let Some(expires) = message.expires {
            self.expiring().insert((expires, message.topic.detached()));
        }
        Ok(())
    }

    /// Removes what has expired, and says when the next does.
    pub(crate) fn expire(&self, now: Instant) -> Option<Instant> {
        loop {
            let (expires, topic) = self.expiring().first().cloned()?;
            if expires > now {
                return Some(expires);
            }
            let levels: Vec<&[u8]> = topic.levels().collect();
            let mut root = self.stripe(&topic).write().unwrap_or_else(PoisonError::into_inner);
            let is_due = |retained: &Retained| retained.message.has_expired(now);
            if root.get(&levels).is_some_and(is_due)
                && let Some(expired) = root.remove(&levels)
            {
                self.forget(&expired.message);
            }
            self.expiring().remove(&(expires, topic));
        }
    }

    /// The next slice of a look-up: looks at no more than `budget` levels of topics.
    pub fn scan(&self, now: Instant, scan: &mut Scan, budget: usize) -> Vec<Arc<Message>> {
        self.scan_stored(now, scan, budget).into_iter().map(|(message, _)| message).collect()
    }

    /// The same, and where the log has them.
    pub(crate) fn scan_stored(
        &self,
        now: Instant,
        scan: &mut Scan,
        budget: usize,
    ) -> Vec<(Arc<Message>, Option<Stored>)> {
        let levels: Vec<&[u8]> = scan.filter.levels().collect();
        let mut walk = Walk::new(budget);
        while scan.stripe < scan.end {
            let root = self.stripes[scan.stripe].read().unwrap_or_else(PoisonError::into_inner);
            let is_through = root.walk(&levels, scan.from.as_deref(), true, &mut walk);
            scan.from = walk.stopped_at.take();
            if !is_through {
                break;
            }
            scan.stripe += 1;
        }
        walk.found.retain(|(message, _)| !message.has_expired(now));
        walk.found
    }

    /// All whose topic matches `filter` and that have not expired.
    pub fn matching(&self, now: Instant, filter: &TopicFilter) -> Vec<Arc<Message>> {
        self.scan(now, &mut Scan::new(filter.clone()), usize::MAX)
    }

    /// The version of what is retained for a topic: of two, the higher one was published later.
    pub fn version(&self, topic: &TopicName) -> Option<u64> {
        let levels: Vec<&[u8]> = topic.levels().collect();
        let root = self.stripe(topic).read().unwrap_or_else(PoisonError::into_inner);
        root.get(&levels).map(|retained| retained.version)
    }

    /// What is retained and stands before `before` in the log, on one of `nth` of `of` parts of the topics.
    pub(crate) fn stored_before(
        &self,
        before: Position,
        nth: usize,
        of: usize,
    ) -> Vec<(Arc<Message>, u64, Stored)> {
        let mut found = Vec::new();
        for stripe in self.stripes.iter().skip(nth).step_by(of) {
            let root = stripe.read().unwrap_or_else(PoisonError::into_inner);
            root.for_each(&mut |retained| {
                if let Some(stored) = retained.stored.as_ref().filter(|stored| stored.position() < before) {
                    found.push((Arc::clone(&retained.message), retained.version, stored.clone()));
                }
            });
        }
        found
    }

    /// A retained message was copied forward.
    pub(crate) fn moved(&self, topic: &TopicName, version: u64, stored: Stored) {
        let levels: Vec<&[u8]> = topic.levels().collect();
        let mut root = self.stripe(topic).write().unwrap_or_else(PoisonError::into_inner);
        if let Some(retained) = root.get_mut(&levels).filter(|retained| retained.version == version) {
            retained.stored = Some(stored);
        }
    }

    fn forget(&self, message: &Message) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(size(message), Ordering::Relaxed);
        if let Some(expires) = message.expires {
            self.expiring().remove(&(expires, message.topic.clone()));
        }
    }

    fn expiring(&self) -> std::sync::MutexGuard<'_, BTreeSet<(Instant, TopicName)>> {
        self.expiring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stripe(&self, topic: &TopicName) -> &RwLock<Level> {
        &self.stripes[stripe_of(topic.levels())]
    }
}

/// The part of the topics to which one with these levels belongs.
pub(crate) fn stripe_of<'a>(levels: impl Iterator<Item = &'a [u8]>) -> usize {
    let hash = levels.take(2).map(stable_hash).fold(0_u64, |all, one| all.rotate_left(5) ^ one);
    usize::try_from(hash % STRIPES as u64).unwrap_or(0)
}

/// What a message counts for.
fn size(message: &Message) -> usize {
    message.topic.as_bytes().len() + message.payload.len()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

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
                retained.set(&message(&topic, &payload), 1, None).unwrap();
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
                let mut scan = Scan::new(filter.clone());
                let mut in_slices = Vec::new();
                while !scan.is_done() {
                    let slice = retained.scan(Instant::ORIGIN, &mut scan, 2);
                    in_slices.extend(slice.into_iter().map(|message| (message.topic.clone(), message.payload.to_vec())));
                }
                in_slices.sort();
                prop_assert_eq!(&in_slices, &found, "in slices");
                let wanted: Vec<_> = map.clone().into_iter().filter(|(topic, _)| filter.matches(topic)).collect();
                prop_assert_eq!(found, wanted);
            }
        }
    }

    #[test]
    fn a_full_index_keeps_what_it_has_and_still_replaces() {
        let topics = ["a", "b", "c"].map(|topic| TopicName::new(topic).unwrap());
        let retained = RetainedMessages::new(2, 8);
        assert_eq!(retained.set(&message(&topics[0], b"123"), 1, None), Ok(()));
        assert_eq!(retained.set(&message(&topics[1], b"1234"), 1, None), Err(RetainedFull), "9 bytes");
        assert_eq!(retained.set(&message(&topics[1], b"1"), 1, None), Ok(()));
        assert_eq!(retained.set(&message(&topics[2], b""), 1, None), Ok(()), "there is nothing to remove");
        assert_eq!(retained.set(&message(&topics[2], b"1"), 1, None), Err(RetainedFull), "3 messages");
        assert_eq!(retained.set(&message(&topics[0], b"321"), 1, None), Ok(()));
        assert_eq!(retained.set(&message(&topics[0], b""), 1, None), Ok(()));
        assert_eq!((retained.len(), retained.bytes.load(Ordering::Relaxed)), (1, 2));
    }

    #[test]
    fn what_is_looked_at_is_in_proportion_to_what_matches() {
        let retained = RetainedMessages::new(usize::MAX, usize::MAX);
        for number in 0..20_000 {
            let last = if number % 1_000 == 0 { "b" } else { "c" };
            let topic = TopicName::new(&format!("a/{number}/{last}")).unwrap();
            retained.set(&message(&topic, b"x"), 1, None).unwrap();
        }
        let mut scan = Scan::new(TopicFilter::new("a/+/b").unwrap());
        let found = retained.scan(Instant::ORIGIN, &mut scan, 100);
        assert!(scan.is_done(), "100 levels are enough for 20 of 20,000");
        assert_eq!(found.len(), 20);
    }

    #[test]
    fn what_has_expired_is_removed_and_what_was_replaced_is_not() {
        let retained = RetainedMessages::new(10, 1_000);
        let expiring = |topic: &str, seconds: u32| {
            let mut publish = Publish::new(TopicName::new(topic).unwrap(), QoS::AtMostOnce, "x");
            publish.properties.message_expiry_interval = Some(seconds);
            Arc::new(Message::of_publish(Instant::ORIGIN, Text::default(), publish))
        };
        let later = |seconds| Instant::ORIGIN + Duration::from_secs(seconds);
        for (topic, seconds) in [("a", 5), ("b", 5), ("b", 9), ("c", 5)] {
            retained.set(&expiring(topic, seconds), 1, None).unwrap();
        }
        retained.set(&message(&TopicName::new("c").unwrap(), b"for ever"), 2, None).unwrap();
        assert_eq!(retained.expire(later(4)), Some(later(5)));
        assert_eq!(retained.expire(later(5)), Some(later(9)));
        assert_eq!(retained.len(), 2);
        assert_eq!(retained.expire(later(9)), None);
        assert_eq!((retained.len(), retained.version(&TopicName::new("c").unwrap())), (1, Some(2)));
    }
}
