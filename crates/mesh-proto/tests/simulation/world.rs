//! The world of a seed: nodes, the medium between them, their power and their clocks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clock::Instant;
use mesh_proto::Discard;
use mesh_proto::bearer::{Received, Transmission};
use mesh_proto::friend::FriendSettings;
use mesh_proto::keys::{KeyRefreshPhase, MessageKey};
use mesh_proto::low_power::LowPowerSettings;
use mesh_proto::lower_transport::MessageId;
use mesh_proto::node::{
    Answer, Command, Event, FriendshipRole, IvUpdateCommand, NodeOptions, OutgoingMessage,
};
use mesh_proto::upper_transport::Destination;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::bearer::AdType;
use mesh_wire::foundation::{ConfigMessage, KeyRefreshTransition, ModelRef, SubscriptionChange};
use mesh_wire::friendship::PollTimeout;
use mesh_wire::{IvIndex, SeqAuth};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::faults::Faults;
use crate::net::{APP, HELLO, HOUR, MODEL, NET, Net, SECOND, app_key, net_key};
use crate::wiretap::Wiretap;

const NODES: usize = 4;
/// The node that begins IV Updates and key refreshes.
const MANAGER: usize = 0;
/// The node that sleeps; those before and after it are Friends.
const LPN: usize = 2;
const GROUP: u16 = 0xc000;

/// A PDU on its way, and its place in what its source sends; `None`: it is a beacon, or was changed on the way.
type Flying = (usize, Transmission, Option<(UnicastAddress, SeqAuth)>);

/// A segmented message on its way.
#[derive(Clone, Copy, Debug)]
struct Open {
    to: usize,
    number: u32,
    /// How often the receiver had crashed when it was sent, and the keys then, if they were not being changed.
    crashes: u32,
    keys: Option<u8>,
}

/// How far the refresh of the key is: the manager's next step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refresh {
    None,
    Distributed,
    Used,
}

pub(crate) struct World {
    net: Net,
    rng: ChaCha8Rng,
    wiretap: Wiretap,
    flying: BTreeMap<(Instant, u64), Flying>,
    number: u64,
    /// How far ahead the clock of each node is.
    ahead: [Duration; NODES],
    generation: u8,
    refresh: Refresh,
    /// What was sent, by the number in it, and what each node accepted.
    sent: BTreeSet<u32>,
    accepted: BTreeSet<(usize, u32)>,
    /// Segmented messages to one node that have not ended, by sender.
    open: Vec<BTreeMap<MessageId, Open>>,
    crashes: [u32; NODES],
    /// Of each node and source the newest PDU that came unharmed.
    newest: BTreeMap<(usize, UnicastAddress), SeqAuth>,
    /// What each node has stored of its sequence numbers, and its IV Index.
    progress: [(Vec<u8>, IvIndex); NODES],
    has_faults: bool,
    pub(crate) faults: Faults,
}

