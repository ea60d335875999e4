//! What goes between a node and its bearers (MshPRT §3.3): advertisements, one AD structure each, and the messages
//! of the Proxy protocol (§6) on connections.

mod proxy_protocol;

use core::time::Duration;

use mesh_wire::bearer::AdType;
use mesh_wire::network::Octets;

pub use proxy_protocol::{ProxyProtocolError, ProxyReassembler, SAR_TIMEOUT};

/// An AD structure that a bearer received.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// What it carries.
    pub ad_type: AdType,
    /// What follows the AD type.
    pub data: &'a [u8],
    /// How strong it was, in dBm.
    pub rssi: i8,
}

/// An AD structure that a bearer is to send. The node hands it out once; the bearer repeats it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmission {
    /// What it carries.
    pub ad_type: AdType,
    /// What follows the AD type; at most 29 octets.
    pub data: Octets,
    /// How often it is sent: 1 to 8.
    pub count: u8,
    /// The time between two of them; the bearer adds 0 to 10 ms at random (MshPRT §4.2.20.2).
    pub interval: Duration,
    /// How long the bearer waits before the first.
    pub delay: Duration,
}
