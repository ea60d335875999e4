//! What Home Assistant makes its entities of: one retained configuration message for each (MQTT discovery).

use serde_json::{Map, Value, json};

use crate::capabilities::{Capabilities, Range};
use crate::convert::{BRIGHTNESS_MAX, mireds_of};
use crate::devices::{Device, Endpoint};
use crate::exposes::ACTIONS;
use crate::groups::Group;
use crate::sensors::{Kind, SensorAttribute};
use crate::shadow::color_mode;
use crate::topics::Topics;

/// A configuration message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Announced {
    pub(crate) topic: String,
    pub(crate) config: Value,
}

/// What the entities of one device or group have in common.
struct Entities<'a> {
    prefix: &'a str,
    topics: &'a Topics,
    /// Letters and digits that nobody else has.
    id: String,
    device: Value,
    availability: Value,
    announced: Vec<Announced>,
}

/// What Home Assistant calls the thing that an attribute measures: device class and state class.
const CLASSES: [(&str, &str, &str); 14] = [
    ("temperature", "temperature", "measurement"),
    ("device_temperature", "temperature", "measurement"),
    ("humidity", "humidity", "measurement"),
    ("illuminance", "illuminance", "measurement"),
    ("co2", "carbon_dioxide", "measurement"),
    ("voc", "volatile_organic_compounds_parts", "measurement"),
    ("noise", "sound_pressure", "measurement"),
    ("power", "power", "measurement"),
    ("energy", "energy", "total_increasing"),
    ("voltage", "voltage", "measurement"),
    ("current", "current", "measurement"),
    ("pressure", "atmospheric_pressure", "measurement"),
    ("battery", "battery", "measurement"),
    ("people", "", "measurement"),
];

/// What Home Assistant calls the thing that a yes or no tells, and which of the two it calls on.
const BINARY_CLASSES: [(&str, &str, bool); 3] =
    [("motion", "motion", true), ("occupancy", "occupancy", true), ("contact", "door", false)];

/// All entities of a node.
pub(crate) fn of_device(prefix: &str, topics: &Topics, device: &Device) -> Vec<Announced> {
    if device.endpoints.is_empty() {
        return Vec::new();
    }
    let id = identifier(&device.uuid);
    let product = device.composition.as_ref().map(|x| format!("{:04x}:{:04x}", x.company.0, x.product));
    let version = device.composition.as_ref().map(|x| format!("{:04x}", x.version));
    let described = json!({
        "identifiers": [format!("trellis_{id}")],
        "name": device.name,
        "manufacturer": "Bluetooth Mesh",
        "model": product,
        "sw_version": version,
        "serial_number": device.address.to_string(),
    });
    let availability =
        json!([availability(&topics.bridge("state")), availability(&topics.availability(&device.name))]);
    let mut entities =
        Entities { prefix, topics, id, device: described, availability, announced: Vec::new() };
    for endpoint in &device.endpoints {
        let index = u16::from(endpoint.address) - u16::from(device.address);
        // What an element has is told apart by the element only where there are several.
        let element = endpoint.name.strip_prefix(&device.name).unwrap_or_default().trim_start_matches('/');
        entities.add_endpoint(endpoint, index, element);
    }
    entities.add_diagnostics(&device.endpoints[0]);
    entities.announced
}

/// The entity of a group: one light, or one switch.
pub(crate) fn of_group(
    prefix: &str,
    topics: &Topics,
    network: &str,
    group: &Group,
    capabilities: &Capabilities,
) -> Option<Announced> {
    let device = json!({
        "identifiers": [format!("trellis_{}_{}", identifier(network), group.hex())],
        "name": group.name,
        "manufacturer": "Bluetooth Mesh",
        "model": "Group",
    });
    let id = format!("{}_{}", identifier(network), group.hex());
    let availability = json!([availability(&topics.bridge("state"))]);
    let mut entities = Entities { prefix, topics, id, device, availability, announced: Vec::new() };
    entities.add_switchable(&group.name, capabilities, Group::TEMPERATURE_RANGE, "0", Value::Null);
    entities.announced.pop()
}

