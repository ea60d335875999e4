//! What the nodes of a network agree on: beacons, IV Update, key refresh, heartbeats; with power cuts in between.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/net.rs"]
mod net;

use std::collections::BTreeSet;
use std::time::Duration;

use mesh_proto::Discard;
use mesh_proto::access::Element;
use mesh_proto::friend::FriendSettings;
use mesh_proto::keys::KeyRefreshPhase;
use mesh_proto::network::IvUpdateError;
use mesh_proto::node::{Command, CommandError, Event, IvUpdateCommand, NodeOptions, RecordKey};
use mesh_wire::address::Address;
use mesh_wire::beacon::{Beacon, NetworkFlags, SecureNetwork};
use mesh_wire::bearer::AdType;
use mesh_wire::foundation::{
    ConfigMessage, FeatureState, Features, HeartbeatPublication, KeyRefreshTransition, ModelRef, Status,
    SubscriptionChange,
};
use mesh_wire::{IvIndex, KeyIndex, ModelId, Transmit, Ttl};
use net::{APP, HELLO, HOUR, MODEL, NET, Net, SECOND, app_key, net_key, status_of, unicast};

fn beacon(key: u8, flags: (bool, bool), iv_index: u32) -> Vec<u8> {
    let key = net_key(key);
    let flags = NetworkFlags { key_refresh: flags.0, iv_update: flags.1 };
    let beacon = SecureNetwork::new(&key, key.network_id(), flags, IvIndex(iv_index));
    Beacon::SecureNetwork(beacon).encode().to_vec()
}

fn hear(net: &mut Net, index: usize, beacon: &[u8]) {
    let received = mesh_proto::bearer::Received { ad_type: AdType::MeshBeacon, data: beacon, rssi: -50 };
    net.nodes[index].handle_pdu(net.now, &received);
    net.store(index);
}

fn phases(net: &Net) -> Vec<KeyRefreshPhase> {
    net.nodes.iter().map(|node| node.subnets()[0].phase).collect()
}

#[test]
fn a_node_beacons_every_ten_seconds_alone_and_less_in_company() {
    let mut alone = Net::new(1);
    alone.run(100 * SECOND);
    assert!((10..=11).contains(&alone.beacons()), "{}", alone.beacons());
    let mut many = Net::new(10);
    many.run(1000 * SECOND);
    // Ten nodes add up to about one in ten to twenty seconds.
    assert!((50..=130).contains(&many.beacons()), "{}", many.beacons());
    alone.configure(0, ConfigMessage::BeaconSet { beacon: FeatureState::Disabled });
    let before = alone.beacons();
    alone.run(1000 * SECOND);
    assert_eq!(alone.beacons(), before);
}

#[test]
fn all_follow_an_iv_update_and_hear_each_other_throughout() {
    let mut net = Net::new(3);
    let all = || Address::from(2);
    let before = net.sent.len();
    assert_eq!(net.hello(0, all(), 4), [1]);
    let played_back =
        net.sent[before..].iter().find(|x| x.1.ad_type == AdType::MeshMessage).unwrap().1.clone();

    // After provisioning nobody knows how long the state has lasted: it may change at once.
    net.command(0, Command::IvUpdate(IvUpdateCommand::Start));
    net.run(60 * SECOND);
    assert!(net.nodes.iter().all(|node| node.iv_update().is_in_progress()));
    assert_eq!(net.hello(0, all(), 4), [1]);
    assert_eq!(net.hello(1, Address::from(1), 200), [0], "segmented");
    let early = net.nodes[0].handle_command(net.now, Command::IvUpdate(IvUpdateCommand::Finish));
    assert_eq!(early, Err(CommandError::IvUpdate(IvUpdateError::TooEarly)));

    // The node that began it ends it after 96 hours, whatever restarts there are.
    for _ in 0..4 {
        net.run(24 * HOUR);
        net.restart(0);
        net.restart(1);
    }
    net.run(5 * HOUR);
    for node in &net.nodes {
        assert!(!node.iv_update().is_in_progress(), "{:?}", node.iv_update());
        assert_eq!(node.iv_update().index(), IvIndex(6));
    }
    assert_eq!(net.hello(0, all(), 4), [1]);
    // A PDU of the IV Index before is still understood, and known to the replay list.
    let replayed = net.nodes[1].discards().get(Discard::Replayed);
    net.nodes[1].handle_pdu(net.now, &net::received(&played_back));
    assert_eq!(net.nodes[1].discards().get(Discard::Replayed), replayed + 1);
    assert_eq!(net.hello(2, all(), 4), [1]);
}

