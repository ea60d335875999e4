//! The tables of the topic reference, in Markdown, made of what the code itself uses.

use std::fmt::Write as _;
use std::time::Duration;

use mesh_wire::address::Address;

use crate::bridge::{HEALTH_PERIOD, INTERVIEW_PAUSE, PRESS_TIME, REQUESTS};
use crate::command::{SetCommand, SetCommandError};
use crate::exposes::ACTIONS;
use crate::gateway::GatewayConfig;
use crate::scheduler::{GROUP_SETTLES, Lane, Subject};
use crate::sensors::{Kind, NAMES, form};
use crate::topics::RESERVED_LEVELS;

/// What can be set: attribute, an example for `<name>/set`, what it does.
const ATTRIBUTES: [(&str, &str, &str); 6] = [
    ("state", r#"{"state":"ON"}"#, "on, off, or the opposite of what was last confirmed"),
    ("brightness", r#"{"brightness":128}"#, "0 is off"),
    ("color_temp", r#"{"color_temp":370}"#, "white; kept within the range that the lamp has said it has"),
    ("color", r#"{"color":{"hue":120,"saturation":100}}"#, "either of the two may be left out"),
    ("level", r#"{"level":-1000}"#, "of what is no lamp: a blind, a valve"),
    ("transition", r#"{"state":"OFF","transition":3}"#, "how long the change takes; with another attribute"),
];

/// The tables by the name of their placeholder.
pub fn tables() -> [(&'static str, String); 6] {
    [
        ("attributes", attributes()),
        ("actions", ACTIONS.map(|action| format!("`{action}`")).join(", ")),
        ("sensors", sensors()),
        ("requests", requests()),
        ("timings", timings()),
        ("reserved", RESERVED_LEVELS.map(|level| format!("`{level}`")).join(", ")),
    ]
}

fn attributes() -> String {
    let mut table = "| attribute | value | example | |\n| --- | --- | --- | --- |\n".to_owned();
    for (attribute, example, what) in ATTRIBUTES {
        _ = writeln!(table, "| `{attribute}` | {} | `{example}` | {what} |", range(attribute));
    }
    table
}

/// What an attribute can be, in the words with which the gateway refuses what it cannot be.
fn range(attribute: &str) -> &'static str {
    match SetCommand::parse(Some(attribute), b"no such value") {
        Err(SetCommandError::Value { range, .. }) => range,
        _ => "",
    }
}

fn sensors() -> String {
    let mut table = "| attribute | unit | property |\n| --- | --- | --- |\n".to_owned();
    for (id, name) in NAMES {
        let Some(property) = id.property() else { continue };
        let unit = match form(property) {
            (_, Kind::Boolean) => "true or false",
            (unit, _) => unit,
        };
        _ = writeln!(table, "| `{name}` | {unit} | {} |", property.name);
    }
    table
}

fn requests() -> String {
    let mut table = "| request | example | |\n| --- | --- | --- |\n".to_owned();
    for (path, example, what) in REQUESTS {
        _ = writeln!(table, "| `{path}` | `{example}` | {what} |");
    }
    table
}

fn timings() -> String {
    let config = GatewayConfig::new([0; 32]);
    let node = Address::from(0x0001_u16);
    let patience = |lane| Subject { destination: node, lane }.patience();
    let sum = |lane| seconds(patience(lane).iter().sum());
    let attempts = patience(Lane::Set).iter().copied().map(seconds).collect::<Vec<_>>().join(", ");
    let rows = [
        (
            format!("a command or a question waits for its answer, attempt by attempt, {attempts}; in all"),
            sum(Lane::Set),
        ),
        (
            "a message to a node's Configuration Server, such as `group/members/add`, waits in all"
                .to_owned(),
            sum(Lane::Configure),
        ),
        (
            "the members of a group have to say that they followed, before they are told one by one"
                .to_owned(),
            seconds(GROUP_SETTLES),
        ),
        (
            format!(
                "a node is offline after {} missed periods of publishing, and",
                config.availability_periods
            ),
            seconds(crate::bridge::SILENCE_GRACE),
        ),
        ("a node that does not say what it is is asked again after".to_owned(), seconds(INTERVIEW_PAUSE)),
        ("repetitions of a button's message are one press for".to_owned(), seconds(PRESS_TIME)),
        ("`bridge/health` is published every".to_owned(), seconds(HEALTH_PERIOD)),
        ("network PDUs a second, for as long as one likes".to_owned(), config.airtime.per_second.to_string()),
        ("network PDUs at once after a silence".to_owned(), config.airtime.burst.to_string()),
    ];
    let mut table = "| what | how long, how much |\n| --- | --- |\n".to_owned();
    for (what, value) in rows {
        _ = writeln!(table, "| {what} | {value} |");
    }
    table
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_understood() {
        for (path, example, _) in REQUESTS {
            let value: serde_json::Value = serde_json::from_str(example).unwrap();
            assert!(value.is_object(), "{path}");
        }
        for (attribute, example, _) in ATTRIBUTES {
            assert!(SetCommand::parse(None, example.as_bytes()).is_ok(), "{example}");
            assert!(!range(attribute).is_empty(), "{attribute}");
        }
    }

    #[test]
    fn the_tables_say_what_the_code_does() {
        assert!(timings().contains("in all | 7.9 s |") && timings().contains("| 1 s |"), "{}", timings());
        assert!(sensors().contains("| `temperature` | °C |"), "{}", sensors());
    }
}
