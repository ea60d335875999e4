//! What people set, what comes back, and what happens when nothing does.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Bus, Kind, Plan};
use mesh_models::lighting::LightKind;
use mesh_models::sensor::{Measurement, PropertyId, SensorServer};
use mesh_models::switch::Switch;
use serde_json::{Value, json};

const LAMPS: [(&str, Kind); 3] = [
    ("kitchen/table", Kind::Light(LightKind::Dimmable)),
    ("kitchen/ceiling", Kind::Light(LightKind::Tunable)),
    ("living/floor", Kind::Light(LightKind::Coloured)),
];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn whatever_a_lamp_can_be_reads_back_as_it_was_set() {
    let mut bus = Bus::known(Plan { nodes: &LAMPS, ..Plan::default() });
    for brightness in [254, 1, 127, 200] {
        for (lamp, _) in LAMPS {
            let state = bus.set(lamp, &format!(r#"{{"brightness":{brightness}}}"#));
            assert_eq!((&state["state"], &state["brightness"]), (&json!("ON"), &json!(brightness)), "{lamp}");
            assert_eq!(bus.retained_json(&format!("mesh/{lamp}"))["brightness"], brightness);
        }
    }
    for mireds in [154, 200, 250, 369] {
        let state = bus.set("kitchen/ceiling", &format!(r#"{{"color_temp":{mireds}}}"#));
        assert_eq!((&state["color_temp"], &state["brightness"]), (&json!(mireds), &json!(200)));
    }
    for (hue, saturation) in [(0, 100), (120, 50), (240, 1), (359, 99)] {
        let payload = format!(r#"{{"color":{{"hue":{hue},"saturation":{saturation}}}}}"#);
        let state = bus.set("living/floor", &payload);
        assert_eq!(
            (&state["color"]["hue"], &state["color"]["saturation"]),
            (&json!(hue), &json!(saturation))
        );
    }
    let state = bus.set("kitchen/ceiling", r#"{"state":"ON","brightness":30,"color_temp":300}"#);
    assert_eq!((&state["brightness"], &state["color_temp"]), (&json!(30), &json!(300)));
    assert_eq!(bus.set("kitchen/ceiling", "OFF")["brightness"], 0);
    assert_eq!(bus.set("kitchen/ceiling", "TOGGLE")["brightness"], 30, "it comes back as it was");
}

#[test]
fn a_plain_value_on_an_attribute_is_a_command_too() {
    let nodes = [("plug", Kind::Outlet), ("blind", Kind::Level), LAMPS[0]];
    let mut bus = Bus::known(Plan { nodes: &nodes, ..Plan::default() });
    let state = |bus: &mut Bus, topic: &str, payload: &str| {
        bus.command(topic, payload, seconds(2))[0]["data"].clone()
    };
    assert_eq!(state(&mut bus, "mesh/plug/set", "ON")["state"], "ON");
    assert_eq!(state(&mut bus, "mesh/plug/set/state", "toggle")["state"], "OFF");
    assert_eq!(state(&mut bus, "mesh/blind/set/level", "-1200")["level"], -1200);
    assert_eq!(state(&mut bus, "mesh/kitchen/table/set/brightness", "77")["brightness"], 77);
    let answers = bus.command("mesh/plug/set/brightness", "3", seconds(2));
    assert_eq!(answers[0]["error"], "plug has no \"brightness\"");
}

#[test]
fn a_transition_publishes_the_present_at_once_and_the_end_when_it_is_confirmed() {
    let mut bus = Bus::known(Plan { nodes: &LAMPS, ..Plan::default() });
    bus.set("living/floor", r#"{"brightness":10}"#);
    let state = bus.set("living/floor", r#"{"brightness":254,"transition":4}"#);
    assert!(state["brightness"].as_u64().unwrap() < 200, "it is on its way: {state}");
    bus.run(seconds(5));
    assert_eq!(bus.retained_json("mesh/living/floor")["brightness"], 254);
}

#[test]
fn who_does_not_answer_is_an_error_after_the_documented_time_and_offline() {
    let mut bus = Bus::known(Plan { nodes: &LAMPS, ..Plan::default() });
    bus.set("kitchen/table", "ON");
    let before = bus.retained_json("mesh/kitchen/table");
    bus.cut("kitchen/table", true);
    let answers = bus.command("mesh/kitchen/table/set", "OFF", seconds(9));
    let error = answers[0]["error"].as_str().unwrap();
    assert!(error.starts_with("kitchen/table did not answer 5 attempts in 7.9 s"), "{error}");
    assert_eq!(bus.json_of("mesh/kitchen/table/availability"), [json!({"state": "offline"})]);
    assert_eq!(bus.retained_json("mesh/kitchen/table"), before);
    assert!(bus.payloads_of("mesh/kitchen/table").is_empty(), "nothing pretends");
    bus.cut("kitchen/table", false);
    assert_eq!(bus.set("kitchen/table", "OFF")["state"], "OFF");
    assert_eq!(bus.retained_json("mesh/kitchen/table/availability"), json!({"state": "online"}));
}

#[test]
fn a_node_that_misses_three_periods_is_offline_and_online_when_it_is_heard() {
    let mut bus = Bus::known(Plan { nodes: &LAMPS, period: 3, ..Plan::default() });
    let state = |bus: &Bus| bus.retained_json("mesh/living/floor/availability")["state"].clone();
    bus.run(seconds(120));
    assert_eq!(state(&bus), "online");
    bus.cut("living/floor", true);
    bus.run(seconds(61));
    assert_eq!(state(&bus), "online");
    bus.run(seconds(32));
    assert_eq!(state(&bus), "offline");
    bus.cut("living/floor", false);
    bus.run(seconds(31));
    assert_eq!(state(&bus), "online");
    assert_eq!(bus.retained_json("mesh/kitchen/table/availability")["state"], "online");
}

#[test]
fn what_a_sensor_measures_is_its_state() {
    let nodes = [("hall/air", Kind::Thermometer), ("hall/door", Kind::Contact), ("remote", Kind::Battery)];
    let mut bus = Bus::known(Plan { nodes: &nodes, ..Plan::default() });
    bus.act("hall/air", |node, now| {
        node.with_server(now, 0, |server: &mut SensorServer, context| {
            let temperature =
                Measurement::of(PropertyId::PRECISE_PRESENT_AMBIENT_TEMPERATURE, 21.37).unwrap();
            server.set(now, temperature, context);
        })
    });
    bus.act("hall/door", |node, now| {
        node.with_server(now, 0, |server: &mut SensorServer, context| {
            server.set(now, Measurement::of(PropertyId::PRESENCE_DETECTED, 1.0).unwrap(), context);
        })
    });
    let answers = bus.command("mesh/hall/air/get", "", seconds(2));
    let state = &answers[0]["data"];
    assert_eq!((&state["temperature"], &state["humidity"]), (&json!(21.37), &Value::Null));
    bus.command("mesh/hall/door/get", "", seconds(2));
    assert_eq!(bus.retained_json("mesh/hall/door")["contact"], true);
    assert_eq!(bus.retained_json("mesh/remote")["battery"], 93);
    let summaries: Vec<String> = bus
        .gateway
        .devices()
        .flat_map(|device| &device.endpoints)
        .map(|endpoint| format!("{}: {}", endpoint.name, endpoint.summary()))
        .collect();
    assert_eq!(summaries, ["hall/air: 21.37\u{a0}°C", "hall/door: contact", "remote: battery 93\u{a0}%"]);
}

#[test]
fn a_press_is_one_action_and_what_it_does_to_lamps_is_seen() {
    let nodes = [LAMPS[0], LAMPS[2], ("wall", Kind::Switch)];
    let groups: [(&str, &[&str]); 1] = [("evening", &["kitchen/table", "living/floor"])];
    let mut bus = Bus::known(Plan { nodes: &nodes, groups: &groups, ..Plan::default() });
    let mut rocker = Switch::new(1);
    bus.act("wall", |node, now| node.handle_command(now, rocker.on_off(true, None)).unwrap());
    bus.run(seconds(2));
    assert_eq!(bus.json_of("mesh/wall/right/action"), [json!({"action": "on", "to": "evening"})]);
    assert_eq!(bus.retained_json("mesh/living/floor")["state"], "ON");
    assert_eq!(bus.retained_json("mesh/evening")["state"], "ON");
    bus.act("wall", |node, now| node.handle_command(now, rocker.on_off(false, None)).unwrap());
    bus.run(seconds(2));
    assert_eq!(bus.json_of("mesh/wall/right/action").len(), 2);
    assert_eq!(bus.retained_json("mesh/kitchen/table")["state"], "OFF");
}

#[test]
fn retained_commands_are_not_obeyed_and_foreign_response_topics_not_written() {
    let mut bus = Bus::known(Plan { nodes: &LAMPS, ..Plan::default() });
    let before = bus.gateway.statistics().commands;
    let retained = gateway::Inbox { retain: true, ..gateway::Inbox::new("mesh/kitchen/table/set", b"ON") };
    bus.gateway.handle_publish(bus.now, &retained);
    assert_eq!(bus.gateway.statistics().commands, before);
    for topic in ["mesh/living/floor", "homeassistant/light/x/config", "$SYS/x"] {
        let inbox = gateway::Inbox::new("mesh/kitchen/table/set", b"ON").answered_on(topic, None);
        bus.gateway.handle_publish(bus.now, &inbox);
        bus.run(seconds(1));
        assert!(bus.payloads_of(topic).is_empty(), "{topic}");
    }
}