#[test]
fn a_node_that_was_away_recovers_and_may_do_so_once_in_192_hours() {
    let mut net = Net::new(1);
    hear(&mut net, 0, &beacon(1, (false, true), 9));
    assert_eq!(
        (net.nodes[0].iv_update().index(), net.nodes[0].iv_update().is_in_progress()),
        (IvIndex(9), true)
    );
    net.restart(0);
    assert_eq!(
        (net.nodes[0].iv_update().index(), net.nodes[0].iv_update().is_in_progress()),
        (IvIndex(9), true)
    );
    hear(&mut net, 0, &beacon(1, (false, false), 12));
    assert_eq!(net.nodes[0].iv_update().index(), IvIndex(9), "not again");
    hear(&mut net, 0, &beacon(1, (false, false), 9));
    assert!(!net.nodes[0].iv_update().is_in_progress(), "the 96 hours do not hold after a recovery");
    net.run(192 * HOUR);
    hear(&mut net, 0, &beacon(1, (false, false), 12));
    assert_eq!(net.nodes[0].iv_update().index(), IvIndex(12));
}

#[test]
fn a_beacon_of_a_secondary_subnet_does_not_change_the_iv_index_of_a_primary_member() {
    let mut net = Net::new(1);
    let second = KeyIndex::new(1).unwrap();
    net.configure(0, ConfigMessage::NetKeyAdd { index: second, key: net_key(2) });
    hear(&mut net, 0, &beacon(2, (false, true), 6));
    assert_eq!(net.nodes[0].iv_update().index(), IvIndex(5));
    // Somebody who has no key, or changes a bit, changes nothing.
    let mut forged = beacon(1, (false, true), 6);
    forged[1] = 0;
    hear(&mut net, 0, &forged);
    hear(&mut net, 0, &beacon(3, (false, true), 6));
    assert_eq!(net.nodes[0].iv_update().index(), IvIndex(5));
    assert_eq!(net.nodes[0].discards().get(Discard::Beacon), 3);
    hear(&mut net, 0, &beacon(1, (false, true), 6));
    assert_eq!(net.nodes[0].iv_update().index(), IvIndex(6));
}

#[test]
fn an_iv_update_waits_for_segmented_messages() {
    let mut net = Net::new(2);
    net.hears = |_, _| false;
    net.command(0, Command::IvUpdate(IvUpdateCommand::TestMode(true)));
    net.command(0, Command::IvUpdate(IvUpdateCommand::Start));
    net.command(0, Command::Send(net::message(Address::from(2), 100)));
    let deferred = net.nodes[0].handle_command(net.now, Command::IvUpdate(IvUpdateCommand::Finish));
    assert_eq!(deferred, Err(CommandError::IvUpdate(IvUpdateError::Deferred)));
    assert!(net.nodes[0].iv_update().is_in_progress());
    net.run(30 * SECOND);
    assert!(net.events.iter().any(|(_, event)| matches!(event, Event::Sent { result: Err(_), .. })));
    assert!(!net.nodes[0].iv_update().is_in_progress());
}

/// Under one IV Index no sequence number is used twice (MshPRT §3.9.3), whatever restarts there are at the very end.
#[test]
fn the_last_sequence_numbers_are_not_used_again_after_a_restart() {
    let mut net = Net::new(1);
    let sequence = RecordKey::Sequence.to_octets();
    net.stores[0].insert(sequence, vec![0, 0, 0, 5, 0xff, 0xff, 0xf8]);
    let mut sent = BTreeSet::new();
    for _ in 0..3 {
        net.restart(0);
        net.sent.clear();
        loop {
            let message = net::message(Address::from(2), 4);
            let answer = net.nodes[0].handle_command(net.now, Command::Send(message));
            net.run(Duration::ZERO);
            if answer.is_err() {
                assert_eq!(answer, Err(CommandError::SequenceExhausted));
                break;
            }
        }
        let messages = net.sent.iter().filter(|(_, sent)| sent.ad_type == AdType::MeshMessage);
        // The same message under the same number would have the same octets.
        messages.for_each(|(_, message)| assert!(sent.insert(message.data.to_vec()), "used twice"));
    }
    assert_eq!(sent.len(), 7, "all but the very last");
}

