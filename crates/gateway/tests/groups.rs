//! Groups: one message on the air for all, and each member's word for it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Bus, Kind, Plan};
use mesh_models::lighting::LightKind;
use serde_json::json;

const NAMES: [&str; 10] = ["l0", "l1", "l2", "l3", "l4", "l5", "l6", "l7", "l8", "l9"];

fn plan() -> Plan<'static> {
    const KINDS: [Kind; 3] =
        [Kind::Light(LightKind::Dimmable), Kind::Light(LightKind::Tunable), Kind::Light(LightKind::Coloured)];
    static NODES: [(&str, Kind); 10] = {
        let mut nodes = [("", KINDS[0]); 10];
        let mut index = 0;
        while index < 10 {
            nodes[index] = (NAMES[index], KINDS[index % 3]);
            index += 1;
        }
        nodes
    };
    Plan { nodes: &NODES, groups: &[("all", &NAMES)], ..Plan::default() }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_command_to_ten_is_one_message_and_confirmed_by_all_ten() {
    let mut bus = Bus::known(plan());
    bus.sent.clear();
    let answers = bus.command("mesh/all/set", r#"{"brightness":100}"#, seconds(3));
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!((&answers[0]["status"], &answers[0]["data"]["brightness"]), (&json!("ok"), &json!(100)));
    assert_eq!(bus.sent.len(), 1, "one PDU");
    for name in NAMES {
        assert_eq!(bus.retained_json(&format!("mesh/{name}"))["brightness"], 100, "{name}");
    }
    assert_eq!(bus.retained_json("mesh/all")["brightness"], 100);
}

#[test]
fn members_do_what_they_can() {
    let mut bus = Bus::known(plan());
    let answers = bus.command("mesh/all/set", r#"{"state":"ON","color_temp":300}"#, seconds(6));
    assert_eq!(answers[0]["status"], "ok", "{answers:?}");
    assert_eq!(bus.retained_json("mesh/l1")["color_temp"], 300);
    assert_eq!(bus.retained_json("mesh/l0")["state"], "ON");
    let answers = bus.command("mesh/all/set", r#"{"level":3}"#, seconds(1));
    assert_eq!(answers[0]["error"], "all has no \"level\"");
}

#[test]
fn who_missed_it_is_told_alone_and_who_stays_away_is_named() {
    let mut bus = Bus::known(plan());
    bus.cut("l4", true);
    bus.cut("l7", true);
    bus.publish("mesh/all/set", "ON");
    bus.run(seconds(1));
    // This one hears what it is told on its own.
    bus.cut("l4", false);
    bus.run(seconds(12));
    let answers = bus.json_of("answers");
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0]["error"], "of all, these did not confirm the command: l7");
    assert_eq!(bus.retained_json("mesh/l4")["state"], "ON");
    assert_eq!(bus.retained_json("mesh/l7/availability")["state"], "offline");
}

#[test]
fn a_newer_command_to_a_member_is_not_undone_by_the_groups_repetitions() {
    let mut bus = Bus::known(plan());
    bus.cut("l2", true);
    bus.publish("mesh/all/set", r#"{"brightness":200}"#);
    bus.run(Duration::from_millis(500));
    bus.cut("l2", false);
    bus.publish("mesh/l2/set", r#"{"brightness":20}"#);
    bus.publish("mesh/l3/set", "OFF");
    bus.run(seconds(10));
    assert_eq!(bus.retained_json("mesh/l2")["brightness"], 20);
    assert_eq!(bus.retained_json("mesh/l3")["state"], "OFF");
    assert!(bus.json_of("answers").iter().all(|answer| answer["status"] == "ok"));
}

#[test]
fn a_newer_command_to_the_group_ends_the_repetitions_to_a_member() {
    let mut bus = Bus::known(plan());
    bus.cut("l5", true);
    bus.publish("mesh/l5/set", r#"{"brightness":20}"#);
    bus.run(Duration::from_millis(300));
    bus.cut("l5", false);
    bus.publish("mesh/all/set", r#"{"brightness":90}"#);
    bus.run(seconds(10));
    assert_eq!(bus.retained_json("mesh/l5")["brightness"], 90);
}

#[test]
fn members_come_and_go_over_the_air() {
    let mut bus = Bus::known(plan());
    let request = |bus: &mut Bus, path: &str, payload: &str| {
        bus.published.clear();
        bus.publish(&format!("mesh/bridge/request/{path}"), payload);
        bus.run(seconds(5));
        let responses = bus.json_of(&format!("mesh/bridge/response/{path}"));
        assert_eq!(responses.len(), 1, "{path}: {responses:?}");
        assert_eq!(bus.json_of("answers"), responses, "on the Response Topic too");
        responses[0].clone()
    };
    let added = request(&mut bus, "group/add", r#"{"friendly_name":"evening","transaction":"t1"}"#);
    assert_eq!(added["data"], json!({"friendly_name": "evening", "address": "C001"}));
    assert_eq!((&added["status"], &added["transaction"]), (&json!("ok"), &json!("t1")));
    for lamp in ["l0", "l1", "l2"] {
        let payload = json!({"group": "evening", "device": lamp}).to_string();
        assert_eq!(request(&mut bus, "group/members/add", &payload)["status"], "ok");
    }
    let groups = bus.retained_json("mesh/bridge/groups");
    assert_eq!(groups[1]["members"], json!(["l0", "l1", "l2"]));
    bus.sent.clear();
    let answers = bus.command("mesh/evening/set", r#"{"brightness":33}"#, seconds(2));
    assert_eq!((&answers[0]["status"], bus.sent.len()), (&json!("ok"), 1));
    assert_eq!(bus.retained_json("mesh/l2")["brightness"], 33);
    assert_ne!(bus.retained_json("mesh/l3")["brightness"], 33);
    let refused = request(&mut bus, "group/remove", r#"{"id":"evening"}"#);
    assert!(refused["error"].as_str().unwrap().starts_with("evening has 3 members"));
    bus.restart();
    bus.connect();
    for lamp in ["l0", "l1", "l2"] {
        let payload = json!({"group": "evening", "device": lamp}).to_string();
        assert_eq!(request(&mut bus, "group/members/remove", &payload)["status"], "ok", "after a restart");
    }
    assert_eq!(request(&mut bus, "group/remove", r#"{"id":"evening"}"#)["status"], "ok");
    assert!(!bus.retained.contains_key("mesh/evening"));
    assert_eq!(bus.retained_json("mesh/bridge/groups").as_array().unwrap().len(), 1);
}
