use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Front, Fsync, Log, Writer};

/// How long to wait after a failure before the next try.
const RETRY: Duration = Duration::from_millis(100);

/// How often to look for segments that are not wanted any more while nothing is appended.
const IDLE: Duration = Duration::from_secs(1);

/// How long what nobody waits for may stay in memory.
const LATER: Duration = Duration::from_millis(100);

/// The thread of a [`Writer`]. When this value is dropped it writes and syncs everything that was appended, and ends.
#[derive(Debug)]
pub struct WriterThread {
    log: Arc<Log>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(self) -> io::Result<WriterThread> {
        let log = Arc::clone(self.log());
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || run(self))?;
        Ok(WriterThread { log, thread: Some(thread) })
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.log.lock().is_closing = true;
        self.log.appended.notify_one();
        if let Some(thread) = self.thread.take() {
            // If it crashed, that was logged by the runtime.
            let _ = thread.join();
        }
    }
}

fn run(mut writer: Writer) {
    let log = Arc::clone(writer.log());
    let interval = match log.options.fsync {
        Fsync::Interval(interval) => Some(interval),
        Fsync::Always | Fsync::Never => None,
    };
    let mut last_sync = Instant::now();
    let mut was_stuck = false;
    while !wait(&log, if was_stuck { RETRY } else { interval.unwrap_or(IDLE).min(IDLE) }, was_stuck) {
        let is_due = interval.is_some_and(|interval| last_sync.elapsed() >= interval);
        if is_due {
            last_sync = Instant::now();
        }
        let result = writer.turn(is_due);
        match &result {
            Err(error) if !was_stuck => {
                tracing::error!(%error, "the log cannot be written; nothing is acknowledged until it can");
            }
            Ok(()) if was_stuck => tracing::info!("the log can be written again"),
            _ => {}
        }
        was_stuck = result.is_err();
    }
    if let Err(error) = writer.close() {
        tracing::error!(%error, "the end of the log could not be written");
    }
}

/// Waits for something that is wanted, or for the time to write, or to look; whether the log is to be closed.
fn wait(log: &Log, most: Duration, is_stuck: bool) -> bool {
    let mut front = log.lock();
    if is_stuck {
        return sleep(log, front, most, false).is_closing;
    }
    if front.buffer.is_empty() {
        front = sleep(log, front, most, true);
    }
    if !front.buffer.is_empty() && !front.is_wanted {
        front = sleep(log, front, most.min(LATER), true);
    }
    front.is_closing
}

fn sleep<'a>(
    log: &'a Log,
    mut front: MutexGuard<'a, Front>,
    most: Duration,
    is_writer_waiting: bool,
) -> MutexGuard<'a, Front> {
    if front.is_closing {
        return front;
    }
    front.is_writer_waiting = is_writer_waiting;
    let (mut front, _) = log.appended.wait_timeout(front, most).unwrap_or_else(PoisonError::into_inner);
    front.is_writer_waiting = false;
    front
}
