//! The clients that people use, on our broker: each publishes to each, and shows what else it has.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use super::peers::Peers;
use super::process::{Running, check, free_port, next_line, output, trellis};
use super::secure;

/// Messages of an exchange.
const COUNT: usize = 20;

/// Seconds after which an exchange that hangs is ended.
const PATIENCE: &str = "30";

const CLIENTS: [Client; 7] = [
    Client::Mosquitto,
    Client::Paho,
    Client::MqttJs,
    Client::MqttJsWebSocket,
    Client::Gmqtt,
    Client::Aiomqtt,
    Client::Rumqttc,
];
const VERSIONS: [&str; 2] = ["3.1.1", "5"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Mosquitto,
    Paho,
    MqttJs,
    MqttJsWebSocket,
    Gmqtt,
    Aiomqtt,
    Rumqttc,
}

/// What is seen of each client beside exchanges of messages, as its script says it.
const FEATURES: [&str; 5] = ["retained", "will", "session", "shared", "tls"];

/// Where the broker listens.
#[derive(Clone, Copy)]
struct Ports {
    tcp: u16,
    tls: u16,
    ws: u16,
    wss: u16,
    http: u16,
}

impl Client {
    fn name(self) -> &'static str {
        match self {
            Self::Mosquitto => "mosquitto",
            Self::Paho => "paho-mqtt",
            Self::MqttJs => "MQTT.js",
            Self::MqttJsWebSocket => "MQTT.js/ws",
            Self::Gmqtt => "gmqtt",
            Self::Aiomqtt => "aiomqtt",
            Self::Rumqttc => "rumqttc",
        }
    }
}

/// One exchange: as the peers' arguments say it.
struct Exchange<'a> {
    ports: Ports,
    version: &'a str,
    qos: usize,
    topic: String,
    count: usize,
}

/// Runs all exchanges and prints a table of them, and then one of what else each client has.
pub(crate) fn run(root: &Path, peers: &Peers) -> anyhow::Result<()> {
    let folder = root.join("target/interop");
    secure::certify(&folder)?;
    let ports = Ports {
        tcp: free_port()?,
        tls: free_port()?,
        ws: free_port()?,
        wss: free_port()?,
        http: free_port()?,
    };
    let config = folder.join("trellis.toml");
    fs::write(&config, configuration(&folder, ports))?;
    let mut serve = trellis(root, "serve");
    serve.arg("-c").arg(&config).env("TRELLIS_LOG", "error");
    let broker = Running::server(&mut serve, ports.http)?;
    exchanges(peers, ports)?;
    println!("client      version  {}", FEATURES.map(|feature| format!("{feature:<9}")).join(""));
    for client in CLIENTS {
        for version in VERSIONS {
            let what = format!("{client:?}, MQTT {version}");
            let seen = features(peers, ports, &folder, client, version).context(what)?;
            println!("{:<11} {version:<8} {seen}", client.name());
        }
    }
    broker.interrupt()
}

fn configuration(folder: &Path, ports: Ports) -> String {
    let mut text = String::new();
    for (kind, port) in [("tcp", ports.tcp), ("tls", ports.tls), ("ws", ports.ws), ("wss", ports.wss)] {
        text += &secure::listener(folder, kind, port, true);
    }
    format!("{text}[console]\nbind = \"127.0.0.1:{}\"\n", ports.http)
}

