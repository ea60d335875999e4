//! The gateway itself: requests, what is retained, restarts, brokers that come and go, and airtime.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Bus, Kind, Plan, topics};
use gateway::{Inbox, MqttDevice, MqttDeviceKind};
use mesh_models::lighting::LightKind;
use mesh_models::switch::Switch;
use serde_json::{Value, json};

const NODES: [(&str, Kind); 4] = [
    ("hall/lamp", Kind::Light(LightKind::Coloured)),
    ("hall/switch", Kind::Switch),
    ("hall/plug", Kind::Outlet),
    ("hall/air", Kind::Thermometer),
];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn plan() -> Plan<'static> {
    Plan { nodes: &NODES, groups: &[("hall", &["hall/lamp"])], ..Plan::default() }
}

fn request(bus: &mut Bus, path: &str, payload: &str) -> Value {
    bus.published.clear();
    bus.publish(&format!("mesh/bridge/request/{path}"), payload);
    bus.run(seconds(1));
    let responses = bus.json_of(&format!("mesh/bridge/response/{path}"));
    assert_eq!(responses.len(), 1, "{path}: {responses:?}");
    responses[0].clone()
}

#[test]
fn a_renamed_device_leaves_nothing_behind() {
    let mut bus = Bus::known(Plan { nodes: &NODES, ..Plan::default() });
    let before = bus.retained.len();
    let renamed =
        request(&mut bus, "device/rename", r#"{"from":"hall/lamp","to":"parlour/lamp","transaction":4}"#);
    let data = json!({"from": "hall/lamp", "to": "parlour/lamp"});
    assert_eq!(renamed, json!({"data": data, "status": "ok", "transaction": 4}));
    assert_eq!(bus.json_of("mesh/bridge/event"), [json!({"type": "device_renamed", "data": data})]);
    assert_eq!(bus.retained.len(), before);
    assert!(topics(&bus.retained, "mesh/hall/lamp").is_empty());
    assert_eq!(topics(&bus.retained, "mesh/parlour/lamp").len(), 2);
    assert_eq!(bus.set("parlour/lamp", "ON")["state"], "ON");
    bus.restart();
    bus.connect();
    assert_eq!(bus.retained.len(), before, "the name outlasts a restart");
    assert_eq!(bus.set("parlour/lamp", "OFF")["state"], "OFF");
    for bad in ["hall/plug", "bridge/x", "a/set", "", "hall/switch/left"] {
        let payload = json!({"from": "parlour/lamp", "to": bad}).to_string();
        let refused = request(&mut bus, "device/rename", &payload);
        assert_eq!(refused["status"], "error", "{bad}");
        assert!(refused["error"].as_str().unwrap().contains("cannot be used"), "{refused}");
    }
}

#[test]
fn the_gateway_answers_for_itself() {
    let mut bus = Bus::known(plan());
    let device = request(&mut bus, "device/get", r#"{"id":"hall/lamp"}"#);
    assert_eq!(device["data"]["endpoints"][0]["state"]["state"], "OFF");
    assert_eq!(device["data"]["endpoints"][0]["exposes"][0]["type"], "light");
    let health = request(&mut bus, "health", "");
    assert_eq!((&health["data"]["healthy"], &health["data"]["devices"]), (&json!(true), &json!(4)));
    for path in ["backup", "network/export"] {
        let refused = request(&mut bus, path, "{}");
        assert!(refused["error"].as_str().unwrap().contains("export_keys = true"), "{refused}");
    }
    assert!(request(&mut bus, "make/coffee", "{}")["error"].as_str().unwrap().contains("device/rename"));
    assert_eq!(request(&mut bus, "health", "[")["error"], "the payload is no JSON object");
    bus.config.export_keys = true;
    bus.restart();
    bus.connect();
    let exported = request(&mut bus, "network/export", "{}");
    assert_eq!(exported["data"]["nodes"].as_array().unwrap().len(), 5);
    let backup = request(&mut bus, "backup", "{}");
    assert_eq!(backup["data"]["records"].as_object().unwrap().len(), bus.stored.len());
}

#[test]
fn after_a_restart_every_lamp_can_be_controlled_at_once_and_no_sequence_number_comes_twice() {
    let mut bus = Bus::known(plan());
    for round in 0..20 {
        let on = if round % 2 == 0 { "ON" } else { "OFF" };
        bus.publish("mesh/hall/lamp/set", on);
        // Killed before, while, or after it is sent.
        bus.run(Duration::from_millis(3 * round));
        bus.restart();
        bus.connect();
        // The nodes drop what repeats a sequence number, so that a confirmation proves a new one.
        assert_eq!(bus.set("hall/lamp", on)["state"], on, "round {round}");
    }
}

#[test]
fn a_broker_that_was_away_gets_everything_and_forgets_what_is_gone() {
    let mut bus = Bus::known(Plan { nodes: &NODES, ..Plan::default() });
    let topics_before: Vec<String> = bus.retained.keys().cloned().collect();
    bus.gateway.handle_disconnected();
    bus.published.clear();
    bus.publish("mesh/hall/lamp/set", "ON");
    bus.run(seconds(2));
    assert_eq!(bus.json_of("answers")[0]["status"], "ok", "answers are kept for the broker");
    request(&mut bus, "device/rename", r#"{"from":"hall/plug","to":"hall/socket"}"#);
    bus.restart();
    bus.connect();
    bus.run(seconds(2));
    assert_eq!(bus.retained_json("mesh/hall/lamp")["state"], "ON");
    let expected: Vec<String> = {
        let mut expected: Vec<String> =
            topics_before.iter().map(|topic| topic.replace("hall/plug", "hall/socket")).collect();
        expected.sort();
        expected
    };
    assert_eq!(
        bus.retained.keys().cloned().collect::<Vec<_>>(),
        expected,
        "no ghost is left, and nothing is missing"
    );
}

#[test]
fn home_assistant_is_told_again_when_it_starts() {
    let mut bus = Bus::known(plan());
    let configured = topics(&bus.retained, "homeassistant/").len();
    bus.gateway.handle_publish(bus.now, &Inbox::new("homeassistant/status", b"online"));
    bus.run(seconds(1));
    let again = bus.published.iter().filter(|(topic, _)| topic.ends_with("/config")).count();
    assert_eq!(again, configured);
    assert!(bus.published.iter().any(|(topic, _)| topic == "mesh/hall/lamp"), "states follow");
}

#[test]
fn a_slider_keeps_within_the_airtime_and_ends_at_its_last_value() {
    let mut bus = Bus::known(plan());
    bus.sent.clear();
    for step in 1..=200 {
        bus.publish("mesh/hall/lamp/set", &format!(r#"{{"brightness":{}}}"#, step + 20));
        bus.run(Duration::from_millis(50));
    }
    bus.run(seconds(5));
    assert_eq!(bus.retained_json("mesh/hall/lamp")["brightness"], 220);
    let airtime = bus.config.airtime;
    for (index, from) in bus.sent.iter().enumerate() {
        for (count, until) in (1_u32..).zip(&bus.sent[index..]) {
            let allowed = airtime.burst + (*until - *from).as_secs_f64() * airtime.per_second;
            assert!(f64::from(count) <= allowed + 1.0, "{count} in {:?}", *until - *from);
        }
    }
    let answers = bus.json_of("answers");
    assert_eq!(answers.len(), 200, "each is told how it ended");
    assert_eq!(answers[199]["data"]["brightness"], 220);
}

fn garden(kind: MqttDeviceKind) -> MqttDevice {
    MqttDevice {
        name: "garden".to_owned(),
        kind,
        command_topic: "garden/set".to_owned(),
        state_topic: Some("garden/state".to_owned()),
        groups: vec!["hall".to_owned()],
    }
}

#[test]
fn a_wall_switch_drives_a_lamp_that_is_not_bluetooth() {
    let mut bus = Bus::known(Plan { devices: vec![garden(MqttDeviceKind::OnOff)], ..plan() });
    assert!(bus.gateway.subscriptions().contains(&("garden/state".to_owned(), true)));
    let mut rocker = Switch::new(0);
    for on in [true, false] {
        bus.published.clear();
        bus.act("hall/switch", |node, now| node.handle_command(now, rocker.on_off(on, None)).unwrap());
        bus.run(seconds(2));
        let said = if on { "ON" } else { "OFF" };
        assert_eq!(bus.payloads_of("garden/set"), [said], "once");
        bus.gateway.handle_publish(bus.now, &Inbox::new("garden/state", said.as_bytes()));
        bus.run(seconds(1));
        assert_eq!(bus.payloads_of("garden/set"), [said], "what it says of itself is no order");
        assert_eq!(bus.retained_json("mesh/hall/lamp")["state"], said);
    }
    bus.published.clear();
    bus.gateway.handle_publish(bus.now, &Inbox::new("garden/state", b"broken"));
    bus.run(seconds(1));
    assert_eq!(
        bus.json_of("mesh/bridge/logging")[0]["message"],
        "garden/state: \"broken\" is neither ON nor OFF"
    );
}

#[test]
fn a_dial_drives_a_dimmer_that_is_not_bluetooth() {
    let mut bus = Bus::known(Plan { devices: vec![garden(MqttDeviceKind::Level { max: 100 })], ..plan() });
    let mut dial = Switch::new(1);
    bus.act("hall/switch", |node, now| node.handle_command(now, dial.level(i16::MAX, None)).unwrap());
    bus.run(seconds(1));
    assert_eq!(bus.payloads_of("garden/set"), ["100"]);
    bus.published.clear();
    bus.act("hall/switch", |node, now| node.handle_command(now, dial.hold(-0x2000)).unwrap());
    bus.run(seconds(3));
    bus.act("hall/switch", |node, now| node.handle_command(now, dial.release()).unwrap());
    bus.run(seconds(2));
    let said: Vec<u16> = bus.payloads_of("garden/set").iter().map(|x| x.parse().unwrap()).collect();
    assert!(said.len() >= 8 && said.is_sorted_by(|a, b| a > b), "it dims steadily: {said:?}");
    assert!((55..70).contains(said.last().unwrap()), "and stops where it was let go: {said:?}");
}
