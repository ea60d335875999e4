//! The records of the log, and their bytes.
//!
//! A record begins with its kind in one byte. Integers are big-endian; a text is `length:16 · UTF-8`. A message is, behind
//! what the broker adds to it, a PUBLISH of MQTT 5.0.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use mqtt_wire::{
    Decoder, Packet, PacketId, Publish, QoS, RetainHandling, SubscriptionOptions, Text, TopicFilter,
    TopicName, Version, Will,
};
use smallvec::SmallVec;

use crate::client::Subscription;

/// A message, for as long as it is anywhere: the position at which it was stored first.
pub(crate) type MessageId = u64;

/// In the place of the name of a message that is not in the log.
pub(crate) const NOT_STORED: MessageId = u64::MAX;

/// What the broker writes down.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    Message(Box<MessageRecord>),
    /// Who of a shard's clients has to get a message, and which shared subscriptions. `shard` is done with it then.
    Refs {
        id: MessageId,
        shard: Option<u8>,
        refs: Vec<Ref>,
        groups: Vec<TopicFilter>,
        /// The message was copied forward; its place in the queue stays.
        is_moved: bool,
    },
    /// A message of QoS 2 that is retained from now on.
    Retained {
        id: MessageId,
        version: u64,
    },
    /// A message of QoS 2 without a payload: what was retained for its topic is not any more. The message itself may be
    /// gone before what was retained.
    Deleted {
        id: MessageId,
        version: u64,
        topic: TopicName,
    },
    /// Another name of a message, which is this record's position: a client may have to get a retained message more
    /// than once, beside the message itself.
    Alias {
        of: MessageId,
    },
    /// No member of a shared subscription has to get a message any more.
    GroupDone {
        id: MessageId,
        group: TopicFilter,
    },
    Session(Box<SessionRecord>),
    Ended {
        client: Text,
    },
    Subscribed {
        client: Text,
        filter: TopicFilter,
        subscription: Subscription,
    },
    Unsubscribed {
        client: Text,
        filter: TopicFilter,
    },
    /// A message of QoS 2 is sent to a client, under this identifier and no other.
    Sent {
        client: Text,
        id: MessageId,
        packet_id: PacketId,
    },
    /// PUBREC: the client has it.
    Received {
        client: Text,
        packet_id: PacketId,
    },
    /// PUBCOMP: the identifier is free again.
    Completed {
        client: Text,
        packet_id: PacketId,
    },
    /// A client does not have to get a message any more.
    Done {
        client: Text,
        id: MessageId,
        group: Option<TopicFilter>,
    },
    /// PUBREL: the client's identifier is free again.
    Released {
        client: Text,
        packet_id: PacketId,
    },
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MessageRecord {
    /// Of a message that was copied forward, where it stood first.
    pub(crate) copy_of: Option<MessageId>,
    pub(crate) publisher: Text,
    /// Of QoS 2: the identifier with which its publisher sent it, which is a receipt.
    pub(crate) receipt: Option<PacketId>,
    /// The shards with sessions that have to get it: bit `n` for shard `n` of `of_shards`.
    pub(crate) shards: u64,
    pub(crate) of_shards: u8,
    /// Its version, if it is retained.
    pub(crate) version: u64,
    /// When it expires, in milliseconds since 1970; 0: never.
    pub(crate) expires_ms: u64,
    pub(crate) publish: Publish,
}

/// A client that has to get a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ref {
    pub(crate) client: Text,
    pub(crate) how: How,
    pub(crate) group: Option<TopicFilter>,
}

/// How a client gets a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct How {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) identifiers: SmallVec<[u32; 1]>,
}

impl How {
    /// The same for a shared subscription: its member's own subscription will say.
    pub(crate) fn for_group() -> Self {
        Self { qos: QoS::AtLeastOnce, retain: false, identifiers: SmallVec::new() }
    }
}

/// A session.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SessionRecord {
    pub(crate) client: Text,
    pub(crate) expiry: Duration,
    /// When its connection ended, in milliseconds since 1970; 0: it has one.
    pub(crate) left_ms: u64,
    pub(crate) will: Option<Will>,
    /// Everything else about it but its queue; without it that stays as it is.
    pub(crate) whole: Option<Whole>,
}

