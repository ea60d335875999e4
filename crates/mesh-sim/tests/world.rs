//! The world as the host of nodes that keep records: nothing is said twice after a crash, and time is well kept.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use clock::Instant;
use mesh_crypto::{AppKey, DevKey, NetKey, NetworkKeys};
use mesh_proto::access::{Context, Element, Place, ReceivedMessage, Server};
use mesh_proto::foundation::Product;
use mesh_proto::keys::MessageKey;
use mesh_proto::network::Relay;
use mesh_proto::node::{
    Command, Event, Node, NodeConfig, NodeOptions, OutgoingMessage, Provisioned, Record, RecordKey,
};
use mesh_proto::upper_transport::Destination;
use mesh_sim::{MediumConfig, Position, StationId, World};
use mesh_wire::access::Opcode;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::foundation::{ConfigMessage, ModelRef};
use mesh_wire::network::Header;
use mesh_wire::{CompanyId, DecodeError, IvIndex, KeyIndex, ModelId, Transmit, Ttl};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

const COMPANY: CompanyId = CompanyId(0xffff);
const ECHO: ModelId = ModelId::Vendor(COMPANY, 1);
const ASKER: ModelId = ModelId::Vendor(COMPANY, 2);
const REQUEST: Opcode = Opcode::Vendor(1, COMPANY);
const ANSWER: Opcode = Opcode::Vendor(2, COMPANY);
const NET_KEY: [u8; 16] = [1; 16];
const IV_INDEX: IvIndex = IvIndex(0);
const NODES: u16 = 4;

/// Sends back what it gets.
struct Echo;

impl Server for Echo {
    fn models(&self) -> Vec<Place> {
        vec![Place::first(ECHO)]
    }

    fn understands(&self, _model: ModelId, opcode: Opcode) -> bool {
        opcode == REQUEST
    }

    fn handle_message(
        &mut self,
        _now: Instant,
        _place: Place,
        message: &ReceivedMessage,
        context: &mut Context,
    ) -> Result<(), DecodeError> {
        context.reply(ANSWER.with(&message.parameters));
        Ok(())
    }
}

/// The records of all nodes, as a disk has them.
type Disk = BTreeMap<(StationId, RecordKey), Vec<u8>>;

fn node(address: u16, seed: u64, stored: Vec<(RecordKey, Vec<u8>)>) -> Node {
    let address = UnicastAddress::new(address).unwrap();
    let transmit = Transmit::new(2, Duration::from_millis(20)).unwrap();
    let (net_key_index, index) = (KeyIndex::ZERO, KeyIndex::ZERO);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..10].copy_from_slice(&u16::from(address).to_le_bytes());
    let provisioned = Provisioned {
        net_key: NetKey::new(NET_KEY),
        net_key_index,
        iv_index: IV_INDEX,
        address,
        dev_key: DevKey::new([2; 16]),
    };
    let config = NodeConfig {
        product: Product { company: COMPANY, product: 1, version: 1 },
        elements: vec![Element::new(0).with_server(Echo).with_host(ASKER, &[ANSWER])],
        network_transmit: transmit,
        relay: Relay { enabled: true, retransmit: transmit },
        default_ttl: Ttl::new(4).unwrap(),
        seed: bytes,
        options: NodeOptions::default(),
    };
    let is_new = stored.is_empty();
    let mut node = Node::restore(Instant::ORIGIN, provisioned, config, stored).unwrap();
    if is_new {
        let key = AppKey::new([3; 16]);
        let mut configure =
            |request| node.handle_command(Instant::ORIGIN, Command::Configure(request)).unwrap();
        configure(ConfigMessage::AppKeyAdd { net_key_index, index, key });
        for model in [ECHO, ASKER] {
            configure(ConfigMessage::ModelAppBind { index, model: ModelRef { element: address, model } });
        }
    }
    node
}

/// A row of nodes and a port that hears them all.
struct Row {
    world: World,
    nodes: Vec<StationId>,
}

impl Row {
    fn start(seed: u64, disk: &Disk) -> Self {
        let mut world = World::new(seed, MediumConfig { interference: 0.02, ..MediumConfig::default() });
        let nodes = (0..NODES)
            .map(|number| {
                let station = StationId(usize::from(number));
                let of_it = disk.iter().filter(|((of, _), _)| *of == station);
                let stored = of_it.map(|((_, key), value)| (*key, value.clone())).collect();
                let position = Position::new(f64::from(number) * 4.0, 0.0);
                world.add_node(&number.to_string(), position, node(number + 1, seed, stored))
            })
            .collect();
        world.add_port("ear", Position::new(6.0, 2.0));
        Self { world, nodes }
    }

    /// Has a node ask another one: in one PDU, or in several.
    fn ask(&mut self, from: usize, to: u16, segmented: bool) {
        let message = OutgoingMessage {
            element: 0,
            destination: Destination::Address(Address::Unicast(UnicastAddress::new(to).unwrap())),
            key: MessageKey::App(KeyIndex::ZERO),
            ttl: None,
            payload: REQUEST.with(if segmented { &[7; 20] } else { &[7; 2] }),
            segmented,
        };
        let now = self.world.now();
        // A node that is busy says so; it is asked again soon enough.
        let _ = self
            .world
            .with_node(now, self.nodes[from], |node| node.handle_command(now, Command::Send(message)));
    }

