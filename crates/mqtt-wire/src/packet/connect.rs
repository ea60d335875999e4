use bytes::{BufMut as _, Bytes, BytesMut};

use super::{QoS, Version};
use crate::cursor::{Cursor, check_binary, encode_binary, encode_text};
use crate::property::{Properties, PropertyScope};
use crate::{DecodeError, EncodeError, ReasonCode, Text, TopicName};

/// CONNECT (§3.1).
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// The version that the client speaks.
    pub version: Version,
    /// Client Identifier; may be empty.
    pub client_id: Text,
    /// Clean Start; Clean Session before MQTT 5.0.
    pub clean_start: bool,
    /// Keep Alive, in seconds; 0: none.
    pub keep_alive: u16,
    /// User Name.
    pub username: Option<Text>,
    /// Password; at most 65,535 bytes.
    pub password: Option<Bytes>,
    /// What the server publishes for the client when the connection ends without DISCONNECT.
    pub will: Option<Box<Will>>,
    /// Properties of MQTT 5.0.
    pub properties: Properties,
}

/// The Will Message (§3.1.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Will Topic.
    pub topic: TopicName,
    /// Will Payload; at most 65,535 bytes.
    pub payload: Bytes,
    /// Will QoS.
    pub qos: QoS,
    /// Will Retain.
    pub retain: bool,
    /// Will Properties of MQTT 5.0.
    pub properties: Properties,
}

/// CONNACK (§3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// Session Present; MQTT 3.1 does not have it.
    pub session_present: bool,
    /// Connect Reason Code. MQTT 3.x has five return codes for refusals; the nearest is sent.
    pub reason_code: ReasonCode,
    /// Properties of MQTT 5.0.
    pub properties: Properties,
}

/// The password stays out of logs.
impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("clean_start", &self.clean_start)
            .field("keep_alive", &self.keep_alive)
            .field("username", &self.username)
            .field("will", &self.will)
            .finish_non_exhaustive()
    }
}

const USERNAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL: u8 = 0x04;
const CLEAN_START: u8 = 0x02;
const RESERVED: u8 = 0x01;

/// The property's identifier.
const AUTHENTICATION_DATA: u8 = 0x16;

impl Connect {
    /// A CONNECT without credentials and will.
    pub fn new(version: Version, client_id: Text) -> Self {
        Self {
            version,
            client_id,
            clean_start: true,
            keep_alive: 60,
            username: None,
            password: None,
            will: None,
            properties: Properties::default(),
        }
    }

    /// The version that the body of a CONNECT says, though the rest of it may be wrong: a refusal is written in
    /// the form that its client understands.
    pub(crate) fn peek_version(body: &[u8]) -> Option<Version> {
        match body {
            [0, 4, b'M', b'Q', b'T', b'T', 5, ..] => Some(Version::V5),
            [0, 4, b'M', b'Q', b'T', b'T', 4, ..] => Some(Version::V3_1_1),
            [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3, ..] => Some(Version::V3_1),
            _ => None,
        }
    }

