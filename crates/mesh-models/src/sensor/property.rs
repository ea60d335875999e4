use core::fmt;

use mesh_wire::{DecodeError, Reader};

use super::format::Format;

/// The identifier of a device property (MMDL §2.2); 0 is prohibited.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PropertyId(pub(super) u16);

/// A device property: what one of its values says, and how it is written.
#[derive(Debug, PartialEq)]
pub struct Property {
    /// Its identifier.
    pub id: PropertyId,
    /// Its name in the assigned numbers.
    pub name: &'static str,
    /// How its values are written.
    pub characteristic: &'static Characteristic,
}

/// The form of values, which several properties may have.
#[derive(Debug, PartialEq)]
pub struct Characteristic {
    /// Its name in the GATT Specification Supplement.
    pub name: &'static str,
    /// What it is made of, in transmission order.
    pub fields: &'static [Field],
}

/// A part of a value.
#[derive(Debug, PartialEq)]
pub struct Field {
    /// What it is.
    pub name: &'static str,
    /// The unit of its number, `degC`, `lx`, `kWh` and so on; empty: none.
    pub unit: &'static str,
    /// How it is written.
    pub format: Format,
}

impl PropertyId {
    /// An identifier; `None` for the prohibited one.
    pub const fn new(id: u16) -> Option<Self> {
        if id == 0 { None } else { Some(Self(id)) }
    }

    /// What is known of it; `None` when nothing is.
    pub fn property(self) -> Option<&'static Property> {
        let table = &super::properties::PROPERTIES;
        table.binary_search_by_key(&self, |property| property.id).ok().map(|index| &table[index])
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::new(reader.u16_le()?).ok_or(DecodeError::Prohibited("Property ID"))
    }

    /// All that are known, in their order.
    pub fn all() -> impl Iterator<Item = Self> {
        super::properties::PROPERTIES.iter().map(|property| property.id)
    }
}

impl From<PropertyId> for u16 {
    fn from(id: PropertyId) -> Self {
        id.0
    }
}

/// Four hexadecimal digits, as assigned numbers are written.
impl fmt::Display for PropertyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

impl fmt::Debug for PropertyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PropertyId({self})")
    }
}

impl Property {
    /// What its values are made of, in transmission order.
    pub const fn fields(&self) -> &'static [Field] {
        self.characteristic.fields
    }

    /// Its one field, if that is a number.
    pub const fn scalar(&self) -> Option<&'static Field> {
        match self.fields() {
            [field] if field.format.is_number() => Some(field),
            _ => None,
        }
    }

    /// Octets of its values.
    pub fn size(&self) -> usize {
        self.fields().iter().map(|field| field.format.size()).sum()
    }
}

/// Defines the identifiers, and the table of all properties.
macro_rules! properties {
    ($($id:literal $constant:ident $name:literal $characteristic:ident,)*) => {
        impl PropertyId {
            $(
                #[doc = concat!($name, ".")]
                pub const $constant: Self = Self($id);
            )*
        }

        /// All properties, by identifier.
        pub(super) static PROPERTIES: [Property; [$($id),*].len()] =
            [$(Property { id: PropertyId($id), name: $name, characteristic: &$characteristic }),*];
    };
}

/// Defines the characteristics.
macro_rules! characteristics {
    ($($constant:ident $name:literal { $($field:literal in $unit:literal: $format:expr,)* })*) => {
        $(
            static $constant: Characteristic = Characteristic {
                name: $name,
                fields: &[$(Field { name: $field, unit: $unit, format: $format }),*],
            };
        )*
    };
}

pub(super) use {characteristics, properties};

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn properties_are_found_by_their_identifiers() {
        let ids: Vec<PropertyId> = PropertyId::all().collect();
        assert!(ids.is_sorted() && ids.len() > 100);
        assert!(ids.iter().all(|id| id.property().is_some_and(|property| property.id == *id)));
        let temperature = PropertyId::PRECISE_PRESENT_AMBIENT_TEMPERATURE.property().unwrap();
        assert_eq!((temperature.name, temperature.size()), ("Precise Present Ambient Temperature", 2));
        assert_eq!(temperature.scalar().map(|field| field.unit), Some("degC"));
        assert_eq!(PropertyId::PRESENCE_DETECTED.property().unwrap().scalar(), None);
        assert_eq!(PropertyId::new(0), None);
        let unassigned = PropertyId::new(0x7001).unwrap();
        assert_eq!((unassigned.property(), unassigned.to_string().as_str()), (None, "7001"));
    }
}
