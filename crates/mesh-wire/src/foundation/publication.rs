use alloc::vec::Vec;
use core::time::Duration;

use crate::address::{Address, LabelUuid};
use crate::{AppKeyIndex, DecodeError, Reader, Ttl};

/// Where a model publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishDestination {
    /// Nowhere (unassigned), to an element or to a group. In a status also the hash of a label.
    Address(Address),
    /// To the virtual address of a label.
    Label(LabelUuid),
}

/// The Model Publication state (MshPRT §4.2.3), without the model that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Publish Address.
    pub destination: PublishDestination,
    /// Publish AppKey Index.
    pub app_key_index: AppKeyIndex,
    /// Publish Friendship Credentials Flag.
    pub friendship_credentials: bool,
    /// Publish TTL; `None` is 0xFF, the node's Default TTL.
    pub ttl: Option<Ttl>,
    /// Publish Period.
    pub period: PublishPeriod,
    /// Publish Retransmit Count and Interval Steps.
    pub retransmit: PublishRetransmit,
}

/// How often a state is published without having changed: `steps:6 resolution:2` from the least
/// significant bit (MshPRT §4.2.3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishPeriod(pub u8);

/// How often a publication is repeated: `count:3 steps:5` from the least significant bit
/// (MshPRT §4.2.3.6, §4.2.3.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishRetransmit(pub u8);

impl PublishPeriod {
    /// The period; `None` when nothing is published periodically.
    pub const fn duration(self) -> Option<Duration> {
        let resolution_ms = match self.0 >> 6 {
            0 => 100,
            1 => 1_000,
            2 => 10_000,
            _ => 600_000,
        };
        match self.0 & 0x3f {
            0 => None,
            steps => Some(Duration::from_millis(steps as u64 * resolution_ms)),
        }
    }
}

impl PublishRetransmit {
    /// Transmissions beyond the first: 0 to 7.
    pub const fn count(self) -> u8 {
        self.0 & 0x07
    }

    /// The time between two: 50 ms to 1,600 ms.
    pub const fn interval(self) -> Duration {
        Duration::from_millis(((self.0 >> 3) as u64 + 1) * 50)
    }
}

impl PublishDestination {
    /// The 16 bits that stand for it in a PDU.
    pub fn address(&self) -> Address {
        match self {
            Self::Address(address) => *address,
            Self::Label(label) => Address::from(label.hash()),
        }
    }
}

impl Publication {
    /// No publication: what a status says when there is none, or after an error.
    pub const NONE: Self = Self {
        destination: PublishDestination::Address(Address::Unassigned),
        app_key_index: AppKeyIndex::ZERO,
        friendship_credentials: false,
        ttl: Some(Ttl::ZERO),
        period: PublishPeriod(0),
        retransmit: PublishRetransmit(0),
    };

    /// What follows the address: `AppKeyIndex:12 CredentialFlag:1 RFU:3 · TTL · Period · Retransmit`.
    pub(super) fn encode_parameters(&self, octets: &mut Vec<u8>) {
        let key = u16::from(self.app_key_index) | u16::from(self.friendship_credentials) << 12;
        octets.extend(key.to_le_bytes());
        octets.push(self.ttl.map_or(0xff, u8::from));
        octets.push(self.period.0);
        octets.push(self.retransmit.0);
    }

    pub(super) fn decode_parameters(
        destination: PublishDestination,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let key = reader.u16_le()?;
        let ttl = match reader.u8()? {
            0xff => None,
            ttl => Some(Ttl::new(ttl).ok_or(DecodeError::Prohibited("PublishTTL"))?),
        };
        Ok(Self {
            destination,
            app_key_index: AppKeyIndex::new(key & 0x0fff).ok_or(DecodeError::Prohibited("AppKeyIndex"))?,
            friendship_credentials: key & 0x1000 != 0,
            ttl,
            period: PublishPeriod(reader.u8()?),
            retransmit: PublishRetransmit(reader.u8()?),
        })
    }
}
