//! The task behind a client. It carries bytes and time; what they mean is decided in `mqtt-proto`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use access::scram::{ClientExchange, ScramError};
use bytes::BytesMut;
use clock::Instant;
use mqtt_proto::client::{ClientConnection, ConnectionError, Event, SendError};
use mqtt_wire::{
    Auth, ConnAck, PacketId, Properties, Publish, QoS, ReasonCode, SubscribeFilter, TopicFilter, Version,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot, watch};

use crate::broker::{Broker, Stream};
use crate::client::Status;
use crate::options::{ConnectError, Error, Options};
use crate::subscriptions::{Asked, Subscriptions};

/// Requests that are taken while there is no connection.
const HELD_REQUESTS: usize = 64;

pub(crate) type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// What a client asks its task for.
#[derive(Debug)]
pub(crate) enum Request {
    Publish(Box<Publish>, Answer<ReasonCode>),
    Subscribe(Vec<SubscribeFilter>, Box<Properties>, Answer<Vec<ReasonCode>>),
    Unsubscribe(Vec<TopicFilter>, Answer<Vec<ReasonCode>>),
    Reauthenticate(Answer<()>),
    Disconnect(oneshot::Sender<()>),
}

/// The task's ends of what joins it with its client.
pub(crate) struct Ends {
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) messages: mpsc::Sender<Publish>,
    pub(crate) status: watch::Sender<Status>,
}

pub(crate) struct Driver {
    connection: ClientConnection,
    options: Options,
    broker: Option<Broker>,
    origin: std::time::Instant,
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    input: BytesMut,
    requests: mpsc::Receiver<Request>,
    messages: mpsc::Sender<Publish>,
    status: watch::Sender<Status>,
    /// Messages that arrived and were not taken yet. While there are some, nothing more is read.
    backlog: VecDeque<Publish>,
    published: HashMap<PacketId, Answer<ReasonCode>>,
    subscriptions: Subscriptions,
    /// Requests that came while there was no connection.
    held: VecDeque<Request>,
    /// A message for which there is no room in the broker's Receive Maximum.
    waiting: Option<(Box<Publish>, Answer<ReasonCode>)>,
    /// A proof of the password that is under way.
    proof: Option<ClientExchange>,
    /// What the broker says to it.
    challenge: Option<Box<Auth>>,
    /// Who waits for the end of an authentication that was asked for.
    reauthentication: Option<Answer<()>>,
    /// All handles are gone: nothing is asked for any more, but messages may still be wanted.
    is_orphaned: bool,
}

impl Driver {
    /// Connects, up to the broker's CONNACK.
    pub(crate) async fn connect(
        stream: Box<dyn Stream>,
        broker: Option<Broker>,
        options: Options,
        ends: Ends,
    ) -> Result<(Self, Arc<ConnAck>), ConnectError> {
        let (connect, proof) = options.connect()?;
        let origin = std::time::Instant::now();
        let connection =
            ClientConnection::new(Instant::ORIGIN, &connect, options.max_packet_size, options.timeout)?;
        let (reader, writer) = tokio::io::split(stream);
        let mut driver = Self {
            connection,
            options,
            broker,
            origin,
            reader,
            writer,
            input: BytesMut::new(),
            requests: ends.requests,
            messages: ends.messages,
            status: ends.status,
            backlog: VecDeque::new(),
            published: HashMap::new(),
            subscriptions: Subscriptions::default(),
            held: VecDeque::new(),
            waiting: None,
            proof,
            challenge: None,
            reauthentication: None,
            is_orphaned: false,
        };
        let connack = driver.await_connack().await?;
        Ok((driver, connack))
    }

    async fn await_connack(&mut self) -> Result<Arc<ConnAck>, Error> {
        loop {
            self.flush().await?;
            tokio::select! {
                read = self.reader.read_buf(&mut self.input) => self.handle_read(read)?,
                () = sleep(self.origin, self.connection.poll_timeout()) => self.handle_timeout()?,
            }
            while let Some(event) = self.connection.poll_event() {
                if let Event::Auth(auth) = event {
                    self.handle_auth(&auth)?;
                } else if let Event::Connected(connack) = event {
                    if let Some(proof) = self.proof.take() {
                        // [MQTT-4.12.0-5], and the broker has to be the one that knows the password.
                        proof
                            .finish(connack.properties.authentication_data.as_deref().unwrap_or_default())?;
                    }
                    if let Some(assigned) = &connack.properties.assigned_client_identifier {
                        self.options.client_id = assigned.as_str().to_owned();
                    }
                    let connack = Arc::from(connack);
                    self.status.send_replace(Status::Connected(Arc::clone(&connack)));
                    self.take_events();
                    return Ok(connack);
                }
            }
        }
    }

