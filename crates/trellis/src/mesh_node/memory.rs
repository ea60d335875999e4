//! What the node keeps in its data directory, so that it goes on legally after a restart.

use journal::{Change, RecordStore, Stored};
use mesh_crypto::{DevKey, NetKey, PrivateKey};
use mesh_proto::node::{Provisioned, Record, RecordKey};
use mesh_wire::address::UnicastAddress;
use mesh_wire::{DecodeError, IvIndex, KeyIndex, Reader};

/// The UUID, of 16 octets.
const UUID: &[u8] = b"uuid";
/// What provisioning gave: `NetKey:128 NetKey Index:16 IV Index:32 address:16 DevKey:128`, big-endian.
const PROVISIONED: &[u8] = b"provisioned";
/// Another node's device key, `elements:8 DevKey:128`, by its address.
const DEVICE: &[u8] = b"device/";
/// How many addresses were given to a node, `elements:8`, by the first of them. It stays when the node does not come.
const GIVEN: &[u8] = b"given/";
/// The private key whose public key is told out of band, of 32 octets.
const OOB_KEY: &[u8] = b"oob_key";
/// The node's own records.
const RECORD: &[u8] = b"record/";

/// A device key of another node.
pub(super) type RemoteDevice = (UnicastAddress, u8, DevKey);

/// What was stored before.
#[derive(Default)]
pub(super) struct Memory {
    /// Whether anything is stored from now on.
    pub(super) keeps: bool,
    pub(super) uuid: Option<[u8; 16]>,
    pub(super) oob_key: Option<PrivateKey>,
    pub(super) provisioned: Option<Provisioned>,
    pub(super) given: Vec<(UnicastAddress, u8)>,
    pub(super) devices: Vec<RemoteDevice>,
    pub(super) records: Vec<(RecordKey, Vec<u8>)>,
}

impl Memory {
    /// Of a node that forgets everything when it ends.
    pub(super) fn forgetful() -> Self {
        Self::default()
    }

    pub(super) fn load(store: &RecordStore) -> anyhow::Result<Self> {
        let mut memory = Self { keeps: true, ..Self::default() };
        for (key, value) in store.load()? {
            memory.take(&key, value).map_err(|error| {
                let key = String::from_utf8_lossy(&key);
                anyhow::anyhow!("the stored {key:?} of the node cannot be read ({error}); restore a copy")
            })?;
        }
        Ok(memory)
    }

    fn take(&mut self, key: &[u8], value: Vec<u8>) -> Result<(), DecodeError> {
        let mut reader = Reader::new(&value);
        if key == UUID {
            self.uuid = Some(reader.array()?);
        } else if key == PROVISIONED {
            let net_key = NetKey::new(reader.array()?);
            let index = u16::from_be_bytes(reader.array()?);
            let net_key_index = KeyIndex::new(index).ok_or(DecodeError::Prohibited("key index"))?;
            let iv_index = IvIndex(u32::from_be_bytes(reader.array()?));
            let address = UnicastAddress::try_from(u16::from_be_bytes(reader.array()?))?;
            let dev_key = DevKey::new(reader.array()?);
            self.provisioned = Some(Provisioned { net_key, net_key_index, iv_index, address, dev_key });
        } else if key == OOB_KEY {
            let key = PrivateKey::new(&reader.array()?);
            self.oob_key = Some(key.ok_or(DecodeError::Prohibited("private key"))?);
        } else if let Some(address) = key.strip_prefix(GIVEN) {
            self.given.push((address_of(address)?, reader.u8()?));
        } else if let Some(address) = key.strip_prefix(DEVICE) {
            let address = address_of(address)?;
            self.devices.push((address, reader.u8()?, DevKey::new(reader.array()?)));
        } else if let Some(key) = key.strip_prefix(RECORD) {
            let key = RecordKey::from_octets(key).ok_or(DecodeError::UnknownOpcode)?;
            self.records.push((key, value));
            return Ok(());
        }
        reader.finish(())
    }
}

fn address_of(octets: &[u8]) -> Result<UnicastAddress, DecodeError> {
    let octets = octets.try_into().map_err(|_| DecodeError::TooShort)?;
    UnicastAddress::try_from(u16::from_be_bytes(octets))
}

pub(super) fn uuid(uuid: [u8; 16]) -> Change {
    (UUID.to_vec(), Some(uuid.to_vec()))
}

pub(super) fn oob_key(key: &PrivateKey) -> Change {
    (OOB_KEY.to_vec(), Some(key.to_octets().to_vec()))
}

pub(super) fn given(address: UnicastAddress, elements: u8) -> Change {
    ([GIVEN, &u16::from(address).to_be_bytes()].concat(), Some(vec![elements]))
}

pub(super) fn provisioned(provisioned: &Provisioned) -> Change {
    let Provisioned { net_key, net_key_index, iv_index, address, dev_key } = provisioned;
    let value = [
        &net_key.as_bytes()[..],
        &u16::from(*net_key_index).to_be_bytes(),
        &iv_index.0.to_be_bytes(),
        &u16::from(*address).to_be_bytes(),
        dev_key.as_bytes(),
    ];
    (PROVISIONED.to_vec(), Some(value.concat()))
}

pub(super) fn device((address, elements, key): &RemoteDevice) -> Change {
    (device_key(*address), Some([&[*elements], &key.as_bytes()[..]].concat()))
}

pub(super) fn record(record: Record) -> Change {
    ([RECORD, &record.key.to_octets()].concat(), record.value)
}

/// A node that was reset forgets what it was, but not by what it is known: its UUID, and the key on its label.
pub(super) fn forget(stored: Vec<Stored>) -> Vec<Change> {
    stored.into_iter().filter(|(key, _)| key != UUID && key != OOB_KEY).map(|(key, _)| (key, None)).collect()
}

fn device_key(address: UnicastAddress) -> Vec<u8> {
    [DEVICE, &u16::from(address).to_be_bytes()].concat()
}
