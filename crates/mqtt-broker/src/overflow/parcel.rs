//! What was sent to a client that is away, and not acknowledged: bytes in blocks that are written once and read once.

use std::io;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _};
use journal::log::Position;
use mqtt_wire::{PacketId, QoS, TopicFilter};
use smallvec::SmallVec;

use super::{Allocator, HEADER, NONE, Overflow, ROOM};
use crate::durable::Stored;
use crate::durable::record::How;
use crate::queue::{Away, Queued};

/// A message that was sent under an identifier, or `None` if the client has it and only the exchange is not over.
pub(crate) type Sent = (PacketId, Option<Queued>);

/// In the second part of an entry, beside the QoS, which is 0 if there is no message.
const RETAIN: u8 = 1 << 2;
/// The message is in memory, and nothing more of it here.
const HERE: u8 = 1 << 3;
const HAS_GROUP: u8 = 1 << 4;

/// What was sent to a client, as a row of blocks.
///
/// One after the other: `packet identifier:16 · QoS, RETAIN, HERE, HAS_GROUP:8`, and of a message that is not in memory
/// `id:64 · position:64 · claim:32 · size:32 · count:8 · count × Subscription Identifier:32`, and of one for a group its
/// number among the client's subscriptions:32.
#[derive(Debug)]
pub(crate) struct Parcel {
    overflow: Arc<Overflow>,
    first: u32,
    last: u32,
    /// 0 when they were given back.
    blocks: u32,
    /// Bytes of all entries.
    length: u32,
    messages: u32,
    /// No message is before this place.
    from: Position,
}

impl Parcel {
    /// Packs what was sent, in its order, but for messages that are in memory: those are left over. All of it is if
    /// the blocks cannot be written, or would have nothing to say. `number_of` knows the groups of all of them, and
    /// gives the same numbers until it is unpacked.
    pub(crate) fn pack(
        overflow: &Arc<Overflow>,
        sent: Vec<Sent>,
        number_of: impl Fn(&TopicFilter) -> Option<u32>,
    ) -> (Option<Self>, Vec<Sent>) {
        let (mut bytes, mut from, mut messages) = (Vec::new(), Position(u64::MAX), 0);
        for (packet_id, message) in &sent {
            bytes.put_u16(packet_id.0.get());
            match message {
                None => bytes.put_u8(0),
                Some(Queued::Stored(away)) if u8::try_from(away.how.identifiers.len()).is_ok() => {
                    encode(away, away.group.as_ref().and_then(&number_of), &mut bytes);
                    from = from.min(away.stored.position());
                    messages += 1;
                }
                Some(_) => bytes.put_u8(HERE),
            }
        }
        let written = if messages > 0 { write(&mut overflow.lock(), &bytes).ok() } else { None };
        let (Some((first, last, blocks)), Ok(length)) = (written, u32::try_from(bytes.len())) else {
            return (None, sent);
        };
        let mut left = Vec::new();
        for (packet_id, message) in sent {
            match message {
                Some(Queued::Stored(away)) if u8::try_from(away.how.identifiers.len()).is_ok() => {
                    overflow.absorb(away.stored.hold);
                }
                Some(here) => left.push((packet_id, Some(here))),
                None => {}
            }
        }
        let overflow = Arc::clone(overflow);
        (Some(Self { overflow, first, last, blocks, length, messages, from }), left)
    }

    /// Whether no message is before this place in the log.
    pub(crate) fn is_from(&self, position: Position) -> bool {
        self.from >= position
    }

    /// How many messages there are.
    pub(crate) fn len(&self) -> usize {
        self.messages as usize
    }

    /// What was packed, with what had been left over where it was.
    ///
    /// # Errors
    /// When it cannot be read; its messages stay wanted in the log. Says what had been left over.
    pub(crate) fn unpack(
        mut self,
        left: Vec<Sent>,
        group_of: impl Fn(u32) -> Option<TopicFilter>,
    ) -> Result<Vec<Sent>, Vec<Sent>> {
        let overflow = Arc::clone(&self.overflow);
        let mut allocator = overflow.lock();
        let Ok(bytes) = self.take(&mut allocator) else { return Err(left) };
        let (mut entries, mut left, mut sent) = (&bytes[..], left.into_iter(), Vec::new());
        while let Some((packet_id, entry)) = split(&mut entries) {
            match entry {
                Entry::Here => sent.extend(left.next()),
                Entry::Received => sent.push((packet_id, None)),
                Entry::Away(away) => {
                    let group = away.group.and_then(&group_of);
                    let claimed = away.claimed(group, &mut allocator);
                    sent.extend(claimed.map(|away| (packet_id, Some(away))));
                }
            }
        }
        Ok(sent)
    }

