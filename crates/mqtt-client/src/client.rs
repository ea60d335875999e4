use mqtt_wire::{ConnAck, Publish, ReasonCode, SubscribeFilter, TopicFilter};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::driver::{Driver, Request};
use crate::options::{ConnectError, Error, Options};

/// Messages that may wait to be taken before the connection is held back.
const MESSAGES: usize = 256;

/// Requests that may wait to be written.
const REQUESTS: usize = 64;

/// A connected client. Clones share the connection, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Client {
    requests: mpsc::Sender<Request>,
    connack: std::sync::Arc<ConnAck>,
}

/// The messages that arrive.
#[derive(Debug)]
pub struct Messages {
    messages: mpsc::Receiver<Publish>,
    end: oneshot::Receiver<Error>,
}

impl Client {
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
        let (requests, request_receiver) = mpsc::channel(REQUESTS);
        let (message_sender, messages) = mpsc::channel(MESSAGES);
        let (end_sender, end) = oneshot::channel();
        let (driver, connack) = Driver::connect(stream, &options, request_receiver, message_sender).await?;
        tokio::spawn(async move {
            let error = driver.run().await;
            // Nobody may be left to hear it.
            let _ = end_sender.send(error);
        });
        Ok((Self { requests, connack: connack.into() }, Messages { messages, end }))
    }

    /// What the broker said when it accepted the connection.
    pub fn connack(&self) -> &ConnAck {
        &self.connack
    }

    /// Publishes a message. With QoS 0 this returns when it is on its way to the network; with QoS 1 and 2 when the
    /// broker has acknowledged it, with the broker's reason code.
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
        self.request(|answer| Request::Subscribe(filters, answer)).await
    }

    /// Ends subscriptions; returns the broker's reason code for each filter, before MQTT 5.0 none.
    ///
    /// # Errors
    /// Why it could not be sent, or that the connection ended before the answer.
    pub async fn unsubscribe(&self, filters: Vec<TopicFilter>) -> Result<Vec<ReasonCode>, Error> {
        self.request(|answer| Request::Unsubscribe(filters, answer)).await
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
