use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use clock::Instant;
use mesh_proto::bearer::Transmission;
use mesh_wire::bearer::AdType;
use mesh_wire::network::Octets;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::config::{AdvertiserTiming, MediumConfig, Position};

/// A station, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StationId(pub usize);

/// The advertising channels: 37, 38 and 39.
const CHANNELS: u8 = 3;

/// A PDU on one channel: preamble, access address, header, AdvA and CRC around the AD structure, which is length,
/// type and data; 8 µs an octet (Core specification, Vol 6, Part B, §2.1).
fn airtime(data: usize) -> Duration {
    let octets = 1 + 4 + 2 + 6 + 2 + data + 3;
    Duration::from_micros(u64::try_from(octets).unwrap_or(0) * 8)
}

/// What a station heard.
#[derive(Clone, Debug, PartialEq)]
pub struct Reception {
    /// Who heard it.
    pub to: StationId,
    /// Who sent it.
    pub from: StationId,
    /// What it carries.
    pub ad_type: AdType,
    /// What follows the AD type.
    pub data: Octets,
    /// How strong it was, in dBm.
    pub rssi: i8,
}

/// What became of the single receptions of a link: one for each advertising event (the same PDU on three
/// channels) and each station in range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Advertising events.
    pub events: u64,
    /// Events of which the station heard a PDU.
    pub heard: u64,
    /// Events that were lost to interference or as too weak.
    pub faded: u64,
    /// Events that were lost to others who sent at the same time.
    pub collided: u64,
    /// Events in which the station itself was sending.
    pub deaf: u64,
    /// Events whose channel the station left, or did not come to, in time.
    pub missed: u64,
}

impl LinkCounts {
    fn count(&mut self, fate: Fate) {
        self.events += 1;
        match fate {
            Fate::Heard => self.heard += 1,
            Fate::Faded => self.faded += 1,
            Fate::Collided => self.collided += 1,
            Fate::Deaf => self.deaf += 1,
            Fate::Missed => self.missed += 1,
        }
    }

    /// The share of single receptions that were lost, for whatever reason.
    pub fn loss(&self) -> f64 {
        share(self.events - self.heard, self.events)
    }

