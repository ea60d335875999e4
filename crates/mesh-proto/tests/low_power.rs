//! A Low Power node alone, against what its Friend and others say to it under keys that they have (MshPRT §3.6.6.4).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/bench.rs"]
mod bench;
#[path = "common/net.rs"]
mod net;

use std::time::Duration;

use bench::{Bench, FRIEND, From, LPN, OTHER, flooding, material};
use mesh_crypto::{DevKey, Mic, NetworkKeys};
use mesh_proto::friend::FriendSettings;
use mesh_proto::keys::{Keys, MessageKey};
use mesh_proto::low_power::{LowPowerSettings, LowPowerSettingsError};
use mesh_proto::node::{Command, CommandError, Event, NodeOptions};
use mesh_proto::upper_transport::{Destination, Envelope, secure};
use mesh_wire::address::Address;
use mesh_wire::beacon::NetworkFlags;
use mesh_wire::foundation::{ConfigMessage, FeatureState, ModelRef, SubscriptionChange};
use mesh_wire::friendship::{Criteria, FriendOffer, FriendRequest, FriendshipMessage, PollTimeout};
use mesh_wire::lower_transport::{LowerTransportPdu, Segment, SegmentedKind};
use mesh_wire::{IvIndex, KeyIndex, SeqAuth, Transmit};
use net::{APP, HELLO, NET, SECOND, app_key, net_key, unicast};

const OFFER: FriendOffer = FriendOffer {
    receive_window_ms: 100,
    queue_size: 64,
    subscription_list_size: 32,
    rssi: -60,
    friend_counter: 0,
};

const fn from(src: u16) -> From {
    From { src, dst: LPN, ttl: 0 }
}

fn low_power() -> LowPowerSettings {
    LowPowerSettings {
        poll_timeout: PollTimeout::of(30 * SECOND),
        poll_interval: 2 * SECOND,
        ..LowPowerSettings::default()
    }
}

fn update(iv_index: u32, iv_update: bool) -> FriendshipMessage {
    let flags = NetworkFlags { key_refresh: false, iv_update };
    FriendshipMessage::Update { flags, iv_index: IvIndex(iv_index), more_data: false }
}

/// A Low Power node that looks for a Friend, and has just said so.
fn looking(settings: LowPowerSettings) -> Bench {
    let options = NodeOptions { low_power: Some(settings), ..NodeOptions::default() };
    let mut bench = Bench::new(LPN, options);
    bench.command(Command::LowPower(true));
    request(&mut bench);
    bench
}

/// The next thing that the node sends is a Friend Request.
fn request(bench: &mut Bench) -> FriendRequest {
    let (pdu, message) = bench.next_message(&[&flooding()], 60 * SECOND).unwrap();
    let FriendshipMessage::Request(request) = message else { panic!("{message:?}") };
    assert_eq!((u16::from(pdu.dst), u8::from(pdu.ttl)), (0xfffd, 0));
    request
}

fn offer(bench: &mut Bench, src: u16, offer: FriendOffer) {
    bench.say(&flooding(), from(src), &FriendshipMessage::Offer(offer));
}

/// The next thing that the node says to its Friend under their material, and lets the Receive Delay pass.
fn asked(bench: &mut Bench, keys: &NetworkKeys) -> FriendshipMessage {
    let (pdu, message) = bench.next_message(&[keys], 20 * SECOND).unwrap();
    assert_eq!((u16::from(pdu.dst), u8::from(pdu.ttl)), (FRIEND, 0));
    bench.wait(Duration::from_millis(100));
    message
}

fn fsn(message: &FriendshipMessage) -> bool {
    let FriendshipMessage::Poll { fsn } = message else { panic!("{message:?}") };
    *fsn
}

/// A Low Power node whose Friend has just answered for the first time.
fn befriended(settings: LowPowerSettings, offered: FriendOffer) -> (Bench, NetworkKeys) {
    let mut bench = looking(settings);
    bench.wait(Duration::from_millis(150));
    offer(&mut bench, FRIEND, offered);
    let keys = material(FRIEND, 0, 0);
    assert!(!fsn(&asked(&mut bench, &keys)));
    bench.say(&keys, from(FRIEND), &update(5, false));
    assert_eq!(bench.node.friend(), Some(unicast(FRIEND)));
    (bench, keys)
}

