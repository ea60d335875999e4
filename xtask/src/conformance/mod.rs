//! `cargo xtask conformance HOST:PORT`: the normative statements of MQTT 3.1.1 and 5.0, as cases against a broker.
//!
//! The cases are in `testdata/mqtt/conformance/*.toml`, `README.md` there says how they are written;
//! `docs/conformance/mqtt.md` says for each statement what carries it.

mod packet;
mod report;
mod run;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, bail};
use serde::Deserialize;

pub(crate) use report::{check, write};

/// Cases that run at the same time: most of their time is waiting.
const PARALLEL: usize = 16;

/// A case, as its file has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// What it claims.
    pub(super) name: String,
    /// The statements that it carries: `5.0/MQTT-…` or `3.1.1/MQTT-…`.
    #[serde(default)]
    pub(super) ids: Vec<String>,
    /// The versions of the protocol in which it runs: 3, 4, 5.
    pub(super) versions: Vec<u8>,
    /// What is sent and expected.
    pub(super) steps: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    case: Vec<Case>,
}

/// All cases, in the order of their files.
pub(super) fn cases(root: &Path) -> anyhow::Result<Vec<Case>> {
    let folder = root.join("testdata/mqtt/conformance");
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter(|path| path.file_stem().is_some_and(|stem| stem != "carried"))
        .collect();
    paths.sort();
    let mut cases: Vec<Case> = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path)?;
        let file: CaseFile = toml::from_str(&text).with_context(|| format!("{}", path.display()))?;
        cases.extend(file.case);
    }
    let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!("two cases are called {:?}", pair[0]);
    }
    Ok(cases)
}

/// What became of the cases: for each name and version, why it failed, if it did.
pub(super) type Outcomes = BTreeMap<(String, u8), Option<String>>;

/// Runs the cases whose name holds `only` against the broker at `address`, and prints what failed. With `record`, the
/// outcome goes into the documentation's table under that name.
pub(crate) fn run(
    root: &Path,
    address: &str,
    is_lenient: bool,
    only: &str,
    record: Option<&str>,
) -> anyhow::Result<()> {
    let cases: Vec<Case> = cases(root)?.into_iter().filter(|case| case.name.contains(only)).collect();
    let outcomes = run_all(run::Broker { address, is_lenient }, &cases);
    for ((name, version), error) in &outcomes {
        if let Some(error) = error {
            println!("FAILED  {name} (version {version})\n        {error}");
        }
    }
    print_per_statement(&cases, &outcomes);
    let failed = outcomes.values().filter(|error| error.is_some()).count();
    println!("{} cases in {} runs, {failed} failed", cases.len(), outcomes.len());
    if let Some(broker) = record {
        report::record(root, broker, &outcomes)?;
    }
    if failed > 0 && record.is_none() { bail!("{failed} runs failed") } else { Ok(()) }
}

fn run_all(broker: run::Broker<'_>, cases: &[Case]) -> Outcomes {
    let runs: Vec<(&Case, u8)> =
        cases.iter().flat_map(|case| case.versions.iter().map(move |&version| (case, version))).collect();
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Outcomes::new()));
    // Identifiers that a broker has not seen in an earlier run.
    let session = std::process::id();
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                while let Some((index, (case, version))) = Some(next.fetch_add(1, Ordering::Relaxed))
                    .and_then(|index| Some((index, runs.get(index)?)))
                {
                    let prefix = format!("x{session}n{index}");
                    let result = run::run(broker, *version, &prefix, &case.steps);
                    let error = result.err().map(|error| format!("{error:#}"));
                    let mut outcomes = outcomes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    outcomes.insert((case.name.clone(), *version), error);
                }
            });
        }
    });
    outcomes.into_inner().unwrap_or_default()
}

fn print_per_statement(cases: &[Case], outcomes: &Outcomes) {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for case in cases {
        let runs = outcomes.iter().filter(|((name, _), _)| *name == case.name);
        let (all, passed) =
            runs.fold((0, 0), |(all, passed), (_, error)| (all + 1, passed + usize::from(error.is_none())));
        for id in &case.ids {
            let count = counts.entry(id).or_default();
            *count = (count.0 + passed, count.1 + all);
        }
    }
    for (id, (passed, all)) in counts {
        println!("{id:<28} {passed}/{all}");
    }
}
