//! Provisioning, both ends: the sample session octet for octet, every way to authenticate, over both bearers, with
//! losses and time running out.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/air.rs"]
mod air;

use std::time::Duration;

use air::{Air, UUID, beacon, data};
use clock::Instant;
use mesh_crypto::PrivateKey;
use mesh_crypto::provisioning::AuthValue;
use mesh_proto::provisioning::{
    Authentication, Choice, ChoiceError, DeviceConfig, DeviceEvent, DeviceFailure, LinkEnd, OobActions,
    PbAdv, PbAdvConfig, PbGatt, Protocol as _, Provisionee, Provisioner, ProvisionerEvent,
    ProvisionerFailure, Random, Secrets,
};
use mesh_wire::bearer::AdType;
use mesh_wire::bearer::pb_adv::CloseReason;
use mesh_wire::provisioning::{Capabilities, InputAction, OutputAction, ProvisioningData, ProvisioningPdu};
use serde_json::Value;

const VECTORS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/mesh/vectors.json"));
const MINUTES: Duration = Duration::from_secs(600);

fn vectors() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

/// Private key and random value of one end of a sample.
fn secrets(case: &Value, whose: &str) -> Secrets {
    let mut random = [0; 32];
    let sample = bytes(&case[format!("random_{whose}")]);
    random[..sample.len()].copy_from_slice(&sample);
    let private_key = PrivateKey::new(&array(&case[format!("{whose}_private_key")])).unwrap();
    Secrets { private_key, random: Random(random) }
}

fn sample_data(case: &Value) -> ProvisioningData {
    ProvisioningData::decode(&array(&case["provisioning_data"])).unwrap()
}

fn choice(authentication: Authentication) -> Choice {
    Choice { authentication, oob_public_key: None, allows_cmac: true, data: data() }
}

fn air(config: DeviceConfig, loss: u32, seed: u64) -> Air {
    let [a, b, ..] = seed.to_be_bytes().map(|x| x ^ 0x5a);
    let device = Provisionee::new(config, [a ^ u8::try_from(seed % 251).unwrap(); 32]);
    let provisioner = Provisioner::new(5, [b ^ 0x33 ^ u8::try_from(seed % 241).unwrap(); 32]);
    let settings = PbAdvConfig::default();
    let now = Instant::ORIGIN;
    Air::new(
        PbAdv::device(now, device, beacon(), settings, [1; 32]),
        PbAdv::open(now, provisioner, UUID, settings, [2; 32]),
        loss,
        seed,
    )
}

/// Answers what the two ends ask their hosts, as the user who sees both would.
fn play_user(air: &mut Air, choice: &Choice) {
    let now = air.now;
    let device_events = air.device_events.clone();
    let provisioner_events = air.provisioner_events.clone();
    let shown_by_device = device_events.iter().find_map(|event| match event {
        DeviceEvent::ShowValue { value, .. } => Some(value.clone()),
        _ => None,
    });
    let shown_by_provisioner = provisioner_events.iter().find_map(|event| match event {
        ProvisionerEvent::ShowValue { value, .. } => Some(value.clone()),
        _ => None,
    });
    for event in &provisioner_events {
        match event {
            ProvisionerEvent::Capabilities(_) => {
                let _ = air.provisioner.with_protocol(now, |x| x.choose(now, choice.clone()));
            }
            ProvisionerEvent::EnterValue { .. } => {
                if let Some(value) = &shown_by_device {
                    let _ = air.provisioner.with_protocol(now, |x| x.enter_value(now, value));
                }
            }
            _ => {}
        }
    }
    if device_events.iter().any(|event| matches!(event, DeviceEvent::EnterValue { .. }))
        && let Some(value) = &shown_by_provisioner
    {
        let _ = air.device.with_protocol(now, |x| x.enter_value(now, value));
    }
}

fn provision(air: &mut Air, choice: &Choice) -> bool {
    air.run(MINUTES, |air| {
        play_user(air, choice);
        air.is_over()
    })
}

