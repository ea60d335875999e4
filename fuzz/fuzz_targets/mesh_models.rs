//! Whatever servers and sensors are told, with time going by, they go on; and what a decoder takes it writes again.
#![no_main]

use std::time::Duration;

use clock::Instant;
use libfuzzer_sys::fuzz_target;
use mesh_models::generic::{BatteryServer, LevelServer, OnOffServer, Outlet};
use mesh_models::lighting::{Light, LightKind};
use mesh_models::sensor::{
    Cadence, Measurement, PropertyId, Sensor, SensorCadenceSet, SensorColumnStatus, SensorDescriptorStatus,
    SensorSeriesStatus, SensorServer, SensorSettingStatus, SensorStatus, SettingAccess,
};
use mesh_proto::access::{Context, ReceivedMessage, Server};
use mesh_proto::keys::MessageKey;
use mesh_proto::upper_transport::Destination;
use mesh_wire::access::Opcode;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::{KeyIndex, Ttl};

const TEMPERATURE: PropertyId = PropertyId::PRECISE_PRESENT_AMBIENT_TEMPERATURE;

fn sensors() -> SensorServer {
    let gain = Measurement::of(PropertyId::SENSOR_GAIN, 1.0).expect("a number");
    let cadence = Cadence::on_change(TEMPERATURE, 0.5, 8).expect("a number");
    SensorServer::new(vec![
        Sensor::new(TEMPERATURE).with_cadence(cadence).with_setting(gain, SettingAccess::ReadWrite),
        Sensor::new(PropertyId::PRESENCE_DETECTED),
        Sensor::new(PropertyId::RELATIVE_EXPOSURE_TIME_IN_AN_ILLUMINANCE_RANGE),
    ])
}

fn decode(parameters: &[u8]) {
    if let Ok(status) = SensorStatus::decode(parameters) {
        // A short value may come in the long format; it is written in the short one.
        assert_eq!(SensorStatus::decode(&status.encode()[1..]), Ok(status.clone()));
        for measurement in &status.measurements {
            let _ = measurement.readings();
        }
    }
    macro_rules! same {
        ($($message:ident),*) => {$(
            if let Ok(message) = $message::decode(parameters) {
                assert_eq!(message.encode()[1..], *parameters, "{message:?}");
            }
        )*};
    }
    same!(
        SensorCadenceSet,
        SensorColumnStatus,
        SensorDescriptorStatus,
        SensorSeriesStatus,
        SensorSettingStatus
    );
}

fuzz_target!(|input: Vec<(u8, u8, &[u8])>| {
    let mut servers: [Box<dyn Server>; 8] = [
        Box::new(Light::new(LightKind::Dimmable)),
        Box::new(Light::new(LightKind::Tunable)),
        Box::new(Light::new(LightKind::Coloured)),
        Box::new(Outlet::new()),
        Box::new(OnOffServer::new(false)),
        Box::new(LevelServer::new(0)),
        Box::new(BatteryServer::default()),
        Box::new(sensors()),
    ];
    let mut own = sensors();
    let mut now = Instant::ORIGIN;
    for (which, wait, data) in input {
        now += Duration::from_millis(u64::from(wait) * u64::from(wait));
        let mut context = Context::default();
        if let Some(number) = data.first_chunk() {
            own.set_value(now, TEMPERATURE, f64::from_le_bytes(*number), &mut context);
        }
        let server = &mut servers[usize::from(which % 8)];
        while server.poll_timeout().is_some_and(|at| at <= now) {
            server.handle_timeout(now, &mut context);
        }
        if which >= 0x80 {
            server.restore(now, data);
            continue;
        }
        let Ok((opcode, parameters)) = Opcode::decode(data) else { continue };
        decode(parameters);
        for place in server.models() {
            let message = ReceivedMessage {
                element: place.element,
                model: place.model,
                source: UnicastAddress::new(1).expect("unicast"),
                destination: Destination::Address(Address::from(2)),
                ttl: Ttl::MAX,
                rssi: None,
                key: MessageKey::App(KeyIndex::ZERO),
                opcode,
                parameters: parameters.to_vec(),
            };
            if server.understands(place.model, opcode) {
                let _ = server.handle_message(now, place, &message, &mut context);
            }
            let _ = server.status(now, place);
            let next = server.periodic(now, place, Duration::from_secs(1)).next;
            assert!(next <= Duration::from_secs(1));
        }
        // What is stored is what comes back.
        let saved = server.save();
        server.restore(now, &saved);
    }
});
