//! Sensors on a node: what they answer, when they publish, and what survives a loss of power.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use clock::Instant;
use common::{APP, Medium, add_application, bind, client, configure, node, to};
use mesh_models::sensor::{
    Cadence, Measurement, PropertyId, SENSOR_SERVER, SENSOR_SETUP_SERVER, SamplingFunction, Sensor,
    SensorCadenceGet, SensorCadenceSet, SensorCadenceStatus, SensorColumn, SensorColumnGet,
    SensorColumnStatus, SensorDescriptor, SensorDescriptorGet, SensorDescriptorStatus, SensorGet,
    SensorSeriesGet, SensorSeriesStatus, SensorServer, SensorSettingGet, SensorSettingSet,
    SensorSettingStatus, SensorSettingsGet, SensorSettingsStatus, SensorStatus, SettingAccess, Trigger,
};
use mesh_proto::access::{Element, Server};
use mesh_proto::keys::MessageKey;
use mesh_wire::ModelId;
use mesh_wire::access::Opcode;
use mesh_wire::address::Address;
use mesh_wire::foundation::{
    ConfigMessage, ModelRef, Publication, PublishDestination, PublishPeriod, PublishRetransmit,
};

const SECOND: Duration = Duration::from_secs(1);
const LIGHT: PropertyId = PropertyId::PRESENT_AMBIENT_LIGHT_LEVEL;
const TEMPERATURE: PropertyId = PropertyId::PRECISE_PRESENT_AMBIENT_TEMPERATURE;
const PRESENCE: PropertyId = PropertyId::PRESENCE_DETECTED;
const EXPOSURE: PropertyId = PropertyId::RELATIVE_EXPOSURE_TIME_IN_AN_ILLUMINANCE_RANGE;
const GAIN: PropertyId = PropertyId::SENSOR_GAIN;
const UNKNOWN: PropertyId = PropertyId::MOTION_SENSED;

fn measurement(property: PropertyId, number: f64) -> Measurement {
    Measurement::of(property, number).unwrap()
}

fn raw(property: PropertyId, number: f64) -> Vec<u8> {
    measurement(property, number).raw().to_vec()
}

fn sensors() -> SensorServer {
    let descriptor = SensorDescriptor {
        sampling_function: SamplingFunction::Instantaneous,
        positive_tolerance: 41,
        ..SensorDescriptor::new(UNKNOWN)
    };
    SensorServer::new(vec![
        Sensor::new(TEMPERATURE).with_descriptor(descriptor),
        Sensor::new(LIGHT)
            .with_setting(measurement(GAIN, 1.0), SettingAccess::ReadWrite)
            .with_setting(measurement(PropertyId::MOTION_THRESHOLD, 5.0), SettingAccess::Read),
        Sensor::new(EXPOSURE),
    ])
}

/// A sensor at 0x0002 that publishes every `period` seconds to a client at 0x0001.
fn home(server: SensorServer, period: u8) -> Medium {
    let mut sensor = node(2, vec![Element::new(0).with_server(server)]);
    add_application(&mut sensor);
    for model in [SENSOR_SERVER, SENSOR_SETUP_SERVER] {
        bind(&mut sensor, 2, model);
    }
    publish(&mut sensor, SENSOR_SERVER, period);
    Medium::full(vec![client(1), sensor])
}

fn publish(sensor: &mut mesh_proto::node::Node, model: ModelId, period: u8) {
    let publication = Publication {
        destination: PublishDestination::Address(Address::from(1)),
        app_key_index: APP,
        // Steps of a second.
        period: PublishPeriod(1 << 6 | period),
        retransmit: PublishRetransmit(0),
        ..Publication::NONE
    };
    let model = ModelRef { element: common::unicast(2), model };
    configure(sensor, ConfigMessage::ModelPublicationSet { publication, model });
}

fn ask(home: &mut Medium, payload: Vec<u8>, answer: Opcode) -> Vec<u8> {
    home.messages(0);
    home.send(0, to(2, MessageKey::App(APP), payload));
    home.run(SECOND);
    let answers: Vec<_> = home.messages(0).into_iter().filter(|(opcode, ..)| *opcode == answer).collect();
    let [(_, parameters, _)] = &answers[..] else { panic!("one {answer:?}: {answers:?}") };
    parameters.clone()
}

