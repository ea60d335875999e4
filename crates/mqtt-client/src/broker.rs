//! Where a broker is, and the way there: TCP, TLS, WebSocket, both or neither.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use mqtt_io::tls::{self, TlsError};
use mqtt_io::websocket;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::options::ConnectError;

/// Bytes both ways, whatever carries them.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where a broker is. Can be parsed from `mqtt://host`, `mqtts://host:8883`, `ws://host:8083/mqtt`, `wss://host/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// What carries the connection.
    pub scheme: Scheme,
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path of a WebSocket.
    pub path: String,
    /// Headers that go with the request for a WebSocket.
    pub headers: Vec<(String, String)>,
    /// Whom to trust, and who to be.
    pub tls: Tls,
}

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// TCP; port 1883.
    Mqtt,
    /// TLS; port 8883.
    Mqtts,
    /// WebSocket; port 8083.
    Ws,
    /// WebSocket over TLS; port 8084.
    Wss,
}

/// TLS of a client. All files are PEM, and are read at every connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The authorities that are trusted; `None`: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// The client's certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Whether any certificate will do. Whoever is in between can then read and change everything.
    pub insecure: bool,
    /// Protocols to offer (ALPN); empty: none.
    pub alpn: Vec<String>,
}

/// Text that says no broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address of a broker: {problem}")]
pub struct BrokerError {
    text: String,
    problem: &'static str,
}

impl Scheme {
    fn has_tls(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss)
    }

    fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// The port where brokers usually have it.
    pub fn usual_port(self) -> u16 {
        match self {
            Self::Mqtt => 1883,
            Self::Mqtts => 8883,
            Self::Ws => 8083,
            Self::Wss => 8084,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mqtt => "mqtt",
            Self::Mqtts => "mqtts",
            Self::Ws => "ws",
            Self::Wss => "wss",
        })
    }
}

impl FromStr for Scheme {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "mqtt" | "tcp" => Ok(Self::Mqtt),
            "mqtts" | "ssl" | "tls" => Ok(Self::Mqtts),
            "ws" => Ok(Self::Ws),
            "wss" => Ok(Self::Wss),
            _ => Err("it begins with mqtt, mqtts, ws or wss"),
        }
    }
}

impl Broker {
    /// A broker at its usual port and path.
    pub fn new(scheme: Scheme, host: &str) -> Self {
        Self {
            scheme,
            host: host.to_owned(),
            port: scheme.usual_port(),
            path: "/mqtt".to_owned(),
            headers: Vec::new(),
            tls: Tls::default(),
        }
    }

    /// Host and port, as the network has them.
    fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Goes there, up to the point where MQTT begins.
    pub(crate) async fn dial(&self) -> Result<Box<dyn Stream>, ConnectError> {
        let network = |source| ConnectError::Network { address: self.to_string(), source };
        let socket = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(network)?;
        socket.set_nodelay(true).map_err(network)?;
        if !self.scheme.has_tls() {
            return self.upgrade(socket).await.map_err(network);
        }
        let name = ServerName::try_from(self.host.clone());
        let name = name.map_err(|error| network(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let connector = TlsConnector::from(Arc::new(self.tls.config()?));
        let stream = connector.connect(name, socket).await.map_err(network)?;
        self.upgrade(stream).await.map_err(network)
    }

    async fn upgrade<S: Stream + 'static>(&self, stream: S) -> io::Result<Box<dyn Stream>> {
        if !self.scheme.is_websocket() {
            return Ok(Box::new(stream));
        }
        Ok(Box::new(websocket::connect(stream, &self.to_string(), &self.headers).await?))
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.address())?;
        if self.scheme.is_websocket() { f.write_str(&self.path) } else { Ok(()) }
    }
}

impl FromStr for Broker {
    type Err = BrokerError;

    fn from_str(text: &str) -> Result<Self, BrokerError> {
        let error = |problem| BrokerError { text: text.to_owned(), problem };
        let (scheme, rest) = text.split_once("://").ok_or(error("it has no mqtt:// in front"))?;
        let scheme: Scheme = scheme.parse().map_err(error)?;
        let (place, path) = match rest.find('/') {
            Some(at) => (&rest[..at], &rest[at..]),
            None => (rest, ""),
        };
        if place.contains('@') {
            return Err(error("user name and password have their own place"));
        }
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or(error("a [ has no ]"))?,
            None => place.find(':').map_or((place, ""), |at| place.split_at(at)),
        };
        if host.is_empty() {
            return Err(error("it has no host"));
        }
        let mut broker = Self::new(scheme, host);
        if !port.is_empty() {
            let number = port.strip_prefix(':').and_then(|port| port.parse().ok());
            broker.port = number.ok_or(error("the port is no number from 0 to 65535"))?;
        }
        if scheme.is_websocket() {
            if !path.is_empty() {
                path.clone_into(&mut broker.path);
            }
        } else if !matches!(path, "" | "/") {
            return Err(error("only a WebSocket has a path"));
        }
        Ok(broker)
    }
}

impl Tls {
    fn config(&self) -> Result<ClientConfig, TlsError> {
        let provider = tls::provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Setting(error.to_string()))?;
        let builder = if self.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        } else {
            let roots = self.ca.as_ref().map_or_else(tls::system_roots, |path| tls::roots(path))?;
            builder.with_root_certificates(roots)
        };
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let unfit =
                    |source: rustls::Error| TlsError::Unfit { path: key.clone(), source: source.into() };
                builder
                    .with_client_auth_cert(tls::certificates(certificate)?, tls::private_key(key)?)
                    .map_err(unfit)?
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.clone().into_bytes()).collect();
        Ok(config)
    }
}

/// Takes any certificate, for those who said that they want that.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, wanted) in [
            ("mqtt://localhost", "mqtt://localhost:1883"),
            ("mqtts://broker.example/", "mqtts://broker.example:8883"),
            ("ws://127.0.0.1:80", "ws://127.0.0.1:80/mqtt"),
            ("wss://[::1]:1/a/b", "wss://[::1]:1/a/b"),
        ] {
            assert_eq!(text.parse::<Broker>().unwrap().to_string(), wanted);
        }
        for bad in
            ["localhost", "http://a", "mqtt://", "mqtt://a:b", "mqtt://a/b", "mqtt://[::1", "mqtt://u:p@a"]
        {
            assert!(bad.parse::<Broker>().is_err(), "{bad}");
        }
    }
}