    /// The share that the medium itself took (interference, weak signal, the scanner between two channels) of
    /// those in which no other station, and not the receiver itself, was sending.
    pub fn medium_loss(&self) -> f64 {
        let lost = self.faded + self.missed;
        share(lost, lost + self.heard)
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[derive(Debug)]
struct Station {
    position: Position,
    rng: ChaCha8Rng,
    queue: VecDeque<Pending>,
    /// Where the free-running advertiser, and the scanner, began.
    phase: Duration,
    /// While it sends: its last advertising event and the one before.
    sending: [(Instant, Instant); 2],
    dropped: u64,
    /// A cut radio neither sends nor hears.
    is_cut: bool,
}

#[derive(Clone, Debug)]
struct Pending {
    ad_type: AdType,
    data: Octets,
    left: u8,
    interval: Duration,
    at: Instant,
}

/// An advertising event on the air.
#[derive(Clone, Debug)]
struct Event {
    from: StationId,
    ad_type: AdType,
    data: Octets,
    start: Instant,
    end: Instant,
    airtime: Duration,
    /// What it has become so far at each station.
    fates: Vec<Fate>,
}

/// How strong a station is at another, and the share that is lost when nobody else sends.
type Link = (f64, f64);

/// What an event becomes at a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Heard,
    Faded,
    Collided,
    Deaf,
    Missed,
}

/// The PDU of an event on one channel.
#[derive(Clone, Copy, Debug)]
struct Pdu {
    from: StationId,
    channel: u8,
    start: Instant,
    end: Instant,
}

/// The air between stations.
#[derive(Debug)]
pub struct Medium {
    config: MediumConfig,
    seed: u64,
    stations: Vec<Station>,
    /// How each station is heard at each other one, by sender and receiver; `None`: out of range.
    links: Vec<Vec<Option<Link>>>,
    /// Who is in range of each station.
    hearers: Vec<Vec<StationId>>,
    /// When stations send next; entries that are out of date are passed over.
    wakes: BinaryHeap<Reverse<(Instant, StationId)>>,
    /// Events that have not ended, in the order of their starts, and those that may still overlap them.
    on_air: VecDeque<Event>,
    /// When the PDUs of the events on the air end, with their channels.
    ends: BinaryHeap<Reverse<(Instant, StationId, u8)>>,
    receptions: VecDeque<Reception>,
    started: VecDeque<(Instant, StationId, AdType, Octets)>,
    counts: BTreeMap<(StationId, StationId), LinkCounts>,
}

impl Medium {
    /// Air with these settings.
    pub fn new(seed: u64, config: MediumConfig) -> Self {
        Self {
            config,
            seed,
            stations: Vec::new(),
            links: Vec::new(),
            hearers: Vec::new(),
            wakes: BinaryHeap::new(),
            on_air: VecDeque::new(),
            ends: BinaryHeap::new(),
            receptions: VecDeque::new(),
            started: VecDeque::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Its settings.
    pub fn config(&self) -> &MediumConfig {
        &self.config
    }

    /// Adds a station. Its randomness comes from the seed and its own number, so that one more station does not
    /// change the dice of the others.
    pub fn add_station(&mut self, position: Position) -> StationId {
        let id = StationId(self.stations.len());
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(id.0 as u64);
        let phase = Duration::from_micros(rng.next_u64() % 100_000);
        let never = (Instant::ORIGIN, Instant::ORIGIN);
        self.link_up(id, position);
        let queue = VecDeque::new();
        self.stations.push(Station {
            position,
            rng,
            queue,
            phase,
            sending: [never; 2],
            dropped: 0,
            is_cut: false,
        });
        id
    }

    /// Works out how a new station is heard, and whom it hears: it is asked for with every PDU.
    fn link_up(&mut self, id: StationId, position: Position) {
        let mut links = Vec::with_capacity(id.0 + 1);
        let mut hearers = Vec::new();
        for (other, station) in self.stations.iter().enumerate() {
            let link_of = |from, to| {
                let rssi = self.config.rssi_dbm(from, to);
                self.config.loss(rssi).map(|loss| (rssi, loss))
            };
            let (to, from) = (link_of(position, station.position), link_of(station.position, position));
            links.push(to);
            hearers.extend(to.map(|_| StationId(other)));
            self.links[other].push(from);
            self.hearers[other].extend(from.map(|_| id));
        }
        links.push(None);
        self.links.push(links);
        self.hearers.push(hearers);
    }

    /// Cuts or mends a station's radio.
    pub fn set_cut(&mut self, station: StationId, is_cut: bool) {
        self.stations[station.0].is_cut = is_cut;
    }

    /// Has a station send.
    pub fn transmit(&mut self, now: Instant, station: StationId, transmission: Transmission) {
        let queue_limit = self.config.queue;
        let at = self.next_event(station, now + transmission.delay);
        let sender = &mut self.stations[station.0];
        if sender.queue.len() >= queue_limit {
            sender.dropped += 1;
            return;
        }
        let Transmission { ad_type, data, count, interval, .. } = transmission;
        sender.queue.push_back(Pending { ad_type, data, left: count, interval, at });
        self.wakes.push(Reverse((at, station)));
    }

    /// PDUs that a station dropped because too many waited.
    pub fn dropped(&self, station: StationId) -> u64 {
        self.stations[station.0].dropped
    }

    /// What became of what was sent from one station to another, of all pairs in range.
    pub fn counts(&self) -> &BTreeMap<(StationId, StationId), LinkCounts> {
        &self.counts
    }

    /// How strong one station is at another, and the share that is lost when nobody else sends; `None`: out of
    /// range.
    pub fn link(&self, from: StationId, to: StationId) -> Option<(f64, f64)> {
        self.links[from.0][to.0]
    }

    /// When [`Medium::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let wake = self.wakes.peek().map(|Reverse((at, _))| *at);
        let end = self.ends.peek().map(|Reverse((at, ..))| *at);
        wake.into_iter().chain(end).min()
    }

    /// Does what happens at the next instant, which is not after `now`; ends come before beginnings.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(&Reverse((at, station, channel))) = self.ends.peek()
            && at <= now
            && self.wakes.peek().is_none_or(|Reverse((wake, _))| at <= *wake)
        {
            self.ends.pop();
            self.end_pdu(at, station, channel);
        } else if let Some(&Reverse((at, station))) = self.wakes.peek()
            && at <= now
        {
            self.wakes.pop();
            self.begin(at, station);
        }
    }

