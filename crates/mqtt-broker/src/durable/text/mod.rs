//! What a log holds as text: for another machine, another version, or a backup. `docs/src/durability.md` describes it.
//!
//! One JSON object a line: the format, then sessions, messages with those who have to get them, what was sent with QoS 2,
//! and the end. Sessions come in the order of their names, messages in theirs, numbered from 1: the same contents are the
//! same text, byte for byte. Points in time are absolute, as in the log: what is left of an expiry goes on meanwhile.

mod export;
mod import;
mod line;
#[cfg(test)]
mod tests;

pub use self::export::ExportError;
pub use self::import::{Import, LineError};

/// The name of the format, in the first line.
pub(super) const FORMAT: &str = "trellis-data";

/// The format that this version writes, and the only one so far.
pub(super) const VERSION: u32 = 1;

/// What a text holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Sessions.
    pub sessions: u64,
    /// Messages: in queues, on their way, or retained.
    pub messages: u64,
    /// Messages of QoS 2 that were sent and that their clients have not confirmed.
    pub sent: u64,
}
