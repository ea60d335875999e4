//! The `[mqtt]` table of the configuration: what clients may use, with EMQX's names.

use std::time::Duration;

use mqtt_server::{Limits, OnQuota, QoS, SharedStrategy};
use serde::Deserialize;

use crate::config::ByteSize;

/// Limits and abilities of the protocol.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Mqtt {
    /// The largest packet that a client may send, header included.
    pub(crate) max_packet_size: ByteSize,
    /// QoS 1 and 2 messages sent to a client and not acknowledged.
    max_inflight: std::num::NonZeroU16,
    /// QoS 2 messages of a client that it has not released.
    max_awaiting_rel: std::num::NonZeroU16,
    /// Messages that wait for a session.
    max_mqueue_len: usize,
    /// Their bytes.
    max_mqueue_bytes: ByteSize,
    /// What a full queue loses.
    on_quota: Quota,
    /// Bytes that wait for a connection which does not read.
    max_out_buffer: ByteSize,
    max_topic_levels: usize,
    /// Topic Aliases that a client may use on a connection.
    max_topic_alias: u16,
    max_qos_allowed: u8,
    retain_available: bool,
    wildcard_subscription: bool,
    shared_subscription: bool,
    shared_subscription_strategy: Strategy,
    /// The Keep Alive of clients of MQTT 5.0, in seconds; 0: their own.
    server_keepalive: u16,
    /// How long a session outlives its connection at most, in seconds.
    session_expiry_interval: u64,
    /// Subscriptions of a session.
    max_subscriptions: usize,
    max_retained: usize,
    /// Memory of all messages and all output that waits, in MB; beyond it nothing is taken in.
    max_memory_mb: usize,
    /// How often `$SYS` is renewed, in seconds; 0: never.
    pub(crate) sys_msg_interval: u64,
    /// What clients get that ask for Response Information.
    pub(crate) response_information: Option<String>,
}

/// What a full queue loses.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Quota {
    /// What has waited longest.
    DropOldest,
    /// What comes.
    DropNew,
}

/// Who gets the next message of a shared subscription.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Strategy {
    Random,
    RoundRobin,
    Sticky,
    HashTopic,
    HashClientid,
}

const MB: usize = 1024 * 1024;

impl Mqtt {
    /// The broker's limits. A QoS that there is not is taken for the highest.
    pub(crate) fn limits(&self) -> Limits {
        let bytes = |size: ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
        Limits {
            max_packet_size: self.max_packet_size.0,
            max_inflight: self.max_inflight.get(),
            max_awaiting_rel: self.max_awaiting_rel.get(),
            max_mqueue_len: self.max_mqueue_len,
            max_mqueue_bytes: bytes(self.max_mqueue_bytes),
            on_quota: match self.on_quota {
                Quota::DropOldest => OnQuota::DropOldest,
                Quota::DropNew => OnQuota::DropNew,
            },
            max_out_buffer: bytes(self.max_out_buffer),
            max_topic_levels: self.max_topic_levels,
            max_topic_alias: self.max_topic_alias,
            max_qos_allowed: QoS::try_from(self.max_qos_allowed).unwrap_or(QoS::ExactlyOnce),
            retain_available: self.retain_available,
            wildcard_subscription: self.wildcard_subscription,
            shared_subscription: self.shared_subscription,
            shared_subscription_strategy: match self.shared_subscription_strategy {
                Strategy::Random => SharedStrategy::Random,
                Strategy::RoundRobin => SharedStrategy::RoundRobin,
                Strategy::Sticky => SharedStrategy::Sticky,
                Strategy::HashTopic => SharedStrategy::HashTopic,
                Strategy::HashClientid => SharedStrategy::HashClientId,
            },
            server_keepalive: (self.server_keepalive > 0).then_some(self.server_keepalive),
            session_expiry_interval: Duration::from_secs(self.session_expiry_interval),
            max_subscriptions: self.max_subscriptions,
            max_retained: self.max_retained,
            max_memory: self.max_memory_mb.saturating_mul(MB),
            ..Limits::default()
        }
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        let limits = Limits::default();
        let size = |bytes: usize| ByteSize(u32::try_from(bytes).unwrap_or(u32::MAX));
        let positive = |count: u16| std::num::NonZeroU16::new(count).unwrap_or(std::num::NonZeroU16::MIN);
        Self {
            max_packet_size: ByteSize(limits.max_packet_size),
            max_inflight: positive(limits.max_inflight),
            max_awaiting_rel: positive(limits.max_awaiting_rel),
            max_mqueue_len: limits.max_mqueue_len,
            max_mqueue_bytes: size(limits.max_mqueue_bytes),
            on_quota: Quota::DropOldest,
            max_out_buffer: size(limits.max_out_buffer),
            max_topic_levels: limits.max_topic_levels,
            max_topic_alias: limits.max_topic_alias,
            max_qos_allowed: limits.max_qos_allowed as u8,
            retain_available: limits.retain_available,
            wildcard_subscription: limits.wildcard_subscription,
            shared_subscription: limits.shared_subscription,
            shared_subscription_strategy: Strategy::RoundRobin,
            server_keepalive: limits.server_keepalive.unwrap_or(0),
            session_expiry_interval: limits.session_expiry_interval.as_secs(),
            max_subscriptions: limits.max_subscriptions,
            max_retained: limits.max_retained,
            max_memory_mb: limits.max_memory / MB,
            sys_msg_interval: 10,
            response_information: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_word_the_limits_are_the_brokers() {
        let mqtt: Mqtt = toml::from_str("").unwrap();
        assert_eq!(mqtt.limits(), Limits::default());
    }

    #[test]
    fn what_is_said_is_what_holds() {
        let mqtt: Mqtt = toml::from_str(
            "max_inflight = 5\nshared_subscription_strategy = 'hash_clientid'\non_quota = 'drop_new'\nserver_keepalive = 30\nmax_qos_allowed = 1",
        )
        .unwrap();
        let limits = mqtt.limits();
        assert_eq!((limits.max_inflight, limits.server_keepalive), (5, Some(30)));
        assert_eq!(limits.shared_subscription_strategy, SharedStrategy::HashClientId);
        assert_eq!(limits.on_quota, OnQuota::DropNew);
        assert_eq!(limits.max_qos_allowed, QoS::AtLeastOnce);
        assert!(toml::from_str::<Mqtt>("max_inflight = 0").is_err());
    }
}
