use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use clock::Instant;
use journal::log::{Hold, Position};
use mqtt_proto::session::{Inbound, Outbound};
use mqtt_wire::{Connect, QoS, SubscriptionOptions, TopicFilter, Version, Will};
use smallvec::SmallVec;

use crate::durable::Stored;
use crate::durable::record::How;
use crate::limits::Limits;
use crate::message::Message;
use crate::shard::ConnectionId;

/// Messages of a queue that are in memory at most, if the log has them.
const READ_AHEAD: usize = 64;

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

/// A message that waits for its client: itself, or where the log has it.
#[derive(Clone, Debug)]
pub(crate) enum Queued {
    Here(Box<Delivery>),
    Stored(Box<Away>),
}

/// A message that is not in memory.
#[derive(Clone, Debug)]
pub(crate) struct Away {
    pub(crate) stored: Stored,
    pub(crate) how: How,
    pub(crate) size: u32,
}

impl Queued {
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Here(delivery) => delivery.message.size(),
            Self::Stored(away) => away.size as usize,
        }
    }

    pub(crate) fn stored(&self) -> Option<&Stored> {
        match self {
            Self::Here(delivery) => delivery.stored.as_ref(),
            Self::Stored(away) => Some(&away.stored),
        }
    }

    pub(crate) fn group(&self) -> Option<&TopicFilter> {
        match self {
            Self::Here(delivery) => delivery.group.as_ref(),
            Self::Stored(_) => None,
        }
    }

    /// The same with its message in the log only, if it is there. What is for a group stays, as it may have to go
    /// to somebody else.
    fn put_away(self) -> Self {
        match self {
            Self::Here(delivery) if delivery.group.is_none() => {
                let size = u32::try_from(delivery.message.size()).unwrap_or(u32::MAX);
                let (qos, retain) = (delivery.qos, delivery.retain);
                match delivery.stored.clone() {
                    Some(stored) => Self::Stored(Box::new(Away {
                        stored,
                        how: How { qos, retain, identifiers: delivery.identifiers },
                        size,
                    })),
                    None => Self::Here(delivery),
                }
            }
            other => other,
        }
    }
}

/// A subscription of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) options: SubscriptionOptions,
    /// Subscription Identifier (§3.8.2.1.2).
    pub(crate) identifier: Option<u32>,
}

