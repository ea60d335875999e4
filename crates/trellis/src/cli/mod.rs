//! The commands, one file each.

mod building;
mod client;
mod connect;
mod data;
pub(crate) mod demo;
mod gateway;
mod mesh_node;
mod passwd;
mod publish;
mod serve;
mod simulate;
mod subscribe;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An MQTT broker and a Bluetooth Mesh gateway
///
/// Without a command: the demo.
#[derive(Parser)]
#[command(name = "trellis", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run a broker, a gateway and a simulated building
    Demo(demo::Demo),
    /// Run a gateway, with a simulated building, in front of another broker
    Gateway(gateway::Gateway),
    /// Run the broker as a configuration file says
    Serve(serve::Serve),
    /// Connect, and stay until stopped
    Conn(connect::Connect),
    /// Publish a message
    Pub(publish::Publish),
    /// Print the messages of topics
    Sub(subscribe::Subscribe),
    /// Look at what a server keeps
    #[command(subcommand)]
    Data(data::Data),
    /// Run one Bluetooth Mesh node by hand
    MeshNode(mesh_node::MeshNode),
    /// Add a user to a password file, change a password, or take a user out
    Passwd(passwd::Passwd),
    /// Run the demo's building in virtual time and print its event log
    Simulate(simulate::Simulate),
}

/// Runs the command that was given.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse_from(client::with_long_flags(std::env::args_os()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.spawn(crate::allocator::give_back());
    runtime.block_on(async {
        match cli.command {
            None => demo::run(demo::Demo::default()).await?,
            Some(Command::Demo(args)) => demo::run(args).await?,
            Some(Command::Gateway(args)) => gateway::run(args).await?,
            Some(Command::Serve(args)) => serve::run(args).await?,
            Some(Command::Conn(args)) => connect::run(args).await?,
            Some(Command::Pub(args)) => publish::run(args).await?,
            Some(Command::Sub(args)) => subscribe::run(args).await?,
            Some(Command::Data(args)) => return data::run(&args),
            Some(Command::MeshNode(args)) => mesh_node::run(args).await?,
            Some(Command::Passwd(args)) => passwd::run(&args)?,
            Some(Command::Simulate(args)) => simulate::run(&args)?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Says in a sentence what went wrong.
pub(crate) fn complain(error: &anyhow::Error) {
    // Without a standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "trellis: {error:#}");
}

/// Prints to the standard output. A reader that has gone is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// Starts logging to the standard error, at `default` unless TRELLIS_LOG says otherwise.
fn start_logging(default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("TRELLIS_LOG");
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default)))
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
}
