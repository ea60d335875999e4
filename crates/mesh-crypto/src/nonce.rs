//! The nonces of MshPRT §3.9.5. All are 13 octets, big-endian, and end with the IV Index.

/// A nonce. It may secure one message only, which is why a sequence number is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce([u8; 13]);

/// What a nonce is made from. `seq` has 24 bits; its upper octet is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonceFields {
    /// The sequence number of the PDU, or of the first segment for a segmented message.
    pub seq: u32,
    /// The source address.
    pub src: u16,
    /// The IV Index with which the PDU is secured.
    pub iv_index: u32,
}

impl Nonce {
    /// The octets, as AES-CCM takes them.
    pub const fn as_bytes(&self) -> &[u8; 13] {
        &self.0
    }

    /// Network nonce (§3.9.5.1): `00 · CTL:1 TTL:7 · SEQ · SRC · 0000 · IV Index`.
    pub fn network(ctl_ttl: u8, fields: NonceFields) -> Self {
        Self::assemble(0x00, ctl_ttl, fields, 0)
    }

    /// Application nonce (§3.9.5.2): `01 · ASZMIC:1 0:7 · SEQ · SRC · DST · IV Index`.
    pub fn application(aszmic: bool, fields: NonceFields, dst: u16) -> Self {
        Self::assemble(0x01, u8::from(aszmic) << 7, fields, dst)
    }

    /// Device nonce (§3.9.5.3): as the application nonce, with type 02.
    pub fn device(aszmic: bool, fields: NonceFields, dst: u16) -> Self {
        Self::assemble(0x02, u8::from(aszmic) << 7, fields, dst)
    }

    /// Proxy nonce (§3.9.5.4): `03 · 00 · SEQ · SRC · 0000 · IV Index`.
    pub fn proxy(fields: NonceFields) -> Self {
        Self::assemble(0x03, 0, fields, 0)
    }

    fn assemble(kind: u8, second: u8, fields: NonceFields, dst: u16) -> Self {
        let mut nonce = [0; 13];
        nonce[0] = kind;
        nonce[1] = second;
        nonce[2..5].copy_from_slice(&fields.seq.to_be_bytes()[1..]);
        nonce[5..7].copy_from_slice(&fields.src.to_be_bytes());
        nonce[7..9].copy_from_slice(&dst.to_be_bytes());
        nonce[9..].copy_from_slice(&fields.iv_index.to_be_bytes());
        Self(nonce)
    }
}
