//! Friendship between whole nodes: how it begins and ends, what it carries, and how it follows keys and IV Index. The
//! third node sleeps; what its radio does not hear is not given to it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/net.rs"]
mod net;

use std::time::Duration;

use mesh_crypto::{FriendshipParameters, NetworkKeys};
use mesh_proto::Discard;
use mesh_proto::access::Element;
use mesh_proto::friend::FriendSettings;
use mesh_proto::keys::{KeyRefreshPhase, MessageKey};
use mesh_proto::low_power::LowPowerSettings;
use mesh_proto::node::{Command, Event, FriendshipRole, IvUpdateCommand, NodeOptions, OutgoingMessage};
use mesh_proto::upper_transport::Destination;
use mesh_wire::address::{Address, LabelUuid};
use mesh_wire::bearer::AdType;
use mesh_wire::foundation::{
    ConfigMessage, FeatureState, Features, HeartbeatPublication, KeyRefreshTransition, ModelRef, Publication,
    PublishDestination, PublishPeriod, PublishRetransmit, Status, SubscriptionChange,
};
use mesh_wire::friendship::{Criteria, PollTimeout};
use mesh_wire::network::{Header, NetworkPdu, ivi_nid};
use mesh_wire::{IvIndex, KeyIndex, Transmit, Ttl};
use net::{APP, HELLO, MODEL, NET, Net, SECOND, app_key, net_key, status_of, unicast};

const MANAGER: usize = 0;
const FRIEND: usize = 1;
const LPN: usize = 2;
const OTHER: usize = 3;
const GROUP: u16 = 0xc000;

/// Friends at 2 and 4, Low Power nodes at 3 and 5.
fn options(address: u16) -> NodeOptions {
    let usual = NodeOptions::default();
    match address {
        2 | 4 => NodeOptions { friend: Some(FriendSettings::default()), ..usual },
        3 | 5 => NodeOptions { low_power: Some(low_power()), ..usual },
        _ => usual,
    }
}

fn low_power() -> LowPowerSettings {
    LowPowerSettings {
        poll_timeout: PollTimeout::of(30 * SECOND),
        poll_interval: 2 * SECOND,
        ..LowPowerSettings::default()
    }
}

/// The first three nodes, the last two of them friends; the manager hears, and is heard by, the Friend only.
fn friends() -> Net {
    let mut net = Net::with_options(3, options);
    begin(&mut net);
    net
}

fn begin(net: &mut Net) {
    net.command(LPN, Command::LowPower(true));
    net.run(5 * SECOND);
    assert!(net.nodes[LPN].friend().is_some(), "{:?}", net.events);
}

fn friendships(net: &Net, node: usize) -> Vec<(u16, FriendshipRole, bool)> {
    let told = net.events.iter().filter(|(at, _)| *at == node);
    told.filter_map(|(_, event)| match event {
        Event::Friendship { with, role, has_begun } => Some((u16::from(*with), *role, *has_begun)),
        _ => None,
    })
    .collect()
}

fn address(index: usize) -> Address {
    Address::from(u16::try_from(index + 1).unwrap())
}

fn subscribe(net: &mut Net, index: usize, change: SubscriptionChange, group: u16) {
    let model = ModelRef { element: net.nodes[index].address(), model: MODEL };
    let address = Address::from(group);
    net.configure(index, ConfigMessage::ModelSubscriptionChange { change, address, model });
}

/// Tells what the messages that reached a node hold in their first octet, in order.
fn heard(net: &Net, node: usize) -> Vec<u8> {
    let messages = net.events.iter().filter(|(at, _)| *at == node);
    messages
        .filter_map(|(_, event)| match event {
            Event::Message(message) => Some(message.parameters[0]),
            _ => None,
        })
        .collect()
}

fn send(net: &mut Net, from: usize, to: Address, content: &[u8]) {
    let message = OutgoingMessage {
        element: 0,
        destination: Destination::Address(to),
        key: MessageKey::App(APP),
        ttl: None,
        payload: HELLO.with(content),
        segmented: false,
    };
    net.command(from, Command::Send(message));
}

/// Says hello at length, with more time than usual; returns how often it was heard.
fn hello(net: &mut Net, from: usize, to: usize, octets: usize) -> usize {
    net.hello(from, address(to), octets);
    net.run(5 * SECOND);
    heard(net, to).len()
}

