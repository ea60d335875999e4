//! What the things of a building are on the mesh: elements, models, and what they publish.

use mesh_models::generic::{BatteryServer, BatteryStatus, Outlet};
use mesh_models::lighting::{Light, LightKind};
use mesh_models::messages::{
    BATTERY_SERVER, CTL_SERVER, HSL_SERVER, LEVEL_CLIENT, LIGHTNESS_SERVER, ON_OFF_CLIENT, ON_OFF_SERVER,
};
use mesh_models::sensor::{Cadence, PropertyId, SENSOR_SERVER, Sensor, SensorServer};
use mesh_models::switch::SWITCH_MODELS;
use mesh_proto::access::Element;
use mesh_sim::building::Kind;
use mesh_wire::ModelId;

/// A change is published at once if nothing was for 2 to the power of this many milliseconds, 8 s.
const SENSOR_INTERVAL: u8 = 13;

/// The same for what is either so or not: 256 ms.
const CONTACT_INTERVAL: u8 = 8;

/// The charge of batteries at first, in percent.
const CHARGE: u8 = 93;

/// The Product ID of a kind; the company is 0xFFFF, which is nobody's.
pub(super) const fn product(kind: Kind) -> u16 {
    match kind {
        Kind::Dimmable => 1,
        Kind::Tunable => 2,
        Kind::Coloured => 3,
        Kind::Switch => 4,
        Kind::Contact => 5,
        Kind::Motion => 6,
        Kind::LightSensor => 7,
        Kind::Thermometer => 8,
        Kind::Plug => 9,
    }
}

/// The elements of a kind, as they are when they leave the factory.
pub(super) fn elements(kind: Kind) -> Vec<Element> {
    let light = |kind| vec![Element::new(0).with_server(Light::new(kind))];
    match kind {
        Kind::Dimmable => light(LightKind::Dimmable),
        Kind::Tunable => light(LightKind::Tunable),
        Kind::Coloured => light(LightKind::Coloured),
        Kind::Switch => {
            let rocker =
                || SWITCH_MODELS.into_iter().fold(Element::new(0), |x, model| x.with_host(model, &[]));
            vec![rocker(), rocker()]
        }
        Kind::Contact | Kind::Motion => {
            vec![on_battery(vec![sensor(PropertyId::PRESENCE_DETECTED, 0.5, CONTACT_INTERVAL)])]
        }
        Kind::Thermometer => vec![on_battery(vec![
            sensor(PropertyId::PRECISE_PRESENT_AMBIENT_TEMPERATURE, 0.3, SENSOR_INTERVAL),
            sensor(PropertyId::PRESENT_AMBIENT_RELATIVE_HUMIDITY, 2.0, SENSOR_INTERVAL),
        ])],
        Kind::LightSensor => {
            let light = sensor(PropertyId::PRESENT_AMBIENT_LIGHT_LEVEL, 100.0, SENSOR_INTERVAL);
            vec![Element::new(0).with_server(SensorServer::new(vec![light]))]
        }
        Kind::Plug => vec![Element::new(0).with_server(Outlet::new()).with_server(SensorServer::new(vec![
            sensor(PropertyId::PRESENT_DEVICE_INPUT_POWER, 10.0, SENSOR_INTERVAL),
            sensor(PropertyId::PRECISE_TOTAL_DEVICE_ENERGY_USE, 0.1, SENSOR_INTERVAL),
        ]))],
    }
}

/// The names of a kind's elements, where it has several.
pub(super) const fn element_name(kind: Kind, element: u8) -> Option<&'static str> {
    match (kind, element) {
        (Kind::Switch, 0) => Some("left"),
        (Kind::Switch, _) => Some("right"),
        _ => None,
    }
}

/// The model whose status says most of what a kind is, and is published; a switch's clients publish presses.
pub(super) fn publishes(kind: Kind, model: ModelId) -> bool {
    match kind {
        Kind::Dimmable => model == LIGHTNESS_SERVER,
        Kind::Tunable => model == CTL_SERVER,
        Kind::Coloured => model == HSL_SERVER,
        Kind::Switch => model == ON_OFF_CLIENT || model == LEVEL_CLIENT,
        Kind::Contact | Kind::Motion | Kind::Thermometer => model == SENSOR_SERVER || model == BATTERY_SERVER,
        Kind::LightSensor => model == SENSOR_SERVER,
        Kind::Plug => model == ON_OFF_SERVER || model == SENSOR_SERVER,
    }
}

fn on_battery(sensors: Vec<Sensor>) -> Element {
    let battery = BatteryStatus { level: Some(CHARGE), ..BatteryStatus::default() };
    Element::new(0).with_server(SensorServer::new(sensors)).with_server(BatteryServer::new(battery))
}

/// A sensor that publishes changes by more than `delta` of its unit by itself.
fn sensor(property: PropertyId, delta: f64, interval: u8) -> Sensor {
    let sensor = Sensor::new(property);
    match Cadence::on_change(property, delta, interval) {
        Some(cadence) => sensor.with_cadence(cadence),
        None => sensor,
    }
}