#[test]
fn a_key_refresh_goes_through_its_phases_and_leaves_out_who_did_not_get_the_key() {
    let mut net = Net::new(4);
    // The fourth is to be excluded.
    for index in 0..3 {
        net.configure(index, ConfigMessage::NetKeyUpdate { index: NET, key: net_key(9) });
        net.configure(index, ConfigMessage::AppKeyUpdate { net_key_index: NET, index: APP, key: app_key(9) });
        net.restart(index);
    }
    assert_eq!(phases(&net)[..3], [KeyRefreshPhase::First; 3]);
    for index in 0..4 {
        let model = mesh_wire::foundation::ModelRef { element: unicast(index + 1), model: net::MODEL };
        let change = mesh_wire::foundation::SubscriptionChange::Add;
        let address = Address::from(0xc000);
        net.configure(usize::from(index), ConfigMessage::ModelSubscriptionChange { change, address, model });
    }
    assert_eq!(net.hello(0, Address::from(0xc000), 3), [0, 1, 2, 3], "the old keys still send");
    // The manager goes first, and the others follow its beacons.
    let transition = KeyRefreshTransition::UseNewKeys;
    net.configure(0, ConfigMessage::KeyRefreshPhaseSet { index: NET, transition });
    net.run(30 * SECOND);
    assert_eq!(phases(&net)[..3], [KeyRefreshPhase::Second; 3]);
    (0..3).for_each(|index| net.restart(index));
    assert_eq!(phases(&net)[..3], [KeyRefreshPhase::Second; 3]);
    assert_eq!(net.hello(1, Address::from(0xc000), 3), [0, 1, 2], "the new keys send");
    assert_eq!(net.hello(3, Address::from(0xc000), 3), [0, 1, 2, 3], "the old ones are still heard");
    let transition = KeyRefreshTransition::RevokeOldKeys;
    net.configure(0, ConfigMessage::KeyRefreshPhaseSet { index: NET, transition });
    net.run(30 * SECOND);
    assert_eq!(phases(&net)[..3], [KeyRefreshPhase::Normal; 3]);
    (0..3).for_each(|index| net.restart(index));
    assert_eq!(net.hello(3, Address::from(0xc000), 3), [3], "and now no more");
    assert_eq!(net.hello(2, Address::from(0xc000), 100), [0, 1, 2]);
    assert!(net.nodes[..3].iter().all(|node| node.subnets()[0].current.net_key == net_key(9)));
}

#[test]
fn the_second_phase_can_be_skipped_and_beacons_of_the_old_key_say_nothing_then() {
    let mut net = Net::new(1);
    net.configure(0, ConfigMessage::NetKeyUpdate { index: NET, key: net_key(9) });
    hear(&mut net, 0, &beacon(1, (true, false), 5));
    assert_eq!(phases(&net), [KeyRefreshPhase::First], "the old key does not take it on");
    hear(&mut net, 0, &beacon(9, (false, false), 5));
    assert_eq!(phases(&net), [KeyRefreshPhase::Normal]);
    assert!(net.nodes[0].subnets()[0].current.net_key == net_key(9));
    hear(&mut net, 0, &beacon(9, (true, false), 5));
    assert_eq!(phases(&net), [KeyRefreshPhase::Normal], "it does not begin again");
    net.configure(0, ConfigMessage::NetKeyUpdate { index: NET, key: net_key(8) });
    hear(&mut net, 0, &beacon(8, (true, false), 5));
    assert_eq!(phases(&net), [KeyRefreshPhase::Second]);
    hear(&mut net, 0, &beacon(9, (false, true), 6));
    assert_eq!(net.nodes[0].iv_update().index(), IvIndex(5), "a beacon of the old key");
}

#[test]
fn a_node_that_was_provisioned_in_the_second_phase_sees_its_end() {
    let node = net::restore(clock::Instant::ORIGIN, 1, net::elements(), &net::Store::new());
    let flags = NetworkFlags { key_refresh: true, iv_update: true };
    let mut net = Net::new(1);
    net.nodes[0] = node.with_network_flags(flags);
    net.store(0);
    assert_eq!(net.nodes[0].secure_network_beacon(NET).unwrap().flags, flags);
    net.restart(0);
    assert_eq!(net.nodes[0].secure_network_beacon(NET).unwrap().flags, flags);
    hear(&mut net, 0, &beacon(1, (false, false), 5));
    let flags = net.nodes[0].secure_network_beacon(NET).unwrap().flags;
    assert_eq!(flags, NetworkFlags::default());
}

