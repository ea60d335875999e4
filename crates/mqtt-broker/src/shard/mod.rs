//! One shard: connections come in with their CONNECT and go on by bytes.

mod admission;
mod connections;
mod deliver;
mod publish;
mod subscribe;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub use admission::{Credentials, Lookup, LookupId, Opening, Refusal, Verdict};
use bytes::{Bytes, BytesMut};
use clock::{Instant, Timers};
use foldhash::fast::FixedState;
use mqtt_proto::server::{ProtocolError, Request, ServerConnection};
use mqtt_wire::{
    Ack, Decoder, Disconnect, Packet, ReasonCode, SubscriptionOptions, Text, TopicName, Version,
};
use slab::Slab;

use crate::Shared;
use crate::client::Client;
use crate::message::Message;
use crate::routes::{Generation, ShardId, ShardSet};
use crate::stats::Stats;
use crate::subscriptions::SubscriptionTree;

/// A connection of a shard. Never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    slot: usize,
    epoch: u64,
}

/// What is to be written to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The bytes; may be empty.
    pub bytes: Bytes,
    /// Whether the connection is to be closed after them.
    pub close: bool,
}

/// What one shard tells another.
#[derive(Clone, Debug)]
pub enum PeerMessage {
    /// A message that interests a client there.
    Publish(Arc<Message>),
}

/// A connection that ended, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whose it was.
    pub client_id: Text,
    /// Why.
    pub reason: EndReason,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// The client said goodbye.
    #[error("the client disconnected: {0}")]
    Client(ReasonCode),
    /// The network connection was lost.
    #[error("the connection was lost")]
    Lost,
    /// Another connection has the same Client Identifier now.
    #[error("another connection took over the session")]
    TakenOver,
    /// The client broke a rule.
    #[error("{0}")]
    Protocol(ProtocolError),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Shutdown,
    /// The client does not read what it gets.
    #[error("the client does not read its acknowledgments")]
    SlowConsumer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    KeepAlive(ConnectionId),
    /// A session's end, or its delayed will.
    Session(u64),
}

#[derive(Debug)]
struct Connection {
    epoch: u64,
    client: Text,
    proto: ServerConnection,
    decoder: Decoder,
    out: BytesMut,
    is_dirty: bool,
    is_closing: bool,
}

/// Entries of the route cache. A publisher of more topics than that looks some up again.
const ROUTE_CACHE: usize = 10_000;

/// A shard of the broker.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    shared: Arc<Shared>,
    connections: Slab<Connection>,
    next_epoch: u64,
    clients: BTreeMap<Text, Client>,
    subscriptions: SubscriptionTree<Text, SubscriptionOptions>,
    route_cache: std::collections::HashMap<TopicName, (ShardSet, Generation), FixedState>,
    timers: Timers<Timer>,
    /// Sessions without a connection, by the number of their timer.
    expiring: BTreeMap<u64, Text>,
    expiring_numbers: BTreeMap<Text, u64>,
    next_expiring: u64,
    dirty: VecDeque<ConnectionId>,
    peers: Vec<Vec<PeerMessage>>,
    ended: VecDeque<Ended>,
    stats: Stats,
    next_assigned: u64,
    access: admission::Access,
}

impl Shard {
    /// Shard number `id` of the broker that `shared` makes.
    pub fn new(id: ShardId, shared: Arc<Shared>) -> Self {
        let peers = (0..shared.shards()).map(|_| Vec::new()).collect();
        Self {
            id,
            shared,
            connections: Slab::new(),
            next_epoch: 0,
            clients: BTreeMap::new(),
            subscriptions: SubscriptionTree::default(),
            route_cache: std::collections::HashMap::default(),
            timers: Timers::new(),
            expiring: BTreeMap::new(),
            expiring_numbers: BTreeMap::new(),
            next_expiring: 0,
            dirty: VecDeque::new(),
            peers,
            ended: VecDeque::new(),
            stats: Stats::default(),
            next_assigned: 0,
            access: admission::Access::default(),
        }
    }

    /// A Client Identifier that is free and belongs to this shard, for a client that has none (§3.1.3.1). `random`
    /// keeps others from guessing it.
    pub fn assign_client_id(&mut self, random: u64) -> Text {
        loop {
            self.next_assigned += 1;
            let id = format!("trellis-{random:016x}-{:x}", self.next_assigned);
            if self.shared.shard_of(&id) == self.id
                && let Ok(id) = Text::new(&id)
                && !self.clients.contains_key(&id)
            {
                return id;
            }
        }
    }

    /// Takes what a client sent. Bytes of a packet that is not whole stay in `input`.
    pub fn handle_bytes(&mut self, now: Instant, id: ConnectionId, input: &mut BytesMut) {
        loop {
            let Some(connection) = self.connection_mut(id).filter(|connection| !connection.is_closing) else {
                // What a client sends after its end is not read.
                input.clear();
                return;
            };
            let request = match connection.decoder.decode(input) {
                Ok(None) => return,
                Ok(Some(packet)) => connection.proto.handle_packet(now, packet),
                Err(error) => Err(error.into()),
            };
            match request {
                Ok(request) => self.handle_request(now, id, request),
                Err(error) => self.fail(now, id, error),
            }
        }
    }

    /// Takes note that a connection is gone.
    pub fn handle_closed(&mut self, now: Instant, id: ConnectionId) {
        self.close(now, id, EndReason::Lost);
        self.remove(id);
    }

