//! What the two ends of a provisioning derive from their secret (MshPRT §5.4.2.4, §5.4.2.5).

use alloc::vec::Vec;
use core::fmt;

use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use crate::ccm::{Ccm8, open, seal};
use crate::{DevKey, EcdhSecret, Key128, MicMismatch, PublicKey, kdf};

/// How confirmation values are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// BTM_ECDH_P256_CMAC_AES128_AES_CCM.
    CmacAes128,
    /// BTM_ECDH_P256_HMAC_SHA256_AES_CCM.
    HmacSha256,
}

/// What authenticates the ends to each other: nothing, or what travelled another way. Does not print, and
/// leaves nothing in memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthValue {
    octets: [u8; 32],
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Left-aligned.
    Octets,
    /// Right-aligned.
    Number,
}

/// The octets of all that was said before the confirmation values: they bind what was negotiated.
#[derive(Clone, Copy, Debug)]
pub struct ConfirmationInputs<'a> {
    /// The parameters of the Provisioning Invite PDU.
    pub invite: &'a [u8; 1],
    /// The parameters of the Provisioning Capabilities PDU.
    pub capabilities: &'a [u8; 11],
    /// The parameters of the Provisioning Start PDU.
    pub start: &'a [u8; 5],
    /// PublicKeyProvisioner.
    pub provisioner: &'a PublicKey,
    /// PublicKeyDevice.
    pub device: &'a PublicKey,
}

/// Makes and checks confirmation values. Leaves nothing in memory when it is dropped.
#[derive(Clone)]
pub struct Confirmation {
    algorithm: Algorithm,
    salt: Vec<u8>,
    key: Vec<u8>,
    auth_value: Vec<u8>,
}

/// SessionKey, SessionNonce and device key. The first two leave nothing in memory when it is dropped.
#[derive(Clone)]
pub struct Session {
    key: Key128,
    nonce: [u8; 13],
    dev_key: DevKey,
}

impl Drop for AuthValue {
    fn drop(&mut self) {
        self.octets.zeroize();
    }
}

impl Drop for Confirmation {
    fn drop(&mut self) {
        self.key.zeroize();
        self.auth_value.zeroize();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.key.zeroize();
        self.nonce.zeroize();
    }
}

impl ZeroizeOnDrop for AuthValue {}

impl ZeroizeOnDrop for Confirmation {}

impl ZeroizeOnDrop for Session {}

impl Algorithm {
    /// Octets of confirmation values, random values and AuthValue: 16 or 32.
    pub const fn size(self) -> usize {
        match self {
            Self::CmacAes128 => 16,
            Self::HmacSha256 => 32,
        }
    }
}

impl AuthValue {
    /// No OOB: the number 0.
    pub const NONE: Self = Self { octets: [0; 32], kind: Kind::Number };

    /// Octets or characters: padded with zeros at the end, and cut after what the algorithm takes, 32 at most.
    pub fn from_octets(value: &[u8]) -> Self {
        let mut octets = [0; 32];
        let length = value.len().min(32);
        octets[..length].copy_from_slice(&value[..length]);
        Self { octets, kind: Kind::Octets }
    }

    /// A number: padded with zeros in front.
    pub fn from_number(value: u32) -> Self {
        let mut octets = [0; 32];
        octets[28..].copy_from_slice(&value.to_be_bytes());
        Self { octets, kind: Kind::Number }
    }

    /// Whether it is what stands for no authentication, so that everybody knows it.
    pub fn is_zero(&self, algorithm: Algorithm) -> bool {
        self.octets(algorithm).iter().all(|&octet| octet == 0)
    }

    /// The octets that an algorithm takes.
    pub fn octets(&self, algorithm: Algorithm) -> &[u8] {
        match self.kind {
            Kind::Octets => &self.octets[..algorithm.size()],
            Kind::Number => &self.octets[32 - algorithm.size()..],
        }
    }
}

impl Confirmation {
    /// ConfirmationSalt and ConfirmationKey.
    pub fn new(
        algorithm: Algorithm,
        inputs: &ConfirmationInputs<'_>,
        secret: &EcdhSecret,
        auth_value: &AuthValue,
    ) -> Self {
        let ConfirmationInputs { invite, capabilities, start, provisioner, device } = *inputs;
        let octets: Vec<u8> =
            [&invite[..], capabilities, start, provisioner.as_bytes(), device.as_bytes()].concat();
        let auth_value = auth_value.octets(algorithm).to_vec();
        let (salt, key) = match algorithm {
            Algorithm::CmacAes128 => {
                let salt = kdf::s1(&octets);
                (salt.to_vec(), kdf::k1(secret.as_bytes(), &salt, b"prck").to_vec())
            }
            Algorithm::HmacSha256 => {
                let salt = kdf::s2(&octets);
                let n = Zeroizing::new([&secret.as_bytes()[..], &auth_value].concat());
                (salt.to_vec(), kdf::k5(&n, &salt, b"prck256").to_vec())
            }
        };
        Self { algorithm, salt, key, auth_value }
    }

    /// ConfirmationSalt.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// ConfirmationKey.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The confirmation value that belongs to a random value of the algorithm's size.
    pub fn of(&self, random: &[u8]) -> Vec<u8> {
        match self.algorithm {
            Algorithm::CmacAes128 => {
                let mut key = [0; 16];
                key.copy_from_slice(&self.key);
                kdf::cmac(&key, &[random, &self.auth_value]).to_vec()
            }
            Algorithm::HmacSha256 => {
                let mut key = [0; 32];
                key.copy_from_slice(&self.key);
                kdf::hmac_sha256(&key, &[random]).to_vec()
            }
        }
    }

    /// ProvisioningSalt: s1(ConfirmationSalt · RandomProvisioner · RandomDevice).
    pub fn provisioning_salt(&self, random_provisioner: &[u8], random_device: &[u8]) -> Key128 {
        kdf::s1(&[&self.salt, random_provisioner, random_device].concat())
    }
}

impl Session {
    /// Derives what secures the provisioning data, and the device key.
    pub fn new(secret: &EcdhSecret, provisioning_salt: &Key128) -> Self {
        let derive = |p: &[u8]| kdf::k1(secret.as_bytes(), provisioning_salt, p);
        let mut nonce = [0; 13];
        nonce.copy_from_slice(&derive(b"prsn")[3..]);
        Self { key: derive(b"prsk"), nonce, dev_key: DevKey::new(derive(b"prdk")) }
    }

    /// SessionKey.
    pub fn key(&self) -> &Key128 {
        &self.key
    }

    /// SessionNonce.
    pub fn nonce(&self) -> &[u8; 13] {
        &self.nonce
    }

    /// The device key.
    pub fn dev_key(&self) -> &DevKey {
        &self.dev_key
    }

    /// The provisioning data, secured: followed by its MIC of 8 octets.
    pub fn encrypt(&self, data: &[u8; 25]) -> [u8; 33] {
        let mut secured = [0; 33];
        secured.copy_from_slice(&seal::<Ccm8>(&self.key, &self.nonce, data, &[]));
        secured
    }

    /// The provisioning data.
    ///
    /// # Errors
    /// When it was not secured in this session.
    pub fn decrypt(&self, secured: &[u8; 33]) -> Result<[u8; 25], MicMismatch> {
        let mut data = [0; 25];
        data.copy_from_slice(&open::<Ccm8>(&self.key, &self.nonce, secured, &[])?);
        Ok(data)
    }
}

macro_rules! does_not_print {
    ($($name:ident)*) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        })*
    };
}

does_not_print!(AuthValue Confirmation Session);
