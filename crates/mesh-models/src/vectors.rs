//! What this crate reads in messages, and what two independent programs do (`testdata/models`).

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use mesh_wire::DecodeError;
use mesh_wire::access::Opcode;
use serde_json::{Value as Json, json};

use crate::generic::BatteryStatus;
use crate::messages::decode_numbers;
use crate::sensor::{
    Cadence, Format, Integer, PropertyId, SensorCadenceSet, SensorCadenceStatus, SensorDescriptorStatus,
    SensorSettingStatus, SensorSettingsStatus, SensorStatus, Trigger, Value,
};

/// Messages that the package reads otherwise, as it has them, and why it is not followed.
const PACKAGE_ERRS: [(&str, &[u16]); 3] = [
    // The dissector and the table of the models say that it is.
    ("CTL Delta UV is not signed", &[0x825e, 0x825f, 0x8264, 0x8265, 0x8266, 0x8268, 0x8269, 0x826a]),
    // The dissector and the specification's order of the fields have the positive one first.
    ("the tolerances of a Sensor Descriptor change places", &[0x51]),
    // The numbers are the same, in the other order.
    ("the flags of a battery come from the most significant bit", &[0x8224]),
];

/// Properties that the package has in another form, and why it is not followed.
const FORM_DIFFERS: [(u16, &str); 13] = [
    (0x0007, "it takes a Chromaticity Tolerance for signed"),
    (0x0013, "it has 8-bit temperatures; a Temperature Range is of Temperatures (see the facts' conflicts)"),
    (0x000a, "it splits an Appearance into category and subcategory"),
    (0x0032, "it takes a Coefficient for a whole number; it is IEEE 754"),
    (0x0033, "as above"),
    (0x0034, "as above"),
    (0x0035, "as above"),
    (0x0074, "as above"),
    (0x0063, "it maps this to a Luminous Energy (see the facts' conflicts)"),
    (0x0068, "it has the older form, Time Second 16 (see the facts' conflicts)"),
    (0x000b, "it has an unknown Country Code, which no other source has"),
    (0x0073, "it has no resolution for the Cosine Of The Angle, whose steps are 0.01"),
    (0x0089, "it has no resolution for the Voltage Frequency, whose steps are 1/256 Hz"),
];

fn vectors() -> Json {
    serde_json::from_str(include_str!("../../../testdata/models/vectors.json")).unwrap()
}

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn hex(octets: &[u8]) -> Json {
    octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>().into()
}

/// What this crate reads, and writes again.
fn read(payload: &[u8]) -> Result<(Vec<Json>, Vec<u8>), DecodeError> {
    let (opcode, parameters) = Opcode::decode(payload)?;
    let id = |id: PropertyId| json!(u16::from(id));
    Ok(match opcode {
        BatteryStatus::OPCODE => {
            let status = BatteryStatus::decode(parameters)?;
            let flags = [0, 2, 4, 6].map(|shift| json!(status.flags >> shift & 3));
            let mut numbers = Vec::from([json!(status.level), json!(status.time_to_discharge)]);
            numbers.push(json!(status.time_to_charge));
            numbers.extend(flags);
            (numbers, status.encode())
        }
        SensorDescriptorStatus::OPCODE => {
            let status = SensorDescriptorStatus::decode(parameters)?;
            let numbers = match &status {
                SensorDescriptorStatus::Unknown(property) => Vec::from([id(*property)]),
                SensorDescriptorStatus::Descriptors(descriptors) => {
                    let numbers = descriptors.iter().flat_map(|x| {
                        [
                            id(x.property_id),
                            json!(x.positive_tolerance),
                            json!(x.negative_tolerance),
                            json!(x.sampling_function as u8),
                            json!(x.measurement_period.0),
                            json!(x.update_interval.0),
                        ]
                    });
                    numbers.collect()
                }
            };
            (numbers, status.encode())
        }
        SensorCadenceSet::OPCODE | SensorCadenceSet::UNACKNOWLEDGED => {
            let set = SensorCadenceSet::decode(parameters)?;
            (cadence(set.property_id, &set.cadence), set.encode_as(opcode))
        }
        SensorCadenceStatus::OPCODE => {
            let status = SensorCadenceStatus::decode(parameters)?;
            (cadence(status.property_id, status.cadence.as_ref().unwrap()), status.encode())
        }
        SensorSettingsStatus::OPCODE => {
            let status = SensorSettingsStatus::decode(parameters)?;
            let settings = status.settings.iter().copied().map(id);
            ([id(status.property_id)].into_iter().chain(settings).collect(), status.encode())
        }
        SensorSettingStatus::OPCODE => {
            let status = SensorSettingStatus::decode(parameters)?;
            (Vec::from([id(status.property_id), id(status.setting_property_id)]), status.encode())
        }
        _ => {
            let (numbers, again) = decode_numbers(opcode, parameters).ok_or(DecodeError::UnknownOpcode)??;
            (numbers.into_iter().map(|number| json!(number)).collect(), again)
        }
    })
}

