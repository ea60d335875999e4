//! The transport control messages of friendship (MshPRT §3.6.5.1 to §3.6.5.9), big-endian.

use core::time::Duration;

use smallvec::SmallVec;

use crate::address::{Address, UnicastAddress};
use crate::beacon::NetworkFlags;
use crate::network::TransportPdu;
use crate::{DecodeError, IvIndex, Reader};

/// Most addresses in one Subscription List message: what fits unsegmented.
pub const MAX_LISTED: usize = 5;

/// The addresses of a Subscription List message: groups and virtual addresses.
pub type AddressList = SmallVec<[Address; MAX_LISTED]>;

/// What a Low Power node wants of its Friend: `RFU:1 RSSIFactor:2 ReceiveWindowFactor:2 MinQueueSizeLog:3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Criteria {
    rssi_factor: u8,
    receive_window_factor: u8,
    min_queue_size_log: u8,
}

/// Friend Request (§3.6.5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FriendRequest {
    /// Criteria.
    pub criteria: Criteria,
    /// ReceiveDelay in milliseconds: 10 to 255.
    pub receive_delay_ms: u8,
    /// PollTimeout.
    pub poll_timeout: PollTimeout,
    /// PreviousAddress: the primary element of the Friend before, if there was one.
    pub previous: Option<UnicastAddress>,
    /// NumElements: 1 to 255.
    pub elements: u8,
    /// LPNCounter: how many Friend Requests the node has sent before.
    pub lpn_counter: u16,
}

/// Friend Offer (§3.6.5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FriendOffer {
    /// ReceiveWindow in milliseconds: 1 to 255.
    pub receive_window_ms: u8,
    /// QueueSize: lower transport PDUs that the Friend can store.
    pub queue_size: u8,
    /// SubscriptionListSize.
    pub subscription_list_size: u8,
    /// How strong the request was, in dBm; 127: not known.
    pub rssi: i8,
    /// FriendCounter: how many Friend Offers the node has sent before.
    pub friend_counter: u16,
}

/// PollTimeout: 1 s to 95 h 59 min 59.9 s in steps of 100 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PollTimeout(u32);

/// A transport control message between a Low Power node and a Friend, or between Friends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FriendshipMessage {
    /// `Padding:7 FSN:1`.
    Poll {
        /// The Friend Sequence Number.
        fsn: bool,
    },
    /// `Flags:8 IVIndex:32 MD:8`.
    Update {
        /// Key Refresh Flag and IV Update Flag.
        flags: NetworkFlags,
        /// IV Index.
        iv_index: IvIndex,
        /// MD: whether the Friend Queue holds more.
        more_data: bool,
    },
    /// `Criteria:8 ReceiveDelay:8 PollTimeout:24 PreviousAddress:16 NumElements:8 LPNCounter:16`.
    Request(FriendRequest),
    /// `ReceiveWindow:8 QueueSize:8 SubscriptionListSize:8 RSSI:8 FriendCounter:16`.
    Offer(FriendOffer),
    /// `LPNAddress:16 LPNCounter:16`: the node has another Friend now.
    Clear {
        /// The Low Power node.
        lpn: UnicastAddress,
        /// The LPNCounter of the friendship that replaces the older one.
        lpn_counter: u16,
    },
    /// The same, as the answer.
    ClearConfirm {
        /// The Low Power node.
        lpn: UnicastAddress,
        /// The LPNCounter of the Friend Clear.
        lpn_counter: u16,
    },
    /// `TransactionNumber:8 { Address:16 }…`.
    SubscriptionListAdd {
        /// TransactionNumber.
        transaction: u8,
        /// What is to be added.
        addresses: AddressList,
    },
    /// The same, of what is to be removed.
    SubscriptionListRemove {
        /// TransactionNumber.
        transaction: u8,
        /// What is to be removed.
        addresses: AddressList,
    },
    /// `TransactionNumber:8`.
    SubscriptionListConfirm {
        /// That of the message which is confirmed.
        transaction: u8,
    },
}

impl Criteria {
    /// Factors of 0 to 3, which stand for 1, 1.5, 2 and 2.5, and a queue of at least 2^n PDUs with n of 1 to 7.
    pub const fn new(rssi_factor: u8, receive_window_factor: u8, min_queue_size_log: u8) -> Option<Self> {
        if rssi_factor <= 3 && receive_window_factor <= 3 && matches!(min_queue_size_log, 1..=7) {
            Some(Self { rssi_factor, receive_window_factor, min_queue_size_log })
        } else {
            None
        }
    }