    /// Takes what other shards sent.
    pub fn handle_peer(&mut self, now: Instant, messages: Vec<PeerMessage>) {
        for PeerMessage::Publish(message) in messages {
            self.deliver(now, &message);
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop_expired(now) {
            match timer {
                Timer::KeepAlive(id) => self.check_keep_alive(now, id),
                Timer::Session(number) => self.check_session(now, number),
            }
        }
    }

    /// When [`Shard::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// What is to be written next, at most once for each connection that has something.
    pub fn poll_transmit(&mut self) -> Option<(ConnectionId, Output)> {
        loop {
            let id = self.poll_dirty()?;
            if let Some(output) = self.take_output(id) {
                return Some((id, output));
            }
        }
    }

    /// A connection that has something to be written. For hosts that leave it here until the connection can
    /// take it.
    pub fn poll_dirty(&mut self) -> Option<ConnectionId> {
        self.dirty.pop_front()
    }

    /// What is to be written to a connection; `None` when it is gone.
    pub fn take_output(&mut self, id: ConnectionId) -> Option<Output> {
        let connection = self.connection_mut(id)?;
        connection.is_dirty = false;
        Some(Output { bytes: connection.out.split().freeze(), close: connection.is_closing })
    }

    /// A batch for another shard.
    pub fn poll_peer(&mut self) -> Option<(ShardId, Vec<PeerMessage>)> {
        let peer = self.peers.iter().position(|batch| !batch.is_empty())?;
        Some((peer, std::mem::take(&mut self.peers[peer])))
    }

    /// Whether anything waits for another shard.
    pub fn has_outgoing(&self) -> bool {
        self.peers.iter().any(|batch| !batch.is_empty())
    }

    /// A connection that ended.
    pub fn poll_ended(&mut self) -> Option<Ended> {
        self.ended.pop_front()
    }

    /// What it has done and holds.
    pub fn stats(&self) -> Stats {
        let (connections, sessions) = (self.connections.len() as u64, self.clients.len() as u64);
        Stats { connections, sessions, ..self.stats }
    }

    /// Ends every connection, telling clients of MQTT 5.0 why.
    pub fn shutdown(&mut self, now: Instant) {
        let open: Vec<ConnectionId> = self
            .connections
            .iter()
            .map(|(slot, connection)| ConnectionId { slot, epoch: connection.epoch })
            .collect();
        for id in open {
            self.disconnect(now, id, ReasonCode::ServerShuttingDown, EndReason::Shutdown);
        }
    }

    fn handle_request(&mut self, now: Instant, id: ConnectionId, request: Request) {
        match request {
            Request::Publish(publish) => self.handle_publish(now, id, *publish),
            Request::PubAck(ack) => {
                // An acknowledgment of nothing is no reason to end a connection (§4.4).
                self.with_client(id, |client| client.outbound.handle_puback(ack.packet_id).is_ok());
                self.pump(now, id);
            }
            Request::PubRec(ack) => self.handle_pubrec(now, id, &ack),
            Request::PubRel(ack) => {
                let is_known = self.with_client(id, |client| client.inbound.handle_pubrel(ack.packet_id));
                let reason = match is_known {
                    Some(true) => ReasonCode::Success,
                    _ => ReasonCode::PacketIdentifierNotFound,
                };
                self.send(now, id, &Packet::PubComp(Ack::with_reason(ack.packet_id, reason)));
            }
            Request::PubComp(ack) => {
                self.with_client(id, |client| client.outbound.handle_pubcomp(ack.packet_id).is_ok());
                self.pump(now, id);
            }
            Request::Subscribe(subscribe) => self.handle_subscribe(now, id, subscribe),
            Request::Unsubscribe(unsubscribe) => self.handle_unsubscribe(now, id, &unsubscribe),
            Request::PingReq => self.send(now, id, &Packet::PingResp),
            Request::Disconnect(disconnect) => self.handle_disconnect(now, id, &disconnect),
        }
    }

    /// Sends a packet of the server's own. These few bytes are not subject to the client's Maximum Packet Size
    /// in practice; a client that does not even read them is closed.
    fn send(&mut self, now: Instant, id: ConnectionId, packet: &Packet) {
        let most = self.shared.limits.max_out_buffer;
        let Some(connection) = self.connection_mut(id) else { return };
        if connection.is_closing {
            return;
        }
        let version = connection.proto.version();
        // Acknowledgments and PINGRESP are always small enough to be written.
        let _ = packet.encode(version, &mut connection.out);
        let is_stuck = connection.out.len() > 2 * most;
        self.mark_dirty(id);
        if is_stuck && let Some(connection) = self.connection_mut(id) {
            connection.out.clear();
            self.disconnect(now, id, ReasonCode::QuotaExceeded, EndReason::SlowConsumer);
        }
    }

    fn mark_dirty(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connection_mut(id)
            && !connection.is_dirty
        {
            connection.is_dirty = true;
            self.dirty.push_back(id);
        }
    }

    fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(id.slot).filter(|connection| connection.epoch == id.epoch)
    }

    fn connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(id.slot).filter(|connection| connection.epoch == id.epoch)
    }

    /// Does something with the client of a connection, if it still has one.
    fn with_client<T>(&mut self, id: ConnectionId, work: impl FnOnce(&mut Client) -> T) -> Option<T> {
        let client_id = self.connection(id)?.client.clone();
        let client = self.clients.get_mut(&client_id)?;
        (client.connection == Some(id)).then(|| work(client))
    }

    fn fail(&mut self, now: Instant, id: ConnectionId, error: ProtocolError) {
        self.disconnect(now, id, ReasonCode::from(&error), EndReason::Protocol(error));
    }

    /// Ends a connection from this side: a client of MQTT 5.0 is told why (§4.13).
    fn disconnect(&mut self, now: Instant, id: ConnectionId, code: ReasonCode, reason: EndReason) {
        if self.connection(id).is_some_and(|connection| connection.proto.version() == Version::V5) {
            self.send(now, id, &Disconnect::new(code).into());
        }
        self.close(now, id, reason);
    }
}
