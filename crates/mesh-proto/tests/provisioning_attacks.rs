//! Provisioning with an attacker at the other end, who plays the protocol by hand: CVE-2020-26556 to CVE-2020-26560,
//! CVE-2022-1041, CVE-2023-4258; and each error code.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use clock::Instant;
use mesh_crypto::provisioning::{Algorithm, AuthValue, Confirmation, ConfirmationInputs, Session};
use mesh_crypto::{NetKey, PrivateKey, PublicKey};
use mesh_proto::bearer::Received;
use mesh_proto::provisioning::{
    Authentication, Choice, ChoiceError, DeviceConfig, DeviceEvent, DeviceFailure, OobActions, OobValue,
    PbAdv, PbAdvConfig, Protocol as _, Provisionee, Provisioner, ProvisionerEvent, ProvisionerFailure,
};
use mesh_wire::IvIndex;
use mesh_wire::address::UnicastAddress;
use mesh_wire::beacon::{NetworkFlags, UnprovisionedDevice};
use mesh_wire::bearer::AdType;
use mesh_wire::bearer::pb_adv::CloseReason;
use mesh_wire::provisioning::{Capabilities, ErrorCode, OutputAction, ProvisioningData, ProvisioningPdu};

const NOW: Instant = Instant::ORIGIN;

fn data() -> ProvisioningData {
    ProvisioningData {
        net_key: NetKey::new([0x42; 16]),
        net_key_index: mesh_wire::KeyIndex::ZERO,
        flags: NetworkFlags::default(),
        iv_index: IvIndex(7),
        address: UnicastAddress::new(0x0100).unwrap(),
    }
}

fn pdu(kind: u8, parameters: &[u8]) -> Vec<u8> {
    [&[kind], parameters].concat()
}

/// Somebody who plays either end with keys of their own.
struct Attacker {
    key: PrivateKey,
    capabilities: [u8; 11],
    start: [u8; 5],
}

impl Attacker {
    fn new(start: [u8; 5]) -> Self {
        let capabilities = DeviceConfig::new(1).capabilities().to_octets();
        Self { key: PrivateKey::new(&[0x66; 32]).unwrap(), capabilities, start }
    }

    fn public_key(&self) -> Vec<u8> {
        ProvisioningPdu::from(&self.key.public_key()).encode()
    }

    /// The confirmation function with a peer, when the attacker plays the device or the provisioner.
    fn confirmation(&self, peer: &PublicKey, plays_device: bool, value: &AuthValue) -> Confirmation {
        let own = self.key.public_key();
        let (provisioner, device) = if plays_device { (peer, &own) } else { (&own, peer) };
        let inputs = ConfirmationInputs {
            invite: &[0],
            capabilities: &self.capabilities,
            start: &self.start,
            provisioner,
            device,
        };
        Confirmation::new(self.algorithm(), &inputs, &self.key.ecdh_secret(peer), value)
    }

    fn algorithm(&self) -> Algorithm {
        if self.start[0] == 0 { Algorithm::CmacAes128 } else { Algorithm::HmacSha256 }
    }
}

fn key_of(octets: &[u8]) -> PublicKey {
    PublicKey::new(octets[1..].try_into().unwrap()).unwrap()
}

/// A provisioner that waits for the device's public key, and what it said so far.
fn provisioner(
    capabilities: Capabilities,
    authentication: Authentication,
    seed: u8,
) -> (Provisioner, PublicKey) {
    let mut provisioner = Provisioner::new(0, [seed; 32]);
    provisioner.handle_link_open(NOW);
    assert_eq!(provisioner.poll_transmit(), Some(pdu(0, &[0])));
    provisioner.handle_pdu(NOW, &ProvisioningPdu::Capabilities(capabilities).encode());
    let _ = provisioner.poll_event();
    let choice = Choice { authentication, oob_public_key: None, allows_cmac: true, data: data() };
    provisioner.choose(NOW, choice).unwrap();
    let [_start, key] = [provisioner.poll_transmit().unwrap(), provisioner.poll_transmit().unwrap()];
    (provisioner, key_of(&key))
}

fn failure(provisioner: &mut Provisioner) -> Option<ProvisionerFailure> {
    std::iter::from_fn(|| provisioner.poll_event()).find_map(|event| match event {
        ProvisionerEvent::Failed(failure) => Some(failure),
        _ => None,
    })
}

/// A device that waits for the provisioner's public key.
fn device(config: DeviceConfig, start: [u8; 5], seed: u8) -> Provisionee {
    let mut device = Provisionee::new(config, [seed; 32]);
    device.handle_link_open(NOW);
    device.handle_pdu(NOW, &pdu(0, &[0]));
    let _ = device.poll_transmit();
    device.handle_pdu(NOW, &pdu(2, &start));
    device
}

