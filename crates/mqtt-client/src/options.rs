use std::io;
use std::time::Duration;

use access::scram::{self, ClientExchange, ScramError};
use mqtt_io::tls::TlsError;
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
    /// Whether the password is proved by SCRAM-SHA-256 instead of sent (MQTT 5.0 §4.12); the broker has to prove that
    /// it knows it, too.
    pub scram: bool,
    /// Topics that each side may give a number in the place of their name on a connection (MQTT 5.0); 0: none.
    pub topic_alias_maximum: u16,
    /// What the broker publishes when the connection is lost.
    pub will: Option<Will>,
    /// The largest packet that is accepted, in bytes.
    pub max_packet_size: u32,
    /// How long the broker may take for an answer, and the way there.
    pub timeout: Duration,
    /// More properties of CONNECT (MQTT 5.0). Those that have a field of their own here are taken from there.
    pub properties: Properties,
    /// Whether and how a lost connection is made again; `None`: it is not. Needs [`Client::open`](crate::Client::open),
    /// which knows the way.
    pub reconnect: Option<Reconnect>,
}

/// How a lost connection is made again. The pause doubles from one attempt to the next, and is then shortened by up
/// to a half at random, so that many clients do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// The pause before the first attempt.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// Attempts without success after which it is given up; `None`: never.
    pub attempts: Option<u32>,
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
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The way to the broker took too long.
    #[error("cannot connect to {address}: it took too long")]
    Timeout {
        /// Where to.
        address: String,
    },
    /// The options hold something that no CONNECT can.
    #[error("the client identifier or user name cannot be sent: {0}")]
    Text(#[from] TextError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
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
    /// The broker does not know the password, so it is another than it seems; or it made no sense.
    #[error("the broker cannot be trusted: {0}")]
    Authentication(#[from] ScramError),
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
            scram: false,
            topic_alias_maximum: 32,
            will: None,
            max_packet_size: 16 * 1024 * 1024,
            timeout: Duration::from_secs(10),
            properties: Properties::default(),
            reconnect: None,
        }
    }

    /// CONNECT, and what is to follow where the password is proved.
    pub(crate) fn connect(&self) -> Result<(Connect, Option<ClientExchange>), ConnectError> {
        let mut properties = match self.version {
            Version::V5 => Properties {
                session_expiry_interval: self.session_expiry_interval,
                maximum_packet_size: Some(self.max_packet_size),
                topic_alias_maximum: (self.topic_alias_maximum > 0).then_some(self.topic_alias_maximum),
                ..self.properties.clone()
            },
            _ => Properties::default(),
        };
        let mut username = self.username.as_deref().map(Text::new).transpose()?;
        let mut password = self.password.clone();
        let proof = if self.scram && self.version == Version::V5 {
            let (exchange, first) = self.begin_proof()?;
            properties.authentication_method = Some(Text::new(scram::METHOD)?);
            properties.authentication_data = Some(first.into());
            (username, password) = (None, None);
            Some(exchange)
        } else {
            None
        };
        let connect = Connect {
            clean_start: self.clean_start,
            keep_alive: self.keep_alive,
            username,
            password: password.map(Into::into),
            will: self.will.clone().map(Box::new),
            properties,
            ..Connect::new(self.version, Text::new(&self.client_id)?)
        };
        Ok((connect, proof))
    }

    /// The client's side of an authentication, and its first message.
    pub(crate) fn begin_proof(&self) -> Result<(ClientExchange, Vec<u8>), ConnectError> {
        let mut random = [0; 18];
        getrandom::fill(&mut random).map_err(ConnectError::Random)?;
        let username = self.username.as_deref().unwrap_or_default();
        Ok(ClientExchange::begin(username, self.password.as_deref().unwrap_or_default(), random))
    }
}

impl Default for Reconnect {
    /// Pauses from 1 second to 1 minute, for ever.
    fn default() -> Self {
        Self { first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(60), attempts: None }
    }
}

impl Reconnect {
    /// The pause before an attempt, of which the first is number 1; `None`: it is given up. `random` is any number.
    pub(crate) fn pause(&self, attempt: u32, random: u32) -> Option<Duration> {
        if self.attempts.is_some_and(|attempts| attempt > attempts) {
            return None;
        }
        let doubled = self.first_pause.saturating_mul(1 << (attempt - 1).min(20)).min(self.longest_pause);
        Some(doubled - doubled.mul_f64(0.5 * f64::from(random) / f64::from(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end_with_the_last_attempt() {
        let reconnect = Reconnect { attempts: Some(9), ..Reconnect::default() };
        let seconds: Vec<u64> = (1..=9).filter_map(|n| Some(reconnect.pause(n, 0)?.as_secs())).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(reconnect.pause(10, 0), None);
        assert_eq!(reconnect.pause(2, u32::MAX), Some(Duration::from_secs(1)), "half of it");
        assert_eq!(Reconnect::default().pause(u32::MAX, 0), Some(Duration::from_secs(60)));
    }
}
