//! `cargo xtask tidy`: the rules of the architecture that no compiler checks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Longest source file, in lines. A longer one says why in a line near its top that begins with `//! Long because`.
const MAX_LINES: usize = 800;

/// Crates that do no I/O, in the order in which they may build on one another.
const IO_FREE: [&str; 12] = [
    "clock",
    "mesh-crypto",
    "mqtt-wire",
    "mesh-wire",
    "mqtt-proto",
    "access",
    "mesh-proto",
    "mqtt-broker",
    "mesh-models",
    "mesh-commission",
    "mesh-sim",
    "gateway",
];

/// How far up a crate stands: it may depend only on crates that stand lower (ARCHITECTURE.md).
const TIERS: [(&str, &[&str]); 6] = [
    ("wire and crypto", &["clock", "journal", "mesh-crypto", "mqtt-wire", "mesh-wire", "worlds"]),
    ("proto", &["mqtt-proto", "access", "mesh-proto", "mqtt-io"]),
    ("broker, models, commission", &["mqtt-broker", "mesh-models", "mesh-commission"]),
    ("server, client, simulator", &["mqtt-server", "mqtt-client", "mesh-sim", "mesh-io"]),
    ("gateway", &["gateway"]),
    ("binary", &["trellis"]),
];

/// Pairs within a tier, or further apart, that need a word of their own: `.0` may not depend on `.1`.
const NEVER: [(&str, &str); 1] = [("gateway", "mesh-sim")];

/// The only crates in which MQTT and mesh meet.
const MEETING_PLACES: [&str; 2] = ["gateway", "trellis"];

/// The modules of `mesh-proto`, in the order in which they may import one another (DESIGN of the stack).
const MESH_PROTO_ORDER: [&str; 14] = [
    "keys",
    "bearer",
    "provisioning",
    "beacon",
    "network",
    "proxy",
    "lower_transport",
    "upper_transport",
    "friend",
    "low_power",
    "heartbeat",
    "access",
    "foundation",
    "node",
];

/// Text that would tie the repository to one machine.
const MACHINE_PATHS: [&str; 2] = ["/home/", "/Users/"];

/// Checks every rule under `root` and reports all breaches at once.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let mut breaches = Vec::new();
    let sources = rust_sources(root)?;
    breaches.extend(long_files(root, &sources)?);
    breaches.extend(dependency_direction(root)?);
    breaches.extend(clippy_bans(root)?);
    breaches.extend(crate_headers(root)?);
    breaches.extend(module_order(root)?);
    breaches.extend(machine_paths(root)?);
    breaches.extend(crate::generate::stale(root)?);
    breaches.extend(crate::conformance::check(root).err().map(|error| format!("{error:#}")));
    if breaches.is_empty() {
        return Ok(());
    }
    bail!("{} breaches of the rules in ARCHITECTURE.md:\n  {}", breaches.len(), breaches.join("\n  "))
}

fn long_files(root: &Path, sources: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let mut breaches = Vec::new();
    for path in sources {
        let text = read(path)?;
        let lines = text.lines().count();
        let excused = text.lines().take(20).any(|line| line.starts_with("//! Long because"));
        if lines > MAX_LINES && !excused {
            breaches.push(format!("{}: {lines} lines; split it, or say why it is long", shown(root, path)));
        }
    }
    Ok(breaches)
}

fn dependency_direction(root: &Path) -> anyhow::Result<Vec<String>> {
    let tier: BTreeMap<&str, usize> = (TIERS.iter().enumerate())
        .flat_map(|(height, (_, crates))| crates.iter().map(move |&name| (name, height)))
        .collect();
    let mut breaches = Vec::new();
    for (name, manifest) in manifests(root)? {
        let Some(&height) = tier.get(name.as_str()) else {
            breaches.push(format!("crate {name} has no tier in xtask/src/tidy.rs"));
            continue;
        };
        let own = dependencies(&manifest, "dependencies");
        let all: BTreeSet<String> =
            own.union(&dependencies(&manifest, "dev-dependencies")).cloned().collect();
        for dependency in &own {
            // A wire crate may use its crypto crate, which stands in the same tier.
            let same_tier_allowed =
                IO_FREE.iter().position(|x| x == dependency) < IO_FREE.iter().position(|&x| x == name);
            match tier.get(dependency.as_str()) {
                Some(&below) if below > height || (below == height && !same_tier_allowed) => {
                    breaches.push(format!("{name} depends on {dependency}, which does not stand below it"));
                }
                _ => {}
            }
        }
        for (from, to) in NEVER {
            if name == from && all.contains(to) {
                breaches.push(format!("{from} must not depend on {to}"));
            }
        }
        let meets =
            |half: &str| all.iter().any(|dependency| dependency.starts_with(half)) || name.starts_with(half);
        if meets("mqtt-") && meets("mesh-") && !MEETING_PLACES.contains(&name.as_str()) {
            breaches.push(format!("{name} joins MQTT and mesh, which only {MEETING_PLACES:?} may"));
        }
    }
    Ok(breaches)
}

