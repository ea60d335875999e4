use std::io::Read as _;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use mqtt_client::Client;
use mqtt_wire::{QoS, Text, TopicName};

use super::client::{Connection, qos};

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
    /// Quality of Service: 0, 1 or 2
    #[arg(short, long, default_value = "0", value_parser = qos)]
    qos: QoS,
    /// Have the broker keep the message for later subscribers
    #[arg(short, long)]
    retain: bool,
    /// Where an answer is wanted (MQTT 5.0)
    #[arg(long)]
    response_topic: Option<String>,
    /// What the answer has to carry (MQTT 5.0)
    #[arg(long)]
    correlation_data: Option<String>,
}

/// Publishes the message; returns when the broker has it, with QoS 1 and 2 when it said so.
pub(crate) async fn run(args: Publish) -> anyhow::Result<()> {
    let topic = TopicName::new(&args.topic).with_context(|| format!("{:?} is no topic", args.topic))?;
    let payload = if args.stdin {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("cannot read the standard input")?;
        Bytes::from(bytes)
    } else {
        Bytes::from(args.message)
    };
    let mut publish =
        mqtt_wire::Publish { retain: args.retain, ..mqtt_wire::Publish::new(topic, args.qos, payload) };
    publish.properties.response_topic = args.response_topic.as_deref().map(Text::new).transpose()?;
    publish.properties.correlation_data = args.correlation_data.map(Bytes::from);
    let (client, _messages) =
        Client::connect_tcp(&args.connection.address(), args.connection.options()?).await?;
    let reason = client.publish(publish).await?;
    if reason.is_error() {
        bail!("the broker refused the message: {reason}");
    }
    client.disconnect().await;
    Ok(())
}