    /// Reads the blocks and gives them back.
    fn take(&mut self, allocator: &mut Allocator) -> io::Result<Vec<u8>> {
        let (mut bytes, mut number) = (Vec::with_capacity(self.length as usize), self.first);
        for _ in 0..std::mem::take(&mut self.blocks) {
            let (next, block) = allocator.read(number)?;
            bytes.extend_from_slice(&block[HEADER..]);
            number = next;
        }
        bytes.truncate(self.length as usize);
        let blocks = u32::try_from(bytes.len().div_ceil(ROOM)).unwrap_or(u32::MAX);
        allocator.release(self.first, self.last, blocks);
        Ok(bytes)
    }
}

/// Gives back what it claims.
impl Drop for Parcel {
    fn drop(&mut self) {
        let overflow = Arc::clone(&self.overflow);
        let mut allocator = overflow.lock();
        if self.blocks == 0 || allocator.is_closed {
            return;
        }
        let Ok(bytes) = self.take(&mut allocator) else { return };
        let mut entries = &bytes[..];
        while let Some((_, entry)) = split(&mut entries) {
            if let Entry::Away(away) = entry {
                drop(away.claimed(None, &mut allocator));
            }
        }
    }
}

/// Writes bytes into new blocks. Returns the first and the last of them, and how many they are.
fn write(allocator: &mut Allocator, bytes: &[u8]) -> io::Result<(u32, u32, u32)> {
    let first = allocator.allocate();
    let (mut last, mut blocks) = (first, 1);
    let mut parts = bytes.chunks(ROOM).peekable();
    while let Some(part) = parts.next() {
        let next = if parts.peek().is_some() { allocator.allocate() } else { NONE };
        blocks += u32::from(next != NONE);
        let written = allocator.write(last, next, part);
        last = if next == NONE { last } else { next };
        if let Err(error) = written {
            allocator.release(first, last, blocks);
            return Err(error);
        }
    }
    Ok((first, last, blocks))
}

enum Entry {
    Here,
    Received,
    Away(Unclaimed),
}

/// A message whose claim the overflow has.
struct Unclaimed {
    id: u64,
    position: Position,
    claim: u32,
    size: u32,
    how: How,
    group: Option<u32>,
}

impl Unclaimed {
    fn claimed(self, group: Option<TopicFilter>, allocator: &mut Allocator) -> Option<Queued> {
        let Self { id, position, claim, size, how, .. } = self;
        let hold = allocator.claims.split(position, claim)?;
        Some(Queued::Stored(Box::new(Away { stored: Stored { id, hold }, how, group, size })))
    }
}

fn encode(away: &Away, group: Option<u32>, bytes: &mut Vec<u8>) {
    let Away { stored, how, size, .. } = away;
    let (retain, has_group) =
        (if how.retain { RETAIN } else { 0 }, if group.is_some() { HAS_GROUP } else { 0 });
    bytes.put_u8(how.qos as u8 | retain | has_group);
    bytes.put_u64(stored.id);
    bytes.put_u64(stored.position().0);
    bytes.put_u32(stored.hold.bytes());
    bytes.put_u32(*size);
    // There are no more: that was seen before.
    bytes.put_u8(u8::try_from(how.identifiers.len()).unwrap_or(u8::MAX));
    how.identifiers.iter().for_each(|identifier| bytes.put_u32(*identifier));
    group.into_iter().for_each(|group| bytes.put_u32(group));
}

