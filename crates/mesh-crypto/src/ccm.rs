use alloc::vec::Vec;

use aes::Aes128;
use ccm::aead::{Aead as _, KeyInit as _, Payload};
use ccm::consts::{U4, U8, U13};

use crate::Key128;
use crate::nonce::Nonce;

type Ccm4 = ccm::Ccm<Aes128, U4, U13>;
type Ccm8 = ccm::Ccm<Aes128, U8, U13>;

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
    let payload = Payload { msg: message, aad };
    let result = match mic {
        Mic::Bits32 => Ccm4::new(key.into()).encrypt(nonce.as_bytes().into(), payload),
        Mic::Bits64 => Ccm8::new(key.into()).encrypt(nonce.as_bytes().into(), payload),
    };
    result.expect("mesh messages have at most 384 octets")
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
    let payload = Payload { msg: secured, aad };
    let result = match mic {
        Mic::Bits32 => Ccm4::new(key.into()).decrypt(nonce.as_bytes().into(), payload),
        Mic::Bits64 => Ccm8::new(key.into()).decrypt(nonce.as_bytes().into(), payload),
    };
    result.map_err(|_| MicMismatch)
}
