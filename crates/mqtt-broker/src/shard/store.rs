//! The shard and the log: what is written down, and what waits until it is durable.
//!
//! A record is appended in memory and has its place at once. An answer that promises something waits in its connection's
//! `held` until the log is durable up to the last record that it rests on ([`Shard::handle_durable`]). Messages that are in
//! the log only are asked for ([`Shard::poll_load`]) and come back ([`Shard::handle_loaded`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::BytesMut;
use clock::Instant;
use journal::log::{Appended, Log, Position};
use mqtt_wire::{Packet, PacketId, QoS, ReasonCode, Text, TopicFilter};

use super::deliver::Shapes;
use super::{ConnectionId, Shard};
use crate::Shared;
use crate::client::{Client, Delivery};
use crate::durable::Stored;
use crate::durable::record::{self, MessageId, MessageRecord, Record, SessionRecord, Whole};
use crate::message::Message;
use crate::overflow::{Blocks, Overflow};
use crate::queue::{Queued, READ_AHEAD};
use crate::routes::ShardSet;
use crate::sabotage::{self, Fault};

/// What a shard knows of the log.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) log: Option<Arc<Log>>,
    /// Whether records were lost before this run.
    pub(super) is_damaged: bool,
    /// Where long queues go.
    pub(super) overflow: Option<Arc<Overflow>>,
    /// Where records are put together.
    scratch: BytesMut,
    /// Up to where everything is durable, as far as this shard was told.
    durable: Position,
    /// The end of the last record of this shard.
    pub(super) last: Position,
    /// The end of the last one that was appended later.
    later: Position,
    /// Messages of QoS 2 that go onward when their receipts are durable.
    unrouted: VecDeque<Unrouted>,
    /// Connections with answers that wait, by what these wait for.
    gates: VecDeque<(Position, ConnectionId)>,
    loads: VecDeque<Load>,
    /// The durable members of shared subscriptions that this shard owns.
    members: BTreeMap<TopicFilter, BTreeSet<Text>>,
    pub(super) evacuation: super::evacuate::Evacuation,
}

#[derive(Debug)]
struct Unrouted {
    end: Position,
    message: Arc<Message>,
    stored: Stored,
    owed: ShardSet,
}

/// What waits for the log.
#[derive(Debug)]
pub(super) enum Held {
    Packet(Box<Packet>),
    /// A PUBLISH of QoS 2.
    Publish {
        packet_id: PacketId,
        delivery: Box<Delivery>,
        dup: bool,
    },
}

/// Records that are to be read from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    whose: Whose,
    /// Where they are.
    pub positions: Vec<Position>,
    /// Whether they are to be copied forward, not sent.
    is_for_copy: bool,
}

/// For whom something waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Client(Text),
    Group(TopicFilter),
}

impl Load {
    pub(super) fn of(whose: Whose, positions: Vec<Position>) -> Self {
        Self { whose, positions, is_for_copy: false }
    }

    pub(super) fn for_copy(whose: Whose, positions: Vec<Position>) -> Self {
        Self { whose, positions, is_for_copy: true }
    }
}

impl Store {
    pub(super) fn new(log: Option<Arc<Log>>) -> Self {
        let durable = log.as_ref().map_or(Position::default(), |log| log.durable());
        Self { log, durable, ..Self::default() }
    }

    /// Whether the log holds as much as it may.
    pub(super) fn is_full(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.is_full())
    }
}

/// A shard that ends, or breaks down, lets go of claims on what is wanted after the next start.
impl Drop for Shard {
    fn drop(&mut self) {
        if let Some(log) = &self.store.log {
            log.keep_all();
        }
        if let Some(overflow) = &self.store.overflow {
            overflow.close();
        }
    }
}

impl Shard {
    /// Has queues whose messages the log has take no memory: instead, a few bytes for each message go to `blocks`.
    /// Comes before all else.
    #[must_use]
    pub fn with_overflow(mut self, blocks: Box<dyn Blocks>) -> Self {
        self.store.overflow = Some(Overflow::new(blocks));
        self
    }

    /// Appends a record; `None` without a log.
    pub(super) fn record(&mut self, record: &Record) -> Option<Appended> {
        self.append(record, Log::append)
    }

    /// Appends that somebody is through with a message. Nobody waits for that; after a crash the message may come again,
    /// as one of QoS 1 may, and what QoS 2 has to remember is in records of its own.
    pub(super) fn record_done(&mut self, record: &Record) {
        if let Some(appended) = self.append(record, Log::append_later) {
            self.store.later = appended.end;
        }
    }

    fn append(&mut self, record: &Record, append: fn(&Log, &[u8]) -> Appended) -> Option<Appended> {
        let log = self.store.log.as_ref()?;
        self.store.scratch.clear();
        record.encode(&mut self.store.scratch);
        let appended = append(log, &self.store.scratch);
        self.store.last = appended.end;
        Some(appended)
    }

