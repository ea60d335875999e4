//! mosquitto as the broker of a gateway.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use super::home;
use super::peers::Peers;
use super::process::{Running, free_port, pause, trellis};

/// How long mosquitto may take to listen.
const READY: Duration = Duration::from_secs(10);

/// A mosquitto that runs as long as this value is there.
#[derive(Debug)]
pub(crate) struct Mosquitto(Running);

impl Mosquitto {
    /// Starts it on `port`, on loopback, for anybody, without persistence.
    pub(crate) fn start(folder: &Path, port: u16) -> anyhow::Result<Self> {
        let config = folder.join("mosquitto.conf");
        fs::write(&config, format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"))?;
        let program =
            ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"].into_iter().find(|x| Path::new(x).exists());
        let mut command = Command::new(program.unwrap_or("mosquitto"));
        command.arg("-c").arg(&config).stderr(fs::File::create(folder.join("mosquitto.log"))?);
        let running = Running::started(&mut command)?;
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if started.elapsed() > READY {
                bail!(
                    "mosquitto does not listen on port {port}; see {}",
                    folder.join("mosquitto.log").display()
                );
            }
            pause(Duration::from_millis(20));
        }
        Ok(Self(running))
    }

    /// Kills it, as nothing can be prepared for.
    pub(crate) fn kill(self) {
        self.0.kill();
    }
}

/// The gateway in front of mosquitto: lamps obey, before and after mosquitto was killed, and nothing is missing then.
pub(crate) fn run(root: &Path, peers: &Peers) -> anyhow::Result<()> {
    let folder = root.join("target/interop/gateway");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let port = free_port()?;
    let mosquitto = Mosquitto::start(&folder, port)?;
    let mut gateway = trellis(root, "gateway");
    gateway.arg("--broker").arg(format!("mqtt://127.0.0.1:{port}")).args(["--still", "--data-dir"]);
    gateway.arg(folder.join("data")).env("TRELLIS_LOG", "error");
    let gateway = Running::started(&mut gateway)?;
    let suite = |arguments: &[&str]| home::run(root, peers, port, arguments);
    suite(&["round-trips", "28"])?;
    let before = suite(&["topics"])?;
    mosquitto.kill();
    let mosquitto = Mosquitto::start(&folder, port)?;
    suite(&["round-trips", "28"])?;
    let after = suite(&["topics"])?;
    ensure!(
        before == after,
        "mosquitto was killed, and the retained topics differ: {before} before, {after} after"
    );
    suite(&["rename", "ground/hall/ceiling", "ground/hall/lamp"])?;
    gateway.interrupt()?;
    drop(mosquitto);
    Ok(())
}