fn cadence(property: PropertyId, cadence: &Cadence) -> Vec<Json> {
    let (kind, down, up) = match &cadence.trigger {
        Trigger::Value { down, up } => (0, hex(down), hex(up)),
        Trigger::Percent { down, up } => (1, hex(&down.to_le_bytes()), hex(&up.to_le_bytes())),
    };
    let (low, high) = (hex(&cadence.fast_low), hex(&cadence.fast_high));
    let property = json!(u16::from(property));
    Vec::from([
        property,
        json!(cadence.divisor),
        json!(kind),
        down,
        up,
        json!(cadence.min_interval),
        low,
        high,
    ])
}

/// Times of 63 steps, in seconds, which are unknown.
const UNKNOWN_TIMES: [f64; 4] = [6.3, 63.0, 630.0, 37_800.0];

/// Whether two readings agree; numbers may differ by what `tolerance` says.
fn agree(ours: &Json, theirs: &Json, tolerance: f64) -> bool {
    match (ours.as_f64(), theirs.as_f64()) {
        (Some(ours), Some(theirs)) => (ours - theirs).abs() <= tolerance + ours.abs() * 1e-9,
        _ => ours == theirs,
    }
}

#[test]
fn messages_are_read_as_others_read_them_and_written_as_they_were() {
    let vectors = vectors();
    let mut opcodes = BTreeSet::new();
    let (mut by_tshark, mut by_package) = (0, 0);
    let mut disagreements = Vec::new();
    for vector in vectors["messages"].as_array().unwrap() {
        let payload = octets(vector["payload"].as_str().unwrap());
        let (ours, again) = read(&payload).unwrap_or_else(|error| panic!("{vector}: {error}"));
        assert_eq!(again, payload);
        let opcode = match Opcode::decode(&payload).unwrap().0 {
            Opcode::One(opcode) | Opcode::Vendor(opcode, _) => opcode.into(),
            Opcode::Two(opcode) => opcode,
        };
        opcodes.insert(opcode);
        let agree_all = |theirs: &Json| {
            let theirs = theirs.as_array().unwrap();
            ours.len() == theirs.len()
                && ours.iter().zip(theirs).all(|(ours, theirs)| agree(ours, theirs, 1e-9))
        };
        if !agree_all(&vector["tshark"]) {
            disagreements.push(format!("tshark: {ours:?} {vector}"));
        }
        by_tshark += 1;
        let is_excused = PACKAGE_ERRS.iter().any(|(_, opcodes)| opcodes.contains(&opcode));
        if let Some(package) = vector.get("package").filter(|_| !is_excused) {
            // It takes an unknown time for a time.
            let is_unknown_time =
                |time: &Json| UNKNOWN_TIMES.iter().any(|unknown| agree(&json!(unknown), time, 1e-9));
            let package = package.as_array().unwrap();
            assert_eq!(package.len(), ours.len(), "{vector}");
            let package = package.iter().zip(&ours);
            let package =
                package.map(|(x, ours)| if ours.is_null() && is_unknown_time(x) { &Json::Null } else { x });
            if !agree_all(&package.cloned().collect()) {
                disagreements.push(format!("package: {ours:?} {vector}"));
            }
            by_package += 1;
        }
    }
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n"));
    assert!(
        opcodes.len() > 85 && by_tshark > 400 && by_package > 200,
        "{} {by_tshark} {by_package}",
        opcodes.len()
    );
}

