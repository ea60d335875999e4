//! The demo: a broker, a gateway and a simulated building in one process, in real time.

mod home;
mod radio;

use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use gateway::Gateway;
use mesh_commission::cdb::NetworkDatabase;
use mqtt_server::{ListenerConfig, Server};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub(crate) use home::Home;

use crate::cli::demo::Demo;
use crate::gateway_shell::{self, Clock, Radio};
use crate::status_page::{self, Broker, Mesh, Status};

/// Advertisements that may wait between the gateway and the simulated medium.
const RADIO_QUEUE: usize = 256;

/// How often the status page's figures are renewed.
const REFRESH: Duration = Duration::from_millis(500);

/// Runs everything until SIGINT or SIGTERM.
pub(crate) async fn run(args: &Demo) -> anyhow::Result<()> {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // The ports first: a taken one is the likeliest thing to be in the way.
    let page = status_page::bind(local(args.http_port)).await?;
    let listeners = vec![ListenerConfig::new("demo", local(args.mqtt_port))];
    let server = Server::start(mqtt_server::Config { listeners, ..mqtt_server::Config::default() }).await?;

    let mut home = Home::build(args.seed, now_rfc3339())?;
    let database_path = write_database(&args.data_dir, &home.database)?;
    let pcap = args.pcap.as_deref().map(|path| home.capture_to(path)).transpose()?;
    if let Some(path) = &args.pcap {
        write_keys(path, &home.database)?;
    }
    // The gateway knows of the network what the file says, and nothing else.
    let text = std::fs::read_to_string(&database_path)
        .with_context(|| format!("cannot read {}", database_path.display()))?;
    let database = NetworkDatabase::from_json(&text)?;
    let clock = Clock::start();
    let gateway = Gateway::new(clock.now(), &home.gateway_config(), &database)?;

    let farthest = home.farthest_lamp().to_owned();
    let medium = home.describe_medium();
    let (transmit, transmissions) = mpsc::channel(RADIO_QUEUE);
    let (heard, received) = mpsc::channel(RADIO_QUEUE);
    let (stop, stopped) = watch::channel(false);
    let radio = tokio::spawn(radio::run(home, clock, transmissions, heard, pcap, stopped.clone()));
    let (mesh_sender, mesh) = watch::channel(Mesh { medium: medium.clone(), ..Mesh::default() });
    let mesh_name = database.mesh_name.clone();
    let stream = server.connect_local();
    let shell = gateway_shell::run(
        gateway,
        mesh_name,
        clock,
        stream,
        Radio { transmit, received },
        mesh_sender,
        stopped,
    );
    let mut shell = tokio::spawn(shell);

    let status = Status { ready: true, mqtt: server.local_addresses().to_vec(), ..Status::default() };
    let (status_sender, status) = watch::channel(status);
    let page_address = page.local_addr()?;
    tokio::spawn(status_page::serve(page, status));
    let mqtt_port = server.local_addresses().first().map_or(args.mqtt_port, SocketAddr::port);
    crate::cli::print(&banner(args, mqtt_port, page_address, &database_path, &farthest, &medium))?;

    watch_over(&server, &mut shell, &mesh, &status_sender).await?;
    crate::cli::print("\nStopping.\n")?;
    let _ = stop.send(true);
    shell.await.context("the gateway has crashed")??;
    radio.await.context("the simulation has crashed")??;
    server.shutdown().await;
    Ok(())
}

/// Keeps the status page's figures new until the demo is to stop.
///
/// # Errors
/// When the gateway ends by itself.
async fn watch_over(
    server: &Server,
    shell: &mut JoinHandle<anyhow::Result<()>>,
    mesh: &watch::Receiver<Mesh>,
    status_sender: &watch::Sender<Status>,
) -> anyhow::Result<()> {
    let requested = crate::stop::requested();
    tokio::pin!(requested);
    let mut refresh = tokio::time::interval(REFRESH);
    loop {
        tokio::select! {
            requested = &mut requested => return requested.context("cannot wait for signals"),
            ended = &mut *shell => {
                ended.context("the gateway has crashed")??;
                anyhow::bail!("the gateway has stopped");
            }
            _ = refresh.tick() => {
                let broker = Broker::of(server).await;
                let mesh = mesh.borrow().clone();
                status_sender.send_modify(|status| (status.broker, status.mesh) = (broker, Some(mesh)));
            }
        }
    }
}

/// Writes the network database for its owner's eyes only: it holds the keys.
fn write_database(data_dir: &Path, database: &NetworkDatabase) -> anyhow::Result<std::path::PathBuf> {
    std::fs::create_dir_all(data_dir)
        .with_context(|| format!("cannot make the data directory {}", data_dir.display()))?;
    let path = data_dir.join("network.json");
    write_secret(&path, &(database.to_json() + "\n"))?;
    Ok(path)
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
            text +=
                &format!("-o 'uat:btmesh_nw_keys:\"0x{net}\",\"0x{app}\",\"0x{:08x}\"'\n", home::IV_INDEX);
        }
    }
    // tshark looks a device key up by the sender, which is the node or the gateway that configures it.
    for node in &database.nodes {
        let Some(key) = node.device_key.as_ref().map(hex) else { continue };
        for address in [node.unicast_address, mesh_commission::cdb::Hex16(home::GATEWAY_ADDRESS)] {
            text += &format!("-o 'uat:btmesh_dev_keys:\"0x{key}\",\"0x{address}\"'\n");
        }
    }
    write_secret(Path::new(&path), &text)
}

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

fn banner(
    args: &Demo,
    mqtt_port: u16,
    page: SocketAddr,
    database: &Path,
    farthest: &str,
    medium: &str,
) -> String {
    let port = if mqtt_port == 1883 { String::new() } else { format!(" -p {mqtt_port}") };
    // As it was called, so that the commands work where it is not installed.
    let program = std::env::args().next().unwrap_or_else(|| "trellis".to_owned());
    let capture = args.pcap.as_ref().map_or_else(String::new, |path| {
        let path = path.display();
        format!("  Capture       {path}; read it with: xargs tshark -2 -r {path} -Y btmesh < {path}.keys\n")
    });
    format!(
        "Trellis {version}: a broker, a gateway, and a building with eight lamps on a simulated radio.

  MQTT broker   127.0.0.1:{mqtt}, MQTT 3.1, 3.1.1 and 5.0, no credentials needed on loopback
  Status page   http://{page}/
  Network       {database} (keys, addresses, names), seed {seed}
  Radio         {medium}
{capture}  Sessions and retained messages are in memory: a restart loses them.

Try, in another terminal (mosquitto_pub and mosquitto_sub take the same flags):

  {program} sub{port} -t 'mesh/#' -v
  {program} pub{port} -t 'mesh/{farthest}/set' -m '{{\"state\":\"ON\"}}'
  {program} pub{port} -t 'mesh/kitchen/ceiling/set' -m '{{\"state\":\"ON\",\"transition\":2}}'

Ctrl-C stops it.
",
        version = env!("CARGO_PKG_VERSION"),
        mqtt = mqtt_port,
        database = database.display(),
        seed = args.seed,
    )
}
