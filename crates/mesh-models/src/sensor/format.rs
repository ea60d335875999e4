//! How the values of properties are written: numbers of some octets in steps of their unit, and a few other forms
//! (GATT Specification Supplement).

use alloc::string::String;
use alloc::vec::Vec;

use mesh_wire::{DecodeError, Reader};

/// What a field says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// So much, in the field's unit.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// Text, without what it was filled up with.
    Text(String),
    /// The device does not know.
    Unknown,
    /// The device has found that what it measured is not valid.
    NotValid,
    /// As long as the device lives.
    DeviceLife,
}

/// How a field is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A whole number of steps, little-endian.
    Integer(Integer),
    /// One octet, 0 or 1.
    Boolean,
    /// Time Exponential 8: 1.1 to the power of N - 64 seconds; 0 is none, 0xfe the device's life, 0xff unknown.
    TimeExponential,
    /// IEEE 754, 32 bits, little-endian.
    Float,
    /// UTF-8, filled up with zeros.
    Text {
        /// Its length.
        octets: u8,
    },
}

/// A whole number, of which some values are special.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integer {
    /// Its length, 1 to 6.
    pub octets: u8,
    /// Whether it is in two's complement.
    pub is_signed: bool,
    /// What one step is: so many units
    pub multiplier: u32,
    /// divided by this.
    pub divisor: u32,
    /// The least that is allowed, in steps.
    pub min: i64,
    /// The most, in steps.
    pub max: i64,
    /// What stands for "unknown".
    pub unknown: Option<i64>,
    /// What stands for "not valid".
    pub not_valid: Option<i64>,
}

impl Format {
    /// Whether it is a number, special values apart.
    pub const fn is_number(&self) -> bool {
        matches!(self, Self::Integer(_) | Self::TimeExponential | Self::Float)
    }

    /// Octets.
    pub fn size(&self) -> usize {
        match self {
            Self::Integer(integer) => integer.octets.into(),
            Self::Boolean | Self::TimeExponential => 1,
            Self::Float => 4,
            Self::Text { octets } => (*octets).into(),
        }
    }

    /// Reads a value.
    ///
    /// # Errors
    /// When there are too few octets, or the value is prohibited.
    pub(super) fn take(&self, reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
        let octets = reader.take(self.size())?;
        match self {
            Self::Integer(integer) => integer.value(octets),
            Self::Boolean => match octets {
                [0] => Ok(Value::Boolean(false)),
                [1] => Ok(Value::Boolean(true)),
                _ => Err(DecodeError::Prohibited("Boolean")),
            },
            Self::TimeExponential => Ok(TimeExponential(octets[0]).value()),
            Self::Float => {
                let value = f32::from_le_bytes(octets.try_into().map_err(|_| DecodeError::TooShort)?);
                Ok(if value.is_finite() { Value::Number(value.into()) } else { Value::NotValid })
            }
            Self::Text { .. } => {
                let text = core::str::from_utf8(octets).map_err(|_| DecodeError::Prohibited("UTF-8"))?;
                Ok(Value::Text(text.trim_end_matches('\0').into()))
            }
        }
    }

    /// Appends the value that is nearest to `value`; `false`, and nothing appended, if there is no such.
    pub(super) fn put(&self, value: &Value, octets: &mut Vec<u8>) -> bool {
        match (self, value) {
            (Self::Integer(integer), _) => return integer.put(value, octets),
            (Self::Boolean, Value::Boolean(value)) => octets.push(u8::from(*value)),
            (Self::TimeExponential, _) => match TimeExponential::nearest(value) {
                Some(TimeExponential(octet)) => octets.push(octet),
                None => return false,
            },
            #[allow(
                clippy::cast_possible_truncation,
                reason = "the nearest number of 32 bits is what is wanted"
            )]
            (Self::Float, Value::Number(value)) => octets.extend((*value as f32).to_le_bytes()),
            (Self::Text { octets: size }, Value::Text(text)) if text.len() <= usize::from(*size) => {
                octets.extend(text.bytes().chain(core::iter::repeat(0)).take((*size).into()));
            }
            _ => return false,
        }
        true
    }
}

