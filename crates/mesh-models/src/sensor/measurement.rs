use alloc::vec::Vec;

use mesh_wire::access::Opcode;
use mesh_wire::{DecodeError, Reader};

use super::format::Value;
use super::property::{Field, PropertyId};

/// Most octets of a raw value, as far as a Marshalled Property ID can say.
const MAX_RAW: usize = 127;

/// The Length field that says that no raw value follows.
const NO_RAW: u8 = 0x7f;

/// A value of a property, as a sensor sends it. Without octets it says that the sensor has no such value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    property: PropertyId,
    raw: Vec<u8>,
}

/// A field of a measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Which, with its unit.
    pub field: &'static Field,
    /// What it says.
    pub value: Value,
}

impl Measurement {
    /// A value in the property's own form, which is not looked at; empty: there is none.
    ///
    /// # Errors
    /// When there are more than 127 octets.
    pub fn new(property: PropertyId, raw: Vec<u8>) -> Result<Self, DecodeError> {
        if raw.len() > MAX_RAW { Err(DecodeError::TooLong) } else { Ok(Self { property, raw }) }
    }

    /// The nearest that the property can say to a number in its unit; for a boolean property anything but 0 is true.
    /// `None` when nothing is known of the property, or it is not one number.
    pub fn of(property: PropertyId, number: f64) -> Option<Self> {
        match property.property()?.fields() {
            [field] if field.format.is_number() => Self::with(property, &[Value::Number(number)]),
            [_] => Self::with(property, &[Value::Boolean(number != 0.0)]),
            _ => None,
        }
    }

    /// The values of the property's fields. `None` when they are not as many, or a field cannot say one.
    pub fn with(property: PropertyId, values: &[Value]) -> Option<Self> {
        let fields = property.property()?.fields();
        let mut raw = Vec::new();
        let is_said = fields.len() == values.len()
            && fields.iter().zip(values).all(|(field, value)| field.format.put(value, &mut raw));
        is_said.then_some(Self { property, raw })
    }

    /// What says that there is no value.
    pub const fn none(property: PropertyId) -> Self {
        Self { property, raw: Vec::new() }
    }

    /// Octets in a message.
    pub(super) fn size(&self) -> usize {
        self.raw.len() + if self.is_format_a() { 2 } else { 3 }
    }

    fn is_format_a(&self) -> bool {
        (1..=16).contains(&self.raw.len()) && u16::from(self.property) < 0x0800
    }

    /// What was measured.
    pub const fn property(&self) -> PropertyId {
        self.property
    }

    /// The value in its own form.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// What its fields say; `None` when nothing is known of the property. All are unknown where there is no value.
    ///
    /// # Errors
    /// When the value has another length than the property's, or is prohibited.
    pub fn readings(&self) -> Result<Option<Vec<Reading>>, DecodeError> {
        let Some(property) = self.property.property() else { return Ok(None) };
        let fields = property.fields().iter();
        if self.raw.is_empty() {
            return Ok(Some(fields.map(|field| Reading { field, value: Value::Unknown }).collect()));
        }
        let mut reader = Reader::new(&self.raw);
        let readings: Vec<Reading> = fields
            .map(|field| Ok(Reading { field, value: field.format.take(&mut reader)? }))
            .collect::<Result<_, DecodeError>>()?;
        reader.finish(Some(readings))
    }

    /// Its number, if it is one: of a boolean 0 or 1.
    pub fn number(&self) -> Option<f64> {
        match &self.readings().ok()??[..] {
            [reading] => match reading.value {
                Value::Number(number) => Some(number),
                Value::Boolean(value) => Some(f64::from(u8::from(value))),
                _ => None,
            },
            _ => None,
        }
    }

    /// Appends the Marshalled Property ID and the raw value (MMDL §4.2.14): Format A, `0:1 Length:4 PropertyID:11`
    /// from the least significant bit, where that reaches, else Format B, `1:1 Length:7 PropertyID:16`. Length is
    /// one less than the octets.
    fn put(&self, octets: &mut Vec<u8>) {
        let id = u16::from(self.property);
        match u8::try_from(self.raw.len()).unwrap_or(0) {
            length @ 1..=16 if id < 0x0800 => {
                octets.extend((id << 5 | u16::from(length - 1) << 1).to_le_bytes())
            }
            length => {
                octets.push(length.checked_sub(1).unwrap_or(NO_RAW) << 1 | 1);
                octets.extend(id.to_le_bytes());
            }
        }
        octets.extend(&self.raw);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let first = reader.u8()?;
        let (length, id) = if first & 1 == 0 {
            let head = u16::from_le_bytes([first, reader.u8()?]);
            (usize::from(head >> 1 & 0xf) + 1, head >> 5)
        } else {
            let length = first >> 1;
            (if length == NO_RAW { 0 } else { usize::from(length) + 1 }, reader.u16_le()?)
        };
        let property = PropertyId::new(id).ok_or(DecodeError::Prohibited("Property ID"))?;
        Ok(Self { property, raw: reader.take(length)?.to_vec() })
    }
}

