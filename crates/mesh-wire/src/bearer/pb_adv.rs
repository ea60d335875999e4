//! PB-ADV (MshPRT §5.2.1, §5.3): `Link ID:32 · Transaction Number:8 · Generic Provisioning PDU`, big-endian.

use alloc::vec::Vec;

use super::MAX_DATA;
use crate::network::Octets;
use crate::{DecodeError, Reader};

/// Octets of a provisioning PDU in a Transaction Start PDU: 29 less the header of PB-ADV and that of the PDU.
pub const START_SEGMENT: usize = 20;

/// Octets of a provisioning PDU in a Transaction Continuation PDU.
pub const CONTINUATION_SEGMENT: usize = 23;

/// The number of the last segment that a transaction can have.
pub const MAX_SEG_N: u8 = 63;

/// Octets of the longest provisioning PDU that 64 segments carry.
pub const MAX_PROVISIONING_PDU: usize = START_SEGMENT + MAX_SEG_N as usize * CONTINUATION_SEGMENT;

/// The UUID by which an unprovisioned device is known (MshPRT §3.11.3).
pub type DeviceUuid = [u8; 16];

/// A PB-ADV PDU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PbAdvPdu {
    /// Which link.
    pub link_id: u32,
    /// Which transaction: 00 to 7F of the provisioner, 80 to FF of the device, 00 of bearer control.
    pub transaction: u8,
    /// What it carries.
    pub content: GenericPdu,
}

/// A Generic Provisioning PDU: the lower two bits of its first octet say which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GenericPdu {
    /// `SegN:6 0:2 · TotalLength:16 · FCS:8 · segment 0`.
    TransactionStart {
        /// The number of the last segment.
        seg_n: u8,
        /// Octets of the whole provisioning PDU.
        total_length: u16,
        /// Its check sequence.
        fcs: u8,
        /// Its first octets.
        octets: Segment,
    },
    /// `0:6 1:2`.
    TransactionAck,
    /// `SegmentIndex:6 2:2 · segment`.
    TransactionContinuation {
        /// Which segment: at least 1.
        index: u8,
        /// Its octets.
        octets: Segment,
    },
    /// `BearerOpcode:6 3:2 · parameters`.
    BearerControl(BearerControl),
}

/// Octets of a segment.
pub type Segment = smallvec::SmallVec<[u8; CONTINUATION_SEGMENT]>;

/// What opens and closes a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BearerControl {
    /// Opens a link to a device.
    LinkOpen(DeviceUuid),
    /// The device agrees.
    LinkAck,
    /// Either side closes it.
    LinkClose(CloseReason),
}

/// Why a link was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// 0: the device is provisioned.
    Success,
    /// 1: the other side took too long.
    Timeout,
    /// 2: it failed.
    Fail,
    /// 3 to 255: something that is not defined yet. It closes the link all the same.
    Other(u8),
}

impl From<u8> for CloseReason {
    fn from(reason: u8) -> Self {
        match reason {
            0 => Self::Success,
            1 => Self::Timeout,
            2 => Self::Fail,
            other => Self::Other(other),
        }
    }
}

impl From<CloseReason> for u8 {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::Success => 0,
            CloseReason::Timeout => 1,
            CloseReason::Fail => 2,
            CloseReason::Other(other) => other,
        }
    }
}

impl PbAdvPdu {
    /// Reads what follows the AD type PB-ADV.
    ///
    /// # Errors
    /// What is wrong with its layout.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        if octets.len() > MAX_DATA {
            return Err(DecodeError::TooLong);
        }
        let mut reader = Reader::new(octets);
        let link_id = u32::from_be_bytes(reader.array()?);
        let transaction = reader.u8()?;
        Ok(Self { link_id, transaction, content: GenericPdu::decode(reader)? })
    }

    /// Its octets; at most 29.
    pub fn encode(&self) -> Octets {
        let mut octets = Octets::from_slice(&self.link_id.to_be_bytes());
        octets.push(self.transaction);
        match &self.content {
            GenericPdu::TransactionStart { seg_n, total_length, fcs, octets: segment } => {
                octets.push(seg_n << 2);
                octets.extend(total_length.to_be_bytes());
                octets.push(*fcs);
                octets.extend_from_slice(segment);
            }
            GenericPdu::TransactionAck => octets.push(1),
            GenericPdu::TransactionContinuation { index, octets: segment } => {
                octets.push(index << 2 | 2);
                octets.extend_from_slice(segment);
            }
            GenericPdu::BearerControl(BearerControl::LinkOpen(uuid)) => {
                octets.push(3);
                octets.extend_from_slice(uuid);
            }
            GenericPdu::BearerControl(BearerControl::LinkAck) => octets.push(0x01 << 2 | 3),
            GenericPdu::BearerControl(BearerControl::LinkClose(reason)) => {
                octets.extend([0x02 << 2 | 3, u8::from(*reason)]);
            }
        }
        octets
    }
}