#[test]
fn the_sample_session_is_reproduced_octet_for_octet() {
    let vectors = vectors();
    let (case, session) = (&vectors["provisioning_algorithms"][0], &vectors["pb_adv_session"]);
    let config = DeviceConfig { algorithms: Capabilities::CMAC_AES128, ..DeviceConfig::new(1) };
    let device = Provisionee::new(config, [1; 32]).with_secrets(secrets(case, "device"));
    let provisioner = Provisioner::new(0, [2; 32]).with_secrets(secrets(case, "provisioner"));
    let (now, settings) = (Instant::ORIGIN, PbAdvConfig { retry: MINUTES, ..PbAdvConfig::default() });
    let id = u32::from_be_bytes(array(&session["link_id"]));
    let mut air = Air::new(
        PbAdv::device(now, device, beacon(), settings, [3; 32]),
        PbAdv::open_with_id(now, provisioner, UUID, settings, id),
        0,
        0,
    );
    let choice = Choice { data: sample_data(case), ..choice(Authentication::NoOob) };
    assert!(provision(&mut air, &choice));
    air.run(Duration::from_secs(1), |_| false);

    // Start and Public Key may follow one another before the device has answered, so that acknowledgments can come
    // earlier or later than in the sample: each end's own messages are compared in their order.
    let steps = session["steps"].as_array().unwrap();
    for (sender, is_devices) in [("provisioner", false), ("device", true)] {
        let sample: Vec<Vec<u8>> = (steps.iter())
            .filter(|step| step["sender"] == sender && step["kind"] != "transaction ack")
            .flat_map(|step| step["messages"].as_array().unwrap().iter().map(bytes))
            .collect();
        let own: Vec<Vec<u8>> = (air.sent.iter())
            .filter(|pdu| pdu[5] != 0x01)
            .filter(|pdu| (pdu[4] >= 0x80 || pdu[5] == 0x07) == is_devices)
            .cloned()
            .collect();
        assert_eq!(own, sample, "{sender}");
    }
    let acks = |pdus: &[Vec<u8>]| {
        let mut acks: Vec<_> = pdus.iter().filter(|pdu| pdu[5] == 0x01).cloned().collect();
        acks.sort();
        acks
    };
    let sample: Vec<Vec<u8>> =
        steps.iter().flat_map(|step| step["messages"].as_array().unwrap().iter().map(bytes)).collect();
    assert_eq!(acks(&air.sent), acks(&sample));
    let (data, dev_key) = air.device_result().unwrap().unwrap();
    assert_eq!(data, sample_data(case));
    assert_eq!(dev_key.as_bytes().to_vec(), bytes(&case["device_key"]));
    let Some(ProvisionerEvent::Provisioned(node)) = air.provisioner_events.last() else {
        panic!("{:?}", air.provisioner_events);
    };
    assert!(node.dev_key == dev_key && node.elements == 1 && !node.is_authenticated);
}

#[test]
fn the_sample_of_hmac_sha_256_is_reproduced() {
    let vectors = vectors();
    let case = &vectors["provisioning_algorithms"][1];
    let value = AuthValue::from_octets(&bytes(&case["auth_value"]));
    let config = DeviceConfig { static_oob: Some(value.clone()), ..DeviceConfig::new(1) };
    let mut device = Provisionee::new(config, [1; 32]).with_secrets(secrets(case, "device"));
    let mut provisioner = Provisioner::new(0, [2; 32]).with_secrets(secrets(case, "provisioner"));
    let now = Instant::ORIGIN;
    device.handle_link_open(now);
    provisioner.handle_link_open(now);
    let mut said = Vec::new();
    loop {
        if let Some(pdu) = provisioner.poll_transmit() {
            device.handle_pdu(now, &pdu);
            said.push(pdu);
        } else if let Some(pdu) = device.poll_transmit() {
            provisioner.handle_pdu(now, &pdu);
            said.push(pdu);
        } else if let Some(ProvisionerEvent::Capabilities(_)) = provisioner.poll_event() {
            let choice = Choice { data: sample_data(case), ..choice(Authentication::Static(value.clone())) };
            provisioner.choose(now, choice).unwrap();
        } else {
            break;
        }
    }
    let with = |kind: u8, fields: &[&str]| {
        [vec![kind], fields.iter().flat_map(|name| bytes(&case[*name])).collect()].concat()
    };
    let sample = [
        with(0, &["invite"]),
        with(1, &["capabilities"]),
        with(2, &["start"]),
        with(3, &["provisioner_public_key_x", "provisioner_public_key_y"]),
        with(3, &["device_public_key_x", "device_public_key_y"]),
        with(5, &["confirmation_provisioner"]),
        with(5, &["confirmation_device"]),
        with(6, &["random_provisioner"]),
        with(6, &["random_device"]),
        with(7, &["encrypted_provisioning_data", "provisioning_data_mic"]),
        with(8, &[]),
    ];
    assert_eq!(said, sample);
    device.handle_delivered(now);
    let provisioned = std::iter::from_fn(|| device.poll_event()).last();
    let Some(DeviceEvent::Provisioned { data, dev_key }) = provisioned else { panic!("{provisioned:?}") };
    assert_eq!(data, sample_data(case));
    assert_eq!(dev_key.as_bytes().to_vec(), bytes(&case["device_key"]));
}

