//! Enhanced authentication (MQTT 5.0 §4.12): a shard and a client that proves its password with SCRAM-SHA-256.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use access::scram::{ClientExchange, METHOD};
use bytes::{Bytes, BytesMut};
use clock::Instant;
use mqtt_broker::{ConnectionId, Credentials, EndKind, Limits, LookupId, Opening, Refusal, Shard, Shared};
use mqtt_proto::server::ProtocolError;
use mqtt_wire::{Auth, Connect, Decoder, Disconnect, Packet, Properties, ReasonCode, Text, Version};

const NOW: Instant = Instant::ORIGIN;
const SALT: &[u8] = b"0123456789abcdef";

fn shard() -> Shard {
    let shared = Shared::new(1, Limits::default());
    let entry = |name| access::scram_entry(name, b"secret", SALT).unwrap();
    let users = access::Users::parse(&(entry("ann") + &entry("bob"))).unwrap();
    shared.scram.store(Some(Arc::new(users.verifiers([7; 32]))));
    Shard::new(0, shared)
}

fn auth(reason_code: ReasonCode, method: &str, data: Vec<u8>) -> Auth {
    let properties = Properties {
        authentication_method: Some(Text::new(method).unwrap()),
        authentication_data: Some(data.into()),
        ..Properties::default()
    };
    Auth { reason_code, properties }
}

fn connect(method: &str, data: Vec<u8>) -> Connect {
    let mut connect = Connect::new(Version::V5, Text::new("client").unwrap());
    connect.properties = auth(ReasonCode::Success, method, data).properties;
    connect
}

fn admit(shard: &mut Shard, connect: Connect) -> Opening {
    shard.admit(NOW, connect, Decoder::new(Version::V5, 1 << 20), false, Credentials::Anonymous)
}

fn encode(packet: impl Into<Packet>) -> BytesMut {
    let mut bytes = BytesMut::new();
    packet.into().encode(Version::V5, &mut bytes).unwrap();
    bytes
}

fn decode(bytes: impl Into<BytesMut>) -> Packet {
    Decoder::new(Version::V5, 1 << 20).decode(&mut bytes.into()).unwrap().unwrap()
}

fn sent(shard: &mut Shard, id: ConnectionId) -> Packet {
    decode(BytesMut::from(&shard.take_output(id).unwrap().bytes[..]))
}

/// The data of an AUTH, which has to name the method and nothing else ([MQTT-4.12.0-5]).
fn data(packet: Packet, reason_code: ReasonCode) -> Bytes {
    let Packet::Auth(auth) = packet else { panic!("{packet:?}") };
    assert_eq!(auth.reason_code, reason_code);
    let expected = Properties {
        authentication_method: Some(Text::new(METHOD).unwrap()),
        authentication_data: auth.properties.authentication_data.clone(),
        ..Properties::default()
    };
    assert_eq!(auth.properties, expected);
    auth.properties.authentication_data.unwrap()
}

/// Up to the server's challenge.
fn challenged(shard: &mut Shard, name: &str, password: &str) -> (LookupId, ClientExchange, Bytes) {
    let (exchange, first) = ClientExchange::begin(name, password.as_bytes(), [1; 18]);
    let Opening::Challenged(id, bytes) = admit(shard, connect(METHOD, first)) else { panic!("no challenge") };
    (id, exchange, data(decode(bytes), ReasonCode::ContinueAuthentication))
}

fn answer(shard: &mut Shard, id: LookupId, packet: impl Into<Packet>) -> Opening {
    shard.handle_challenged(NOW, id, &mut encode(packet)).unwrap()
}

