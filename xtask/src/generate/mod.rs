//! `cargo xtask generate`: source text that is made of the facts in `testdata/`, and the topic reference.

mod messages;
mod properties;
mod topics;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

/// Makes one file's text, given the root of the workspace.
type Generator = fn(&Path) -> anyhow::Result<String>;

/// What is generated, and how.
const FILES: [(&str, Generator); 3] = [
    ("crates/mesh-models/src/messages.rs", |root| rust(root, messages::generate)),
    ("crates/mesh-models/src/sensor/properties.rs", |root| rust(root, properties::generate)),
    ("docs/src/topics.md", topics::generate),
];

/// Writes all generated files.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    for (file, generate) in FILES {
        let path = root.join(file);
        std::fs::write(&path, generate(root)?).with_context(|| format!("cannot write {file}"))?;
    }
    Ok(())
}

/// The generated files that are not what would be generated.
pub(crate) fn stale(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut stale = Vec::new();
    for (file, generate) in FILES {
        let found =
            std::fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {file}"))?;
        if found != generate(root)? {
            stale.push(format!("{file} is not what `cargo xtask generate` writes"));
        }
    }
    Ok(stale)
}

/// Makes Rust of the facts in `testdata/`, formatted.
fn rust(root: &Path, generate: fn(&Path) -> anyhow::Result<String>) -> anyhow::Result<String> {
    let text = generate(&root.join("testdata"))?;
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run rustfmt")?;
    let mut stdin = rustfmt.stdin.take().context("rustfmt has no input")?;
    // rustfmt reads all before it writes.
    stdin.write_all(text.as_bytes())?;
    drop(stdin);
    let output = rustfmt.wait_with_output()?;
    ensure!(output.status.success(), "rustfmt cannot read what was generated:\n{text}");
    Ok(String::from_utf8(output.stdout)?)
}
