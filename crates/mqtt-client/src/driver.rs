//! The task behind a client. It carries bytes and time; what they mean is decided in `mqtt-proto`.

use std::collections::{HashMap, VecDeque};

use bytes::BytesMut;
use clock::Instant;
use mqtt_proto::client::{ClientConnection, Event, SendError};
use mqtt_wire::{ConnAck, PacketId, Publish, QoS, ReasonCode, SubscribeFilter, TopicFilter};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};

use crate::options::{ConnectError, Error, Options};

type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// What a client asks its task for.
#[derive(Debug)]
pub(crate) enum Request {
    Publish(Box<Publish>, Answer<ReasonCode>),
    Subscribe(Vec<SubscribeFilter>, Answer<Vec<ReasonCode>>),
    Unsubscribe(Vec<TopicFilter>, Answer<Vec<ReasonCode>>),
    Disconnect(oneshot::Sender<()>),
}

pub(crate) struct Driver<S> {
    connection: ClientConnection,
    origin: std::time::Instant,
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    input: BytesMut,
    requests: mpsc::Receiver<Request>,
    messages: mpsc::Sender<Publish>,
    /// Messages that arrived and were not taken yet. While there are some, nothing more is read.
    backlog: VecDeque<Publish>,
    published: HashMap<PacketId, Answer<ReasonCode>>,
    answered: HashMap<PacketId, Answer<Vec<ReasonCode>>>,
    /// A message for which there is no room in the broker's Receive Maximum.
    waiting: Option<(Box<Publish>, Answer<ReasonCode>)>,
    /// All handles are gone: nothing is asked for any more, but messages may still be wanted.
    is_orphaned: bool,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Driver<S> {
    /// Connects, up to the broker's CONNACK.
    pub(crate) async fn connect(
        stream: S,
        options: &Options,
        requests: mpsc::Receiver<Request>,
        messages: mpsc::Sender<Publish>,
    ) -> Result<(Self, ConnAck), ConnectError> {
        let connect = options.connect()?;
        let origin = std::time::Instant::now();
        let connection =
            ClientConnection::new(Instant::ORIGIN, &connect, options.max_packet_size, options.timeout)?;
        let (reader, writer) = tokio::io::split(stream);
        let mut driver = Self {
            connection,
            origin,
            reader,
            writer,
            input: BytesMut::new(),
            requests,
            messages,
            backlog: VecDeque::new(),
            published: HashMap::new(),
            answered: HashMap::new(),
            waiting: None,
            is_orphaned: false,
        };
        loop {
            driver.flush().await?;
            tokio::select! {
                read = driver.reader.read_buf(&mut driver.input) => driver.handle_read(read)?,
                () = sleep(driver.origin, driver.connection.poll_timeout()) => driver.handle_timeout()?,
            }
            while let Some(event) = driver.connection.poll_event() {
                if let Event::Connected(connack) = event {
                    driver.take_events();
                    return Ok((driver, *connack));
                }
            }
        }
    }

    /// Serves the connection to its end, and says why it ended.
    pub(crate) async fn run(mut self) -> Error {
        let error = loop {
            match self.step().await {
                Ok(true) => {}
                Ok(false) => break Error::Closed,
                Err(error) => break error,
            }
        };
        self.take_events();
        let (messages, backlog) = self.into_messages();
        for message in backlog {
            if messages.send(message).await.is_err() {
                break;
            }
        }
        error
    }

    /// What arrived before the end, which is still handed out. The rest is gone, so nobody waits for an answer.
    fn into_messages(self) -> (mpsc::Sender<Publish>, VecDeque<Publish>) {
        (self.messages, self.backlog)
    }

    /// One turn; `false` after the client's goodbye.
    async fn step(&mut self) -> Result<bool, Error> {
        self.take_events();
        self.send_waiting();
        self.flush().await?;
        let may_read = self.backlog.is_empty();
        self.excuse_unread();
        let may_request = self.waiting.is_none() && !self.is_orphaned;
        tokio::select! {
            read = self.reader.read_buf(&mut self.input), if may_read => self.handle_read(read)?,
            () = sleep(self.origin, self.connection.poll_timeout()) => self.handle_timeout()?,
            request = self.requests.recv(), if may_request => match request {
                Some(request) => return self.handle_request(request).await,
                None => self.is_orphaned = true,
            },
            () = self.messages.closed(), if self.is_orphaned => {
                self.say_goodbye().await?;
                return Ok(false);
            }
            permit = self.messages.clone().reserve_owned(), if !may_read => {
                match (permit, self.backlog.pop_front()) {
                    (Ok(permit), Some(message)) => _ = permit.send(message),
                    // Nobody takes messages any more.
                    _ => self.backlog.clear(),
                }
            }
        }
        Ok(true)
    }

    fn handle_read(&mut self, read: std::io::Result<usize>) -> Result<(), Error> {
        match read {
            Ok(0) => Err(Error::Lost("the broker closed it".to_owned())),
            Err(error) => Err(Error::Lost(error.to_string())),
            Ok(_) => {
                let now = self.now();
                Ok(self.connection.handle_bytes(now, &mut self.input)?)
            }
        }
    }

    /// While nothing is read, no answer can be missed.
    fn excuse_unread(&mut self) {
        if !self.backlog.is_empty() {
            self.connection.postpone_answer(self.now());
        }
    }

    fn handle_timeout(&mut self) -> Result<(), Error> {
        self.excuse_unread();
        let now = self.now();
        Ok(self.connection.handle_timeout(now)?)
    }

    async fn handle_request(&mut self, request: Request) -> Result<bool, Error> {
        let now = self.now();
        // Whoever asked may have stopped waiting.
        match request {
            Request::Publish(publish, answer) => self.publish(publish, answer),
            Request::Subscribe(filters, answer) => match self.connection.subscribe(now, filters) {
                Ok(id) => _ = self.answered.insert(id, answer),
                Err(error) => _ = answer.send(Err(error.into())),
            },
            Request::Unsubscribe(filters, answer) => match self.connection.unsubscribe(now, filters) {
                Ok(id) => _ = self.answered.insert(id, answer),
                Err(error) => _ = answer.send(Err(error.into())),
            },
            Request::Disconnect(done) => {
                self.say_goodbye().await?;
                let _ = done.send(());
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn say_goodbye(&mut self) -> Result<(), Error> {
        let now = self.now();
        self.connection.disconnect(now, ReasonCode::NORMAL_DISCONNECTION);
        self.flush().await?;
        self.writer.shutdown().await.map_err(|error| Error::Lost(error.to_string()))
    }

    fn publish(&mut self, publish: Box<Publish>, answer: Answer<ReasonCode>) {
        let now = self.now();
        let qos = publish.qos;
        match self.connection.publish(now, (*publish).clone()) {
            Ok(Some(id)) => _ = self.published.insert(id, answer),
            Ok(None) => {
                debug_assert_eq!(qos, QoS::AtMostOnce);
                let _ = answer.send(Ok(ReasonCode::Success));
            }
            // It waits, and with it all that is asked for after it, until an acknowledgment makes room.
            Err(SendError::Full) => self.waiting = Some((publish, answer)),
            Err(error) => _ = answer.send(Err(error.into())),
        }
    }

    fn send_waiting(&mut self) {
        if let Some((publish, answer)) = self.waiting.take() {
            self.publish(publish, answer);
        }
    }

    fn take_events(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Connected(_) => {}
                Event::Message(publish) => self.backlog.push_back(*publish),
                Event::Published(id, reason) => {
                    if let Some(answer) = self.published.remove(&id) {
                        let _ = answer.send(Ok(reason));
                    }
                }
                Event::Subscribed(id, reasons) | Event::Unsubscribed(id, reasons) => {
                    if let Some(answer) = self.answered.remove(&id) {
                        let _ = answer.send(Ok(reasons));
                    }
                }
            }
        }
        while let Some(message) = self.backlog.pop_front() {
            match self.messages.try_send(message) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(message)) => {
                    self.backlog.push_front(message);
                    return;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => {}
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        while let Some(bytes) = self.connection.poll_transmit() {
            self.writer.write_all(&bytes).await.map_err(|error| Error::Lost(error.to_string()))?;
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

async fn sleep(origin: std::time::Instant, until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until((origin + (until - Instant::ORIGIN)).into()).await,
        None => std::future::pending().await,
    }
}