    /// Serves the connection to its end, again if it may be made again, and says why it ended.
    pub(crate) async fn run(mut self) -> Error {
        let error = loop {
            let error = self.serve().await;
            self.take_events();
            if let Err(error) = self.reconnect(error).await {
                break error;
            }
        };
        self.status.send_replace(Status::Ended);
        let (messages, backlog) = self.into_messages();
        for message in backlog {
            if messages.send(message).await.is_err() {
                break;
            }
        }
        error
    }

    async fn serve(&mut self) -> Error {
        loop {
            match self.step().await {
                Ok(true) => {}
                Ok(false) => return Error::Closed,
                Err(error) => return error,
            }
        }
    }

    /// What arrived before the end, which is still handed out. The rest is gone, so nobody waits for an answer.
    fn into_messages(self) -> (mpsc::Sender<Publish>, VecDeque<Publish>) {
        (self.messages, self.backlog)
    }

    /// Makes a lost connection again.
    ///
    /// # Errors
    /// Why it stays lost.
    async fn reconnect(&mut self, mut error: Error) -> Result<(), Error> {
        let (Some(broker), Some(reconnect)) = (self.broker.clone(), self.options.reconnect) else {
            return Err(error);
        };
        if self.options.version == Version::V5 {
            // The session goes on, if the broker has kept it.
            self.options.clean_start = false;
        }
        for attempt in 1.. {
            if !may_pass(&error) || (self.is_orphaned && self.messages.is_closed()) {
                return Err(error);
            }
            let random = getrandom::u32().unwrap_or(0);
            let Some(pause) = reconnect.pause(attempt, random) else { return Err(error) };
            tracing::debug!(%error, attempt, ?pause, "the connection is made again");
            self.status.send_replace(Status::Reconnecting { error: error.to_string(), attempt });
            let stream = async {
                tokio::time::sleep(pause).await;
                tokio::time::timeout(self.options.timeout, broker.dial()).await
            };
            let dialed = tokio::select! {
                dialed = stream => dialed,
                () = hold_requests(&mut self.requests, &mut self.held) => return Err(Error::Closed),
            };
            error = match dialed {
                Ok(Ok(stream)) => match self.resume(stream).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
                Ok(Err(failure)) => Error::Lost(failure.to_string()),
                Err(_) => Error::Lost("the way to the broker took too long".to_owned()),
            };
        }
        Err(error)
    }

    /// Goes on with the session over a new connection.
    async fn resume(&mut self, stream: Box<dyn Stream>) -> Result<(), Error> {
        let lost = |error: &dyn std::fmt::Display| Error::Lost(error.to_string());
        let (connect, proof) = self.options.connect().map_err(|error| lost(&error))?;
        self.proof = proof;
        self.reauthentication = None;
        let (now, options) = (self.now(), &self.options);
        (self.connection.reconnect(now, &connect, options.max_packet_size, options.timeout))
            .map_err(|error| lost(&error))?;
        (self.reader, self.writer) = tokio::io::split(stream);
        self.input.clear();
        let connack = self.await_connack().await?;
        for (asked, answer) in self.subscriptions.ask_again(connack.session_present) {
            self.ask(asked, answer);
        }
        Ok(())
    }

