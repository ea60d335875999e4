//! Whether every sample of the specification that concerns Mesh Protocol 1.0, or provisioning by HMAC-SHA-256, is
//! taken by a test of the layer that it belongs to. The tests named here take every entry of their section and count
//! them; a new section, or a new entry of one, fails here until it is taken.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use serde_json::Value;

const TESTDATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/mesh/vectors.json");
const CRATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A section, how many of its entries are verified, and the tests that take them.
const TAKEN: [(&str, usize, &[&str]); 16] = [
    ("security_functions", 17, &["mesh-crypto/tests/security_functions.rs"]),
    (
        "mesh_messages",
        24,
        &[
            "mesh-wire/tests/sample_data.rs",
            "mesh-wire/tests/friendship.rs",
            "mesh-proto/tests/upper_transport.rs",
            "mesh-proto/tests/friendship_samples.rs",
        ],
    ),
    // What Mesh Protocol 1.1 adds uses the same network and transport layers.
    (
        "subnet_bridge_messages",
        12,
        &["mesh-wire/tests/sample_data.rs", "mesh-proto/tests/upper_transport.rs"],
    ),
    (
        "directed_forwarding_messages",
        62,
        &["mesh-wire/tests/sample_data.rs", "mesh-proto/tests/upper_transport.rs"],
    ),
    ("beacons", 7, &["mesh-wire/tests/provisioning.rs", "mesh-crypto/tests/provisioning.rs"]),
    // All but §8.15, the solicitation of Mesh Protocol 1.1.
    (
        "advertising",
        6,
        &["mesh-wire/tests/proxy.rs", "mesh-wire/tests/provisioning.rs", "mesh-crypto/tests/provisioning.rs"],
    ),
    ("proxy_configuration", 3, &["mesh-wire/tests/proxy.rs"]),
    (
        "provisioning_algorithms",
        2,
        &[
            "mesh-crypto/tests/provisioning.rs",
            "mesh-wire/tests/provisioning.rs",
            "mesh-proto/tests/provisioning.rs",
        ],
    ),
    ("pb_adv_session", 25, &["mesh-wire/tests/provisioning.rs", "mesh-proto/tests/provisioning.rs"]),
    ("pb_gatt_sar", 1, &["mesh-wire/tests/provisioning.rs"]),
    ("provisioning_record_retrieval", 8, &["mesh-wire/tests/provisioning.rs"]),
    ("variants", 1, &["mesh-wire/tests/sample_data.rs"]),
    ("library_message_vectors", 16, &["mesh-wire/tests/messages.rs"]),
    ("composition_data", 0, &["mesh-wire/tests/messages.rs"]),
    ("auth_value", 7, &["mesh-crypto/tests/provisioning.rs"]),
    ("small_examples", 20, &["mesh-wire/tests/small_examples.rs"]),
];

/// What is no sample, or is of Mesh Protocol 1.1 only and not built yet.
const NOT_TAKEN: [&str; 3] = ["meta", "certificate_based_provisioning", "models_metadata"];

/// How many entries a section has whose octets were verified: those of a list, the steps of a session, or itself.
fn verified(section: &Value) -> usize {
    let is_verified = |entry: &Value| entry["verified"] != false;
    let list = ["steps", "items"].iter().find_map(|name| section.get(name)).unwrap_or(section);
    match list {
        Value::Array(entries) => entries.iter().filter(|entry| is_verified(entry)).count(),
        _ => usize::from(is_verified(section)),
    }
}

#[test]
fn every_verified_sample_is_taken_by_the_layer_that_it_belongs_to() {
    let vectors: BTreeMap<String, Value> =
        serde_json::from_str(&std::fs::read_to_string(TESTDATA).unwrap()).unwrap();
    let mut unnamed: Vec<&String> = vectors.keys().collect();
    for (section, count, tests) in TAKEN {
        assert_eq!(verified(&vectors[section]), count, "{section}");
        for test in tests {
            let text = std::fs::read_to_string(format!("{CRATES}/{test}")).unwrap();
            assert!(text.contains(&format!("\"{section}\"")), "{test} does not take {section}");
        }
        unnamed.retain(|name| *name != section);
    }
    unnamed.retain(|name| !NOT_TAKEN.contains(&name.as_str()));
    assert!(unnamed.is_empty(), "no test takes {unnamed:?}");
}
