use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;

use clock::{Instant, Timers};
use mesh_proto::bearer::{Received, Transmission};
use mesh_proto::node::{Event, Node, Record};
use mesh_wire::bearer::AdType;
use mesh_wire::network::Octets;

use crate::config::{MediumConfig, Position};
use crate::medium::{Medium, StationId};
use crate::pcap::Pcap;

/// What a port received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedReceived {
    /// What it carries.
    pub ad_type: AdType,
    /// What follows the AD type.
    pub data: Octets,
    /// How strong it was, in dBm.
    pub rssi: i8,
}

#[derive(Debug)]
struct Inhabitant {
    name: String,
    /// `None`: a port, whose host sends and receives for itself.
    node: Option<Box<Node>>,
}

/// Nodes and ports on a medium.
#[derive(Debug)]
pub struct World {
    medium: Medium,
    inhabitants: Vec<Inhabitant>,
    /// When each node has something to do.
    timers: Timers<StationId>,
    now: Instant,
    /// Nodes that may have records which were not taken.
    touched: BTreeSet<StationId>,
    /// Nodes whose records were taken, and are not stored yet as far as is known.
    storing: BTreeSet<StationId>,
    received: VecDeque<(StationId, OwnedReceived)>,
    events: VecDeque<(StationId, Event)>,
    log: Option<String>,
    pcap: Option<Pcap>,
}

impl OwnedReceived {
    /// As a node takes it.
    pub fn as_received(&self) -> Received<'_> {
        Received { ad_type: self.ad_type, data: &self.data, rssi: self.rssi }
    }
}

impl World {
    /// A world without inhabitants.
    pub fn new(seed: u64, medium: MediumConfig) -> Self {
        Self {
            medium: Medium::new(seed, medium),
            inhabitants: Vec::new(),
            timers: Timers::new(),
            now: Instant::ORIGIN,
            touched: BTreeSet::new(),
            storing: BTreeSet::new(),
            received: VecDeque::new(),
            events: VecDeque::new(),
            log: None,
            pcap: None,
        }
    }

    /// Keeps an event log: a line for each advertisement, reception and event of a node.
    pub fn log_events(&mut self) {
        self.log = Some(String::new());
    }

    /// Records the medium.
    pub fn capture(&mut self, pcap: Pcap) {
        self.pcap = Some(pcap);
    }

    /// Adds a node. What one that keeps records ([`Node::restore`]) sends or tells waits until they are stored:
    /// see [`World::take_records`].
    pub fn add_node(&mut self, name: &str, position: Position, node: Node) -> StationId {
        self.inhabitants.push(Inhabitant { name: name.to_owned(), node: Some(Box::new(node)) });
        let station = self.medium.add_station(position);
        self.drain(station);
        station
    }

    /// Takes the records of all nodes that are to be stored, all together or none.
    pub fn take_records(&mut self) -> Vec<(StationId, Record)> {
        let mut records = Vec::new();
        for station in std::mem::take(&mut self.touched) {
            let Some(node) = &mut self.inhabitants[station.0].node else { continue };
            let taken = node.take_records();
            if !taken.is_empty() {
                self.storing.insert(station);
            }
            records.extend(taken.into_iter().map(|record| (station, record)));
        }
        records
    }

    /// All records that were taken are stored: what waited for them happens now.
    pub fn handle_stored(&mut self) {
        for station in std::mem::take(&mut self.storing) {
            if let Some(node) = &mut self.inhabitants[station.0].node {
                node.handle_stored();
            }
            self.drain(station);
        }
    }

    /// Adds a station whose host sends and receives for itself.
    pub fn add_port(&mut self, name: &str, position: Position) -> StationId {
        self.inhabitants.push(Inhabitant { name: name.to_owned(), node: None });
        self.medium.add_station(position)
    }

    /// The medium, for its counts.
    pub fn medium(&self) -> &Medium {
        &self.medium
    }

    /// Cuts or mends a station's radio.
    pub fn set_cut(&mut self, station: StationId, is_cut: bool) {
        self.medium.set_cut(station, is_cut);
    }

    /// A station's name.
    pub fn name(&self, station: StationId) -> &str {
        &self.inhabitants[station.0].name
    }

    /// The node of a station.
    pub fn node(&self, station: StationId) -> Option<&Node> {
        self.inhabitants[station.0].node.as_deref()
    }

