//! A gateway between a broker, a radio and a store. Carries messages, records and time, and decides nothing.

mod broker;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;

use anyhow::Context as _;
use clock::Instant;
use gateway::{Gateway, Inbox, Publication};
use journal::{Commit, RecordStore};
use mesh_proto::bearer::Transmission;
use mesh_sim::OwnedReceived;
use mqtt_wire::Publish;
use tokio::sync::{mpsc, watch};

pub(crate) use broker::{Broker, Remote};
use broker::{Connection, Happening, Request};

use crate::status_page::{Device, Mesh};

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

/// A gateway with all that it runs on.
pub(crate) struct Shell {
    pub(crate) gateway: Gateway,
    pub(crate) clock: Clock,
    pub(crate) broker: Broker,
    pub(crate) radio: Radio,
    pub(crate) store: RecordStore,
    /// What the status page shows.
    pub(crate) mesh: watch::Sender<Mesh>,
}

/// The connection to the broker.
enum Link {
    Connecting(Pin<Box<dyn Future<Output = anyhow::Result<Connection>> + Send>>),
    Connected(Box<Connection>),
}

impl Shell {
    /// Runs until it is stopped.
    ///
    /// # Errors
    /// When the store fails, or the broker beside it is gone.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
        let mut link = self.connect()?;
        let mut commit: Option<Commit> = None;
        let mut backlog = VecDeque::new();
        loop {
            self.store_records(&mut commit);
            self.transmit().await;
            self.publish(&mut link, &mut backlog);
            self.mesh.send_modify(|mesh| show(&self.gateway, mesh));
            tokio::select! {
                biased;
                _ = stop.wait_for(|&stop| stop) => break,
                stored = wait_for(&mut commit) => {
                    stored.context("the gateway's state cannot be stored")?;
                    commit = None;
                    self.gateway.handle_stored(self.clock.now());
                }
                () = self.clock.sleep_until(self.gateway.poll_timeout()) => {
                    self.gateway.handle_timeout(self.clock.now());
                }
                Some(received) = self.radio.received.recv() => {
                    self.gateway.handle_pdu(self.clock.now(), &received.as_received());
                }
                happening = next(&mut link) => self.handle(happening?, &mut link, &mut backlog)?,
            }
        }
        // What was decided is still published, and last of all that the gateway is gone.
        if let Link::Connected(connection) = link {
            connection.close(self.gateway.will()).await?;
        }
        Ok(())
    }

    fn connect(&self) -> anyhow::Result<Link> {
        let (broker, request) = (self.broker.clone(), Request::of(&self.gateway)?);
        Ok(Link::Connecting(Box::pin(async move { broker.connect(request).await })))
    }

    fn store_records(&mut self, commit: &mut Option<Commit>) {
        if commit.is_none() {
            let records = self.gateway.take_records();
            if !records.is_empty() {
                *commit = Some(self.store.commit(records));
            }
        }
    }

    async fn transmit(&mut self) {
        while let Some(transmission) = self.gateway.poll_transmit() {
            // The other end of the radio is there as long as this one.
            let _ = self.radio.transmit.send(transmission).await;
        }
    }

    fn publish(&mut self, link: &mut Link, backlog: &mut VecDeque<Publication>) {
        let Link::Connected(connection) = link else { return };
        while connection.has_room() {
            let Some(publication) = backlog.pop_front().or_else(|| self.gateway.poll_publish()) else {
                return;
            };
            connection.publish(publication);
        }
    }

    fn handle(
        &mut self,
        happening: Linked,
        link: &mut Link,
        backlog: &mut VecDeque<Publication>,
    ) -> anyhow::Result<()> {
        let now = self.clock.now();
        match happening {
            Linked::Connected(connection) => {
                *link = Link::Connected(connection);
                self.gateway.handle_connected(now);
            }
            Linked::Happened(Happening::Message(message)) => {
                self.gateway.handle_publish(now, &inbox(&message))
            }
            Linked::Happened(Happening::Published(publication)) => {
                self.gateway.handle_published(now, &publication)
            }
            Linked::Happened(Happening::Lost(error)) => {
                let Broker::Elsewhere(remote) = &self.broker else {
                    anyhow::bail!("the gateway has lost its broker: {error}");
                };
                tracing::warn!(broker = remote.address, "the gateway has lost its broker: {error}");
                self.gateway.handle_disconnected();
                if let Link::Connected(connection) = std::mem::replace(link, self.connect()?) {
                    // They were before what still waits.
                    for publication in connection.into_unacknowledged().into_iter().rev() {
                        backlog.push_front(publication);
                    }
                }
            }
        }
        Ok(())
    }
}

/// What a link brings.
enum Linked {
    Connected(Box<Connection>),
    Happened(Happening),
}

async fn next(link: &mut Link) -> anyhow::Result<Linked> {
    Ok(match link {
        Link::Connecting(connecting) => Linked::Connected(Box::new(connecting.await?)),
        Link::Connected(connection) => Linked::Happened(connection.next().await),
    })
}

async fn wait_for(commit: &mut Option<Commit>) -> Result<(), journal::StoreError> {
    match commit {
        Some(commit) => commit.await,
        None => std::future::pending().await,
    }
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
    mesh.name.clone_from(&gateway.database().mesh_name);
    mesh.commands = statistics.commands;
    mesh.confirmed = statistics.confirmed;
    mesh.retries = statistics.retries;
    mesh.failed = statistics.failed;
    mesh.devices.clear();
    for device in gateway.devices() {
        let of = |name: &str, on, says| Device {
            name: name.to_owned(),
            address: device.address.to_string(),
            hops: device.hops,
            on,
            says,
        };
        if device.endpoints.is_empty() {
            mesh.devices.push(of(&device.name, None, String::new()));
        }
        mesh.devices.extend(
            device
                .endpoints
                .iter()
                .map(|endpoint| of(&endpoint.name, endpoint.shadow.on(), endpoint.summary())),
        );
    }
}
