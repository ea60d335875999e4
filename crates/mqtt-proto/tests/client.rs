//! What the standards ask of a client, held against `ClientConnection`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use bytes::BytesMut;
use clock::Instant;
use mqtt_proto::client::{ClientConnection, ConnectionError, SendError};
use mqtt_wire::{
    Ack, ConnAck, Connect, Decoder, Packet, PacketId, Properties, Publish, QoS, ReasonCode, SubscribeFilter,
    SubscriptionOptions, Text, TopicFilter, TopicName, Version,
};

const START: Instant = Instant::ORIGIN;

struct Server {
    client: ClientConnection,
    decoder: Decoder,
}

impl Server {
    /// A client whose CONNECT was answered with these properties.
    fn accepting(connect: &Connect, properties: Properties) -> Self {
        let mut server = Self::new(connect);
        server.answer(connack(false, properties)).unwrap();
        server
    }

    fn new(connect: &Connect) -> Self {
        let mut client = ClientConnection::new(START, connect, 1 << 20, Duration::from_secs(9)).unwrap();
        client.poll_transmit().unwrap();
        Self { client, decoder: Decoder::new(Version::V5, 1 << 20) }
    }

    fn answer(&mut self, packet: impl Into<Packet>) -> Result<(), ConnectionError> {
        let mut bytes = BytesMut::new();
        packet.into().encode(Version::V5, &mut bytes).unwrap();
        self.client.handle_bytes(START, &mut bytes)
    }

    fn sent(&mut self) -> Vec<Packet> {
        let mut bytes = self.client.poll_transmit().unwrap_or_default();
        std::iter::from_fn(|| self.decoder.decode(&mut bytes).unwrap()).collect()
    }

    fn publish(&mut self, qos: QoS) -> Result<Option<PacketId>, SendError> {
        self.client.publish(START, Publish::new(TopicName::new("t").unwrap(), qos, "x"))
    }
}

fn connect() -> Connect {
    let mut connect = Connect::new(Version::V5, Text::new("c").unwrap());
    connect.clean_start = false;
    connect.keep_alive = 10;
    connect
}

fn connack(session_present: bool, properties: Properties) -> ConnAck {
    ConnAck { session_present, reason_code: ReasonCode::Success, properties }
}

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

#[test]
fn a_silent_client_pings_within_its_keep_alive() {
    let mut server = Server::accepting(&connect(), Properties::default());
    let due = server.client.poll_timeout().unwrap();
    assert_eq!(due, START + Duration::from_secs(10));
    server.client.handle_timeout(due).unwrap();
    assert_eq!(server.sent(), [Packet::PingReq]);
}

#[test]
fn the_servers_keep_alive_takes_the_place_of_the_clients() {
    let properties = Properties { server_keep_alive: Some(3), ..Properties::default() };
    let server = Server::accepting(&connect(), properties);
    assert_eq!(server.client.poll_timeout(), Some(START + Duration::from_secs(3)));
}

#[test]
fn a_session_that_the_client_does_not_have_ends_the_connection() {
    let clean = Connect { clean_start: true, ..connect() };
    let mut server = Server::new(&clean);
    assert!(server.answer(connack(true, Properties::default())).is_err());
}

#[test]
fn state_of_a_session_that_the_server_does_not_have_is_thrown_away() {
    let mut first = Server::accepting(&connect(), Properties::default());
    let mut publish = Publish::new(TopicName::new("t").unwrap(), QoS::ExactlyOnce, "x");
    publish.packet_id = Some(id(5));
    first.answer(publish.clone()).unwrap();
    let mut second = Server::new(&connect());
    second.client = second.client.resuming(first.client);
    second.answer(connack(false, Properties::default())).unwrap();
    second.answer(publish).unwrap();
    let messages = std::iter::from_fn(|| second.client.poll_event())
        .filter(|event| matches!(event, mqtt_proto::client::Event::Message(_)));
    assert_eq!(messages.count(), 1, "the identifier means a new message");
}