fn options(address: u16) -> NodeOptions {
    let usual = NodeOptions::default();
    let low_power = LowPowerSettings {
        poll_timeout: PollTimeout::of(20 * SECOND),
        poll_interval: 2 * SECOND,
        ..LowPowerSettings::default()
    };
    match address {
        2 | 4 => NodeOptions { friend: Some(FriendSettings::default()), ..usual },
        3 => NodeOptions { low_power: Some(low_power), ..usual },
        _ => usual,
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let net = Net::with_options(u16::try_from(NODES).unwrap(), options);
        let mut wiretap = Wiretap::default();
        wiretap.learn(1);
        let mut world = Self {
            net,
            rng: ChaCha8Rng::seed_from_u64(seed),
            wiretap,
            flying: BTreeMap::new(),
            number: 0,
            ahead: [Duration::ZERO; NODES],
            generation: 1,
            refresh: Refresh::None,
            sent: BTreeSet::new(),
            accepted: BTreeSet::new(),
            open: vec![BTreeMap::new(); NODES],
            crashes: [0; NODES],
            newest: BTreeMap::new(),
            progress: core::array::from_fn(|_| (Vec::new(), IvIndex(0))),
            has_faults: true,
            faults: Faults::default(),
        };
        for node in 0..NODES {
            let model = ModelRef { element: world.net.nodes[node].address(), model: MODEL };
            let (change, address) = (SubscriptionChange::Add, Address::from(GROUP));
            world.configure(node, ConfigMessage::ModelSubscriptionChange { change, address, model });
            world.wake(node);
        }
        world
    }

    /// What the host tells a node whenever it has begun.
    fn wake(&mut self, node: usize) {
        self.command(node, IvUpdateCommand::TestMode(true).into());
        if node == LPN {
            self.command(node, Command::LowPower(true));
        }
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.rng.next_u32() % limit
    }

    fn time(&self, node: usize) -> Instant {
        self.net.now + self.ahead[node]
    }

    /// When a node wants to be called, by the clock of the world.
    fn due(&self, node: usize) -> Option<Instant> {
        let at = self.net.nodes[node].poll_timeout()?.as_micros();
        let ahead = u64::try_from(self.ahead[node].as_micros()).unwrap();
        Some(Instant::from_micros(at.saturating_sub(ahead)))
    }

    fn command(&mut self, node: usize, command: Command) {
        let now = self.time(node);
        self.net.nodes[node].handle_command(now, command).unwrap();
        self.net.store(node);
    }

    fn configure(&mut self, node: usize, request: ConfigMessage) {
        self.command(node, Command::Configure(request));
    }

    pub(crate) fn operate(&mut self) {
        let node = usize::try_from(self.below(4)).unwrap();
        match self.below(40) {
            0 | 1 => self.crash(node, true),
            2 => self.crash(node, false),
            3 => self.update_iv_index(node),
            4 | 5 => self.refresh_key(),
            6 => {
                let jump = Duration::from_millis(u64::from(1 + self.below(30_000)));
                self.ahead[node] += jump;
                self.faults.clock_jumps += 1;
            }
            _ => self.send(node),
        }
        let pause = Duration::from_millis(u64::from(self.below(400)));
        self.run(pause);
    }

    fn update_iv_index(&mut self, node: usize) {
        // Who misses two updates can recover only once in 192 hours; mostly all are waited for.
        let index = |world: &Self, node: usize| {
            let iv = world.net.nodes[node].iv_update();
            (iv.index(), iv.is_in_progress())
        };
        let all_agree = (1..NODES).all(|node| index(self, node) == index(self, MANAGER));
        if all_agree || self.below(8) == 0 {
            let now = self.time(node);
            let is_in_progress = self.net.nodes[node].iv_update().is_in_progress();
            let command = if is_in_progress { IvUpdateCommand::Finish } else { IvUpdateCommand::Start };
            let done = self.net.nodes[node].handle_command(now, command.into()).is_ok();
            self.net.store(node);
            self.faults.iv_updates += u64::from(done);
        }
    }

    /// The next step of a key refresh: all get the new key, then the manager uses it, then it revokes the old one;
    /// the others follow what they hear, or find their way when they did not hear it.
    fn refresh_key(&mut self) {
        match self.refresh {
            Refresh::None => {
                self.generation += 1;
                self.wiretap.learn(self.generation);
                for node in 0..NODES {
                    let (net, app) = (net_key(self.generation), app_key(self.generation));
                    self.configure(node, ConfigMessage::NetKeyUpdate { index: NET, key: net });
                    let update = ConfigMessage::AppKeyUpdate { net_key_index: NET, index: APP, key: app };
                    self.configure(node, update);
                }
                self.refresh = Refresh::Distributed;
            }
            Refresh::Distributed => self.set_phase(KeyRefreshTransition::UseNewKeys, Refresh::Used),
            // Only who has ended the one before can begin with the next.
            Refresh::Used => {
                let phase = |node: usize| self.net.nodes[node].subnets()[0].phase;
                if (0..NODES).all(|node| phase(node) == KeyRefreshPhase::Second) || self.below(4) == 0 {
                    self.set_phase(KeyRefreshTransition::RevokeOldKeys, Refresh::Used);
                }
                let phase = |node: usize| self.net.nodes[node].subnets()[0].phase;
                if (0..NODES).all(|node| phase(node) == KeyRefreshPhase::Normal) {
                    self.refresh = Refresh::None;
                    self.faults.key_refreshes += 1;
                }
            }
        }
    }

    fn set_phase(&mut self, transition: KeyRefreshTransition, next: Refresh) {
        self.configure(MANAGER, ConfigMessage::KeyRefreshPhaseSet { index: NET, transition });
        self.refresh = next;
    }

    fn send(&mut self, node: usize) {
        let id = u32::try_from(self.sent.len()).unwrap();
        let to = match self.below(5) {
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
        let now = self.time(node);
        if let Ok(Answer::Sending(id_of)) = self.net.nodes[node].handle_command(now, Command::Send(message)) {
            self.sent.insert(id);
            if is_long && to < 0x8000 {
                let to = usize::from(to) - 1;
                let (crashes, keys) = (self.crashes[to], self.settled_keys());
                self.open[node].insert(id_of, Open { to, number: id, crashes, keys });
            }
        }
    }

    /// The power goes; what the node had not stored is gone, or what it had just handed out for that.
    fn crash(&mut self, node: usize, is_storing: bool) {
        if is_storing {
            // It has just taken a PDU, and what it must remember of that is not stored yet.
            if let Some(&at) = self.flying.iter().find(|(_, (to, ..))| *to == node).map(|(at, _)| at) {
                let flying = self.flying.remove(&at).unwrap();
                self.arrive(flying);
            }
            self.send(node);
            self.transmit(node);
            self.faults.crashes_before_storing += u64::from(!self.net.nodes[node].take_records().is_empty());
        } else {
            self.net.store(node);
        }
        self.faults.crashes += 1;
        self.crashes[node] += 1;
        self.open[node].clear();
        if node == LPN {
            self.faults.friendships_ended += u64::from(self.net.nodes[node].friend().is_some());
        }
        let now = self.net.now;
        self.net.now = self.time(node);
        self.net.restart(node);
        self.net.now = now;
        self.wake(node);
    }

    fn run(&mut self, duration: Duration) {
        let end = self.net.now + duration;
        loop {
            (0..NODES).for_each(|node| self.collect(node));
            let timeouts = (0..NODES).filter_map(|node| self.due(node));
            let flying = self.flying.keys().next().map(|&(at, _)| at);
            let Some(next) = timeouts.chain(flying).min().filter(|&at| at <= end) else { break };
            self.net.now = self.net.now.max(next);
            if self.flying.keys().next().is_some_and(|&(at, _)| at <= self.net.now) {
                let (_, flying) = self.flying.pop_first().unwrap();
                self.arrive(flying);
            }
            for node in 0..NODES {
                if self.due(node).is_some_and(|at| at <= self.net.now) {
                    let now = self.time(node);
                    self.net.nodes[node].handle_timeout(now);
                }
            }
        }
        self.net.now = end;
    }

    /// A PDU arrives. What is newer than all that came unharmed from its source before is not taken for a replay.
    fn arrive(&mut self, (to, sent, place): Flying) {
        let now = self.time(to);
        let node = &mut self.net.nodes[to];
        if !node.is_listening() {
            self.faults.unheard += 1;
            return;
        }
        let replayed = node.discards().get(Discard::Replayed);
        node.handle_pdu(now, &Received { ad_type: sent.ad_type, data: &sent.data, rssi: -60 });
        let is_refused = node.discards().get(Discard::Replayed) > replayed;
        if let Some((src, place)) = place {
            let newest = self.newest.entry((to, src));
            if let std::collections::btree_map::Entry::Occupied(newest) = &newest {
                assert!(!is_refused || place <= *newest.get(), "node {to} refuses {place:?} of {src:?}");
            } else {
                assert!(!is_refused, "node {to} refuses the first of {src:?}");
            }
            let newest = newest.or_insert(place);
            *newest = (*newest).max(place);
        }
    }

    fn collect(&mut self, node: usize) {
        // A host that is in a hurry gets only what may leave before the records are stored.
        self.transmit(node);
        self.net.store(node);
        self.check_progress(node);
        while let Some(event) = self.net.nodes[node].poll_event() {
            match event {
                Event::Message(message) => {
                    let id = u32::from_be_bytes(message.parameters[..4].try_into().unwrap());
                    assert!(self.sent.contains(&id), "nobody sent {id}");
                    assert!(self.accepted.insert((node, id)), "node {node} accepted {id} twice");
                    self.faults.accepted += 1;
                    let by_friend = message.rssi.is_some() && self.net.nodes[node].friend().is_some();
                    self.faults.accepted_from_friend += u64::from(by_friend);
                }
                Event::Sent { id, result } => self.end(node, id, result.is_ok()),
                Event::Friendship { role: FriendshipRole::LowPower, has_begun, .. } => {
                    let faults = &mut self.faults;
                    *(if has_begun {
                        &mut faults.friendships_begun
                    } else {
                        &mut faults.friendships_ended
                    }) += 1;
                }
                _ => {}
            }
        }
        self.transmit(node);
    }

    /// A segmented message has ended: it was delivered, to the node or to the Friend of one that sleeps, or failed.
    fn end(&mut self, node: usize, id: MessageId, is_ok: bool) {
        self.faults.reported_failed += u64::from(!is_ok);
        let Some(message) = self.open[node].remove(&id) else { return };
        let Open { to, number, crashes, keys } = message;
        if !is_ok || to == LPN {
            return;
        }
        let is_delivered = to == node || self.accepted.contains(&(to, number));
        self.faults.delivered_segmented += u64::from(is_delivered);
        // Who crashed has forgotten the segments that it acknowledged before; and while keys change, what the network
        // carries may be secured with an AppKey that is no more.
        let is_excused = crashes != self.crashes[to] || keys.is_none() || keys != self.settled_keys();
        assert!(is_delivered || is_excused, "{message:?} was acknowledged, not delivered");
    }

    fn settled_keys(&self) -> Option<u8> {
        (self.refresh == Refresh::None).then_some(self.generation)
    }

    /// What is stored of sequence numbers, and the IV Index, never goes back.
    fn check_progress(&mut self, node: usize) {
        let index = self.net.nodes[node].iv_update().index();
        let (reserved, before) = &self.progress[node];
        assert!(index >= *before, "node {node}: IV Index {before:?} became {index:?}");
        let stored = self.net.stores[node].get(&[1, 0, 0]).cloned().unwrap_or_default();
        assert!(stored >= *reserved, "node {node}: {reserved:?} became {stored:?}");
        self.progress[node] = (stored, index);
    }

    fn transmit(&mut self, node: usize) {
        while let Some(sent) = self.net.nodes[node].poll_transmit() {
            let place = (sent.ad_type == AdType::MeshMessage).then(|| {
                let address = self.net.nodes[node].address().into();
                let (pdu, place) = self.wiretap.check(address, self.net.nodes[node].iv_update(), &sent.data);
                (pdu.src, place)
            });
            for to in (0..NODES).filter(|&to| to != node) {
                self.launch(to, &sent, place);
            }
        }
    }

    fn launch(&mut self, to: usize, sent: &Transmission, place: Option<(UnicastAddress, SeqAuth)>) {
        if self.has_faults && self.below(100) < 20 {
            self.faults.lost += 1;
            return;
        }
        if self.has_faults && self.below(100) < 5 {
            // A bit falls over, and a whole copy comes a little later.
            let mut changed = sent.clone();
            let bit = self.below(8 * u32::try_from(changed.data.len()).unwrap());
            changed.data[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
            self.fly(to, &changed, None, Duration::ZERO);
            self.faults.corrupted += 1;
        }
        let copies = if self.has_faults && self.below(100) < 10 { 2 } else { 1 };
        self.faults.doubled += copies - 1;
        for _ in 0..copies {
            let is_late = self.has_faults && self.below(100) < 20;
            self.faults.late += u64::from(is_late);
            let delay = if is_late { 5 + self.below(800) } else { 1 };
            self.fly(to, sent, place, Duration::from_millis(delay.into()));
        }
    }

    fn fly(
        &mut self,
        to: usize,
        sent: &Transmission,
        place: Option<(UnicastAddress, SeqAuth)>,
        delay: Duration,
    ) {
        self.number += 1;
        self.flying.insert((self.net.now + sent.delay + delay, self.number), (to, sent.clone(), place));
    }

    /// The faults end. Everything gets where it was going, and what has to be there again is.
    pub(crate) fn finish(&mut self) {
        self.has_faults = false;
        // Who has recovered an IV Index may do so again.
        self.ahead.iter_mut().for_each(|ahead| *ahead += 193 * HOUR);
        self.run(300 * SECOND);
        while self.refresh != Refresh::None {
            self.refresh_key();
            self.run(100 * SECOND);
            assert!(self.net.now < Instant::ORIGIN + 2 * HOUR, "the key refresh does not end");
        }
        let open = self.open.iter().flatten().count();
        assert_eq!(open, 0, "a message did not end: {:?}", self.open);
        for (number, node) in self.net.nodes.iter().enumerate() {
            let subnet = &node.subnets()[0];
            assert_eq!(subnet.phase, KeyRefreshPhase::Normal, "node {number}");
            assert!(subnet.current.net_key == net_key(self.generation), "node {number} has an old key");
            assert_eq!(
                node.iv_update().index(),
                self.net.nodes[MANAGER].iv_update().index(),
                "node {number}"
            );
        }
        let friend = self.net.nodes[LPN].friend().expect("the friendship has formed again");
        let friend = self.net.nodes.iter().find(|node| node.address() == friend).unwrap();
        let lpn = (NET, self.net.nodes[LPN].address());
        assert!(friend.low_power_nodes().any(|node| node == lpn), "the Friend knows of it");
    }
}
