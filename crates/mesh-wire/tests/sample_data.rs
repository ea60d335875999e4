//! The sample data of MshPRT §8.3, §8.12 and §8.16 at the network and lower transport layers: every
//! intermediate value compared, in both directions.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use mesh_crypto::nonce::{Nonce, NonceFields};
use mesh_crypto::{FriendshipParameters, Mic, NetKey, NetworkKeys};
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::lower_transport::LowerTransportPdu;
use mesh_wire::network::{Header, NetworkPdu, ivi_nid};
use mesh_wire::{DecodeError, IvIndex, KeyIndex, Seq, SeqAuth, SeqZero, Ttl};
use serde_json::Value;

use common::{bytes, vectors};

fn number(value: &Value) -> u32 {
    u32::from_str_radix(value.as_str().unwrap(), 16).unwrap()
}

fn keys(message: &Value) -> NetworkKeys {
    let net_key = NetKey::new(bytes(&message["net_key"]).try_into().unwrap());
    match message["security_material"].as_str().unwrap() {
        "flooding" => NetworkKeys::flooding(&net_key),
        "directed" => NetworkKeys::directed(&net_key),
        "friendship" => {
            let field = |name: &str| u16::try_from(number(&message["friendship"][name])).unwrap();
            let parameters = FriendshipParameters {
                lpn_address: field("lpn_address"),
                friend_address: field("friend_address"),
                lpn_counter: field("lpn_counter"),
                friend_counter: field("friend_counter"),
            };
            NetworkKeys::friendship(&net_key, parameters)
        }
        other => panic!("no material called {other}"),
    }
}

/// Checks one network PDU of `message`.
fn check_network_pdu(message: &Value, pdu: &Value) {
    let keys = keys(message);
    assert_eq!(vec![keys.nid()], bytes(&message["nid"]));
    assert_eq!(keys.encryption_key().to_vec(), bytes(&message["encryption_key"]));
    assert_eq!(keys.privacy_key().to_vec(), bytes(&message["privacy_key"]));
    let iv_index = IvIndex(number(&message["iv_index"]));
    let ctl = message["ctl"] == 1;
    let lower = bytes(&pdu["lower_transport_pdu"]);
    let plain = NetworkPdu {
        ctl,
        ttl: Ttl::new(bytes(&message["ttl"])[0]).unwrap(),
        seq: Seq::new(number(&pdu["seq"])).unwrap(),
        src: UnicastAddress::new(u16::try_from(number(&message["src"])).unwrap()).unwrap(),
        dst: Address::from(u16::try_from(number(&message["dst"])).unwrap()),
        transport_pdu: lower.clone().into(),
    };
    let fields = NonceFields { seq: plain.seq.into(), src: plain.src.into(), iv_index: iv_index.0 };
    let nonce = Nonce::network(bytes(&pdu["ctl_ttl"])[0], fields);
    assert_eq!(nonce.as_bytes().to_vec(), bytes(&pdu["network_nonce"]));
    let mic = if ctl { Mic::Bits64 } else { Mic::Bits32 };
    let content = [&u16::from(plain.dst).to_be_bytes()[..], &lower].concat();
    let secured = mesh_crypto::encrypt(keys.encryption_key(), &nonce, &content, &[], mic);
    assert_eq!(secured, [bytes(&pdu["enc_dst_transport_pdu"]), bytes(&pdu["net_mic"])].concat());
    let privacy_plaintext = [&[0; 5][..], &iv_index.0.to_be_bytes(), &secured[..7]].concat();
    assert_eq!(privacy_plaintext, bytes(&pdu["privacy_plaintext"]));
    let random = secured[..7].try_into().unwrap();
    assert_eq!(keys.pecb(iv_index.0, random).to_vec(), bytes(&pdu["pecb"]));
    let header: [u8; 6] = bytes(&pdu["ctl_ttl_seq_src"]).try_into().unwrap();
    assert_eq!(keys.obfuscate(header, iv_index.0, random).to_vec(), bytes(&pdu["obfuscated_header"]));

    let octets = bytes(&pdu["network_pdu"]);
    assert_eq!(plain.secure(&keys, iv_index).to_vec(), octets);
    assert_eq!(ivi_nid(&octets), Some((iv_index.ivi(), keys.nid())));
    assert_eq!(vec![octets[0]], bytes(&pdu["ivi_nid"]));
    let shown = Header::deobfuscate(&octets, &keys, iv_index).unwrap();
    assert_eq!(shown, plain.header());
    assert_eq!(shown.decrypt(&octets, &keys, iv_index).unwrap(), plain);

    let decoded = LowerTransportPdu::decode(ctl, &lower).unwrap();
    assert_eq!((decoded.ctl(), decoded.encode().to_vec()), (ctl, lower));
    check_lower(message, pdu, &decoded);
}

