//! One node, its time, and what the test says to it in the name of others.
#![allow(unreachable_pub, dead_code, reason = "shared by the tests that include it")]

use std::time::Duration;

use clock::Instant;
use mesh_crypto::{FriendshipParameters, NetworkKeys};
use mesh_proto::bearer::{Received, Transmission};
use mesh_proto::node::{Command, Event, Node, NodeOptions};
use mesh_wire::address::Address;
use mesh_wire::bearer::AdType;
use mesh_wire::friendship::FriendshipMessage;
use mesh_wire::lower_transport::LowerTransportPdu;
use mesh_wire::network::{Header, NetworkPdu, ivi_nid};
use mesh_wire::{IvIndex, Seq, Ttl};

use crate::net::{Store, elements, net_key, restore_with, unicast};

/// The Low Power node, its Friend, and somebody else who has the key of the network.
pub const LPN: u16 = 3;
pub const FRIEND: u16 = 2;
pub const OTHER: u16 = 9;
pub const IV_INDEX: IvIndex = IvIndex(5);

pub fn flooding() -> NetworkKeys {
    NetworkKeys::flooding(&net_key(1))
}

/// The material of the friendship with these counters.
pub fn material(friend: u16, lpn_counter: u16, friend_counter: u16) -> NetworkKeys {
    let parameters =
        FriendshipParameters { lpn_address: LPN, friend_address: friend, lpn_counter, friend_counter };
    NetworkKeys::friendship(&net_key(1), parameters)
}

/// Who sends what to whom.
#[derive(Clone, Copy, Debug)]
pub struct From {
    pub src: u16,
    pub dst: u16,
    pub ttl: u8,
}

pub struct Bench {
    pub now: Instant,
    pub node: Node,
    next_seq: u32,
    /// What was said to the node last.
    pub said: Vec<u8>,
}

impl Bench {
    pub fn new(address: u16, options: NodeOptions) -> Self {
        let node = restore_with(Instant::ORIGIN, address, elements(), options, &Store::new());
        Self { now: Instant::ORIGIN, node, next_seq: 0, said: Vec::new() }
    }

    pub fn command(&mut self, command: Command) {
        self.node.handle_command(self.now, command).unwrap();
        self.settle();
    }

    pub fn settle(&mut self) {
        self.node.take_records();
        self.node.handle_stored();
    }

    /// The sequence number of what is said next.
    pub fn next_seq(&self) -> Seq {
        Seq::new(self.next_seq + 1).unwrap()
    }

    /// Says a control message of friendship to the node, under some material.
    pub fn say(&mut self, keys: &NetworkKeys, from: From, message: &FriendshipMessage) {
        self.say_pdu(keys, from, &LowerTransportPdu::UnsegmentedControl(message.opcode(), message.encode()));
    }

    pub fn say_pdu(&mut self, keys: &NetworkKeys, from: From, pdu: &LowerTransportPdu) {
        self.next_seq += 1;
        let network = NetworkPdu {
            ctl: pdu.ctl(),
            ttl: Ttl::new(from.ttl).unwrap(),
            seq: Seq::new(self.next_seq).unwrap(),
            src: unicast(from.src),
            dst: Address::from(from.dst),
            transport_pdu: pdu.encode(),
        };
        let data = network.secure(keys, IV_INDEX).to_vec();
        self.play(&data);
        self.said = data;
    }

    /// Plays a network PDU to the node.
    pub fn play(&mut self, data: &[u8]) {
        self.node.handle_pdu(self.now, &Received { ad_type: AdType::MeshMessage, data, rssi: -50 });
        self.settle();
    }

    /// The next network PDU within `limit`, opened with one of the keys, and how long it took.
    pub fn next(&mut self, keys: &[&NetworkKeys], limit: Duration) -> Option<(NetworkPdu, Duration)> {
        let start = self.now;
        loop {
            self.settle();
            while let Some(Transmission { ad_type, data, .. }) = self.node.poll_transmit() {
                if ad_type == AdType::MeshMessage {
                    let pdu = keys.iter().find_map(|keys| open(&data, keys));
                    return Some((pdu.expect("sent under one of the keys"), self.now - start));
                }
            }
            let next = self.node.poll_timeout().filter(|&at| at <= start + limit);
            let Some(next) = next else {
                self.now = start + limit;
                return None;
            };
            self.now = self.now.max(next);
            self.node.handle_timeout(self.now);
        }
    }

    /// The same, of a control message of friendship.
    pub fn next_message(
        &mut self,
        keys: &[&NetworkKeys],
        limit: Duration,
    ) -> Option<(NetworkPdu, FriendshipMessage)> {
        let (pdu, _) = self.next(keys, limit)?;
        let Ok(LowerTransportPdu::UnsegmentedControl(opcode, parameters)) =
            LowerTransportPdu::decode(pdu.ctl, &pdu.transport_pdu)
        else {
            panic!("{pdu:?} is of no friendship");
        };
        let message = FriendshipMessage::decode(opcode, &parameters).unwrap();
        Some((pdu, message))
    }

    /// Lets time pass, in which the node sends nothing.
    pub fn wait(&mut self, duration: Duration) {
        assert_eq!(self.next(&[&flooding()], duration), None);
    }

    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.node.poll_event()).collect()
    }
}

fn open(data: &[u8], keys: &NetworkKeys) -> Option<NetworkPdu> {
    if ivi_nid(data)?.1 != keys.nid() {
        return None;
    }
    let header = Header::deobfuscate(data, keys, IV_INDEX).ok()?;
    header.decrypt(data, keys, IV_INDEX).ok()
}
