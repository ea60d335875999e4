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
        // The next segment is read and checked while the records of one are visited.
        let (send, loaded) = mpsc::sync_channel(1);
        scope.spawn(move || {
            let mut synced = Position(0);
            for base in segments {
                let segment = Loaded::read(storage, base, salt, &mut synced);
                let is_over = segment.is_err();
                if send.send(segment).is_err() || is_over {
                    return;
                }
            }
        });
        let mut synced = Position(0);
        for (index, segment) in loaded.into_iter().enumerate() {
            let segment = segment?;
            synced = segment.synced;
            found.take(index, segment, visit);
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

/// A segment, read and checked.
struct Loaded {
    base: Position,
    bytes: Vec<u8>,
    places: Places,
    /// Up to where everything was synced, as far as it and those before it say.
    synced: Position,
}

impl Loaded {
    fn read(
        storage: &dyn Storage,
        base: Position,
        salt: Option<u64>,
        synced: &mut Position,
    ) -> std::io::Result<Self> {
        let length = usize::try_from(storage.length(base)?).unwrap_or(usize::MAX);
        let bytes = storage.read(base, 0, length)?;
        let places = salt.map_or_else(Places::default, |salt| Places::of(&bytes, base, salt, synced));
        Ok(Self { base, bytes, places, synced: *synced })
    }
}

impl Contents {
    fn take(&mut self, index: usize, segment: Loaded, visit: &mut dyn FnMut(Position, &[u8])) {
        let Loaded { base, bytes, places, synced } = segment;
        let is_last = index + 1 == self.segments.len();
        if index > 0 && self.end != base {
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
            return;
        }
        let mut end = bytes.len();
        for (from, until) in places.gaps {
            if is_last && base.0 + from as u64 >= synced.0 {
                self.report.unfinished = (bytes.len() - from) as u64;
                self.cut = Some((base, from as u64));
                end = from;
                break;
            }
            let (offset, bytes) = (from as u64, (until - from) as u64);
            self.report.losses.push(Loss { segment: base, offset, bytes });
        }
        for (offset, body) in places.records.into_iter().filter(|(offset, _)| *offset < end) {
            self.report.records += 1;
            visit(Position(base.0 + offset as u64), &bytes[body]);
        }
        self.report.bytes += end as u64;
        self.end = Position(base.0 + end as u64);
    }
}

fn find_salt(storage: &dyn Storage, segments: &[Position]) -> Result<Option<u64>, OpenError> {
    for &base in segments {
        let header = storage.read(base, 0, frame::SEGMENT_HEADER)?;
        match frame::read_segment_header(&header, base) {
            Some((frame::VERSION, salt)) => return Ok(Some(salt)),
            Some((found, _)) => return Err(OpenError::Format { found }),
            None => {}
        }
    }
    Ok(None)
}

/// What is where in a segment.
#[derive(Default)]
struct Places {
    records: Vec<(usize, std::ops::Range<usize>)>,
    gaps: Vec<(usize, usize)>,
}

impl Places {
    fn of(bytes: &[u8], base: Position, salt: u64, synced: &mut Position) -> Self {
        let mut places = Self::default();
        let mut at = frame::SEGMENT_HEADER.min(bytes.len());
        if frame::read_segment_header(bytes, base).is_none() {
            places.gaps.push((0, at));
        }
        let found = |at: usize| frame::read(&bytes[at..], salt, Position(base.0 + at as u64));
        while at < bytes.len() {
            if let Found::Frame(kind, body) = found(at) {
                let start = at + frame::HEADER;
                match kind {
                    Kind::Record => places.records.push((at, start..start + body.len())),
                    Kind::Synced => {
                        let claim = body.try_into().map_or(0, u64::from_be_bytes);
                        *synced = (*synced).max(Position(claim));
                    }
                }
                at = start + body.len();
                continue;
            }
            let mut next = at + 1;
            loop {
                match frame::next_marker(bytes, next) {
                    Some(marker) if matches!(found(marker), Found::Frame(..)) => {
                        next = marker;
                        break;
                    }
                    Some(marker) => next = marker + 1,
                    None => {
                        next = bytes.len();
                        break;
                    }
                }
            }
            places.gaps.push((at, next));
            at = next;
        }
        places
    }
}
