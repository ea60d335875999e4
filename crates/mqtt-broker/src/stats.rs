use crate::end::EndKind;

macro_rules! stats {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// What a shard has done and holds.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Stats {
            $($(#[doc = $doc])* pub $name: u64,)*
            /// Connections that ended, by [`EndKind`].
            pub ended: [u64; EndKind::ALL.len()],
        }

        impl std::ops::Add for Stats {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                let mut ended = self.ended;
                for (sum, count) in ended.iter_mut().zip(other.ended) {
                    *sum += count;
                }
                Self { $($name: self.$name + other.$name,)* ended }
            }
        }
    };
}

stats! {
    /// Connections that are open.
    connections,
    /// Sessions, connected or not.
    sessions,
    /// Subscriptions, shared ones included.
    subscriptions,
    /// Subscriptions that are shared.
    shared_subscriptions,
    /// Packets that clients sent.
    packets_received,
    /// Bytes that clients sent, in whole packets.
    bytes_received,
    /// Bytes that were sent to clients.
    bytes_sent,
    /// Messages that clients published.
    messages_received,
    /// Those with QoS 0.
    messages_qos0_received,
    /// Those with QoS 1.
    messages_qos1_received,
    /// Those with QoS 2.
    messages_qos2_received,
    /// Messages that were sent to clients.
    messages_sent,
    /// Those with QoS 0.
    messages_qos0_sent,
    /// Those with QoS 1.
    messages_qos1_sent,
    /// Those with QoS 2.
    messages_qos2_sent,
    /// Connections that were refused with their CONNACK.
    refused,
    /// Sessions that ended because their time was over.
    sessions_expired,
    /// Messages that interested nobody.
    dropped_no_subscribers,
    /// Messages that were dropped because a session's queue was full.
    dropped_queue_full,
    /// Messages for clients that were away, which were dropped because the log holds as much as it may.
    dropped_log_full,
    /// Messages of QoS 0 that were dropped because their connection did not read.
    dropped_slow_consumer,
    /// Messages that expired before they could be sent.
    dropped_expired,
    /// Messages that were larger than their receiver accepts.
    dropped_too_large,
    /// Retained messages that found no room.
    dropped_retained_full,
    /// Messages that were not taken because the memory was used up.
    dropped_memory,
    /// Messages that clients published where they may not.
    dropped_not_authorized,
    /// Messages of a shared subscription that no member was left for.
    dropped_no_member,
    /// Messages of a shared subscription that went to another member than the first.
    redispatched,
    /// Messages that the log cannot give back any more.
    dropped_damaged,
    /// Messages that are out of reach until the next start, as the disk did not say where they are.
    dropped_unreachable,
}

impl Stats {
    /// All that was lost, for whatever reason; what interested nobody is not.
    pub fn dropped(&self) -> u64 {
        self.dropped_by_reason().iter().map(|(_, count)| count).sum()
    }

    /// What was lost, by reason.
    pub fn dropped_by_reason(&self) -> [(&'static str, u64); 11] {
        [
            ("queue_full", self.dropped_queue_full),
            ("log_full", self.dropped_log_full),
            ("slow_consumer", self.dropped_slow_consumer),
            ("expired", self.dropped_expired),
            ("too_large", self.dropped_too_large),
            ("retained_full", self.dropped_retained_full),
            ("memory", self.dropped_memory),
            ("not_authorized", self.dropped_not_authorized),
            ("no_member", self.dropped_no_member),
            ("damaged", self.dropped_damaged),
            ("unreachable", self.dropped_unreachable),
        ]
    }

    /// Connections that ended, by the name of the reason.
    pub fn ended_by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        EndKind::ALL.into_iter().map(EndKind::name).zip(self.ended)
    }
}
