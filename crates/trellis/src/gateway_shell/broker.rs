//! The gateway's connection to its broker: made, lost, and made again, with nothing lost on the way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use gateway::{Gateway, Publication};
use mqtt_client::{Client, Messages, Options};
use mqtt_server::Server;
use mqtt_wire::{
    Properties, Publish, QoS, RetainHandling, SubscribeFilter, SubscriptionOptions, TopicFilter, TopicName,
    Version, Will,
};
use tokio::sync::mpsc;

/// Publications that may be on their way to the broker.
const PUBLISH_QUEUE: usize = 64;

/// How long the broker keeps what is sent to a gateway that has lost its connection, in seconds.
const SESSION_EXPIRY: u32 = 300;

/// The pauses between attempts to connect: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Where the gateway's topics are.
#[derive(Clone, Debug)]
pub(crate) enum Broker {
    /// The broker of this program.
    Beside(Arc<Server>),
    /// Another one, over TCP.
    Elsewhere(Remote),
}

/// How to reach a broker elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    /// `host:port`.
    pub(crate) address: String,
    pub(crate) client_id: String,
    pub(crate) version: Version,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Vec<u8>>,
}

/// A connection with all subscriptions made.
pub(super) struct Connection {
    messages: Messages,
    client: Client,
    publish: mpsc::Sender<Publication>,
    published: mpsc::Receiver<()>,
    /// What the broker has not acknowledged, in order.
    unacknowledged: VecDeque<Publication>,
}

/// What a connection brings.
pub(super) enum Happening {
    Message(Box<Publish>),
    /// The broker has taken this.
    Published(Publication),
    /// It is over.
    Lost(String),
}

