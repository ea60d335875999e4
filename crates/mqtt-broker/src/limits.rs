use std::time::Duration;

use mqtt_wire::QoS;

/// What a client may use. Names and values follow EMQX's where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest packet that a client may send, in bytes, fixed header included.
    pub max_packet_size: u32,
    /// Messages of QoS 1 and 2 that are sent to a client and not acknowledged.
    pub max_inflight: u16,
    /// Messages of QoS 2 that a client has not released.
    pub max_awaiting_rel: u16,
    /// Messages that wait for a session.
    pub max_mqueue_len: usize,
    /// Bytes of messages that wait for a session. At least one message may wait.
    pub max_mqueue_bytes: usize,
    /// What goes when more would wait for a session.
    pub on_quota: OnQuota,
    /// Levels of a topic name or filter.
    pub max_topic_levels: usize,
    /// Topic Aliases that a client may use on a connection, each of which may hold a topic of 64 KB.
    pub max_topic_alias: u16,
    /// Topic Aliases that the server uses on a connection, if its client allows as many.
    pub max_outgoing_topic_alias: u16,
    /// The highest QoS that is taken (§3.2.2.3.4); subscriptions are granted no more either.
    pub max_qos_allowed: QoS,
    /// Whether messages can be retained (§3.2.2.3.5).
    pub retain_available: bool,
    /// Whether topic filters may hold wildcards (§3.2.2.3.11).
    pub wildcard_subscription: bool,
    /// Whether there are shared subscriptions (§3.2.2.3.13).
    pub shared_subscription: bool,
    /// Who gets the next message of a shared subscription.
    pub shared_subscription_strategy: SharedStrategy,
    /// The Keep Alive that clients of MQTT 5.0 have to use, in seconds (§3.2.2.3.14); `None`: their own.
    pub server_keepalive: Option<u16>,
    /// Subscriptions of a session.
    pub max_subscriptions: usize,
    /// Topic filters in one SUBSCRIBE or UNSUBSCRIBE; a packet with more ends its connection.
    pub max_filters_per_packet: usize,
    /// Sessions of one shard.
    pub max_sessions: usize,
    /// How long a session outlives its connection when a client of MQTT 3.x asks to keep it, and at most
    /// otherwise while sessions are in memory.
    pub session_expiry_interval: Duration,
    /// Bytes that wait for a connection which does not read; of more than that, the oldest of QoS 0 are dropped.
    pub max_out_buffer: usize,
    /// Retained messages in all.
    pub max_retained: usize,
    /// Bytes of retained messages, topics included.
    pub max_retained_bytes: usize,
    /// Messages that wait for another shard before publishers are held back.
    pub max_peer_backlog: usize,
    /// Bytes of all messages and all output that waits. Beyond it nothing new is taken in.
    pub max_memory: usize,
}

/// What a full queue loses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnQuota {
    /// What has waited longest.
    #[default]
    DropOldest,
    /// What comes.
    DropNew,
}

/// Which member of a shared subscription gets the next message, of those that are online and have room for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SharedStrategy {
    /// Any.
    Random,
    /// Each in its turn.
    #[default]
    RoundRobin,
    /// The same, as long as it is online.
    Sticky,
    /// By the topic: messages of a topic go to the same member while members stay the same.
    HashTopic,
    /// By the publisher's Client Identifier.
    HashClientId,
}

impl SharedStrategy {
    /// Whether a message is for one member, which it waits for while that is online, and not for any.
    pub(crate) fn names_one(self) -> bool {
        matches!(self, Self::Sticky | Self::HashTopic | Self::HashClientId)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_packet_size: 1024 * 1024,
            max_inflight: 32,
            max_awaiting_rel: 100,
            max_mqueue_len: 1_000,
            max_mqueue_bytes: 16 * 1024 * 1024,
            on_quota: OnQuota::default(),
            max_topic_levels: 128,
            max_topic_alias: 64,
            max_outgoing_topic_alias: 64,
            max_qos_allowed: QoS::ExactlyOnce,
            retain_available: true,
            wildcard_subscription: true,
            shared_subscription: true,
            shared_subscription_strategy: SharedStrategy::default(),
            server_keepalive: None,
            max_subscriptions: 10_000,
            max_filters_per_packet: 4_096,
            max_sessions: 1_000_000,
            session_expiry_interval: Duration::from_secs(2 * 60 * 60),
            max_out_buffer: 16 * 1024 * 1024,
            max_retained: 1_000_000,
            max_retained_bytes: 1024 * 1024 * 1024,
            max_peer_backlog: 10_000,
            max_memory: 4 * 1024 * 1024 * 1024,
        }
    }
}
