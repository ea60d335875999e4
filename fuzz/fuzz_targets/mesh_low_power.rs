//! Whatever a Friend, one who offers to be one, or anybody else says to a Low Power node, and whenever, it goes on: no
//! sequence number secures two PDUs, Friend Requests keep their distance, and there is always a next thing to do.
#![no_main]

use std::collections::BTreeMap;
use std::time::Duration;

use clock::Instant;
use libfuzzer_sys::fuzz_target;
use mesh_crypto::{AppKey, DevKey, FriendshipParameters, NetKey, NetworkKeys};
use mesh_proto::access::Element;
use mesh_proto::bearer::Received;
use mesh_proto::foundation::Product;
use mesh_proto::keys::MessageKey;
use mesh_proto::low_power::LowPowerSettings;
use mesh_proto::network::Relay;
use mesh_proto::node::{Command, Node, NodeConfig, NodeOptions, OutgoingMessage, Provisioned};
use mesh_proto::upper_transport::Destination;
use mesh_wire::access::Opcode;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::beacon::NetworkFlags;
use mesh_wire::bearer::AdType;
use mesh_wire::foundation::{ConfigMessage, ModelRef, SubscriptionChange};
use mesh_wire::friendship::{FriendOffer, FriendshipMessage};
use mesh_wire::lower_transport::LowerTransportPdu;
use mesh_wire::network::{Header, NetworkPdu, ivi_nid};
use mesh_wire::{CompanyId, IvIndex, KeyIndex, ModelId, NetKeyIndex, Seq, Transmit, Ttl};

const NET_KEY: NetKey = NetKey::new([1; 16]);
const APP_KEY: AppKey = AppKey::new([3; 16]);
const LPN: u16 = 3;
const FRIEND: u16 = 2;
const MODEL: ModelId = ModelId::Vendor(CompanyId(0xffff), 1);
const HELLO: Opcode = Opcode::Vendor(1, CompanyId(0xffff));

/// More that is due at one time than this has no end.
const MAX_DUE: u32 = 10_000;

struct Bench {
    now: Instant,
    node: Node,
    /// Of those who speak to it.
    seq: u32,
    iv_index: IvIndex,
    lpn_counter: u16,
    friend_counter: u16,
    /// Of the last list that the Friend was told.
    transaction: u8,
    requested: Option<Instant>,
    /// What each sequence number of the node secured.
    secured: BTreeMap<(IvIndex, Seq), NetworkPdu>,
}

fn unicast(address: u16) -> UnicastAddress {
    UnicastAddress::new(address).expect("unicast")
}

fn node() -> Node {
    let transmit = Transmit::from_octet(0);
    let (net_key_index, index) = (NetKeyIndex::ZERO, KeyIndex::ZERO);
    let (iv_index, address, dev_key) = (IvIndex(1), unicast(LPN), DevKey::new([2; 16]));
    let mut node = Node::new(
        Provisioned { net_key: NET_KEY, net_key_index, iv_index, address, dev_key },
        NodeConfig {
            product: Product { company: CompanyId(0xffff), product: 1, version: 1 },
            elements: vec![Element::new(0).with_host(MODEL, &[HELLO])],
            network_transmit: transmit,
            relay: Relay { enabled: true, retransmit: transmit },
            default_ttl: Ttl::MAX,
            seed: [0; 32],
            options: NodeOptions { low_power: Some(LowPowerSettings::default()), ..NodeOptions::default() },
        },
    );
    let model = ModelRef { element: address, model: MODEL };
    for request in [
        ConfigMessage::AppKeyAdd { net_key_index, index, key: APP_KEY },
        ConfigMessage::ModelAppBind { index, model },
    ] {
        node.handle_command(Instant::ORIGIN, Command::Configure(request)).expect("a valid request");
    }
    node
}

impl Bench {
    fn new() -> Self {
        Self {
            now: Instant::ORIGIN,
            node: node(),
            seq: 0,
            iv_index: IvIndex(1),
            lpn_counter: 0,
            friend_counter: 0,
            transaction: 0,
            requested: None,
            secured: BTreeMap::new(),
        }
    }

