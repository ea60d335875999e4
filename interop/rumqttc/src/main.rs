//! rumqttc as a peer. Called as `paho_peer.py` is, or, with `features` first, as `paho_features.py` is.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client is told, in either version.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Connected { session_present: bool },
    Granted,
    /// A message is with the broker.
    Taken,
    Message { payload: String, retain: bool },
}

/// How a client connects.
#[derive(Clone, Copy, Default)]
struct Settings<'a> {
    keeps_session: bool,
    will: Option<&'a str>,
    ca: Option<&'a str>,
}

/// A client, and the task in which rumqttc does its work.
struct Peer<C> {
    client: C,
    told: mpsc::UnboundedReceiver<Told>,
    early: VecDeque<Told>,
    work: JoinHandle<()>,
    session_present: bool,
}

impl<C> Peer<C> {
    async fn new(client: C, told: mpsc::UnboundedReceiver<Told>, work: JoinHandle<()>) -> Self {
        let mut peer = Self { client, told, early: VecDeque::new(), work, session_present: false };
        let is_connected = |told: &Told| matches!(told, Told::Connected { .. });
        peer.session_present = peer.wait(is_connected).await == Told::Connected { session_present: true };
        peer
    }

    /// Waits for something; what comes before it is kept.
    async fn wait(&mut self, is_it: impl Fn(&Told) -> bool) -> Told {
        if let Some(index) = self.early.iter().position(&is_it) {
            return self.early.remove(index).expect("it is there");
        }
        loop {
            let told = tokio::time::timeout(PATIENCE, self.told.recv()).await;
            let told = told.expect("nothing comes").expect("the connection ended");
            if is_it(&told) {
                return told;
            }
            self.early.push_back(told);
        }
    }

    async fn message(&mut self) -> (String, bool) {
        match self.wait(|told| matches!(told, Told::Message { .. })).await {
            Told::Message { payload, retain } => (payload, retain),
            other => unreachable!("{other:?}"),
        }
    }

    async fn payloads(&mut self, count: usize) -> Vec<String> {
        let mut payloads = Vec::new();
        for _ in 0..count {
            payloads.push(self.message().await.0);
        }
        payloads
    }

    /// Ends without a goodbye.
    fn vanish(self) {
        self.work.abort();
    }
}

