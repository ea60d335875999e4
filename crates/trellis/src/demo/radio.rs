//! The simulated medium at the pace of the clock.

use std::fs::File;
use std::io::Write as _;

use anyhow::Context as _;
use mesh_proto::bearer::Transmission;
use mesh_sim::OwnedReceived;
use tokio::sync::{mpsc, watch};

use super::Home;
use crate::gateway_shell::Clock;

/// Lets the building live until it is stopped.
pub(super) async fn run(
    mut home: Home,
    clock: Clock,
    mut transmissions: mpsc::Receiver<Transmission>,
    heard: mpsc::Sender<OwnedReceived>,
    mut pcap: Option<File>,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    loop {
        home.world.handle_timeout(clock.now());
        // A gateway that does not keep up misses what a radio's host would miss.
        while let Some((_, received)) = home.world.poll_received() {
            let _ = heard.try_send(received);
        }
        while home.world.poll_event().is_some() {}
        if let Some(file) = &mut pcap {
            file.write_all(&home.world.take_pcap()).context("cannot write the capture")?;
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|&stop| stop) => return Ok(()),
            Some(transmission) = transmissions.recv() => {
                home.world.handle_timeout(clock.now());
                home.world.transmit(home.port, transmission);
            }
            () = clock.sleep_until(home.world.poll_timeout()) => {}
        }
    }
}
