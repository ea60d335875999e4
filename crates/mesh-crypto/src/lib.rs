//! The security toolbox of Bluetooth Mesh (MshPRT §3.9): key derivation, nonces, AES-CCM, obfuscation, and
//! what secures beacons and provisioning.
//!
//! Everything here is a pure function of its arguments. Keys are types of their own that cannot be confused
//! with one another and do not print.
//!
//! Not for: deciding which key to use, counting sequence numbers, or keeping keys (`mesh-proto` does).
//! The primitives (AES, CMAC, CCM, SHA-256, P-256) are RustCrypto's.
//!
//! ```
//! use mesh_crypto::{AppKey, NetKey, NetworkKeys};
//!
//! let keys = NetworkKeys::flooding(&NetKey::new([0x7d; 16]));
//! assert!(keys.nid() < 0x80);
//! let app_key = AppKey::new([0x63; 16]);
//! assert_eq!(format!("{app_key:?}"), "AppKey(..)");
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod beacon;
mod ccm;
mod ecdh;
pub mod kdf;
mod keys;
mod network;
pub mod nonce;
pub mod provisioning;

pub use crate::ccm::{Mic, MicMismatch, decrypt, encrypt};
pub use beacon::PrivateBeaconRandom;
pub use ecdh::{EcdhSecret, PrivateKey, PublicKey};
pub use keys::{AppKey, DevKey, Key128, LabelUuid, NetKey};
pub use network::{FriendshipParameters, NetworkKeys, PrivacyRandom};
