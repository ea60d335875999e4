//! From an accepted connection to its shard: reads CONNECT, which says whose session it is.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use mqtt_broker::{Credentials, ShardId};
use mqtt_proto::server::ProtocolError;
use mqtt_wire::{ConnAck, Connect, DecodeError, Decoder, Packet, Properties, ReasonCode, Text, Version};
use tokio::sync::OwnedSemaphorePermit;

use crate::link::{Detached, Link};
use crate::transport::budget::Budget;
use crate::transport::tls::Names;

/// A connection whose CONNECT has been read.
#[derive(Debug)]
pub(crate) struct Handoff {
    pub(crate) link: Detached,
    pub(crate) connect: Connect,
    pub(crate) decoder: Decoder,
    /// What came after CONNECT.
    pub(crate) input: BytesMut,
    /// Whether the shard has to make up a Client Identifier.
    pub(crate) needs_client_id: bool,
    pub(crate) credentials: Credentials,
    pub(crate) origin: Origin,
}

/// Where a connection comes from, and what it holds as long as it lasts.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The listener; `None`: a client in this process.
    pub(crate) listener: Option<Arc<str>>,
    pub(crate) peer: Option<SocketAddr>,
    /// What it may send before its session begins.
    pub(crate) budget: Arc<Budget>,
    /// Its place among the connections that there may be.
    pub(crate) slot: Option<OwnedSemaphorePermit>,
}

/// How clients of a listener say who they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) accepts_anonymous: bool,
    /// Whether there are passwords to look at.
    pub(crate) has_users: bool,
    /// Whether the client is part of this program.
    pub(crate) is_trusted: bool,
}

/// Why a connection did not come to its session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error("the connection ended before its CONNECT")]
    Ended,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What a handshake needs to know of the server.
pub(crate) struct Rules<F> {
    pub(crate) max_packet_size: u32,
    pub(crate) policy: Policy,
    pub(crate) shard_of: F,
    /// Gets clients that have no identifier.
    pub(crate) fallback: ShardId,
}

/// Reads CONNECT and tells which shard it is for. A client that breaks the rules is told so, as far as its version
/// allows.
pub(crate) async fn read_connect<F: Fn(&str) -> ShardId>(
    mut link: Link,
    names: Names,
    origin: Origin,
    rules: Rules<F>,
) -> Result<(ShardId, Handoff), HandshakeError> {
    let mut decoder = Decoder::for_server(rules.max_packet_size);
    let mut input = BytesMut::new();
    let read = read_packet(&mut link, &mut decoder, &mut input, &origin.budget).await;
    let put_names = |mut connect: Connect| {
        if let Some(client_id) = names.client_id {
            connect.client_id = client_id;
        }
        check_client_id(connect)
    };
    let mut connect = match read.and_then(|connect| Ok(put_names(connect)?)) {
        Ok(connect) => connect,
        Err(error) => {
            refuse(&mut link, decoder.version(), &error).await;
            return Err(error);
        }
    };
    let credentials = rules.policy.credentials(names.username, &mut connect);
    let needs_client_id = connect.client_id.is_empty();
    let shard = if needs_client_id { rules.fallback } else { (rules.shard_of)(&connect.client_id) };
    let link = link.detach()?;
    Ok((shard, Handoff { link, connect, decoder, input, needs_client_id, credentials, origin }))
}

impl Policy {
    /// What speaks for a client: its certificate, or its password, or nothing.
    fn credentials(self, proved: Option<Text>, connect: &mut Connect) -> Credentials {
        if self.is_trusted {
            return Credentials::Trusted;
        }
        if proved.is_some() {
            connect.username = proved;
            return Credentials::Proved;
        }
        let gives_password = self.has_users && connect.username.is_some();
        if gives_password || !self.accepts_anonymous { Credentials::Password } else { Credentials::Anonymous }
    }
}

async fn read_packet(
    link: &mut Link,
    decoder: &mut Decoder,
    input: &mut BytesMut,
    budget: &Budget,
) -> Result<Connect, HandshakeError> {
    loop {
        match decoder.decode(input).map_err(ProtocolError::from)? {
            Some(Packet::Connect(connect)) => return Ok(*connect),
            Some(_) => return Err(ProtocolError::UnexpectedPacket.into()),
            None => {}
        }
        let read = link.read(input).await?;
        if read == 0 {
            return Err(HandshakeError::Ended);
        }
        // Other links count what they read themselves, below their cryptography.
        if let Link::Tcp(_) = link {
            budget.take(read)?;
        }
    }
}

/// An empty identifier is the server's to fill, but not in MQTT 3.1, nor in 3.1.1 for a session that is to last
/// ([MQTT-3.1.3-8] there).
fn check_client_id(connect: Connect) -> Result<Connect, ProtocolError> {
    let may_be_empty = match connect.version {
        Version::V3_1 => false,
        Version::V3_1_1 => connect.clean_start,
        Version::V5 => true,
    };
    if connect.client_id.is_empty() && !may_be_empty { Err(ProtocolError::ClientId) } else { Ok(connect) }
}

/// Says in a CONNACK what is wrong, to clients that sent something like a CONNECT (§3.1.4). Others get silence.
async fn refuse(link: &mut Link, version: Option<Version>, error: &HandshakeError) {
    let HandshakeError::Protocol(error) = error else { return };
    let version = match error {
        // The return code for this exists in MQTT 3.x, and its form is understood by all (§3.1.2.2).
        ProtocolError::Decode(DecodeError::ProtocolVersion(_)) | ProtocolError::ClientId => Version::V3_1_1,
        // Before MQTT 5.0 what is malformed gets no answer ([MQTT-3.1.4-1] there).
        _ if version == Some(Version::V5) => Version::V5,
        _ => return,
    };
    let reason_code = ReasonCode::from(error);
    let connack = ConnAck { session_present: false, reason_code, properties: Properties::default() };
    let mut out = BytesMut::new();
    if Packet::from(connack).encode(version, &mut out).is_ok() {
        // Whether it arrives is not ours to care about: the connection ends.
        let _ = link.write_all(&out).await;
        let _ = link.shutdown().await;
    }
}
