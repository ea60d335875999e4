//! What an earlier run left.
//!
//! A place that cannot be read is one of two things. Before the last position that is known to have been synced it is
//! damage: it is named ([`Loss`]), and reading goes on at the next frame. Behind it, it is the end of what a crash cut off:
//! nobody was told that it was durable, and it is dropped with all that follows.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, mpsc};

use super::frame::{self, Found, Kind};
use super::segment::Segment;
use super::{Log, Options, Position, Storage, Writer};

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system does not let it be read or cut.
    #[error("the log cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It was written by a newer version.
    #[error("the log has format {found}, and this version knows {known}; use the version that wrote it, or a newer one", known = frame::VERSION)]
    Format {
        /// The format.
        found: u16,
    },
}

/// Bytes of the log that were durable and cannot be read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The segment.
    pub segment: Position,
    /// Where in it.
    pub offset: u64,
    /// How much.
    pub bytes: u64,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Records that are whole.
    pub records: u64,
    /// Bytes of all segments.
    pub bytes: u64,
    /// What was lost.
    pub losses: Vec<Loss>,
    /// Bytes at the end that a crash had cut off before they were durable.
    pub unfinished: u64,
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of segment {:016x} from offset {} on", self.bytes, self.segment.0, self.offset)
    }
}

/// Opens a log, and hands every record to `visit`, in order. `salt` is random, and used if the log is new.
///
/// # Errors
/// Why it cannot be opened. Damage is no reason: the report names it.
pub fn open(
    storage: Arc<dyn Storage>,
    options: Options,
    salt: u64,
    mut visit: impl FnMut(Position, &[u8]),
) -> Result<(Writer, Report), OpenError> {
    let mut found = read(&*storage, &mut visit)?;
    let mut segments: BTreeMap<_, _> =
        found.segments.iter().map(|&base| (base, Segment::new(base))).collect();
    if let Some((base, length)) = found.cut {
        if length <= frame::SEGMENT_HEADER as u64 {
            storage.remove(base)?;
            segments.remove(&base);
        } else {
            storage.truncate(base, length)?;
        }
    }
    if segments.is_empty() && found.end == Position(0) {
        // On the disk before anything else is: without a salt nothing can be told apart.
        storage.create(found.end)?;
        storage.write(found.end, 0, &frame::segment_header(found.end, salt))?;
        segments.insert(found.end, Segment::new(found.end));
        found.end = Position(frame::SEGMENT_HEADER as u64);
    }
    // What a killed process wrote is there, and what counts as durable from now on builds on it.
    if let Some((last, _)) = segments.last_key_value() {
        storage.sync(*last)?;
    }
    let log = Log::new(options, found.salt.unwrap_or(salt), segments, found.end);
    Ok((Writer::new(Arc::new(log), storage), found.report))
}

/// Reads a log that nobody has open, and leaves it as it is. Records can be read once more afterwards ([`Log::read`]);
/// nothing is to be appended.
///
/// # Errors
/// Why it cannot be read.
pub fn view(
    storage: &dyn Storage,
    mut visit: impl FnMut(Position, &[u8]),
) -> Result<(Log, Report), OpenError> {
    let found = read(storage, &mut visit)?;
    let segments = found.segments.iter().map(|&base| (base, Segment::new(base))).collect();
    let log = Log::new(Options::default(), found.salt.unwrap_or_default(), segments, found.end);
    Ok((log, found.report))
}

struct Contents {
    segments: Vec<Position>,
    /// The segment that ends with something unfinished, and what is left of it without that.
    cut: Option<(Position, u64)>,
    end: Position,
    salt: Option<u64>,
    report: Report,
}

fn read(storage: &dyn Storage, visit: &mut dyn FnMut(Position, &[u8])) -> Result<Contents, OpenError> {
    let segments = storage.list()?;
    let salt = find_salt(storage, &segments)?;
    let mut found = Contents { segments, cut: None, end: Position(0), salt, report: Report::default() };
    let segments = found.segments.clone();
    let synced = std::thread::scope(|scope| {
        // Pieces are read and checked ahead of those whose records are visited, in buffers that go round.
        let (send, pieces) = mpsc::sync_channel(2);
        let (give_back, spare) = mpsc::channel();
        scope.spawn(move || {
            if let Err(error) = load(storage, &segments, salt, &send, &spare) {
                // Whoever does not wait for it any more has an error already.
                let _ = send.send(Err(error));
            }
        });
        let mut synced = Position(0);
        for piece in pieces {
            let piece: Piece = piece?;
            synced = piece.synced;
            let buffer = found.take(piece, visit);
            // There is no next piece for it after the last one.
            let _ = give_back.send(buffer);
        }
        Ok::<_, OpenError>(synced)
    })?;
    // Whoever knows of something durable knows of no later position.
    found.end = found.end.max(synced);
    if found.cut.is_some_and(|(_, length)| length <= frame::SEGMENT_HEADER as u64) {
        found.end = found.segments.last().copied().unwrap_or_default();
    }
    Ok(found)
}

/// Bytes that are read at once: still in a processor's cache when they are checked and visited. In tests a segment has
/// many pieces, too.
const PIECE: usize = if cfg!(test) { 100 } else { 2 << 20 };

/// A piece of a segment, read and checked: as far as its frames are whole, or to the end of the segment.
struct Piece {
    /// The number of the segment.
    segment: usize,
    /// Where in it.
    offset: u64,
    bytes: Vec<u8>,
    places: Places,
    /// Up to where everything was synced, as far as it and those before it say.
    synced: Position,
}

