use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use journal::log::{Hold, Position};
use mqtt_proto::session::{Inbound, Outbound};
use mqtt_wire::{Connect, QoS, SubscriptionOptions, TopicFilter, Version, Will};
use smallvec::SmallVec;

use crate::durable::Stored;
use crate::durable::record::How;
use crate::limits::Limits;
use crate::message::Message;
use crate::overflow::{Overflow, Parcel, Sent};
use crate::queue::{Queue, Queued};
use crate::row::Row;
use crate::shard::ConnectionId;

/// A message for one client.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) message: Arc<Message>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Subscription Identifiers of the subscriptions that it is for (§3.3.4).
    pub(crate) identifiers: SmallVec<[u32; 1]>,
    /// The shared subscription that it is for.
    pub(crate) group: Option<TopicFilter>,
    /// Where the log has it: the client, or its group, gets it even after a restart.
    pub(crate) stored: Option<Stored>,
}

impl Delivery {
    /// A message of QoS 1 or 2 that whoever of a group gets it has to get.
    pub(crate) fn for_group(message: &Arc<Message>, stored: Option<Stored>) -> Self {
        let How { qos, retain, identifiers } = How::for_group();
        Self { message: Arc::clone(message), qos, retain, identifiers, group: None, stored }
    }
}

/// A subscription of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) options: SubscriptionOptions,
    /// Subscription Identifier (§3.8.2.1.2).
    pub(crate) identifier: Option<u32>,
}

/// A will, and when it is published (§3.1.3.2.2), once the connection is gone.
#[derive(Debug)]
pub(crate) struct ClientWill {
    pub(crate) will: Will,
    pub(crate) at: Option<Instant>,
}

/// A client: its session (§4.1), and its connection while it has one.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) outbound: Outbound<Queued>,
    /// While it is away: what `outbound` had, but for what is in memory.
    parcel: Option<Box<Parcel>>,
    pub(crate) inbound: Inbound,
    /// Messages of QoS 1 and 2 that wait for the window, or for the client.
    pub(crate) queue: Queue,
    pub(crate) subscriptions: Row<TopicFilter, Subscription>,
    /// How many of them are shared.
    pub(crate) shared: u32,
    /// Whether the owners of its shared subscriptions know that it has no room, and wait until it says that it has.
    pub(crate) is_busy: bool,
    /// For how many seconds the session outlives its connection.
    expiry_s: u32,
    pub(crate) will: Option<Box<ClientWill>>,
    /// When the session ends, while it has no connection.
    pub(crate) ends_at: Option<Instant>,
    /// Its last whole record in the log.
    pub(crate) record: Option<Hold>,
    /// Whether it outlasts a restart.
    pub(crate) is_durable: bool,
    /// Whether messages of its queue are being read from the log.
    pub(crate) is_loading: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            connection: None,
            outbound: Outbound::new(0),
            parcel: None,
            inbound: Inbound::default(),
            queue: Queue::default(),
            subscriptions: Row::default(),
            shared: 0,
            is_busy: false,
            expiry_s: 0,
            will: None,
            ends_at: None,
            record: None,
            is_durable: false,
            is_loading: false,
        }
    }
}

impl Client {
    /// Takes over what a CONNECT says of the session and its will. Comes after [`Client::take_up`].
    pub(crate) fn open(&mut self, connection: ConnectionId, connect: &mut Connect, limits: &Limits) {
        self.connection = Some(connection);
        self.set_expiry(session_expiry(connect, limits));
        self.will = connect.will.take().map(|will| ClientWill::new(*will));
        self.ends_at = None;
        let receive_maximum = connect.properties.receive_maximum.unwrap_or(u16::MAX);
        self.outbound.set_window(receive_maximum.min(limits.max_inflight));
        self.outbound.begin_resend();
    }

    /// Leaves to the log what it has, as the client is away.
    pub(crate) fn put_away(&mut self, overflow: Option<&Arc<Overflow>>) {
        self.queue.put_away(0, overflow);
        if let Some(overflow) = overflow.filter(|_| self.parcel.is_none()) {
            let number_of = |group: &TopicFilter| {
                let number = self.subscriptions.keys().position(|filter| filter == group)?;
                u32::try_from(number).ok()
            };
            // It may have unsubscribed.
            let is_left = |message: &Queued| message.group().is_none_or(|group| number_of(group).is_some());
            let put_away = |(id, message): (_, Option<Queued>)| {
                (id, message.map(|message| if is_left(&message) { message.put_away() } else { message }))
            };
            let sent = self.outbound.take_all().map(put_away).collect();
            let (parcel, left) = Parcel::pack(overflow, sent, number_of);
            self.parcel = parcel.map(Box::new);
            self.restore_sent(left);
        }
        self.outbound.shrink_to_fit();
    }