#[test]
fn key_lists_answer_as_their_conditions_say() {
    use ConfigMessage as M;
    let mut net = Net::new(1);
    let (other, second) = (KeyIndex::new(7).unwrap(), KeyIndex::new(8).unwrap());
    let net_update = |key| M::NetKeyUpdate { index: NET, key: net_key(key) };
    let app_update = |index, net_key_index, key| M::AppKeyUpdate { net_key_index, index, key: app_key(key) };
    let phase = |transition| M::KeyRefreshPhaseSet { index: NET, transition };
    let (new, revoke) = (KeyRefreshTransition::UseNewKeys, KeyRefreshTransition::RevokeOldKeys);
    let steps = [
        (M::NetKeyAdd { index: NET, key: net_key(1) }, Status::Success),
        (M::NetKeyAdd { index: NET, key: net_key(2) }, Status::KeyIndexAlreadyStored),
        (M::NetKeyDelete { index: other }, Status::Success),
        (M::NetKeyDelete { index: NET }, Status::CannotRemove),
        (M::NetKeyUpdate { index: other, key: net_key(2) }, Status::InvalidNetKeyIndex),
        (M::KeyRefreshPhaseGet { index: other }, Status::InvalidNetKeyIndex),
        (M::NodeIdentityGet { index: other }, Status::InvalidNetKeyIndex),
        (M::AppKeyAdd { net_key_index: NET, index: APP, key: app_key(2) }, Status::KeyIndexAlreadyStored),
        (M::AppKeyAdd { net_key_index: other, index: other, key: app_key(2) }, Status::InvalidNetKeyIndex),
        (M::AppKeyDelete { net_key_index: other, index: APP }, Status::InvalidNetKeyIndex),
        (app_update(APP, NET, 5), Status::CannotUpdate),
        (net_update(1), Status::CannotUpdate),
        (net_update(3), Status::Success),
        (net_update(3), Status::Success),
        (net_update(4), Status::CannotUpdate),
        (app_update(other, NET, 5), Status::InvalidAppKeyIndex),
        (app_update(APP, other, 5), Status::InvalidNetKeyIndex),
        (app_update(APP, NET, 1), Status::CannotUpdate),
        (app_update(APP, NET, 5), Status::Success),
        (app_update(APP, NET, 5), Status::Success),
        (app_update(APP, NET, 6), Status::Success),
        (M::NetKeyAdd { index: second, key: net_key(8) }, Status::Success),
        (app_update(APP, second, 5), Status::InvalidBinding),
        (app_update(APP, NET, 5), Status::Success),
        (phase(new), Status::Success),
        (net_update(3), Status::CannotUpdate),
        (app_update(APP, NET, 5), Status::CannotUpdate),
        (phase(new), Status::Success),
        (phase(revoke), Status::Success),
        (phase(revoke), Status::Success),
        (M::AppKeyAdd { net_key_index: NET, index: APP, key: app_key(5) }, Status::Success),
    ];
    for (number, (request, expected)) in steps.into_iter().enumerate() {
        let answer = net.configure(0, request.clone());
        assert_eq!(status_of(&answer), expected, "step {number}: {request:?}");
    }
    let on = FeatureState::Enabled;
    let answer = net.configure(0, M::NodeIdentitySet { index: other, identity: on });
    let status = Status::InvalidNetKeyIndex;
    assert_eq!(answer, M::NodeIdentityStatus { status, index: other, identity: on }, "as it was asked");
    let M::KeyRefreshPhaseStatus { phase: 0, .. } = net.configure(0, M::KeyRefreshPhaseGet { index: NET })
    else {
        panic!("phase 0");
    };
}

