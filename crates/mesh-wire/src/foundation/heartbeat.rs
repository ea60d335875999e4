use alloc::vec::Vec;

use super::Features;
use crate::address::Address;
use crate::{DecodeError, KeyIndex, NetKeyIndex, Reader, Ttl};

/// The Heartbeat Publication state (MshPRT §4.2.18), as messages write it: `Destination:16 CountLog:8 PeriodLog:8 TTL:8
/// Features:16 NetKeyIndex:16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatPublication {
    /// Where to: an element, a group, or unassigned for nowhere.
    pub destination: Address,
    /// How often: 0, or 2^(n-1) for 1 to 0x11, or without end for 0xFF.
    pub count_log: u8,
    /// How far apart: 0 for not periodically, or 2^(n-1) seconds for 1 to 0x11.
    pub period_log: u8,
    /// With which TTL.
    pub ttl: Ttl,
    /// The features whose changes are told.
    pub features: Features,
    /// In which subnet.
    pub net_key_index: NetKeyIndex,
}

/// The Heartbeat Subscription state (MshPRT §4.2.19), as a status writes it: `Source:16 Destination:16 PeriodLog:8
/// CountLog:8 MinHops:8 MaxHops:8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatSubscription {
    /// Whose heartbeats are counted; unassigned: nobody's.
    pub source: Address,
    /// The destination of those that are counted: the node's primary element, a group, or unassigned.
    pub destination: Address,
    /// For how much longer: 0, or at least 2^(n-1) seconds.
    pub period_log: u8,
    /// How many came: 0, or at least 2^(n-1); 0xFF: 65,535 or more.
    pub count_log: u8,
    /// The fewest hops of one.
    pub min_hops: u8,
    /// The most hops of one.
    pub max_hops: u8,
}

impl HeartbeatPublication {
    /// None.
    pub const NONE: Self = Self {
        destination: Address::Unassigned,
        count_log: 0,
        period_log: 0,
        ttl: Ttl::ZERO,
        features: Features(0),
        net_key_index: KeyIndex::ZERO,
    };

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(u16::from(self.destination).to_le_bytes());
        out.extend([self.count_log, self.period_log, self.ttl.into()]);
        out.extend(self.features.0.to_le_bytes());
        out.extend(self.net_key_index.to_le_bytes());
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let publication = Self::decode_status(r)?;
        match publication.count_log {
            0..=0x11 | 0xff => Ok(publication),
            _ => Err(DecodeError::Prohibited("CountLog")),
        }
    }

    pub(super) fn decode_status(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let publication = Self {
            destination: Address::from(r.u16_le()?),
            count_log: r.u8()?,
            period_log: r.u8()?,
            ttl: Ttl::new(r.u8()?).ok_or(DecodeError::Prohibited("TTL"))?,
            features: Features(r.u16_le()?),
            net_key_index: KeyIndex::from_le_bytes(r.array()?)?,
        };
        if matches!(publication.destination, Address::Virtual(_)) {
            return Err(DecodeError::Prohibited("Destination"));
        }
        match publication.period_log {
            0..=0x11 => Ok(publication),
            _ => Err(DecodeError::Prohibited("PeriodLog")),
        }
    }
}

impl HeartbeatSubscription {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(u16::from(self.source).to_le_bytes());
        out.extend(u16::from(self.destination).to_le_bytes());
        out.extend([self.period_log, self.count_log, self.min_hops, self.max_hops]);
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (source, destination) = Self::decode_addresses(r)?;
        let [period_log, count_log, min_hops, max_hops] = r.array()?;
        Ok(Self { source, destination, period_log, count_log, min_hops, max_hops })
    }

    pub(super) fn decode_addresses(r: &mut Reader<'_>) -> Result<(Address, Address), DecodeError> {
        let (source, destination) = (Address::from(r.u16_le()?), Address::from(r.u16_le()?));
        if !matches!(source, Address::Unassigned | Address::Unicast(_)) {
            return Err(DecodeError::Prohibited("Source"));
        }
        if matches!(destination, Address::Virtual(_)) {
            return Err(DecodeError::Prohibited("Destination"));
        }
        Ok((source, destination))
    }
}
