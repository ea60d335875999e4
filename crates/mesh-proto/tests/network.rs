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
use mesh_wire::address::{Address, LabelUuid};
use mesh_wire::beacon::{Beacon, NetworkFlags, SecureNetwork};
use mesh_wire::bearer::AdType;
use mesh_wire::foundation::{
    ConfigMessage, FeatureState, Features, HeartbeatPublication, KeyRefreshTransition, ModelRef, Publication,
    PublishDestination, PublishPeriod, PublishRetransmit, Status, SubscriptionChange,
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

/// An update that is over for others ends here as soon as what is on its way has, however much is sent (§3.11.5).
#[test]
fn segmented_messages_wait_for_an_iv_update_that_waits_for_segmented_messages() {
    let mut net = Net::new(3);
    net.command(0, Command::IvUpdate(IvUpdateCommand::TestMode(true)));
    net.command(0, Command::IvUpdate(IvUpdateCommand::Start));
    net.command(0, Command::Send(net::message(Address::from(2), 200)));
    let deferred = net.nodes[0].handle_command(net.now, Command::IvUpdate(IvUpdateCommand::Finish));
    assert_eq!(deferred, Err(CommandError::IvUpdate(IvUpdateError::Deferred)));
    net.run(SECOND / 2);
    net.command(0, Command::Send(net::message(Address::from(3), 200)));
    net.command(0, Command::Send(net::message(Address::from(3), 4)));
    net.run(SECOND);
    assert!(!net.nodes[0].iv_update().is_in_progress(), "the first has arrived");
    net.run(5 * SECOND);
    let heard = |at: usize| {
        net.events.iter().filter(|(to, event)| *to == at && matches!(event, Event::Message(_))).count()
    };
    assert_eq!((heard(1), heard(2)), (1, 2));
}

#[test]
fn a_new_node_begins_no_iv_update_for_96_hours_through_restarts_and_follows_others() {
    let mut net = Net::new(1);
    let start = || Command::IvUpdate(IvUpdateCommand::Start);
    let too_early = Err(CommandError::IvUpdate(IvUpdateError::TooEarly));
    net.stores[0].clear();
    net.restart(0);
    for _ in 0..4 {
        assert_eq!(net.nodes[0].handle_command(net.now, start()), too_early);
        // An hour that has begun when power goes begins again.
        net.run(23 * HOUR + HOUR / 2);
        net.restart(0);
    }
    assert_eq!(net.nodes[0].handle_command(net.now, start()), too_early);
    let mut other = Net::new(1);
    other.stores[0].clear();
    other.restart(0);
    hear(&mut other, 0, &beacon(1, (false, true), 6));
    assert!(other.nodes[0].iv_update().is_in_progress());
    net.run(5 * HOUR);
    net.command(0, start());
    assert_eq!(net.nodes[0].iv_update().index(), IvIndex(6));
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

/// What Config NetKey Delete takes along (§4.4.1.2.9), and what it leaves.
#[test]
fn with_a_subnet_go_its_applications_its_heartbeats_its_beacons_and_its_identity() {
    use ConfigMessage as M;
    let mut net = Net::with_options(1, |_| NodeOptions { proxy: true, ..NodeOptions::default() });
    let index = KeyIndex::new(1).unwrap();
    let model = ModelRef { element: unicast(1), model: MODEL };
    let group = PublishDestination::Address(Address::from(0xc000));
    let publication = Publication { destination: group, app_key_index: index, ..Publication::NONE };
    let heartbeats = HeartbeatPublication {
        destination: Address::from(0xc000),
        period_log: 5,
        count_log: 0xff,
        net_key_index: index,
        ..HeartbeatPublication::NONE
    };
    for request in [
        M::NetKeyAdd { index, key: net_key(2) },
        M::AppKeyAdd { net_key_index: index, index, key: app_key(2) },
        M::ModelAppBind { index, model },
        M::ModelPublicationSet { publication, model },
        M::HeartbeatPublicationSet { publication: heartbeats },
        M::NodeIdentitySet { index, identity: FeatureState::Enabled },
        M::NetKeyDelete { index },
        M::AppKeyDelete { net_key_index: NET, index },
    ] {
        assert_eq!(status_of(&net.configure(0, request)), Status::Success);
    }
    for _ in 0..2 {
        net.sent.clear();
        net.run(20 * SECOND);
        let (mut beacons, mut messages) = (0, 0);
        for (_, sent) in &net.sent {
            match sent.ad_type {
                AdType::MeshBeacon => beacons += usize::from(sent.data[2..10] != net_key(1).network_id()),
                _ => messages += 1,
            }
        }
        assert_eq!((beacons, messages), (0, 0), "beacons of that subnet, and heartbeats");
        let none = Publication::NONE;
        let status = Status::Success;
        for (request, expected) in [
            (M::NetKeyGet, M::NetKeyList { indexes: vec![NET] }),
            (M::ModelAppGet { model }, M::ModelAppList { status, model, indexes: vec![APP] }),
            (
                M::ModelPublicationGet { model },
                M::ModelPublicationStatus { status, publication: none, model },
            ),
            (
                M::HeartbeatPublicationGet,
                M::HeartbeatPublicationStatus { status, publication: HeartbeatPublication::NONE },
            ),
        ] {
            assert_eq!(net.configure(0, request), expected);
        }
        assert_eq!(status_of(&net.configure(0, M::NodeIdentityGet { index })), Status::InvalidNetKeyIndex);
        // Joined again, the subnet has nothing of before.
        net.configure(0, M::NetKeyAdd { index, key: net_key(2) });
        let off = FeatureState::Disabled;
        let status = M::NodeIdentityStatus { status, index, identity: off };
        assert_eq!(net.configure(0, M::NodeIdentityGet { index }), status);
        net.configure(0, M::NetKeyDelete { index });
        net.restart(0);
    }
}

/// What a node sends goes out as Network Transmit says, what it relays as Relay Retransmit says (MshPRT §3.4.5.4); a relay
/// lowers the TTL, and at 1 nothing goes on (§3.4.6.3).
#[test]
fn own_pdus_and_relayed_ones_have_each_their_repetitions() {
    use ConfigMessage as M;
    // In a row: only neighbours hear each other.
    let mut net = Net::new(4);
    net.hears = |from, to| from.abs_diff(to) == 1;
    let (own, relayed) = (Transmit::from_octet(0x12), Transmit::from_octet(0x35));
    for index in [0, 1, 2] {
        net.configure(index, M::NetworkTransmitSet { transmit: own });
        net.configure(index, M::RelaySet { relay: FeatureState::Enabled, retransmit: relayed });
    }
    for (ttl, heard, expected) in [(0, false, 0), (2, false, 1), (3, true, 2), (4, true, 2)] {
        net.sent.clear();
        net.events.clear();
        let message = net::message(Address::from(4), 4);
        net.command(0, Command::Send(mesh_proto::node::OutgoingMessage { ttl: Ttl::new(ttl), ..message }));
        net.run(SECOND);
        let messages: Vec<_> = net.sent.iter().filter(|(_, x)| x.ad_type == AdType::MeshMessage).collect();
        let of = |transmit: Transmit| (transmit.transmissions(), transmit.interval());
        assert_eq!((messages[0].1.count, messages[0].1.interval), of(own));
        assert_eq!(messages.len() - 1, expected, "relays with a TTL of {ttl}");
        for (_, sent) in &messages[1..] {
            assert_eq!((sent.count, sent.interval), of(relayed));
            assert!(sent.delay <= Duration::from_millis(10));
        }
        assert_eq!(net.events.iter().any(|(_, event)| matches!(event, Event::Message(_))), heard);
    }
}

const LABEL: LabelUuid = LabelUuid([0x5a; 16]);

/// The second and third subnet, and their applications.
fn further_keys() -> [KeyIndex; 2] {
    [1, 2].map(|index| KeyIndex::new(index).unwrap())
}

/// Sets each state to what it is not at first; key refreshes of the second and third subnet are in their phases 1 and 2.
fn settings(model: ModelRef) -> Vec<ConfigMessage> {
    use ConfigMessage as M;
    let [one, two] = further_keys();
    let (transmit, off, add) = (Transmit::from_octet(0x6b), FeatureState::Disabled, SubscriptionChange::Add);
    let publication = Publication {
        destination: PublishDestination::Label(LABEL),
        app_key_index: one,
        friendship_credentials: false,
        ttl: Some(Ttl::new(7).unwrap()),
        period: PublishPeriod(0xc5),
        retransmit: PublishRetransmit(0x4b),
    };
    let heartbeats = HeartbeatPublication {
        destination: Address::from(0xc00f),
        count_log: 0xff,
        period_log: 0x11,
        ttl: Ttl::new(3).unwrap(),
        features: Features(6),
        net_key_index: one,
    };
    vec![
        M::NetKeyAdd { index: one, key: net_key(2) },
        M::NetKeyAdd { index: two, key: net_key(3) },
        M::AppKeyAdd { net_key_index: one, index: one, key: app_key(2) },
        M::AppKeyAdd { net_key_index: two, index: two, key: app_key(3) },
        M::ModelAppBind { index: one, model },
        M::NetKeyUpdate { index: one, key: net_key(4) },
        M::AppKeyUpdate { net_key_index: one, index: one, key: app_key(4) },
        M::NetKeyUpdate { index: two, key: net_key(5) },
        M::KeyRefreshPhaseSet { index: two, transition: KeyRefreshTransition::UseNewKeys },
        M::ModelSubscriptionChange { change: add, address: Address::from(0xc001), model },
        M::ModelSubscriptionVirtualAddressChange { change: add, label: LABEL, model },
        M::ModelPublicationSet { publication, model },
        M::HeartbeatPublicationSet { publication: heartbeats },
        M::DefaultTtlSet { ttl: Ttl::new(99).unwrap() },
        M::RelaySet { relay: FeatureState::Enabled, retransmit: transmit },
        M::NetworkTransmitSet { transmit },
        M::BeaconSet { beacon: off },
        M::GattProxySet { proxy: off },
        M::FriendSet { friend: off },
    ]
}

/// Asks for each of them.
fn questions(model: ModelRef) -> [ConfigMessage; 17] {
    use ConfigMessage as M;
    let [one, two] = further_keys();
    [
        M::NetKeyGet,
        M::AppKeyGet { net_key_index: NET },
        M::AppKeyGet { net_key_index: one },
        M::AppKeyGet { net_key_index: two },
        M::KeyRefreshPhaseGet { index: NET },
        M::KeyRefreshPhaseGet { index: one },
        M::KeyRefreshPhaseGet { index: two },
        M::ModelAppGet { model },
        M::ModelSubscriptionGet { model },
        M::ModelPublicationGet { model },
        M::HeartbeatPublicationGet,
        M::DefaultTtlGet,
        M::RelayGet,
        M::NetworkTransmitGet,
        M::BeaconGet,
        M::GattProxyGet,
        M::FriendGet,
    ]
}

/// Each state that the Configuration Server keeps, as it answers before and after a loss of power; the Node Identity state
/// and the Heartbeat Subscription are times that have passed, and not kept.
#[test]
fn every_state_of_the_configuration_server_outlasts_a_restart() {
    let mut net = Net::with_options(1, |_| NodeOptions {
        friend: Some(FriendSettings::default()),
        proxy: true,
        ..NodeOptions::default()
    });
    let model = ModelRef { element: unicast(1), model: MODEL };
    let answers = |net: &mut Net| questions(model).map(|request| net.configure(0, request));
    let at_first = answers(&mut net);
    for request in settings(model) {
        net.configure(0, request);
    }
    let before = answers(&mut net);
    let changed = at_first.iter().zip(&before).filter(|(at_first, before)| at_first != before).count();
    assert_eq!(changed, before.len() - 2, "all but the phase and the AppKeys of the first subnet");
    net.restart(0);
    assert_eq!(answers(&mut net), before);
}

#[test]
fn keys_and_labels_outlast_a_restart() {
    use ConfigMessage as M;
    let mut net = Net::new(1);
    let [one, _] = further_keys();
    for request in settings(ModelRef { element: unicast(1), model: MODEL }) {
        net.configure(0, request);
    }
    net.restart(0);
    let keys: Vec<_> = net.nodes[0].subnets().iter().map(|x| (&x.current.net_key, x.new.as_ref())).collect();
    assert!(*keys[1].0 == net_key(2) && keys[1].1.is_some_and(|new| new.net_key == net_key(4)));
    assert!(*keys[2].0 == net_key(3) && keys[2].1.is_some_and(|new| new.net_key == net_key(5)));
    let old = M::AppKeyUpdate { net_key_index: one, index: one, key: app_key(2) };
    assert_eq!(status_of(&net.configure(0, old)), Status::CannotUpdate, "the key that it has");
    // The label itself, not its hash: what is sent to it reaches the node's own model.
    let message = mesh_proto::node::OutgoingMessage {
        destination: mesh_proto::upper_transport::Destination::Label(LABEL),
        key: mesh_proto::keys::MessageKey::App(one),
        ..net::message(Address::from(1), 4)
    };
    net.command(0, Command::Send(message));
    net.run(Duration::ZERO);
    assert!(net.events.iter().any(|(_, event)| matches!(event, Event::Message(_))));
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
