//! Provisioning PDUs (MshPRT §5.4.1): `0:2 Type:6 · parameters`, big-endian.

use alloc::vec::Vec;
use core::fmt;

use mesh_crypto::provisioning::Algorithm;
use mesh_crypto::{NetKey, PublicKey};

use crate::address::UnicastAddress;
use crate::beacon::NetworkFlags;
use crate::{DecodeError, IvIndex, KeyIndex, NetKeyIndex, Reader};

/// Most digits or characters of a value that is shown or typed in.
pub const MAX_OOB_SIZE: u8 = 8;

/// A provisioning PDU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProvisioningPdu {
    /// 0: asks a device what it can do.
    Invite {
        /// For how many seconds it shall draw attention to itself.
        attention_s: u8,
    },
    /// 1: what a device can do.
    Capabilities(Capabilities),
    /// 2: what the provisioner chose of it.
    Start(Start),
    /// 3: a public key, `X:256 Y:256`; not checked yet.
    PublicKey([u8; 64]),
    /// 4: the user has typed the value in.
    InputComplete,
    /// 5: a confirmation value, 16 or 32 octets.
    Confirmation(Vec<u8>),
    /// 6: the random value that was confirmed, 16 or 32 octets.
    Random(Vec<u8>),
    /// 7: [`ProvisioningData`], secured: 25 octets and a MIC of 8.
    Data([u8; 33]),
    /// 8: the device is a node.
    Complete,
    /// 9: the device has given up.
    Failed(ErrorCode),
    /// 10: asks for a part of a record.
    RecordRequest {
        /// Which record.
        record: u16,
        /// From which octet on.
        offset: u16,
        /// At most so many octets, at least 1.
        max_size: u16,
    },
    /// 11: a part of a record.
    RecordResponse {
        /// 0: success, 1: there is no such record, 2: it has no such octet.
        status: u8,
        /// Which record.
        record: u16,
        /// From which octet on.
        offset: u16,
        /// Octets of the whole record.
        total_length: u16,
        /// The part.
        data: Vec<u8>,
    },
    /// 12: asks which records there are.
    RecordsGet,
    /// 13: which there are.
    RecordsList {
        /// Provisioning Extensions; none is defined.
        extensions: u16,
        /// Their ids.
        records: Vec<u16>,
    },
}

/// What a device can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Number of its elements, at least 1.
    pub elements: u8,
    /// Algorithms: bit 0 CMAC-AES-128, bit 1 HMAC-SHA-256.
    pub algorithms: u16,
    /// Public Key Type: bit 0, its public key is to be had out of band.
    pub public_key_type: u8,
    /// OOB Type: bit 0, it has a static value; bit 1, it does not do without authentication.
    pub oob_type: u8,
    /// Most digits or characters that it can show; 0: none.
    pub output_size: u8,
    /// Output OOB Action: a bit for each [`OutputAction`].
    pub output_actions: u16,
    /// Most digits or characters that can be typed in; 0: none.
    pub input_size: u8,
    /// Input OOB Action: a bit for each [`InputAction`].
    pub input_actions: u16,
}

/// What the provisioner chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Whether it has the device's public key out of band.
    pub oob_public_key: bool,
    /// How the two ends authenticate each other.
    pub method: AuthenticationMethod,
}

/// How the two ends authenticate each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthenticationMethod {
    /// 0: not at all.
    NoOob,
    /// 1: by a value that both know.
    StaticOob,
    /// 2: by a value of `size` digits or characters that the device shows.
    OutputOob {
        /// How.
        action: OutputAction,
        /// 1 to 8.
        size: u8,
    },
    /// 3: by a value of `size` digits or characters that the user types into the device.
    InputOob {
        /// How.
        action: InputAction,
        /// 1 to 8.
        size: u8,
    },
}

/// How a device shows a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum OutputAction {
    /// It blinks so often.
    Blink = 0,
    /// It beeps so often.
    Beep = 1,
    /// It vibrates so often.
    Vibrate = 2,
    /// It shows a number.
    Numeric = 3,
    /// It shows digits and upper case letters.
    Alphanumeric = 4,
}

/// How a value gets into a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum InputAction {
    /// A button is pushed so often.
    Push = 0,
    /// A knob is turned so often.
    Twist = 1,
    /// A number is typed in.
    Numeric = 2,
    /// Digits and upper case letters are typed in.
    Alphanumeric = 3,
}

/// What a device becomes a node with (MshPRT §5.4.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvisioningData {
    /// Network Key.
    pub net_key: NetKey,
    /// Key Index.
    pub net_key_index: NetKeyIndex,
    /// Flags.
    pub flags: NetworkFlags,
    /// IV Index.
    pub iv_index: IvIndex,
    /// Unicast Address of the primary element.
    pub address: UnicastAddress,
}

