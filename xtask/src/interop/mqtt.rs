//! The clients that people use, on our broker: each publishes to each, in both versions and all qualities.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use super::peers::Peers;
use super::process::{Running, check, free_port, next_line, trellis};

/// Messages of an exchange.
const COUNT: usize = 20;

/// Seconds after which an exchange that hangs is ended.
const PATIENCE: &str = "30";

const CLIENTS: [Client; 5] =
    [Client::Mosquitto, Client::Paho, Client::MqttJs, Client::Gmqtt, Client::Aiomqtt];
const VERSIONS: [&str; 2] = ["3.1.1", "5"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Mosquitto,
    Paho,
    MqttJs,
    Gmqtt,
    Aiomqtt,
}

impl Client {
    fn name(self) -> &'static str {
        match self {
            Self::Mosquitto => "mosquitto",
            Self::Paho => "paho-mqtt",
            Self::MqttJs => "MQTT.js",
            Self::Gmqtt => "gmqtt",
            Self::Aiomqtt => "aiomqtt",
        }
    }
}

/// One exchange: as the peers' arguments say it.
struct Exchange<'a> {
    port: u16,
    version: &'a str,
    qos: usize,
    topic: String,
    count: usize,
    retain: bool,
}

/// Runs all exchanges and prints a table of them.
pub(crate) fn run(root: &Path, peers: &Peers) -> anyhow::Result<()> {
    let folder = root.join("target/interop");
    let (port, http) = (free_port()?, free_port()?);
    let config = folder.join("trellis.toml");
    let text = format!(
        "[[listeners]]\nname = \"interop\"\ntype = \"tcp\"\nbind = \"127.0.0.1:{port}\"\n\n[console]\nbind = \"127.0.0.1:{http}\"\n"
    );
    fs::write(&config, text)?;
    let mut serve = trellis(root, "serve");
    serve.arg("-c").arg(&config).env("TRELLIS_LOG", "error");
    let broker = Running::server(&mut serve, http)?;
    println!("publisher   subscriber  version  messages received with QoS 0, 1, 2");
    let mut exchanges = 0;
    for publisher in CLIENTS {
        for subscriber in CLIENTS {
            for version in VERSIONS {
                let mut received = Vec::new();
                for qos in 0..3 {
                    exchanges += 1;
                    let topic = format!("interop/{exchanges}");
                    let exchange = Exchange { port, version, qos, topic, count: COUNT, retain: false };
                    let what = format!("{publisher:?} to {subscriber:?}, MQTT {version}, QoS {qos}");
                    received.push(exchange.run(peers, publisher, subscriber).context(what)?.to_string());
                }
                println!(
                    "{:<11} {:<11} {version:<8} {}",
                    publisher.name(),
                    subscriber.name(),
                    received.join(", ")
                );
            }
        }
    }
    for client in CLIENTS {
        for version in VERSIONS {
            exchanges += 1;
            let topic = format!("interop/{exchanges}");
            let exchange = Exchange { port, version, qos: 1, topic, count: 1, retain: true };
            exchange
                .run(peers, client, client)
                .with_context(|| format!("retained, {client:?}, MQTT {version}"))?;
        }
    }
    println!("{exchanges} exchanges, nothing lost");
    for version in VERSIONS {
        let mut sessions = Command::new("timeout");
        sessions.arg(PATIENCE).arg(&peers.python).arg(root.join("interop/session_peer.py"));
        check(sessions.args([&port.to_string(), version]))?;
        println!("MQTT {version}: a session outlives its connection, and a will comes when it should");
    }
    broker.interrupt()
}

impl Exchange<'_> {
    /// Publishes and receives; how many messages arrived, in their order.
    fn run(&self, peers: &Peers, publisher: Client, subscriber: Client) -> anyhow::Result<usize> {
        if self.retain {
            check(&mut self.publish(peers, publisher))?;
        }
        let (running, mut output) = Running::reading(&mut self.subscribe(peers, subscriber))?;
        let mut payloads = Vec::new();
        let mut is_ready = false;
        while payloads.len() < self.count {
            let Some(line) = next_line(&mut output)? else {
                bail!("the subscriber ended after {payloads:?}")
            };
            if !is_ready && (line == "ready" || line.starts_with("Subscribed")) {
                is_ready = true;
                if !self.retain {
                    check(&mut self.publish(peers, publisher))?;
                }
            } else if line.parse::<usize>().is_ok() {
                payloads.push(line);
            }
        }
        let wanted: Vec<String> = (0..self.count).map(|number| number.to_string()).collect();
        ensure!(payloads == wanted, "received {payloads:?}");
        running.wait()?;
        Ok(payloads.len())
    }

    fn publish(&self, peers: &Peers, client: Client) -> Command {
        if client != Client::Mosquitto {
            return self.peer(peers, client, "pub");
        }
        let mut shell = Command::new("sh");
        let count = self.count - 1;
        // `-l` publishes each line of the input over one connection.
        let retain = if self.retain { "-r" } else { "" };
        shell.arg("-c").arg(format!(
            "seq 0 {count} | timeout {PATIENCE} mosquitto_pub -h 127.0.0.1 -p {} -V {} -q {} -t {} {retain} -l",
            self.port,
            mosquitto_version(self.version),
            self.qos,
            self.topic
        ));
        shell
    }

    fn subscribe(&self, peers: &Peers, client: Client) -> Command {
        if client != Client::Mosquitto {
            return self.peer(peers, client, "sub");
        }
        let mut command = Command::new("timeout");
        command.args([PATIENCE, "stdbuf", "-oL", "mosquitto_sub", "-h", "127.0.0.1", "-d"]);
        command.args(["-p", &self.port.to_string(), "-V", mosquitto_version(self.version)]);
        command.args(["-q", &self.qos.to_string(), "-t", &self.topic, "-C", &self.count.to_string()]);
        command
    }

    fn peer(&self, peers: &Peers, client: Client, role: &str) -> Command {
        let mut command = Command::new("timeout");
        command.arg(PATIENCE);
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../interop");
        match client {
            Client::Paho => _ = command.arg(&peers.python).arg(scripts.join("paho_peer.py")),
            Client::Gmqtt => _ = command.arg(&peers.python).arg(scripts.join("gmqtt_peer.py")),
            Client::Aiomqtt => _ = command.arg(&peers.python).arg(scripts.join("aiomqtt_peer.py")),
            Client::MqttJs | Client::Mosquitto => {
                _ = command.arg("node").arg(peers.node.join("mqttjs_peer.mjs"))
            }
        }
        command.args([role, &self.port.to_string(), self.version, &self.qos.to_string(), &self.topic]);
        command.arg(self.count.to_string()).args(self.retain.then_some("retain"));
        command
    }
}

fn mosquitto_version(version: &str) -> &str {
    if version == "5" { "mqttv5" } else { "mqttv311" }
}
