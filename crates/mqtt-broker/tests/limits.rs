//! What a shard does at its limits: it refuses with the right word, and never grows without bound.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use clock::Instant;
use mqtt_broker::{ConnectionId, EndKind, Limits, Settings, Shard, Shared};
use mqtt_wire::{
    Connect, Decoder, Packet, PacketId, Publish, QoS, ReasonCode, Subscribe, SubscribeFilter,
    SubscriptionOptions, Text, TopicFilter, TopicName, Version, Will,
};

const NOW: Instant = Instant::ORIGIN;

struct Broker {
    shard: Shard,
    shared: Arc<Shared>,
}

impl Broker {
    fn new(limits: Limits) -> Self {
        let shared = Shared::new(1, limits);
        Self { shard: Shard::new(0, Arc::clone(&shared)), shared }
    }

    fn connect(&mut self, connect: Connect) -> Result<ConnectionId, Vec<Packet>> {
        let version = connect.version;
        let opened = self.shard.handle_connect(NOW, connect, Decoder::new(version, 1 << 20));
        opened.map_err(|(_, bytes)| decode(version, bytes))
    }

    fn open(&mut self, name: &str) -> ConnectionId {
        let id = self.connect(client(name)).unwrap();
        self.sent(id);
        id
    }

    fn give(&mut self, id: ConnectionId, packet: impl Into<Packet>) {
        let mut bytes = BytesMut::new();
        packet.into().encode(Version::V5, &mut bytes).unwrap();
        self.shard.handle_bytes(NOW, id, &mut bytes);
    }

    fn sent(&mut self, id: ConnectionId) -> Vec<Packet> {
        let mut bytes = BytesMut::new();
        while let Some(output) = self.shard.take_output(id).filter(|output| !output.bytes.is_empty()) {
            bytes.extend_from_slice(&output.bytes);
        }
        decode(Version::V5, bytes)
    }
}

fn decode(version: Version, mut bytes: BytesMut) -> Vec<Packet> {
    let mut decoder = Decoder::new(version, u32::MAX);
    std::iter::from_fn(|| decoder.decode(&mut bytes).unwrap()).collect()
}

fn client(name: &str) -> Connect {
    Connect::new(Version::V5, Text::new(name).unwrap())
}

fn message(topic: &str, qos: QoS, payload: impl Into<bytes::Bytes>) -> Publish {
    let publish = Publish::new(TopicName::new(topic).unwrap(), qos, payload);
    Publish { packet_id: (qos != QoS::AtMostOnce).then_some(PacketId::ONE), ..publish }
}

#[test]
fn ten_thousand_filters_in_one_subscribe_end_that_connection_alone() {
    let mut broker = Broker::new(Limits::default());
    let (greedy, other) = (broker.open("greedy"), broker.open("other"));
    broker.give(greedy, subscribe(&vec!["a"; 10_000]));
    let sent = broker.sent(greedy);
    assert!(
        matches!(&sent[..], [Packet::Disconnect(last)] if last.reason_code == ReasonCode::QuotaExceeded),
        "{sent:?}"
    );
    assert_eq!(broker.shard.stats().ended[EndKind::Quota as usize], 1);
    broker.give(other, Packet::PingReq);
    assert_eq!(broker.sent(other), [Packet::PingResp]);
}

fn subscribe(filters: &[&str]) -> Subscribe {
    let filters = filters
        .iter()
        .map(|filter| SubscribeFilter {
            filter: TopicFilter::new(filter).unwrap(),
            options: SubscriptionOptions::at_most(QoS::AtLeastOnce),
        })
        .collect();
    Subscribe { packet_id: PacketId::ONE, properties: Default::default(), filters }
}

fn will(qos: QoS, retain: bool) -> Option<Box<Will>> {
    let topic = TopicName::new("will").unwrap();
    Some(Box::new(Will { topic, payload: "x".into(), qos, retain, properties: Default::default() }))
}

fn refusal(packets: &[Packet]) -> ReasonCode {
    match packets {
        [Packet::ConnAck(connack)] => connack.reason_code,
        other => panic!("{other:?}"),
    }
}

