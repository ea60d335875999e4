//! What sensors measure, as attributes that people have names for.

use mesh_models::sensor::{Measurement, Property, PropertyId, Value as Measured};
use mesh_wire::CompanyId;
use serde_json::{Map, Value, json};

use crate::shadow::number;

/// An attribute of an element's state that a sensor keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SensorAttribute {
    pub(crate) property: PropertyId,
    pub(crate) name: String,
    /// The unit of its number; empty: none.
    pub(crate) unit: &'static str,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Number,
    Boolean,
    /// Several fields, or text.
    Other,
}

/// The names that people and other gateways have for properties.
pub(crate) const NAMES: [(PropertyId, &str); 22] = [
    (PropertyId::MOTION_SENSED, "motion"),
    (PropertyId::PRESENCE_DETECTED, "occupancy"),
    (PropertyId::PRESENT_AMBIENT_LIGHT_LEVEL, "illuminance"),
    (PropertyId::PRESENT_ILLUMINANCE, "illuminance"),
    (PropertyId::PRESENT_AMBIENT_TEMPERATURE, "temperature"),
    (PropertyId::PRECISE_PRESENT_AMBIENT_TEMPERATURE, "temperature"),
    (PropertyId::PRESENT_INDOOR_AMBIENT_TEMPERATURE, "temperature"),
    (PropertyId::PRESENT_OUTDOOR_AMBIENT_TEMPERATURE, "temperature"),
    (PropertyId::PRESENT_DEVICE_OPERATING_TEMPERATURE, "device_temperature"),
    (PropertyId::PRESENT_AMBIENT_RELATIVE_HUMIDITY, "humidity"),
    (PropertyId::PRESENT_INDOOR_RELATIVE_HUMIDITY, "humidity"),
    (PropertyId::PRESENT_OUTDOOR_RELATIVE_HUMIDITY, "humidity"),
    (PropertyId::PRESENT_AMBIENT_CARBON_DIOXIDE_CONCENTRATION, "co2"),
    (PropertyId::PRESENT_AMBIENT_VOLATILE_ORGANIC_COMPOUNDS_CONCENTRATION, "voc"),
    (PropertyId::PRESENT_AMBIENT_NOISE, "noise"),
    (PropertyId::PRESENT_DEVICE_INPUT_POWER, "power"),
    (PropertyId::TOTAL_DEVICE_ENERGY_USE, "energy"),
    (PropertyId::PRECISE_TOTAL_DEVICE_ENERGY_USE, "energy"),
    (PropertyId::PRESENT_INPUT_VOLTAGE, "voltage"),
    (PropertyId::PRESENT_INPUT_CURRENT, "current"),
    (PropertyId::AIR_PRESSURE, "pressure"),
    (PropertyId::PEOPLE_COUNT, "people"),
];

/// What some products mean by a property that says something else: company, product, property, attribute.
const QUIRKS: [(CompanyId, u16, PropertyId, &str); 1] = [
    // Trellis's own simulated contact: a magnet is present, so the door is closed.
    (CompanyId(0xffff), 0x0005, PropertyId::PRESENCE_DETECTED, "contact"),
];

impl SensorAttribute {
    /// The attribute of a property on an element that has the attributes `others`.
    pub(crate) fn new(
        property: PropertyId,
        (company, product): (CompanyId, u16),
        others: &[SensorAttribute],
    ) -> Self {
        let quirk = QUIRKS.iter().find(|(c, p, id, _)| (*c, *p, *id) == (company, product, property));
        let familiar = NAMES.iter().find(|(id, _)| *id == property).map(|(_, name)| *name);
        let plain = property.property().map_or_else(|| format!("property_{property}"), |x| snake(x.name));
        let wished = quirk.map(|(.., name)| *name).or(familiar).map_or_else(|| plain.clone(), str::to_owned);
        // A second property of the same kind has its full name.
        let name = if others.iter().any(|other| other.name == wished) { plain } else { wished };
        let (unit, kind) = property.property().map_or(("", Kind::Other), form);
        Self { property, name, unit, kind }
    }
}

