//! `$SYS`: what the broker says of itself, in the trees that users of EMQX and of mosquitto know.

use std::time::Duration;

use mqtt_wire::{Publish, QoS, TopicName};

use crate::stats::Stats;

/// What `$SYS` says beside the figures.
#[derive(Clone, Debug)]
pub struct SystemInfo {
    /// The node's name.
    pub node: String,
    /// The version of the program.
    pub version: String,
    /// How long it has been running.
    pub uptime: Duration,
    /// The date and time, as people write it.
    pub datetime: String,
    /// Retained messages.
    pub retained: u64,
    /// Bytes of retained messages.
    pub retained_bytes: u64,
    /// Bytes of all messages and of all output that waits.
    pub memory_bytes: u64,
    /// Connections that ended before an acceptable CONNECT.
    pub failed_handshakes: u64,
    /// Every alarm by its name, and whether it is on.
    pub alarms: Vec<(&'static str, bool)>,
}

/// Makes the messages of `$SYS`, and remembers the highest values.
#[derive(Clone, Copy, Debug, Default)]
pub struct SysTopics {
    max_connections: u64,
    max_sessions: u64,
    max_subscriptions: u64,
}

impl SysTopics {
    /// All messages, each to be retained.
    pub fn messages(&mut self, info: &SystemInfo, stats: &Stats) -> Vec<Publish> {
        self.max_connections = self.max_connections.max(stats.connections);
        self.max_sessions = self.max_sessions.max(stats.sessions);
        self.max_subscriptions = self.max_subscriptions.max(stats.subscriptions);
        let mut topics = self.emqx(info, stats);
        topics.extend(self.mosquitto(info, stats));
        topics.into_iter().filter_map(|(topic, value)| retained(&topic, value)).collect()
    }

    fn emqx(&self, info: &SystemInfo, stats: &Stats) -> Vec<(String, String)> {
        let node = format!("$SYS/brokers/{}", info.node);
        let mut topics = vec![
            ("$SYS/brokers".to_owned(), info.node.clone()),
            (format!("{node}/version"), info.version.clone()),
            (format!("{node}/sysdescr"), "Trellis".to_owned()),
            (format!("{node}/uptime"), info.uptime.as_millis().to_string()),
            (format!("{node}/datetime"), info.datetime.clone()),
        ];
        let figures = [
            ("stats/connections/count", stats.connections),
            ("stats/connections/max", self.max_connections),
            ("stats/live_connections/count", stats.connections),
            ("stats/sessions/count", stats.sessions),
            ("stats/sessions/max", self.max_sessions),
            ("stats/subscriptions/count", stats.subscriptions),
            ("stats/subscriptions/max", self.max_subscriptions),
            ("stats/subscriptions/shared/count", stats.shared_subscriptions),
            ("stats/retained/count", info.retained),
            ("stats/memory/bytes", info.memory_bytes),
            ("metrics/client/refused", stats.refused),
            ("metrics/client/failed_handshakes", info.failed_handshakes),
            ("metrics/bytes/received", stats.bytes_received),
            ("metrics/bytes/sent", stats.bytes_sent),
            ("metrics/packets/received", stats.packets_received),
            ("metrics/messages/received", stats.messages_received),
            ("metrics/messages/sent", stats.messages_sent),
            ("metrics/messages/qos0/received", stats.messages_qos0_received),
            ("metrics/messages/qos1/received", stats.messages_qos1_received),
            ("metrics/messages/qos2/received", stats.messages_qos2_received),
            ("metrics/messages/qos0/sent", stats.messages_qos0_sent),
            ("metrics/messages/qos1/sent", stats.messages_qos1_sent),
            ("metrics/messages/qos2/sent", stats.messages_qos2_sent),
            ("metrics/messages/retained", info.retained),
            ("metrics/messages/dropped", stats.dropped() + stats.dropped_no_subscribers),
            ("metrics/messages/dropped/no_subscribers", stats.dropped_no_subscribers),
        ];
        let dropped = stats.dropped_by_reason();
        let dropped =
            dropped.iter().map(|(reason, count)| (format!("metrics/messages/dropped/{reason}"), *count));
        let ended = stats.ended_by_reason();
        let ended = ended.map(|(reason, count)| (format!("metrics/client/disconnected/{reason}"), count));
        let figures = figures.into_iter().map(|(name, value)| (name.to_owned(), value));
        topics.extend(
            (figures.chain(dropped).chain(ended))
                .map(|(name, value)| (format!("{node}/{name}"), value.to_string())),
        );
        let state = |is_on| if is_on { "on" } else { "off" };
        let alarms = info.alarms.iter();
        topics
            .extend(alarms.map(|(name, is_on)| (format!("{node}/alarms/{name}"), state(*is_on).to_owned())));
        topics
    }

