//! A server's view of one connection: what its client may send, and when it has been silent for too long.

use std::time::Duration;

use clock::Instant;
use mqtt_wire::{
    Ack, Auth, Connect, Disconnect, Packet, Publish, ReasonCode, Subscribe, Text, TopicName, Unsubscribe,
    Version,
};

pub use crate::error::ProtocolError;
use crate::topic_alias::{Alias, IncomingAliases, OutgoingAliases};

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
    /// To authenticate again (§4.12.1), with the method of CONNECT.
    Auth(Auth),
}

/// What a server grants a connection, beside what its client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Topic Alias Maximum of CONNACK: what the client may use.
    pub topic_alias_maximum: u16,
    /// Most aliases that the server uses, if the client allows as many.
    pub outgoing_aliases: u16,
    /// Server Keep Alive of CONNACK, in seconds; it replaces the client's (§3.2.2.3.14).
    pub server_keep_alive: Option<u16>,
}

/// What a server knows of a connection beside its session.
#[derive(Clone, Debug)]
pub struct ServerConnection {
    version: Version,
    keep_alive: Duration,
    last_received: Instant,
    incoming: IncomingAliases,
    outgoing: OutgoingAliases,
    /// The method with which the client has authenticated.
    authentication_method: Option<Text>,
    /// The largest packet that the client accepts (§3.1.2.11.4).
    pub maximum_packet_size: u32,
    /// Whether Reason Strings and User Properties may go with every packet, or with PUBLISH, CONNACK and
    /// DISCONNECT only (§3.1.2.11.7).
    pub request_problem_information: bool,
}

impl ServerConnection {
    /// The connection that `connect` opens.
    pub fn new(now: Instant, connect: &Connect, terms: Terms) -> Self {
        let asked = &connect.properties;
        // Only MQTT 5.0 can be told, and has aliases.
        let (server_keep_alive, incoming) = match connect.version {
            Version::V5 => (terms.server_keep_alive, terms.topic_alias_maximum),
            _ => (None, 0),
        };
        let keep_alive = server_keep_alive.unwrap_or(connect.keep_alive);
        Self {
            version: connect.version,
            keep_alive: Duration::from_secs(keep_alive.into()),
            last_received: now,
            incoming: IncomingAliases::new(incoming),
            outgoing: OutgoingAliases::new(
                asked.topic_alias_maximum.unwrap_or(0).min(terms.outgoing_aliases),
            ),
            authentication_method: asked.authentication_method.clone(),
            maximum_packet_size: asked.maximum_packet_size.unwrap_or(u32::MAX),
            request_problem_information: asked.request_problem_information.unwrap_or(true),
        }
    }

    /// The version that the client speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether topics are sent with aliases.
    pub fn has_aliases(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// How a PUBLISH that is now sent names its topic.
    pub fn assign_alias(&mut self, topic: &TopicName) -> Alias {
        self.outgoing.assign(topic)
    }

    /// Takes a packet, if a client may send it.
    ///
    /// # Errors
    /// Why the connection has to end.
    pub fn handle_packet(&mut self, now: Instant, packet: Packet) -> Result<Request, ProtocolError> {
        self.last_received = now;
        Ok(match packet {
            Packet::Publish(mut publish) => {
                self.check_publish(&mut publish)?;
                Request::Publish(publish)
            }
            Packet::PubAck(ack) => Request::PubAck(ack),
            Packet::PubRec(ack) => Request::PubRec(ack),
            Packet::PubRel(ack) => Request::PubRel(ack),
            Packet::PubComp(ack) => Request::PubComp(ack),
            Packet::Subscribe(subscribe) => Request::Subscribe(subscribe),
            Packet::Unsubscribe(unsubscribe) => Request::Unsubscribe(unsubscribe),
            Packet::PingReq => Request::PingReq,
            Packet::Disconnect(disconnect) => {
                if !is_sent_by_clients(disconnect.reason_code) {
                    return Err(ProtocolError::DisconnectCode(disconnect.reason_code));
                }
                Request::Disconnect(disconnect)
            }
            // [MQTT-4.12.0-5], [MQTT-4.12.0-7]
            Packet::Auth(auth)
                if self.authentication_method.is_some()
                    && auth.properties.authentication_method == self.authentication_method =>
            {
                Request::Auth(auth)
            }
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

    /// Puts the topic in the place of its alias.
    fn check_publish(&mut self, publish: &mut Publish) -> Result<(), ProtocolError> {
        if !publish.properties.subscription_identifiers.is_empty() {
            return Err(ProtocolError::SubscriptionIdentifier);
        }
        if let Some(alias) = publish.properties.topic_alias.take() {
            publish.topic = self.incoming.resolve(alias, &publish.topic).ok_or(ProtocolError::TopicAlias)?;
        }
        Ok(())
    }
}

/// The reason codes of DISCONNECT that a client may send (§3.14.2.1).
fn is_sent_by_clients(code: ReasonCode) -> bool {
    use ReasonCode as R;
    matches!(
        code,
        R::Success
            | R::DisconnectWithWillMessage
            | R::UnspecifiedError
            | R::MalformedPacket
            | R::ProtocolError
            | R::ImplementationSpecificError
            | R::TopicNameInvalid
            | R::ReceiveMaximumExceeded
            | R::TopicAliasInvalid
            | R::PacketTooLarge
            | R::MessageRateTooHigh
            | R::QuotaExceeded
            | R::AdministrativeAction
            | R::PayloadFormatInvalid
    )
}