impl Integer {
    pub(super) const fn unsigned(octets: u8) -> Self {
        Self::with_limits(octets, false, 0, (1 << (8 * octets)) - 1)
    }

    pub(super) const fn signed(octets: u8) -> Self {
        let half = 1 << (8 * octets - 1);
        Self::with_limits(octets, true, -half, half - 1)
    }

    const fn with_limits(octets: u8, is_signed: bool, min: i64, max: i64) -> Self {
        Self { octets, is_signed, multiplier: 1, divisor: 1, min, max, unknown: None, not_valid: None }
    }

    pub(super) const fn step(self, multiplier: u32, divisor: u32) -> Self {
        Self { multiplier, divisor, ..self }
    }

    pub(super) const fn within(self, min: i64, max: i64) -> Self {
        Self { min, max, ..self }
    }

    pub(super) const fn unknown(self, unknown: i64) -> Self {
        Self { unknown: Some(unknown), ..self }
    }

    pub(super) const fn not_valid(self, not_valid: i64) -> Self {
        Self { not_valid: Some(not_valid), ..self }
    }

    pub(super) const fn format(self) -> Format {
        Format::Integer(self)
    }

    /// What `octets`, as many as it has, say.
    fn value(&self, octets: &[u8]) -> Result<Value, DecodeError> {
        let mut raw = octets.iter().rev().fold(0_i64, |number, octet| number << 8 | i64::from(*octet));
        let bits = 8 * u32::from(self.octets);
        if self.is_signed && raw >> (bits - 1) & 1 == 1 {
            raw -= 1 << bits;
        }
        if self.unknown == Some(raw) {
            Ok(Value::Unknown)
        } else if self.not_valid == Some(raw) {
            Ok(Value::NotValid)
        } else if raw < self.min || raw > self.max {
            Err(DecodeError::Prohibited("the property"))
        } else {
            // At most 48 bits, so that nothing is rounded but by the division.
            Ok(Value::Number(raw as f64 * f64::from(self.multiplier) / f64::from(self.divisor)))
        }
    }

    fn put(&self, value: &Value, octets: &mut Vec<u8>) -> bool {
        let raw = match value {
            Value::Number(value) => Some(self.nearest(*value)),
            Value::Unknown => self.unknown,
            Value::NotValid => self.not_valid,
            Value::Boolean(_) | Value::Text(_) | Value::DeviceLife => None,
        };
        let Some(raw) = raw else { return false };
        octets.extend(&raw.to_le_bytes()[..self.octets.into()]);
        true
    }

    /// The allowed number of steps that is nearest to `value`; special values are no numbers.
    fn nearest(&self, value: f64) -> i64 {
        let is_special = |raw: i64| self.unknown == Some(raw) || self.not_valid == Some(raw);
        let mut min = self.min;
        while is_special(min) {
            min += 1;
        }
        let mut max = self.max;
        while is_special(max) {
            max -= 1;
        }
        round(value * f64::from(self.divisor) / f64::from(self.multiplier)).clamp(min, max)
    }
}

/// To the nearest whole number; what is no number is 0.
#[allow(clippy::cast_possible_truncation, reason = "the conversion saturates, and what is beyond is clamped")]
pub(super) fn round(value: f64) -> i64 {
    if value < 0.0 { (value - 0.5) as i64 } else { (value + 0.5) as i64 }
}

/// A time of a wide range in one octet: 1.1 to the power of N - 64 seconds; 0 is none, 0xfe the device's life, 0xff
/// unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeExponential(pub u8);

impl TimeExponential {
    /// What it says; a number is in seconds.
    pub fn value(self) -> Value {
        match self.0 {
            0 => Value::Number(0.0),
            0xfe => Value::DeviceLife,
            0xff => Value::Unknown,
            n => Value::Number(power(i32::from(n) - 64)),
        }
    }