/// Up to an open connection.
fn open(shard: &mut Shard, name: &str) -> ConnectionId {
    let (id, mut exchange, challenge) = challenged(shard, name, "secret");
    let proof = auth(ReasonCode::ContinueAuthentication, METHOD, exchange.prove(&challenge).unwrap());
    let mut bytes = encode(proof);
    let mut rest = bytes.split_off(5);
    assert!(shard.handle_challenged(NOW, id, &mut bytes).is_none(), "half a packet");
    bytes.unsplit(rest.split());
    let Some(Opening::Open(id)) = shard.handle_challenged(NOW, id, &mut bytes) else { panic!("not open") };
    let Packet::ConnAck(connack) = sent(shard, id) else { panic!("no CONNACK") };
    assert_eq!(connack.reason_code, ReasonCode::Success);
    assert_eq!(connack.properties.authentication_method.as_deref(), Some(METHOD));
    exchange.finish(&connack.properties.authentication_data.unwrap()).unwrap();
    id
}

/// The code of the CONNACK that refuses.
fn refused(opening: Opening) -> (Refusal, ReasonCode) {
    let Opening::Refused(refusal, bytes) = opening else { panic!("{opening:?}") };
    let Packet::ConnAck(connack) = decode(bytes) else { panic!("no CONNACK") };
    (refusal, connack.reason_code)
}

fn give(shard: &mut Shard, id: ConnectionId, packet: impl Into<Packet>) -> Packet {
    shard.handle_bytes(NOW, id, &mut encode(packet));
    sent(shard, id)
}

/// The code of the DISCONNECT with which the connection has ended.
fn ended(packet: Packet) -> ReasonCode {
    let Packet::Disconnect(disconnect) = packet else { panic!("{packet:?}") };
    disconnect.reason_code
}

#[test]
fn who_proves_the_password_is_let_in_and_the_server_proves_it_too() {
    let mut shard = shard();
    open(&mut shard, "ann");
    assert_eq!(shard.stats().connections, 1);
}

#[test]
fn who_does_not_prove_the_password_is_refused() {
    for (name, password) in [("ann", "guess"), ("eve", "secret")] {
        let mut shard = shard();
        let (id, mut exchange, challenge) = challenged(&mut shard, name, password);
        let proof = auth(ReasonCode::ContinueAuthentication, METHOD, exchange.prove(&challenge).unwrap());
        let (_, code) = refused(answer(&mut shard, id, proof));
        assert_eq!(code, ReasonCode::NotAuthorized);
        assert_eq!((shard.stats().connections, shard.stats().refused), (0, 1));
    }
    let (_, code) = refused(admit(&mut shard(), connect(METHOD, b"n,,n=".to_vec())));
    assert_eq!(code, ReasonCode::NotAuthorized, "no first message at all");
}

#[test]
fn a_method_that_there_is_not_is_refused() {
    let bad = (Refusal::Protocol(ProtocolError::AuthenticationMethod), ReasonCode::BadAuthenticationMethod);
    assert_eq!(refused(admit(&mut shard(), connect("SCRAM-SHA-1", Vec::new()))), bad);
    let mut without_users = Shard::new(0, Shared::new(1, Limits::default()));
    assert_eq!(refused(admit(&mut without_users, connect(METHOD, b"n,,n=ann,r=x".to_vec()))), bad);
}

#[test]
fn before_connack_only_auth_and_disconnect_may_come() {
    let mut shard = shard();
    let wrong = [
        Packet::PingReq,
        auth(ReasonCode::ContinueAuthentication, "OTHER", Vec::new()).into(),
        auth(ReasonCode::ReAuthenticate, METHOD, Vec::new()).into(),
        auth(ReasonCode::Success, METHOD, Vec::new()).into(),
        connect(METHOD, Vec::new()).into(),
    ];
    for packet in wrong {
        let (id, ..) = challenged(&mut shard, "ann", "secret");
        let (_, code) = refused(answer(&mut shard, id, packet));
        assert_eq!(code, ReasonCode::ProtocolError);
    }
    let (id, ..) = challenged(&mut shard, "ann", "secret");
    let left = answer(&mut shard, id, Disconnect::new(ReasonCode::Success));
    assert!(matches!(left, Opening::Refused(Refusal::Left, bytes) if bytes.is_empty()));
    let (id, ..) = challenged(&mut shard, "ann", "secret");
    let broken = shard.handle_challenged(NOW, id, &mut BytesMut::from(&[0xf1, 0x00][..])).unwrap();
    assert_eq!(refused(broken).1, ReasonCode::MalformedPacket);
    let (id, ..) = challenged(&mut shard, "ann", "secret");
    shard.forget_challenged(id);
    assert!(shard.handle_challenged(NOW, id, &mut encode(Packet::PingReq)).is_none());
}