#[test]
fn node_wide_states_are_read_and_written_and_outlast_a_restart() {
    use ConfigMessage as M;
    let mut net = Net::new(1);
    let (on, none) = (FeatureState::Enabled, FeatureState::NotSupported);
    let transmit = Transmit::from_octet(0x15);
    let off = FeatureState::Disabled;
    for (set, get, status) in [
        (M::BeaconSet { beacon: off }, M::BeaconGet, M::BeaconStatus { beacon: off }),
        (M::GattProxySet { proxy: on }, M::GattProxyGet, M::GattProxyStatus { proxy: none }),
        (M::FriendSet { friend: on }, M::FriendGet, M::FriendStatus { friend: none }),
        (
            M::RelaySet { relay: on, retransmit: transmit },
            M::RelayGet,
            M::RelayStatus { relay: on, retransmit: transmit },
        ),
        (M::NetworkTransmitSet { transmit }, M::NetworkTransmitGet, M::NetworkTransmitStatus { transmit }),
        (
            M::NodeIdentitySet { index: NET, identity: on },
            M::NodeIdentityGet { index: NET },
            M::NodeIdentityStatus { status: Status::Success, index: NET, identity: none },
        ),
    ] {
        assert_eq!(net.configure(0, set), status);
        net.restart(0);
        assert_eq!(net.configure(0, get), status);
    }
    let address = unicast(0x1234);
    assert_eq!(
        net.configure(0, M::LowPowerNodePollTimeoutGet { address }),
        M::LowPowerNodePollTimeoutStatus { address, poll_timeout: 0 }
    );
}

#[test]
fn heartbeats_are_published_counted_and_triggered_by_changes() {
    use ConfigMessage as M;
    let mut net = Net::new(2);
    let group = Address::from(0xc123);
    let publication = HeartbeatPublication {
        destination: group,
        count_log: 3,
        period_log: 4,
        ttl: Ttl::new(9).unwrap(),
        features: Features(0x0f),
        net_key_index: NET,
    };
    let wrong = HeartbeatPublication { net_key_index: KeyIndex::new(9).unwrap(), ..publication };
    let answer = net.configure(0, M::HeartbeatPublicationSet { publication: wrong });
    assert_eq!(status_of(&answer), Status::InvalidNetKeyIndex);
    net.configure(
        1,
        M::HeartbeatSubscriptionSet { source: unicast(1).into(), destination: group, period_log: 0x11 },
    );
    net.configure(0, M::HeartbeatPublicationSet { publication });
    net.run(60 * SECOND);
    let heard = |net: &Net| net.events.iter().filter(|x| matches!(x.1, Event::Heartbeat { .. })).count();
    assert_eq!(heard(&net), 4);
    let transmit = Transmit::from_octet(0);
    net.configure(0, M::RelaySet { relay: FeatureState::Enabled, retransmit: transmit });
    net.run(SECOND);
    assert_eq!(heard(&net), 5, "a feature changed");
    let Some((1, Event::Heartbeat { source, hops: 1, features })) = net.events.last() else { panic!() };
    assert_eq!((*source, *features), (unicast(1), Features::RELAY));
    let M::HeartbeatSubscriptionStatus { subscription, .. } = net.configure(1, M::HeartbeatSubscriptionGet)
    else {
        panic!("a status");
    };
    assert_eq!((subscription.count_log, subscription.min_hops, subscription.max_hops), (3, 1, 1));
    // The publication outlasts a restart, with the count that was left: none.
    net.restart(0);
    net.run(60 * SECOND);
    assert_eq!(heard(&net), 5);
    net.configure(0, M::RelaySet { relay: FeatureState::Disabled, retransmit: transmit });
    net.run(SECOND);
    assert_eq!(heard(&net), 6);
    // Of 8, four are heard before a restart and four after it.
    net.configure(
        0,
        M::HeartbeatPublicationSet { publication: HeartbeatPublication { count_log: 4, ..publication } },
    );
    net.run(25 * SECOND);
    net.restart(0);
    net.run(200 * SECOND);
    assert_eq!(heard(&net), 6 + 8);
    // A subscription that is ended tells what it counted, and then nothing.
    let off = M::HeartbeatSubscriptionSet { source: unicast(1).into(), destination: group, period_log: 0 };
    let M::HeartbeatSubscriptionStatus { subscription, .. } = net.configure(1, off) else { panic!() };
    assert_eq!((subscription.source, subscription.destination), (Address::Unassigned, Address::Unassigned));
    assert_eq!((subscription.count_log, subscription.min_hops), (4, 1));
    let M::HeartbeatSubscriptionStatus { subscription, .. } = net.configure(1, M::HeartbeatSubscriptionGet)
    else {
        panic!("a status");
    };
    assert_eq!((subscription.count_log, subscription.min_hops, subscription.max_hops), (0, 0, 0));
}

