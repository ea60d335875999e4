use bytes::{BufMut as _, Bytes, BytesMut};
use smallvec::SmallVec;

use crate::cursor::{Cursor, check_binary, encode_binary, encode_text, encode_variable};
use crate::{DecodeError, EncodeError, Text};

/// Where a property can stand: the packets of MQTT 5.0 that have properties, and the Will Properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum PropertyScope {
    Connect = 1 << 0,
    Will = 1 << 1,
    ConnAck = 1 << 2,
    Publish = 1 << 3,
    PubAck = 1 << 4,
    PubRec = 1 << 5,
    PubRel = 1 << 6,
    PubComp = 1 << 7,
    Subscribe = 1 << 8,
    SubAck = 1 << 9,
    Unsubscribe = 1 << 10,
    UnsubAck = 1 << 11,
    Disconnect = 1 << 12,
    Auth = 1 << 13,
}

const ACKS: u16 = PropertyScope::PubAck as u16
    | PropertyScope::PubRec as u16
    | PropertyScope::PubRel as u16
    | PropertyScope::PubComp as u16;
const ALL: u16 = (1 << 14) - 1;

/// A value as a property holds it.
trait Value: Sized {
    fn decode(cursor: &mut Cursor) -> Result<Self, DecodeError>;
    fn encode(&self, out: &mut BytesMut);
}

/// A byte that can be 0 or 1 only; others are caught by the caller, who knows which property it is.
impl Value for bool {
    fn decode(cursor: &mut Cursor) -> Result<Self, DecodeError> {
        match cursor.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::PropertyValue(0)),
        }
    }

    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(*self));
    }
}

impl Value for u16 {
    fn decode(cursor: &mut Cursor) -> Result<Self, DecodeError> {
        cursor.u16()
    }

    fn encode(&self, out: &mut BytesMut) {
        out.put_u16(*self);
    }
}

impl Value for u32 {
    fn decode(cursor: &mut Cursor) -> Result<Self, DecodeError> {
        cursor.u32()
    }

    fn encode(&self, out: &mut BytesMut) {
        out.put_u32(*self);
    }
}

impl Value for Text {
    fn decode(cursor: &mut Cursor) -> Result<Self, DecodeError> {
        cursor.text()
    }

    fn encode(&self, out: &mut BytesMut) {
        encode_text(self, out);
    }
}

impl Value for Bytes {
    fn decode(cursor: &mut Cursor) -> Result<Self, DecodeError> {
        cursor.binary()
    }

    fn encode(&self, out: &mut BytesMut) {
        encode_binary(self, out);
    }
}

const USER_PROPERTY: u8 = 0x26;
const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;

macro_rules! properties {
    ($($id:literal $name:ident: $type:ty, $scopes:expr, $valid:expr, $doc:literal;)*) => {
        /// The properties of a packet (MQTT 5.0 §2.2.2), each absent unless it was given. The standard says
        /// which packet can have which ([`property_scopes`]); others are an error when they are received.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Properties {
            $(#[doc = $doc] pub $name: Option<$type>,)*
            /// Subscription Identifier: 1 to 268,435,455; several only in a PUBLISH from a server.
            pub subscription_identifiers: SmallVec<[u32; 1]>,
            /// User Properties: pairs of name and value, in their order.
            pub user_properties: Vec<(Text, Text)>,
        }

        /// Which packets can have the property `id`, as bits of [`PropertyScope`]; `None`: there is no such
        /// property.
        pub const fn property_scopes(id: u8) -> Option<u16> {
            match id {
                $($id => Some($scopes),)*
                SUBSCRIPTION_IDENTIFIER => Some(PropertyScope::Publish as u16 | PropertyScope::Subscribe as u16),
                USER_PROPERTY => Some(ALL),
                _ => None,
            }
        }

        impl Properties {
            fn decode_one(&mut self, id: u8, scope: PropertyScope, cursor: &mut Cursor) -> Result<(), DecodeError> {
                match id {
                    $($id => {
                        let value = <$type as Value>::decode(cursor).map_err(|error| error_of(id, error))?;
                        let is_valid: fn(&$type) -> bool = $valid;
                        if !is_valid(&value) {
                            return Err(DecodeError::PropertyValue(id));
                        }
                        if self.$name.replace(value).is_some() {
                            return Err(DecodeError::RepeatedProperty(id));
                        }
                    })*
                    SUBSCRIPTION_IDENTIFIER => {
                        let identifier = cursor.variable()?;
                        if identifier == 0 {
                            return Err(DecodeError::PropertyValue(id));
                        }
                        if scope == PropertyScope::Subscribe && !self.subscription_identifiers.is_empty() {
                            return Err(DecodeError::RepeatedProperty(id));
                        }
                        self.subscription_identifiers.push(identifier);
                    }
                    USER_PROPERTY => self.user_properties.push((cursor.text()?, cursor.text()?)),
                    _ => return Err(DecodeError::UnknownProperty(id.into())),
                }
                Ok(())
            }

            fn encode_all(&self, out: &mut BytesMut) {
                $(if let Some(value) = &self.$name {
                    out.put_u8($id);
                    value.encode(out);
                })*
                for &identifier in &self.subscription_identifiers {
                    out.put_u8(SUBSCRIPTION_IDENTIFIER);
                    encode_variable(identifier, out);
                }
                for (name, value) in &self.user_properties {
                    out.put_u8(USER_PROPERTY);
                    encode_text(name, out);
                    encode_text(value, out);
                }
            }
        }
    };
}

