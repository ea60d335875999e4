//! What an operator has to know while it lasts.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An alarm ends when its cause has not been seen for so long.
const QUIET: Duration = Duration::from_secs(5);

/// Something that keeps the server from doing all that it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// There are as many connections as there may be; listeners wait for some to end.
    ConnectionLimit,
    /// The system gives no more descriptors; listeners wait for some to be freed.
    Descriptors,
    /// Messages and output that waits take as much memory as they may.
    Memory,
    /// The log cannot be written; nothing durable is acknowledged until it can.
    Log,
    /// Parts of the log were damaged when it was read.
    Damage,
}

impl Alarm {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::ConnectionLimit, Self::Descriptors, Self::Memory, Self::Log, Self::Damage];

    /// Its name in metrics and `$SYS`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnectionLimit => "connection_limit",
            Self::Descriptors => "descriptors",
            Self::Memory => "memory",
            Self::Log => "log",
            Self::Damage => "damage",
        }
    }
}

/// The alarms that are on.
#[derive(Debug, Default)]
pub(crate) struct Alarms(Mutex<BTreeMap<Alarm, Instant>>);

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConnectionLimit => {
                "there are as many connections as there may be; new clients wait until others leave"
            }
            Self::Memory => {
                "messages take as much memory as they may; none is taken in until some of it is free"
            }
            Self::Descriptors => {
                "the system's limit of open files is reached; new clients wait until some are closed"
            }
            Self::Log => {
                "the log cannot be written (is the disk full?); publishers wait until it can, and nothing is lost"
            }
            Self::Damage => "parts of the log were damaged and are lost; `trellis data check` names them",
        })
    }
}

impl Alarms {
    /// Its cause is there. Said in the log once, until it has ended.
    pub(crate) fn raise(&self, alarm: Alarm) {
        let mut alarms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if alarms.insert(alarm, Instant::now()).is_none() {
            tracing::warn!(%alarm, "alarm");
        }
    }

    /// Ends those whose cause is gone.
    pub(crate) fn expire(&self) {
        let mut alarms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        alarms.retain(|alarm, seen| {
            let is_on = seen.elapsed() < QUIET;
            if !is_on {
                tracing::info!(%alarm, "the alarm has ended");
            }
            is_on
        });
    }

    pub(crate) fn current(&self) -> Vec<Alarm> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }
}
