use std::path::PathBuf;
use std::process::ExitCode;

/// Look at what a server keeps
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Data {
    /// Read everything, and name what is damaged; the server has to be stopped
    Check {
        /// The data directory
        #[arg(long, default_value = "trellis-data")]
        data_dir: PathBuf,
    },
}

/// Exits with 1 if something is damaged.
pub(crate) fn run(args: &Data) -> anyhow::Result<ExitCode> {
    let Data::Check { data_dir } = args;
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
    if found.dangling > 0 {
        text +=
            &format!("{} records refer to messages that were lost with what is damaged\n", found.dangling);
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
