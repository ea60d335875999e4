use std::collections::BTreeMap;

use bytes::BytesMut;
use journal::log::Position;
use mqtt_wire::{PacketId, Publish, QoS, Text, TopicFilter, TopicName, Will};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use smallvec::smallvec;

use super::*;
use crate::client::Subscription;
use crate::durable::Recovery;
use crate::durable::record::{How, MessageRecord, Record, Ref, SessionRecord, Whole};

/// A log as a list.
#[derive(Default)]
struct Records {
    all: BTreeMap<Position, Vec<u8>>,
    end: u64,
}

impl Records {
    /// Where a record is.
    fn push(&mut self, record: &Record) -> u64 {
        let mut bytes = BytesMut::new();
        record.encode(&mut bytes);
        self.push_bytes(&bytes)
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> u64 {
        let at = self.end + 30;
        self.all.insert(Position(at), bytes.to_vec());
        self.end = at + bytes.len() as u64;
        at
    }

    fn read(&self) -> Recovery {
        let mut recovery = Recovery::default();
        self.all.iter().for_each(|(at, bytes)| recovery.apply(*at, bytes).unwrap());
        recovery
    }

    fn export(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut read = |at: &[Position]| at.iter().map(|at| self.all.get(at).cloned()).collect();
        let mut take = |line: &str| {
            lines.push(line.to_owned());
            Ok(())
        };
        self.read().export(&mut read, &mut take).unwrap();
        lines
    }

    fn import(lines: &[String]) -> Result<Self, (usize, LineError)> {
        let (mut records, mut import) = (Self::default(), Import::default());
        for (number, line) in lines.iter().enumerate() {
            import
                .line(line, &mut |bytes| {
                    records.push_bytes(bytes);
                })
                .map_err(|error| (number + 1, error))?;
        }
        import.finish().map_err(|error| (lines.len(), error))?;
        Ok(records)
    }
}

fn text(text: &str) -> Text {
    Text::new(text).unwrap()
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn filter(filter: &str) -> TopicFilter {
    TopicFilter::new(filter).unwrap()
}

fn message(topic: &str, qos: QoS) -> MessageRecord {
    MessageRecord {
        copy_of: None,
        publisher: text("p"),
        receipt: None,
        shards: 0,
        of_shards: 2,
        version: 0,
        expires_ms: 0,
        publish: Publish::new(TopicName::new(topic).unwrap(), qos, "payload"),
    }
}

fn session(client: &str) -> SessionRecord {
    let subscription = Subscription { identifier: Some(5), ..Subscription::default() };
    SessionRecord {
        client: text(client),
        expiry: std::time::Duration::from_secs(60),
        left_ms: 77,
        will: None,
        whole: Some(Whole { subscriptions: vec![(filter("a/#"), subscription)], ..Whole::default() }),
    }
}

fn to(client: &str, qos: QoS, group: Option<&str>) -> Ref {
    let how = How { qos, retain: false, identifiers: smallvec![5] };
    Ref { client: text(client), how, group: group.map(filter) }
}

fn refs(id: u64, refs: Vec<Ref>) -> Record {
    Record::Refs { id, shard: Some(0), refs, groups: Vec::new(), is_moved: false }
}

/// Something of everything.
fn example() -> Records {
    let mut log = Records::default();
    let mut will = message("will", QoS::AtLeastOnce).publish;
    will.properties.will_delay_interval = Some(30);
    will.properties.message_expiry_interval = Some(9);
    let Publish { topic, payload, qos, retain, properties, .. } = will;
    let will = Some(Will { topic, payload, qos, retain, properties });
    log.push(&Record::Session(Box::new(SessionRecord { will, ..session("c") })));
    log.push(&Record::Session(Box::new(SessionRecord { left_ms: 0, ..session("p") })));
    let mut full = message("a/b", QoS::ExactlyOnce);
    (full.shards, full.expires_ms, full.receipt) = (1, 99, Some(id(700)));
    full.publish.properties.content_type = Some(text("t"));
    full.publish.properties.payload_format_indicator = Some(true);
    full.publish.properties.response_topic = Some(text("r"));
    full.publish.properties.correlation_data = Some(vec![0, 255].into());
    full.publish.properties.user_properties = vec![(text("k"), text("v"))];
    let first = log.push(&Record::Message(Box::new(full)));
    log.push(&refs(first, vec![to("c", QoS::ExactlyOnce, None)]));
    log.push(&Record::Sent { client: text("c"), id: first, packet_id: id(3) });
    let second = log.push(&Record::Message(Box::new(message("a/c", QoS::AtLeastOnce))));
    log.push(&Record::Refs {
        id: second,
        shard: Some(0),
        refs: vec![to("c", QoS::AtLeastOnce, None), to("p", QoS::AtLeastOnce, Some("$share/g/a/#"))],
        groups: vec![filter("$share/h/a/#")],
        is_moved: false,
    });
    let third = log.push(&Record::Message(Box::new(message("a/d", QoS::ExactlyOnce))));
    log.push(&refs(third, vec![to("c", QoS::ExactlyOnce, None)]));
    log.push(&Record::Sent { client: text("c"), id: third, packet_id: id(4) });
    log.push(&Record::Received { client: text("c"), packet_id: id(4) });
    let mut kept = message("a/kept", QoS::AtLeastOnce);
    (kept.version, kept.publish.retain) = (6, true);
    log.push(&Record::Message(Box::new(kept.clone())));
    // On its way, and overtaken by the next.
    kept.shards = 2;
    kept.publish.topic = TopicName::new("a/over").unwrap();
    log.push(&Record::Message(Box::new(kept.clone())));
    (kept.version, kept.shards, kept.publish.payload) = (7, 0, bytes::Bytes::new());
    log.push(&Record::Message(Box::new(kept.clone())));
    // To be retained when it has arrived.
    let mut late = message("a/late", QoS::ExactlyOnce);
    (late.shards, late.publish.retain) = (3, true);
    log.push(&Record::Message(Box::new(late)));
    log
}

#[test]
fn everything_is_in_the_text() {
    let lines = example().export();
    let expected = r#"{"format":"trellis-data","version":1}
{"session":{"client":"c","expiry_s":60,"left_ms":77,"will":{"topic":"will","qos":1,"payload":"cGF5bG9hZA==","message_expiry_interval":9,"will_delay_interval":30},"subscriptions":[{"filter":"a/#","qos":0,"retain_handling":0,"identifier":5}],"received":[4]}}
{"session":{"client":"p","expiry_s":60,"subscriptions":[{"filter":"a/#","qos":0,"retain_handling":0,"identifier":5}],"receipts":[700]}}
{"message":{"number":1,"publisher":"p","expires_ms":99,"content":{"topic":"a/b","qos":2,"payload":"cGF5bG9hZA==","payload_format_indicator":true,"content_type":"t","response_topic":"r","correlation_data":"AP8=","user_properties":[["k","v"]]},"receivers":[{"client":"c","qos":2,"identifiers":[5]}]}}
{"message":{"number":2,"publisher":"p","content":{"topic":"a/c","qos":1,"payload":"cGF5bG9hZA=="},"receivers":[{"client":"c","qos":1,"identifiers":[5]},{"client":"p","qos":1,"identifiers":[5],"group":"$share/g/a/#"}],"groups":["$share/h/a/#"]}}
{"message":{"number":3,"publisher":"p","content":{"topic":"a/kept","qos":1,"retain":true,"payload":"cGF5bG9hZA=="},"is_retained":true}}
{"message":{"number":4,"publisher":"p","content":{"topic":"a/over","qos":1,"retain":true,"payload":"cGF5bG9hZA=="},"on_its_way":{"shards":[1],"of_shards":2}}}
{"message":{"number":5,"publisher":"p","content":{"topic":"a/late","qos":2,"retain":true,"payload":"cGF5bG9hZA=="},"on_its_way":{"shards":[0,1],"of_shards":2,"is_to_be_retained":true}}}
{"sent":{"client":"c","message":1,"packet_id":3}}
{"end":{"sessions":2,"messages":5,"sent":1}}"#;
    assert_eq!(lines, expected.lines().collect::<Vec<_>>());
    assert_eq!(Records::import(&lines).unwrap().export(), lines);
}

/// What a broker might have written, without regard for what makes sense.
fn at_random(random: &mut ChaCha8Rng) -> Records {
    let mut below = |limit: u16| u16::try_from(random.next_u64() % u64::from(limit)).unwrap();
    let qualities = [QoS::AtLeastOnce, QoS::ExactlyOnce];
    let clients = ["a", "b", "c"];
    let (mut log, mut stored, mut version) = (Records::default(), vec![0], 1_u16);
    for _ in 0..below(200) {
        let client = clients[usize::from(below(3))];
        let some = stored[usize::from(below(u16::try_from(stored.len()).unwrap()))];
        let (packet_id, used) = (id(version), id(1 + below(version)));
        // A message of a group is in the hands of one client.
        let group = format!("$share/{client}/#");
        let group = (below(3) == 0).then_some(group.as_str());
        let record = match below(12) {
            0 => Record::Session(Box::new(session(client))),
            1 => Record::Ended { client: text(client) },
            2 => Record::Sent { client: text(client), id: some, packet_id },
            3 => Record::Received { client: text(client), packet_id: used },
            4 => Record::Completed { client: text(client), packet_id: used },
            5 => Record::Done { client: text(client), id: some, group: group.map(filter) },
            6 => Record::Retained { id: some, version: version.into() },
            7..=9 => {
                let qos = qualities[usize::from(below(2))];
                let mut message = message(["x", "y"][usize::from(below(2))], qos);
                message.publish.retain = below(3) == 0;
                message.shards = below(4).into();
                if message.publish.retain && qos == QoS::AtLeastOnce {
                    message.version = version.into();
                    message.publish.payload = ["", "kept"][usize::from(below(2))].into();
                }
                Record::Message(Box::new(message))
            }
            _ => Record::Refs {
                id: some,
                shard: Some(u8::from(below(2) == 0)),
                refs: vec![to(client, qualities[usize::from(below(2))], group)],
                groups: if below(4) == 0 { vec![filter("$share/h/#")] } else { Vec::new() },
                is_moved: false,
            },
        };
        version += 1;
        let at = log.push(&record);
        if matches!(record, Record::Message(_)) {
            stored.push(at);
        }
    }
    log
}

#[test]
fn what_was_imported_is_exported_as_it_came() {
    let mut seen = Totals::default();
    for seed in 0..2_000 {
        let lines = at_random(&mut ChaCha8Rng::seed_from_u64(seed)).export();
        let imported = Records::import(&lines).unwrap_or_else(|(number, error)| {
            panic!("seed {seed}: {error:?}: {}", lines[number - 1]);
        });
        assert_eq!(imported.export(), lines, "seed {seed}");
        let totals = Records::totals(&lines);
        seen.sessions += totals.sessions;
        seen.messages += totals.messages;
        seen.sent += totals.sent;
    }
    assert!(seen.sessions > 1_000 && seen.messages > 1_000 && seen.sent > 50, "{seen:?}");
}

impl Records {
    fn totals(lines: &[String]) -> Totals {
        let mut import = Import::default();
        lines.iter().for_each(|line| import.line(line, &mut |_| {}).unwrap());
        import.finish().unwrap()
    }
}

#[test]
fn a_line_that_cannot_be_used_is_named() {
    let lines = example().export();
    let with = |at: usize, line: &str| {
        let mut lines = lines.clone();
        line.clone_into(&mut lines[at]);
        Records::import(&lines).err().map(|(number, error)| (number, error.to_string())).unwrap()
    };
    assert_eq!(with(0, "{}"), (1, LineError::Foreign.to_string()));
    assert_eq!(
        with(0, r#"{"format":"trellis-data","version":9}"#),
        (1, LineError::Version { found: 9 }.to_string())
    );
    assert_eq!(with(2, &lines[1]), (3, LineError::Twice("c".to_owned()).to_string()));
    assert_eq!(with(3, &lines[3].replace("\"c\"", "\"x\"")).0, 4);
    assert_eq!(with(3, &lines[3].replace("cGF5", "!")).0, 4);
    assert_eq!(with(3, &lines[3].replace("\"qos\":2,\"p", "\"qos\":3,\"p")).0, 4);
    assert_eq!(with(3, &lines[3].replace("\"publisher\"", "\"author\"")).0, 4);
    assert_eq!(with(4, &lines[3]), (5, LineError::Number { found: 1, expected: 2 }.to_string()));
    assert_eq!(with(8, &lines[8].replace("\"message\":1", "\"message\":6")).0, 9);
    assert_eq!(with(9, &lines[8]).0, 10, "it ends before its last line");
    for length in 0..lines.len() {
        assert!(Records::import(&lines[..length]).is_err(), "{length} lines are a part");
    }
}

#[test]
fn nothing_is_exported_that_cannot_be_read() {
    let log = example();
    let mut lines = Vec::new();
    let mut take = |line: &str| {
        lines.push(line.to_owned());
        Ok(())
    };
    let error = log.read().export(&mut |at| vec![None; at.len()], &mut take).unwrap_err();
    assert!(matches!(error, ExportError::Read(_)));
    assert!(Records::import(&lines).is_err());
}

proptest::proptest! {
    #[test]
    fn no_line_is_too_strange(at in 0..10_usize, from in 0..200_usize, to in 0..200_usize, byte in 0..128_u8) {
        let mut lines = example().export();
        let line = &lines[at];
        let (from, to) = (from.min(line.len()), to.min(line.len()));
        lines[at] = [&line[..from], std::str::from_utf8(&[byte]).unwrap(), &line[to..]].concat();
        if let Ok(imported) = Records::import(&lines) {
            imported.export();
        }
    }
}
