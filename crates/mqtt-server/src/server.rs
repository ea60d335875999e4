use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use journal::log::{LogStats, Storage, WriterThread};
use mqtt_broker::{RetainedMessages, Shard, Shared, Stats};
use mqtt_io::tls::TlsError;
use mqtt_wire::Text;
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::alarms::{Alarm, Alarms};
use crate::config::{Config, ListenerConfig};
use crate::driver::{Clock, Control, ShardThread};
use crate::durable::{self, LogError, Opened, Store};
use crate::files::Stamps;
use crate::handshakes::Handshakes;
use crate::listener::Listener;
use crate::passwords::{self, AccessError, Passwords};
use crate::sys;
use crate::transport::Transport;
use crate::transport::budget::HandshakeBytes;
use crate::transport::tls::Tls;
use crate::{descriptors, files};

/// Connections that may wait for a shard to take them.
const CONTROL_QUEUE: usize = 1_024;

/// Batches that may wait for a shard to take them.
const INBOX: usize = 64;

/// Bytes that a client in this process can write ahead.
const LOCAL_BUFFER: usize = 256 * 1024;

/// What comes before a CONNECT, at most: a TLS handshake and an HTTP request.
const MAX_PREAMBLE: usize = 128 * 1024;

/// Connections that may wait in the system until they are accepted.
const BACKLOG: u32 = 4_096;

/// How often files are looked at for changes, and alarms for their end.
const LOOK: Duration = Duration::from_secs(1);

/// A running broker.
#[derive(Debug)]
pub struct Server {
    core: Arc<Core>,
    threads: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    /// Ends after the shards.
    writer: Option<WriterThread>,
}

/// What connections need on their way to a shard.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    pub(crate) shards: Vec<mpsc::Sender<Control>>,
    pub(crate) config: Config,
    pub(crate) handshakes: Arc<Handshakes>,
    pub(crate) handshake_bytes: Arc<HandshakeBytes>,
    /// Places for connections.
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) alarms: Alarms,
    pub(crate) next_fallback: AtomicUsize,
    pub(crate) failed_handshakes: AtomicU64,
    listeners: Vec<Arc<Listener>>,
    passwords: Arc<Passwords>,
    store: Option<Store>,
    is_damaged: bool,
}

/// How connections come about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionStats {
    /// Connections that have not sent their CONNECT yet.
    pub handshakes: u64,
    /// Connections that were closed before their CONNECT, to make room for others.
    pub evicted: u64,
    /// Connections that ended before an acceptable CONNECT: it was malformed, late, or no CONNECT at all.
    pub failed: u64,
    /// Places that are left for connections.
    pub free: u64,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is in use by another program.
    #[error("cannot listen on {address}: another program does already; stop it, or choose another port")]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be used for another reason.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The listener would let anybody in.
    #[error(
        "listener {name:?} on {address} would let anybody who reaches it read and write everything; \
         name a password file, or set allow_anonymous = true if that is what you want"
    )]
    Anonymous {
        /// The listener.
        name: String,
        /// Its address.
        address: SocketAddr,
    },
    /// A listener asks for credentials, and there is nothing to hold them against.
    #[error(
        "listener {name:?} sets allow_anonymous = false, but there is neither a password file nor a user name \
         that clients' certificates would prove"
    )]
    NoUsers {
        /// The listener.
        name: String,
    },
    /// The TLS of a listener cannot be set up.
    #[error("listener {name:?}: {source}")]
    Tls {
        /// The listener.
        name: String,
        /// What is wrong.
        source: TlsError,
    },
    /// Passwords or rules cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

