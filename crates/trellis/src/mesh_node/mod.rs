//! `trellis mesh-node`: one node, run by hand on a bearer.

mod addresses;
mod air;
mod command;
mod host;
mod memory;
pub(crate) mod oob;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use journal::RecordStore;
use mesh_io::{Advertisement, Repeater, UnixDatagram};
use mesh_proto::bearer::Received;
use mesh_proto::low_power::LowPowerSettings;
use mesh_sim::Pcap;
use mesh_wire::bearer::AdType;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::cli::print;
use crate::gateway_shell::Clock;
use air::{Air, Corridor, Heard};
use command::Command;
use host::{Host, Settings};
use memory::Memory;
use oob::DeviceOob;

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
    pub(crate) bearer: Bearer,
    pub(crate) uuid: Option<[u8; 16]>,
    pub(crate) oob: DeviceOob,
    pub(crate) pb_adv_retry: Duration,
    pub(crate) features: Vec<Feature>,
    pub(crate) low_power: LowPowerSettings,
    pub(crate) pcap: Option<PathBuf>,
    pub(crate) data_dir: Option<PathBuf>,
}

/// What carries advertisements.
#[derive(Clone, Debug)]
pub(crate) enum Bearer {
    /// The socket of `bluetooth-meshd`.
    Unix(PathBuf),
    /// The same socket, in the place of `bluetooth-meshd`.
    UnixListen(PathBuf),
    /// Air in this process, with so many devices.
    Simulated(u8),
}

/// Runs the node until `quit` or the end of the input.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let clock = Clock::start();
    let mut air = air(clock.now(), &options)?;
    let mut capture = Capture::new(options.pcap.clone())?;
    let store = options.data_dir.as_deref().map(RecordStore::open).transpose()?;
    options.oob.check()?;
    let mut host = Host::new(clock.now(), &settings(&options), memory(store.as_ref())?)?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        let now = clock.now();
        if let Some(store) = &store {
            remember(now, &mut host, store).await?;
        }
        while let Some(transmission) = host.poll_transmit() {
            air.send(now, transmission);
        }
        for (ad_type, data) in air.handle_timeout(now)? {
            capture.record(now, 1, ad_type, &data)?;
        }
        for line in host.take_lines().into_iter().chain(air.take_lines()) {
            print(&format!("{line}\n"))?;
        }
        let next = [host.poll_timeout(), air.poll_timeout()].into_iter().flatten().min();
        tokio::select! {
            biased; // an overdue timer goes before more input
            () = clock.sleep_until(next) => host.handle_timeout(clock.now()),
            heard = air.recv() => {
                let Heard { advertisement: Advertisement { ad_type, data }, rssi } = heard?;
                let now = clock.now();
                capture.record(now, 2, ad_type, &data)?;
                host.handle_pdu(now, &Received { ad_type, data: &data, rssi });
            }
            line = lines.next_line() => match line?.as_deref().map(str::parse) {
                None | Some(Ok(Command::Quit)) => return Ok(()),
                Some(Ok(Command::Enter(value))) => {
                    let now = clock.now();
                    if !host.enter(now, &value) && !air.enter(now, &value) {
                        host.complain(&"no such value is asked for");
                    }
                }
                Some(Ok(command)) => host.handle_command(clock.now(), command)?,
                Some(Err(error)) => host.complain(&error),
            },
        }
    }
}

fn settings(options: &Options) -> Settings {
    Settings {
        uuid: options.uuid,
        oob: options.oob.clone(),
        pb_adv_retry: options.pb_adv_retry,
        features: options.features.clone(),
        low_power: options.low_power,
    }
}

fn air(now: clock::Instant, options: &Options) -> anyhow::Result<Air> {
    match &options.bearer {
        Bearer::Unix(path) => {
            let bearer = UnixDatagram::bind(path)
                .with_context(|| format!("cannot listen at {}.peer", path.display()))?;
            Ok(Air::Socket { bearer, repeater: Box::new(Repeater::new(seed()?)) })
        }
        Bearer::UnixListen(path) => {
            let bearer = UnixDatagram::bind_as_meshd(path)
                .with_context(|| format!("cannot listen at {}", path.display()))?;
            Ok(Air::Socket { bearer, repeater: Box::new(Repeater::new(seed()?)) })
        }
        Bearer::Simulated(count) => {
            // Each lamp is itself: a UUID or a key pair of its own.
            let mut settings = Settings { uuid: None, ..settings(options) };
            settings.oob.key = None;
            let device = |_| Host::new(now, &settings, Memory::forgetful());
            let devices = (0..*count).map(device).collect::<anyhow::Result<Vec<Host>>>()?;
            let [a, b, c, d, e, f, g, h, ..] = seed()?;
            Ok(Air::Simulated(Box::new(Corridor::new(u64::from_be_bytes([a, b, c, d, e, f, g, h]), devices))))
        }
    }
}

fn memory(store: Option<&RecordStore>) -> anyhow::Result<Memory> {
    store.map_or_else(|| Ok(Memory::forgetful()), Memory::load)
}

/// Stores what is to be stored before anything is sent that depends on it.
async fn remember(now: clock::Instant, host: &mut Host, store: &RecordStore) -> anyhow::Result<()> {
    let changes = host.take_changes();
    if !changes.is_empty() {
        store.commit(changes).await.context("the node's state cannot be stored")?;
        host.handle_stored(now);
    }
    // What was stored is what the reset waited for.
    if host.take_reset() {
        store.commit(memory::forget(store.load()?)).await?;
    }
    Ok(())
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