/// A device that can do everything, and each way to use it.
fn every_way() -> (DeviceConfig, Vec<(Choice, bool)>) {
    let value = AuthValue::from_octets(b"printed on its label");
    let key = PrivateKey::new(&[0x17; 32]).unwrap();
    let config = DeviceConfig {
        oob_private_key: Some(key.clone()),
        static_oob: Some(value.clone()),
        output: OobActions { size: 8, actions: 0x1f },
        input: OobActions { size: 8, actions: 0x0f },
        ..DeviceConfig::new(3)
    };
    let mut ways = vec![
        (choice(Authentication::NoOob), false),
        (choice(Authentication::Static(value)), true),
        (Choice { oob_public_key: Some(key.public_key()), ..choice(Authentication::NoOob) }, true),
    ];
    for size in [1, 8] {
        ways.extend(OutputAction::ALL.map(|action| (choice(Authentication::Output { action, size }), true)));
        ways.extend(InputAction::ALL.map(|action| (choice(Authentication::Input { action, size }), true)));
    }
    (config, ways)
}

#[test]
fn a_device_is_provisioned_each_way_with_each_algorithm_even_when_much_is_lost() {
    let (config, ways) = every_way();
    let mut seed = 0;
    for algorithms in [Capabilities::CMAC_AES128, 3] {
        for (way, is_authenticated) in &ways {
            for loss in [0, 30] {
                seed += 1;
                let mut air = air(DeviceConfig { algorithms, ..config.clone() }, loss, seed);
                assert!(provision(&mut air, way), "seed {seed} loss {loss} {way:?}");
                let (got, dev_key) = air.device_result().unwrap().unwrap();
                assert_eq!(got, data());
                let Some(ProvisionerEvent::Provisioned(node)) = air.provisioner_events.last() else {
                    panic!("{:?}", air.provisioner_events);
                };
                assert!(node.dev_key == dev_key && node.elements == 3);
                assert_eq!(node.is_authenticated, *is_authenticated);
                let shown = |event: &&DeviceEvent| matches!(event, DeviceEvent::ShowValue { .. });
                let hidden = |event: &&DeviceEvent| matches!(event, DeviceEvent::HideValue);
                assert_eq!(
                    air.device_events.iter().filter(shown).count(),
                    air.device_events.iter().filter(hidden).count()
                );
            }
        }
    }
}

#[test]
fn pb_gatt_works_with_the_smallest_mtu_and_with_a_large_one() {
    let (config, ways) = every_way();
    for pdu_size in [20, 66, 244] {
        let now = Instant::ORIGIN;
        let mut device = PbGatt::new(Provisionee::new(config.clone(), [4; 32]));
        let mut provisioner = PbGatt::new(Provisioner::new(0, [5; 32]));
        device.handle_connected(now, pdu_size);
        provisioner.handle_connected(now, pdu_size);
        loop {
            if let Some(pdu) = provisioner.poll_transmit() {
                assert!(pdu.len() <= pdu_size);
                device.handle_pdu(now, &pdu);
            } else if let Some(pdu) = device.poll_transmit() {
                assert!(pdu.len() <= pdu_size);
                provisioner.handle_pdu(now, &pdu);
            } else {
                match provisioner.with_protocol(Provisioner::poll_event) {
                    Some(ProvisionerEvent::Capabilities(_)) => {
                        provisioner.with_protocol(|x| x.choose(now, ways[1].0.clone())).unwrap();
                    }
                    Some(ProvisionerEvent::Addresses { .. }) => {}
                    Some(ProvisionerEvent::Provisioned(node)) => assert!(node.is_authenticated),
                    Some(other) => panic!("{other:?}"),
                    None => break,
                }
            }
        }
        assert!(provisioner.wants_disconnect());
        device.handle_disconnected(now);
        let last = std::iter::from_fn(|| device.with_protocol(Provisionee::poll_event)).last();
        assert!(matches!(last, Some(DeviceEvent::Provisioned { .. })), "{last:?}");
    }
}

