//! Who asked for something, and how they are told how it ended.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::topics::Topics;

/// A client that gave a Response Topic (MQTT 5.0 §4.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requester {
    pub(crate) response_topic: String,
    pub(crate) correlation_data: Option<Bytes>,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The device confirmed it; its state.
    Confirmed { data: Value, attempts: u32 },
    /// It did not, or could not even be asked.
    Failed { error: String, attempts: u32 },
}

impl Requester {
    /// Takes a Response Topic, unless it is one on which a stranger could have the gateway write what the
    /// gateway itself, or the broker, is believed to have said.
    pub(crate) fn new(topics: &Topics, topic: &str, correlation_data: Option<Bytes>) -> Option<Self> {
        let harmless = !topics.owns(topic) && !topic.starts_with('$');
        harmless.then(|| Self { response_topic: topic.to_owned(), correlation_data })
    }
}

impl Outcome {
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Confirmed { data, attempts } => {
                json!({"status": "ok", "data": data, "attempts": attempts})
            }
            Self::Failed { error, attempts } => {
                json!({"status": "error", "error": error, "attempts": attempts})
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_have_the_gateway_write_into_its_own_tree_or_the_brokers() {
        let topics = Topics::new("mesh", None);
        for topic in ["mesh", "mesh/lamp", "mesh/lamp/set", "$SYS/x"] {
            assert_eq!(Requester::new(&topics, topic, None), None, "{topic}");
        }
        assert!(Requester::new(&topics, "replies/7", None).is_some());
    }
}
