//! The lamps: states that are bound to each other, transitions, and what survives a loss of power.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use clock::Instant;
use mesh_models::generic::BatteryStatus;
use mesh_models::lighting::{Light, LightKind};
use mesh_models::messages::{
    CTL_SERVER, CTL_TEMPERATURE_SERVER, CtlDefaultSet, CtlSet, CtlStatus, CtlTemperatureRangeSet,
    CtlTemperatureSet, DEFAULT_TRANSITION_TIME_SERVER, DefaultTransitionTimeSet, DeltaSet, HSL_HUE_SERVER,
    HSL_SERVER, HslSet, HslStatus, LEVEL_SERVER, LIGHTNESS_SERVER, LIGHTNESS_SETUP_SERVER, LevelSet,
    LightnessDefaultSet, LightnessGet, LightnessLinearSet, LightnessRangeSet, LightnessSet, LightnessStatus,
    MoveSet, ON_OFF_SERVER, OnOffSet, OnOffStatus, OnPowerUpSet,
};
use mesh_models::transition::{Transition, TransitionTime};
use mesh_proto::access::Element;
use mesh_proto::bearer::Transmission;
use mesh_proto::keys::MessageKey;
use mesh_proto::node::Node;
use mesh_wire::access::Opcode;
use mesh_wire::address::Address;
use mesh_wire::bearer::AdType;

use common::home::{ask, home, is_on, level, light, lightness, send};
use common::{APP, add_application, bind};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn every_state_of_a_lamp_follows_the_one_that_was_set() {
    let mut home = home(LightKind::Dimmable);
    send(&mut home, 0, LightnessSet { lightness: 0x8000, tid: 1, transition: None }.encode());
    assert_eq!((lightness(&home), level(&mut home, 0), is_on(&mut home)), (0x8000, 0, true));
    send(&mut home, 0, LevelSet { level: -32_768, tid: 2, transition: None }.encode());
    assert_eq!((lightness(&home), is_on(&mut home)), (0, false));
    send(&mut home, 0, OnOffSet::new(true, 3, None).encode());
    assert_eq!(lightness(&home), 0x8000, "the last lightness that was not off");
    send(&mut home, 0, LightnessLinearSet { lightness: 0x4001, tid: 4, transition: None }.encode());
    assert_eq!(lightness(&home), 0x8001);
    send(&mut home, 0, LightnessDefaultSet { lightness: 0x1234 }.encode());
    send(&mut home, 0, OnOffSet::new(false, 5, None).encode());
    send(&mut home, 0, OnOffSet::new(true, 6, None).encode());
    assert_eq!(lightness(&home), 0x1234);
}

#[test]
fn a_range_holds_for_everything_but_off() {
    let mut home = home(LightKind::Dimmable);
    send(&mut home, 0, LightnessRangeSet { range_min: 0x1000, range_max: 0xa000 }.encode());
    for (tid, (asked, had)) in (0..).zip([(1, 0x1000), (0xffff, 0xa000), (0, 0), (0x2000, 0x2000)]) {
        send(&mut home, 0, LightnessSet { lightness: asked, tid, transition: None }.encode());
        assert_eq!(lightness(&home), had);
    }
    send(&mut home, 0, LightnessRangeSet { range_min: 2, range_max: 1 }.encode());
    send(&mut home, 0, LevelSet { level: 32_767, tid: 9, transition: None }.encode());
    assert_eq!(lightness(&home), 0xa000, "a range that is none is ignored");
}

#[test]
fn a_transition_reports_where_it_is_and_where_it_leads() {
    let mut home = home(LightKind::Dimmable);
    let transition = Some(Transition { time: TransitionTime::at_least(2 * SECOND), delay: 0 });
    let set = LightnessSet { lightness: 0xffff, tid: 1, transition };
    let answer = ask(&mut home, 0, set.encode(), LightnessStatus::OPCODE);
    assert_eq!(LightnessStatus::decode(&answer).unwrap().target.unwrap().0, 0xffff);
    assert!(is_on(&mut home), "on from the beginning of the transition");
    home.run(Duration::from_millis(800));
    let half = LightnessStatus::decode(&ask(&mut home, 0, LightnessGet {}.encode(), LightnessStatus::OPCODE));
    let half = half.unwrap();
    assert!((0x6000..0xa000).contains(&half.present_lightness), "{half:?}");
    home.run(2 * SECOND);
    let end = LightnessStatus { present_lightness: 0xffff, target: None };
    let answer = ask(&mut home, 0, LightnessGet {}.encode(), LightnessStatus::OPCODE);
    assert_eq!(LightnessStatus::decode(&answer), Ok(end));
}

