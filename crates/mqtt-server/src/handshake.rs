//! From an accepted connection to its shard: reads CONNECT, which says whose session it is.

use std::time::Duration;

use bytes::BytesMut;
use mqtt_broker::ShardId;
use mqtt_proto::server::ProtocolError;
use mqtt_wire::{ConnAck, Connect, DecodeError, Decoder, Packet, Properties, ReasonCode, Version};
use tokio::time::timeout;

use crate::link::{Detached, Link};

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

/// Reads CONNECT and tells which shard it is for; `fallback` gets clients that have no identifier. A client that
/// breaks the rules is told so, as far as its version allows.
pub(crate) async fn read_connect(
    mut link: Link,
    max_packet_size: u32,
    idle_timeout: Duration,
    shard_of: impl Fn(&str) -> ShardId,
    fallback: ShardId,
) -> Result<(ShardId, Handoff), HandshakeError> {
    let mut decoder = Decoder::for_server(max_packet_size);
    let mut input = BytesMut::new();
    let read = read_packet(&mut link, &mut decoder, &mut input);
    let result = match timeout(idle_timeout, read).await {
        Ok(result) => result,
        Err(_) => Err(ProtocolError::ConnectTimeout.into()),
    };
    let connect = match result.and_then(|connect| Ok(check_client_id(connect)?)) {
        Ok(connect) => connect,
        Err(error) => {
            refuse(&mut link, &error).await;
            return Err(error);
        }
    };
    let needs_client_id = connect.client_id.is_empty();
    let shard = if needs_client_id { fallback } else { shard_of(&connect.client_id) };
    Ok((shard, Handoff { link: link.detach()?, connect, decoder, input, needs_client_id }))
}

async fn read_packet(
    link: &mut Link,
    decoder: &mut Decoder,
    input: &mut BytesMut,
) -> Result<Connect, HandshakeError> {
    loop {
        match decoder.decode(input).map_err(ProtocolError::from)? {
            Some(Packet::Connect(connect)) => return Ok(*connect),
            Some(_) => return Err(ProtocolError::UnexpectedPacket.into()),
            None => {}
        }
        if link.read(input).await? == 0 {
            return Err(HandshakeError::Ended);
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
async fn refuse(link: &mut Link, error: &HandshakeError) {
    let HandshakeError::Protocol(error) = error else { return };
    let version = match error {
        // The return code for this exists in MQTT 3.x, and its form is understood by all (§3.1.2.2).
        ProtocolError::Decode(DecodeError::ProtocolVersion(_)) | ProtocolError::ClientId => Version::V3_1_1,
        _ => return,
    };
    let reason_code = ReasonCode::from(error);
    let connack = ConnAck { session_present: false, reason_code, properties: Properties::default() };
    let mut out = BytesMut::new();
    if Packet::from(connack).encode(version, &mut out).is_ok() {
        // Whether it arrives is not ours to care about: the connection ends.
        let _ = link.write_all(&out).await;
    }
}
