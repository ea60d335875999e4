use mqtt_wire::{DecodeError, ReasonCode};

/// Why a server ends a connection whose client broke a rule, or asked for what it cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The bytes are no packet.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A packet that only servers send, a second CONNECT (§3.1), or AUTH without an authentication method (§4.12).
    #[error("the client sent a packet that it may not send")]
    UnexpectedPacket,
    /// Nothing came for one and a half Keep Alive (§3.1.2.10).
    #[error("nothing came within the keep alive time")]
    KeepAlive,
    /// CONNECT did not come in time.
    #[error("no CONNECT came in time")]
    ConnectTimeout,
    /// An empty Client Identifier where it is not allowed (§3.1.3.1).
    #[error("an empty client identifier needs a clean session and MQTT 3.1.1 or later")]
    ClientId,
    /// A Topic Alias of 0, above the server's maximum, or that stands for nothing (§3.3.2.3.4).
    #[error("a topic alias that is 0, above the maximum, or not known")]
    TopicAlias,
    /// A Subscription Identifier in a PUBLISH (§3.3.4).
    #[error("a subscription identifier in a PUBLISH")]
    SubscriptionIdentifier,
    /// More messages of QoS 2 wait for PUBREL than allowed.
    #[error("too many messages of QoS 2 wait to be released")]
    ReceiveMaximum,
    /// A Session Expiry Interval in DISCONNECT after 0 in CONNECT (§3.14.2.2.2).
    #[error("a session expiry interval in DISCONNECT after none in CONNECT")]
    SessionExpiry,
    /// A reason code in DISCONNECT that only servers send (§3.14.2.1).
    #[error("DISCONNECT with {0:?}, which only servers send")]
    DisconnectCode(ReasonCode),
    /// A method of enhanced authentication that this server does not have (§4.12).
    #[error("an authentication method that the server does not have")]
    AuthenticationMethod,
    /// Enhanced authentication failed (§4.12).
    #[error("the client did not prove who it is")]
    Authentication,
    /// The server has as many sessions as it may.
    #[error("the server has as many sessions as it may")]
    TooManySessions,
    /// The server uses as much memory as it may.
    #[error("the server uses as much memory as it may")]
    Memory,
    /// The topic has more levels than allowed.
    #[error("the topic has too many levels")]
    TopicLevels,
    /// More topic filters in one packet than allowed.
    #[error("too many topic filters in one packet")]
    TooManyFilters,
    /// A QoS above the server's maximum (§3.2.2.3.4).
    #[error("a QoS above the server's maximum")]
    QoS,
    /// A retained message, though the server keeps none (§3.2.2.3.5).
    #[error("a retained message, though the server keeps none")]
    Retain,
    /// The client does not accept packets as small as those that the server has to send (§3.1.2.11.4).
    #[error("the client's maximum packet size is too small for an answer")]
    AnswerTooLarge,
}

impl From<&ProtocolError> for ReasonCode {
    fn from(error: &ProtocolError) -> Self {
        match error {
            ProtocolError::Decode(error) => error.reason_code(),
            ProtocolError::UnexpectedPacket
            | ProtocolError::SessionExpiry
            | ProtocolError::DisconnectCode(_)
            | ProtocolError::SubscriptionIdentifier => Self::ProtocolError,
            ProtocolError::KeepAlive | ProtocolError::ConnectTimeout => Self::KeepAliveTimeout,
            ProtocolError::ClientId => Self::ClientIdentifierNotValid,
            ProtocolError::TopicAlias => Self::TopicAliasInvalid,
            ProtocolError::ReceiveMaximum => Self::ReceiveMaximumExceeded,
            ProtocolError::AuthenticationMethod => Self::BadAuthenticationMethod,
            ProtocolError::Authentication => Self::NotAuthorized,
            ProtocolError::TooManySessions | ProtocolError::TooManyFilters => Self::QuotaExceeded,
            ProtocolError::Memory => Self::ServerBusy,
            ProtocolError::TopicLevels => Self::TopicNameInvalid,
            ProtocolError::QoS => Self::QoSNotSupported,
            ProtocolError::Retain => Self::RetainNotSupported,
            ProtocolError::AnswerTooLarge => Self::PacketTooLarge,
        }
    }
}
