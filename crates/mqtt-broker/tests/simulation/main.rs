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
#[cfg(not(feature = "sabotage"))]
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

#[cfg(not(feature = "sabotage"))]
#[test]
fn nothing_is_lost_doubled_reordered_or_older_than_what_is_retained() {
    let mut total = Counts::default();
    let seeds = worlds::seeds(SEEDS);
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
    let seeds = worlds::seeds(SEEDS);
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

    worlds::every_fault_is_found(&Fault::ALL, Fault::None, sabotage::switch_on, |seed, fault| {
        run(seed, fault.needs_disk() || (fault == Fault::None && seed % 2 == 0));
    });
}

#[cfg(feature = "sabotage")]
#[test]
fn a_fault_reaches_only_the_thread_that_it_is_put_into() {
    use mqtt_broker::sabotage::{self, Fault};

    sabotage::switch_on(Fault::LostDup);
    let elsewhere = std::thread::spawn(|| sabotage::is(Fault::LostDup)).join().unwrap();
    assert!(sabotage::is(Fault::LostDup) && !elsewhere);
}
