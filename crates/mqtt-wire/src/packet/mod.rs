mod acks;
mod connect;
mod publish;
mod subscribe;

use std::num::NonZeroU16;

use bytes::{BufMut as _, Bytes, BytesMut};

pub use acks::{Ack, AckKind, Auth, Disconnect};
pub use connect::{ConnAck, Connect, Will};
pub use publish::Publish;
pub use subscribe::{
    RetainHandling, SubAck, Subscribe, SubscribeFilter, SubscriptionOptions, UnsubAck, Unsubscribe,
};

use crate::cursor::{Cursor, VARIABLE_MAX, encode_variable};
use crate::{DecodeError, EncodeError};

/// A version of the protocol, by its number in CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Version {
    /// MQTT 3.1, whose protocol name is `MQIsdp`.
    V3_1 = 3,
    /// MQTT 3.1.1.
    V3_1_1 = 4,
    /// MQTT 5.0.
    V5 = 5,
}

/// Quality of Service (§4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum QoS {
    #[default]
    AtMostOnce = 0,
    AtLeastOnce = 1,
    ExactlyOnce = 2,
}

/// A Packet Identifier (§2.2.1): 1 to 65,535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(pub NonZeroU16);

/// Any packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum Packet {
    Connect(Box<Connect>),
    ConnAck(Box<ConnAck>),
    Publish(Box<Publish>),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    Subscribe(Subscribe),
    SubAck(SubAck),
    Unsubscribe(Unsubscribe),
    UnsubAck(UnsubAck),
    PingReq,
    PingResp,
    Disconnect(Disconnect),
    Auth(Auth),
}

impl TryFrom<u8> for QoS {
    type Error = DecodeError;

    fn try_from(qos: u8) -> Result<Self, DecodeError> {
        match qos {
            0 => Ok(Self::AtMostOnce),
            1 => Ok(Self::AtLeastOnce),
            2 => Ok(Self::ExactlyOnce),
            _ => Err(DecodeError::QoS),
        }
    }
}

impl PacketId {
    /// The first.
    pub const ONE: Self = Self(NonZeroU16::MIN);

    /// A packet identifier, if `id` is not 0.
    pub fn new(id: u16) -> Option<Self> {
        NonZeroU16::new(id).map(Self)
    }

    pub(crate) fn decode(cursor: &mut Cursor) -> Result<Self, DecodeError> {
        Self::new(cursor.u16()?).ok_or(DecodeError::PacketIdZero)
    }

    pub(crate) fn encode(self, out: &mut BytesMut) {
        out.put_u16(self.0.get());
    }
}

impl Packet {
    /// Reads a packet from the first byte of its fixed header, and all that follows the Remaining Length.
    /// Without a version it can only be CONNECT, which has its own.
    pub(crate) fn decode(first: u8, body: Bytes, version: Option<Version>) -> Result<Self, DecodeError> {
        let (kind, flags) = (first >> 4, first & 0x0f);
        let cursor = Cursor::new(body);
        if kind == 1 {
            check_flags(flags, 0)?;
            return Connect::decode(cursor).map(Box::new).map(Self::Connect);
        }
        let version = version.ok_or(DecodeError::NotConnect)?;
        if kind == 3 {
            return Publish::decode(flags, cursor, version).map(Box::new).map(Self::Publish);
        }
        // MQTT 3.1 §2.1: PUBREL, SUBSCRIBE and UNSUBSCRIBE may be repeated with DUP.
        let ignored = if version == Version::V3_1 { 0b1000 } else { 0 };
        match kind {
            6 | 8 | 10 => check_flags(flags & !ignored, 0b0010)?,
            _ => check_flags(flags, 0)?,
        }
        match kind {
            2 => ConnAck::decode(cursor, version).map(Box::new).map(Self::ConnAck),
            4 => Ack::decode(AckKind::PubAck, cursor, version).map(Self::PubAck),
            5 => Ack::decode(AckKind::PubRec, cursor, version).map(Self::PubRec),
            6 => Ack::decode(AckKind::PubRel, cursor, version).map(Self::PubRel),
            7 => Ack::decode(AckKind::PubComp, cursor, version).map(Self::PubComp),
            8 => Subscribe::decode(cursor, version).map(Self::Subscribe),
            9 => SubAck::decode(cursor, version).map(Self::SubAck),
            10 => Unsubscribe::decode(cursor, version).map(Self::Unsubscribe),
            11 => UnsubAck::decode(cursor, version).map(Self::UnsubAck),
            12 => cursor.finish(Self::PingReq),
            13 => cursor.finish(Self::PingResp),
            14 => Disconnect::decode(cursor, version).map(Self::Disconnect),
            15 if version == Version::V5 => Auth::decode(cursor).map(Self::Auth),
            _ => Err(DecodeError::PacketType(kind)),
        }
    }

    /// Appends the packet's bytes.
    ///
    /// # Errors
    /// When the packet is too large, or the version does not have it. Nothing is appended then.
    pub fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        let mut body = BytesMut::new();
        let first = match self {
            Self::Publish(publish) => return publish.encode(version, out),
            Self::Connect(connect) => {
                // CONNECT is the packet that says the version.
                connect.encode(&mut body)?;
                0x10
            }
            Self::ConnAck(connack) => {
                connack.encode(version, &mut body)?;
                0x20
            }
            Self::PubAck(ack) => {
                ack.encode(version, &mut body)?;
                0x40
            }
            Self::PubRec(ack) => {
                ack.encode(version, &mut body)?;
                0x50
            }
            Self::PubRel(ack) => {
                ack.encode(version, &mut body)?;
                0x62
            }
            Self::PubComp(ack) => {
                ack.encode(version, &mut body)?;
                0x70
            }
            Self::Subscribe(subscribe) => {
                subscribe.encode(version, &mut body)?;
                0x82
            }
            Self::SubAck(suback) => {
                suback.encode(version, &mut body)?;
                0x90
            }
            Self::Unsubscribe(unsubscribe) => {
                unsubscribe.encode(version, &mut body)?;
                0xa2
            }
            Self::UnsubAck(unsuback) => {
                unsuback.encode(version, &mut body)?;
                0xb0
            }
            Self::PingReq => 0xc0,
            Self::PingResp => 0xd0,
            Self::Disconnect(disconnect) => {
                disconnect.encode(version, &mut body)?;
                0xe0
            }
            Self::Auth(auth) => {
                if version != Version::V5 {
                    return Err(EncodeError::NoSuchPacket);
                }
                auth.encode(&mut body)?;
                0xf0
            }
        };
        encode_fixed_header(first, body.len(), out)?;
        out.extend_from_slice(&body);
        Ok(())
    }
}

fn check_flags(flags: u8, wanted: u8) -> Result<(), DecodeError> {
    if flags == wanted { Ok(()) } else { Err(DecodeError::Flags) }
}

fn encode_fixed_header(first: u8, remaining: usize, out: &mut BytesMut) -> Result<(), EncodeError> {
    let remaining = u32::try_from(remaining).ok().filter(|&length| length <= VARIABLE_MAX);
    let remaining = remaining.ok_or(EncodeError::TooLarge)?;
    out.put_u8(first);
    encode_variable(remaining, out);
    Ok(())
}

macro_rules! into_packet {
    ($($type:ident),*) => {
        $(impl From<$type> for Packet {
            fn from(packet: $type) -> Self {
                Self::$type(packet.into())
            }
        })*
    };
}

into_packet!(Connect, ConnAck, Publish, Subscribe, SubAck, Unsubscribe, UnsubAck, Disconnect, Auth);
