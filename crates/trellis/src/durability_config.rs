//! The `[durability]` table of the configuration: what outlasts a restart, and how safely.

use std::path::Path;
use std::time::Duration;

use mqtt_server::{DurabilityConfig, Fsync};
use serde::Deserialize;

use crate::config::ByteSize;

/// How sessions, their messages and retained messages are kept in the data directory.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Durability {
    /// Whether they are; else they are in memory, and a restart loses them.
    enabled: bool,
    /// When what is acknowledged is on the disk.
    fsync: When,
    /// For `interval`: how often.
    fsync_interval_ms: std::num::NonZeroU32,
    /// About how large a file of the log becomes.
    segment_size: ByteSize,
    /// What may wait in the log, in MB; its files take up to twice that.
    max_log_mb: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum When {
    /// Before it is acknowledged: a power cut loses nothing.
    Always,
    /// Every so often: a power cut loses what was acknowledged since.
    Interval,
    /// When the system likes: a power cut loses what the system had not written, a crash of Trellis nothing.
    Never,
}

impl Durability {
    pub(crate) fn to_server(&self, data_dir: &Path) -> Option<DurabilityConfig> {
        let fsync = match self.fsync {
            When::Always => Fsync::Always,
            When::Interval => Fsync::Interval(Duration::from_millis(self.fsync_interval_ms.get().into())),
            When::Never => Fsync::Never,
        };
        let segment_bytes = u64::from(self.segment_size.0).max(MIN_SEGMENT);
        let max_log_bytes = self.max_log_mb.saturating_mul(1 << 20);
        self.enabled.then(|| DurabilityConfig {
            data_dir: data_dir.to_owned(),
            fsync,
            segment_bytes,
            max_log_bytes,
        })
    }
}

/// Smaller files than that are not worth their names.
const MIN_SEGMENT: u64 = 64 * 1024;

impl Default for Durability {
    fn default() -> Self {
        Self {
            enabled: true,
            fsync: When::Always,
            fsync_interval_ms: const { std::num::NonZeroU32::new(100).unwrap() },
            segment_size: ByteSize(64 << 20),
            max_log_mb: 8 << 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<DurabilityConfig> {
        toml::from_str::<Durability>(text).unwrap().to_server(Path::new("d"))
    }

    #[test]
    fn without_a_word_it_is_the_safest() {
        assert_eq!(read(""), Some(DurabilityConfig::new("d")));
    }

    #[test]
    fn what_is_said_is_what_holds() {
        let config =
            read("fsync = 'interval'\nfsync_interval_ms = 250\nsegment_size = '1MB'\nmax_log_mb = 3")
                .unwrap();
        assert_eq!(config.fsync, Fsync::Interval(Duration::from_millis(250)));
        assert_eq!((config.segment_bytes, config.max_log_bytes), (1 << 20, 3 << 20));
        assert_eq!(read("enabled = false"), None);
        assert!(toml::from_str::<Durability>("fsync = 'sometimes'").is_err());
    }
}
