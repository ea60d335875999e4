//! What was sent to a client that is away, and not acknowledged: bytes in blocks that are written once and read once.

use std::io;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _};
use journal::log::Position;
use mqtt_wire::{PacketId, TopicFilter};

use super::{Allocator, HEADER, NONE, Overflow, Place, ROOM};
use crate::queue::{Away, Queued};

/// A message that was sent under an identifier, or `None` if the client has it and only the exchange is not over.
pub(crate) type Sent = (PacketId, Option<Queued>);

/// What an entry says of its message: the client has it;
const RECEIVED: u8 = 0;
/// it is in memory;
const HERE: u8 = 1;
/// it is in the log;
const STORED: u8 = 2;
/// and it is for a shared subscription.
const STORED_FOR_GROUP: u8 = 3;

/// What was sent to a client, as a row of blocks.
///
/// One after the other: `packet identifier:16 · RECEIVED, HERE, STORED or STORED_FOR_GROUP:8`, for a group its number
/// among the client's subscriptions:32, and of a message that is in the log its [`Place`].
#[derive(Debug)]
pub(crate) struct Parcel {
    overflow: Arc<Overflow>,
    first: u32,
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
                None => bytes.put_u8(RECEIVED),
                Some(Queued::Stored(away)) if Place::has_room(&away.how) => {
                    put_stored(away, away.group.as_ref().and_then(&number_of), &mut bytes);
                    from = from.min(away.stored.position());
                    messages += 1;
                }
                Some(_) => bytes.put_u8(HERE),
            }
        }
        let written = if messages > 0 { write(&mut overflow.lock(), &bytes).ok() } else { None };
        let (Some((first, blocks)), Ok(length)) = (written, u32::try_from(bytes.len())) else {
            return (None, sent);
        };
        let mut left = Vec::new();
        for (packet_id, message) in sent {
            match message {
                Some(Queued::Stored(away)) if Place::has_room(&away.how) => {
                    overflow.absorb(away.stored.hold);
                }
                Some(here) => left.push((packet_id, Some(here))),
                None => {}
            }
        }
        let overflow = Arc::clone(overflow);
        (Some(Self { overflow, first, blocks, length, messages, from }), left)
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
                Entry::Stored(group, place) => {
                    let away = place.claimed(group.and_then(&group_of), &mut allocator.claims);
                    sent.extend(away.map(|away| (packet_id, Some(Queued::Stored(Box::new(away))))));
                }
            }
        }
        Ok(sent)
    }

    /// Reads the blocks and gives them back.
    fn take(&mut self, allocator: &mut Allocator) -> io::Result<Vec<u8>> {
        let (mut bytes, mut number) = (Vec::with_capacity(self.length as usize), self.first);
        for left in (0..std::mem::take(&mut self.blocks)).rev() {
            let (next, block) = allocator.read(number).inspect_err(|_| allocator.forget(left + 1))?;
            bytes.extend_from_slice(&block[HEADER..]);
            allocator.release(number);
            number = next;
        }
        bytes.truncate(self.length as usize);
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
            if let Entry::Stored(_, place) = entry {
                drop(place.claimed(None, &mut allocator.claims));
            }
        }
    }
}

/// Writes bytes into new blocks. Returns the first of them, and how many they are.
fn write(allocator: &mut Allocator, bytes: &[u8]) -> io::Result<(u32, u32)> {
    let numbers: Vec<u32> = bytes.chunks(ROOM).map(|_| allocator.allocate()).collect();
    let nexts = numbers.iter().skip(1).copied().chain([NONE]);
    let mut parts = numbers.iter().zip(nexts).zip(bytes.chunks(ROOM));
    let written = parts.try_for_each(|((&number, next), part)| allocator.write(number, next, part));
    if let Err(error) = written {
        numbers.iter().for_each(|number| allocator.release(*number));
        return Err(error);
    }
    let blocks = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
    Ok((numbers.first().copied().unwrap_or(NONE), blocks))
}

enum Entry {
    Received,
    Here,
    Stored(Option<u32>, Place),
}

fn put_stored(away: &Away, group: Option<u32>, bytes: &mut Vec<u8>) {
    match group {
        None => bytes.put_u8(STORED),
        Some(group) => {
            bytes.put_u8(STORED_FOR_GROUP);
            bytes.put_u32(group);
        }
    }
    Place::of(away).put(bytes);
}

/// Takes the first of some entries.
fn split(entries: &mut &[u8]) -> Option<(PacketId, Entry)> {
    let packet_id = PacketId::new(entries.try_get_u16().ok()?)?;
    let entry = match entries.try_get_u8().ok()? {
        RECEIVED => Entry::Received,
        HERE => Entry::Here,
        STORED => Entry::Stored(None, Place::take(entries)?),
        STORED_FOR_GROUP => Entry::Stored(Some(entries.try_get_u32().ok()?), Place::take(entries)?),
        _ => return None,
    };
    Some((packet_id, entry))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use clock::Instant;
    use journal::log::fault::FaultyDisk;
    use journal::log::{Log, Options, open};
    use mqtt_wire::{Publish, QoS, Text, TopicName};
    use proptest::prelude::*;
    use smallvec::SmallVec;

    use super::*;
    use crate::client::Delivery;
    use crate::durable::Stored;
    use crate::durable::record::How;
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
            5 => (prop::collection::vec(any::<u32>(), 0..20), any::<bool>())
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
            let has_any = kinds.iter().any(|kind| matches!(kind, Kind::Stored(identifiers, _) if identifiers.len() <= 16));
            prop_assert_eq!(parcel.is_some(), has_any && !is_full);
            match parcel {
                None => {
                    prop_assert_eq!(say(&left), before);
                    drop(left);
                }
                Some(parcel) if is_dropped => drop((parcel, left)),
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
