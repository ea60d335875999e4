use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use mqtt_wire::{Properties, Publish, QoS, Text, TopicName, Will};

/// An application message on its way through the broker. It is shared, never copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub topic: TopicName,
    /// What it says.
    pub payload: Bytes,
    /// The QoS with which it was published.
    pub qos: QoS,
    /// Whether it was published to be retained.
    pub retain: bool,
    /// What a receiver of MQTT 5.0 gets of its properties; without the Message Expiry Interval.
    pub properties: Properties,
    /// Who published it, for No Local.
    pub publisher: Text,
    /// When it is of no use any more.
    pub expires: Option<Instant>,
}

impl Message {
    /// What `publisher` published at `now`.
    pub(crate) fn of_publish(now: Instant, publisher: Text, publish: Publish) -> Self {
        let Publish { qos, retain, topic, properties, payload, .. } = publish;
        Self::new(now, publisher, topic, payload, qos, retain, properties)
    }

    /// The will of `publisher`, published at `now`.
    pub(crate) fn of_will(now: Instant, publisher: Text, will: Will) -> Self {
        let Will { topic, payload, qos, retain, properties } = will;
        Self::new(now, publisher, topic, payload, qos, retain, properties)
    }

    fn new(
        now: Instant,
        publisher: Text,
        topic: TopicName,
        payload: Bytes,
        qos: QoS,
        retain: bool,
        mut properties: Properties,
    ) -> Self {
        let expiry = properties.message_expiry_interval.take();
        properties.will_delay_interval = None;
        let expires = expiry.map(|seconds| now + Duration::from_secs(seconds.into()));
        Self { topic, payload, qos, retain, properties, publisher, expires }
    }

    /// Whether it is of no use any more.
    pub(crate) fn has_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// The PUBLISH for a receiver: the Message Expiry Interval is what is left of it (§3.3.2.3.3).
    pub(crate) fn to_publish(&self, now: Instant, qos: QoS, retain: bool) -> Publish {
        let mut properties = self.properties.clone();
        properties.message_expiry_interval =
            self.expires.map(|expires| u32::try_from((expires - now).as_secs()).unwrap_or(u32::MAX));
        Publish {
            dup: false,
            qos,
            retain,
            topic: self.topic.clone(),
            packet_id: None,
            properties,
            payload: self.payload.clone(),
        }
    }
}