    /// Does something with the node of a station, and sends what follows.
    pub fn with_node<T>(
        &mut self,
        now: Instant,
        station: StationId,
        work: impl FnOnce(&mut Node) -> T,
    ) -> Option<T> {
        self.handle_timeout(now);
        let result = self.inhabitants[station.0].node.as_mut().map(|node| work(node));
        self.drain(station);
        result
    }

    /// The present.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Has a port send, at the present.
    pub fn transmit(&mut self, station: StationId, transmission: Transmission) {
        self.medium.transmit(self.now, station, transmission);
    }

    /// Lets everything happen that happens up to `now`, each thing at its own time.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(at) = self.poll_timeout().filter(|&at| at <= now) {
            self.now = self.now.max(at);
            self.step();
        }
        self.now = self.now.max(now);
    }

    /// Lets the next thing happen that happens up to `now`; says whether there was one.
    pub fn step_until(&mut self, now: Instant) -> bool {
        let Some(at) = self.poll_timeout().filter(|&at| at <= now) else { return false };
        self.now = self.now.max(at);
        self.step();
        true
    }

    /// When [`World::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.medium.poll_timeout().into_iter().chain(self.timers.next()).min()
    }

    /// The next thing that a port received.
    pub fn poll_received(&mut self) -> Option<(StationId, OwnedReceived)> {
        self.received.pop_front()
    }

    /// The next event of a node.
    pub fn poll_event(&mut self) -> Option<(StationId, Event)> {
        self.events.pop_front()
    }

    /// Takes the event log's new lines.
    pub fn take_log(&mut self) -> String {
        self.log.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes the capture's new bytes.
    pub fn take_pcap(&mut self) -> Vec<u8> {
        self.pcap.as_mut().map(Pcap::take).unwrap_or_default()
    }

    fn step(&mut self) {
        let now = self.now;
        if self.medium.poll_timeout().is_some_and(|at| at <= now) {
            self.medium.handle_timeout(now);
            self.record_started();
            while let Some(reception) = self.medium.poll_reception() {
                let crate::medium::Reception { to, from, ad_type, data, rssi } = reception;
                self.log(|world| format!("{} hears {} at {rssi} dBm", world.name(to), world.name(from)));
                let received = OwnedReceived { ad_type, data, rssi };
                match &mut self.inhabitants[to.0].node {
                    // The radio of a Low Power node is off most of the time.
                    Some(node) if !node.is_listening() => continue,
                    Some(node) => node.handle_pdu(now, &received.as_received()),
                    None => self.received.push_back((to, received)),
                }
                self.drain(to);
            }
            return;
        }
        if let Some(station) = self.timers.pop_expired(now) {
            if let Some(node) = &mut self.inhabitants[station.0].node {
                node.handle_timeout(now);
            }
            self.drain(station);
        }
    }

    fn record_started(&mut self) {
        while let Some((at, station, ad_type, data)) = self.medium.poll_started() {
            self.log(|world| format!("{} sends {ad_type:?} {}", world.name(station), hex::encode(&data)));
            if let Some(pcap) = &mut self.pcap {
                let length = u8::try_from(data.len() + 1).unwrap_or(u8::MAX);
                let ad = [&[length, u8::from(ad_type)][..], &data].concat();
                // A static random address of the station's own: the two upper bits are set.
                let [high, low] = u16::try_from(station.0).unwrap_or(u16::MAX).to_be_bytes();
                pcap.record(at, [0xc0, 0, 0, 0, high, low], &ad);
            }
        }
    }

    /// Takes what a node has to send and to tell, and when it is next due. Follows everything done to a node.
    fn drain(&mut self, station: StationId) {
        let now = self.now;
        let Some(node) = &mut self.inhabitants[station.0].node else { return };
        let transmissions: Vec<Transmission> = std::iter::from_fn(|| node.poll_transmit()).collect();
        let events: Vec<Event> = std::iter::from_fn(|| node.poll_event()).collect();
        match node.poll_timeout() {
            Some(at) => self.timers.set(station, at),
            None => drop(self.timers.cancel(&station)),
        }
        self.touched.insert(station);
        for transmission in transmissions {
            self.medium.transmit(now, station, transmission);
        }
        for event in events {
            self.log(|world| format!("{} tells {event:?}", world.name(station)));
            self.events.push_back((station, event));
        }
    }

    /// Adds a line `microseconds text` to the log, if there is one.
    fn log(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.log.is_none() {
            return;
        }
        let (micros, line) = (self.now.as_micros(), line(self));
        if let Some(log) = &mut self.log {
            // Writing to a String cannot fail.
            let _ = writeln!(log, "{micros:>12} {line}");
        }
    }
}
