//! A node takes anything: under its keys and not, random and almost right.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use clock::Instant;
use common::{APP, Medium, NET_KEY, client, dev_key, lamp, to, unicast};
use mesh_crypto::{Mic, NetworkKeys};
use mesh_models::messages::{OnOffGet, OnOffSet, OnOffStatus};
use mesh_proto::Discard;
use mesh_proto::bearer::Received;
use mesh_proto::keys::{Keys, MessageKey};
use mesh_proto::node::{Command, Node};
use mesh_proto::upper_transport::{Destination, Envelope, secure};
use mesh_wire::address::Address;
use mesh_wire::bearer::AdType;
use mesh_wire::lower_transport::LowerTransportPdu;
use mesh_wire::network::NetworkPdu;
use mesh_wire::{IvIndex, KeyIndex, Seq, SeqAuth, Ttl};

const IV_INDEX: IvIndex = IvIndex(7);

/// A small generator, so that the run is the same everywhere (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn up_to(&mut self, most: usize) -> Vec<u8> {
        let length = 1 + self.below(most);
        self.octets(length)
    }

    fn octets(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

fn receive(node: &mut Node, now: Instant, data: &[u8]) {
    node.handle_pdu(now, &Received { ad_type: AdType::MeshMessage, data, rssi: -70 });
    while node.poll_timeout().is_some_and(|at| at <= now) {
        node.handle_timeout(now);
    }
    while node.poll_transmit().is_some() {}
    while node.poll_event().is_some() {}
}

/// The node still does what it should.
fn assert_serving(lamp: Node, now: Instant) {
    let mut mesh = Medium::full(vec![client(0x0700), lamp]);
    mesh.now = now + Duration::from_secs(30);
    for (tid, on) in [(200, true), (201, false), (202, true)] {
        mesh.send(0, to(2, MessageKey::App(APP), OnOffSet::new(on, tid, None).encode()));
        mesh.run(Duration::from_secs(1));
        assert_eq!(mesh.is_on(1), on);
        assert_eq!(mesh.messages(0).len(), 1);
    }
}

#[test]
fn ten_thousand_pdus_under_no_key_leave_a_node_serving() {
    let mut random = Random(1);
    let mut lamp = lamp(2);
    let mut now = Instant::ORIGIN;
    let flooding = NetworkKeys::flooding(&NET_KEY);
    for round in 0..10_000 {
        now += Duration::from_millis(3);
        let length = random.below(40);
        let mut data = random.octets(length);
        // Half of them carry the right NID and IVI, so that they get as far as the keys.
        if round % 2 == 0 && !data.is_empty() {
            data[0] = u8::from(IV_INDEX.ivi()) << 7 | flooding.nid();
        }
        receive(&mut lamp, now, &data);
    }
    assert_serving(lamp, now);
}

#[test]
fn ten_thousand_pdus_under_the_network_key_leave_a_node_serving() {
    let mut random = Random(2);
    let mut lamp = lamp(2);
    let mut now = Instant::ORIGIN;
    let flooding = NetworkKeys::flooding(&NET_KEY);
    for round in 0..10_000_u32 {
        now += Duration::from_millis(7);
        let ctl = random.below(2) == 0;
        let most = if ctl { 12 } else { 16 };
        let length = 1 + random.below(most);
        let dst = [0x0002, 0xffff, 0xfffe, 0xc001, 0x0003][random.below(5)];
        let pdu = NetworkPdu {
            ctl,
            ttl: Ttl::new(u8::try_from(random.below(128)).unwrap()).unwrap(),
            seq: Seq::new(round).unwrap(),
            src: unicast(u16::try_from(0x0100 + random.below(6)).unwrap()),
            dst: Address::from(dst),
            transport_pdu: random.octets(length).into(),
        };
        receive(&mut lamp, now, &pdu.secure(&flooding, IV_INDEX));
    }
    assert_serving(lamp, now);
}

/// Found by the test below: answers of several segments to one peer that acknowledges nothing took all the room
/// that other answers need.
#[test]
fn a_peer_that_asks_and_never_acknowledges_does_not_silence_a_node() {
    let mut mesh = Medium::full(vec![client(0x0700), lamp(2)]);
    let command = Command::AddDeviceKey { address: unicast(2), elements: 1, key: dev_key(2) };
    mesh.nodes[0].handle_command(mesh.now, command).unwrap();
    let ask = to(2, MessageKey::RemoteDevice, vec![0x80, 0x08, 0x00]);
    for _ in 0..400 {
        mesh.nodes[0].handle_command(mesh.now, Command::Send(ask.clone())).unwrap();
        let asked = mesh.nodes[0].poll_transmit().unwrap();
        let received = Received { ad_type: asked.ad_type, data: &asked.data, rssi: -50 };
        mesh.now += Duration::from_millis(50);
        mesh.nodes[1].handle_timeout(mesh.now);
        mesh.nodes[1].handle_pdu(mesh.now, &received);
        while mesh.nodes[1].poll_transmit().is_some() {}
    }
    mesh.send(0, to(2, MessageKey::App(APP), OnOffGet {}.encode()));
    mesh.run(Duration::from_secs(1));
    let statuses = mesh.messages(0).into_iter().filter(|(opcode, ..)| *opcode == OnOffStatus::OPCODE).count();
    assert_eq!(statuses, 1);
}

#[test]
fn ten_thousand_messages_under_the_device_key_leave_a_node_serving() {
    let mut random = Random(3);
    let mut lamp = lamp(2);
    let mut now = Instant::ORIGIN;
    let flooding = NetworkKeys::flooding(&NET_KEY);
    // What a configuration client holds: the lamp's device key as its own would be, for the nonce is the same.
    let keys = Keys::new(dev_key(2), KeyIndex::ZERO, NET_KEY);
    // Requests that would rightly take the lamp out of service are left out, so that it can be asked after.
    let harmful = [0x8000_u16, 0x8041, 0x8049, 0x803f, 0x8027, 0x8024, 0x800d, 0x8040];
    let valid = [OnOffGet {}.encode(), OnOffSet::new(true, 3, None).encode(), vec![0x80, 0x08, 0x00]];
    let mut sent = 0;
    for round in 0..20_000_u32 {
        now += Duration::from_millis(7);
        let mut payload = valid[random.below(valid.len())].clone();
        match random.below(4) {
            0 => payload = random.up_to(11),
            1 => payload.truncate(1 + random.below(payload.len())),
            2 => payload.extend(random.up_to(3)),
            _ => {
                let at = random.below(payload.len());
                payload[at] ^= 1 << random.below(8);
            }
        }
        payload.truncate(11);
        let opcode = u16::from_be_bytes([payload[0], *payload.get(1).unwrap_or(&0)]);
        if harmful.contains(&opcode) || payload[0] == 0 {
            continue;
        }
        let seq = Seq::new(round).unwrap();
        let src = unicast(0x0100);
        let dst = Address::from(0x0002);
        let seq_auth = SeqAuth { iv_index: IV_INDEX, seq };
        let envelope = Envelope { net_key_index: KeyIndex::ZERO, src, dst, seq_auth };
        let to = Destination::Address(dst);
        let secured = secure(&keys, MessageKey::LocalDevice, &to, &envelope, &payload, Mic::Bits32).unwrap();
        let lower = LowerTransportPdu::UnsegmentedAccess(secured.hint, secured.upper.into());
        let ttl = Ttl::new(3).unwrap();
        let pdu = NetworkPdu { ctl: false, ttl, seq, src, dst, transport_pdu: lower.encode() };
        receive(&mut lamp, now, &pdu.secure(&flooding, IV_INDEX));
        sent += 1;
    }
    assert!(sent >= 10_000, "{sent} were sent");
    assert_serving(lamp, now);
}

/// The sender is a node too, so that long messages come in segments, and their acknowledgments go back.
#[test]
fn ten_thousand_messages_under_the_application_key_leave_a_node_serving() {
    let mut random = Random(4);
    let (mut sender, mut lamp) = (client(0x0100), lamp(2));
    let mut now = Instant::ORIGIN;
    for _ in 0..10_000 {
        now += Duration::from_millis(20);
        let mut payload = OnOffSet::new(random.below(2) == 0, random.up_to(1)[0], None).encode();
        match random.below(5) {
            0 => payload = random.up_to(40),
            1 => payload.truncate(1 + random.below(4)),
            2 => payload.extend(random.up_to(30)),
            3 => payload[2] = random.up_to(1)[0],
            _ => {}
        }
        let mut message = to(2, MessageKey::App(APP), payload);
        message.segmented = random.below(4) == 0;
        // While a segmented message is under way, some find no room.
        let _ = sender.handle_command(now, Command::Send(message));
        exchange(&mut sender, &mut lamp, now, &mut random);
    }
    assert!(lamp.discards().get(Discard::Parameters) > 1_000, "{:?}", lamp.discards());
    assert!(lamp.discards().get(Discard::NoModel) > 100, "{:?}", lamp.discards());
    assert_serving(lamp, now);
}

/// Carries PDUs both ways, one in ten with a changed bit.
fn exchange(a: &mut Node, b: &mut Node, now: Instant, random: &mut Random) {
    for node in [&mut *a, &mut *b] {
        while node.poll_timeout().is_some_and(|at| at <= now) {
            node.handle_timeout(now);
        }
        while node.poll_event().is_some() {}
    }
    loop {
        let (mut pdu, receiver) = match (a.poll_transmit(), b.poll_transmit()) {
            (Some(pdu), other) => {
                if let Some(other) = other {
                    a.handle_pdu(now, &Received { ad_type: other.ad_type, data: &other.data, rssi: -60 });
                }
                (pdu, &mut *b)
            }
            (None, Some(pdu)) => (pdu, &mut *a),
            (None, None) => return,
        };
        if random.below(10) == 0 {
            let at = random.below(pdu.data.len());
            pdu.data[at] ^= 1 << random.below(8);
        }
        receiver.handle_pdu(now, &Received { ad_type: pdu.ad_type, data: &pdu.data, rssi: -60 });
    }
}
