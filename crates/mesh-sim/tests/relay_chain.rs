//! Case PC-3 of `testdata/mesh/paper-cases.md`: round trips along a chain of relays, with real nodes.
//!
//! Open in the source, and so settings here: advertisers send at once, PDUs of an event are 0.3 ms apart, 8 % of PDUs
//! are lost to interference. Relays wait 0 to 10 ms at random, answers 20 to 50 ms (MshPRT §3.7.3.2).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use clock::Instant;
use mesh_crypto::{AppKey, DevKey, NetKey};
use mesh_proto::access::{Context, Element, Place, ReceivedMessage, Server};
use mesh_proto::foundation::Product;
use mesh_proto::keys::MessageKey;
use mesh_proto::network::Relay;
use mesh_proto::node::{Command, Event, Node, NodeConfig, NodeOptions, OutgoingMessage, Provisioned};
use mesh_proto::upper_transport::Destination;
use mesh_sim::{MediumConfig, Position, Wall, World};
use mesh_wire::access::Opcode;
use mesh_wire::address::UnicastAddress;
use mesh_wire::foundation::{ConfigMessage, FeatureState, ModelRef};
use mesh_wire::{CompanyId, DecodeError, IvIndex, KeyIndex, ModelId, Transmit, Ttl};

const COMPANY: CompanyId = CompanyId(0xffff);
const ECHO: ModelId = ModelId::Vendor(COMPANY, 1);
const ASKER: ModelId = ModelId::Vendor(COMPANY, 2);
const REQUEST: Opcode = Opcode::Vendor(1, COMPANY);
const ANSWER: Opcode = Opcode::Vendor(2, COMPANY);

/// Round trips of one run.
const MESSAGES: u32 = 60;
const SEEDS: u64 = 5;

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

fn node(address: u16, seed: u64) -> Node {
    let address = UnicastAddress::new(address).unwrap();
    // Three transmissions, 20 ms apart, for the network and for relays.
    let transmit = Transmit::new(3, Duration::from_millis(20)).unwrap();
    let (net_key_index, index) = (KeyIndex::ZERO, KeyIndex::ZERO);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..10].copy_from_slice(&u16::from(address).to_le_bytes());
    let mut node = Node::new(
        Provisioned {
            net_key: NetKey::new([1; 16]),
            net_key_index,
            iv_index: IvIndex(0),
            address,
            dev_key: DevKey::new([2; 16]),
        },
        NodeConfig {
            product: Product { company: COMPANY, product: 1, version: 1 },
            elements: vec![Element::new(0).with_server(Echo).with_host(ASKER, &[ANSWER])],
            network_transmit: transmit,
            relay: Relay { enabled: true, retransmit: transmit },
            default_ttl: Ttl::new(10).unwrap(),
            seed: bytes,
            options: NodeOptions::default(),
        },
    );
    let key = AppKey::new([3; 16]);
    let mut configure = |request| node.handle_command(Instant::ORIGIN, Command::Configure(request)).unwrap();
    // What was measured had no beacons in the air.
    configure(ConfigMessage::BeaconSet { beacon: FeatureState::Disabled });
    configure(ConfigMessage::AppKeyAdd { net_key_index, index, key });
    for model in [ECHO, ASKER] {
        configure(ConfigMessage::ModelAppBind { index, model: ModelRef { element: address, model } });
    }
    node
}

/// Mean round trip over a chain with so many hops, and the share of round trips that were lost.
fn run(hops: u16, segmented: bool, seed: u64) -> (f64, f64) {
    const ROOM: f64 = 6.0;
    // A wall between each two keeps the chain a chain.
    let walls = (0..hops)
        .map(|room| {
            let x = f64::from(room) * ROOM + ROOM / 2.0;
            Wall { from: Position::new(x, -2.0), to: Position::new(x, 2.0), loss_db: 15.0 }
        })
        .collect();
    let mut world = World::new(seed, MediumConfig { walls, ..MediumConfig::default() });
    let stations: Vec<_> = (0..=hops)
        .map(|n| world.add_node(&format!("n{n}"), Position::new(f64::from(n) * ROOM, 0.0), node(n + 1, seed)))
        .collect();
    let destination = Destination::Address(UnicastAddress::new(hops + 1).unwrap().into());
    let (mut sum, mut answered) = (Duration::ZERO, 0_u32);
    for number in 0..MESSAGES {
        let start = Instant::ORIGIN + Duration::from_millis(1_500) * number;
        // Opcode and parameters: 8 octets.
        let payload = REQUEST.with(&[number.to_le_bytes().as_slice(), &[0]].concat());
        let key = MessageKey::App(KeyIndex::ZERO);
        let message =
            OutgoingMessage { element: 0, destination, key, ttl: None, payload: payload.clone(), segmented };
        world.with_node(start, stations[0], |node| {
            node.handle_command(start, Command::Send(message)).unwrap()
        });
        while world.step_until(start + Duration::from_millis(1_499)) {
            while let Some((station, event)) = world.poll_event() {
                if let Event::Message(answer) = event
                    && station == stations[0]
                    && answer.parameters == payload[3..]
                {
                    sum += world.now() - start;
                    answered += 1;
                }
            }
        }
    }
    (sum.as_secs_f64() * 1_000.0 / f64::from(answered), 1.0 - f64::from(answered) / f64::from(MESSAGES))
}

/// Mean and half of the 95 % interval over the seeds (Student's t with 4 degrees of freedom).
fn over_seeds(hops: u16, segmented: bool) -> (f64, f64, f64) {
    let runs: Vec<(f64, f64)> = (1..=SEEDS).map(|seed| run(hops, segmented, seed)).collect();
    let n = SEEDS as f64;
    let mean = runs.iter().map(|x| x.0).sum::<f64>() / n;
    let variance = runs.iter().map(|x| (x.0 - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let loss = runs.iter().map(|x| x.1).sum::<f64>() / n;
    (mean, 2.776 * (variance / n).sqrt(), loss)
}

#[test]
fn round_trips_along_a_chain_take_what_was_measured() {
    let mut means = Vec::new();
    for hops in 1..=7 {
        let (mean, interval, loss) = over_seeds(hops, false);
        println!("{hops} hops: round trip {mean:.1} ± {interval:.1} ms, {:.1} % lost", loss * 100.0);
        means.push(mean);
    }
    assert!(means.windows(2).all(|pair| pair[0] < pair[1]), "strictly increasing in hops: {means:?}");
    assert!((25.0..=80.0).contains(&means[2]), "3 hops: {} ms", means[2]);
    assert!(means[5] < 200.0, "6 hops: {} ms", means[5]);
}

#[test]
fn a_segmented_request_of_eight_octets_stays_below_the_bound_too() {
    let (mean, interval, loss) = over_seeds(6, true);
    println!("6 hops, segmented: round trip {mean:.1} ± {interval:.1} ms, {:.1} % lost", loss * 100.0);
    assert!(mean < 200.0, "{mean} ms");
}
