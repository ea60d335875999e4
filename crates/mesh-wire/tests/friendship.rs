//! The transport control messages of friendship: the sample data of MshPRT §8.3, and what is prohibited.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::beacon::NetworkFlags;
use mesh_wire::friendship::{Criteria, FriendOffer, FriendRequest, FriendshipMessage as M, PollTimeout};
use mesh_wire::{DecodeError, IvIndex};
use serde_json::Value;

const VECTORS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/mesh/vectors.json"));

fn unicast(address: u16) -> UnicastAddress {
    UnicastAddress::new(address).unwrap()
}

/// The messages whose opcode is one of friendship's, by their section.
fn samples() -> Vec<(String, u8, Vec<u8>)> {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    (vectors["mesh_messages"].as_array().unwrap().iter())
        .filter_map(|message| {
            let opcode = u8::from_str_radix(&text(&message["transport_control_opcode"])?, 16).unwrap();
            let parameters = hex::decode(text(&message["upper_transport_control_params"])?).unwrap();
            M::has_opcode(opcode).then(|| (text(&message["section"]).unwrap(), opcode, parameters))
        })
        .collect()
}

#[test]
fn the_sample_messages_are_read_and_written() {
    let update = |flags: u8, iv_index, more_data| M::Update {
        flags: NetworkFlags::from_octet(flags),
        iv_index: IvIndex(iv_index),
        more_data,
    };
    let expected = |section: &str| match section {
        "8.3.1" => M::Request(FriendRequest {
            criteria: Criteria::new(2, 1, 3).unwrap(),
            receive_delay_ms: 0x50,
            poll_timeout: PollTimeout::new(0x05_7e40).unwrap(),
            previous: None,
            elements: 1,
            lpn_counter: 0,
        }),
        "8.3.2" => M::Offer(FriendOffer {
            receive_window_ms: 0x32,
            queue_size: 3,
            subscription_list_size: 8,
            rssi: -70,
            friend_counter: 0x072f,
        }),
        "8.3.3" => M::Offer(FriendOffer {
            receive_window_ms: 0xfa,
            queue_size: 2,
            subscription_list_size: 5,
            rssi: -90,
            friend_counter: 0x000a,
        }),
        "8.3.4" => M::Poll { fsn: false },
        "8.3.5" => update(0, 0x1234_5678, false),
        _ => panic!("{section}"),
    };
    let mut checked = 0;
    for (section, opcode, parameters) in samples() {
        let decoded = M::decode(opcode, &parameters).unwrap();
        assert_eq!((decoded.opcode(), decoded.encode().to_vec()), (opcode, parameters), "{section}");
        if ["8.3.1", "8.3.2", "8.3.3", "8.3.4", "8.3.5"].contains(&section.as_str()) {
            assert_eq!(decoded, expected(&section));
        } else {
            assert!(matches!(decoded, M::Poll { fsn: _ } | M::Update { .. }), "{section}: {decoded:?}");
        }
        checked += 1;
    }
    assert_eq!(checked, 8, "all of them");
}

#[test]
fn the_messages_without_samples_have_the_layout_of_the_tables() {
    let addresses = || [Address::from(0xc000), Address::from(0x8123)].into_iter().collect();
    for (message, octets) in [
        (M::Clear { lpn: unicast(0x1201), lpn_counter: 0x0102 }, &[0x12, 0x01, 0x01, 0x02][..]),
        (M::ClearConfirm { lpn: unicast(0x1201), lpn_counter: 0x0102 }, &[0x12, 0x01, 0x01, 0x02]),
        (M::SubscriptionListAdd { transaction: 7, addresses: addresses() }, &[7, 0xc0, 0x00, 0x81, 0x23]),
        (M::SubscriptionListRemove { transaction: 8, addresses: addresses() }, &[8, 0xc0, 0x00, 0x81, 0x23]),
        (M::SubscriptionListConfirm { transaction: 9 }, &[9]),
    ] {
        assert_eq!(message.encode().to_vec(), octets);
        assert_eq!(M::decode(message.opcode(), octets), Ok(message));
    }
}

#[test]
fn what_is_prohibited_is_refused() {
    use DecodeError::{Prohibited, TooLong, TooShort, UnknownOpcode};
    let request = [0x4b, 0x50, 0x05, 0x7e, 0x40, 0, 0, 1, 0, 0];
    let changed = |at: usize, octets: &[u8]| {
        let mut request = request;
        request[at..at + octets.len()].copy_from_slice(octets);
        request.to_vec()
    };
    for (opcode, parameters, error) in [
        (0, vec![], UnknownOpcode),
        (10, vec![0; 3], UnknownOpcode),
        (1, vec![2], Prohibited("Padding")),
        (1, vec![], TooShort),
        (1, vec![0, 0], TooLong),
        (2, vec![0, 0, 0, 0, 0, 2], Prohibited("MD")),
        (2, vec![0, 0, 0, 0, 0], TooShort),
        (3, changed(0, &[0x48]), Prohibited("MinQueueSizeLog")),
        (3, changed(1, &[9]), Prohibited("ReceiveDelay")),
        (3, changed(2, &[0, 0, 9]), Prohibited("PollTimeout")),
        (3, changed(2, &[0x34, 0xbc, 0]), Prohibited("PollTimeout")),
        (3, changed(5, &[0xc0, 0]), Prohibited("PreviousAddress")),
        (3, changed(7, &[0]), Prohibited("NumElements")),
        (4, vec![0, 1, 1, 0, 0, 0], Prohibited("ReceiveWindow")),
        (5, vec![0, 0, 0, 0], Prohibited("unicast address")),
        (6, vec![0xc0, 0, 0, 0], Prohibited("unicast address")),
        (7, vec![0, 0, 1], Prohibited("AddressList")),
        (8, vec![0, 0xc0], TooShort),
        (7, vec![0xc0; 13], TooLong),
        (9, vec![], TooShort),
    ] {
        assert_eq!(M::decode(opcode, &parameters), Err(error), "{opcode} {parameters:?}");
    }
    assert!(M::decode(3, &request).is_ok());
    assert_eq!((Criteria::new(4, 0, 1), Criteria::new(0, 0, 0), Criteria::new(0, 4, 1)), (None, None, None));
}

/// The friendship of the samples: the factors of message #1 with the windows and strengths of #2 and #3.
#[test]
fn the_offer_delay_is_by_window_and_strength_and_never_below_100_ms() {
    let criteria = Criteria::new(2, 1, 3).unwrap();
    assert_eq!(criteria.min_queue_size(), 8);
    // 1.5 × 50 + 2 × 70 and 1.5 × 250 + 2 × 90.
    assert_eq!(criteria.local_delay_ms(0x32, -70), 215);
    assert_eq!(criteria.local_delay_ms(0xfa, -90), 555);
    assert_eq!(criteria.offer_delay(0x32, -70), Duration::from_millis(215));
    assert_eq!(criteria.offer_delay(10, -20), Duration::from_millis(100));
    assert_eq!(criteria.offer_delay(10, 20), Duration::from_millis(100));
    // 2.5 × 255 + 2.5 × 128
    assert_eq!(Criteria::new(3, 3, 7).unwrap().offer_delay(255, -128), Duration::from_micros(957_000));
    assert_eq!(PollTimeout::of(Duration::from_millis(1999)).steps(), 19);
    assert_eq!(PollTimeout::of(Duration::ZERO), PollTimeout::MIN);
    assert_eq!(PollTimeout::of(Duration::MAX), PollTimeout::MAX);
    assert_eq!(PollTimeout::MIN.duration(), Duration::from_secs(1));
}
