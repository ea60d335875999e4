//! What Home Assistant makes of a mesh: what is announced is valid, and its entities read and say the right things.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{Bus, Kind, Plan, topics};
use mesh_models::lighting::LightKind;
use mesh_models::sensor::{Measurement, PropertyId, SensorServer};
use mesh_models::switch::Switch;
use serde_json::{Value, json};

const NODES: [(&str, Kind); 9] = [
    ("table", Kind::Light(LightKind::Dimmable)),
    ("ceiling", Kind::Light(LightKind::Tunable)),
    ("floor", Kind::Light(LightKind::Coloured)),
    ("plug", Kind::Outlet),
    ("blind", Kind::Level),
    ("wall", Kind::Switch),
    ("air", Kind::Thermometer),
    ("door", Kind::Contact),
    ("remote", Kind::Battery),
];

fn plan() -> Plan<'static> {
    Plan { nodes: &NODES, groups: &[("evening", &["table", "floor"])], ..Plan::default() }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A bus whose sensors have measured something.
fn building() -> Bus {
    let mut bus = Bus::known(plan());
    let measure = |bus: &mut Bus, name: &str, property, value| {
        bus.act(name, |node, now| {
            node.with_server(now, 0, |server: &mut SensorServer, context| {
                server.set(now, Measurement::of(property, value).unwrap(), context);
            })
        });
        bus.command(&format!("mesh/{name}/get"), "", seconds(2));
    };
    measure(&mut bus, "air", PropertyId::PRECISE_PRESENT_AMBIENT_TEMPERATURE, 21.37);
    measure(&mut bus, "door", PropertyId::PRESENCE_DETECTED, 1.0);
    bus
}

/// Topic, component and configuration of everything that is announced.
fn announced(bus: &Bus) -> Vec<(&str, &str, Value)> {
    let parse = |topic: &'_ String| -> (String, Value) { (topic.clone(), bus.retained_json(topic)) };
    bus.retained
        .keys()
        .filter(|topic| topic.starts_with("homeassistant/"))
        .map(|topic| (topic.as_str(), topic.split('/').nth(1).unwrap(), parse(topic).1))
        .collect()
}

/// What Home Assistant reads from a payload with a configuration's template.
fn rendered(template: &Value, payload: &str) -> String {
    let mut environment = minijinja::Environment::new();
    environment.add_function("as_datetime", |seconds: f64| format!("{seconds} s"));
    // Python writes these with a capital letter.
    environment.set_formatter(|out, state, value| match value.to_string().as_str() {
        "true" => out.write_str("True").map_err(Into::into),
        "false" => out.write_str("False").map_err(Into::into),
        "none" => out.write_str("None").map_err(Into::into),
        _ => minijinja::escape_formatter(out, state, value),
    });
    let value_json: minijinja::Value = serde_json::from_str(payload).unwrap();
    environment.render_str(template.as_str().unwrap(), minijinja::context! { value_json }).unwrap()
}

