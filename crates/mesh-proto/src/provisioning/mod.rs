//! Provisioning (MshPRT §5): how a device becomes a node, seen from both ends.
//!
//! The two ends of the protocol, [`Provisionee`] and [`Provisioner`], know nothing of what carries their PDUs; the two
//! bearers, [`PbAdv`] and [`PbGatt`], carry those of either end. A session that failed leaves nothing behind: its key
//! pair, random value and authentication value are never used again.

mod oob;
mod pb_adv;
mod pb_gatt;
mod provisionee;
mod provisioner;
mod transaction;

use alloc::vec::Vec;
use core::time::Duration;

use clock::Instant;
use mesh_wire::bearer::pb_adv::CloseReason;

pub use oob::{OobValue, Random, Secrets};
pub use pb_adv::{PbAdv, PbAdvConfig};
pub use pb_gatt::PbGatt;
pub use provisionee::{DeviceConfig, DeviceEvent, DeviceFailure, GiveUp, NotAsked, OobActions, Provisionee};
pub use provisioner::{
    Authentication, Choice, ChoiceError, NewNode, Provisioner, ProvisionerEvent, ProvisionerFailure,
};

/// How long an end waits for the other's next PDU (MshPRT §5.4.4).
pub const PROVISIONING_TIMEOUT: Duration = Duration::from_secs(60);

/// The same when a user has to read a value, or type it in.
pub const PROVISIONING_TIMEOUT_WITH_USER: Duration = Duration::from_secs(120);

/// How a link came to its end without this end having closed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEnd {
    /// The other end closed it.
    Closed(CloseReason),
    /// The other end did not open it within a minute.
    NotOpened,
    /// The other end did not acknowledge a PDU for half a minute.
    Unacknowledged,
    /// The connection is gone, or the other end broke the protocol that carries PDUs.
    Lost,
}

/// One end of the provisioning protocol, as bearers see it.
pub trait Protocol {
    /// A link is open. What an earlier one left is forgotten.
    fn handle_link_open(&mut self, now: Instant);

    /// Takes a provisioning PDU.
    fn handle_pdu(&mut self, now: Instant, pdu: &[u8]);

    /// The other end has all that was handed out.
    fn handle_delivered(&mut self, now: Instant);

    /// The link came to its end.
    fn handle_link_end(&mut self, now: Instant, end: LinkEnd);

    /// Does what is due at `now`.
    fn handle_timeout(&mut self, now: Instant);

    /// When [`Protocol::handle_timeout`] is next due.
    fn poll_timeout(&self) -> Option<Instant>;

    /// The next provisioning PDU to be sent.
    fn poll_transmit(&mut self) -> Option<Vec<u8>>;

    /// Whether the link is to be closed, and why.
    fn poll_close(&mut self) -> Option<CloseReason>;

    /// Whether no further session is wanted: the device is a node.
    fn is_done(&self) -> bool;
}
