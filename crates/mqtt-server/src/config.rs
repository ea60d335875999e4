use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

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
    /// How long a connection may take to send its CONNECT.
    pub idle_timeout: Duration,
    /// Connections that may be about to send their CONNECT at the same time.
    pub max_handshakes: usize,
}

/// An address on which clients connect.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// What logs call it.
    pub name: String,
    /// The address; with port 0 the system chooses one.
    pub bind: SocketAddr,
    /// Whether clients need no credentials. `None`: on loopback addresses only. As there are no credentials
    /// yet, a listener that asks for them does not start.
    pub allow_anonymous: Option<bool>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            shards: None,
            limits: Limits::default(),
            idle_timeout: Duration::from_secs(15),
            max_handshakes: 1_024,
        }
    }
}

impl ListenerConfig {
    /// A listener that accepts clients without credentials if it is on loopback.
    pub fn new(name: &str, bind: SocketAddr) -> Self {
        Self { name: name.to_owned(), bind, allow_anonymous: None }
    }

    pub(crate) fn accepts_anonymous(&self) -> bool {
        self.allow_anonymous.unwrap_or_else(|| self.bind.ip().is_loopback())
    }
}