/// Each client publishes to each, in both versions and all qualities.
fn exchanges(peers: &Peers, ports: Ports) -> anyhow::Result<()> {
    println!("publisher   subscriber  version  messages received with QoS 0, 1, 2");
    let mut exchanges = 0;
    for publisher in CLIENTS {
        for subscriber in CLIENTS {
            for version in VERSIONS {
                let mut received = Vec::new();
                for qos in 0..3 {
                    exchanges += 1;
                    let topic = format!("interop/{exchanges}");
                    let exchange = Exchange { ports, version, qos, topic, count: COUNT };
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
    println!("{exchanges} exchanges, nothing lost");
    Ok(())
}

/// Retained messages, a will, a session that outlives its connection, a shared subscription and TLS, each as the
/// client's own script sees it: a column of [`FEATURES`] each.
fn features(
    peers: &Peers,
    ports: Ports,
    folder: &Path,
    client: Client,
    version: &str,
) -> anyhow::Result<String> {
    let mut command = client.command(peers, "features");
    let (plain, encrypted) =
        if client == Client::MqttJsWebSocket { (ports.ws, ports.wss) } else { (ports.tcp, ports.tls) };
    command.args([&plain.to_string(), &encrypted.to_string()]).arg(folder.join("ca.pem")).arg(version);
    command.args((client == Client::MqttJsWebSocket).then_some("ws"));
    let said = output(&mut command)?;
    let mut row = String::new();
    for feature in FEATURES {
        let line = said.lines().find_map(|line| line.strip_prefix(feature));
        let word = line.with_context(|| format!("it says nothing of {feature}"))?.trim();
        row += &format!("{word:<9}");
    }
    Ok(row)
}

impl Client {
    /// The client's program, which is to play a part: `peer` exchanges messages.
    fn command(self, peers: &Peers, part: &str) -> Command {
        let mut command = Command::new("timeout");
        command.arg(PATIENCE);
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../interop");
        match self {
            Self::Mosquitto => _ = command.arg(scripts.join(format!("mosquitto_{part}.sh"))),
            Self::Paho => _ = command.arg(&peers.python).arg(scripts.join(format!("paho_{part}.py"))),
            Self::Gmqtt => _ = command.arg(&peers.python).arg(scripts.join(format!("gmqtt_{part}.py"))),
            Self::Aiomqtt => _ = command.arg(&peers.python).arg(scripts.join(format!("aiomqtt_{part}.py"))),
            Self::MqttJs | Self::MqttJsWebSocket => {
                _ = command.arg("node").arg(peers.node.join(format!("mqttjs_{part}.mjs")));
            }
            Self::Rumqttc => _ = command.arg(&peers.rumqttc).args((part == "features").then_some(part)),
        }
        command
    }
}

impl Exchange<'_> {
    /// Publishes and receives; how many messages arrived, in their order.
    fn run(&self, peers: &Peers, publisher: Client, subscriber: Client) -> anyhow::Result<usize> {
        let (running, mut output) = Running::reading(&mut self.subscribe(peers, subscriber))?;
        let mut payloads = Vec::new();
        let mut is_ready = false;
        while payloads.len() < self.count {
            let Some(line) = next_line(&mut output)? else {
                bail!("the subscriber ended after {payloads:?}")
            };
            if !is_ready && (line == "ready" || line.starts_with("Subscribed")) {
                is_ready = true;
                check(&mut self.publish(peers, publisher))?;
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
        shell.arg("-c").arg(format!(
            "seq 0 {count} | timeout {PATIENCE} mosquitto_pub -h 127.0.0.1 -p {} -V {} -q {} -t {} -l",
            self.ports.tcp,
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
        command.args(["-p", &self.ports.tcp.to_string(), "-V", mosquitto_version(self.version)]);
        command.args(["-q", &self.qos.to_string(), "-t", &self.topic, "-C", &self.count.to_string()]);
        command
    }

    fn peer(&self, peers: &Peers, client: Client, role: &str) -> Command {
        let mut command = client.command(peers, "peer");
        let port = if client == Client::MqttJsWebSocket { self.ports.ws } else { self.ports.tcp };
        command.args([role, &port.to_string(), self.version, &self.qos.to_string(), &self.topic]);
        command.arg(self.count.to_string());
        command.args((client == Client::MqttJsWebSocket).then_some("ws"));
        command
    }
}

fn mosquitto_version(version: &str) -> &str {
    if version == "5" { "mqttv5" } else { "mqttv311" }
}