fn refusal(device: &mut Provisionee) -> Option<ErrorCode> {
    let said = std::iter::from_fn(|| device.poll_transmit()).last()?;
    match ProvisioningPdu::decode(&said) {
        Ok(ProvisioningPdu::Failed(code)) => Some(code),
        _ => None,
    }
}

/// CVE-2020-26558 and CVE-2023-4258: the peer sends our own public key back.
#[test]
fn a_reflected_public_key_is_refused_by_both_ends() {
    let (mut provisioner, key) = provisioner(DeviceConfig::new(1).capabilities(), Authentication::NoOob, 1);
    provisioner.handle_pdu(NOW, &ProvisioningPdu::from(&key).encode());
    assert_eq!(failure(&mut provisioner), Some(ProvisionerFailure::PublicKey));
    assert_eq!((provisioner.poll_transmit(), provisioner.poll_close()), (None, Some(CloseReason::Fail)));

    // A device's key is known before it is sent only when it is known out of band.
    let own = PrivateKey::new(&[0x17; 32]).unwrap();
    for with_key in [0, 1] {
        let config = DeviceConfig { oob_private_key: Some(own.clone()), ..DeviceConfig::new(1) };
        let mut device = device(config, [1, with_key, 0, 0, 0], 2);
        device.handle_pdu(NOW, &ProvisioningPdu::from(&own.public_key()).encode());
        assert_eq!(refusal(&mut device), Some(ErrorCode::InvalidFormat));
    }
}

/// CVE-2020-26560: a device that knows nothing repeats the provisioner's confirmation and random value.
#[test]
fn a_reflected_confirmation_is_refused_before_the_random_value_is_revealed() {
    let value = Authentication::Static(AuthValue::from_octets(b"nobody knows"));
    for (algorithms, config) in [(Capabilities::CMAC_AES128, 0), (Capabilities::HMAC_SHA256, 1)] {
        let attacker = Attacker::new([config, 0, 1, 0, 0]);
        let capabilities = Capabilities {
            algorithms,
            oob_type: Capabilities::STATIC_OOB,
            ..DeviceConfig::new(1).capabilities()
        };
        let (mut provisioner, _) = provisioner(capabilities, value.clone(), 3);
        provisioner.handle_pdu(NOW, &attacker.public_key());
        let confirmation = provisioner.poll_transmit().unwrap();
        provisioner.handle_pdu(NOW, &confirmation);
        assert_eq!(failure(&mut provisioner), Some(ProvisionerFailure::Reflected));
        assert_eq!(provisioner.poll_transmit(), None, "the random value stays secret");
    }
}

/// CVE-2020-26559: a device that knows nothing answers with the provisioner's random value.
#[test]
fn a_reflected_random_value_is_refused() {
    let attacker = Attacker::new([1, 0, 0, 0, 0]);
    let (mut provisioner, _) = provisioner(DeviceConfig::new(1).capabilities(), Authentication::NoOob, 4);
    provisioner.handle_pdu(NOW, &attacker.public_key());
    let _ = provisioner.poll_transmit();
    provisioner.handle_pdu(NOW, &pdu(5, &[9; 32]));
    let random = provisioner.poll_transmit().unwrap();
    provisioner.handle_pdu(NOW, &random);
    assert_eq!(failure(&mut provisioner), Some(ProvisionerFailure::Reflected));
}

/// What of CVE-2020-26556 can be done by who knows the confirmation key: AES-CMAC of two blocks is run backwards.
fn forge_cmac_random(key: &[u8], confirmation: &[u8], value: &[u8]) -> [u8; 16] {
    use aes::Aes128;
    use aes::cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};
    let key: [u8; 16] = key.try_into().unwrap();
    let cipher = Aes128::new(&key.into());
    let mut zero = [0; 16].into();
    cipher.encrypt_block(&mut zero);
    let l = u128::from_be_bytes(zero.into());
    let k1 = l << 1 ^ if l >> 127 == 1 { 0x87 } else { 0 };
    let mut last: aes::cipher::Array<u8, _> = <[u8; 16]>::try_from(confirmation).unwrap().into();
    cipher.decrypt_block(&mut last);
    let value = u128::from_be_bytes(value.try_into().unwrap());
    let mut first = (u128::from_be_bytes(last.into()) ^ k1 ^ value).to_be_bytes().into();
    cipher.decrypt_block(&mut first);
    first.into()
}

