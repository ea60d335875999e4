//! The Mesh Proxy Service in connectable advertisements (MshPRT §7.2.2.2): which network, or which node, is there.

use mesh_crypto::NetKey;

use crate::address::UnicastAddress;
use crate::network::Octets;
use crate::{DecodeError, Reader};

/// The 16-bit UUID of the Mesh Proxy Service.
pub const MESH_PROXY_SERVICE: u16 = 0x1828;

/// The Service Data of the Mesh Proxy Service: `Identification Type:8`, and what that has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyIdentification {
    /// `00 · Network ID:64`.
    NetworkId([u8; 8]),
    /// `01 · Hash:64 · Random:64`: only who has the NetKey can tell which node it is.
    NodeIdentity(Identity),
    /// `02 · Hash:64 · Random:64`, of Mesh Protocol 1.1: the same of a network.
    PrivateNetworkIdentity(Identity),
    /// `03 · Hash:64 · Random:64`, of Mesh Protocol 1.1.
    PrivateNodeIdentity(Identity),
}

/// What stands for somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of whom, with `random`.
    pub hash: [u8; 8],
    /// Drawn anew each time, so that nobody can be followed.
    pub random: [u8; 8],
}

impl ProxyIdentification {
    /// The node whose primary element has this address, in the subnet with this key.
    pub fn node_identity(net_key: &NetKey, address: UnicastAddress, random: [u8; 8]) -> Self {
        Self::NodeIdentity(Identity { hash: net_key.node_identity_hash(&random, address.into()), random })
    }

    /// Whether it is a node's identity, and the node's whose primary element has this address.
    pub fn is_node(&self, net_key: &NetKey, address: UnicastAddress) -> bool {
        match self {
            Self::NodeIdentity(identity) => *self == Self::node_identity(net_key, address, identity.random),
            _ => false,
        }
    }

    /// Reads the Service Data after the UUID.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(octets);
        let kind = reader.u8()?;
        if kind == 0 {
            let id = reader.array()?;
            return reader.finish(Self::NetworkId(id));
        }
        let make = match kind {
            1 => Self::NodeIdentity,
            2 => Self::PrivateNetworkIdentity,
            3 => Self::PrivateNodeIdentity,
            _ => return Err(DecodeError::UnknownOpcode),
        };
        let identity = Identity { hash: reader.array()?, random: reader.array()? };
        reader.finish(make(identity))
    }

    /// The Service Data after the UUID: what an advertisement has with it are flags, the list of service UUIDs and the
    /// UUID itself.
    pub fn encode(&self) -> Octets {
        let mut octets = Octets::new();
        let (kind, identity) = match self {
            Self::NetworkId(id) => {
                octets.push(0);
                octets.extend_from_slice(id);
                return octets;
            }
            Self::NodeIdentity(identity) => (1, identity),
            Self::PrivateNetworkIdentity(identity) => (2, identity),
            Self::PrivateNodeIdentity(identity) => (3, identity),
        };
        octets.push(kind);
        octets.extend_from_slice(&identity.hash);
        octets.extend_from_slice(&identity.random);
        octets
    }
}
