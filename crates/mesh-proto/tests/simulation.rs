//! Nodes on a bad medium, with power cuts and IV Updates: whatever the seed, no message is accepted twice, none that
//! nobody sent, no sequence number secures two PDUs, and every segmented message ends.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/net.rs"]
mod net;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clock::Instant;
use mesh_crypto::NetworkKeys;
use mesh_proto::bearer::{Received, Transmission};
use mesh_proto::keys::MessageKey;
use mesh_proto::node::{Answer, Command, Event, IvUpdateCommand, OutgoingMessage};
use mesh_proto::upper_transport::Destination;
use mesh_wire::IvIndex;
use mesh_wire::address::Address;
use mesh_wire::bearer::AdType;
use mesh_wire::foundation::{ConfigMessage, ModelRef, SubscriptionChange};
use mesh_wire::network::{Header, ivi_nid};
use net::{APP, HELLO, MODEL, Net, net_key};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

const NODES: usize = 3;
const OPERATIONS: u32 = 200;
const GROUP: u16 = 0xc000;

/// How often each kind of fault happened.
#[derive(Debug, Default)]
struct Faults {
    lost: u64,
    doubled: u64,
    late: u64,
    crashes: u64,
    crashes_before_storing: u64,
    iv_updates: u64,
    accepted: u64,
    reported_failed: u64,
}

struct Simulation {
    net: Net,
    rng: ChaCha8Rng,
    flying: BTreeMap<(Instant, u64), (usize, Transmission)>,
    number: u64,
    /// What was sent, by the number in it, and what each node accepted.
    sent: BTreeSet<u32>,
    accepted: BTreeSet<(usize, u32)>,
    /// Segmented messages to one node that have not ended, by sender.
    open: Vec<BTreeSet<mesh_proto::lower_transport::MessageId>>,
    /// What each sequence number secured.
    secured: BTreeMap<(usize, IvIndex, u32), Vec<u8>>,
    faults: Faults,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut net = Net::new(u16::try_from(NODES).unwrap());
        for index in 0..NODES {
            let model = ModelRef { element: net.nodes[index].address(), model: MODEL };
            let (change, address) = (SubscriptionChange::Add, Address::from(GROUP));
            net.configure(index, ConfigMessage::ModelSubscriptionChange { change, address, model });
            net.command(index, Command::IvUpdate(IvUpdateCommand::TestMode(true)));
        }
        Self {
            net,
            rng: ChaCha8Rng::seed_from_u64(seed),
            flying: BTreeMap::new(),
            number: 0,
            sent: BTreeSet::new(),
            accepted: BTreeSet::new(),
            open: vec![BTreeSet::new(); NODES],
            secured: BTreeMap::new(),
            faults: Faults::default(),
        }
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.rng.next_u32() % limit
    }

    fn operate(&mut self) {
        let node = usize::try_from(self.below(3)).unwrap();
        match self.below(20) {
            0 => self.crash(node, true),
            1 => self.crash(node, false),
            2 => {
                let command = [IvUpdateCommand::Start, IvUpdateCommand::Finish][node % 2];
                let command = Command::IvUpdate(command);
                let done = self.net.nodes[node].handle_command(self.net.now, command).is_ok();
                self.faults.iv_updates += u64::from(done);
            }
            _ => self.send(node),
        }
        let pause = Duration::from_millis(u64::from(self.below(400)));
        self.run(pause, true);
    }

    fn send(&mut self, node: usize) {
        let id = u32::try_from(self.sent.len()).unwrap();
        let to = match self.below(4) {
            0 => GROUP,
            to => u16::try_from(to).unwrap(),
        };
        let mut content = id.to_be_bytes().to_vec();
        let is_long = self.below(2) == 0;
        content.resize(if is_long { 60 } else { 4 }, 7);
        let message = OutgoingMessage {
            element: 0,
            destination: Destination::Address(Address::from(to)),
            key: MessageKey::App(APP),
            ttl: None,
            payload: HELLO.with(&content),
            segmented: false,
        };
        if let Ok(Answer::Sending(id_of)) =
            self.net.nodes[node].handle_command(self.net.now, Command::Send(message))
        {
            self.sent.insert(id);
            if is_long && to < 0x8000 {
                self.open[node].insert(id_of);
            }
        }
    }

    /// The power goes; what the node had not stored is gone, or what it had just handed out for that.
    fn crash(&mut self, node: usize, is_storing: bool) {
        if is_storing {
            // It has just taken a PDU, and what it must remember of that is not stored yet.
            if let Some(&at) = self.flying.iter().find(|(_, (to, _))| *to == node).map(|(at, _)| at) {
                let (_, sent) = self.flying.remove(&at).unwrap();
                let received = Received { ad_type: sent.ad_type, data: &sent.data, rssi: -60 };
                self.net.nodes[node].handle_pdu(self.net.now, &received);
            }
            self.send(node);
            self.transmit(node, true);
            self.faults.crashes_before_storing += u64::from(!self.net.nodes[node].take_records().is_empty());
        } else {
            self.net.store(node);
        }
        self.faults.crashes += 1;
        self.open[node].clear();
        self.net.restart(node);
        self.net.command(node, Command::IvUpdate(IvUpdateCommand::TestMode(true)));
    }

    fn run(&mut self, duration: Duration, has_faults: bool) {
        let end = self.net.now + duration;
        loop {
            (0..NODES).for_each(|node| self.collect(node, has_faults));
            let timeouts = self.net.nodes.iter().filter_map(mesh_proto::node::Node::poll_timeout);
            let flying = self.flying.keys().next().map(|&(at, _)| at);
            let Some(next) = timeouts.chain(flying).min().filter(|&at| at <= end) else { break };
            self.net.now = self.net.now.max(next);
            let now = self.net.now;
            if self.flying.keys().next().is_some_and(|&(at, _)| at <= now) {
                let (_, (to, sent)) = self.flying.pop_first().unwrap();
                let received = Received { ad_type: sent.ad_type, data: &sent.data, rssi: -60 };
                self.net.nodes[to].handle_pdu(now, &received);
            }
            for node in &mut self.net.nodes {
                if node.poll_timeout().is_some_and(|at| at <= now) {
                    node.handle_timeout(now);
                }
            }
        }
        self.net.now = end;
    }

    fn collect(&mut self, node: usize, has_faults: bool) {
        // A host that is in a hurry gets only what may leave before the records are stored.
        self.transmit(node, has_faults);
        self.net.store(node);
        while let Some(event) = self.net.nodes[node].poll_event() {
            match event {
                Event::Message(message) => {
                    let id = u32::from_be_bytes(message.parameters[..4].try_into().unwrap());
                    assert!(self.sent.contains(&id), "nobody sent {id}");
                    assert!(self.accepted.insert((node, id)), "node {node} accepted {id} twice");
                    self.faults.accepted += 1;
                }
                Event::Sent { id, result } => {
                    self.open[node].remove(&id);
                    self.faults.reported_failed += u64::from(result.is_err());
                }
                _ => {}
            }
        }
        self.transmit(node, has_faults);
    }

    fn transmit(&mut self, node: usize, has_faults: bool) {
        while let Some(sent) = self.net.nodes[node].poll_transmit() {
            self.check_sequence(node, &sent);
            for to in (0..NODES).filter(|&to| to != node) {
                self.launch(to, &sent, has_faults);
            }
        }
    }

    fn launch(&mut self, to: usize, sent: &Transmission, has_faults: bool) {
        if has_faults && self.below(100) < 20 {
            self.faults.lost += 1;
            return;
        }
        let copies = if has_faults && self.below(100) < 10 { 2 } else { 1 };
        self.faults.doubled += copies - 1;
        for _ in 0..copies {
            let is_late = has_faults && self.below(100) < 20;
            self.faults.late += u64::from(is_late);
            let delay = if is_late { 5 + self.below(800) } else { 1 };
            self.number += 1;
            let at = self.net.now + sent.delay + Duration::from_millis(u64::from(delay));
            self.flying.insert((at, self.number), (to, sent.clone()));
        }
    }

    /// No pair of IV Index and sequence number secures two PDUs (MshPRT §3.4.4.5).
    fn check_sequence(&mut self, node: usize, sent: &Transmission) {
        if sent.ad_type != AdType::MeshMessage {
            return;
        }
        let (ivi, _) = ivi_nid(&sent.data).unwrap();
        let iv_index = self.net.nodes[node].iv_update().receiving(ivi).unwrap();
        let header = Header::deobfuscate(&sent.data, &NetworkKeys::flooding(&net_key(1)), iv_index).unwrap();
        let octets = sent.data.to_vec();
        let before = self.secured.insert((node, iv_index, header.seq.into()), octets.clone());
        assert!(before.is_none_or(|before| before == octets), "{header:?} secures two PDUs");
    }
}

