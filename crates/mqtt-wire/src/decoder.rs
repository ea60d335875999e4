use bytes::{Buf as _, BytesMut};

use crate::cursor::decode_variable;
use crate::packet::Connect;
use crate::{DecodeError, Packet, Version};

/// Cuts a stream of bytes into packets.
#[derive(Clone, Debug)]
pub struct Decoder {
    version: Option<Version>,
    max_packet_size: u32,
}

impl Decoder {
    /// For a connection whose version is known: a client's.
    pub fn new(version: Version, max_packet_size: u32) -> Self {
        Self { version: Some(version), max_packet_size }
    }

    /// For a connection that has not said its version: a server's. The first packet has to be CONNECT.
    pub fn for_server(max_packet_size: u32) -> Self {
        Self { version: None, max_packet_size }
    }

    /// The version, once it is known: from CONNECT on, even if there is something else wrong with that.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Takes the first packet from `input`; `None`: more bytes are needed. Bytes behind the packet stay.
    ///
    /// A packet that is too large is an error as soon as its fixed header is there, before its bytes are.
    ///
    /// # Errors
    /// What is wrong with the packet. The connection is of no use after that.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        let Some((&first, rest)) = input.split_first() else { return Ok(None) };
        if self.version.is_none() && first >> 4 != 1 {
            return Err(DecodeError::NotConnect);
        }
        let Some((remaining, length)) = decode_variable(rest)? else { return Ok(None) };
        let header = 1 + length;
        let size = remaining.saturating_add(u32::try_from(header).unwrap_or(5));
        if size > self.max_packet_size {
            return Err(DecodeError::TooLarge { size, limit: self.max_packet_size });
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if input.len() < size {
            // No room is made for what has only been announced: a stranger could announce much.
            return Ok(None);
        }
        let mut frame = input.split_to(size).freeze();
        frame.advance(header);
        if self.version.is_none() {
            self.version = Connect::peek_version(&frame);
        }
        Packet::decode(first, frame, self.version).map(Some)
    }
}
