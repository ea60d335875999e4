use std::time::Duration;

/// What a client may use. Names and values follow EMQX's where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest packet that a client may send, in bytes, fixed header included.
    pub max_packet_size: u32,
    /// Messages of QoS 1 and 2 that are sent to a client and not acknowledged.
    pub max_inflight: u16,
    /// Messages of QoS 2 that a client has not released.
    pub max_awaiting_rel: u16,
    /// Messages that wait for a session; the oldest goes first.
    pub max_mqueue_len: usize,
    /// Levels of a topic name or filter.
    pub max_topic_levels: usize,
    /// Subscriptions of a session.
    pub max_subscriptions: usize,
    /// Sessions of one shard.
    pub max_sessions: usize,
    /// How long a session outlives its connection when a client of MQTT 3.x asks to keep it, and at most
    /// otherwise while sessions are in memory.
    pub session_expiry_interval: Duration,
    /// Bytes that wait for a connection which does not read; what is more than that and has QoS 0 is dropped.
    pub max_out_buffer: usize,
    /// Retained messages in all.
    pub max_retained: usize,
    /// Bytes of retained messages, topics included.
    pub max_retained_bytes: usize,
    /// Messages that wait for another shard before publishers are held back.
    pub max_peer_backlog: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_packet_size: 1024 * 1024,
            max_inflight: 32,
            max_awaiting_rel: 100,
            max_mqueue_len: 1_000,
            max_topic_levels: 128,
            max_subscriptions: 10_000,
            max_sessions: 1_000_000,
            session_expiry_interval: Duration::from_secs(2 * 60 * 60),
            max_out_buffer: 16 * 1024 * 1024,
            max_retained: 1_000_000,
            max_retained_bytes: 1024 * 1024 * 1024,
            max_peer_backlog: 10_000,
        }
    }
}