/// CVE-2020-26556 and CVE-2020-26557: a false device commits itself to anything, finds the short value out of the
/// provisioner's random value, and then the random value that fits its commitment. With CMAC-AES-128 that works, by
/// the specification; so it is not used where the device has anything else, and can be forbidden.
#[test]
fn a_malleable_commitment_does_not_get_a_false_device_in() {
    let show = Authentication::Output { action: OutputAction::Numeric, size: 3 };
    let output = OobActions { size: 3, actions: 1 << OutputAction::Numeric as u8 };
    let honest = DeviceConfig { output, ..DeviceConfig::new(1) }.capabilities();
    for algorithms in [Capabilities::CMAC_AES128, Capabilities::CMAC_AES128 | Capabilities::HMAC_SHA256] {
        let capabilities = Capabilities { algorithms, ..honest };
        let uses_hmac = algorithms & Capabilities::HMAC_SHA256 != 0;
        let mut attacker = Attacker::new([u8::from(uses_hmac), 0, 2, 3, 3]);
        attacker.capabilities = capabilities.to_octets();
        let (mut provisioner, key) = provisioner(capabilities, show.clone(), 5);
        provisioner.handle_pdu(NOW, &attacker.public_key());
        // The user reads the value from the true device.
        provisioner.enter_value(NOW, &OobValue::Number(471)).unwrap();
        let confirmation = provisioner.poll_transmit().unwrap()[1..].to_vec();
        let commitment = vec![0xaa; confirmation.len()];
        provisioner.handle_pdu(NOW, &pdu(5, &commitment));
        let random = provisioner.poll_transmit().unwrap()[1..].to_vec();
        let found = (0..1000)
            .map(AuthValue::from_number)
            .find(|value| attacker.confirmation(&key, true, value).of(&random) == confirmation);
        let value = found.expect("three digits are soon tried");
        let function = attacker.confirmation(&key, true, &value);
        let forged = if uses_hmac {
            // There is no way back through HMAC-SHA-256.
            vec![0x55; 32]
        } else {
            let octets = value.octets(Algorithm::CmacAes128).to_vec();
            forge_cmac_random(function.key(), &commitment, &octets).to_vec()
        };
        provisioner.handle_pdu(NOW, &pdu(6, &forged));
        let is_in = provisioner.poll_transmit().is_some_and(|said| said[0] == 7);
        assert_eq!(is_in, !uses_hmac, "CMAC-AES-128 is known to fall, HMAC-SHA-256 to stand");
        if uses_hmac {
            assert_eq!(failure(&mut provisioner), Some(ProvisionerFailure::ConfirmationFailed));
        }
    }
    // A false device that offers only what it can break is not taken where that is forbidden.
    let mut provisioner = Provisioner::new(0, [6; 32]);
    provisioner.handle_link_open(NOW);
    let weak = Capabilities { algorithms: Capabilities::CMAC_AES128, ..honest };
    provisioner.handle_pdu(NOW, &ProvisioningPdu::Capabilities(weak).encode());
    let choice = Choice { authentication: show, oob_public_key: None, allows_cmac: false, data: data() };
    assert_eq!(provisioner.choose(NOW, choice), Err(ChoiceError::NoAlgorithm));
}

/// CVE-2020-26557: what a failed session taught is of no use in the next.
#[test]
fn each_session_has_values_of_its_own() {
    let output = OobActions { size: 8, actions: 1 << OutputAction::Numeric as u8 };
    let mut device = Provisionee::new(DeviceConfig { output, ..DeviceConfig::new(1) }, [7; 32]);
    let attacker = Attacker::new([1, 0, 2, 3, 8]);
    let (mut values, mut keys) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        device.handle_link_open(NOW);
        device.handle_pdu(NOW, &pdu(0, &[0]));
        device.handle_pdu(NOW, &pdu(2, &attacker.start));
        device.handle_pdu(NOW, &attacker.public_key());
        let _ = device.poll_transmit();
        keys.push(device.poll_transmit().unwrap());
        device.handle_pdu(NOW, &pdu(5, &[1; 32]));
        let confirmation = device.poll_transmit().unwrap();
        assert!(!keys.contains(&confirmation));
        device.handle_pdu(NOW, &pdu(6, &[2; 32]));
        assert_eq!(refusal(&mut device), Some(ErrorCode::ConfirmationFailed), "and no random value");
        device.handle_link_end(NOW, mesh_proto::provisioning::LinkEnd::Closed(CloseReason::Fail));
        values.extend(std::iter::from_fn(|| device.poll_event()).filter_map(|event| match event {
            DeviceEvent::ShowValue { value, .. } => Some(value),
            _ => None,
        }));
    }
    assert_eq!(values.len(), 3);
    assert!(values[0] != values[1] && values[1] != values[2] && keys[0] != keys[1] && keys[1] != keys[2]);
}

