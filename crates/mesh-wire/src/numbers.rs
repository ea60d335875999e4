use core::fmt;
use core::time::Duration;

use crate::DecodeError;

/// Time To Live, 0 to 127: how often a PDU may still be relayed, plus one (MshPRT §3.4.4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ttl(u8);

impl Ttl {
    /// Heard by direct neighbours, never relayed.
    pub const ZERO: Self = Self(0);
    /// The largest.
    pub const MAX: Self = Self(0x7f);

    /// A TTL, if `ttl` is at most 127.
    pub const fn new(ttl: u8) -> Option<Self> {
        if ttl <= 0x7f { Some(Self(ttl)) } else { None }
    }

    /// What a relay sends on: one less, if the PDU may be relayed at all.
    pub const fn relayed(self) -> Option<Self> {
        if self.0 >= 2 { Some(Self(self.0 - 1)) } else { None }
    }
}

impl From<Ttl> for u8 {
    fn from(ttl: Ttl) -> Self {
        ttl.0
    }
}

/// A sequence number: 24 bits (MshPRT §3.4.4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seq(u32);

impl Seq {
    /// The first.
    pub const ZERO: Self = Self(0);
    /// The last.
    pub const MAX: Self = Self(0x00ff_ffff);

    /// A sequence number, if it has 24 bits.
    pub const fn new(seq: u32) -> Option<Self> {
        if seq <= Self::MAX.0 { Some(Self(seq)) } else { None }
    }

    /// Its three octets, big-endian.
    pub const fn to_be_bytes(self) -> [u8; 3] {
        let [_, a, b, c] = self.0.to_be_bytes();
        [a, b, c]
    }

    /// From its three octets, big-endian.
    pub const fn from_be_bytes([a, b, c]: [u8; 3]) -> Self {
        Self(u32::from_be_bytes([0, a, b, c]))
    }

    /// The one after, if there is one.
    pub const fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }

    /// Its lower 13 bits.
    pub const fn zero(self) -> SeqZero {
        SeqZero::truncate(self.0)
    }
}

impl From<Seq> for u32 {
    fn from(seq: Seq) -> Self {
        seq.0
    }
}

/// The lower 13 bits of the sequence number of a segmented message (MshPRT §3.5.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeqZero(u16);

impl SeqZero {
    const MASK: u16 = 0x1fff;

    /// The lower 13 bits of `bits`.
    pub const fn truncate(bits: u32) -> Self {
        let [_, _, high, low] = bits.to_be_bytes();
        Self(u16::from_be_bytes([high, low]) & Self::MASK)
    }
}

impl From<SeqZero> for u16 {
    fn from(seq_zero: SeqZero) -> Self {
        seq_zero.0
    }
}

/// The IV Index, shared by a whole network (MshPRT §3.9.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IvIndex(pub u32);

impl IvIndex {
    /// IVI: its least significant bit, which a PDU carries.
    pub const fn ivi(self) -> bool {
        self.0 & 1 == 1
    }

    /// The IV Index with which a PDU that carries `ivi` was secured, when `self` is the current one: it,
    /// or the one before (MshPRT §3.11.5). `None` for a PDU from before IV Index 0.
    pub const fn of_received(self, ivi: bool) -> Option<Self> {
        if self.ivi() == ivi {
            return Some(self);
        }
        match self.0.checked_sub(1) {
            Some(previous) => Some(Self(previous)),
            None => None,
        }
    }
}

/// IV Index and sequence number together: the order of all that a source sends. For a segmented message,
/// SeqAuth (MshPRT §3.5.3.1); else the IVISeq of the replay list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeqAuth {
    /// The IV Index with which the PDU was secured.
    pub iv_index: IvIndex,
    /// The sequence number, for a segmented message that of its first segment.
    pub seq: Seq,
}

impl SeqAuth {
    /// The SeqAuth of a segment that carries `seq_zero` and arrived with `segment`: the largest that is not
    /// above and ends with the same 13 bits. `None` when it would lie before the first sequence number.
    pub fn of_segment(segment: Self, seq_zero: SeqZero) -> Option<Self> {
        let seq = u32::from(segment.seq);
        let back = (seq.wrapping_sub(u32::from(u16::from(seq_zero)))) & u32::from(SeqZero::MASK);
        Some(Self { iv_index: segment.iv_index, seq: Seq::new(seq.checked_sub(back)?)? })
    }
}

