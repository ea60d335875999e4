//! What a server keeps is moved as text: `trellis data export`, `trellis data import`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use bytes::BytesMut;
use mqtt_wire::{
    Ack, Connect, Decoder, Packet, PacketId, Properties, Publish, QoS, Subscribe, SubscribeFilter,
    SubscriptionOptions, Text, TopicFilter, TopicName, Version, Will,
};

fn trellis(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trellis")).args(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(folder: &Path, data: &str) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (port, page) = (free(), free());
        let config = folder.join("trellis.toml");
        let text = format!(
            "data_dir = {:?}\n[[listeners]]\nname = 'test'\ntype = 'tcp'\nbind = '127.0.0.1:{port}'\n\
             [console]\nbind = '127.0.0.1:{page}'\n[mqtt]\nsys_msg_interval = 0\n",
            folder.join(data)
        );
        std::fs::write(&config, text).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_trellis"));
        program.args(["serve", "-c"]).arg(&config).env("TRELLIS_LOG", "error").stdout(Stdio::piped());
        let mut child = program.spawn().unwrap();
        // It says that it is there.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.contains(&port.to_string())), "the server listens");
        // The rest is read, too: its pipe must not break.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port }
    }

    fn kill(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A client that answers only what it is told to.
struct Peer {
    socket: TcpStream,
    decoder: Decoder,
    received: BytesMut,
    /// Messages that came before the SUBACK, which the server may send so (§3.8.4).
    early: VecDeque<Publish>,
}

impl Peer {
    fn connect(server: &Server, id: &str, will: Option<Will>) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut peer = Self {
            socket,
            decoder: Decoder::new(Version::V5, u32::MAX),
            received: BytesMut::new(),
            early: VecDeque::new(),
        };
        let mut connect = Connect::new(Version::V5, Text::new(id).unwrap());
        connect.clean_start = false;
        connect.properties.session_expiry_interval = Some(3_600);
        connect.will = will.map(Box::new);
        peer.send(&Packet::Connect(Box::new(connect)));
        assert!(matches!(peer.next(), Packet::ConnAck(_)));
        peer
    }

    fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.encode(Version::V5, &mut bytes).unwrap();
        self.socket.write_all(&bytes).unwrap();
    }

    fn next(&mut self) -> Packet {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.received).unwrap() {
                return packet;
            }
            let mut chunk = [0; 4_096];
            let length = self.socket.read(&mut chunk).expect("a packet in time");
            assert!(length > 0, "the server closed the connection");
            self.received.extend_from_slice(&chunk[..length]);
        }
    }

    fn next_publish(&mut self) -> Publish {
        if let Some(publish) = self.early.pop_front() {
            return publish;
        }
        match self.next() {
            Packet::Publish(publish) => *publish,
            other => panic!("{other:?} instead of a PUBLISH"),
        }
    }
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn publish(topic: &str, qos: QoS, payload: &str, packet_id: u16) -> Publish {
    let mut publish = Publish::new(TopicName::new(topic).unwrap(), qos, payload.to_owned());
    publish.packet_id = PacketId::new(packet_id);
    publish
}

fn subscribe(peer: &mut Peer, filter: &str, identifier: Option<u32>) {
    let mut properties = Properties::default();
    properties.subscription_identifiers.extend(identifier);
    let options = SubscriptionOptions::at_most(QoS::ExactlyOnce);
    let filters = vec![SubscribeFilter { filter: TopicFilter::new(filter).unwrap(), options }];
    peer.send(&Packet::Subscribe(Subscribe { packet_id: id(1), properties, filters }));
    loop {
        match peer.next() {
            Packet::SubAck(_) => return,
            Packet::Publish(publish) => peer.early.push_back(*publish),
            other => panic!("{other:?} before the SUBACK"),
        }
    }
}

/// Takes everything that comes until `count` messages have, and has none of them come again.
fn take(peer: &mut Peer, count: usize) -> Vec<Publish> {
    let mut taken = Vec::new();
    while taken.len() < count {
        match peer.next() {
            Packet::Publish(publish) => {
                if let Some(packet_id) = publish.packet_id {
                    let ack = Ack::new(packet_id);
                    let is_once = publish.qos == QoS::ExactlyOnce;
                    peer.send(&if is_once { Packet::PubRec(ack) } else { Packet::PubAck(ack) });
                }
                taken.push(*publish);
            }
            Packet::PubRel(ack) => peer.send(&Packet::PubComp(Ack::new(ack.packet_id))),
            other => panic!("{other:?}"),
        }
    }
    taken
}

const MESSAGES: u16 = 20;

