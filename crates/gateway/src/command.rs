//! What a person writes to `<name>/set`: JSON, or the plain value of one attribute.

use std::time::Duration;

use serde_json::Value;

/// The longest transition that a Transition Time can express: 62 steps of 10 minutes.
const TRANSITION_MAX_S: f64 = 62.0 * 600.0;

/// The state that a command asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    On,
    Off,
    /// The opposite of what was last confirmed.
    Toggle,
}

/// A command, not yet bound to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetCommand {
    pub(crate) target: Target,
    /// `None` when the command leaves the transition to the lamp.
    pub(crate) transition: Option<Duration>,
}

/// Why a command cannot be understood. The text is for the one who wrote it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SetCommandError {
    /// The payload is neither JSON nor one of the plain values.
    #[error("the payload is neither JSON nor one of ON, OFF and TOGGLE")]
    NotJson,
    /// The payload is JSON of another kind.
    #[error("the payload is JSON, but not an object such as {{\"state\":\"ON\"}}")]
    NotAnObject,
    /// The object says nothing about the state.
    #[error("\"state\" is missing; it is \"ON\", \"OFF\" or \"TOGGLE\"")]
    NoState,
    /// The value of `state` is none that a lamp can have.
    #[error("\"state\" is {0}; it can be \"ON\", \"OFF\" or \"TOGGLE\"")]
    State(Value),
    /// The value of `transition` is no time that can be sent.
    #[error("\"transition\" is {0}; it is a number of seconds from 0 to 37200")]
    Transition(Value),
    /// The device has no such attribute.
    #[error("{0:?} cannot be set here; what can is \"state\" (and, in JSON, \"transition\")")]
    Attribute(String),
}

impl SetCommand {
    /// Reads a message to `<name>/set` or, with an attribute, to `<name>/set/<attribute>`.
    pub(crate) fn parse(attribute: Option<&str>, payload: &[u8]) -> Result<Self, SetCommandError> {
        let text = str::from_utf8(payload).map_err(|_| SetCommandError::NotJson)?.trim();
        if let Some(other) = attribute.filter(|&name| name != "state") {
            return Err(SetCommandError::Attribute(other.to_owned()));
        }
        if let Some(target) = Target::from_text(text) {
            return Ok(Self { target, transition: None });
        }
        let value: Value = serde_json::from_str(text).map_err(|_| SetCommandError::NotJson)?;
        match value {
            Value::Object(members) => Self::from_members(&members),
            Value::String(text) => Target::from_text(&text)
                .map(|target| Self { target, transition: None })
                .ok_or(SetCommandError::State(Value::String(text))),
            _ => Err(SetCommandError::NotAnObject),
        }
    }

    fn from_members(members: &serde_json::Map<String, Value>) -> Result<Self, SetCommandError> {
        if let Some(other) = members.keys().find(|&key| key != "state" && key != "transition") {
            return Err(SetCommandError::Attribute(other.clone()));
        }
        let state = members.get("state").ok_or(SetCommandError::NoState)?;
        let target = state
            .as_str()
            .and_then(Target::from_text)
            .ok_or_else(|| SetCommandError::State(state.clone()))?;
        let transition = members.get("transition").map(transition).transpose()?;
        Ok(Self { target, transition })
    }
}

impl Target {
    fn from_text(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "ON" => Some(Self::On),
            "OFF" => Some(Self::Off),
            "TOGGLE" => Some(Self::Toggle),
            _ => None,
        }
    }
}

fn transition(value: &Value) -> Result<Duration, SetCommandError> {
    value
        .as_f64()
        .filter(|seconds| (0.0..=TRANSITION_MAX_S).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| SetCommandError::Transition(value.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(payload: &str) -> Result<SetCommand, SetCommandError> {
        SetCommand::parse(None, payload.as_bytes())
    }

    #[test]
    fn the_same_command_can_be_written_in_several_ways() {
        let on = Ok(SetCommand { target: Target::On, transition: None });
        for payload in ["ON", "on", " ON\n", "\"ON\"", r#"{"state":"ON"}"#, r#"{"state": "on"}"#] {
            assert_eq!(parse(payload), on, "{payload}");
        }
        assert_eq!(SetCommand::parse(Some("state"), b"ON"), on);
    }

    #[test]
    fn a_transition_is_in_seconds_and_may_have_a_fraction() {
        let command = parse(r#"{"state":"OFF","transition":2.5}"#).unwrap();
        assert_eq!(
            command,
            SetCommand { target: Target::Off, transition: Some(Duration::from_millis(2500)) }
        );
        for bad in ["-1", "37201", "\"soon\"", "null"] {
            let payload = format!(r#"{{"state":"ON","transition":{bad}}}"#);
            assert!(matches!(parse(&payload), Err(SetCommandError::Transition(_))), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_obeyed_is_named() {
        assert_eq!(parse("please"), Err(SetCommandError::NotJson));
        assert_eq!(parse("[1]"), Err(SetCommandError::NotAnObject));
        assert_eq!(parse("{}"), Err(SetCommandError::NoState));
        assert_eq!(parse(r#"{"state":1}"#), Err(SetCommandError::State(1.into())));
        let unknown = Err(SetCommandError::Attribute("brightness".to_owned()));
        assert_eq!(parse(r#"{"state":"ON","brightness":3}"#), unknown);
        assert_eq!(SetCommand::parse(Some("brightness"), b"3"), unknown);
        assert_eq!(SetCommand::parse(None, b"\xff"), Err(SetCommandError::NotJson));
    }
}
