//! A client's side of a connection.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clock::Instant;
use mqtt_wire::{
    Ack, Auth, ConnAck, Connect, DecodeError, Decoder, Disconnect, EncodeError, Packet, PacketId, Properties,
    Publish, QoS, ReasonCode, SubAck, Subscribe, SubscribeFilter, Text, TopicFilter, TopicName, UnsubAck,
    Unsubscribe, Version,
};

use crate::session::{Inbound, Outbound, Receipt, Resend};
use crate::topic_alias::{Alias, IncomingAliases, OutgoingAliases};

/// Messages of QoS 2 that may wait for their PUBREL.
const MAX_UNRELEASED: usize = 65_535;

/// Messages have the packet identifiers up to this one, SUBSCRIBE and UNSUBSCRIBE those above.
const LAST_MESSAGE_ID: PacketId = PacketId(NonZeroU16::new(0x7fff).unwrap());

const FIRST_REQUEST_ID: PacketId = PacketId(NonZeroU16::new(0x8000).unwrap());

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The server has accepted the connection.
    Connected(Box<ConnAck>),
    /// A message for the application.
    Message(Box<Publish>),
    /// The exchange of a message of QoS 1 or 2 has ended.
    Published(PacketId, ReasonCode),
    /// SUBACK.
    Subscribed(PacketId, Vec<ReasonCode>),
    /// UNSUBACK.
    Unsubscribed(PacketId, Vec<ReasonCode>),
    /// The server's part of enhanced authentication: it goes on (0x18), or has succeeded again (0x00). CONNACK has its
    /// last part when a connection begins.
    Auth(Box<Auth>),
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// The server refused the connection.
    #[error("the broker refused the connection: {0}")]
    Refused(ReasonCode),
    /// The server ended the connection.
    #[error("the broker ended the connection: {0}")]
    Disconnected(ReasonCode),
    /// What the server sent is no packet.
    #[error("the broker sent something that is not MQTT: {0}")]
    Decode(#[from] DecodeError),
    /// What the server sent may not be sent by it, or not now.
    #[error("the broker broke the protocol")]
    Protocol,
    /// The server did not answer in time.
    #[error("the broker did not answer in time")]
    Timeout,
}

