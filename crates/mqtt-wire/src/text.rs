use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

/// A UTF-8 Encoded String (MQTT 5.0 §1.5.4): at most 65,535 bytes, none of them U+0000. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Bytes);

/// Why bytes are not a [`Text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// They are not UTF-8; surrogates never are.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// They hold U+0000.
    #[error("a string holds the character U+0000")]
    Nul,
    /// There are more than 65,535.
    #[error("a string has more than 65,535 bytes")]
    TooLong,
}

impl Text {
    /// Copies `text`.
    pub fn new(text: &str) -> Result<Self, TextError> {
        Self::try_from(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Checked when it was made. Checking again is what safe code costs; texts on the message path are
        // looked at as bytes.
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Its UTF-8.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The same text in memory of its own. A decoded text is a slice of its packet and keeps all of it: what is
    /// to stay for longer than a message does not hold on to a payload of a megabyte.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }
}

impl TryFrom<Bytes> for Text {
    type Error = TextError;

    fn try_from(bytes: Bytes) -> Result<Self, TextError> {
        if bytes.len() > usize::from(u16::MAX) {
            return Err(TextError::TooLong);
        }
        if bytes.contains(&0) {
            return Err(TextError::Nul);
        }
        str::from_utf8(&bytes).map_err(|_| TextError::NotUtf8)?;
        Ok(Self(bytes))
    }
}

/// Texts are equal, in order and hashed as their bytes are.
impl Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
