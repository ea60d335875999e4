//! The sample data of MshPRT §8.1, §8.2 and §8.17, every intermediate value compared.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use mesh_crypto::{AppKey, FriendshipParameters, Key128, LabelUuid, NetKey, NetworkKeys, kdf};
use serde_json::Value;

const VECTORS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/mesh/vectors.json"));

fn section(name: &str) -> Vec<Value> {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    vectors[name].as_array().unwrap().clone()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn key(value: &Value) -> Key128 {
    bytes(value).try_into().unwrap()
}

#[test]
fn the_security_functions_reproduce_the_sample_data() {
    let mut checked = 0;
    for case in section("security_functions") {
        let n = || key(&case["n"]);
        match case["function"].as_str().unwrap() {
            "s1" => {
                assert_eq!(kdf::s1(case["input_ascii"].as_str().unwrap().as_bytes()), key(&case["output"]))
            }
            "k1" => check_k1(&case),
            "k2" => check_k2(&case),
            "k3" => {
                assert_eq!(kdf::s1(b"smk3"), key(&case["salt_s1_smk3"]));
                let t = kdf::cmac(&kdf::s1(b"smk3"), &[&n()]);
                assert_eq!(t, key(&case["t"]));
                assert_eq!(kdf::cmac(&t, &[b"id64\x01"]), key(&case["cmac_id64_01"]));
                assert_eq!(NetKey::new(n()).network_id().to_vec(), bytes(&case["network_id"]));
            }
            "k4" => {
                assert_eq!(kdf::s1(b"smk4"), key(&case["salt_s1_smk4"]));
                let t = kdf::cmac(&kdf::s1(b"smk4"), &[&n()]);
                assert_eq!(t, key(&case["t"]));
                assert_eq!(kdf::cmac(&t, &[b"id6\x01"]), key(&case["cmac_id6_01"]));
                assert_eq!(vec![AppKey::new(n()).aid()], bytes(&case["aid"]));
            }
            "virtual_address" => {
                assert_eq!(kdf::s1(b"vtad"), key(&case["salt_s1_vtad"]));
                let hash = LabelUuid(key(&case["label_uuid"])).hash();
                assert_eq!(hash.to_be_bytes().to_vec(), bytes(&case["virtual_address"]));
            }
            other => panic!("no check for {other}"),
        }
        checked += 1;
    }
    assert_eq!(checked, 17);
}

fn check_k1(case: &Value) {
    let (n, salt) = (key(&case["n"]), key(&case["salt"]));
    if let Some(label) = case["salt_label"].as_str() {
        assert_eq!(kdf::s1(label.as_bytes()), salt);
    } else {
        assert_eq!((kdf::s1(b"salt"), kdf::s1(b"info").to_vec()), (salt, bytes(&case["p"])));
    }
    assert_eq!(kdf::cmac(&salt, &[&n]), key(&case["t"]));
    let output = key(&case["output"]);
    assert_eq!(kdf::k1(&n, &salt, &bytes(&case["p"])), output);
    let net_key = NetKey::new(n);
    match case["salt_label"].as_str() {
        Some("nkik") => assert_eq!(net_key.identity_key(), output),
        Some("nkbk") => assert_eq!(net_key.beacon_key(), output),
        Some("nkpk") => assert_eq!(net_key.private_beacon_key(), output),
        _ => {}
    }
}

fn check_k2(case: &Value) {
    let (n, p) = (key(&case["n"]), bytes(&case["p"]));
    assert_eq!(kdf::s1(b"smk2"), key(&case["salt_s1_smk2"]));
    let t = kdf::cmac(&kdf::s1(b"smk2"), &[&n]);
    assert_eq!(t, key(&case["t"]));
    let mut previous = bytes(&case["t0"]);
    for (number, name) in [(1, "t1"), (2, "t2"), (3, "t3")] {
        previous = kdf::cmac(&t, &[&previous, &p, &[number]]).to_vec();
        assert_eq!(previous, bytes(&case[name]), "{name}");
    }
    let net_key = NetKey::new(n);
    let keys = match case["name"].as_str().unwrap() {
        "flooding" => NetworkKeys::flooding(&net_key),
        "directed" => NetworkKeys::directed(&net_key),
        "friendship" => {
            let field = |at: usize| u16::from_be_bytes([p[at], p[at + 1]]);
            let parameters = FriendshipParameters {
                lpn_address: field(1),
                friend_address: field(3),
                lpn_counter: field(5),
                friend_counter: field(7),
            };
            NetworkKeys::friendship(&net_key, parameters)
        }
        other => panic!("no material called {other}"),
    };
    assert_eq!(vec![keys.nid()], bytes(&case["nid"]));
    assert_eq!(*keys.encryption_key(), key(&case["encryption_key"]));
    assert_eq!(*keys.privacy_key(), key(&case["privacy_key"]));
}

/// s2 and k5 have no samples of their own: they are checked through the provisioning that uses them.
#[test]
fn s2_and_k5_reproduce_the_confirmation_of_the_sample_provisioning() {
    let case = section("provisioning_algorithms")
        .into_iter()
        .find(|case| case["algorithm"].as_str().unwrap().contains("HMAC"))
        .unwrap();
    let salt: [u8; 32] = bytes(&case["confirmation_salt"]).try_into().unwrap();
    assert_eq!(kdf::s2(&bytes(&case["confirmation_inputs"])), salt);
    let secret = [bytes(&case["ecdh_secret"]), bytes(&case["auth_value"])].concat();
    let confirmation_key = kdf::k5(&secret, &salt, b"prck256");
    assert_eq!(confirmation_key.to_vec(), bytes(&case["confirmation_key"]));
}
