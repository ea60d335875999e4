//! `cargo xtask fuzz`: runs the targets of `fuzz/` with libFuzzer, with the toolchain that builds all else.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};

/// What has the compiler count which code runs, so that the fuzzer finds its way.
const COVERAGE: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// How long the targets run.
#[derive(Clone, Copy)]
pub(crate) enum Extent {
    /// All together so many seconds.
    Seconds(u64),
    /// Each so many inputs.
    Runs(u64),
}

/// Runs every target whose name holds `only`. What a target finds is kept in `fuzz/artifacts`, what it learned in
/// `fuzz/corpus`.
pub(crate) fn run(root: &Path, extent: Extent, only: &str) -> anyhow::Result<()> {
    let folder = root.join("fuzz");
    let host = host()?;
    // With a target given, the flags do not reach build scripts.
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--release", "--target", &host]).current_dir(&folder);
    build.env("RUSTFLAGS", COVERAGE.join(" ")).env_remove("CARGO_TARGET_DIR");
    ensure!(build.status()?.success(), "the fuzz targets do not build");
    let mut targets = targets(&folder)?;
    targets.retain(|target| target.contains(only));
    ensure!(!targets.is_empty(), "no fuzz target has {only} in its name");
    let limit = match extent {
        Extent::Seconds(seconds) => {
            let share = seconds.div_ceil(u64::try_from(targets.len())?);
            format!("-max_total_time={}", share.max(1))
        }
        Extent::Runs(runs) => format!("-runs={runs}"),
    };
    for target in &targets {
        let (corpus, artifacts) = (folder.join("corpus").join(target), folder.join("artifacts").join(target));
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&artifacts)?;
        let program = folder.join("target").join(&host).join("release").join(target);
        let mut fuzz = Command::new(program);
        fuzz.arg(corpus).arg(&limit).arg(format!("-artifact_prefix={}/", artifacts.display()));
        fuzz.args(["-print_final_stats=1", "-verbosity=0", "-rss_limit_mb=4096"]);
        let begin = Instant::now();
        let output = fuzz.output().with_context(|| format!("cannot start {target}"))?;
        let log = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("{log}\n{target} found something: see {}", artifacts.display());
        }
        let runs = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
        println!("{target}: {} runs in {} s", runs.unwrap_or("no").trim(), begin.elapsed().as_secs());
    }
    println!("{} targets, nothing found", targets.len());
    Ok(())
}

fn targets(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs::read_dir(folder.join("fuzz_targets"))? {
        targets.extend(entry?.path().file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    targets.sort();
    Ok(targets)
}

/// The platform that the compiler runs on.
fn host() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot start rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say what it runs on")
}
