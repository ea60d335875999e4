//! The Proxy PDU (MshPRT §6.3.1): `SAR:2 MessageType:6 · Data`.

use alloc::vec::Vec;

use crate::DecodeError;

/// What a Proxy PDU carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum MessageType {
    /// 0: a network PDU.
    NetworkPdu = 0,
    /// 1: a mesh beacon.
    MeshBeacon = 1,
    /// 2: a proxy configuration message.
    ProxyConfiguration = 2,
    /// 3: a provisioning PDU.
    ProvisioningPdu = 3,
}

/// Whether the PDU is whole, or which part of a message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Sar {
    /// 0: a whole message.
    Complete = 0,
    /// 1: the first part.
    First = 1,
    /// 2: a part in between.
    Continuation = 2,
    /// 3: the last part.
    Last = 3,
}

/// A Proxy PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyPdu<'a> {
    /// Which part.
    pub sar: Sar,
    /// Of what.
    pub message_type: MessageType,
    /// The part.
    pub data: &'a [u8],
}

impl MessageType {
    /// Most octets of a message of this type: a network PDU has 29, a Mesh Private beacon 27, a proxy configuration
    /// message 29, and a public key in a provisioning PDU 65. Records of certificates may be longer than that; with
    /// the largest fragments that PB-ADV has room for, 1469.
    pub const fn max_length(self) -> usize {
        match self {
            Self::NetworkPdu | Self::ProxyConfiguration => 29,
            Self::MeshBeacon => 27,
            Self::ProvisioningPdu => super::pb_adv::MAX_PROVISIONING_PDU,
        }
    }
}

impl<'a> ProxyPdu<'a> {
    /// Reads what was written to Data In, or notified by Data Out.
    ///
    /// # Errors
    /// When it is empty, or of a type that is reserved, which is to be ignored.
    pub fn decode(octets: &'a [u8]) -> Result<Self, DecodeError> {
        let (&first, data) = octets.split_first().ok_or(DecodeError::TooShort)?;
        let sar = match first >> 6 {
            0 => Sar::Complete,
            1 => Sar::First,
            2 => Sar::Continuation,
            _ => Sar::Last,
        };
        let message_type = match first & 0x3f {
            0 => MessageType::NetworkPdu,
            1 => MessageType::MeshBeacon,
            2 => MessageType::ProxyConfiguration,
            3 => MessageType::ProvisioningPdu,
            _ => return Err(DecodeError::UnknownOpcode),
        };
        Ok(Self { sar, message_type, data })
    }

    /// Its octets.
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(1 + self.data.len());
        octets.push((self.sar as u8) << 6 | self.message_type as u8);
        octets.extend_from_slice(self.data);
        octets
    }
}

/// The Proxy PDUs that carry a message, each of at most `pdu_size` octets: ATT_MTU - 3 on GATT, at least 20
/// (MshPRT §6.3.2.1).
pub fn segment(message_type: MessageType, message: &[u8], pdu_size: usize) -> Vec<Vec<u8>> {
    let room = pdu_size.saturating_sub(1).max(1);
    let parts = message.chunks(room).count().max(1);
    (0..parts)
        .map(|part| {
            let sar = match part {
                _ if parts == 1 => Sar::Complete,
                0 => Sar::First,
                _ if part == parts - 1 => Sar::Last,
                _ => Sar::Continuation,
            };
            let data = message.chunks(room).nth(part).unwrap_or_default();
            ProxyPdu { sar, message_type, data }.encode()
        })
        .collect()
}