/// What a session holds beside its queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Whole {
    pub(crate) subscriptions: Vec<(TopicFilter, Subscription)>,
    /// Messages of QoS 2 from the client that it has not released.
    pub(crate) receipts: Vec<PacketId>,
    /// Identifiers of messages of QoS 2 to the client that it has and has not completed, and of those that it may have
    /// and that are not in the log.
    pub(crate) received: Vec<PacketId>,
}

/// The bytes are not those of a record that this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a record of this version")]
pub(crate) struct RecordError;

impl Record {
    /// Appends its bytes.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Message(message) => encode_message(message, out),
            Self::Refs { .. } => self.encode_refs(out),
            Self::Retained { id, version } => {
                out.put_u8(3);
                out.put_u64(*id);
                out.put_u64(*version);
            }
            Self::Deleted { id, version, topic } => {
                out.put_u8(14);
                out.put_u64(*id);
                out.put_u64(*version);
                put_bytes(topic.as_bytes(), out);
            }
            Self::Alias { of } => {
                out.put_u8(15);
                out.put_u64(*of);
            }
            Self::GroupDone { id, group } => {
                out.put_u8(4);
                out.put_u64(*id);
                put_filter(group, out);
            }
            Self::Session(session) => encode_session(session, out),
            Self::Ended { client } => {
                out.put_u8(6);
                put_text(client, out);
            }
            Self::Subscribed { client, filter, subscription } => {
                out.put_u8(7);
                put_text(client, out);
                put_filter(filter, out);
                put_subscription(subscription, out);
            }
            Self::Unsubscribed { client, filter } => {
                out.put_u8(8);
                put_text(client, out);
                put_filter(filter, out);
            }
            Self::Sent { client, id, packet_id } => {
                out.put_u8(9);
                put_text(client, out);
                out.put_u16(packet_id.0.get());
                out.put_u64(*id);
            }
            Self::Received { client, packet_id } => put_exchange(10, client, *packet_id, out),
            Self::Completed { client, packet_id } => put_exchange(11, client, *packet_id, out),
            Self::Done { client, id, group } => {
                out.put_u8(12);
                put_text(client, out);
                out.put_u64(*id);
                put_group(group.as_ref(), out);
            }
            Self::Released { client, packet_id } => put_exchange(13, client, *packet_id, out),
        }
    }

    fn encode_refs(&self, out: &mut BytesMut) {
        let Self::Refs { id, shard, refs, groups, is_moved } = self else { return };
        out.put_u8(2);
        out.put_u64(*id);
        out.put_u8(shard.unwrap_or(u8::MAX));
        out.put_u8(u8::from(*is_moved));
        out.put_u32(length(refs.len()));
        for Ref { client, how, group } in refs {
            put_text(client, out);
            put_how(how, out);
            put_group(group.as_ref(), out);
        }
        out.put_u32(length(groups.len()));
        groups.iter().for_each(|group| put_filter(group, out));
    }

    /// Reads one.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        Self::decode_shared(Bytes::copy_from_slice(bytes))
    }

    /// Reads one, whose texts and payload then stay where its bytes are.
    pub(crate) fn decode_shared(bytes: Bytes) -> Result<Self, RecordError> {
        let mut reader = Reader(bytes);
        let record = match reader.u8()? {
            1 => return decode_message(reader),
            2 => Self::Refs {
                id: reader.u64()?,
                shard: Some(reader.u8()?).filter(|&shard| shard != u8::MAX),
                is_moved: reader.u8()? == 1,
                refs: reader.list(|reader| {
                    Ok(Ref { client: reader.text()?, how: reader.how()?, group: reader.group()? })
                })?,
                groups: reader.list(Reader::filter)?,
            },
            3 => Self::Retained { id: reader.u64()?, version: reader.u64()? },
            4 => Self::GroupDone { id: reader.u64()?, group: reader.filter()? },
            5 => decode_session(&mut reader)?,
            6 => Self::Ended { client: reader.text()? },
            7 => Self::Subscribed {
                client: reader.text()?,
                filter: reader.filter()?,
                subscription: reader.subscription()?,
            },
            8 => Self::Unsubscribed { client: reader.text()?, filter: reader.filter()? },
            9 => {
                let (client, packet_id) = (reader.text()?, reader.packet_id()?);
                Self::Sent { client, packet_id, id: reader.u64()? }
            }
            10 => Self::Received { client: reader.text()?, packet_id: reader.packet_id()? },
            11 => Self::Completed { client: reader.text()?, packet_id: reader.packet_id()? },
            12 => Self::Done { client: reader.text()?, id: reader.u64()?, group: reader.group()? },
            15 => Self::Alias { of: reader.u64()? },
            14 => Self::Deleted {
                id: reader.u64()?,
                version: reader.u64()?,
                topic: TopicName::try_from(reader.text()?).map_err(|_| RecordError)?,
            },
            13 => Self::Released { client: reader.text()?, packet_id: reader.packet_id()? },
            _ => return Err(RecordError),
        };
        if reader.0.is_empty() { Ok(record) } else { Err(RecordError) }
    }
}