fn set(home: &mut Medium, property: PropertyId, number: f64) {
    let now = home.now;
    let is_set = home.nodes[1].with_server(now, 0, |server: &mut SensorServer, context| {
        server.set_value(now, property, number, context)
    });
    assert_eq!(is_set, Some(true));
}

/// What was published of a property.
fn published(home: &mut Medium, property: PropertyId) -> Vec<Option<f64>> {
    let statuses = home.messages(0).into_iter().filter(|(opcode, ..)| *opcode == SensorStatus::OPCODE);
    let measurements =
        statuses.flat_map(|(_, parameters, _)| SensorStatus::decode(&parameters).unwrap().measurements);
    measurements.filter(|x| x.property() == property).map(|x| x.number()).collect()
}

#[test]
fn a_sensor_says_what_it_measures_and_what_it_is() {
    let mut home = home(sensors(), 0);
    set(&mut home, TEMPERATURE, 21.5);
    let status = ask(&mut home, SensorGet { property_id: None }.encode(), SensorStatus::OPCODE);
    let measurements = SensorStatus::decode(&status).unwrap().measurements;
    let none = Measurement::none;
    assert_eq!(measurements, [none(LIGHT), none(EXPOSURE), measurement(TEMPERATURE, 21.5)]);
    for (property, expected) in [(TEMPERATURE, measurement(TEMPERATURE, 21.5)), (UNKNOWN, none(UNKNOWN))] {
        let status = ask(&mut home, SensorGet { property_id: Some(property) }.encode(), SensorStatus::OPCODE);
        assert_eq!(SensorStatus::decode(&status).unwrap().measurements, [expected]);
    }
    let mut descriptors = |property_id| {
        let get = SensorDescriptorGet { property_id }.encode();
        SensorDescriptorStatus::decode(&ask(&mut home, get, SensorDescriptorStatus::OPCODE)).unwrap()
    };
    let SensorDescriptorStatus::Descriptors(all) = descriptors(None) else { panic!("there are sensors") };
    assert_eq!(all.iter().map(|x| x.property_id).collect::<Vec<_>>(), [LIGHT, EXPOSURE, TEMPERATURE]);
    assert_eq!((all[2].positive_tolerance, all[2].sampling_function), (41, SamplingFunction::Instantaneous));
    assert_eq!(descriptors(Some(TEMPERATURE)), SensorDescriptorStatus::Descriptors(vec![all[2]]));
    assert_eq!(descriptors(Some(UNKNOWN)), SensorDescriptorStatus::Unknown(UNKNOWN));
}

#[test]
fn a_series_is_read_as_a_whole_in_part_and_by_column() {
    let mut home = home(sensors(), 0);
    let x = |lux: f64| raw(LIGHT, lux);
    let column = |lux: f64| SensorColumn { x: x(lux), width: x(100.0), y: vec![7; 7] };
    let columns: Vec<SensorColumn> = [0.0, 100.0, 200.0].map(column).into();
    let now = home.now;
    home.nodes[1]
        .with_server(now, 0, |server: &mut SensorServer, _| server.set_columns(EXPOSURE, columns.clone()));
    let mut series = |range| {
        let get = SensorSeriesGet { property_id: EXPOSURE, range }.encode();
        SensorSeriesStatus::decode(&ask(&mut home, get, SensorSeriesStatus::OPCODE)).unwrap().columns
    };
    assert_eq!(series(None), columns);
    assert_eq!(series(Some((x(50.0), x(200.0)))), columns[1..]);
    let mut column = |x| {
        let get = SensorColumnGet { property_id: EXPOSURE, x }.encode();
        SensorColumnStatus::decode(&ask(&mut home, get, SensorColumnStatus::OPCODE)).unwrap()
    };
    assert_eq!(column(x(100.0)).column, Some((x(100.0), vec![7; 7])));
    assert_eq!(column(x(1.0)), SensorColumnStatus { property_id: EXPOSURE, x: x(1.0), column: None });
}

