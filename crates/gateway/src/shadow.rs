//! What the mesh has confirmed, kept apart from what anybody asked for.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::capabilities::Capabilities;
use crate::convert::{brightness_of, degrees_of, mireds_of, percent_of};
use crate::facts::Facts;

/// The last confirmed state of one element. What it has not said is `null`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shadow {
    facts: Facts,
    battery: Option<u8>,
    /// What its sensors measured, by attribute.
    measured: BTreeMap<String, Value>,
}

impl Shadow {
    /// Whether the element is on.
    pub fn on(&self) -> Option<bool> {
        self.facts.on
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Takes what a message says of the present; tells whether that is news.
    pub(crate) fn confirm(&mut self, present: &Facts) -> bool {
        let before = self.facts;
        self.facts.learn(present);
        let went_on = present.on == Some(true) && present.lightness.is_none();
        if went_on && self.facts.lightness == Some(0) {
            // It is on, and how bright has not been said.
            self.facts.lightness = None;
        }
        if present.on == Some(false) && self.facts.lightness.is_some() {
            self.facts.lightness = Some(0);
        }
        self.facts != before
    }

    pub(crate) fn confirm_battery(&mut self, level: Option<u8>) -> bool {
        std::mem::replace(&mut self.battery, level) != level
    }

    pub(crate) fn confirm_measured(&mut self, attribute: &str, value: Value) -> bool {
        if self.measured.get(attribute) == Some(&value) {
            return false;
        }
        self.measured.insert(attribute.to_owned(), value);
        true
    }

    /// Adds an attribute of which nothing is known yet.
    pub(crate) fn expect_measured(&mut self, attribute: &str) {
        self.measured.entry(attribute.to_owned()).or_insert(Value::Null);
    }

    /// Whether it is on, and has not said how bright.
    pub(crate) fn is_partial(&self, capabilities: &Capabilities) -> bool {
        capabilities.lightness && self.facts.on == Some(true) && self.facts.lightness.is_none()
    }

    /// Whether everything that can be known of its states is. What a sensor measures it may not know itself.
    pub(crate) fn is_complete(&self, capabilities: &Capabilities) -> bool {
        let Facts { on, lightness, temperature, hue, saturation, level } = self.facts;
        (on.is_some() || !capabilities.on_off)
            && (lightness.is_some() || !capabilities.lightness)
            && (temperature.is_some() || capabilities.temperature.is_none())
            && (hue.and(saturation).is_some() || capabilities.colour.is_none())
            && (level.is_some() || !capabilities.level)
            && (!self.measured.is_empty() || !capabilities.sensor)
            && (self.battery.is_some() || !capabilities.battery)
    }

    /// The state as it is published: `null` until read.
    pub(crate) fn to_json(&self, capabilities: &Capabilities) -> Map<String, Value> {
        let mut members = Map::new();
        let mut insert = |name: &str, value: Value| _ = members.insert(name.to_owned(), value);
        let facts = &self.facts;
        if capabilities.on_off {
            insert("state", facts.on.map_or(Value::Null, |on| json!(on_off(on))));
        }
        if capabilities.lightness {
            insert("brightness", json!(facts.lightness.map(brightness_of)));
        }
        if capabilities.temperature.is_some() {
            insert("color_temp", json!(facts.temperature.map(mireds_of)));
        }
        if capabilities.colour.is_some() {
            let hue = facts.hue.map(degrees_of).map(number);
            let saturation = facts.saturation.map(percent_of).map(number);
            // The long names are zigbee2mqtt's, the short ones Home Assistant's.
            insert("color", json!({"hue": hue, "saturation": saturation, "h": hue, "s": saturation}));
        }
        // Home Assistant takes the mode for a promise that the colour is there.
        let is_told = match color_mode(capabilities) {
            Some("hs") => facts.hue.and(facts.saturation).is_some(),
            Some("color_temp") => facts.temperature.is_some(),
            _ => true,
        };
        if let Some(mode) = color_mode(capabilities).filter(|_| is_told) {
            insert("color_mode", json!(mode));
        }
        if capabilities.level {
            insert("level", json!(facts.level));
        }
        if capabilities.battery {
            insert("battery", json!(self.battery));
        }
        for (attribute, value) in &self.measured {
            insert(attribute, value.clone());
        }
        members
    }
}

/// The mode in which a lamp's colour is said, in Home Assistant's words. A lamp with both is shown by its colour.
pub(crate) fn color_mode(capabilities: &Capabilities) -> Option<&'static str> {
    if capabilities.colour.is_some() {
        Some("hs")
    } else if capabilities.temperature.is_some() {
        Some("color_temp")
    } else if capabilities.lightness {
        Some("brightness")
    } else {
        None
    }
}

/// How a state is written in topics.
pub(crate) fn on_off(on: bool) -> &'static str {
    if on { "ON" } else { "OFF" }
}

/// A whole number without a fraction.
pub(crate) fn number(value: f64) -> Value {
    #[allow(clippy::cast_possible_truncation, reason = "whole numbers of this size are exact")]
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lamp() -> Capabilities {
        Capabilities { on_off: true, lightness: true, ..Capabilities::default() }
    }

    #[test]
    fn a_state_is_null_until_it_was_confirmed() {
        let mut shadow = Shadow::default();
        let json = |shadow: &Shadow| Value::Object(shadow.to_json(&lamp()));
        assert_eq!(json(&shadow), json!({"state": null, "brightness": null, "color_mode": "brightness"}));
        assert!(!shadow.is_complete(&lamp()));
        assert!(shadow.confirm(&Facts::lightness(0xffff)));
        assert!(!shadow.confirm(&Facts::lightness(0xffff)));
        assert_eq!(json(&shadow), json!({"state": "ON", "brightness": 254, "color_mode": "brightness"}));
        assert!(shadow.is_complete(&lamp()));
    }

    #[test]
    fn what_a_message_does_not_say_is_not_invented() {
        let mut shadow = Shadow::default();
        shadow.confirm(&Facts::lightness(5_000));
        let on = |on| Facts { on: Some(on), ..Facts::default() };
        shadow.confirm(&on(false));
        assert_eq!(shadow.facts().lightness, Some(0), "off is dark");
        shadow.confirm(&on(true));
        assert_eq!(shadow.facts().lightness, None, "on is not a number");
    }

    #[test]
    fn whole_numbers_are_written_as_such() {
        assert_eq!([120.0, 0.5, -3.0].map(|x| number(x).to_string()), ["120", "0.5", "-3"]);
    }
}