    /// One turn; `false` after the client's goodbye.
    async fn step(&mut self) -> Result<bool, Error> {
        self.take_events();
        if let Some(auth) = self.challenge.take() {
            self.handle_auth(&auth)?;
        }
        self.send_waiting();
        while self.waiting.is_none()
            && let Some(request) = self.held.pop_front()
        {
            if !self.handle_request(request).await? {
                return Ok(false);
            }
        }
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
        match request {
            Request::Publish(publish, answer) => self.publish(publish, answer),
            Request::Subscribe(filters, properties, answer) => {
                self.ask(Asked::Subscribe(filters, properties), Some(answer));
            }
            Request::Unsubscribe(filters, answer) => self.ask(Asked::Unsubscribe(filters), Some(answer)),
            Request::Reauthenticate(answer) => self.reauthenticate(answer),
            Request::Disconnect(done) => {
                self.say_goodbye().await?;
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn ask(&mut self, asked: Asked, answer: Option<Answer<Vec<ReasonCode>>>) {
        let now = self.now();
        let sent = match asked.clone() {
            Asked::Subscribe(filters, properties) => {
                self.connection.subscribe_with(now, filters, *properties)
            }
            Asked::Unsubscribe(filters) => self.connection.unsubscribe(now, filters),
        };
        match (sent, answer) {
            (Ok(id), answer) => self.subscriptions.ask(id, asked, answer),
            (Err(error), Some(answer)) => _ = answer.send(Err(error.into())),
            (Err(error), None) => tracing::warn!(%error, "a subscription cannot be made again"),
        }
    }

    /// Begins to authenticate again (MQTT 5.0 §4.12.1). A second request takes the place of the first.
    fn reauthenticate(&mut self, answer: Answer<()>) {
        let now = self.now();
        let begun = (self.options.begin_proof()).map_err(|error| Error::Lost(error.to_string())).and_then(
            |(proof, first)| {
                self.connection.authenticate(now, ReasonCode::ReAuthenticate, first.into())?;
                Ok(proof)
            },
        );
        match begun {
            Ok(proof) => (self.proof, self.reauthentication) = (Some(proof), Some(answer)),
            Err(error) => _ = answer.send(Err(error)),
        }
    }

    /// Goes on with an authentication, as the broker says.
    fn handle_auth(&mut self, auth: &Auth) -> Result<(), Error> {
        let data = auth.properties.authentication_data.as_deref().unwrap_or_default();
        let proof = self.proof.as_mut().ok_or(ScramError::Malformed)?;
        if auth.reason_code == ReasonCode::ContinueAuthentication {
            let answer = proof.prove(data)?;
            let now = self.now();
            self.connection.authenticate(now, ReasonCode::ContinueAuthentication, answer.into())?;
        } else if let Some(proof) = self.proof.take() {
            proof.finish(data)?;
            if let Some(answer) = self.reauthentication.take() {
                let _ = answer.send(Ok(()));
            }
        }
        Ok(())
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
                Event::Auth(auth) => self.challenge = Some(auth),
                Event::Message(publish) => self.backlog.push_back(*publish),
                Event::Published(id, reason) => {
                    if let Some(answer) = self.published.remove(&id) {
                        let _ = answer.send(Ok(reason));
                    }
                }
                Event::Subscribed(id, reasons) | Event::Unsubscribed(id, reasons) => {
                    self.subscriptions.answered(id, reasons);
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
        let lost = |error: std::io::Error| Error::Lost(error.to_string());
        while let Some(bytes) = self.connection.poll_transmit() {
            self.writer.write_all(&bytes).await.map_err(lost)?;
            self.writer.flush().await.map_err(lost)?;
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

/// Whether a connection that ended like this can be there again after a while. One that another client has taken over
/// would take it over in turn, without end.
fn may_pass(error: &Error) -> bool {
    use ReasonCode as R;
    match error {
        Error::Closed | Error::Authentication(_) => false,
        Error::Connection(ConnectionError::Disconnected(code) | ConnectionError::Refused(code)) => !matches!(
            code,
            R::SessionTakenOver
                | R::BadUserNameOrPassword
                | R::NotAuthorized
                | R::Banned
                | R::ClientIdentifierNotValid
                | R::UnsupportedProtocolVersion
                | R::BadAuthenticationMethod
                | R::AdministrativeAction
        ),
        _ => true,
    }
}

/// Takes requests that come while there is no connection; returns when the client is not wanted any more.
async fn hold_requests(requests: &mut mpsc::Receiver<Request>, held: &mut VecDeque<Request>) {
    while held.len() < HELD_REQUESTS {
        match requests.recv().await {
            Some(Request::Disconnect(done)) => {
                let _ = done.send(());
                return;
            }
            Some(request) => held.push_back(request),
            // Messages may still be wanted.
            None => break,
        }
    }
    std::future::pending().await
}

async fn sleep(origin: std::time::Instant, until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until((origin + (until - Instant::ORIGIN)).into()).await,
        None => std::future::pending().await,
    }
}