/// Takes the first of some entries.
fn split(entries: &mut &[u8]) -> Option<(PacketId, Entry)> {
    let packet_id = PacketId::new(entries.try_get_u16().ok()?)?;
    let bits = entries.try_get_u8().ok()?;
    if bits & HERE != 0 {
        return Some((packet_id, Entry::Here));
    }
    let qos = QoS::try_from(bits & 3).ok()?;
    if qos == QoS::AtMostOnce {
        return Some((packet_id, Entry::Received));
    }
    let (id, position) = (entries.try_get_u64().ok()?, Position(entries.try_get_u64().ok()?));
    let (claim, size) = (entries.try_get_u32().ok()?, entries.try_get_u32().ok()?);
    let count = entries.try_get_u8().ok()?;
    let identifiers: SmallVec<[u32; 1]> = (0..count).map_while(|_| entries.try_get_u32().ok()).collect();
    let group = if bits & HAS_GROUP == 0 { None } else { Some(entries.try_get_u32().ok()?) };
    let how = How { qos, retain: bits & RETAIN != 0, identifiers };
    Some((packet_id, Entry::Away(Unclaimed { id, position, claim, size, how, group })))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use clock::Instant;
    use journal::log::fault::FaultyDisk;
    use journal::log::{Log, Options, open};
    use mqtt_wire::{Publish, Text, TopicName};
    use proptest::prelude::*;

    use super::*;
    use crate::client::Delivery;
    use crate::message::Message;
    use crate::overflow::testing::Memory;

    struct Bench {
        log: Arc<Log>,
        blocks: Memory,
        overflow: Arc<Overflow>,
    }

    impl Bench {
        fn new() -> Self {
            let (writer, _) =
                open(Arc::new(FaultyDisk::default()), Options::default(), 1, |_, _| {}).unwrap();
            let blocks = Memory::default();
            let overflow = Overflow::new(Box::new(blocks.clone()));
            Self { log: Arc::clone(writer.log()), blocks, overflow }
        }

        fn sent(&self, number: u16, kind: &Kind) -> Sent {
            let packet_id = PacketId::new(number + 1).unwrap();
            let payload = Bytes::copy_from_slice(&number.to_be_bytes());
            let publish = Publish::new(TopicName::new("t").unwrap(), QoS::AtLeastOnce, payload);
            let message = Arc::new(Message::of_publish(Instant::ORIGIN, Text::new("p").unwrap(), publish));
            let (qos, retain) = (QoS::AtLeastOnce, number.is_multiple_of(3));
            let message = match kind {
                Kind::Received => None,
                Kind::Here => Some(Queued::Here(Box::new(Delivery {
                    message,
                    qos,
                    retain,
                    identifiers: SmallVec::new(),
                    group: None,
                    stored: None,
                }))),
                Kind::Stored(identifiers, group) => {
                    let stored = Stored { id: number.into(), hold: self.log.append(&[0; 8]).hold };
                    let how = How { qos: QoS::ExactlyOnce, retain, identifiers: identifiers.clone().into() };
                    let group = group.then(group_filter);
                    Some(Queued::Stored(Box::new(Away { stored, how, group, size: number.into() })))
                }
            };
            (packet_id, message)
        }

        fn live(&self) -> u64 {
            self.log.stats().live_bytes
        }
    }

    #[derive(Clone, Debug)]
    enum Kind {
        Received,
        Here,
        Stored(Vec<u32>, bool),
    }

    fn group_filter() -> TopicFilter {
        TopicFilter::new("$share/g/#").unwrap()
    }

    fn number_of(group: &TopicFilter) -> Option<u32> {
        (*group == group_filter()).then_some(7)
    }

    fn group_of(number: u32) -> Option<TopicFilter> {
        (number == 7).then(group_filter)
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![
            1 => Just(Kind::Received),
            1 => Just(Kind::Here),
            5 => (prop::collection::vec(any::<u32>(), 0..4), any::<bool>())
                .prop_map(|(identifiers, has_group)| Kind::Stored(identifiers, has_group)),
        ]
    }

    fn say(sent: &[Sent]) -> String {
        format!("{sent:?}")
    }

    proptest! {
        #[test]
        fn what_was_sent_comes_out_as_it_went_in(
            kinds in prop::collection::vec(kind(), 0..60),
            is_full: bool,
            is_dropped: bool,
        ) {
            let bench = Bench::new();
            let sent = |bench: &Bench| -> Vec<Sent> {
                (0..).zip(&kinds).map(|(number, kind)| bench.sent(number, kind)).collect()
            };
            let sent = sent(&bench);
            let (before, live) = (say(&sent), bench.live());
            bench.blocks.0.lock().unwrap().is_full = is_full;
            let (parcel, left) = Parcel::pack(&bench.overflow, sent, number_of);
            prop_assert_eq!(bench.live(), live, "all of it is wanted still");
            let has_any = kinds.iter().any(|kind| matches!(kind, Kind::Stored(..)));
            prop_assert_eq!(parcel.is_some(), has_any && !is_full);
            match parcel {
                None => {
                    prop_assert_eq!(say(&left), before);
                    drop(left);
                }
                Some(parcel) if is_dropped => drop(parcel),
                Some(parcel) => {
                    prop_assert!(parcel.is_from(Position(0)) && !parcel.is_from(Position(u64::MAX)));
                    let sent = parcel.unpack(left, group_of).unwrap();
                    prop_assert_eq!(say(&sent), before);
                    prop_assert_eq!(bench.live(), live);
                }
            }
            prop_assert_eq!(bench.live(), 0, "nothing is claimed any more");
            prop_assert!(bench.blocks.0.lock().unwrap().blocks.is_empty());
        }
    }

    #[test]
    fn what_cannot_be_read_stays_wanted_and_is_told() {
        let bench = Bench::new();
        let kinds = [Kind::Stored(Vec::new(), false), Kind::Here, Kind::Stored(vec![7], true)];
        let sent: Vec<Sent> = (0..).zip(&kinds).map(|(number, kind)| bench.sent(number, kind)).collect();
        let live = bench.live();
        let (parcel, left) = Parcel::pack(&bench.overflow, sent, number_of);
        let parcel = parcel.unwrap();
        assert_eq!((parcel.len(), left.len()), (2, 1));
        bench.blocks.0.lock().unwrap().is_broken = true;
        let left = parcel.unpack(left, group_of).unwrap_err();
        assert_eq!((left.len(), bench.live()), (1, live));
    }
}
