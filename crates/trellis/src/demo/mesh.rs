//! A building and its gateway, started: what the demo, `trellis gateway` and `trellis serve` have in common.

use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use gateway::Gateway;
use journal::RecordStore;
use mesh_commission::cdb::{Hex16, NetworkDatabase};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::home::{self, Home, Living, Plan};
use super::network;
use super::radio::Radio;
use crate::gateway_shell::{self, Broker, Clock, Shell};
use crate::mesh_config::MeshConfig;
use crate::status_page;

/// Advertisements that may wait between the gateway and the simulated medium.
const RADIO_QUEUE: usize = 256;

/// The key of what the building is.
const BUILDING: &[u8] = b"building";

/// The gateway's records begin with this.
const GATEWAY: &[u8] = b"g/";

/// What is started.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Where state is kept.
    pub(crate) data_dir: PathBuf,
    /// Whether to forget what is kept there first.
    pub(crate) fresh: bool,
    pub(crate) plan: Plan,
    pub(crate) living: Living,
    /// What keys and medium come from; `None`: from the system's random device.
    pub(crate) seed: Option<u64>,
    /// Where to record what is on the air.
    pub(crate) pcap: Option<PathBuf>,
    /// Nodes whose radio is cut at the start.
    pub(crate) cuts: Vec<String>,
    pub(crate) config: MeshConfig,
}

/// A building and its gateway.
pub(crate) struct Mesh {
    /// What the status page shows.
    pub(crate) status: watch::Receiver<status_page::Mesh>,
    /// The lamp with the most hops.
    pub(crate) farthest: String,
    /// What the building is, in a sentence.
    pub(crate) description: String,
    /// Where the network database is written.
    pub(crate) database_path: PathBuf,
    /// Cuts and mends the radios of nodes.
    pub(crate) cuts: mpsc::Sender<(String, bool)>,
    shell: JoinHandle<anyhow::Result<()>>,
    radio: JoinHandle<anyhow::Result<()>>,
    stop: watch::Sender<bool>,
}

/// What the store knows of the building.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    plan: Plan,
    database: NetworkDatabase,
}

impl Mesh {
    /// Makes or restores the building, and starts its gateway with `broker`.
    ///
    /// # Errors
    /// When the store cannot be used, or holds another building.
    pub(crate) async fn start(options: &Options, broker: Broker) -> anyhow::Result<Self> {
        let store = RecordStore::open(&options.data_dir)?;
        if options.fresh {
            let all = store.load()?.into_iter().map(|(key, _)| (key, None)).collect();
            store.commit(all).await?;
        }
        let database = network_of(&store, options).await?;
        let seed = options.seed.map_or_else(random, Ok)?;
        let records = home::records_of(store.load()?);
        let mut home = Home::build(&options.plan, &options.living, seed, database, records)?;
        for name in &options.cuts {
            if !home.set_cut(name, true) {
                let names: Vec<&str> = home.fixtures().iter().map(|fixture| fixture.name.as_str()).collect();
                bail!(
                    "there is no node named {name:?} whose radio could be cut; there are {}",
                    names.join(", ")
                );
            }
        }
        let pcap = options.pcap.as_deref().map(|path| home.capture_to(path)).transpose()?;
        if let Some(path) = &options.pcap {
            write_keys(path, &home.database)?;
        }
        let clock = Clock::start();
        let gateway = start_gateway(options, &store, &home.database, clock)?;
        let database_path = options.data_dir.join("network.json");
        write_secret(&database_path, &(gateway.database().to_json() + "\n"))?;

        let (transmit, transmissions) = mpsc::channel(RADIO_QUEUE);
        let (heard, received) = mpsc::channel(RADIO_QUEUE);
        let (cuts, cut) = mpsc::channel(RADIO_QUEUE);
        let (stop, stopped) = watch::channel(false);
        let (farthest, description) = (home.farthest_lamp().to_owned(), home.describe());
        let (mesh, status) =
            watch::channel(status_page::Mesh { medium: description.clone(), ..status_page::Mesh::default() });
        let radio = Radio { home, clock, store: store.clone(), transmissions, heard, cuts: cut, pcap };
        let radio = tokio::spawn(radio.run(stopped.clone()));
        let radio_of = gateway_shell::Radio { transmit, received };
        let store = store.within(GATEWAY);
        let shell = Shell { gateway, clock, broker, radio: radio_of, store, mesh };
        let shell = tokio::spawn(shell.run(stopped));
        Ok(Self { status, farthest, description, database_path, cuts, shell, radio, stop })
    }