fn end(packets: &[Packet]) -> ReasonCode {
    match packets.last() {
        Some(Packet::Disconnect(disconnect)) => disconnect.reason_code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_with_a_lower_maximum_qos_says_so_and_refuses_more() {
    let mut broker = Broker::new(Limits { max_qos_allowed: QoS::AtMostOnce, ..Limits::default() });
    let id = broker.connect(client("a")).unwrap();
    let Some(Packet::ConnAck(connack)) = broker.sent(id).into_iter().next() else { panic!("CONNACK") };
    assert_eq!(connack.properties.maximum_qos, Some(false));
    let refused = broker.connect(Connect { will: will(QoS::AtLeastOnce, false), ..client("b") }).unwrap_err();
    assert_eq!(refusal(&refused), ReasonCode::QoSNotSupported);
    broker.give(id, message("t", QoS::AtLeastOnce, "x"));
    assert_eq!(end(&broker.sent(id)), ReasonCode::QoSNotSupported);
}

#[test]
fn a_server_without_retained_messages_refuses_them() {
    let mut broker = Broker::new(Limits { retain_available: false, ..Limits::default() });
    let refused = broker.connect(Connect { will: will(QoS::AtMostOnce, true), ..client("b") }).unwrap_err();
    assert_eq!(refusal(&refused), ReasonCode::RetainNotSupported);
    let id = broker.open("a");
    broker.give(id, Publish { retain: true, ..message("t", QoS::AtMostOnce, "x") });
    assert_eq!(end(&broker.sent(id)), ReasonCode::RetainNotSupported);
}

#[test]
fn a_server_without_wildcards_or_shares_refuses_every_such_subscription() {
    let limits = Limits { wildcard_subscription: false, shared_subscription: false, ..Limits::default() };
    let mut broker = Broker::new(limits);
    let id = broker.open("a");
    broker.give(id, subscribe(&["a/+", "#", "a", "$share/g/a"]));
    let [Packet::SubAck(suback)] = &broker.sent(id)[..] else { panic!("SUBACK") };
    assert_eq!(
        suback.reason_codes,
        [
            ReasonCode::WildcardSubscriptionsNotSupported,
            ReasonCode::WildcardSubscriptionsNotSupported,
            ReasonCode::GrantedQoS1,
            ReasonCode::SharedSubscriptionsNotSupported,
        ]
    );
}

#[test]
fn what_a_client_may_not_publish_is_answered_and_dropped() {
    let mut broker = Broker::new(Limits::default());
    let id = broker.open("a");
    broker.give(id, message("$SYS/broker/version", QoS::AtLeastOnce, "forged"));
    let [Packet::PubAck(ack)] = &broker.sent(id)[..] else { panic!("PUBACK") };
    assert_eq!(ack.reason_code, ReasonCode::NotAuthorized);
    assert_eq!(broker.shard.stats().dropped_not_authorized, 1);
}

#[test]
fn more_filters_in_one_packet_than_allowed_end_the_connection() {
    let mut broker = Broker::new(Limits::default());
    let id = broker.open("a");
    broker.give(id, subscribe(&["x"; 10_000]));
    assert_eq!(end(&broker.sent(id)), ReasonCode::QuotaExceeded);
    assert_eq!(broker.shard.stats().ended[EndKind::Quota as usize], 1);
}

#[test]
fn a_slow_consumer_loses_its_own_oldest_messages_and_nobody_else_any() {
    let mut broker = Broker::new(Limits { max_out_buffer: 1024 * 1024, ..Limits::default() });
    let (slow, fast, publisher) = (broker.open("slow"), broker.open("fast"), broker.open("publisher"));
    for id in [slow, fast] {
        broker.give(id, subscribe(&["t"]));
        broker.sent(id);
    }
    let mut fast_got = 0;
    for number in 0..3_000_u32 {
        let payload = [&number.to_be_bytes()[..], &[0; 1_000]].concat();
        broker.give(publisher, message("t", QoS::AtMostOnce, payload));
        fast_got += broker.sent(fast).len();
    }
    assert_eq!(fast_got, 3_000);
    let dropped = broker.shard.stats().dropped_slow_consumer;
    assert!(dropped > 1_000, "{dropped}");
    let got: Vec<u32> = (broker.sent(slow).iter())
        .filter_map(|packet| match packet {
            Packet::Publish(publish) => Some(u32::from_be_bytes(publish.payload[..4].try_into().unwrap())),
            _ => None,
        })
        .collect();
    assert_eq!(got.len() as u64 + dropped, 3_000, "what is not there was counted");
    assert!(got.is_sorted() && got.last() == Some(&2_999), "the newest is there");
    assert_eq!(broker.shared.memory.used(), 0, "nothing is left of what was sent");
}

#[test]
fn without_memory_nothing_is_acknowledged_that_would_not_be_kept() {
    let mut broker = Broker::new(Limits { max_memory: 2 * 1024 * 1024, ..Limits::default() });
    let mut away = Connect { clean_start: false, ..client("away") };
    away.properties.session_expiry_interval = Some(60);
    let id = broker.connect(away).unwrap();
    broker.give(id, subscribe(&["t"]));
    broker.shard.handle_closed(NOW, id);
    let publisher = broker.open("publisher");
    let codes: Vec<ReasonCode> = (0..100)
        .map(|_| {
            broker.give(publisher, message("t", QoS::AtLeastOnce, vec![0; 64 * 1024]));
            match &broker.sent(publisher)[..] {
                [Packet::PubAck(ack)] => ack.reason_code,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert!(codes.is_sorted() && codes.first() == Some(&ReasonCode::Success));
    assert_eq!(codes.last(), Some(&ReasonCode::QuotaExceeded));
    assert!(broker.shared.memory.used() < 3 * 1024 * 1024);
    assert_eq!(refusal(&broker.connect(client("late")).unwrap_err()), ReasonCode::ServerBusy);
}

#[test]
fn a_drained_server_says_where_to_go() {
    let mut broker = Broker::new(Limits::default());
    let id = broker.open("a");
    broker.shard.drain(NOW, Text::new("other:1883").ok(), false);
    let packets = broker.sent(id);
    let [Packet::Disconnect(disconnect)] = &packets[..] else { panic!("DISCONNECT") };
    assert_eq!(disconnect.reason_code, ReasonCode::UseAnotherServer);
    assert_eq!(disconnect.properties.server_reference.as_deref(), Some("other:1883"));
    let Err(refused) = broker.connect(client("late")) else { panic!("refused") };
    let [Packet::ConnAck(connack)] = &refused[..] else { panic!("CONNACK") };
    assert_eq!(connack.reason_code, ReasonCode::UseAnotherServer);
    assert_eq!(connack.properties.server_reference.as_deref(), Some("other:1883"));
}

#[test]
fn response_information_and_server_keep_alive_are_told_to_those_who_can_hear_them() {
    let settings = Settings {
        limits: Limits { server_keepalive: Some(20), ..Limits::default() },
        response_information: Text::new("reply/").ok(),
        ..Settings::default()
    };
    let mut shard = Shard::new(0, Shared::with_settings(1, settings));
    let mut connect = client("a");
    connect.properties.request_response_information = Some(true);
    let id = shard.handle_connect(NOW, connect, Decoder::new(Version::V5, 1024)).unwrap();
    let bytes = BytesMut::from(&shard.take_output(id).unwrap().bytes[..]);
    let [Packet::ConnAck(connack)] = &decode(Version::V5, bytes)[..] else { panic!("CONNACK") };
    assert_eq!(connack.properties.response_information.as_deref(), Some("reply/"));
    assert_eq!(connack.properties.server_keep_alive, Some(20));
    assert_eq!(shard.poll_timeout(), Some(NOW + Duration::from_secs(30)));
}

#[test]
fn many_retained_messages_come_in_slices_that_let_others_in_between() {
    let mut broker = Broker::new(Limits::default());
    let publisher = broker.open("publisher");
    for number in 0..2_000 {
        let publish = message(&format!("r/{number}"), QoS::AtMostOnce, "x");
        broker.give(publisher, Publish { retain: true, ..publish });
    }
    let id = broker.open("a");
    broker.give(id, subscribe(&["r/#"]));
    let mut got = broker.sent(id).len() - 1;
    assert!((1..1_000).contains(&got), "{got} with SUBACK");
    while broker.shard.poll_timeout().is_some_and(|at| at <= NOW) {
        broker.shard.handle_timeout(NOW);
        let slice = broker.sent(id).len();
        assert!(slice <= 512);
        got += slice;
    }
    assert_eq!(got, 2_000);
}
