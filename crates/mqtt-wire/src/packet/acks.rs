use bytes::{BufMut as _, BytesMut};

use super::{PacketId, Version};
use crate::cursor::Cursor;
use crate::property::{Properties, PropertyScope};
use crate::{DecodeError, EncodeError, ReasonCode};

/// PUBACK, PUBREC, PUBREL and PUBCOMP (§3.4 to §3.7), which have one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Of the PUBLISH.
    pub packet_id: PacketId,
    /// Reason Code; Success before MQTT 5.0.
    pub reason_code: ReasonCode,
    /// Properties of MQTT 5.0.
    pub properties: Properties,
}

/// Which of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum AckKind {
    PubAck,
    PubRec,
    PubRel,
    PubComp,
}

/// DISCONNECT (§3.14). Only MQTT 5.0 lets a server send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Disconnect Reason Code; Normal disconnection before MQTT 5.0.
    pub reason_code: ReasonCode,
    /// Properties of MQTT 5.0.
    pub properties: Properties,
}

/// AUTH (§3.15), of MQTT 5.0 only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Success, Continue authentication or Re-authenticate.
    pub reason_code: ReasonCode,
    /// Properties.
    pub properties: Properties,
}

impl AckKind {
    fn scope(self) -> PropertyScope {
        match self {
            Self::PubAck => PropertyScope::PubAck,
            Self::PubRec => PropertyScope::PubRec,
            Self::PubRel => PropertyScope::PubRel,
            Self::PubComp => PropertyScope::PubComp,
        }
    }

    /// The reason codes that the packet can have (§3.4.2.1 to §3.7.2.1).
    fn allows(self, reason_code: ReasonCode) -> bool {
        use ReasonCode as R;
        match self {
            Self::PubAck | Self::PubRec => matches!(
                reason_code,
                R::Success
                    | R::NoMatchingSubscribers
                    | R::UnspecifiedError
                    | R::ImplementationSpecificError
                    | R::NotAuthorized
                    | R::TopicNameInvalid
                    | R::PacketIdentifierInUse
                    | R::QuotaExceeded
                    | R::PayloadFormatInvalid
            ),
            Self::PubRel | Self::PubComp => matches!(reason_code, R::Success | R::PacketIdentifierNotFound),
        }
    }
}

impl Ack {
    /// A plain one.
    pub fn new(packet_id: PacketId) -> Self {
        Self { packet_id, reason_code: ReasonCode::Success, properties: Properties::default() }
    }

    /// One with a reason.
    pub fn with_reason(packet_id: PacketId, reason_code: ReasonCode) -> Self {
        Self { reason_code, ..Self::new(packet_id) }
    }

    pub(super) fn decode(kind: AckKind, mut cursor: Cursor, version: Version) -> Result<Self, DecodeError> {
        let packet_id = PacketId::decode(&mut cursor)?;
        if version != Version::V5 {
            return cursor.finish(Self::new(packet_id));
        }
        let (reason_code, properties) = decode_reason(kind.scope(), &mut cursor)?;
        if !kind.allows(reason_code) {
            return Err(DecodeError::ReasonCode(reason_code as u8));
        }
        cursor.finish(Self { packet_id, reason_code, properties })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.packet_id.encode(out);
        encode_reason(self.reason_code, &self.properties, version, out)
    }
}

impl Disconnect {
    /// One with a reason.
    pub fn new(reason_code: ReasonCode) -> Self {
        Self { reason_code, properties: Properties::default() }
    }

    pub(super) fn decode(mut cursor: Cursor, version: Version) -> Result<Self, DecodeError> {
        if version != Version::V5 {
            return cursor.finish(Self::new(ReasonCode::NORMAL_DISCONNECTION));
        }
        let (reason_code, properties) = decode_reason(PropertyScope::Disconnect, &mut cursor)?;
        if !is_disconnect_code(reason_code) {
            return Err(DecodeError::ReasonCode(reason_code as u8));
        }
        cursor.finish(Self { reason_code, properties })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode_reason(self.reason_code, &self.properties, version, out)
    }
}

impl Auth {
    pub(super) fn decode(mut cursor: Cursor) -> Result<Self, DecodeError> {
        use ReasonCode as R;
        let (reason_code, properties) = decode_reason(PropertyScope::Auth, &mut cursor)?;
        if !matches!(reason_code, R::Success | R::ContinueAuthentication | R::ReAuthenticate) {
            return Err(DecodeError::ReasonCode(reason_code as u8));
        }
        cursor.finish(Self { reason_code, properties })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode_reason(self.reason_code, &self.properties, Version::V5, out)
    }
}

/// The reason codes of DISCONNECT (§3.14.2.1), and 0x8C, which the common table (§2.4) gives it too.
fn is_disconnect_code(reason_code: ReasonCode) -> bool {
    use ReasonCode as R;
    let is_of_other_packets = matches!(
        reason_code,
        R::UnsupportedProtocolVersion
            | R::ClientIdentifierNotValid
            | R::BadUserNameOrPassword
            | R::ServerUnavailable
            | R::Banned
            | R::PacketIdentifierInUse
            | R::PacketIdentifierNotFound
    );
    matches!(reason_code, R::Success | R::DisconnectWithWillMessage)
        || (reason_code.is_error() && !is_of_other_packets)
}

/// Reason code and properties, each of which may be left out from the end (§3.4.2.1, §3.14.2.1).
fn decode_reason(scope: PropertyScope, cursor: &mut Cursor) -> Result<(ReasonCode, Properties), DecodeError> {
    if cursor.is_empty() {
        return Ok((ReasonCode::Success, Properties::default()));
    }
    let reason_code = ReasonCode::try_from(cursor.u8()?)?;
    let properties =
        if cursor.is_empty() { Properties::default() } else { Properties::decode(scope, cursor)? };
    Ok((reason_code, properties))
}

fn encode_reason(
    reason_code: ReasonCode,
    properties: &Properties,
    version: Version,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let has_properties = !properties.is_empty();
    if version != Version::V5 || (reason_code == ReasonCode::Success && !has_properties) {
        return Ok(());
    }
    out.put_u8(reason_code as u8);
    if has_properties { properties.encode(out) } else { Ok(()) }
}