#[test]
fn settings_are_read_and_written_as_far_as_they_may() {
    let mut home = home(sensors(), 0);
    publish(&mut home.nodes[1], SENSOR_SETUP_SERVER, 0);
    let get = SensorSettingsGet { property_id: LIGHT }.encode();
    let settings =
        SensorSettingsStatus::decode(&ask(&mut home, get, SensorSettingsStatus::OPCODE)).unwrap().settings;
    assert_eq!(settings, [GAIN, PropertyId::MOTION_THRESHOLD]);
    let mut setting = |setting_property_id| {
        let get = SensorSettingGet { property_id: LIGHT, setting_property_id }.encode();
        SensorSettingStatus::decode(&ask(&mut home, get, SensorSettingStatus::OPCODE)).unwrap().setting
    };
    assert_eq!(setting(GAIN), Some((SettingAccess::ReadWrite, raw(GAIN, 1.0))));
    assert_eq!(setting(PropertyId::MOTION_THRESHOLD).unwrap().0, SettingAccess::Read);
    assert_eq!(setting(UNKNOWN), None);
    let set = |setting_property_id, number| {
        let raw = raw(setting_property_id, number);
        SensorSettingSet { property_id: LIGHT, setting_property_id, raw }
    };
    // One that cannot be written is answered without a value.
    let payload = set(PropertyId::MOTION_THRESHOLD, 50.0).encode();
    let status = SensorSettingStatus::decode(&ask(&mut home, payload, SensorSettingStatus::OPCODE)).unwrap();
    assert_eq!(status.setting, None);
    let payload = set(GAIN, 2.0).encode_as(SensorSettingSet::UNACKNOWLEDGED);
    let status = SensorSettingStatus::decode(&ask(&mut home, payload, SensorSettingStatus::OPCODE)).unwrap();
    assert_eq!(status.setting, Some((SettingAccess::ReadWrite, raw(GAIN, 2.0))), "it is published");
    let sensors: &SensorServer = home.nodes[1].server(0).unwrap();
    assert_eq!(sensors.sensor(LIGHT).unwrap().setting(GAIN), Some(&raw(GAIN, 2.0)[..]));
}

#[test]
fn a_change_is_published_at_once_but_not_more_often_than_its_interval() {
    let cadence = Cadence::on_change(TEMPERATURE, 0.5, 12).unwrap();
    let mut home = home(SensorServer::new(vec![Sensor::new(TEMPERATURE).with_cadence(cadence)]), 0);
    set(&mut home, TEMPERATURE, 20.0);
    home.run(5 * SECOND);
    assert_eq!(published(&mut home, TEMPERATURE), [Some(20.0)], "the first value is news");
    set(&mut home, TEMPERATURE, 20.5);
    home.run(SECOND);
    assert_eq!(published(&mut home, TEMPERATURE), []);
    set(&mut home, TEMPERATURE, 20.51);
    home.run(SECOND);
    assert_eq!(published(&mut home, TEMPERATURE), [Some(20.51)]);
    for number in [21.2, 25.0, 22.0] {
        set(&mut home, TEMPERATURE, number);
        home.run(SECOND / 2);
    }
    assert_eq!(published(&mut home, TEMPERATURE), [], "4,096 ms have not gone by");
    home.run(2 * SECOND);
    assert_eq!(published(&mut home, TEMPERATURE), [Some(22.0)], "the last value");
    set(&mut home, TEMPERATURE, 30.0);
    set(&mut home, TEMPERATURE, 22.0);
    home.run(10 * SECOND);
    assert_eq!(published(&mut home, TEMPERATURE), [], "it went back before it could be told");
}

#[test]
fn presence_is_told_when_it_comes_and_when_it_goes() {
    let cadence = Cadence::on_change(PRESENCE, 0.0, 0).unwrap();
    let mut home = home(SensorServer::new(vec![Sensor::new(PRESENCE).with_cadence(cadence)]), 0);
    for number in [0.0, 1.0, 1.0, 0.0] {
        set(&mut home, PRESENCE, number);
        home.run(SECOND);
    }
    assert_eq!(published(&mut home, PRESENCE), [Some(0.0), Some(1.0), Some(0.0)]);
}

