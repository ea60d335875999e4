use anyhow::{Context as _, bail};
use mqtt_client::Client;
use mqtt_wire::{QoS, SubscribeFilter, SubscriptionOptions, TopicFilter};

use super::client::{Connection, qos};

/// Print the messages of topics
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Subscribe {
    #[command(flatten)]
    connection: Connection,
    /// A topic filter; may be given several times
    #[arg(short, long = "topic", required = true)]
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
}

/// Prints messages, a line each, until it is stopped or has printed as many as it should.
pub(crate) async fn run(args: Subscribe) -> anyhow::Result<()> {
    let options = SubscriptionOptions::at_most(args.qos);
    let mut filters = Vec::new();
    for topic in &args.topics {
        let filter = TopicFilter::new(topic).with_context(|| format!("{topic:?} is no topic filter"))?;
        filters.push(SubscribeFilter { filter, options });
    }
    let (client, mut messages) =
        Client::connect_tcp(&args.connection.address(), args.connection.options()?).await?;
    for (topic, reason) in args.topics.iter().zip(client.subscribe(filters).await?) {
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
        let payload = String::from_utf8_lossy(&message.payload);
        let line =
            if args.verbose { format!("{} {payload}\n", message.topic) } else { format!("{payload}\n") };
        super::print(&line)?;
        left = left.map(|left| left - 1);
    }
    client.disconnect().await;
    Ok(())
}
