//! Access: who a connection is, and what it may do.
//!
//! A password is not looked at here, as that takes too long: it leaves as a [`Lookup`] and comes back as a
//! [`Verdict`] with the same id. What a client may publish and subscribe to is decided here, with the rules that are
//! in force at that moment.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use access::Identity;
use bytes::{Bytes, BytesMut};
use clock::Instant;
use mqtt_proto::server::ProtocolError;
use mqtt_wire::{Connect, Decoder, ReasonCode, Text, TopicFilter, TopicName};

use super::authenticate::Exchanges;
use super::{ConnectionId, Shard};
use crate::sabotage::{self, Fault};

/// A password that somebody has to look at. Never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(u64);

/// What is to be looked up; the answer goes to [`Shard::handle_verdict`].
#[derive(Clone, PartialEq, Eq)]
pub struct Lookup {
    /// Which answer belongs to it.
    pub id: LookupId,
    /// Who the client says it is.
    pub username: Text,
    /// How it proves it.
    pub password: Bytes,
}

/// The password stays out of logs.
impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookup")
            .field("id", &self.id)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// The answer to a [`Lookup`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The password is the user's.
    Accepted,
    /// It is not, or there is no such user.
    Denied,
    /// Too many passwords wait to be looked at.
    Busy,
}

/// How a connection says who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// It is part of this program, and no rule binds it.
    Trusted,
    /// It says nothing that anybody would look at: its user name, if it gives one, counts for nothing.
    Anonymous,
    /// Its user name was proved before, by a certificate.
    Proved,
    /// Its password has to be looked at.
    Password,
}

/// What becomes of a CONNECT.
#[derive(Debug)]
pub enum Opening {
    /// The connection is open.
    Open(ConnectionId),
    /// It waits for the [`Verdict`] on its password.
    Waits(LookupId),
    /// It is asked to prove who it is with these bytes, an AUTH; what it answers is for
    /// [`Shard::handle_challenged`].
    Challenged(LookupId, BytesMut),
    /// It is refused: to be closed after these bytes, the CONNACK that says so.
    Refused(Refusal, BytesMut),
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The client broke a rule of the protocol.
    #[error("{0}")]
    Protocol(ProtocolError),
    /// The client says not who it is, which it has to.
    #[error("the client has no user name, and needs one here")]
    Anonymous,
    /// The user name or the password is wrong.
    #[error("the user name or the password is wrong")]
    Credentials,
    /// The client may not publish its own will.
    #[error("the client may not publish to the topic of its will")]
    Will,
    /// Too many passwords wait to be looked at.
    #[error("too many passwords wait to be looked at")]
    Busy,
    /// The client left before it was accepted.
    #[error("the client left before it was accepted")]
    Left,
    /// The server sends its clients to another one.
    #[error("the server sends its clients elsewhere: {0}")]
    Drained(ReasonCode),
}

impl From<Refusal> for ReasonCode {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Protocol(error) => Self::from(&error),
            Refusal::Credentials => Self::BadUserNameOrPassword,
            Refusal::Anonymous | Refusal::Will => Self::NotAuthorized,
            Refusal::Busy => Self::ServerBusy,
            Refusal::Left => Self::UnspecifiedError,
            Refusal::Drained(code) => code,
        }
    }
}

/// Who a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Principal {
    Trusted,
    Client { username: Option<Text> },
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) connect: Connect,
    pub(super) decoder: Decoder,
    pub(super) is_assigned: bool,
}

/// What a shard knows of access.
#[derive(Debug, Default)]
pub(super) struct Access {
    pub(super) principals: BTreeMap<ConnectionId, Principal>,
    waiting: BTreeMap<LookupId, Waiting>,
    pub(super) exchanges: Exchanges,
    lookups: VecDeque<Lookup>,
    next_lookup: u64,
}

impl Access {
    pub(super) fn forget(&mut self, id: ConnectionId) {
        self.principals.remove(&id);
        self.exchanges.forget(id);
    }

    pub(super) fn next_id(&mut self) -> LookupId {
        self.next_lookup += 1;
        LookupId(self.next_lookup)
    }
}