    /// The next thing that was heard.
    pub fn poll_reception(&mut self) -> Option<Reception> {
        self.receptions.pop_front()
    }

    /// The next advertising event that began: when, whose, and what.
    pub fn poll_started(&mut self) -> Option<(Instant, StationId, AdType, Octets)> {
        self.started.pop_front()
    }

    /// When a station that wants to send at `wanted` does.
    fn next_event(&mut self, station: StationId, wanted: Instant) -> Instant {
        let (timing, most) = (self.config.timing, self.config.adv_delay_max);
        let sender = &mut self.stations[station.0];
        match timing {
            AdvertiserTiming::AtOnce => wanted,
            AdvertiserTiming::FreeRunning(interval) => {
                let since = wanted.as_micros().saturating_sub(micros(sender.phase));
                let periods = since.div_ceil(micros(interval).max(1));
                let at = Instant::ORIGIN + sender.phase + Duration::from_micros(periods * micros(interval));
                at + random(&mut sender.rng, most)
            }
        }
    }

    /// Begins an advertising event of what has waited longest for now.
    fn begin(&mut self, now: Instant, id: StationId) {
        let (gap, most) = (self.config.channel_gap, self.config.adv_delay_max);
        let station = &mut self.stations[id.0];
        if station.sending[0].1 > now {
            // One antenna: what is due meanwhile waits.
            let free = station.sending[0].1;
            for pending in station.queue.iter_mut().filter(|pending| pending.at < free) {
                pending.at = free;
            }
            self.wakes.push(Reverse((free, id)));
            return;
        }
        let Some(index) = station.queue.iter().position(|pending| pending.at <= now) else { return };
        let Some(mut pending) = station.queue.remove(index) else { return };
        let airtime = airtime(pending.data.len());
        let end = now + airtime * u32::from(CHANNELS) + gap * u32::from(CHANNELS - 1);
        station.sending = [(now, end), station.sending[0]];
        let (ad_type, data) = (pending.ad_type, pending.data.clone());
        pending.left = pending.left.saturating_sub(1);
        if pending.left > 0 {
            pending.at = now + pending.interval + random(&mut station.rng, most);
            self.wakes.push(Reverse((pending.at, id)));
            station.queue.push_back(pending);
        }
        if station.is_cut {
            return;
        }
        self.started.push_back((now, id, ad_type, data.clone()));
        for channel in 0..CHANNELS {
            let pdu_end = now + airtime * (u32::from(channel) + 1) + gap * u32::from(channel);
            self.ends.push(Reverse((pdu_end, id, channel)));
        }
        let fates = vec![Fate::Missed; self.stations.len()];
        self.on_air.push_back(Event { from: id, ad_type, data, start: now, end, airtime, fates });
    }

