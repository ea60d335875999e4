//! The key derivation functions of MshPRT §3.9.2, by their names there.

use aes::Aes128;
use cmac::{Cmac, Mac as _};
use hmac::{Hmac, KeyInit as _};
use sha2::Sha256;

use crate::Key128;

/// AES-CMAC of the concatenated `parts` (MshPRT §3.9.2.1).
pub fn cmac(key: &Key128, parts: &[&[u8]]) -> Key128 {
    let mut mac = Cmac::<Aes128>::new(key.into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// HMAC-SHA-256 of the concatenated `parts` under a key of 32 octets.
pub fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // A key below SHA-256's block of 64 octets is used as it is, padded with zeros (RFC 2104).
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// s1, the SALT generation function (MshPRT §3.9.2.4).
pub fn s1(m: &[u8]) -> Key128 {
    cmac(&[0; 16], &[m])
}

/// s2, the SALT generation function of HMAC-SHA-256 (MshPRT §3.9.2.5).
pub fn s2(m: &[u8]) -> [u8; 32] {
    hmac_sha256(&[0; 32], &[m])
}

/// k1, which derives one key from another (MshPRT §3.9.2.6).
pub fn k1(n: &[u8], salt: &Key128, p: &[u8]) -> Key128 {
    cmac(&cmac(salt, &[n]), &[p])
}

/// k2, which derives network keys: NID (7 bits), EncryptionKey and PrivacyKey (MshPRT §3.9.2.7).
pub fn k2(n: &Key128, p: &[u8]) -> (u8, Key128, Key128) {
    let t = cmac(&s1(b"smk2"), &[n]);
    let t1 = cmac(&t, &[p, &[1]]);
    let t2 = cmac(&t, &[&t1, p, &[2]]);
    let t3 = cmac(&t, &[&t2, p, &[3]]);
    (t1[15] & 0x7f, t2, t3)
}

/// k3, which derives a public value of 64 bits from a private key (MshPRT §3.9.2.8).
pub fn k3(n: &Key128) -> [u8; 8] {
    let t = cmac(&s1(b"smk3"), &[n]);
    let [.., a, b, c, d, e, f, g, h] = cmac(&t, &[b"id64", &[1]]);
    [a, b, c, d, e, f, g, h]
}

/// k4, which derives a public value of 6 bits from a private key (MshPRT §3.9.2.9).
pub fn k4(n: &Key128) -> u8 {
    let t = cmac(&s1(b"smk4"), &[n]);
    cmac(&t, &[b"id6", &[1]])[15] & 0x3f
}

/// k5, which derives keys of 256 bits (MshPRT §3.9.2.10).
pub fn k5(n: &[u8], salt: &[u8; 32], p: &[u8]) -> [u8; 32] {
    hmac_sha256(&hmac_sha256(salt, &[n]), &[p])
}