#[test]
fn a_broken_proxy_pdu_ends_the_connection_and_the_session() {
    let now = Instant::ORIGIN;
    let mut device = PbGatt::new(Provisionee::new(DeviceConfig::new(1), [4; 32]));
    device.handle_connected(now, 20);
    device.handle_pdu(now, &[0x83, 1]);
    assert!(device.wants_disconnect());
    let failed = DeviceEvent::Failed(DeviceFailure::LinkEnded(LinkEnd::Lost));
    assert_eq!(std::iter::from_fn(|| device.with_protocol(Provisionee::poll_event)).last(), Some(failed));
}

#[test]
fn a_link_that_is_closed_after_complete_is_a_success_for_the_device() {
    // The provisioner acknowledges nothing more and closes: as BlueZ's does.
    for reason in [CloseReason::Success, CloseReason::Timeout, CloseReason::Fail, CloseReason::Other(9)] {
        let mut device = Provisionee::new(DeviceConfig::new(1), [1; 32]);
        let mut provisioner = Provisioner::new(0, [2; 32]);
        let now = Instant::ORIGIN;
        device.handle_link_open(now);
        provisioner.handle_link_open(now);
        while let Some(pdu) = provisioner.poll_transmit() {
            device.handle_pdu(now, &pdu);
            while let Some(pdu) = device.poll_transmit() {
                if pdu == [8] {
                    device.handle_link_end(now, LinkEnd::Closed(reason));
                } else {
                    provisioner.handle_pdu(now, &pdu);
                }
            }
            let _ = provisioner.choose(now, choice(Authentication::NoOob));
        }
        let last = std::iter::from_fn(|| device.poll_event()).last();
        assert!(matches!(last, Some(DeviceEvent::Provisioned { .. })), "{reason:?} {last:?}");
        assert!(device.is_done());
    }
}

#[test]
fn a_link_that_is_lost_before_leaves_an_unprovisioned_device_that_beacons_again() {
    let mut air = air(DeviceConfig::new(1), 0, 1);
    // The provisioner's host never chooses, and goes away.
    let is_asked = |air: &mut Air| !air.provisioner_events.is_empty();
    assert!(air.run(MINUTES, is_asked));
    air.loss = 100;
    air.run(MINUTES, |air| air.device_result().is_some());
    let failed = DeviceEvent::Failed(DeviceFailure::Timeout);
    assert_eq!(air.device_events.last(), Some(&failed));
    assert!(air.now >= Instant::ORIGIN + Duration::from_secs(60));
    assert!(air.now <= Instant::ORIGIN + Duration::from_secs(62), "{:?}", air.now);
    assert!(!air.device.is_linked());
    air.device.handle_timeout(air.now + Duration::from_secs(3));
    let sent: Vec<AdType> = std::iter::from_fn(|| air.device.poll_transmit()).map(|x| x.ad_type).collect();
    assert!(sent.contains(&AdType::MeshBeacon), "{sent:?}");
    // It can be provisioned after all, with other random values.
    let provisioner = Provisioner::new(0, [9; 32]);
    air.loss = 0;
    air.device_events.clear();
    air.provisioner_events.clear();
    air.provisioner = PbAdv::open(air.now, provisioner, UUID, PbAdvConfig::default(), [8; 32]);
    assert!(provision(&mut air, &choice(Authentication::NoOob)));
    assert!(air.device_result().unwrap().is_ok());
}

#[test]
fn a_device_that_does_not_answer_is_given_up_after_a_minute_and_retries_are_a_setting() {
    for retry_s in [1, 3] {
        let settings = PbAdvConfig { retry: Duration::from_secs(retry_s), ..PbAdvConfig::default() };
        let now = Instant::ORIGIN;
        let mut provisioner = PbAdv::open(now, Provisioner::new(0, [1; 32]), UUID, settings, [2; 32]);
        let mut opens = 0;
        while let Some(at) = provisioner.poll_timeout() {
            assert!(at <= now + Duration::from_secs(60));
            provisioner.handle_timeout(at);
            opens += std::iter::from_fn(|| provisioner.poll_transmit())
                .filter(|sent| sent.data.get(5) == Some(&3))
                .count();
        }
        let (opens, expected) = (u64::try_from(opens).unwrap(), 60 / retry_s);
        assert!((expected..=expected + 1).contains(&opens), "{opens} in a minute");
        let event = provisioner.with_protocol(now, Provisioner::poll_event);
        let end = ProvisionerFailure::LinkEnded(LinkEnd::NotOpened);
        assert_eq!(event, Some(ProvisionerEvent::Failed(end)));
    }
}

