//! Passwords that are proved and not sent, and aliases, between the client and the server of this project over TCP.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use mqtt_client::{Client, ConnectError, Error, Options};
use mqtt_proto::client::ConnectionError;
use mqtt_server::{AccessConfig, Config, ListenerConfig, Server};
use mqtt_wire::{Publish, QoS, ReasonCode, SubscribeFilter, SubscriptionOptions, TopicFilter, TopicName};

async fn start(name: &str, users: &str) -> Server {
    let file = std::env::temp_dir().join(format!("trellis-{name}-{}", std::process::id()));
    std::fs::write(&file, users).unwrap();
    let mut listener = ListenerConfig::new("test", "127.0.0.1:0".parse().unwrap());
    listener.allow_anonymous = Some(users.is_empty());
    let password_file = (!users.is_empty()).then(|| file.clone());
    let access = AccessConfig { password_file, ..AccessConfig::default() };
    let sys_interval = Duration::ZERO;
    let config = Config { listeners: vec![listener], access, sys_interval, ..Config::default() };
    let server = Server::start(config).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    server
}

fn scram(name: &str, password: &str) -> Options {
    Options {
        username: Some(name.to_owned()),
        password: Some(password.as_bytes().to_vec()),
        scram: true,
        ..Options::new("client")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_proved_lets_its_user_in_and_again() {
    let users = access::scram_entry("ann", b"secret", b"0123456789abcdef").unwrap();
    let server = start("scram", &users).await;
    let address = server.local_addresses()[0].to_string();
    let (client, _messages) = Client::connect_tcp(&address, scram("ann", "secret")).await.unwrap();
    client.reauthenticate().await.unwrap();
    let publish = Publish::new(TopicName::new("a").unwrap(), QoS::AtLeastOnce, "x");
    assert_eq!(client.publish(publish).await, Ok(ReasonCode::NoMatchingSubscribers));
    client.disconnect().await;
    for (options, code) in [
        (scram("ann", "guess"), ReasonCode::NotAuthorized),
        (scram("eve", "secret"), ReasonCode::NotAuthorized),
        (Options { scram: false, ..scram("ann", "secret") }, ReasonCode::BadUserNameOrPassword),
    ] {
        match Client::connect_tcp(&address, options).await {
            Err(ConnectError::Connection(Error::Connection(ConnectionError::Refused(refused)))) => {
                assert_eq!(refused, code);
            }
            other => panic!("{other:?}"),
        }
    }
    let (client, _messages) = Client::connect_tcp(&address, scram("ann", "secret")).await.unwrap();
    client.disconnect().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_come_again_are_numbers_on_the_way_and_names_at_its_ends() {
    let server = start("aliases", "").await;
    let address = server.local_addresses()[0].to_string();
    let options = Options { topic_alias_maximum: 2, ..Options::new("client") };
    let (client, mut messages) = Client::connect_tcp(&address, options).await.unwrap();
    let filter = TopicFilter::new("building/#").unwrap();
    let options = SubscriptionOptions::at_most(QoS::ExactlyOnce);
    client.subscribe(vec![SubscribeFilter { filter, options }]).await.unwrap();
    let before = server.stats().await.bytes_received;
    let names =
        ["building/first floor/kitchen/temperature", "building/ground floor/hall/temperature", "building/x"];
    for number in 0..60 {
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][number % 3];
        let topic = names[number / 20];
        client.publish(Publish::new(TopicName::new(topic).unwrap(), qos, number.to_string())).await.unwrap();
        let message = messages.next().await.unwrap();
        assert_eq!((message.topic.as_str(), &message.payload[..]), (topic, number.to_string().as_bytes()));
        assert_eq!(message.properties.topic_alias, None);
    }
    let sent = server.stats().await.bytes_received - before;
    let named: usize = names.iter().map(|name| 20 * name.len()).sum();
    assert!(sent < named as u64, "{sent} bytes in all, and {named} of names alone");
    client.disconnect().await;
    server.shutdown().await;
}