#[test]
fn the_default_transition_time_is_for_those_who_do_not_say() {
    let mut home = home(LightKind::Dimmable);
    let transition_time = TransitionTime::at_least(SECOND);
    send(&mut home, 0, DefaultTransitionTimeSet { transition_time }.encode());
    send(&mut home, 0, OnOffSet::new(true, 1, None).encode());
    assert!(lightness(&home) < 0x4000);
    home.run(2 * SECOND);
    assert_eq!(lightness(&home), 0xffff);
    send(&mut home, 0, OnOffSet::new(false, 2, Some(TransitionTime::IMMEDIATE)).encode());
    assert_eq!(lightness(&home), 0);
}

#[test]
fn deltas_of_one_transaction_count_from_its_beginning() {
    let mut home = home(LightKind::Dimmable);
    send(&mut home, 0, LightnessSet { lightness: 0x4000, tid: 1, transition: None }.encode());
    for delta_level in [0x100, 0x200, 0x300, 0x300] {
        send(&mut home, 0, DeltaSet { delta_level, tid: 7, transition: None }.encode());
    }
    assert_eq!(lightness(&home), 0x4300);
    send(&mut home, 0, DeltaSet { delta_level: -0x100, tid: 8, transition: None }.encode());
    assert_eq!(lightness(&home), 0x4200);
    send(&mut home, 0, DeltaSet { delta_level: i32::MAX, tid: 9, transition: None }.encode());
    assert_eq!(lightness(&home), 0xffff);
}

#[test]
fn a_move_goes_on_until_it_is_stopped_or_at_its_end() {
    let mut home = home(LightKind::Dimmable);
    send(&mut home, 0, LightnessSet { lightness: 0x4000, tid: 1, transition: None }.encode());
    let transition = Some(Transition { time: TransitionTime::at_least(SECOND), delay: 0 });
    send(&mut home, 0, MoveSet { delta_level: 0x1000, tid: 2, transition }.encode());
    home.run(2 * SECOND);
    send(&mut home, 0, MoveSet { delta_level: 0, tid: 3, transition }.encode());
    let stopped = lightness(&home);
    assert!((0x6000..0x6400).contains(&stopped), "{stopped:x}");
    home.run(5 * SECOND);
    assert_eq!(lightness(&home), stopped);
    send(&mut home, 0, MoveSet { delta_level: 0x4000, tid: 4, transition }.encode());
    home.run(10 * SECOND);
    assert_eq!(lightness(&home), 0xffff);
}

#[test]
fn a_tunable_lamp_is_two_elements_with_one_temperature() {
    let mut home = home(LightKind::Tunable);
    let set = CtlSet { lightness: 0x8000, temperature: 4_000, delta_uv: -5, tid: 1, transition: None };
    let status = CtlStatus::decode(&ask(&mut home, 0, set.encode(), CtlStatus::OPCODE)).unwrap();
    assert_eq!(status, CtlStatus { present_lightness: 0x8000, present_temperature: 4_000, target: None });
    send(&mut home, 1, LevelSet { level: 32_767, tid: 2, transition: None }.encode());
    assert_eq!(light(&home).temperature(home.now), Some(6_500));
    assert_eq!((lightness(&home), level(&mut home, 0)), (0x8000, 0), "the other level is the lightness");
    send(
        &mut home,
        1,
        CtlTemperatureSet { temperature: 2_700, delta_uv: 0, tid: 3, transition: None }.encode(),
    );
    assert_eq!(level(&mut home, 1), -32_768);
    send(&mut home, 0, CtlTemperatureRangeSet { range_min: 3_000, range_max: 5_000 }.encode());
    send(
        &mut home,
        1,
        CtlTemperatureSet { temperature: 6_500, delta_uv: 0, tid: 4, transition: None }.encode(),
    );
    assert_eq!(light(&home).temperature(home.now), Some(5_000));
    send(
        &mut home,
        1,
        CtlTemperatureSet { temperature: 799, delta_uv: 0, tid: 5, transition: None }.encode(),
    );
    assert_eq!(light(&home).temperature(home.now), Some(5_000), "no such temperature");
}