/// Why something cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// As many messages as the server's Receive Maximum allows wait for their acknowledgment.
    #[error("as many messages wait for their acknowledgment as the broker allows")]
    Full,
    /// The packet is larger than the server accepts.
    #[error("the message is larger than the broker accepts")]
    TooLarge,
    /// The server does not have what the message needs.
    #[error("the broker does not support {0}")]
    NotSupported(&'static str),
    /// The packet cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// A client's side of one connection, from its CONNECT on.
#[derive(Debug)]
pub struct ClientConnection {
    version: Version,
    clean_start: bool,
    decoder: Decoder,
    outbound: Outbound<Publish>,
    inbound: Inbound,
    next_request: PacketId,
    requests: Vec<PacketId>,
    is_connected: bool,
    keep_alive: Duration,
    last_sent: Instant,
    waits_since: Option<Instant>,
    answer_timeout: Duration,
    server: ServerLimits,
    authentication_method: Option<Text>,
    incoming: IncomingAliases,
    outgoing: OutgoingAliases,
    /// Most aliases that this side allows and uses.
    most_aliases: u16,
    output: BytesMut,
    events: VecDeque<Event>,
}

/// What the server's CONNACK says it cannot do.
#[derive(Clone, Copy, Debug)]
struct ServerLimits {
    maximum_packet_size: usize,
    maximum_qos: QoS,
    retain_available: bool,
}

impl ClientConnection {
    /// Begins with `connect`, whose Topic Alias Maximum also bounds the aliases that this side uses. `answer_timeout` is how long the server may take for CONNACK and PINGRESP.
    ///
    /// # Errors
    /// When `connect` cannot be written.
    pub fn new(
        now: Instant,
        connect: &Connect,
        max_packet_size: u32,
        answer_timeout: Duration,
    ) -> Result<Self, EncodeError> {
        let mut output = BytesMut::new();
        Packet::from(connect.clone()).encode(connect.version, &mut output)?;
        let most_aliases = connect.properties.topic_alias_maximum.unwrap_or(0);
        Ok(Self {
            version: connect.version,
            clean_start: connect.clean_start,
            decoder: Decoder::new(connect.version, max_packet_size),
            outbound: Outbound::with_ids_up_to(LAST_MESSAGE_ID.0.get(), LAST_MESSAGE_ID),
            inbound: Inbound::default(),
            next_request: FIRST_REQUEST_ID,
            requests: Vec::new(),
            is_connected: false,
            keep_alive: Duration::from_secs(connect.keep_alive.into()),
            last_sent: now,
            waits_since: Some(now),
            answer_timeout,
            server: ServerLimits {
                maximum_packet_size: usize::MAX,
                maximum_qos: QoS::ExactlyOnce,
                retain_available: true,
            },
            authentication_method: connect.properties.authentication_method.clone(),
            incoming: IncomingAliases::new(most_aliases),
            outgoing: OutgoingAliases::default(),
            most_aliases,
            output,
            events: VecDeque::new(),
        })
    }

    /// Begins a new connection that goes on with the session of this one, which is lost. What was not
    /// acknowledged is sent again if the server still has the session, else anew. SUBSCRIBE and UNSUBSCRIBE that
    /// were not answered are forgotten.
    ///
    /// # Errors
    /// When `connect` cannot be written; this connection stays as it is.
    pub fn reconnect(
        &mut self,
        now: Instant,
        connect: &Connect,
        max_packet_size: u32,
        answer_timeout: Duration,
    ) -> Result<(), EncodeError> {
        let mut new = Self::new(now, connect, max_packet_size, answer_timeout)?;
        std::mem::swap(self, &mut new);
        self.outbound = new.outbound;
        self.inbound = new.inbound;
        Ok(())
    }

    /// Goes on with the session of an earlier connection, as [`ClientConnection::reconnect`] does.
    #[must_use]
    pub fn resuming(mut self, earlier: Self) -> Self {
        self.outbound = earlier.outbound;
        self.inbound = earlier.inbound;
        self
    }

    /// Whether CONNACK has come.
    pub fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Takes what the server sent. Bytes of a packet that is not whole stay in `input`.
    ///
    /// # Errors
    /// Why the connection is over.
    pub fn handle_bytes(&mut self, now: Instant, input: &mut BytesMut) -> Result<(), ConnectionError> {
        while let Some(packet) = self.decoder.decode(input)? {
            self.handle_packet(now, packet)?;
        }
        Ok(())
    }

    /// Sends a message; the packet identifier of one with QoS 1 or 2 is told again by [`Event::Published`].
    ///
    /// # Errors
    /// Why it cannot be sent. The connection goes on.
    pub fn publish(&mut self, now: Instant, mut publish: Publish) -> Result<Option<PacketId>, SendError> {
        if publish.qos > self.server.maximum_qos {
            return Err(SendError::NotSupported("messages of this QoS"));
        }
        if publish.retain && !self.server.retain_available {
            return Err(SendError::NotSupported("retained messages"));
        }
        if publish.qos == QoS::AtMostOnce {
            self.send_publish(now, publish)?;
            return Ok(None);
        }
        let id = self.outbound.send(publish.clone(), publish.qos).ok_or(SendError::Full)?;
        publish.packet_id = Some(id);
        if let Err(error) = self.send_publish(now, publish) {
            // It was not sent, so nothing will answer it.
            let _ = self.outbound.handle_puback(id);
            let _ = self.outbound.handle_pubrec(id, ReasonCode::PacketTooLarge);
            return Err(error);
        }
        Ok(Some(id))
    }

    /// Subscribes; the answer is [`Event::Subscribed`].
    ///
    /// # Errors
    /// Why it cannot be sent.
    pub fn subscribe(&mut self, now: Instant, filters: Vec<SubscribeFilter>) -> Result<PacketId, SendError> {
        self.subscribe_with(now, filters, Properties::default())
    }

    /// Subscribes with properties of MQTT 5.0.
    ///
    /// # Errors
    /// Why it cannot be sent.
    pub fn subscribe_with(
        &mut self,
        now: Instant,
        filters: Vec<SubscribeFilter>,
        properties: Properties,
    ) -> Result<PacketId, SendError> {
        let packet_id = self.request_id();
        self.send(now, &Subscribe { packet_id, properties, filters }.into())?;
        self.requests.push(packet_id);
        Ok(packet_id)
    }

    /// Ends subscriptions; the answer is [`Event::Unsubscribed`].
    ///
    /// # Errors
    /// Why it cannot be sent.
    pub fn unsubscribe(&mut self, now: Instant, filters: Vec<TopicFilter>) -> Result<PacketId, SendError> {
        let packet_id = self.request_id();
        self.send(now, &Unsubscribe { packet_id, properties: Default::default(), filters }.into())?;
        self.requests.push(packet_id);
        Ok(packet_id)
    }

    /// Sends this side's part of enhanced authentication (§4.12): with Re-authenticate to begin anew on a connection
    /// that is open, with Continue authentication to answer.
    ///
    /// # Errors
    /// Why it cannot be sent; without an Authentication Method in CONNECT it cannot.
    pub fn authenticate(
        &mut self,
        now: Instant,
        reason_code: ReasonCode,
        data: Bytes,
    ) -> Result<(), SendError> {
        let Some(method) = self.authentication_method.clone() else {
            return Err(SendError::NotSupported("AUTH without an authentication method"));
        };
        let properties = Properties {
            authentication_method: Some(method),
            authentication_data: Some(data),
            ..Properties::default()
        };
        self.send(now, &Auth { reason_code, properties }.into())
    }

    /// Says goodbye. Nothing more is to be sent.
    pub fn disconnect(&mut self, now: Instant, reason: ReasonCode) {
        // A DISCONNECT without properties is never too large.
        let _ = self.send(now, &Disconnect::new(reason).into());
    }

    /// The host has not read what the server sent up to now, so the server's time for an answer begins anew.
    pub fn postpone_answer(&mut self, now: Instant) {
        if self.is_connected && self.waits_since.is_some() {
            self.waits_since = Some(now);
        }
    }

    /// Does what is due.
    ///
    /// # Errors
    /// When the server did not answer in time.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        if self.waits_since.is_some_and(|since| now - since >= self.answer_timeout) {
            return Err(ConnectionError::Timeout);
        }
        if self.is_connected && !self.keep_alive.is_zero() && now - self.last_sent >= self.keep_alive {
            let _ = self.send(now, &Packet::PingReq);
            self.waits_since.get_or_insert(now);
        }
        Ok(())
    }

    /// When [`ClientConnection::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let answer = self.waits_since.map(|since| since + self.answer_timeout);
        let ping =
            (self.is_connected && !self.keep_alive.is_zero()).then(|| self.last_sent + self.keep_alive);
        answer.into_iter().chain(ping).min()
    }

    /// Takes what is to be sent.
    pub fn poll_transmit(&mut self) -> Option<BytesMut> {
        (!self.output.is_empty()).then(|| self.output.split())
    }

    /// What the client should know next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn handle_packet(&mut self, now: Instant, packet: Packet) -> Result<(), ConnectionError> {
        if !self.is_connected {
            return match packet {
                Packet::Auth(auth) if auth.reason_code == ReasonCode::ContinueAuthentication => {
                    self.handle_auth(auth)
                }
                Packet::ConnAck(connack) => self.handle_connack(now, connack),
                Packet::Disconnect(disconnect) => Err(ConnectionError::Disconnected(disconnect.reason_code)),
                _ => Err(ConnectionError::Protocol),
            };
        }
        match packet {
            Packet::Publish(publish) => self.handle_publish(now, publish)?,
            Packet::PubAck(ack) => {
                if self.outbound.handle_puback(ack.packet_id).is_ok() {
                    self.events.push_back(Event::Published(ack.packet_id, ack.reason_code));
                }
            }
            Packet::PubRec(ack) => match self.outbound.handle_pubrec(ack.packet_id, ack.reason_code) {
                Ok(true) => self.acknowledge(now, &Packet::PubRel(Ack::new(ack.packet_id))),
                Ok(false) => self.events.push_back(Event::Published(ack.packet_id, ack.reason_code)),
                Err(_) => {
                    let unknown = Ack::with_reason(ack.packet_id, ReasonCode::PacketIdentifierNotFound);
                    self.acknowledge(now, &Packet::PubRel(unknown));
                }
            },
            Packet::PubRel(ack) => {
                let is_known = self.inbound.handle_pubrel(ack.packet_id);
                let reason =
                    if is_known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
                self.acknowledge(now, &Packet::PubComp(Ack::with_reason(ack.packet_id, reason)));
            }
            Packet::PubComp(ack) => {
                if self.outbound.handle_pubcomp(ack.packet_id).is_ok() {
                    self.events.push_back(Event::Published(ack.packet_id, ack.reason_code));
                }
            }
            Packet::SubAck(SubAck { packet_id, reason_codes, .. }) => {
                self.end_request(packet_id)?;
                self.events.push_back(Event::Subscribed(packet_id, reason_codes));
            }
            Packet::UnsubAck(UnsubAck { packet_id, reason_codes, .. }) => {
                self.end_request(packet_id)?;
                self.events.push_back(Event::Unsubscribed(packet_id, reason_codes));
            }
            Packet::PingResp => self.waits_since = None,
            Packet::Disconnect(disconnect) => {
                return Err(ConnectionError::Disconnected(disconnect.reason_code));
            }
            Packet::Auth(auth) => self.handle_auth(auth)?,
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::PingReq => return Err(ConnectionError::Protocol),
        }
        Ok(())
    }

    /// [MQTT-4.12.0-5]: the method is that of CONNECT. A client does not re-authenticate because a server asks.
    fn handle_auth(&mut self, auth: Auth) -> Result<(), ConnectionError> {
        let is_ours = self.authentication_method.is_some()
            && auth.properties.authentication_method == self.authentication_method;
        if !is_ours || auth.reason_code == ReasonCode::ReAuthenticate {
            return Err(ConnectionError::Protocol);
        }
        self.events.push_back(Event::Auth(Box::new(auth)));
        Ok(())
    }

    fn handle_connack(&mut self, now: Instant, connack: Box<ConnAck>) -> Result<(), ConnectionError> {
        if connack.reason_code != ReasonCode::Success {
            return Err(ConnectionError::Refused(connack.reason_code));
        }
        // [MQTT-3.2.2-2]: what was asked to be clean has nothing to go on with.
        if connack.session_present && self.clean_start {
            return Err(ConnectionError::Protocol);
        }
        let properties = &connack.properties;
        // [MQTT-4.12.0-5], [MQTT-4.12.0-6]
        if properties.authentication_method != self.authentication_method {
            return Err(ConnectionError::Protocol);
        }
        self.is_connected = true;
        let aliases = properties.topic_alias_maximum.unwrap_or(0).min(self.most_aliases);
        self.outgoing = OutgoingAliases::new(aliases);
        self.waits_since = None;
        if let Some(keep_alive) = properties.server_keep_alive {
            self.keep_alive = Duration::from_secs(keep_alive.into());
        }
        self.server = ServerLimits {
            maximum_packet_size: properties
                .maximum_packet_size
                .and_then(|size| usize::try_from(size).ok())
                .unwrap_or(usize::MAX),
            maximum_qos: match properties.maximum_qos {
                None => QoS::ExactlyOnce,
                Some(true) => QoS::AtLeastOnce,
                Some(false) => QoS::AtMostOnce,
            },
            retain_available: properties.retain_available.unwrap_or(true),
        };
        let window = properties.receive_maximum.unwrap_or(u16::MAX).min(LAST_MESSAGE_ID.0.get());
        self.outbound.set_window(window);
        // A server of MQTT 3.1 does not say; what was asked for has to do.
        let goes_on = connack.session_present || (self.version == Version::V3_1 && !self.clean_start);
        if !goes_on {
            self.inbound = Inbound::default();
        }
        self.resend(now, goes_on);
        self.events.push_back(Event::Connected(connack));
        Ok(())
    }

    /// Sends what an earlier connection left unacknowledged: in a session that goes on as a repetition, in a
    /// new one as new, as the server knows nothing of it.
    fn resend(&mut self, now: Instant, session_present: bool) {
        let again: Vec<Packet> = (self.outbound.resend())
            .map(|resend| match resend {
                Resend::Publish(id, publish) => {
                    Publish { dup: session_present, packet_id: Some(id), ..publish.clone() }.into()
                }
                Resend::PubRel(id) => Packet::PubRel(Ack::new(id)),
            })
            .collect();
        for packet in again {
            self.acknowledge(now, &packet);
        }
    }

    fn handle_publish(&mut self, now: Instant, mut publish: Box<Publish>) -> Result<(), ConnectionError> {
        // MQTT 5.0 §3.3.2.3.4
        if let Some(alias) = publish.properties.topic_alias.take() {
            let topic = self.incoming.resolve(alias, &publish.topic);
            publish.topic = topic.ok_or(ConnectionError::Protocol)?;
        }
        match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => self.acknowledge(now, &Packet::PubAck(Ack::new(id))),
            (QoS::ExactlyOnce, Some(id)) => {
                let receipt = self.inbound.handle_publish(id, publish.dup, MAX_UNRELEASED);
                self.acknowledge(now, &Packet::PubRec(Ack::new(id)));
                match receipt {
                    Receipt::New => {}
                    Receipt::Repeated => return Ok(()),
                    Receipt::Exceeded => return Err(ConnectionError::Protocol),
                }
            }
            _ => {}
        }
        self.events.push_back(Event::Message(publish));
        Ok(())
    }

    fn end_request(&mut self, id: PacketId) -> Result<(), ConnectionError> {
        let index = self.requests.iter().position(|&open| open == id).ok_or(ConnectionError::Protocol)?;
        self.requests.swap_remove(index);
        Ok(())
    }

    /// An identifier for SUBSCRIBE or UNSUBSCRIBE.
    fn request_id(&mut self) -> PacketId {
        let id = self.next_request;
        self.next_request = id.0.checked_add(1).map_or(FIRST_REQUEST_ID, PacketId);
        id
    }

    /// Sends a message, with a Topic Alias where the server has room for one. What is kept to be sent again keeps
    /// its name: aliases end with their connection.
    fn send_publish(&mut self, now: Instant, mut publish: Publish) -> Result<(), SendError> {
        publish.properties.topic_alias = None;
        match self.outgoing.assign(&publish.topic) {
            Alias::None => {}
            Alias::New(alias) => publish.properties.topic_alias = Some(alias),
            Alias::Known(alias) => {
                publish.properties.topic_alias = Some(alias);
                publish.topic = TopicName::default();
            }
        }
        let sent = self.send(now, &publish.into());
        if sent.is_err() {
            // The server has not heard of a new alias: begin anew with all of them.
            self.outgoing = OutgoingAliases::new(self.outgoing.maximum());
        }
        sent
    }

    /// Sends a packet of a few bytes, which always can be.
    fn acknowledge(&mut self, now: Instant, packet: &Packet) {
        let _ = self.send(now, packet);
    }

    fn send(&mut self, now: Instant, packet: &Packet) -> Result<(), SendError> {
        let before = self.output.len();
        packet.encode(self.version, &mut self.output)?;
        if self.output.len() - before > self.server.maximum_packet_size {
            self.output.truncate(before);
            return Err(SendError::TooLarge);
        }
        self.last_sent = now;
        Ok(())
    }
}
