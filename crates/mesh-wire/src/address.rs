//! Addresses (MshPRT §3.4.2): 16 bits whose upper ones say what kind it is.

use core::fmt;

pub use mesh_crypto::LabelUuid;
use smallvec::SmallVec;

use crate::DecodeError;

/// Any address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// 0x0000: none.
    Unassigned,
    /// 0x0001 to 0x7FFF: one element.
    Unicast(UnicastAddress),
    /// 0x8000 to 0xBFFF: all that subscribe to a Label UUID with this hash.
    Virtual(VirtualAddress),
    /// 0xC000 to 0xFFFF: all that subscribe, or all nodes with a feature.
    Group(GroupAddress),
}

/// The address of one element: 0x0001 to 0x7FFF.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnicastAddress(u16);

/// The hash of a Label UUID: 0x8000 to 0xBFFF. Several labels may share one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualAddress(u16);

/// A group address: 0xC000 to 0xFFFF, of which 0xFF00 and above are fixed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupAddress(u16);

impl UnicastAddress {
    /// The unicast address `address`, if it is one.
    pub const fn new(address: u16) -> Option<Self> {
        if matches!(address, 0x0001..=0x7fff) { Some(Self(address)) } else { None }
    }

    /// The address of the element with this index, when `self` is the primary element's.
    pub const fn element(self, index: u8) -> Option<Self> {
        Self::new(self.0 + index as u16)
    }
}

impl GroupAddress {
    /// All nodes that forward directed messages.
    pub const ALL_DIRECTED_FORWARDING_NODES: Self = Self(0xfffb);
    /// All nodes whose proxy feature is enabled.
    pub const ALL_PROXIES: Self = Self(0xfffc);
    /// All nodes whose friend feature is enabled.
    pub const ALL_FRIENDS: Self = Self(0xfffd);
    /// All nodes whose relay feature is enabled.
    pub const ALL_RELAYS: Self = Self(0xfffe);
    /// All nodes.
    pub const ALL_NODES: Self = Self(0xffff);

    /// The group address `address`, if it is one.
    pub const fn new(address: u16) -> Option<Self> {
        if address >= 0xc000 { Some(Self(address)) } else { None }
    }

    /// Whether the address belongs to the fixed groups, whose members are decided by a feature.
    pub const fn is_fixed(self) -> bool {
        self.0 >= 0xff00
    }
}

impl VirtualAddress {
    /// The address of a label.
    pub fn of(label: &LabelUuid) -> Self {
        Self(label.hash())
    }
}

impl From<u16> for Address {
    fn from(address: u16) -> Self {
        match address {
            0 => Self::Unassigned,
            0x0001..=0x7fff => Self::Unicast(UnicastAddress(address)),
            0x8000..=0xbfff => Self::Virtual(VirtualAddress(address)),
            0xc000..=0xffff => Self::Group(GroupAddress(address)),
        }
    }
}

impl From<Address> for u16 {
    fn from(address: Address) -> Self {
        match address {
            Address::Unassigned => 0,
            Address::Unicast(UnicastAddress(address))
            | Address::Virtual(VirtualAddress(address))
            | Address::Group(GroupAddress(address)) => address,
        }
    }
}

impl Address {
    /// The element's address, if it is one's.
    pub const fn unicast(self) -> Option<UnicastAddress> {
        match self {
            Self::Unicast(address) => Some(address),
            _ => None,
        }
    }
}

impl TryFrom<u16> for UnicastAddress {
    type Error = DecodeError;

    fn try_from(address: u16) -> Result<Self, DecodeError> {
        Self::new(address).ok_or(DecodeError::Prohibited("unicast address"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", u16::from(*self))
    }
}

/// The addresses of a node: its primary element's and how many elements it has (MshPRT §3.4.2.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnicastAddressRange {
    /// The primary element.
    pub first: UnicastAddress,
    /// The number of elements, at least 1.
    pub length: u8,
}

impl UnicastAddressRange {
    /// In transport control messages: `LengthPresent:1 RangeStart:15`, then RangeLength when it is not 1;
    /// big-endian.
    pub fn to_be_octets(self) -> SmallVec<[u8; 3]> {
        let head = u16::from(self.length > 1) << 15 | self.first.0;
        self.with_length(head.to_be_bytes())
    }

    /// In access messages: `RangeStart:15 LengthPresent:1` from the most significant bit; little-endian.
    pub fn to_le_octets(self) -> SmallVec<[u8; 3]> {
        let head = self.first.0 << 1 | u16::from(self.length > 1);
        self.with_length(head.to_le_bytes())
    }

    fn with_length(self, head: [u8; 2]) -> SmallVec<[u8; 3]> {
        let mut octets = SmallVec::from_slice(&head);
        octets.extend((self.length > 1).then_some(self.length));
        octets
    }
}

macro_rules! kind_of_address {
    ($name:ident, $variant:ident) => {
        impl From<$name> for Address {
            fn from(address: $name) -> Self {
                Self::$variant(address)
            }
        }

        impl From<$name> for u16 {
            fn from(address: $name) -> Self {
                address.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:04x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:04x}", self.0)
            }
        }
    };
}

kind_of_address!(UnicastAddress, Unicast);
kind_of_address!(VirtualAddress, Virtual);
kind_of_address!(GroupAddress, Group);
