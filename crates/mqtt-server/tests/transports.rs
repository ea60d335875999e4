//! TLS, WebSocket, credentials and rules, over real sockets with certificates made for the test.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::{SinkExt as _, StreamExt as _};
use mqtt_client::{Broker, Client, ConnectError, Error, Messages, Options, Reconnect, Scheme, Status, Tls};
use mqtt_proto::client::ConnectionError;
use mqtt_server::{
    AccessConfig, CertificateField, CertificateFiles, Config, ListenerConfig, Server, StartError, TlsConfig,
    WebSocketConfig,
};
use mqtt_wire::{
    Connect, Decoder, Packet, Publish, QoS, ReasonCode, SubscribeFilter, SubscriptionOptions, Text,
    TopicFilter, TopicName, Version,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;

const PATIENCE: Duration = Duration::from_secs(20);

/// A folder that is gone with this value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("trellis-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "test authority");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes NAME.pem and NAME.key: a certificate for these names.
fn certify(
    folder: &Folder,
    authority: &Authority,
    name: &str,
    names: &[&str],
    serial: u64,
) -> CertificateFiles {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.serial_number = Some(SerialNumber::from(serial));
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    CertificateFiles {
        certificate: folder.write(&format!("{name}.pem"), &certificate.pem()),
        key: folder.write(&format!("{name}.key"), &key.serialize_pem()),
    }
}

fn revoke(authority: &Authority, serials: &[u64]) -> String {
    let revoked = serials.iter().map(|&serial| RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: date_time_ymd(2024, 1, 1),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(2124, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(authority).unwrap().pem().unwrap()
}

fn tls(files: &CertificateFiles) -> TlsConfig {
    TlsConfig::new(files.certificate.clone(), files.key.clone())
}

fn listener(tls: Option<TlsConfig>, websocket: Option<WebSocketConfig>) -> ListenerConfig {
    ListenerConfig { tls, websocket, ..ListenerConfig::new("test", "127.0.0.1:0".parse().unwrap()) }
}

async fn start(listener: ListenerConfig) -> Server {
    Server::start(Config { listeners: vec![listener], ..Config::default() }).await.unwrap()
}

fn broker(server: &Server, scheme: Scheme, host: &str, ca: &Path) -> Broker {
    let tls = Tls { ca: Some(ca.to_owned()), ..Tls::default() };
    Broker { port: server.local_addresses()[0].port(), tls, ..Broker::new(scheme, host) }
}

fn with_certificate(broker: &Broker, files: &CertificateFiles) -> Broker {
    let certificate = Some((files.certificate.clone(), files.key.clone()));
    Broker { tls: Tls { certificate, ..broker.tls.clone() }, ..broker.clone() }
}

fn filter(text: &str) -> Vec<SubscribeFilter> {
    let options = SubscriptionOptions::at_most(QoS::ExactlyOnce);
    vec![SubscribeFilter { filter: TopicFilter::new(text).unwrap(), options }]
}

fn publish(topic: &str, payload: impl Into<bytes::Bytes>) -> Publish {
    Publish::new(TopicName::new(topic).unwrap(), QoS::AtLeastOnce, payload)
}

async fn next(messages: &mut Messages) -> Publish {
    timeout(PATIENCE, messages.next()).await.expect("a message in time").unwrap()
}

/// Sends itself a message that is larger than any buffer on the way.
async fn talk_to_itself(broker: Broker) {
    let (client, mut messages) = Client::open(broker, Options::new("talker")).await.unwrap();
    assert_eq!(client.subscribe(filter("talk/#")).await.unwrap(), [ReasonCode::GrantedQoS2]);
    let payload = vec![7; 300_000];
    assert_eq!(client.publish(publish("talk/a", payload.clone())).await, Ok(ReasonCode::Success));
    assert_eq!(next(&mut messages).await.payload, payload);
    client.disconnect().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_and_websocket_carry_mqtt_alone_and_together() {
    let folder = Folder::new("carry");
    let authority = authority();
    let ca = folder.write("ca.pem", &authority.pem());
    let files = certify(&folder, &authority, "server", &["localhost"], 1);
    for (scheme, has_tls, has_websocket) in
        [(Scheme::Mqtts, true, false), (Scheme::Ws, false, true), (Scheme::Wss, true, true)]
    {
        let websocket = has_websocket.then(WebSocketConfig::default);
        let server = start(listener(has_tls.then(|| tls(&files)), websocket)).await;
        talk_to_itself(broker(&server, scheme, "localhost", &ca)).await;
        if has_tls {
            let stranger = Broker { tls: Tls::default(), ..broker(&server, scheme, "localhost", &ca) };
            assert!(Client::open(stranger.clone(), Options::new("a")).await.is_err(), "an unknown authority");
            let careless = Broker { tls: Tls { insecure: true, ..Tls::default() }, ..stranger };
            talk_to_itself(careless).await;
        }
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_name_gets_its_certificate_and_an_old_version_none() {
    let folder = Folder::new("sni");
    let authority = authority();
    let ca = folder.write("ca.pem", &authority.pem());
    let first = certify(&folder, &authority, "first", &["127.0.0.1"], 1);
    let second = certify(&folder, &authority, "second", &["*.localhost", "localhost"], 2);
    let config = TlsConfig { more_certificates: vec![second], min_version: "1.3".to_owned(), ..tls(&first) };
    let server = start(listener(Some(config), None)).await;
    talk_to_itself(broker(&server, Scheme::Mqtts, "localhost", &ca)).await;
    talk_to_itself(broker(&server, Scheme::Mqtts, "127.0.0.1", &ca)).await;
    server.shutdown().await;
    let config = TlsConfig { min_version: "1.0".to_owned(), ..tls(&first) };
    let config = Config { listeners: vec![listener(Some(config), None)], ..Config::default() };
    assert!(matches!(Server::start(config).await, Err(StartError::Tls { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_names_its_client_and_a_revoked_one_is_refused_without_dropping_others() {
    let folder = Folder::new("crl");
    let authority = authority();
    let ca = folder.write("ca.pem", &authority.pem());
    let files = certify(&folder, &authority, "server", &["localhost"], 1);
    let (good, bad) =
        (certify(&folder, &authority, "good", &[], 2), certify(&folder, &authority, "bad", &[], 3));
    let config = TlsConfig {
        client_ca: Some(ca.clone()),
        crl: Some(folder.write("crl.pem", &revoke(&authority, &[]))),
        username_from: Some(CertificateField::CommonName),
        client_id_from: Some(CertificateField::CommonName),
        ..tls(&files)
    };
    let rules = "[[rules]]\nallow = 'all'\ntopics = ['of/${username}/#']\n";
    let access = AccessConfig { acl_file: Some(folder.write("acl.toml", rules)), ..AccessConfig::default() };
    // Not on loopback: certificates say who clients are, so that needs no permission.
    let bind = "0.0.0.0:0".parse().unwrap();
    let listeners = vec![ListenerConfig { bind, ..listener(Some(config), None) }];
    let server = Server::start(Config { listeners, access, ..Config::default() }).await.unwrap();
    let nobody = broker(&server, Scheme::Mqtts, "localhost", &ca);
    assert!(Client::open(nobody.clone(), Options::new("a")).await.is_err(), "a certificate is needed");

    let (client, mut messages) =
        Client::open(with_certificate(&nobody, &bad), Options::new("whatever")).await.unwrap();
    assert_eq!(client.subscribe(filter("of/bad/+")).await.unwrap(), [ReasonCode::GrantedQoS2]);
    assert_eq!(client.subscribe(filter("of/good/+")).await.unwrap(), [ReasonCode::NotAuthorized]);
    folder.write("crl.pem", &revoke(&authority, &[3]));
    assert!(server.reload().is_empty());
    let again = Client::open(with_certificate(&nobody, &bad), Options::new("again")).await;
    assert!(again.is_err(), "it is revoked");
    assert!(Client::open(with_certificate(&nobody, &good), Options::new("a")).await.is_ok());
    client.publish(publish("of/bad/x", "still here")).await.unwrap();
    assert_eq!(next(&mut messages).await.payload, "still here");

    folder.write("server.key", "no key");
    let errors = server.reload();
    assert!(errors.len() == 1 && errors[0].contains("server.key"), "{errors:?}");
    assert!(Client::open(with_certificate(&nobody, &good), Options::new("a")).await.is_ok(), "as before");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_used_by_itself_and_open_connections_go_on() {
    let folder = Folder::new("renew");
    let (old, new) = (authority(), authority());
    let files = certify(&folder, &old, "server", &["localhost"], 1);
    let server = start(listener(Some(tls(&files)), None)).await;
    let old_ca = folder.write("old.pem", &old.pem());
    let new_ca = folder.write("new.pem", &new.pem());
    let (client, mut messages) =
        Client::open(broker(&server, Scheme::Mqtts, "localhost", &old_ca), Options::new("old"))
            .await
            .unwrap();
    client.subscribe(filter("a")).await.unwrap();
    certify(&folder, &new, "server", &["localhost"], 1);
    let renewed = broker(&server, Scheme::Mqtts, "localhost", &new_ca);
    let found = async { while Client::open(renewed.clone(), Options::new("new")).await.is_err() {} };
    timeout(PATIENCE, found).await.expect("the server looks at its files");
    client.publish(publish("a", "x")).await.unwrap();
    assert_eq!(next(&mut messages).await.payload, "x");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_and_rules_decide_beyond_loopback() {
    let folder = Folder::new("users");
    let users = access::entry("ann", b"secret", b"0123456789abcdef").unwrap();
    let password_file = Some(folder.write("users", &users));
    let rules = "[[rules]]\nallow = 'subscribe'\nusername = 'ann'\ntopics = ['#']\n\
                 [[rules]]\nallow = 'publish'\ntopics = ['in/${clientid}']\n";
    let acl_file = Some(folder.write("acl.toml", rules));
    let bind = "0.0.0.0:0".parse().unwrap();
    let listeners = vec![ListenerConfig { bind, ..listener(None, None) }];
    let access = AccessConfig { password_file, acl_file };
    let server = Server::start(Config { listeners, access, ..Config::default() }).await.unwrap();
    let address = format!("127.0.0.1:{}", server.local_addresses()[0].port());
    let options = |version, user: &str, password: &str| Options {
        version,
        username: (!user.is_empty()).then(|| user.to_owned()),
        password: (!password.is_empty()).then(|| password.into()),
        ..Options::new("meter")
    };
    for version in [Version::V3_1, Version::V3_1_1, Version::V5] {
        for (user, password, wanted) in [
            ("", "", ReasonCode::NotAuthorized),
            ("ann", "wrong", ReasonCode::BadUserNameOrPassword),
            ("eve", "secret", ReasonCode::BadUserNameOrPassword),
            ("ann", "", ReasonCode::BadUserNameOrPassword),
        ] {
            let refused = Client::connect_tcp(&address, options(version, user, password)).await;
            let Err(ConnectError::Connection(Error::Connection(ConnectionError::Refused(code)))) = refused
            else {
                panic!("{user}:{password} is refused, not {refused:?}")
            };
            assert_eq!(code, wanted, "{version:?} {user}:{password}");
        }
        let (client, mut messages) =
            Client::connect_tcp(&address, options(version, "ann", "secret")).await.unwrap();
        client.subscribe(filter("#")).await.unwrap();
        let denied = client.publish(publish("in/other", "denied")).await.unwrap();
        let wanted = if version == Version::V5 { ReasonCode::NotAuthorized } else { ReasonCode::Success };
        assert_eq!(denied, wanted);
        client.publish(publish("in/meter", "allowed")).await.unwrap();
        assert_eq!(next(&mut messages).await.payload, "allowed", "what was denied did not arrive");
    }
    // The program's own clients are not bound by the rules.
    let (local, _) = Client::connect(server.connect_local(), Options::new("local")).await.unwrap();
    assert_eq!(local.publish(publish("anything", "")).await.unwrap(), ReasonCode::NoMatchingSubscribers);
    assert_eq!(server.stats().await.dropped_not_authorized, 3);
    server.shutdown().await;
}

fn encoded(packets: &[Packet]) -> BytesMut {
    let mut bytes = BytesMut::new();
    packets.iter().for_each(|packet| packet.encode(Version::V5, &mut bytes).unwrap());
    bytes
}

/// The status that a request for a WebSocket gets.
async fn upgrade_status(server: &Server, path: &str, headers: &[(&'static str, &'static str)]) -> u16 {
    let address = server.local_addresses()[0];
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    let stream = TcpStream::connect(address).await.unwrap();
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((_, response)) => response.status().as_u16(),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_websocket_frame_ends_does_not_matter_and_text_does() {
    let server = start(listener(None, Some(WebSocketConfig::default()))).await;
    let address = server.local_addresses()[0];
    let mut request = format!("ws://{address}/mqtt").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("other, mqtt"));
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut socket, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "mqtt");
    // CONNECT a byte at a time; then three packets at once, of which the last is cut off.
    let connect = Connect::new(Version::V5, Text::new("ws").unwrap());
    for byte in encoded(&[connect.into()]) {
        socket.send(Message::Binary(vec![byte].into())).await.unwrap();
    }
    socket.send(Message::Binary(encoded(&[Packet::PingReq, Packet::PingReq]).freeze())).await.unwrap();
    socket.send(Message::Ping("a".into())).await.unwrap();
    socket.send(Message::Binary(vec![0xc0].into())).await.unwrap();
    socket.send(Message::Binary(vec![0x00].into())).await.unwrap();
    let (mut input, mut decoder) = (BytesMut::new(), Decoder::new(Version::V5, 1024));
    let (mut pings, mut pongs) = (0, 0);
    while pings < 3 || pongs < 1 {
        match timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap() {
            Message::Binary(bytes) => input.extend_from_slice(&bytes),
            Message::Pong(_) => pongs += 1,
            other => panic!("{other:?}"),
        }
        while let Some(packet) = decoder.decode(&mut input).unwrap() {
            pings += usize::from(packet == Packet::PingResp);
        }
    }
    socket.send(Message::Text("text".into())).await.unwrap();
    let ended = async { while socket.next().await.is_some_and(|message| message.is_ok()) {} };
    timeout(PATIENCE, ended).await.expect("text ends the connection");

    let mqtt = ("sec-websocket-protocol", "mqtt");
    assert_eq!(upgrade_status(&server, "/mqtt", &[mqtt]).await, 101);
    assert_eq!(upgrade_status(&server, "/other", &[mqtt]).await, 404);
    assert_eq!(upgrade_status(&server, "/mqtt", &[]).await, 400);
    assert_eq!(upgrade_status(&server, "/mqtt", &[mqtt, ("origin", "https://evil.example")]).await, 403);
    assert_eq!(upgrade_status(&server, "/mqtt", &[mqtt, ("origin", "http://localhost:8080")]).await, 101);
    server.shutdown().await;
}

/// Connections that say nothing, or never stop before their CONNECT is whole.
async fn half_open(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.local_addresses()[0]).await.unwrap();
    stream.write_all(&[0x10]).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_dawdle_make_room_and_the_last_place_is_waited_for() {
    let config = Config {
        listeners: vec![listener(None, None)],
        max_handshakes: 5,
        max_connections: Some(8),
        ..Config::default()
    };
    let server = Server::start(config).await.unwrap();
    let address = server.local_addresses()[0].to_string();
    let mut dawdlers = Vec::new();
    for _ in 0..20 {
        dawdlers.push(half_open(&server).await);
    }
    let mut good = Vec::new();
    for number in 0..8 {
        let options = Options { timeout: PATIENCE, ..Options::new(&format!("good-{number}")) };
        good.push(timeout(PATIENCE, Client::connect_tcp(&address, options)).await.unwrap().unwrap());
    }
    assert!(server.connection_stats().evicted > 0);
    // All places are taken by clients that have sessions: one more has to wait until one of them leaves.
    let options = Options { timeout: PATIENCE, ..Options::new("late") };
    let late = tokio::spawn(async move { Client::connect_tcp(&address, options).await });
    let alarmed = async {
        while server.alarms() != [mqtt_server::Alarm::ConnectionLimit] {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, alarmed).await.expect("an alarm");
    assert!(!late.is_finished());
    good.pop();
    assert!(timeout(PATIENCE, late).await.unwrap().unwrap().is_ok());
    drop(dawdlers);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_before_a_connect_is_bounded_in_bytes_and_time() {
    let idle_timeout = Duration::from_millis(300);
    let websocket = listener(None, Some(WebSocketConfig::default()));
    let listeners = vec![listener(None, None), websocket];
    let config = Config { listeners, max_handshake_bytes: 100_000, idle_timeout, ..Config::default() };
    let server = Server::start(config).await.unwrap();
    let closes = async |address, bytes: Vec<u8>| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server closes in the middle of it.
        let _ = stream.write_all(&bytes).await;
        let mut sink = Vec::new();
        let started = std::time::Instant::now();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut sink)).await.expect("it is closed");
        started.elapsed()
    };
    let [tcp, websocket] = server.local_addresses() else { panic!("two listeners") };
    // A CONNECT of 900,000 bytes, of which 200,000 come.
    let mut large = vec![0x10, 0xa0, 0xf7, 0x36];
    large.resize(200_000, b'x');
    closes(*tcp, large).await;
    let mut request = b"GET /mqtt HTTP/1.1\r\nX: ".to_vec();
    request.resize(200_000, b'x');
    closes(*websocket, request).await;
    assert!(closes(*tcp, vec![0x10]).await >= idle_timeout / 2, "it had its time");
    let (client, _) = Client::connect_tcp(&tcp.to_string(), Options::new("good")).await.unwrap();
    client.disconnect().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_comes_back_with_what_it_had() {
    let first = start(listener(None, None)).await;
    let address = first.local_addresses()[0];
    let broker = Broker { port: address.port(), ..Broker::new(Scheme::Mqtt, "127.0.0.1") };
    let reconnect = Reconnect { first_pause: Duration::from_millis(50), ..Reconnect::default() };
    let options = Options { reconnect: Some(reconnect), ..Options::new("faithful") };
    let (client, mut messages) = Client::open(broker, options).await.unwrap();
    client.subscribe(filter("news")).await.unwrap();
    let mut status = client.status();
    first.shutdown().await;
    let is_away = |status: &Status| matches!(status, Status::Reconnecting { .. });
    timeout(PATIENCE, status.wait_for(is_away)).await.unwrap().unwrap();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.publish(publish("news", "from before")).await }
    });
    // The same port, with a broker that knows nothing of the client.
    let listeners = vec![ListenerConfig { bind: address, ..listener(None, None) }];
    let second = Server::start(Config { listeners, ..Config::default() }).await.unwrap();
    assert!(timeout(PATIENCE, waiting).await.unwrap().unwrap().is_ok());
    assert_eq!(next(&mut messages).await.payload, "from before", "it has subscribed again");
    client.disconnect().await;
    assert_eq!(messages.next().await, Err(Error::Closed));
    second.shutdown().await;
}
