//! The friendship of the sample data (MshPRT §8.3.1 to §8.3.17), message by message, with this stack on either side.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use clock::Instant;
use mesh_crypto::{AppKey, DevKey, FriendshipParameters, NetKey, NetworkKeys};
use mesh_proto::access::Element;
use mesh_proto::bearer::{Received, Transmission};
use mesh_proto::foundation::Product;
use mesh_proto::friend::FriendSettings;
use mesh_proto::keys::MessageKey;
use mesh_proto::low_power::LowPowerSettings;
use mesh_proto::network::Relay;
use mesh_proto::node::{
    Command, Event, Node, NodeConfig, NodeOptions, OutgoingMessage, Provisioned, RecordKey,
};
use mesh_proto::upper_transport::Destination;
use mesh_wire::access::Opcode;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::bearer::AdType;
use mesh_wire::foundation::ConfigMessage;
use mesh_wire::friendship::{Criteria, FriendRequest, FriendshipMessage, PollTimeout};
use mesh_wire::lower_transport::LowerTransportPdu;
use mesh_wire::network::{Header, NetworkPdu, ivi_nid};
use mesh_wire::{CompanyId, IvIndex, KeyIndex, ModelId, Seq, Transmit, Ttl};
use serde_json::Value;

const VECTORS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/mesh/vectors.json"));
const LPN: u16 = 0x1201;
const FRIEND: u16 = 0x2345;
const FRIEND_COUNTER: u16 = 0x072f;
const IV_INDEX: IvIndex = IvIndex(0x1234_5678);
const MODEL: ModelId = ModelId::Vendor(CompanyId(0xffff), 1);
const HELLO: Opcode = Opcode::Vendor(1, CompanyId(0xffff));

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

/// The network PDUs of message #`number`.
fn sample(number: usize) -> Vec<Vec<u8>> {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let message = &vectors["mesh_messages"][number - 1];
    assert_eq!(message["verified"], true);
    let pdus = message["network_pdus"].as_array().unwrap();
    pdus.iter().map(|pdu| bytes(pdu["network_pdu"].as_str().unwrap())).collect()
}

fn net_key() -> NetKey {
    NetKey::new(bytes("7dd7364cd842ad18c17c2b820c84c3d6").try_into().unwrap())
}

fn friendship() -> NetworkKeys {
    let parameters = FriendshipParameters {
        lpn_address: LPN,
        friend_address: FRIEND,
        lpn_counter: 0,
        friend_counter: FRIEND_COUNTER,
    };
    NetworkKeys::friendship(&net_key(), parameters)
}

fn node(address: u16, next_seq: u32, options: NodeOptions) -> Node {
    let transmit = Transmit::from_octet(0);
    let provisioned = Provisioned {
        net_key: net_key(),
        net_key_index: KeyIndex::new(0x456).unwrap(),
        iv_index: IV_INDEX,
        address: UnicastAddress::new(address).unwrap(),
        dev_key: DevKey::new(bytes("9d6dd0e96eb25dc19a40ed9914f8f03f").try_into().unwrap()),
    };
    let config = NodeConfig {
        product: Product { company: CompanyId(0xffff), product: 1, version: 1 },
        elements: vec![Element::new(0).with_host(MODEL, &[HELLO])],
        network_transmit: transmit,
        relay: Relay { enabled: true, retransmit: transmit },
        default_ttl: Ttl::new(0x0b).unwrap(),
        seed: [7; 32],
        options,
    };
    let mut sequence = IV_INDEX.0.to_be_bytes().to_vec();
    sequence.extend(Seq::new(next_seq).unwrap().to_be_bytes());
    Node::restore(Instant::ORIGIN, provisioned, config, [(RecordKey::Sequence, sequence)]).unwrap()
}

/// A node, its time, and what it sends.
struct Bench {
    now: Instant,
    node: Node,
}

impl Bench {
    fn settle(&mut self) {
        self.node.take_records();
        self.node.handle_stored();
    }

    fn hear(&mut self, pdu: &[u8], rssi: i8) {
        let received = Received { ad_type: AdType::MeshMessage, data: pdu, rssi };
        self.node.handle_pdu(self.now, &received);
    }