/// The same for both versions, whose types have the same names in two modules.
macro_rules! peer_of {
    ($version:ident, $name:literal, $client:path, $packets:path, $qos:path, $keep:expr, $will:expr) => {
        mod $version {
            use $client::{AsyncClient, Event, EventLoop, MqttOptions};
            use $packets::{LastWill, Packet};
            use $qos as QoS;
            use rumqttc::{Outgoing, Transport};

            use super::*;

            fn qos(number: u8) -> QoS {
                [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(number)]
            }

            async fn connect(name: &str, port: u16, settings: Settings<'_>) -> Peer<AsyncClient> {
                let host = if settings.ca.is_some() { "localhost" } else { "127.0.0.1" };
                let mut options = MqttOptions::new(format!("rumqttc-{name}-{}", $name), host, port);
                let keep: fn(&mut MqttOptions, bool) = $keep;
                keep(&mut options, settings.keeps_session);
                if let Some(topic) = settings.will {
                    let will: fn(&str) -> LastWill = $will;
                    options.set_last_will(will(topic));
                }
                if let Some(ca) = settings.ca {
                    let ca = std::fs::read(ca).expect("the authority can be read");
                    options.set_transport(Transport::tls(ca, None, None));
                }
                let (client, events) = AsyncClient::new(options, 100);
                let (teller, told) = mpsc::unbounded_channel();
                let work = tokio::spawn(work(events, teller));
                Peer::new(client, told, work).await
            }

            async fn work(mut events: EventLoop, teller: mpsc::UnboundedSender<Told>) {
                loop {
                    let told = match events.poll().await {
                        Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                            Told::Connected { session_present: connack.session_present }
                        }
                        Ok(Event::Incoming(Packet::SubAck(_))) => Told::Granted,
                        Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => Told::Taken,
                        // With QoS 0 there is no identifier.
                        Ok(Event::Outgoing(Outgoing::Publish(0))) => Told::Taken,
                        Ok(Event::Incoming(Packet::Publish(publish))) => Told::Message {
                            payload: String::from_utf8(publish.payload.to_vec()).expect("text"),
                            retain: publish.retain,
                        },
                        Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_) => return,
                        Ok(_) => continue,
                    };
                    if teller.send(told).is_err() {
                        return;
                    }
                }
            }

            async fn publish(peer: &mut Peer<AsyncClient>, topic: &str, level: u8, payload: &str, retain: bool) {
                peer.client.publish(topic, qos(level), retain, payload.to_owned()).await.expect("published");
                peer.wait(|told| *told == Told::Taken).await;
            }

            async fn subscribe(peer: &mut Peer<AsyncClient>, filter: &str, level: u8) {
                peer.client.subscribe(filter, qos(level)).await.expect("subscribed");
                peer.wait(|told| *told == Told::Granted).await;
            }

            async fn end(peer: Peer<AsyncClient>) {
                peer.client.disconnect().await.expect("disconnected");
                peer.work.await.expect("it ends");
            }

            pub(super) async fn exchange(role: &str, port: u16, level: u8, topic: &str, count: usize) {
                let mut peer = connect(role, port, Settings::default()).await;
                if role == "sub" {
                    subscribe(&mut peer, topic, level).await;
                    println!("ready");
                    for _ in 0..count {
                        println!("{}", peer.message().await.0);
                    }
                } else {
                    for number in 0..count {
                        publish(&mut peer, topic, level, &number.to_string(), false).await;
                    }
                }
                end(peer).await;
            }

            pub(super) async fn features(port: u16, tls_port: u16, ca: &str) {
                let base = concat!("features/rumqttc-", $name);
                let topic = |name: &str| format!("{base}/{name}");
                let numbers: Vec<String> = (0..10).map(|number: usize| number.to_string()).collect();
                let plain = Settings::default();
                let mut speaker = connect("speaker", port, plain).await;

                publish(&mut speaker, &topic("retained"), 1, "kept", true).await;
                let mut listener = connect("listener", port, plain).await;
                subscribe(&mut listener, &topic("retained"), 1).await;
                assert_eq!(listener.message().await, ("kept".to_owned(), true));
                publish(&mut speaker, &topic("retained"), 1, "", true).await;
                end(listener).await;
                println!("retained ok");

                let mut watcher = connect("watcher", port, plain).await;
                subscribe(&mut watcher, &topic("will"), 1).await;
                let will = topic("will");
                connect("lost", port, Settings { will: Some(&will), ..plain }).await.vanish();
                assert_eq!(watcher.payloads(1).await, ["gone"]);
                end(watcher).await;
                println!("will ok");

                let kept = Settings { keeps_session: true, ..plain };
                let mut sleeper = connect("sleeper", port, kept).await;
                assert!(!sleeper.session_present);
                subscribe(&mut sleeper, &topic("session"), 1).await;
                end(sleeper).await;
                for number in &numbers {
                    publish(&mut speaker, &topic("session"), 1, number, false).await;
                }
                let mut sleeper = connect("sleeper", port, kept).await;
                assert!(sleeper.session_present);
                assert_eq!(sleeper.payloads(10).await, numbers);
                end(sleeper).await;
                println!("session ok");

                let (mut one, mut two) =
                    (connect("member-1", port, plain).await, connect("member-2", port, plain).await);
                for member in [&mut one, &mut two] {
                    subscribe(member, &format!("$share/group/{base}/shared"), 1).await;
                }
                for number in &numbers {
                    publish(&mut speaker, &topic("shared"), 1, number, false).await;
                }
                let mut shares = one.payloads(5).await;
                shares.extend(two.payloads(5).await);
                shares.sort();
                assert_eq!(shares, numbers);
                end(one).await;
                end(two).await;
                println!("shared ok");

                let mut secure = connect("secure", tls_port, Settings { ca: Some(ca), ..plain }).await;
                subscribe(&mut secure, &topic("tls"), 2).await;
                publish(&mut speaker, &topic("tls"), 2, "secret", false).await;
                assert_eq!(secure.payloads(1).await, ["secret"]);
                end(secure).await;
                end(speaker).await;
                println!("tls ok");
            }
        }
    };
}

peer_of!(
    v4,
    "3.1.1",
    rumqttc,
    rumqttc,
    rumqttc::QoS,
    |options, keeps| _ = options.set_clean_session(!keeps),
    |topic| LastWill::new(topic, "gone", QoS::AtLeastOnce, false)
);
peer_of!(
    v5,
    "5",
    rumqttc::v5,
    rumqttc::v5::mqttbytes::v5,
    rumqttc::v5::mqttbytes::QoS,
    |options, keeps| {
        options.set_clean_start(!keeps).set_session_expiry_interval(keeps.then_some(600));
    },
    |topic| LastWill::new(topic, "gone", QoS::AtLeastOnce, false, None)
);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["features", port, tls_port, ca, version] => {
            let (port, tls_port) = (port.parse().expect("a port"), tls_port.parse().expect("a port"));
            match version {
                "5" => v5::features(port, tls_port, ca).await,
                _ => v4::features(port, tls_port, ca).await,
            }
        }
        [role, port, version, qos, topic, count] => {
            let (port, qos) = (port.parse().expect("a port"), qos.parse().expect("a QoS"));
            let count = count.parse().expect("a number");
            match version {
                "5" => v5::exchange(role, port, qos, topic, count).await,
                _ => v4::exchange(role, port, qos, topic, count).await,
            }
        }
        _ => panic!("see paho_peer.py"),
    }
}