    /// PDUs that the Friend Queue has to hold: 2 to 128.
    pub const fn min_queue_size(self) -> u8 {
        1 << self.min_queue_size_log
    }

    /// Local Delay in milliseconds: `ReceiveWindowFactor × ReceiveWindow − RSSIFactor × RSSI` (§3.6.6.3.1). The less,
    /// the better a Friend with this window fits, who hears the node this well.
    pub fn local_delay_ms(self, receive_window_ms: u8, rssi: i8) -> i32 {
        let halves = |factor: u8| i32::from(factor) + 2;
        let window = halves(self.receive_window_factor) * i32::from(receive_window_ms);
        let strength = halves(self.rssi_factor) * i32::from(rssi);
        (window - strength) / 2
    }

    /// Friend Offer Delay: the Local Delay, and at least 100 ms.
    pub fn offer_delay(self, receive_window_ms: u8, rssi: i8) -> Duration {
        let delay = self.local_delay_ms(receive_window_ms, rssi).max(100);
        Duration::from_millis(u64::try_from(delay).unwrap_or(100))
    }

    const fn to_octet(self) -> u8 {
        self.rssi_factor << 5 | self.receive_window_factor << 3 | self.min_queue_size_log
    }

    fn from_octet(octet: u8) -> Result<Self, DecodeError> {
        let (rssi, window, queue) = (octet >> 5 & 3, octet >> 3 & 3, octet & 7);
        Self::new(rssi, window, queue).ok_or(DecodeError::Prohibited("MinQueueSizeLog"))
    }
}

impl FriendOffer {
    /// RSSI where the Friend could not measure it.
    pub const RSSI_UNKNOWN: i8 = 0x7f;
}

impl PollTimeout {
    /// The shortest: 1 s.
    pub const MIN: Self = Self(0x0a);
    /// The longest: 100 ms less than 96 hours.
    pub const MAX: Self = Self(0x34_bbff);

    /// So many steps of 100 ms, if that is at least a second and less than 96 hours.
    pub const fn new(steps: u32) -> Option<Self> {
        if matches!(steps, 0x0a..=0x34_bbff) { Some(Self(steps)) } else { None }
    }

    /// The time, rounded down to steps, and brought into the range.
    pub fn of(duration: Duration) -> Self {
        let steps = u32::try_from(duration.as_millis() / 100).unwrap_or(u32::MAX);
        Self(steps.clamp(Self::MIN.0, Self::MAX.0))
    }

    /// In steps of 100 ms.
    pub const fn steps(self) -> u32 {
        self.0
    }

    /// As a time.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64 * 100)
    }
}

impl FriendshipMessage {
    /// Whether a control message with this opcode is one of these.
    pub const fn has_opcode(opcode: u8) -> bool {
        matches!(opcode, 1..=9)
    }

    /// The opcode of the transport control message.
    pub const fn opcode(&self) -> u8 {
        match self {
            Self::Poll { .. } => 1,
            Self::Update { .. } => 2,
            Self::Request(_) => 3,
            Self::Offer(_) => 4,
            Self::Clear { .. } => 5,
            Self::ClearConfirm { .. } => 6,
            Self::SubscriptionListAdd { .. } => 7,
            Self::SubscriptionListRemove { .. } => 8,
            Self::SubscriptionListConfirm { .. } => 9,
        }
    }

    /// The parameters.
    pub fn encode(&self) -> TransportPdu {
        let mut out = TransportPdu::new();
        match self {
            Self::Poll { fsn } => out.push(u8::from(*fsn)),
            Self::Update { flags, iv_index, more_data } => {
                out.push(flags.to_octet());
                out.extend(iv_index.0.to_be_bytes());
                out.push(u8::from(*more_data));
            }
            Self::Request(request) => request.encode(&mut out),
            Self::Offer(offer) => {
                let FriendOffer { receive_window_ms, queue_size, subscription_list_size, rssi, .. } = offer;
                out.extend([*receive_window_ms, *queue_size, *subscription_list_size]);
                out.extend(rssi.to_be_bytes());
                out.extend(offer.friend_counter.to_be_bytes());
            }
            Self::Clear { lpn, lpn_counter } | Self::ClearConfirm { lpn, lpn_counter } => {
                out.extend(u16::from(*lpn).to_be_bytes());
                out.extend(lpn_counter.to_be_bytes());
            }
            Self::SubscriptionListAdd { transaction, addresses }
            | Self::SubscriptionListRemove { transaction, addresses } => {
                out.push(*transaction);
                out.extend(addresses.iter().flat_map(|&address| u16::from(address).to_be_bytes()));
            }
            Self::SubscriptionListConfirm { transaction } => out.push(*transaction),
        }
        out
    }

