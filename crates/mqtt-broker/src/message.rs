use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use mqtt_wire::{Properties, Publish, QoS, Text, TopicName, Will};

use crate::memory::Charge;

/// An application message on its way through the broker. It is shared, never copied.
#[derive(Debug)]
pub struct Message {
    /// Where it was published.
    pub topic: TopicName,
    /// What it says.
    pub payload: Bytes,
    /// The QoS with which it was published.
    pub qos: QoS,
    /// Whether it was published to be retained.
    pub retain: bool,
    /// What a receiver of MQTT 5.0 gets of its properties; without the Message Expiry Interval. Most messages have none,
    /// and there may be millions of them.
    pub properties: Option<Box<Properties>>,
    /// Who published it, for No Local; empty: the server itself.
    pub publisher: Text,
    /// When it is of no use any more.
    pub expires: Option<Instant>,
    _charge: Option<Charge>,
}

/// What a message takes beside its topic and payload: about the size of its parts and of its place in a queue.
const OVERHEAD: usize = 256;

impl Message {
    /// What `publisher` published at `now`.
    pub fn of_publish(now: Instant, publisher: Text, publish: Publish) -> Self {
        let Publish { qos, retain, topic, mut properties, payload, .. } = publish;
        let expiry = properties.message_expiry_interval.take();
        let expires = expiry.map(|seconds| now + Duration::from_secs(seconds.into()));
        let properties = (properties != Properties::default()).then(|| Box::new(properties));
        Self { topic, payload, qos, retain, properties, publisher, expires, _charge: None }
    }

    /// The will of `publisher`, published at `now`.
    pub(crate) fn of_will(now: Instant, publisher: Text, will: Will) -> Self {
        let Will { topic, payload, qos, retain, mut properties } = will;
        properties.will_delay_interval = None;
        let publish = Publish { retain, properties, ..Publish::new(topic, qos, payload) };
        Self::of_publish(now, publisher, publish)
    }

    /// The same, counted as memory that is used.
    pub(crate) fn charged(self, counter: &Arc<AtomicUsize>) -> Self {
        let bytes = self.size();
        Self { _charge: Some(Charge::new(counter, bytes)), ..self }
    }

    /// The bytes that it counts for.
    pub(crate) fn size(&self) -> usize {
        let pairs = |properties: &Properties| -> usize {
            properties.user_properties.iter().map(|(name, value)| name.len() + value.len()).sum()
        };
        let properties = self.properties.as_ref().map_or(0, |x| size_of::<Properties>() + pairs(x));
        OVERHEAD + self.topic.as_bytes().len() + self.payload.len() + properties
    }

    /// Whether it is of no use any more.
    pub(crate) fn has_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// The PUBLISH for a receiver: the Message Expiry Interval is what is left of it (§3.3.2.3.3).
    pub(crate) fn to_publish(&self, now: Instant, qos: QoS, retain: bool) -> Publish {
        let mut properties = self.properties.as_deref().cloned().unwrap_or_default();
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
