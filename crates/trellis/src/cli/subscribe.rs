use anyhow::{Context as _, bail};
use mqtt_wire::{
    Properties, Publish, QoS, RetainHandling, SubscribeFilter, SubscriptionOptions, TopicFilter,
};

use super::client::{Connection, key_value, qos, user_properties};

/// Print the messages of topics
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Subscribe {
    #[command(flatten)]
    connection: Connection,
    /// A topic filter; may be given several times
    #[arg(short, long = "topic", required = true, num_args = 1..)]
    topics: Vec<String>,
    /// The most Quality of Service that is wanted: 0, 1 or 2
    #[arg(short, long, default_value = "0", value_parser = qos)]
    qos: QoS,
    /// Print the topic before the payload
    #[arg(short, long)]
    verbose: bool,
    /// End after so many messages
    #[arg(long)]
    count: Option<u64>,
    /// Do not get what this client publishes itself (MQTT 5.0; -nl)
    #[arg(long = "no_local", visible_alias = "no-local")]
    no_local: bool,
    /// Have RETAIN arrive as it was published (MQTT 5.0; -rap)
    #[arg(long)]
    retain_as_published: bool,
    /// Get retained messages always (0), only for a new subscription (1), or never (2) (MQTT 5.0; -rh)
    #[arg(long, default_value = "0", value_parser = retain_handling)]
    retain_handling: RetainHandling,
    /// A number that comes with the messages of this subscription (MQTT 5.0; -si)
    #[arg(long)]
    subscription_identifier: Option<u32>,
    /// User Properties of SUBSCRIBE, as `name: value` (MQTT 5.0; -up)
    #[arg(long, num_args = 1.., value_parser = key_value)]
    user_properties: Vec<(String, String)>,
    /// How payloads are printed
    #[arg(short, long, value_enum, default_value = "text")]
    format: Format,
    /// `clean` prints each message with its properties, as a line of JSON
    #[arg(long, value_enum, default_value = "default")]
    output_mode: OutputMode,
}

/// How a payload is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Hex,
    /// On one line
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum OutputMode {
    Default,
    Clean,
}

/// Prints messages, a line each, until it is stopped or has printed as many as it should.
pub(crate) async fn run(args: Subscribe) -> anyhow::Result<()> {
    let options = SubscriptionOptions {
        qos: args.qos,
        no_local: args.no_local,
        retain_as_published: args.retain_as_published,
        retain_handling: args.retain_handling,
    };
    let mut filters = Vec::new();
    for topic in &args.topics {
        let filter = TopicFilter::new(topic).with_context(|| format!("{topic:?} is no topic filter"))?;
        filters.push(SubscribeFilter { filter, options });
    }
    let properties = Properties {
        subscription_identifiers: args.subscription_identifier.into_iter().collect(),
        user_properties: user_properties(&args.user_properties)?,
        ..Properties::default()
    };
    let (client, mut messages) = args.connection.open().await?;
    for (topic, reason) in args.topics.iter().zip(client.subscribe_with(filters, properties).await?) {
        if reason.is_error() {
            bail!("the broker refused the subscription to {topic:?}: {reason}");
        }
    }
    let mut left = args.count;
    while left != Some(0) {
        let message = tokio::select! {
            message = messages.next() => message?,
            stopped = crate::stop::requested() => {
                stopped?;
                break;
            }
        };
        super::print(&args.line(&message))?;
        left = left.map(|left| left - 1);
    }
    client.disconnect().await;
    Ok(())
}

impl Subscribe {
    fn line(&self, message: &Publish) -> String {
        let payload = self.format.show(&message.payload);
        if self.output_mode == OutputMode::Clean {
            return format!("{}\n", as_json(message, &payload));
        }
        if self.verbose { format!("{} {payload}\n", message.topic) } else { format!("{payload}\n") }
    }
}

impl Format {
    fn show(self, payload: &[u8]) -> String {
        let text = || String::from_utf8_lossy(payload).into_owned();
        match self {
            Self::Text => text(),
            Self::Hex => payload.iter().map(|byte| format!("{byte:02x}")).collect(),
            // What is no JSON is shown as it is.
            Self::Json => serde_json::from_slice::<serde_json::Value>(payload)
                .map_or_else(|_| text(), |value| value.to_string()),
        }
    }
}

fn as_json(message: &Publish, payload: &str) -> serde_json::Value {
    let properties = &message.properties;
    let user: Vec<[&str; 2]> =
        properties.user_properties.iter().map(|(name, value)| [name.as_str(), value.as_str()]).collect();
    serde_json::json!({
        "topic": message.topic.as_str(),
        "payload": payload,
        "packet": {
            "qos": message.qos as u8,
            "retain": message.retain,
            "dup": message.dup,
            "properties": {
                "payloadFormatIndicator": properties.payload_format_indicator,
                "messageExpiryInterval": properties.message_expiry_interval,
                "contentType": properties.content_type.as_deref(),
                "responseTopic": properties.response_topic.as_deref(),
                "correlationData": properties.correlation_data.as_ref().map(|data| String::from_utf8_lossy(data)),
                "subscriptionIdentifier": properties.subscription_identifiers.to_vec(),
                "userProperties": user,
            },
        },
    })
}

fn retain_handling(text: &str) -> Result<RetainHandling, String> {
    match text {
        "0" => Ok(RetainHandling::Send),
        "1" => Ok(RetainHandling::SendIfNew),
        "2" => Ok(RetainHandling::DoNotSend),
        _ => Err("it can be 0, 1 or 2".to_owned()),
    }
}
