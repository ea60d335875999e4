//! Proxy configuration messages (MshPRT §6.5, §6.6), big-endian: secured as network PDUs with CTL 1, TTL 0, no
//! destination, and a nonce of their own.

use mesh_crypto::NetworkKeys;
use mesh_crypto::nonce::{Nonce, NonceFields};
use smallvec::SmallVec;

use crate::address::{Address, UnicastAddress};
use crate::network::{Header, Octets, TransportPdu};
use crate::{DecodeError, IvIndex, Reader, Seq, Ttl};

/// Most addresses in one message: 11 octets hold them.
pub const MAX_ADDRESSES: usize = 5;

/// What a proxy filter does with the addresses in its list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FilterType {
    /// 0: only what is for them goes to the client.
    #[default]
    AcceptList,
    /// 1: all but what is for them goes to the client.
    RejectList,
}

/// What client and server tell each other about the proxy filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyConfiguration {
    /// `00 · FilterType:8`: sets the type, and empties the list.
    SetFilterType(FilterType),
    /// `01 · AddressArray:16 × n`.
    AddAddresses(Addresses),
    /// `02 · AddressArray:16 × n`.
    RemoveAddresses(Addresses),
    /// `03 · FilterType:8 · ListSize:16`: the server's answer to each of the others.
    FilterStatus {
        /// The type.
        filter_type: FilterType,
        /// How many addresses the list has.
        list_size: u16,
    },
}

/// Addresses for the list.
pub type Addresses = SmallVec<[Address; MAX_ADDRESSES]>;

/// A proxy configuration message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyConfigurationPdu {
    /// Its place in what the source sends.
    pub seq: Seq,
    /// The primary element of the client or server that sent it.
    pub src: UnicastAddress,
    /// Opcode and parameters: 1 to 12 octets.
    pub message: TransportPdu,
}

impl FilterType {
    fn decode(octet: u8) -> Result<Self, DecodeError> {
        match octet {
            0 => Ok(Self::AcceptList),
            1 => Ok(Self::RejectList),
            _ => Err(DecodeError::Prohibited("FilterType")),
        }
    }
}

impl ProxyConfiguration {
    /// Reads opcode and parameters.
    ///
    /// # Errors
    /// What is wrong with them; [`DecodeError::UnknownOpcode`] of what is to be ignored.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(octets);
        let message = match reader.u8()? & 0x3f {
            0 => Self::SetFilterType(FilterType::decode(reader.u8()?)?),
            1 => Self::AddAddresses(addresses(&mut reader)?),
            2 => Self::RemoveAddresses(addresses(&mut reader)?),
            3 => Self::FilterStatus {
                filter_type: FilterType::decode(reader.u8()?)?,
                list_size: u16::from_be_bytes(reader.array()?),
            },
            _ => return Err(DecodeError::UnknownOpcode),
        };
        reader.finish(message)
    }

    /// Opcode and parameters.
    pub fn encode(&self) -> TransportPdu {
        let mut octets = TransportPdu::new();
        match self {
            Self::SetFilterType(filter_type) => octets.extend([0, *filter_type as u8]),
            Self::AddAddresses(addresses) | Self::RemoveAddresses(addresses) => {
                octets.push(if matches!(self, Self::AddAddresses(_)) { 1 } else { 2 });
                octets.extend(addresses.iter().flat_map(|&address| u16::from(address).to_be_bytes()));
            }
            Self::FilterStatus { filter_type, list_size } => {
                octets.extend([3, *filter_type as u8]);
                octets.extend(list_size.to_be_bytes());
            }
        }
        octets
    }
}

fn addresses(reader: &mut Reader<'_>) -> Result<Addresses, DecodeError> {
    let mut addresses = Addresses::new();
    while !reader.is_empty() {
        addresses.push(Address::from(u16::from_be_bytes(reader.array()?)));
    }
    Ok(addresses)
}

impl ProxyConfigurationPdu {
    const fn header(&self) -> Header {
        Header { ctl: true, ttl: Ttl::ZERO, seq: self.seq, src: self.src }
    }

    /// Encrypts and hides it.
    pub fn secure(&self, keys: &NetworkKeys, iv_index: IvIndex) -> Octets {
        let header = self.header();
        header.seal(Address::Unassigned, &self.message, keys, iv_index, &nonce(header, iv_index))
    }

    /// Opens what was secured with these keys.
    ///
    /// # Errors
    /// [`DecodeError::Mic`] or what is wrong with its header: other keys secured it. Else what is wrong with it.
    pub fn open(octets: &[u8], keys: &NetworkKeys, iv_index: IvIndex) -> Result<Self, DecodeError> {
        let header = Header::deobfuscate(octets, keys, iv_index)?;
        if !header.ctl || header.ttl != Ttl::ZERO {
            return Err(DecodeError::Prohibited("CTL, TTL"));
        }
        let (dst, message) = header.open(octets, keys, &nonce(header, iv_index))?;
        if dst != Address::Unassigned {
            return Err(DecodeError::Prohibited("DST"));
        }
        Ok(Self { seq: header.seq, src: header.src, message })
    }
}

fn nonce(header: Header, iv_index: IvIndex) -> Nonce {
    Nonce::proxy(NonceFields { seq: header.seq.into(), src: header.src.into(), iv_index: iv_index.0 })
}