    /// The next network PDU, and how long it took.
    fn next(&mut self) -> (Vec<u8>, Duration) {
        let start = self.now;
        loop {
            self.settle();
            while let Some(Transmission { ad_type, data, .. }) = self.node.poll_transmit() {
                if ad_type == AdType::MeshMessage {
                    return (data.to_vec(), self.now - start);
                }
            }
            self.now = self.now.max(self.node.poll_timeout().unwrap());
            assert!(self.now - start < Duration::from_secs(60), "it sends nothing");
            self.node.handle_timeout(self.now);
        }
    }

    fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.node.poll_timeout().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.node.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    fn opens(&self, pdu: &[u8], keys: &NetworkKeys) -> NetworkPdu {
        assert_eq!(ivi_nid(pdu).unwrap().1, keys.nid());
        let header = Header::deobfuscate(pdu, keys, IV_INDEX).unwrap();
        header.decrypt(pdu, keys, IV_INDEX).unwrap()
    }
}

#[test]
fn the_low_power_node_of_the_samples() {
    let settings = LowPowerSettings {
        net_key_index: KeyIndex::new(0x456).unwrap(),
        criteria: Criteria::new(2, 1, 3).unwrap(),
        receive_delay_ms: 0x50,
        poll_timeout: PollTimeout::new(0x05_7e40).unwrap(),
        poll_interval: Duration::from_secs(60),
    };
    let node = node(LPN, 1, NodeOptions { low_power: Some(settings), ..NodeOptions::default() });
    let mut bench = Bench { now: Instant::ORIGIN, node };
    bench.node.handle_command(bench.now, Command::LowPower(true)).unwrap();
    assert_eq!(bench.next().0, sample(1)[0]);
    // Two offer; the first has the smaller window and hears better.
    bench.wait(Duration::from_millis(215));
    bench.hear(&sample(2)[0], -60);
    bench.wait(Duration::from_millis(200));
    bench.hear(&sample(3)[0], -60);
    let (poll, wait) = bench.next();
    assert_eq!(poll, sample(4)[0]);
    assert!(wait < Duration::from_secs(1) - Duration::from_millis(200), "within a second of the offer");
    let answer = |bench: &mut Bench, pdu: &[u8]| {
        assert!(!bench.node.is_listening());
        bench.wait(Duration::from_millis(0x50));
        assert!(bench.node.is_listening());
        bench.hear(pdu, -60);
    };
    answer(&mut bench, &sample(5)[0]);
    assert_eq!(bench.node.friend().map(u16::from), Some(FRIEND));
    // The samples leave out that a Friend is told what is listened to; here that takes the place of the poll that
    // was not answered.
    let (add, _) = bench.next();
    let add = bench.opens(&add, &friendship());
    assert_eq!((u32::from(add.seq), add.transport_pdu.to_vec()), (3, vec![7, 0, 0xff, 0xfe, 0xff, 0xff]));
    let confirm = FriendshipMessage::SubscriptionListConfirm { transaction: 0 };
    let confirm = NetworkPdu {
        ctl: true,
        ttl: Ttl::ZERO,
        seq: Seq::new(0x01_4837).unwrap(),
        src: UnicastAddress::new(FRIEND).unwrap(),
        dst: Address::from(LPN),
        transport_pdu: LowerTransportPdu::UnsegmentedControl(confirm.opcode(), confirm.encode()).encode(),
    };
    answer(&mut bench, &confirm.secure(&friendship(), IV_INDEX));
    assert_eq!(bench.next().0, sample(12)[0]);
    answer(&mut bench, &sample(13)[0]);
    assert_eq!(bench.next().0, sample(14)[0]);
    answer(&mut bench, &sample(15)[0]);
    // Message #16 is the answer to what has become whole. Here it goes by the Friend, after one more poll.
    let poll = bench.next().0;
    assert_eq!(bench.opens(&poll, &friendship()).transport_pdu.to_vec(), [1, 1]);
    let status = bench.next().0;
    let status = bench.opens(&status, &friendship());
    assert_eq!((u16::from(status.dst), u8::from(status.ttl), u32::from(status.seq)), (3, 0x0b, 7));
    let key = AppKey::new(bytes("63964771734fbd76e3b40519d1d94a48").try_into().unwrap());
    let (net_key_index, index) = (KeyIndex::new(0x456).unwrap(), KeyIndex::new(0x123).unwrap());
    let again = Command::Configure(ConfigMessage::AppKeyAdd { net_key_index, index, key: key.clone() });
    let answer = bench.node.handle_command(bench.now, again).unwrap();
    assert!(format!("{answer:?}").contains("Success"), "the node has that key: {answer:?}");
}