    /// Ends the PDU of an advertising event on one channel: whoever heard it has it now.
    fn end_pdu(&mut self, now: Instant, from: StationId, channel: u8) {
        let Some(index) = self.on_air.iter().position(|event| event.from == from && now <= event.end) else {
            return;
        };
        let event = &mut self.on_air[index];
        let (mut fates, airtime) = (std::mem::take(&mut event.fates), event.airtime);
        let start = now.as_micros().saturating_sub(micros(airtime));
        let pdu = Pdu { from, channel, start: Instant::from_micros(start), end: now };
        let is_last = channel == CHANNELS - 1;
        let hearers = std::mem::take(&mut self.hearers[from.0]);
        for &to in &hearers {
            let Some((rssi, loss)) = self.link(from, to) else { continue };
            if self.stations[to.0].is_cut {
                continue;
            }
            let fate = &mut fates[to.0];
            if *fate != Fate::Heard {
                *fate = self.fate(pdu, to, rssi, loss).unwrap_or(*fate);
                if *fate == Fate::Heard {
                    let (ad_type, data) = (self.on_air[index].ad_type, self.on_air[index].data.clone());
                    self.receptions.push_back(Reception { to, from, ad_type, data, rssi: dbm(rssi) });
                }
            }
            if is_last {
                self.counts.entry((from, to)).or_default().count(*fate);
            }
        }
        self.hearers[from.0] = hearers;
        self.on_air[index].fates = fates;
        // An event that ended can still overlap those that are on the air; the longest takes 2 ms.
        let horizon = Duration::from_millis(5);
        while self.on_air.front().is_some_and(|event| event.end + horizon < now) {
            self.on_air.pop_front();
        }
    }

    /// What becomes of a PDU at a station in range; `None`: the station was not listening.
    fn fate(&mut self, pdu: Pdu, to: StationId, rssi: f64, loss: f64) -> Option<Fate> {
        if !self.listens(to, pdu.channel, pdu.start, pdu.end) {
            return None;
        }
        if self.stations[to.0].sending.iter().any(|&(from, until)| from < pdu.end && pdu.start < until) {
            return Some(Fate::Deaf);
        }
        if self.is_drowned(pdu, to, rssi) {
            return Some(Fate::Collided);
        }
        let is_lost = chance(&mut self.stations[to.0].rng) < loss;
        Some(if is_lost { Fate::Faded } else { Fate::Heard })
    }

    /// Whether a station's scanner is on a channel for the whole of a PDU.
    fn listens(&self, station: StationId, channel: u8, start: Instant, end: Instant) -> bool {
        let (interval, window) = (micros(self.config.scan.interval).max(1), micros(self.config.scan.window));
        let phase = micros(self.stations[station.0].phase);
        let (first, last) = (start.as_micros() + phase, end.as_micros() + phase);
        first / interval == last / interval
            && first / interval % u64::from(CHANNELS) == u64::from(channel)
            && last % interval < window
    }

    /// Whether another PDU on the same channel is too strong beside this one.
    fn is_drowned(&self, pdu: Pdu, to: StationId, rssi: f64) -> bool {
        self.on_air.iter().filter(|other| other.from != pdu.from && other.from != to).any(|other| {
            let start = other.start + (other.airtime + self.config.channel_gap) * u32::from(pdu.channel);
            let overlaps = start < pdu.end && pdu.start < start + other.airtime;
            overlaps
                && self.link(other.from, to).is_some_and(|(other, _)| other > rssi - self.config.capture_db)
        })
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// 0 to `most`, in microseconds.
fn random(rng: &mut ChaCha8Rng, most: Duration) -> Duration {
    Duration::from_micros(rng.next_u64() % (micros(most) + 1))
}

/// A number from 0 to below 1.
fn chance(rng: &mut ChaCha8Rng) -> f64 {
    f64::from(rng.next_u32()) / 4_294_967_296.0
}

/// A strength as a receiver reports it.
fn dbm(rssi: f64) -> i8 {
    // Between -128 and 20 for everything that is heard.
    #[expect(clippy::cast_possible_truncation, reason = "rounded and within the range")]
    let rounded = rssi.round().clamp(-127.0, 20.0) as i8;
    rounded
}