fn encode_message(message: &MessageRecord, out: &mut BytesMut) {
    out.put_u8(1);
    out.put_u64(message.copy_of.map_or(0, |id| id + 1));
    put_text(&message.publisher, out);
    out.put_u16(message.receipt.map_or(0, |id| id.0.get()));
    out.put_u64(message.shards);
    out.put_u8(message.of_shards);
    out.put_u64(message.version);
    out.put_u64(message.expires_ms);
    put_publish(&message.publish, out);
}

/// What a start wants to know of a message.
pub(crate) struct Head<'a> {
    pub(crate) copy_of: Option<MessageId>,
    pub(crate) publisher: &'a [u8],
    pub(crate) receipt: Option<PacketId>,
    pub(crate) shards: u64,
    pub(crate) of_shards: u8,
    pub(crate) version: u64,
    pub(crate) retain: bool,
    /// Only if it is to be retained, and the same below.
    pub(crate) topic: &'a [u8],
    pub(crate) has_payload: bool,
}

impl<'a> Head<'a> {
    /// `None`: it is another record, or not whole.
    pub(crate) fn of(bytes: &'a [u8]) -> Option<Self> {
        let (1, mut rest) = bytes.split_first()? else { return None };
        let copy_of = rest.try_get_u64().ok()?.checked_sub(1);
        let publisher = take_text(&mut rest)?;
        let receipt = PacketId::new(rest.try_get_u16().ok()?);
        let (shards, of_shards) = (rest.try_get_u64().ok()?, rest.try_get_u8().ok()?);
        let (version, _expires_ms) = (rest.try_get_u64().ok()?, rest.try_get_u64().ok()?);
        // A PUBLISH (§3.3): its type, DUP, QoS and RETAIN, its length, the topic, the packet identifier, properties.
        let flags = *rest.first()?;
        if flags >> 4 != 3 {
            return None;
        }
        let retain = flags & 1 == 1;
        let (mut topic, mut has_payload) = (&[][..], true);
        if retain {
            let publish = PublishParts::of(rest)?;
            (topic, has_payload) = (publish.topic, !publish.payload.is_empty());
        }
        Some(Self { copy_of, publisher, receipt, shards, of_shards, version, retain, topic, has_payload })
    }
}

/// The parts of an encoded PUBLISH.
struct PublishParts<'a> {
    flags: u8,
    topic: &'a [u8],
    properties: &'a [u8],
    payload: &'a [u8],
}

impl<'a> PublishParts<'a> {
    fn of(mut rest: &'a [u8]) -> Option<Self> {
        let flags = rest.try_get_u8().ok()?;
        let length = take_variable(&mut rest)?;
        if flags >> 4 != 3 || rest.len() != length {
            return None;
        }
        let topic = take_text(&mut rest)?;
        // A packet identifier, from QoS 1 on.
        rest = rest.get(if flags & 6 == 0 { 0 } else { 2 }..)?;
        let properties = take_variable(&mut rest)?;
        let (properties, payload) = rest.split_at_checked(properties)?;
        Some(Self { flags, topic, properties, payload })
    }
}