/// Has a server keep something of everything, and kills it.
fn fill(server: Server) {
    let mut reader = Peer::connect(&server, "reader", None);
    subscribe(&mut reader, "t/#", Some(7));
    subscribe(&mut reader, "wills", None);
    drop(reader);
    let mut half = Peer::connect(&server, "half", None);
    subscribe(&mut half, "t/#", None);
    let mut writer = Peer::connect(&server, "writer", None);
    // Of these, `half` gets one and says nothing, and of the other says that it has it.
    for packet_id in [8, 9] {
        writer.send(&Packet::Publish(Box::new(publish(
            "t/2",
            QoS::ExactlyOnce,
            &packet_id.to_string(),
            packet_id,
        ))));
        assert_eq!(writer.next(), Packet::PubRec(Ack::new(id(packet_id))));
    }
    let (first, second) = (half.next_publish(), half.next_publish());
    assert_eq!([first.packet_id, second.packet_id], [Some(id(1)), Some(id(2))]);
    half.send(&Packet::PubRec(Ack::new(id(2))));
    assert_eq!(half.next(), Packet::PubRel(Ack::new(id(2))));
    for number in 10..10 + MESSAGES {
        let mut publish = publish("t/1", QoS::AtLeastOnce, &number.to_string(), number);
        publish.properties.message_expiry_interval = Some(1_000);
        publish.properties.user_properties = vec![(Text::new("k").unwrap(), Text::new("v").unwrap())];
        writer.send(&Packet::Publish(Box::new(publish)));
    }
    let mut kept = publish("kept", QoS::AtLeastOnce, "still", 100);
    kept.retain = true;
    writer.send(&Packet::Publish(Box::new(kept)));
    // Nobody subscribes to the last one, which its PUBACK says.
    while !matches!(writer.next(), Packet::PubAck(ack) if ack.packet_id == id(100)) {}
    let will = Will {
        topic: TopicName::new("wills").unwrap(),
        payload: "gone".into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: Properties { will_delay_interval: Some(1), ..Properties::default() },
    };
    let _mourned = Peer::connect(&server, "mourned", Some(will));
    server.kill();
}

#[test]
fn sessions_with_all_they_hold_and_retained_messages_move_to_another_directory() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let (old, new, first, second) = (path("old"), path("new"), path("first.jsonl"), path("second.jsonl"));
    let data =
        |command, data: &Path, file: &Path| trellis(&["data", command, "--data-dir", text(data), text(file)]);
    fill(Server::start(folder.path(), "old"));
    for (command, data_dir, file) in
        [("export", &old, &first), ("import", &new, &first), ("export", &new, &second)]
    {
        let output = data(command, data_dir, file);
        assert!(output.status.success(), "{command}: {output:?}");
    }
    let lines = std::fs::read_to_string(&first).unwrap();
    assert_eq!(std::fs::read_to_string(&second).unwrap(), lines, "an import changes nothing");
    let refused = data("import", &new, &first);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("holds a log already"), "{refused:?}");

    let server = Server::start(folder.path(), "new");
    let mut half = Peer::connect(&server, "half", None);
    let (mut publishes, mut releases) = (Vec::new(), Vec::new());
    while publishes.is_empty() || releases.is_empty() {
        match half.next() {
            Packet::Publish(publish) => publishes.push(publish),
            Packet::PubRel(ack) => releases.push(ack.packet_id),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((publishes[0].packet_id, publishes[0].dup), (Some(id(1)), true), "it has the same identifier");
    assert_eq!(releases, [id(2)]);
    let mut writer = Peer::connect(&server, "writer", None);
    let mut again = publish("t/2", QoS::ExactlyOnce, "9", 9);
    again.dup = true;
    writer.send(&Packet::Publish(Box::new(again)));
    assert_eq!(writer.next(), Packet::PubRec(Ack::new(id(9))));
    let mut reader = Peer::connect(&server, "reader", None);
    // All that it was sent, each once and in its order, and the will that came after it.
    let taken = take(&mut reader, 2 + usize::from(MESSAGES) + 1);
    let of = |qos: QoS| -> Vec<String> {
        let theirs = taken.iter().filter(|publish| publish.qos == qos);
        theirs.map(|publish| String::from_utf8_lossy(&publish.payload).into_owned()).collect()
    };
    assert_eq!(of(QoS::ExactlyOnce), ["8", "9"]);
    let numbers = (10..10 + MESSAGES).map(|number| number.to_string());
    assert_eq!(of(QoS::AtLeastOnce), numbers.chain(["gone".to_owned()]).collect::<Vec<_>>());
    let properties = &taken.iter().find(|publish| publish.payload == "10").unwrap().properties;
    assert_eq!(properties.subscription_identifiers[..], [7]);
    assert_eq!(properties.user_properties.len(), 1);
    assert!(properties.message_expiry_interval.is_some_and(|left| (900..=1_000).contains(&left)));
    let mut late = Peer::connect(&server, "late", None);
    subscribe(&mut late, "kept", None);
    assert_eq!(late.next_publish().payload, "still");
    server.kill();
}

#[test]
fn what_is_wrong_is_named_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("text"));
    let import = |lines: &str| {
        std::fs::write(&file, lines).unwrap();
        let output = trellis(&["data", "import", "--data-dir", text(&data), text(&file)]);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let session = r#"{"session":{"client":"a","expiry_s":60}}"#;
    let header = r#"{"format":"trellis-data","version":1}"#;
    for (lines, expected) in [
        ("", "line 1: this is not a file"),
        (r#"{"format":"trellis-data","version":2}"#, "line 1: the file has version 2"),
        (&format!("{header}\n{session}\n{session}\n"), "line 3: a second session of \"a\""),
        (&format!("{header}\n{session}\n"), "line 3: the file ends before its last line"),
    ] {
        let (is_done, error) = import(lines);
        assert!(!is_done && error.contains(expected), "{error}");
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0, "nothing is left behind");
    }
    let end = r#"{"end":{"sessions":1,"messages":0,"sent":0}}"#;
    let (is_done, error) = import(&format!("{header}\n{session}\n{end}\n"));
    assert!(is_done, "{error}");
}