impl Server {
    /// Starts the listeners and shards. Must be called in a tokio runtime, which goes on to accept connections.
    ///
    /// # Errors
    /// In one sentence, what is in the way. Nothing runs then.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let storage =
            config.durability.as_ref().map(|config| durable::folder(&config.data_dir)).transpose()?;
        Self::start_on(config, storage.map(|folder| Arc::new(folder) as Arc<dyn Storage>)).await
    }

    /// The same with the log somewhere else than in its folder, for tests with disks that fail. Without
    /// [`Config::durability`] nothing is written there.
    ///
    /// # Errors
    /// In one sentence, what is in the way. Nothing runs then.
    pub async fn start_on(config: Config, storage: Option<Arc<dyn Storage>>) -> Result<Self, StartError> {
        let (mut listeners, mut sockets) = (Vec::new(), Vec::new());
        let max_message_size = usize::try_from(config.limits.max_packet_size).unwrap_or(usize::MAX);
        let max_message_size = max_message_size.saturating_add(MAX_PREAMBLE);
        for listener in &config.listeners {
            check(listener, &config)?;
            let tls = |source| StartError::Tls { name: listener.name.clone(), source };
            let transport = Transport::load(listener, max_message_size).map_err(tls)?;
            listeners.push(Listener::new(listener, transport));
            sockets.push(bind(listener.bind)?);
        }
        let random = getrandom::u64().map_err(StartError::Random)?;
        let opened = config.durability.as_ref().zip(storage);
        let opened = opened.map(|(config, storage)| Opened::open(config, storage, random)).transpose()?;
        let damage = opened.as_ref().is_some_and(|opened| !opened.report.losses.is_empty());
        let store = opened.as_ref().map(|opened| opened.store.clone());
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let settings = sys::settings(&config);
        let clock = Clock::start();
        let count = config.shards.map_or(cores, NonZeroUsize::get);
        let (shared, shards, writer) = match opened {
            Some(opened) => {
                let started = opened.start(clock.now(), settings, count).map_err(StartError::Thread)?;
                (started.0, started.1, Some(started.2))
            }
            None => {
                let (shared, shards) = durable::new_shards(settings, count, None);
                (shared, shards, None)
            }
        };
        let passwords = Passwords::new(tokio::runtime::Handle::current());
        passwords::load(&config.access, &passwords, &shared)?;
        let (stop, stopped) = watch::channel(false);
        let parts = (clock, &passwords, config.idle_timeout);
        let (shards, threads) = start_shards(shards, store.as_ref(), parts, &stopped)?;
        let slots = config.max_connections.unwrap_or_else(descriptors::max_connections);
        let core = Arc::new(Core {
            shared,
            shards,
            handshakes: Arc::new(Handshakes::new(config.max_handshakes)),
            handshake_bytes: HandshakeBytes::new(config.max_handshake_bytes, max_message_size),
            slots: Arc::new(Semaphore::new(slots.min(Semaphore::MAX_PERMITS))),
            alarms: Alarms::default(),
            next_fallback: AtomicUsize::new(0),
            failed_handshakes: AtomicU64::new(0),
            listeners,
            passwords,
            store,
            is_damaged: damage,
            config,
        });
        let mut addresses = Vec::new();
        for (listener, socket) in core.listeners.iter().zip(sockets) {
            addresses.extend(socket.local_addr());
            tokio::spawn(Arc::clone(listener).run(Arc::clone(&core), socket, stopped.clone()));
        }
        tokio::spawn(sys::publish(Arc::clone(&core), stopped.clone()));
        tokio::spawn(Arc::clone(&core).look_after(stopped));
        Ok(Self { core, threads, addresses, stop, writer })
    }

    /// Where clients connect, in the order of the listeners.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.core.shared.shards()
    }

    /// The shard of a Client Identifier, for tests that want messages to cross.
    pub fn shard_of(&self, client_id: &str) -> usize {
        self.core.shared.shard_of(client_id)
    }

    /// The retained messages.
    pub fn retained(&self) -> &RetainedMessages {
        &self.core.shared.retained
    }

    /// Bytes of all messages and of all output that waits for its connection.
    pub fn memory_used(&self) -> usize {
        self.core.shared.memory.used()
    }

    /// A connection for a client in this process, which needs no credentials and is bound by no rules of access.
    /// What else holds for others holds for it.
    pub fn connect_local(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(LOCAL_BUFFER);
        tokio::spawn(Arc::clone(&self.core).connect_local(server));
        client
    }

    /// Reads certificates, authorities, revocation lists, passwords and rules again. Connections that are open go
    /// on. Files that cannot be used leave in force what was; the errors say which. Called by itself when a file
    /// changes.
    pub fn reload(&self) -> Vec<String> {
        self.core.reload()
    }

    /// What the log has done and holds; `None`: there is none.
    pub fn log_stats(&self) -> Option<LogStats> {
        self.core.store.as_ref().map(|store| store.log.stats())
    }

    /// What keeps the server from doing all that it should.
    pub fn alarms(&self) -> Vec<Alarm> {
        self.core.alarms.current()
    }

    /// How connections come about.
    pub fn connection_stats(&self) -> ConnectionStats {
        ConnectionStats {
            handshakes: self.core.handshakes.count() as u64,
            evicted: self.core.handshakes.evicted(),
            failed: self.core.failed_handshakes.load(Ordering::Relaxed),
            free: self.core.slots.available_permits() as u64,
        }
    }

    /// What all shards have done and hold.
    pub async fn stats(&self) -> Stats {
        self.core.stats().await
    }

    /// Sends all clients, and those that come later, to another server: for now (0x9C, Use another server) or for
    /// good (0x9D, Server moved). `server` tells clients of MQTT 5.0 where: `host`, `host:port`, or several of these
    /// with a space between them (§4.11).
    pub async fn drain(&self, server: Option<Text>, is_permanent: bool) {
        for shard in &self.core.shards {
            // A shard that has stopped has no clients.
            let _ = shard.send(Control::Drain { server: server.clone(), is_permanent }).await;
        }
    }

    /// Takes clients again, after [`Server::drain`].
    pub async fn undrain(&self) {
        for shard in &self.core.shards {
            // A shard that has stopped has no clients.
            let _ = shard.send(Control::Undrain).await;
        }
    }

    /// Ends all connections, telling clients of MQTT 5.0 why, and then the shards.
    pub async fn shutdown(self) {
        // Shards that have stopped by themselves need no telling.
        let _ = self.stop.send(true);
        let (threads, writer) = (self.threads, self.writer);
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a shard had panicked");
                }
            }
            // Writes what they said last.
            drop(writer);
        });
        let _ = joined.await;
    }
}