    /// Waits for the gateway or the building to end by itself, which neither should.
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        tokio::select! {
            ended = &mut self.shell => why(ended, "the gateway"),
            ended = &mut self.radio => why(ended, "the simulation"),
        }
    }

    /// Stops both, and waits until all that was decided is published and stored.
    ///
    /// # Errors
    /// Why one of them did not end well.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let _ = self.stop.send(true);
        self.shell.await.context("the gateway has crashed")??;
        self.radio.await.context("the simulation has crashed")?
    }
}

fn why(ended: Result<anyhow::Result<()>, tokio::task::JoinError>, what: &str) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow::anyhow!("{what} has stopped"),
        Ok(Err(error)) => error,
        Err(error) => anyhow::anyhow!("{what} has crashed: {error}"),
    }
}

/// The network that the store knows, or a new one.
async fn network_of(store: &RecordStore, options: &Options) -> anyhow::Result<NetworkDatabase> {
    let known = store.load()?.into_iter().find(|(key, _)| key == BUILDING);
    if let Some((_, value)) = known {
        let data_dir = options.data_dir.display();
        let Known { plan, database } = serde_json::from_slice(&value)
            .with_context(|| format!("the building in {data_dir} cannot be read; begin anew with --fresh"))?;
        if plan != options.plan {
            bail!(
                "{data_dir} holds another building ({}); ask for that one, begin anew with --fresh, or choose \
                 another --data-dir",
                describe(&plan)
            );
        }
        return Ok(database);
    }
    let mut rng = match options.seed {
        Some(seed) => ChaCha20Rng::seed_from_u64(seed),
        None => ChaCha20Rng::from_seed(random_seed()?),
    };
    let database = options.plan.describe(&mut rng, now_rfc3339())?;
    let known = Known { plan: options.plan.clone(), database };
    store.commit(vec![(BUILDING.to_vec(), Some(serde_json::to_vec(&known)?))]).await?;
    Ok(known.database)
}

fn describe(plan: &Plan) -> String {
    let nodes = plan.nodes.map_or_else(|| "the home".to_owned(), |nodes| format!("--nodes {nodes}"));
    format!("{nodes}, --status-period {}", humantime::format_duration(plan.status_period))
}

fn start_gateway(
    options: &Options,
    store: &RecordStore,
    database: &NetworkDatabase,
    clock: Clock,
) -> anyhow::Result<Gateway> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let origin = u64::try_from(since_1970.as_millis()).unwrap_or(0);
    // Another seed at each start, whatever the building's: no transaction is to be mistaken for an earlier one.
    let config = options.config.to_gateway(random_seed()?, origin);
    Ok(Gateway::new(clock.now(), &config, database, store.within(GATEWAY).load()?)?)
}

fn random_seed() -> anyhow::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("the system gives no randomness")?;
    Ok(seed)
}

fn random() -> anyhow::Result<u64> {
    let [a, b, c, d, e, f, g, h, ..] = random_seed()?;
    Ok(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

/// Writes beside a capture the options with which tshark decrypts it:
/// `xargs tshark -2 -r FILE < FILE.keys`.
pub(crate) fn write_keys(pcap: &Path, database: &NetworkDatabase) -> anyhow::Result<()> {
    let mut path = pcap.as_os_str().to_owned();
    path.push(".keys");
    let hex = |key: &mesh_commission::cdb::Key| key.0.iter().map(|x| format!("{x:02x}")).collect::<String>();
    let mut text = String::new();
    for app_key in &database.app_keys {
        for net_key in database.net_keys.iter().filter(|net_key| net_key.index == app_key.bound_net_key) {
            let (net, app) = (hex(&net_key.key), hex(&app_key.key));
            let iv_index = network::IV_INDEX;
            text += &format!("-o 'uat:btmesh_nw_keys:\"0x{net}\",\"0x{app}\",\"0x{iv_index:08x}\"'\n");
        }
    }
    // tshark looks a device key up by the sender, which is the node or the gateway that configures it.
    for node in &database.nodes {
        let Some(key) = node.device_key.as_ref().map(hex) else { continue };
        for address in [node.unicast_address, Hex16(network::GATEWAY_ADDRESS)] {
            text += &format!("-o 'uat:btmesh_dev_keys:\"0x{key}\",\"0x{address}\"'\n");
        }
    }
    write_secret(Path::new(&path), &text)
}

/// Writes a file for its owner's eyes only.
fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
    // A file that was there before keeps its mode otherwise.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

fn now_rfc3339() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