    /// Appends a message.
    pub(super) fn store_message(
        &mut self,
        message: &Message,
        receipt: Option<PacketId>,
        owed: ShardSet,
        version: u64,
    ) -> Option<Stored> {
        self.store.log.as_ref()?;
        let is_durable = |id: &Text| self.clients.get(id).is_some_and(|client| client.is_durable);
        // A session that does not outlast a restart sends nothing again after it.
        let receipt = receipt.filter(|_| is_durable(&message.publisher));
        let appended = self.record(&Record::Message(Box::new(MessageRecord {
            copy_of: None,
            publisher: message.publisher.clone(),
            receipt: receipt.filter(|_| !sabotage::is(Fault::ReceiptNotStored)),
            shards: owed.bits(),
            of_shards: u8::try_from(self.shared.shards()).unwrap_or(u8::MAX),
            version,
            expires_ms: message.expires.map_or(0, |at| self.to_unix_ms(at)),
            publish: record::to_publish(message),
        })))?;
        Some(Stored { id: appended.hold.position().0, hold: appended.hold })
    }

    /// Writes down that a message of QoS 2 is retained from now on.
    pub(super) fn record_retained(&mut self, message: &Message, id: MessageId, version: u64) {
        self.record(&match message.payload.is_empty() {
            true => Record::Deleted { id, version, topic: message.topic.clone() },
            false => Record::Retained { id, version },
        });
    }

    /// A message of QoS 2 that goes onward when the log has it.
    pub(super) fn route_when_durable(&mut self, message: Arc<Message>, stored: Stored, owed: ShardSet) {
        let end = self.store.last;
        self.store.unrouted.push_back(Unrouted { end, message, stored, owed });
    }

    /// Goes on with what has waited for the log.
    pub fn handle_durable(&mut self, now: Instant) {
        self.now = now;
        let Some(log) = &self.store.log else { return };
        let durable = log.durable();
        self.store.durable = durable;
        while self.store.unrouted.front().is_some_and(|unrouted| unrouted.end <= durable)
            && let Some(Unrouted { message, stored, owed, .. }) = self.store.unrouted.pop_front()
        {
            self.forward(now, &message, Some((stored, owed)));
        }
        while self.store.gates.front().is_some_and(|(until, _)| *until <= durable)
            && let Some((_, id)) = self.store.gates.pop_front()
        {
            self.release(now, id);
        }
        self.look_for_evacuation(now);
    }

    /// Sends a packet that promises what is in the log up to `until`, and after all that waits already.
    pub(super) fn answer(&mut self, now: Instant, id: ConnectionId, until: Position, packet: Packet) {
        self.hold_back(now, id, until, Held::Packet(Box::new(packet)));
    }

    /// The same for all that this shard has written, if the session outlasts a restart: nothing of others is in the
    /// log, and what waits on this connection goes first anyway.
    pub(super) fn answer_for_all(&mut self, now: Instant, id: ConnectionId, packet: Packet) {
        let is_durable = self.with_client(id, |client| client.is_durable) == Some(true);
        let until = if is_durable { self.store.last } else { Position::default() };
        self.hold_back(now, id, until, Held::Packet(Box::new(packet)));
    }

    pub(super) fn hold_back(&mut self, now: Instant, id: ConnectionId, until: Position, held: Held) {
        let is_of_later = until == self.store.later;
        let is_durable = until <= self.store.durable || sabotage::is(Fault::AckBeforeSync);
        let Some(connection) = self.connection_mut(id).filter(|connection| !connection.is_closing) else {
            return;
        };
        if is_durable && connection.held.is_empty() {
            return self.send_held(now, id, held);
        }
        let until = connection.held.back().map_or(until, |(last, _)| until.max(*last));
        connection.held.push_back((until, held));
        // In the order of the log, as this shard's records are.
        let until = self.store.gates.back().map_or(until, |(last, _)| until.max(*last));
        self.store.gates.push_back((until, id));
        if let Some(log) = self.store.log.as_ref().filter(|_| is_of_later) {
            log.hurry();
        }
    }

    fn release(&mut self, now: Instant, id: ConnectionId) {
        let durable = self.store.durable;
        while let Some(connection) = self.connection_mut(id)
            && connection.held.front().is_some_and(|(until, _)| *until <= durable)
            && let Some((_, held)) = connection.held.pop_front()
        {
            self.send_held(now, id, held);
        }
    }

    fn send_held(&mut self, now: Instant, id: ConnectionId, held: Held) {
        match held {
            Held::Packet(packet) => {
                let is_first = matches!(*packet, Packet::ConnAck(_));
                self.send(now, id, *packet);
                if is_first {
                    self.pump(now, id);
                }
            }
            Held::Publish { packet_id, delivery, dup } => {
                self.write(now, id, &delivery, Some(packet_id), dup, &mut Shapes::default());
            }
        }
    }