#[test]
fn a_transaction_that_is_not_acknowledged_ends_the_link_after_half_a_minute() {
    let mut air = air(DeviceConfig::new(1), 0, 1);
    assert!(air.run(MINUTES, |air| air.provisioner.is_linked()));
    air.loss = 100;
    let start = air.now;
    air.run(MINUTES, |air| air.provisioner.protocol().is_done());
    let end = ProvisionerFailure::LinkEnded(LinkEnd::Unacknowledged);
    assert_eq!(air.provisioner_events.last(), Some(&ProvisionerEvent::Failed(end)));
    assert!(air.now - start <= Duration::from_secs(31));
    // Link Close is sent at least three times.
    air.collect();
    assert!(air.sent.iter().any(|pdu| pdu[5..] == [0x0b, 1]));
}

#[test]
fn attention_follows_the_invitation_and_ends_with_the_start_or_the_link() {
    let mut air = air(DeviceConfig::new(1), 0, 1);
    assert!(provision(&mut air, &choice(Authentication::NoOob)));
    let attention: Vec<u64> = (air.device_events.iter())
        .filter_map(|event| match event {
            DeviceEvent::Attention(duration) => Some(duration.as_secs()),
            _ => None,
        })
        .collect();
    assert_eq!(attention, [5, 0]);
    let mut device = Provisionee::new(DeviceConfig::new(1), [1; 32]);
    device.handle_link_open(Instant::ORIGIN);
    device.handle_pdu(Instant::ORIGIN, &[0, 9]);
    device.handle_link_end(Instant::ORIGIN, LinkEnd::Lost);
    let events: Vec<DeviceEvent> = std::iter::from_fn(|| device.poll_event()).collect();
    assert_eq!(events[..2], [9, 0].map(|s| DeviceEvent::Attention(Duration::from_secs(s))));
}

#[test]
fn a_choice_that_the_device_does_not_offer_is_refused_and_another_can_be_made() {
    let now = Instant::ORIGIN;
    let mut provisioner = Provisioner::new(0, [2; 32]);
    let no_oob = choice(Authentication::NoOob);
    assert_eq!(provisioner.choose(now, no_oob.clone()), Err(ChoiceError::NotAsked));
    provisioner.handle_link_open(now);
    let capabilities = DeviceConfig::new(255).capabilities();
    provisioner.handle_pdu(now, &ProvisioningPdu::Capabilities(capabilities).encode());
    let refused = |provisioner: &mut Provisioner, choice| provisioner.choose(now, choice);
    let input = Authentication::Input { action: InputAction::Push, size: 1 };
    assert_eq!(refused(&mut provisioner, choice(input)), Err(ChoiceError::NotOffered));
    let static_oob = Authentication::Static(AuthValue::NONE);
    assert_eq!(refused(&mut provisioner, choice(static_oob)), Err(ChoiceError::NotOffered));
    let key = Some(PrivateKey::new(&[1; 32]).unwrap().public_key());
    let with_key = Choice { oob_public_key: key, ..no_oob.clone() };
    assert_eq!(refused(&mut provisioner, with_key), Err(ChoiceError::NoOobPublicKey));
    let mut far = no_oob.clone();
    far.data.address = mesh_wire::address::UnicastAddress::new(0x7f02).unwrap();
    assert_eq!(refused(&mut provisioner, far.clone()), Err(ChoiceError::Address));
    far.data.address = mesh_wire::address::UnicastAddress::new(0x7f01).unwrap();
    assert_eq!(refused(&mut provisioner, far), Ok(()));
}

#[test]
fn keys_do_not_print() {
    let shown = format!("{:?} {:?}", data(), AuthValue::from_number(1234));
    assert!(!shown.contains("42, 42") && !shown.contains("1234"), "{shown}");
}