    /// Has what was sent and not acknowledged be known one by one again. Returns how many messages of it are out of
    /// reach until the next start.
    pub(crate) fn take_up(&mut self) -> usize {
        let Some(parcel) = self.parcel.take() else { return 0 };
        let (left, messages) = (self.outbound.take_all().collect(), parcel.len());
        let group_of = |number| self.subscriptions.keys().nth(usize::try_from(number).ok()?).cloned();
        let (sent, unreachable) = match parcel.unpack(left, group_of) {
            Ok(sent) => (sent, 0),
            Err(left) => (left, messages),
        };
        self.restore_sent(sent);
        unreachable
    }

    fn restore_sent(&mut self, sent: Vec<Sent>) {
        for (packet_id, message) in sent {
            let message = message.map(|message| {
                let qos = message.qos();
                (message, qos)
            });
            self.outbound.restore(packet_id, message);
        }
    }

    /// Whether it was sent nothing that the log has before this place.
    pub(crate) fn was_sent_from(&self, position: Position) -> bool {
        self.parcel.as_ref().is_none_or(|parcel| parcel.is_from(position))
    }

    /// Where the log has messages that have to be sent again: the next `most` of them.
    pub(crate) fn next_to_resend(&self, most: usize) -> Vec<Position> {
        if !self.outbound.has_unsent() {
            return Vec::new();
        }
        let positions = self.outbound.messages().filter_map(|(_, message)| match message {
            Queued::Stored(away) => Some(away.stored.position()),
            Queued::Here(_) => None,
        });
        positions.take(most).collect()
    }

    /// What the owners of its shared subscriptions are told: its room, or `None` while it is away.
    pub(crate) fn tell_room(&mut self) -> Option<u16> {
        let room = self.room_for_shared();
        self.is_busy = self.connection.is_some() && room == 0;
        self.connection.map(|_| u16::try_from(room).unwrap_or(u16::MAX))
    }

    /// How many messages of shared subscriptions it can take at once.
    pub(crate) fn room_for_shared(&self) -> usize {
        if self.connection.is_some() && self.queue.is_empty() { self.outbound.room() } else { 0 }
    }

    /// How long the session outlives its connection.
    pub(crate) fn expiry(&self) -> Duration {
        Duration::from_secs(self.expiry_s.into())
    }

    pub(crate) fn set_expiry(&mut self, expiry: Duration) {
        self.expiry_s = u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX);
    }

    /// When something is to be done about it, while it has no connection.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.ends_at.map(|end| self.will_at().map_or(end, |will| will.min(end)))
    }

    /// When its will is published.
    pub(crate) fn will_at(&self) -> Option<Instant> {
        self.will.as_ref().and_then(|will| will.at)
    }

    /// How long after the connection its will is published; at the latest when the session ends.
    pub(crate) fn will_delay(&self) -> Duration {
        let delay = self.will.as_ref().and_then(|will| will.will.properties.will_delay_interval).unwrap_or(0);
        Duration::from_secs(delay.into()).min(self.expiry())
    }
}

impl ClientWill {
    /// It does not keep the whole packet, or record, that it came in.
    pub(crate) fn new(will: Will) -> Box<Self> {
        let (topic, payload) = (will.topic.detached(), Bytes::copy_from_slice(&will.payload));
        Box::new(Self { will: Will { topic, payload, ..will }, at: None })
    }
}

/// How long the session of a CONNECT outlives its connection (§3.1.2.11.2; Clean Session before MQTT 5.0). As
/// sessions are in memory, "for ever" is cut to the limit that MQTT 3.x has.
fn session_expiry(connect: &Connect, limits: &Limits) -> Duration {
    let most = limits.session_expiry_interval;
    match (connect.version, connect.clean_start) {
        (Version::V5, _) => {
            let seconds = connect.properties.session_expiry_interval.unwrap_or(0);
            Duration::from_secs(seconds.into()).min(most)
        }
        (_, true) => Duration::ZERO,
        (_, false) => most,
    }
}