impl Broker {
    /// Connects, however long that takes. A broker elsewhere is tried again, ever more rarely.
    ///
    /// # Errors
    /// When trying again would not help.
    pub(super) async fn connect(&self, request: Request) -> anyhow::Result<Connection> {
        let mut pause = FIRST_PAUSE;
        let mut has_complained = false;
        loop {
            let error = match self.try_connect(&request).await {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            let Self::Elsewhere(remote) = self else { return Err(error) };
            if !has_complained {
                tracing::warn!(
                    broker = remote.address,
                    "the gateway has no broker, and tries again: {error:#}"
                );
                has_complained = true;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn try_connect(&self, request: &Request) -> anyhow::Result<Connection> {
        let (client, messages) = match self {
            Self::Beside(server) => {
                let options = Options { will: Some(request.will.clone()), ..Options::new("trellis-gateway") };
                Client::connect(server.connect_local(), options).await?
            }
            Self::Elsewhere(remote) => {
                let options = Options {
                    version: remote.version,
                    clean_start: false,
                    session_expiry_interval: Some(SESSION_EXPIRY),
                    username: remote.username.clone(),
                    password: remote.password.clone(),
                    will: Some(request.will.clone()),
                    ..Options::new(&remote.client_id)
                };
                Client::connect_tcp(&remote.address, options).await?
            }
        };
        for reason in client.subscribe(request.subscriptions.clone()).await? {
            anyhow::ensure!(!reason.is_error(), "the broker refused a subscription of the gateway: {reason}");
        }
        let (publish, publications) = mpsc::channel(PUBLISH_QUEUE);
        let (acknowledge, published) = mpsc::channel(PUBLISH_QUEUE);
        tokio::spawn(publish_all(client.clone(), publications, acknowledge));
        Ok(Connection { messages, client, publish, published, unacknowledged: VecDeque::new() })
    }
}

/// What a connection is made with.
#[derive(Clone, Debug)]
pub(super) struct Request {
    will: Will,
    subscriptions: Vec<SubscribeFilter>,
}

impl Request {
    pub(super) fn of(gateway: &Gateway) -> anyhow::Result<Self> {
        let will = gateway.will();
        let will = Will {
            topic: TopicName::new(&will.topic)?,
            payload: will.payload.into(),
            qos: QoS::AtLeastOnce,
            retain: will.retain,
            properties: Properties::default(),
        };
        let filter_of = |(filter, wants_retained): (String, bool)| {
            let options = SubscriptionOptions {
                qos: QoS::AtLeastOnce,
                // Its own messages are no commands.
                no_local: true,
                retain_handling: if wants_retained {
                    RetainHandling::Send
                } else {
                    RetainHandling::DoNotSend
                },
                ..SubscriptionOptions::default()
            };
            Ok(SubscribeFilter { filter: TopicFilter::new(&filter)?, options })
        };
        let subscriptions =
            gateway.subscriptions().into_iter().map(filter_of).collect::<anyhow::Result<_>>()?;
        Ok(Self { will, subscriptions })
    }
}

impl Connection {
    /// Whether one more publication can be sent now.
    pub(super) fn has_room(&self) -> bool {
        self.unacknowledged.len() < PUBLISH_QUEUE
    }

    pub(super) fn publish(&mut self, publication: Publication) {
        // The queue has room for all that may be unacknowledged; a lost connection is told by `next`.
        let _ = self.publish.try_send(publication.clone());
        self.unacknowledged.push_back(publication);
    }

    /// The next thing that happens.
    pub(super) async fn next(&mut self) -> Happening {
        tokio::select! {
            message = self.messages.next() => match message {
                Ok(message) => Happening::Message(Box::new(message)),
                Err(error) => Happening::Lost(error.to_string()),
            },
            Some(()) = self.published.recv() => match self.unacknowledged.pop_front() {
                Some(publication) => Happening::Published(publication),
                None => Happening::Lost("more was acknowledged than sent".to_owned()),
            },
        }
    }

    /// What the broker may not have, and cannot be made anew.
    pub(super) fn into_unacknowledged(self) -> Vec<Publication> {
        let is_worth = |publication: &Publication| !publication.retain || publication.payload.is_empty();
        self.unacknowledged.into_iter().filter(is_worth).collect()
    }

    /// Publishes the last words, waits until the broker has all, and says goodbye.
    pub(super) async fn close(mut self, last: Publication) -> anyhow::Result<()> {
        self.publish.send(last.clone()).await.context("the publisher has ended")?;
        self.unacknowledged.push_back(last);
        while !self.unacknowledged.is_empty() {
            match self.next().await {
                Happening::Lost(error) => anyhow::bail!("the connection was lost at the end: {error}"),
                Happening::Message(_) | Happening::Published(_) => {}
            }
        }
        drop(self.publish);
        self.client.disconnect().await;
        Ok(())
    }
}

/// Publishes in order, each message once the broker has the one before.
async fn publish_all(
    client: Client,
    mut publications: mpsc::Receiver<Publication>,
    acknowledge: mpsc::Sender<()>,
) {
    while let Some(publication) = publications.recv().await {
        let topic = publication.topic.clone();
        match publish_one(&client, publication).await {
            Ok(()) => {}
            Err(PublishError::Connection(_)) => return,
            Err(error) => tracing::warn!(topic, "the broker did not take a message: {error}"),
        }
        if acknowledge.send(()).await.is_err() {
            return;
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error("it was refused: {0}")]
    Refused(mqtt_wire::ReasonCode),
    #[error(transparent)]
    Topic(#[from] mqtt_wire::TopicError),
    #[error(transparent)]
    Send(mqtt_client::Error),
    #[error(transparent)]
    Connection(mqtt_client::Error),
}

async fn publish_one(client: &Client, publication: Publication) -> Result<(), PublishError> {
    let Publication { topic, payload, retain, correlation_data } = publication;
    let topic = TopicName::new(&topic)?;
    let mut publish = Publish { retain, ..Publish::new(topic, QoS::AtLeastOnce, payload) };
    publish.properties.correlation_data = correlation_data;
    match client.publish(publish).await {
        Ok(reason) if reason.is_error() => Err(PublishError::Refused(reason)),
        Ok(_) => Ok(()),
        Err(error @ mqtt_client::Error::Send(_)) => Err(PublishError::Send(error)),
        Err(error) => Err(PublishError::Connection(error)),
    }
}