    fn friendship(&self) -> NetworkKeys {
        let parameters = FriendshipParameters {
            lpn_address: LPN,
            friend_address: FRIEND,
            lpn_counter: self.lpn_counter,
            friend_counter: self.friend_counter,
        };
        NetworkKeys::friendship(&NET_KEY, parameters)
    }

    /// Somebody says something; `how`: who, to whom, how far, and under which material.
    fn say(&mut self, how: u8, ctl: bool, transport_pdu: &[u8]) {
        let most = if ctl { 12 } else { 16 };
        if transport_pdu.is_empty() || transport_pdu.len() > most {
            return;
        }
        self.seq += 1;
        let pdu = NetworkPdu {
            ctl,
            ttl: if how & 1 == 0 { Ttl::ZERO } else { Ttl::MAX },
            seq: Seq::new(self.seq).expect("few messages"),
            src: unicast(if how & 2 == 0 { FRIEND } else { 9 }),
            dst: Address::from(if how & 4 == 0 { LPN } else { 0xffff }),
            transport_pdu: transport_pdu.into(),
        };
        let keys = if how & 8 == 0 { self.friendship() } else { NetworkKeys::flooding(&NET_KEY) };
        let data = pdu.secure(&keys, self.iv_index);
        self.node.handle_pdu(self.now, &Received { ad_type: AdType::MeshMessage, data: &data, rssi: -60 });
    }

    fn say_message(&mut self, how: u8, message: &FriendshipMessage) {
        let pdu = LowerTransportPdu::UnsegmentedControl(message.opcode(), message.encode());
        self.say(how, true, &pdu.encode());
    }

    /// A command of the host; refused or not, the node goes on.
    fn command(&mut self, data: &[u8]) {
        let [kind, rest @ ..] = data else { return };
        let command = match kind % 8 {
            0..=2 => Command::LowPower(true),
            3 => Command::LowPower(false),
            4 => Command::Poll,
            5 | 6 => {
                let change = if kind % 8 == 5 { SubscriptionChange::Add } else { SubscriptionChange::Delete };
                let address = Address::from(0xc000 | u16::from(rest.first().copied().unwrap_or(0)));
                let model = ModelRef { element: unicast(LPN), model: MODEL };
                Command::Configure(ConfigMessage::ModelSubscriptionChange { change, address, model })
            }
            _ => Command::Send(OutgoingMessage {
                element: 0,
                destination: Destination::Address(Address::from(1)),
                key: MessageKey::App(KeyIndex::ZERO),
                ttl: None,
                payload: HELLO.with(rest),
                segmented: false,
            }),
        };
        let _ = self.node.handle_command(self.now, command);
    }

    /// An offer, the answer to the first poll, and that the Friend knows what the node listens to.
    fn befriend(&mut self) {
        self.operate(3, &[0, 100, 64, 32, 200]);
        self.advance(Duration::from_millis(500));
        self.operate(4, &[0, 0]);
        self.operate(4, &[0, 4]);
        assert_eq!(self.node.friend(), Some(unicast(FRIEND)));
    }

    /// What the Friend may say next, or something like it.
    fn answer(&self, kind: u8, data: &[u8]) -> Option<FriendshipMessage> {
        let more = data.first().copied().unwrap_or(0);
        let (lpn, lpn_counter) = (unicast(LPN), self.lpn_counter.wrapping_add(u16::from(more >> 7)));
        Some(match kind % 8 {
            0..=3 => FriendshipMessage::Update {
                flags: NetworkFlags::from_octet(more >> 1 & kind >> 4),
                iv_index: IvIndex(self.iv_index.0 + u32::from(more >> 6)),
                more_data: more & 1 != 0,
            },
            4 | 5 => {
                let transaction = self.transaction.wrapping_add(more >> 6);
                FriendshipMessage::SubscriptionListConfirm { transaction }
            }
            6 => FriendshipMessage::ClearConfirm { lpn, lpn_counter },
            _ => FriendshipMessage::decode(more % 10, data.get(1..)?).ok()?,
        })
    }