/// The same, with a Friend that knows what the node listens to.
fn settled() -> (Bench, NetworkKeys) {
    let (mut bench, keys) = befriended(low_power(), OFFER);
    let FriendshipMessage::SubscriptionListAdd { transaction, .. } = asked(&mut bench, &keys) else {
        panic!("a list");
    };
    bench.say(&keys, from(FRIEND), &FriendshipMessage::SubscriptionListConfirm { transaction });
    (bench, keys)
}

fn iv(bench: &Bench) -> (u32, bool) {
    let iv = bench.node.iv_update();
    (iv.index().0, iv.is_in_progress())
}

#[test]
fn a_friend_update_is_taken_from_the_friend_alone() {
    let (mut bench, keys) = settled();
    let none_of_it = [
        ("of somebody else", from(OTHER)),
        ("relayed", From { ttl: 3, ..from(FRIEND) }),
        ("to all nodes", From { dst: 0xffff, ..from(FRIEND) }),
    ];
    for (what, from) in none_of_it {
        asked(&mut bench, &keys);
        bench.say(&keys, from, &update(6, true));
        assert_eq!(iv(&bench), (5, false), "{what}");
    }
    asked(&mut bench, &keys);
    bench.say(&keys, from(FRIEND), &update(6, true));
    assert_eq!(iv(&bench), (6, true));
}

#[test]
fn no_friendship_begins_with_an_update_of_somebody_else() {
    let mut bench = looking(low_power());
    offer(&mut bench, FRIEND, OFFER);
    let keys = material(FRIEND, 0, 0);
    for from in [from(OTHER), From { ttl: 3, ..from(FRIEND) }, From { dst: 0xffff, ..from(FRIEND) }] {
        asked(&mut bench, &keys);
        bench.say(&keys, from, &update(5, false));
        assert_eq!(bench.node.friend(), None, "{from:?}");
    }
    asked(&mut bench, &keys);
    bench.say(&keys, from(FRIEND), &update(5, false));
    assert_eq!(bench.node.friend(), Some(unicast(FRIEND)));
}

#[test]
fn what_others_put_into_the_queue_goes_out_of_it_whatever_it_is() {
    let (mut bench, keys) = settled();
    let mut before = fsn(&asked(&mut bench, &keys));
    // What a Friend stores has the source and TTL of who sent it (§3.6.6.3.2).
    let stored = From { ttl: 4, ..from(OTHER) };
    for message in [FriendshipMessage::SubscriptionListConfirm { transaction: 0 }, update(6, true)] {
        bench.say(&keys, stored, &message);
        let after = fsn(&asked(&mut bench, &keys));
        assert_ne!(before, after, "{message:?} is acknowledged");
        before = after;
    }
    assert_eq!(iv(&bench), (5, false));
    // A late confirmation of the Friend is no answer to a poll.
    bench.say(&keys, from(FRIEND), &FriendshipMessage::SubscriptionListConfirm { transaction: 0 });
    assert_eq!(fsn(&asked(&mut bench, &keys)), before);
}

#[test]
fn a_list_is_confirmed_by_the_friend_alone_with_the_number_that_it_was_told() {
    let (mut bench, keys) = befriended(low_power(), OFFER);
    let add = asked(&mut bench, &keys);
    let FriendshipMessage::SubscriptionListAdd { transaction: 0, .. } = add else { panic!("{add:?}") };
    let confirm = |transaction| FriendshipMessage::SubscriptionListConfirm { transaction };
    bench.say(&keys, from(OTHER), &confirm(0));
    bench.say(&keys, From { ttl: 3, ..from(FRIEND) }, &confirm(0));
    bench.say(&keys, From { dst: 0xffff, ..from(FRIEND) }, &confirm(0));
    bench.say(&keys, from(FRIEND), &confirm(1));
    assert_eq!(asked(&mut bench, &keys), add, "it asks once more");
    bench.say(&keys, from(FRIEND), &confirm(0));
    fsn(&asked(&mut bench, &keys));
}

