//! The sample data of MshPRT §8.17, §8.4 and §8.6, every intermediate value compared.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use hex_literal::hex;
use mesh_crypto::provisioning::{Algorithm, AuthValue, Confirmation, ConfirmationInputs, Session};
use mesh_crypto::{MicMismatch, NetKey, PrivateKey, PublicKey, kdf};
use serde_json::Value;

const VECTORS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/mesh/vectors.json"));

fn section(name: &str) -> Value {
    serde_json::from_str::<Value>(VECTORS).unwrap()[name].clone()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap_or_else(|| panic!("not hex: {value}"))).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn number(value: &Value) -> u32 {
    u32::from_str_radix(value.as_str().unwrap(), 16).unwrap()
}

fn public_key(case: &Value, whose: &str) -> PublicKey {
    let field = |axis: &str| bytes(&case[format!("{whose}_public_key_{axis}")]);
    PublicKey::new([field("x"), field("y")].concat().try_into().unwrap()).unwrap()
}

#[test]
fn both_algorithms_reproduce_the_sample_data() {
    let cases = section("provisioning_algorithms");
    for case in cases.as_array().unwrap() {
        let algorithm = match &bytes(&case["algorithm_value"])[..] {
            [0] => Algorithm::CmacAes128,
            _ => Algorithm::HmacSha256,
        };
        let keys = ["provisioner", "device"].map(|whose| {
            let private = PrivateKey::new(&array(&case[format!("{whose}_private_key")])).unwrap();
            let public = public_key(case, whose);
            assert!(private.public_key() == public, "{whose}");
            (private, public)
        });
        let secret = keys[0].0.ecdh_secret(&keys[1].1);
        assert_eq!(secret, keys[1].0.ecdh_secret(&keys[0].1));
        assert_eq!(secret.as_bytes().to_vec(), bytes(&case["ecdh_secret"]));
        check_confirmation(case, algorithm, [keys[0].1, keys[1].1], &secret);
    }
    assert_eq!(cases.as_array().unwrap().len(), 2);
}

fn check_confirmation(
    case: &Value,
    algorithm: Algorithm,
    [provisioner, device]: [PublicKey; 2],
    secret: &mesh_crypto::EcdhSecret,
) {
    let (invite, capabilities) = (array(&case["invite"]), array(&case["capabilities"]));
    let start = array(&case["start"]);
    let inputs = ConfirmationInputs {
        invite: &invite,
        capabilities: &capabilities,
        start: &start,
        provisioner: &provisioner,
        device: &device,
    };
    let auth_value = match algorithm {
        Algorithm::CmacAes128 => AuthValue::NONE,
        Algorithm::HmacSha256 => AuthValue::from_octets(&bytes(&case["auth_value"])),
    };
    assert_eq!(auth_value.octets(algorithm).to_vec(), bytes(&case["auth_value"]));
    let confirmation = Confirmation::new(algorithm, &inputs, secret, &auth_value);
    assert_eq!(confirmation.salt().to_vec(), bytes(&case["confirmation_salt"]));
    assert_eq!(confirmation.key().to_vec(), bytes(&case["confirmation_key"]));
    let [random_provisioner, random_device] =
        ["random_provisioner", "random_device"].map(|name| bytes(&case[name]));
    assert_eq!(confirmation.of(&random_provisioner), bytes(&case["confirmation_provisioner"]));
    assert_eq!(confirmation.of(&random_device), bytes(&case["confirmation_device"]));

    let salt = confirmation.provisioning_salt(&random_provisioner, &random_device);
    assert_eq!(salt.to_vec(), bytes(&case["provisioning_salt"]));
    assert_eq!(kdf::cmac(&salt, &[secret.as_bytes()]).to_vec(), bytes(&case["session_k1_t"]));
    let session = Session::new(secret, &salt);
    assert_eq!(session.key().to_vec(), bytes(&case["session_key"]));
    assert_eq!(session.nonce().to_vec(), bytes(&case["session_nonce"]));
    assert_eq!(session.dev_key().as_bytes().to_vec(), bytes(&case["device_key"]));
    let data = array(&case["provisioning_data"]);
    let secured = session.encrypt(&data);
    assert_eq!(
        secured.to_vec(),
        [bytes(&case["encrypted_provisioning_data"]), bytes(&case["provisioning_data_mic"])].concat()
    );
    assert_eq!(session.decrypt(&secured), Ok(data));
    let mut changed = secured;
    changed[0] ^= 1;
    assert_eq!(session.decrypt(&changed), Err(MicMismatch));
}

#[test]
fn auth_values_are_padded_as_their_type_says() {
    let items = section("auth_value")["items"].as_array().unwrap().clone();
    for item in &items {
        let algorithm = match item["algorithm"].as_str().unwrap() {
            "cmac_aes" => Algorithm::CmacAes128,
            _ => Algorithm::HmacSha256,
        };
        let input = item["input"].as_str().unwrap();
        let value = match item["kind"].as_str().unwrap() {
            "binary" => AuthValue::from_octets(&bytes(&item["input"])),
            "numeric" => AuthValue::from_number(input.parse().unwrap()),
            "no_oob" => AuthValue::NONE,
            "alphanumeric" => AuthValue::from_octets(input.as_bytes()),
            other => panic!("no kind {other}"),
        };
        assert_eq!(value.octets(algorithm).to_vec(), bytes(&item["auth_value"]), "{item}");
    }
    assert_eq!(items.len(), 7);
}

