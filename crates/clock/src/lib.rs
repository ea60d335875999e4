//! The only notion of time in Trellis's I/O-free crates.
//!
//! A protocol core never reads a clock: each of its entry points is given an [`Instant`], and it answers
//! `poll_timeout` with the next one at which it wants to be called. The same core therefore runs under a
//! real runtime, in virtual time in the simulator, and in a fuzzer.
//!
//! Not for: reading the time (a driver does that, and converts), calendar dates, or time zones.
//!
//! ```
//! use clock::{Instant, Timers};
//! use core::time::Duration;
//!
//! let start = Instant::ORIGIN;
//! let mut timers = Timers::new();
//! timers.set("retransmit", start + Duration::from_millis(200));
//! timers.set("give up", start + Duration::from_secs(1));
//! assert_eq!(timers.next(), Some(start + Duration::from_millis(200)));
//! assert_eq!(timers.pop_expired(start + Duration::from_millis(300)), Some("retransmit"));
//! assert_eq!(timers.pop_expired(start + Duration::from_millis(300)), None);
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod instant;
mod timers;

pub use instant::Instant;
pub use timers::Timers;
