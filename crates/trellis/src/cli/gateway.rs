use std::path::PathBuf;

use anyhow::Context as _;
use mqtt_wire::Version;

use super::building::Building;
use super::client::version;
use crate::demo::Mesh;
use crate::gateway_shell::{Broker, Remote};

/// Run a gateway, with a simulated building, in front of another broker
///
/// A broker that is gone is tried again; what was to be published meanwhile is published then.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Gateway {
    /// The broker: mqtt://HOST or mqtt://HOST:PORT
    #[arg(long, value_name = "URL", value_parser = address)]
    broker: String,
    /// The version of MQTT: 3.1.1 or 5
    #[arg(short = 'V', long, default_value = "5", value_parser = version)]
    mqtt_version: Version,
    /// The Client Identifier, under which the broker keeps the gateway's session
    #[arg(short = 'i', long, default_value = "trellis-gateway")]
    client_id: String,
    /// User name
    #[arg(short, long)]
    username: Option<String>,
    /// A file that holds the password, on one line
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    building: Building,
}

/// Runs until SIGINT or SIGTERM.
pub(crate) async fn run(args: Gateway) -> anyhow::Result<()> {
    super::start_logging("info");
    let remote = Remote {
        address: args.broker.clone(),
        client_id: args.client_id.clone(),
        version: args.mqtt_version,
        username: args.username.clone(),
        password: args.password_file.as_deref().map(password).transpose()?,
    };
    let mut mesh = Mesh::start(&args.building.options(false)?, Broker::Elsewhere(remote)).await?;
    super::print(&banner(&args, &mesh))?;
    let stop = crate::stop::requested();
    tokio::pin!(stop);
    tokio::select! {
        stopped = &mut stop => stopped.context("cannot wait for signals")?,
        error = mesh.ended() => return Err(error),
    }
    super::print("\nStopping.\n")?;
    mesh.stop().await
}

fn password(path: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    let text =
        std::fs::read(path).with_context(|| format!("cannot read the password in {}", path.display()))?;
    Ok(text.trim_ascii_end().to_vec())
}

/// `mqtt://host:port` as `host:port`.
fn address(url: &str) -> Result<String, String> {
    let wrong = || {
        format!("{url:?} is no address of a broker, such as mqtt://192.0.2.7 or mqtt://broker.example:1883")
    };
    let rest = url.strip_prefix("mqtt://").ok_or_else(wrong)?.trim_end_matches('/');
    if rest.is_empty() || rest.contains(['/', '@', '?']) {
        return Err(wrong());
    }
    let has_port = rest.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && !host.is_empty() && (!host.contains(':') || host.ends_with(']'))
    });
    Ok(if has_port { rest.to_owned() } else { format!("{rest}:1883") })
}

fn banner(args: &Gateway, mesh: &Mesh) -> String {
    format!(
        "Trellis {version}: a gateway in front of {broker}, with a building on a simulated radio.

  Building      {description}
  Network       {database} (keys, addresses, names); its state is kept, --fresh begins anew

Ctrl-C stops it.
",
        version = env!("CARGO_PKG_VERSION"),
        broker = args.broker,
        description = mesh.description,
        database = mesh.database_path.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_has_a_host_and_perhaps_a_port() {
        assert_eq!(address("mqtt://localhost").as_deref(), Ok("localhost:1883"));
        assert_eq!(address("mqtt://10.0.0.1:1884/").as_deref(), Ok("10.0.0.1:1884"));
        assert_eq!(address("mqtt://[::1]:1884").as_deref(), Ok("[::1]:1884"));
        for bad in ["localhost", "http://x", "mqtt://", "mqtt://user:pass@host", "mqtt://host/path"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