macro_rules! error_codes {
    ($($code:literal $name:ident $text:literal,)*) => {
        /// Why a device gave up (MshPRT §5.4.1.10).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ErrorCode {
            $(#[doc = $text] $name,)*
            /// A code that is reserved.
            Other(u8),
        }

        impl From<ErrorCode> for u8 {
            fn from(code: ErrorCode) -> Self {
                match code {
                    $(ErrorCode::$name => $code,)*
                    ErrorCode::Other(code) => code,
                }
            }
        }

        impl From<u8> for ErrorCode {
            fn from(code: u8) -> Self {
                match code {
                    $($code => Self::$name,)*
                    code => Self::Other(code),
                }
            }
        }

        impl fmt::Display for ErrorCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name => f.write_str($text),)*
                    Self::Other(code) => write!(f, "error code {code:#04x}"),
                }
            }
        }
    };
}

error_codes! {
    0x01 InvalidPdu "Invalid PDU",
    0x02 InvalidFormat "Invalid Format",
    0x03 UnexpectedPdu "Unexpected PDU",
    0x04 ConfirmationFailed "Confirmation Failed",
    0x05 OutOfResources "Out of Resources",
    0x06 DecryptionFailed "Decryption Failed",
    0x07 UnexpectedError "Unexpected Error",
    0x08 CannotAssignAddresses "Cannot Assign Addresses",
    0x09 InvalidData "Invalid Data",
}

impl Capabilities {
    /// Algorithms: CMAC-AES-128.
    pub const CMAC_AES128: u16 = 1;
    /// Algorithms: HMAC-SHA-256.
    pub const HMAC_SHA256: u16 = 2;
    /// Public Key Type: available out of band.
    pub const OOB_PUBLIC_KEY: u8 = 1;
    /// OOB Type: a static value is available.
    pub const STATIC_OOB: u8 = 1;
    /// OOB Type: authentication is required.
    pub const ONLY_OOB: u8 = 2;

    /// Whether an algorithm is among them.
    pub const fn has(&self, algorithm: Algorithm) -> bool {
        let bit = match algorithm {
            Algorithm::CmacAes128 => Self::CMAC_AES128,
            Algorithm::HmacSha256 => Self::HMAC_SHA256,
        };
        self.algorithms & bit != 0
    }

    /// Whether a way to authenticate is among them.
    pub const fn offers(&self, method: AuthenticationMethod) -> bool {
        match method {
            AuthenticationMethod::NoOob => self.oob_type & Self::ONLY_OOB == 0,
            AuthenticationMethod::StaticOob => self.oob_type & Self::STATIC_OOB != 0,
            AuthenticationMethod::OutputOob { action, size } => {
                size >= 1
                    && size <= MAX_OOB_SIZE
                    && size <= self.output_size
                    && self.output_actions & (1 << action as u8) != 0
            }
            AuthenticationMethod::InputOob { action, size } => {
                size >= 1
                    && size <= MAX_OOB_SIZE
                    && size <= self.input_size
                    && self.input_actions & (1 << action as u8) != 0
            }
        }
    }

    /// The parameters: `elements:8 · Algorithms:16 · Public Key Type:8 · OOB Type:8 · Output OOB Size:8 ·
    /// Output OOB Action:16 · Input OOB Size:8 · Input OOB Action:16`.
    pub fn to_octets(&self) -> [u8; 11] {
        let [algorithms_0, algorithms_1] = self.algorithms.to_be_bytes();
        let [output_0, output_1] = self.output_actions.to_be_bytes();
        let [input_0, input_1] = self.input_actions.to_be_bytes();
        [
            self.elements,
            algorithms_0,
            algorithms_1,
            self.public_key_type,
            self.oob_type,
            self.output_size,
            output_0,
            output_1,
            self.input_size,
            input_0,
            input_1,
        ]
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let capabilities = Self {
            elements: r.u8()?,
            algorithms: u16::from_be_bytes(r.array()?),
            public_key_type: r.u8()?,
            oob_type: r.u8()?,
            output_size: r.u8()?,
            output_actions: u16::from_be_bytes(r.array()?),
            input_size: r.u8()?,
            input_actions: u16::from_be_bytes(r.array()?),
        };
        // What is reserved, a provisioner ignores; only the number of elements has a value that is prohibited.
        match capabilities.elements {
            0 => Err(DecodeError::Prohibited("Number of Elements")),
            _ => Ok(capabilities),
        }
    }
}

