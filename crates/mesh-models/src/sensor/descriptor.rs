use alloc::vec::Vec;

use mesh_wire::access::Opcode;
use mesh_wire::{DecodeError, Reader};

use super::format::TimeExponential;
use super::property::PropertyId;

/// Octets of a descriptor.
const OCTETS: usize = 8;

/// The largest number of 12 bits.
const MAX_TOLERANCE: u16 = 0xfff;

/// What a sensor says of itself (MMDL §4.1.1), little-endian: `PropertyID:16 PositiveTolerance:12
/// NegativeTolerance:12 SamplingFunction:8 MeasurementPeriod:8 UpdateInterval:8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SensorDescriptor {
    /// What it measures.
    pub property_id: PropertyId,
    /// By how much a value may be too high, in 1/4095 of it; 0: unspecified. More than 12 bits are said as 4095.
    pub positive_tolerance: u16,
    /// By how much a value may be too low, likewise.
    pub negative_tolerance: u16,
    /// How a value comes from what was sampled.
    pub sampling_function: SamplingFunction,
    /// Over which time samples are taken for a value; 0: not applicable.
    pub measurement_period: TimeExponential,
    /// How often a value is made; 0: not applicable.
    pub update_interval: TimeExponential,
}

/// How a value comes from what was sampled (MMDL §4.1.1.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SamplingFunction {
    /// It is not said.
    #[default]
    Unspecified,
    /// It is one sample.
    Instantaneous,
    /// Their arithmetic mean.
    ArithmeticMean,
    /// Their root mean square.
    Rms,
    /// The greatest of them.
    Maximum,
    /// The least of them.
    Minimum,
    /// Their sum (or, of a counter, what it has come to).
    Accumulated,
    /// How many there were.
    Count,
}

impl SamplingFunction {
    const ALL: [Self; 8] = [
        Self::Unspecified,
        Self::Instantaneous,
        Self::ArithmeticMean,
        Self::Rms,
        Self::Maximum,
        Self::Minimum,
        Self::Accumulated,
        Self::Count,
    ];
}

impl SensorDescriptor {
    /// The descriptor of a sensor that says nothing more of itself.
    pub fn new(property_id: PropertyId) -> Self {
        Self {
            property_id,
            positive_tolerance: 0,
            negative_tolerance: 0,
            sampling_function: SamplingFunction::Unspecified,
            measurement_period: TimeExponential(0),
            update_interval: TimeExponential(0),
        }
    }

    fn put(&self, octets: &mut Vec<u8>) {
        octets.extend(u16::from(self.property_id).to_le_bytes());
        let [positive, negative] =
            [self.positive_tolerance, self.negative_tolerance].map(|x| x.min(MAX_TOLERANCE));
        let tolerances = u32::from(negative) << 12 | u32::from(positive);
        octets.extend(&tolerances.to_le_bytes()[..3]);
        octets.extend([self.sampling_function as u8, self.measurement_period.0, self.update_interval.0]);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let property_id = PropertyId::read(reader)?;
        let tolerances = reader.u24_le()?;
        let tolerance = |bits: u32| u16::try_from(bits & u32::from(MAX_TOLERANCE)).unwrap_or(MAX_TOLERANCE);
        let sampling_function = *(SamplingFunction::ALL.get(usize::from(reader.u8()?)))
            .ok_or(DecodeError::Prohibited("Sampling Function"))?;
        Ok(Self {
            property_id,
            positive_tolerance: tolerance(tolerances),
            negative_tolerance: tolerance(tolerances >> 12),
            sampling_function,
            measurement_period: TimeExponential(reader.u8()?),
            update_interval: TimeExponential(reader.u8()?),
        })
    }
}

/// Sensor Descriptor Status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SensorDescriptorStatus {
    /// The descriptors of one sensor or all.
    Descriptors(Vec<SensorDescriptor>),
    /// There is no sensor for this property.
    Unknown(PropertyId),
}

impl SensorDescriptorStatus {
    /// Its opcode.
    pub const OPCODE: Opcode = Opcode::One(0x51);

    /// Opcode and parameters.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Self::OPCODE.with(&[]);
        match self {
            Self::Descriptors(descriptors) => descriptors.iter().for_each(|x| x.put(&mut payload)),
            Self::Unknown(property) => payload.extend(u16::from(*property).to_le_bytes()),
        }
        payload
    }

    /// Reads the parameters.
    ///
    /// # Errors
    /// When they are neither one Property ID nor whole descriptors, or a value is prohibited.
    pub fn decode(parameters: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(parameters);
        if parameters.len() == 2 {
            return PropertyId::read(&mut reader).map(Self::Unknown);
        }
        let mut descriptors = Vec::with_capacity(parameters.len() / OCTETS);
        while !reader.is_empty() {
            descriptors.push(SensorDescriptor::take(&mut reader)?);
        }
        Ok(Self::Descriptors(descriptors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerances_share_three_octets() {
        let descriptor = SensorDescriptor {
            positive_tolerance: 0x123,
            negative_tolerance: 0xabc,
            sampling_function: SamplingFunction::ArithmeticMean,
            measurement_period: TimeExponential(64),
            update_interval: TimeExponential(107),
            ..SensorDescriptor::new(PropertyId::PRESENT_AMBIENT_LIGHT_LEVEL)
        };
        let status = SensorDescriptorStatus::Descriptors([descriptor].into());
        let payload = status.encode();
        assert_eq!(payload, [0x51, 0x4e, 0x00, 0x23, 0xc1, 0xab, 0x02, 64, 107]);
        assert_eq!(SensorDescriptorStatus::decode(&payload[1..]), Ok(status));
        assert_eq!(SensorDescriptorStatus::decode(&payload[1..8]), Err(DecodeError::TooShort));
        let unknown = SensorDescriptorStatus::Unknown(PropertyId::MOTION_SENSED);
        assert_eq!(SensorDescriptorStatus::decode(&[0x42, 0x00]), Ok(unknown));
        let reserved = [0x4e, 0, 0, 0, 0, 8, 0, 0];
        assert_eq!(
            SensorDescriptorStatus::decode(&reserved),
            Err(DecodeError::Prohibited("Sampling Function"))
        );
    }
}