#[test]
fn a_coloured_lamp_is_three_elements_with_one_colour() {
    let mut home = home(LightKind::Coloured);
    let set = HslSet { lightness: 0x7000, hue: 0x5555, saturation: 0xffff, tid: 1, transition: None };
    let status = HslStatus::decode(&ask(&mut home, 0, set.encode(), HslStatus::OPCODE)).unwrap();
    assert_eq!((status.lightness, status.hue, status.saturation), (0x7000, 0x5555, 0xffff));
    assert_eq!(level(&mut home, 1), 0x5555 - 0x7fff - 1);
    send(&mut home, 2, LevelSet { level: 0, tid: 2, transition: None }.encode());
    assert_eq!(light(&home).colour(home.now), Some((0x5555, 0x8000)));
    assert_eq!(lightness(&home), 0x7000);
}

#[test]
fn models_of_a_lamp_share_their_subscriptions_and_each_element_has_its_own() {
    use mesh_wire::foundation::{ConfigMessage, ModelRef, Status, SubscriptionChange};
    let mut home = home(LightKind::Coloured);
    let address = Address::from(0xc000);
    let at = |element: u16, model| ModelRef { element: common::unicast(2 + element), model };
    let add = SubscriptionChange::Add;
    let model = at(0, LIGHTNESS_SETUP_SERVER);
    common::configure(
        &mut home.nodes[1],
        ConfigMessage::ModelSubscriptionChange { change: add, address, model },
    );
    let mut list =
        |model| match common::configure(&mut home.nodes[1], ConfigMessage::ModelSubscriptionGet { model }) {
            ConfigMessage::ModelSubscriptionList { status: Status::Success, addresses, .. } => addresses,
            other => panic!("{other:?}"),
        };
    for model in [ON_OFF_SERVER, LEVEL_SERVER, LIGHTNESS_SERVER, HSL_SERVER, DEFAULT_TRANSITION_TIME_SERVER] {
        assert_eq!(list(at(0, model)), [address], "{model}");
    }
    assert_eq!(list(at(1, HSL_HUE_SERVER)), []);
}

#[test]
fn what_changes_is_published_by_each_model_that_shows_it() {
    use mesh_wire::foundation::{
        ConfigMessage, ModelRef, Publication, PublishDestination, PublishPeriod, PublishRetransmit,
    };
    let mut home = home(LightKind::Tunable);
    for (element, model) in [(2, CTL_SERVER), (2, ON_OFF_SERVER), (3, CTL_TEMPERATURE_SERVER)] {
        let publication = Publication {
            destination: PublishDestination::Address(Address::from(1)),
            app_key_index: APP,
            period: PublishPeriod(0),
            retransmit: PublishRetransmit(0),
            ..Publication::NONE
        };
        let model = ModelRef { element: common::unicast(element), model };
        common::configure(&mut home.nodes[1], ConfigMessage::ModelPublicationSet { publication, model });
    }
    let mut opcodes_after = |payload: Vec<u8>, element| {
        send(&mut home, element, payload);
        let mut opcodes: Vec<Opcode> = home.messages(0).into_iter().map(|(opcode, ..)| opcode).collect();
        opcodes.sort_unstable();
        opcodes
    };
    let set =
        LightnessSet { lightness: 0x8000, tid: 1, transition: None }.encode_as(LightnessSet::UNACKNOWLEDGED);
    assert_eq!(opcodes_after(set.clone(), 0), [OnOffStatus::OPCODE, CtlStatus::OPCODE]);
    assert_eq!(opcodes_after(set, 0), [], "a repetition changes nothing");
    let set = CtlTemperatureSet { temperature: 3_000, delta_uv: 0, tid: 1, transition: None };
    let temperature = mesh_models::messages::CtlTemperatureStatus::OPCODE;
    let set = set.encode_as(CtlTemperatureSet::UNACKNOWLEDGED);
    assert_eq!(opcodes_after(set, 1), [CtlStatus::OPCODE, temperature]);
}

