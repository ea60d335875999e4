//! What can be done with a node, as `bridge/devices` lists it.

use mesh_wire::foundation::{CompositionData, Features};
use serde_json::{Value, json};

use crate::convert::{BRIGHTNESS_MAX, mireds_of};
use crate::devices::{Device, Endpoint};
use crate::sensors::Kind;

/// What a topic reaches, as in zigbee2mqtt's `exposes`: bit 0 published, bit 1 settable, bit 2 readable.
const PUBLISHED: u8 = 0b001;
const READABLE: u8 = 0b101;
const ALL: u8 = 0b111;

/// What buttons tell.
pub(crate) const ACTIONS: [&str; 8] = [
    "on",
    "off",
    "brightness_step_up",
    "brightness_step_down",
    "brightness_move_up",
    "brightness_move_down",
    "brightness_stop",
    "level",
];

/// A node, as `bridge/devices` lists it.
pub(crate) fn device_to_json(device: &Device) -> Value {
    let composition = device.composition.as_ref();
    json!({
        "friendly_name": device.name,
        "unicast_address": device.address.to_string(),
        "uuid": device.uuid,
        "interviewed": device.is_interviewed(),
        "hops": device.hops,
        "company_id": composition.map(|x| format!("{:04x}", x.company.0)),
        "product_id": composition.map(|x| format!("{:04x}", x.product)),
        "version_id": composition.map(|x| format!("{:04x}", x.version)),
        "features": composition.map(|x| features(x.features)),
        "elements": composition.map(elements),
        "endpoints": device.endpoints.iter().map(|endpoint| json!({
            "name": endpoint.name,
            "unicast_address": endpoint.address.to_string(),
            "exposes": exposes(endpoint),
        })).collect::<Vec<Value>>(),
    })
}

fn features(features: Features) -> Value {
    json!({
        "relay": features.contains(Features::RELAY),
        "proxy": features.contains(Features::PROXY),
        "friend": features.contains(Features::FRIEND),
        "low_power": features.contains(Features::LOW_POWER),
    })
}

fn elements(composition: &CompositionData) -> Value {
    let elements = composition.elements.iter().enumerate().map(|(index, element)| {
        let models: Vec<String> = element.models.iter().map(ToString::to_string).collect();
        json!({"index": index, "location": format!("{:04x}", element.location), "models": models})
    });
    Value::Array(elements.collect())
}

/// What an element exposes: its attributes, with what they can be.
pub(crate) fn exposes(endpoint: &Endpoint) -> Value {
    let capabilities = &endpoint.capabilities;
    let mut exposed = Vec::new();
    if capabilities.lightness {
        exposed.push(light(endpoint));
    } else if capabilities.on_off {
        exposed.push(json!({"type": "switch", "features": [state()]}));
    }
    if capabilities.level {
        exposed.push(numeric("level", "", ALL, Some((i16::MIN.into(), i16::MAX.into()))));
    }
    if capabilities.battery {
        exposed.push(numeric("battery", "%", READABLE, Some((0, 100))));
    }
    for sensor in &endpoint.sensors {
        exposed.push(match sensor.kind {
            Kind::Boolean => json!({
                "type": "binary", "name": sensor.name, "property": sensor.name, "access": READABLE,
                "value_on": true, "value_off": false,
            }),
            Kind::Number => numeric(&sensor.name, sensor.unit, READABLE, None),
            Kind::Other => json!({
                "type": "composite", "name": sensor.name, "property": sensor.name, "access": READABLE,
            }),
        });
    }
    if capabilities.presses {
        exposed.push(json!({
            "type": "enum", "name": "action", "property": "action", "access": PUBLISHED, "values": ACTIONS,
        }));
    }
    Value::Array(exposed)
}

fn light(endpoint: &Endpoint) -> Value {
    let mut features = vec![state(), numeric("brightness", "", ALL, Some((0, BRIGHTNESS_MAX.into())))];
    if endpoint.capabilities.temperature.is_some() {
        let range = endpoint.temperature_range;
        let (min, max) = (mireds_of(range.max), mireds_of(range.min));
        features.push(numeric("color_temp", "mired", ALL, Some((min.into(), max.into()))));
    }
    if endpoint.capabilities.colour.is_some() {
        features.push(json!({
            "type": "composite", "name": "color_hs", "property": "color", "access": ALL,
            "features": [
                numeric("hue", "°", ALL, Some((0, 360))),
                numeric("saturation", "%", ALL, Some((0, 100))),
            ],
        }));
    }
    json!({"type": "light", "features": features})
}

fn state() -> Value {
    json!({
        "type": "binary",
        "name": "state",
        "property": "state",
        "access": ALL,
        "value_on": "ON",
        "value_off": "OFF",
        "value_toggle": "TOGGLE",
    })
}

fn numeric(name: &str, unit: &str, access: u8, range: Option<(i32, i32)>) -> Value {
    let mut exposed = json!({"type": "numeric", "name": name, "property": name, "access": access});
    if !unit.is_empty() {
        exposed["unit"] = json!(unit);
    }
    if let Some((min, max)) = range {
        exposed["value_min"] = json!(min);
        exposed["value_max"] = json!(max);
    }
    exposed
}
