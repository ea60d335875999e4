use std::ops::Add;

/// What a shard has done and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections that are open.
    pub connections: u64,
    /// Sessions, connected or not.
    pub sessions: u64,
    /// Messages that clients published.
    pub messages_received: u64,
    /// Messages that were sent to clients.
    pub messages_sent: u64,
    /// Messages that were dropped because a session's queue was full.
    pub dropped_queue_full: u64,
    /// Messages of QoS 0 that were dropped because their connection did not read.
    pub dropped_slow_consumer: u64,
    /// Messages that expired before they could be sent.
    pub dropped_expired: u64,
    /// Messages that were larger than their receiver accepts.
    pub dropped_too_large: u64,
    /// Retained messages that found no room.
    pub dropped_retained_full: u64,
    /// Messages that their publisher was not allowed to publish.
    pub dropped_not_authorized: u64,
}

impl Stats {
    /// All that was dropped, for whatever reason.
    pub fn dropped(&self) -> u64 {
        self.dropped_queue_full
            + self.dropped_slow_consumer
            + self.dropped_expired
            + self.dropped_too_large
            + self.dropped_retained_full
            + self.dropped_not_authorized
    }
}

impl Add for Stats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            sessions: self.sessions + other.sessions,
            messages_received: self.messages_received + other.messages_received,
            messages_sent: self.messages_sent + other.messages_sent,
            dropped_queue_full: self.dropped_queue_full + other.dropped_queue_full,
            dropped_slow_consumer: self.dropped_slow_consumer + other.dropped_slow_consumer,
            dropped_expired: self.dropped_expired + other.dropped_expired,
            dropped_too_large: self.dropped_too_large + other.dropped_too_large,
            dropped_retained_full: self.dropped_retained_full + other.dropped_retained_full,
            dropped_not_authorized: self.dropped_not_authorized + other.dropped_not_authorized,
        }
    }
}
