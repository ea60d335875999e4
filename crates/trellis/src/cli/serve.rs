use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use mqtt_server::Server;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::Config;
use crate::listener_config::Listener;
use crate::status_page::{self, Broker, Status};

/// Run the broker as a configuration file says
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// The configuration file [default: none; everything at its default]
    #[arg(short, long)]
    config: Option<PathBuf>,
}

/// How often the status page's figures are renewed.
const REFRESH: Duration = Duration::from_millis(500);

/// Serves until SIGINT or SIGTERM.
pub(crate) async fn run(args: Serve) -> anyhow::Result<()> {
    super::start_logging("info");
    let config = match &args.config {
        Some(path) => Config::load(path)?,
        None => Config::defaults(),
    };
    let page = status_page::bind(config.console.bind).await?;
    let page_address = page.local_addr()?;
    let server = Server::start(server_config(&config)?).await?;
    super::print(&banner(&config, &server, page_address))?;
    let status = Status { ready: true, mqtt: server.local_addresses().to_vec(), ..Status::default() };
    let (sender, receiver) = watch::channel(status);
    tokio::spawn(status_page::serve(page, receiver));
    let mut refresh = tokio::time::interval(REFRESH);
    let stop = crate::stop::requested();
    tokio::pin!(stop);
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for signals")?;
    loop {
        tokio::select! {
            stopped = &mut stop => break stopped.context("cannot wait for signals")?,
            Some(()) = hangup.recv() => reload(&server),
            _ = refresh.tick() => {
                let broker = Broker::of(&server).await;
                sender.send_modify(|status| status.broker = broker);
            }
        }
    }
    super::print("Stopping.\n")?;
    server.shutdown().await;
    Ok(())
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
    let defaults = mqtt_server::Config::default();
    Ok(mqtt_server::Config { listeners, limits, access, sys_interval, response_information, ..defaults })
}

fn banner(config: &Config, server: &Server, page: std::net::SocketAddr) -> String {
    let mut text = format!("Trellis {}\n\n", env!("CARGO_PKG_VERSION"));
    for (listener, address) in config.listeners.iter().zip(server.local_addresses()) {
        let transport = listener.transport.name();
        text +=
            &format!("  MQTT 3.1, 3.1.1 and 5.0 on {address} ({transport}, listener {:?})\n", listener.name);
    }
    text += &format!("  Status page on http://{page}/\n");
    text += "  Sessions and retained messages are in memory: a restart loses them.\n";
    text += &format!("  Data directory {}: nothing is kept there yet.\n", config.data_dir.display());
    text
}