/// Clippy does not merge configurations, so each I/O-free crate has to repeat the bans of the root.
fn clippy_bans(root: &Path) -> anyhow::Result<Vec<String>> {
    let common = bans(&root.join("clippy.toml"), "disallowed-methods")?;
    let core = root.join("crates").join(IO_FREE[0]).join("clippy.toml");
    let mut breaches = Vec::new();
    for name in IO_FREE {
        let path = root.join("crates").join(name).join("clippy.toml");
        for key in ["disallowed-methods", "disallowed-types"] {
            let own = bans(&path, key)?;
            let mut wanted = bans(&core, key)?;
            if key == "disallowed-methods" {
                wanted.extend(common.iter().cloned());
            }
            for missing in wanted.difference(&own) {
                breaches.push(format!("{}: does not ban {missing}", shown(root, &path)));
            }
        }
    }
    Ok(breaches)
}

/// Each crate says what it is for, what it is not for, and shows an example that runs.
fn crate_headers(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut breaches = Vec::new();
    for (name, _) in manifests(root)? {
        let library = root.join("crates").join(&name).join("src/lib.rs");
        if !library.exists() {
            continue;
        }
        let text = read(&library)?;
        let header: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let has = |what: &str| header.iter().any(|line| line.contains(what));
        if !has("Not for") {
            breaches.push(format!(
                "{}: its header does not say what the crate is not for",
                shown(root, &library)
            ));
        }
        if !has("//! ```") {
            breaches.push(format!("{}: its header shows no example", shown(root, &library)));
        }
    }
    Ok(breaches)
}

fn module_order(root: &Path) -> anyhow::Result<Vec<String>> {
    let source = root.join("crates/mesh-proto/src");
    let mut breaches = Vec::new();
    for (height, module) in MESH_PROTO_ORDER.iter().enumerate() {
        let folder = source.join(module);
        let file = source.join(format!("{module}.rs"));
        let mut files = rust_files_below(&folder)?;
        files.extend(file.exists().then_some(file));
        for path in files {
            let text = read(&path)?;
            for higher in &MESH_PROTO_ORDER[height + 1..] {
                if text.contains(&format!("crate::{higher}::")) || text.contains(&format!("crate::{higher};"))
                {
                    breaches.push(format!(
                        "{}: imports {higher}, which stands above {module}",
                        shown(root, &path)
                    ));
                }
            }
        }
    }
    Ok(breaches)
}

fn machine_paths(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut breaches = Vec::new();
    for path in tracked_files(root)? {
        if path.ends_with("xtask/src/tidy.rs") {
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            if MACHINE_PATHS.iter().any(|place| line.contains(place)) {
                breaches.push(format!("{}:{}: names a path of one machine", shown(root, &path), number + 1));
            }
        }
    }
    Ok(breaches)
}

fn tracked_files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = std::process::Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).output()?;
    let names = String::from_utf8(output.stdout)?;
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(|name| root.join(name)).collect())
}

fn rust_sources(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = rust_files_below(&root.join("crates"))?;
    files.extend(rust_files_below(&root.join("xtask"))?);
    Ok(files)
}

fn rust_files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if !folder.is_dir() {
        return Ok(files);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files_below(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn manifests(root: &Path) -> anyhow::Result<Vec<(String, toml::Table)>> {
    let mut manifests = Vec::new();
    for entry in fs::read_dir(root.join("crates"))? {
        let folder = entry?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let manifest = read(&folder.join("Cargo.toml"))?;
        manifests.push((name, manifest.parse().context("a manifest that cargo reads is TOML")?));
    }
    manifests.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(manifests)
}

fn dependencies(manifest: &toml::Table, table: &str) -> BTreeSet<String> {
    let names = manifest.get(table).and_then(toml::Value::as_table);
    names.map(|table| table.keys().cloned().collect()).unwrap_or_default()
}

fn bans(path: &Path, key: &str) -> anyhow::Result<BTreeSet<String>> {
    let table: toml::Table = read(path)?.parse()?;
    let list = table.get(key).and_then(toml::Value::as_array).cloned().unwrap_or_default();
    Ok(list.iter().filter_map(|item| item.get("path")?.as_str().map(str::to_owned)).collect())
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}
