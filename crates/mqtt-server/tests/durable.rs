//! A whole broker that is stopped and started again, on a real disk.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use mqtt_client::{Client, Messages, Options};
use mqtt_server::{Config, DurabilityConfig, ListenerConfig, Server, StartError};
use mqtt_wire::{Publish, QoS, SubscribeFilter, SubscriptionOptions, TopicFilter, TopicName, Version};
use tokio::time::timeout;

fn config(data_dir: &Path, shards: usize) -> Config {
    let durability = DurabilityConfig { segment_bytes: 100_000, ..DurabilityConfig::new(data_dir) };
    Config {
        listeners: vec![ListenerConfig::new("test", "127.0.0.1:0".parse().unwrap())],
        shards: NonZeroUsize::new(shards),
        sys_interval: Duration::ZERO,
        durability: Some(durability),
        ..Config::default()
    }
}

async fn connect(server: &Server, id: &str) -> (Client, Messages) {
    let mut options = Options { version: Version::V5, clean_start: false, ..Options::new(id) };
    options.session_expiry_interval = Some(3_600);
    Client::connect_tcp(&server.local_addresses()[0].to_string(), options).await.unwrap()
}

async fn subscribe(client: &Client, filter: &str) {
    let options = SubscriptionOptions::at_most(QoS::ExactlyOnce);
    let filter = SubscribeFilter { filter: TopicFilter::new(filter).unwrap(), options };
    client.subscribe(vec![filter]).await.unwrap();
}

fn publish(topic: &str, qos: QoS, payload: String) -> Publish {
    Publish::new(TopicName::new(topic).unwrap(), qos, payload)
}

async fn next(messages: &mut Messages) -> String {
    let message =
        timeout(Duration::from_secs(20), messages.next()).await.expect("a message in time").unwrap();
    String::from_utf8(message.payload.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_subscriptions_and_retained_messages_outlast_a_restart_with_another_number_of_shards() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(config(folder.path(), 3)).await.unwrap();
    let ids = ["a", "b", "c", "d"];
    for id in ids {
        let (client, messages) = connect(&server, id).await;
        subscribe(&client, "t/#").await;
        drop((client, messages));
    }
    let (publisher, _messages) = connect(&server, "publisher").await;
    for number in 0..300 {
        let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        publisher.publish(publish("t/x", qos, number.to_string())).await.unwrap();
    }
    let mut retained = publish("t/kept", QoS::AtLeastOnce, "kept".to_owned());
    retained.retain = true;
    publisher.publish(retained).await.unwrap();
    server.shutdown().await;

    let server = Server::start(config(folder.path(), 2)).await.unwrap();
    assert_eq!(server.retained().len(), 1);
    for id in ids {
        let (_client, mut messages) = connect(&server, id).await;
        let mut got = Vec::new();
        while got.len() < 301 {
            got.push(next(&mut messages).await);
        }
        // Messages of one QoS come in their order (§4.6).
        for parity in 0..2 {
            let numbers: Vec<usize> = got
                .iter()
                .filter_map(|text| text.parse().ok())
                .filter(|number| number % 2 == parity)
                .collect();
            assert_eq!(numbers, (parity..300).step_by(2).collect::<Vec<_>>(), "{id}");
        }
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_gives_space_back_when_its_messages_have_arrived() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(config(folder.path(), 2)).await.unwrap();
    // Somebody who never comes back holds the front of the log.
    let (client, messages) = connect(&server, "away").await;
    subscribe(&client, "rare").await;
    drop((client, messages));
    let (client, mut messages) = connect(&server, "reader").await;
    subscribe(&client, "t").await;
    let (publisher, _messages) = connect(&server, "publisher").await;
    publisher.publish(publish("rare", QoS::AtLeastOnce, "for later".to_owned())).await.unwrap();
    for number in 0..2_000 {
        publisher.publish(publish("t", QoS::AtLeastOnce, format!("{number:0>1000}"))).await.unwrap();
        next(&mut messages).await;
    }
    let written = server.log_stats().unwrap().written_bytes;
    assert!(written > 2_000_000, "{written}");
    timeout(Duration::from_secs(20), async {
        while server.log_stats().unwrap().bytes > 700_000 {
            // Cleaning up goes on as the log does.
            publisher.publish(publish("t", QoS::AtLeastOnce, "more".to_owned())).await.unwrap();
            next(&mut messages).await;
        }
    })
    .await
    .expect("space is given back");
    server.shutdown().await;
    let server = Server::start(config(folder.path(), 2)).await.unwrap();
    let (_client, mut messages) = connect(&server, "away").await;
    assert_eq!(next(&mut messages).await, "for later");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_belongs_to_one_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(config(folder.path(), 1)).await.unwrap();
    let error = Server::start(config(folder.path(), 1)).await.unwrap_err();
    assert!(matches!(error, StartError::Log(_)), "{error}");
    assert!(error.to_string().contains("choose another data directory"), "{error}");
    server.shutdown().await;
}