/// What a node sent from then on and can be opened with these keys.
fn opened(net: &Net, since: usize, by: usize, keys: &NetworkKeys) -> Vec<NetworkPdu> {
    let sent = net.sent[since..].iter().filter(|(from, x)| *from == by && x.ad_type == AdType::MeshMessage);
    sent.filter_map(|(_, x)| {
        let iv_index = IvIndex(5).of_received(ivi_nid(&x.data)?.0)?;
        let header = Header::deobfuscate(&x.data, keys, iv_index).ok()?;
        header.decrypt(&x.data, keys, iv_index).ok()
    })
    .collect()
}

/// The material of the first friendship between nodes 3 and 2.
fn material(key: u8) -> NetworkKeys {
    let parameters =
        FriendshipParameters { lpn_address: 3, friend_address: 2, lpn_counter: 0, friend_counter: 0 };
    NetworkKeys::friendship(&net_key(key), parameters)
}

#[test]
fn a_friendship_begins_and_both_say_so() {
    let mut net = Net::with_options(3, options);
    let features = |net: &Net, index: usize| net.nodes[index].features();
    assert_eq!((features(&net, FRIEND), features(&net, LPN)), (Features::FRIEND, Features(0)));
    assert_eq!(net.nodes[FRIEND].composition().features, Features(0b0101));
    assert_eq!(net.nodes[LPN].composition().features, Features(0b1001));
    let publication = HeartbeatPublication {
        destination: address(MANAGER),
        count_log: 0,
        period_log: 0,
        ttl: Ttl::new(5).unwrap(),
        features: Features(0x0f),
        net_key_index: NET,
    };
    net.configure(LPN, ConfigMessage::HeartbeatPublicationSet { publication });
    begin(&mut net);
    assert_eq!(friendships(&net, FRIEND), [(3, FriendshipRole::Friend, true)]);
    assert_eq!(friendships(&net, LPN), [(2, FriendshipRole::LowPower, true)]);
    let heartbeats = |net: &Net| -> Vec<Features> {
        let told = net.events.iter().filter_map(|(at, event)| match event {
            Event::Heartbeat { features, .. } if *at == MANAGER => Some(*features),
            _ => None,
        });
        told.collect()
    };
    assert_eq!(heartbeats(&net), [Features::LOW_POWER], "a heartbeat for the friendship");
    assert_eq!(net.nodes[FRIEND].low_power_nodes().collect::<Vec<_>>(), [(NET, unicast(3))]);
    net.run(300 * SECOND);
    assert_eq!(friendships(&net, LPN).len(), 1, "it lasts");
    // The Poll Timeout that is left, in steps of 100 ms: it was asked at most two seconds ago.
    let ask =
        |net: &mut Net, address| net.configure(FRIEND, ConfigMessage::LowPowerNodePollTimeoutGet { address });
    let ConfigMessage::LowPowerNodePollTimeoutStatus { poll_timeout, .. } = ask(&mut net, unicast(3)) else {
        panic!("a status");
    };
    assert!((270..=300).contains(&poll_timeout), "{poll_timeout}");
    let none = ConfigMessage::LowPowerNodePollTimeoutStatus { address: unicast(1), poll_timeout: 0 };
    assert_eq!(ask(&mut net, unicast(1)), none);
    // The host has enough, and the Friend is told.
    net.command(LPN, Command::LowPower(false));
    net.run(SECOND);
    assert_eq!(friendships(&net, FRIEND)[1], (3, FriendshipRole::Friend, false));
    assert_eq!(heartbeats(&net), [Features::LOW_POWER, Features(0)]);
    assert!(net.nodes[LPN].is_listening());
    net.run(60 * SECOND);
    assert_eq!(friendships(&net, LPN).len(), 2, "and it looks for no other");
    assert!(net.nodes[MANAGER].handle_command(net.now, Command::LowPower(true)).is_err());
    assert!(net.nodes[MANAGER].handle_command(net.now, Command::Poll).is_err());
}

#[test]
fn the_radio_is_on_for_a_small_part_of_the_time() {
    let mut net = friends();
    let mut on = Duration::ZERO;
    let start = net.now;
    while net.now < start + 100 * SECOND {
        let before = (net.now, net.nodes[LPN].is_listening());
        net.run(Duration::from_millis(1));
        on += if before.1 { net.now - before.0 } else { Duration::ZERO };
    }
    assert!(on < 2 * SECOND, "{on:?} of 100 s");
}

