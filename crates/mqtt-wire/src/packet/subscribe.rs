use bytes::{BufMut as _, BytesMut};

use super::connect::{decode_properties, encode_properties};
use super::{PacketId, QoS, Version};
use crate::cursor::{Cursor, encode_binary};
use crate::property::{Properties, PropertyScope};
use crate::{DecodeError, EncodeError, ReasonCode, TopicFilter};

/// SUBSCRIBE (§3.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Packet Identifier.
    pub packet_id: PacketId,
    /// Properties of MQTT 5.0.
    pub properties: Properties,
    /// What is subscribed to; at least one.
    pub filters: Vec<SubscribeFilter>,
}

/// A Topic Filter with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeFilter {
    /// The filter.
    pub filter: TopicFilter,
    /// The options.
    pub options: SubscriptionOptions,
}

/// Subscription Options (§3.8.3.1): `QoS:2 NoLocal:1 RetainAsPublished:1 RetainHandling:2 0:2` from the least
/// significant bit. Before MQTT 5.0 there is only the QoS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// Maximum QoS.
    pub qos: QoS,
    /// No Local: what the client itself publishes does not come back.
    pub no_local: bool,
    /// Retain As Published: RETAIN arrives as it was published.
    pub retain_as_published: bool,
    /// Retain Handling.
    pub retain_handling: RetainHandling,
}

/// Whether retained messages are sent when the subscription is made (§3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum RetainHandling {
    /// Always.
    #[default]
    Send = 0,
    /// Only if there was no such subscription.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

/// SUBACK (§3.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// Of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// Properties of MQTT 5.0.
    pub properties: Properties,
    /// One for each filter. Before MQTT 5.0 every refusal is 0x80.
    pub reason_codes: Vec<ReasonCode>,
}

/// UNSUBSCRIBE (§3.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Packet Identifier.
    pub packet_id: PacketId,
    /// Properties of MQTT 5.0.
    pub properties: Properties,
    /// What is not to be subscribed to any more; at least one.
    pub filters: Vec<TopicFilter>,
}

/// UNSUBACK (§3.11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsubAck {
    /// Of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// Properties of MQTT 5.0.
    pub properties: Properties,
    /// One for each filter in MQTT 5.0; none before.
    pub reason_codes: Vec<ReasonCode>,
}

impl SubscriptionOptions {
    /// These options with another QoS.
    pub fn at_most(qos: QoS) -> Self {
        Self { qos, ..Self::default() }
    }

    fn decode(octet: u8, version: Version) -> Result<Self, DecodeError> {
        let reserved = if version == Version::V5 { 0xc0 } else { 0xfc };
        if octet & reserved != 0 {
            return Err(DecodeError::SubscriptionOptions);
        }
        let retain_handling = match octet >> 4 & 0x03 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::SubscriptionOptions),
        };
        Ok(Self {
            qos: QoS::try_from(octet & 0x03)?,
            no_local: octet & 0x04 != 0,
            retain_as_published: octet & 0x08 != 0,
            retain_handling,
        })
    }

    fn encode(self, version: Version) -> u8 {
        if version != Version::V5 {
            return self.qos as u8;
        }
        self.qos as u8
            | u8::from(self.no_local) << 2
            | u8::from(self.retain_as_published) << 3
            | (self.retain_handling as u8) << 4
    }
}

impl Subscribe {
    pub(super) fn decode(mut cursor: Cursor, version: Version) -> Result<Self, DecodeError> {
        let packet_id = PacketId::decode(&mut cursor)?;
        let properties = decode_properties(PropertyScope::Subscribe, version, &mut cursor)?;
        let mut filters = Vec::new();
        while !cursor.is_empty() {
            let filter = TopicFilter::try_from(cursor.text()?)?;
            let options = SubscriptionOptions::decode(cursor.u8()?, version)?;
            // [MQTT-3.8.3-4]: in a shared subscription nobody's own messages can be told apart.
            if options.no_local && filter.share().is_some() {
                return Err(DecodeError::SubscriptionOptions);
            }
            filters.push(SubscribeFilter { filter, options });
        }
        if filters.is_empty() {
            Err(DecodeError::NoFilter)
        } else {
            Ok(Self { packet_id, properties, filters })
        }
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.packet_id.encode(out);
        encode_properties(&self.properties, version, out)?;
        for SubscribeFilter { filter, options } in &self.filters {
            encode_binary(filter.as_bytes(), out);
            out.put_u8(options.encode(version));
        }
        Ok(())
    }
}