#[test]
fn in_its_fast_range_a_sensor_publishes_more_often_and_others_of_its_element_do_not() {
    let mut home = home(sensors(), 16);
    set(&mut home, TEMPERATURE, 21.0);
    set(&mut home, LIGHT, 100.0);
    let trigger = Trigger::Percent { down: u16::MAX, up: u16::MAX };
    let (fast_low, fast_high) = (raw(TEMPERATURE, 30.0), raw(TEMPERATURE, 100.0));
    let cadence = Cadence { divisor: 2, trigger, min_interval: 0, fast_low, fast_high };
    let set_cadence = SensorCadenceSet { property_id: TEMPERATURE, cadence: cadence.clone() };
    let status = ask(&mut home, set_cadence.encode(), SensorCadenceStatus::OPCODE);
    assert_eq!(SensorCadenceStatus::decode(&status).unwrap().cadence, Some(cadence));
    // Its first period begins at random.
    home.run(16 * SECOND);
    published(&mut home, TEMPERATURE);
    home.run(64 * SECOND);
    let messages = home.messages(0).len();
    assert_eq!(messages, 4);
    set(&mut home, TEMPERATURE, 35.0);
    let (mut fast, mut slow) = (0, 0);
    for _ in 0..64 {
        home.run(SECOND);
        let messages = home.messages(0);
        for (_, parameters, _) in &messages {
            let measurements = SensorStatus::decode(parameters).unwrap().measurements;
            fast += measurements.iter().filter(|x| x.property() == TEMPERATURE).count();
            slow += measurements.iter().filter(|x| x.property() == LIGHT).count();
        }
    }
    assert!((16..=17).contains(&fast) && slow == 4, "{fast} and {slow}");
    set(&mut home, TEMPERATURE, 25.0);
    home.run(16 * SECOND);
    published(&mut home, TEMPERATURE);
    home.run(64 * SECOND);
    assert_eq!(published(&mut home, TEMPERATURE).len(), 4);
}

#[test]
fn a_cadence_that_is_none_of_the_property_is_ignored() {
    let mut home = home(sensors(), 0);
    let wrong = Cadence::on_change(TEMPERATURE, 1.0, 0).unwrap();
    home.send(
        0,
        to(2, MessageKey::App(APP), SensorCadenceSet { property_id: LIGHT, cadence: wrong.clone() }.encode()),
    );
    home.run(SECOND);
    assert_eq!(home.messages(0), []);
    for payload in [
        SensorCadenceGet { property_id: LIGHT }.encode(),
        SensorCadenceSet { property_id: UNKNOWN, cadence: wrong }.encode(),
    ] {
        let status = ask(&mut home, payload, SensorCadenceStatus::OPCODE);
        assert_eq!(SensorCadenceStatus::decode(&status).unwrap().cadence, None);
    }
}

#[test]
fn cadences_and_settings_outlast_a_loss_of_power() {
    let mut home = home(sensors(), 0);
    let cadence = Cadence::on_change(LIGHT, 10.0, 4).unwrap();
    ask(
        &mut home,
        SensorCadenceSet { property_id: LIGHT, cadence: cadence.clone() }.encode(),
        SensorCadenceStatus::OPCODE,
    );
    let gain = raw(GAIN, 3.0);
    let gain = SensorSettingSet { property_id: LIGHT, setting_property_id: GAIN, raw: gain };
    ask(&mut home, gain.encode(), SensorSettingStatus::OPCODE);
    let saved = home.nodes[1].server::<SensorServer>(0).unwrap().save();
    let mut restored = sensors();
    restored.restore(Instant::ORIGIN, &saved);
    assert_eq!(restored.save(), saved);
    assert_eq!(restored.sensor(LIGHT).unwrap().setting(GAIN), Some(&raw(GAIN, 3.0)[..]));
    for end in 0..saved.len() {
        sensors().restore(Instant::ORIGIN, &saved[..end]);
    }
}