    pub(super) fn decode(mut cursor: Cursor) -> Result<Self, DecodeError> {
        let name = cursor.binary()?;
        let level = cursor.u8()?;
        let version = match (&name[..], level) {
            (b"MQIsdp", 3) => Version::V3_1,
            (b"MQTT", 4) => Version::V3_1_1,
            (b"MQTT", 5) => Version::V5,
            (b"MQTT" | b"MQIsdp", other) => return Err(DecodeError::ProtocolVersion(other)),
            _ => return Err(DecodeError::ProtocolName),
        };
        let flags = cursor.u8()?;
        let has = |flag| flags & flag != 0;
        let qos = QoS::try_from(flags >> 3 & 0x03)?;
        let will_is_odd = !has(WILL) && (has(WILL_RETAIN) || qos != QoS::AtMostOnce);
        // Before MQTT 5.0 there is no password without a user name ([MQTT-3.1.2-22] of 3.1.1).
        let password_is_odd = version != Version::V5 && has(PASSWORD) && !has(USERNAME);
        if has(RESERVED) || will_is_odd || password_is_odd {
            return Err(DecodeError::ConnectFlags);
        }
        let keep_alive = cursor.u16()?;
        let properties = decode_properties(PropertyScope::Connect, version, &mut cursor)?;
        // §3.1.2.11.10: data without a method.
        if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
            return Err(DecodeError::PropertyValue(AUTHENTICATION_DATA));
        }
        let client_id = cursor.text()?;
        let will = if has(WILL) {
            let properties = decode_properties(PropertyScope::Will, version, &mut cursor)?;
            let topic = TopicName::try_from(cursor.text()?)?;
            let payload = cursor.binary()?;
            Some(Box::new(Will { topic, payload, qos, retain: has(WILL_RETAIN), properties }))
        } else {
            None
        };
        let username = has(USERNAME).then(|| cursor.text()).transpose()?;
        let password = has(PASSWORD).then(|| cursor.binary()).transpose()?;
        let clean_start = has(CLEAN_START);
        cursor.finish(Self {
            version,
            client_id,
            clean_start,
            keep_alive,
            username,
            password,
            will,
            properties,
        })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let name: &[u8] = if self.version == Version::V3_1 { b"MQIsdp" } else { b"MQTT" };
        encode_binary(name, out);
        out.put_u8(self.version as u8);
        let flag = |set, flag| if set { flag } else { 0 };
        let mut flags = flag(self.clean_start, CLEAN_START)
            | flag(self.username.is_some(), USERNAME)
            | flag(self.password.is_some(), PASSWORD);
        if let Some(will) = &self.will {
            flags |= WILL | flag(will.retain, WILL_RETAIN) | (will.qos as u8) << 3;
        }
        out.put_u8(flags);
        out.put_u16(self.keep_alive);
        encode_properties(&self.properties, self.version, out)?;
        encode_text(&self.client_id, out);
        if let Some(will) = &self.will {
            encode_properties(&will.properties, self.version, out)?;
            encode_binary(will.topic.as_bytes(), out);
            check_binary(&will.payload)?;
            encode_binary(&will.payload, out);
        }
        if let Some(username) = &self.username {
            encode_text(username, out);
        }
        if let Some(password) = &self.password {
            check_binary(password)?;
            encode_binary(password, out);
        }
        Ok(())
    }
}

impl ConnAck {
    pub(super) fn decode(mut cursor: Cursor, version: Version) -> Result<Self, DecodeError> {
        let flags = cursor.u8()?;
        if flags & 0xfe != 0 && version != Version::V3_1 {
            return Err(DecodeError::Flags);
        }
        let code = cursor.u8()?;
        let reason_code = if version == Version::V5 {
            ReasonCode::try_from(code).ok().filter(|&code| code == ReasonCode::Success || code.is_error())
        } else {
            from_return_code(code)
        };
        let reason_code = reason_code.ok_or(DecodeError::ReasonCode(code))?;
        let properties = decode_properties(PropertyScope::ConnAck, version, &mut cursor)?;
        let session_present = flags & 1 == 1 && version != Version::V3_1;
        cursor.finish(Self { session_present, reason_code, properties })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u8(u8::from(self.session_present && version != Version::V3_1));
        if version == Version::V5 {
            out.put_u8(self.reason_code as u8);
        } else {
            out.put_u8(to_return_code(self.reason_code));
        }
        encode_properties(&self.properties, version, out)
    }
}

/// The Connect Return codes of MQTT 3.1.1 (table 3.1 there), as reason codes.
fn from_return_code(code: u8) -> Option<ReasonCode> {
    Some(match code {
        0 => ReasonCode::Success,
        1 => ReasonCode::UnsupportedProtocolVersion,
        2 => ReasonCode::ClientIdentifierNotValid,
        3 => ReasonCode::ServerUnavailable,
        4 => ReasonCode::BadUserNameOrPassword,
        5 => ReasonCode::NotAuthorized,
        _ => return None,
    })
}

/// The Connect Return code that says a reason code best.
fn to_return_code(reason_code: ReasonCode) -> u8 {
    match reason_code {
        ReasonCode::Success => 0,
        ReasonCode::UnsupportedProtocolVersion => 1,
        ReasonCode::ClientIdentifierNotValid => 2,
        ReasonCode::BadUserNameOrPassword | ReasonCode::BadAuthenticationMethod => 4,
        ReasonCode::NotAuthorized | ReasonCode::Banned => 5,
        _ => 3,
    }
}

/// Properties, which only MQTT 5.0 has.
pub(super) fn decode_properties(
    scope: PropertyScope,
    version: Version,
    cursor: &mut Cursor,
) -> Result<Properties, DecodeError> {
    if version == Version::V5 { Properties::decode(scope, cursor) } else { Ok(Properties::default()) }
}

pub(super) fn encode_properties(
    properties: &Properties,
    version: Version,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    if version == Version::V5 { properties.encode(out) } else { Ok(()) }
}