#[test]
fn an_offer_is_taken_in_its_subnet_for_this_node_from_a_neighbour() {
    let mut bench = looking(low_power());
    let one = KeyIndex::new(1).unwrap();
    bench.command(Command::Configure(ConfigMessage::NetKeyAdd { index: one, key: net_key(2) }));
    let message = FriendshipMessage::Offer(OFFER);
    bench.say(&NetworkKeys::flooding(&net_key(2)), from(FRIEND), &message);
    bench.say(&flooding(), From { ttl: 3, ..from(FRIEND) }, &message);
    bench.say(&flooding(), From { dst: 0xffff, ..from(FRIEND) }, &message);
    request(&mut bench);
    offer(&mut bench, FRIEND, OFFER);
    fsn(&asked(&mut bench, &material(FRIEND, 1, 0)));
}

/// Which of two that offer the node chooses: the second of two.
fn chosen(settings: LowPowerSettings, offers: [FriendOffer; 2]) -> Option<u16> {
    let mut bench = looking(settings);
    offer(&mut bench, OTHER, offers[0]);
    bench.wait(Duration::from_millis(100));
    offer(&mut bench, FRIEND, offers[1]);
    let keys = [&flooding(), &material(OTHER, 0, 0), &material(FRIEND, 0, 0)];
    let (pdu, message) = bench.next_message(&keys, 60 * SECOND).unwrap();
    matches!(message, FriendshipMessage::Poll { .. }).then(|| pdu.dst.into())
}

#[test]
fn a_friend_is_chosen_by_what_it_can_hold_then_by_window_and_strength_then_by_its_queue() {
    // The better of two, and the worse.
    let cases = [
        ("the list holds all", OFFER, FriendOffer { subscription_list_size: 0, rssi: -40, ..OFFER }),
        ("a short window", OFFER, FriendOffer { receive_window_ms: 200, queue_size: 128, ..OFFER }),
        ("a strong signal", OFFER, FriendOffer { rssi: -80, queue_size: 128, ..OFFER }),
        ("a known strength", OFFER, FriendOffer { rssi: 127, queue_size: 128, ..OFFER }),
        ("a long queue", OFFER, FriendOffer { queue_size: 32, ..OFFER }),
        ("a longer list is of no use", OFFER, FriendOffer { subscription_list_size: 64, rssi: -61, ..OFFER }),
        ("the queue is long enough", OFFER, FriendOffer { queue_size: 16, rssi: -40, ..OFFER }),
    ];
    for (why, better, worse) in cases {
        assert_eq!(chosen(low_power(), [better, worse]), Some(OTHER), "{why}");
        assert_eq!(chosen(low_power(), [worse, better]), Some(FRIEND), "{why}");
    }
    // What the criteria weigh more decides: the window by 2.5, or the strength.
    let (near, quick) = (FriendOffer { rssi: -50, ..OFFER }, FriendOffer { receive_window_ms: 92, ..OFFER });
    let weigh = |rssi, window| {
        let criteria = Criteria::new(rssi, window, 5).unwrap();
        chosen(LowPowerSettings { criteria, ..low_power() }, [near, quick])
    };
    assert_eq!((weigh(3, 0), weigh(0, 3)), (Some(OTHER), Some(FRIEND)));
    // Better a short queue than none: so does the Low Power node of the sample data.
    let small = FriendOffer { queue_size: 31, ..OFFER };
    assert_eq!(chosen(low_power(), [small, FriendOffer { rssi: -61, ..small }]), Some(OTHER));
}

#[test]
fn requests_are_more_than_1_1_seconds_apart_whatever_the_host_does() {
    let mut bench = looking(low_power());
    let mut last = bench.now;
    for pause_ms in [0, 10, 300, 900, 1050] {
        bench.wait(Duration::from_millis(pause_ms));
        bench.command(Command::LowPower(false));
        bench.command(Command::LowPower(true));
        request(&mut bench);
        assert!(bench.now - last > Duration::from_millis(1100), "{:?}", bench.now - last);
        last = bench.now;
    }
    // Nobody answers.
    for _ in 0..4 {
        request(&mut bench);
        assert!(bench.now - last > Duration::from_millis(1100), "{:?}", bench.now - last);
        last = bench.now;
    }
}

