use alloc::vec::Vec;

use crate::access::Opcode;
use crate::{CompanyId, DecodeError, Reader};

/// What is wrong with an element, and which test found out: `TestID:8 · CompanyID:16 · faults`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultStatus {
    /// The test that was run last.
    pub test_id: u8,
    /// Whose test and faults they are.
    pub company: CompanyId,
    /// The faults: 0x01 to 0x7F of the Bluetooth SIG's list, 0x80 to 0xFF of the company's own.
    pub faults: Vec<u8>,
}

/// A message between Health Client and Health Server (MshPRT §4.3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "names and fields are the specification's")]
pub enum HealthMessage {
    CurrentStatus(FaultStatus),
    FaultStatus(FaultStatus),
    FaultGet { company: CompanyId },
    FaultClear { company: CompanyId, acknowledged: bool },
    FaultTest { test_id: u8, company: CompanyId, acknowledged: bool },
    PeriodGet,
    PeriodSet { fast_period_divisor: u8, acknowledged: bool },
    PeriodStatus { fast_period_divisor: u8 },
    AttentionGet,
    AttentionSet { attention_s: u8, acknowledged: bool },
    AttentionStatus { attention_s: u8 },
}

impl HealthMessage {
    /// What a Health Client understands.
    pub const CLIENT_OPCODES: [Opcode; 4] =
        [Opcode::One(0x04), Opcode::One(0x05), Opcode::Two(0x8007), Opcode::Two(0x8037)];

    /// The opcode.
    pub fn opcode(&self) -> Opcode {
        let of = |acknowledged: bool, yes, no| if acknowledged { yes } else { no };
        Opcode::Two(match self {
            Self::CurrentStatus(_) => return Opcode::One(0x04),
            Self::FaultStatus(_) => return Opcode::One(0x05),
            Self::AttentionGet => 0x8004,
            Self::AttentionSet { acknowledged, .. } => of(*acknowledged, 0x8005, 0x8006),
            Self::AttentionStatus { .. } => 0x8007,
            Self::FaultClear { acknowledged, .. } => of(*acknowledged, 0x802f, 0x8030),
            Self::FaultGet { .. } => 0x8031,
            Self::FaultTest { acknowledged, .. } => of(*acknowledged, 0x8032, 0x8033),
            Self::PeriodGet => 0x8034,
            Self::PeriodSet { acknowledged, .. } => of(*acknowledged, 0x8035, 0x8036),
            Self::PeriodStatus { .. } => 0x8037,
        })
    }

    /// The whole access message.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.opcode().with(&[]);
        match self {
            Self::CurrentStatus(status) | Self::FaultStatus(status) => {
                out.push(status.test_id);
                out.extend(status.company.0.to_le_bytes());
                out.extend_from_slice(&status.faults);
            }
            Self::FaultGet { company } | Self::FaultClear { company, .. } => {
                out.extend(company.0.to_le_bytes());
            }
            Self::FaultTest { test_id, company, .. } => {
                out.push(*test_id);
                out.extend(company.0.to_le_bytes());
            }
            Self::PeriodSet { fast_period_divisor: octet, .. }
            | Self::PeriodStatus { fast_period_divisor: octet }
            | Self::AttentionSet { attention_s: octet, .. }
            | Self::AttentionStatus { attention_s: octet } => out.push(*octet),
            Self::PeriodGet | Self::AttentionGet => {}
        }
        out
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`DecodeError::UnknownOpcode`] for messages of other models; else what is wrong with the parameters.
    pub fn decode(opcode: Opcode, parameters: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(parameters);
        let r = &mut reader;
        let message = match opcode {
            Opcode::One(0x04) => Self::CurrentStatus(FaultStatus::decode(r)?),
            Opcode::One(0x05) => Self::FaultStatus(FaultStatus::decode(r)?),
            Opcode::Two(0x8004) => Self::AttentionGet,
            Opcode::Two(opcode @ (0x8005 | 0x8006)) => {
                Self::AttentionSet { attention_s: r.u8()?, acknowledged: opcode == 0x8005 }
            }
            Opcode::Two(0x8007) => Self::AttentionStatus { attention_s: r.u8()? },
            Opcode::Two(opcode @ (0x802f | 0x8030)) => {
                Self::FaultClear { company: CompanyId(r.u16_le()?), acknowledged: opcode == 0x802f }
            }
            Opcode::Two(0x8031) => Self::FaultGet { company: CompanyId(r.u16_le()?) },
            Opcode::Two(opcode @ (0x8032 | 0x8033)) => {
                let test_id = r.u8()?;
                let company = CompanyId(r.u16_le()?);
                Self::FaultTest { test_id, company, acknowledged: opcode == 0x8032 }
            }
            Opcode::Two(0x8034) => Self::PeriodGet,
            Opcode::Two(opcode @ (0x8035 | 0x8036)) => {
                Self::PeriodSet { fast_period_divisor: divisor(r)?, acknowledged: opcode == 0x8035 }
            }
            Opcode::Two(0x8037) => Self::PeriodStatus { fast_period_divisor: divisor(r)? },
            _ => return Err(DecodeError::UnknownOpcode),
        };
        reader.finish(message)
    }
}

impl FaultStatus {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let test_id = r.u8()?;
        let company = CompanyId(r.u16_le()?);
        Ok(Self { test_id, company, faults: r.take(r.rest().len())?.to_vec() })
    }
}

fn divisor(r: &mut Reader<'_>) -> Result<u8, DecodeError> {
    match r.u8()? {
        divisor @ 0..=15 => Ok(divisor),
        _ => Err(DecodeError::Prohibited("FastPeriodDivisor")),
    }
}