#[test]
fn a_challenge_that_the_client_cannot_take_refuses_it() {
    let (_, first) = ClientExchange::begin("ann", b"secret", [1; 18]);
    let mut connect = connect(METHOD, first);
    connect.properties.maximum_packet_size = Some(40);
    assert_eq!(refused(admit(&mut shard(), connect)).1, ReasonCode::PacketTooLarge);
}

#[test]
fn a_client_authenticates_again_and_meanwhile_goes_on() {
    let mut shard = shard();
    let id = open(&mut shard, "ann");
    for _ in 0..2 {
        let (mut exchange, first) = ClientExchange::begin("ann", b"secret", [2; 18]);
        let reply = give(&mut shard, id, auth(ReasonCode::ReAuthenticate, METHOD, first));
        let challenge = data(reply, ReasonCode::ContinueAuthentication);
        assert_eq!(give(&mut shard, id, Packet::PingReq), Packet::PingResp);
        let proof = exchange.prove(&challenge).unwrap();
        let reply = give(&mut shard, id, auth(ReasonCode::ContinueAuthentication, METHOD, proof));
        exchange.finish(&data(reply, ReasonCode::Success)).unwrap();
    }
}

#[test]
fn authentication_that_fails_when_it_is_repeated_ends_the_connection() {
    for (name, password) in [("ann", "guess"), ("bob", "secret")] {
        let mut shard = shard();
        let id = open(&mut shard, "ann");
        let (mut exchange, first) = ClientExchange::begin(name, password.as_bytes(), [2; 18]);
        let reply = give(&mut shard, id, auth(ReasonCode::ReAuthenticate, METHOD, first));
        let proof = exchange.prove(&data(reply, ReasonCode::ContinueAuthentication)).unwrap();
        let reply = give(&mut shard, id, auth(ReasonCode::ContinueAuthentication, METHOD, proof));
        assert_eq!(ended(reply), ReasonCode::NotAuthorized, "{name}");
        assert_eq!(shard.stats().ended[EndKind::Protocol as usize], 1);
    }
}

#[test]
fn auth_out_of_place_ends_the_connection() {
    let first = || ClientExchange::begin("ann", b"secret", [2; 18]).1;
    for wrong in [
        auth(ReasonCode::ContinueAuthentication, METHOD, Vec::new()),
        auth(ReasonCode::Success, METHOD, Vec::new()),
        auth(ReasonCode::ReAuthenticate, "OTHER", first()),
    ] {
        let mut shard = shard();
        let id = open(&mut shard, "ann");
        assert_eq!(ended(give(&mut shard, id, wrong)), ReasonCode::ProtocolError);
    }
    let mut shard = shard();
    let plain = Connect::new(Version::V5, Text::new("plain").unwrap());
    let Opening::Open(id) = admit(&mut shard, plain) else { panic!("not open") };
    let Packet::ConnAck(connack) = sent(&mut shard, id) else { panic!("no CONNACK") };
    assert_eq!(connack.properties.authentication_method, None, "[MQTT-4.12.0-6]");
    let reply = give(&mut shard, id, auth(ReasonCode::ReAuthenticate, METHOD, first()));
    assert_eq!(ended(reply), ReasonCode::ProtocolError, "[MQTT-4.12.0-7]");
}