#[test]
fn a_friend_that_may_have_taken_the_first_poll_is_told_when_the_node_has_enough() {
    let mut bench = looking(low_power());
    offer(&mut bench, FRIEND, OFFER);
    fsn(&asked(&mut bench, &material(FRIEND, 0, 0)));
    bench.command(Command::LowPower(false));
    let clear = FriendshipMessage::Clear { lpn: unicast(LPN), lpn_counter: 0 };
    for time in 0..3 {
        let (pdu, message) = bench.next_message(&[&flooding()], 2 * SECOND).unwrap();
        assert_eq!((u16::from(pdu.dst), u8::from(pdu.ttl), message), (FRIEND, 0, clear.clone()), "{time}");
        // To say so again changes nothing.
        bench.command(Command::LowPower(false));
        let confirms = [
            (from(OTHER), LPN, 0),
            (from(FRIEND), OTHER, 0),
            (from(FRIEND), LPN, 1),
            (From { dst: 0xffff, ..from(FRIEND) }, LPN, 0),
        ];
        for (from, lpn, lpn_counter) in confirms {
            let confirm = FriendshipMessage::ClearConfirm { lpn: unicast(lpn), lpn_counter };
            bench.say(&flooding(), from, &confirm);
        }
    }
    bench.wait(20 * SECOND);
    // Once it is confirmed, that is the end of it.
    let (mut bench, _) = settled();
    bench.command(Command::LowPower(false));
    bench.next_message(&[&flooding()], SECOND).unwrap();
    let confirm = FriendshipMessage::ClearConfirm { lpn: unicast(LPN), lpn_counter: 0 };
    bench.say(&flooding(), from(FRIEND), &confirm);
    bench.wait(20 * SECOND);
}

#[test]
fn a_friend_that_does_not_answer_six_polls_is_told_that_it_is_none() {
    let mut bench = looking(low_power());
    offer(&mut bench, FRIEND, OFFER);
    let keys = material(FRIEND, 0, 0);
    for _ in 0..6 {
        assert!(!fsn(&asked(&mut bench, &keys)));
    }
    let (pdu, message) = bench.next_message(&[&flooding()], 20 * SECOND).unwrap();
    let clear = FriendshipMessage::Clear { lpn: unicast(LPN), lpn_counter: 0 };
    assert_eq!((u16::from(pdu.dst), u8::from(pdu.ttl), message), (FRIEND, 0, clear));
    // It was never a Friend, so that there is none for the next one to tell.
    assert_eq!(request(&mut bench).previous, None);
}

fn listed(message: &FriendshipMessage) -> Vec<u16> {
    let FriendshipMessage::SubscriptionListAdd { addresses, .. } = message else { panic!("{message:?}") };
    addresses.iter().map(|&address| address.into()).collect()
}

#[test]
fn a_list_that_is_too_short_has_the_fixed_groups_first_and_all_nodes_before_them() {
    for (size, expected) in [(1, vec![0xffff]), (2, vec![0xfffe, 0xffff]), (3, vec![0xc001, 0xfffe, 0xffff])]
    {
        let settings = low_power();
        let options = NodeOptions { low_power: Some(settings), ..NodeOptions::default() };
        let mut bench = Bench::new(LPN, options);
        for group in [0xc000, 0xc001] {
            let model = ModelRef { element: unicast(LPN), model: net::MODEL };
            let change = SubscriptionChange::Add;
            let address = Address::from(group);
            bench.command(Command::Configure(ConfigMessage::ModelSubscriptionChange {
                change,
                address,
                model,
            }));
        }
        let retransmit = Transmit::from_octet(0);
        let relay = ConfigMessage::RelaySet { relay: FeatureState::Enabled, retransmit };
        bench.command(Command::Configure(relay));
        bench.command(Command::LowPower(true));
        request(&mut bench);
        offer(&mut bench, FRIEND, FriendOffer { subscription_list_size: size, ..OFFER });
        let keys = material(FRIEND, 0, 0);
        asked(&mut bench, &keys);
        bench.say(&keys, from(FRIEND), &update(5, false));
        let mut list = listed(&asked(&mut bench, &keys));
        list.sort_unstable();
        assert_eq!(list, expected);
    }
}

