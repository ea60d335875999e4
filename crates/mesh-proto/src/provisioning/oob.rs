//! Random values, and those that travel through the user's eyes and fingers (MshPRT §5.4.2.4).

use alloc::string::String;
use core::fmt;

use mesh_crypto::PrivateKey;
use mesh_crypto::provisioning::AuthValue;
use rand_chacha::ChaCha20Rng;
use rand_core::Rng as _;

const CHARACTERS: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// What the user reads from one end and gives to the other. Does not print by itself: who sees it could be the other
/// end.
#[derive(Clone, PartialEq, Eq)]
pub enum OobValue {
    /// A number, counted or shown; as digits with zeros in front, up to the size that was chosen.
    Number(u32),
    /// Digits and upper case letters.
    Text(String),
}

/// What an end of a session keeps to itself, and uses once.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// The private key, unless a device uses the one whose public key is known out of band.
    pub private_key: PrivateKey,
    /// The random value: the first 16 octets with CMAC-AES-128, all of them with HMAC-SHA-256.
    pub random: Random,
}

/// 32 random octets. Does not print before it is sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Random(pub [u8; 32]);

impl Secrets {
    pub(super) fn generate(rng: &mut ChaCha20Rng) -> Self {
        // All but one in 2³² scalars are private keys.
        let private_key = loop {
            if let Some(key) = PrivateKey::new(&random(rng)) {
                break key;
            }
        };
        Self { private_key, random: Random(random(rng)) }
    }
}

fn random(rng: &mut ChaCha20Rng) -> [u8; 32] {
    let mut octets = [0; 32];
    rng.fill_bytes(&mut octets);
    octets
}

impl OobValue {
    /// A number of `size` digits at most; at least 1 when it is counted.
    pub(super) fn random_number(rng: &mut ChaCha20Rng, size: u8, is_counted: bool) -> Self {
        let least = u64::from(is_counted);
        let span = u64::from(limit(size)) - least;
        // The remainder's bias over a span of 10⁸ is below one in 10¹¹.
        let value = least + rng.next_u64() % span;
        Self::Number(u32::try_from(value).unwrap_or(u32::MAX))
    }

    pub(super) fn random_text(rng: &mut ChaCha20Rng, size: u8) -> Self {
        let character = |_| {
            let index = usize::try_from(rng.next_u64() % 36).unwrap_or(0);
            char::from(CHARACTERS[index])
        };
        Self::Text((0..size).map(character).collect())
    }

    /// Whether a user can have read or typed this where a value of `size` was asked for.
    pub(super) fn fits(&self, size: u8, is_text: bool) -> bool {
        match self {
            Self::Number(value) => !is_text && *value < limit(size),
            Self::Text(text) => {
                is_text && text.len() == usize::from(size) && text.bytes().all(|x| CHARACTERS.contains(&x))
            }
        }
    }

    pub(super) fn auth_value(&self) -> AuthValue {
        match self {
            Self::Number(value) => AuthValue::from_number(*value),
            Self::Text(text) => AuthValue::from_octets(text.as_bytes()),
        }
    }
}

/// The first number with more than `size` digits.
fn limit(size: u8) -> u32 {
    10_u32.pow(u32::from(size.clamp(1, 8)))
}

impl fmt::Debug for OobValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Number(_) => "Number(..)",
            Self::Text(_) => "Text(..)",
        })
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random(..)")
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng as _;

    use super::*;

    #[test]
    fn values_keep_to_their_size() {
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        let mut seen = alloc::collections::BTreeSet::new();
        for _ in 0..1000 {
            let counted = OobValue::random_number(&mut rng, 1, true);
            let OobValue::Number(number) = counted else { panic!("a number") };
            assert!((1..=9).contains(&number));
            seen.insert(number);
            for size in 1..=8 {
                assert!(OobValue::random_number(&mut rng, size, false).fits(size, false));
                assert!(OobValue::random_text(&mut rng, size).fits(size, true));
            }
        }
        assert_eq!(seen.len(), 9);
        assert!(!OobValue::Number(10).fits(1, false) && !OobValue::Number(1).fits(1, true));
        assert!(!OobValue::Text("ab".into()).fits(2, true) && !OobValue::Text("A".into()).fits(2, true));
    }
}