impl Entities<'_> {
    fn add_endpoint(&mut self, endpoint: &Endpoint, index: u16, element: &str) {
        let capabilities = &endpoint.capabilities;
        let state_topic = self.topics.state(&endpoint.name);
        let name = |what: &str| join(element, what);
        // The main thing of a device has no name of its own.
        let main = if element.is_empty() { Value::Null } else { json!(element) };
        self.add_switchable(
            &endpoint.name,
            capabilities,
            endpoint.temperature_range,
            &index.to_string(),
            main,
        );
        if capabilities.level {
            let mut config = reading(&name("level"), &state_topic, "level");
            config.insert(
                "command_topic".to_owned(),
                json!(format!("{}/level", self.topics.set(&endpoint.name))),
            );
            config.extend([("min".to_owned(), json!(i16::MIN)), ("max".to_owned(), json!(i16::MAX))]);
            self.add("number", &format!("{index}_level"), config);
        }
        if capabilities.battery {
            let mut config = measurement("battery", "%", &name("battery"), &state_topic);
            config.insert("entity_category".to_owned(), json!("diagnostic"));
            self.add("sensor", &format!("{index}_battery"), config);
        }
        for sensor in &endpoint.sensors {
            self.add_sensor(sensor, index, &name(&sensor.name), &state_topic);
        }
        if capabilities.presses {
            let mut config = Map::new();
            let title = join(element, "action");
            config.insert("name".to_owned(), json!(title));
            config.insert("state_topic".to_owned(), json!(self.topics.action(&endpoint.name)));
            config.insert("event_types".to_owned(), json!(ACTIONS));
            config.insert("device_class".to_owned(), json!("button"));
            let template = "{{ dict(value_json, event_type=value_json.action) | tojson }}";
            config.insert("value_template".to_owned(), json!(template));
            self.add("event", &format!("{index}_action"), config);
        }
    }

    /// A light, or a switch for what is on or off.
    fn add_switchable(
        &mut self,
        topic_name: &str,
        capabilities: &Capabilities,
        temperatures: Range,
        index: &str,
        name: Value,
    ) {
        if !capabilities.on_off {
            return;
        }
        let mut config = Map::new();
        let mut insert = |key: &str, value: Value| _ = config.insert(key.to_owned(), value);
        insert("name", name);
        insert("state_topic", json!(self.topics.state(topic_name)));
        insert("command_topic", json!(self.topics.set(topic_name)));
        let Some(mode) = color_mode(capabilities) else {
            insert("value_template", json!("{{ value_json.state }}"));
            insert("payload_on", json!("ON"));
            insert("payload_off", json!("OFF"));
            return self.add("switch", &format!("{index}_switch"), config);
        };
        insert("schema", json!("json"));
        insert("brightness", json!(true));
        insert("brightness_scale", json!(BRIGHTNESS_MAX));
        insert("supported_color_modes", json!([mode]));
        if mode == "color_temp" {
            insert("min_mireds", json!(mireds_of(temperatures.max)));
            insert("max_mireds", json!(mireds_of(temperatures.min)));
        }
        self.add("light", &format!("{index}_light"), config);
    }

    fn add_sensor(&mut self, sensor: &SensorAttribute, index: u16, name: &str, state_topic: &str) {
        let object = format!("{index}_{}", sensor.name);
        match sensor.kind {
            Kind::Boolean => {
                let mut config = reading(name, state_topic, &sensor.name);
                let class = BINARY_CLASSES.iter().find(|(attribute, ..)| *attribute == sensor.name);
                if let Some((_, class, _)) = class {
                    config.insert("device_class".to_owned(), json!(class));
                }
                let (on, off) =
                    if class.is_none_or(|(.., on)| *on) { ("True", "False") } else { ("False", "True") };
                config.insert("payload_on".to_owned(), json!(on));
                config.insert("payload_off".to_owned(), json!(off));
                self.add("binary_sensor", &object, config);
            }
            Kind::Number => {
                self.add("sensor", &object, measurement(&sensor.name, sensor.unit, name, state_topic));
            }
            // Several fields are attributes in the state's topic; there is no one state to show.
            Kind::Other => {}
        }
    }

    fn add_diagnostics(&mut self, endpoint: &Endpoint) {
        let state_topic = self.topics.state(&endpoint.name);
        let mut quality = reading("linkquality", &state_topic, "linkquality");
        quality.insert("state_class".to_owned(), json!("measurement"));
        let mut seen = reading("last seen", &state_topic, "last_seen");
        seen.insert("device_class".to_owned(), json!("timestamp"));
        let template = "{{ as_datetime(value_json.last_seen / 1000) if value_json.last_seen else None }}";
        seen.insert("value_template".to_owned(), json!(template));
        for (object, mut config) in [("linkquality", quality), ("last_seen", seen)] {
            config.insert("entity_category".to_owned(), json!("diagnostic"));
            config.insert("enabled_by_default".to_owned(), json!(false));
            self.add("sensor", object, config);
        }
    }

    fn add(&mut self, component: &str, object: &str, mut config: Map<String, Value>) {
        config.insert("unique_id".to_owned(), json!(format!("trellis_{}_{object}", self.id)));
        config.insert("device".to_owned(), self.device.clone());
        config
            .insert("origin".to_owned(), json!({"name": "Trellis", "sw_version": env!("CARGO_PKG_VERSION")}));
        config.insert("availability".to_owned(), self.availability.clone());
        config.insert("availability_mode".to_owned(), json!("all"));
        config.insert("qos".to_owned(), json!(1));
        let topic = format!("{}/{component}/trellis_{}/{object}/config", self.prefix, self.id);
        self.announced.push(Announced { topic, config: Value::Object(config) });
    }
}

