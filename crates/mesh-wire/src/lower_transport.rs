//! The lower transport PDUs (MshPRT §3.5.2), big-endian. The first octet begins with SEG: whether it is a
//! segment of a longer upper transport PDU.

use smallvec::SmallVec;

use crate::network::TransportPdu;
use crate::{DecodeError, Reader, SeqZero};

/// Octets of upper transport PDU in a full segment of an access message.
pub const ACCESS_SEGMENT: usize = 12;

/// Octets of upper transport PDU in a full segment of a control message.
pub const CONTROL_SEGMENT: usize = 8;

/// Octets of the longest upper transport access PDU that fits without segmentation.
pub const UNSEGMENTED_ACCESS: usize = 15;

/// Octets of the longest control parameters that fit without segmentation.
pub const UNSEGMENTED_CONTROL: usize = 11;

/// Most segments of a message.
pub const MAX_SEGMENTS: usize = 32;

/// AKF and AID: which key secured an access message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyHint {
    /// AKF 0: a device key.
    Device,
    /// AKF 1: an application key with this AID, of 6 bits.
    Application(u8),
}

/// Octets of a segment.
pub type SegmentOctets = SmallVec<[u8; ACCESS_SEGMENT]>;

/// What the segments of a message have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SegmentedKind {
    /// An access message; SZMIC says whether its TransMIC has 64 bits.
    Access {
        /// AKF and AID.
        key: KeyHint,
        /// SZMIC.
        szmic: bool,
    },
    /// A control message with this opcode, of 7 bits, not 0.
    Control {
        /// The opcode.
        opcode: u8,
    },
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Of what message.
    pub kind: SegmentedKind,
    /// The lower 13 bits of the message's sequence number.
    pub seq_zero: SeqZero,
    /// Its number, 0 to `seg_n`.
    pub seg_o: u8,
    /// The number of the last segment, 0 to 31.
    pub seg_n: u8,
    /// 12 octets (8 of a control message), fewer only in the last segment.
    pub octets: SegmentOctets,
}

/// Segment Acknowledgment: `OBO:1 SeqZero:13 RFU:2 BlockAck:32`, after the opcode 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentAck {
    /// OBO: a Friend acknowledges for its Low Power node.
    pub on_behalf: bool,
    /// Of the message.
    pub seq_zero: SeqZero,
    /// Bit n: segment n was received. 0: the message was refused.
    pub block_ack: u32,
}

/// Any lower transport PDU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LowerTransportPdu {
    /// A whole upper transport access PDU of 5 to 15 octets (§3.5.2.1).
    UnsegmentedAccess(KeyHint, TransportPdu),
    /// A whole control message (§3.5.2.3): its opcode, of 7 bits and not 0, and at most 11 octets.
    UnsegmentedControl(u8, TransportPdu),
    /// A segment of either (§3.5.2.2, §3.5.2.4).
    Segment(Segment),
    /// An acknowledgment of segments (§3.5.2.3.1).
    SegmentAck(SegmentAck),
}

impl KeyHint {
    fn to_bits(self) -> u8 {
        match self {
            Self::Device => 0,
            Self::Application(aid) => 0x40 | (aid & 0x3f),
        }
    }

    fn from_bits(octet: u8) -> Self {
        if octet & 0x40 == 0 { Self::Device } else { Self::Application(octet & 0x3f) }
    }
}

impl SegmentedKind {
    /// Octets of upper transport PDU in a full segment.
    pub const fn segment_size(self) -> usize {
        match self {
            Self::Access { .. } => ACCESS_SEGMENT,
            Self::Control { .. } => CONTROL_SEGMENT,
        }
    }
}

impl LowerTransportPdu {
    /// Reads a transport PDU; `ctl` is that of its network PDU.
    pub fn decode(ctl: bool, octets: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(octets);
        let first = reader.u8()?;
        let is_segment = first >> 7 == 1;
        match (is_segment, ctl) {
            (false, false) => match octets.len() - 1 {
                0..5 => Err(DecodeError::TooShort),
                5..=UNSEGMENTED_ACCESS => {
                    Ok(Self::UnsegmentedAccess(KeyHint::from_bits(first), reader.rest().into()))
                }
                _ => Err(DecodeError::TooLong),
            },
            (false, true) if first == 0 => SegmentAck::decode(reader).map(Self::SegmentAck),
            (false, true) if octets.len() - 1 > UNSEGMENTED_CONTROL => Err(DecodeError::TooLong),
            (false, true) => Ok(Self::UnsegmentedControl(first, reader.rest().into())),
            (true, _) => Segment::decode(ctl, first, reader).map(Self::Segment),
        }
    }

