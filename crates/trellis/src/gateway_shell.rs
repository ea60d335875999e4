//! A gateway between a broker's connection and a radio. Carries messages and time, and decides nothing.

use anyhow::Context as _;
use clock::Instant;
use gateway::{Gateway, Inbox, Publication};
use mesh_proto::bearer::Transmission;
use mesh_sim::OwnedReceived;
use mqtt_client::{Client, Messages, Options};
use mqtt_wire::{
    Properties, Publish, QoS, RetainHandling, SubscribeFilter, SubscriptionOptions, TopicFilter, TopicName,
    Will,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};

use crate::status_page::{Device, Mesh};

/// Messages that may wait for the broker to take them.
const PUBLISH_QUEUE: usize = 1_024;

/// The time line that the gateway and the simulated medium share: microseconds since the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: std::time::Instant,
}

/// A radio: what it is to send, and what it hears.
#[derive(Debug)]
pub(crate) struct Radio {
    pub(crate) transmit: mpsc::Sender<Transmission>,
    pub(crate) received: mpsc::Receiver<OwnedReceived>,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: std::time::Instant::now() }
    }

    pub(crate) fn now(self) -> Instant {
        Instant::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Returns at `until`; never, if there is no such time.
    pub(crate) async fn sleep_until(self, until: Option<Instant>) {
        match until {
            Some(until) => tokio::time::sleep_until((self.origin + (until - Instant::ORIGIN)).into()).await,
            None => std::future::pending().await,
        }
    }
}

/// Runs the gateway over a connection to a broker until it is stopped.
pub(crate) async fn run<S>(
    mut gateway: Gateway,
    name: String,
    clock: Clock,
    stream: S,
    mut radio: Radio,
    mesh: watch::Sender<Mesh>,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (client, mut messages) = connect(&gateway, stream).await?;
    gateway.handle_connected();
    let (publish, publications) = mpsc::channel(PUBLISH_QUEUE);
    let publisher = tokio::spawn(publish_all(client.clone(), publications));
    mesh.send_modify(|mesh| mesh.name = name);
    loop {
        while let Some(transmission) = gateway.poll_transmit() {
            // The other end of the radio is there as long as this one.
            let _ = radio.transmit.send(transmission).await;
        }
        while let Some(publication) = gateway.poll_publish() {
            publish.send(publication).await.context("the connection to the broker was lost")?;
        }
        mesh.send_modify(|mesh| show(&gateway, mesh));
        tokio::select! {
            biased;
            _ = stop.wait_for(|&stop| stop) => break,
            () = clock.sleep_until(gateway.poll_timeout()) => gateway.handle_timeout(clock.now()),
            Some(received) = radio.received.recv() => gateway.handle_pdu(clock.now(), &received.as_received()),
            message = messages.next() => {
                let message = message.context("the gateway has lost its broker")?;
                gateway.handle_publish(clock.now(), &inbox(&message));
            }
        }
    }
    // What was decided is still published, and last of all that the gateway is gone.
    let _ = publish.send(gateway.will()).await;
    drop(publish);
    publisher.await.context("the publisher has crashed")?;
    client.disconnect().await;
    Ok(())
}

async fn connect<S>(gateway: &Gateway, stream: S) -> anyhow::Result<(Client, Messages)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let will = gateway.will();
    let options = Options {
        will: Some(Will {
            topic: TopicName::new(&will.topic)?,
            payload: will.payload.into(),
            qos: QoS::AtLeastOnce,
            retain: will.retain,
            properties: Properties::default(),
        }),
        ..Options::new("trellis-gateway")
    };
    let (client, messages) = Client::connect(stream, options).await.context("the gateway has no broker")?;
    let options = SubscriptionOptions {
        qos: QoS::AtLeastOnce,
        // Its own messages, and what is retained, are no commands.
        no_local: true,
        retain_handling: RetainHandling::DoNotSend,
        ..SubscriptionOptions::default()
    };
    let filter = TopicFilter::new(&gateway.subscription())?;
    for reason in client.subscribe(vec![SubscribeFilter { filter, options }]).await? {
        anyhow::ensure!(!reason.is_error(), "the broker refused the gateway's subscription: {reason}");
    }
    Ok((client, messages))
}

/// Publishes in order, each message once the broker has the one before.
async fn publish_all(client: Client, mut publications: mpsc::Receiver<Publication>) {
    while let Some(publication) = publications.recv().await {
        let topic = publication.topic.clone();
        if let Err(error) = publish_one(&client, publication).await {
            tracing::warn!(topic, %error, "the broker did not take a message");
        }
    }
}

async fn publish_one(client: &Client, publication: Publication) -> anyhow::Result<()> {
    let Publication { topic, payload, retain, correlation_data } = publication;
    let topic = TopicName::new(&topic)?;
    let mut publish = Publish { retain, ..Publish::new(topic, QoS::AtLeastOnce, payload) };
    publish.properties.correlation_data = correlation_data;
    let reason = client.publish(publish).await?;
    anyhow::ensure!(!reason.is_error(), "it was refused: {reason}");
    Ok(())
}

fn inbox(message: &Publish) -> Inbox<'_> {
    Inbox {
        topic: message.topic.as_str(),
        payload: &message.payload,
        retain: message.retain,
        response_topic: message.properties.response_topic.as_deref(),
        correlation_data: message.properties.correlation_data.clone(),
    }
}

/// What the status page shows of the gateway.
fn show(gateway: &Gateway, mesh: &mut Mesh) {
    let statistics = gateway.statistics();
    mesh.commands = statistics.commands;
    mesh.confirmed = statistics.confirmed;
    mesh.retries = statistics.retries;
    mesh.failed = statistics.failed;
    mesh.devices.clear();
    for device in gateway.devices() {
        let of = |name: &str, on| Device {
            name: name.to_owned(),
            address: device.address.to_string(),
            hops: device.hops,
            on,
        };
        if device.endpoints.is_empty() {
            mesh.devices.push(of(&device.name, None));
        }
        mesh.devices.extend(device.endpoints.iter().map(|endpoint| of(&endpoint.name, endpoint.shadow.on())));
    }
}
