//! Connections that have no session yet. A stranger can have as many as it likes, so there is a limit, and those that
//! dawdle make room for others.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The time that every connection gets, however many others wait.
const GRACE: Duration = Duration::from_secs(1);

/// The connections that have no session yet, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Handshakes {
    open: Mutex<BTreeMap<u64, (Instant, AbortHandle)>>,
    most: usize,
    next: AtomicU64,
    changed: Notify,
    evicted: AtomicU64,
}

impl Handshakes {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            open: Mutex::default(),
            most: most.max(1),
            next: AtomicU64::new(0),
            changed: Notify::new(),
            evicted: AtomicU64::new(0),
        }
    }

    /// Begins one, which has to call [`Handshakes::end`] with its number before it hands its connection on.
    pub(crate) fn begin(&self, spawn: impl FnOnce(u64) -> AbortHandle) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        // It may end at once, so it must not find itself missing.
        let mut open = self.lock();
        open.insert(id, (Instant::now(), spawn(id)));
        drop(open);
        self.changed.notify_waiters();
    }

    /// Ends one; `false`: it has been closed for another, and goes no further.
    pub(crate) fn end(&self, id: u64) -> bool {
        let was_open = self.lock().remove(&id).is_some();
        self.changed.notify_waiters();
        was_open
    }

    /// Waits until there is room for another. The oldest is closed for it once it has had its time.
    pub(crate) async fn room(&self) {
        while self.lock().len() >= self.most {
            let changed = self.changed.notified();
            tokio::select! {
                () = self.evict_oldest() => {}
                () = changed => {}
            }
        }
    }

    /// Waits until the oldest has had its time, and closes it. Without any, waits for one.
    pub(crate) async fn evict_oldest(&self) {
        loop {
            let changed = self.changed.notified();
            let oldest = self.lock().first_key_value().map(|(&id, &(since, _))| (id, since));
            match oldest {
                None => changed.await,
                Some((id, since)) => {
                    tokio::time::sleep_until(since + GRACE).await;
                    if let Some((_, task)) = self.lock().remove(&id) {
                        task.abort();
                        self.evicted.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                }
            }
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// How many were closed for others.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, (Instant, AbortHandle)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
