//! Accepting connections, and taking each to its shard.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use crate::alarms::Alarm;
use crate::config::ListenerConfig;
use crate::driver::Control;
use crate::handshake::{HandshakeError, Origin, Policy, Rules, read_connect};
use crate::link::Link;
use crate::server::Core;
use crate::transport::Transport;
use crate::transport::tls::Names;

/// How long a listener that cannot accept waits before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a listener that waits for a free place says so.
const PAUSE_NOTICE: Duration = Duration::from_secs(1);

/// A listener that runs.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) name: Arc<str>,
    pub(crate) transport: Transport,
    accepts_anonymous: bool,
}

impl Listener {
    pub(crate) fn new(config: &ListenerConfig, transport: Transport) -> Arc<Self> {
        let name = Arc::from(config.name.as_str());
        Arc::new(Self { name, transport, accepts_anonymous: config.accepts_anonymous() })
    }

    /// Accepts until the server stops. Without a place for another connection it does not accept: those who come
    /// wait in the system's queue.
    pub(crate) async fn run(
        self: Arc<Self>,
        core: Arc<Core>,
        socket: TcpListener,
        mut stop: watch::Receiver<bool>,
    ) {
        let accept_all = async {
            loop {
                core.handshakes.room().await;
                match socket.accept().await {
                    Ok((stream, peer)) => {
                        let slot = core.slot().await;
                        self.begin(&core, stream, peer, slot);
                    }
                    Err(error) => {
                        self.complain(&core, &error);
                        // Without descriptors the next attempt fails too: others must close some first.
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            _ = stop.wait_for(|&stop| stop) => {}
            () = accept_all => {}
        }
    }

    fn complain(&self, core: &Core, error: &io::Error) {
        let is_descriptors = error.raw_os_error().is_some_and(|code| {
            [nix::errno::Errno::EMFILE as i32, nix::errno::Errno::ENFILE as i32].contains(&code)
        });
        if is_descriptors {
            core.alarms.raise(Alarm::Descriptors);
        } else {
            tracing::warn!(listener = %self.name, %error, "cannot accept a connection");
        }
    }

    fn begin(
        self: &Arc<Self>,
        core: &Arc<Core>,
        stream: TcpStream,
        peer: SocketAddr,
        slot: Option<OwnedSemaphorePermit>,
    ) {
        // Latency matters more than a packet saved: writes are coalesced already.
        let _ = stream.set_nodelay(true);
        let (listener, core) = (Arc::clone(self), Arc::clone(core));
        let handshakes = Arc::clone(&core.handshakes);
        handshakes.begin(move |id| {
            let task = async move {
                let budget = core.handshake_bytes.begin();
                let name = Some(Arc::clone(&listener.name));
                let origin = Origin { listener: name, peer: Some(peer), budget, slot };
                listener.shake_hands(&core, id, stream, origin).await;
            };
            tokio::spawn(task).abort_handle()
        });
    }

    async fn shake_hands(&self, core: &Core, id: u64, stream: TcpStream, origin: Origin) {
        let (peer, budget) = (origin.peer, Arc::clone(&origin.budget));
        let policy = core.policy(self.accepts_anonymous);
        let shake = async {
            let (link, names) = self.transport.establish(stream, &budget).await?;
            core.read_connect(link, names, origin, policy).await
        };
        let result = timeout(core.config.idle_timeout, shake).await;
        if !core.handshakes.end(id) {
            return;
        }
        match result {
            Ok(Ok((shard, control))) => {
                // A shard that has stopped takes no more connections.
                let _ = core.shards[shard].send(control).await;
            }
            Ok(Err(HandshakeError::Ended)) => {}
            Ok(Err(error)) => {
                core.failed_handshakes.fetch_add(1, Ordering::Relaxed);
                tracing::info!(listener = %self.name, ?peer, reason = %error, "connection refused");
            }
            Err(_) => {
                core.failed_handshakes.fetch_add(1, Ordering::Relaxed);
                let reason = "no CONNECT came in time";
                tracing::info!(listener = %self.name, ?peer, reason, "connection refused");
            }
        }
    }
}

impl Core {
    /// A place for a connection. While there is none, connections that have no session yet make room once they have
    /// had their time, and the alarm is on.
    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
                return Some(slot);
            }
            self.alarms.raise(Alarm::ConnectionLimit);
            tokio::select! {
                slot = Arc::clone(&self.slots).acquire_owned() => return slot.ok(),
                () = self.handshakes.evict_oldest() => {
                    // Its place is free once its task has noticed.
                    let slot = timeout(ACCEPT_PAUSE, Arc::clone(&self.slots).acquire_owned()).await;
                    if let Ok(Ok(slot)) = slot {
                        return Some(slot);
                    }
                }
                () = tokio::time::sleep(PAUSE_NOTICE) => {}
            }
        }
    }

    fn policy(&self, accepts_anonymous: bool) -> Policy {
        let has_users = self.config.access.password_file.is_some();
        Policy { accepts_anonymous, has_users, is_trusted: false }
    }

    async fn read_connect(
        &self,
        link: Link,
        names: Names,
        origin: Origin,
        policy: Policy,
    ) -> Result<(usize, Control), HandshakeError> {
        let fallback = self.next_fallback.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        let rules = Rules {
            max_packet_size: self.config.limits.max_packet_size,
            policy,
            shard_of: |client_id: &str| self.shared.shard_of(client_id),
            fallback,
        };
        let (shard, handoff) = read_connect(link, names, origin, rules).await?;
        Ok((shard, Control::Connection(Box::new(handoff))))
    }

    /// Takes a client in this process to its shard.
    pub(crate) async fn connect_local(self: Arc<Self>, stream: tokio::io::DuplexStream) {
        let budget = self.handshake_bytes.begin();
        let origin = Origin { listener: None, peer: None, budget, slot: None };
        let policy = Policy { accepts_anonymous: true, has_users: false, is_trusted: true };
        let link = Link::Stream(Box::new(stream));
        let shake = self.read_connect(link, Names::default(), origin, policy);
        match timeout(self.config.idle_timeout, shake).await {
            Ok(Ok((shard, control))) => _ = self.shards[shard].send(control).await,
            Ok(Err(error)) => tracing::info!(reason = %error, "local connection refused"),
            Err(_) => tracing::info!("a local client sent no CONNECT in time"),
        }
    }
}
