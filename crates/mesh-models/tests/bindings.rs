//! The states of lamps for any numbers: each follows the others, whichever is set, and transitions run evenly.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::home::{ask, home, is_on, level, light, lightness, send};
use common::{APP, Medium, configure, to, unicast};
use mesh_models::lighting::{Light, LightKind, actual_of, linear_of};
use mesh_models::messages::{
    CtlSet, CtlTemperatureRangeSet, CtlTemperatureSet, DeltaSet, HslHueSet, HslRangeSet, HslSaturationSet,
    HslSet, LIGHTNESS_SERVER, LevelSet, LightnessGet, LightnessLinearGet, LightnessLinearSet,
    LightnessLinearStatus, LightnessRangeSet, LightnessSet, LightnessStatus, MoveSet, ON_OFF_SERVER,
    OnOffSet, OnOffStatus,
};
use mesh_models::transition::{Transition, TransitionTime};
use mesh_proto::access::Server;
use mesh_proto::keys::MessageKey;
use mesh_wire::address::Address;
use mesh_wire::foundation::{
    ConfigMessage, ModelRef, Publication, PublishDestination, PublishPeriod, PublishRetransmit,
    SubscriptionChange,
};
use proptest::prelude::*;

const NOW: Option<Transition> = None;

/// Two different numbers in order, or the same twice.
fn range(values: impl Strategy<Value = u16> + Clone) -> impl Strategy<Value = (u16, u16)> {
    (values.clone(), values).prop_map(|(a, b)| (a.min(b), a.max(b)))
}

fn linear(home: &mut Medium) -> u16 {
    let status = ask(home, 0, LightnessLinearGet {}.encode(), LightnessLinearStatus::OPCODE);
    LightnessLinearStatus::decode(&status).unwrap().present_lightness
}