#[test]
fn messages_short_and_long_reach_a_sleeping_node_and_come_from_it() {
    let mut net = friends();
    for octets in [4, 100, 370] {
        assert_eq!(hello(&mut net, MANAGER, LPN, octets), 1, "{octets} octets");
        assert_eq!(hello(&mut net, FRIEND, LPN, octets), 1, "{octets} octets from the Friend");
        let sent = net.events.iter().filter(|x| matches!(x.1, Event::Sent { result: Ok(()), .. })).count();
        assert_eq!(sent, 1);
        assert_eq!(hello(&mut net, LPN, MANAGER, octets), 1, "{octets} octets");
        assert_eq!(hello(&mut net, LPN, FRIEND, octets), 1, "{octets} octets");
        let sent = net.events.iter().filter(|x| matches!(x.1, Event::Sent { result: Ok(()), .. })).count();
        assert_eq!(sent, 1, "acknowledgments come by the Friend");
    }
    for group in [GROUP, GROUP + 1, GROUP + 2, GROUP + 3, GROUP + 4, GROUP + 5] {
        assert_eq!(net.hello(MANAGER, Address::from(group), 4), []);
        subscribe(&mut net, LPN, SubscriptionChange::Add, group);
        net.run(5 * SECOND);
        assert_eq!(net.hello(MANAGER, Address::from(group), 4), [LPN]);
    }
    assert_eq!(net.hello(FRIEND, Address::from(GROUP), 4), [LPN]);
    assert_eq!(net.hello(MANAGER, Address::from(GROUP), 100), [LPN], "a long one to a group");
    assert_eq!(net.hello(FRIEND, Address::from(GROUP), 100), [LPN], "a long one to a group, from the Friend");
    subscribe(&mut net, LPN, SubscriptionChange::Delete, GROUP);
    net.run(5 * SECOND);
    assert_eq!(net.hello(MANAGER, Address::from(GROUP), 4), []);
    assert_eq!(net.hello(MANAGER, Address::from(GROUP + 5), 4), [LPN]);
}

#[test]
fn every_element_of_a_sleeping_node_is_reached() {
    let mut net = Net::with_options(3, options);
    let element = || Element::new(0).with_host(MODEL, &[HELLO]);
    let two = vec![element(), element()];
    net.nodes[LPN] = net::restore_with(net.now, 3, two, options(3), &net.stores[LPN]);
    let model = ModelRef { element: unicast(4), model: MODEL };
    net.configure(LPN, ConfigMessage::ModelAppBind { index: APP, model });
    begin(&mut net);
    for (element, octets) in [(3, 4), (4, 4), (4, 60)] {
        assert_eq!(net.hello(MANAGER, Address::from(element), octets), [LPN], "{element}");
        assert_eq!(net.hello(FRIEND, Address::from(element), octets), [LPN], "{element}");
    }
    assert_eq!(net.hello(MANAGER, Address::from(5), 4), []);
}

#[test]
fn a_virtual_address_is_stored_by_its_hash() {
    let mut net = friends();
    let label = LabelUuid([3; 16]);
    let model = ModelRef { element: unicast(3), model: MODEL };
    let change = SubscriptionChange::Add;
    net.configure(LPN, ConfigMessage::ModelSubscriptionVirtualAddressChange { change, label, model });
    net.run(5 * SECOND);
    let message = OutgoingMessage {
        element: 0,
        destination: Destination::Label(label),
        key: MessageKey::App(APP),
        ttl: None,
        payload: HELLO.with(&[1; 50]),
        segmented: false,
    };
    net.command(MANAGER, Command::Send(message.clone()));
    net.command(FRIEND, Command::Send(message));
    net.run(5 * SECOND);
    assert_eq!(heard(&net, LPN), [1, 1]);
}