    /// Reads the parameters of the control message with this opcode.
    ///
    /// # Errors
    /// When the opcode is none of these, or the length or a value is wrong.
    pub fn decode(opcode: u8, parameters: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(parameters);
        let r = &mut reader;
        let message = match opcode {
            1 => Self::Poll { fsn: one_bit(r.u8()?, "Padding")? },
            2 => Self::Update {
                flags: NetworkFlags::from_octet(r.u8()?),
                iv_index: IvIndex(u32::from_be_bytes(r.array()?)),
                more_data: one_bit(r.u8()?, "MD")?,
            },
            3 => Self::Request(FriendRequest::decode(r)?),
            4 => Self::Offer(FriendOffer {
                receive_window_ms: at_least(r.u8()?, 1, "ReceiveWindow")?,
                queue_size: r.u8()?,
                subscription_list_size: r.u8()?,
                rssi: i8::from_be_bytes(r.array()?),
                friend_counter: u16::from_be_bytes(r.array()?),
            }),
            5 => Self::Clear { lpn: unicast(r)?, lpn_counter: u16::from_be_bytes(r.array()?) },
            6 => Self::ClearConfirm { lpn: unicast(r)?, lpn_counter: u16::from_be_bytes(r.array()?) },
            7 => Self::SubscriptionListAdd { transaction: r.u8()?, addresses: addresses(r)? },
            8 => Self::SubscriptionListRemove { transaction: r.u8()?, addresses: addresses(r)? },
            9 => Self::SubscriptionListConfirm { transaction: r.u8()? },
            _ => return Err(DecodeError::UnknownOpcode),
        };
        reader.finish(message)
    }
}

impl FriendRequest {
    fn encode(&self, out: &mut TransportPdu) {
        out.extend([self.criteria.to_octet(), self.receive_delay_ms]);
        out.extend_from_slice(&self.poll_timeout.0.to_be_bytes()[1..]);
        out.extend(self.previous.map_or(0, u16::from).to_be_bytes());
        out.push(self.elements);
        out.extend(self.lpn_counter.to_be_bytes());
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            criteria: Criteria::from_octet(r.u8()?)?,
            receive_delay_ms: at_least(r.u8()?, 10, "ReceiveDelay")?,
            poll_timeout: {
                let [a, b, c] = r.array()?;
                let steps = u32::from_be_bytes([0, a, b, c]);
                PollTimeout::new(steps).ok_or(DecodeError::Prohibited("PollTimeout"))?
            },
            previous: match Address::from(u16::from_be_bytes(r.array()?)) {
                Address::Unassigned => None,
                Address::Unicast(address) => Some(address),
                _ => return Err(DecodeError::Prohibited("PreviousAddress")),
            },
            elements: at_least(r.u8()?, 1, "NumElements")?,
            lpn_counter: u16::from_be_bytes(r.array()?),
        })
    }
}

fn at_least(value: u8, min: u8, field: &'static str) -> Result<u8, DecodeError> {
    if value >= min { Ok(value) } else { Err(DecodeError::Prohibited(field)) }
}

fn one_bit(value: u8, field: &'static str) -> Result<bool, DecodeError> {
    if value <= 1 { Ok(value == 1) } else { Err(DecodeError::Prohibited(field)) }
}

fn unicast(r: &mut Reader<'_>) -> Result<UnicastAddress, DecodeError> {
    UnicastAddress::try_from(u16::from_be_bytes(r.array()?))
}

fn addresses(r: &mut Reader<'_>) -> Result<AddressList, DecodeError> {
    let mut addresses = AddressList::new();
    while !r.is_empty() {
        let address = Address::from(u16::from_be_bytes(r.array()?));
        if matches!(address, Address::Unassigned | Address::Unicast(_)) {
            return Err(DecodeError::Prohibited("AddressList"));
        }
        addresses.push(address);
    }
    if addresses.len() > MAX_LISTED { Err(DecodeError::TooLong) } else { Ok(addresses) }
}
