//! `trellis mesh-node`: one node, run by hand on a bearer.

mod command;
mod host;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use mesh_io::{Repeater, UnixDatagram};
use mesh_proto::bearer::Received;
use mesh_sim::Pcap;
use mesh_wire::bearer::AdType;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::cli::print;
use crate::gateway_shell::Clock;
use command::Command;
use host::Host;

/// A feature that a node may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Feature {
    /// Keeps messages for nodes that sleep
    Friend,
    /// Sleeps, and asks a Friend, once it is told `low-power on`
    LowPower,
}

/// How the node is run.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) path: PathBuf,
    pub(crate) uuid: [u8; 16],
    pub(crate) static_oob: Option<Vec<u8>>,
    pub(crate) pb_adv_retry: Duration,
    pub(crate) features: Vec<Feature>,
    pub(crate) pcap: Option<PathBuf>,
}

/// Runs the node until `quit` or the end of the input.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let bearer = UnixDatagram::bind(&options.path)
        .with_context(|| format!("cannot listen at {}.peer", options.path.display()))?;
    let clock = Clock::start();
    let mut capture = Capture::new(options.pcap.clone())?;
    let mut repeater = Repeater::new(seed()?);
    let mut host = Host::new(clock.now(), options)?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        let now = clock.now();
        while let Some(transmission) = host.poll_transmit() {
            repeater.push(now, transmission);
        }
        while let Some((ad_type, data)) = repeater.pop_due(now) {
            capture.record(now, 1, ad_type, &data)?;
            bearer.send(ad_type, &data)?;
        }
        for line in host.take_lines() {
            print(&format!("{line}\n"))?;
        }
        let next = [host.poll_timeout(), repeater.poll_timeout()].into_iter().flatten().min();
        tokio::select! {
            biased; // an overdue timer goes before more input
            () = clock.sleep_until(next) => host.handle_timeout(clock.now()),
            received = bearer.recv() => {
                let received = received?;
                let now = clock.now();
                capture.record(now, 2, received.ad_type, &received.data)?;
                host.handle_pdu(now, &Received {
                    ad_type: received.ad_type,
                    data: &received.data,
                    rssi: -50,
                });
            }
            line = lines.next_line() => match line?.as_deref().map(str::parse) {
                None | Some(Ok(Command::Quit)) => return Ok(()),
                Some(Ok(command)) => host.handle_command(clock.now(), command)?,
                Some(Err(error)) => host.complain(&error),
            },
        }
    }
}

/// What was on the air, in a file.
struct Capture {
    file: Option<(std::fs::File, Pcap)>,
}

impl Capture {
    fn new(path: Option<PathBuf>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self { file: None }) };
        let file =
            std::fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let epoch = u64::try_from(epoch.as_micros()).unwrap_or(0);
        Ok(Self { file: Some((file, Pcap::new(epoch))) })
    }

    fn record(
        &mut self,
        now: clock::Instant,
        advertiser: u8,
        ad_type: AdType,
        data: &[u8],
    ) -> anyhow::Result<()> {
        let Some((file, pcap)) = &mut self.file else { return Ok(()) };
        let length = u8::try_from(data.len() + 1).unwrap_or(u8::MAX);
        let ad_structure = [&[length, ad_type.into()], data].concat();
        pcap.record(now, [0xc0, 0, 0, 0, 0, advertiser], &ad_structure);
        std::io::Write::write_all(file, &pcap.take())?;
        Ok(())
    }
}

/// Octets in hexadecimal, of a fixed number.
pub(crate) fn octets<const N: usize>(text: &str) -> anyhow::Result<[u8; N]> {
    any_octets(text)?.try_into().map_err(|_| anyhow::anyhow!("not {N} octets"))
}

/// Octets in hexadecimal.
pub(crate) fn any_octets(text: &str) -> anyhow::Result<Vec<u8>> {
    hex::decode(text).map_err(|error| anyhow::anyhow!("{text} is not in hexadecimal: {error}"))
}

/// A random UUID of RFC 4122's version 4.
pub(crate) fn random_uuid() -> anyhow::Result<[u8; 16]> {
    let mut uuid = [0; 16];
    getrandom::fill(&mut uuid)?;
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    Ok(uuid)
}

/// What secrets and random delays come from.
fn seed() -> anyhow::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(seed)
}