/// Makes as many offers to another node as the Friend of the samples has made before.
fn offer_to_others(bench: &mut Bench, flooding: &NetworkKeys) {
    for count in 0..FRIEND_COUNTER {
        let request = FriendshipMessage::Request(FriendRequest {
            criteria: Criteria::new(0, 0, 1).unwrap(),
            receive_delay_ms: 10,
            poll_timeout: PollTimeout::MIN,
            previous: None,
            elements: 1,
            lpn_counter: count,
        });
        let pdu = NetworkPdu {
            ctl: true,
            ttl: Ttl::ZERO,
            seq: Seq::new(count.into()).unwrap(),
            src: UnicastAddress::new(0x0100).unwrap(),
            dst: Address::from(0xfffd),
            transport_pdu: LowerTransportPdu::UnsegmentedControl(request.opcode(), request.encode()).encode(),
        };
        bench.hear(&pdu.secure(flooding, IV_INDEX), -60);
        bench.next();
    }
}

#[test]
fn the_friend_of_the_samples() {
    let settings = FriendSettings { receive_window_ms: 0x32, queue_size: 8, ..FriendSettings::default() };
    // Each offer takes one sequence number; that of the samples is the 1,840th of its node.
    let first_seq = 0x01_4820 - u32::from(FRIEND_COUNTER);
    let options = NodeOptions { friend: Some(settings), ..NodeOptions::default() };
    let mut bench = Bench { now: Instant::ORIGIN, node: node(FRIEND, first_seq, options) };
    let flooding = NetworkKeys::flooding(&net_key());
    offer_to_others(&mut bench, &flooding);
    bench.hear(&sample(1)[0], -70);
    let (offer, delay) = bench.next();
    let offer = bench.opens(&offer, &flooding);
    // Message #2 but for the size of the queue, which the samples make smaller than the request allows.
    assert_eq!((u32::from(offer.seq), offer.transport_pdu.to_vec()), (0x01_4820, bytes("04320820ba072f")));
    assert_eq!(delay, Duration::from_millis(215));
    // The Friend of the samples sends something else meanwhile.
    let (net_key_index, index) = (KeyIndex::new(0x456).unwrap(), KeyIndex::ZERO);
    let key = AppKey::new([9; 16]);
    let add = Command::Configure(ConfigMessage::AppKeyAdd { net_key_index, index, key });
    bench.node.handle_command(bench.now, add).unwrap();
    for _ in 0..0x13 {
        let message = OutgoingMessage {
            element: 0,
            destination: Destination::Address(Address::from(0xc000)),
            key: MessageKey::App(index),
            ttl: None,
            payload: HELLO.with(&[]),
            segmented: false,
        };
        bench.node.handle_command(bench.now, Command::Send(message)).unwrap();
        bench.next();
    }
    let window = Duration::from_millis(0x50);
    // The friendship begins with a poll that is under its material already.
    bench.hear(&sample(4)[0], -70);
    assert_eq!(bench.next(), (sample(5)[0].clone(), window));
    let with = UnicastAddress::new(LPN).unwrap();
    let role = mesh_proto::node::FriendshipRole::Friend;
    let events: Vec<Event> = std::iter::from_fn(|| bench.node.poll_event()).collect();
    assert!(events.contains(&Event::Friendship { with, role, has_begun: true }), "{events:?}");
    // Of message #6 the first segment is lost; this node relays the other, as #17 is relayed by it.
    bench.hear(&sample(6)[1], -70);
    let relayed = bench.next().0;
    assert_eq!(u8::from(bench.opens(&relayed, &flooding).ttl), 3);
    let (ack, delay) = bench.next();
    assert_eq!((ack, delay), (sample(7)[0].clone(), Duration::from_millis(90)));
    bench.hear(&sample(8)[0], -70);
    let relayed = bench.next().0;
    assert_eq!(u8::from(bench.opens(&relayed, &flooding).ttl), 3);
    assert_eq!(bench.next().0, sample(9)[0]);
    for (poll, answer) in [(10, 11), (12, 13), (14, 15)] {
        bench.hear(&sample(poll)[0], -70);
        assert_eq!(bench.next(), (sample(answer)[0].clone(), window), "message #{poll}");
    }
    bench.hear(&sample(16)[0], -70);
    assert_eq!(bench.next().0, sample(17)[0]);
}
