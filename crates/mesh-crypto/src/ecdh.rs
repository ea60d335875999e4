use core::fmt;

use p256::ecdh::diffie_hellman;
use p256::elliptic_curve::scalar::IsHigh as _;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use p256::{NonZeroScalar, PublicKey as Point, SecretKey};
use zeroize::{Zeroize as _, ZeroizeOnDrop};

/// A private key of the P-256 curve, and the public key that belongs to it. Does not print, and leaves nothing in memory
/// when it is dropped.
#[derive(Clone)]
pub struct PrivateKey {
    secret: SecretKey,
    /// Worked out once: it costs as much as an ECDHSecret, and a provisioning asks for it several times.
    public: PublicKey,
}

/// A public key of the P-256 curve: a point that lies on it, as `X:256 Y:256`, big-endian.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 64]);

/// ECDHSecret, which only the two ends of a provisioning know. Does not print, and leaves nothing in
/// memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct EcdhSecret([u8; 32]);

impl PrivateKey {
    /// The private key with this scalar, big-endian; `None` for 0 and for those that the order of the curve excludes. It
    /// is for a key pair that exists already: also one from outside the allowed range, as the device of the
    /// specification's certificate sample has (MshPRT §8.11), belongs to its public key.
    pub fn new(scalar: &[u8; 32]) -> Option<Self> {
        SecretKey::from_slice(scalar).ok().map(Self::with_public_key)
    }

    /// A new private key from 32 random octets, in the allowed range of 1 to half of the order of the curve
    /// (MshPRT §5.4.3.1); `None` once in 2³².
    pub fn generate(random: &[u8; 32]) -> Option<Self> {
        let secret = SecretKey::from_slice(random).ok()?;
        let scalar = secret.to_nonzero_scalar();
        // Each value of the lower half stands for itself and for its negation: all of them are as likely.
        let lower: NonZeroScalar = if bool::from(scalar.is_high()) { -scalar } else { scalar };
        Some(Self::with_public_key(lower.into()))
    }

    /// Whether it is in the range that new keys have to be of: 1 to half of the order of the curve (MshPRT §5.4.3.1).
    pub fn is_in_range(&self) -> bool {
        !bool::from(self.secret.to_nonzero_scalar().is_high())
    }

    /// Its scalar, big-endian, to be stored.
    pub fn to_octets(&self) -> [u8; 32] {
        self.secret.to_bytes().into()
    }

    fn with_public_key(secret: SecretKey) -> Self {
        let point = secret.public_key().to_sec1_point(false);
        let mut octets = [0; 64];
        // An uncompressed point is `04 · X · Y`.
        octets.copy_from_slice(&point.as_bytes()[1..]);
        Self { secret, public: PublicKey(octets) }
    }

    /// The public key that belongs to it.
    pub const fn public_key(&self) -> PublicKey {
        self.public
    }

    /// P256(private key, peer public key): the X of the common point (MshPRT §5.4.2.3).
    pub fn ecdh_secret(&self, peer: &PublicKey) -> EcdhSecret {
        let secret = diffie_hellman(self.secret.to_nonzero_scalar(), peer.point().as_affine());
        EcdhSecret((*secret.raw_secret_bytes()).into())
    }
}

impl PublicKey {
    /// The public key `X · Y`; `None` when the point does not lie on the curve. A point that does not would let
    /// a peer find out the private key bit by bit (MshPRT §5.4.3.1).
    pub fn new(octets: [u8; 64]) -> Option<Self> {
        decode(&octets).map(|_| Self(octets))
    }

    /// `X · Y`.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    fn point(&self) -> Point {
        decode(&self.0).expect("a public key is made only of a point on the curve")
    }
}

impl EcdhSecret {
    /// The octets, for the derivation of keys.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for EcdhSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for PrivateKey {}

impl ZeroizeOnDrop for EcdhSecret {}

fn decode(octets: &[u8; 64]) -> Option<Point> {
    let mut encoded = [4; 65];
    encoded[1..].copy_from_slice(octets);
    Point::from_sec1_bytes(&encoded).ok()
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl fmt::Debug for EcdhSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EcdhSecret(..)")
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, ..] = self.0;
        write!(f, "PublicKey({a:02x}{b:02x}..)")
    }
}