/// The Configuration models are secured with device keys, and with nothing else (MshPRT §4.4.1.1, §4.4.2.1).
#[test]
fn no_application_key_reaches_a_configuration_client() {
    let mut net = Net::new(2);
    let client = Element::new(0).with_host(ModelId::CONFIGURATION_CLIENT, &[HELLO]);
    net.nodes[1] = net::restore(net.now, 2, vec![client], &net::Store::new());
    net.configure(1, ConfigMessage::AppKeyAdd { net_key_index: NET, index: APP, key: app_key(1) });
    let model = ModelRef { element: unicast(2), model: ModelId::CONFIGURATION_CLIENT };
    let (change, address) = (SubscriptionChange::Add, Address::from(0xc000));
    for (request, expected) in [
        (ConfigMessage::ModelAppBind { index: APP, model }, Status::CannotBind),
        (ConfigMessage::ModelSubscriptionChange { change, address, model }, Status::NotASubscribeModel),
        (ConfigMessage::ModelPublicationGet { model }, Status::InvalidPublishParameters),
    ] {
        assert_eq!(status_of(&net.configure(1, request)), expected);
    }
    assert_eq!(net.hello(0, Address::from(2), 4), []);
}

/// Relays, friends and proxies have addresses that reach the primary elements of those nodes in which the feature is on,
/// and whoever subscribes.
#[test]
fn a_fixed_group_reaches_primary_elements_while_the_feature_is_on_and_who_subscribes() {
    use ConfigMessage as M;
    let [proxies, friends, relays, nodes] = [0xfffc, 0xfffd, 0xfffe, 0xffff].map(Address::from);
    let mut net = Net::with_options(3, |address| NodeOptions {
        friend: (address == 2).then(FriendSettings::default),
        proxy: address == 3,
        ..NodeOptions::default()
    });
    let retransmit = Transmit::from_octet(0);
    let (on, off) = (FeatureState::Enabled, FeatureState::Disabled);
    net.configure(1, M::RelaySet { relay: on, retransmit });
    for (group, members) in
        [(proxies, vec![2]), (friends, vec![1]), (relays, vec![1]), (nodes, vec![0, 1, 2])]
    {
        assert_eq!(net.hello(0, group, 4), members, "{group:?}");
        assert_eq!(net.hello(0, group, 40), members, "in segments, {group:?}");
    }
    assert_eq!(net.hello(0, Address::from(0xfffa), 4), [], "a reserved one reaches nobody");
    net.configure(2, M::GattProxySet { proxy: off });
    net.configure(1, M::FriendSet { friend: off });
    net.configure(1, M::RelaySet { relay: off, retransmit });
    for group in [proxies, friends, relays] {
        assert_eq!(net.hello(0, group, 4), [], "{group:?}");
    }

    // A second element is reached if it subscribes, whether the node has the feature on or not.
    let element = || Element::new(0).with_host(MODEL, &[HELLO]);
    let two = vec![element(), element()];
    net.nodes[2] = net::restore_with(net.now, 3, two, NodeOptions::default(), &net.stores[2]);
    let model = ModelRef { element: unicast(4), model: MODEL };
    net.configure(2, M::ModelAppBind { index: APP, model });
    let (change, address) = (SubscriptionChange::Add, relays);
    let answer = net.configure(2, M::ModelSubscriptionChange { change, address, model });
    assert_eq!(status_of(&answer), Status::Success);
    assert_eq!(net.hello(0, relays, 4), [2]);
    net.configure(2, M::RelaySet { relay: on, retransmit });
    assert_eq!(net.hello(0, relays, 4), [2, 2], "both elements");
    assert_eq!(net.hello(0, nodes, 4), [0, 1, 2], "all-nodes: primary elements, the sender's too");
}

#[test]
fn a_model_has_as_many_subscriptions_as_its_node_allows() {
    let mut net = Net::with_options(1, |_| NodeOptions { subscriptions: 40, ..NodeOptions::default() });
    let model = ModelRef { element: net.nodes[0].address(), model: MODEL };
    let mut add = |group: u16| {
        let (change, address) = (SubscriptionChange::Add, Address::from(0xc000 + group));
        status_of(&net.configure(0, ConfigMessage::ModelSubscriptionChange { change, address, model }))
    };
    assert!((0..40).all(|group| add(group) == Status::Success));
    assert_eq!(add(40), Status::InsufficientResources);
    assert_eq!(add(39), Status::Success, "what is there already needs no room");
}
