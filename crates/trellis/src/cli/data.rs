use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

/// Look at what a server keeps, write it down as text, or make it from a text; the server has to be stopped
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Data {
    /// Read everything, and name what is damaged
    Check {
        /// The data directory
        #[arg(long, default_value = "trellis-data")]
        data_dir: PathBuf,
    },
    /// Write everything down as text: sessions, their messages, what is retained
    Export {
        /// The data directory
        #[arg(long, default_value = "trellis-data")]
        data_dir: PathBuf,
        /// The file, which must not be there yet; `-`: standard output
        file: PathBuf,
    },
    /// Make what a server keeps from such a text
    Import {
        /// The data directory, which must not hold a log yet
        #[arg(long, default_value = "trellis-data")]
        data_dir: PathBuf,
        /// The file; `-`: standard input
        file: PathBuf,
    },
}

/// Exits with 1 if something is damaged.
pub(crate) fn run(args: &Data) -> anyhow::Result<ExitCode> {
    match args {
        Data::Check { data_dir } => check(data_dir),
        Data::Export { data_dir, file } => export(data_dir, file),
        Data::Import { data_dir, file } => import(data_dir, file),
    }
}

fn export(data_dir: &Path, file: &Path) -> anyhow::Result<ExitCode> {
    let is_file = file != Path::new("-");
    let out: Box<dyn Write> = if is_file {
        let made = File::options().write(true).create_new(true).mode(0o600).open(file);
        Box::new(made.with_context(|| format!("cannot make {}", file.display()))?)
    } else {
        Box::new(std::io::stdout())
    };
    let mut out = BufWriter::new(out);
    let exported = mqtt_server::export_log(data_dir, &mut out);
    if is_file && exported.is_err() {
        // What is in it is of no use.
        let _ = std::fs::remove_file(file);
    }
    let (totals, report) = exported?;
    if is_file {
        drop(out);
        File::open(file).and_then(|file| file.sync_all()).with_context(|| file.display().to_string())?;
    }
    let mut text = format!("{} sessions, {} messages\n", totals.sessions, totals.messages);
    for loss in &report.losses {
        text += &format!("damaged, and not in the text: {loss}\n");
    }
    std::io::stderr().write_all(text.as_bytes())?;
    Ok(if report.losses.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn import(data_dir: &Path, file: &Path) -> anyhow::Result<ExitCode> {
    let text: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(file).with_context(|| format!("cannot read {}", file.display()))?)
    };
    let totals = mqtt_server::import_log(data_dir, &mut BufReader::new(text))
        .with_context(|| format!("{} was not imported", file.display()))?;
    super::print(&format!("{} sessions, {} messages\n", totals.sessions, totals.messages))?;
    Ok(ExitCode::SUCCESS)
}

fn check(data_dir: &Path) -> anyhow::Result<ExitCode> {
    let found = mqtt_server::check_log(data_dir)?;
    let (report, mut text) = (&found.report, String::new());
    text += &format!("{} records, {} bytes\n", report.records, report.bytes);
    text += &format!(
        "{} sessions, {} messages in their queues, {} retained messages\n",
        found.sessions, found.queued, found.retained
    );
    if report.unfinished > 0 {
        text += &format!(
            "{} bytes at the end were cut off by a crash before they were acknowledged\n",
            report.unfinished
        );
    }
    for loss in &report.losses {
        text += &format!("damaged: {loss}\n");
    }
    for (name, messages) in &found.losers.some {
        text += &format!("lost with what is damaged: {messages} messages for {name:?}\n");
    }
    if found.losers.count > found.losers.some.len() as u64 {
        let (count, messages) = (found.losers.count, found.losers.messages);
        text += &format!("in all, {count} clients and shared subscriptions lost {messages} messages\n");
    }
    let is_whole = report.losses.is_empty();
    text += if is_whole {
        "nothing is damaged\n"
    } else {
        "everything else is whole, and is used at the next start\n"
    };
    super::print(&text)?;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
