use core::fmt;

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};

use crate::{Key128, NetKey, kdf};

/// The security material with which network PDUs are encrypted and obfuscated (MshPRT §3.9.6.3.1).
#[derive(Clone, PartialEq, Eq)]
pub struct NetworkKeys {
    nid: u8,
    encryption_key: Key128,
    privacy_key: Key128,
}

/// The first 7 octets of a network PDU's encrypted part, which blind its header.
pub type PrivacyRandom = [u8; 7];

/// What friendship security material is derived from, beside the NetKey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FriendshipParameters {
    /// Unicast address of the Low Power node.
    pub lpn_address: u16,
    /// Unicast address of the Friend node.
    pub friend_address: u16,
    /// LPNCounter of the Friend Request.
    pub lpn_counter: u16,
    /// FriendCounter of the Friend Offer.
    pub friend_counter: u16,
}

impl NetworkKeys {
    /// Managed flooding security material: k2(NetKey, 00).
    pub fn flooding(net_key: &NetKey) -> Self {
        Self::derive(net_key, &[0])
    }

    /// Friendship security material: k2(NetKey, 01 · LPNAddress · FriendAddress · LPNCounter · FriendCounter).
    pub fn friendship(net_key: &NetKey, parameters: FriendshipParameters) -> Self {
        let mut p = [1; 9];
        p[1..3].copy_from_slice(&parameters.lpn_address.to_be_bytes());
        p[3..5].copy_from_slice(&parameters.friend_address.to_be_bytes());
        p[5..7].copy_from_slice(&parameters.lpn_counter.to_be_bytes());
        p[7..9].copy_from_slice(&parameters.friend_counter.to_be_bytes());
        Self::derive(net_key, &p)
    }

    /// Directed security material: k2(NetKey, 02).
    pub fn directed(net_key: &NetKey) -> Self {
        Self::derive(net_key, &[2])
    }

    fn derive(net_key: &NetKey, p: &[u8]) -> Self {
        let (nid, encryption_key, privacy_key) = kdf::k2(net_key.as_bytes(), p);
        Self { nid, encryption_key, privacy_key }
    }

    /// NID, the 7-bit hint in a PDU of which keys secured it.
    pub fn nid(&self) -> u8 {
        self.nid
    }

    /// The key of the network layer's AES-CCM.
    pub fn encryption_key(&self) -> &Key128 {
        &self.encryption_key
    }

    /// The key of the obfuscation.
    pub fn privacy_key(&self) -> &Key128 {
        &self.privacy_key
    }

    /// PECB, the six octets that hide CTL, TTL, SEQ and SRC (MshPRT §3.9.7.2):
    /// AES(PrivacyKey, 0000000000 · IV Index · Privacy Random).
    pub fn pecb(&self, iv_index: u32, random: PrivacyRandom) -> [u8; 6] {
        let mut block = [0; 16];
        block[5..9].copy_from_slice(&iv_index.to_be_bytes());
        block[9..].copy_from_slice(&random);
        let mut block = block.into();
        Aes128::new((&self.privacy_key).into()).encrypt_block(&mut block);
        let [a, b, c, d, e, f, ..]: [u8; 16] = block.into();
        [a, b, c, d, e, f]
    }

    /// Hides the header `CTL TTL · SEQ · SRC`, or shows it again: the same operation does both.
    pub fn obfuscate(&self, header: [u8; 6], iv_index: u32, random: PrivacyRandom) -> [u8; 6] {
        let pecb = self.pecb(iv_index, random);
        core::array::from_fn(|i| header[i] ^ pecb[i])
    }
}

impl fmt::Debug for NetworkKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkKeys").field("nid", &self.nid).finish_non_exhaustive()
    }
}
