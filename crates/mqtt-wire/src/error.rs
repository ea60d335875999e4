use crate::{ReasonCode, TextError, TopicError};

/// Why bytes are not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The Remaining Length ends before a field does.
    #[error("a field goes beyond the end of the packet")]
    Truncated,
    /// Bytes are left over after the last field.
    #[error("bytes are left over after the last field")]
    TrailingBytes,
    /// The packet type is 0, or AUTH before MQTT 5.0.
    #[error("{0} is no packet type of this version")]
    PacketType(u8),
    /// Reserved bits of the fixed header have another value than the standard lists (§2.1.3).
    #[error("reserved flags of the fixed header are set")]
    Flags,
    /// A Variable Byte Integer has more than four bytes, or more than it needs (§1.5.5).
    #[error("a variable byte integer is too long")]
    VariableByteInteger,
    /// The packet is larger than the receiver accepts.
    #[error("the packet has {size} bytes, more than the {limit} that are accepted")]
    TooLarge {
        /// Its size, fixed header included.
        size: u32,
        /// What is accepted.
        limit: u32,
    },
    /// A string is not one that MQTT allows (§1.5.4).
    #[error(transparent)]
    Text(#[from] TextError),
    /// A topic name or filter is not one that MQTT allows (§4.7).
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The first packet is not CONNECT.
    #[error("the first packet is not CONNECT")]
    NotConnect,
    /// The protocol name is neither MQTT nor MQIsdp.
    #[error("the protocol name is not that of MQTT")]
    ProtocolName,
    /// The protocol version is none that is supported.
    #[error("protocol version {0} is not supported")]
    ProtocolVersion(u8),
    /// The Connect Flags contradict each other, or the reserved one is set (§3.1.2.3).
    #[error("the connect flags contradict each other")]
    ConnectFlags,
    /// A QoS of 3.
    #[error("a QoS of 3")]
    QoS,
    /// DUP in a message of QoS 0 (§3.3.1.1).
    #[error("DUP is set in a message of QoS 0")]
    DuplicateQoS0,
    /// A packet identifier of 0 (§2.2.1).
    #[error("a packet identifier of 0")]
    PacketIdZero,
    /// SUBSCRIBE or UNSUBSCRIBE without a filter (§3.8.3, §3.10.3).
    #[error("no topic filter")]
    NoFilter,
    /// Reserved subscription options are set, or a value is 3 (§3.8.3.1).
    #[error("subscription options that are reserved")]
    SubscriptionOptions,
    /// An identifier that no property has (§2.2.2.2).
    #[error("{0} is no property")]
    UnknownProperty(u32),
    /// A property in a packet that cannot have it.
    #[error("property {0} in a packet that cannot have it")]
    MisplacedProperty(u8),
    /// A property that may occur once occurs twice.
    #[error("property {0} occurs twice")]
    RepeatedProperty(u8),
    /// A property has a value that it cannot have.
    #[error("property {0} has a value that it cannot have")]
    PropertyValue(u8),
    /// A reason or return code that this packet cannot have.
    #[error("{0} is no reason code of this packet")]
    ReasonCode(u8),
    /// A PUBLISH with neither a topic name nor a topic alias (§3.3.2.1).
    #[error("neither a topic name nor a topic alias")]
    NoTopic,
}

impl DecodeError {
    /// The reason code that a DISCONNECT or CONNACK says it with.
    pub fn reason_code(self) -> ReasonCode {
        match self {
            Self::TooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::ProtocolName | Self::ProtocolVersion(_) => ReasonCode::UnsupportedProtocolVersion,
            // §2.2.2.2, §3.3.2.1, §3.8.3: these make sense as bytes, and none as a message.
            Self::NotConnect
            | Self::RepeatedProperty(_)
            | Self::MisplacedProperty(_)
            | Self::PropertyValue(_)
            | Self::NoTopic
            | Self::PacketIdZero
            | Self::NoFilter => ReasonCode::ProtocolError,
            Self::Truncated
            | Self::TrailingBytes
            | Self::PacketType(_)
            | Self::Flags
            | Self::VariableByteInteger
            | Self::Text(_)
            | Self::Topic(_)
            | Self::ConnectFlags
            | Self::QoS
            | Self::DuplicateQoS0
            | Self::SubscriptionOptions
            | Self::UnknownProperty(_)
            | Self::ReasonCode(_) => ReasonCode::MalformedPacket,
        }
    }
}

/// Why a packet cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It is longer than a Remaining Length can say.
    #[error("the packet has more than 268,435,455 bytes")]
    TooLarge,
    /// The version has no such packet.
    #[error("AUTH exists in MQTT 5.0 only")]
    NoSuchPacket,
}
