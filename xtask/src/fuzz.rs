//! `cargo xtask fuzz`: runs the targets of `fuzz/` with libFuzzer, with the toolchain that builds all else.

use std::fs;
use std::path::Path;
use std::process::Command;

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

/// Runs every target for its share of `seconds`. What a target finds is kept in `fuzz/artifacts`, what it learned in
/// `fuzz/corpus`.
pub(crate) fn run(root: &Path, seconds: u64) -> anyhow::Result<()> {
    let folder = root.join("fuzz");
    let host = host()?;
    // With a target given, the flags do not reach build scripts.
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--release", "--target", &host]).current_dir(&folder);
    build.env("RUSTFLAGS", COVERAGE.join(" ")).env_remove("CARGO_TARGET_DIR");
    ensure!(build.status()?.success(), "the fuzz targets do not build");
    let targets = targets(&folder)?;
    let share = seconds.div_ceil(u64::try_from(targets.len())?.max(1)).max(1);
    for target in &targets {
        let (corpus, artifacts) = (folder.join("corpus").join(target), folder.join("artifacts").join(target));
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&artifacts)?;
        let program = folder.join("target").join(&host).join("release").join(target);
        let mut fuzz = Command::new(program);
        fuzz.arg(corpus)
            .arg(format!("-max_total_time={share}"))
            .arg(format!("-artifact_prefix={}/", artifacts.display()));
        fuzz.args(["-print_final_stats=1", "-verbosity=0", "-rss_limit_mb=4096"]);
        let output = fuzz.output().with_context(|| format!("cannot start {target}"))?;
        let log = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("{log}\n{target} found something: see {}", artifacts.display());
        }
        let runs = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
        println!("{target}: {} runs in {share} s", runs.unwrap_or("no").trim());
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