    /// A client is through with a message: it has it, or does not get it any more.
    pub(super) fn finish(&mut self, client_id: &Text, stored: Option<&Stored>, group: Option<&TopicFilter>) {
        let Some(stored) = stored else { return };
        let is_durable = self.clients.get(client_id).is_some_and(|client| client.is_durable);
        let (id, group) = (stored.id, group.cloned());
        if is_durable {
            self.record_done(&Record::Done { client: client_id.clone(), id, group });
        } else if let Some(group) = group {
            self.record_done(&Record::GroupDone { id, group });
        }
    }

    pub(super) fn finish_all(&mut self, client_id: &Text, all: &[Queued]) {
        for queued in all {
            self.finish(client_id, queued.stored(), queued.group());
        }
    }

    /// Writes a session down: its connection and its will, or all of it but its queue.
    pub(super) fn record_session(&mut self, now: Instant, client_id: &Text, is_whole: bool) {
        let now_ms = self.to_unix_ms(now);
        let Some(client) = self.clients.get(client_id).filter(|_| self.store.log.is_some()) else { return };
        let record = Record::Session(Box::new(SessionRecord {
            client: client_id.clone(),
            expiry: client.expiry(),
            left_ms: match client.connection {
                Some(_) => 0,
                None => client.ends_at.map_or(now_ms, |at| {
                    self.to_unix_ms(at)
                        .saturating_sub(u64::try_from(client.expiry().as_millis()).unwrap_or(u64::MAX))
                }),
            },
            will: client.will.as_ref().map(|will| will.will.clone()),
            whole: is_whole.then(|| whole(client)),
        }));
        let appended = self.record(&record);
        if let (true, Some(appended), Some(client)) = (is_whole, appended, self.clients.get_mut(client_id)) {
            client.record = Some(appended.hold);
        }
    }

    /// A session has a connection now: it is written down if it, or its will, has to outlast a restart.
    pub(super) fn record_opened(&mut self, now: Instant, client_id: &Text) {
        let has_log = self.store.log.is_some();
        let Some(client) = self.clients.get_mut(client_id).filter(|_| has_log) else { return };
        let is_durable = !client.expiry().is_zero();
        let was_durable = std::mem::replace(&mut client.is_durable, is_durable);
        let has_record = client.record.is_some();
        if is_durable || client.will.is_some() {
            self.record_session(now, client_id, !has_record || !was_durable);
        } else if has_record {
            client.record = None;
            self.record(&Record::Ended { client: client_id.clone() });
        }
        if is_durable != was_durable {
            self.change_durability(client_id, is_durable);
        }
    }

    /// Has the messages of a session's subscriptions be stored from now on, or not any more.
    pub(super) fn change_durability(&mut self, client_id: &Text, is_durable: bool) {
        let Some(client) = self.clients.get(client_id) else { return };
        let filters: Vec<_> = client
            .subscriptions
            .iter()
            .map(|(filter, subscription)| (filter.clone(), *subscription))
            .collect();
        for (filter, subscription) in filters {
            if filter.share().is_some() {
                self.join(filter, client_id.clone(), 0);
            } else if subscription.options.qos > QoS::AtMostOnce {
                self.count_durable(&filter, is_durable);
            }
        }
    }

    /// A filter has one durable subscriber more here, or one less.
    pub(super) fn count_durable(&mut self, filter: &TopicFilter, is_more: bool) {
        if is_more {
            self.shared.routes.insert_durable(filter, self.id);
        } else {
            self.shared.routes.remove_durable(filter, self.id);
        }
    }

    /// The owner of a shared subscription: whether a member of it outlasts a restart.
    pub(super) fn count_member(&mut self, group: &TopicFilter, client: &Text, is_durable: bool) {
        if self.store.log.is_none() {
            return;
        }
        let Some(filter) = crate::shared::inner_filter(group) else { return };
        let members = self.store.members.entry(group.clone()).or_default();
        let before = !members.is_empty();
        if is_durable {
            members.insert(client.clone());
        } else {
            members.remove(client);
        }
        let after = !members.is_empty();
        if !after {
            self.store.members.remove(group);
        }
        if before != after {
            self.count_durable(&filter, after);
        }
    }

    pub(super) fn is_durable_group(&self, group: &TopicFilter) -> bool {
        self.store.members.contains_key(group)
    }

    /// Records that are to be read.
    pub fn poll_load(&mut self) -> Option<Load> {
        self.store.loads.pop_front()
    }

