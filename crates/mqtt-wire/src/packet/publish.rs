use bytes::{BufMut as _, Bytes, BytesMut};

use super::connect::{decode_properties, encode_properties};
use super::{PacketId, QoS, Version, encode_fixed_header};
use crate::cursor::{Cursor, encode_binary};
use crate::property::{Properties, PropertyScope};
use crate::{DecodeError, EncodeError, TopicName};

/// PUBLISH (§3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// DUP: it may have been sent before.
    pub dup: bool,
    /// QoS.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// Topic Name; empty only where a Topic Alias says which.
    pub topic: TopicName,
    /// Packet Identifier: with QoS 1 and 2, and only with these.
    pub packet_id: Option<PacketId>,
    /// Properties of MQTT 5.0.
    pub properties: Properties,
    /// The application's bytes.
    pub payload: Bytes,
}

impl Publish {
    /// A message that is not retained; its packet identifier is given when it is sent.
    pub fn new(topic: TopicName, qos: QoS, payload: impl Into<Bytes>) -> Self {
        Self {
            dup: false,
            qos,
            retain: false,
            topic,
            packet_id: None,
            properties: Properties::default(),
            payload: payload.into(),
        }
    }

    pub(super) fn decode(flags: u8, mut cursor: Cursor, version: Version) -> Result<Self, DecodeError> {
        let (dup, retain) = (flags & 0b1000 != 0, flags & 0b0001 != 0);
        let qos = QoS::try_from(flags >> 1 & 0x03)?;
        if dup && qos == QoS::AtMostOnce {
            return Err(DecodeError::DuplicateQoS0);
        }
        let name = cursor.text()?;
        let packet_id = (qos != QoS::AtMostOnce).then(|| PacketId::decode(&mut cursor)).transpose()?;
        let properties = decode_properties(PropertyScope::Publish, version, &mut cursor)?;
        let topic = if name.as_bytes().is_empty() {
            if properties.topic_alias.is_none() {
                return Err(DecodeError::NoTopic);
            }
            TopicName::empty()
        } else {
            TopicName::try_from(name)?
        };
        Ok(Self { dup, qos, retain, topic, packet_id, properties, payload: cursor.take_rest() })
    }

    /// Appends the whole packet.
    ///
    /// # Errors
    /// When it is too large. Nothing is appended then.
    pub fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.encode_head(version, out)?;
        out.extend_from_slice(&self.payload);
        Ok(())
    }

    /// Appends all but the payload, and returns where in `out` the packet identifier stands, if there is one:
    /// whoever sends the same message to many patches that and shares the rest.
    ///
    /// # Errors
    /// When the whole packet would be too large. Nothing is appended then.
    pub fn encode_head(&self, version: Version, out: &mut BytesMut) -> Result<Option<usize>, EncodeError> {
        let mut properties = BytesMut::new();
        encode_properties(&self.properties, version, &mut properties)?;
        let id_length = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        let remaining = 2 + self.topic.as_bytes().len() + id_length + properties.len() + self.payload.len();
        let first = 0x30 | u8::from(self.dup) << 3 | (self.qos as u8) << 1 | u8::from(self.retain);
        encode_fixed_header(first, remaining, out)?;
        encode_binary(self.topic.as_bytes(), out);
        let packet_id_at = (self.qos != QoS::AtMostOnce).then_some(out.len());
        if packet_id_at.is_some() {
            out.put_u16(self.packet_id.map_or(0, |id| id.0.get()));
        }
        out.extend_from_slice(&properties);
        Ok(packet_id_at)
    }
}
