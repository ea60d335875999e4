//! The sample data of MshPRT §8.6 and §8.9: proxy configuration messages, and what proxies advertise.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use mesh_crypto::{NetKey, NetworkKeys};
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::bearer::proxy::{MessageType, segment};
use mesh_wire::bearer::proxy_service::{MESH_PROXY_SERVICE, ProxyIdentification};
use mesh_wire::proxy_configuration::{FilterType, ProxyConfiguration, ProxyConfigurationPdu};
use mesh_wire::{DecodeError, IvIndex};
use serde_json::Value;

use common::{bytes, vectors};

fn net_key(sample: &Value) -> NetKey {
    NetKey::new(bytes(&sample["net_key"]).try_into().unwrap())
}

#[test]
fn s8_9_proxy_configuration_messages_are_secured_as_the_samples() {
    let vectors = vectors();
    let samples = vectors["proxy_configuration"].as_array().unwrap();
    for sample in samples {
        let keys = NetworkKeys::flooding(&net_key(sample));
        let iv_index = IvIndex(u32::from_str_radix(sample["iv_index"].as_str().unwrap(), 16).unwrap());
        let octets = bytes(&sample["network_pdu"]);
        let pdu = ProxyConfigurationPdu::open(&octets, &keys, iv_index).unwrap();
        assert_eq!(pdu.seq.to_be_bytes()[..], bytes(&sample["seq"])[..]);
        assert_eq!(u16::from(pdu.src).to_be_bytes()[..], bytes(&sample["src"])[..]);
        assert_eq!(pdu.message[..], bytes(&sample["proxy_config_pdu"])[..]);
        assert_eq!(pdu.secure(&keys, iv_index)[..], octets[..]);
        let whole = segment(MessageType::ProxyConfiguration, &octets, 66);
        assert_eq!(whole, [bytes(&sample["proxy_pdu"])]);
        assert!(ProxyConfigurationPdu::open(&octets, &keys, IvIndex(iv_index.0 + 2)).is_err());
    }
    assert_eq!(samples.len(), 3);
    let message = |index: usize| ProxyConfiguration::decode(&bytes(&samples[index]["proxy_config_pdu"]));
    assert_eq!(message(0), Ok(ProxyConfiguration::SetFilterType(FilterType::AcceptList)));
    // Of Mesh Protocol 1.1, and so ignored, as what is reserved is.
    assert_eq!((message(1), message(2)), (Err(DecodeError::UnknownOpcode), Err(DecodeError::UnknownOpcode)));
}

#[test]
fn a_message_reads_back_and_a_broken_one_does_not() {
    let addresses = [1, 0x8001, 0xc000, 0xffff, 0].map(Address::from);
    for message in [
        ProxyConfiguration::SetFilterType(FilterType::RejectList),
        ProxyConfiguration::AddAddresses(addresses.into_iter().collect()),
        ProxyConfiguration::RemoveAddresses(addresses.into_iter().collect()),
        ProxyConfiguration::FilterStatus { filter_type: FilterType::RejectList, list_size: 0x0102 },
    ] {
        assert_eq!(ProxyConfiguration::decode(&message.encode()), Ok(message));
    }
    assert_eq!(ProxyConfiguration::decode(&[]), Err(DecodeError::TooShort));
    assert_eq!(ProxyConfiguration::decode(&[0, 2]), Err(DecodeError::Prohibited("FilterType")));
    assert_eq!(ProxyConfiguration::decode(&[1, 0xc0]), Err(DecodeError::TooShort));
    assert_eq!(ProxyConfiguration::decode(&[3, 0, 0, 1, 0]), Err(DecodeError::TooLong));
}

#[test]
fn s8_6_proxies_advertise_as_the_samples() {
    let vectors = vectors();
    let samples = vectors["advertising"].as_array().unwrap();
    let proxies = samples.iter().filter(|sample| sample["section"].as_str().unwrap().starts_with("8.6."));
    let mut seen = 0;
    for sample in proxies {
        let structure = bytes(&sample["ad_structure"]);
        let [length, 0x16, low, high, data @ ..] = &structure[..] else { panic!("no service data") };
        assert_eq!((usize::from(*length), [*low, *high]), (data.len() + 3, MESH_PROXY_SERVICE.to_le_bytes()));
        let identification = ProxyIdentification::decode(data).unwrap();
        assert_eq!(identification.encode()[..], *data);
        let key = net_key(sample);
        match identification {
            ProxyIdentification::NetworkId(id) => assert_eq!(id, key.network_id()),
            ProxyIdentification::NodeIdentity(identity) => {
                let address = UnicastAddress::new(0x1201).unwrap();
                assert_eq!(
                    identification,
                    ProxyIdentification::node_identity(&key, address, identity.random)
                );
                assert!(identification.is_node(&key, address));
                assert!(!identification.is_node(&key, UnicastAddress::new(0x1202).unwrap()));
            }
            // What Mesh Protocol 1.1 adds is read, and not made yet.
            ProxyIdentification::PrivateNetworkIdentity(_) | ProxyIdentification::PrivateNodeIdentity(_) => {}
        }
        assert!(ProxyIdentification::decode(&data[..data.len() - 1]).is_err());
        seen += 1;
    }
    assert_eq!(seen, 4);
}
