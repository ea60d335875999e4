//! What the standards print or list: reason codes, properties, malformed packets.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use bytes::BytesMut;
use mqtt_wire::{
    DecodeError, Decoder, EncodeError, Packet, PropertyScope, QoS, ReasonCode, Text, TextError, TopicError,
    TopicName, Version, property_scopes,
};
use serde_json::Value;

fn testdata(name: &str) -> Value {
    let path = format!("{}/../../testdata/mqtt/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

const SCOPES: [(&str, PropertyScope); 14] = [
    ("CONNECT", PropertyScope::Connect),
    ("Will Properties", PropertyScope::Will),
    ("CONNACK", PropertyScope::ConnAck),
    ("PUBLISH", PropertyScope::Publish),
    ("PUBACK", PropertyScope::PubAck),
    ("PUBREC", PropertyScope::PubRec),
    ("PUBREL", PropertyScope::PubRel),
    ("PUBCOMP", PropertyScope::PubComp),
    ("SUBSCRIBE", PropertyScope::Subscribe),
    ("SUBACK", PropertyScope::SubAck),
    ("UNSUBSCRIBE", PropertyScope::Unsubscribe),
    ("UNSUBACK", PropertyScope::UnsubAck),
    ("DISCONNECT", PropertyScope::Disconnect),
    ("AUTH", PropertyScope::Auth),
];

#[test]
fn reason_codes_are_those_of_the_standard() {
    let codes = testdata("reason_codes.json");
    let rows = codes["reason_codes"].as_array().unwrap();
    for row in rows {
        let value = u8::try_from(row["value"].as_u64().unwrap()).unwrap();
        let code = ReasonCode::try_from(value).unwrap();
        assert_eq!(code.is_error(), row["error"].as_bool().unwrap());
        if value != 0 {
            assert_eq!(code.to_string(), row["name"].as_str().unwrap());
        }
    }
    let known = (0..=u8::MAX).filter(|&value| ReasonCode::try_from(value).is_ok()).count();
    assert_eq!(known as u64, codes["count_of_values"].as_u64().unwrap());
}

#[test]
fn disconnect_and_acknowledgments_have_the_codes_of_their_tables() {
    let codes = testdata("reason_codes.json");
    let rows = codes["reason_codes"].as_array().unwrap();
    let packets = [
        ("PUBACK", 0x40, vec![0, 1]),
        ("PUBREC", 0x50, vec![0, 1]),
        ("PUBREL", 0x62, vec![0, 1]),
        ("PUBCOMP", 0x70, vec![0, 1]),
        ("SUBACK", 0x90, vec![0, 1, 0]),
        ("UNSUBACK", 0xb0, vec![0, 1, 0]),
        ("DISCONNECT", 0xe0, vec![]),
        ("AUTH", 0xf0, vec![]),
    ];
    for (name, first, head) in packets {
        for code in 0..=u8::MAX {
            let is_listed = rows.iter().any(|row| {
                row["value"] == code && row["packets"].as_array().unwrap().iter().any(|packet| packet == name)
            });
            let body = [&head[..], &[code]].concat();
            let packet = [&[first, u8::try_from(body.len()).unwrap()], &body[..]].concat();
            let decoded = decode(Version::V5, &packet);
            assert_eq!(matches!(decoded, Ok(Some(_))), is_listed, "{code:#04x} in {name}: {decoded:?}");
        }
    }
}

#[test]
fn the_version_of_a_broken_connect_is_known() {
    let mut decoder = Decoder::for_server(1024);
    // The reserved flag is set.
    let connect = b"\x10\x0d\0\x04MQTT\x05\x03\0\x3c\0\0\0";
    assert_eq!(decoder.decode(&mut BytesMut::from(&connect[..])), Err(DecodeError::ConnectFlags));
    assert_eq!(decoder.version(), Some(Version::V5));
}

#[test]
fn properties_stand_where_the_standard_allows_them() {
    let table = testdata("properties.json");
    let rows = table["properties"].as_array().unwrap();
    for row in rows {
        let id = u8::try_from(row["id"].as_u64().unwrap()).unwrap();
        let packets: Vec<&str> =
            row["packets"].as_array().unwrap().iter().map(|x| x.as_str().unwrap()).collect();
        let scopes = property_scopes(id).unwrap();
        for (name, scope) in SCOPES {
            assert_eq!(scopes & scope as u16 != 0, packets.contains(&name), "{} in {name}", row["name"]);
        }
    }
    assert_eq!((0..=u8::MAX).filter(|&id| property_scopes(id).is_some()).count(), rows.len());
}

/// A valid value of each property, as its type says.
fn property_bytes(row: &Value) -> Vec<u8> {
    let id = u8::try_from(row["id"].as_u64().unwrap()).unwrap();
    let value: &[u8] = match row["type"].as_str().unwrap() {
        "Byte" | "Variable Byte Integer" => &[1],
        "Two Byte Integer" => &[0, 1],
        "Four Byte Integer" => &[0, 0, 0, 1],
        "UTF-8 Encoded String" => &[0, 1, b'a'],
        "Binary Data" => &[0, 1, 0xff],
        "UTF-8 String Pair" => &[0, 1, b'a', 0, 1, b'b'],
        other => panic!("no type {other}"),
    };
    [&[id], value].concat()
}

/// A packet of `scope` with this list of properties.
fn packet_with(scope: PropertyScope, properties: &[u8]) -> Vec<u8> {
    let length = u8::try_from(properties.len()).unwrap();
    let list = [&[length], properties].concat();
    let (first, body) = match scope {
        PropertyScope::Connect => (0x10, [b"\0\x04MQTT\x05\x02\0\x3c", &list[..], b"\0\0"].concat()),
        PropertyScope::Will => {
            (0x10, [b"\0\x04MQTT\x05\x06\0\x3c\0\0\0", &list[..], b"\0\x01t\0\0"].concat())
        }
        PropertyScope::ConnAck => (0x20, [b"\0\0", &list[..]].concat()),
        PropertyScope::Publish => (0x30, [b"\0\x01t", &list[..]].concat()),
        PropertyScope::PubAck => (0x40, [b"\0\x01\0", &list[..]].concat()),
        PropertyScope::PubRec => (0x50, [b"\0\x01\0", &list[..]].concat()),
        PropertyScope::PubRel => (0x62, [b"\0\x01\0", &list[..]].concat()),
        PropertyScope::PubComp => (0x70, [b"\0\x01\0", &list[..]].concat()),
        PropertyScope::Subscribe => (0x82, [b"\0\x01", &list[..], b"\0\x01t\0"].concat()),
        PropertyScope::SubAck => (0x90, [b"\0\x01", &list[..], b"\0"].concat()),
        PropertyScope::Unsubscribe => (0xa2, [b"\0\x01", &list[..], b"\0\x01t"].concat()),
        PropertyScope::UnsubAck => (0xb0, [b"\0\x01", &list[..], b"\0"].concat()),
        PropertyScope::Disconnect => (0xe0, [b"\0", &list[..]].concat()),
        PropertyScope::Auth => (0xf0, [b"\x18", &list[..]].concat()),
    };
    [&[first, u8::try_from(body.len()).unwrap()], &body[..]].concat()
}

fn decode(version: Version, bytes: &[u8]) -> Result<Option<Packet>, DecodeError> {
    let mut decoder =
        if bytes.first() == Some(&0x10) { Decoder::for_server(1024) } else { Decoder::new(version, 1024) };
    decoder.decode(&mut BytesMut::from(bytes))
}

#[test]
fn every_property_in_every_packet_is_taken_or_refused_as_the_standard_says() {
    let table = testdata("properties.json");
    for row in table["properties"].as_array().unwrap() {
        let id = u8::try_from(row["id"].as_u64().unwrap()).unwrap();
        let packets: Vec<&str> =
            row["packets"].as_array().unwrap().iter().map(|x| x.as_str().unwrap()).collect();
        for (name, scope) in SCOPES {
            // §3.1.2.11.10: in CONNECT, data needs its method.
            let method: &[u8] = if id == 0x16 && name == "CONNECT" { &[0x15, 0, 1, b'm'] } else { &[] };
            let once = [method, &property_bytes(row)].concat();
            let twice = [once.clone(), property_bytes(row)].concat();
            let decoded = decode(Version::V5, &packet_with(scope, &once));
            if packets.contains(&name) {
                assert!(matches!(decoded, Ok(Some(_))), "{} in {name}: {decoded:?}", row["name"]);
                let repeated = decode(Version::V5, &packet_with(scope, &twice));
                let may_repeat = id == 0x26 || (id == 0x0b && name == "PUBLISH");
                let wanted = if may_repeat { None } else { Some(DecodeError::RepeatedProperty(id)) };
                assert_eq!(repeated.err(), wanted, "{} twice in {name}", row["name"]);
            } else {
                assert_eq!(decoded, Err(DecodeError::MisplacedProperty(id)), "{} in {name}", row["name"]);
            }
        }
    }
}

#[test]
fn malformed_packets_are_refused_for_what_is_wrong_with_them() {
    use DecodeError as E;
    use Version::{V3_1, V3_1_1, V5};
    let cases: &[(Version, &[u8], DecodeError)] = &[
        (V5, b"\x00\x00", E::PacketType(0)),
        (V3_1_1, b"\xf0\x00", E::PacketType(15)),
        (V5, b"\xc1\x00", E::Flags),
        (V5, b"\xc0\x01\x00", E::TrailingBytes),
        (V5, b"\xc0\x80\x80\x80\x80\x01", E::VariableByteInteger),
        (V5, b"\xc0\x80\x00", E::VariableByteInteger),
        (V5, b"\x30\xff\xff\xff\x7f", E::TooLarge { size: 268_435_460, limit: 1024 }),
        (V5, b"\x36\x05\0\x01t\0\x01", E::QoS),
        (V5, b"\x38\x04\0\x01t\0", E::DuplicateQoS0),
        (V5, b"\x32\x06\0\x01t\0\0\0", E::PacketIdZero),
        (V5, b"\x30\x03\0\0\0", E::NoTopic),
        (V3_1_1, b"\x30\x02\0\0", E::NoTopic),
        (V5, b"\x30\x04\0\x01+\0", E::Topic(TopicError::WildcardInName)),
        (V5, b"\x30\x04\0\x01\0\0", E::Text(TextError::Nul)),
        (V5, b"\x30\x06\0\x03\xed\xa0\x80\0", E::Text(TextError::NotUtf8)),
        (V5, b"\x30\x04\0\x05t\0", E::Truncated),
        (V5, b"\x30\x06\0\x01t\x02\x7f\0", E::UnknownProperty(0x7f)),
        (V5, b"\x30\x06\0\x01t\x02\x01\x02", E::PropertyValue(1)),
        (V5, b"\x30\x06\0\x01t\x02\x0b\x00", E::PropertyValue(0x0b)),
        (V5, b"\x80\x00", E::Flags),
        (V3_1_1, b"\x8a\x06\0\x01\0\x01t\0", E::Flags),
        (V5, b"\x82\x03\0\x01\0", E::NoFilter),
        (V5, b"\x82\x07\0\x01\0\0\x01t\x03", E::QoS),
        (V5, b"\x82\x07\0\x01\0\0\x01t\x40", E::SubscriptionOptions),
        (V5, b"\x82\x07\0\x01\0\0\x01t\x30", E::SubscriptionOptions),
        (V3_1_1, b"\x82\x06\0\x01\0\x01t\x04", E::SubscriptionOptions),
        (V5, b"\x82\x08\0\x01\0\0\x02t#\0", E::Topic(TopicError::MultiLevelWildcard)),
        (V5, b"\x82\x10\0\x01\0\0\x0a$share/g/a\x04", E::SubscriptionOptions),
        (V5, b"\xa2\x03\0\x01\0", E::NoFilter),
        (V5, b"\x40\x03\0\x01\x92", E::ReasonCode(0x92)),
        (V5, b"\x62\x03\0\x01\x10", E::ReasonCode(0x10)),
        (V5, b"\xe0\x01\x01", E::ReasonCode(1)),
        (V5, b"\xf0\x01\x80", E::ReasonCode(0x80)),
        (V5, b"\x20\x03\x02\0\0", E::Flags),
        (V3_1_1, b"\x20\x02\0\x06", E::ReasonCode(6)),
        (V5, b"\x10\x0c\0\x04MQTT\x05\x01\0\0\0\0", E::ConnectFlags),
        (V5, b"\x10\x0d\0\x04MQTT\x05\x20\0\0\0\0\0", E::ConnectFlags),
        (V5, b"\x10\x0d\0\x04MQTT\x05\x1c\0\0\0\0\0", E::QoS),
        (V3_1_1, b"\x10\x0c\0\x04MQTT\x04\x40\0\0\0\0", E::ConnectFlags),
        (V5, b"\x10\x0d\0\x04MQTT\x06\x02\0\0\0\0\0", E::ProtocolVersion(6)),
        (V5, b"\x10\x0d\0\x04MQTX\x05\x02\0\0\0\0\0", E::ProtocolName),
        (V5, b"\x10\x0d\0\x04MQTT\x05\x02\0\0\0\0\x01", E::Truncated),
    ];
    for (version, bytes, wanted) in cases {
        assert_eq!(decode(*version, bytes), Err(*wanted), "{bytes:02x?}");
    }
    let first_is_ping = Decoder::for_server(1024).decode(&mut BytesMut::from(&b"\xc0\x00"[..]));
    assert_eq!(first_is_ping, Err(E::NotConnect));
    // MQTT 3.1 lets SUBSCRIBE be repeated with DUP.
    assert!(matches!(decode(V3_1, b"\x8a\x06\0\x01\0\x01t\0"), Ok(Some(Packet::Subscribe(_)))));
}

#[test]
fn the_connect_of_the_standard_is_read() {
    // The variable header of MQTT 3.1.1 figure 3.6: will with QoS 1, user name, password, keep alive 10.
    let bytes = b"\x10\x1c\0\x04MQTT\x04\xce\0\x0a\0\x01c\0\x01w\0\x03bye\0\x01u\0\x02pw";
    let Ok(Some(Packet::Connect(connect))) = decode(Version::V3_1_1, bytes) else { panic!("a CONNECT") };
    let will = connect.will.as_ref().unwrap();
    assert_eq!((connect.keep_alive, connect.clean_start), (10, true));
    assert_eq!((will.topic.as_str(), &will.payload[..], will.qos as u8), ("w", &b"bye"[..], 1));
    assert_eq!(connect.password.as_deref(), Some(&b"pw"[..]));
    assert!(!format!("{connect:?}").contains("pw"), "no password in a log");
}

#[test]
fn data_that_its_length_cannot_say_is_refused_not_cut_off() {
    let long = bytes::Bytes::from(vec![0; 65_536]);
    let mut publish = mqtt_wire::Publish::new(TopicName::new("t").unwrap(), QoS::AtMostOnce, "");
    publish.properties.correlation_data = Some(long.clone());
    let mut connect = mqtt_wire::Connect::new(Version::V3_1_1, Text::new("c").unwrap());
    connect.username = Some(Text::new("u").unwrap());
    connect.password = Some(long);
    for (packet, version) in [(Packet::from(publish), Version::V5), (Packet::from(connect), Version::V3_1_1)]
    {
        let mut out = BytesMut::new();
        assert_eq!(packet.encode(version, &mut out), Err(EncodeError::TooLarge));
        assert!(out.is_empty());
    }
}
