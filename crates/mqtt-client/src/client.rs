use std::sync::Arc;

use mqtt_wire::{ConnAck, Properties, Publish, ReasonCode, SubscribeFilter, TopicFilter};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};

use crate::broker::{Broker, Stream};
use crate::driver::{Driver, Ends, Request};
use crate::options::{ConnectError, Error, Options};

/// Messages that may wait to be taken before the connection is held back.
const MESSAGES: usize = 256;

/// Requests that may wait to be written.
const REQUESTS: usize = 64;

/// A connected client. Clones share the connection, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Client {
    requests: mpsc::Sender<Request>,
    status: watch::Receiver<Status>,
    connack: Arc<ConnAck>,
}

/// How the connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is there, and this is how the broker accepted it.
    Connected(Arc<ConnAck>),
    /// It was lost, and is being made again.
    Reconnecting {
        /// Why it was lost, or why the last attempt failed.
        error: String,
        /// The number of the attempt that comes next.
        attempt: u32,
    },
    /// It is over.
    Ended,
}

/// The messages that arrive.
#[derive(Debug)]
pub struct Messages {
    messages: mpsc::Receiver<Publish>,
    end: oneshot::Receiver<Error>,
}

impl Client {
    /// Connects to a broker, and again when the connection is lost, if [`Options::reconnect`] says so: what was not
    /// acknowledged is sent again, and what was subscribed to is, if the broker has forgotten it. What is asked for
    /// in between waits. Only the first attempt has to succeed.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn open(broker: Broker, options: Options) -> Result<(Self, Messages), ConnectError> {
        let timeout = || ConnectError::Timeout { address: broker.to_string() };
        let stream = tokio::time::timeout(options.timeout, broker.dial()).await.map_err(|_| timeout())??;
        Self::start(stream, Some(broker), options).await
    }

    /// Connects over TCP.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect_tcp(address: &str, options: Options) -> Result<(Self, Messages), ConnectError> {
        let network = |source| ConnectError::Network { address: address.to_owned(), source };
        let stream = TcpStream::connect(address).await.map_err(network)?;
        stream.set_nodelay(true).map_err(network)?;
        Self::connect(stream, options).await
    }

    /// Connects over any stream of bytes.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect<S>(stream: S, options: Options) -> Result<(Self, Messages), ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::start(Box::new(stream), None, options).await
    }

    async fn start(
        stream: Box<dyn Stream>,
        broker: Option<Broker>,
        options: Options,
    ) -> Result<(Self, Messages), ConnectError> {
        let (requests, request_receiver) = mpsc::channel(REQUESTS);
        let (message_sender, messages) = mpsc::channel(MESSAGES);
        let (end_sender, end) = oneshot::channel();
        let (status_sender, status) = watch::channel(Status::Ended);
        let ends = Ends { requests: request_receiver, messages: message_sender, status: status_sender };
        let (driver, connack) = Driver::connect(stream, broker, options, ends).await?;
        tokio::spawn(async move {
            let error = driver.run().await;
            // Nobody may be left to hear it.
            let _ = end_sender.send(error);
        });
        Ok((Self { requests, status, connack }, Messages { messages, end }))
    }

    /// What the broker said when it accepted the first connection.
    pub fn connack(&self) -> &ConnAck {
        &self.connack
    }

    /// How the connection is, now and whenever that changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Publishes a message. With QoS 0 this returns when it is on its way to the network; with QoS 1 and 2 when the
    /// broker has acknowledged it, with the broker's reason code. Waits while as many are on their way as the broker
    /// allows.
    ///
    /// # Errors
    /// Why it could not be sent, or that the connection ended before the acknowledgment.
    pub async fn publish(&self, publish: Publish) -> Result<ReasonCode, Error> {
        self.request(|answer| Request::Publish(Box::new(publish), answer)).await
    }

    /// Subscribes; returns the broker's reason code for each filter.
    ///
    /// # Errors
    /// Why it could not be sent, or that the connection ended before the answer.
    pub async fn subscribe(&self, filters: Vec<SubscribeFilter>) -> Result<Vec<ReasonCode>, Error> {
        self.subscribe_with(filters, Properties::default()).await
    }

    /// Subscribes with properties of SUBSCRIBE (MQTT 5.0): a Subscription Identifier, User Properties.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub async fn subscribe_with(
        &self,
        filters: Vec<SubscribeFilter>,
        properties: Properties,
    ) -> Result<Vec<ReasonCode>, Error> {
        self.request(|answer| Request::Subscribe(filters, Box::new(properties), answer)).await
    }

    /// Ends subscriptions; returns the broker's reason code for each filter, before MQTT 5.0 none.
    ///
    /// # Errors
    /// Why it could not be sent, or that the connection ended before the answer.
    pub async fn unsubscribe(&self, filters: Vec<TopicFilter>) -> Result<Vec<ReasonCode>, Error> {
        self.request(|answer| Request::Unsubscribe(filters, answer)).await
    }

    /// Proves the password again on the open connection (MQTT 5.0 §4.12.1), as a broker may want from time to time.
    /// Needs [`Options::scram`].
    ///
    /// # Errors
    /// Why it could not be asked for, or that the connection ended, as it does when the broker does not agree.
    pub async fn reauthenticate(&self) -> Result<(), Error> {
        self.request(Request::Reauthenticate).await
    }

    /// Says goodbye, so that the broker does not publish the will.
    pub async fn disconnect(self) {
        let (done, is_done) = oneshot::channel();
        if self.requests.send(Request::Disconnect(done)).await.is_ok() {
            let _ = is_done.await;
        }
    }

    async fn request<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Request,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(make(answer)).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }
}

impl Messages {
    /// The next message.
    ///
    /// # Errors
    /// Why the connection is over, after all that arrived before was taken.
    pub async fn next(&mut self) -> Result<Publish, Error> {
        if let Some(message) = self.messages.recv().await {
            return Ok(message);
        }
        Err((&mut self.end).await.unwrap_or(Error::Closed))
    }
}