#[test]
fn measurements_are_read_as_the_package_reads_them_and_written_as_they_were() {
    let vectors = vectors();
    let mut compared = BTreeSet::new();
    let mut disagreements = Vec::new();
    for vector in vectors["measurements"].as_array().unwrap() {
        let payload = octets(vector["payload"].as_str().unwrap());
        let status = SensorStatus::decode(&payload[1..]).unwrap();
        assert_eq!(status.encode(), payload);
        let [measurement] = &status.measurements[..] else { panic!("{vector}") };
        let property = u16::from(measurement.property());
        assert_eq!(json!(property), vector["property"]);
        if FORM_DIFFERS.iter().any(|(id, _)| *id == property) {
            continue;
        }
        let theirs = vector["values"].as_array().unwrap();
        let fields = measurement.property().property().unwrap().fields();
        assert_eq!(fields.len(), theirs.len(), "{vector}");
        let readings = measurement.readings().map(|readings| readings.unwrap());
        if readings.is_err()
            && fields.iter().zip(theirs).any(|(field, theirs)| is_prohibited(field.format, theirs))
        {
            continue;
        }
        for (index, (field, theirs)) in fields.iter().zip(theirs).enumerate() {
            let ours = readings.as_ref().map(|readings| &readings[index].value);
            if !is_reading(field.format, ours, theirs) {
                disagreements.push(format!("{property:04x} {}: {ours:?} {vector}", field.name));
            }
        }
        compared.insert(property);
    }
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n"));
    assert!(compared.len() > 140, "{}", compared.len());
}

/// Whether the package reads a field as this crate does. It knows no prohibited values and few special ones: what it
/// makes a number of must then be out of the field's range, or what the special value would be as a number.
fn is_reading(format: Format, ours: Result<&Value, &DecodeError>, theirs: &Json) -> bool {
    let tolerance = if format == Format::TimeExponential { 5e-5 } else { 1e-9 };
    let is_number = |number: f64| agree(&json!(number), theirs, tolerance);
    match ours {
        Ok(Value::Number(number)) => is_number(*number),
        Ok(Value::Boolean(value)) => agree(&json!(u8::from(*value)), theirs, 0.0),
        Ok(Value::Text(text)) => theirs == text,
        Ok(Value::Unknown) => {
            theirs.is_null() || as_number(format, 0xff, |x| x.unknown).is_some_and(is_number)
        }
        Ok(Value::NotValid) => as_number(format, 0xff, |x| x.not_valid).is_some_and(is_number),
        Ok(Value::DeviceLife) => as_number(format, 0xfe, |_| None).is_some_and(is_number),
        Err(_) => false,
    }
}

/// What a special value would be as a number.
fn as_number(format: Format, time: i32, special: impl Fn(Integer) -> Option<i64>) -> Option<f64> {
    match format {
        Format::Integer(integer) => special(integer).map(|raw| scaled(integer, raw)),
        Format::TimeExponential => Some(1.1_f64.powi(time - 64)),
        _ => None,
    }
}

fn scaled(integer: Integer, raw: i64) -> f64 {
    raw as f64 * f64::from(integer.multiplier) / f64::from(integer.divisor)
}

/// Whether the package's reading of a field is one that the field's range prohibits.
fn is_prohibited(format: Format, theirs: &Json) -> bool {
    match (format, theirs.as_f64()) {
        (Format::Integer(integer), Some(number)) => {
            number < scaled(integer, integer.min) || number > scaled(integer, integer.max)
        }
        // It takes any octet but 0 for true.
        (Format::Boolean, Some(number)) => number == 1.0,
        _ => false,
    }
}
