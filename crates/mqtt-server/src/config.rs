use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use journal::log::{Fsync, Options};
use mqtt_broker::Limits;

/// How a server runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect.
    pub listeners: Vec<ListenerConfig>,
    /// Shards, of which each takes a core when it is busy; `None`: one for each core.
    pub shards: Option<NonZeroUsize>,
    /// What a client may use.
    pub limits: Limits,
    /// Who may connect, and what they may do.
    pub access: AccessConfig,
    /// What outlasts a restart; `None`: nothing.
    pub durability: Option<DurabilityConfig>,
    /// How long a connection may take to send its CONNECT, everything that comes before it included.
    pub idle_timeout: Duration,
    /// Connections that may be about to send their CONNECT at the same time. When there are as many, the oldest
    /// is closed for a new one, if it has had a second.
    pub max_handshakes: usize,
    /// Bytes that all connections without a session may have sent together, before those that send more are
    /// closed.
    pub max_handshake_bytes: usize,
    /// Connections in all; `None`: as many as the system's limit of open files allows, less a reserve. When there
    /// are as many, listeners pause.
    pub max_connections: Option<usize>,
    /// How often the messages of `$SYS` are renewed; zero: there are none.
    pub sys_interval: Duration,
    /// The node's name in `$SYS/brokers/…`.
    pub node_name: String,
    /// What clients of MQTT 5.0 that ask for Response Information get.
    pub response_information: Option<String>,
}

/// Where and how sessions, their messages and retained messages are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurabilityConfig {
    /// The data directory; the log is a folder in it.
    pub data_dir: PathBuf,
    /// When what is acknowledged is on the disk.
    pub fsync: Fsync,
    /// About how large a file of the log becomes, in bytes. Space is given back a file at a time.
    pub segment_bytes: u64,
    /// Bytes that may wait in the log, of everything in it that is wanted; its files take up to twice that.
    pub max_log_bytes: u64,
}

impl DurabilityConfig {
    /// On the disk before it is acknowledged.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let Options { fsync, segment_bytes, max_live_bytes, .. } = Options::default();
        Self { data_dir: data_dir.into(), fsync, segment_bytes, max_log_bytes: max_live_bytes }
    }
}

/// An address on which clients connect.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// What logs call it.
    pub name: String,
    /// The address; with port 0 the system chooses one.
    pub bind: SocketAddr,
    /// Whether clients need no credentials. `None`: on loopback addresses only.
    pub allow_anonymous: Option<bool>,
    /// TLS, if it has it.
    pub tls: Option<TlsConfig>,
    /// WebSocket, if it has it.
    pub websocket: Option<WebSocketConfig>,
}

/// TLS of a listener. All files are PEM; they may be replaced at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate that clients get that ask for no name, or for one that no other certificate has.
    pub certificate: CertificateFiles,
    /// Certificates for other names (Server Name Indication). The names are those in the certificates.
    pub more_certificates: Vec<CertificateFiles>,
    /// The authorities whose certificates clients may have.
    pub client_ca: Option<PathBuf>,
    /// Whether a client has to have one; `None`: if `client_ca` is given.
    pub verify_client: Option<bool>,
    /// Revocation lists of these authorities. A list past its time of next update is not believed: clients whose
    /// certificates it should vouch for are refused.
    pub crl: Option<PathBuf>,
    /// The oldest version that clients may speak: `"1.2"` or `"1.3"`.
    pub min_version: String,
    /// Where a client's user name is taken from. A client that has it in its certificate needs no password.
    pub username_from: Option<CertificateField>,
    /// Where its Client Identifier is taken from, in the place of the one that it gives.
    pub client_id_from: Option<CertificateField>,
}

/// A certificate, with those that lead to its authority, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificates, the server's own first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A field of a client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateField {
    /// The Common Name of its subject.
    CommonName,
    /// Its whole subject, as `CN=…, O=…`.
    DistinguishedName,
}

/// WebSocket of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketConfig {
    /// The path at which MQTT is.
    pub path: String,
    /// Web pages that may connect, by their origin, such as `https://console.example`. `None`: all, unless the
    /// listener lets in anybody who reaches it: then those of this machine only, as every page that its user
    /// looks at reaches a loopback address too.
    pub allowed_origins: Option<Vec<String>>,
}

/// Files that say who may connect, and what they may do. They may be replaced at any time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessConfig {
    /// The users and their hashed passwords (`access::Users`).
    pub password_file: Option<PathBuf>,
    /// The rules (`access::Acl`). Without it everybody who may connect may do everything.
    pub acl_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            shards: None,
            limits: Limits::default(),
            access: AccessConfig::default(),
            durability: None,
            idle_timeout: Duration::from_secs(15),
            max_handshakes: 4_096,
            max_handshake_bytes: 64 * 1024 * 1024,
            max_connections: None,
            sys_interval: Duration::from_secs(10),
            node_name: "trellis@127.0.0.1".to_owned(),
            response_information: None,
        }
    }
}

impl ListenerConfig {
    /// A TCP listener that accepts clients without credentials if it is on loopback.
    pub fn new(name: &str, bind: SocketAddr) -> Self {
        Self { name: name.to_owned(), bind, allow_anonymous: None, tls: None, websocket: None }
    }

    pub(crate) fn accepts_anonymous(&self) -> bool {
        self.allow_anonymous.unwrap_or_else(|| self.bind.ip().is_loopback())
    }

    /// Whether certificates say who clients are.
    pub(crate) fn knows_users(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.username_from.is_some())
    }
}

impl TlsConfig {
    /// TLS 1.2 and 1.3 with one certificate, for clients without.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            certificate: CertificateFiles { certificate: certificate.into(), key: key.into() },
            more_certificates: Vec::new(),
            client_ca: None,
            verify_client: None,
            crl: None,
            min_version: "1.2".to_owned(),
            username_from: None,
            client_id_from: None,
        }
    }
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        Self { path: "/mqtt".to_owned(), allowed_origins: None }
    }
}
