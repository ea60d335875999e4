//! A server's view of one connection: what its client may send, and when it has been silent for too long.

use std::time::Duration;

use clock::Instant;
use mqtt_wire::{
    Ack, Connect, DecodeError, Disconnect, Packet, Publish, ReasonCode, Subscribe, Unsubscribe, Version,
};

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum Request {
    Publish(Box<Publish>),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    PingReq,
    Disconnect(Disconnect),
}

/// Why a server ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The bytes are no packet.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A packet that only servers send, or a second CONNECT (§3.1).
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
    /// A Topic Alias, though the server's maximum is 0 (§3.3.2.3.4).
    #[error("a topic alias, though the server accepts none")]
    TopicAlias,
    /// A Subscription Identifier in a PUBLISH, or though the server has none (§3.3.4, §3.8.2.1.2).
    #[error("a subscription identifier, though the server has none")]
    SubscriptionIdentifier,
    /// More messages of QoS 2 wait for PUBREL than allowed.
    #[error("too many messages of QoS 2 wait to be released")]
    ReceiveMaximum,
    /// A Session Expiry Interval in DISCONNECT after 0 in CONNECT (§3.14.2.2.2).
    #[error("a session expiry interval in DISCONNECT after none in CONNECT")]
    SessionExpiry,
    /// Extended authentication, which this server does not have.
    #[error("an authentication method, though the server has none")]
    AuthenticationMethod,
    /// The server has as many sessions as it may.
    #[error("the server has as many sessions as it may")]
    TooManySessions,
    /// The topic has more levels than allowed.
    #[error("the topic has too many levels")]
    TopicLevels,
}

impl From<&ProtocolError> for ReasonCode {
    fn from(error: &ProtocolError) -> Self {
        match error {
            ProtocolError::Decode(error) => error.reason_code(),
            ProtocolError::UnexpectedPacket | ProtocolError::SessionExpiry => Self::ProtocolError,
            ProtocolError::KeepAlive | ProtocolError::ConnectTimeout => Self::KeepAliveTimeout,
            ProtocolError::ClientId => Self::ClientIdentifierNotValid,
            ProtocolError::TopicAlias => Self::TopicAliasInvalid,
            ProtocolError::SubscriptionIdentifier => Self::SubscriptionIdentifiersNotSupported,
            ProtocolError::ReceiveMaximum => Self::ReceiveMaximumExceeded,
            ProtocolError::AuthenticationMethod => Self::BadAuthenticationMethod,
            ProtocolError::TooManySessions => Self::QuotaExceeded,
            ProtocolError::TopicLevels => Self::TopicNameInvalid,
        }
    }
}

/// What a server knows of a connection beside its session.
#[derive(Clone, Debug)]
pub struct ServerConnection {
    version: Version,
    keep_alive: Duration,
    last_received: Instant,
    /// The largest packet that the client accepts (§3.1.2.11.4).
    pub maximum_packet_size: u32,
}

impl ServerConnection {
    /// The connection that `connect` opens.
    pub fn new(now: Instant, connect: &Connect) -> Self {
        Self {
            version: connect.version,
            keep_alive: Duration::from_secs(connect.keep_alive.into()),
            last_received: now,
            maximum_packet_size: connect.properties.maximum_packet_size.unwrap_or(u32::MAX),
        }
    }

    /// The version that the client speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Takes a packet, if a client may send it.
    ///
    /// # Errors
    /// Why the connection has to end.
    pub fn handle_packet(&mut self, now: Instant, packet: Packet) -> Result<Request, ProtocolError> {
        self.last_received = now;
        Ok(match packet {
            Packet::Publish(publish) => {
                check_publish(&publish)?;
                Request::Publish(publish)
            }
            Packet::PubAck(ack) => Request::PubAck(ack),
            Packet::PubRec(ack) => Request::PubRec(ack),
            Packet::PubRel(ack) => Request::PubRel(ack),
            Packet::PubComp(ack) => Request::PubComp(ack),
            Packet::Subscribe(subscribe) if !subscribe.properties.subscription_identifiers.is_empty() => {
                return Err(ProtocolError::SubscriptionIdentifier);
            }
            Packet::Subscribe(subscribe) => Request::Subscribe(subscribe),
            Packet::Unsubscribe(unsubscribe) => Request::Unsubscribe(unsubscribe),
            Packet::PingReq => Request::PingReq,
            Packet::Disconnect(disconnect) => Request::Disconnect(disconnect),
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp
            | Packet::Auth(_) => return Err(ProtocolError::UnexpectedPacket),
        })
    }

    /// When the client has been silent for too long: one and a half Keep Alive after its last packet.
    pub fn keep_alive_deadline(&self) -> Option<Instant> {
        (!self.keep_alive.is_zero()).then(|| self.last_received + self.keep_alive * 3 / 2)
    }

    /// Makes up for time in which the server did not read from the client.
    pub fn forgive_silence(&mut self, now: Instant) {
        self.last_received = now;
    }
}

fn check_publish(publish: &Publish) -> Result<(), ProtocolError> {
    if publish.properties.topic_alias.is_some() {
        return Err(ProtocolError::TopicAlias);
    }
    if !publish.properties.subscription_identifiers.is_empty() {
        return Err(ProtocolError::SubscriptionIdentifier);
    }
    Ok(())
}
