//! The log as text, and back: for a server that is stopped.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use journal::log::{self, Folder, Options, Report, Storage as _};
use mqtt_broker::{ExportError, Import, LineError, Totals};

use crate::durable::{FOLDER, LogError, View};

/// Where the new log is until it is whole, beside the place where it will be.
const UNFINISHED: &str = "log.import";

/// Bytes of records that are written at once.
const BATCH: usize = 4 << 20;

/// Why a log was not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportFailed {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// It cannot be read to its end, or written down.
    #[error(transparent)]
    Export(#[from] ExportError),
}

/// Why a log was not imported. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ImportFailed {
    /// There is a log.
    #[error("{} holds a log already; choose another data directory, or move that folder away", path.display())]
    Exists {
        /// The log.
        path: PathBuf,
    },
    /// The log that there is cannot be looked at.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A line cannot be used.
    #[error("line {number}: {source}")]
    Line {
        /// Its number, from 1 on.
        number: u64,
        /// Why.
        source: LineError,
    },
    /// The file cannot be read.
    #[error("line {number} cannot be read: {source}")]
    Read {
        /// The number of the line.
        number: u64,
        /// What the system says.
        source: io::Error,
    },
    /// The log cannot be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// Writes everything that the log of a data directory holds down as text, and leaves the log as it is. Messages are
/// read one after the other; what is damaged is in the report, and not in the text.
///
/// # Errors
/// Why that is not possible. What was written has no last line then, and is not taken back by [`import`].
pub fn export(data_dir: &Path, out: &mut dyn Write) -> Result<(Totals, Report), ExportFailed> {
    let View { storage, log, recovery, report } = View::of(data_dir)?;
    let totals = recovery.export(&mut |positions| log.read(&storage, positions), &mut |line| {
        out.write_all(line.as_bytes())?;
        out.write_all(b"\n")
    })?;
    out.flush().map_err(ExportError::from)?;
    Ok((totals, report))
}

/// Makes the log of a data directory that has none from a text.
///
/// # Errors
/// Why that is not possible. The data directory is as it was.
pub fn import(data_dir: &Path, text: &mut dyn BufRead) -> Result<Totals, ImportFailed> {
    let path = data_dir.join(FOLDER);
    let unfinished = data_dir.join(UNFINISHED);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ImportFailed::Write { path, source }
    };
    std::fs::create_dir_all(data_dir).map_err(failed(data_dir))?;
    // Locked until the end: no server, and no other import, gets in between.
    let old = path.is_dir().then(|| empty(data_dir)).transpose()?;
    let new = Folder::open(unfinished.clone()).map_err(failed(&unfinished))?;
    let made = clear(&new).map_err(failed(&unfinished)).and_then(|()| write(new, &unfinished, text));
    let totals = match made {
        Ok(totals) => totals,
        Err(error) => {
            // What is left of it is cleared away by the next import.
            let _ = std::fs::remove_dir_all(&unfinished);
            return Err(error);
        }
    };
    if let Some(old) = &old {
        clear(old).map_err(failed(&path))?;
    }
    std::fs::rename(&unfinished, &path).map_err(failed(&path))?;
    std::fs::File::open(data_dir).and_then(|folder| folder.sync_all()).map_err(failed(data_dir))?;
    Ok(totals)
}

/// The folder of a log that holds nothing.
fn empty(data_dir: &Path) -> Result<Folder, ImportFailed> {
    let View { storage, mut recovery, report, .. } = View::of(data_dir)?;
    let is_empty = report.records == 0 && report.losses.is_empty() && recovery.counts() == [0; 3];
    if is_empty { Ok(storage) } else { Err(ImportFailed::Exists { path: data_dir.join(FOLDER) }) }
}

fn clear(folder: &Folder) -> io::Result<()> {
    folder.list()?.into_iter().try_for_each(|base| folder.remove(base))
}

fn write(folder: Folder, path: &Path, text: &mut dyn BufRead) -> Result<Totals, ImportFailed> {
    let failed = |source| ImportFailed::Write { path: path.to_owned(), source };
    let salt = getrandom::u64().map_err(ImportFailed::Random)?;
    let opened = log::open(Arc::new(folder), Options::default(), salt, |_, _| {});
    let (mut writer, _) = opened
        .map_err(|source| LogError::Open { path: path.to_owned(), source })
        .map_err(ImportFailed::Log)?;
    let log = Arc::clone(writer.log());
    // Nobody claims anything of it yet.
    log.keep_all();
    let (mut import, mut waiting) = (Import::default(), 0);
    let mut number = 0;
    let mut line = String::new();
    loop {
        number += 1;
        line.clear();
        if text.read_line(&mut line).map_err(|source| ImportFailed::Read { number, source })? == 0 {
            break;
        }
        let mut append = |record: &[u8]| {
            waiting += record.len();
            log.append(record);
        };
        import
            .line(line.trim_end_matches(['\r', '\n']), &mut append)
            .map_err(|source| ImportFailed::Line { number, source })?;
        if waiting >= BATCH {
            waiting = 0;
            writer.turn(false).map_err(failed)?;
        }
    }
    let totals = import.finish().map_err(|source| ImportFailed::Line { number, source })?;
    writer.close().map_err(failed)?;
    Ok(totals)
}
