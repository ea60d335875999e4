use alloc::vec::Vec;

use mesh_wire::access::Opcode;
use mesh_wire::{DecodeError, Reader};

use super::property::PropertyId;

/// What may be done with a setting (MMDL §4.1.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingAccess {
    /// It can be read.
    Read = 1,
    /// It can be read and written.
    ReadWrite = 3,
}

/// Sensor Settings Status: `PropertyID:16 N*SettingPropertyID:16`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorSettingsStatus {
    /// The sensor.
    pub property_id: PropertyId,
    /// Its settings; none, too, when there is no such sensor.
    pub settings: Vec<PropertyId>,
}

/// Sensor Setting Set: `PropertyID:16 SettingPropertyID:16 SettingRaw`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorSettingSet {
    /// The sensor.
    pub property_id: PropertyId,
    /// The setting.
    pub setting_property_id: PropertyId,
    /// What it is to be, in the form of the setting's property.
    pub raw: Vec<u8>,
}

/// Sensor Setting Status: `PropertyID:16 SettingPropertyID:16 [SettingAccess:8 SettingRaw]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorSettingStatus {
    /// The sensor.
    pub property_id: PropertyId,
    /// The setting.
    pub setting_property_id: PropertyId,
    /// What it is; `None`: there is no such setting, or it cannot be written.
    pub setting: Option<(SettingAccess, Vec<u8>)>,
}

fn head(opcode: Opcode, ids: &[PropertyId]) -> Vec<u8> {
    let mut payload = opcode.with(&[]);
    payload.extend(ids.iter().flat_map(|&id| u16::from(id).to_le_bytes()));
    payload
}

impl SensorSettingsStatus {
    /// Its opcode.
    pub const OPCODE: Opcode = Opcode::One(0x58);

    /// Opcode and parameters.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = head(Self::OPCODE, &[self.property_id]);
        payload.extend(self.settings.iter().flat_map(|&id| u16::from(id).to_le_bytes()));
        payload
    }

    /// Reads the parameters.
    ///
    /// # Errors
    /// When they end within an identifier, or one is 0.
    pub fn decode(parameters: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(parameters);
        let property_id = PropertyId::read(&mut reader)?;
        let mut settings = Vec::new();
        while !reader.is_empty() {
            settings.push(PropertyId::read(&mut reader)?);
        }
        Ok(Self { property_id, settings })
    }
}

impl SensorSettingSet {
    /// Its opcode.
    pub const OPCODE: Opcode = Opcode::One(0x59);
    /// Its opcode when no answer is wanted.
    pub const UNACKNOWLEDGED: Opcode = Opcode::One(0x5a);

    /// Opcode and parameters.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_as(Self::OPCODE)
    }

    /// Opcode and parameters, under the opcode that says whether an answer is wanted.
    pub fn encode_as(&self, opcode: Opcode) -> Vec<u8> {
        let mut payload = head(opcode, &[self.property_id, self.setting_property_id]);
        payload.extend(&self.raw);
        payload
    }

    /// Reads the parameters.
    ///
    /// # Errors
    /// When there is no value, or an identifier is 0.
    pub fn decode(parameters: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(parameters);
        let (property_id, setting_property_id) =
            (PropertyId::read(&mut reader)?, PropertyId::read(&mut reader)?);
        let raw = reader.rest().to_vec();
        if raw.is_empty() {
            return Err(DecodeError::TooShort);
        }
        Ok(Self { property_id, setting_property_id, raw })
    }
}

impl SensorSettingStatus {
    /// Its opcode.
    pub const OPCODE: Opcode = Opcode::One(0x5b);

    /// Opcode and parameters.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = head(Self::OPCODE, &[self.property_id, self.setting_property_id]);
        if let Some((access, raw)) = &self.setting {
            payload.push(*access as u8);
            payload.extend(raw);
        }
        payload
    }

    /// Reads the parameters.
    ///
    /// # Errors
    /// When they are too short, or a value is prohibited.
    pub fn decode(parameters: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(parameters);
        let (property_id, setting_property_id) =
            (PropertyId::read(&mut reader)?, PropertyId::read(&mut reader)?);
        let access = match reader.rest().first() {
            None => return Ok(Self { property_id, setting_property_id, setting: None }),
            Some(1) => SettingAccess::Read,
            Some(3) => SettingAccess::ReadWrite,
            Some(_) => return Err(DecodeError::Prohibited("Setting Access")),
        };
        let setting = Some((access, reader.rest()[1..].to_vec()));
        Ok(Self { property_id, setting_property_id, setting })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIGHT: PropertyId = PropertyId::PRESENT_AMBIENT_LIGHT_LEVEL;
    const GAIN: PropertyId = PropertyId::SENSOR_GAIN;

    #[test]
    fn settings_come_back_as_they_were_sent() {
        let set = SensorSettingSet {
            property_id: LIGHT,
            setting_property_id: GAIN,
            raw: [0, 0, 0x80, 0x3f].into(),
        };
        assert_eq!(set.encode(), [0x59, 0x4e, 0, 0x74, 0, 0, 0, 0x80, 0x3f]);
        assert_eq!(SensorSettingSet::decode(&set.encode()[1..]), Ok(set));
        assert_eq!(SensorSettingSet::decode(&[0x4e, 0, 0x74, 0]), Err(DecodeError::TooShort));
        let setting = Some((SettingAccess::ReadWrite, [1, 2].into()));
        for setting in [None, setting] {
            let status = SensorSettingStatus { property_id: LIGHT, setting_property_id: GAIN, setting };
            assert_eq!(SensorSettingStatus::decode(&status.encode()[1..]), Ok(status));
        }
        assert!(SensorSettingStatus::decode(&[0x4e, 0, 0x74, 0, 2, 9]).is_err());
        let list = SensorSettingsStatus { property_id: LIGHT, settings: [GAIN].into() };
        assert_eq!(list.encode(), [0x58, 0x4e, 0, 0x74, 0]);
        assert_eq!(SensorSettingsStatus::decode(&[0x4e, 0, 0x74, 0]), Ok(list));
    }
}
