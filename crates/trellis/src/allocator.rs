//! What memory is taken from, and given back to.
#![allow(unsafe_code, reason = "the allocator's library is C")]

use std::time::Duration;

/// Decided by benchmark (ARCHITECTURE.md, dependencies).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often memory that is not used is given back to the system. At each release would cost more than it brings.
const INTERVAL: Duration = Duration::from_secs(10);

/// Gives back what is not used, again and again: the allocator does so only when a thread allocates, and shards that
/// have nothing to do would keep what they needed at their busiest.
pub(crate) async fn give_back() {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        // SAFETY: it may be called at any time, from any thread.
        unsafe { libmimalloc_sys::mi_collect(true) };
    }
}