#[test]
fn everything_that_is_announced_is_valid() {
    let bus = building();
    let schema: Value =
        serde_json::from_str(include_str!("../../../testdata/homeassistant/discovery.json")).unwrap();
    let mut ids = BTreeSet::new();
    for (topic, component, config) in announced(&bus) {
        let mut of_component = schema.clone();
        of_component["$ref"] = json!(format!("#/$defs/{component}"));
        let validator = jsonschema::validator_for(&of_component).unwrap();
        let errors: Vec<String> = validator.iter_errors(&config).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{topic}: {errors:?}\n{config:#}");
        let mut unknown = config.clone();
        unknown["transition"] = json!(true);
        assert!(!validator.is_valid(&unknown), "the schema of {component} is strict");
        let levels: Vec<&str> = topic.split('/').collect();
        let is_id = |level: &&str| level.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        assert!(levels.len() == 5 && levels[4] == "config" && levels[2..4].iter().all(is_id), "{topic}");
        assert!(ids.insert(config["unique_id"].as_str().unwrap().to_owned()), "{topic}");
    }
}

#[test]
fn a_person_sees_these_entities() {
    let bus = building();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut seen: Vec<String> = (announced(&bus).iter())
        .filter(|(_, _, config)| config["enabled_by_default"] != false)
        .map(|(_, component, config)| {
            let [device, name] = [&config["device"]["name"], &config["name"]].map(text);
            let [class, unit] = [&config["device_class"], &config["unit_of_measurement"]].map(text);
            let mode = config["supported_color_modes"][0].as_str().unwrap_or("-");
            format!("{device} | {component} | {name} | {class} | {unit} | {mode}")
        })
        .collect();
    seen.sort();
    let expected = [
        "air | sensor | humidity | humidity | % | -",
        "air | sensor | temperature | temperature | °C | -",
        "blind | number | level | - | - | -",
        "ceiling | light | - | - | - | color_temp",
        "door | binary_sensor | contact | door | - | -",
        "evening | light | - | - | - | hs",
        "floor | light | - | - | - | hs",
        "plug | switch | - | - | - | -",
        "remote | sensor | battery | battery | % | -",
        "table | light | - | - | - | brightness",
        "wall | event | left action | button | - | -",
        "wall | event | right action | button | - | -",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn templates_read_the_states_that_are_published() {
    let mut bus = building();
    let mut rocker = Switch::new(1);
    bus.published.clear();
    bus.act("wall", |node, now| node.handle_command(now, rocker.on_off(true, None)).unwrap());
    bus.run(seconds(1));
    let read = |device: &str, object: &str| {
        let all = announced(&bus);
        let (.., config) = all
            .iter()
            .find(|(topic, _, config)| config["device"]["name"] == device && topic.contains(object))
            .unwrap();
        let topic = config["state_topic"].as_str().unwrap();
        let payload = bus.retained.get(topic).cloned();
        let payload = payload.unwrap_or_else(|| bus.payloads_of(topic)[0].to_owned());
        rendered(&config["value_template"], &payload)
    };
    assert_eq!(read("air", "temperature"), "21.37");
    assert_eq!(read("air", "humidity"), "None", "unknown, for Home Assistant");
    assert_eq!(read("door", "contact"), "True", "its payload_off: a closed door");
    assert_eq!(read("remote", "battery"), "93");
    assert_eq!(read("plug", "switch"), "OFF");
    assert!(read("plug", "last_seen").ends_with(" s"));
    let event: Value = serde_json::from_str(&read("wall", "1_action")).unwrap();
    assert_eq!(event, json!({"action": "on", "event_type": "on", "to": "evening"}));
    for (topic, _, config) in announced(&bus) {
        for availability in config["availability"].as_array().unwrap() {
            let payload = &bus.retained[availability["topic"].as_str().unwrap()];
            assert_eq!(rendered(&availability["value_template"], payload), "online", "{topic}");
        }
    }
}

#[test]
fn what_home_assistant_sends_is_obeyed() {
    let mut bus = building();
    let colour = bus.set("floor", r#"{"state":"ON","color":{"h":120.0,"s":50.0}}"#);
    assert_eq!(colour["color"], json!({"hue": 120, "saturation": 50, "h": 120, "s": 50}));
    assert_eq!(colour["color_mode"], "hs");
    assert_eq!(bus.set("table", r#"{"state":"ON","brightness":200}"#)["brightness"], 200);
    let white = bus.set("ceiling", r#"{"state":"ON","color_temp":250}"#);
    assert_eq!((&white["color_temp"], &white["color_mode"]), (&json!(250), &json!("color_temp")));
    assert_eq!(bus.set("table", r#"{"state":"OFF","transition":1}"#)["color_mode"], "brightness");
    assert_eq!(bus.set("plug", "ON")["state"], "ON");
    let answers = bus.command("mesh/blind/set/level", "1200", seconds(2));
    assert_eq!(answers[0]["data"]["level"], 1_200);
}

#[test]
fn entities_stay_over_a_restart_and_go_with_their_node() {
    let mut bus = building();
    let before: Vec<(String, String)> =
        bus.retained.clone().into_iter().filter(|(topic, _)| topic.ends_with("/config")).collect();
    bus.restart();
    bus.connect();
    let after: Vec<(String, String)> =
        bus.retained.clone().into_iter().filter(|(topic, _)| topic.ends_with("/config")).collect();
    assert_eq!(after, before);
    bus.publish("mesh/bridge/request/device/rename", r#"{"from":"plug","to":"socket"}"#);
    let names: BTreeSet<String> =
        announced(&bus).iter().map(|(.., x)| x["device"]["name"].as_str().unwrap().to_owned()).collect();
    assert!(names.contains("socket") && !names.contains("plug"));
    assert_eq!(topics(&bus.retained, "homeassistant/").len(), before.len(), "the same entities, renamed");
}
