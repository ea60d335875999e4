//! The numeric examples in the text of MshPRT chapters 3 and 4.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use mesh_wire::access::Opcode;
use mesh_wire::address::{UnicastAddress, UnicastAddressRange};
use mesh_wire::foundation::{PublishPeriod, PublishRetransmit};
use mesh_wire::{CompanyId, IvIndex, Seq, SeqAuth, SeqZero, Transmit, directed_forwarding, heartbeat};
use serde_json::Value;

const VECTORS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/mesh/vectors.json"));

/// Numbers are hexadecimal text or plain.
fn number(value: &Value) -> u32 {
    match value {
        Value::String(text) => u32::from_str_radix(text, 16).unwrap(),
        value => value.as_u64().and_then(|value| value.try_into().ok()).unwrap(),
    }
}

fn octet(value: &Value) -> u8 {
    number(value).try_into().unwrap()
}

fn short(value: &Value) -> u16 {
    number(value).try_into().unwrap()
}

/// What our code makes of an example, in hexadecimal or as a number, to be compared with the text's result.
fn answer(kind: &str, input: &Value) -> Value {
    let text = |octets: &[u8]| Value::from(hex::encode(octets));
    let range = || UnicastAddressRange {
        first: UnicastAddress::new(short(&input["primary"])).unwrap(),
        length: octet(&input["secondary_elements"]) + 1,
    };
    match kind {
        "SeqAuth" => {
            let seq = Seq::new(number(&input["seq"])).unwrap();
            let arrived = SeqAuth { iv_index: IvIndex(number(&input["iv_index"])), seq };
            let seq_auth =
                SeqAuth::of_segment(arrived, SeqZero::truncate(number(&input["seq_zero"]))).unwrap();
            text(&[&seq_auth.iv_index.0.to_be_bytes()[..], &seq_auth.seq.to_be_bytes()].concat())
        }
        "receive IV Index" => {
            let received = IvIndex(number(&input["current"])).of_received(input["ivi"] == 1).unwrap();
            text(&received.0.to_be_bytes())
        }
        "vendor opcode" => {
            let opcode =
                Opcode::vendor(octet(&input["opcode"]), CompanyId(short(&input["company"]))).unwrap();
            text(&opcode.with(&[]))
        }
        "publish period s" => {
            let period = PublishPeriod(octet(&input["resolution"]) << 6 | octet(&input["steps"]));
            period.duration().unwrap().as_secs().into()
        }
        "publish retransmit interval ms" => millis(PublishRetransmit(octet(&input["steps"]) << 3).interval()),
        "network transmit interval ms (before 0..10 random)" => {
            millis(Transmit::from_octet(octet(&input["steps"]) << 3).interval())
        }
        "heartbeat publication count log" => text(&[heartbeat::to_log(short(&input["count"]))]),
        "heartbeat period log s" => heartbeat::from_log(octet(&input["log"])).unwrap().into(),
        "forwarding number greater" => {
            directed_forwarding::is_newer(octet(&input["a"]), octet(&input["b"])).into()
        }
        "unicast address range, big-endian" => text(&range().to_be_octets()),
        "unicast address range, little-endian" => text(&range().to_le_octets()),
        other => panic!("no check for {other}"),
    }
}

fn millis(duration: std::time::Duration) -> Value {
    u64::try_from(duration.as_millis()).unwrap().into()
}

#[test]
fn the_examples_of_the_text_hold() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let items = vectors["small_examples"]["items"].as_array().unwrap();
    let mut conventions = 0;
    for item in items {
        let (kind, input) = (item["kind"].as_str().unwrap(), &item["input"]);
        if let Some(order) = kind.strip_prefix("field packing ") {
            check_packing(order, input, &item["output"]);
            conventions += 1;
        } else {
            assert_eq!(answer(kind, input), item["output"], "{kind} {input}");
        }
    }
    assert_eq!((items.len(), conventions), (20, 2));
}

/// MshPRT §3.1.1: the convention by which our codecs read and write fields that share octets.
fn check_packing(order: &str, input: &Value, output: &Value) {
    let values: Vec<u32> = input["values"].as_array().unwrap().iter().map(number).collect();
    let [a, b, c] = values[..] else { panic!("three fields") };
    let octets = match order {
        "big-endian 4+12+16" => (a << 28 | b << 16 | c).to_be_bytes(),
        "little-endian 4+12+16" => (a | b << 4 | c << 16).to_le_bytes(),
        other => panic!("no check for {other}"),
    };
    assert_eq!(hex::encode(octets), output.as_str().unwrap());
}
