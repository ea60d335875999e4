//! A shard on its thread. Carries bytes and time, and decides nothing.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use clock::Instant;
use journal::log::Position;
use mqtt_broker::{ConnectionId, Load, LookupId, Opening, PeerMessage, Shard, Stats, Verdict};
use mqtt_wire::{Publish, Text};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::LocalSet;

use crate::durable::Store;
use crate::handshake::{Handoff, Origin};
use crate::link::{Link, Reader, Writer};
use crate::passwords::Passwords;

/// How long connections may take to get their last bytes when the server stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// The time line of a server: microseconds since its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: std::time::Instant,
}

/// What a shard's thread is told.
#[derive(Debug)]
pub(crate) enum Control {
    Connection(Box<Handoff>),
    Verdict(LookupId, Verdict),
    Stats(oneshot::Sender<Stats>),
    /// Messages of `$SYS`.
    System(Vec<Publish>),
    Drain {
        server: Option<Text>,
        is_permanent: bool,
    },
    Undrain,
}

/// What a shard's thread is made of.
pub(crate) struct ShardThread {
    pub(crate) shard: Shard,
    /// What the shard has written down, if it does.
    pub(crate) store: Option<Store>,
    pub(crate) clock: Clock,
    /// For Client Identifiers that nobody can guess.
    pub(crate) random: u64,
    pub(crate) control: mpsc::Receiver<Control>,
    /// Leads to `control`, for answers.
    pub(crate) answers: mpsc::Sender<Control>,
    pub(crate) passwords: Arc<Passwords>,
    /// How long a client may take to prove who it is.
    pub(crate) idle_timeout: Duration,
    pub(crate) inbox: mpsc::Receiver<Vec<PeerMessage>>,
    pub(crate) peers: Vec<mpsc::Sender<Vec<PeerMessage>>>,
    pub(crate) stop: watch::Receiver<bool>,
}

struct Driver {
    shard: RefCell<Shard>,
    loads: mpsc::UnboundedSender<Load>,
    clock: Clock,
    random: u64,
    writers: RefCell<BTreeMap<ConnectionId, Rc<Notify>>>,
    /// Where connections come from, for the log.
    peers: RefCell<BTreeMap<ConnectionId, Option<SocketAddr>>>,
    /// Connections whose passwords are being looked at.
    arrivals: RefCell<BTreeMap<LookupId, Arrival>>,
    answers: mpsc::Sender<Control>,
    passwords: Arc<Passwords>,
    idle_timeout: Duration,
    /// When the timer task is going to wake up.
    wakes_at: Cell<Option<Instant>>,
    timer: Notify,
    outgoing: Notify,
    relieved: Notify,
    all_closed: Notify,
}

/// A connection on its way to its session.
struct Arrival {
    link: Link,
    input: BytesMut,
    client_id: Text,
    username: Option<Text>,
    origin: Origin,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: std::time::Instant::now() }
    }

    pub(crate) fn now(self) -> Instant {
        Instant::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn at(self, instant: Instant) -> tokio::time::Instant {
        (self.origin + (instant - Instant::ORIGIN)).into()
    }
}

impl ShardThread {
    /// Runs the shard until it is stopped.
    pub(crate) fn run(self, runtime: &tokio::runtime::Runtime) {
        let Self {
            shard,
            store,
            clock,
            random,
            control,
            answers,
            passwords,
            idle_timeout,
            inbox,
            peers,
            stop,
        } = self;
        let (loads, wanted) = mpsc::unbounded_channel();
        let driver = Rc::new(Driver {
            shard: RefCell::new(shard),
            loads,
            clock,
            random,
            writers: RefCell::default(),
            peers: RefCell::default(),
            arrivals: RefCell::default(),
            answers,
            passwords,
            idle_timeout,
            wakes_at: Cell::new(None),
            timer: Notify::new(),
            outgoing: Notify::new(),
            relieved: Notify::new(),
            all_closed: Notify::new(),
        });
        LocalSet::new().block_on(runtime, driver.run(control, inbox, peers, stop, store, wanted));
    }
}