/// A device that is to be authenticated cannot be talked out of it.
#[test]
fn a_device_that_requires_authentication_refuses_to_do_without() {
    let config = DeviceConfig {
        requires_oob: true,
        static_oob: Some(AuthValue::from_octets(&[1; 32])),
        ..DeviceConfig::new(1)
    };
    let capabilities = config.capabilities();
    assert_eq!((capabilities.algorithms, capabilities.oob_type), (2, 3));
    for (start, refused) in [
        ([1, 0, 0, 0, 0], Some(ErrorCode::InvalidFormat)),
        ([0, 0, 1, 0, 0], Some(ErrorCode::InvalidFormat)),
        ([0, 0, 0, 0, 0], Some(ErrorCode::InvalidFormat)),
        ([1, 0, 1, 0, 0], None),
    ] {
        let mut device = device(config.clone(), start, 8);
        assert_eq!(refusal(&mut device), refused, "{start:?}");
    }
    let (mut provisioner, _) =
        provisioner(capabilities, Authentication::Static(AuthValue::from_octets(&[1; 32])), 9);
    provisioner.cancel();
    assert_eq!(failure(&mut provisioner), Some(ProvisionerFailure::Cancelled));
}

/// CVE-2022-1041 and CVE-2022-1042: segments behind the end of what the first one promised.
#[test]
fn segments_behind_the_end_of_a_transaction_change_nothing() {
    let uuid = [3; 16];
    let beacon = UnprovisionedDevice { uuid, oob_information: 0, uri_hash: None };
    let provisionee = Provisionee::new(DeviceConfig::new(1), [1; 32]);
    let mut device = PbAdv::device(NOW, provisionee, beacon, PbAdvConfig::default(), [2; 32]);
    let mut say = |octets: &[u8]| {
        let data = [&[0, 0, 0, 1][..], octets].concat();
        device.handle_pdu(NOW, &Received { ad_type: AdType::PbAdv, data: &data, rssi: -30 });
    };
    say(&[&[0, 3][..], &uuid].concat());
    // Two octets are promised in one segment; or one segment too many; then come all the others.
    for start in [&[0, 0, 0, 2, 0x14, 0, 0][..], &[0, 63 << 2, 0, 65, 0x14], &[0, 2 << 2, 0, 65, 0x14]] {
        let padding = vec![7; if start[1] == 0 { 0 } else { 20 }];
        say(&[start, &padding].concat());
        for index in 1..64 {
            say(&[&[0, index << 2 | 2][..], &[0xee; 23]].concat());
        }
    }
    // The link is as it was: an Invite of the right length is answered.
    say(&[1, 0, 0, 2, 0x14, 0, 0]);
    let mut acks = 0;
    while let Some(sent) = device.poll_transmit() {
        acks += u32::from(sent.data.get(5) == Some(&1));
    }
    assert!(acks > 0);
}

/// What a provisioner may not say is answered with the code that is meant for it, and the session is over.
#[test]
fn each_error_has_its_code() {
    let invite = || pdu(0, &[0]);
    let start = || pdu(2, &[0, 0, 0, 0, 0]);
    let attacker = Attacker::new([0, 0, 0, 0, 0]);
    let cases: [(&str, Vec<Vec<u8>>, ErrorCode); 14] = [
        ("nothing", vec![vec![]], ErrorCode::InvalidPdu),
        ("a reserved type", vec![pdu(0x0e, &[])], ErrorCode::InvalidPdu),
        ("padding that is not zero", vec![pdu(0x40, &[0])], ErrorCode::InvalidPdu),
        ("records, which this device has not", vec![pdu(0x0c, &[])], ErrorCode::InvalidPdu),
        ("a long invitation", vec![pdu(0, &[0, 0])], ErrorCode::InvalidFormat),
        ("a start before the invitation", vec![start()], ErrorCode::UnexpectedPdu),
        ("a second invitation", vec![invite(), invite()], ErrorCode::UnexpectedPdu),
        ("what only a device says", vec![pdu(8, &[])], ErrorCode::UnexpectedPdu),
        ("a reserved algorithm", vec![invite(), pdu(2, &[2, 0, 0, 0, 0])], ErrorCode::InvalidFormat),
        ("a method it has not", vec![invite(), pdu(2, &[0, 0, 2, 0, 1])], ErrorCode::InvalidFormat),
        ("a key it has not", vec![invite(), pdu(2, &[0, 1, 0, 0, 0])], ErrorCode::InvalidFormat),
        ("a point beside the curve", vec![invite(), start(), pdu(3, &[1; 64])], ErrorCode::InvalidFormat),
        (
            "a confirmation of the other algorithm",
            vec![invite(), start(), attacker.public_key(), pdu(5, &[0; 32])],
            ErrorCode::InvalidFormat,
        ),
        (
            "a random value that does not fit",
            vec![invite(), start(), attacker.public_key(), pdu(5, &[0; 16]), pdu(6, &[0; 16])],
            ErrorCode::ConfirmationFailed,
        ),
    ];
    for (what, said, code) in cases {
        let mut device = Provisionee::new(DeviceConfig::new(1), [1; 32]);
        device.handle_link_open(NOW);
        for pdu in &said {
            device.handle_pdu(NOW, pdu);
        }
        assert_eq!(refusal(&mut device), Some(code), "{what}");
        let last = std::iter::from_fn(|| device.poll_event()).last();
        assert_eq!(last, Some(DeviceEvent::Failed(DeviceFailure::Refused(code))), "{what}");
        // Whatever comes then is unexpected, until the link is closed.
        device.handle_pdu(NOW, &invite());
        assert_eq!(refusal(&mut device), Some(ErrorCode::UnexpectedPdu), "{what}");
        assert_eq!(device.poll_event(), None, "a session fails once");
    }
}