/// The value of an attribute; `null` when the sensor does not know it.
pub(crate) fn value_of(measurement: &Measurement) -> Value {
    let readings = match measurement.readings() {
        Ok(Some(readings)) => readings,
        // A property that nobody has assigned is shown as it is.
        Ok(None) if !measurement.raw().is_empty() => return json!(hex::encode(measurement.raw())),
        _ => return Value::Null,
    };
    if let [reading] = &readings[..] {
        return plain(&reading.value);
    }
    let members: Map<String, Value> =
        readings.iter().map(|reading| (snake(reading.field.name), plain(&reading.value))).collect();
    Value::Object(members)
}

pub(crate) fn form(property: &Property) -> (&'static str, Kind) {
    use mesh_models::sensor::Format;
    match property.fields() {
        [field] if field.format == Format::Boolean => ("", Kind::Boolean),
        [field] if property.scalar().is_some() => (unit(field.unit), Kind::Number),
        _ => ("", Kind::Other),
    }
}

/// Units as people write them.
fn unit(unit: &'static str) -> &'static str {
    match unit {
        "degC" => "°C",
        "deg" => "°",
        "dB SPL" => "dB",
        other => other,
    }
}

fn plain(value: &Measured) -> Value {
    match value {
        // What a sensor measures has no more digits than this; the rest is the binary form's.
        Measured::Number(value) => number((value * 1e6).round() / 1e6),
        Measured::Boolean(value) => json!(value),
        Measured::Text(text) => json!(text),
        Measured::Unknown | Measured::NotValid | Measured::DeviceLife => Value::Null,
    }
}

/// `Present Ambient Light Level` as `present_ambient_light_level`.
fn snake(name: &str) -> String {
    let words: Vec<String> = (name.split(|c: char| !c.is_ascii_alphanumeric()))
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    words.join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(property: PropertyId, product: u16, others: &[SensorAttribute]) -> SensorAttribute {
        SensorAttribute::new(property, (CompanyId(0xffff), product), others)
    }

    #[test]
    fn properties_have_the_names_that_people_use() {
        let light = attribute(PropertyId::PRESENT_AMBIENT_LIGHT_LEVEL, 1, &[]);
        assert_eq!((light.name.as_str(), light.unit, light.kind), ("illuminance", "lx", Kind::Number));
        let second = attribute(PropertyId::PRESENT_ILLUMINANCE, 1, std::slice::from_ref(&light));
        assert_eq!(second.name, "present_illuminance");
        assert_eq!(attribute(PropertyId::PRESENCE_DETECTED, 1, &[]).name, "occupancy");
        assert_eq!(attribute(PropertyId::PRESENCE_DETECTED, 5, &[]).name, "contact");
        assert_eq!(attribute(PropertyId::new(0x7001).unwrap(), 1, &[]).name, "property_7001");
    }

    #[test]
    fn values_are_in_their_units_and_unknown_ones_null() {
        let value = |property, raw: &[u8]| value_of(&Measurement::new(property, raw.to_vec()).unwrap());
        assert_eq!(value(PropertyId::PRECISE_PRESENT_AMBIENT_TEMPERATURE, &[0x66, 0x08]), json!(21.5));
        assert_eq!(value(PropertyId::PRESENT_AMBIENT_LIGHT_LEVEL, &[0xff, 0xff, 0xff]), Value::Null);
        assert_eq!(value(PropertyId::PRESENCE_DETECTED, &[1]), json!(true));
        assert_eq!(value(PropertyId::PRESENCE_DETECTED, &[2]), Value::Null);
        assert_eq!(value(PropertyId::new(0x7001).unwrap(), &[1, 2]), json!("0102"));
    }
}
