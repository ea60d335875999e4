//! The lines, and what they are in the log.

use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use bytes::Bytes;
use mqtt_wire::{
    PacketId, Properties, Publish, QoS, RetainHandling, SubscriptionOptions, Text, TopicFilter, TopicName,
    Will,
};
use serde::{Deserialize, Serialize};

use super::Totals;
use super::import::LineError;
use crate::client::Subscription;
use crate::durable::record::{How, Ref, SessionRecord, Whole};

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) format: String,
    pub(super) version: u32,
}

/// Any other line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Session(Box<SessionLine>),
    Message(Box<MessageLine>),
    Sent(SentLine),
    End(Totals),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionLine {
    pub(super) client: String,
    expiry_s: u64,
    /// When its connection ended, in milliseconds since 1970; without it, it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    will: Option<Content>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    subscriptions: Vec<SubscriptionLine>,
    /// Packet identifiers of QoS 2 from the client that it has not released.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    receipts: Vec<u16>,
    /// Packet identifiers of QoS 2 to the client that it has and has not completed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    received: Vec<u16>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubscriptionLine {
    filter: String,
    qos: u8,
    #[serde(default, skip_serializing_if = "is_false")]
    no_local: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    retain_as_published: bool,
    retain_handling: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identifier: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MessageLine {
    pub(super) number: u64,
    pub(super) publisher: String,
    /// In milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_ms: Option<u64>,
    pub(super) content: Content,
    /// It is what is retained for its topic.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) is_retained: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) on_its_way: Option<OnItsWay>,
    /// Who has to get it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) receivers: Vec<Receiver>,
    /// Shared subscriptions that have to get it, and nobody of which has it yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) groups: Vec<String>,
}

/// Of a message that was not routed to the end: the shards that have not said who gets it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OnItsWay {
    pub(super) shards: Vec<u8>,
    pub(super) of_shards: u8,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) is_to_be_retained: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Receiver {
    pub(super) client: String,
    qos: u8,
    #[serde(default, skip_serializing_if = "is_false")]
    retain: bool,
    /// Subscription Identifiers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    identifiers: Vec<u32>,
    /// The shared subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SentLine {
    pub(super) client: String,
    pub(super) message: u64,
    pub(super) packet_id: u16,
}

/// What a PUBLISH and a will have in common.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Content {
    topic: String,
    qos: u8,
    #[serde(default, skip_serializing_if = "is_false")]
    retain: bool,
    /// In Base64, as all that need not be text.
    payload: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload_format_indicator: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    response_topic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation_data: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    user_properties: Vec<(String, String)>,
    /// Of a will only: a message has `expires_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message_expiry_interval: Option<u32>,
    /// Of a will only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    will_delay_interval: Option<u32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_false(is: &bool) -> bool {
    !is
}

impl SessionLine {
    pub(super) fn new(record: &SessionRecord, whole: &Whole) -> Self {
        let ids = |ids: &[PacketId]| ids.iter().map(|id| id.0.get()).collect();
        Self {
            client: record.client.as_str().to_owned(),
            expiry_s: record.expiry.as_secs(),
            left_ms: Some(record.left_ms).filter(|&ms| ms > 0),
            will: record.will.as_ref().map(Content::of_will),
            subscriptions: whole.subscriptions.iter().map(SubscriptionLine::new).collect(),
            receipts: ids(&whole.receipts),
            received: ids(&whole.received),
        }
    }

    pub(super) fn to_record(&self) -> Result<SessionRecord, LineError> {
        let ids = |ids: &[u16]| ids.iter().copied().map(packet_id).collect::<Result<Vec<_>, _>>();
        let subscriptions = self.subscriptions.iter().map(SubscriptionLine::to_subscription);
        Ok(SessionRecord {
            client: text(&self.client)?,
            expiry: Duration::from_secs(self.expiry_s),
            left_ms: self.left_ms.unwrap_or(0),
            will: self.will.as_ref().map(Content::to_will).transpose()?,
            whole: Some(Whole {
                subscriptions: subscriptions.collect::<Result<_, _>>()?,
                receipts: ids(&self.receipts)?,
                received: ids(&self.received)?,
            }),
        })
    }
}

impl SubscriptionLine {
    fn new((filter, subscription): &(TopicFilter, Subscription)) -> Self {
        let Subscription { options, identifier } = *subscription;
        Self {
            filter: filter.as_str().to_owned(),
            qos: options.qos as u8,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            retain_handling: options.retain_handling as u8,
            identifier,
        }
    }

