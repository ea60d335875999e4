//! The advertising bearer (MshPRT §3.3.1): one AD structure in a non-connectable advertisement.

/// What an AD structure carries, by its assigned AD type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum AdType {
    /// PB-ADV: provisioning.
    PbAdv = 0x29,
    /// A network PDU.
    MeshMessage = 0x2a,
    /// A mesh beacon.
    MeshBeacon = 0x2b,
}

/// Most octets that can follow the AD type: an advertisement has 31, of which two are length and type.
pub const MAX_DATA: usize = 29;

impl From<AdType> for u8 {
    fn from(ad_type: AdType) -> Self {
        ad_type as Self
    }
}
