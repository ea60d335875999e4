//! What the system sees: no PUBACK leaves before an fdatasync that began after its message was written.
//!
//! Needs `strace`; run by `cargo xtask crash broker`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Stdio};
use std::time::Duration;

use mqtt_client::{Broker, Client, Options, Scheme};
use mqtt_wire::{Publish, QoS, SubscribeFilter, SubscriptionOptions, TopicFilter, TopicName, Version};
use tokio::time::{sleep, timeout};

const MESSAGES: usize = 200;

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Written(usize),
    SyncBegins,
    /// Of a call that others had interrupted.
    SyncEnds,
    Synced,
    Acknowledged,
}

/// One line of the trace. A call that others interrupt has two.
fn event(line: &str) -> Option<Event> {
    let message = line.split("message-").nth(1).and_then(|rest| rest.split('.').next()?.parse().ok());
    if line.contains("pwrite64(") {
        return message.map(Event::Written);
    }
    if line.contains("fdatasync(") {
        return Some(if line.contains("unfinished") { Event::SyncBegins } else { Event::Synced });
    }
    if line.contains("fdatasync resumed") {
        return Some(Event::SyncEnds);
    }
    // A PUBACK of MQTT 3.1.1: 0x40 0x02 and the packet identifier.
    (line.contains("sendto(") && line.contains("\"@\\2")).then_some(Event::Acknowledged)
}

#[ignore = "needs strace: cargo xtask crash broker"]
#[expect(clippy::too_many_lines, reason = "one story, from the start of the server to its end")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_puback_leaves_before_an_fdatasync_that_began_after_its_message_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (port, page) = (free(), free());
    let (config, trace) = (folder.path().join("trellis.toml"), folder.path().join("trace"));
    let text = format!(
        "data_dir = {:?}\n[[listeners]]\nname = 'test'\ntype = 'tcp'\nbind = '127.0.0.1:{port}'\n\
         [console]\nbind = '127.0.0.1:{page}'\n[mqtt]\nsys_msg_interval = 0\n",
        folder.path().join("data")
    );
    std::fs::write(&config, text).unwrap();
    let mut server = Command::new("strace")
        // The program is the child, and strace ends with it.
        .args(["-D", "-f", "-s", "4096", "-e", "trace=pwrite64,fdatasync,sendto", "-o"])
        .args([&trace])
        .arg(env!("CARGO_BIN_EXE_trellis"))
        .args(["serve", "-c"])
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("strace is installed");
    let listens = async {
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(60), listens).await.expect("the server listens");
    let broker = Broker { port, ..Broker::new(Scheme::Mqtt, "127.0.0.1") };
    let options = |id| Options { version: Version::V3_1_1, clean_start: false, ..Options::new(id) };
    let (client, messages) = Client::open(broker.clone(), options("absent")).await.unwrap();
    let options_of = SubscriptionOptions::at_most(QoS::AtLeastOnce);
    let filter = SubscribeFilter { filter: TopicFilter::new("t").unwrap(), options: options_of };
    client.subscribe(vec![filter]).await.unwrap();
    drop((client, messages));
    let (client, _messages) = Client::open(broker, options("publisher")).await.unwrap();
    for number in 0..MESSAGES {
        let payload = format!("message-{number}.");
        let message = Publish::new(TopicName::new("t").unwrap(), QoS::AtLeastOnce, payload);
        client.publish(message).await.unwrap();
    }
    server.kill().unwrap();
    server.wait().unwrap();
    let read = || std::fs::read_to_string(&trace).unwrap();
    let is_whole = async {
        while !read().contains("+++ killed by SIGKILL +++") {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), is_whole).await.expect("strace ends");
    let trace = read();
    // How many messages were written, were when a sync began, and were when one that has ended began.
    let (mut written, mut syncing, mut synced, mut acknowledged) = (0, 0, 0, 0);
    for event in trace.lines().filter_map(event) {
        match event {
            Event::Written(number) => written = written.max(number + 1),
            Event::SyncBegins => syncing = written,
            Event::SyncEnds => synced = syncing,
            Event::Synced => synced = written,
            Event::Acknowledged => {
                acknowledged += 1;
                assert!(synced >= acknowledged, "PUBACK {acknowledged} left when {synced} were on the disk");
            }
        }
    }
    assert_eq!(acknowledged, MESSAGES, "every PUBACK was seen");
    println!("{acknowledged} PUBACKs, each after an fdatasync that began after its message was written");
}