fn check_lower(message: &Value, pdu: &Value, decoded: &LowerTransportPdu) {
    use mesh_wire::lower_transport::{KeyHint, SegmentedKind};
    // Messages #8, #11, #13, #15 and #17 are those of #6 and #16 once more, on their way.
    if message.get("upper_transport_pdu").is_none() && message["ctl"] == 0 {
        return;
    }
    let key = || match message["akf"].as_u64().unwrap() {
        0 => KeyHint::Device,
        _ => KeyHint::Application(bytes(&message["aid"])[0]),
    };
    match decoded {
        LowerTransportPdu::UnsegmentedAccess(hint, upper) => {
            assert_eq!((*hint, upper.to_vec()), (key(), bytes(&message["upper_transport_pdu"])));
        }
        LowerTransportPdu::UnsegmentedControl(opcode, parameters) => {
            assert_eq!(vec![*opcode], bytes(&message["transport_control_opcode"]));
            assert_eq!(parameters.to_vec(), bytes(&message["upper_transport_control_params"]));
        }
        LowerTransportPdu::Segment(segment) => {
            if let SegmentedKind::Access { key: hint, szmic } = segment.kind {
                assert_eq!((hint, u64::from(szmic)), (key(), message["szmic"].as_u64().unwrap()));
            }
            assert_eq!(u64::from(segment.seg_n), message["seg_n"].as_u64().unwrap());
            let arrived = SeqAuth {
                iv_index: IvIndex(number(&message["iv_index"])),
                seq: Seq::new(number(&pdu["seq"])).unwrap(),
            };
            let seq_auth = SeqAuth::of_segment(arrived, segment.seq_zero).unwrap();
            assert_eq!(u32::from(seq_auth.seq), number(&message["seq"]), "SeqAuth is the first segment's");
        }
        LowerTransportPdu::SegmentAck(ack) => {
            let decoded = &message["decoded"];
            assert_eq!(u32::from(u16::from(ack.seq_zero)), number(&decoded["seq_zero"]));
            assert_eq!(ack.block_ack, number(&decoded["block_ack"]));
            assert_eq!(u32::from(ack.on_behalf), number(&decoded["obo"]));
        }
    }
}

#[test]
fn every_sample_message_is_reproduced() {
    let vectors = vectors();
    let mut checked = Vec::new();
    for section in ["mesh_messages", "subnet_bridge_messages", "directed_forwarding_messages"] {
        let mut pdus = 0;
        for message in vectors[section].as_array().unwrap() {
            for pdu in message["network_pdus"].as_array().unwrap() {
                check_network_pdu(message, pdu);
                pdus += 1;
            }
        }
        checked.push((section, vectors[section].as_array().unwrap().len(), pdus));
    }
    let wanted = [
        ("mesh_messages", 24, 26),
        ("subnet_bridge_messages", 12, 15),
        ("directed_forwarding_messages", 63, 75),
    ];
    assert_eq!(checked, wanted);
}

/// Message #11 as Mesh Profile 1.0 printed it: secured by the friendship material of §8.2.3.
#[test]
fn the_variant_of_mesh_profile_1_0_is_reproduced() {
    let vectors = vectors();
    let message =
        (vectors["mesh_messages"].as_array().unwrap().iter()).find(|m| m["section"] == "8.3.11").unwrap();
    let variant = &vectors["variants"][0];
    let octets = bytes(&variant["network_pdu"]);
    let iv_index = IvIndex(number(&message["iv_index"]));
    let keys = keys(message);
    let header = Header::deobfuscate(&octets, &keys, iv_index).unwrap();
    let pdu = header.decrypt(&octets, &keys, iv_index).unwrap();
    assert_eq!(pdu.transport_pdu.to_vec(), bytes(&variant["transport_pdu"]));
    assert_eq!(pdu.secure(&keys, iv_index).to_vec(), octets);
}

#[test]
fn two_key_indexes_share_three_octets() {
    // Message #6 of the samples: NetKey index 456, AppKey index 123.
    let pair = KeyIndex::pack_pair(KeyIndex::new(0x456).unwrap(), KeyIndex::new(0x123).unwrap());
    assert_eq!(pair, [0x56, 0x34, 0x12]);
    assert_eq!(KeyIndex::unpack_pair(pair), (KeyIndex::new(0x456).unwrap(), KeyIndex::new(0x123).unwrap()));
}

#[test]
fn seq_auth_reaches_back_over_the_8192_boundary_and_never_before_zero() {
    let at = |seq| SeqAuth { iv_index: IvIndex(0), seq: Seq::new(seq).unwrap() };
    assert_eq!(SeqAuth::of_segment(at(0x2000), SeqZero::truncate(0x1fff)), Some(at(0x1fff)));
    assert_eq!(SeqAuth::of_segment(at(0x2000), SeqZero::truncate(0x0001)), Some(at(0x0001)));
    assert_eq!(SeqAuth::of_segment(at(5), SeqZero::truncate(6)), None);
}

#[test]
fn a_changed_pdu_or_another_key_is_refused() {
    let vectors = vectors();
    let message = &vectors["mesh_messages"][0];
    let octets = bytes(&message["network_pdus"][0]["network_pdu"]);
    let (keys, iv_index) = (keys(message), IvIndex(number(&message["iv_index"])));
    for bit in 8..octets.len() * 8 {
        let mut changed = octets.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let opened = Header::deobfuscate(&changed, &keys, iv_index)
            .and_then(|header| header.decrypt(&changed, &keys, iv_index));
        assert!(opened.is_err(), "bit {bit}");
    }
    let other = NetworkKeys::directed(&NetKey::new([7; 16]));
    let opened =
        Header::deobfuscate(&octets, &other, iv_index).and_then(|h| h.decrypt(&octets, &other, iv_index));
    assert!(matches!(opened, Err(DecodeError::Mic | DecodeError::Prohibited("SRC"))));
}
