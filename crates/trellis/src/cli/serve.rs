use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use mqtt_server::Server;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::{Config, Drain};
use crate::demo::{Living, Mesh, Options};
use crate::gateway_shell;
use crate::listener_config::Listener;
use crate::metrics::Figures;
use crate::status_page::{self, Status};

/// Run the broker, and the gateway of a mesh, as a configuration file says
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// The configuration file [default: none; everything at its default]
    #[arg(short, long)]
    config: Option<PathBuf>,
}

/// How often the status page's figures are renewed.
const REFRESH: Duration = Duration::from_millis(500);

/// Serves until SIGINT or SIGTERM. SIGHUP reads files again; SIGUSR1 drains the server, and SIGUSR2 ends that.
pub(crate) async fn run(args: Serve) -> anyhow::Result<()> {
    super::start_logging("info");
    let config = match &args.config {
        Some(path) => Config::load(path)?,
        None => Config::defaults(),
    };
    let building = building(&config)?;
    let page = status_page::bind(config.console.bind).await?;
    let page_address = page.local_addr()?;
    let server = Arc::new(Server::start(server_config(&config)?).await?);
    let mut mesh = match &building {
        Some(options) => Some(Mesh::start(options, gateway_shell::Broker::Beside(server.clone())).await?),
        None => None,
    };
    super::print(&banner(&config, &server, page_address, mesh.as_ref()))?;
    let status = Status { ready: true, mqtt: server.local_addresses().to_vec(), ..Status::default() };
    let (sender, receiver) = watch::channel(status);
    tokio::spawn(status_page::serve(page, receiver));
    let mut refresh = tokio::time::interval(REFRESH);
    let stop = crate::stop::requested();
    tokio::pin!(stop);
    let on = |kind| signal(kind).context("cannot wait for signals");
    let mut hangup = on(SignalKind::hangup())?;
    let (mut leave, mut stay) = (on(SignalKind::user_defined1())?, on(SignalKind::user_defined2())?);
    loop {
        tokio::select! {
            stopped = &mut stop => break stopped.context("cannot wait for signals")?,
            Some(()) = hangup.recv() => reload(&server),
            error = ended(&mut mesh) => return Err(error),
            Some(()) = leave.recv() => drain(&server, config.drain.as_ref()).await,
            Some(()) = stay.recv() => {
                tracing::info!("clients are taken again");
                server.undrain().await;
            }
            _ = refresh.tick() => {
                let broker = Figures::of(&server).await;
                let shown = mesh.as_ref().map(|mesh| mesh.status.borrow().clone());
                sender.send_modify(|status| (status.broker, status.mesh) = (broker, shown));
            }
        }
    }
    super::print("Stopping.\n")?;
    if let Some(config) = &config.drain {
        drain(&server, Some(config)).await;
        tokio::time::sleep(Duration::from_secs(config.linger_s)).await;
    }
    if let Some(mesh) = mesh {
        mesh.stop().await?;
    }
    if let Ok(server) = Arc::try_unwrap(server) {
        server.shutdown().await;
    }
    Ok(())
}

/// What the file's mesh is reached through. Only a simulated radio can be, yet.
fn building(config: &Config) -> anyhow::Result<Option<Options>> {
    let Some(mesh) = config.mesh.first() else { return Ok(None) };
    let radio = mesh.radio.as_ref().context(
        "[[mesh]] does not say through what the mesh is reached; add radio = { type = \"simulated\" }",
    )?;
    Ok(Some(Options {
        data_dir: config.data_dir.clone(),
        fresh: false,
        plan: radio.plan(),
        living: Living::default(),
        seed: None,
        pcap: None,
        cuts: Vec::new(),
        config: mesh.clone(),
    }))
}

/// Waits for the mesh to end by itself, which it should not.
async fn ended(mesh: &mut Option<Mesh>) -> anyhow::Error {
    match mesh {
        Some(mesh) => mesh.ended().await,
        None => std::future::pending().await,
    }
}

/// Sends clients to the server of the configuration; without one they are told to try any other.
async fn drain(server: &Server, config: Option<&Drain>) {
    let reference = config.map(|config| config.server_reference.clone());
    tracing::warn!(server = reference.as_deref(), "clients are sent to another server");
    server.drain(reference, config.is_some_and(|config| config.permanent)).await;
}

/// Reads certificates, passwords and rules again.
fn reload(server: &Server) {
    let errors = server.reload();
    for error in &errors {
        tracing::error!(%error, "what was in force stays");
    }
    if errors.is_empty() {
        tracing::info!("certificates, passwords and rules were read again");
    }
}

fn server_config(config: &Config) -> anyhow::Result<mqtt_server::Config> {
    let listeners = config.listeners.iter().map(Listener::to_server).collect::<anyhow::Result<_>>()?;
    let limits = config.mqtt.limits();
    let sys_interval = Duration::from_secs(config.mqtt.sys_msg_interval);
    let response_information = config.mqtt.response_information.clone();
    let access = config.access.to_server();
    let durability = config.durability.to_server(&config.data_dir);
    Ok(mqtt_server::Config {
        listeners,
        limits,
        access,
        durability,
        sys_interval,
        response_information,
        ..mqtt_server::Config::default()
    })
}

fn banner(config: &Config, server: &Server, page: std::net::SocketAddr, mesh: Option<&Mesh>) -> String {
    let mut text = format!("Trellis {}\n\n", env!("CARGO_PKG_VERSION"));
    for (listener, address) in config.listeners.iter().zip(server.local_addresses()) {
        let transport = listener.transport.name();
        text +=
            &format!("  MQTT 3.1, 3.1.1 and 5.0 on {address} ({transport}, listener {:?})\n", listener.name);
    }
    text += &format!("  Status page on http://{page}/\n");
    text += &match config.durability.to_server(&config.data_dir) {
        Some(_) => format!("  Sessions and retained messages are kept in {}\n", config.data_dir.display()),
        None => "  Sessions and retained messages are in memory: a restart loses them.\n".to_owned(),
    };
    if let Some(mesh) = mesh {
        text += &format!("  Mesh: {}\n", mesh.description);
        text += &format!("  Network {} (keys, addresses, names)\n", mesh.database_path.display());
    }
    text
}