    fn operate(&mut self, kind: u8, data: &[u8]) {
        match (kind % 8, data) {
            (0, data) => {
                self.node.handle_pdu(self.now, &Received { ad_type: AdType::MeshMessage, data, rssi: -60 });
            }
            (1, [how, data @ ..]) => self.say(*how, true, data),
            (2, [how, data @ ..]) => self.say(*how, false, data),
            (3, [how, window, queue_size, list, rssi, ..]) => {
                self.friend_counter = self.friend_counter.wrapping_add(1);
                let offer = FriendOffer {
                    receive_window_ms: (*window).max(1),
                    queue_size: *queue_size,
                    subscription_list_size: *list,
                    rssi: i8::from_ne_bytes([*rssi]),
                    friend_counter: self.friend_counter,
                };
                self.say_message(how & 0b111 | 8, &FriendshipMessage::Offer(offer));
            }
            // What is said when the radio is on is most of the time an answer.
            (4, [how, kind, data @ ..]) => {
                self.wait_until_it_listens();
                if let Some(message) = self.answer(*kind, data) {
                    self.say_message(*how, &message);
                }
            }
            (5, data) => self.command(data),
            (6, [a, b, ..]) => {
                let steps = u16::from_be_bytes([*a, *b]);
                self.advance(Duration::from_millis(u64::from(steps) * 10));
            }
            (7, data) => {
                self.node.handle_pdu(self.now, &Received { ad_type: AdType::MeshBeacon, data, rssi: -60 });
            }
            _ => {}
        }
        self.collect();
        self.advance(Duration::from_millis(u64::from(kind)));
    }

    fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        let mut due = 0;
        while let Some(at) = self.node.poll_timeout().filter(|&at| at <= end) {
            due = if at > self.now { 0 } else { due + 1 };
            assert!(due < MAX_DUE, "something is always due at {at:?}");
            self.now = self.now.max(at);
            self.node.handle_timeout(self.now);
            self.collect();
        }
        self.now = end;
    }

    fn wait_until_it_listens(&mut self) {
        for _ in 0..20 {
            if self.node.is_listening() {
                return;
            }
            self.advance(Duration::from_millis(50));
        }
    }

    fn collect(&mut self) {
        while let Some(sent) = self.node.poll_transmit() {
            if sent.ad_type == AdType::MeshMessage {
                self.look_at(&sent.data);
            }
        }
        while self.node.poll_event().is_some() {}
    }

    fn look_at(&mut self, octets: &[u8]) {
        let (ivi, nid) = ivi_nid(octets).expect("a network PDU");
        let iv_index = self.node.iv_update().receiving(ivi).expect("its own IV Index");
        let materials = [NetworkKeys::flooding(&NET_KEY), self.friendship()];
        let open = |keys: &NetworkKeys| {
            let header = Header::deobfuscate(octets, keys, iv_index).ok()?;
            header.decrypt(octets, keys, iv_index).ok()
        };
        // What it sends to a Friend whose offer is not the last one is not opened.
        let pdu = materials.iter().filter(|keys| keys.nid() == nid).find_map(open);
        let Some(pdu) = pdu.filter(|pdu| u16::from(pdu.src) == LPN) else { return };
        let before = self.secured.insert((iv_index, pdu.seq), pdu.clone());
        assert!(before.is_none_or(|before| before == pdu), "{:?} secures two PDUs", pdu.seq);
        if let Ok(LowerTransportPdu::UnsegmentedControl(opcode, parameters)) =
            LowerTransportPdu::decode(pdu.ctl, &pdu.transport_pdu)
        {
            match FriendshipMessage::decode(opcode, &parameters) {
                Ok(FriendshipMessage::Request(request)) => {
                    self.lpn_counter = request.lpn_counter;
                    let last = self.requested.replace(self.now);
                    assert!(last.is_none_or(|last| self.now - last > Duration::from_millis(1100)));
                }
                Ok(
                    FriendshipMessage::SubscriptionListAdd { transaction, .. }
                    | FriendshipMessage::SubscriptionListRemove { transaction, .. },
                ) => self.transaction = transaction,
                _ => {}
            }
        }
    }
}

fuzz_target!(|input: Vec<(u8, &[u8])>| {
    let mut bench = Bench::new();
    bench.command(&[0]);
    bench.advance(Duration::from_millis(550));
    if input.len() % 4 > 0 {
        bench.befriend();
    }
    for (kind, data) in input {
        bench.operate(kind, data);
    }
});