impl Shard {
    /// Opens a connection with its CONNECT once it is known who it is. Everything else is as with
    /// [`Shard::handle_connect`], or [`Shard::handle_connect_assigned`] if its Client Identifier was assigned.
    pub fn admit(
        &mut self,
        now: Instant,
        mut connect: Connect,
        decoder: Decoder,
        is_assigned: bool,
        credentials: Credentials,
    ) -> Opening {
        if connect.properties.authentication_method.is_some() {
            return self.challenge(Waiting { connect, decoder, is_assigned });
        }
        let principal = match credentials {
            Credentials::Trusted => Principal::Trusted,
            Credentials::Anonymous => Principal::Client { username: None },
            Credentials::Proved => Principal::Client { username: connect.username.clone() },
            Credentials::Password => {
                let Some(username) = connect.username.clone() else {
                    return self.refused(&connect, Refusal::Anonymous);
                };
                let Some(password) = connect.password.take() else {
                    return self.refused(&connect, Refusal::Credentials);
                };
                let id = self.access.next_id();
                self.access.lookups.push_back(Lookup { id, username, password });
                self.access.waiting.insert(id, Waiting { connect, decoder, is_assigned });
                return Opening::Waits(id);
            }
        };
        self.open_as(now, principal, Waiting { connect, decoder, is_assigned }, None)
    }

    /// A password that is to be looked at.
    pub fn poll_lookup(&mut self) -> Option<Lookup> {
        self.access.lookups.pop_front()
    }

    /// Goes on with a connection whose password was looked at; `None` if nobody waits for this answer.
    pub fn handle_verdict(&mut self, now: Instant, id: LookupId, verdict: Verdict) -> Option<Opening> {
        let waiting = self.access.waiting.remove(&id)?;
        Some(match verdict {
            Verdict::Accepted => {
                let username = waiting.connect.username.clone();
                self.open_as(now, Principal::Client { username }, waiting, None)
            }
            Verdict::Denied => self.refused(&waiting.connect, Refusal::Credentials),
            Verdict::Busy => self.refused(&waiting.connect, Refusal::Busy),
        })
    }

    pub(super) fn open_as(
        &mut self,
        now: Instant,
        principal: Principal,
        waiting: Waiting,
        proof: Option<Bytes>,
    ) -> Opening {
        let Waiting { connect, decoder, is_assigned } = waiting;
        if let Some(will) = &connect.will
            && !self.is_allowed(Some(&principal), &connect.client_id, |acl, who| {
                acl.may_publish(who, &will.topic)
            })
        {
            return self.refused(&connect, Refusal::Will);
        }
        match self.open(now, connect, decoder, is_assigned, proof) {
            Ok(id) => {
                self.access.principals.insert(id, principal);
                Opening::Open(id)
            }
            Err((reason, bytes)) => Opening::Refused(reason, bytes),
        }
    }

    pub(super) fn refused(&mut self, connect: &Connect, reason: Refusal) -> Opening {
        Opening::Refused(reason, self.refuse_connect(connect, reason))
    }

    /// What begins with `$SYS/` is the server's own.
    pub(super) fn may_publish(&self, id: ConnectionId, topic: &TopicName) -> bool {
        if sabotage::is(Fault::SkippedPublishRight) {
            return true;
        }
        topic.levels().next() != Some(b"$SYS") && self.may(id, |acl, who| acl.may_publish(who, topic))
    }

    pub(super) fn may_subscribe(&self, id: ConnectionId, filter: &TopicFilter) -> bool {
        if sabotage::is(Fault::SkippedSubscribeRight) {
            return true;
        }
        self.may(id, |acl, who| acl.may_subscribe(who, filter))
    }

    fn may(&self, id: ConnectionId, ask: impl FnOnce(&access::Acl, &Identity<'_>) -> bool) -> bool {
        let Some(connection) = self.connection(id) else { return false };
        self.is_allowed(self.access.principals.get(&id), &connection.client, ask)
    }

    /// Without rules everybody may do everything. A connection of which nothing is known is nobody in particular.
    fn is_allowed(
        &self,
        principal: Option<&Principal>,
        client_id: &Text,
        ask: impl FnOnce(&access::Acl, &Identity<'_>) -> bool,
    ) -> bool {
        let acl = self.shared.acl.load();
        let Some(acl) = acl.as_deref() else { return true };
        let username = match principal {
            Some(Principal::Trusted) => return true,
            Some(Principal::Client { username }) => username.as_deref(),
            None => None,
        };
        ask(acl, &Identity { username, client_id })
    }
}
