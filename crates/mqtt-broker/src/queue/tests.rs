use bytes::Bytes;
use clock::Instant;
use journal::log::fault::FaultyDisk;
use journal::log::{Log, Options, open};
use mqtt_wire::{Publish, QoS, Text, TopicName};
use proptest::prelude::*;
use smallvec::SmallVec;

use super::*;
use crate::overflow::testing::Memory;

/// The number in a payload, and its Subscription Identifiers.
type Seen = (u64, SmallVec<[u32; 1]>);

struct Bench {
    log: Arc<Log>,
    blocks: Memory,
    overflow: Arc<Overflow>,
    queue: Queue,
    /// What has to come.
    model: VecDeque<Seen>,
    next: u64,
}

impl Bench {
    fn new() -> Self {
        let options = Options { segment_bytes: 2_000, ..Options::default() };
        let (writer, _) = open(Arc::new(FaultyDisk::default()), options, 1, |_, _| {}).unwrap();
        let (blocks, log) = (Memory::default(), Arc::clone(writer.log()));
        let overflow = Overflow::new(Box::new(blocks.clone()));
        Self { log, blocks, overflow, queue: Queue::default(), model: VecDeque::new(), next: 0 }
    }

    fn push(&mut self, is_away: bool, identifiers: &[u32], is_stored: bool) {
        self.next += 1;
        let hold = self.log.append(&[0; 8]).hold;
        // What was copied forward, or retained, has another identity than its place.
        let id = if self.next.is_multiple_of(16) { self.next } else { hold.position().0 };
        let payload = Bytes::copy_from_slice(&id.to_be_bytes());
        let publish = Publish::new(TopicName::new("t").unwrap(), QoS::AtLeastOnce, payload.clone());
        let message = Arc::new(Message::of_publish(Instant::ORIGIN, Text::new("p").unwrap(), publish));
        let stored = Stored { id, hold }.for_client(&Text::new("c").unwrap());
        let delivery = Delivery {
            message,
            qos: QoS::AtLeastOnce,
            retain: id.is_multiple_of(3),
            identifiers: SmallVec::from_slice(identifiers),
            group: None,
            stored: is_stored.then_some(stored),
        };
        self.queue.push(delivery, is_away, Some(&self.overflow));
        self.model.push_back((id, SmallVec::from_slice(identifiers)));
    }

    fn seen(queued: &Queued) -> Seen {
        match queued {
            Queued::Stored(away) => {
                assert_eq!(away.how.retain, away.stored.id.is_multiple_of(3));
                assert_eq!(away.how.qos, QoS::AtLeastOnce);
                (away.stored.id, away.how.identifiers.clone())
            }
            Queued::Here(delivery) => {
                let id = u64::from_be_bytes(delivery.message.payload[..].try_into().unwrap());
                (id, delivery.identifiers.clone())
            }
        }
    }

    fn pop(&mut self) {
        let popped = self.queue.pop().map(|queued| Self::seen(&queued));
        assert_eq!(popped, self.model.pop_front());
    }

    /// What a shard does when the log has read what was asked for.
    fn load(&mut self) {
        let positions = self.queue.next_to_load();
        let away = self.queue.iter().filter_map(|queued| match queued {
            Queued::Stored(away) => Some((away.stored.position(), away.stored.id)),
            Queued::Here(_) => None,
        });
        let numbers: BTreeMap<Position, u64> = away.collect();
        let loaded = positions.into_iter().map(|position| {
            let payload = Bytes::copy_from_slice(&numbers[&position].to_be_bytes());
            let publish = Publish::new(TopicName::new("t").unwrap(), QoS::AtLeastOnce, payload);
            let message = Message::of_publish(Instant::ORIGIN, Text::new("p").unwrap(), publish);
            (position, Some(Arc::new(message)))
        });
        let loaded = loaded.collect();
        assert!(self.queue.take_loaded(loaded).is_empty());
    }