/// SEEDS in the environment, for a long run; or 200.
#[expect(clippy::disallowed_methods, reason = "the ban is for the protocol core, not for who tests it")]
fn seeds() -> u64 {
    std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(200)
}

#[test]
fn whatever_the_medium_and_the_power_do_nothing_is_accepted_twice() {
    let seeds = seeds();
    let mut all = Faults::default();
    for seed in 0..seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut simulation = Simulation::new(seed);
            (0..OPERATIONS).for_each(|_| simulation.operate());
            simulation.run(Duration::from_secs(120), false);
            assert!(
                simulation.open.iter().all(BTreeSet::is_empty),
                "a message did not end: {:?}",
                simulation.open
            );
            simulation.faults
        });
        let Ok(faults) = outcome else { panic!("seed {seed}") };
        all.lost += faults.lost;
        all.doubled += faults.doubled;
        all.late += faults.late;
        all.crashes += faults.crashes;
        all.crashes_before_storing += faults.crashes_before_storing;
        all.iv_updates += faults.iv_updates;
        all.accepted += faults.accepted;
        all.reported_failed += faults.reported_failed;
    }
    println!("{seeds} seeds: {all:?}");
    let counts = [all.lost, all.doubled, all.late, all.crashes, all.crashes_before_storing, all.iv_updates];
    assert!(counts.iter().all(|&count| count > 0) && all.accepted > 0 && all.reported_failed > 0, "{all:?}");
}
