//! Any valid packet of a version.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a test may panic, and needs what it needs"
)]

use bytes::{Bytes, BytesMut};
use mqtt_wire::{
    Ack, Auth, ConnAck, Connect, Decoder, Disconnect, Packet, PacketId, Properties, Publish, QoS, ReasonCode,
    RetainHandling, SubAck, Subscribe, SubscribeFilter, SubscriptionOptions, Text, TopicFilter, TopicName,
    UnsubAck, Unsubscribe, Version, Will,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

pub const VERSIONS: [Version; 3] = [Version::V3_1, Version::V3_1_1, Version::V5];

pub fn encode(packet: &Packet, version: Version) -> BytesMut {
    let mut out = BytesMut::new();
    packet.encode(version, &mut out).unwrap();
    out
}

/// A decoder as the receiver of `packet` has it.
pub fn decoder(packet: &Packet, version: Version) -> Decoder {
    if matches!(packet, Packet::Connect(_)) {
        Decoder::for_server(1 << 20)
    } else {
        Decoder::new(version, 1 << 20)
    }
}

fn text() -> impl Strategy<Value = Text> {
    "[a-zA-Z0-9/é漢 ]{0,12}".prop_map(|text| Text::new(&text).unwrap())
}

fn binary() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

pub fn topic_name() -> impl Strategy<Value = TopicName> {
    "[a-c$]{0,2}(/[a-c]{0,2}){0,3}"
        .prop_filter("a topic has a character", |text| !text.is_empty())
        .prop_map(|text| TopicName::new(&text).unwrap())
}

pub fn topic_filter() -> impl Strategy<Value = TopicFilter> {
    ("(\\$share/g/)?(\\+|[a-c$]{0,2})(/(\\+|[a-c]{0,2})){0,3}(/#)?")
        .prop_filter_map("a filter", |text| TopicFilter::new(&text).ok())
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).unwrap())
}

fn user_properties() -> impl Strategy<Value = Vec<(Text, Text)>> {
    vec((text(), text()), 0..3)
}

/// Reason String and User Properties, which almost every packet can have.
fn common_properties(version: Version) -> BoxedStrategy<Properties> {
    if version != Version::V5 {
        return Just(Properties::default()).boxed();
    }
    (option::of(text()), user_properties())
        .prop_map(|(reason_string, user_properties)| Properties {
            reason_string,
            user_properties,
            ..Properties::default()
        })
        .boxed()
}

fn message_properties(version: Version) -> BoxedStrategy<Properties> {
    if version != Version::V5 {
        return Just(Properties::default()).boxed();
    }
    let texts =
        (option::of(any::<bool>()), option::of(any::<u32>()), option::of(text()), option::of(topic_name()));
    (texts, option::of(binary()), user_properties())
        .prop_map(|((format, expiry, content_type, response), correlation_data, user_properties)| {
            Properties {
                payload_format_indicator: format,
                message_expiry_interval: expiry,
                content_type,
                response_topic: response.map(|topic| Text::new(topic.as_str()).unwrap()),
                correlation_data,
                user_properties,
                ..Properties::default()
            }
        })
        .boxed()
}

fn will(version: Version) -> impl Strategy<Value = Will> {
    (topic_name(), binary(), qos(), any::<bool>(), message_properties(version), option::of(any::<u32>()))
        .prop_map(move |(topic, payload, qos, retain, mut properties, delay)| {
            properties.will_delay_interval = delay.filter(|_| version == Version::V5);
            Will { topic, payload, qos, retain, properties }
        })
}

fn connect(version: Version) -> impl Strategy<Value = Packet> {
    let credentials = (option::of(text()), option::of(binary()));
    let numbers = (
        option::of(any::<u32>()),
        option::of(1..=u16::MAX),
        option::of(any::<bool>()),
        option::of(1..=u32::MAX),
    );
    (text(), any::<bool>(), any::<u16>(), credentials, option::of(will(version)), numbers, user_properties())
        .prop_map(
            move |(
                client_id,
                clean_start,
                keep_alive,
                (username, password),
                will,
                numbers,
                user_properties,
            )| {
                let properties = Properties {
                    session_expiry_interval: numbers.0,
                    receive_maximum: numbers.1,
                    request_problem_information: numbers.2,
                    maximum_packet_size: numbers.3,
                    user_properties,
                    ..Properties::default()
                };
                let is_v5 = version == Version::V5;
                let password = password.filter(|_| is_v5 || username.is_some());
                let properties = if is_v5 { properties } else { Properties::default() };
                let will = will.map(Box::new);
                Connect { version, client_id, clean_start, keep_alive, username, password, will, properties }
                    .into()
            },
        )
}

