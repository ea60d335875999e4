//! The lower transport layer (MshPRT §3.5.3): cuts long messages into segments, puts them together again, and
//! refuses what was sent before. It knows nothing of keys.

mod reassembler;
mod replay_list;
mod sar;
mod segmenter;

pub use reassembler::{Ack, Reassembled, Reassembler, SegmentSource};
pub use replay_list::ReplayList;
pub use sar::{SarReceiver, SarTransmitter};
pub use segmenter::{Finished, SegmentedError, SegmentedMessage, Segmenter};

/// What names a message that is being sent, from command to completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageId(pub u32);
