//! Heartbeats (MshPRT §3.6.7): their message, and how their states write large numbers in one octet (§4.1.2).

use crate::foundation::Features;
use crate::{DecodeError, Reader, Ttl};

/// The opcode of the transport control message Heartbeat.
pub const OPCODE: u8 = 0x0a;

/// What a Heartbeat says: `RFU:1 InitTTL:7 · Features:16`, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The TTL with which it was sent.
    pub init_ttl: Ttl,
    /// The features that are in use.
    pub features: Features,
}

impl Heartbeat {
    /// Reads the parameters.
    ///
    /// # Errors
    /// When there are not three octets.
    pub fn decode(parameters: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(parameters);
        let init_ttl = Ttl::new(reader.u8()? & 0x7f).ok_or(DecodeError::Prohibited("InitTTL"))?;
        let features = Features(u16::from_be_bytes(reader.array()?));
        reader.finish(Self { init_ttl, features })
    }

    /// The parameters.
    pub fn encode(&self) -> [u8; 3] {
        let [high, low] = self.features.0.to_be_bytes();
        [self.init_ttl.into(), high, low]
    }

    /// How many hops it made until it arrived with `ttl`: 1 to 127.
    pub fn hops(&self, ttl: Ttl) -> u8 {
        (u8::from(self.init_ttl).saturating_sub(ttl.into()) + 1).min(0x7f)
    }
}

/// The log that a status of the Heartbeat Subscription state writes for a count or for the rest of a period in
/// seconds: the largest n with `2^(n-1) <= value`; 0 for 0, 0xFF for a count of 0xFFFF.
pub fn to_status_log(value: u32) -> u8 {
    match value {
        0 => 0,
        value => {
            let [.., log] = (value.ilog2() + 1).to_be_bytes();
            log
        }
    }
}

/// The log of a count or period: the smallest n with `value <= 2^(n-1)`; 0 for 0, 0xFF for 0xFFFF
/// ("indefinitely").
pub fn to_log(value: u16) -> u8 {
    match value {
        0 => 0,
        0xffff => 0xff,
        value => {
            let [.., log] = (u32::from(value).next_power_of_two().trailing_zeros() + 1).to_be_bytes();
            log
        }
    }
}

/// What a log of 0 to 17 stands for: 0 for 0, else `2^(n-1)`.
pub fn from_log(log: u8) -> Option<u32> {
    match log {
        0 => Some(0),
        1..=17 => Some(1 << (log - 1)),
        _ => None,
    }
}
