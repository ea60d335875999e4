/// Why octets are not a PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There are fewer octets than the layout has.
    #[error("too short")]
    TooShort,
    /// There are more octets than the layout has.
    #[error("too long")]
    TooLong,
    /// A field has a value that the specification prohibits; the field's name in the specification.
    #[error("the value of {0} is prohibited")]
    Prohibited(&'static str),
    /// The opcode is none that this decoder knows.
    #[error("unknown opcode")]
    UnknownOpcode,
    /// The message integrity check does not match.
    #[error("not secured with this key")]
    Mic,
}

/// Takes octets from the front of a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the front of `octets`.
    pub const fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    /// The next `N` octets.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(DecodeError::TooShort)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// The next octet.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[octet]| octet)
    }

    /// The next two octets, little-endian.
    pub fn u16_le(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next three octets, little-endian.
    pub fn u24_le(&mut self) -> Result<u32, DecodeError> {
        self.array().map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
    }

    /// The next `count` octets.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::TooShort)?;
        self.rest = rest;
        Ok(taken)
    }

    /// What has not been taken.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything was taken.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Ends the reading: `value`, if nothing is left over.
    pub fn finish<T>(self, value: T) -> Result<T, DecodeError> {
        if self.is_empty() { Ok(value) } else { Err(DecodeError::TooLong) }
    }
}
