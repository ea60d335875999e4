//! `cargo xtask import-testdata`: brings the shared facts into `testdata/`, so that a fresh clone is whole.

use std::fs;
use std::path::Path;

use anyhow::Context;

/// The folders that are copied. All their files are: a test that needs one more needs no change here.
const FOLDERS: [&str; 3] = ["mesh", "mqtt", "peers"];

/// Makes `root/testdata` anew from the folders of `source`.
pub(crate) fn import(source: &Path, root: &Path) -> anyhow::Result<()> {
    for folder in FOLDERS {
        let from = source.join(folder);
        let to = root.join("testdata").join(folder);
        if to.exists() {
            fs::remove_dir_all(&to).with_context(|| format!("cannot clear {}", to.display()))?;
        }
        fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
        let entries = fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))?;
        for entry in entries {
            let entry = entry?;
            let target = to.join(entry.file_name());
            if entry.file_type()?.is_file() {
                // Contents only: the source may be read-only, the copy is not.
                let bytes = fs::read(entry.path())?;
                fs::write(&target, bytes).with_context(|| format!("cannot write {}", target.display()))?;
            }
        }
    }
    Ok(())
}
