//! What a segment holds: a header, and frames.
//!
//! All integers are big-endian. A segment begins with `"TRELLOG" 0:8 · version:16 · base:64 · salt:64 · check:32`; a
//! frame is `marker:16 · kind:8 · length:32 · check:32 · body`.
//!
//! The check of a frame is a CRC-32 over the log's salt, the frame's position, its kind, its length and its body: no
//! payload that somebody sends can look like a frame, and no frame passes for one of another place.

use super::Position;

/// Bytes of a segment's header.
pub(super) const SEGMENT_HEADER: usize = 30;

/// Bytes of a frame before its body.
pub(super) const HEADER: usize = 11;

/// The largest body: room for the largest packet of MQTT, and for what a record says beside it.
pub(super) const MAX_BODY: usize = (1 << 28) + (1 << 20);

/// The format that this version writes, and the only one so far.
pub(super) const VERSION: u16 = 1;

const MAGIC: &[u8; 8] = b"TRELLOG\0";
const MARKER: [u8; 2] = [0xd7, 0x4c];

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Up to which position everything was synced when this was written.
    Synced,
    /// A record of the log's user.
    Record,
}

/// What stands at a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A frame, with its body.
    Frame(Kind, &'a [u8]),
    /// The beginning of a frame, as far as one can see.
    Partial,
    /// No frame.
    Nothing,
}

pub(super) fn segment_header(base: Position, salt: u64) -> [u8; SEGMENT_HEADER] {
    let mut header = [0; SEGMENT_HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_be_bytes());
    header[10..18].copy_from_slice(&base.0.to_be_bytes());
    header[18..26].copy_from_slice(&salt.to_be_bytes());
    let check = crc32fast::hash(&header[..26]);
    header[26..].copy_from_slice(&check.to_be_bytes());
    header
}

/// The version and the salt of a segment whose header is whole and names its place.
pub(super) fn read_segment_header(bytes: &[u8], base: Position) -> Option<(u16, u64)> {
    let header = bytes.get(..SEGMENT_HEADER)?;
    let is_whole = header.starts_with(MAGIC) && header[26..] == crc32fast::hash(&header[..26]).to_be_bytes();
    let version = u16::from_be_bytes(header[8..10].try_into().ok()?);
    let salt = u64::from_be_bytes(header[18..26].try_into().ok()?);
    (is_whole && header[10..18] == base.0.to_be_bytes()).then_some((version, salt))
}

/// Appends a frame that begins at `position`. The body is at most [`MAX_BODY`] long.
pub(super) fn write(out: &mut Vec<u8>, salt: u64, position: Position, kind: Kind, body: &[u8]) {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&MARKER);
    out.push(kind as u8);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&check(salt, position, kind as u8, body).to_be_bytes());
    out.extend_from_slice(body);
}

/// Looks at what begins at `position`.
pub(super) fn read(bytes: &[u8], salt: u64, position: Position) -> Found<'_> {
    let Some(header) = bytes.get(..HEADER) else { return Found::Partial };
    let kind = match header[2] {
        0 => Kind::Synced,
        1 => Kind::Record,
        _ => return Found::Nothing,
    };
    let length = body_length(header);
    if header[..2] != MARKER || length > MAX_BODY {
        return Found::Nothing;
    }
    let Some(body) = bytes.get(HEADER..HEADER + length) else { return Found::Partial };
    if header[7..11] == check(salt, position, header[2], body).to_be_bytes() {
        Found::Frame(kind, body)
    } else {
        Found::Nothing
    }
}

/// The length of a body, by its frame's header.
pub(super) fn body_length(header: &[u8]) -> usize {
    header.get(3..7).and_then(|bytes| bytes.try_into().ok()).map_or(0, |x| u32::from_be_bytes(x) as usize)
}

/// Where, from `from` on, a frame may begin.
pub(super) fn next_marker(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(MARKER.len()).position(|two| two == MARKER).map(|at| from + at)
}

fn check(salt: u64, position: Position, kind: u8, body: &[u8]) -> u32 {
    let mut place = [0; 21];
    place[..8].copy_from_slice(&salt.to_be_bytes());
    place[8..16].copy_from_slice(&position.0.to_be_bytes());
    place[16] = kind;
    place[17..].copy_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&place);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_at_its_place_in_its_log_only() {
        let mut bytes = Vec::new();
        write(&mut bytes, 7, Position(100), Kind::Record, b"hello");
        assert_eq!(read(&bytes, 7, Position(100)), Found::Frame(Kind::Record, b"hello"));
        assert_eq!(read(&bytes, 7, Position(101)), Found::Nothing);
        assert_eq!(read(&bytes, 8, Position(100)), Found::Nothing);
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut], 7, Position(100)), Found::Partial, "{cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(read(&flipped, 7, Position(100)), Found::Frame(..)), "bit {bit}");
        }
    }

    #[test]
    fn a_segment_says_where_it_belongs() {
        let header = segment_header(Position(9), 3);
        assert_eq!(read_segment_header(&header, Position(9)), Some((VERSION, 3)));
        assert_eq!(read_segment_header(&header, Position(8)), None);
        assert_eq!(read_segment_header(&header[..29], Position(9)), None);
    }
}
