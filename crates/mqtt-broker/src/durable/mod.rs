//! What outlasts a restart: the records of the log, and what they say together.

mod lost;
pub(crate) mod record;
pub(crate) mod recovery;
pub(crate) mod sessions;
mod text;

use journal::log::{Hold, Log, Position};
use mqtt_wire::Text;

use self::record::MessageId;
pub use self::recovery::{Recovery, Unreadable};
pub use self::text::{ExportError, Import, LineError, Totals};

/// Where the log has a message, and a claim on it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) id: MessageId,
    pub(crate) hold: Hold,
}

/// About what a record says beside its message and a Client Identifier for a client to get it.
const REF_BYTES: usize = 48;

impl Stored {
    /// The claim of one client, for whom more is written down than the message.
    pub(crate) fn for_client(&self, client: &Text) -> Self {
        Self { id: self.id, hold: self.hold.with(REF_BYTES + client.len()) }
    }

    /// What that counts for ([`Hold::bytes`]), by the bytes of the message's record.
    pub(crate) fn claim_for_client(record: u32, client: &Text) -> u32 {
        Log::claim_bytes(record, REF_BYTES + client.len())
    }

    /// Where it is now: elsewhere than at first if it was copied forward.
    pub(crate) fn position(&self) -> Position {
        self.hold.position()
    }
}
