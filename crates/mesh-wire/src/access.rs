//! The access layer's PDU (MshPRT §3.7.2): an opcode of one, two or three octets, and parameters.

use alloc::vec::Vec;
use core::fmt;

use crate::{CompanyId, DecodeError};

/// Most octets of an access message: opcode and parameters with a 32-bit TransMIC.
pub const MAX_PAYLOAD: usize = 380;

/// An opcode, as its first octet says how long it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Opcode {
    /// One octet: 0x00 to 0x7E.
    One(u8),
    /// Two octets: 0x8000 to 0xBFFF, big-endian.
    Two(u16),
    /// Three octets: a vendor's opcode of six bits, and the company, little-endian.
    Vendor(u8, CompanyId),
}

impl Opcode {
    /// A vendor's opcode, if `opcode` has six bits.
    pub const fn vendor(opcode: u8, company: CompanyId) -> Option<Self> {
        if opcode < 0x40 { Some(Self::Vendor(opcode, company)) } else { None }
    }

    /// Splits an access message into its opcode and parameters.
    ///
    /// # Errors
    /// When the opcode is cut short, or is 0x7F, which is reserved.
    pub fn decode(payload: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        match *payload {
            [] => Err(DecodeError::TooShort),
            [0x7f, ..] => Err(DecodeError::Prohibited("opcode")),
            [one @ 0x00..=0x7e, ref parameters @ ..] => Ok((Self::One(one), parameters)),
            [first @ 0x80..=0xbf, second, ref parameters @ ..] => {
                Ok((Self::Two(u16::from_be_bytes([first, second])), parameters))
            }
            [first @ 0xc0..=0xff, low, high, ref parameters @ ..] => {
                Ok((Self::Vendor(first & 0x3f, CompanyId(u16::from_le_bytes([low, high]))), parameters))
            }
            _ => Err(DecodeError::TooShort),
        }
    }

    /// Appends the opcode's octets.
    pub fn encode(self, payload: &mut Vec<u8>) {
        match self {
            Self::One(opcode) => payload.push(opcode),
            Self::Two(opcode) => payload.extend(opcode.to_be_bytes()),
            Self::Vendor(opcode, company) => {
                payload.push(0xc0 | opcode);
                payload.extend(company.0.to_le_bytes());
            }
        }
    }

    /// An access message of this opcode.
    pub fn with(self, parameters: &[u8]) -> Vec<u8> {
        let mut payload = Vec::with_capacity(3 + parameters.len());
        self.encode(&mut payload);
        payload.extend_from_slice(parameters);
        payload
    }
}

/// As assigned numbers are written: `8202`, `00`, `15 of 000a`.
impl fmt::Debug for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(opcode) => write!(f, "{opcode:02x}"),
            Self::Two(opcode) => write!(f, "{opcode:04x}"),
            Self::Vendor(opcode, CompanyId(company)) => write!(f, "{opcode:02x} of {company:04x}"),
        }
    }
}