impl Start {
    /// The parameters: `Algorithm:8 · Public Key:8 · Authentication Method:8 · Action:8 · Size:8`.
    pub fn to_octets(&self) -> [u8; 5] {
        let algorithm = match self.algorithm {
            Algorithm::CmacAes128 => 0,
            Algorithm::HmacSha256 => 1,
        };
        let (method, action, size) = match self.method {
            AuthenticationMethod::NoOob => (0, 0, 0),
            AuthenticationMethod::StaticOob => (1, 0, 0),
            AuthenticationMethod::OutputOob { action, size } => (2, action as u8, size),
            AuthenticationMethod::InputOob { action, size } => (3, action as u8, size),
        };
        [algorithm, u8::from(self.oob_public_key), method, action, size]
    }

    /// A device refuses what is reserved as well as what is prohibited (§5.4.4).
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let algorithm = match r.u8()? {
            0 => Algorithm::CmacAes128,
            1 => Algorithm::HmacSha256,
            _ => return Err(DecodeError::Prohibited("Algorithm")),
        };
        let oob_public_key = match r.u8()? {
            0 => false,
            1 => true,
            _ => return Err(DecodeError::Prohibited("Public Key")),
        };
        let [method, action, size] = r.array()?;
        let method = match (method, action, size) {
            (0, 0, 0) => AuthenticationMethod::NoOob,
            (1, 0, 0) => AuthenticationMethod::StaticOob,
            (2, _, 1..=MAX_OOB_SIZE) => {
                AuthenticationMethod::OutputOob { action: OutputAction::try_from(action)?, size }
            }
            (3, _, 1..=MAX_OOB_SIZE) => {
                AuthenticationMethod::InputOob { action: InputAction::try_from(action)?, size }
            }
            _ => return Err(DecodeError::Prohibited("Authentication Method")),
        };
        Ok(Self { algorithm, oob_public_key, method })
    }
}

impl OutputAction {
    /// All of them, the ones that tell most in a size first.
    pub const ALL: [Self; 5] = [Self::Alphanumeric, Self::Numeric, Self::Vibrate, Self::Beep, Self::Blink];

    /// Whether the value is counted, so that it has few digits and is at least 1.
    pub const fn is_counted(self) -> bool {
        matches!(self, Self::Blink | Self::Beep | Self::Vibrate)
    }
}

impl InputAction {
    /// All of them, the ones that tell most in a size first.
    pub const ALL: [Self; 4] = [Self::Alphanumeric, Self::Numeric, Self::Twist, Self::Push];

    /// Whether the value is counted, so that it has few digits and is at least 1.
    pub const fn is_counted(self) -> bool {
        matches!(self, Self::Push | Self::Twist)
    }
}

impl TryFrom<u8> for OutputAction {
    type Error = DecodeError;

    fn try_from(action: u8) -> Result<Self, DecodeError> {
        let is = |known: &Self| *known as u8 == action;
        Self::ALL.into_iter().find(is).ok_or(DecodeError::Prohibited("Authentication Action"))
    }
}

impl TryFrom<u8> for InputAction {
    type Error = DecodeError;

    fn try_from(action: u8) -> Result<Self, DecodeError> {
        let is = |known: &Self| *known as u8 == action;
        Self::ALL.into_iter().find(is).ok_or(DecodeError::Prohibited("Authentication Action"))
    }
}

impl ProvisioningData {
    /// `NetKey:128 · Key Index:16 · Flags:8 · IV Index:32 · Unicast Address:16`.
    pub fn to_octets(&self) -> [u8; 25] {
        let mut octets = [0; 25];
        octets[..16].copy_from_slice(self.net_key.as_bytes());
        octets[16..18].copy_from_slice(&u16::from(self.net_key_index).to_be_bytes());
        octets[18] = self.flags.to_octet();
        octets[19..23].copy_from_slice(&self.iv_index.0.to_be_bytes());
        octets[23..].copy_from_slice(&u16::from(self.address).to_be_bytes());
        octets
    }

    /// Reads it.
    ///
    /// # Errors
    /// When the address is no unicast address, or the index has more than 12 bits.
    pub fn decode(octets: &[u8; 25]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(octets);
        let net_key = NetKey::new(reader.array()?);
        let net_key_index =
            KeyIndex::new(u16::from_be_bytes(reader.array()?)).ok_or(DecodeError::Prohibited("Key Index"))?;
        let flags = NetworkFlags::from_octet(reader.u8()?);
        let iv_index = IvIndex(u32::from_be_bytes(reader.array()?));
        let address = UnicastAddress::try_from(u16::from_be_bytes(reader.array()?))?;
        reader.finish(Self { net_key, net_key_index, flags, iv_index, address })
    }
}

