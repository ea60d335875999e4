use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use clock::Instant;
use mqtt_proto::session::{Inbound, Outbound};
use mqtt_wire::{Connect, QoS, SubscriptionOptions, Text, TopicFilter, Version, Will};

use crate::limits::Limits;
use crate::message::Message;
use crate::shard::ConnectionId;

/// A message for one client.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) message: Arc<Message>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

/// A client: its session (§4.1), and its connection while it has one.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: Text,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) outbound: Outbound<Delivery>,
    pub(crate) inbound: Inbound,
    /// Messages of QoS 1 and 2 that wait for the window, or for the client.
    pub(crate) queue: VecDeque<Delivery>,
    pub(crate) subscriptions: BTreeMap<TopicFilter, SubscriptionOptions>,
    /// How long the session outlives its connection.
    pub(crate) expiry: Duration,
    pub(crate) will: Option<Box<Will>>,
    /// When a delayed will is published (§3.1.3.2.2).
    pub(crate) will_at: Option<Instant>,
}

impl Client {
    pub(crate) fn new(id: Text) -> Self {
        Self {
            id,
            connection: None,
            outbound: Outbound::new(0),
            inbound: Inbound::default(),
            queue: VecDeque::new(),
            subscriptions: BTreeMap::new(),
            expiry: Duration::ZERO,
            will: None,
            will_at: None,
        }
    }

    /// Takes over what a CONNECT says of the session and its will.
    pub(crate) fn open(&mut self, connection: ConnectionId, connect: &mut Connect, limits: &Limits) {
        self.connection = Some(connection);
        self.expiry = session_expiry(connect, limits);
        self.will = connect.will.take();
        self.will_at = None;
        let receive_maximum = connect.properties.receive_maximum.unwrap_or(u16::MAX);
        self.outbound.set_window(receive_maximum.min(limits.max_inflight));
    }

    /// Queues a message; `false`: the oldest was dropped for it.
    pub(crate) fn enqueue(&mut self, delivery: Delivery, limits: &Limits) -> bool {
        self.queue.push_back(delivery);
        if self.queue.len() > limits.max_mqueue_len {
            self.queue.pop_front();
            return false;
        }
        true
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
