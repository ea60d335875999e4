//! What can be done with a node, derived from its composition data.

use mesh_models::generic::ON_OFF_SERVER;
use mesh_wire::foundation::{CompositionData, Features};
use serde_json::{Value, json};

use crate::devices::Device;

/// What a topic's `/set` and `/get` reach: bit 0 published, bit 1 settable, bit 2 readable, as in
/// zigbee2mqtt's `exposes`.
const ACCESS_ALL: u8 = 0b111;

/// The elements, by index, that people see as a thing.
pub(crate) fn functional_elements(composition: &CompositionData) -> Vec<u8> {
    (0..=u8::MAX)
        .zip(&composition.elements)
        .filter(|(_, element)| element.models.contains(&ON_OFF_SERVER))
        .map(|(index, _)| index)
        .collect()
}

/// A node, as `bridge/devices` lists it.
pub(crate) fn device_to_json(device: &Device) -> Value {
    let composition = device.composition.as_ref();
    json!({
        "friendly_name": device.name,
        "unicast_address": device.address.to_string(),
        "uuid": device.uuid,
        "interviewed": composition.is_some(),
        "hops": device.hops,
        "company_id": composition.map(|x| format!("{:04x}", x.company.0)),
        "product_id": composition.map(|x| format!("{:04x}", x.product)),
        "version_id": composition.map(|x| format!("{:04x}", x.version)),
        "features": composition.map(|x| features(x.features)),
        "elements": composition.map(elements),
        "endpoints": device.endpoints.iter().map(|endpoint| json!({
            "name": endpoint.name,
            "unicast_address": endpoint.address.to_string(),
            "exposes": [on_off()],
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

fn on_off() -> Value {
    json!({
        "type": "switch",
        "features": [{
            "type": "binary",
            "name": "state",
            "property": "state",
            "access": ACCESS_ALL,
            "value_on": "ON",
            "value_off": "OFF",
            "value_toggle": "TOGGLE",
        }],
    })
}