impl Core {
    /// What all shards have done and hold.
    pub(crate) async fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        for shard in &self.shards {
            let (answer, answered) = oneshot::channel();
            // A shard that has stopped has nothing to add.
            if shard.send(Control::Stats(answer)).await.is_ok() {
                sum = sum + answered.await.unwrap_or_default();
            }
        }
        sum
    }

    fn reload(&self) -> Vec<String> {
        let mut errors = Vec::new();
        for listener in &self.listeners {
            if let Some(Err(error)) = listener.transport.tls.as_ref().map(Tls::reload) {
                errors.push(format!("listener {:?}: {error}", listener.name));
            }
        }
        if let Err(error) = passwords::load(&self.config.access, &self.passwords, &self.shared) {
            errors.push(error.to_string());
        }
        errors
    }

    fn files(&self) -> Vec<PathBuf> {
        let tls = self.listeners.iter().filter_map(|listener| listener.transport.tls.as_ref());
        tls.flat_map(Tls::files).chain(passwords::files(&self.config.access)).collect()
    }

    /// Looks for files that have changed and alarms that have ended, until the server stops.
    async fn look_after(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let files = self.files();
        let mut stamps: Stamps = files::stamps(&files);
        loop {
            tokio::select! {
                _ = stop.wait_for(|&stop| stop) => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            if self.shared.memory.is_full() {
                self.alarms.raise(Alarm::Memory);
            }
            self.alarms.expire();
            if self.store.as_ref().is_some_and(|store| store.log.is_stuck()) {
                self.alarms.raise(Alarm::Log);
            }
            if self.is_damaged {
                self.alarms.raise(Alarm::Damage);
            }
            let now = files::stamps(&files);
            if now == stamps {
                continue;
            }
            stamps = now;
            let errors = self.reload();
            for error in &errors {
                tracing::error!(%error, "a file has changed and cannot be used; what was in force stays");
            }
            if errors.is_empty() {
                tracing::info!("certificates, passwords and rules were read again");
            }
        }
    }
}

fn check(listener: &ListenerConfig, config: &Config) -> Result<(), StartError> {
    let (name, address) = (listener.name.clone(), listener.bind);
    let has_users = config.access.password_file.is_some() || listener.knows_users();
    match listener.allow_anonymous {
        Some(false) if !has_users => Err(StartError::NoUsers { name }),
        None if !listener.accepts_anonymous() && !has_users => Err(StartError::Anonymous { name, address }),
        _ => Ok(()),
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // Connections of an earlier run that linger are no reason not to listen.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::InUse { address },
        _ => StartError::Bind { address, source },
    })
}

type Started = (Vec<mpsc::Sender<Control>>, Vec<JoinHandle<()>>);

fn start_shards(
    shards: Vec<Shard>,
    store: Option<&Store>,
    (clock, passwords, idle_timeout): (Clock, &Arc<Passwords>, Duration),
    stopped: &watch::Receiver<bool>,
) -> Result<Started, StartError> {
    let random = getrandom::u64().map_err(StartError::Random)?;
    let (peers, inboxes): (Vec<_>, Vec<_>) = (0..shards.len()).map(|_| mpsc::channel(INBOX)).unzip();
    let (mut senders, mut threads) = (Vec::new(), Vec::new());
    for (shard, inbox) in shards.into_iter().zip(inboxes) {
        let id = shard.id();
        let (sender, control) = mpsc::channel(CONTROL_QUEUE);
        let shard = ShardThread {
            shard,
            store: store.cloned(),
            clock,
            random,
            control,
            answers: sender.clone(),
            passwords: Arc::clone(passwords),
            idle_timeout,
            inbox,
            peers: peers.clone(),
            stop: stopped.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(StartError::Thread)?;
        let thread =
            std::thread::Builder::new().name(format!("shard-{id}")).spawn(move || shard.run(&runtime));
        threads.push(thread.map_err(StartError::Thread)?);
        senders.push(sender);
    }
    Ok((senders, threads))
}
