//! What the generated messages are made of.

use alloc::vec::Vec;

use mesh_wire::{DecodeError, Reader};

use crate::sensor::PropertyId;
use crate::transition::{Transition, TransitionTime};

/// A value inside of a message.
pub(crate) trait Field: Sized {
    fn put(&self, octets: &mut Vec<u8>);
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
    /// Its numbers, times in seconds, to be compared with what independent codecs say; `None`: unknown.
    #[cfg(test)]
    fn numbers(&self, numbers: &mut Vec<Option<f64>>);
}

/// The status of a message that sets a range (MMDL §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeStatus {
    /// The range is set.
    Success,
    /// The lower end cannot be had.
    CannotSetMin,
    /// The upper end cannot be had.
    CannotSetMax,
}

/// Defines messages: their parameters in transmission order, little-endian, and their opcodes. A range after a
/// field holds what its values may be.
macro_rules! messages {
    ($(
        $(#[$doc:meta])*
        $name:ident = $opcode:literal $(, unacknowledged $unacknowledged:literal)?
        { $($field:ident: $type:ty),* }
    )*) => {
        $(
            $(#[$doc])*
            #[allow(missing_docs, reason = "the parameters have the standard's names")]
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub struct $name { $(pub $field: $type),* }

            impl $name {
                /// Its opcode.
                pub const OPCODE: Opcode = Opcode::Two($opcode);
                $(
                    /// Its opcode when no answer is wanted.
                    pub const UNACKNOWLEDGED: Opcode = Opcode::Two($unacknowledged);
                )?

                /// Opcode and parameters.
                pub fn encode(&self) -> Vec<u8> {
                    self.encode_as(Self::OPCODE)
                }

                /// Opcode and parameters, under the opcode that says whether an answer is wanted.
                #[allow(unused_mut, reason = "some messages have no parameters")]
                pub fn encode_as(&self, opcode: Opcode) -> Vec<u8> {
                    let mut payload = opcode.with(&[]);
                    $(Field::put(&self.$field, &mut payload);)*
                    payload
                }

                /// Reads the parameters.
                ///
                /// # Errors
                /// When they have another length, or a value is prohibited.
                pub fn decode(parameters: &[u8]) -> Result<Self, DecodeError> {
                    #[allow(unused_mut, reason = "some messages have no parameters")]
                    let mut reader = Reader::new(parameters);
                    $(let $field = Field::take(&mut reader)?;)*
                    reader.finish(Self { $($field),* })
                }
            }
        )*

        /// The numbers of the message with this opcode, and the message encoded again.
        #[cfg(test)]
        pub(crate) fn decode_numbers(opcode: Opcode, parameters: &[u8]) -> Option<Result<(Vec<Option<f64>>, Vec<u8>), DecodeError>> {
            $(
                if opcode == $name::OPCODE $(|| opcode == Opcode::Two($unacknowledged))? {
                    return Some($name::decode(parameters).map(|message| {
                        #[allow(unused_mut, reason = "some messages have no parameters")]
                        let mut numbers = Vec::new();
                        $(Field::numbers(&message.$field, &mut numbers);)*
                        (numbers, message.encode_as(opcode))
                    }));
                }
            )*
            None
        }
    };
}

pub(crate) use messages;

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn put(&self, octets: &mut Vec<u8>) {
                octets.extend(self.to_le_bytes());
            }

            fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                reader.array().map(Self::from_le_bytes)
            }

            #[cfg(test)]
            fn numbers(&self, numbers: &mut Vec<Option<f64>>) {
                numbers.push(Some((*self).into()));
            }
        }
    )*};
}

integers!(u8, u16, i16, i32);

impl Field for bool {
    fn put(&self, octets: &mut Vec<u8>) {
        octets.push(u8::from(*self));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Prohibited("OnOff")),
        }
    }

    #[cfg(test)]
    fn numbers(&self, numbers: &mut Vec<Option<f64>>) {
        numbers.push(Some((*self).into()));
    }
}

impl Field for RangeStatus {
    fn put(&self, octets: &mut Vec<u8>) {
        octets.push(*self as u8);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8()? {
            0 => Ok(Self::Success),
            1 => Ok(Self::CannotSetMin),
            2 => Ok(Self::CannotSetMax),
            _ => Err(DecodeError::Prohibited("Status Code")),
        }
    }

    #[cfg(test)]
    fn numbers(&self, numbers: &mut Vec<Option<f64>>) {
        numbers.push(Some(f64::from(*self as u8)));
    }
}

impl Field for TransitionTime {
    fn put(&self, octets: &mut Vec<u8>) {
        octets.push(self.to_octet());
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.u8().map(Self::from_octet)
    }

    #[cfg(test)]
    fn numbers(&self, numbers: &mut Vec<Option<f64>>) {
        numbers.push(self.duration().map(|time| time.as_secs_f64()));
    }
}

impl Field for Transition {
    fn put(&self, octets: &mut Vec<u8>) {
        octets.extend([self.time.to_octet(), self.delay]);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let time: TransitionTime = Field::take(reader)?;
        if time.duration().is_none() {
            // Nobody can ask for an unknown time.
            return Err(DecodeError::Prohibited("Transition Time"));
        }
        Ok(Self { time, delay: reader.u8()? })
    }

    #[cfg(test)]
    fn numbers(&self, numbers: &mut Vec<Option<f64>>) {
        self.time.numbers(numbers);
        numbers.push(Some(self.delay_duration().as_secs_f64()));
    }
}

impl Field for PropertyId {
    fn put(&self, octets: &mut Vec<u8>) {
        u16::from(*self).put(octets);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::read(reader)
    }

    #[cfg(test)]
    fn numbers(&self, numbers: &mut Vec<Option<f64>>) {
        numbers.push(Some(u16::from(*self).into()));
    }
}

/// What comes at the end of a message, or does not.
impl<T: Field> Field for Option<T> {
    fn put(&self, octets: &mut Vec<u8>) {
        if let Some(value) = self {
            value.put(octets);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if reader.is_empty() { Ok(None) } else { T::take(reader).map(Some) }
    }

    #[cfg(test)]
    fn numbers(&self, numbers: &mut Vec<Option<f64>>) {
        if let Some(value) = self {
            value.numbers(numbers);
        }
    }
}

macro_rules! tuples {
    ($(($($name:ident)*))*) => {$(
        impl<$($name: Field),*> Field for ($($name),*) {
            #[allow(non_snake_case, reason = "a type parameter names its value")]
            fn put(&self, octets: &mut Vec<u8>) {
                let ($($name),*) = self;
                $($name.put(octets);)*
            }

            fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(($($name::take(reader)?),*))
            }

            #[cfg(test)]
            #[allow(non_snake_case, reason = "a type parameter names its value")]
            fn numbers(&self, numbers: &mut Vec<Option<f64>>) {
                let ($($name),*) = self;
                $($name.numbers(numbers);)*
            }
        }
    )*};
}

tuples!((A B) (A B C));