/// The index of a NetKey or AppKey: 12 bits (MshPRT §4.3.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyIndex(u16);

/// The index of a NetKey.
pub type NetKeyIndex = KeyIndex;

/// The index of an AppKey.
pub type AppKeyIndex = KeyIndex;

impl KeyIndex {
    /// The first; as a NetKey index, that of the primary subnet.
    pub const ZERO: Self = Self(0);

    /// An index, if it has 12 bits.
    pub const fn new(index: u16) -> Option<Self> {
        if index <= 0x0fff { Some(Self(index)) } else { None }
    }

    /// One index in two octets, little-endian; the upper four bits are zero.
    pub const fn to_le_bytes(self) -> [u8; 2] {
        self.0.to_le_bytes()
    }

    /// Reads one index from two octets; its upper four bits are prohibited.
    pub fn from_le_bytes(octets: [u8; 2]) -> Result<Self, DecodeError> {
        Self::new(u16::from_le_bytes(octets)).ok_or(DecodeError::Prohibited("key index"))
    }

    /// Two indexes in three octets, little-endian, the first in the lower bits.
    pub const fn pack_pair(first: Self, second: Self) -> [u8; 3] {
        let [a, b, c, _] = (first.0 as u32 | (second.0 as u32) << 12).to_le_bytes();
        [a, b, c]
    }

    /// Reads two indexes from three octets.
    pub const fn unpack_pair([a, b, c]: [u8; 3]) -> (Self, Self) {
        (Self(a as u16 | (b as u16 & 0x0f) << 8), Self((b >> 4) as u16 | (c as u16) << 4))
    }
}

impl From<KeyIndex> for u16 {
    fn from(index: KeyIndex) -> Self {
        index.0
    }
}

/// A company, by its number in the Bluetooth SIG's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompanyId(pub u16);

/// A model: of the Bluetooth SIG, or of a vendor (MshPRT §4.2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModelId {
    /// A model of the Bluetooth SIG, by its assigned number.
    Sig(u16),
    /// A model of a vendor.
    Vendor(CompanyId, u16),
}

impl ModelId {
    /// Configuration Server.
    pub const CONFIGURATION_SERVER: Self = Self::Sig(0x0000);
    /// Configuration Client.
    pub const CONFIGURATION_CLIENT: Self = Self::Sig(0x0001);
    /// Health Server.
    pub const HEALTH_SERVER: Self = Self::Sig(0x0002);
    /// Health Client.
    pub const HEALTH_CLIENT: Self = Self::Sig(0x0003);
}

/// Four hexadecimal digits, or eight of which the first four are the company, as databases write it.
impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sig(model) => write!(f, "{model:04x}"),
            Self::Vendor(CompanyId(company), model) => write!(f, "{company:04x}{model:04x}"),
        }
    }
}

/// How often and how fast a PDU is sent: the Network Transmit and Relay Retransmit states
/// (MshPRT §4.2.20, §4.2.21), `count:3 steps:5` from the least significant bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    count: u8,
    steps: u8,
}

impl Transmit {
    /// Sent `transmissions` (1 to 8) times, `interval` apart: 10 ms to 320 ms in steps of 10 ms.
    pub fn new(transmissions: u8, interval: Duration) -> Option<Self> {
        let steps = u8::try_from(interval.as_millis() / 10).ok()?.checked_sub(1)?;
        let exact = interval.as_micros().is_multiple_of(10_000);
        let valid = (1..=8).contains(&transmissions) && steps < 32 && exact;
        valid.then(|| Self { count: transmissions - 1, steps })
    }

    /// From its octet; every value is valid.
    pub const fn from_octet(octet: u8) -> Self {
        Self { count: octet & 0x07, steps: octet >> 3 }
    }

    /// Its octet.
    pub const fn to_octet(self) -> u8 {
        self.steps << 3 | self.count
    }

    /// How often the PDU is sent in all: 1 to 8.
    pub const fn transmissions(self) -> u8 {
        self.count + 1
    }

    /// The time between the starts of two transmissions, before the random part.
    pub const fn interval(self) -> Duration {
        Duration::from_millis((self.steps as u64 + 1) * 10)
    }
}
