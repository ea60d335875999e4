//! Enhanced authentication (§4.12): a client proves that it knows its password, without sending it.
//!
//! No AUTH of the server carries a Reason String or User Properties, so there are none to leave out where they would not
//! fit ([MQTT-3.15.2-2], [MQTT-3.15.2-3]).

use std::collections::BTreeMap;

use access::scram::{self, ScramError, ServerExchange};
use bytes::{Bytes, BytesMut};
use clock::Instant;
use mqtt_proto::server::ProtocolError;
use mqtt_wire::{Auth, Packet, Properties, ReasonCode, Text, Version};

use super::admission::{LookupId, Opening, Principal, Refusal, Waiting};
use super::{ConnectionId, Shard};

/// Exchanges that wait for their client's proof.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    /// Of connections that are about to begin.
    opening: BTreeMap<LookupId, (Waiting, ServerExchange)>,
    /// Of connections that authenticate again.
    again: BTreeMap<ConnectionId, ServerExchange>,
    begun: u64,
}

impl Exchanges {
    pub(super) fn forget(&mut self, id: ConnectionId) {
        self.again.remove(&id);
    }
}

impl Shard {
    /// Begins to authenticate a client with the method of its CONNECT.
    pub(super) fn challenge(&mut self, mut waiting: Waiting) -> Opening {
        let properties = &mut waiting.connect.properties;
        let method = properties.authentication_method.clone().unwrap_or_default();
        let data = properties.authentication_data.take().unwrap_or_default();
        let most = properties.maximum_packet_size.and_then(|size| usize::try_from(size).ok());
        let (exchange, challenge) = match self.begin_exchange(&method, &data) {
            Ok(begun) => begun,
            Err(error) => return self.refused(&waiting.connect, Refusal::Protocol(error)),
        };
        let mut bytes = BytesMut::new();
        let auth = answer(ReasonCode::ContinueAuthentication, method, challenge);
        let is_written = Packet::from(auth).encode(Version::V5, &mut bytes).is_ok();
        if !is_written || most.is_some_and(|most| bytes.len() > most) {
            return self.refused(&waiting.connect, Refusal::Protocol(ProtocolError::AnswerTooLarge));
        }
        let id = self.access.next_id();
        self.access.exchanges.opening.insert(id, (waiting, exchange));
        Opening::Challenged(id, bytes)
    }

    /// Takes what a client sent that was asked to prove who it is; bytes of a packet that is not whole stay in
    /// `input`, and the answer is `None` until it is.
    pub fn handle_challenged(&mut self, now: Instant, id: LookupId, input: &mut BytesMut) -> Option<Opening> {
        let (waiting, _) = self.access.exchanges.opening.get_mut(&id)?;
        let packet = match waiting.decoder.decode(input) {
            Ok(None) => return None,
            Ok(Some(packet)) => Ok(packet),
            Err(error) => Err(ProtocolError::from(error)),
        };
        let (waiting, exchange) = self.access.exchanges.opening.remove(&id)?;
        let method = &waiting.connect.properties.authentication_method;
        let proof = match packet {
            // [MQTT-4.12.0-3], [MQTT-4.12.0-5]
            Ok(Packet::Auth(auth))
                if auth.reason_code == ReasonCode::ContinueAuthentication
                    && auth.properties.authentication_method == *method =>
            {
                finish(exchange, &auth)
            }
            Ok(Packet::Disconnect(_)) => return Some(Opening::Refused(Refusal::Left, BytesMut::new())),
            // [MQTT-3.1.2-30]
            Ok(_) => Err(ProtocolError::UnexpectedPacket),
            Err(error) => Err(error),
        };
        Some(match proof {
            Ok((username, proof)) => {
                let principal = Principal::Client { username: Some(username) };
                self.open_as(now, principal, waiting, Some(proof))
            }
            Err(error) => self.refused(&waiting.connect, Refusal::Protocol(error)),
        })
    }

    /// Forgets a client that was asked to prove who it is, and has gone.
    pub fn forget_challenged(&mut self, id: LookupId) {
        self.access.exchanges.opening.remove(&id);
    }

    /// Authenticates a client again that has a connection (§4.12.1); meanwhile it is who it was. When that fails the
    /// connection ends ([MQTT-4.12.1-2]).
    pub(super) fn handle_auth(&mut self, now: Instant, id: ConnectionId, auth: Auth) {
        match self.authenticate_again(id, auth) {
            Ok(auth) => self.send(now, id, auth.into()),
            Err(error) => self.fail(now, id, error),
        }
    }

    fn authenticate_again(&mut self, id: ConnectionId, auth: Auth) -> Result<Auth, ProtocolError> {
        let method = auth.properties.authentication_method.clone().unwrap_or_default();
        match (auth.reason_code, self.access.exchanges.again.remove(&id)) {
            (ReasonCode::ReAuthenticate, None) => {
                let data = auth.properties.authentication_data.unwrap_or_default();
                let (exchange, challenge) = self.begin_exchange(&method, &data)?;
                self.access.exchanges.again.insert(id, exchange);
                Ok(answer(ReasonCode::ContinueAuthentication, method, challenge))
            }
            (ReasonCode::ContinueAuthentication, Some(exchange)) => {
                let (username, proof) = finish(exchange, &auth)?;
                // Its subscriptions and its will are those of the user that it was.
                let principal = Principal::Client { username: Some(username) };
                if self.access.principals.get(&id) != Some(&principal) {
                    return Err(ProtocolError::Authentication);
                }
                Ok(answer(ReasonCode::Success, method, proof))
            }
            _ => Err(ProtocolError::UnexpectedPacket),
        }
    }

    fn begin_exchange(
        &mut self,
        method: &str,
        data: &[u8],
    ) -> Result<(ServerExchange, Bytes), ProtocolError> {
        let verifiers = self.shared.scram.load_full();
        let verifiers = verifiers.filter(|_| method == scram::METHOD);
        let verifiers = verifiers.ok_or(ProtocolError::AuthenticationMethod)?;
        self.access.exchanges.begun += 1;
        // Shards share the secret, so each has numbers of its own.
        let unique = (self.id as u64) << 48 | self.access.exchanges.begun;
        let (exchange, challenge) = verifiers.begin(data, unique).map_err(failed)?;
        Ok((exchange, challenge.into()))
    }
}

fn finish(exchange: ServerExchange, auth: &Auth) -> Result<(Text, Bytes), ProtocolError> {
    let data = auth.properties.authentication_data.as_deref().unwrap_or_default();
    let (username, proof) = exchange.finish(data).map_err(failed)?;
    Ok((Text::new(&username).map_err(|_| ProtocolError::Authentication)?, proof.into()))
}

fn failed(_: ScramError) -> ProtocolError {
    ProtocolError::Authentication
}

fn answer(reason_code: ReasonCode, method: Text, data: Bytes) -> Auth {
    let properties = Properties {
        authentication_method: Some(method),
        authentication_data: Some(data),
        ..Properties::default()
    };
    Auth { reason_code, properties }
}