    fn mosquitto(&self, info: &SystemInfo, stats: &Stats) -> Vec<(String, String)> {
        let figures = [
            ("bytes/received", stats.bytes_received),
            ("bytes/sent", stats.bytes_sent),
            ("clients/connected", stats.connections),
            ("clients/disconnected", stats.sessions.saturating_sub(stats.connections)),
            ("clients/expired", stats.sessions_expired),
            ("clients/maximum", self.max_sessions),
            ("clients/total", stats.sessions),
            ("messages/received", stats.packets_received),
            ("messages/stored", info.retained),
            ("store/messages/count", info.retained),
            ("store/messages/bytes", info.retained_bytes),
            ("publish/messages/received", stats.messages_received),
            ("publish/messages/sent", stats.messages_sent),
            ("publish/messages/dropped", stats.dropped()),
            ("retained messages/count", info.retained),
            ("subscriptions/count", stats.subscriptions),
            ("shared_subscriptions/count", stats.shared_subscriptions),
        ];
        let mut topics = vec![
            ("$SYS/broker/version".to_owned(), format!("trellis version {}", info.version)),
            ("$SYS/broker/uptime".to_owned(), format!("{} seconds", info.uptime.as_secs())),
        ];
        topics.extend(figures.map(|(name, value)| (format!("$SYS/broker/{name}"), value.to_string())));
        topics
    }
}

fn retained(topic: &str, value: String) -> Option<Publish> {
    let publish = Publish::new(TopicName::new(topic).ok()?, QoS::AtMostOnce, value);
    Some(Publish { retain: true, ..publish })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_trees_say_the_same_and_why_connections_ended() {
        let info = SystemInfo {
            node: "n".to_owned(),
            version: "1.2.3".to_owned(),
            uptime: Duration::from_secs(7),
            datetime: "2026-11-24T20:00:00Z".to_owned(),
            retained: 4,
            retained_bytes: 40,
            memory_bytes: 100,
            failed_handshakes: 6,
            alarms: vec![("memory", true), ("descriptors", false)],
        };
        let mut stats = Stats { connections: 2, sessions: 3, ..Stats::default() };
        stats.ended[crate::EndKind::KeepAlive as usize] = 5;
        let mut topics = SysTopics::default();
        topics.messages(&info, &stats);
        let messages = topics.messages(&info, &Stats { connections: 1, ..stats });
        let value = |topic: &str| {
            let found = messages.iter().find(|message| message.topic.as_str() == topic);
            String::from_utf8(found.unwrap_or_else(|| panic!("{topic}")).payload.to_vec()).unwrap()
        };
        assert_eq!(value("$SYS/broker/uptime"), "7 seconds");
        assert_eq!(value("$SYS/broker/clients/connected"), "1");
        assert_eq!(value("$SYS/broker/clients/disconnected"), "2");
        assert_eq!(value("$SYS/brokers"), "n");
        assert_eq!(value("$SYS/brokers/n/uptime"), "7000");
        assert_eq!(value("$SYS/brokers/n/stats/connections/max"), "2");
        assert_eq!(value("$SYS/brokers/n/metrics/client/disconnected/keepalive_timeout"), "5");
        assert_eq!(value("$SYS/brokers/n/alarms/memory"), "on");
        assert_eq!(value("$SYS/brokers/n/alarms/descriptors"), "off");
        assert_eq!(value("$SYS/brokers/n/metrics/client/failed_handshakes"), "6");
        assert!(messages.iter().all(|message| message.retain));
    }
}
