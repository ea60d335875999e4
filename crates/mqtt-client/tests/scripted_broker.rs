//! The client against a broker that says what the test tells it to.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use bytes::BytesMut;
use mqtt_client::{Client, Error, Messages, Options};
use mqtt_proto::client::ConnectionError;
use mqtt_wire::{
    ConnAck, Decoder, Disconnect, Packet, Properties, Publish, QoS, ReasonCode, TopicName, Version,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// More than the client lets pile up.
const MANY: usize = 1000;

struct Broker {
    stream: DuplexStream,
    input: BytesMut,
    decoder: Decoder,
}

impl Broker {
    async fn receive(&mut self) -> Packet {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.input).unwrap() {
                return packet;
            }
            assert_ne!(self.stream.read_buf(&mut self.input).await.unwrap(), 0, "the client has gone");
        }
    }

    async fn send(&mut self, packets: impl IntoIterator<Item = Packet>) {
        let mut bytes = BytesMut::new();
        for packet in packets {
            packet.encode(Version::V5, &mut bytes).unwrap();
        }
        self.stream.write_all(&bytes).await.unwrap();
    }
}

/// Runs a test that has to come to its end.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), test).await.unwrap() });
}

async fn connect(options: Options, session_present: bool) -> (Result<(Client, Messages), String>, Broker) {
    let (near, far) = tokio::io::duplex(1 << 20);
    let mut broker = Broker { stream: far, input: BytesMut::new(), decoder: Decoder::for_server(1 << 20) };
    let script = async {
        assert!(matches!(broker.receive().await, Packet::Connect(_)));
        let properties = Properties::default();
        broker.send([ConnAck { session_present, reason_code: ReasonCode::Success, properties }.into()]).await;
    };
    let (client, ()) = tokio::join!(Client::connect(near, options), script);
    (client.map_err(|error| error.to_string()), broker)
}

fn message(number: usize) -> Publish {
    Publish::new(TopicName::new("t").unwrap(), QoS::AtMostOnce, number.to_string())
}

#[test]
fn what_arrives_with_the_goodbye_is_not_lost() {
    run(async {
        let (client, mut broker) = connect(Options::new("c"), false).await;
        let (client, mut messages) = client.unwrap();
        let goodbye = Disconnect::new(ReasonCode::ServerShuttingDown);
        broker.send((0..MANY).map(|number| message(number).into()).chain([goodbye.into()])).await;
        for number in 0..MANY {
            assert_eq!(messages.next().await, Ok(message(number)));
        }
        let reason = ConnectionError::Disconnected(ReasonCode::ServerShuttingDown);
        assert_eq!(messages.next().await, Err(Error::Connection(reason)));
        assert_eq!(client.publish(message(0)).await, Err(Error::Closed));
    });
}

#[test]
fn a_publish_that_nobody_will_acknowledge_ends_with_the_connection() {
    run(async {
        let (client, mut broker) = connect(Options::new("c"), false).await;
        let (client, _messages) = client.unwrap();
        let publish = Publish::new(TopicName::new("t").unwrap(), QoS::AtLeastOnce, "");
        let script = async {
            assert!(matches!(broker.receive().await, Packet::Publish(_)));
            let goodbye = Disconnect::new(ReasonCode::ServerShuttingDown);
            broker.send([goodbye.into()]).await;
        };
        let (published, ()) = tokio::join!(client.publish(publish), script);
        assert_eq!(published, Err(Error::Closed));
    });
}

#[test]
fn a_topic_alias_that_was_not_allowed_ends_the_connection() {
    run(async {
        for allowed in [0, 4] {
            let options = Options { topic_alias_maximum: allowed, ..Options::new("c") };
            let (client, mut broker) = connect(options, false).await;
            let (_client, mut messages) = client.unwrap();
            let mut aliased = message(0);
            aliased.properties.topic_alias = Some(allowed + 1);
            broker.send([aliased.into()]).await;
            assert_eq!(messages.next().await, Err(Error::Connection(ConnectionError::Protocol)));
        }
    });
}

#[test]
fn a_clean_start_has_no_session_to_go_on_with() {
    run(async {
        let (client, _broker) = connect(Options::new("c"), true).await;
        assert!(client.is_err());
        let (client, _broker) = connect(Options { clean_start: false, ..Options::new("c") }, true).await;
        assert!(client.is_ok());
    });
}
