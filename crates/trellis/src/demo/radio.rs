//! The simulated building at the pace of the clock.

use std::fs::File;
use std::io::Write as _;

use anyhow::Context as _;
use journal::{Commit, RecordStore};
use mesh_proto::bearer::Transmission;
use mesh_sim::OwnedReceived;
use tokio::sync::{mpsc, watch};

use super::Home;
use crate::gateway_shell::Clock;

/// A building that lives, with all that it runs on.
pub(super) struct Radio {
    pub(super) home: Home,
    pub(super) clock: Clock,
    pub(super) store: RecordStore,
    /// What the gateway sends.
    pub(super) transmissions: mpsc::Receiver<Transmission>,
    /// What it hears.
    pub(super) heard: mpsc::Sender<OwnedReceived>,
    /// Nodes whose radio is to be cut or mended.
    pub(super) cuts: mpsc::Receiver<(String, bool)>,
    pub(super) pcap: Option<File>,
}

impl Radio {
    /// Lets the building live until it is stopped.
    ///
    /// # Errors
    /// When the store or the capture cannot be written.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
        let mut commit: Option<Commit> = None;
        loop {
            self.home.handle_timeout(self.clock.now());
            if let Some(file) = &mut self.pcap {
                file.write_all(&self.home.world.take_pcap()).context("cannot write the capture")?;
            }
            // A gateway that does not keep up misses what a radio's host would miss.
            while let Some(received) = self.home.poll_received() {
                let _ = self.heard.try_send(received);
            }
            if commit.is_none() {
                let records = self.home.take_records();
                if !records.is_empty() {
                    commit = Some(self.store.commit(records));
                }
            }
            tokio::select! {
                biased;
                _ = stop.wait_for(|&stop| stop) => return Ok(()),
                stored = wait_for(&mut commit) => {
                    stored.context("the building's state cannot be stored")?;
                    commit = None;
                    self.home.handle_timeout(self.clock.now());
                    self.home.world.handle_stored();
                }
                Some(transmission) = self.transmissions.recv() => {
                    self.home.handle_timeout(self.clock.now());
                    self.home.world.transmit(self.home.port, transmission);
                }
                Some((name, is_cut)) = self.cuts.recv() => {
                    if !self.home.set_cut(&name, is_cut) {
                        tracing::warn!("there is no node named {name:?} whose radio could be cut or mended");
                    }
                }
                () = self.clock.sleep_until(self.home.poll_timeout()) => {}
            }
        }
    }
}

async fn wait_for(commit: &mut Option<Commit>) -> Result<(), journal::StoreError> {
    match commit {
        Some(commit) => commit.await,
        None => std::future::pending().await,
    }
}