/// Sensor Status: what sensors measured, `MarshalledPropertyID:16|24 RawValue` for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SensorStatus {
    /// One after the other.
    pub measurements: Vec<Measurement>,
}

impl SensorStatus {
    /// Its opcode.
    pub const OPCODE: Opcode = Opcode::One(0x52);

    /// Opcode and parameters.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Self::OPCODE.with(&[]);
        for measurement in &self.measurements {
            measurement.put(&mut payload);
        }
        payload
    }

    /// Reads the parameters. Values are not looked at: they may be of properties that nothing is known of.
    ///
    /// # Errors
    /// When they end within a measurement, or a Property ID is 0.
    pub fn decode(parameters: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(parameters);
        let mut measurements = Vec::new();
        while !reader.is_empty() {
            measurements.push(Measurement::take(&mut reader)?);
        }
        Ok(Self { measurements })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn measurement(id: u16, raw: &[u8]) -> Measurement {
        Measurement::new(PropertyId::new(id).unwrap(), raw.to_vec()).unwrap()
    }

    proptest! {
        #[test]
        fn a_status_comes_back_as_it_was_sent(
            measurements in proptest::collection::vec(
                (1..=u16::MAX, proptest::collection::vec(any::<u8>(), 0..=127)),
                0..4,
            ),
        ) {
            let measurements = measurements.iter().map(|(id, raw)| measurement(*id, raw)).collect();
            let status = SensorStatus { measurements };
            prop_assert_eq!(SensorStatus::decode(&status.encode()[1..]), Ok(status));
        }
    }

    #[test]
    fn a_short_value_of_a_small_id_is_in_format_a_and_others_in_format_b() {
        let encoded = |id, raw: &[u8]| SensorStatus { measurements: [measurement(id, raw)].into() }.encode();
        assert_eq!(encoded(0x0042, &[0x10]), [0x52, 0x40, 0x08, 0x10]);
        assert_eq!(encoded(0x07ff, &[1; 16])[..3], [0x52, 0xfe, 0xff]);
        assert_eq!(encoded(0x0800, &[7])[..4], [0x52, 0x01, 0x00, 0x08]);
        assert_eq!(encoded(0x0042, &[1; 17])[..4], [0x52, 0x21, 0x42, 0x00]);
        assert_eq!(encoded(0x0042, &[]), [0x52, 0xff, 0x42, 0x00]);
        assert_eq!(SensorStatus::decode(&[0x40, 0x08]), Err(DecodeError::TooShort));
        assert_eq!(SensorStatus::decode(&[0x00, 0x00, 1]), Err(DecodeError::Prohibited("Property ID")));
    }

    #[test]
    fn readings_are_in_their_units() {
        let temperature = Measurement::of(PropertyId::PRECISE_PRESENT_AMBIENT_TEMPERATURE, 21.5).unwrap();
        let readings = temperature.readings().unwrap().unwrap();
        assert_eq!((readings[0].field.unit, &readings[0].value), ("degC", &Value::Number(21.5)));
        assert_eq!(temperature.number(), Some(21.5));
        let presence = Measurement::of(PropertyId::PRESENCE_DETECTED, 1.0).unwrap();
        assert_eq!((presence.raw(), presence.number()), (&[1][..], Some(1.0)));
        assert_eq!(measurement(0x004d, &[2]).readings(), Err(DecodeError::Prohibited("Boolean")));
        assert_eq!(measurement(0x004e, &[0xff; 3]).readings().unwrap().unwrap()[0].value, Value::Unknown);
        assert_eq!(measurement(0x004e, &[]).readings().unwrap().unwrap()[0].value, Value::Unknown);
        assert_eq!(measurement(0x004e, &[1, 2]).readings(), Err(DecodeError::TooShort));
        assert_eq!(measurement(0x7001, &[1, 2]).readings(), Ok(None));
    }
}
