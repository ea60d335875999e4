//! What simulations have in common: which worlds they run, one for each seed, and whether they would find a fault.
//!
//! Not for: what happens in a world; and no part of any program, only of tests.
//!
//! ```
//! # fn run(seed: u64) { assert!(seed < 1_000) }
//! // `TRELLIS_SEEDS=10000` runs more worlds, `TRELLIS_SEED=17` one of them.
//! for seed in worlds::seeds(200) {
//!     run(seed);
//! }
//! ```

use std::fmt::Debug;
use std::ops::Range;
use std::panic;

/// Worlds in which a fault has to be found.
const WORLDS_OF_FAULT: u64 = 1_000;

/// Worlds in which nothing may be found without a fault.
const WORLDS_WITHOUT: u64 = 20;

/// The seeds to run: the first `count`, unless the environment says otherwise.
pub fn seeds(count: u64) -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("TRELLIS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TRELLIS_SEEDS").unwrap_or(count),
    }
}

/// Switches on one fault after the other, prints in which world it is found, and switches on `none` in the end.
///
/// # Panics
/// When a fault is not found in a thousand worlds, or something is found without any.
#[expect(clippy::print_stdout, reason = "for whoever runs the tests to read")]
pub fn every_fault_is_found<F: Copy + Debug + panic::RefUnwindSafe>(
    faults: &[F],
    none: F,
    switch_on: impl Fn(F),
    run: impl Fn(u64, F) + panic::RefUnwindSafe,
) {
    // What is found here is told below; what another test beside this one finds, it tells itself.
    let (usual, here) = (panic::take_hook(), std::thread::current().id());
    panic::set_hook(Box::new(move |panic| {
        if std::thread::current().id() != here {
            usual(panic);
        }
    }));
    let mut missed = Vec::new();
    for &fault in faults {
        switch_on(fault);
        let found = (0..WORLDS_OF_FAULT).find_map(|seed| {
            let panic = panic::catch_unwind(|| run(seed, fault)).err()?;
            Some((seed, panic.downcast_ref::<String>().cloned().unwrap_or_default()))
        });
        match found {
            Some((seed, text)) => println!("{fault:?}: found in world {seed}: {text}"),
            None => missed.push(fault),
        }
    }
    switch_on(none);
    let _ = panic::take_hook();
    assert!(missed.is_empty(), "not found: {missed:?}");
    for seed in 0..WORLDS_WITHOUT {
        run(seed, none);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_fault_that_shows_nowhere_is_missed() {
        let is_on = AtomicBool::new(false);
        let check = |shows: bool| {
            every_fault_is_found(
                &[true],
                false,
                |fault| is_on.store(fault, Ordering::Relaxed),
                |seed, _| assert!(!(shows && is_on.load(Ordering::Relaxed) && seed == 7), "seed {seed}"),
            );
        };
        check(true);
        assert!(!is_on.load(Ordering::Relaxed));
        assert!(panic::catch_unwind(panic::AssertUnwindSafe(|| check(false))).is_err());
    }
}