#[test]
fn on_power_up_decides_what_a_lamp_wakes_as() {
    let saved = |on_power_up: u8| {
        let mut home = home(LightKind::Tunable);
        send(&mut home, 0, OnPowerUpSet { on_power_up }.encode());
        let default = CtlDefaultSet { lightness: 0x1111, temperature: 3_333, delta_uv: 0 };
        send(&mut home, 0, default.encode());
        let set = CtlSet { lightness: 0x8000, temperature: 5_000, delta_uv: 0, tid: 1, transition: None };
        send(&mut home, 0, set.encode());
        let saved = mesh_proto::access::Server::save(light(&home));
        let mut light = Light::new(LightKind::Tunable);
        mesh_proto::access::Server::restore(&mut light, Instant::ORIGIN, &saved);
        (light.lightness(Instant::ORIGIN), light.temperature(Instant::ORIGIN).unwrap())
    };
    assert_eq!([0, 1, 2].map(saved), [(0, 3_333), (0x1111, 3_333), (0x8000, 5_000)]);
}

#[test]
fn a_record_with_a_range_that_is_none_is_not_taken() {
    use mesh_proto::access::Server;
    let now = Instant::ORIGIN;
    let mut light = Light::new(LightKind::Dimmable);
    let mut saved = light.save();
    // `lightness last default range_min range_max`, of 16 bits each.
    saved[6..10].copy_from_slice(&[0xff, 0xff, 0x38, 0x00]);
    let before = light.save();
    light.restore(now, &saved);
    assert_eq!(light.save(), before);
    let mut context = mesh_proto::access::Context::default();
    light.press(now, &mut context);
    assert_eq!(light.lightness(now), 0xffff);
}

#[test]
fn a_battery_says_what_it_knows() {
    let status = BatteryStatus { level: Some(93), ..BatteryStatus::default() };
    assert_eq!(BatteryStatus::decode(&status.encode()[2..]), Ok(status));
}

#[test]
fn a_node_forgets_nothing_over_a_restart() {
    let mut home = home(LightKind::Dimmable);
    drop(home.nodes.pop());
    let elements = || vec![Element::new(0).with_server(Light::new(LightKind::Dimmable))];
    let mut store = std::collections::BTreeMap::new();
    let mut lamp = common::restored(2, elements(), &store);
    add_application(&mut lamp);
    bind(&mut lamp, 2, LIGHTNESS_SERVER);
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..20_u16 {
        let lightness = 0x1000 + round;
        let set = LightnessSet { lightness, tid: 0, transition: None }.encode();
        let request = common::to(2, MessageKey::App(APP), set);
        home.nodes[0].handle_command(home.now, mesh_proto::node::Command::Send(request)).unwrap();
        let sent = home.nodes[0].poll_transmit().unwrap();
        let received = common::received(&sent);
        lamp.handle_pdu(home.now, &received);
        home.now += SECOND;
        lamp.handle_timeout(home.now);
        assert!(lamp.poll_transmit().is_none(), "held back until the records are stored");
        common::store(&mut lamp, &mut store);
        let is_message = |sent: &Transmission| sent.ad_type == AdType::MeshMessage;
        let answers: Vec<_> = std::iter::from_fn(|| lamp.poll_transmit()).filter(is_message).collect();
        assert_eq!(answers.len(), 1, "round {round}");
        assert!(
            seen.insert(answers[0].data.to_vec()),
            "the same SEQ secures the same answer to the same octets"
        );
        // The power goes, and comes back; what was heard before is played again.
        lamp = common::restored(2, elements(), &store);
        lamp.handle_pdu(home.now, &received);
        assert_eq!(lamp.discards().get(mesh_proto::Discard::Replayed), 1);
        assert_eq!(lamp.server::<Light>(0).unwrap().lightness(home.now), lightness);
        home.now += SECOND;
    }
}

#[test]
fn a_node_that_was_reset_has_nothing_left_to_remember() {
    let mut store = std::collections::BTreeMap::new();
    let elements = vec![Element::new(0).with_server(Light::new(LightKind::Dimmable))];
    let mut lamp: Node = common::restored(2, elements, &store);
    add_application(&mut lamp);
    common::store(&mut lamp, &mut store);
    assert!(!store.is_empty());
    common::configure(&mut lamp, mesh_wire::foundation::ConfigMessage::NodeReset);
    common::store(&mut lamp, &mut store);
    assert_eq!(store, std::collections::BTreeMap::new());
}