#[test]
fn a_point_beside_the_curve_is_no_public_key() {
    let cases = section("provisioning_algorithms");
    let mut octets = *public_key(&cases[0], "device").as_bytes();
    octets[63] ^= 1;
    assert!(PublicKey::new(octets).is_none());
    assert!(PublicKey::new([0; 64]).is_none());
    assert!(PublicKey::new([0xff; 64]).is_none());
    assert!(PrivateKey::new(&[0; 32]).is_none() && PrivateKey::new(&[0xff; 32]).is_none());
}

#[test]
fn beacons_and_identities_reproduce_the_sample_data() {
    let mut checked = 0;
    for case in section("beacons").as_array().unwrap() {
        let net_key = || NetKey::new(array(&case["net_key"]));
        match case["type"].as_str().unwrap() {
            "secure_network" => {
                let key = net_key();
                assert_eq!(key.network_id().to_vec(), bytes(&case["network_id"]));
                assert_eq!(key.beacon_key().to_vec(), bytes(&case["beacon_key"]));
                let [flags] = array(&case["flags"]);
                let value = key.beacon_authentication(flags, &key.network_id(), number(&case["iv_index"]));
                assert_eq!(value.to_vec(), bytes(&case["authentication_value"]));
            }
            "mesh_private" => {
                let (key, random) = (net_key(), array(&case["random"]));
                assert_eq!(key.private_beacon_key().to_vec(), bytes(&case["private_beacon_key"]));
                let [flags] = array(&case["flags"]);
                let sealed = key.seal_private_beacon(&random, flags, number(&case["iv_index"]));
                let parts = ["obfuscated_private_beacon_data", "authentication_tag"];
                assert_eq!(sealed.to_vec(), parts.map(|part| bytes(&case[part])).concat());
                let opened = key.open_private_beacon(&random, &sealed);
                assert_eq!(opened, Ok((flags, number(&case["iv_index"]))));
            }
            _ => continue,
        }
        checked += 1;
    }
    assert_eq!(checked, 5);
    let advertising = section("advertising");
    let case =
        advertising.as_array().unwrap().iter().find(|case| case["identification_type"] == "01").unwrap();
    let key = NetKey::new(array(&case["net_key"]));
    assert_eq!(key.identity_key().to_vec(), bytes(&case["identity_key"]));
    let address = u16::try_from(number(&case["source_address"])).unwrap();
    assert_eq!(key.node_identity_hash(&array(&case["random"]), address).to_vec(), bytes(&case["hash"]));
}

/// MshPRT §5.4.3.1: "The private keys shall be between 1 and r/2".
#[test]
fn a_new_private_key_is_in_the_lower_half_and_one_that_exists_keeps_its_public_key() {
    // r and r/2, and the specification's own certificate sample, which is above.
    let order = hex!("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    let half = hex!("7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8");
    let above = hex!("9617e6009d5c99fce7723f38fcc1dc439b2df216911c8b63eb5cc526fdf92a69");
    let key = PrivateKey::new(&above).unwrap();
    assert!(!key.is_in_range() && key.to_octets() == above);
    let generated = PrivateKey::generate(&above).unwrap();
    assert!(generated.is_in_range() && generated.to_octets() != above);
    // The negation: the same X, and the same secret with any peer.
    let peer = PrivateKey::new(&[0x17; 32]).unwrap().public_key();
    assert_eq!(generated.public_key().as_bytes()[..32], key.public_key().as_bytes()[..32]);
    assert_ne!(generated.public_key().as_bytes()[32..], key.public_key().as_bytes()[32..]);
    assert!(generated.ecdh_secret(&peer) == key.ecdh_secret(&peer));

    let mut just_above = half;
    just_above[31] += 1;
    assert_eq!(PrivateKey::generate(&half).unwrap().to_octets(), half);
    assert_eq!(PrivateKey::generate(&just_above).unwrap().to_octets(), half);
    let mut last = order;
    last[31] -= 1;
    let mut one = [0; 32];
    one[31] = 1;
    assert_eq!(PrivateKey::generate(&last).unwrap().to_octets(), one);
    assert!(PrivateKey::generate(&order).is_none() && PrivateKey::generate(&[0; 32]).is_none());
}

/// MshPRT §5.4.2.3, §5.4.4: what a session made does not outlast it, in memory neither.
#[test]
fn secrets_of_a_session_are_wiped_when_they_are_dropped() {
    const fn is_wiped<T: zeroize::ZeroizeOnDrop>() {}
    is_wiped::<PrivateKey>();
    is_wiped::<mesh_crypto::EcdhSecret>();
    is_wiped::<AuthValue>();
    is_wiped::<Confirmation>();
    is_wiped::<Session>();
}