    /// Asks for what a client is to get next, if the log has it.
    pub(super) fn load_more(&mut self, client_id: &Text) {
        let Some(client) = self.clients.get_mut(client_id).filter(|client| !client.is_loading) else {
            return;
        };
        let mut positions = client.next_to_resend(READ_AHEAD);
        if positions.is_empty() {
            positions = client.queue.next_to_load();
            self.stats.dropped_unreachable += client.queue.take_unreachable() as u64;
        }
        if !positions.is_empty() {
            client.is_loading = true;
            self.request_load(Load::of(Whose::Client(client_id.clone()), positions));
        }
    }

    pub(super) fn request_load(&mut self, load: Load) {
        self.store.loads.push_back(load);
    }

    /// What was read: for each position the record, or `None` if it cannot be read any more.
    pub fn handle_loaded(&mut self, now: Instant, load: Load, records: Vec<Option<Vec<u8>>>) {
        self.now = now;
        let Load { whose, positions, is_for_copy } = load;
        let messages: BTreeMap<Position, Option<Arc<Message>>> = positions
            .into_iter()
            .zip(records)
            .map(|(position, record)| (position, record.and_then(|bytes| self.message_of(&bytes))))
            .collect();
        match whose {
            _ if is_for_copy => self.copy_loaded(&whose, &messages),
            Whose::Client(client) => self.take_loaded_for_client(now, &client, messages),
            Whose::Group(group) => self.take_loaded_for_group(now, &group, messages),
        }
        self.drain_lanes(now);
    }

    fn take_loaded_for_client(
        &mut self,
        now: Instant,
        client_id: &Text,
        messages: BTreeMap<Position, Option<Arc<Message>>>,
    ) {
        let Some(client) = self.clients.get_mut(client_id) else { return };
        client.is_loading = false;
        let mut lost_sent = Vec::new();
        for (packet_id, sent) in client.outbound.messages_mut() {
            let Queued::Stored(away) = sent else { continue };
            match messages.get(&away.stored.position()) {
                None => {}
                Some(Some(message)) => sent.load(Arc::clone(message)),
                Some(None) => lost_sent.push(packet_id),
            }
        }
        let lost = client.queue.take_loaded(messages);
        let connection = client.connection;
        self.stats.dropped_damaged += lost.len() as u64;
        self.finish_all(client_id, &lost);
        self.give_up_sent(client_id, lost_sent);
        if let Some(id) = connection {
            self.pump(now, id);
        }
    }

    /// Messages that were sent cannot be read any more, and not be sent again. With QoS 2 the client may have one, and
    /// use its identifier until it gets PUBREL.
    pub(super) fn give_up_sent(&mut self, client_id: &Text, lost: Vec<PacketId>) {
        self.stats.dropped_damaged += lost.len() as u64;
        for packet_id in lost {
            let Some(client) = self.clients.get_mut(client_id) else { return };
            if client.outbound.handle_pubrec(packet_id, ReasonCode::Success).is_ok() {
                self.record(&Record::Received { client: client_id.clone(), packet_id });
            } else if let Ok(Some(sent)) = client.outbound.handle_puback(packet_id) {
                self.finish(client_id, sent.stored(), sent.group());
            }
        }
    }

    /// The message that a record holds.
    pub(super) fn message_of(&self, record: &[u8]) -> Option<Arc<Message>> {
        match Record::decode(record) {
            Ok(Record::Message(message)) => {
                Some(Arc::new(self.shared.message_of_record(*message, &self.memory)))
            }
            _ => None,
        }
    }

    pub(super) fn to_unix_ms(&self, at: Instant) -> u64 {
        let since_1970 = self.shared.settings.started + (at - Instant::ORIGIN);
        u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn at_unix_ms(&self, ms: u64) -> Instant {
        self.shared.at_unix_ms(ms)
    }
}

impl Shared {
    /// What was before this run is its beginning.
    fn at_unix_ms(&self, ms: u64) -> Instant {
        Instant::ORIGIN + Duration::from_millis(ms).saturating_sub(self.settings.started)
    }

    /// The message of a record, counted as memory that is used.
    pub(super) fn message_of_record(&self, record: MessageRecord, memory: &Arc<AtomicUsize>) -> Message {
        let expires = (record.expires_ms > 0).then(|| self.at_unix_ms(record.expires_ms));
        let mut message = Message::of_publish(Instant::ORIGIN, record.publisher, record.publish);
        message.expires = expires;
        message.charged(memory)
    }
}

fn whole(client: &Client) -> Whole {
    let is_not_stored = |sent: &Queued| sent.qos() == QoS::ExactlyOnce && sent.stored().is_none();
    let not_stored = client.outbound.messages().filter(|(_, sent)| is_not_stored(sent)).map(|(id, _)| id);
    Whole {
        subscriptions: client.subscriptions.iter().map(|(filter, x)| (filter.clone(), *x)).collect(),
        receipts: client.inbound.unreleased().collect(),
        received: client.outbound.received().chain(not_stored).collect(),
    }
}
