//! A Friend alone, against what Low Power nodes and others say to it under keys that they have (MshPRT §3.6.6.3).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/bench.rs"]
mod bench;
#[path = "common/net.rs"]
mod net;

use std::collections::BTreeSet;
use std::time::Duration;

use bench::{Bench, FRIEND, From, LPN, OTHER, flooding, material};
use mesh_crypto::{FriendshipParameters, NetworkKeys};
use mesh_proto::friend::FriendSettings;
use mesh_proto::node::NodeOptions;
use mesh_wire::address::Address;
use mesh_wire::friendship::{Criteria, FriendRequest, FriendshipMessage, PollTimeout};
use net::{SECOND, net_key, unicast};

/// A Friend, and a Friend Request for it.
fn friend() -> (Bench, FriendshipMessage) {
    let options = NodeOptions { friend: Some(FriendSettings::default()), ..NodeOptions::default() };
    let request = FriendRequest {
        criteria: Criteria::new(0, 0, 1).unwrap(),
        receive_delay_ms: 100,
        poll_timeout: PollTimeout::of(30 * SECOND),
        previous: None,
        elements: 1,
        lpn_counter: 0,
    };
    (Bench::new(FRIEND, options), FriendshipMessage::Request(request))
}

const fn to(dst: u16) -> From {
    From { src: LPN, dst, ttl: 0 }
}

#[test]
fn a_friend_answers_requests_of_neighbours_to_all_friends() {
    let (mut bench, request) = friend();
    for from in [From { ttl: 3, ..to(0xfffd) }, to(FRIEND), to(0xffff)] {
        bench.say(&flooding(), from, &request);
        bench.wait(SECOND);
    }
    bench.say(&flooding(), to(0xfffd), &request);
    let (pdu, message) = bench.next_message(&[&flooding()], SECOND).unwrap();
    assert!(matches!(message, FriendshipMessage::Offer(_)), "{message:?}");
    assert_eq!((u16::from(pdu.dst), u8::from(pdu.ttl)), (LPN, 0));
}

#[test]
fn a_friend_is_asked_by_its_low_power_node_alone() {
    let (mut bench, request) = friend();
    bench.say(&flooding(), to(0xfffd), &request);
    bench.next_message(&[&flooding()], SECOND).unwrap();
    let keys = material(FRIEND, 0, 0);
    let poll = FriendshipMessage::Poll { fsn: false };
    let wrong = [From { ttl: 3, ..to(FRIEND) }, to(0xffff), From { src: OTHER, ..to(FRIEND) }];
    for from in wrong {
        bench.say(&keys, from, &poll);
        assert_eq!(bench.node.low_power_nodes().count(), 0, "{from:?}");
    }
    bench.say(&flooding(), to(FRIEND), &poll);
    assert_eq!(bench.node.low_power_nodes().count(), 0, "under flooding material");
    bench.say(&keys, to(FRIEND), &poll);
    let (pdu, message) = bench.next_message(&[&keys], SECOND).unwrap();
    assert_eq!((u16::from(pdu.dst), u8::from(pdu.ttl)), (LPN, 0));
    assert!(matches!(message, FriendshipMessage::Update { .. }), "{message:?}");
    let addresses = [Address::from(0xc000)].into_iter().collect();
    let add = FriendshipMessage::SubscriptionListAdd { transaction: 7, addresses };
    for from in wrong {
        bench.say(&keys, from, &add);
        bench.wait(SECOND);
    }
    bench.say(&keys, to(FRIEND), &add);
    let (pdu, message) = bench.next_message(&[&keys], SECOND).unwrap();
    assert_eq!(message, FriendshipMessage::SubscriptionListConfirm { transaction: 7 });
    assert_eq!((u16::from(pdu.dst), u8::from(pdu.ttl)), (LPN, 0));
    let clear = FriendshipMessage::Clear { lpn: unicast(LPN), lpn_counter: 0 };
    bench.say(&flooding(), From { src: OTHER, dst: 0xffff, ttl: 0x7f }, &clear);
    bench.say(&keys, to(FRIEND), &clear);
    assert_eq!(bench.node.low_power_nodes().count(), 1, "a Friend Clear to all, or under the wrong material");
    bench.say(&flooding(), From { src: OTHER, dst: FRIEND, ttl: 0x7f }, &clear);
    assert_eq!(bench.node.low_power_nodes().count(), 0);
}

#[test]
fn low_power_nodes_that_are_made_up_take_no_more_room_than_there_is() {
    let (mut bench, message) = friend();
    let FriendshipMessage::Request(request) = message else { panic!("a request") };
    let request = FriendshipMessage::Request(FriendRequest {
        poll_timeout: PollTimeout::MAX,
        previous: Some(unicast(OTHER)),
        ..request
    });
    for number in 0..100 {
        let lpn = 0x100 + number;
        let from = |dst| From { src: lpn, dst, ttl: 0 };
        bench.say(&flooding(), from(0xfffd), &request);
        while !matches!(bench.next_message(&[&flooding()], SECOND), Some((_, FriendshipMessage::Offer(_)))) {}
        let parameters = FriendshipParameters {
            lpn_address: lpn,
            friend_address: FRIEND,
            lpn_counter: 0,
            friend_counter: number,
        };
        let keys = NetworkKeys::friendship(&net_key(1), parameters);
        bench.say(&keys, from(FRIEND), &FriendshipMessage::Poll { fsn: false });
        let clear = FriendshipMessage::Clear { lpn: unicast(lpn), lpn_counter: 0 };
        bench.say(&flooding(), from(FRIEND), &clear);
        assert_eq!(bench.node.low_power_nodes().count(), 0);
    }
    // Who is still told of, for twice the Poll Timeout of eight days, and each less often than before.
    let mut told = BTreeSet::new();
    while let Some((_, message)) = bench.next_message(&[&flooding()], 10_000 * SECOND) {
        if let FriendshipMessage::Clear { lpn, .. } = message {
            told.insert(u16::from(lpn));
        }
    }
    assert_eq!(told.len(), 64);
    // The end of so many friendships is remembered, to confirm it again.
    let confirmed = (0..100).filter(|number| {
        let lpn = unicast(0x100 + number);
        let clear = FriendshipMessage::Clear { lpn, lpn_counter: 0 };
        bench.say(&flooding(), From { src: OTHER, dst: FRIEND, ttl: 0 }, &clear);
        matches!(
            bench.next_message(&[&flooding()], Duration::ZERO),
            Some((_, FriendshipMessage::ClearConfirm { .. }))
        )
    });
    assert_eq!(confirmed.count(), 64);
}