/// What a lightness that was asked for becomes.
fn within(asked: u16, (min, max): (u16, u16)) -> u16 {
    if asked == 0 { 0 } else { asked.clamp(min, max) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn lightness_its_level_its_linear_form_and_on_off_are_one_state(
        range in range(1..=u16::MAX),
        asked: u16,
        by in 0..3_u8,
    ) {
        let mut home = home(LightKind::Dimmable);
        send(&mut home, 0, LightnessRangeSet { range_min: range.0, range_max: range.1 }.encode());
        let as_level = i16::try_from(i32::from(asked) - 0x8000).unwrap();
        let (payload, asked) = match by {
            0 => (LightnessSet { lightness: asked, tid: 1, transition: NOW }.encode(), asked),
            1 => (LevelSet { level: as_level, tid: 1, transition: NOW }.encode(), asked),
            _ => (LightnessLinearSet { lightness: asked, tid: 1, transition: NOW }.encode(), actual_of(asked)),
        };
        send(&mut home, 0, payload);
        let expected = within(asked, range);
        prop_assert_eq!(lightness(&home), expected);
        prop_assert_eq!(i32::from(level(&mut home, 0)), i32::from(expected) - 0x8000);
        prop_assert_eq!(linear(&mut home), linear_of(expected));
        prop_assert_eq!(is_on(&mut home), expected > 0);
        // Off and on again is the last lightness that was not off.
        send(&mut home, 0, OnOffSet::new(false, 2, None).encode());
        prop_assert_eq!((lightness(&home), level(&mut home, 0)), (0, i16::MIN));
        send(&mut home, 0, OnOffSet::new(true, 3, None).encode());
        prop_assert_eq!(lightness(&home), if expected > 0 { expected } else { within(u16::MAX, range) });
    }

    #[test]
    fn deltas_add_up_as_far_as_the_range_goes(
        range in range(1..=u16::MAX),
        start in 1..=u16::MAX,
        deltas in proptest::collection::vec(-70_000..70_000_i32, 1..5),
    ) {
        let mut home = home(LightKind::Dimmable);
        send(&mut home, 0, LightnessRangeSet { range_min: range.0, range_max: range.1 }.encode());
        send(&mut home, 0, LightnessSet { lightness: start, tid: 0, transition: NOW }.encode());
        let start = i32::from(lightness(&home));
        // All of one transaction: each counts from its beginning.
        for &delta_level in &deltas {
            send(&mut home, 0, DeltaSet { delta_level, tid: 1, transition: NOW }.encode());
            let wished = u16::try_from((start + delta_level).clamp(0, 0xffff)).unwrap();
            prop_assert_eq!(lightness(&home), within(wished, range));
        }
        // Each of its own: it counts from where the last one led.
        for (&delta_level, tid) in deltas.iter().zip(2..) {
            let before = i32::from(lightness(&home));
            send(&mut home, 0, DeltaSet { delta_level, tid, transition: NOW }.encode());
            let wished = u16::try_from((before + delta_level).clamp(0, 0xffff)).unwrap();
            prop_assert_eq!(lightness(&home), within(wished, range));
        }
    }

    #[test]
    fn a_temperature_and_its_level_are_one_state(range in range(800..=20_000_u16), asked in 800..=20_000_u16, by: i16) {
        let mut home = home(LightKind::Tunable);
        send(&mut home, 0, CtlTemperatureRangeSet { range_min: range.0, range_max: range.1 }.encode());
        let temperature = |home: &Medium| light(home).temperature(home.now).unwrap();
        send(&mut home, 1, CtlTemperatureSet { temperature: asked, delta_uv: 0, tid: 1, transition: NOW }.encode());
        let expected = asked.clamp(range.0, range.1);
        prop_assert_eq!(temperature(&home), expected);
        // The level of a temperature leads back to it.
        let own = level(&mut home, 1);
        send(&mut home, 1, LevelSet { level: i16::MIN, tid: 2, transition: NOW }.encode());
        prop_assert_eq!(temperature(&home), range.0);
        send(&mut home, 1, LevelSet { level: own, tid: 3, transition: NOW }.encode());
        prop_assert_eq!(temperature(&home), expected);
        // T = T_min + (level + 32768) * (T_max - T_min) / 65535 (MMDL §6.1.3.1.1).
        send(&mut home, 1, LevelSet { level: by, tid: 4, transition: NOW }.encode());
        let exact = f64::from(range.0) + (f64::from(by) + 32_768.0) * f64::from(range.1 - range.0) / 65_535.0;
        prop_assert!((f64::from(temperature(&home)) - exact).abs() <= 0.5 + 1e-9);
        prop_assert_eq!(lightness(&home), 0, "the lightness has no part in it");
    }

    #[test]
    fn hue_saturation_and_their_levels_are_one_state_each(
        hues in range(any::<u16>()),
        saturations in range(any::<u16>()),
        (hue, saturation) in any::<(u16, u16)>(),
        by: i16,
    ) {
        let mut home = home(LightKind::Coloured);
        let range = HslRangeSet {
            hue_range_min: hues.0,
            hue_range_max: hues.1,
            saturation_range_min: saturations.0,
            saturation_range_max: saturations.1,
        };
        send(&mut home, 0, range.encode());
        send(&mut home, 1, HslHueSet { hue, tid: 1, transition: NOW }.encode());
        send(&mut home, 2, HslSaturationSet { saturation, tid: 1, transition: NOW }.encode());
        let colour = |home: &Medium| light(home).colour(home.now).unwrap();
        let expected = (hue.clamp(hues.0, hues.1), saturation.clamp(saturations.0, saturations.1));
        prop_assert_eq!(colour(&home), expected);
        prop_assert_eq!(i32::from(level(&mut home, 1)), i32::from(expected.0) - 0x8000);
        prop_assert_eq!(i32::from(level(&mut home, 2)), i32::from(expected.1) - 0x8000);
        for element in [1, 2] {
            send(&mut home, element, LevelSet { level: by, tid: 2, transition: NOW }.encode());
        }
        let by = u16::try_from(i32::from(by) + 0x8000).unwrap();
        prop_assert_eq!(colour(&home), (by.clamp(hues.0, hues.1), by.clamp(saturations.0, saturations.1)));
    }

    #[test]
    fn a_transition_waits_changes_evenly_says_so_and_ends(
        (from, to_lightness) in (1..=u16::MAX, 1..=u16::MAX),
        // 100 ms to 62 s.
        time in (0..=1_u8, 1..=62_u8).prop_map(|(resolution, steps)| TransitionTime::from_octet(resolution << 6 | steps)),
        delay: u8,
        at in 0.0..1.0_f64,
    ) {
        prop_assume!(from != to_lightness);
        let mut home = home(LightKind::Dimmable);
        send(&mut home, 0, LightnessSet { lightness: from, tid: 1, transition: NOW }.encode());
        let transition = Some(Transition { time, delay });
        let set = LightnessSet { lightness: to_lightness, tid: 2, transition };
        // Unacknowledged messages between neighbours arrive at once.
        let start = home.now;
        home.send(0, to(2, MessageKey::App(APP), set.encode_as(LightnessSet::UNACKNOWLEDGED)));
        home.run(Duration::ZERO);
        let (delay, time) = (Duration::from_millis(5 * u64::from(delay)), time.duration().unwrap());
        let light = light(&home);
        prop_assert_eq!(light.lightness(start + delay), from);
        prop_assert_eq!(light.lightness(start + delay + time), to_lightness);
        let exact = f64::from(from) + at * (f64::from(to_lightness) - f64::from(from));
        let present = light.lightness(start + delay + time.mul_f64(at));
        prop_assert!((f64::from(present) - exact).abs() <= 2.0, "{} {}", present, exact);
        home.run(delay + time.mul_f64(at));
        let asked = home.now;
        let status = ask(&mut home, 0, LightnessGet {}.encode(), LightnessStatus::OPCODE);
        let status = LightnessStatus::decode(&status).unwrap();
        if let Some((target, remaining)) = status.target {
            prop_assert_eq!(target, to_lightness);
            // A lamp never says that it takes less long than it does.
            prop_assert!(asked + remaining.duration().unwrap() >= start + delay + time);
        } else {
            prop_assert_eq!(status.present_lightness, to_lightness);
        }
        home.run(Duration::from_secs(64));
        prop_assert_eq!(lightness(&home), to_lightness);
    }

    #[test]
    fn whatever_lamps_are_told_their_states_agree_and_survive(
        kind in prop_oneof![Just(LightKind::Dimmable), Just(LightKind::Tunable), Just(LightKind::Coloured)],
        messages in proptest::collection::vec((any::<[u16; 3]>(), any::<u8>(), 0..10_u8, 0..3_u8, 0..300_u64), 1..24),
    ) {
        let mut home = home(kind);
        for (numbers, tid, which, element, wait) in messages {
            send(&mut home, element, message(numbers, tid, which));
            home.run(Duration::from_millis(10 * wait));
        }
        home.run(Duration::from_secs(400_000));
        let present = lightness(&home);
        prop_assert_eq!(i32::from(level(&mut home, 0)), i32::from(present) - 0x8000);
        prop_assert_eq!(is_on(&mut home), present > 0);
        prop_assert_eq!(linear(&mut home), linear_of(present));
        if let Some(temperature) = light(&home).temperature(home.now) {
            prop_assert!((2_700..=6_500).contains(&temperature));
        }
        let saved = light(&home).save();
        let mut restored = Light::new(kind);
        restored.restore(home.now, &saved);
        prop_assert_eq!(restored.save(), saved);
        prop_assert_eq!(restored.lightness(home.now), present);
    }
}

/// Some Set message, with times up to an hour.
fn message([a, b, c]: [u16; 3], tid: u8, which: u8) -> Vec<u8> {
    let octet = a.to_be_bytes()[0] & 0xbf;
    let time = TransitionTime::from_octet(if octet & 0x3f == 0x3f { 0 } else { octet });
    let transition = (b % 3 > 0).then_some(Transition { time, delay: c.to_be_bytes()[0] });
    match which {
        0 => OnOffSet { on_off: a % 2 == 0, tid, transition }.encode(),
        1 => LevelSet { level: a.cast_signed(), tid, transition }.encode(),
        2 => DeltaSet { delta_level: i32::from(a.cast_signed()) * 2, tid, transition }.encode(),
        3 => MoveSet { delta_level: a.cast_signed(), tid, transition }.encode(),
        4 => LightnessSet { lightness: a, tid, transition }.encode(),
        5 => LightnessLinearSet { lightness: a, tid, transition }.encode(),
        6 => CtlSet { lightness: a, temperature: b, delta_uv: c.cast_signed(), tid, transition }.encode(),
        7 => CtlTemperatureSet { temperature: b, delta_uv: c.cast_signed(), tid, transition }.encode(),
        8 => HslSet { lightness: a, hue: b, saturation: c, tid, transition }.encode(),
        _ => HslHueSet { hue: a, tid, transition }.encode(),
    }
}

/// A Set message with this TID, the first time or again, when it asks for something else.
type Ask = fn(bool, u8) -> Vec<u8>;

/// A Set message of each model of lamps, with the lamp and the element that it is for.
const ASKS: [(LightKind, u8, Ask); 9] = [
    (LightKind::Dimmable, 0, |again, tid| OnOffSet::new(!again, tid, None).encode()),
    (LightKind::Dimmable, 0, |again, tid| {
        LevelSet { level: 100 + i16::from(again), tid, transition: NOW }.encode()
    }),
    (LightKind::Dimmable, 0, |again, tid| {
        LightnessSet { lightness: 100 + u16::from(again), tid, transition: NOW }.encode()
    }),
    (LightKind::Dimmable, 0, |again, tid| {
        LightnessLinearSet { lightness: 0x4000 << u16::from(again), tid, transition: NOW }.encode()
    }),
    (LightKind::Tunable, 0, |again, tid| {
        CtlSet { lightness: 100 + u16::from(again), temperature: 3_000, delta_uv: 0, tid, transition: NOW }
            .encode()
    }),
    (LightKind::Tunable, 1, |again, tid| {
        CtlTemperatureSet { temperature: 3_000 + u16::from(again), delta_uv: 0, tid, transition: NOW }
            .encode()
    }),
    (LightKind::Coloured, 0, |again, tid| {
        HslSet { lightness: 100, hue: u16::from(again), saturation: 9, tid, transition: NOW }.encode()
    }),
    (LightKind::Coloured, 1, |again, tid| {
        HslHueSet { hue: 100 + u16::from(again), tid, transition: NOW }.encode()
    }),
    (LightKind::Coloured, 2, |again, tid| {
        HslSaturationSet { saturation: 100 + u16::from(again), tid, transition: NOW }.encode()
    }),
];

#[test]
fn a_message_with_the_tid_of_one_from_the_same_path_within_six_seconds_is_none() {
    for (number, (kind, element, ask)) in ASKS.into_iter().enumerate() {
        let mut home = home(kind);
        let state = |home: &Medium| {
            (lightness(home), light(home).temperature(home.now), light(home).colour(home.now))
        };
        let group = Address::from(0xc001);
        for model in home.nodes[1].composition().elements[usize::from(element)].models.clone() {
            let model = ModelRef { element: unicast(2 + u16::from(element)), model };
            let change = SubscriptionChange::Add;
            configure(
                &mut home.nodes[1],
                ConfigMessage::ModelSubscriptionChange { change, address: group, model },
            );
        }
        send(&mut home, element, ask(false, 7));
        let first = state(&home);
        home.run(Duration::from_millis(5_700));
        send(&mut home, element, ask(true, 7));
        assert_eq!(state(&home), first, "{number}: the same TID within six seconds");
        home.run(Duration::from_millis(300));
        send(&mut home, element, ask(true, 7));
        let second = state(&home);
        assert_ne!(second, first, "{number}: the same TID after them");
        let payload = ask(false, 7);
        home.send(0, to(0xc001, MessageKey::App(APP), payload));
        home.run(Duration::from_secs(1));
        assert_eq!(state(&home), first, "{number}: the same TID to another destination");
    }
}

#[test]
fn a_transition_is_published_when_it_is_asked_for_when_it_begins_and_when_it_ends() {
    let mut home = home(LightKind::Dimmable);
    for model in [LIGHTNESS_SERVER, ON_OFF_SERVER] {
        let publication = Publication {
            destination: PublishDestination::Address(Address::from(1)),
            app_key_index: APP,
            period: PublishPeriod(0),
            retransmit: PublishRetransmit(0),
            ..Publication::NONE
        };
        let model = ModelRef { element: unicast(2), model };
        configure(&mut home.nodes[1], ConfigMessage::ModelPublicationSet { publication, model });
    }
    let transition = Some(Transition { time: TransitionTime::at_least(Duration::from_secs(4)), delay: 200 });
    let set = LightnessSet { lightness: 0x8000, tid: 1, transition }.encode_as(LightnessSet::UNACKNOWLEDGED);
    home.send(0, to(2, MessageKey::App(APP), set));
    let mut published = Vec::new();
    for step in 1..=60_u32 {
        home.run(Duration::from_millis(100));
        for (opcode, parameters, _) in home.messages(0) {
            let status = if opcode == LightnessStatus::OPCODE {
                let status = LightnessStatus::decode(&parameters).unwrap();
                (u32::from(status.present_lightness), status.target.map(|(target, _)| u32::from(target)))
            } else {
                let status = OnOffStatus::decode(&parameters).unwrap();
                (u32::from(status.present_on_off), status.target.map(|(target, _)| u32::from(target)))
            };
            published.push((step / 10, opcode == LightnessStatus::OPCODE, status));
        }
    }
    let expected = [
        (0, false, (0, Some(1))),
        (0, true, (0, Some(0x8000))),
        (1, false, (1, Some(1))),
        (1, true, (0, Some(0x8000))),
        (5, false, (1, None)),
        (5, true, (0x8000, None)),
    ];
    published.sort_unstable();
    assert_eq!(published, expected);
}
