//! One shard: connections come in with their CONNECT and go on by bytes.

mod admission;
mod authenticate;
mod connack;
mod connections;
mod deliver;
mod drain;
mod evacuate;
mod events;
mod output;
mod peers;
mod publish;
mod restore;
mod retained;
mod sessions;
mod share;
mod store;
mod subscribe;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

pub use admission::{Credentials, Lookup, LookupId, Opening, Refusal, Verdict};
use bytes::{Bytes, BytesMut};
use clock::{Instant, Timers};
use foldhash::fast::FixedState;
use journal::log::Position;
use mqtt_proto::server::{ProtocolError, Request, ServerConnection};
use mqtt_wire::{Ack, Decoder, Packet, ReasonCode, Text, TopicFilter, TopicName};
pub(crate) use restore::ALL_SHARDS;
pub use restore::Job;
use slab::Slab;
pub use store::Load;

use crate::Shared;
use crate::client::{Client, Delivery, Subscription};
use crate::durable::Stored;
use crate::durable::record::Record;
use crate::end::{EndReason, Ended};
use crate::lanes::{Lanes, PeerMessage};
use crate::queue::Queued;
use crate::routes::{Generation, Interest, ShardId};
use crate::sabotage;
use crate::shared::Groups;
use crate::stats::Stats;
use crate::subscriptions::SubscriptionTree;

/// A connection of a shard. Never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    slot: usize,
    epoch: NonZeroU64,
}

/// What is to be written to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The bytes; may be empty.
    pub bytes: Bytes,
    /// Whether the connection is to be closed after them.
    pub close: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    KeepAlive(ConnectionId),
    /// The next slices of retained messages for new subscriptions.
    Retained,
    /// Retained messages that expire.
    RetainedExpiry,
    /// The next part of what is copied forward in the log.
    Evacuation,
}

#[derive(Debug)]
struct Connection {
    epoch: NonZeroU64,
    client: Text,
    proto: ServerConnection,
    decoder: Decoder,
    out: BytesMut,
    /// Messages of QoS 0 that wait until `out` has room for them.
    waiting: VecDeque<Delivery>,
    waiting_bytes: usize,
    /// What waits for the log, and up to where.
    held: VecDeque<(Position, store::Held)>,
    /// Whether CONNACK was sent: nothing goes before it.
    is_open: bool,
    is_dirty: bool,
    is_closing: bool,
}

/// Who gets what matches a topic filter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subscriber {
    Client(Text),
    /// A shared subscription that this shard owns, by its whole filter.
    Group(TopicFilter),
}

/// Entries of the route cache. A publisher of more topics than that looks some up again.
const ROUTE_CACHE: usize = 10_000;

/// A shard of the broker.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    shared: Arc<Shared>,
    /// In boxes, as there is room for as many as there ever were at once.
    connections: Slab<Box<Connection>>,
    last_epoch: u64,
    /// In boxes, as a table has room for more than it holds.
    clients: BTreeMap<Text, Box<Client>>,
    subscriptions: SubscriptionTree<Subscriber, Subscription>,
    groups: Groups,
    route_cache: std::collections::HashMap<TopicName, (Interest, Generation), FixedState>,
    timers: Timers<Timer>,
    /// When something is due for sessions without a connection, as each of them knows, too ([`Client::due`]).
    due: BTreeSet<(Instant, Text)>,
    dirty: VecDeque<ConnectionId>,
    peers: Vec<Vec<PeerMessage>>,
    lanes: Lanes,
    is_draining_lanes: bool,
    /// The number of the last message to any shard.
    sent: u64,
    /// SUBACKs that wait for the owners of shared subscriptions.
    pending: BTreeMap<u64, share::PendingSubAck>,
    next_token: u64,
    /// Look-ups of retained messages for new subscriptions that are not through.
    scans: VecDeque<retained::PendingScan>,
    ended: VecDeque<Ended>,
    stats: Stats,
    next_assigned: u64,
    access: admission::Access,
    /// This shard's share of the memory that is used.
    memory: Arc<AtomicUsize>,
    memory_watch: publish::MemoryWatch,
    /// Where clients are sent instead, once the server is drained.
    drained: Option<drain::Drain>,
    store: store::Store,
    /// When something was last handled.
    now: Instant,
}

