//! `$SYS`: what the server says of itself, renewed from time to time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use mqtt_broker::{Settings, SysTopics, SystemInfo};
use mqtt_wire::Text;
use tokio::sync::watch;

use crate::alarms::Alarm;
use crate::config::Config;
use crate::driver::Control;
use crate::server::Core;

/// The broker's settings, as the configuration and the clock say.
pub(crate) fn settings(config: &Config) -> Settings {
    Settings {
        limits: config.limits,
        node: config.node_name.clone(),
        response_information: config.response_information.as_deref().and_then(|text| Text::new(text).ok()),
        started: since_1970(),
    }
}

/// Publishes the messages of `$SYS` until the server stops.
pub(crate) async fn publish(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    let interval = core.config.sys_interval;
    if interval.is_zero() {
        return;
    }
    let started = Instant::now();
    let mut topics = SysTopics::default();
    let mut ticks = tokio::time::interval(interval);
    loop {
        tokio::select! {
            _ = stop.wait_for(|&stop| stop) => return,
            _ = ticks.tick() => {}
        }
        let stats = core.stats().await;
        let retained = &core.shared.retained;
        let alarms = core.alarms.current();
        let info = SystemInfo {
            node: core.config.node_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: started.elapsed(),
            datetime: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            retained: retained.len() as u64,
            retained_bytes: retained.bytes() as u64,
            memory_bytes: core.shared.memory.used() as u64,
            failed_handshakes: core.failed_handshakes.load(Ordering::Relaxed),
            alarms: Alarm::ALL.map(|alarm| (alarm.name(), alarms.contains(&alarm))).to_vec(),
        };
        let messages = topics.messages(&info, &stats);
        // A shard that has stopped has nobody to tell.
        let _ = core.shards[0].send(Control::System(messages)).await;
    }
}

fn since_1970() -> Duration {
    // A clock before 1970 is no clock.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