/// What most [`Record::Refs`] are: without shared subscriptions and Subscription Identifiers, and not moved.
pub(crate) struct PlainRefs<'a> {
    pub(crate) id: MessageId,
    pub(crate) shard: Option<u8>,
    /// Client Identifier, QoS and RETAIN.
    pub(crate) refs: SmallVec<[(&'a [u8], QoS, bool); 2]>,
}

impl<'a> PlainRefs<'a> {
    /// `None`: it is another record, has more to it, or is not whole.
    pub(crate) fn of(bytes: &'a [u8]) -> Option<Self> {
        let (2, mut rest) = bytes.split_first()? else { return None };
        let id = rest.try_get_u64().ok()?;
        let shard = Some(rest.try_get_u8().ok()?).filter(|&shard| shard != u8::MAX);
        let is_moved = rest.try_get_u8().ok()? != 0;
        let mut refs = SmallVec::new();
        for _ in 0..rest.try_get_u32().ok()? {
            let client = take_text(&mut rest)?;
            let (bits, identifiers) = (rest.try_get_u8().ok()?, rest.try_get_u16().ok()?);
            let group = rest.try_get_u16().ok()?;
            if identifiers > 0 || group > 0 {
                return None;
            }
            refs.push((client, QoS::try_from(bits & 3).ok()?, bits & 4 != 0));
        }
        let groups = rest.try_get_u32().ok()?;
        (!is_moved && groups == 0 && rest.is_empty()).then_some(Self { id, shard, refs })
    }
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = rest.try_get_u16().ok()?;
    rest.split_off(..usize::from(length))
}

/// A Variable Byte Integer (§1.5.5).
fn take_variable(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for shift in [0, 7, 14, 21] {
        let byte = rest.try_get_u8().ok()?;
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn decode_message(mut reader: Reader) -> Result<Record, RecordError> {
    Ok(Record::Message(Box::new(MessageRecord {
        copy_of: reader.u64()?.checked_sub(1),
        publisher: reader.text()?,
        receipt: PacketId::new(reader.u16()?),
        shards: reader.u64()?,
        of_shards: reader.u8()?,
        version: reader.u64()?,
        expires_ms: reader.u64()?,
        publish: publish(reader.0)?,
    })))
}

fn encode_session(session: &SessionRecord, out: &mut BytesMut) {
    out.put_u8(5);
    put_text(&session.client, out);
    out.put_u64(session.expiry.as_secs());
    out.put_u64(session.left_ms);
    out.put_u8(u8::from(session.will.is_some()));
    if let Some(will) = &session.will {
        let mut properties = will.properties.clone();
        out.put_u32(properties.will_delay_interval.take().unwrap_or(0));
        let (topic, payload) = (will.topic.clone(), will.payload.clone());
        let publish = Publish { retain: will.retain, properties, ..Publish::new(topic, will.qos, payload) };
        let mut bytes = BytesMut::new();
        put_publish(&publish, &mut bytes);
        out.put_u32(length(bytes.len()));
        out.put_slice(&bytes);
    }
    out.put_u8(u8::from(session.whole.is_some()));
    if let Some(Whole { subscriptions, receipts, received }) = &session.whole {
        out.put_u32(length(subscriptions.len()));
        for (filter, subscription) in subscriptions {
            put_filter(filter, out);
            put_subscription(subscription, out);
        }
        for ids in [receipts, received] {
            out.put_u32(length(ids.len()));
            ids.iter().for_each(|id| out.put_u16(id.0.get()));
        }
    }
}

fn decode_session(reader: &mut Reader) -> Result<Record, RecordError> {
    let client = reader.text()?;
    let (expiry, left_ms) = (Duration::from_secs(reader.u64()?), reader.u64()?);
    let will = match reader.u8()? {
        0 => None,
        _ => {
            let delay = reader.u32()?;
            let size = usize::try_from(reader.u32()?).map_err(|_| RecordError)?;
            let Publish { topic, payload, qos, retain, mut properties, .. } = publish(reader.take(size)?)?;
            properties.will_delay_interval = (delay > 0).then_some(delay);
            Some(Will { topic, payload, qos, retain, properties })
        }
    };
    let whole = match reader.u8()? {
        0 => None,
        _ => Some(Whole {
            subscriptions: reader.list(|reader| Ok((reader.filter()?, reader.subscription()?)))?,
            receipts: reader.list(Reader::packet_id)?,
            received: reader.list(Reader::packet_id)?,
        }),
    };
    Ok(Record::Session(Box::new(SessionRecord { client, expiry, left_ms, will, whole })))
}

fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn put_bytes(bytes: &[u8], out: &mut BytesMut) {
    // A text is never longer.
    out.put_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    out.put_slice(bytes);
}

fn put_text(text: &Text, out: &mut BytesMut) {
    put_bytes(text.as_bytes(), out);
}

fn put_filter(filter: &TopicFilter, out: &mut BytesMut) {
    put_bytes(filter.as_bytes(), out);
}

/// No filter is empty.
fn put_group(group: Option<&TopicFilter>, out: &mut BytesMut) {
    put_bytes(group.map_or(&[], |group| group.as_bytes()), out);
}

fn put_exchange(kind: u8, client: &Text, packet_id: PacketId, out: &mut BytesMut) {
    out.put_u8(kind);
    put_text(client, out);
    out.put_u16(packet_id.0.get());
}

fn put_how(how: &How, out: &mut BytesMut) {
    out.put_u8(how.qos as u8 | u8::from(how.retain) << 2);
    out.put_u16(u16::try_from(how.identifiers.len()).unwrap_or(u16::MAX));
    how.identifiers.iter().take(u16::MAX.into()).for_each(|&identifier| out.put_u32(identifier));
}

fn put_subscription(subscription: &Subscription, out: &mut BytesMut) {
    let options = &subscription.options;
    let flags = u8::from(options.no_local) << 2 | u8::from(options.retain_as_published) << 3;
    out.put_u8(options.qos as u8 | flags | (options.retain_handling as u8) << 4);
    out.put_u32(subscription.identifier.unwrap_or(0));
}

/// The packet identifier that a PUBLISH of QoS 1 and 2 has to have means nothing here.
fn put_publish(publish: &Publish, out: &mut BytesMut) {
    let start = out.len();
    // What came as a packet, or as a part of one, fits in one.
    if let Ok(Some(at)) = publish.encode_head(Version::V5, out) {
        out[at + 1] = 1;
    }
    debug_assert!(out.len() > start);
    out.put_slice(&publish.payload);
}

fn publish(bytes: Bytes) -> Result<Publish, RecordError> {
    // Most have no properties, and are quickly taken apart.
    if let Some(PublishParts { flags, topic, properties: [], payload }) = PublishParts::of(&bytes) {
        let topic =
            Text::try_from(bytes.slice_ref(topic)).ok().and_then(|topic| TopicName::try_from(topic).ok());
        let qos = QoS::try_from(flags >> 1 & 3).map_err(|_| RecordError)?;
        let publish = Publish::new(topic.ok_or(RecordError)?, qos, bytes.slice_ref(payload));
        return Ok(Publish { retain: flags & 1 == 1, ..publish });
    }
    let mut bytes = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    match Decoder::new(Version::V5, u32::MAX).decode(&mut bytes) {
        Ok(Some(Packet::Publish(publish))) if bytes.is_empty() => {
            Ok(Publish { packet_id: None, dup: false, ..*publish })
        }
        _ => Err(RecordError),
    }
}

struct Reader(Bytes);

impl Reader {
    fn take(&mut self, count: usize) -> Result<Bytes, RecordError> {
        if self.0.len() < count { Err(RecordError) } else { Ok(self.0.split_to(count)) }
    }

    fn u8(&mut self) -> Result<u8, RecordError> {
        self.0.try_get_u8().map_err(|_| RecordError)
    }

    fn u16(&mut self) -> Result<u16, RecordError> {
        self.0.try_get_u16().map_err(|_| RecordError)
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        self.0.try_get_u32().map_err(|_| RecordError)
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        self.0.try_get_u64().map_err(|_| RecordError)
    }

    fn text(&mut self) -> Result<Text, RecordError> {
        let length = self.u16()?;
        Text::try_from(self.take(length.into())?).map_err(|_| RecordError)
    }

    fn filter(&mut self) -> Result<TopicFilter, RecordError> {
        TopicFilter::try_from(self.text()?).map_err(|_| RecordError)
    }

    fn group(&mut self) -> Result<Option<TopicFilter>, RecordError> {
        let text = self.text()?;
        if text.as_bytes().is_empty() {
            return Ok(None);
        }
        TopicFilter::try_from(text).map(Some).map_err(|_| RecordError)
    }

    fn packet_id(&mut self) -> Result<PacketId, RecordError> {
        PacketId::new(self.u16()?).ok_or(RecordError)
    }

    fn qos(bits: u8) -> Result<QoS, RecordError> {
        QoS::try_from(bits & 3).map_err(|_| RecordError)
    }

    fn how(&mut self) -> Result<How, RecordError> {
        let bits = self.u8()?;
        let count = self.u16()?;
        let identifiers = (0..count).map(|_| self.u32()).collect::<Result<_, _>>()?;
        Ok(How { qos: Self::qos(bits)?, retain: bits & 4 != 0, identifiers })
    }

    fn subscription(&mut self) -> Result<Subscription, RecordError> {
        let bits = self.u8()?;
        let identifier = Some(self.u32()?).filter(|&identifier| identifier > 0);
        let retain_handling = match bits >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(RecordError),
        };
        let options = SubscriptionOptions {
            qos: Self::qos(bits)?,
            no_local: bits & 4 != 0,
            retain_as_published: bits & 8 != 0,
            retain_handling,
        };
        Ok(Subscription { options, identifier })
    }

    fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Vec<T>, RecordError> {
        (0..self.u32()?).map(|_| item(self)).collect()
    }
}

/// The properties of a message that are stored with it.
pub(crate) fn to_publish(message: &crate::Message) -> Publish {
    let properties = message.properties.as_deref().cloned().unwrap_or_default();
    let (topic, payload) = (message.topic.clone(), message.payload.clone());
    Publish { retain: message.retain, properties, ..Publish::new(topic, message.qos, payload) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Text {
        Text::new(text).unwrap()
    }

    fn publish() -> Publish {
        let mut publish = Publish::new(TopicName::new("a/b").unwrap(), QoS::ExactlyOnce, "payload");
        publish.retain = true;
        publish.properties.content_type = Some(text("t"));
        publish.properties.user_properties = vec![(text("k"), text("v"))];
        publish
    }

    fn all() -> Vec<Record> {
        let (client, filter) = (text("c"), TopicFilter::new("$share/g/+/#").unwrap());
        let packet_id = PacketId::new(700).unwrap();
        let how = How { qos: QoS::ExactlyOnce, retain: true, identifiers: SmallVec::from_slice(&[7, 9]) };
        let subscription = Subscription {
            options: SubscriptionOptions {
                qos: QoS::AtLeastOnce,
                no_local: true,
                retain_as_published: true,
                retain_handling: RetainHandling::DoNotSend,
            },
            identifier: Some(5),
        };
        let mut properties = publish().properties;
        properties.will_delay_interval = Some(30);
        let Publish { topic, payload, qos, retain, .. } = publish();
        vec![
            Record::Message(Box::new(MessageRecord {
                copy_of: Some(0),
                publisher: client.clone(),
                receipt: Some(packet_id),
                shards: 5,
                of_shards: 3,
                version: 8,
                expires_ms: 1_000,
                publish: publish(),
            })),
            Record::Refs {
                id: 9,
                shard: Some(2),
                refs: vec![Ref { client: client.clone(), how, group: Some(filter.clone()) }],
                groups: vec![filter.clone()],
                is_moved: true,
            },
            Record::Retained { id: 1, version: 2 },
            Record::Alias { of: 1 },
            Record::Deleted { id: 1, version: 3, topic: TopicName::new("a/b").unwrap() },
            Record::GroupDone { id: 1, group: filter.clone() },
            Record::Session(Box::new(SessionRecord {
                client: client.clone(),
                expiry: Duration::from_secs(60),
                left_ms: 77,
                will: Some(Will { topic, payload, qos, retain, properties }),
                whole: Some(Whole {
                    subscriptions: vec![(filter.clone(), subscription)],
                    receipts: vec![packet_id],
                    received: vec![packet_id, PacketId::ONE],
                }),
            })),
            Record::Ended { client: client.clone() },
            Record::Subscribed { client: client.clone(), filter: filter.clone(), subscription },
            Record::Unsubscribed { client: client.clone(), filter: filter.clone() },
            Record::Sent { client: client.clone(), id: 4, packet_id },
            Record::Received { client: client.clone(), packet_id },
            Record::Completed { client: client.clone(), packet_id },
            Record::Done { client: client.clone(), id: 4, group: Some(filter) },
            Record::Released { client, packet_id },
        ]
    }

    #[test]
    fn every_record_is_read_as_it_was_written_and_not_when_it_is_cut() {
        for record in all() {
            let mut bytes = BytesMut::new();
            record.encode(&mut bytes);
            assert_eq!(Record::decode(&bytes), Ok(record.clone()));
            for cut in 0..bytes.len() {
                assert_ne!(Record::decode(&bytes[..cut]), Ok(record.clone()), "{record:?} at {cut}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            let _ = Record::decode(&bytes);
        }
    }
}