/// A client: its session (§4.1), and its connection while it has one.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) outbound: Outbound<Delivery>,
    pub(crate) inbound: Inbound,
    /// Messages of QoS 1 and 2 that wait for the window, or for the client.
    pub(crate) queue: VecDeque<Queued>,
    queue_bytes: usize,
    pub(crate) subscriptions: BTreeMap<TopicFilter, Subscription>,
    /// How many of them are shared.
    pub(crate) shared: usize,
    /// Whether the owners of its shared subscriptions know that it has no room.
    pub(crate) is_busy: bool,
    /// How long the session outlives its connection.
    pub(crate) expiry: Duration,
    pub(crate) will: Option<Box<Will>>,
    /// When a delayed will is published (§3.1.3.2.2).
    pub(crate) will_at: Option<Instant>,
    /// When the session ends, while it has no connection.
    pub(crate) ends_at: Option<Instant>,
    /// Its last whole record in the log.
    pub(crate) record: Option<Hold>,
    /// Whether it outlasts a restart.
    pub(crate) is_durable: bool,
    /// Whether messages of its queue are being read from the log.
    pub(crate) is_loading: bool,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self {
            connection: None,
            outbound: Outbound::new(0),
            inbound: Inbound::default(),
            queue: VecDeque::new(),
            queue_bytes: 0,
            subscriptions: BTreeMap::new(),
            shared: 0,
            is_busy: false,
            expiry: Duration::ZERO,
            will: None,
            will_at: None,
            ends_at: None,
            record: None,
            is_durable: false,
            is_loading: false,
        }
    }

    /// Takes over what a CONNECT says of the session and its will.
    pub(crate) fn open(&mut self, connection: ConnectionId, connect: &mut Connect, limits: &Limits) {
        self.connection = Some(connection);
        self.expiry = session_expiry(connect, limits);
        self.will = connect.will.take();
        self.will_at = None;
        self.ends_at = None;
        let receive_maximum = connect.properties.receive_maximum.unwrap_or(u16::MAX);
        self.outbound.set_window(receive_maximum.min(limits.max_inflight));
        self.outbound.begin_resend();
    }

    /// Queues a message, and returns the oldest ones that were dropped for it. While its client is away, or far
    /// behind, a message that the log has stays there.
    pub(crate) fn enqueue(&mut self, delivery: Delivery, limits: &Limits) -> Vec<Queued> {
        self.queue_bytes += delivery.message.size();
        let queued = Queued::Here(Box::new(delivery));
        let is_far_behind = self.connection.is_none() || self.queue.len() >= READ_AHEAD;
        self.queue.push_back(if is_far_behind { queued.put_away() } else { queued });
        let mut dropped = Vec::new();
        while self.queue.len() > 1
            && (self.queue.len() > limits.max_mqueue_len || self.queue_bytes > limits.max_mqueue_bytes)
        {
            dropped.extend(self.dequeue());
        }
        dropped
    }

    /// Takes the oldest message of the queue.
    pub(crate) fn dequeue(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.queue_bytes -= queued.size();
        Some(queued)
    }

    /// Takes the oldest message of the queue, if it is in memory.
    pub(crate) fn dequeue_loaded(&mut self) -> Option<Delivery> {
        match self.queue.front()? {
            Queued::Stored(_) => None,
            Queued::Here(_) => match self.dequeue()? {
                Queued::Here(delivery) => Some(*delivery),
                Queued::Stored(_) => None,
            },
        }
    }

    /// Queues what was queued before a restart.
    pub(crate) fn requeue(&mut self, queued: Queued) {
        self.queue_bytes += queued.size();
        self.queue.push_back(queued);
    }

    /// Leaves to the log what it has, while the client is away.
    pub(crate) fn put_away(&mut self) {
        let queue = std::mem::take(&mut self.queue);
        self.queue = queue.into_iter().map(Queued::put_away).collect();
    }

    /// Where the next messages of the queue are, if the first of it is not in memory.
    pub(crate) fn to_load(&self) -> Vec<Position> {
        let away = self.queue.iter().map_while(|queued| match queued {
            Queued::Stored(away) => Some(away.stored.position()),
            Queued::Here(_) => None,
        });
        away.take(READ_AHEAD).collect()
    }

    /// Takes messages that were read from the log into the queue: those at these places, if they are still there.
    /// Returns those that could not be read.
    pub(crate) fn take_loaded(
        &mut self,
        mut loaded: BTreeMap<Position, Option<Arc<Message>>>,
    ) -> Vec<Queued> {
        let mut lost = Vec::new();
        let mut at = 0;
        while !loaded.is_empty() && at < self.queue.len().min(2 * READ_AHEAD) {
            let Queued::Stored(away) = &self.queue[at] else {
                at += 1;
                continue;
            };
            let position = away.stored.position();
            match loaded.remove(&position) {
                None => at += 1,
                Some(Some(message)) => {
                    let before = away.size as usize;
                    let Away { stored, how: How { qos, retain, identifiers }, .. } = (**away).clone();
                    self.queue_bytes = self.queue_bytes - before + message.size();
                    let stored = Some(stored);
                    let delivery = Delivery { message, qos, retain, identifiers, group: None, stored };
                    self.queue[at] = Queued::Here(Box::new(delivery));
                    at += 1;
                }
                Some(None) => {
                    self.queue_bytes -= away.size as usize;
                    lost.extend(self.queue.remove(at));
                }
            }
        }
        lost
    }

    /// Bytes of the messages in the queue.
    pub(crate) fn queue_bytes(&self) -> usize {
        self.queue_bytes
    }

    /// Takes the messages of shared subscriptions out of the queue: another member can have them.
    pub(crate) fn take_shared(&mut self) -> Vec<Delivery> {
        let (mut shared, mut own) = (Vec::new(), VecDeque::new());
        for queued in self.queue.drain(..) {
            match queued {
                Queued::Here(delivery) if delivery.group.is_some() => {
                    self.queue_bytes -= delivery.message.size();
                    shared.push(*delivery);
                }
                other => own.push_back(other),
            }
        }
        self.queue = own;
        shared
    }

    /// How long after the connection its will is published; at the latest when the session ends.
    pub(crate) fn will_delay(&self) -> Duration {
        let delay = self.will.as_ref().and_then(|will| will.properties.will_delay_interval).unwrap_or(0);
        Duration::from_secs(delay.into()).min(self.expiry)
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