#[test]
fn what_the_server_does_not_have_is_not_sent_to_it() {
    let properties =
        Properties { maximum_qos: Some(false), retain_available: Some(false), ..Properties::default() };
    let mut server = Server::accepting(&connect(), properties);
    assert!(matches!(server.publish(QoS::AtLeastOnce), Err(SendError::NotSupported(_))));
    let retained =
        Publish { retain: true, ..Publish::new(TopicName::new("t").unwrap(), QoS::AtMostOnce, "x") };
    assert!(matches!(server.client.publish(START, retained), Err(SendError::NotSupported(_))));
    assert_eq!(server.sent(), []);
}

#[test]
fn a_full_window_holds_back_messages_and_nothing_else() {
    let properties = Properties { receive_maximum: Some(1), ..Properties::default() };
    let mut server = Server::accepting(&connect(), properties);
    assert!(server.publish(QoS::AtLeastOnce).is_ok());
    assert_eq!(server.publish(QoS::AtLeastOnce), Err(SendError::Full));
    let filter = SubscribeFilter {
        filter: TopicFilter::new("t").unwrap(),
        options: SubscriptionOptions::at_most(QoS::AtMostOnce),
    };
    assert!(server.client.subscribe(START, vec![filter]).is_ok());
    assert_eq!(server.sent().len(), 2);
}

#[test]
fn identifiers_in_use_are_not_given_again_and_come_free_with_the_acknowledgment() {
    let mut server = Server::accepting(&connect(), Properties::default());
    let first = server.publish(QoS::AtLeastOnce).unwrap().unwrap();
    let second = server.publish(QoS::ExactlyOnce).unwrap().unwrap();
    assert_ne!(first, second);
    server.answer(Packet::PubAck(Ack::new(first))).unwrap();
    for _ in 0..0x7ffd {
        let used = server.publish(QoS::AtLeastOnce).unwrap().unwrap();
        assert_ne!(used, second);
    }
    assert_eq!(server.publish(QoS::AtLeastOnce).unwrap(), Some(first), "it is free again");
}

#[test]
fn acknowledgments_leave_in_the_order_in_which_messages_came() {
    let mut server = Server::accepting(&connect(), Properties::default());
    for (number, qos) in
        [(9, QoS::AtLeastOnce), (3, QoS::ExactlyOnce), (7, QoS::AtLeastOnce), (1, QoS::ExactlyOnce)]
    {
        let publish = Publish::new(TopicName::new("t").unwrap(), qos, "x");
        server.answer(Publish { packet_id: Some(id(number)), ..publish }).unwrap();
    }
    let wanted = [
        Packet::PubAck(Ack::new(id(9))),
        Packet::PubRec(Ack::new(id(3))),
        Packet::PubAck(Ack::new(id(7))),
        Packet::PubRec(Ack::new(id(1))),
    ];
    assert_eq!(server.sent(), wanted);
}

#[test]
fn releases_leave_in_the_order_in_which_receipts_came() {
    let mut server = Server::accepting(&connect(), Properties::default());
    let ids: Vec<PacketId> = (0..3).map(|_| server.publish(QoS::ExactlyOnce).unwrap().unwrap()).collect();
    server.sent();
    for index in [2, 0, 1] {
        server.answer(Packet::PubRec(Ack::new(ids[index]))).unwrap();
    }
    assert_eq!(server.sent(), [2, 0, 1].map(|index| Packet::PubRel(Ack::new(ids[index]))));
}

#[test]
fn what_is_sent_again_keeps_its_order_and_identifiers() {
    let mut first = Server::accepting(&connect(), Properties::default());
    let ids: Vec<PacketId> = [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::AtLeastOnce]
        .map(|qos| first.publish(qos).unwrap().unwrap())
        .into();
    let mut second = Server::new(&connect());
    second.client = second.client.resuming(first.client);
    second.answer(connack(true, Properties::default())).unwrap();
    let again: Vec<_> = (second.sent().into_iter())
        .map(|packet| match packet {
            Packet::Publish(publish) => (publish.packet_id.unwrap(), publish.dup),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(again, [(ids[0], true), (ids[1], true), (ids[2], true)]);
}