fn publish(version: Version) -> impl Strategy<Value = Packet> {
    let head = (any::<bool>(), qos(), any::<bool>(), topic_name(), packet_id());
    let alias = (any::<bool>(), option::of(1..=u16::MAX), vec(1..=268_435_455_u32, 0..3));
    (head, message_properties(version), alias, binary()).prop_map(
        move |((dup, qos, retain, topic, id), mut properties, (no_topic, alias, identifiers), payload)| {
            let mut topic = topic;
            if version == Version::V5 {
                properties.topic_alias = alias;
                properties.subscription_identifiers = identifiers.into();
                if no_topic && alias.is_some() {
                    topic = TopicName::default();
                }
            }
            let has_id = qos != QoS::AtMostOnce;
            let packet_id = has_id.then_some(id);
            Publish { dup: dup && has_id, qos, retain, topic, packet_id, properties, payload }.into()
        },
    )
}

fn acks(version: Version) -> impl Strategy<Value = Packet> {
    let codes = [ReasonCode::Success, ReasonCode::NoMatchingSubscribers, ReasonCode::QuotaExceeded];
    let releases = [ReasonCode::Success, ReasonCode::PacketIdentifierNotFound];
    (packet_id(), common_properties(version), 0..codes.len(), 0..releases.len(), 0..4).prop_map(
        move |(packet_id, properties, code, release, kind)| {
            let is_v5 = version == Version::V5;
            let pick = |code| if is_v5 { code } else { ReasonCode::Success };
            let (code, release) = (pick(codes[code]), pick(releases[release]));
            let ack = |reason_code| Ack { packet_id, reason_code, properties: properties.clone() };
            match kind {
                0 => Packet::PubAck(ack(code)),
                1 => Packet::PubRec(ack(code)),
                2 => Packet::PubRel(ack(release)),
                _ => Packet::PubComp(ack(release)),
            }
        },
    )
}

fn options(version: Version) -> impl Strategy<Value = SubscriptionOptions> {
    let handlings = prop_oneof![
        Just(RetainHandling::Send),
        Just(RetainHandling::SendIfNew),
        Just(RetainHandling::DoNotSend)
    ];
    (qos(), any::<bool>(), any::<bool>(), handlings).prop_map(
        move |(qos, no_local, retain_as_published, retain_handling)| {
            if version == Version::V5 {
                SubscriptionOptions { qos, no_local, retain_as_published, retain_handling }
            } else {
                SubscriptionOptions::at_most(qos)
            }
        },
    )
}

fn subscriptions(version: Version) -> impl Strategy<Value = Packet> {
    let is_v5 = version == Version::V5;
    let filters = vec((topic_filter(), options(version)), 1..4);
    (packet_id(), filters, user_properties(), 0..4, common_properties(version)).prop_map(
        move |(packet_id, filters, user_properties, kind, common)| {
            let properties = Properties {
                user_properties: if is_v5 { user_properties } else { Vec::new() },
                ..Properties::default()
            };
            match kind {
                0 => {
                    let filters = (filters.into_iter())
                        .map(|(filter, mut options)| {
                            options.no_local &= filter.share().is_none();
                            SubscribeFilter { filter, options }
                        })
                        .collect();
                    Subscribe { packet_id, properties, filters }.into()
                }
                1 => {
                    Unsubscribe { packet_id, properties, filters: filters.into_iter().map(|x| x.0).collect() }
                        .into()
                }
                2 => {
                    let refusal =
                        if is_v5 { ReasonCode::NotAuthorized } else { ReasonCode::UnspecifiedError };
                    SubAck {
                        packet_id,
                        properties: common,
                        reason_codes: vec![ReasonCode::GrantedQoS2, refusal],
                    }
                    .into()
                }
                _ => {
                    let codes = vec![ReasonCode::NoSubscriptionExisted];
                    let reason_codes = if is_v5 { codes } else { Vec::new() };
                    UnsubAck { packet_id, properties: common, reason_codes }.into()
                }
            }
        },
    )
}

fn others(version: Version) -> impl Strategy<Value = Packet> {
    let is_v5 = version == Version::V5;
    (common_properties(version), any::<bool>(), 0..5).prop_map(
        move |(properties, present, kind)| match kind {
            0 => {
                let reason_code = if present { ReasonCode::Success } else { ReasonCode::NotAuthorized };
                let session_present = present && version != Version::V3_1;
                ConnAck { session_present, reason_code, properties }.into()
            }
            1 => Packet::PingReq,
            2 => Packet::PingResp,
            3 if is_v5 => Auth { reason_code: ReasonCode::ContinueAuthentication, properties }.into(),
            _ => {
                let reason =
                    if is_v5 { ReasonCode::SessionTakenOver } else { ReasonCode::NORMAL_DISCONNECTION };
                Disconnect { reason_code: reason, properties }.into()
            }
        },
    )
}

pub fn packet() -> impl Strategy<Value = (Version, Packet)> {
    (0..VERSIONS.len()).prop_flat_map(|index| {
        let version = VERSIONS[index];
        let packet = prop_oneof![
            connect(version),
            publish(version),
            acks(version),
            subscriptions(version),
            others(version)
        ];
        (Just(version), packet)
    })
}
