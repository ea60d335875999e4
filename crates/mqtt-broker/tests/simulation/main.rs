//! Three shards and their clients in virtual time, from one seed: clients of all versions connect, subscribe,
//! publish, vanish and come back; workers share a subscription, and their sessions end; watchers stay. Checkers hold
//! what each of them got against what it was owed.
//!
//! `TRELLIS_SEEDS=10000` runs more worlds, `TRELLIS_SEED=17` one of them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod check;
mod crash;
mod world;

use world::{Counts, World};

const OPERATIONS: usize = 200;
const SEEDS: u64 = 200;

/// Runs the world of a seed and checks it; panics say which claim failed.
fn run(seed: u64, has_disk: bool) -> Counts {
    let mut world = World::new(seed, has_disk);
    for _ in 0..OPERATIONS {
        world.step();
    }
    world.finish();
    check::all(&world, seed);
    world.counts
}

#[expect(clippy::disallowed_methods, reason = "which worlds are run is for whoever runs them to say")]
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("TRELLIS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TRELLIS_SEEDS").unwrap_or(SEEDS),
    }
}

#[cfg(not(feature = "sabotage"))]
#[test]
fn nothing_is_lost_doubled_reordered_or_older_than_what_is_retained() {
    let mut total = Counts::default();
    let seeds = seeds();
    let is_one = seeds.end - seeds.start == 1;
    for seed in seeds.clone() {
        total.add(&run(seed, false));
    }
    println!("{} worlds: {total:?}", seeds.end - seeds.start);
    assert!(is_one || total.common().all(|count| count > 0), "every kind of event happened");
}

/// The same with a disk, and crashes of the process and of the power.
#[cfg(not(feature = "sabotage"))]
#[test]
fn with_a_disk_nothing_acknowledged_is_lost_in_a_crash_and_nothing_of_qos_2_doubled() {
    let mut total = Counts::default();
    let seeds = seeds();
    let is_one = seeds.end - seeds.start == 1;
    for seed in seeds.clone() {
        total.add(&run(seed, true));
    }
    println!("{} worlds with disks: {total:?}", seeds.end - seeds.start);
    assert!(is_one || total.all().into_iter().all(|count| count > 0), "every kind of event happened");
}

#[cfg(feature = "sabotage")]
#[test]
fn every_fault_is_found_within_a_thousand_worlds() {
    use mqtt_broker::sabotage::{self, Fault};

    let _ = seeds();
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for fault in Fault::ALL {
        sabotage::switch_on(fault);
        let found = (0..1_000).find_map(|seed| {
            let panic = std::panic::catch_unwind(|| run(seed, fault.needs_disk())).err()?;
            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            Some((seed, text))
        });
        match found {
            Some((seed, text)) => println!("{fault:?}: found in world {seed}: {text}"),
            None => missed.push(fault),
        }
    }
    sabotage::switch_on(Fault::None);
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "not found: {missed:?}");
    for seed in 0..20 {
        run(seed, seed % 2 == 0);
    }
}
