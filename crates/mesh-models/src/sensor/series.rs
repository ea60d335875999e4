use alloc::vec::Vec;

use mesh_wire::access::Opcode;
use mesh_wire::{DecodeError, Reader};

use super::format::Value;
use super::property::PropertyId;

/// A column of a sensor's series (MMDL §4.1.4). A property of three fields is one of a relative value and the range
/// that it is of: X and width are in the form of the range's ends, Y in that of the whole property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorColumn {
    /// Where it begins.
    pub x: Vec<u8>,
    /// How wide it is.
    pub width: Vec<u8>,
    /// How high it is.
    pub y: Vec<u8>,
}

/// Sensor Column Get: `PropertyID:16 RawValueX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorColumnGet {
    /// The sensor.
    pub property_id: PropertyId,
    /// Where the column begins.
    pub x: Vec<u8>,
}

/// Sensor Column Status: `PropertyID:16 RawValueX [ColumnWidth RawValueY]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorColumnStatus {
    /// The sensor.
    pub property_id: PropertyId,
    /// Where the column begins; all that there is, when nothing is known of the property.
    pub x: Vec<u8>,
    /// Its width and height; `None`: there is no such column.
    pub column: Option<(Vec<u8>, Vec<u8>)>,
}

/// Sensor Series Get: `PropertyID:16 [RawValueX1 RawValueX2]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorSeriesGet {
    /// The sensor.
    pub property_id: PropertyId,
    /// Which columns: those that begin from here to there; `None`: all.
    pub range: Option<(Vec<u8>, Vec<u8>)>,
}

/// Sensor Series Status: `PropertyID:16 N*[RawValueX ColumnWidth RawValueY]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorSeriesStatus {
    /// The sensor.
    pub property_id: PropertyId,
    /// The columns that there are.
    pub columns: Vec<SensorColumn>,
}

/// The length of X and width, and that of Y, of a property whose values can be columns.
fn sizes(property: PropertyId) -> Option<(usize, usize)> {
    let property = property.property()?;
    match property.fields() {
        [_, low, high] if low.format == high.format => Some((low.format.size(), property.size())),
        _ => None,
    }
}

impl SensorColumn {
    /// Whether it has the form of the property's columns.
    pub(super) fn fits(&self, property: PropertyId) -> bool {
        sizes(property) == Some((self.x.len(), self.y.len())) && self.width.len() == self.x.len()
    }

    pub(super) fn size(&self) -> usize {
        self.x.len() + self.width.len() + self.y.len()
    }
}

impl SensorSeriesGet {
    /// Whether it asks for the column that begins at `x`.
    pub(super) fn covers(&self, x: &[u8]) -> bool {
        let Some((from, to)) = &self.range else { return true };
        let number = |raw: &[u8]| {
            let field = self.property_id.property()?.fields().get(1)?;
            match field.format.take(&mut Reader::new(raw)) {
                Ok(Value::Number(number)) => Some(number),
                _ => None,
            }
        };
        let (Some(x), Some(from), Some(to)) = (number(x), number(from), number(to)) else { return false };
        (from..=to).contains(&x)
    }
}

fn head(opcode: Opcode, property: PropertyId) -> Vec<u8> {
    opcode.with(&u16::from(property).to_le_bytes())
}

impl SensorColumnGet {
    /// Its opcode.
    pub const OPCODE: Opcode = Opcode::Two(0x8232);

    /// Opcode and parameters.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = head(Self::OPCODE, self.property_id);
        payload.extend(&self.x);
        payload
    }

    /// Reads the parameters.
    ///
    /// # Errors
    /// When they are too short, or the Property ID is 0.
    pub fn decode(parameters: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(parameters);
        let property_id = PropertyId::read(&mut reader)?;
        if reader.is_empty() {
            return Err(DecodeError::TooShort);
        }
        Ok(Self { property_id, x: reader.rest().to_vec() })
    }
}

impl SensorColumnStatus {
    /// Its opcode.
    pub const OPCODE: Opcode = Opcode::One(0x53);