    fn to_subscription(&self) -> Result<(TopicFilter, Subscription), LineError> {
        let retain_handling = match self.retain_handling {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(LineError::Value { what: "Retain Handling" }),
        };
        let options = SubscriptionOptions {
            qos: qos(self.qos)?,
            no_local: self.no_local,
            retain_as_published: self.retain_as_published,
            retain_handling,
        };
        Ok((filter(&self.filter)?, Subscription { options, identifier: self.identifier }))
    }
}

impl Receiver {
    pub(super) fn new(client: &Text, how: &How, group: Option<&TopicFilter>) -> Self {
        Self {
            client: client.as_str().to_owned(),
            qos: how.qos as u8,
            retain: how.retain,
            identifiers: how.identifiers.to_vec(),
            group: group.map(|group| group.as_str().to_owned()),
        }
    }

    pub(super) fn to_ref(&self) -> Result<Ref, LineError> {
        let how = How {
            qos: qos(self.qos)?,
            retain: self.retain,
            identifiers: self.identifiers.iter().copied().collect(),
        };
        let group = self.group.as_deref().map(filter).transpose()?;
        Ok(Ref { client: text(&self.client)?, how, group })
    }
}

impl Content {
    pub(super) fn of_publish(publish: &Publish) -> Self {
        let properties = &publish.properties;
        let string = |text: &Option<Text>| text.as_ref().map(|text| text.as_str().to_owned());
        let pair = |(name, value): &(Text, Text)| (name.as_str().to_owned(), value.as_str().to_owned());
        Self {
            topic: publish.topic.as_str().to_owned(),
            qos: publish.qos as u8,
            retain: publish.retain,
            payload: Base64::encode_string(&publish.payload),
            payload_format_indicator: properties.payload_format_indicator,
            content_type: string(&properties.content_type),
            response_topic: string(&properties.response_topic),
            correlation_data: properties.correlation_data.as_deref().map(Base64::encode_string),
            user_properties: properties.user_properties.iter().map(pair).collect(),
            message_expiry_interval: properties.message_expiry_interval,
            will_delay_interval: properties.will_delay_interval,
        }
    }

    fn of_will(will: &Will) -> Self {
        let Will { topic, payload, qos, retain, properties } = will.clone();
        Self::of_publish(&Publish { retain, properties, ..Publish::new(topic, qos, payload) })
    }

    pub(super) fn to_publish(&self) -> Result<Publish, LineError> {
        let topic = TopicName::new(&self.topic).map_err(|_| LineError::Value { what: "topic" })?;
        let mut publish = Publish::new(topic, qos(self.qos)?, binary(&self.payload)?);
        publish.retain = self.retain;
        let optional = |value: &Option<String>| value.as_deref().map(text).transpose();
        let pair = |(name, value): &(String, String)| Ok((text(name)?, text(value)?));
        let correlation_data = self.correlation_data.as_deref().map(binary).transpose()?;
        if correlation_data.as_ref().is_some_and(|data| data.len() > u16::MAX.into()) {
            return Err(LineError::Value { what: "correlation_data" });
        }
        publish.properties = Properties {
            payload_format_indicator: self.payload_format_indicator,
            content_type: optional(&self.content_type)?,
            response_topic: optional(&self.response_topic)?,
            correlation_data,
            user_properties: self.user_properties.iter().map(pair).collect::<Result<_, LineError>>()?,
            message_expiry_interval: self.message_expiry_interval,
            will_delay_interval: self.will_delay_interval,
            ..Properties::default()
        };
        Ok(publish)
    }

    fn to_will(&self) -> Result<Will, LineError> {
        let Publish { topic, payload, qos, retain, properties, .. } = self.to_publish()?;
        Ok(Will { topic, payload, qos, retain, properties })
    }
}

pub(super) fn text(text: &str) -> Result<Text, LineError> {
    Text::new(text).map_err(|_| LineError::Value { what: "text" })
}

pub(super) fn filter(filter: &str) -> Result<TopicFilter, LineError> {
    TopicFilter::new(filter).map_err(|_| LineError::Value { what: "topic filter" })
}

pub(super) fn packet_id(id: u16) -> Result<PacketId, LineError> {
    PacketId::new(id).ok_or(LineError::Value { what: "packet identifier" })
}

fn qos(qos: u8) -> Result<QoS, LineError> {
    QoS::try_from(qos).map_err(|_| LineError::Value { what: "QoS" })
}

fn binary(base64: &str) -> Result<Bytes, LineError> {
    Base64::decode_vec(base64).map(Bytes::from).map_err(|_| LineError::Value { what: "Base64" })
}
