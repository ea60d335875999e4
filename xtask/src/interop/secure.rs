//! TLS, WebSocket, users and wills: the example clients of `docs/clients`, a browser among them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use super::peers::Peers;
use super::process::{Running, check, free_port, next_line, output, trellis, wait_for_port};

/// The name on every certificate, and what the clients connect to.
const HOST: &str = "localhost";

/// Jars of Debian's libmqtt-client-java.
const JARS: [&str; 4] = ["mqtt-client", "hawtbuf", "hawtdispatch", "hawtdispatch-transport"];

/// Starts a broker with TLS, WebSocket and a user, and runs each client against it.
pub(crate) fn run(root: &Path, peers: &Peers) -> anyhow::Result<()> {
    let folder = root.join("target/interop/secure");
    fs::create_dir_all(&folder)?;
    certify(&folder)?;
    add_user(root, &folder)?;
    let ports = [free_port()?, free_port()?, free_port()?, free_port()?];
    let [tls, ws, wss, http] = ports;
    let pages = free_port()?;
    let config = folder.join("trellis.toml");
    fs::write(&config, configuration(&folder, ports, pages))?;
    let mut serve = trellis(root, "serve");
    serve.arg("-c").arg(&config).env("TRELLIS_LOG", "error");
    let broker = Running::server(&mut serve, http)?;
    let ca = folder.join("ca.pem");
    for (name, mut command) in examples(root, &folder, peers)? {
        command.args([HOST, &tls.to_string()]).arg(&ca).args(["ann", "secret"]);
        greet(name, &mut command, tls, &ca).with_context(|| format!("the example client in {name}"))?;
        println!("example client in {name}: connected, subscribed, published over TLS, and left its will");
    }
    let (_pages, mut page) = browser(root, &folder, peers, pages, wss)?;
    greet("browser", &mut page, tls, &ca).context("the example page in browser")?;
    println!(
        "example page in browser: Chromium connected, subscribed, published over secure WebSocket, and left its will"
    );
    for url in [format!("ws://{HOST}:{ws}/mqtt"), format!("wss://{HOST}:{wss}/mqtt")] {
        let mut command = Command::new("node");
        command.arg(peers.node.join("mqttjs_websocket.mjs")).arg(&url).arg(&ca);
        println!("MQTT.js on {url}: {}", output(&mut command)?.trim());
    }
    let mut anonymous = Command::new("mosquitto_pub");
    anonymous.args(["-h", HOST, "-p", &tls.to_string(), "-t", "a", "-m", "b", "--cafile"]).arg(&ca);
    ensure!(check(&mut anonymous).is_err(), "a client without a password was let in");
    println!("a client without a password is refused");
    broker.interrupt()
}

fn configuration(folder: &Path, [tls, ws, wss, http]: [u16; 4], pages: u16) -> String {
    let listener = |kind, port| listener(folder, kind, port, false);
    let origins = format!("allowed_origins = [\"http://{HOST}:{pages}\"]\n\n");
    format!(
        "{}{}{}{origins}[access]\npassword_file = \"{}/users\"\n\n[console]\nbind = \"127.0.0.1:{http}\"\n",
        listener("tls", tls),
        listener("ws", ws),
        listener("wss", wss).trim_end().to_owned() + "\n",
        folder.display(),
    )
}

/// A listener on loopback as the configuration has it, with the certificate of [`certify`].
pub(super) fn listener(folder: &Path, kind: &str, port: u16, allow_anonymous: bool) -> String {
    let files = folder.display();
    let tls = match kind {
        "tls" | "wss" => {
            format!("tls = {{ certificate = \"{files}/server.pem\", key = \"{files}/server.key\" }}\n")
        }
        _ => String::new(),
    };
    let head = format!("[[listeners]]\nname = \"{kind}\"\ntype = \"{kind}\"\nbind = \"127.0.0.1:{port}\"\n");
    format!("{head}allow_anonymous = {allow_anonymous}\n{tls}\n")
}

/// An authority, and a certificate of it for this machine.
pub(super) fn certify(folder: &Path) -> anyhow::Result<()> {
    fs::write(folder.join("names"), format!("subjectAltName=DNS:{HOST},IP:127.0.0.1\n"))?;
    for arguments in [
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=interop -keyout ca.key -out ca.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
    ] {
        check(Command::new("openssl").args(arguments.split(' ')).current_dir(folder))?;
    }
    Ok(())
}

fn add_user(root: &Path, folder: &Path) -> anyhow::Result<()> {
    let passwd = trellis(root, "passwd");
    let program = passwd.get_program().to_owned();
    let mut shell = Command::new("sh");
    shell.args(["-c", "echo secret | \"$0\" passwd users ann"]).arg(program).current_dir(folder);
    check(&mut shell)
}

