//! What secures mesh beacons and identities (MshPRT §3.10, §7.2.2.2).

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};

use crate::ccm::{Ccm8, open, seal};
use crate::{MicMismatch, NetKey, kdf};

/// The 13 octets that hide a Mesh Private beacon.
pub type PrivateBeaconRandom = [u8; 13];

impl NetKey {
    /// Authentication Value of a Secure Network beacon (MshPRT §3.10.3.1): the first 8 octets of
    /// CMAC(BeaconKey, Flags · Network ID · IV Index).
    pub fn beacon_authentication(&self, flags: u8, network_id: &[u8; 8], iv_index: u32) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] =
            kdf::cmac(&self.beacon_key(), &[&[flags], network_id, &iv_index.to_be_bytes()]);
        [a, b, c, d, e, f, g, h]
    }

    /// What a Mesh Private beacon carries beside its random: obfuscated `Flags · IV Index`, and Authentication Tag
    /// (MshPRT §3.10.4.1). The construction is AES-CCM without additional data.
    pub fn seal_private_beacon(&self, random: &PrivateBeaconRandom, flags: u8, iv_index: u32) -> [u8; 13] {
        let [a, b, c, d] = iv_index.to_be_bytes();
        let mut sealed = [0; 13];
        sealed.copy_from_slice(&seal::<Ccm8>(&self.private_beacon_key(), random, &[flags, a, b, c, d], &[]));
        sealed
    }

    /// Flags and IV Index of a Mesh Private beacon.
    ///
    /// # Errors
    /// When it is of another subnet.
    pub fn open_private_beacon(
        &self,
        random: &PrivateBeaconRandom,
        sealed: &[u8; 13],
    ) -> Result<(u8, u32), MicMismatch> {
        let opened = open::<Ccm8>(&self.private_beacon_key(), random, sealed, &[])?;
        let [flags, a, b, c, d] = opened[..] else { return Err(MicMismatch) };
        Ok((flags, u32::from_be_bytes([a, b, c, d])))
    }

    /// The Hash of a Node Identity: of `random` and the address of the node's primary element (MshPRT §7.2.2.2.3).
    pub fn node_identity_hash(&self, random: &[u8; 8], address: u16) -> [u8; 8] {
        let mut block = [0; 16];
        block[6..14].copy_from_slice(random);
        block[14..].copy_from_slice(&address.to_be_bytes());
        let mut block = block.into();
        Aes128::new((&self.identity_key()).into()).encrypt_block(&mut block);
        let [.., a, b, c, d, e, f, g, h]: [u8; 16] = block.into();
        [a, b, c, d, e, f, g, h]
    }
}