    /// What says `value`, or the nearest to it.
    fn nearest(value: &Value) -> Option<Self> {
        let seconds = match value {
            Value::Number(seconds) => *seconds,
            Value::DeviceLife => return Some(Self(0xfe)),
            Value::Unknown => return Some(Self(0xff)),
            Value::Boolean(_) | Value::Text(_) | Value::NotValid => return None,
        };
        let distance = |n: u8| match Self(n).value() {
            Value::Number(value) => (value - seconds).abs(),
            _ => f64::INFINITY,
        };
        (0..=0xfd).min_by(|&a, &b| distance(a).total_cmp(&distance(b))).map(Self)
    }
}

/// 1.1 to a whole power.
fn power(exponent: i32) -> f64 {
    let power = (0..exponent.unsigned_abs()).fold(1.0, |product, _| product * 1.1);
    if exponent < 0 { 1.0 / power } else { power }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sensor::PropertyId;

    fn read(format: &Format, octets: &[u8]) -> Result<Value, DecodeError> {
        let mut reader = Reader::new(octets);
        let value = format.take(&mut reader)?;
        reader.finish(value)
    }

    fn written(format: &Format, value: &Value) -> Option<Vec<u8>> {
        let mut octets = Vec::new();
        format.put(value, &mut octets).then_some(octets)
    }

    fn formats() -> Vec<Format> {
        let properties = PropertyId::all().filter_map(PropertyId::property);
        properties.flat_map(super::super::Property::fields).map(|field| field.format).collect()
    }

    proptest! {
        #[test]
        fn every_value_is_written_as_it_was_read(
            format in proptest::sample::select(formats()),
            octets in proptest::collection::vec(any::<u8>(), 64),
        ) {
            let octets = &octets[..format.size()];
            match read(&format, octets) {
                // What is said in two ways is written in one: floats that are no numbers, and text after its end.
                Ok(Value::NotValid) if format == Format::Float => {}
                Ok(value) => prop_assert_eq!(written(&format, &value).unwrap(), octets, "{:?}", value),
                Err(error) => prop_assert!(matches!(error, DecodeError::Prohibited(_))),
            }
        }

        #[test]
        fn any_number_is_written_as_one_that_is_allowed(
            format in proptest::sample::select(formats()),
            number in proptest::num::f64::ANY,
        ) {
            if let Format::Integer(_) = format {
                let octets = written(&format, &Value::Number(number)).unwrap();
                prop_assert!(matches!(read(&format, &octets), Ok(Value::Number(_))), "{:?} {:?}", format, octets);
            }
        }
    }

    #[test]
    fn numbers_are_nearest_and_their_specials_are_none() {
        let temperature = Integer::signed(2).step(1, 100).within(-27_315, 32_767).unknown(-32_768).format();
        assert_eq!(written(&temperature, &Value::Number(21.504)).unwrap(), [0x66, 0x08]);
        assert_eq!(read(&temperature, &[0x66, 0x08]), Ok(Value::Number(21.5)));
        assert_eq!(read(&temperature, &[0x00, 0x80]), Ok(Value::Unknown));
        assert_eq!(read(&temperature, &[0x01, 0x80]), Err(DecodeError::Prohibited("the property")));
        assert_eq!(written(&temperature, &Value::Unknown).unwrap(), [0x00, 0x80]);
        let power = Integer::unsigned(3).step(1, 10).unknown(0xff_ffff).not_valid(0xff_fffe).format();
        assert_eq!(written(&power, &Value::Number(1e9)).unwrap(), [0xfd, 0xff, 0xff]);
        assert_eq!(written(&power, &Value::DeviceLife), None);
    }

    #[test]
    fn exponential_times_span_from_none_to_a_life() {
        let second = TimeExponential(64).value();
        assert_eq!(second, Value::Number(1.0));
        assert_eq!(written(&Format::TimeExponential, &Value::Number(60.0)).unwrap(), [107]);
        assert_eq!(written(&Format::TimeExponential, &Value::Number(0.0)).unwrap(), [0]);
        assert_eq!(written(&Format::TimeExponential, &Value::DeviceLife).unwrap(), [0xfe]);
    }
}
