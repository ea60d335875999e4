//! Mesh beacons (MshPRT §3.10), big-endian.

use mesh_crypto::{NetKey, PrivateBeaconRandom, kdf};

use crate::bearer::pb_adv::DeviceUuid;
use crate::network::Octets;
use crate::{DecodeError, IvIndex, Reader};

/// A mesh beacon, as far as it can be read without keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beacon {
    /// `00 · Device UUID:128 · OOB Information:16 · URI Hash:32`, the last only where there is a URI.
    UnprovisionedDevice(UnprovisionedDevice),
    /// `01 · Flags:8 · Network ID:64 · IV Index:32 · Authentication Value:64`.
    SecureNetwork(SecureNetwork),
    /// `02 · Random:104 · Obfuscated Private Beacon Data:40 · Authentication Tag:64`.
    MeshPrivate {
        /// What it is hidden with.
        random: PrivateBeaconRandom,
        /// The rest.
        sealed: [u8; 13],
    },
}

/// The 16-bit UUID of the Mesh Provisioning Service.
pub const MESH_PROVISIONING_SERVICE: u16 = 0x1827;

/// Key Refresh Flag and IV Update Flag; the other bits of Flags are reserved (MshPRT table 3.80).
const USED_FLAGS: u8 = 0b11;

/// A device that waits to be provisioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnprovisionedDevice {
    /// Its UUID.
    pub uuid: DeviceUuid,
    /// Where its out-of-band information is found; bit 15 is "on device".
    pub oob_information: u16,
    /// The first four octets of s1 of its URI, if it advertises one.
    pub uri_hash: Option<[u8; 4]>,
}

/// Key Refresh Flag and IV Update Flag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkFlags {
    /// Bit 0: the subnet is in phase 2 of a Key Refresh.
    pub key_refresh: bool,
    /// Bit 1: an IV Update is in progress.
    pub iv_update: bool,
}

/// What a subnet says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecureNetwork {
    /// Flags.
    pub flags: NetworkFlags,
    /// Bits 2 to 7 of Flags, in their places: reserved, so that nothing follows from them; but they are authenticated
    /// with the others.
    pub reserved: u8,
    /// The public name of the subnet.
    pub network_id: [u8; 8],
    /// IV Index.
    pub iv_index: IvIndex,
    /// What proves it.
    pub authentication: [u8; 8],
}

impl NetworkFlags {
    /// Reads Flags; the other bits are reserved, and ignored.
    pub const fn from_octet(octet: u8) -> Self {
        Self { key_refresh: octet & 1 != 0, iv_update: octet & 2 != 0 }
    }

    /// Its octet.
    pub fn to_octet(self) -> u8 {
        u8::from(self.key_refresh) | u8::from(self.iv_update) << 1
    }
}

impl UnprovisionedDevice {
    /// The hash that stands for a URI (its AD data, with the octet for its scheme) in the beacon.
    pub fn hash_uri(uri: &[u8]) -> [u8; 4] {
        let [a, b, c, d, ..] = kdf::s1(uri);
        [a, b, c, d]
    }

    /// What a device that can be provisioned by PB-GATT advertises as service data of [`MESH_PROVISIONING_SERVICE`]:
    /// `Device UUID:128 · OOB Information:16`, the latter little-endian, other than in the beacon (MshPRT §7.1.2.2.1).
    pub fn service_data(&self) -> [u8; 18] {
        let mut octets = [0; 18];
        octets[..16].copy_from_slice(&self.uuid);
        octets[16..].copy_from_slice(&self.oob_information.to_le_bytes());
        octets
    }

    /// Reads what [`UnprovisionedDevice::service_data`] writes.
    ///
    /// # Errors
    /// What is wrong with its length.
    pub fn from_service_data(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(octets);
        let (uuid, oob_information) = (reader.array()?, u16::from_le_bytes(reader.array()?));
        reader.finish(Self { uuid, oob_information, uri_hash: None })
    }
}

impl SecureNetwork {
    /// The beacon of the subnet with this key.
    pub fn new(net_key: &NetKey, network_id: [u8; 8], flags: NetworkFlags, iv_index: IvIndex) -> Self {
        let authentication = net_key.beacon_authentication(flags.to_octet(), &network_id, iv_index.0);
        Self { flags, reserved: 0, network_id, iv_index, authentication }
    }

    /// Whether it was made by somebody who has the key of the subnet.
    pub fn is_authentic(&self, net_key: &NetKey) -> bool {
        net_key.beacon_authentication(self.flags_octet(), &self.network_id, self.iv_index.0)
            == self.authentication
    }

    fn flags_octet(&self) -> u8 {
        self.flags.to_octet() | self.reserved & !USED_FLAGS
    }
}

impl Beacon {
    /// Reads what follows the AD type Mesh Beacon.
    ///
    /// # Errors
    /// What is wrong with its layout.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(octets);
        let beacon = match reader.u8()? {
            0 => Self::UnprovisionedDevice(UnprovisionedDevice {
                uuid: reader.array()?,
                oob_information: u16::from_be_bytes(reader.array()?),
                uri_hash: if reader.is_empty() { None } else { Some(reader.array()?) },
            }),
            1 => {
                let flags = reader.u8()?;
                Self::SecureNetwork(SecureNetwork {
                    flags: NetworkFlags::from_octet(flags),
                    reserved: flags & !USED_FLAGS,
                    network_id: reader.array()?,
                    iv_index: IvIndex(u32::from_be_bytes(reader.array()?)),
                    authentication: reader.array()?,
                })
            }
            2 => Self::MeshPrivate { random: reader.array()?, sealed: reader.array()? },
            _ => return Err(DecodeError::UnknownOpcode),
        };
        reader.finish(beacon)
    }

    /// Its octets.
    pub fn encode(&self) -> Octets {
        let mut octets = Octets::new();
        match self {
            Self::UnprovisionedDevice(device) => {
                octets.push(0);
                octets.extend_from_slice(&device.uuid);
                octets.extend(device.oob_information.to_be_bytes());
                octets.extend(device.uri_hash.into_iter().flatten());
            }
            Self::SecureNetwork(beacon) => {
                octets.extend([1, beacon.flags_octet()]);
                octets.extend_from_slice(&beacon.network_id);
                octets.extend(beacon.iv_index.0.to_be_bytes());
                octets.extend_from_slice(&beacon.authentication);
            }
            Self::MeshPrivate { random, sealed } => {
                octets.push(2);
                octets.extend_from_slice(random);
                octets.extend_from_slice(sealed);
            }
        }
        octets
    }
}
