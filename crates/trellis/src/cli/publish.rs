use std::io::{BufRead as _, Read as _};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use mqtt_client::Client;
use mqtt_wire::{Properties, QoS, Text, TopicName};

use super::client::{Connection, key_value, qos, user_properties};

/// Publish a message
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Publish {
    #[command(flatten)]
    connection: Connection,
    /// The topic
    #[arg(short, long)]
    topic: String,
    /// The payload
    #[arg(short, long, default_value = "")]
    message: String,
    /// Take the payload from the standard input, all of it
    #[arg(short, long, conflicts_with = "message")]
    stdin: bool,
    /// Publish each line of the standard input as a message
    #[arg(short = 'M', long, conflicts_with = "message")]
    multiline: bool,
    /// Take the payload from a file
    #[arg(long, conflicts_with_all = ["message", "stdin", "multiline"])]
    file_read: Option<std::path::PathBuf>,
    /// Quality of Service: 0, 1 or 2
    #[arg(short, long, default_value = "0", value_parser = qos)]
    qos: QoS,
    /// Have the broker keep the message for later subscribers
    #[arg(short, long)]
    retain: bool,
    /// Say that the payload is UTF-8 (MQTT 5.0; -pf)
    #[arg(long)]
    payload_format_indicator: bool,
    /// Seconds that the message is of use (MQTT 5.0)
    #[arg(short = 'e', long)]
    message_expiry_interval: Option<u32>,
    /// Where an answer is wanted (MQTT 5.0; -rt)
    #[arg(long)]
    response_topic: Option<String>,
    /// What the answer has to carry (MQTT 5.0; -cd)
    #[arg(long)]
    correlation_data: Option<String>,
    /// User Properties, as `name: value` (MQTT 5.0; -up)
    #[arg(long, num_args = 1.., value_parser = key_value)]
    user_properties: Vec<(String, String)>,
    /// What kind of content it is (MQTT 5.0; -ct)
    #[arg(long)]
    content_type: Option<String>,
}

/// Publishes; returns when the broker has it, with QoS 1 and 2 when it said so.
pub(crate) async fn run(args: Publish) -> anyhow::Result<()> {
    let topic = TopicName::new(&args.topic).with_context(|| format!("{:?} is no topic", args.topic))?;
    let properties = Properties {
        payload_format_indicator: args.payload_format_indicator.then_some(true),
        message_expiry_interval: args.message_expiry_interval,
        response_topic: args.response_topic.as_deref().map(Text::new).transpose()?,
        correlation_data: args.correlation_data.clone().map(Bytes::from),
        content_type: args.content_type.as_deref().map(Text::new).transpose()?,
        user_properties: user_properties(&args.user_properties)?,
        ..Properties::default()
    };
    let message = |payload: Bytes| mqtt_wire::Publish {
        retain: args.retain,
        properties: properties.clone(),
        ..mqtt_wire::Publish::new(topic.clone(), args.qos, payload)
    };
    // A file that is not there is no reason to connect.
    let single = if args.multiline { None } else { Some(message(payload(&args)?)) };
    let (client, _messages) = args.connection.open().await?;
    match single {
        Some(message) => publish(&client, message).await?,
        None => {
            for line in std::io::stdin().lock().lines() {
                let line = line.context("cannot read the standard input")?;
                publish(&client, message(line.into())).await?;
            }
        }
    }
    client.disconnect().await;
    Ok(())
}

fn payload(args: &Publish) -> anyhow::Result<Bytes> {
    if args.stdin {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("cannot read the standard input")?;
        return Ok(bytes.into());
    }
    match &args.file_read {
        Some(path) => {
            let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(bytes.into())
        }
        None => Ok(args.message.clone().into()),
    }
}

async fn publish(client: &Client, message: mqtt_wire::Publish) -> anyhow::Result<()> {
    let reason = client.publish(message).await?;
    if reason.is_error() {
        bail!("the broker refused the message: {reason}");
    }
    Ok(())
}
