//! The peers: which packages they come from, and where they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::process::{check, is_there};

/// Programs, and the Debian packages that have them.
const DEBIAN: [(&str, &str); 14] = [
    ("mosquitto", "mosquitto"),
    ("mosquitto_pub", "mosquitto-clients"),
    ("mosquitto_sub", "mosquitto-clients"),
    ("tshark", "tshark"),
    ("python3", "python3-venv"),
    ("npm", "npm"),
    ("openssl", "openssl"),
    ("cc", "gcc"),
    ("go", "golang-go"),
    ("chromium", "chromium"),
    ("java", "openjdk-17-jdk-headless"),
    // Libraries, which have no program of their own.
    ("/usr/include/mosquitto.h", "libmosquitto-dev"),
    ("/usr/share/java/mqtt-client.jar", "libmqtt-client-java"),
    (
        "/usr/share/gocode/src/github.com/eclipse/paho.mqtt.golang/client.go",
        "golang-github-eclipse-paho.mqtt.golang-dev",
    ),
];

/// The same for the mesh; meshd is not on the path.
const MESH_DEBIAN: [(&str, &str); 5] = [
    ("/usr/libexec/bluetooth/bluetooth-meshd", "bluez-meshd"),
    ("dbus-daemon", "dbus-daemon"),
    ("tshark", "tshark"),
    ("cc", "gcc"),
    ("python3", "python3-venv"),
];

/// Where the peers of the mesh are.
#[derive(Debug)]
pub(crate) struct MeshPeers {
    /// The Python that has dbus-next.
    pub(crate) python: PathBuf,
}

impl MeshPeers {
    /// Finds the peers; installs those that are missing, if it may.
    pub(crate) fn get(root: &Path, install: bool) -> anyhow::Result<Self> {
        let folder = root.join("target/interop");
        fs::create_dir_all(&folder)?;
        debian(&MESH_DEBIAN, install)?;
        let python = folder.join("mesh-venv/bin/python");
        let mut import = Command::new(&python);
        import.args(["-c", "import dbus_next, cryptography"]);
        if python.exists() && check(&mut import).is_ok() {
            return Ok(Self { python });
        }
        if !install {
            bail!("dbus-next and cryptography are not in target/interop/mesh-venv; say --install");
        }
        check(Command::new("python3").args(["-m", "venv"]).arg(folder.join("mesh-venv")))?;
        check(
            Command::new(&python)
                .args(["-m", "pip", "install", "--quiet"])
                .args(["dbus-next==0.2.3", "cryptography>=42"]),
        )?;
        Ok(Self { python })
    }
}

/// Where peers are.
#[derive(Debug)]
pub(crate) struct Peers {
    /// The Python that has paho-mqtt, gmqtt and aiomqtt.
    pub(crate) python: PathBuf,
    /// The folder whose `node_modules` has MQTT.js.
    pub(crate) node: PathBuf,
    /// The program that is rumqttc.
    pub(crate) rumqttc: PathBuf,
}

impl Peers {
    /// Finds the peers; installs those that are missing, if it may.
    pub(crate) fn get(root: &Path, install: bool) -> anyhow::Result<Self> {
        debian(&DEBIAN, install)?;
        let folder = root.join("target/interop");
        fs::create_dir_all(&folder)?;
        Ok(Self {
            python: python(root, &folder, install)?,
            node: node(root, &folder, install)?,
            rumqttc: rumqttc(root, &folder)?,
        })
    }
}

/// Finds programs, and installs the packages of those that are missing, if it may.
pub(crate) fn debian(programs: &[(&str, &str)], install: bool) -> anyhow::Result<()> {
    let is_missing = |program: &str| !is_there(program) && !Path::new(program).is_file();
    let missing: Vec<&str> =
        programs.iter().filter(|(program, _)| is_missing(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !install {
        bail!("missing: {}; install these Debian packages, or say --install", missing.join(", "));
    }
    apt(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(missing);
    apt(&arguments)
}

fn apt(arguments: &[&str]) -> anyhow::Result<()> {
    check(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(arguments))
}

fn python(root: &Path, folder: &Path, install: bool) -> anyhow::Result<PathBuf> {
    let python = folder.join("venv/bin/python");
    let mut import = Command::new(&python);
    import.args(["-c", "import paho.mqtt.client, gmqtt, aiomqtt"]);
    if python.exists() && check(&mut import).is_ok() {
        return Ok(python);
    }
    if !install {
        bail!("paho-mqtt, gmqtt and aiomqtt are not in target/interop/venv; say --install");
    }
    if !python.exists() {
        check(Command::new("python3").args(["-m", "venv"]).arg(folder.join("venv")))?;
    }
    let requirements = root.join("interop/requirements.txt");
    check(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(requirements))?;
    Ok(python)
}

fn node(root: &Path, folder: &Path, install: bool) -> anyhow::Result<PathBuf> {
    if !folder.join("node_modules/mqtt").exists() {
        if !install {
            bail!("MQTT.js is not in target/interop/node_modules; say --install");
        }
        fs::copy(root.join("interop/package.json"), folder.join("package.json"))?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund"]).current_dir(folder);
        check(&mut npm).context("cannot install MQTT.js")?;
    }
    // Node resolves packages from where a script is.
    for script in ["mqttjs_peer.mjs", "mqttjs_features.mjs", "mqttjs_websocket.mjs"] {
        fs::copy(root.join("interop").join(script), folder.join(script))?;
    }
    Ok(folder.to_owned())
}

/// Builds the peer that is a Rust program, which is no part of the workspace.
fn rumqttc(root: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let target = folder.join("rumqttc");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--release", "--locked"]).env("CARGO_TARGET_DIR", &target);
    check(cargo.current_dir(root.join("interop/rumqttc"))).context("cannot build rumqttc")?;
    Ok(target.join("release/rumqttc-peer"))
}