impl From<&PublicKey> for ProvisioningPdu {
    fn from(key: &PublicKey) -> Self {
        Self::PublicKey(*key.as_bytes())
    }
}

impl ProvisioningPdu {
    /// Its type, 0 to 13.
    pub const fn pdu_type(&self) -> u8 {
        match self {
            Self::Invite { .. } => 0,
            Self::Capabilities(_) => 1,
            Self::Start(_) => 2,
            Self::PublicKey(_) => 3,
            Self::InputComplete => 4,
            Self::Confirmation(_) => 5,
            Self::Random(_) => 6,
            Self::Data(_) => 7,
            Self::Complete => 8,
            Self::Failed(_) => 9,
            Self::RecordRequest { .. } => 10,
            Self::RecordResponse { .. } => 11,
            Self::RecordsGet => 12,
            Self::RecordsList { .. } => 13,
        }
    }

    /// Its octets.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::from([self.pdu_type()]);
        match self {
            Self::Invite { attention_s } => out.push(*attention_s),
            Self::Capabilities(capabilities) => out.extend(capabilities.to_octets()),
            Self::Start(start) => out.extend(start.to_octets()),
            Self::PublicKey(key) => out.extend_from_slice(key),
            Self::Confirmation(value) | Self::Random(value) => out.extend_from_slice(value),
            Self::Data(secured) => out.extend_from_slice(secured),
            Self::Failed(code) => out.push((*code).into()),
            Self::RecordRequest { record, offset, max_size } => {
                out.extend([record, offset, max_size].into_iter().flat_map(|field| field.to_be_bytes()));
            }
            Self::RecordResponse { status, record, offset, total_length, data } => {
                out.push(*status);
                out.extend([record, offset, total_length].into_iter().flat_map(|x| x.to_be_bytes()));
                out.extend_from_slice(data);
            }
            Self::RecordsList { extensions, records } => {
                out.extend(extensions.to_be_bytes());
                out.extend(records.iter().flat_map(|record| record.to_be_bytes()));
            }
            Self::InputComplete | Self::Complete | Self::RecordsGet => {}
        }
        out
    }

    /// Reads a provisioning PDU.
    ///
    /// # Errors
    /// [`DecodeError::UnknownOpcode`] for a type that does not exist (Invalid PDU); else what is wrong with the
    /// parameters (Invalid Format).
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(octets);
        let r = &mut reader;
        let pdu = match r.u8()? {
            0 => Self::Invite { attention_s: r.u8()? },
            1 => Self::Capabilities(Capabilities::decode(r)?),
            2 => Self::Start(Start::decode(r)?),
            3 => Self::PublicKey(r.array()?),
            4 => Self::InputComplete,
            5 => Self::Confirmation(confirmation(r)?),
            6 => Self::Random(confirmation(r)?),
            7 => Self::Data(r.array()?),
            8 => Self::Complete,
            9 => match r.u8()? {
                0 => return Err(DecodeError::Prohibited("Error Code")),
                code => Self::Failed(code.into()),
            },
            10 => {
                let [record, offset, max_size] = [u16_be(r)?, u16_be(r)?, u16_be(r)?];
                if max_size == 0 {
                    return Err(DecodeError::Prohibited("Fragment Maximum Size"));
                }
                Self::RecordRequest { record, offset, max_size }
            }
            11 => {
                let status = r.u8()?;
                let [record, offset, total_length] = [u16_be(r)?, u16_be(r)?, u16_be(r)?];
                Self::RecordResponse { status, record, offset, total_length, data: rest(r)? }
            }
            12 => Self::RecordsGet,
            13 => {
                let extensions = u16_be(r)?;
                let mut records = Vec::new();
                while !r.is_empty() {
                    records.push(u16_be(r)?);
                }
                Self::RecordsList { extensions, records }
            }
            _ => return Err(DecodeError::UnknownOpcode),
        };
        reader.finish(pdu)
    }
}

fn u16_be(r: &mut Reader<'_>) -> Result<u16, DecodeError> {
    r.array().map(u16::from_be_bytes)
}

fn rest(r: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
    r.take(r.rest().len()).map(<[u8]>::to_vec)
}

/// 16 octets, or 32 with HMAC-SHA-256; which, the session knows.
fn confirmation(r: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
    match r.rest().len() {
        16 | 32 => rest(r),
        0..=31 => Err(DecodeError::TooShort),
        _ => Err(DecodeError::TooLong),
    }
}
