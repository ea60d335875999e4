//! How many connections the system allows.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that are kept for everything that is no connection: one in so many, and not fewer than `LEAST`.
const RESERVED_SHARE: u64 = 50;
const LEAST_RESERVED: u64 = 64;

/// What to assume where the system does not say.
const UNKNOWN: u64 = 1_024;

/// Raises the limit of open files as far as this process may, and says how many connections that leaves room for.
pub(crate) fn max_connections() -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((UNKNOWN, UNKNOWN));
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    let reserve = (limit / RESERVED_SHARE).max(LEAST_RESERVED);
    usize::try_from(limit.saturating_sub(reserve).max(1)).unwrap_or(usize::MAX)
}