fn error_of(id: u8, error: DecodeError) -> DecodeError {
    match error {
        DecodeError::PropertyValue(_) => DecodeError::PropertyValue(id),
        other => other,
    }
}

const CONNECT: u16 = PropertyScope::Connect as u16;
const WILL: u16 = PropertyScope::Will as u16;
const CONNACK: u16 = PropertyScope::ConnAck as u16;
const PUBLISH: u16 = PropertyScope::Publish as u16;
const DISCONNECT: u16 = PropertyScope::Disconnect as u16;
const AUTH: u16 = PropertyScope::Auth as u16;
const SUBACKS: u16 = PropertyScope::SubAck as u16 | PropertyScope::UnsubAck as u16;

properties! {
    0x01 payload_format_indicator: bool, PUBLISH | WILL, |_| true,
        "Payload Format Indicator: whether the payload is UTF-8 text.";
    0x02 message_expiry_interval: u32, PUBLISH | WILL, |_| true,
        "Message Expiry Interval, in seconds.";
    0x03 content_type: Text, PUBLISH | WILL, |_| true,
        "Content Type.";
    0x08 response_topic: Text, PUBLISH | WILL, |topic| !topic.contains(['+', '#']) && !topic.is_empty(),
        "Response Topic: a Topic Name, without wildcards.";
    0x09 correlation_data: Bytes, PUBLISH | WILL, |_| true,
        "Correlation Data; at most 65,535 bytes.";
    0x11 session_expiry_interval: u32, CONNECT | CONNACK | DISCONNECT, |_| true,
        "Session Expiry Interval, in seconds; 0xFFFFFFFF: never.";
    0x12 assigned_client_identifier: Text, CONNACK, |_| true,
        "Assigned Client Identifier.";
    0x13 server_keep_alive: u16, CONNACK, |_| true,
        "Server Keep Alive, in seconds.";
    0x15 authentication_method: Text, CONNECT | CONNACK | AUTH, |_| true,
        "Authentication Method.";
    0x16 authentication_data: Bytes, CONNECT | CONNACK | AUTH, |_| true,
        "Authentication Data; at most 65,535 bytes.";
    0x17 request_problem_information: bool, CONNECT, |_| true,
        "Request Problem Information.";
    0x18 will_delay_interval: u32, WILL, |_| true,
        "Will Delay Interval, in seconds.";
    0x19 request_response_information: bool, CONNECT, |_| true,
        "Request Response Information.";
    0x1a response_information: Text, CONNACK, |_| true,
        "Response Information.";
    0x1c server_reference: Text, CONNACK | DISCONNECT, |_| true,
        "Server Reference.";
    0x1f reason_string: Text, CONNACK | ACKS | SUBACKS | DISCONNECT | AUTH, |_| true,
        "Reason String, for people.";
    0x21 receive_maximum: u16, CONNECT | CONNACK, |&maximum| maximum != 0,
        "Receive Maximum: 1 to 65,535.";
    0x22 topic_alias_maximum: u16, CONNECT | CONNACK, |_| true,
        "Topic Alias Maximum.";
    0x23 topic_alias: u16, PUBLISH, |_| true,
        "Topic Alias. 0 is not permitted (§3.3.2.3.4); whoever receives it answers with reason code 0x94.";
    0x24 maximum_qos: bool, CONNACK, |_| true,
        "Maximum QoS: whether it is 1, else 0; absent: 2.";
    0x25 retain_available: bool, CONNACK, |_| true,
        "Retain Available.";
    0x27 maximum_packet_size: u32, CONNECT | CONNACK, |&size| size != 0,
        "Maximum Packet Size, in bytes; not 0.";
    0x28 wildcard_subscription_available: bool, CONNACK, |_| true,
        "Wildcard Subscription Available.";
    0x29 subscription_identifiers_available: bool, CONNACK, |_| true,
        "Subscription Identifiers Available.";
    0x2a shared_subscription_available: bool, CONNACK, |_| true,
        "Shared Subscription Available.";
}

impl Properties {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// `Property Length · properties` (§2.2.2).
    pub(crate) fn decode(scope: PropertyScope, cursor: &mut Cursor) -> Result<Self, DecodeError> {
        let length = cursor.variable()?;
        let mut rest = Cursor::new(cursor.take(usize::try_from(length).unwrap_or(usize::MAX))?);
        let mut properties = Self::default();
        while !rest.is_empty() {
            let id = rest.variable()?;
            let id = u8::try_from(id).map_err(|_| DecodeError::UnknownProperty(id))?;
            let scopes = property_scopes(id).ok_or(DecodeError::UnknownProperty(id.into()))?;
            if scopes & scope as u16 == 0 {
                return Err(DecodeError::MisplacedProperty(id));
            }
            properties.decode_one(id, scope, &mut rest)?;
        }
        Ok(properties)
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        if self.is_empty() {
            out.put_u8(0);
            return Ok(());
        }
        for data in [&self.correlation_data, &self.authentication_data].into_iter().flatten() {
            check_binary(data)?;
        }
        let mut list = BytesMut::new();
        self.encode_all(&mut list);
        let length = u32::try_from(list.len()).map_err(|_| EncodeError::TooLarge)?;
        if length > crate::cursor::VARIABLE_MAX {
            return Err(EncodeError::TooLarge);
        }
        encode_variable(length, out);
        out.extend_from_slice(&list);
        Ok(())
    }
}
