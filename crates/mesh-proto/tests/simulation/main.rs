//! Nodes on a bad medium, two of them Friends and one asleep, with power cuts, clocks that jump, IV Updates and key
//! refreshes. Whatever the seed, no message is accepted twice, none that nobody sent; no sequence number secures two
//! PDUs, and neither it nor the IV Index goes back; what is refused as played back was; every segmented message ends;
//! when the faults do, the sleeping node has a Friend and all have the newest key.
//!
//! `TRELLIS_SEEDS=10000` runs more worlds, `TRELLIS_SEED=17` one of them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod faults;
#[path = "../common/net.rs"]
mod net;
mod wiretap;
mod world;

use faults::Faults;
use world::World;

const OPERATIONS: u32 = 200;
#[cfg(not(feature = "sabotage"))]
const SEEDS: u64 = 200;

/// Runs the world of a seed and checks it; panics say which claim failed.
fn run(seed: u64) -> Faults {
    let mut world = World::new(seed);
    (0..OPERATIONS).for_each(|_| world.operate());
    world.finish();
    world.faults
}

#[cfg(not(feature = "sabotage"))]
#[test]
fn whatever_the_medium_the_power_and_the_clocks_do_the_promises_hold() {
    let mut total = Faults::default();
    let seeds = worlds::seeds(SEEDS);
    let is_one = seeds.end - seeds.start == 1;
    for seed in seeds.clone() {
        let Ok(faults) = std::panic::catch_unwind(|| run(seed)) else { panic!("seed {seed}") };
        total.add(&faults);
    }
    println!("{} worlds: {total:?}", seeds.end - seeds.start);
    assert!(is_one || total.all().into_iter().all(|count| count > 0), "every kind of fault happened");
}

#[test]
fn a_seed_gives_the_same_world_again() {
    assert_eq!(run(3), run(3));
}

#[cfg(feature = "sabotage")]
#[test]
fn every_fault_is_found_within_a_thousand_worlds() {
    use mesh_proto::sabotage::{self, Fault};

    worlds::every_fault_is_found(&Fault::ALL, Fault::None, sabotage::switch_on, |seed, _| {
        run(seed);
    });
}

#[cfg(feature = "sabotage")]
#[test]
fn a_fault_reaches_only_the_thread_that_it_is_put_into() {
    use mesh_proto::sabotage::{self, Fault};

    sabotage::switch_on(Fault::SequenceNotReserved);
    let elsewhere = std::thread::spawn(|| sabotage::is(Fault::SequenceNotReserved)).join().unwrap();
    assert!(sabotage::is(Fault::SequenceNotReserved) && !elsewhere);
}
