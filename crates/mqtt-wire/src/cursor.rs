use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::{DecodeError, EncodeError, Text};

/// Takes fields from the front of a packet's bytes, without copying them.
#[derive(Debug)]
pub(crate) struct Cursor {
    rest: Bytes,
}

impl Cursor {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.need(1)?;
        Ok(self.rest.get_u8())
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.need(2)?;
        Ok(self.rest.get_u16())
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.need(4)?;
        Ok(self.rest.get_u32())
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<Bytes, DecodeError> {
        self.need(count)?;
        Ok(self.rest.split_to(count))
    }

    /// All that is left.
    pub(crate) fn take_rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    /// Binary Data (§1.5.6): `length:16 · bytes`.
    pub(crate) fn binary(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// A UTF-8 Encoded String (§1.5.4): `length:16 · bytes`.
    pub(crate) fn text(&mut self) -> Result<Text, DecodeError> {
        Ok(Text::try_from(self.binary()?)?)
    }

    /// A Variable Byte Integer (§1.5.5), in no more bytes than it needs.
    pub(crate) fn variable(&mut self) -> Result<u32, DecodeError> {
        let (value, length) = decode_variable(&self.rest)?.ok_or(DecodeError::Truncated)?;
        self.rest.advance(length);
        Ok(value)
    }

    /// Ends the reading: `value`, if nothing is left over.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, DecodeError> {
        if self.is_empty() { Ok(value) } else { Err(DecodeError::TrailingBytes) }
    }

    fn need(&self, count: usize) -> Result<(), DecodeError> {
        if self.rest.len() < count { Err(DecodeError::Truncated) } else { Ok(()) }
    }
}

/// Reads a Variable Byte Integer from the front of `bytes`: its value and how many bytes it takes; `None` when
/// more are needed.
pub(crate) fn decode_variable(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let is_shortest = index == 0 || *byte != 0;
            return if is_shortest {
                Ok(Some((value, index + 1)))
            } else {
                Err(DecodeError::VariableByteInteger)
            };
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(DecodeError::VariableByteInteger) }
}

/// The largest Variable Byte Integer.
pub(crate) const VARIABLE_MAX: u32 = 268_435_455;

pub(crate) fn encode_variable(mut value: u32, out: &mut BytesMut) {
    loop {
        let [low, ..] = (value & 0x7f).to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.put_u8(low);
            return;
        }
        out.put_u8(low | 0x80);
    }
}

pub(crate) fn encode_text(text: &Text, out: &mut BytesMut) {
    encode_binary(text.as_bytes(), out);
}

/// Whether Binary Data can be written: its length has 16 bits.
pub(crate) fn check_binary(bytes: &[u8]) -> Result<(), EncodeError> {
    if bytes.len() > usize::from(u16::MAX) { Err(EncodeError::TooLarge) } else { Ok(()) }
}

/// Binary Data. What is longer than its length can say would be cut off: texts never are, and all else has
/// gone through [`check_binary`].
pub(crate) fn encode_binary(bytes: &[u8], out: &mut BytesMut) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.put_u16(length);
    out.put_slice(&bytes[..usize::from(length)]);
}