#[test]
fn a_friend_is_told_of_the_fixed_groups_of_the_features_that_are_on() {
    let options = NodeOptions {
        low_power: Some(low_power()),
        friend: Some(FriendSettings::default()),
        proxy: true,
        ..NodeOptions::default()
    };
    let mut bench = Bench::new(LPN, options);
    bench.command(Command::LowPower(true));
    request(&mut bench);
    offer(&mut bench, FRIEND, OFFER);
    let keys = material(FRIEND, 0, 0);
    asked(&mut bench, &keys);
    bench.say(&keys, from(FRIEND), &update(5, false));
    let mut list = listed(&asked(&mut bench, &keys));
    list.sort_unstable();
    assert_eq!(list, [0xfffc, 0xfffd, 0xffff]);
    bench.say(&keys, from(FRIEND), &FriendshipMessage::SubscriptionListConfirm { transaction: 0 });
    asked(&mut bench, &keys);
    bench.say(&keys, from(FRIEND), &update(5, false));
    bench.command(Command::Configure(ConfigMessage::FriendSet { friend: FeatureState::Disabled }));
    let FriendshipMessage::SubscriptionListRemove { transaction: 1, addresses } = asked(&mut bench, &keys)
    else {
        panic!("a list");
    };
    assert_eq!(addresses.to_vec(), [Address::from(0xfffd)]);
}

#[test]
fn settings_that_allow_no_friendship_are_refused_with_a_reason() {
    use LowPowerSettingsError as E;
    let (ms, second) = (Duration::from_millis, SECOND);
    let with = LowPowerSettings::with_times;
    let longest = Duration::from_millis(0x34_bbff * 100);
    assert!(with(ms(10), second, ms(999)).is_ok() && with(ms(255), longest, second).is_ok());
    assert_eq!(with(ms(9), second, ms(100)), Err(E::ReceiveDelay(ms(9))));
    assert_eq!(with(ms(256), second, ms(100)), Err(E::ReceiveDelay(ms(256))));
    assert_eq!(with(ms(100), ms(999), ms(100)), Err(E::PollTimeout(ms(999))));
    assert_eq!(with(ms(100), longest + ms(100), second), Err(E::PollTimeout(longest + ms(100))));
    let (interval, timeout) = (60 * second, 60 * second);
    assert_eq!(with(ms(100), timeout, interval), Err(E::PollInterval { interval, timeout }));
    let text = E::PollInterval { interval, timeout }.to_string();
    assert!(text.contains("60s") && !text.contains('\n'), "{text}");
    // So it is where the settings are put together by hand.
    for (settings, error) in [
        (LowPowerSettings { receive_delay_ms: 9, ..low_power() }, E::ReceiveDelay(ms(9))),
        (
            LowPowerSettings { poll_interval: 31 * second, ..low_power() },
            E::PollInterval { interval: 31 * second, timeout: 30 * second },
        ),
    ] {
        let options = NodeOptions { low_power: Some(settings), ..NodeOptions::default() };
        let mut bench = Bench::new(LPN, options);
        let answer = bench.node.handle_command(bench.now, Command::LowPower(true));
        assert_eq!(answer, Err(CommandError::LowPowerSettings(error)));
        bench.wait(60 * second);
    }
}

#[test]
fn a_friendship_lasts_though_the_interval_leaves_no_time_for_repetitions() {
    let poll_timeout = PollTimeout::of(5 * SECOND);
    let poll_interval = Duration::from_millis(4950);
    let (mut bench, keys) =
        befriended(LowPowerSettings { poll_timeout, poll_interval, ..low_power() }, OFFER);
    let FriendshipMessage::SubscriptionListAdd { .. } = asked(&mut bench, &keys) else { panic!("a list") };
    bench.say(&keys, from(FRIEND), &FriendshipMessage::SubscriptionListConfirm { transaction: 0 });
    for _ in 0..5 {
        // Three polls are lost.
        let polls: Vec<bool> = (0..4).map(|_| fsn(&asked(&mut bench, &keys))).collect();
        assert!(polls.iter().all(|&fsn| fsn == polls[0]), "{polls:?}");
        bench.say(&keys, from(FRIEND), &update(5, false));
        assert_eq!(bench.node.friend(), Some(unicast(FRIEND)));
    }
}