impl GenericPdu {
    fn decode(mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        let first = reader.u8()?;
        let number = first >> 2;
        match first & 3 {
            0 => {
                let total_length = u16::from_be_bytes(reader.array()?);
                let fcs = reader.u8()?;
                let octets = reader.rest();
                if usize::from(total_length) > MAX_PROVISIONING_PDU || octets.len() > START_SEGMENT {
                    return Err(DecodeError::TooLong);
                }
                // The number of segments follows from the length. A sender to whom it does not would have later
                // segments written behind the end of what the length promised.
                if total_length == 0 || number != last_segment(usize::from(total_length)) {
                    return Err(DecodeError::Prohibited("SegN"));
                }
                if octets.len() != segment_length(usize::from(total_length), 0) {
                    return Err(DecodeError::TooShort);
                }
                Ok(Self::TransactionStart { seg_n: number, total_length, fcs, octets: octets.into() })
            }
            1 if number != 0 => Err(DecodeError::Prohibited("Padding")),
            1 => reader.finish(Self::TransactionAck),
            2 if number == 0 => Err(DecodeError::Prohibited("SegmentIndex")),
            2 => match reader.rest() {
                [] => Err(DecodeError::TooShort),
                octets if octets.len() > CONTINUATION_SEGMENT => Err(DecodeError::TooLong),
                octets => Ok(Self::TransactionContinuation { index: number, octets: octets.into() }),
            },
            _ => BearerControl::decode(number, reader).map(Self::BearerControl),
        }
    }
}

impl BearerControl {
    fn decode(opcode: u8, mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        let control = match opcode {
            0 => Self::LinkOpen(reader.array()?),
            1 => Self::LinkAck,
            2 => Self::LinkClose(reader.u8()?.into()),
            _ => return Err(DecodeError::UnknownOpcode),
        };
        reader.finish(control)
    }
}

/// The number of the last segment of a provisioning PDU with so many octets: 1 to [`MAX_PROVISIONING_PDU`].
pub fn last_segment(length: usize) -> u8 {
    let further = length.saturating_sub(START_SEGMENT).div_ceil(CONTINUATION_SEGMENT);
    u8::try_from(further).unwrap_or(u8::MAX)
}

/// How many octets of such a PDU segment `index` has; 0 behind its end.
pub fn segment_length(length: usize, index: u8) -> usize {
    let start = segment_start(index);
    let size = if index == 0 { START_SEGMENT } else { CONTINUATION_SEGMENT };
    length.saturating_sub(start).min(size)
}

/// Where segment `index` begins.
pub fn segment_start(index: u8) -> usize {
    match index.checked_sub(1) {
        None => 0,
        Some(before) => START_SEGMENT + usize::from(before) * CONTINUATION_SEGMENT,
    }
}

/// The transaction that carries a provisioning PDU of 1 to [`MAX_PROVISIONING_PDU`] octets, segment by segment.
pub fn segment(pdu: &[u8]) -> Vec<GenericPdu> {
    let seg_n = last_segment(pdu.len());
    let of = |index: u8| {
        let start = segment_start(index);
        pdu.get(start..start + segment_length(pdu.len(), index)).unwrap_or_default().into()
    };
    (0..=seg_n)
        .map(|index| match index {
            0 => GenericPdu::TransactionStart {
                seg_n,
                total_length: u16::try_from(pdu.len()).unwrap_or(u16::MAX),
                fcs: fcs(pdu),
                octets: of(0),
            },
            index => GenericPdu::TransactionContinuation { index, octets: of(index) },
        })
        .collect()
}

/// The Frame Check Sequence of 3GPP TS 27.010: a CRC of 8 bits, polynomial x⁸ + x² + x + 1, reflected.
pub fn fcs(pdu: &[u8]) -> u8 {
    let step = |crc: u8| if crc & 1 == 1 { crc >> 1 ^ 0xe0 } else { crc >> 1 };
    !pdu.iter().fold(0xff, |crc, octet| (0..8).fold(crc ^ octet, |crc, _| step(crc)))
}
