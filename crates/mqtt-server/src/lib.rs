//! The broker as a server: listeners, shards on threads, and an API for programs that embed it.
//!
//! Each shard is a thread with a single-threaded runtime. A connection is accepted over TCP, with TLS and WebSocket
//! if its listener has them; its CONNECT is read, and it moves to the shard that its session belongs to. Passwords are
//! hashed beside the shards. The driver carries bytes and time; all that is decided is decided in `mqtt-broker`.
//!
//! Not for: the rules of MQTT (`mqtt-wire`, `mqtt-proto`, `mqtt-broker`), who may do what (`access`), or QUIC, which
//! does not exist yet.
//!
//! ```
//! use mqtt_server::{Config, ListenerConfig, Server};
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! let listener = ListenerConfig::new("default", "127.0.0.1:0".parse().unwrap());
//! let server = Server::start(Config { listeners: vec![listener], ..Config::default() }).await.unwrap();
//! assert_ne!(server.local_addresses()[0].port(), 0);
//! server.shutdown().await;
//! # });
//! ```
#![forbid(unsafe_code)]

mod alarms;
mod backup;
mod config;
mod descriptors;
mod driver;
mod durable;
mod files;
mod handshake;
mod handshakes;
mod link;
mod listener;
mod passwords;
mod server;
mod sys;
mod transport;

pub use alarms::Alarm;
pub use backup::{ExportFailed, ImportFailed, export as export_log, import as import_log};
pub use config::{
    AccessConfig, CertificateField, CertificateFiles, Config, DurabilityConfig, ListenerConfig, TlsConfig,
    WebSocketConfig,
};
pub use durable::{Contents, LogError, Losers, check as check_log, folder as log_folder};
pub use journal::log::{Fsync, LogStats, Storage};
pub use mqtt_broker::{Limits, OnQuota, SharedStrategy, Stats};
pub use mqtt_io::tls::TlsError;
pub use mqtt_wire::QoS;
pub use passwords::AccessError;
pub use server::{ConnectionStats, Server, StartError};
