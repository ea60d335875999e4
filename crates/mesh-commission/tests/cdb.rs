//! The example of the format's description, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use mesh_commission::cdb::{CdbError, NetworkDatabase};

/// The made-up example of `testdata/mesh/cdb.md`, of which the file is a copy.
const EXAMPLE: &str = include_str!("example.json");

#[test]
fn the_example_is_that_of_the_description() {
    let description = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/mesh/cdb.md"));
    assert!(description.contains(EXAMPLE));
}

#[test]
fn the_example_is_read_and_comes_back() {
    let database = NetworkDatabase::from_json(EXAMPLE).unwrap();
    assert_eq!(database.mesh_name, "Example");
    assert_eq!(NetworkDatabase::from_json(&database.to_json()).unwrap(), database);
    let key = "7C269FF101B502E17DCB1CE05CAAE7BD";
    assert!(database.to_json().contains(key) && !format!("{database:?}").contains(key), "keys do not print");
}

#[test]
fn lower_case_uuids_without_dashes_and_members_of_others_are_understood() {
    let text = EXAMPLE
        .replace("AE6FAFE0-35B8-4501-B4B7-FE6B29DDD809", "ae6fafe035b84501b4b7fe6b29ddd809")
        .replace("\"meshName\"", "\"somebodysOwn\": {\"x\": 1}, \"meshName\"")
        .replace("\"excluded\"", "\"blacklisted\"");
    let database = NetworkDatabase::from_json(&text).unwrap();
    assert_eq!(database.mesh_uuid.to_string(), "AE6FAFE0-35B8-4501-B4B7-FE6B29DDD809");
    assert_eq!(database, NetworkDatabase::from_json(EXAMPLE).unwrap());
}

#[test]
fn what_cannot_be_a_network_is_named() {
    let example = || NetworkDatabase::from_json(EXAMPLE).unwrap();
    let mut none = example();
    none.net_keys.clear();
    assert_eq!(none.check(), Err(CdbError::Missing("NetKey")));
    let mut twice = example();
    let again = twice.app_keys[0].clone();
    twice.app_keys.push(again);
    assert!(matches!(twice.check(), Err(CdbError::Twice { kind: "AppKeys", .. })));
    let mut unbound = example();
    unbound.app_keys[0].bound_net_key = 77;
    assert!(matches!(unbound.check(), Err(CdbError::Unknown { .. })));
    let mut overlapping = example();
    let mut copy = overlapping.nodes[0].clone();
    copy.uuid.0[0] ^= 1;
    overlapping.nodes.push(copy);
    assert!(matches!(overlapping.check(), Err(CdbError::Overlap { .. })));
    let mut deaf = example();
    deaf.nodes[0].default_ttl = Some(1);
    assert!(matches!(deaf.check(), Err(CdbError::Range { .. })));
    let mut odd = example();
    odd.nodes[0].elements[0].models[0].subscribe = vec!["0001".to_owned()];
    assert!(matches!(odd.check(), Err(CdbError::Subscription { .. })));
    assert!(matches!(NetworkDatabase::from_json("{}"), Err(CdbError::Format(_))));
}