#[test]
fn a_message_waits_until_the_node_asks_and_messages_keep_their_order() {
    let mut net = friends();
    // Its own messages get their sequence numbers when they are sent: the confirmation of a list overtakes them, and
    // nothing is refused as played back.
    for number in 0..6 {
        send(&mut net, if number % 2 == 0 { FRIEND } else { MANAGER }, address(LPN), &[number]);
        net.run(Duration::from_millis(1));
    }
    send(&mut net, FRIEND, address(LPN), &[6; 100]);
    subscribe(&mut net, LPN, SubscriptionChange::Add, GROUP);
    assert_eq!(heard(&net, LPN), []);
    net.run(10 * SECOND);
    assert_eq!(heard(&net, LPN), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(net.nodes[LPN].discards().get(Discard::Replayed), 0);
    // The host need not wait for the interval.
    send(&mut net, MANAGER, address(LPN), &[7]);
    net.command(LPN, Command::Poll);
    net.run(Duration::from_millis(400));
    assert_eq!(heard(&net, LPN).last(), Some(&7));
}

#[test]
fn long_messages_both_ways_at_once_arrive_although_acknowledgments_overtake_segments() {
    let mut net = friends();
    for delay_ms in (0..1000).step_by(50) {
        net.events.clear();
        send(&mut net, LPN, address(MANAGER), &[1; 60]);
        net.run(Duration::from_millis(delay_ms));
        send(&mut net, MANAGER, address(LPN), &[2; 60]);
        net.run(10 * SECOND);
        assert_eq!((heard(&net, MANAGER), heard(&net, LPN)), (vec![1], vec![2]), "{delay_ms} ms");
    }
}

#[test]
fn a_change_of_iv_index_is_told_in_every_subnet() {
    let mut net = Net::with_options(3, |address| match address {
        3 => NodeOptions {
            low_power: Some(LowPowerSettings { net_key_index: KeyIndex::new(1).unwrap(), ..low_power() }),
            ..NodeOptions::default()
        },
        _ => options(address),
    });
    for index in [FRIEND, LPN] {
        let key = ConfigMessage::NetKeyAdd { index: KeyIndex::new(1).unwrap(), key: net_key(2) };
        net.configure(index, key);
    }
    begin(&mut net);
    let since = net.sent.len();
    net.command(FRIEND, Command::IvUpdate(IvUpdateCommand::Start));
    net.run(10 * SECOND);
    let sent = opened(&net, since, FRIEND, &material(2));
    // Flags, IV Index and MD of the Friend Updates: an update is in progress.
    assert!(sent.iter().any(|x| x.transport_pdu.to_vec() == [2, 2, 0, 0, 0, 6, 0]), "{sent:?}");
}

#[test]
fn a_friend_serves_nodes_of_different_subnets_at_once_each_with_what_is_sent_in_its_own() {
    const IN_OTHER: usize = 4;
    let one = KeyIndex::new(1).unwrap();
    let mut net = Net::with_options(5, |address| match address {
        4 => NodeOptions::default(),
        5 => NodeOptions {
            low_power: Some(LowPowerSettings { net_key_index: KeyIndex::new(1).unwrap(), ..low_power() }),
            ..NodeOptions::default()
        },
        _ => options(address),
    });
    for index in [MANAGER, FRIEND, IN_OTHER] {
        net.configure(index, ConfigMessage::NetKeyAdd { index: one, key: net_key(2) });
        net.configure(index, ConfigMessage::AppKeyAdd { net_key_index: one, index: one, key: app_key(2) });
    }
    let model = ModelRef { element: net.nodes[IN_OTHER].address(), model: MODEL };
    net.configure(IN_OTHER, ConfigMessage::ModelAppBind { index: one, model });
    begin(&mut net);
    net.command(IN_OTHER, Command::LowPower(true));
    net.run(5 * SECOND);
    let served: Vec<_> = net.nodes[FRIEND].low_power_nodes().collect();
    assert_eq!(served, [(NET, unicast(3)), (one, unicast(5))]);
    for (number, octets) in [(1, 1), (2, 60)] {
        net.events.clear();
        for (to, key) in [(LPN, APP), (IN_OTHER, one)] {
            let message = OutgoingMessage {
                element: 0,
                destination: Destination::Address(address(to)),
                key: MessageKey::App(key),
                ttl: None,
                payload: HELLO.with(&vec![number; octets]),
                segmented: false,
            };
            net.command(MANAGER, Command::Send(message));
        }
        net.run(10 * SECOND);
        assert_eq!((heard(&net, LPN), heard(&net, IN_OTHER)), (vec![number], vec![number]));
    }
    // One of them ends; the other does not notice.
    net.command(LPN, Command::LowPower(false));
    net.run(5 * SECOND);
    let served: Vec<_> = net.nodes[FRIEND].low_power_nodes().collect();
    assert_eq!(served, [(one, unicast(5))]);
}

#[test]
fn the_friend_takes_traffic_of_the_node_on_with_flooding_material_and_nobody_else_can_read_it() {
    let mut net = Net::with_options(3, options);
    // All relay, but the Friend.
    for index in [MANAGER, LPN] {
        let retransmit = Transmit::from_octet(0);
        net.configure(index, ConfigMessage::RelaySet { relay: FeatureState::Enabled, retransmit });
    }
    begin(&mut net);
    let since = net.sent.len();
    let events = net.events.len();
    send(&mut net, LPN, Address::from(GROUP), &[1]);
    send(&mut net, MANAGER, address(LPN), &[2]);
    net.run(10 * SECOND);
    let flooding = NetworkKeys::flooding(&net_key(1));
    let from = |sent: &[NetworkPdu], src: u16| {
        sent.iter().filter(|x| u16::from(x.src) == src && !x.ctl).map(|x| u8::from(x.ttl)).collect::<Vec<_>>()
    };
    assert_eq!(from(&opened(&net, since, LPN, &material(1)), 3), [5]);
    assert_eq!(from(&opened(&net, since, LPN, &flooding), 3), []);
    // The Friend does not relay, and yet takes this on; what is for its node it stores, with a TTL of one less.
    assert_eq!(from(&opened(&net, since, FRIEND, &flooding), 3), [4]);
    assert_eq!(from(&opened(&net, since, FRIEND, &flooding), 1), []);
    assert_eq!(from(&opened(&net, since, FRIEND, &material(1)), 1), [4]);
    // Neither relay repeats what is under the material of the friendship.
    assert_eq!(opened(&net, since, MANAGER, &material(1)), []);
    assert_eq!(from(&opened(&net, since, LPN, &flooding), 1), []);
    assert_eq!(net.events[events..].iter().filter(|x| matches!(x.1, Event::Message(_))).count(), 1);
}

#[test]
fn a_publication_uses_the_material_that_its_flag_says_and_the_other_without_a_friend() {
    let mut net = Net::with_options(3, options);
    let publish = |net: &mut Net, friendship_credentials| {
        let publication = Publication {
            destination: PublishDestination::Address(Address::from(GROUP)),
            app_key_index: APP,
            friendship_credentials,
            ttl: None,
            period: PublishPeriod(0),
            retransmit: PublishRetransmit(0),
        };
        let model = ModelRef { element: unicast(3), model: MODEL };
        let answer = net.configure(LPN, ConfigMessage::ModelPublicationSet { publication, model });
        assert_eq!(status_of(&answer), Status::Success);
        let since = net.sent.len();
        let (element, model, payload) = (0, MODEL, HELLO.with(&[1]));
        net.command(LPN, Command::Publish { element, model, payload });
        net.run(SECOND);
        let of = |keys: &NetworkKeys| opened(net, since, LPN, keys).iter().filter(|x| !x.ctl).count();
        (of(&NetworkKeys::flooding(&net_key(1))), of(&material(1)))
    };
    assert_eq!(publish(&mut net, true), (1, 0), "there is no friendship yet");
    begin(&mut net);
    assert_eq!(publish(&mut net, true), (0, 1));
    assert_eq!(publish(&mut net, false), (1, 0));
    // A node without the feature does not take the flag.
    let publication = Publication {
        destination: PublishDestination::Address(Address::from(GROUP)),
        app_key_index: APP,
        friendship_credentials: true,
        ttl: None,
        period: PublishPeriod(0),
        retransmit: PublishRetransmit(0),
    };
    let model = ModelRef { element: unicast(1), model: MODEL };
    let answer = net.configure(MANAGER, ConfigMessage::ModelPublicationSet { publication, model });
    assert_eq!(status_of(&answer), Status::FeatureNotSupported);
}

#[test]
fn a_node_that_loses_its_friend_finds_another_which_tells_the_first() {
    let mut net = Net::with_options(4, options);
    net.hears = |from, to| (from, to) != (OTHER, LPN) && (from, to) != (LPN, OTHER);
    begin(&mut net);
    subscribe(&mut net, LPN, SubscriptionChange::Add, GROUP);
    net.run(5 * SECOND);
    assert_eq!(net.hello(MANAGER, Address::from(GROUP), 4), [LPN]);
    net.events.clear();
    // It cannot hear the first any more, which does not notice.
    net.hears = |from, to| (from, to) != (FRIEND, LPN);
    let since = net.sent.len();
    net.run(35 * SECOND);
    assert_eq!(
        friendships(&net, LPN),
        [(2, FriendshipRole::LowPower, false), (4, FriendshipRole::LowPower, true)]
    );
    assert_eq!(friendships(&net, OTHER), [(3, FriendshipRole::Friend, true)]);
    assert_eq!(friendships(&net, FRIEND), [(3, FriendshipRole::Friend, false)]);
    let flooding = NetworkKeys::flooding(&net_key(1));
    let clears: Vec<(u8, Vec<u8>)> = opened(&net, since, OTHER, &flooding)
        .iter()
        .filter(|x| x.transport_pdu[0] == 5)
        .map(|x| (u8::from(x.ttl), x.transport_pdu[1..].to_vec()))
        .collect();
    let mut confirmed: Vec<Vec<u8>> = opened(&net, since, FRIEND, &flooding)
        .iter()
        .filter(|x| x.transport_pdu[0] == 6)
        .map(|x| x.transport_pdu[1..].to_vec())
        .collect();
    assert_eq!(clears.len(), 1);
    assert_eq!((clears[0].0, &clears[0].1[..2]), (0x7f, &[0, 3][..]));
    assert_eq!(confirmed.pop(), Some(clears[0].1.clone()));
    // The list went with the first friendship, and was told anew.
    assert_eq!(net.hello(MANAGER, Address::from(GROUP), 4), [LPN]);
    // What was taken before the friendship is still known (Z#29858): its list of sources was not forgotten.
    assert_eq!(net.hello(MANAGER, address(LPN), 4), [LPN]);
}

#[test]
fn friend_clear_is_repeated_ever_more_slowly_until_it_is_confirmed_or_too_old() {
    let mut net = Net::with_options(4, options);
    net.hears = |from, to| (from, to) != (OTHER, LPN) && (from, to) != (LPN, OTHER);
    begin(&mut net);
    // The first Friend is gone altogether.
    net.hears = |from, to| from != FRIEND && to != FRIEND;
    let since = net.sent.len();
    net.run(35 * SECOND);
    assert_eq!(net.nodes[LPN].friend(), Some(unicast(4)));
    net.run(100 * SECOND);
    let flooding = NetworkKeys::flooding(&net_key(1));
    let clears =
        |net: &Net| opened(net, since, OTHER, &flooding).iter().filter(|x| x.transport_pdu[0] == 5).count();
    // At 0, 1, 3, 7, 15 and 31 seconds; the next would come after twice the Poll Timeout, 60 seconds.
    assert_eq!(clears(&net), 6);
    net.run(100 * SECOND);
    assert_eq!(clears(&net), 6);
}

#[test]
fn a_friendship_ends_when_the_friend_is_switched_off_reset_or_restarted() {
    let mut net = friends();
    net.events.clear();
    let answer = net.configure(FRIEND, ConfigMessage::FriendSet { friend: FeatureState::Disabled });
    assert_eq!(answer, ConfigMessage::FriendStatus { friend: FeatureState::Disabled });
    net.run(SECOND);
    assert_eq!(friendships(&net, FRIEND), [(3, FriendshipRole::Friend, false)]);
    net.run(60 * SECOND);
    assert_eq!(net.nodes[LPN].friend(), None);
    // The state outlasts a restart, friendships do not.
    net.restart(FRIEND);
    net.run(60 * SECOND);
    assert_eq!(net.nodes[LPN].friend(), None);
    net.configure(FRIEND, ConfigMessage::FriendSet { friend: FeatureState::Enabled });
    net.run(60 * SECOND);
    assert_eq!(net.nodes[LPN].friend(), Some(unicast(2)));
    net.restart(FRIEND);
    assert_eq!(net.nodes[FRIEND].low_power_nodes().count(), 0);
    net.run(100 * SECOND);
    assert_eq!(net.nodes[FRIEND].low_power_nodes().count(), 1, "it has formed again");
    assert_eq!(net.hello(MANAGER, address(LPN), 50), [LPN]);
    // The Low Power node comes back with counters that begin anew.
    net.restart(LPN);
    begin(&mut net);
    assert_eq!(net.hello(MANAGER, address(LPN), 50), [LPN]);
    assert_eq!(net.nodes[FRIEND].low_power_nodes().count(), 1);
}

#[test]
fn a_node_that_was_silent_for_its_poll_timeout_has_no_friend_any_more() {
    let mut net = friends();
    net.events.clear();
    net.hears = |from, to| from != LPN && to != LPN;
    net.run(25 * SECOND);
    assert_eq!(friendships(&net, FRIEND), []);
    net.run(10 * SECOND);
    assert_eq!(friendships(&net, FRIEND), [(3, FriendshipRole::Friend, false)]);
    assert_eq!(friendships(&net, LPN), [(2, FriendshipRole::LowPower, false)]);
    net.hears = |_, _| true;
    net.run(60 * SECOND);
    assert_eq!(friendships(&net, LPN)[1..], [(2, FriendshipRole::LowPower, true)]);
}

#[test]
fn a_friend_has_several_low_power_nodes_and_no_more_than_it_can() {
    let mut net = Net::with_options(5, |address| match address {
        2 => NodeOptions {
            friend: Some(FriendSettings { low_power_nodes: 2, ..FriendSettings::default() }),
            ..NodeOptions::default()
        },
        _ => NodeOptions { low_power: Some(low_power()), ..NodeOptions::default() },
    });
    for index in [LPN, OTHER] {
        net.command(index, Command::LowPower(true));
    }
    net.run(10 * SECOND);
    assert_eq!(net.nodes[FRIEND].low_power_nodes().count(), 2);
    net.command(4, Command::LowPower(true));
    net.run(30 * SECOND);
    assert_eq!(net.nodes[4].friend(), None);
    for octets in [4, 100] {
        assert_eq!(net.hello(MANAGER, address(LPN), octets), [LPN]);
        assert_eq!(net.hello(LPN, address(OTHER), octets), [OTHER], "from one to the other, {octets} octets");
    }
    subscribe(&mut net, LPN, SubscriptionChange::Add, GROUP);
    subscribe(&mut net, OTHER, SubscriptionChange::Add, GROUP);
    net.run(10 * SECOND);
    assert_eq!(net.hello(MANAGER, Address::from(GROUP), 100), [LPN, OTHER]);
    assert_eq!(net.hello(LPN, Address::from(GROUP), 4), [LPN, OTHER], "itself without the detour");
}

#[test]
fn an_iv_update_and_a_key_refresh_reach_a_sleeping_node_by_its_friend() {
    let mut net = friends();
    // It hears no beacons, only its Friend.
    net.command(MANAGER, Command::IvUpdate(IvUpdateCommand::Start));
    for index in [FRIEND, LPN] {
        net.command(index, Command::IvUpdate(IvUpdateCommand::TestMode(true)));
    }
    net.run(20 * SECOND);
    let iv = |net: &Net, index: usize| {
        (net.nodes[index].iv_update().index(), net.nodes[index].iv_update().is_in_progress())
    };
    assert_eq!(iv(&net, LPN), (IvIndex(6), true));
    assert_eq!(net.hello(MANAGER, address(LPN), 50), [LPN]);
    // A message that was stored before the end of the update is delivered with its own IV Index.
    send(&mut net, MANAGER, address(LPN), &[9]);
    net.command(MANAGER, Command::IvUpdate(IvUpdateCommand::TestMode(true)));
    net.command(MANAGER, Command::IvUpdate(IvUpdateCommand::Finish));
    net.run(20 * SECOND);
    assert_eq!(iv(&net, LPN), (IvIndex(6), false));
    assert_eq!(heard(&net, LPN).last(), Some(&9));
    assert_eq!(net.hello(FRIEND, address(LPN), 50), [LPN]);
    for index in [MANAGER, FRIEND, LPN] {
        net.configure(index, ConfigMessage::NetKeyUpdate { index: NET, key: net_key(9) });
        net.configure(index, ConfigMessage::AppKeyUpdate { net_key_index: NET, index: APP, key: app_key(9) });
    }
    net.run(10 * SECOND);
    let transitions = [KeyRefreshTransition::UseNewKeys, KeyRefreshTransition::RevokeOldKeys];
    for (transition, phase) in transitions.into_iter().zip([KeyRefreshPhase::Second, KeyRefreshPhase::Normal])
    {
        net.configure(MANAGER, ConfigMessage::KeyRefreshPhaseSet { index: NET, transition });
        net.run(20 * SECOND);
        assert_eq!(net.nodes[LPN].subnets()[0].phase, phase);
        assert_eq!(net.hello(MANAGER, address(LPN), 50), [LPN]);
        assert_eq!(net.hello(LPN, address(MANAGER), 50), [MANAGER]);
    }
    assert_eq!(friendships(&net, LPN), [], "and it was one friendship throughout");
    let since = net.sent.len();
    net.run(10 * SECOND);
    assert!(!opened_under(&net, since, &material(9)).is_empty(), "under the new key");
    assert_eq!(opened_under(&net, since, &material(1)), []);
}

/// What the Low Power node sent under a material and IV Index 6.
fn opened_under(net: &Net, since: usize, keys: &NetworkKeys) -> Vec<NetworkPdu> {
    let sent = net.sent[since..].iter().filter(|(from, x)| *from == LPN && x.ad_type == AdType::MeshMessage);
    sent.filter_map(|(_, x)| {
        let header = Header::deobfuscate(&x.data, keys, IvIndex(6)).ok()?;
        header.decrypt(&x.data, keys, IvIndex(6)).ok()
    })
    .collect()
}

#[test]
fn a_node_that_slept_through_the_end_of_a_refresh_finds_its_way_back() {
    let mut net = friends();
    for index in [MANAGER, FRIEND, LPN] {
        net.configure(index, ConfigMessage::NetKeyUpdate { index: NET, key: net_key(9) });
    }
    net.hears = |from, to| from != LPN && to != LPN;
    let transition = KeyRefreshTransition::RevokeOldKeys;
    net.configure(MANAGER, ConfigMessage::KeyRefreshPhaseSet { index: NET, transition });
    net.run(20 * SECOND);
    assert_eq!(net.nodes[FRIEND].subnets()[0].phase, KeyRefreshPhase::Normal);
    assert_eq!(net.nodes[LPN].subnets()[0].phase, KeyRefreshPhase::First);
    net.hears = |_, _| true;
    // Its Friend no longer understands it; alone, it listens, and hears a beacon.
    net.run(120 * SECOND);
    assert_eq!(net.nodes[LPN].subnets()[0].phase, KeyRefreshPhase::Normal);
    assert_eq!(net.nodes[LPN].friend(), Some(unicast(2)));
}

#[test]
fn a_message_that_does_not_fit_into_the_queue_is_refused() {
    let mut net = Net::with_options(3, |address| match address {
        2 => NodeOptions {
            friend: Some(FriendSettings { queue_size: 4, ..FriendSettings::default() }),
            ..NodeOptions::default()
        },
        3 => NodeOptions {
            low_power: Some(LowPowerSettings { criteria: Criteria::new(0, 0, 2).unwrap(), ..low_power() }),
            ..NodeOptions::default()
        },
        _ => NodeOptions { replay_list: 2, ..NodeOptions::default() },
    });
    begin(&mut net);
    for from in [MANAGER, FRIEND] {
        // Four segments fit, five do not.
        assert_eq!(hello(&mut net, from, LPN, 40), 1);
        assert_eq!(hello(&mut net, from, LPN, 50), 0);
        let refused = net.events.iter().any(|x| matches!(x.1, Event::Sent { result: Err(_), .. }));
        assert!(refused, "{:?}", net.events);
    }
    // Of too many messages the newest are kept.
    for number in 0..6 {
        send(&mut net, MANAGER, address(LPN), &[number]);
        net.run(Duration::from_millis(1));
    }
    net.events.clear();
    net.run(10 * SECOND);
    assert_eq!(heard(&net, LPN), [2, 3, 4, 5]);
    // The replay list has its size from the options, and the composition data says so.
    assert_eq!(net.nodes[MANAGER].composition().replay_list, 2);
    assert_eq!(net.nodes[FRIEND].composition().replay_list, 256);
}
