//! What Prometheus reads at `/metrics`: the server's counters as text, without a client or a topic as a label.

use std::fmt::Write as _;

use mqtt_server::{Alarm, ConnectionStats, LogStats, Server, Stats};

/// The type of the text (the exposition format, version 0.0.4).
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the metrics and the status page are made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) stats: Stats,
    pub(crate) connections: ConnectionStats,
    pub(crate) alarms: Vec<Alarm>,
    pub(crate) retained: u64,
    pub(crate) retained_bytes: u64,
    /// Bytes of messages and of output that waits.
    pub(crate) memory_bytes: u64,
    /// `None` without a log.
    pub(crate) log: Option<LogStats>,
}

impl Figures {
    /// Those of a running server.
    pub(crate) async fn of(server: &Server) -> Self {
        Self {
            stats: server.stats().await,
            connections: server.connection_stats(),
            alarms: server.alarms(),
            retained: server.retained().len() as u64,
            retained_bytes: server.retained().bytes() as u64,
            memory_bytes: server.memory_used() as u64,
            log: server.log_stats(),
        }
    }
}

/// The whole text.
pub(crate) fn render(figures: &Figures) -> String {
    let Figures { stats, connections, alarms, .. } = figures;
    let mut text = String::new();
    for (name, help, value) in [
        ("connections", "Connections that have a session.", stats.connections),
        ("handshakes", "Connections that have sent no CONNECT yet.", connections.handshakes),
        ("free_connections", "Places that are left for connections.", connections.free),
        ("sessions", "Sessions, connected or not.", stats.sessions),
        ("subscriptions", "Subscriptions, shared ones included.", stats.subscriptions),
        ("shared_subscriptions", "Subscriptions that are shared.", stats.shared_subscriptions),
        ("retained_messages", "Retained messages.", figures.retained),
        ("retained_bytes", "Bytes of retained messages.", figures.retained_bytes),
        ("message_memory_bytes", "Bytes of messages and of output that waits.", figures.memory_bytes),
    ] {
        family(&mut text, name, "gauge", help, &[(String::new(), value)]);
    }
    for (name, help, value) in [
        ("received_packets_total", "Packets that clients sent.", stats.packets_received),
        ("received_bytes_total", "Bytes that clients sent, in whole packets.", stats.bytes_received),
        ("sent_bytes_total", "Bytes that were sent to clients.", stats.bytes_sent),
        ("unmatched_messages_total", "Messages that interested nobody.", stats.dropped_no_subscribers),
        ("expired_sessions_total", "Sessions whose time was over.", stats.sessions_expired),
        (
            "redispatched_messages_total",
            "Messages of shared subscriptions that went to another member.",
            stats.redispatched,
        ),
        (
            "evicted_handshakes_total",
            "Connections closed before their CONNECT, for others.",
            connections.evicted,
        ),
        ("failed_handshakes_total", "Connections that came to no acceptable CONNECT.", connections.failed),
        ("refused_connections_total", "Connections refused with their CONNACK.", stats.refused),
    ] {
        family(&mut text, name, "counter", help, &[(String::new(), value)]);
    }
    if let Some(log) = &figures.log {
        render_log(&mut text, log);
    }
    let by_qos = |values: [u64; 3]| {
        let labelled = values.into_iter().enumerate().map(|(qos, value)| (format!("qos=\"{qos}\""), value));
        labelled.collect::<Vec<_>>()
    };
    let received =
        by_qos([stats.messages_qos0_received, stats.messages_qos1_received, stats.messages_qos2_received]);
    family(&mut text, "received_messages_total", "counter", "Messages that clients published.", &received);
    let sent = by_qos([stats.messages_qos0_sent, stats.messages_qos1_sent, stats.messages_qos2_sent]);
    family(&mut text, "sent_messages_total", "counter", "Messages that were sent to clients.", &sent);
    let reason = |(reason, count): (&str, u64)| (format!("reason=\"{reason}\""), count);
    let dropped: Vec<_> = stats.dropped_by_reason().into_iter().map(reason).collect();
    family(&mut text, "dropped_messages_total", "counter", "Messages that were lost.", &dropped);
    let ended: Vec<_> = stats.ended_by_reason().map(reason).collect();
    family(&mut text, "ended_connections_total", "counter", "Connections that ended.", &ended);
    let alarms: Vec<_> = Alarm::ALL
        .into_iter()
        .map(|alarm| (format!("alarm=\"{}\"", alarm.name()), u64::from(alarms.contains(&alarm))))
        .collect();
    family(&mut text, "alarm", "gauge", "Whether an alarm is on.", &alarms);
    text
}

fn render_log(text: &mut String, log: &LogStats) {
    for (name, kind, help, value) in [
        ("log_segments", "gauge", "Files of the log.", log.segments),
        ("log_bytes", "gauge", "Bytes of the log.", log.bytes),
        ("log_live_bytes", "gauge", "Bytes of the log that are still wanted, at most.", log.live_bytes),
        ("log_records_total", "counter", "Records that were appended to the log.", log.records),
        ("log_written_bytes_total", "counter", "Bytes that were written to the log.", log.written_bytes),
        ("log_syncs_total", "counter", "Syncs of the log.", log.syncs),
    ] {
        family(text, name, kind, help, &[(String::new(), value)]);
    }
}

fn family(text: &mut String, name: &str, kind: &str, help: &str, samples: &[(String, u64)]) {
    let _ = writeln!(text, "# HELP trellis_{name} {help}\n# TYPE trellis_{name} {kind}");
    for (labels, value) in samples {
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(text, "trellis_{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_has_its_family_and_says_why() {
        let mut stats = Stats { messages_qos1_received: 3, dropped_memory: 2, ..Stats::default() };
        stats.ended[0] = 7;
        let log = Some(LogStats { syncs: 5, ..LogStats::default() });
        let figures = Figures { stats, alarms: vec![Alarm::Memory], log, ..Figures::default() };
        let text = render(&figures);
        for line in [
            "trellis_received_messages_total{qos=\"1\"} 3",
            "trellis_dropped_messages_total{reason=\"memory\"} 2",
            "trellis_ended_connections_total{reason=\"normal\"} 7",
            "trellis_alarm{alarm=\"memory\"} 1",
            "trellis_alarm{alarm=\"descriptors\"} 0",
            "trellis_connections 0",
            "trellis_log_syncs_total 5",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
        }
        let mut family = "";
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(rest) => family = rest.split(' ').next().unwrap(),
                None if line.starts_with('#') => {}
                None => assert!(line.starts_with(family), "{line} below {family}"),
            }
        }
    }
}
