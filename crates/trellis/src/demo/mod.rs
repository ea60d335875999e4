//! The demo: a broker, a gateway and a simulated building in one process, in real time.

mod fixtures;
mod home;
mod life;
mod mesh;
mod network;
mod radio;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use mqtt_client::{Client, Options as ClientOptions};
use mqtt_server::{DurabilityConfig, ListenerConfig, Server, Storage as _};
use mqtt_wire::{QoS, SubscribeFilter, SubscriptionOptions, TopicFilter};
use tokio::sync::{mpsc, watch};

pub(crate) use home::{Home, Living, Plan};
pub(crate) use mesh::{Mesh, Options, write_keys};

use crate::cli::demo::Demo;
use crate::gateway_shell::Broker;
use crate::metrics::Figures;
use crate::status_page::{self, Status};

/// How often the status page's figures are renewed.
const REFRESH: Duration = Duration::from_millis(500);

/// Topics on which a node's name cuts or mends its radio.
const RADIO_CUT: &str = "demo/radio-cut";
const RADIO_MEND: &str = "demo/radio-mend";

/// Runs everything until SIGINT or SIGTERM.
pub(crate) async fn run(args: &Demo) -> anyhow::Result<()> {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // The ports first: a taken one is the likeliest thing to be in the way.
    let page = status_page::bind(local(args.http_port)).await?;
    let listeners = vec![ListenerConfig::new("demo", local(args.mqtt_port))];
    let data_dir = &args.building.data_dir;
    if args.building.fresh {
        forget(data_dir)?;
    }
    let durability = Some(DurabilityConfig::new(data_dir));
    let config = mqtt_server::Config { listeners, durability, ..mqtt_server::Config::default() };
    let server = Server::start(config).await?;
    let server = Arc::new(server);
    let mut mesh = Mesh::start(&args.building.options(true)?, Broker::Beside(server.clone())).await?;

    let status = Status { ready: true, mqtt: server.local_addresses().to_vec(), ..Status::default() };
    let (status_sender, status) = watch::channel(status);
    let page_address = page.local_addr()?;
    tokio::spawn(status_page::serve(page, status));
    let mqtt_port = server.local_addresses().first().map_or(args.mqtt_port, SocketAddr::port);
    let scissors = tokio::spawn(obey_scissors(server.clone(), mesh.cuts.clone()));
    crate::cli::print(&banner(args, mqtt_port, page_address, &mesh))?;

    watch_over(&server, &mut mesh, &status_sender).await?;
    crate::cli::print("\nStopping.\n")?;
    scissors.abort();
    let _ = scissors.await;
    mesh.stop().await?;
    if let Ok(server) = Arc::try_unwrap(server) {
        server.shutdown().await;
    }
    Ok(())
}

/// Forgets the broker's sessions and retained messages.
fn forget(data_dir: &Path) -> anyhow::Result<()> {
    let folder = mqtt_server::log_folder(data_dir)?;
    for segment in folder.list()? {
        folder.remove(segment)?;
    }
    Ok(())
}

/// Keeps the status page's figures new until the program is to stop.
///
/// # Errors
/// When the gateway or the building ends by itself.
pub(crate) async fn watch_over(
    server: &Server,
    mesh: &mut Mesh,
    status_sender: &watch::Sender<Status>,
) -> anyhow::Result<()> {
    let requested = crate::stop::requested();
    tokio::pin!(requested);
    let mut refresh = tokio::time::interval(REFRESH);
    loop {
        tokio::select! {
            requested = &mut requested => return requested.context("cannot wait for signals"),
            error = mesh.ended() => return Err(error),
            _ = refresh.tick() => {
                let broker = Figures::of(server).await;
                let shown = mesh.status.borrow().clone();
                status_sender.send_modify(|status| (status.broker, status.mesh) = (broker, Some(shown)));
            }
        }
    }
}

/// Cuts and mends radios as messages say, while the demo runs.
async fn obey_scissors(server: Arc<Server>, cuts: mpsc::Sender<(String, bool)>) -> anyhow::Result<()> {
    let stream = server.connect_local();
    drop(server);
    let (client, mut messages) = Client::connect(stream, ClientOptions::new("trellis-demo")).await?;
    let filter = |topic: &str| -> anyhow::Result<SubscribeFilter> {
        let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
        Ok(SubscribeFilter { filter: TopicFilter::new(topic)?, options })
    };
    client.subscribe(vec![filter(RADIO_CUT)?, filter(RADIO_MEND)?]).await?;
    loop {
        let message = messages.next().await?;
        let name = String::from_utf8_lossy(&message.payload).trim().to_owned();
        cuts.send((name, message.topic.as_str() == RADIO_CUT)).await?;
    }
}

fn banner(args: &Demo, mqtt_port: u16, page: SocketAddr, mesh: &Mesh) -> String {
    let port = if mqtt_port == 1883 { String::new() } else { format!(" -p {mqtt_port}") };
    // As it was called, so that the commands work where it is not installed.
    let program = std::env::args().next().unwrap_or_else(|| "trellis".to_owned());
    let capture = args.building.pcap.as_ref().map_or_else(String::new, |path| {
        let path = path.display();
        format!("  Capture       {path}; read it with: xargs tshark -2 -r {path} -Y btmesh < {path}.keys\n")
    });
    format!(
        "Trellis {version}: a broker, a gateway, and a building on a simulated radio, where people live.

  MQTT broker   127.0.0.1:{mqtt_port}, MQTT 3.1, 3.1.1 and 5.0, no credentials needed on loopback
  Status page   http://{page}/
  Building      {description}
  Network       {database} (keys, addresses, names); its state is kept, --fresh begins anew
{capture}  Messages      sessions and retained messages are kept, too, in {data_dir}

Try, in another terminal (mosquitto_pub and mosquitto_sub take the same flags):

  {program} sub{port} -t 'mesh/#' -v
  {program} pub{port} -t 'mesh/{farthest}/set' -m '{{\"state\":\"ON\",\"brightness\":200}}'
  {program} pub{port} -t 'mesh/lights/set' -m '{{\"brightness\":50,\"transition\":2}}'
  {program} pub{port} -t '{RADIO_CUT}' -m '{farthest}'

Ctrl-C stops it.
",
        version = env!("CARGO_PKG_VERSION"),
        description = mesh.description,
        data_dir = args.building.data_dir.display(),
        database = mesh.database_path.display(),
        farthest = mesh.farthest,
    )
}
