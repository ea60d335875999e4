//! The sample data of MshPRT §8.4 to §8.8 and §8.13: beacons, PB-ADV, PB-GATT, provisioning PDUs.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use mesh_crypto::NetKey;
use mesh_wire::beacon::{
    Beacon, MESH_PROVISIONING_SERVICE, NetworkFlags, SecureNetwork, UnprovisionedDevice,
};
use mesh_wire::bearer::pb_adv::{self, BearerControl, CloseReason, GenericPdu, PbAdvPdu};
use mesh_wire::bearer::proxy::{self, MessageType, ProxyPdu, Sar};
use mesh_wire::provisioning::{AuthenticationMethod, ProvisioningData, ProvisioningPdu};
use mesh_wire::{DecodeError, IvIndex};
use proptest::prelude::*;
use serde_json::Value;

use common::{bytes, vectors};

fn section(name: &str) -> Value {
    vectors()[name].clone()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

/// Each message of a session, both ways; returns how many steps there were.
fn check_session(session: &Value) -> usize {
    let link_id = u32::from_be_bytes(array(&session["link_id"]));
    let steps = session["steps"].as_array().unwrap();
    for step in steps {
        let messages: Vec<Vec<u8>> = step["messages"].as_array().unwrap().iter().map(bytes).collect();
        for message in &messages {
            let pdu = PbAdvPdu::decode(message).unwrap();
            assert_eq!(pdu.link_id, link_id);
            assert_eq!(pdu.encode().to_vec(), *message);
        }
        let Some(octets) = step.get("provisioning_pdu").map(bytes) else { continue };
        assert_eq!(vec![pb_adv::fcs(&octets)], bytes(&step["fcs"]));
        assert_eq!(Value::from(pb_adv::last_segment(octets.len())), step["seg_n"]);
        let [transaction] = array(&step["transaction"]);
        let segments =
            pb_adv::segment(&octets).into_iter().map(|content| PbAdvPdu { link_id, transaction, content });
        assert_eq!(segments.map(|pdu| pdu.encode().to_vec()).collect::<Vec<_>>(), messages);
        let pdu = ProvisioningPdu::decode(&octets).unwrap();
        assert_eq!(pdu.encode(), octets, "{}", step["name"]);
    }
    steps.len()
}

#[test]
fn the_sample_session_is_read_and_written() {
    assert_eq!(check_session(&section("pb_adv_session")), 25);
    assert_eq!(check_session(&section("provisioning_record_retrieval")), 8);
}

#[test]
fn provisioning_data_is_read_and_written() {
    for case in section("provisioning_algorithms").as_array().unwrap() {
        let octets: [u8; 25] = array(&case["provisioning_data"]);
        let data = ProvisioningData::decode(&octets).unwrap();
        assert_eq!(data.net_key, NetKey::new(array(&case["net_key"])));
        assert_eq!(u16::from(data.net_key_index).to_be_bytes().to_vec(), bytes(&case["net_key_index"]));
        assert_eq!(data.iv_index.0.to_be_bytes().to_vec(), bytes(&case["iv_index"]));
        assert_eq!(u16::from(data.address).to_be_bytes().to_vec(), bytes(&case["unicast_address"]));
        assert_eq!(data.to_octets(), octets);
        let pdus = [
            [vec![1], bytes(&case["capabilities"])].concat(),
            [vec![2], bytes(&case["start"])].concat(),
            [vec![5], bytes(&case["confirmation_provisioner"])].concat(),
        ];
        for pdu in pdus {
            assert_eq!(ProvisioningPdu::decode(&pdu).unwrap().encode(), pdu);
        }
        for (at, value) in [(16, 0x10), (23, 0x80)] {
            let mut wrong = octets;
            wrong[at] = value;
            assert!(ProvisioningData::decode(&wrong).is_err(), "octet {at}");
        }
        let mut with_reserved = octets;
        with_reserved[18] |= 0xfc;
        assert_eq!(ProvisioningData::decode(&with_reserved), Ok(data), "reserved flags (table 5.48)");
    }
}

#[test]
fn a_public_key_takes_four_proxy_pdus() {
    let sample = section("pb_gatt_sar");
    let pdu = bytes(&sample["provisioning_pdu"]);
    let values: Vec<Vec<u8>> = sample["att_values"].as_array().unwrap().iter().map(bytes).collect();
    assert_eq!(proxy::segment(MessageType::ProvisioningPdu, &pdu, 20), values);
    let whole: Vec<u8> =
        values.iter().flat_map(|value| ProxyPdu::decode(value).unwrap().data.to_vec()).collect();
    assert_eq!(whole, pdu);
    assert_eq!(ProxyPdu::decode(&values[0]).unwrap().sar, Sar::First);
    assert_eq!(ProxyPdu::decode(&[0x04, 1]), Err(DecodeError::UnknownOpcode));
}

#[test]
fn reserved_flags_of_a_beacon_are_authenticated_and_otherwise_ignored() {
    let key = NetKey::new([1; 16]);
    let id = key.network_id();
    for flags in 0..=0xff_u8 {
        let mut octets = vec![1, flags];
        octets.extend(id);
        octets.extend(9_u32.to_be_bytes());
        octets.extend(key.beacon_authentication(flags, &id, 9));
        let Ok(Beacon::SecureNetwork(beacon)) = Beacon::decode(&octets) else { panic!("{flags:#04x}") };
        assert!(beacon.is_authentic(&key), "{flags:#04x}");
        assert_eq!(beacon.flags, NetworkFlags { key_refresh: flags & 1 != 0, iv_update: flags & 2 != 0 });
        assert_eq!(Beacon::SecureNetwork(beacon).encode().to_vec(), octets);
        octets[1] ^= 0x40;
        let Ok(Beacon::SecureNetwork(beacon)) = Beacon::decode(&octets) else { panic!("{flags:#04x}") };
        assert!(!beacon.is_authentic(&key), "a reserved bit was changed on the way");
        let random = [flags; 13];
        let sealed = key.seal_private_beacon(&random, flags, 9);
        assert_eq!(key.open_private_beacon(&random, &sealed), Ok((flags, 9)));
        assert_eq!(NetworkFlags::from_octet(flags).to_octet(), flags & 3);
    }
    // OOB Information has two reserved bits, which are kept for whoever shows them.
    let octets = [&[0][..], &[7; 16], &0x0600_u16.to_be_bytes()].concat();
    assert_eq!(Beacon::decode(&octets).unwrap().encode().to_vec(), octets);
}

#[test]
fn beacons_are_read_and_written() {
    let beacons = section("beacons");
    for case in beacons.as_array().unwrap() {
        let octets = bytes(&case["beacon"]);
        let beacon = Beacon::decode(&octets).unwrap();
        assert_eq!(beacon.encode().to_vec(), octets);
        match beacon {
            Beacon::UnprovisionedDevice(device) => {
                assert_eq!(device.uuid, array(&case["device_uuid"]));
                assert_eq!(device.oob_information.to_be_bytes(), array(&case["oob_information"]));
                let uri = case.get("uri_ad_data").map(bytes);
                let hash = uri.map(|uri| UnprovisionedDevice::hash_uri(&uri));
                assert_eq!(device.uri_hash, hash);
            }
            Beacon::SecureNetwork(found) => {
                let key = NetKey::new(array(&case["net_key"]));
                let [flags] = array(&case["flags"]);
                let iv_index = IvIndex(u32::from_be_bytes(array(&case["iv_index"])));
                let flags = NetworkFlags::from_octet(flags);
                assert_eq!(found, SecureNetwork::new(&key, key.network_id(), flags, iv_index));
                assert!(found.is_authentic(&key));
                assert!(!found.is_authentic(&NetKey::new([7; 16])));
                assert!(!SecureNetwork { iv_index: IvIndex(iv_index.0 + 1), ..found }.is_authentic(&key));
            }
            Beacon::MeshPrivate { random, sealed } => {
                let key = NetKey::new(array(&case["net_key"]));
                let [flags] = array(&case["flags"]);
                let iv_index = u32::from_be_bytes(array(&case["iv_index"]));
                assert_eq!(key.open_private_beacon(&random, &sealed), Ok((flags, iv_index)));
            }
        }
    }
    assert_eq!(beacons.as_array().unwrap().len(), 7);
}

/// CVE-2022-1041 and CVE-2022-1042: the first segment says that few octets come, later ones bring many.
#[test]
fn s8_5_1_a_device_advertises_pb_gatt_as_the_sample() {
    let advertising = section("advertising");
    let sample = advertising.as_array().unwrap().iter().find(|sample| sample["section"] == "8.5.1").unwrap();
    let structure = bytes(&sample["ad_structure"]);
    let [length, 0x16, low, high, data @ ..] = &structure[..] else { panic!("no service data") };
    let service = MESH_PROVISIONING_SERVICE.to_le_bytes();
    assert_eq!((usize::from(*length), [*low, *high]), (data.len() + 3, service));
    let device = UnprovisionedDevice::from_service_data(data).unwrap();
    assert_eq!(device.uuid, array(&sample["device_uuid"]));
    assert_eq!(device.oob_information.to_be_bytes(), array(&sample["oob_information_be"]));
    assert_eq!(device.service_data()[..], *data);
    assert!(UnprovisionedDevice::from_service_data(&data[1..]).is_err());
}

#[test]
fn a_transaction_whose_segments_do_not_fit_its_length_is_no_transaction() {
    let start = |seg_n: u8, total_length: u16, octets: usize| {
        let mut pdu = vec![0, 0, 0, 1, 0, seg_n << 2];
        pdu.extend(total_length.to_be_bytes());
        pdu.push(0);
        pdu.extend(vec![0; octets]);
        PbAdvPdu::decode(&pdu)
    };
    assert!(start(2, 65, 20).is_ok());
    for (seg_n, total_length, octets) in
        [(63, 65, 20), (0, 65, 20), (2, 1, 1), (0, 0, 0), (0, 0, 20), (2, 65, 19), (63, 0xffff, 20)]
    {
        assert!(start(seg_n, total_length, octets).is_err(), "{seg_n} {total_length} {octets}");
    }
    let continuation = |index: u8, octets: usize| {
        let mut pdu = vec![0, 0, 0, 1, 0, index << 2 | 2];
        pdu.extend(vec![0; octets]);
        PbAdvPdu::decode(&pdu)
    };
    assert!(continuation(1, 23).is_ok());
    assert!(continuation(0, 23).is_err() && continuation(1, 0).is_err() && continuation(1, 24).is_err());
}

#[test]
fn every_link_close_is_understood() {
    for reason in 0..=255 {
        let pdu = PbAdvPdu::decode(&[0, 0, 0, 1, 0, 0x0b, reason]).unwrap();
        let reason = CloseReason::from(reason);
        assert_eq!(pdu.content, GenericPdu::BearerControl(BearerControl::LinkClose(reason)));
    }
}

#[test]
fn a_start_with_what_is_reserved_is_refused() {
    assert!(ProvisioningPdu::decode(&[2, 0, 0, 2, 4, 8]).is_ok());
    for parameters in [
        [2, 0, 0, 0, 0],
        [0, 2, 0, 0, 0],
        [0, 0, 4, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 1, 0, 1],
        [0, 0, 2, 5, 1],
        [0, 0, 2, 0, 0],
        [0, 0, 2, 0, 9],
        [0, 0, 3, 4, 1],
        [0, 0, 3, 0, 9],
    ] {
        let pdu = [&[2][..], &parameters].concat();
        assert!(ProvisioningPdu::decode(&pdu).is_err(), "{parameters:?}");
    }
    let Ok(ProvisioningPdu::Start(start)) = ProvisioningPdu::decode(&[2, 1, 1, 1, 0, 0]) else {
        panic!("a start");
    };
    assert!(start.oob_public_key && start.method == AuthenticationMethod::StaticOob);
}

proptest! {
    #[test]
    fn what_is_read_is_written_as_it_was(octets in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(pdu) = ProvisioningPdu::decode(&octets) {
            prop_assert_eq!(pdu.encode(), octets.clone());
        }
        if let Ok(pdu) = PbAdvPdu::decode(&octets) {
            prop_assert_eq!(pdu.encode().to_vec(), octets.clone());
        }
        if let Ok(beacon) = Beacon::decode(&octets) {
            prop_assert_eq!(beacon.encode().to_vec(), octets.clone());
        }
        if let Ok(pdu) = ProxyPdu::decode(&octets) {
            prop_assert_eq!(pdu.encode(), octets);
        }
    }

    #[test]
    fn segments_have_the_lengths_that_are_told_of_them(pdu in proptest::collection::vec(any::<u8>(), 1..1470)) {
        let segments = pb_adv::segment(&pdu);
        prop_assert_eq!(segments.len(), usize::from(pb_adv::last_segment(pdu.len())) + 1);
        let mut whole = Vec::new();
        for (index, segment) in (0..).zip(&segments) {
            let octets = match segment {
                GenericPdu::TransactionStart { octets, .. } => octets,
                GenericPdu::TransactionContinuation { index: at, octets } => {
                    prop_assert_eq!(*at, index);
                    octets
                }
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(octets.len(), pb_adv::segment_length(pdu.len(), index));
            prop_assert_eq!(whole.len(), pb_adv::segment_start(index));
            whole.extend_from_slice(octets);
        }
        prop_assert_eq!(whole, pdu);
    }
}
