use std::io;
use std::time::Duration;

use mqtt_proto::client::{ConnectionError, SendError};
use mqtt_wire::{Connect, EncodeError, Properties, Text, TextError, Version, Will};

/// How a client connects.
#[derive(Clone, Debug)]
pub struct Options {
    /// The version to speak.
    pub version: Version,
    /// Client Identifier; empty: the broker's choice (not in MQTT 3.1).
    pub client_id: String,
    /// Whether to begin with an empty session.
    pub clean_start: bool,
    /// Seconds that the session outlives its connection (MQTT 5.0).
    pub session_expiry_interval: Option<u32>,
    /// Seconds between signs of life; 0: none.
    pub keep_alive: u16,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Vec<u8>>,
    /// What the broker publishes when the connection is lost.
    pub will: Option<Will>,
    /// The largest packet that is accepted, in bytes.
    pub max_packet_size: u32,
    /// How long the broker may take for an answer.
    pub timeout: Duration,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The network did not let it come about.
    #[error("cannot connect to {address}: {source}")]
    Network {
        /// Where to.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The options hold something that no CONNECT can.
    #[error("the client identifier or user name cannot be sent: {0}")]
    Text(#[from] TextError),
    /// CONNECT cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The connection ended before it began.
    #[error(transparent)]
    Connection(#[from] Error),
}

/// Why the connection is over, or a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The protocol's reason.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The message cannot be sent; the connection goes on.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The network connection was lost.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The client itself has disconnected.
    #[error("the client is disconnected")]
    Closed,
}

impl Options {
    /// MQTT 5.0 with a clean session and a keep alive of 30 seconds.
    pub fn new(client_id: &str) -> Self {
        Self {
            version: Version::V5,
            client_id: client_id.to_owned(),
            clean_start: true,
            session_expiry_interval: None,
            keep_alive: 30,
            username: None,
            password: None,
            will: None,
            max_packet_size: 16 * 1024 * 1024,
            timeout: Duration::from_secs(10),
        }
    }

    pub(crate) fn connect(&self) -> Result<Connect, TextError> {
        let properties = Properties {
            session_expiry_interval: self.session_expiry_interval.filter(|_| self.version == Version::V5),
            ..Properties::default()
        };
        let username = self.username.as_deref().map(Text::new).transpose()?;
        Ok(Connect {
            clean_start: self.clean_start,
            keep_alive: self.keep_alive,
            username,
            password: self.password.clone().map(Into::into),
            will: self.will.clone().map(Box::new),
            properties,
            ..Connect::new(self.version, Text::new(&self.client_id)?)
        })
    }
}