    fn check(&self) {
        assert_eq!((self.queue.len(), self.queue.is_empty()), (self.model.len(), self.model.is_empty()));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push { count: u8, is_away: bool, identifiers: Vec<u32>, is_stored: bool },
    Pop(u8),
    Load,
    PutAway(u8),
    Unroll(u8),
    Fill(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let identifiers = prop_oneof![4 => 0..3_usize, 1 => 0..20_usize]
        .prop_flat_map(|count| prop::collection::vec(any::<u32>(), count));
    prop_oneof![
        4 => (1..60_u8, any::<bool>(), identifiers, prop::bool::weighted(0.9)).prop_map(
            |(count, is_away, identifiers, is_stored)| Step::Push { count, is_away, identifiers, is_stored }
        ),
        3 => (1..80_u8).prop_map(Step::Pop),
        2 => Just(Step::Load),
        2 => (0..3_u8).prop_map(|keep| Step::PutAway(keep * 20)),
        1 => any::<u8>().prop_map(Step::Unroll),
        1 => any::<bool>().prop_map(Step::Fill),
    ]
}

proptest! {
    #[test]
    fn messages_come_out_as_they_went_in_wherever_they_were(steps in prop::collection::vec(step(), 1..60)) {
        let mut bench = Bench::new();
        for step in steps {
            match step {
                Step::Push { count, is_away, identifiers, is_stored } => {
                    (0..count).for_each(|_| bench.push(is_away, &identifiers, is_stored));
                }
                Step::Pop(count) => (0..count).for_each(|_| bench.pop()),
                Step::Load => bench.load(),
                Step::PutAway(keep) => bench.queue.put_away(keep.into(), Some(&bench.overflow)),
                Step::Unroll(share) => {
                    let before = Position(bench.log.end().0 * u64::from(share) / 256);
                    while bench.queue.unroll_before(before, 50) {}
                }
                Step::Fill(is_full) => bench.blocks.0.lock().unwrap().is_full = is_full,
            }
            bench.check();
        }
        while !bench.model.is_empty() {
            bench.pop();
        }
        prop_assert_eq!((bench.queue.bytes(), bench.queue.take_unreachable()), (0, 0));
        prop_assert_eq!(bench.log.stats().live_bytes, 0, "nothing is claimed any more");
    }
}

#[test]
fn a_queue_of_any_length_takes_no_memory_and_gives_its_blocks_back() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        (0..10_000).for_each(|_| bench.push(true, &[], true));
        assert_eq!(bench.queue.items.len(), 1, "one chain");
        assert_eq!(bench.queue.iter().count(), 0);
        bench.queue = Queue::default();
        bench.model.clear();
        assert_eq!(bench.log.stats().live_bytes, 0);
    }
    let state = bench.blocks.0.lock().unwrap();
    assert!(state.blocks.is_empty() && (1_428..1_700).contains(&state.most), "{} blocks", state.most);
}

#[test]
fn blocks_of_one_queue_are_used_again_by_another_one() {
    let mut bench = Bench::new();
    bench.push(true, &[], true);
    let first = bench.model[0].clone();
    (0..300).for_each(|_| bench.push(true, &[], true));
    let mut other = Queue::default();
    std::mem::swap(&mut other, &mut bench.queue);
    for _ in 0..20 {
        bench.model.clear();
        bench.queue = Queue::default();
        (0..300).for_each(|_| bench.push(true, &[], true));
    }
    assert!(bench.blocks.0.lock().unwrap().most < 120);
    assert_eq!(other.pop().map(|queued| Bench::seen(&queued)), Some(first));
}

#[test]
fn what_cannot_be_read_stays_wanted_and_is_told() {
    let mut bench = Bench::new();
    (0..100).for_each(|_| bench.push(true, &[], true));
    let live = bench.log.stats().live_bytes;
    bench.blocks.0.lock().unwrap().is_broken = true;
    assert!(bench.queue.pop().is_none());
    assert_eq!(bench.queue.take_unreachable(), 100);
    assert!(bench.queue.is_empty());
    assert_eq!(bench.log.stats().live_bytes, live);
}
