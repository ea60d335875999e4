//! Starting, watching and ending programs.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// How long a server may take to be ready.
const READY: Duration = Duration::from_secs(30);

/// A program that runs as long as this value is there.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
}

/// Runs a command; what it prints is shown only if it fails.
pub(crate) fn check(command: &mut Command) -> anyhow::Result<()> {
    output(command).map(|_| ())
}

/// Runs a command and returns what it prints.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("cannot start {shown}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{shown} ended with {}:\n{text}{errors}", output.status);
    }
    Ok(text)
}

/// Whether a program can be found.
pub(crate) fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers lie where only root has them in the path.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.into_iter().any(|folder| folder.join(program).is_file())
}

/// Builds the program that is tested as its users get it.
pub(crate) fn build_trellis(root: &Path) -> anyhow::Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    check(cargo.args(["build", "--quiet", "--release", "--package", "trellis"]).current_dir(root))
}

/// The program, with its first argument.
pub(crate) fn trellis(root: &Path, command: &str) -> Command {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let mut trellis = Command::new(target.join("release/trellis"));
    trellis.arg(command);
    trellis
}

/// A port that nobody has at the moment.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

impl Running {
    /// Starts a server, and waits until its `/readyz` says that it is ready.
    pub(crate) fn server(command: &mut Command, http_port: u16) -> anyhow::Result<Self> {
        let child =
            command.stdout(Stdio::null()).spawn().with_context(|| format!("cannot start {command:?}"))?;
        let mut running = Self { child };
        let started = Instant::now();
        while !is_ready(http_port) {
            if let Some(status) = running.child.try_wait()? {
                bail!("{command:?} ended with {status}");
            }
            if started.elapsed() > READY {
                bail!("{command:?} is not ready after {READY:?}");
            }
            pause(Duration::from_millis(50));
        }
        Ok(running)
    }

    /// Starts a program that is watched from outside.
    pub(crate) fn started(command: &mut Command) -> anyhow::Result<Self> {
        let child =
            command.stdout(Stdio::null()).spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child })
    }

    /// Kills it, as nothing can be prepared for.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Starts a program whose output is read line by line.
    pub(crate) fn reading(command: &mut Command) -> anyhow::Result<(Self, BufReader<ChildStdout>)> {
        let mut child =
            command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {command:?}"))?;
        let stdout = child.stdout.take().context("the output was asked for")?;
        Ok((Self { child }, BufReader::new(stdout)))
    }

    /// Ends it as Ctrl-C does, and waits for it to end well.
    pub(crate) fn interrupt(mut self) -> anyhow::Result<()> {
        check(Command::new("kill").args(["-INT", &self.child.id().to_string()]))?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { bail!("it ended with {status} on SIGINT") }
    }

    /// Waits for it to end by itself.
    pub(crate) fn wait(mut self) -> anyhow::Result<()> {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { bail!("it ended with {status}") }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The next line of a program's output; `None` at its end.
pub(crate) fn next_line(output: &mut BufReader<ChildStdout>) -> anyhow::Result<Option<String>> {
    let mut line = String::new();
    Ok((output.read_line(&mut line)? > 0).then(|| line.trim_end().to_owned()))
}

fn is_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// Waits until somebody listens on a port of this machine.
pub(crate) fn wait_for_port(port: u16) -> anyhow::Result<()> {
    let started = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if started.elapsed() > READY {
            bail!("nobody listens on port {port} after {READY:?}");
        }
        pause(Duration::from_millis(20));
    }
    Ok(())
}

/// Between two looks at another process, or before it is killed.
#[expect(clippy::disallowed_methods, reason = "another process cannot be waited for otherwise")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
