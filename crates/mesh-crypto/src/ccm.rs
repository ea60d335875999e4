use alloc::vec::Vec;

use aes::Aes128;
use ccm::KeyInit;
use ccm::aead::{Aead, Payload};
use ccm::consts::{U4, U8, U13, U16};

use crate::Key128;
use crate::nonce::Nonce;

pub(crate) type Ccm4 = ccm::Ccm<Aes128, U4, U13>;
pub(crate) type Ccm8 = ccm::Ccm<Aes128, U8, U13>;

/// The size of a message integrity check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mic {
    /// 32 bits.
    Bits32,
    /// 64 bits.
    Bits64,
}

/// The message was not secured with this key and nonce, or was changed on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message integrity check does not match")]
pub struct MicMismatch;

impl Mic {
    /// The number of octets that the check takes in a PDU.
    pub const fn octets(self) -> usize {
        match self {
            Self::Bits32 => 4,
            Self::Bits64 => 8,
        }
    }
}

/// AES-CCM (MshPRT §3.9.2.3): the ciphertext, followed by the message integrity check.
///
/// `aad` is authenticated and not sent: the Label UUID of a virtual destination, else nothing.
///
/// # Panics
/// When `message` is longer than the 65,535 octets that a nonce of 13 octets allows.
pub fn encrypt(key: &Key128, nonce: &Nonce, message: &[u8], aad: &[u8], mic: Mic) -> Vec<u8> {
    match mic {
        Mic::Bits32 => seal::<Ccm4>(key, nonce.as_bytes(), message, aad),
        Mic::Bits64 => seal::<Ccm8>(key, nonce.as_bytes(), message, aad),
    }
}

/// The reverse of [`encrypt`]. Takes the same time wherever the check differs.
///
/// # Errors
/// [`MicMismatch`]; also when `secured` is shorter than its check.
pub fn decrypt(
    key: &Key128,
    nonce: &Nonce,
    secured: &[u8],
    aad: &[u8],
    mic: Mic,
) -> Result<Vec<u8>, MicMismatch> {
    match mic {
        Mic::Bits32 => open::<Ccm4>(key, nonce.as_bytes(), secured, aad),
        Mic::Bits64 => open::<Ccm8>(key, nonce.as_bytes(), secured, aad),
    }
}

/// [`encrypt`] with any nonce: those of beacons and of provisioning are no [`Nonce`].
pub(crate) fn seal<C>(key: &Key128, nonce: &[u8; 13], message: &[u8], aad: &[u8]) -> Vec<u8>
where
    C: KeyInit<KeySize = U16> + Aead<NonceSize = U13>,
{
    let sealed = C::new(key.into()).encrypt(nonce.into(), Payload { msg: message, aad });
    sealed.expect("mesh messages have at most 384 octets")
}

/// [`decrypt`] with any nonce.
pub(crate) fn open<C>(
    key: &Key128,
    nonce: &[u8; 13],
    secured: &[u8],
    aad: &[u8],
) -> Result<Vec<u8>, MicMismatch>
where
    C: KeyInit<KeySize = U16> + Aead<NonceSize = U13>,
{
    C::new(key.into()).decrypt(nonce.into(), Payload { msg: secured, aad }).map_err(|_| MicMismatch)
}
