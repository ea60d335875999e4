//! Random values, and those that travel through the user's eyes and fingers (MshPRT §5.4.2.4).

use alloc::string::String;
use core::fmt;

use mesh_crypto::PrivateKey;
use mesh_crypto::provisioning::AuthValue;
use mesh_wire::provisioning::{InputAction, OutputAction};
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

/// What an action does with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Something is done so often: at least once (MshPRT §5.4.2.4.3, §5.4.2.4.4).
    Counted,
    Digits,
    Text,
}

impl From<OutputAction> for Kind {
    fn from(action: OutputAction) -> Self {
        match action {
            OutputAction::Blink | OutputAction::Beep | OutputAction::Vibrate => Self::Counted,
            OutputAction::Numeric => Self::Digits,
            OutputAction::Alphanumeric => Self::Text,
        }
    }
}

impl From<InputAction> for Kind {
    fn from(action: InputAction) -> Self {
        match action {
            InputAction::Push | InputAction::Twist => Self::Counted,
            InputAction::Numeric => Self::Digits,
            InputAction::Alphanumeric => Self::Text,
        }
    }
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
        // All but one in 2³² scalars make one.
        let private_key = loop {
            if let Some(key) = PrivateKey::generate(&random(rng)) {
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
    /// A value of `size` digits or characters.
    pub(super) fn random(rng: &mut ChaCha20Rng, size: u8, kind: Kind) -> Self {
        match kind {
            Kind::Counted => Self::random_number(rng, size, 1),
            Kind::Digits => Self::random_number(rng, size, 0),
            Kind::Text => Self::random_text(rng, size),
        }
    }

    fn random_number(rng: &mut ChaCha20Rng, size: u8, least: u64) -> Self {
        let span = u64::from(limit(size)) - least;
        // The remainder's bias over a span of 10⁸ is below one in 10¹¹.
        let value = least + rng.next_u64() % span;
        Self::Number(u32::try_from(value).unwrap_or(u32::MAX))
    }

    fn random_text(rng: &mut ChaCha20Rng, size: u8) -> Self {
        let character = |_| {
            let index = usize::try_from(rng.next_u64() % 36).unwrap_or(0);
            char::from(CHARACTERS[index])
        };
        Self::Text((0..size).map(character).collect())
    }

    /// Whether a user can have read or typed this where a value of `size` was asked for.
    pub(super) fn fits(&self, size: u8, kind: Kind) -> bool {
        match self {
            Self::Number(value) => {
                kind != Kind::Text && *value < limit(size) && (*value > 0 || kind != Kind::Counted)
            }
            Self::Text(text) => {
                kind == Kind::Text
                    && text.len() == usize::from(size)
                    && text.bytes().all(|x| CHARACTERS.contains(&x))
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

    /// MshPRT §5.4.3.1.
    #[test]
    fn private_keys_are_in_the_allowed_range() {
        let mut rng = ChaCha20Rng::from_seed([4; 32]);
        // One in two would not be, if the range were not looked at.
        assert!((0..32).all(|_| Secrets::generate(&mut rng).private_key.is_in_range()));
    }

    #[test]
    fn values_keep_to_their_size() {
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        let mut seen = alloc::collections::BTreeSet::new();
        for _ in 0..1000 {
            let counted = OobValue::random(&mut rng, 1, Kind::Counted);
            let OobValue::Number(number) = counted else { panic!("a number") };
            assert!((1..=9).contains(&number));
            seen.insert(number);
            for size in 1..=8 {
                for kind in [Kind::Counted, Kind::Digits, Kind::Text] {
                    assert!(OobValue::random(&mut rng, size, kind).fits(size, kind));
                }
            }
        }
        assert_eq!(seen.len(), 9);
        assert!(!OobValue::Number(10).fits(1, Kind::Digits) && !OobValue::Number(1).fits(1, Kind::Text));
        assert!(OobValue::Number(0).fits(1, Kind::Digits) && !OobValue::Number(0).fits(1, Kind::Counted));
        for text in ["ab", "A", "ABC", "Ä"] {
            assert!(!OobValue::Text(text.into()).fits(2, Kind::Text), "{text}");
        }
    }
}
