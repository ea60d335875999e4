//! What the mesh has confirmed, kept apart from what anybody asked for.

use serde_json::{Map, Value, json};

/// The last confirmed state of one element. A member is `None` until the element has said it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shadow {
    on: Option<bool>,
}

impl Shadow {
    /// Whether the element is on.
    pub fn on(&self) -> Option<bool> {
        self.on
    }

    /// Takes what a Status message says of the present state; tells whether that is news.
    pub(crate) fn confirm_on(&mut self, on: bool) -> bool {
        self.on.replace(on) != Some(on)
    }

    /// The state as it is published: `null` until read.
    pub(crate) fn to_json(&self) -> Value {
        let mut members = Map::new();
        members.insert("state".to_owned(), self.on.map_or(Value::Null, |on| json!(on_off(on))));
        Value::Object(members)
    }
}

/// How a state is written in topics.
pub(crate) fn on_off(on: bool) -> &'static str {
    if on { "ON" } else { "OFF" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_null_until_it_was_confirmed() {
        let mut shadow = Shadow::default();
        assert_eq!(shadow.to_json(), json!({"state": null}));
        assert!(shadow.confirm_on(false));
        assert!(!shadow.confirm_on(false));
        assert_eq!(shadow.to_json(), json!({"state": "OFF"}));
    }
}
