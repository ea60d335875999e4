//! What a person writes to `<name>/set`: JSON, or the plain value of one attribute.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::capabilities::Capabilities;
use crate::convert::{BRIGHTNESS_MAX, hue_of, kelvin_of, lightness_of, saturation_of};

/// The longest transition that a Transition Time can express: 62 steps of 10 minutes.
const TRANSITION_MAX_S: f64 = 62.0 * 600.0;

/// Temperatures that Light CTL knows, in mireds.
const MIREDS: std::ops::RangeInclusive<u64> = 50..=1_250;

/// The state that a command asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    On,
    Off,
    /// The opposite of what was last confirmed.
    Toggle,
}

/// A command, not yet bound to a device, in the mesh's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SetCommand {
    pub(crate) state: Option<Target>,
    pub(crate) lightness: Option<u16>,
    /// Kelvin.
    pub(crate) temperature: Option<u16>,
    pub(crate) hue: Option<u16>,
    pub(crate) saturation: Option<u16>,
    pub(crate) level: Option<i16>,
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
    /// The object says nothing of any state.
    #[error("nothing is to be set; name \"state\", \"brightness\", \"color_temp\", \"color\" or \"level\"")]
    Nothing,
    /// An attribute has a value that it cannot have.
    #[error("{attribute:?} is {value}; it is {range}")]
    Value {
        /// Which.
        attribute: &'static str,
        /// What was written.
        value: Value,
        /// What can be.
        range: &'static str,
    },
    /// There is no such attribute.
    #[error(
        "{0:?} cannot be set; what can is \"state\", \"brightness\", \"color_temp\", \"color\" and \"level\" (and, in JSON, \"transition\")"
    )]
    Attribute(String),
}

impl SetCommand {
    /// Reads a message to `<name>/set` or, with an attribute, to `<name>/set/<attribute>`.
    pub(crate) fn parse(attribute: Option<&str>, payload: &[u8]) -> Result<Self, SetCommandError> {
        let text = str::from_utf8(payload).map_err(|_| SetCommandError::NotJson)?.trim();
        let mut command = Self::default();
        if let Some(attribute) = attribute {
            // A plain value that is no JSON is text.
            let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
            command.take(attribute, &value)?;
            return command.checked();
        }
        if let Some(target) = Target::from_text(text) {
            return Ok(Self { state: Some(target), ..command });
        }
        match serde_json::from_str(text).map_err(|_| SetCommandError::NotJson)? {
            Value::Object(members) => {
                for (name, value) in &members {
                    command.take(name, value)?;
                }
            }
            text @ Value::String(_) => command.take("state", &text)?,
            _ => return Err(SetCommandError::NotAnObject),
        }
        command.checked()
    }

    /// The command for one that is on or off: what was to be toggled gets its target.
    pub(crate) fn resolved(&self, on: Option<bool>) -> Self {
        let state = match (self.state, on) {
            (Some(Target::Toggle), Some(true)) => Some(Target::Off),
            (Some(Target::Toggle), Some(false)) => Some(Target::On),
            (state, _) => state,
        };
        Self { state, ..*self }
    }

    /// What of the command somebody with these capabilities can do.
    pub(crate) fn limited_to(&self, capabilities: &Capabilities) -> Self {
        let has_colour = capabilities.colour.is_some();
        // One that can only be on or off is on when it is to be bright.
        let brightness = self.lightness.filter(|_| !capabilities.lightness);
        let state = brightness.map(|brightness| if brightness > 0 { Target::On } else { Target::Off });
        Self {
            state: self.state.or(state).filter(|_| capabilities.on_off),
            lightness: self.lightness.filter(|_| capabilities.lightness),
            temperature: self.temperature.filter(|_| capabilities.temperature.is_some()),
            hue: self.hue.filter(|_| has_colour),
            saturation: self.saturation.filter(|_| has_colour),
            level: self.level.filter(|_| capabilities.level),
            transition: self.transition,
        }
    }

    fn take(&mut self, attribute: &str, value: &Value) -> Result<(), SetCommandError> {
        match attribute {
            "state" => {
                let target = value.as_str().and_then(Target::from_text);
                self.state =
                    Some(target.ok_or_else(|| wrong("state", value, "\"ON\", \"OFF\" or \"TOGGLE\""))?);
            }
            "brightness" => {
                let brightness =
                    value.as_u64().and_then(|x| u8::try_from(x).ok()).filter(|x| *x <= BRIGHTNESS_MAX);
                let range = "a whole number from 0 to 254";
                self.lightness =
                    Some(lightness_of(brightness.ok_or_else(|| wrong("brightness", value, range))?));
            }
            "color_temp" => {
                let mireds =
                    value.as_u64().filter(|x| MIREDS.contains(x)).and_then(|x| u16::try_from(x).ok());
                let range = "a whole number of mireds from 50 to 1250";
                self.temperature = Some(kelvin_of(mireds.ok_or_else(|| wrong("color_temp", value, range))?));
            }
            "color" => self.take_colour(value)?,
            "level" => {
                let level = value.as_i64().and_then(|x| i16::try_from(x).ok());
                let range = "a whole number from -32768 to 32767";
                self.level = Some(level.ok_or_else(|| wrong("level", value, range))?);
            }
            "transition" => {
                let seconds = value.as_f64().filter(|seconds| (0.0..=TRANSITION_MAX_S).contains(seconds));
                let range = "a number of seconds from 0 to 37200";
                let seconds = seconds.ok_or_else(|| wrong("transition", value, range))?;
                self.transition = Some(Duration::from_secs_f64(seconds));
            }
            other => return Err(SetCommandError::Attribute(other.to_owned())),
        }
        Ok(())
    }

