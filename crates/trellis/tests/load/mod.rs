//! What tests that kill the broker have in common.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mqtt_client::{Broker, Client, Messages, Options, Reconnect, Scheme};
use mqtt_wire::{Publish, QoS, SubscribeFilter, SubscriptionOptions, TopicFilter, TopicName, Version};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub(crate) const PUBLISHERS: usize = 4;
/// Messages that each of them has on their way.
const WINDOW: usize = 8;

/// What was acknowledged, and what came.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) published: BTreeSet<String>,
    pub(crate) acknowledged: BTreeSet<String>,
    /// The last acknowledged number of each publisher's retained message.
    pub(crate) retained: BTreeMap<usize, u64>,
    pub(crate) seen: BTreeMap<String, u64>,
}

pub(crate) type Shared = Arc<Mutex<Book>>;

pub(crate) fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

pub(crate) fn options(id: &str, reconnects: bool) -> Options {
    let pause = Duration::from_millis(20);
    Options {
        version: Version::V5,
        clean_start: false,
        session_expiry_interval: Some(3_600),
        timeout: Duration::from_secs(60),
        reconnect: reconnects.then_some(Reconnect {
            first_pause: pause,
            longest_pause: pause,
            attempts: None,
        }),
        ..Options::new(id)
    }
}

pub(crate) async fn open(port: u16, options: Options) -> (Client, Messages) {
    let broker = Broker { port, ..Broker::new(Scheme::Mqtt, "127.0.0.1") };
    timeout(Duration::from_secs(60), Client::open(broker, options)).await.unwrap().unwrap()
}

pub(crate) async fn subscribe(client: &Client, filter: &str, qos: QoS) {
    let filter = TopicFilter::new(filter).unwrap();
    client
        .subscribe(vec![SubscribeFilter { filter, options: SubscriptionOptions::at_most(qos) }])
        .await
        .unwrap();
}

pub(crate) fn publish(topic: &str, qos: QoS, payload: String) -> Publish {
    Publish::new(TopicName::new(topic).unwrap(), qos, payload)
}

/// Reads for ever, and counts what came.
pub(crate) async fn read_on(mut messages: Messages, book: Shared) {
    while let Ok(message) = messages.next().await {
        let payload = String::from_utf8(message.payload.to_vec()).unwrap();
        *book.lock().unwrap().seen.entry(payload).or_default() += 1;
    }
}

/// Everything that was acknowledged has come, and what was published with QoS 2 once.
pub(crate) fn check(who: &str, acknowledged: &BTreeSet<String>, seen: &BTreeMap<String, u64>, seed: u64) {
    let lost: Vec<_> = acknowledged.iter().filter(|payload| !seen.contains_key(*payload)).collect();
    assert!(
        lost.is_empty(),
        "seed {seed}: {who} never got {} such as {:?}",
        lost.len(),
        &lost[..lost.len().min(9)]
    );
    let doubled: Vec<_> =
        seen.iter().filter(|(payload, count)| payload.ends_with(" 2") && **count > 1).collect();
    assert!(doubled.is_empty(), "seed {seed}: {who} got twice {doubled:?}");
}

/// Publishes for ever, with QoS 1 and 2 in turn, and now and then something that is retained.
pub(crate) async fn publish_on(port: u16, number: usize, book: Shared) {
    let (client, _messages) = open(port, options(&format!("publisher-{number}"), true)).await;
    let client = Arc::new(client);
    // They end with this task.
    let mut lanes = JoinSet::new();
    for lane in 0..WINDOW {
        let (client, book) = (Arc::clone(&client), Arc::clone(&book));
        lanes.spawn(async move {
            for count in 1_u64.. {
                let qos = if count % 2 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
                let payload = format!("{number}.{lane} {count} {}", qos as u8);
                let message = publish(&format!("load/{number}/{lane}"), qos, payload.clone());
                book.lock().unwrap().published.insert(payload.clone());
                if client.publish(message).await.is_ok() {
                    book.lock().unwrap().acknowledged.insert(payload);
                }
                if lane == 0 && count % 10 == 0 {
                    let mut kept = publish(&format!("kept/{number}"), QoS::AtLeastOnce, count.to_string());
                    kept.retain = true;
                    if client.publish(kept).await.is_ok() {
                        book.lock().unwrap().retained.insert(number, count);
                    }
                }
            }
        });
    }
    while let Some(ended) = lanes.join_next().await {
        ended.unwrap();
    }
}

/// Waits until all of this has come, or no more does for ten seconds.
pub(crate) async fn arrive(book: &Shared, wanted: &BTreeSet<String>) {
    let has_all = |book: &Book| {
        // The first is cheap, and false until the end.
        book.seen.len() >= wanted.len() && wanted.iter().all(|payload| book.seen.contains_key(payload))
    };
    let (mut before, mut idle) = (0, 0);
    while idle < 500 && !has_all(&book.lock().unwrap()) {
        sleep(Duration::from_millis(20)).await;
        let count = book.lock().unwrap().seen.len();
        idle = if count == before { idle + 1 } else { 0 };
        before = count;
    }
}

/// What is retained is no older than what was acknowledged last.
pub(crate) async fn check_retained(port: u16, retained: &BTreeMap<usize, u64>, seed: u64) {
    let (client, mut messages) = open(port, options("late", false)).await;
    subscribe(&client, "kept/+", QoS::AtLeastOnce).await;
    for _ in 0..retained.len() {
        let message = timeout(Duration::from_secs(10), messages.next()).await.unwrap().unwrap();
        let number: usize = message.topic.as_str().trim_start_matches("kept/").parse().unwrap();
        let value: u64 = String::from_utf8_lossy(&message.payload).parse().unwrap();
        assert!(
            value >= retained[&number],
            "seed {seed}: {number} is {value}, and was {}",
            retained[&number]
        );
    }
}
