//! Foundation messages: opcodes against the assigned numbers, layouts against samples and against themselves.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use mesh_crypto::{AppKey, NetKey};
use mesh_wire::access::Opcode;
use mesh_wire::address::{Address, GroupAddress, LabelUuid, UnicastAddress};
use mesh_wire::foundation::{
    CompositionData, ConfigMessage, FaultStatus, FeatureState, Features, HealthMessage, HeartbeatPublication,
    HeartbeatSubscription, KeyRefreshTransition, ModelRef, Publication, PublishDestination, PublishPeriod,
    PublishRetransmit, Status, SubscriptionChange,
};
use mesh_wire::lower_transport::LowerTransportPdu;
use mesh_wire::{CompanyId, DecodeError, KeyIndex, ModelId, Transmit, Ttl};
use proptest::prelude::*;
use serde_json::Value;

fn testdata(name: &str) -> Value {
    let path = format!("{}/../../testdata/mesh/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// One of each message, under its name in the assigned numbers; those that a vendor's model has as another
/// message twice.
#[expect(clippy::too_many_lines, reason = "one line for each message")]
fn one_of_each() -> Vec<(&'static str, ConfigMessage)> {
    use ConfigMessage as M;
    let element = UnicastAddress::new(0x0201).unwrap();
    let model = ModelRef { element, model: ModelId::Sig(0x1000) };
    let vendor = ModelRef { element, model: ModelId::Vendor(CompanyId(0x000a), 7) };
    let (index, net_key_index) = (KeyIndex::new(0x123).unwrap(), KeyIndex::new(0x456).unwrap());
    let indexes = vec![index, net_key_index, KeyIndex::ZERO];
    let status = Status::Success;
    let address = Address::from(0xc001);
    let label = LabelUuid([9; 16]);
    let ttl = Ttl::new(7).unwrap();
    let transmit = Transmit::from_octet(0x2a);
    let to = |destination| Publication {
        destination,
        app_key_index: index,
        friendship_credentials: true,
        ttl: None,
        period: PublishPeriod(0x4a),
        retransmit: PublishRetransmit(0x0b),
    };
    let publication = to(PublishDestination::Address(address));
    let changes = |change| {
        [
            M::ModelSubscriptionChange { change, address, model },
            M::ModelSubscriptionVirtualAddressChange { change, label, model: vendor },
        ]
    };
    let [add, virtual_add] = changes(SubscriptionChange::Add);
    let [delete, virtual_delete] = changes(SubscriptionChange::Delete);
    let [overwrite, virtual_overwrite] = changes(SubscriptionChange::Overwrite);
    let addresses = vec![address, Address::from(0x8123)];
    let transition = KeyRefreshTransition::RevokeOldKeys;
    let heartbeat = HeartbeatPublication {
        destination: address,
        count_log: 0xff,
        period_log: 0x11,
        ttl,
        features: Features(5),
        net_key_index,
    };
    vec![
        ("Config AppKey Add", M::AppKeyAdd { net_key_index, index, key: AppKey::new([1; 16]) }),
        ("Config Composition Data Status", M::CompositionDataStatus { page: 0, data: vec![1, 2, 3] }),
        ("Config Model Publication Set", M::ModelPublicationSet { publication, model }),
        ("Config AppKey Delete", M::AppKeyDelete { net_key_index, index }),
        ("Config AppKey Get", M::AppKeyGet { net_key_index }),
        ("Config AppKey List", M::AppKeyList { status, net_key_index, indexes: indexes.clone() }),
        ("Config AppKey Status", M::AppKeyStatus { status, net_key_index, index }),
        ("Config Composition Data Get", M::CompositionDataGet { page: 0 }),
        ("Config Default TTL Get", M::DefaultTtlGet),
        ("Config Default TTL Set", M::DefaultTtlSet { ttl }),
        ("Config Default TTL Status", M::DefaultTtlStatus { ttl }),
        ("Config Model Publication Get", M::ModelPublicationGet { model: vendor }),
        ("Config Model Publication Status", M::ModelPublicationStatus { status, publication, model: vendor }),
        (
            "Config Model Publication Virtual Address Set",
            M::ModelPublicationSet { publication: to(PublishDestination::Label(label)), model },
        ),
        ("Config Model Subscription Add", add),
        ("Config Model Subscription Delete", delete),
        ("Config Model Subscription Delete All", M::ModelSubscriptionDeleteAll { model }),
        ("Config Model Subscription Overwrite", overwrite),
        ("Config Model Subscription Status", M::ModelSubscriptionStatus { status, address, model }),
        ("Config Model Subscription Virtual Address Add", virtual_add),
        ("Config Model Subscription Virtual Address Delete", virtual_delete),
        ("Config Model Subscription Virtual Address Overwrite", virtual_overwrite),
        ("Config Network Transmit Get", M::NetworkTransmitGet),
        ("Config Network Transmit Set", M::NetworkTransmitSet { transmit }),
        ("Config Network Transmit Status", M::NetworkTransmitStatus { transmit }),
        ("Config Relay Get", M::RelayGet),
        ("Config Relay Set", M::RelaySet { relay: FeatureState::Enabled, retransmit: transmit }),
        ("Config Relay Status", M::RelayStatus { relay: FeatureState::NotSupported, retransmit: transmit }),
        ("Config SIG Model Subscription Get", M::ModelSubscriptionGet { model }),
        (
            "Config SIG Model Subscription List",
            M::ModelSubscriptionList { status, model, addresses: addresses.clone() },
        ),
        ("Config Vendor Model Subscription Get", M::ModelSubscriptionGet { model: vendor }),
        (
            "Config Vendor Model Subscription List",
            M::ModelSubscriptionList { status, model: vendor, addresses },
        ),
        ("Config Model App Bind", M::ModelAppBind { index, model }),
        ("Config Model App Status", M::ModelAppStatus { status, index, model: vendor }),
        ("Config Model App Unbind", M::ModelAppUnbind { index, model: vendor }),
        ("Config NetKey Add", M::NetKeyAdd { index, key: NetKey::new([2; 16]) }),
        ("Config NetKey Delete", M::NetKeyDelete { index }),
        ("Config NetKey Get", M::NetKeyGet),
        ("Config NetKey List", M::NetKeyList { indexes: indexes.clone() }),
        ("Config NetKey Status", M::NetKeyStatus { status, index }),
        ("Config Node Reset", M::NodeReset),
        ("Config Node Reset Status", M::NodeResetStatus),
        ("Config SIG Model App Get", M::ModelAppGet { model }),
        ("Config SIG Model App List", M::ModelAppList { status, model, indexes: indexes.clone() }),
        ("Config Vendor Model App Get", M::ModelAppGet { model: vendor }),
        ("Config Vendor Model App List", M::ModelAppList { status, model: vendor, indexes }),
        ("Config Beacon Get", M::BeaconGet),
        ("Config Beacon Set", M::BeaconSet { beacon: FeatureState::Enabled }),
        ("Config Beacon Status", M::BeaconStatus { beacon: FeatureState::Disabled }),
        ("Config GATT Proxy Get", M::GattProxyGet),
        ("Config GATT Proxy Set", M::GattProxySet { proxy: FeatureState::Enabled }),
        ("Config GATT Proxy Status", M::GattProxyStatus { proxy: FeatureState::NotSupported }),
        ("Config Friend Get", M::FriendGet),
        ("Config Friend Set", M::FriendSet { friend: FeatureState::Enabled }),
        ("Config Friend Status", M::FriendStatus { friend: FeatureState::NotSupported }),
        ("Config NetKey Update", M::NetKeyUpdate { index, key: NetKey::new([2; 16]) }),
        ("Config AppKey Update", M::AppKeyUpdate { net_key_index, index, key: AppKey::new([1; 16]) }),
        ("Config Key Refresh Phase Get", M::KeyRefreshPhaseGet { index }),
        ("Config Key Refresh Phase Set", M::KeyRefreshPhaseSet { index, transition }),
        ("Config Key Refresh Phase Status", M::KeyRefreshPhaseStatus { status, index, phase: 2 }),
        ("Config Node Identity Get", M::NodeIdentityGet { index }),
        ("Config Node Identity Set", M::NodeIdentitySet { index, identity: FeatureState::Enabled }),
        (
            "Config Node Identity Status",
            M::NodeIdentityStatus { status, index, identity: FeatureState::NotSupported },
        ),
        ("Config Low Power Node PollTimeout Get", M::LowPowerNodePollTimeoutGet { address: element }),
        (
            "Config Low Power Node PollTimeout Status",
            M::LowPowerNodePollTimeoutStatus { address: element, poll_timeout: 0x34_bbff },
        ),
        ("Config Heartbeat Publication Get", M::HeartbeatPublicationGet),
        ("Config Heartbeat Publication Set", M::HeartbeatPublicationSet { publication: heartbeat }),
        (
            "Config Heartbeat Publication Status",
            M::HeartbeatPublicationStatus { status, publication: heartbeat },
        ),
        ("Config Heartbeat Subscription Get", M::HeartbeatSubscriptionGet),
        (
            "Config Heartbeat Subscription Set",
            M::HeartbeatSubscriptionSet { source: element.into(), destination: address, period_log: 0x11 },
        ),
        (
            "Config Heartbeat Subscription Status",
            M::HeartbeatSubscriptionStatus {
                status,
                subscription: HeartbeatSubscription {
                    source: element.into(),
                    destination: address,
                    period_log: 3,
                    count_log: 0xff,
                    min_hops: 1,
                    max_hops: 0x7f,
                },
            },
        ),
    ]
}

#[test]
fn opcodes_are_the_assigned_ones() {
    let models = testdata("models.json");
    let server = (models["models"].as_array().unwrap().iter())
        .find(|model| model["name"] == "Configuration Server")
        .unwrap();
    let assigned: BTreeMap<&str, &str> = (server["messages"].as_array().unwrap().iter())
        .map(|message| (message["name"].as_str().unwrap(), message["opcode"].as_str().unwrap()))
        .collect();
    for (name, message) in one_of_each() {
        let wanted = u16::from_str_radix(&assigned[name][2..], 16).unwrap();
        let wanted = u8::try_from(wanted).map_or(Opcode::Two(wanted), Opcode::One);
        assert_eq!(message.opcode(), wanted, "{name}");
    }
}

#[test]
fn every_message_survives_encoding_and_no_shorter_or_longer_one_is_taken_for_it() {
    for (name, message) in one_of_each() {
        let payload = message.encode();
        let (opcode, parameters) = Opcode::decode(&payload).unwrap();
        assert_eq!(ConfigMessage::decode(opcode, parameters).as_ref(), Ok(&message), "{name}");
        for length in 0..parameters.len() {
            if let Ok(other) = ConfigMessage::decode(opcode, &parameters[..length]) {
                // Lists may be shorter, and a vendor's model cut in half reads as a SIG model.
                assert_ne!(other, message, "{name}");
                assert_eq!(other.encode(), opcode.with(&parameters[..length]), "{name}");
            }
        }
    }
}

#[test]
fn health_messages_have_their_opcodes_and_survive_encoding() {
    use HealthMessage as M;
    let company = CompanyId(0x05f1);
    let status = || FaultStatus { test_id: 3, company, faults: vec![1, 0x32] };
    let of_each = [
        ("Health Current Status", M::CurrentStatus(status())),
        ("Health Fault Status", M::FaultStatus(FaultStatus { faults: vec![], ..status() })),
        ("Health Fault Get", M::FaultGet { company }),
        ("Health Fault Clear", M::FaultClear { company, acknowledged: true }),
        ("Health Fault Clear Unacknowledged", M::FaultClear { company, acknowledged: false }),
        ("Health Fault Test", M::FaultTest { test_id: 9, company, acknowledged: true }),
        ("Health Fault Test Unacknowledged", M::FaultTest { test_id: 9, company, acknowledged: false }),
        ("Health Period Get", M::PeriodGet),
        ("Health Period Set", M::PeriodSet { fast_period_divisor: 15, acknowledged: true }),
        ("Health Period Set Unacknowledged", M::PeriodSet { fast_period_divisor: 1, acknowledged: false }),
        ("Health Period Status", M::PeriodStatus { fast_period_divisor: 2 }),
        ("Health Attention Get", M::AttentionGet),
        ("Health Attention Set", M::AttentionSet { attention_s: 5, acknowledged: true }),
        ("Health Attention Set Unacknowledged", M::AttentionSet { attention_s: 0, acknowledged: false }),
        ("Health Attention Status", M::AttentionStatus { attention_s: 255 }),
    ];
    let models = testdata("models.json");
    let assigned: BTreeMap<&str, &str> = (models["models"].as_array().unwrap().iter())
        .filter(|model| model["name"] == "Health Server")
        .flat_map(|model| model["messages"].as_array().unwrap())
        .map(|message| (message["name"].as_str().unwrap(), message["opcode"].as_str().unwrap()))
        .collect();
    assert_eq!(assigned.len(), of_each.len());
    for (name, message) in of_each {
        let wanted = u16::from_str_radix(&assigned[name][2..], 16).unwrap();
        assert_eq!(message.opcode(), u8::try_from(wanted).map_or(Opcode::Two(wanted), Opcode::One), "{name}");
        let payload = message.encode();
        let (opcode, parameters) = Opcode::decode(&payload).unwrap();
        assert_eq!(HealthMessage::decode(opcode, parameters), Ok(message), "{name}");
        assert!(HealthMessage::decode(opcode, &[parameters, &[0; 400]].concat()).is_err() || payload[0] < 6);
    }
    assert!(HealthMessage::decode(Opcode::Two(0x8035), &[16]).is_err(), "a divisor has 4 bits");
}

#[test]
fn status_codes_are_the_assigned_ones() {
    let numbers = testdata("numbers.json");
    let assigned = numbers["status"]["foundation"].as_object().unwrap();
    for (code, name) in assigned {
        let code = u8::from_str_radix(&code[2..], 16).unwrap();
        assert_eq!(Status::try_from(code).unwrap().to_string(), name.as_str().unwrap());
    }
    let known = (0..=u8::MAX).filter(|&code| Status::try_from(code).is_ok()).count();
    assert_eq!(known, assigned.len());
}

#[test]
fn the_sample_composition_data_is_read_and_written() {
    let vectors = testdata("vectors.json");
    let octets = hex::decode(vectors["composition_data"][0]["hex"].as_str().unwrap()).unwrap();
    let composition = CompositionData::decode(&octets).unwrap();
    assert_eq!((composition.company, composition.product, composition.version), (CompanyId(0x0c), 0x1a, 1));
    assert_eq!((composition.replay_list, composition.features.0), (8, 3));
    let [element] = &composition.elements[..] else { panic!("one element") };
    let sig = [0x0000, 0x8000, 0x0001, 0x1000, 0x1003].map(ModelId::Sig);
    assert_eq!(element.location, 0x0100);
    assert_eq!(element.models[..5], sig);
    assert_eq!(element.models[5..], [ModelId::Vendor(CompanyId(0x003f), 0x002a)]);
    assert_eq!(composition.encode(), octets);
    for length in 0..octets.len() {
        assert_eq!(CompositionData::decode(&octets[..length]), Err(DecodeError::TooShort));
    }
}

#[test]
fn the_configuration_messages_of_other_libraries_are_read_alike() {
    let vectors = testdata("vectors.json");
    let items = vectors["library_message_vectors"].as_array().unwrap();
    let parameters = |name: &str| {
        let item = items.iter().find(|item| item["message"] == name).unwrap();
        hex::decode(item["parameters"].as_str().unwrap()).unwrap()
    };
    let status =
        ConfigMessage::decode(Opcode::One(0x02), &parameters("Config Composition Data Status")).unwrap();
    let ConfigMessage::CompositionDataStatus { page: 0, data } = status else { panic!("page 0") };
    let composition = CompositionData::decode(&data).unwrap();
    let locations: Vec<u16> = composition.elements.iter().map(|element| element.location).collect();
    assert_eq!((composition.features.0, locations), (0x000a, vec![0x0106, 0x0108]));
    let vendor = ModelId::Vendor(CompanyId(0xbbaa), 0xddcc);
    assert_eq!(composition.elements[1].models[1], vendor);
    let octets = parameters("Config AppKey Add");
    let add = ConfigMessage::decode(Opcode::One(0x00), &octets).unwrap();
    let ConfigMessage::AppKeyAdd { net_key_index, index, .. } = add else { panic!("AppKey Add") };
    assert_eq!((u16::from(net_key_index), u16::from(index)), (0x123, 0x456));
}

#[test]
fn prohibited_values_are_refused() {
    let decode = |opcode, parameters: &[u8]| ConfigMessage::decode(Opcode::Two(opcode), parameters);
    assert_eq!(decode(0x800d, &[1]), Err(DecodeError::Prohibited("TTL")));
    assert_eq!(decode(0x800d, &[0x80]), Err(DecodeError::Prohibited("TTL")));
    assert_eq!(decode(0x8027, &[2, 0]), Err(DecodeError::Prohibited("feature state")));
    assert_eq!(decode(0x8041, &[0x00, 0x10]), Err(DecodeError::Prohibited("key index")));
    for address in [0x0000_u16, 0x0001, 0x8000, 0xffff] {
        let octets = [&[1, 0][..], &address.to_le_bytes(), &[0, 0x10]].concat();
        assert_eq!(decode(0x801b, &octets), Err(DecodeError::Prohibited("Address")), "{address:04x}");
    }
    assert!(decode(0x801b, &[1, 0, 0xfe, 0xff, 0, 0x10]).is_ok(), "all-relays may be subscribed to");
    assert_eq!(GroupAddress::ALL_RELAYS.to_string(), "fffe");
}

proptest! {
    #[test]
    fn any_octets_are_a_message_that_encodes_to_them_or_an_error(payload in prop::collection::vec(any::<u8>(), 0..40)) {
        let Ok((opcode, parameters)) = Opcode::decode(&payload) else { return Ok(()) };
        if let Ok(message) = ConfigMessage::decode(opcode, parameters) {
            // Bits that are reserved for future use are not kept.
            let again = message.encode();
            prop_assert_eq!(again.len(), payload.len());
            let (opcode, parameters) = Opcode::decode(&again).unwrap();
            prop_assert_eq!(ConfigMessage::decode(opcode, parameters), Ok(message));
        }
    }

    #[test]
    fn any_transport_pdu_encodes_to_what_it_was_read_from(ctl: bool, octets in prop::collection::vec(any::<u8>(), 0..20)) {
        if let Ok(pdu) = LowerTransportPdu::decode(ctl, &octets) {
            prop_assert_eq!(LowerTransportPdu::decode(ctl, &pdu.encode()), Ok(pdu));
        }
    }
}