    fn take_colour(&mut self, value: &Value) -> Result<(), SetCommandError> {
        let error =
            || wrong("color", value, "such as {\"hue\":120,\"saturation\":100}, in degrees and percent");
        let members: &Map<String, Value> = value.as_object().ok_or_else(error)?;
        for (name, value) in members {
            let number = |max: f64| value.as_f64().filter(|x| (0.0..=max).contains(x)).ok_or_else(error);
            match name.as_str() {
                "hue" | "h" => self.hue = Some(hue_of(number(360.0)?)),
                "saturation" | "s" => self.saturation = Some(saturation_of(number(100.0)?)),
                _ => return Err(error()),
            }
        }
        if members.is_empty() { Err(error()) } else { Ok(()) }
    }

    fn checked(self) -> Result<Self, SetCommandError> {
        let wishes = Self { transition: None, ..self };
        if wishes == Self::default() { Err(SetCommandError::Nothing) } else { Ok(self) }
    }
}

impl Target {
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "ON" => Some(Self::On),
            "OFF" => Some(Self::Off),
            "TOGGLE" => Some(Self::Toggle),
            _ => None,
        }
    }
}

fn wrong(attribute: &'static str, value: &Value, range: &'static str) -> SetCommandError {
    SetCommandError::Value { attribute, value: value.clone(), range }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(payload: &str) -> Result<SetCommand, SetCommandError> {
        SetCommand::parse(None, payload.as_bytes())
    }

    #[test]
    fn the_same_command_can_be_written_in_several_ways() {
        let on = Ok(SetCommand { state: Some(Target::On), ..SetCommand::default() });
        for payload in ["ON", "on", " ON\n", "\"ON\"", r#"{"state":"ON"}"#, r#"{"state": "on"}"#] {
            assert_eq!(parse(payload), on, "{payload}");
        }
        assert_eq!(SetCommand::parse(Some("state"), b"ON"), on);
        let half = Ok(SetCommand { lightness: Some(0x8081), ..SetCommand::default() });
        assert_eq!(
            parse(r#"{"brightness":127.0}"#).is_ok(),
            SetCommand::parse(Some("brightness"), b"127.0").is_ok()
        );
        assert_eq!(SetCommand::parse(Some("brightness"), b"127"), parse(r#"{"brightness":127}"#));
        assert_eq!(
            parse(r#"{"brightness":127}"#).map(|x| x.lightness.is_some()),
            half.map(|x| x.lightness.is_some())
        );
    }

    #[test]
    fn a_transition_is_in_seconds_and_may_have_a_fraction() {
        let command = parse(r#"{"state":"OFF","transition":2.5}"#).unwrap();
        assert_eq!(
            (command.state, command.transition),
            (Some(Target::Off), Some(Duration::from_millis(2_500)))
        );
        for bad in ["-1", "37201", "\"soon\"", "null"] {
            let payload = format!(r#"{{"state":"ON","transition":{bad}}}"#);
            assert!(
                matches!(parse(&payload), Err(SetCommandError::Value { attribute: "transition", .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn every_attribute_has_its_range() {
        let colour = parse(r#"{"color":{"hue":360,"saturation":50.0}}"#).unwrap();
        assert_eq!((colour.hue, colour.saturation), (Some(0xffff), Some(0x8000)));
        for bad in [
            r#"{"brightness":255}"#,
            r#"{"brightness":-1}"#,
            r#"{"color_temp":49}"#,
            r#"{"color":{"hue":361}}"#,
            r#"{"color":{"x":0.3}}"#,
            r#"{"color":{}}"#,
            r#"{"color":"red"}"#,
            r#"{"level":40000}"#,
            r#"{"state":1}"#,
        ] {
            assert!(matches!(parse(bad), Err(SetCommandError::Value { .. })), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_obeyed_is_named() {
        assert_eq!(parse("please"), Err(SetCommandError::NotJson));
        assert_eq!(parse("[1]"), Err(SetCommandError::NotAnObject));
        assert_eq!(parse("{}"), Err(SetCommandError::Nothing));
        assert_eq!(parse(r#"{"transition":1}"#), Err(SetCommandError::Nothing));
        let unknown = Err(SetCommandError::Attribute("speed".to_owned()));
        assert_eq!(parse(r#"{"state":"ON","speed":3}"#), unknown);
        assert_eq!(SetCommand::parse(Some("speed"), b"3"), unknown);
        assert_eq!(SetCommand::parse(None, b"\xff"), Err(SetCommandError::NotJson));
    }
}
