//! How a running server is told to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Returns when SIGINT or SIGTERM comes.
pub(crate) async fn requested() -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