    /// Its octets.
    pub fn encode(&self) -> TransportPdu {
        match self {
            Self::UnsegmentedAccess(key, upper) => with_first(key.to_bits(), upper),
            Self::UnsegmentedControl(opcode, parameters) => with_first(opcode & 0x7f, parameters),
            Self::Segment(segment) => segment.encode(),
            Self::SegmentAck(ack) => ack.encode(),
        }
    }

    /// CTL of the network PDU that carries it.
    pub const fn ctl(&self) -> bool {
        match self {
            Self::UnsegmentedAccess(..) => false,
            Self::UnsegmentedControl(..) | Self::SegmentAck(_) => true,
            Self::Segment(segment) => matches!(segment.kind, SegmentedKind::Control { .. }),
        }
    }
}

impl Segment {
    /// `SEG:1 AKF:1 AID:6 · SZMIC:1 SeqZero:13 SegO:5 SegN:5 · octets`; with CTL, `SEG:1 Opcode:7 · RFU:1 …`.
    fn decode(ctl: bool, first: u8, mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        let [a, b, c] = reader.array()?;
        let bits = u32::from_be_bytes([0, a, b, c]);
        let kind = match (ctl, first & 0x7f) {
            (false, _) => SegmentedKind::Access { key: KeyHint::from_bits(first), szmic: bits >> 23 == 1 },
            (true, 0) => return Err(DecodeError::Prohibited("Opcode")),
            (true, opcode) => SegmentedKind::Control { opcode },
        };
        let segment = Self {
            kind,
            seq_zero: SeqZero::truncate(bits >> 10),
            seg_o: five_bits(bits >> 5),
            seg_n: five_bits(bits),
            octets: reader.rest().into(),
        };
        let size = kind.segment_size();
        if segment.seg_o > segment.seg_n {
            return Err(DecodeError::Prohibited("SegO"));
        }
        match segment.octets.len() {
            0 => Err(DecodeError::TooShort),
            length if length > size => Err(DecodeError::TooLong),
            length if length < size && segment.seg_o < segment.seg_n => Err(DecodeError::TooShort),
            _ => Ok(segment),
        }
    }

    fn encode(&self) -> TransportPdu {
        let (first, szmic) = match self.kind {
            SegmentedKind::Access { key, szmic } => (key.to_bits(), szmic),
            SegmentedKind::Control { opcode } => (opcode & 0x7f, false),
        };
        let bits = u32::from(szmic) << 23
            | u32::from(u16::from(self.seq_zero)) << 10
            | u32::from(self.seg_o & 0x1f) << 5
            | u32::from(self.seg_n & 0x1f);
        let mut octets = TransportPdu::new();
        octets.push(0x80 | first);
        octets.extend_from_slice(&bits.to_be_bytes()[1..]);
        octets.extend_from_slice(&self.octets);
        octets
    }
}

impl SegmentAck {
    fn decode(mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        let head = u16::from_be_bytes(reader.array()?);
        let block_ack = u32::from_be_bytes(reader.array()?);
        let seq_zero = SeqZero::truncate(u32::from(head >> 2));
        reader.finish(Self { on_behalf: head >> 15 == 1, seq_zero, block_ack })
    }

    fn encode(self) -> TransportPdu {
        let head = u16::from(self.on_behalf) << 15 | u16::from(self.seq_zero) << 2;
        let mut octets = TransportPdu::new();
        octets.push(0);
        octets.extend(head.to_be_bytes());
        octets.extend(self.block_ack.to_be_bytes());
        octets
    }
}

fn with_first(first: u8, rest: &[u8]) -> TransportPdu {
    let mut octets = TransportPdu::new();
    octets.push(first);
    octets.extend_from_slice(rest);
    octets
}

fn five_bits(bits: u32) -> u8 {
    (bits & 0x1f) as u8
}
