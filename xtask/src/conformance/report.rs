//! `docs/conformance/mqtt.md`: one row for each statement, and what carries it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use super::{Case, Outcomes, cases};

/// Statements that no case against a broker can carry.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Carried {
    /// Carried by tests: the statements, and where.
    test: Vec<Test>,
    /// Not applicable, and why.
    not_applicable: Vec<NotApplicable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    ids: Vec<String>,
    /// The file.
    file: String,
    /// The name of the test function in it.
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NotApplicable {
    ids: Vec<String>,
    why: String,
}

#[derive(Debug, Deserialize)]
struct Statements {
    statements: Vec<Statement>,
}

#[derive(Debug, Deserialize)]
struct Statement {
    id: String,
    version: String,
    binds: String,
    paraphrase: String,
}

const PAGE: &str = "docs/conformance/mqtt.md";

/// Writes the page.
pub(crate) fn write(root: &Path) -> anyhow::Result<()> {
    let page = render(root)?;
    let path = root.join(PAGE);
    std::fs::create_dir_all(path.parent().context("a folder")?)?;
    Ok(std::fs::write(path, page)?)
}

/// Every statement has its row, every row its case, and the page is up to date.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let page = render(root)?;
    let written = std::fs::read_to_string(root.join(PAGE)).unwrap_or_default();
    ensure!(page == written, "{PAGE} is out of date; `cargo xtask conformance --write` renews it");
    Ok(())
}

/// Keeps which runs failed on a broker, for the table.
pub(super) fn record(root: &Path, broker: &str, outcomes: &Outcomes) -> anyhow::Result<()> {
    let mut text =
        String::from("# Runs that failed: name, version. Written by `cargo xtask conformance --record`.\n");
    for ((name, version), error) in outcomes {
        if error.is_some() {
            writeln!(text, "{version} {name}")?;
        }
    }
    let folder = results(root);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(format!("{broker}.txt")), text)?;
    write(root)
}

fn results(root: &Path) -> PathBuf {
    root.join("testdata/mqtt/conformance/results")
}

/// The brokers whose results are known, with the runs that failed.
fn recorded(root: &Path) -> anyhow::Result<BTreeMap<String, BTreeSet<(String, u8)>>> {
    let mut brokers = BTreeMap::new();
    let Ok(folder) = std::fs::read_dir(results(root)) else { return Ok(brokers) };
    for entry in folder {
        let path = entry?.path();
        let name = path.file_stem().context("a name")?.to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path)?;
        let failed = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (version, name) = line.split_once(' ')?;
            Some((name.to_owned(), version.parse().ok()?))
        });
        brokers.insert(name, failed.collect());
    }
    Ok(brokers)
}

fn render(root: &Path) -> anyhow::Result<String> {
    let cases = cases(root)?;
    let statements: Statements =
        serde_json::from_str(&std::fs::read_to_string(root.join("testdata/mqtt/statements.json"))?)?;
    let carried: Carried =
        toml::from_str(&std::fs::read_to_string(root.join("testdata/mqtt/conformance/carried.toml"))?)
            .context("carried.toml")?;
    check_ids(root, &cases, &carried, &statements)?;
    let brokers = recorded(root)?;
    let mut page = String::from(HEAD);
    let runs: usize = cases.iter().map(|case| case.versions.len()).sum();
    writeln!(page, "\n{} cases, {runs} runs in all versions.\n", cases.len())?;
    for (broker, failed) in &brokers {
        writeln!(page, "- {broker}: {} of {runs} runs pass", runs - failed.len().min(runs))?;
    }
    for version in ["5.0", "3.1.1"] {
        writeln!(
            page,
            "\n## MQTT {version}\n\n| statement | binds | what it says | carried by |{}",
            columns(&brokers)
        )?;
        writeln!(page, "| --- | --- | --- | --- |{}", " --- |".repeat(brokers.len()))?;
        for statement in statements.statements.iter().filter(|statement| statement.version == version) {
            let id = format!("{version}/{}", statement.id);
            let (what, results) = row(&id, &cases, &carried, &brokers)?;
            let Statement { id, binds, paraphrase, .. } = statement;
            writeln!(page, "| {id} | {binds} | {} | {what} |{results}", paraphrase.replace('|', "\\|"))?;
        }
    }
    Ok(page)
}

fn columns(brokers: &BTreeMap<String, BTreeSet<(String, u8)>>) -> String {
    brokers.keys().fold(String::new(), |mut text, broker| {
        // A string takes everything.
        let _ = write!(text, " {broker} |");
        text
    })
}

/// What carries a statement, and how brokers do there.
fn row(
    id: &str,
    cases: &[Case],
    carried: &Carried,
    brokers: &BTreeMap<String, BTreeSet<(String, u8)>>,
) -> anyhow::Result<(String, String)> {
    let own: Vec<&Case> = cases.iter().filter(|case| case.ids.iter().any(|other| other == id)).collect();
    let mut what: Vec<String> = own.iter().map(|case| case.name.clone()).collect();
    for test in carried.test.iter().filter(|test| test.ids.iter().any(|other| other == id)) {
        what.push(format!("test `{}` in {}", test.name, test.file));
    }
    for reason in carried.not_applicable.iter().filter(|reason| reason.ids.iter().any(|other| other == id)) {
        what.push(format!("not applicable: {}", reason.why));
    }
    ensure!(!what.is_empty(), "{id} has no case, no test and no reason in carried.toml");
    let mut results = String::new();
    for failed in brokers.values() {
        let runs =
            own.iter().flat_map(|case| case.versions.iter().map(|&version| (case.name.clone(), version)));
        let (all, passed) =
            runs.fold((0, 0), |(all, passed), run| (all + 1, passed + usize::from(!failed.contains(&run))));
        let _ = if all == 0 { write!(results, "  |") } else { write!(results, " {passed}/{all} |") };
    }
    Ok((what.join("; "), results))
}

/// What is named exists.
fn check_ids(root: &Path, cases: &[Case], carried: &Carried, statements: &Statements) -> anyhow::Result<()> {
    let known: BTreeSet<String> = statements
        .statements
        .iter()
        .map(|statement| format!("{}/{}", statement.version, statement.id))
        .collect();
    let named = (cases.iter().flat_map(|case| &case.ids))
        .chain(carried.test.iter().flat_map(|test| &test.ids))
        .chain(carried.not_applicable.iter().flat_map(|reason| &reason.ids));
    for id in named {
        ensure!(known.contains(id), "{id} is no statement");
    }
    for test in &carried.test {
        let text = std::fs::read_to_string(root.join(&test.file))
            .with_context(|| format!("carried.toml names {}", test.file))?;
        if !text.contains(&format!("fn {}(", test.name)) {
            bail!("carried.toml names {} in {}, which is not there", test.name, test.file);
        }
    }
    Ok(())
}

const HEAD: &str = "# MQTT: statement by statement

Each normative statement of MQTT 5.0 and 3.1.1 (in a paraphrase; the standard decides) and what carries it: a case in
`testdata/mqtt/conformance`, which runs against any broker, or a test of ours where a broker at the other end of a
connection cannot show it.

```sh
cargo xtask conformance 127.0.0.1:1883
```

This page is written by `cargo xtask conformance --write`; `cargo xtask tidy` checks that it is complete. The last
columns say how many runs of a statement's cases pass on which broker.
";