    /// What was answered since the last call.
    fn answers(&mut self) -> usize {
        let events = std::iter::from_fn(|| self.world.poll_event());
        events.filter(|(_, event)| matches!(event, Event::Message(_))).count()
    }
}

fn store(disk: &mut Disk, records: Vec<(StationId, Record)>) {
    for (station, Record { key, value }) in records {
        match value {
            Some(value) => drop(disk.insert((station, key), value)),
            None => drop(disk.remove(&(station, key))),
        }
    }
}

/// What was sent under each source and sequence number: all but the TTL, which relays change.
#[derive(Default)]
struct Ear {
    said: BTreeMap<(UnicastAddress, [u8; 3]), String>,
}

impl Ear {
    fn listen(&mut self, row: &mut Row, seed: u64) {
        let keys = NetworkKeys::flooding(&NetKey::new(NET_KEY));
        while let Some((_, received)) = row.world.poll_received() {
            // Beacons have no sequence number.
            if received.ad_type != mesh_wire::bearer::AdType::MeshMessage {
                continue;
            }
            let header = Header::deobfuscate(&received.data, &keys, IV_INDEX).unwrap();
            let pdu = header.decrypt(&received.data, &keys, IV_INDEX).unwrap();
            let place = (pdu.src, pdu.seq.to_be_bytes());
            let content = format!("{:?} {:?} {:?}", pdu.ctl, pdu.dst, pdu.transport_pdu);
            let before = self.said.entry(place).or_insert_with(|| content.clone());
            assert_eq!(*before, content, "seed {seed}: {place:?} was used twice");
        }
    }
}

/// Asks, stores and crashes at random; returns the answers after the last crash, and the crashes that lost records.
fn live_and_die(seed: u64) -> (usize, usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut disk, mut ear, mut lost) = (Disk::new(), Ear::default(), 0);
    for life in 0..8 {
        let mut row = Row::start(seed * 100 + life, &disk);
        let mut storing: Option<Vec<(StationId, Record)>> = None;
        for _ in 0..rng.next_u32() % 400 {
            if rng.next_u32().is_multiple_of(12) {
                let from = usize::try_from(rng.next_u32() % u32::from(NODES)).unwrap();
                let to = 1 + u16::try_from(rng.next_u32() % u32::from(NODES)).unwrap();
                row.ask(from, to, rng.next_u32().is_multiple_of(3));
            }
            let until = row.world.now() + Duration::from_millis(u64::from(rng.next_u32() % 10));
            row.world.handle_timeout(until);
            // The disk takes its time: now and then it has what it was given.
            match storing.take() {
                Some(records) if rng.next_u32().is_multiple_of(3) => {
                    store(&mut disk, records);
                    row.world.handle_stored();
                }
                Some(records) => storing = Some(records),
                None => storing = Some(row.world.take_records()).filter(|records| !records.is_empty()),
            }
            ear.listen(&mut row, seed);
        }
        lost += usize::from(storing.is_some());
        // Half of the time the disk had it, and only its saying so was lost.
        if let Some(records) = storing.filter(|_| rng.next_u32().is_multiple_of(2)) {
            store(&mut disk, records);
        }
    }
    let mut row = Row::start(seed * 100 + 99, &disk);
    let mut answers = 0;
    for turn in 0..10 {
        row.ask(0, NODES, turn % 2 == 1);
        for _ in 0..50 {
            row.world.handle_timeout(row.world.now() + Duration::from_millis(20));
            store(&mut disk, row.world.take_records());
            row.world.handle_stored();
            ear.listen(&mut row, seed);
        }
        answers += row.answers();
    }
    (answers, lost)
}

#[test]
fn after_any_crash_no_sequence_number_is_used_twice_and_messages_still_get_through() {
    let mut lost = 0;
    for seed in 0..60 {
        let (answers, crashes) = live_and_die(seed);
        assert!(answers >= 9, "seed {seed}: {answers} of 10 answers");
        lost += crashes;
    }
    assert!(lost > 60, "crashes in the middle of storing: {lost}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_next_thing_is_what_a_scan_of_all_nodes_finds(
        seed in any::<u64>(),
        steps in proptest::collection::vec((0..usize::from(NODES), 1..=NODES, any::<bool>(), 0_u64..60), 1..60),
    ) {
        let mut row = Row::start(seed, &Disk::new());
        for (from, to, segmented, ms) in steps {
            row.ask(from, to, segmented);
            let until = row.world.now() + Duration::from_millis(ms);
            while row.world.step_until(until) {
                let nodes = row.nodes.iter().filter_map(|&station| row.world.node(station)?.poll_timeout());
                let first = nodes.chain(row.world.medium().poll_timeout()).min();
                prop_assert_eq!(row.world.poll_timeout(), first);
            }
            row.world.handle_timeout(until);
            if segmented {
                row.world.take_records();
                row.world.handle_stored();
            }
        }
    }
}
