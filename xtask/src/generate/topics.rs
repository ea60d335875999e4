//! The topic reference: prose by hand, with tables from the gateway's code.

use std::path::Path;

use anyhow::{Context as _, ensure};

const TEMPLATE: &str = "docs/templates/topics.md";

/// Fills the tables into the template.
pub(super) fn generate(root: &Path) -> anyhow::Result<String> {
    let mut text =
        std::fs::read_to_string(root.join(TEMPLATE)).with_context(|| format!("cannot read {TEMPLATE}"))?;
    for (name, table) in gateway::reference::tables() {
        let placeholder = format!("{{{{{name}}}}}");
        ensure!(text.contains(&placeholder), "{TEMPLATE} has no {placeholder}");
        text = text.replace(&placeholder, table.trim_end());
    }
    Ok(text)
}