    /// Opcode and parameters.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = head(Self::OPCODE, self.property_id);
        payload.extend(&self.x);
        if let Some((width, y)) = &self.column {
            payload.extend(width.iter().chain(y));
        }
        payload
    }

    /// Reads the parameters. Peers differ in whether Y is the whole property or its first field: it is what is left.
    ///
    /// # Errors
    /// When they end within the column, or the Property ID is 0.
    pub fn decode(parameters: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(parameters);
        let property_id = PropertyId::read(&mut reader)?;
        let rest = reader.rest();
        match sizes(property_id) {
            Some((x, _)) if rest.len() > x => {
                let (x, width) = (reader.take(x)?.to_vec(), reader.take(x)?.to_vec());
                if reader.is_empty() {
                    return Err(DecodeError::TooShort);
                }
                Ok(Self { property_id, x, column: Some((width, reader.rest().to_vec())) })
            }
            _ => Ok(Self { property_id, x: rest.to_vec(), column: None }),
        }
    }
}

impl SensorSeriesGet {
    /// Its opcode.
    pub const OPCODE: Opcode = Opcode::Two(0x8233);

    /// Opcode and parameters.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = head(Self::OPCODE, self.property_id);
        if let Some((from, to)) = &self.range {
            payload.extend(from.iter().chain(to));
        }
        payload
    }

    /// Reads the parameters.
    ///
    /// # Errors
    /// When the ends of the range are not of one length, or the Property ID is 0.
    pub fn decode(parameters: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(parameters);
        let property_id = PropertyId::read(&mut reader)?;
        let (from, to) = reader.rest().split_at(reader.rest().len() / 2);
        if from.len() != to.len() {
            return Err(DecodeError::TooShort);
        }
        let range = (!from.is_empty()).then(|| (from.to_vec(), to.to_vec()));
        Ok(Self { property_id, range })
    }
}

impl SensorSeriesStatus {
    /// Its opcode.
    pub const OPCODE: Opcode = Opcode::One(0x54);

    /// Opcode and parameters.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = head(Self::OPCODE, self.property_id);
        for SensorColumn { x, width, y } in &self.columns {
            payload.extend(x.iter().chain(width).chain(y));
        }
        payload
    }

    /// Reads the parameters.
    ///
    /// # Errors
    /// When they end within a column, or nothing is known of the property and so of the length of its columns.
    pub fn decode(parameters: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(parameters);
        let property_id = PropertyId::read(&mut reader)?;
        let mut columns = Vec::new();
        while !reader.is_empty() {
            let (x, y) = sizes(property_id).ok_or(DecodeError::Prohibited("Property ID"))?;
            let mut take = |size| reader.take(size).map(<[u8]>::to_vec);
            columns.push(SensorColumn { x: take(x)?, width: take(x)?, y: take(y)? });
        }
        Ok(Self { property_id, columns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPOSURE: PropertyId = PropertyId::RELATIVE_EXPOSURE_TIME_IN_AN_ILLUMINANCE_RANGE;

    #[test]
    fn columns_come_back_as_they_were_sent() {
        let column = SensorColumn { x: [1, 0, 0].into(), width: [2, 0, 0].into(), y: [9; 7].into() };
        assert!(column.fits(EXPOSURE) && !column.fits(PropertyId::MOTION_SENSED));
        let status =
            SensorSeriesStatus { property_id: EXPOSURE, columns: [column.clone(), column.clone()].into() };
        assert_eq!(SensorSeriesStatus::decode(&status.encode()[1..]), Ok(status.clone()));
        assert_eq!(SensorSeriesStatus::decode(&status.encode()[1..20]), Err(DecodeError::TooShort));
        let status = SensorColumnStatus {
            property_id: EXPOSURE,
            x: column.x.clone(),
            column: Some((column.width, column.y)),
        };
        assert_eq!(SensorColumnStatus::decode(&status.encode()[1..]), Ok(status));
        let none = SensorColumnStatus { property_id: EXPOSURE, x: column.x.clone(), column: None };
        assert_eq!(SensorColumnStatus::decode(&none.encode()[1..]), Ok(none));
        let get = SensorColumnGet { property_id: EXPOSURE, x: column.x.clone() };
        assert_eq!(SensorColumnGet::decode(&get.encode()[2..]), Ok(get));
        for range in [None, Some((column.x.clone(), column.x))] {
            let get = SensorSeriesGet { property_id: EXPOSURE, range };
            assert_eq!(SensorSeriesGet::decode(&get.encode()[2..]), Ok(get));
        }
        assert_eq!(SensorSeriesGet::decode(&[0x62, 0, 1, 2, 3]), Err(DecodeError::TooShort));
    }
}
