//! The physical limits of `testdata/mesh/paper-cases.md` §2: no result may beat them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use clock::Instant;
use mesh_proto::bearer::Transmission;
use mesh_sim::{MediumConfig, Position, Scan, World};
use mesh_wire::bearer::AdType;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// A full PDU: 29 octets after the AD type, 376 µs on each channel.
const AIRTIME_S: f64 = 376e-6;

/// Nobody but the stations is in the band, the strongest is not heard over another, and the scanner stays.
fn quiet() -> MediumConfig {
    let hour = Duration::from_secs(3600);
    MediumConfig {
        interference: 0.0,
        capture_db: 200.0,
        scan: Scan { interval: hour, window: hour },
        ..MediumConfig::default()
    }
}

fn full_pdu(number: u16) -> Transmission {
    let mut data = [0; 29];
    data[..2].copy_from_slice(&number.to_be_bytes());
    let (interval, delay) = (Duration::from_millis(20), Duration::ZERO);
    Transmission { ad_type: AdType::MeshMessage, data: data.as_slice().into(), count: 1, interval, delay }
}

/// `rate` PDUs a second from many stations at random times: the share that one listener hears.
fn success(rate: f64, seed: u64) -> f64 {
    const STATIONS: usize = 60;
    let mut world = World::new(seed, quiet());
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let senders: Vec<_> = (0..STATIONS)
        .map(|number| {
            world.add_port(
                &format!("s{number}"),
                Position::new(0.0, f64::from(u8::try_from(number).unwrap()) / 60.0),
            )
        })
        .collect();
    let listener = world.add_port("listener", Position::new(2.0, 0.5));
    let (mut now, mut sent, mut heard) = (0.0, 0_u16, 0_u32);
    while sent < 4_000 {
        let uniform = (f64::from(rng.next_u32()) + 1.0) / 4_294_967_297.0;
        now -= uniform.ln() / rate;
        world.handle_timeout(Instant::ORIGIN + Duration::from_secs_f64(now));
        let sender = senders[usize::try_from(rng.next_u32()).unwrap() % STATIONS];
        world.transmit(sender, full_pdu(sent));
        sent += 1;
        while let Some((station, _)) = world.poll_received() {
            heard += u32::from(station == listener);
        }
    }
    world.handle_timeout(Instant::ORIGIN + Duration::from_secs_f64(now + 1.0));
    while let Some((station, _)) = world.poll_received() {
        heard += u32::from(station == listener);
    }
    f64::from(heard) / f64::from(sent)
}

/// §2.1, §2.2: unslotted random access succeeds with e^-2G, where G is the load on a channel.
#[test]
fn random_access_succeeds_as_often_as_theory_says() {
    for load in [0.02, 0.1, 0.3] {
        let shares: Vec<f64> = (1..=5).map(|seed| success(load / AIRTIME_S, seed)).collect();
        let mean = shares.iter().sum::<f64>() / 5.0;
        let theory = (-2.0 * load).exp();
        println!("load {load}: {mean:.3} of PDUs heard, theory {theory:.3}");
        // A PDU that a busy sender has to hold back does not collide with that sender's own: a little better.
        assert!((mean - theory).abs() < 0.03, "load {load}: {mean} against {theory}");
    }
}

/// §2.1: one listener cannot hear more than one PDU at a time on a channel.
#[test]
fn a_channel_carries_no_more_than_its_airtime() {
    let mut world = World::new(1, quiet());
    let sender = world.add_port("sender", Position::new(0.0, 0.0));
    world.add_port("listener", Position::new(2.0, 0.0));
    let mut heard = 0_u64;
    for number in 0..10_000_u16 {
        world.handle_timeout(Instant::from_micros(u64::from(number) * 100));
        world.transmit(sender, full_pdu(number));
        heard += std::iter::from_fn(|| world.poll_received()).count() as u64;
    }
    assert!(heard > 300 && heard <= 2_659, "{heard} PDUs in a second");
}

/// §2.4: a hop takes at least the airtime of a PDU.
#[test]
fn nothing_arrives_before_it_was_sent() {
    let mut world = World::new(3, quiet());
    let sender = world.add_port("sender", Position::new(0.0, 0.0));
    world.add_port("listener", Position::new(2.0, 0.0));
    for number in 0..100_u16 {
        let start = Instant::ORIGIN + Duration::from_millis(100) * u32::from(number);
        world.handle_timeout(start);
        world.transmit(sender, full_pdu(number));
        while world.step_until(start + Duration::from_millis(50)) {
            if world.poll_received().is_some() {
                let latency = world.now() - start;
                assert!(latency >= Duration::from_micros(376), "{latency:?}");
                assert!(latency <= Duration::from_millis(2), "{latency:?}: three channels and their gaps");
            }
        }
    }
}

/// Half duplex, and conservation: what is heard was sent, once for each listener and event, by another station.
#[test]
fn stations_hear_what_others_send_and_nothing_while_they_send() {
    let config = MediumConfig { interference: 0.3, capture_db: 3.0, ..MediumConfig::default() };
    let mut world = World::new(9, config);
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let stations: Vec<_> =
        (0..8).map(|n| world.add_port(&format!("s{n}"), Position::new(f64::from(n) * 4.0, 0.0))).collect();
    let mut heard = 0_u64;
    for number in 0..5_000_u16 {
        let at = Instant::ORIGIN + Duration::from_micros(u64::from(number) * 900);
        world.handle_timeout(at);
        let sender = usize::try_from(rng.next_u32()).unwrap() % stations.len();
        world.transmit(stations[sender], full_pdu(number));
        heard += std::iter::from_fn(|| world.poll_received()).count() as u64;
    }
    world.handle_timeout(Instant::ORIGIN + Duration::from_secs(60));
    heard += std::iter::from_fn(|| world.poll_received()).count() as u64;
    let counts: Vec<_> = world.medium().counts().iter().collect();
    assert_eq!(counts.iter().map(|(_, counts)| counts.heard).sum::<u64>(), heard);
    let (mut deaf, mut collided) = (0, 0);
    for ((from, to), counts) in counts {
        assert_ne!(from, to);
        let all = counts.heard + counts.faded + counts.collided + counts.deaf + counts.missed;
        assert_eq!(all, counts.events, "each event has one fate");
        deaf += counts.deaf;
        collided += counts.collided;
    }
    assert!(deaf > 0 && collided > 0, "both happened");
}