/// A value that is read from a member of the state's JSON.
fn reading(name: &str, state_topic: &str, attribute: &str) -> Map<String, Value> {
    Map::from_iter([
        ("name".to_owned(), json!(name.replace('_', " "))),
        ("state_topic".to_owned(), json!(state_topic)),
        ("value_template".to_owned(), json!(format!("{{{{ value_json.{attribute} }}}}"))),
    ])
}

fn measurement(attribute: &str, unit: &str, name: &str, state_topic: &str) -> Map<String, Value> {
    let mut config = reading(name, state_topic, attribute);
    let class = CLASSES.iter().find(|(name, ..)| *name == attribute);
    config.insert("state_class".to_owned(), json!(class.map_or("measurement", |(.., class)| class)));
    if let Some((_, class, _)) = class.filter(|(_, class, _)| !class.is_empty()) {
        config.insert("device_class".to_owned(), json!(class));
    }
    if !unit.is_empty() {
        config.insert("unit_of_measurement".to_owned(), json!(unit));
    }
    config
}

fn availability(topic: &str) -> Value {
    json!({"topic": topic, "value_template": "{{ value_json.state }}"})
}

fn join(element: &str, what: &str) -> String {
    if element.is_empty() { what.to_owned() } else { format!("{element} {what}") }
}

/// A UUID's letters and digits.
fn identifier(uuid: &str) -> String {
    uuid.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sensor_that_people_have_a_name_for_is_valid() {
        let text = include_str!("../../../testdata/homeassistant/discovery.json");
        let schema: Value = serde_json::from_str(text).unwrap();
        let topics = Topics::new("mesh", Some("homeassistant"));
        for (property, _) in crate::sensors::NAMES {
            let sensor = SensorAttribute::new(property, (mesh_wire::CompanyId(0), 0), &[]);
            let mut entities = Entities {
                prefix: "homeassistant",
                topics: &topics,
                id: "id".to_owned(),
                device: json!({"identifiers": ["id"]}),
                availability: json!([availability("mesh/bridge/state")]),
                announced: Vec::new(),
            };
            entities.add_sensor(&sensor, 0, &sensor.name, "mesh/x");
            let Announced { topic, config } = entities.announced.pop().unwrap();
            let mut of_component = schema.clone();
            of_component["$ref"] = json!(format!("#/$defs/{}", topic.split('/').nth(1).unwrap()));
            let validator = jsonschema::validator_for(&of_component).unwrap();
            let errors: Vec<String> = validator.iter_errors(&config).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:?}\n{config:#}", sensor.name);
        }
    }
}
