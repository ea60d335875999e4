use std::fs;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

/// Add a user to a password file, change a password, or take a user out
#[derive(Debug, clap::Args)]
pub(crate) struct Passwd {
    /// The password file; made if it is not there
    file: PathBuf,
    /// The user name
    user: String,
    /// Take the user out
    #[arg(short = 'D', long)]
    delete: bool,
    /// Also let the user prove the password instead of sending it (SCRAM-SHA-256)
    #[arg(long, conflicts_with = "delete")]
    scram: bool,
}

/// Asks for the password on a terminal, else takes the first line of the standard input, and writes the file.
pub(crate) fn run(args: &Passwd) -> anyhow::Result<()> {
    let Passwd { file, user, delete, scram } = args;
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !delete => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let rest = access::without(&text, user);
    if *delete {
        let rest = rest.with_context(|| format!("{} has no user {user:?}", file.display()))?;
        replace(file, &rest)?;
        return super::print(&format!("{user} is no user any more.\n"));
    }
    let had_entry = rest.is_some();
    let mut text = rest.unwrap_or(text);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).context("the system gives no random numbers")?;
    let password = password(user)?;
    text += &access::entry(user, &password, &salt)?;
    if *scram {
        getrandom::fill(&mut salt).context("the system gives no random numbers")?;
        text += &access::scram_entry(user, &password, &salt)?;
    }
    access::Users::parse(&text).with_context(|| format!("{} cannot be used", file.display()))?;
    replace(file, &text)?;
    super::print(&if had_entry {
        format!("{user} has a new password.\n")
    } else {
        format!("{user} is a user now.\n")
    })
}

fn password(user: &str) -> anyhow::Result<Vec<u8>> {
    if std::io::stdin().is_terminal() {
        let password = rpassword::prompt_password(format!("Password for {user}: "))?;
        let again = rpassword::prompt_password("Again: ")?;
        ensure!(password == again, "the two are not the same; nothing was changed");
        return Ok(password.into_bytes());
    }
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).context("cannot read the standard input")?;
    Ok(input.lines().next().unwrap_or_default().as_bytes().to_vec())
}

/// Writes the file in one step, readable by its owner only: a server that reads it meanwhile sees the old or the new.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    let write = || -> std::io::Result<()> {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        if let Ok(before) = fs::metadata(path) {
            file.set_permissions(before.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