/// Reads segments, and checks them.
fn load(
    storage: &dyn Storage,
    segments: &[Position],
    salt: Option<u64>,
    pieces: &mpsc::SyncSender<io::Result<Piece>>,
    spare: &mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut synced = Position(0);
    for (segment, &base) in segments.iter().enumerate() {
        let length = storage.length(base)?;
        let (mut offset, mut rest) = (0, Vec::new());
        let mut wanted = if salt.is_some() { PIECE } else { usize::MAX };
        loop {
            let mut bytes = spare.try_recv().unwrap_or_default();
            bytes.clear();
            bytes.append(&mut rest);
            storage.read(base, offset + bytes.len() as u64, wanted, &mut bytes)?;
            let is_end = wanted == usize::MAX || offset + bytes.len() as u64 >= length;
            let places = match salt {
                Some(salt) => Places::of(&bytes, base, offset, salt, &mut synced, is_end),
                None => Places { end: bytes.len(), ..Places::default() },
            };
            if places.end == 0 && !is_end {
                // A large frame, or damage: what is behind it decides.
                (rest, wanted) = (bytes, usize::MAX);
                continue;
            }
            rest.extend_from_slice(&bytes[places.end..]);
            let next = offset + places.end as u64;
            if pieces.send(Ok(Piece { segment, offset, bytes, places, synced })).is_err() {
                return Ok(());
            }
            if is_end {
                break;
            }
            offset = next;
        }
    }
    Ok(())
}

impl Contents {
    /// Takes the next piece, and gives its buffer back.
    fn take(&mut self, piece: Piece, visit: &mut dyn FnMut(Position, &[u8])) -> Vec<u8> {
        let Piece { segment: index, offset: start, bytes, places, synced } = piece;
        let base = self.segments[index];
        let is_last = index + 1 == self.segments.len();
        if start == 0 && index > 0 && self.end != base {
            let (segment, offset) = (self.segments[index - 1], self.end.0 - self.segments[index - 1].0);
            let bytes = base.0.saturating_sub(self.end.0);
            self.report.losses.push(Loss { segment, offset, bytes });
        }
        if self.salt.is_none() {
            // A log that was about to be made; or without a single header nothing can be told apart.
            if bytes.len() <= frame::SEGMENT_HEADER && is_last {
                self.cut = Some((base, 0));
            } else {
                self.report.losses.push(Loss { segment: base, offset: 0, bytes: bytes.len() as u64 });
            }
            return bytes;
        }
        let mut end = places.end;
        for (from, until) in places.gaps {
            let offset = start + from as u64;
            if is_last && base.0 + offset >= synced.0 {
                self.report.unfinished = (bytes.len() - from) as u64;
                self.cut = Some((base, offset));
                end = from;
                break;
            }
            self.report.losses.push(Loss { segment: base, offset, bytes: (until - from) as u64 });
        }
        for (offset, body) in places.records.into_iter().filter(|(offset, _)| *offset < end) {
            self.report.records += 1;
            visit(Position(base.0 + start + offset as u64), &bytes[body]);
        }
        self.report.bytes += end as u64;
        self.end = Position(base.0 + start + end as u64);
        bytes
    }
}

fn find_salt(storage: &dyn Storage, segments: &[Position]) -> Result<Option<u64>, OpenError> {
    for &base in segments {
        let mut header = Vec::new();
        storage.read(base, 0, frame::SEGMENT_HEADER, &mut header)?;
        match frame::read_segment_header(&header, base) {
            Some((frame::VERSION, salt)) => return Ok(Some(salt)),
            Some((found, _)) => return Err(OpenError::Format { found }),
            None => {}
        }
    }
    Ok(None)
}

/// What is where in a piece.
#[derive(Default)]
struct Places {
    records: Vec<(usize, std::ops::Range<usize>)>,
    gaps: Vec<(usize, usize)>,
    /// Up to where it was looked at.
    end: usize,
}

impl Places {
    /// Looks at what begins at `offset` of a segment. Unless it goes to the `is_end` of that, it stops where something
    /// is not whole.
    fn of(bytes: &[u8], base: Position, offset: u64, salt: u64, synced: &mut Position, is_end: bool) -> Self {
        let mut places = Self::default();
        if offset == 0 {
            let header = frame::SEGMENT_HEADER.min(bytes.len());
            if frame::read_segment_header(bytes, base).is_none() {
                if !is_end {
                    return places;
                }
                places.gaps.push((0, header));
            }
            places.end = header;
        }
        let found = |at: usize| frame::read(&bytes[at..], salt, Position(base.0 + offset + at as u64));
        while places.end < bytes.len() {
            let at = places.end;
            if let Found::Frame(kind, body) = found(at) {
                let start = at + frame::HEADER;
                match kind {
                    Kind::Record => places.records.push((at, start..start + body.len())),
                    Kind::Synced => {
                        let claim = body.try_into().map_or(0, u64::from_be_bytes);
                        *synced = (*synced).max(Position(claim));
                    }
                }
                places.end = start + body.len();
                continue;
            }
            if !is_end {
                return places;
            }
            let is_frame = |marker: &usize| matches!(found(*marker), Found::Frame(..));
            let markers = std::iter::successors(frame::next_marker(bytes, at + 1), |marker| {
                frame::next_marker(bytes, marker + 1)
            });
            places.end = markers.into_iter().find(is_frame).unwrap_or(bytes.len());
            places.gaps.push((at, places.end));
        }
        places
    }
}