#[test]
fn a_friend_update_that_is_played_back_acknowledges_nothing() {
    let (mut bench, keys) = settled();
    asked(&mut bench, &keys);
    bench.say(&keys, from(FRIEND), &update(5, false));
    let old = bench.said.clone();
    // So much later that neither the friendship nor the network message cache knows of it.
    for _ in 0..600 {
        asked(&mut bench, &keys);
        bench.say(&keys, from(FRIEND), &update(5, false));
    }
    let before = fsn(&asked(&mut bench, &keys));
    bench.play(&old);
    assert_eq!(
        fsn(&asked(&mut bench, &keys)),
        before,
        "what the Friend has not been able to say it says again"
    );
}

/// Two segments of a message of somebody else to the model of the node.
fn segments(bench: &Bench) -> Vec<LowerTransportPdu> {
    let mut keys = Keys::new(DevKey::new([0; 16]), NET, net_key(1));
    keys.add_application(APP, NET, app_key(1));
    let (src, dst, seq) = (unicast(OTHER), Address::from(LPN), bench.next_seq());
    let envelope =
        Envelope { net_key_index: NET, src, dst, seq_auth: SeqAuth { iv_index: bench::IV_INDEX, seq } };
    let to = Destination::Address(dst);
    let payload = HELLO.with(&[7; 12]);
    let secured = secure(&keys, MessageKey::App(APP), &to, &envelope, &payload, Mic::Bits32).unwrap();
    let numbered = (0..).zip(secured.upper.chunks(12));
    let segment = |(seg_o, octets): (u8, &[u8])| {
        let kind = SegmentedKind::Access { key: secured.hint, szmic: false };
        LowerTransportPdu::Segment(Segment {
            kind,
            seq_zero: seq.zero(),
            seg_o,
            seg_n: 1,
            octets: octets.into(),
        })
    };
    numbered.map(segment).collect()
}

/// A Low Power node that has the first of two segments of its Friend.
fn half_told() -> (Bench, NetworkKeys, LowerTransportPdu) {
    let settings = LowPowerSettings { poll_timeout: PollTimeout::of(60 * SECOND), ..low_power() };
    let (mut bench, keys) = befriended(settings, OFFER);
    bench.command(Command::Configure(ConfigMessage::AppKeyAdd {
        net_key_index: NET,
        index: APP,
        key: app_key(1),
    }));
    let model = ModelRef { element: unicast(LPN), model: net::MODEL };
    bench.command(Command::Configure(ConfigMessage::ModelAppBind { index: APP, model }));
    asked(&mut bench, &keys);
    bench.say(&keys, from(FRIEND), &FriendshipMessage::SubscriptionListConfirm { transaction: 0 });
    asked(&mut bench, &keys);
    let segments = segments(&bench);
    bench.say_pdu(&keys, From { ttl: 4, ..from(OTHER) }, &segments[0]);
    bench.events();
    (bench, keys, segments[1].clone())
}

fn is_told(bench: &mut Bench) -> bool {
    bench.events().iter().any(|event| matches!(event, Event::Message(_)))
}

#[test]
fn a_message_of_the_friend_queue_may_take_longer_than_the_sar_discard_timeout() {
    let (mut bench, keys, last) = half_told();
    let start = bench.now;
    while bench.now - start < 20 * SECOND {
        asked(&mut bench, &keys);
    }
    bench.say_pdu(&keys, From { ttl: 4, ..from(OTHER) }, &last);
    assert!(is_told(&mut bench), "{:?}", bench.node.discards());
}

#[test]
fn half_a_message_of_the_friend_queue_is_given_up_with_the_friendship() {
    let (mut bench, _, last) = half_told();
    bench.command(Command::LowPower(false));
    assert_eq!(bench.node.friend(), None);
    bench.say_pdu(&flooding(), From { ttl: 4, ..from(OTHER) }, &last);
    assert!(!is_told(&mut bench));
}