/// The example clients, built.
fn examples(root: &Path, folder: &Path, peers: &Peers) -> anyhow::Result<Vec<(&'static str, Command)>> {
    let sources = root.join("docs/clients");
    let c = folder.join("greet-c");
    check(Command::new("cc").arg(sources.join("c/greet.c")).arg("-o").arg(&c).arg("-lmosquitto"))?;
    let go = folder.join("greet-go");
    let mut build = Command::new("go");
    // Debian's packages are where Go looked for packages before it had modules.
    build
        .env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .env("GOCACHE", folder.join("go-cache"));
    check(build.arg("build").arg("-o").arg(&go).arg(sources.join("go/greet.go")))?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    check(Command::new(cargo).current_dir(root).args([
        "build",
        "-q",
        "-p",
        "mqtt-client",
        "--example",
        "greet",
    ]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    // Node resolves packages from where a script is.
    fs::copy(sources.join("node/greet.mjs"), peers.node.join("greet.mjs"))?;
    let with = |program: &Path, script: PathBuf| {
        let mut command = Command::new(program);
        command.arg(script);
        command
    };
    let jars: Vec<String> = JARS.iter().map(|jar| format!("/usr/share/java/{jar}.jar")).collect();
    let mut java = Command::new("java");
    java.args(["-cp", &jars.join(":")]).arg(sources.join("java/Greet.java"));
    Ok(vec![
        ("c", Command::new(c)),
        ("python", with(&peers.python, sources.join("python/greet.py"))),
        ("node", with(Path::new("node"), peers.node.join("greet.mjs"))),
        ("go", Command::new(go)),
        ("java", java),
        ("rust", Command::new(target.join("debug/examples/greet"))),
    ])
}

/// A server that has the example page and its library, and the browser that is to show it. The authority of the
/// broker's certificate is none that a browser knows.
fn browser(
    root: &Path,
    folder: &Path,
    peers: &Peers,
    pages: u16,
    wss: u16,
) -> anyhow::Result<(Running, Command)> {
    let site = folder.join("site");
    fs::create_dir_all(&site)?;
    fs::copy(root.join("docs/clients/browser/greet.html"), site.join("greet.html"))?;
    fs::copy(peers.node.join("node_modules/mqtt/dist/mqtt.esm.js"), site.join("mqtt.esm.js"))?;
    let mut server = Command::new(&peers.python);
    server.args(["-m", "http.server", "--bind", "127.0.0.1", &pages.to_string(), "--directory"]).arg(&site);
    let server = Running::started(server.stderr(fs::File::create(folder.join("site.log"))?))?;
    wait_for_port(pages)?;
    let broker = format!("wss%3A%2F%2F{HOST}%3A{wss}%2Fmqtt");
    let url = format!("http://{HOST}:{pages}/greet.html?broker={broker}&username=ann&password=secret");
    let mut shell = Command::new("sh");
    // What a page says comes with the browser's own words, on stderr.
    shell.args([
        "-c",
        "exec chromium --headless --no-sandbox --disable-gpu --ignore-certificate-errors \
        --enable-logging=stderr --user-data-dir=\"$0\" \"$1\" 2>&1",
    ]);
    shell.arg(folder.join("chromium")).arg(url);
    Ok((server, shell))
}

/// Runs an example until its greeting has come back, ends it without a goodbye, and waits for its will.
fn greet(name: &str, command: &mut Command, port: u16, ca: &Path) -> anyhow::Result<()> {
    let mut watch = Command::new("timeout");
    watch.args(["60", "stdbuf", "-oL", "mosquitto_sub", "-h", HOST, "-p", &port.to_string(), "-d", "-v"]);
    watch.args(["-u", "ann", "-P", "secret", "-t", &format!("clients/{name}/gone"), "--cafile"]).arg(ca);
    let (_watching, mut wills) = Running::reading(&mut watch)?;
    while !next_line(&mut wills)?.context("the watcher ended")?.starts_with("Subscribed") {}
    let (example, mut lines) = Running::reading(command)?;
    let greeting = format!("clients/{name}/greeting hello from ");
    // A browser has more to say than its page.
    while !next_line(&mut lines)?.context("it ended without its greeting")?.contains(&greeting) {}
    drop(example);
    loop {
        match next_line(&mut wills)? {
            Some(line) if line == format!("clients/{name}/gone gone") => return Ok(()),
            Some(_) => {}
            None => bail!("its will did not come"),
        }
    }
}