impl SubAck {
    pub(super) fn decode(mut cursor: Cursor, version: Version) -> Result<Self, DecodeError> {
        let packet_id = PacketId::decode(&mut cursor)?;
        let properties = decode_properties(PropertyScope::SubAck, version, &mut cursor)?;
        let is_allowed = |code: ReasonCode| match version {
            Version::V5 => code as u8 <= 2 || is_subscribe_failure(code),
            _ => code as u8 <= 2 || code == ReasonCode::UnspecifiedError,
        };
        let reason_codes = decode_codes(&mut cursor, is_allowed)?;
        Ok(Self { packet_id, properties, reason_codes })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.packet_id.encode(out);
        encode_properties(&self.properties, version, out)?;
        for &code in &self.reason_codes {
            let code =
                if version != Version::V5 && code.is_error() { ReasonCode::UnspecifiedError } else { code };
            out.put_u8(code as u8);
        }
        Ok(())
    }
}

impl Unsubscribe {
    pub(super) fn decode(mut cursor: Cursor, version: Version) -> Result<Self, DecodeError> {
        let packet_id = PacketId::decode(&mut cursor)?;
        let properties = decode_properties(PropertyScope::Unsubscribe, version, &mut cursor)?;
        let mut filters = Vec::new();
        while !cursor.is_empty() {
            filters.push(TopicFilter::try_from(cursor.text()?)?);
        }
        if filters.is_empty() {
            Err(DecodeError::NoFilter)
        } else {
            Ok(Self { packet_id, properties, filters })
        }
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.packet_id.encode(out);
        encode_properties(&self.properties, version, out)?;
        for filter in &self.filters {
            encode_binary(filter.as_bytes(), out);
        }
        Ok(())
    }
}

impl UnsubAck {
    pub(super) fn decode(mut cursor: Cursor, version: Version) -> Result<Self, DecodeError> {
        let packet_id = PacketId::decode(&mut cursor)?;
        let properties = decode_properties(PropertyScope::UnsubAck, version, &mut cursor)?;
        if version != Version::V5 {
            return cursor.finish(Self { packet_id, properties, reason_codes: Vec::new() });
        }
        let is_allowed = |code: ReasonCode| {
            matches!(code, ReasonCode::Success | ReasonCode::NoSubscriptionExisted)
                || is_unsubscribe_failure(code)
        };
        let reason_codes = decode_codes(&mut cursor, is_allowed)?;
        Ok(Self { packet_id, properties, reason_codes })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.packet_id.encode(out);
        encode_properties(&self.properties, version, out)?;
        if version == Version::V5 {
            out.extend(self.reason_codes.iter().map(|&code| code as u8));
        }
        Ok(())
    }
}

/// The failures of UNSUBACK (§3.11.3).
fn is_unsubscribe_failure(code: ReasonCode) -> bool {
    use ReasonCode as R;
    matches!(
        code,
        R::UnspecifiedError
            | R::ImplementationSpecificError
            | R::NotAuthorized
            | R::TopicFilterInvalid
            | R::PacketIdentifierInUse
    )
}

/// The failures of SUBACK (§3.9.3).
fn is_subscribe_failure(code: ReasonCode) -> bool {
    use ReasonCode as R;
    is_unsubscribe_failure(code)
        || matches!(
            code,
            R::QuotaExceeded
                | R::SharedSubscriptionsNotSupported
                | R::SubscriptionIdentifiersNotSupported
                | R::WildcardSubscriptionsNotSupported
        )
}

/// The codes that make the payload of an acknowledgment; at least one.
fn decode_codes(
    cursor: &mut Cursor,
    is_allowed: impl Fn(ReasonCode) -> bool,
) -> Result<Vec<ReasonCode>, DecodeError> {
    let mut codes = Vec::new();
    while !cursor.is_empty() {
        let code = cursor.u8()?;
        let known = ReasonCode::try_from(code)?;
        if !is_allowed(known) {
            return Err(DecodeError::ReasonCode(code));
        }
        codes.push(known);
    }
    if codes.is_empty() { Err(DecodeError::Truncated) } else { Ok(codes) }
}
