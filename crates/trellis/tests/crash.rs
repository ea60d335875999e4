//! The broker is killed with SIGKILL, again and again, under load: nothing that it acknowledged is lost, and nothing of
//! QoS 2 comes twice.
//!
//! `TRELLIS_ROUNDS=300` kills it more often, `TRELLIS_SEED=17` at other moments. Needs a loopback and a disk.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod load;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use load::{
    PUBLISHERS, Shared, arrive, check, check_retained, number, open, options, publish_on, read_on, subscribe,
};
use mqtt_wire::{Properties, QoS, TopicName, Will};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use tokio::time::{sleep, timeout};

/// Sessions that are away until the end.
const ABSENT: [&str; 3] = ["absent-0", "absent-1", "absent-2"];

struct Server(Child);

impl Server {
    async fn start(config: &Path, port: u16) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_trellis"))
            .args(["serve", "-c"])
            .arg(config)
            .env("TRELLIS_LOG", "error")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let listens = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(60), listens).await.expect("the server listens");
        Self(child)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[expect(clippy::too_many_lines, reason = "one story, from the start of the server to its end")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_broker_is_killed() {
    let (rounds, seed) = (number("TRELLIS_ROUNDS", 4), number("TRELLIS_SEED", 1));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let page = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = folder.path().join("trellis.toml");
    let text = format!(
        "data_dir = {:?}\n[[listeners]]\nname = 'test'\ntype = 'tcp'\nbind = '127.0.0.1:{port}'\n[console]\nbind = '127.0.0.1:{page}'\n\
         [durability]\nsegment_size = '256KB'\n[mqtt]\nmax_mqueue_len = 10000000\nmax_mqueue_bytes = '4000MB'\n",
        folder.path().join("data")
    );
    std::fs::write(&config, text).unwrap();

    let mut server = Some(Server::start(&config, port).await);
    for id in ABSENT {
        let (client, messages) = open(port, options(id, false)).await;
        subscribe(&client, "load/#", QoS::ExactlyOnce).await;
        subscribe(&client, "load/+/0", QoS::AtLeastOnce).await;
        drop((client, messages));
    }
    let book = Shared::default();
    let (client, messages) = open(port, options("present", true)).await;
    subscribe(&client, "#", QoS::ExactlyOnce).await;
    let mut tasks = vec![tokio::spawn(read_on(messages, Arc::clone(&book)))];
    for number in 0..PUBLISHERS {
        tasks.push(tokio::spawn(publish_on(port, number, Arc::clone(&book))));
    }
    let mut wills = BTreeSet::new();
    for round in 0..rounds {
        let mut with_will = options(&format!("will-{round}"), false);
        let properties = Properties { will_delay_interval: Some(1), ..Properties::default() };
        let topic = TopicName::new("wills").unwrap();
        let payload = format!("will {round}");
        with_will.will = Some(Will {
            topic,
            payload: payload.clone().into(),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties,
        });
        let _mourned = open(port, with_will).await;
        wills.insert(payload);
        sleep(Duration::from_millis(20 + random.next_u64() % 500)).await;
        if let Some(server) = server.take() {
            server.kill();
        }
        server = Some(Server::start(&config, port).await);
        println!("seed {seed}, round {round}: {} acknowledged", book.lock().unwrap().acknowledged.len());
    }
    let count = || book.lock().unwrap().acknowledged.len();
    let before = count();
    let goes_on = async {
        while count() == before {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), goes_on).await.expect("publishers go on after the last start");
    tasks.drain(1..).for_each(|task| task.abort());
    let (acknowledged, retained) = {
        let book = book.lock().unwrap();
        (&book.acknowledged | &wills, book.retained.clone())
    };
    arrive(&book, &acknowledged).await;
    check("the one who is there", &acknowledged, &book.lock().unwrap().seen, seed);
    let load = &acknowledged - &wills;
    for id in ABSENT {
        let (_client, messages) = open(port, options(id, false)).await;
        let theirs = Shared::default();
        let reader = tokio::spawn(read_on(messages, Arc::clone(&theirs)));
        arrive(&theirs, &load).await;
        reader.abort();
        check(id, &load, &theirs.lock().unwrap().seen, seed);
    }
    check_retained(port, &retained, seed).await;
    println!(
        "{rounds} rounds, seed {seed}: {} acknowledged, none lost, none of QoS 2 twice",
        acknowledged.len()
    );
    if let Some(server) = server {
        server.kill();
    }
}
