//! A whole broker of three shards over TCP.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::BytesMut;
use mqtt_client::{Client, Error, Messages, Options};
use mqtt_proto::client::ConnectionError;
use mqtt_server::{Config, ListenerConfig, Server, StartError};
use mqtt_wire::{
    ConnAck, Decoder, Packet, Properties, Publish, QoS, ReasonCode, SubscribeFilter, SubscriptionOptions,
    Text, TopicFilter, TopicName, Version, Will,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const VERSIONS: [Version; 3] = [Version::V3_1, Version::V3_1_1, Version::V5];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const SHARDS: usize = 3;

async fn start() -> Server {
    let listener = ListenerConfig::new("test", "127.0.0.1:0".parse().unwrap());
    // What is retained is what a test retained.
    let sys_interval = Duration::ZERO;
    let shards = NonZeroUsize::new(SHARDS);
    let config = Config { listeners: vec![listener], shards, sys_interval, ..Config::default() };
    Server::start(config).await.unwrap()
}

/// A Client Identifier that belongs to a shard.
fn id_on(server: &Server, shard: usize, name: &str) -> String {
    (0..).map(|n| format!("{name}{n}")).find(|id| server.shard_of(id) == shard).unwrap()
}

async fn connect(server: &Server, options: Options) -> (Client, Messages) {
    Client::connect_tcp(&server.local_addresses()[0].to_string(), options).await.unwrap()
}

fn options(version: Version, id: &str) -> Options {
    Options { version, ..Options::new(id) }
}

fn filter(text: &str, qos: QoS) -> Vec<SubscribeFilter> {
    vec![SubscribeFilter {
        filter: TopicFilter::new(text).unwrap(),
        options: SubscriptionOptions::at_most(qos),
    }]
}

fn publish(topic: &str, qos: QoS, payload: &str) -> Publish {
    Publish::new(TopicName::new(topic).unwrap(), qos, payload.to_owned())
}

async fn next(messages: &mut Messages) -> Publish {
    timeout(Duration::from_secs(10), messages.next()).await.expect("a message in time").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_cross_shards_in_all_versions_and_qualities() {
    let server = start().await;
    for (from, version) in VERSIONS.into_iter().enumerate() {
        for (to, other) in VERSIONS.into_iter().enumerate() {
            let receiver = id_on(&server, to, &format!("receiver-{from}-{to}-"));
            let sender = id_on(&server, (to + 1) % SHARDS, &format!("sender-{from}-{to}-"));
            let (receiver, mut messages) = connect(&server, options(other, &receiver)).await;
            let (sender, _) = connect(&server, options(version, &sender)).await;
            let topic = format!("cross/{from}/{to}");
            let granted = receiver.subscribe(filter(&topic, QoS::ExactlyOnce)).await.unwrap();
            assert_eq!(granted, [ReasonCode::GrantedQoS2]);
            for qos in QOS {
                for number in 0..20 {
                    let payload = format!("{number} {}", qos as u8);
                    assert_eq!(sender.publish(publish(&topic, qos, &payload)).await, Ok(ReasonCode::Success));
                }
                for number in 0..20 {
                    let message = next(&mut messages).await;
                    assert_eq!(message.payload, format!("{number} {}", qos as u8), "in order");
                    assert_eq!((message.qos, message.retain), (qos, false));
                }
            }
            receiver.disconnect().await;
            sender.disconnect().await;
        }
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retained_messages_wait_for_subscribers_of_every_shard() {
    let server = start().await;
    let (publisher, _) = connect(&server, options(Version::V5, "publisher")).await;
    let retained = |payload| Publish { retain: true, ..publish("state/lamp", QoS::AtLeastOnce, payload) };
    publisher.publish(retained("old")).await.unwrap();
    publisher.publish(retained("new")).await.unwrap();
    for shard in 0..SHARDS {
        let (client, mut messages) =
            connect(&server, options(Version::V3_1_1, &id_on(&server, shard, "reader"))).await;
        client.subscribe(filter("state/+", QoS::AtLeastOnce)).await.unwrap();
        let message = next(&mut messages).await;
        assert_eq!((&message.payload[..], message.retain), (&b"new"[..], true));
    }
    publisher.publish(retained("")).await.unwrap();
    assert!(server.retained().is_empty());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_keeps_what_came_while_its_client_was_away() {
    let server = start().await;
    for version in VERSIONS {
        let id = id_on(&server, 0, &format!("away-{}-", version as u8));
        let lasting =
            Options { clean_start: false, session_expiry_interval: Some(600), ..options(version, &id) };
        let topic = format!("news/{}", version as u8);
        let (client, messages) = connect(&server, lasting.clone()).await;
        client.subscribe(filter(&topic, QoS::ExactlyOnce)).await.unwrap();
        client.disconnect().await;
        drop(messages);
        let (publisher, _) = connect(&server, options(Version::V5, &id_on(&server, 1, "press"))).await;
        for number in 0..100 {
            let qos = QOS[1 + number % 2];
            publisher.publish(publish(&topic, qos, &number.to_string())).await.unwrap();
        }
        let (client, mut messages) = connect(&server, lasting).await;
        assert_eq!(client.connack().session_present, version != Version::V3_1);
        for number in 0..100 {
            assert_eq!(next(&mut messages).await.payload, number.to_string());
        }
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_connection_takes_over_and_a_lost_one_leaves_its_will() {
    let server = start().await;
    let (watcher, mut wills) = connect(&server, options(Version::V5, "watcher")).await;
    watcher.subscribe(filter("wills/#", QoS::AtLeastOnce)).await.unwrap();
    let with_will = |version, id: &str| Options {
        will: Some(Will {
            topic: TopicName::new(&format!("wills/{id}")).unwrap(),
            payload: "gone".into(),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: Properties::default(),
        }),
        ..options(version, id)
    };
    let (_first, mut first_messages) = connect(&server, with_will(Version::V5, "twin")).await;
    let (second, _second_messages) = connect(&server, with_will(Version::V5, "twin")).await;
    let end = timeout(Duration::from_secs(10), first_messages.next()).await.unwrap().unwrap_err();
    assert_eq!(end, Error::Connection(ConnectionError::Disconnected(ReasonCode::SessionTakenOver)));
    assert_eq!(
        next(&mut wills).await.topic.as_str(),
        "wills/twin",
        "the session had ended with its connection"
    );
    // A goodbye leaves no will: the next one to be seen is another's.
    second.disconnect().await;
    let address = server.local_addresses()[0];
    let mut lost = TcpStream::connect(address).await.unwrap();
    let mut connect_packet = BytesMut::new();
    let mut packet = mqtt_wire::Connect::new(Version::V3_1_1, Text::new("lost").unwrap());
    packet.will = with_will(Version::V3_1_1, "lost").will.map(Box::new);
    Packet::from(packet).encode(Version::V3_1_1, &mut connect_packet).unwrap();
    lost.write_all(&connect_packet).await.unwrap();
    let mut connack = [0; 4];
    lost.read_exact(&mut connack).await.unwrap();
    drop(lost);
    assert_eq!(next(&mut wills).await.topic.as_str(), "wills/lost");
    server.shutdown().await;
}

#[tokio::test]
async fn a_silent_client_is_dropped_after_one_and_a_half_keep_alive() {
    let server = start().await;
    let mut silent = TcpStream::connect(server.local_addresses()[0]).await.unwrap();
    let mut packet = mqtt_wire::Connect::new(Version::V5, Text::new("silent").unwrap());
    packet.keep_alive = 1;
    let mut bytes = BytesMut::new();
    Packet::from(packet).encode(Version::V5, &mut bytes).unwrap();
    let started = std::time::Instant::now();
    silent.write_all(&bytes).await.unwrap();
    let mut received = BytesMut::new();
    while timeout(Duration::from_secs(10), silent.read_buf(&mut received)).await.unwrap().unwrap() > 0 {}
    assert!(started.elapsed() >= Duration::from_millis(1_500));
    let mut decoder = Decoder::new(Version::V5, 1024);
    assert!(matches!(decoder.decode(&mut received), Ok(Some(Packet::ConnAck(_)))));
    let Ok(Some(Packet::Disconnect(disconnect))) = decoder.decode(&mut received) else {
        panic!("a DISCONNECT")
    };
    assert_eq!(disconnect.reason_code, ReasonCode::KeepAliveTimeout);
    server.shutdown().await;
}

/// Writes bytes and returns all that comes back until the server closes.
async fn converse(server: &Server, bytes: &[u8]) -> BytesMut {
    let mut stream = TcpStream::connect(server.local_addresses()[0]).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut received = BytesMut::new();
    let read = async { while stream.read_buf(&mut received).await.is_ok_and(|read| read > 0) {} };
    timeout(Duration::from_secs(10), read).await.expect("the server closes in time");
    received
}

#[tokio::test]
async fn connack_admits_what_is_not_there_and_refusals_say_why() {
    let server = start().await;
    let (client, _) = connect(&server, options(Version::V5, "")).await;
    let properties = &client.connack().properties;
    assert_eq!(properties.topic_alias_maximum, Some(64));
    assert_eq!(properties.shared_subscription_available, None, "absent means that they are there");
    assert_eq!(properties.subscription_identifiers_available, None);
    assert_eq!(properties.receive_maximum, Some(100));
    assert!(properties.assigned_client_identifier.is_some());
    let shared = client.subscribe(filter("$share/g/a", QoS::AtMostOnce)).await.unwrap();
    assert_eq!(shared, [ReasonCode::GRANTED_QOS_0]);
    let return_code = async |bytes: &[u8]| {
        let mut received = converse(&server, bytes).await;
        match Decoder::new(Version::V3_1_1, 1024).decode(&mut received) {
            Ok(Some(Packet::ConnAck(connack))) => {
                let ConnAck { reason_code, session_present: false, .. } = *connack else { panic!("refused") };
                Some(reason_code)
            }
            _ => None,
        }
    };
    let unknown_version = b"\x10\x0d\0\x04MQTT\x07\x02\0\0\0\x01a";
    assert_eq!(return_code(unknown_version).await, Some(ReasonCode::UnsupportedProtocolVersion));
    let lasting_without_id = b"\x10\x0c\0\x04MQTT\x04\0\0\0\0\0";
    assert_eq!(return_code(lasting_without_id).await, Some(ReasonCode::ClientIdentifierNotValid));
    assert_eq!(return_code(b"\x10\x0d\0\x04MQTX\x04\x02\0\0\0\x01a").await, None, "not even MQTT");
    assert_eq!(return_code(b"\xc0\x00").await, None, "not a CONNECT");
    server.shutdown().await;
}

#[tokio::test]
async fn a_listener_that_cannot_be_says_so_in_a_sentence() {
    let server = start().await;
    let address = server.local_addresses()[0];
    let start = async |listener| {
        let config = Config { listeners: vec![listener], ..Config::default() };
        Server::start(config).await.map(|_| ())
    };
    let taken = start(ListenerConfig::new("second", address)).await.unwrap_err();
    assert!(matches!(taken, StartError::InUse { .. }));
    assert!(taken.to_string().contains(&address.to_string()), "{taken}");
    let open = ListenerConfig::new("open", "0.0.0.0:0".parse().unwrap());
    assert!(matches!(start(open).await, Err(StartError::Anonymous { .. })));
    let closed = ListenerConfig { allow_anonymous: Some(false), ..ListenerConfig::new("closed", address) };
    assert!(matches!(start(closed).await, Err(StartError::NoUsers { .. })));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_server_tells_its_clients() {
    let server = start().await;
    let (_client, mut messages) = connect(&server, options(Version::V5, "here")).await;
    let stream = server.connect_local();
    let (_local, mut local_messages) = Client::connect(stream, options(Version::V5, "local")).await.unwrap();
    server.shutdown().await;
    let wanted = Error::Connection(ConnectionError::Disconnected(ReasonCode::ServerShuttingDown));
    assert_eq!(timeout(Duration::from_secs(10), messages.next()).await.unwrap(), Err(wanted.clone()));
    assert_eq!(timeout(Duration::from_secs(10), local_messages.next()).await.unwrap(), Err(wanted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_qos_2_beyond_the_window_is_taken_in_every_version() {
    let server = start().await;
    for version in VERSIONS {
        let topic = format!("burst/{}", version as u8);
        let (reader, mut messages) = connect(&server, options(Version::V5, "reader")).await;
        reader.subscribe(filter(&topic, QoS::ExactlyOnce)).await.unwrap();
        let (sender, _messages) = connect(&server, options(version, "burst")).await;
        let all: Vec<_> = (0..300)
            .map(|number| {
                let (sender, message) =
                    (sender.clone(), publish(&topic, QoS::ExactlyOnce, &number.to_string()));
                tokio::spawn(async move { sender.publish(message).await })
            })
            .collect();
        for sent in all {
            assert_eq!(sent.await.unwrap(), Ok(ReasonCode::Success));
        }
        let mut received = Vec::new();
        for _ in 0..300 {
            received.push(
                String::from_utf8(next(&mut messages).await.payload.to_vec())
                    .unwrap()
                    .parse::<u32>()
                    .unwrap(),
            );
        }
        received.sort_unstable();
        assert!(received.into_iter().eq(0..300), "each once");
    }
    server.shutdown().await;
}

/// A small generator, so that the run is the same everywhere (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

fn encoded(version: Version, packet: impl Into<Packet>) -> Vec<u8> {
    let mut out = BytesMut::new();
    packet.into().encode(version, &mut out).unwrap();
    out.to_vec()
}

/// Sends to one connection until the server closes it or all is sent.
async fn bombard(server: &Server, bytes: &[u8]) {
    let mut stream = TcpStream::connect(server.local_addresses()[0]).await.unwrap();
    // The server closes in the middle of most of it.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut sink = BytesMut::new();
    let read = async { while stream.read_buf(&mut sink).await.is_ok_and(|read| read > 0) {} };
    timeout(Duration::from_secs(20), read).await.expect("the server ends what is not MQTT");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_bad_inputs_leave_every_shard_serving() {
    let server = start().await;
    let mut random = Random(7);
    let valid: Vec<Vec<u8>> = VERSIONS
        .into_iter()
        .flat_map(|version| {
            let id = mqtt_wire::PacketId::ONE;
            let subscribe = mqtt_wire::Subscribe {
                packet_id: id,
                properties: Properties::default(),
                filters: filter("a/+/#", QoS::ExactlyOnce),
            };
            let message = Publish { packet_id: Some(id), ..publish("a/b", QoS::ExactlyOnce, "payload") };
            [
                encoded(version, mqtt_wire::Connect::new(version, Text::new("mutant").unwrap())),
                encoded(version, subscribe),
                encoded(version, message),
                encoded(version, Packet::PingReq),
                encoded(version, Packet::PubRel(mqtt_wire::Ack::new(id))),
            ]
        })
        .collect();
    for _ in 0..10_000 / 10 {
        // Ten strings a connection, of which the first alone decides its fate.
        let bytes: Vec<u8> = (0..10)
            .flat_map(|_| {
                (0..1 + random.below(40)).map(|_| random.next().to_le_bytes()[0]).collect::<Vec<u8>>()
            })
            .collect();
        bombard(&server, &bytes).await;
    }
    for round in 0..10_000 / 10 {
        // A valid CONNECT, so that the mutants get as far as a session.
        let version = round % VERSIONS.len();
        let mut bytes = valid[version * 5].clone();
        for _ in 0..10 {
            let mut packet = valid[version * 5 + random.below(5)].clone();
            let at = random.below(packet.len());
            packet[at] ^= 1 << random.below(8);
            bytes.extend(packet);
        }
        bombard(&server, &bytes).await;
    }
    for shard in 0..SHARDS {
        let (client, mut messages) =
            connect(&server, options(Version::V5, &id_on(&server, shard, "honest"))).await;
        client.subscribe(filter("still/here", QoS::ExactlyOnce)).await.unwrap();
        client.publish(publish("still/here", QoS::ExactlyOnce, "yes")).await.unwrap();
        assert_eq!(&next(&mut messages).await.payload[..], b"yes");
    }
    server.shutdown().await;
}
