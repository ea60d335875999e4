//! The claims.

use std::collections::{BTreeMap, BTreeSet};

use mqtt_wire::QoS;

use crate::world::{Peer, TOPICS, World};

/// Checks all of them.
pub(crate) fn all(world: &World, seed: u64) {
    for peer in world.clients() {
        assert!(peer.owed.is_empty(), "seed {seed}: {} never got {:?}", peer.name, peer.owed);
        duplicates(peer, seed);
        order(peer, seed);
        // After a crash a message of QoS 1 may come again under another identifier.
        assert!(
            peer.unmarked.is_empty() || world.counts.crashes > 0,
            "seed {seed}: {} got {:?} again without DUP",
            peer.name,
            peer.unmarked
        );
    }
    shared(world, seed);
    retained(world, seed);
}

/// Only QoS 1, on the way in or out, may bring a message twice.
fn duplicates(peer: &Peer, seed: u64) {
    let mut once = BTreeSet::new();
    for (payload, qos) in &peer.seen {
        let may_repeat = *qos == QoS::AtLeastOnce || payload.ends_with(" 1");
        assert!(once.insert(payload) || may_repeat, "seed {seed}: {} got {payload} twice", peer.name);
    }
}

/// What one publisher sends to one topic with one QoS arrives in its order, repetitions aside (§4.6).
fn order(peer: &Peer, seed: u64) {
    let mut newest: BTreeMap<(&str, &str, &str, QoS), u32> = BTreeMap::new();
    let mut known = BTreeSet::new();
    for (payload, qos) in &peer.seen {
        if !known.insert(payload) {
            continue;
        }
        let [publisher, number, topic, _, published] = payload.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{payload}")
        };
        let number: u32 = number.parse().unwrap();
        let last = newest.entry((publisher, topic, published, *qos)).or_default();
        assert!(*last < number, "seed {seed}: {} got {payload} after {last}", peer.name);
        *last = number;
    }
}

/// Every message of QoS 1 and 2 reaches some worker, whoever of them vanishes and whose session ends (§4.8.2).
fn shared(world: &World, seed: u64) {
    let seen: BTreeSet<&String> =
        world.workers().iter().flat_map(|peer| peer.seen.iter().map(|(payload, _)| payload)).collect();
    let lost: Vec<&String> = world.owed_to_group.iter().filter(|payload| !seen.contains(payload)).collect();
    assert!(lost.is_empty(), "seed {seed}: no worker got {lost:?}");
    for peer in world.workers() {
        let strangers = peer.seen.iter().filter(|(_, qos)| *qos == QoS::ExactlyOnce).count();
        assert_eq!(strangers, 0, "seed {seed}: {} was granted QoS 1", peer.name);
    }
}

/// Whoever subscribes to a topic, early or late, ends on what is retained.
fn retained(world: &World, seed: u64) {
    for topic in TOPICS {
        let wanted = world.retained(topic).unwrap_or_default();
        for peer in world.watchers() {
            let last = peer.values.get(topic).cloned().unwrap_or_default();
            assert_eq!(last, wanted, "seed {seed}: {} ends on an older value of {topic}", peer.name);
        }
    }
}