/// The last step: the data is not what it should be.
#[test]
fn data_that_cannot_be_used_is_refused() {
    let attacker = Attacker::new([0, 0, 0, 0, 0]);
    let good = data().to_octets();
    let with = |at: usize, octets: &[u8]| {
        let mut data = good;
        data[at..at + octets.len()].copy_from_slice(octets);
        data
    };
    for (data, elements, code) in [
        (with(23, &[0x80, 0]), 1, Some(ErrorCode::InvalidData)),
        (with(23, &[0, 0]), 1, Some(ErrorCode::InvalidData)),
        (with(16, &[0x10, 0]), 1, Some(ErrorCode::InvalidData)),
        // Reserved flags are ignored (table 5.48).
        (with(18, &[0xfc]), 1, None),
        (with(23, &[0x7f, 0xff]), 2, Some(ErrorCode::CannotAssignAddresses)),
        (with(23, &[0x7f, 0xff]), 1, None),
        (good, 2, None),
    ] {
        for is_damaged in [false, true] {
            let config = DeviceConfig::new(elements);
            let mut attacker = Attacker::new(attacker.start);
            attacker.capabilities = config.capabilities().to_octets();
            let mut device = device(config, attacker.start, 9);
            device.handle_pdu(NOW, &attacker.public_key());
            let key = key_of(&device.poll_transmit().unwrap());
            let function = attacker.confirmation(&key, false, &AuthValue::NONE);
            device.handle_pdu(NOW, &pdu(5, &function.of(&[3; 16])));
            let _ = device.poll_transmit();
            device.handle_pdu(NOW, &pdu(6, &[3; 16]));
            let random = device.poll_transmit().unwrap()[1..].to_vec();
            let salt = function.provisioning_salt(&[3; 16], &random);
            let mut secured = Session::new(&attacker.key.ecdh_secret(&key), &salt).encrypt(&data);
            if is_damaged {
                secured[30] ^= 1;
            }
            device.handle_pdu(NOW, &pdu(7, &secured));
            let expected = if is_damaged { Some(ErrorCode::DecryptionFailed) } else { code };
            assert_eq!(refusal(&mut device), expected, "{data:?}");
            assert_eq!(device.is_done(), expected.is_none());
        }
    }
}

#[test]
fn whatever_a_device_gives_up_for_is_told_to_the_host() {
    for code in 1..=255 {
        let (mut provisioner, _) = provisioner(DeviceConfig::new(1).capabilities(), Authentication::NoOob, 1);
        provisioner.handle_pdu(NOW, &pdu(9, &[code]));
        assert_eq!(failure(&mut provisioner), Some(ProvisionerFailure::Device(code.into())));
        assert_eq!(provisioner.poll_close(), Some(CloseReason::Fail));
    }
    for nonsense in [pdu(9, &[0]), pdu(8, &[]), pdu(1, &[0; 11]), pdu(0, &[1]), vec![], vec![0xff; 300]] {
        let (mut provisioner, _) = provisioner(DeviceConfig::new(1).capabilities(), Authentication::NoOob, 1);
        provisioner.handle_pdu(NOW, &nonsense);
        assert_eq!(failure(&mut provisioner), Some(ProvisionerFailure::Protocol), "{nonsense:?}");
    }
}
