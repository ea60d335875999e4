//! The sample messages of MshPRT §8.3, §8.12 and §8.16 at the upper transport layer.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use mesh_crypto::nonce::{Nonce, NonceFields};
use mesh_crypto::{AppKey, DevKey, LabelUuid, Mic, NetKey};
use mesh_proto::keys::{Keys, MessageKey};
use mesh_proto::upper_transport::{Destination, Envelope, open, secure};
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::lower_transport::KeyHint;
use mesh_wire::{IvIndex, KeyIndex, Seq, SeqAuth};
use serde_json::Value;

const VECTORS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/mesh/vectors.json"));

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn number(value: &Value) -> u32 {
    u32::from_str_radix(value.as_str().unwrap(), 16).unwrap()
}

fn keys(message: &Value) -> Keys {
    let net_key = NetKey::new(bytes(&message["net_key"]).try_into().unwrap());
    let dev_key = message.get("dev_key").map_or(vec![0; 16], bytes);
    Keys::new(DevKey::new(dev_key.try_into().unwrap()), KeyIndex::ZERO, net_key)
}

fn with_app_key(message: &Value) -> Keys {
    let mut keys = keys(message);
    if let Some(app_key) = message.get("app_key") {
        let app_key = AppKey::new(bytes(app_key).try_into().unwrap());
        keys.add_application(KeyIndex::ZERO, KeyIndex::ZERO, app_key);
    }
    keys
}

fn check(message: &Value) {
    let keys = with_app_key(message);
    let dst = Address::from(u16::try_from(number(&message["dst"])).unwrap());
    let envelope = Envelope {
        net_key_index: KeyIndex::ZERO,
        src: UnicastAddress::new(u16::try_from(number(&message["src"])).unwrap()).unwrap(),
        dst,
        seq_auth: SeqAuth {
            iv_index: IvIndex(number(&message["iv_index"])),
            seq: Seq::new(number(&message["seq"])).unwrap(),
        },
    };
    let mic = if message["szmic"] == 1 { Mic::Bits64 } else { Mic::Bits32 };
    let label = message.get("label_uuid").map(|label| LabelUuid(bytes(label).try_into().unwrap()));
    let destination = label.map_or(Destination::Address(dst), Destination::Label);
    assert_eq!(destination.address(), dst);
    let (key, hint) = match message["akf"].as_u64().unwrap() {
        0 => (MessageKey::LocalDevice, KeyHint::Device),
        _ => (MessageKey::App(KeyIndex::ZERO), KeyHint::Application(bytes(&message["aid"])[0])),
    };
    let fields = NonceFields {
        seq: envelope.seq_auth.seq.into(),
        src: envelope.src.into(),
        iv_index: envelope.seq_auth.iv_index.0,
    };
    let nonce = match hint {
        KeyHint::Device => Nonce::device(mic == Mic::Bits64, fields, dst.into()),
        KeyHint::Application(_) => Nonce::application(mic == Mic::Bits64, fields, dst.into()),
    };
    assert_eq!(nonce.as_bytes().to_vec(), bytes(&message["app_or_device_nonce"]));

    let payload = bytes(&message["access_payload"]);
    let secured = secure(&keys, key, &destination, &envelope, &payload, mic).unwrap();
    let (message_part, trans_mic) = secured.upper.split_at(payload.len());
    assert_eq!(secured.hint, hint);
    assert_eq!(message_part, bytes(&message["enc_access_payload"]));
    assert_eq!(trans_mic, bytes(&message["trans_mic"]));
    assert_eq!(secured.upper, bytes(&message["upper_transport_pdu"]));

    // Another label comes first: only the one that fits opens it.
    let labels: Vec<LabelUuid> = [LabelUuid([0; 16])].into_iter().chain(label).collect();
    let opened = open(&keys, &labels, hint, &envelope, &secured.upper, mic).unwrap();
    assert_eq!((opened.key, opened.label, opened.payload), (key, label, payload));
    let mut changed = secured.upper;
    changed[0] ^= 1;
    assert!(open(&keys, &labels, hint, &envelope, &changed, mic).is_err());
}

#[test]
fn every_sample_access_message_is_reproduced() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let mut checked = 0;
    for section in ["mesh_messages", "subnet_bridge_messages", "directed_forwarding_messages"] {
        for message in vectors[section].as_array().unwrap() {
            if message.get("access_payload").is_some() {
                check(message);
                checked += 1;
            }
        }
    }
    let access = ["mesh_messages", "subnet_bridge_messages", "directed_forwarding_messages"]
        .iter()
        .flat_map(|section| vectors[section].as_array().unwrap())
        .filter(|message| message["ctl"] == 0)
        .count();
    // Five are repetitions of others on their way, which have no upper transport PDU of their own.
    assert_eq!(checked, access - 5);
}
