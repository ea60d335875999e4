use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mqtt_broker::{RetainedMessages, Shared, Stats};
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::config::{Config, ListenerConfig};
use crate::driver::{Clock, Control, ShardThread};
use crate::handshake::{HandshakeError, read_connect};
use crate::link::Link;

/// Connections that may wait for a shard to take them.
const CONTROL_QUEUE: usize = 1_024;

/// Batches that may wait for a shard to take them.
const INBOX: usize = 64;

/// Bytes that a client in this process can write ahead.
const LOCAL_BUFFER: usize = 256 * 1024;

/// How long a listener that cannot accept waits before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running broker.
#[derive(Debug)]
pub struct Server {
    core: Arc<Core>,
    threads: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
}

/// What connections need on their way to a shard.
#[derive(Debug)]
struct Core {
    shared: Arc<Shared>,
    shards: Vec<mpsc::Sender<Control>>,
    config: Config,
    handshakes: Arc<Semaphore>,
    next_fallback: AtomicUsize,
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
         set allow_anonymous = true if that is what you want"
    )]
    Anonymous {
        /// The listener.
        name: String,
        /// Its address.
        address: SocketAddr,
    },
    /// A listener asks for credentials, which do not exist yet.
    #[error("listener {name:?} sets allow_anonymous = false, but this version has no users yet")]
    NoUsers {
        /// The listener.
        name: String,
    },
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
        let mut listeners = Vec::new();
        for listener in &config.listeners {
            check(listener)?;
            listeners.push((listener.name.clone(), bind(listener.bind).await?));
        }
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let shared = Shared::new(config.shards.map_or(cores, NonZeroUsize::get), config.limits);
        let (stop, stopped) = watch::channel(false);
        let (shards, threads) = start_shards(&shared, &stopped)?;
        let core = Arc::new(Core {
            shared,
            shards,
            handshakes: Arc::new(Semaphore::new(config.max_handshakes)),
            config,
            next_fallback: AtomicUsize::new(0),
        });
        let mut addresses = Vec::new();
        for (name, listener) in listeners {
            addresses.extend(listener.local_addr());
            tokio::spawn(accept(Arc::clone(&core), name, listener, stopped.clone()));
        }
        Ok(Self { core, threads, addresses, stop })
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

    /// A connection for a client in this process. What holds for others holds for it.
    pub fn connect_local(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(LOCAL_BUFFER);
        tokio::spawn(Arc::clone(&self.core).shake_hands(Link::Local(server), None));
        client
    }

    /// What all shards have done and hold.
    pub async fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        for shard in &self.core.shards {
            let (answer, answered) = oneshot::channel();
            // A shard that has stopped has nothing to add.
            if shard.send(Control::Stats(answer)).await.is_ok() {
                sum = sum + answered.await.unwrap_or_default();
            }
        }
        sum
    }

    /// Ends all connections, telling clients of MQTT 5.0 why, and then the shards.
    pub async fn shutdown(self) {
        // Shards that have stopped by themselves need no telling.
        let _ = self.stop.send(true);
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a shard had panicked");
                }
            }
        });
        let _ = joined.await;
    }
}

fn check(listener: &ListenerConfig) -> Result<(), StartError> {
    let (name, address) = (listener.name.clone(), listener.bind);
    match listener.allow_anonymous {
        Some(false) => Err(StartError::NoUsers { name }),
        None if !listener.accepts_anonymous() => Err(StartError::Anonymous { name, address }),
        _ => Ok(()),
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::InUse { address },
        _ => StartError::Bind { address, source },
    })
}

type Started = (Vec<mpsc::Sender<Control>>, Vec<JoinHandle<()>>);

fn start_shards(shared: &Arc<Shared>, stopped: &watch::Receiver<bool>) -> Result<Started, StartError> {
    let clock = Clock::start();
    let random = getrandom::u64().map_err(StartError::Random)?;
    let (peers, inboxes): (Vec<_>, Vec<_>) = (0..shared.shards()).map(|_| mpsc::channel(INBOX)).unzip();
    let (mut senders, mut threads) = (Vec::new(), Vec::new());
    for (id, inbox) in inboxes.into_iter().enumerate() {
        let (sender, control) = mpsc::channel(CONTROL_QUEUE);
        let (shared, peers, stop) = (Arc::clone(shared), peers.clone(), stopped.clone());
        let shard = ShardThread { id, shared, clock, random, control, inbox, peers, stop };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(StartError::Thread)?;
        let thread =
            std::thread::Builder::new().name(format!("shard-{id}")).spawn(move || shard.run(&runtime));
        threads.push(thread.map_err(StartError::Thread)?);
        senders.push(sender);
    }
    Ok((senders, threads))
}

async fn accept(core: Arc<Core>, name: String, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|&stop| stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Latency matters more than a packet saved: writes are coalesced already.
                let _ = stream.set_nodelay(true);
                tokio::spawn(Arc::clone(&core).accept_tcp(stream, peer));
            }
            Err(error) => {
                tracing::warn!(listener = name, %error, "cannot accept a connection");
                // Without descriptors the next attempt fails too: others must close some first.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Core {
    async fn accept_tcp(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        self.shake_hands(Link::Tcp(stream), Some(peer)).await;
    }

    /// Takes a connection to its shard.
    async fn shake_hands(self: Arc<Self>, link: Link, peer: Option<SocketAddr>) {
        let Ok(_permit) = Arc::clone(&self.handshakes).try_acquire_owned() else {
            tracing::warn!(?peer, "too many connections have not sent their CONNECT; this one is closed");
            return;
        };
        let fallback = self.next_fallback.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        let limit = self.config.limits.max_packet_size;
        let shard_of = |client_id: &str| self.shared.shard_of(client_id);
        match read_connect(link, limit, self.config.idle_timeout, shard_of, fallback).await {
            Ok((shard, handoff)) => {
                // A shard that has stopped takes no more connections.
                let _ = self.shards[shard].send(Control::Connection(Box::new(handoff))).await;
            }
            Err(HandshakeError::Ended) => {}
            Err(error) => tracing::info!(?peer, reason = %error, "connection refused"),
        }
    }
}