impl Driver {
    async fn run(
        self: Rc<Self>,
        mut control: mpsc::Receiver<Control>,
        mut inbox: mpsc::Receiver<Vec<PeerMessage>>,
        peers: Vec<mpsc::Sender<Vec<PeerMessage>>>,
        mut stop: watch::Receiver<bool>,
        store: Option<Store>,
        wanted: mpsc::UnboundedReceiver<Load>,
    ) {
        if let Some(store) = store {
            tokio::task::spawn_local(Rc::clone(&self).follow_log(store.log.watch()));
            tokio::task::spawn_local(Rc::clone(&self).read_log(store, wanted));
        }
        // What was left over from before the start, such as timers.
        self.with(|_, _| ());
        tokio::task::spawn_local(Rc::clone(&self).run_timers());
        tokio::task::spawn_local(Rc::clone(&self).send_to_peers(peers));
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|&stop| stop) => break,
                Some(batch) = inbox.recv() => self.with(|shard, now| shard.handle_peer(now, batch)),
                Some(control) = control.recv() => match control {
                    Control::Connection(handoff) => self.open(*handoff),
                    Control::Verdict(id, verdict) => self.go_on(id, verdict),
                    // Whoever asked may have gone.
                    Control::Stats(answer) => _ = answer.send(self.shard.borrow().stats()),
                    Control::System(messages) => self.with(|shard, now| {
                        for message in messages {
                            shard.publish_system(now, message);
                        }
                    }),
                    Control::Drain { server, is_permanent } => {
                        self.with(|shard, now| shard.drain(now, server, is_permanent));
                    }
                    Control::Undrain => self.with(|shard, _| shard.undrain()),
                },
            }
        }
        self.with(Shard::shutdown);
        let closed = async {
            while !self.writers.borrow().is_empty() {
                self.all_closed.notified().await;
            }
        };
        // Those that do not read in time lose their last bytes.
        let _ = tokio::time::timeout(FAREWELL, closed).await;
    }

    /// Does something with the shard, and then what follows from it.
    fn with<T>(&self, work: impl FnOnce(&mut Shard, Instant) -> T) -> T {
        let mut shard = self.shard.borrow_mut();
        let result = work(&mut shard, self.clock.now());
        while let Some(id) = shard.poll_dirty() {
            if let Some(writer) = self.writers.borrow().get(&id) {
                writer.notify_one();
            }
        }
        while let Some(ended) = shard.poll_ended() {
            let peer = self.peers.borrow().get(&ended.connection).copied().flatten();
            tracing::info!(client_id = %ended.client_id, ?peer, reason = %ended.reason, "connection ended");
        }
        while let Some(lookup) = shard.poll_lookup() {
            let (id, answers) = (lookup.id, self.answers.clone());
            self.passwords.look_up(lookup, move |verdict| async move {
                // A shard that has stopped needs no answer.
                let _ = answers.send(Control::Verdict(id, verdict)).await;
            });
        }
        while let Some(load) = shard.poll_load() {
            // A shard without a log has none.
            let _ = self.loads.send(load);
        }
        if shard.has_outgoing() {
            self.outgoing.notify_one();
        }
        let next = shard.poll_timeout();
        if next.is_some_and(|next| self.wakes_at.get().is_none_or(|wakes_at| next < wakes_at)) {
            self.timer.notify_one();
        }
        result
    }

    /// Tells the shard how far the log is durable.
    async fn follow_log(self: Rc<Self>, mut durable: watch::Receiver<Position>) {
        while durable.changed().await.is_ok() {
            self.with(Shard::handle_durable);
            self.relieved.notify_waiters();
        }
    }

    /// Reads from the log what the shard asks for, beside its thread.
    async fn read_log(self: Rc<Self>, store: Store, mut wanted: mpsc::UnboundedReceiver<Load>) {
        while let Some(load) = wanted.recv().await {
            let (store, positions) = (store.clone(), load.positions.clone());
            let read = tokio::task::spawn_blocking(move || store.read(&positions)).await;
            let records = read.unwrap_or_else(|_| vec![None; load.positions.len()]);
            self.with(|shard, now| shard.handle_loaded(now, load, records));
        }
    }

    async fn run_timers(self: Rc<Self>) {
        loop {
            let next = self.shard.borrow().poll_timeout();
            self.wakes_at.set(next);
            let due = async {
                match next {
                    Some(next) => tokio::time::sleep_until(self.clock.at(next)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => self.with(Shard::handle_timeout),
                () = self.timer.notified() => {}
            }
        }
    }

    /// Hands other shards what is for them. While a peer's inbox is full this waits, and publishers with it;
    /// every shard empties its inbox without waiting for anybody.
    async fn send_to_peers(self: Rc<Self>, peers: Vec<mpsc::Sender<Vec<PeerMessage>>>) {
        loop {
            self.outgoing.notified().await;
            loop {
                let next = self.shard.borrow_mut().poll_peer();
                let Some((peer, batch)) = next else { break };
                // A peer that is gone has stopped, as this shard is about to.
                let _ = peers[peer].send(batch).await;
            }
            self.relieved.notify_waiters();
        }
    }

    fn open(self: &Rc<Self>, handoff: Handoff) {
        let Handoff { link, mut connect, decoder, input, needs_client_id, credentials, origin } = handoff;
        let Ok(link) = link.attach() else { return };
        let username = connect.username.clone();
        let (client_id, opening) = self.with(|shard, now| {
            if needs_client_id {
                connect.client_id = shard.assign_client_id(self.random);
            }
            let client_id = connect.client_id.clone();
            (client_id, shard.admit(now, connect, decoder, needs_client_id, credentials))
        });
        self.settle(Arrival { link, input, client_id, username, origin }, opening);
    }

    /// Goes on with a connection whose password was looked at.
    fn go_on(self: &Rc<Self>, id: LookupId, verdict: Verdict) {
        let Some(arrival) = self.arrivals.borrow_mut().remove(&id) else { return };
        if let Some(opening) = self.with(|shard, now| shard.handle_verdict(now, id, verdict)) {
            self.settle(arrival, opening);
        }
    }

    fn settle(self: &Rc<Self>, arrival: Arrival, opening: Opening) {
        match opening {
            Opening::Open(id) => {
                let Arrival { link, input, client_id, username, origin } = arrival;
                let Origin { listener, peer, budget, slot } = origin;
                budget.lift();
                let listener = listener.as_deref();
                tracing::info!(%client_id, username = username.as_deref(), listener, ?peer, "connected");
                let notify = Rc::new(Notify::new());
                self.writers.borrow_mut().insert(id, Rc::clone(&notify));
                self.peers.borrow_mut().insert(id, peer);
                // Its first output was ready before its writer.
                notify.notify_one();
                let driver = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    let (reader, writer) = link.split();
                    driver.serve(id, reader, writer, notify, input).await;
                    drop(slot);
                });
            }
            Opening::Waits(id) => {
                self.arrivals.borrow_mut().insert(id, arrival);
            }
            Opening::Challenged(id, bytes) => {
                tokio::task::spawn_local(Rc::clone(self).challenge(arrival, id, bytes));
            }
            Opening::Refused(reason, bytes) => {
                let Arrival { mut link, client_id, origin, .. } = arrival;
                tracing::info!(%client_id, peer = ?origin.peer, %reason, "connection refused");
                tokio::task::spawn_local(async move {
                    // It holds its place until it is gone, but not for long.
                    let farewell = async {
                        let _ = link.write_all(&bytes).await;
                        let _ = link.shutdown().await;
                    };
                    let _ = tokio::time::timeout(FAREWELL, farewell).await;
                    drop(origin);
                });
            }
        }
    }

    /// Carries a client's proof to the shard, for as long as a CONNECT may take.
    async fn challenge(self: Rc<Self>, mut arrival: Arrival, id: LookupId, challenge: BytesMut) {
        let exchange = async {
            arrival.link.write_all(&challenge).await.ok()?;
            loop {
                let input = &mut arrival.input;
                if let Some(opening) = self.with(|shard, now| shard.handle_challenged(now, id, input)) {
                    return Some(opening);
                }
                let read = arrival.link.read(&mut arrival.input).await.ok().filter(|&read| read > 0)?;
                // Other links count what they read themselves, below their cryptography.
                if let Link::Tcp(_) = arrival.link {
                    arrival.origin.budget.take(read).ok()?;
                }
            }
        };
        match tokio::time::timeout(self.idle_timeout, exchange).await {
            Ok(Some(opening)) => self.settle(arrival, opening),
            Ok(None) | Err(_) => {
                self.with(|shard, _| shard.forget_challenged(id));
                let (client_id, peer) = (&arrival.client_id, arrival.origin.peer);
                tracing::info!(%client_id, ?peer, reason = "it did not prove who it is", "connection refused");
            }
        }
    }

    /// Serves a connection until either side ends it.
    async fn serve(
        self: Rc<Self>,
        id: ConnectionId,
        reader: Reader,
        writer: Writer,
        notify: Rc<Notify>,
        input: BytesMut,
    ) {
        tokio::select! {
            () = self.read(id, reader, input) => {}
            () = self.write(id, writer, &notify) => {}
        }
        self.writers.borrow_mut().remove(&id);
        self.with(|shard, now| shard.handle_closed(now, id));
        self.peers.borrow_mut().remove(&id);
        if self.writers.borrow().is_empty() {
            self.all_closed.notify_one();
        }
    }

    async fn read(&self, id: ConnectionId, mut reader: Reader, mut input: BytesMut) {
        loop {
            self.with(|shard, now| shard.handle_bytes(now, id, &mut input));
            if input.is_empty() {
                input = BytesMut::new();
            }
            while self.shard.borrow().is_congested() {
                self.relieved.notified().await;
            }
            match reader.read(&mut input).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    async fn write(&self, id: ConnectionId, mut writer: Writer, notify: &Notify) {
        loop {
            notify.notified().await;
            let output = self.with(|shard, _| shard.take_output(id));
            let Some(output) = output else { break };
            if writer.write_all(&output.bytes).await.is_err() {
                // The client does not listen any more, but what it sent before is still to be read.
                return std::future::pending().await;
            }
            if output.close {
                // The other side may be gone already.
                let _ = writer.shutdown().await;
                break;
            }
        }
    }
}