impl Shard {
    /// Shard number `id` of the broker that `shared` makes.
    pub fn new(id: ShardId, shared: Arc<Shared>) -> Self {
        let shards = shared.shards();
        let memory = shared.memory.counter(id);
        let store = store::Store::new(shared.log.clone());
        Self {
            id,
            shared,
            connections: Slab::new(),
            last_epoch: 0,
            clients: BTreeMap::new(),
            subscriptions: SubscriptionTree::default(),
            groups: Groups::default(),
            route_cache: std::collections::HashMap::default(),
            timers: Timers::new(),
            due: BTreeSet::new(),
            dirty: VecDeque::new(),
            peers: (0..shards).map(|_| Vec::new()).collect(),
            lanes: Lanes::new(shards),
            is_draining_lanes: false,
            sent: 0,
            pending: BTreeMap::new(),
            next_token: 0,
            scans: VecDeque::new(),
            ended: VecDeque::new(),
            stats: Stats::default(),
            next_assigned: 0,
            access: admission::Access::default(),
            memory,
            memory_watch: publish::MemoryWatch::default(),
            drained: None,
            store,
            now: Instant::ORIGIN,
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
        self.now = now;
        for filter in sabotage::postponed_routes(self.id) {
            self.shared.routes.insert(&filter, self.id);
        }
        loop {
            let Some(connection) = self.connection_mut(id).filter(|connection| !connection.is_closing) else {
                // What a client sends after its end is not read.
                input.clear();
                return;
            };
            let before = input.len();
            let request = match connection.decoder.decode(input) {
                Ok(None) => return,
                Ok(Some(packet)) => connection.proto.handle_packet(now, packet),
                Err(error) => Err(error.into()),
            };
            self.stats.packets_received += 1;
            self.stats.bytes_received += (before - input.len()) as u64;
            match request {
                Ok(request) => self.handle_request(now, id, request),
                Err(error) => self.fail(now, id, error),
            }
        }
    }

    /// Takes note that a connection is gone.
    pub fn handle_closed(&mut self, now: Instant, id: ConnectionId) {
        self.now = now;
        self.close(now, id, EndReason::Lost);
        self.remove(id);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.check_due_sessions(now);
        while let Some(timer) = self.timers.pop_expired(now) {
            match timer {
                Timer::KeepAlive(id) => self.check_keep_alive(now, id),
                // One slice, and others get their turn.
                Timer::Retained => return self.continue_scans(now),
                Timer::RetainedExpiry => self.expire_retained(now),
                Timer::Evacuation => return self.evacuate_some(now),
            }
        }
    }

    /// When [`Shard::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.due.first().map(|(at, _)| *at);
        self.timers.next().into_iter().chain(due).min()
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
        let (subscriptions, shared_subscriptions) =
            self.clients.values().fold((0, 0), |(all, shared), client| {
                (all + client.subscriptions.len() as u64, shared + u64::from(client.shared))
            });
        Stats { connections, sessions, subscriptions, shared_subscriptions, ..self.stats }
    }

    fn handle_request(&mut self, now: Instant, id: ConnectionId, request: Request) {
        match request {
            Request::Publish(publish) => self.handle_publish(now, id, *publish),
            Request::PubAck(ack) => {
                // An acknowledgment of nothing is no reason to end a connection (§4.4).
                let acknowledged = self
                    .with_client(id, |client| client.outbound.handle_puback(ack.packet_id).ok().flatten());
                self.finish_sent(id, acknowledged.flatten().as_ref());
                self.pump(now, id);
            }
            Request::PubRec(ack) => self.handle_pubrec(now, id, &ack),
            Request::PubRel(ack) => {
                let is_known = self.with_client(id, |client| client.inbound.handle_pubrel(ack.packet_id));
                let reason = match is_known {
                    Some(true) => ReasonCode::Success,
                    _ => ReasonCode::PacketIdentifierNotFound,
                };
                self.record_exchange(id, |client| Record::Released { client, packet_id: ack.packet_id });
                self.answer_for_all(now, id, Packet::PubComp(Ack::with_reason(ack.packet_id, reason)));
            }
            Request::PubComp(ack) => {
                self.with_client(id, |client| client.outbound.handle_pubcomp(ack.packet_id).is_ok());
                self.record_exchange(id, |client| Record::Completed { client, packet_id: ack.packet_id });
                self.pump(now, id);
            }
            Request::Subscribe(subscribe) => self.handle_subscribe(now, id, subscribe),
            Request::Unsubscribe(unsubscribe) => self.handle_unsubscribe(now, id, &unsubscribe),
            Request::PingReq => self.send(now, id, Packet::PingResp),
            Request::Auth(auth) => self.handle_auth(now, id, auth),
            Request::Disconnect(disconnect) => self.handle_disconnect(now, id, &disconnect),
        }
    }

    fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections
            .get(id.slot)
            .map(|connection| &**connection)
            .filter(|connection| connection.epoch == id.epoch)
    }

    fn connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections
            .get_mut(id.slot)
            .map(|connection| &mut **connection)
            .filter(|connection| connection.epoch == id.epoch)
    }

    /// Does something with the client of a connection, if it still has one.
    fn with_client<T>(&mut self, id: ConnectionId, work: impl FnOnce(&mut Client) -> T) -> Option<T> {
        let client_id = self.connection(id)?.client.clone();
        let client = self.clients.get_mut(&client_id)?;
        (client.connection == Some(id)).then(|| work(client))
    }

    /// Writes down a step of an exchange of QoS 2, if the session outlasts a restart.
    fn record_exchange(&mut self, id: ConnectionId, record: impl FnOnce(Text) -> Record) {
        let Some(client_id) = self.connection(id).map(|connection| connection.client.clone()) else { return };
        if self.with_client(id, |client| client.is_durable) == Some(true) {
            self.record(&record(client_id));
        }
    }

    /// A delivery on this connection is over.
    fn finish_delivery(&mut self, id: ConnectionId, delivery: &Delivery) {
        self.finish_on(id, delivery.stored.as_ref(), delivery.group.as_ref());
    }

    /// The same for what was sent, and not over by then.
    fn finish_sent(&mut self, id: ConnectionId, sent: Option<&Queued>) {
        self.finish_on(id, sent.and_then(Queued::stored), sent.and_then(Queued::group));
    }

    fn finish_on(&mut self, id: ConnectionId, stored: Option<&Stored>, group: Option<&TopicFilter>) {
        let Some(stored) = stored else { return };
        let Some(client_id) = self.connection(id).map(|connection| connection.client.clone()) else { return };
        self.finish(&client_id, Some(stored), group);
    }

    fn fail(&mut self, now: Instant, id: ConnectionId, error: ProtocolError) {
        self.disconnect(now, id, ReasonCode::from(&error), EndReason::Protocol(error));
    }
}
