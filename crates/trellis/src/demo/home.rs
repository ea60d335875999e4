//! The demo's building with what lives in it: nodes on a medium, people, weather, and a store that remembers them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clock::Instant;
use journal::Change;
use mesh_commission::cdb::NetworkDatabase;
use mesh_models::generic::{BatteryServer, BatteryStatus, Outlet};
use mesh_models::sensor::SensorServer;
use mesh_models::switch::Switch;
use mesh_proto::node::{Event, Node, Record, RecordKey};
use mesh_sim::building::{Building, Fixture};
use mesh_sim::{OwnedReceived, Pcap, StationId, World};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use super::life::{self, Life, Press};
use super::network;

/// What a building is made of. A restart has to ask for the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// How many nodes; `None`: the home of the demo.
    pub(crate) nodes: Option<usize>,
    /// How often nodes publish their states; zero: only when these change.
    pub(crate) status_period: Duration,
}

/// How it is lived in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Living {
    /// The time since midnight at the start.
    pub(crate) time_of_day: Duration,
    /// How many seconds of life go by in one of the clock.
    pub(crate) speed: f64,
    /// Whether people walk about and press switches.
    pub(crate) with_people: bool,
}

impl Default for Living {
    fn default() -> Self {
        Self { time_of_day: Duration::from_secs(7 * 3_600 + 30 * 60), speed: 1.0, with_people: true }
    }
}

/// A building with its network.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) world: World,
    /// The station at which the gateway sends and receives.
    pub(crate) port: StationId,
    pub(crate) database: NetworkDatabase,
    building: Building,
    /// The stations of the fixtures, in their order.
    stations: Vec<StationId>,
    /// The switches' rockers, by fixture and element.
    rockers: BTreeMap<(usize, u8), Switch>,
    life: Life,
    /// Keys of records begin with the address of their node.
    addresses: Vec<u16>,
}

impl Plan {
    fn building(&self) -> Building {
        self.nodes.map_or_else(Building::home, Building::office)
    }

    /// Describes a new network for it, with keys that come from `rng`.
    pub(crate) fn describe(
        &self,
        rng: &mut ChaCha20Rng,
        timestamp: String,
    ) -> anyhow::Result<NetworkDatabase> {
        let building = self.building();
        let period = network::status_period(building.fixtures.len(), self.status_period);
        network::describe(&building, rng, period, timestamp)
    }
}

impl Home {
    /// Builds it, with nodes as `stored` has them, by address and record. All randomness but that of the keys comes
    /// from `seed`.
    pub(crate) fn build(
        plan: &Plan,
        living: &Living,
        seed: u64,
        database: NetworkDatabase,
        mut stored: BTreeMap<u16, Vec<(RecordKey, Vec<u8>)>>,
    ) -> anyhow::Result<Self> {
        let building = plan.building();
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut world = World::new(seed, building.medium.clone());
        let port = world.add_port("gateway", building.gateway);
        let (mut stations, mut addresses, mut rockers) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (number, (fixture, entry)) in building.fixtures.iter().zip(&database.nodes[1..]).enumerate() {
            let mut node_seed = [0; 32];
            rng.fill_bytes(&mut node_seed);
            let address = entry.unicast_address.0;
            let records = stored.remove(&address).unwrap_or_default();
            let node = network::make_node(&database, entry, fixture, node_seed, records)
                .with_context(|| format!("cannot set up {}", fixture.name))?;
            for element in 0..u8::try_from(node.composition().elements.len()).unwrap_or(u8::MAX) {
                rockers.insert((number, element), Switch::new(element));
            }
            stations.push(world.add_node(&fixture.name, fixture.position, node));
            addresses.push(address);
        }
        let life = Life::new(seed, &building, living.time_of_day, living.speed, living.with_people);
        Ok(Self { world, port, database, building, stations, rockers, life, addresses })
    }

    /// A building that nothing remembers: all keys and all randomness come from `seed`.
    pub(crate) fn forgetful(
        plan: &Plan,
        living: &Living,
        seed: u64,
        timestamp: String,
    ) -> anyhow::Result<Self> {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let database = plan.describe(&mut rng, timestamp)?;
        Self::build(plan, living, rng.next_u64(), database, BTreeMap::new())
    }

    /// Lets everything happen that happens up to `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(at) = self.life.poll_timeout().filter(|&at| at <= now) {
            self.world.handle_timeout(at);
            self.live(at);
        }
        self.world.handle_timeout(now);
        self.listen(now);
    }

    /// When [`Home::handle_timeout`] is next due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.world.poll_timeout(), self.life.poll_timeout()].into_iter().flatten().min()
    }

    /// Lets the next thing happen that happens up to `end`; says whether there was one.
    pub(crate) fn step_until(&mut self, end: Instant) -> bool {
        let living = self.life.poll_timeout().filter(|&at| at <= end);
        if let Some(at) = living.filter(|&at| self.world.poll_timeout().is_none_or(|world| at <= world)) {
            self.world.handle_timeout(at);
            self.live(at);
            return true;
        }
        let is_stepped = self.world.step_until(end);
        self.listen(self.world.now());
        is_stepped
    }

    /// The next thing that the gateway's station heard.
    pub(crate) fn poll_received(&mut self) -> Option<OwnedReceived> {
        self.world.poll_received().map(|(_, received)| received)
    }

    /// Takes what is to be stored; what waits for that happens at [`World::handle_stored`].
    pub(crate) fn take_records(&mut self) -> Vec<Change> {
        let port = self.port;
        let address_of = |station: StationId| {
            let number = self.stations.iter().position(|&other| other == station)?;
            self.addresses.get(number).copied()
        };
        let records = self.world.take_records().into_iter().filter(|(station, _)| *station != port);
        records.filter_map(|(station, record)| Some(change_of(address_of(station)?, record))).collect()
    }

    /// Cuts or mends the radio of a node; `false`: there is no such node.
    pub(crate) fn set_cut(&mut self, name: &str, is_cut: bool) -> bool {
        let number = self.building.fixtures.iter().position(|fixture| fixture.name == name);
        let station = number.and_then(|number| self.stations.get(number).copied());
        station.is_some_and(|station| {
            self.world.set_cut(station, is_cut);
            true
        })
    }

    /// The things in the building.
    pub(crate) fn fixtures(&self) -> &[Fixture] {
        &self.building.fixtures
    }

    /// The lamp with the most hops.
    pub(crate) fn farthest_lamp(&self) -> &str {
        let lamps = self.building.fixtures.iter().filter(|fixture| fixture.kind.is_lamp());
        lamps.max_by_key(|fixture| fixture.hops).map_or("", |fixture| &fixture.name)
    }

    /// Records the medium in a file.
    pub(crate) fn capture_to(&mut self, path: &Path) -> anyhow::Result<File> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.world.capture(Pcap::new(u64::try_from(since_1970.as_micros()).unwrap_or(0)));
        Ok(file)
    }

    /// What the building is, in a sentence.
    pub(crate) fn describe(&self) -> String {
        let fixtures = &self.building.fixtures;
        let relays = fixtures.iter().filter(|fixture| fixture.relay).count();
        format!(
            "{} nodes in {} rooms, {relays} of them relays, up to {} hops from the gateway; simulated, with walls, \
             collisions and {:.0} % of all receptions lost to interference",
            fixtures.len(),
            self.building.rooms.len(),
            self.building.farthest_hops(),
            self.building.medium.interference * 100.0,
        )
    }

    /// Has what life brings happen to the nodes.
    fn live(&mut self, now: Instant) {
        self.life.handle_timeout(now);
        while let Some(event) = self.life.poll_event() {
            match event {
                life::Event::Measure { fixture, property, value } => {
                    self.with_node(now, fixture, |node| {
                        node.with_server(now, 0, |server: &mut SensorServer, context| {
                            server.set_value(now, property, value, context)
                        });
                    });
                }
                life::Event::Battery { fixture, percent } => {
                    let status = BatteryStatus { level: Some(percent), ..BatteryStatus::default() };
                    self.with_node(now, fixture, |node| {
                        node.with_server(now, 0, |server: &mut BatteryServer, context| {
                            server.set_status(status, context);
                        });
                    });
                }
                life::Event::Press { fixture, element, press } => self.press(now, fixture, element, press),
            }
        }
    }

    fn press(&mut self, now: Instant, fixture: usize, element: u8, press: Press) {
        let Some(rocker) = self.rockers.get_mut(&(fixture, element)) else { return };
        let command = match press {
            Press::On => rocker.on_off(true, None),
            Press::Off => rocker.on_off(false, None),
            Press::Hold(per_second) => rocker.hold(per_second),
            Press::Release => rocker.release(),
        };
        // A switch whose queue is full does nothing, as a real one would.
        self.with_node(now, fixture, |node| _ = node.handle_command(now, command));
    }

    fn with_node(&mut self, now: Instant, fixture: usize, act: impl FnOnce(&mut Node)) {
        if let Some(&station) = self.stations.get(fixture) {
            self.world.with_node(now, station, act);
        }
    }

    /// Tells life what plugs feed.
    fn listen(&mut self, now: Instant) {
        while let Some((station, event)) = self.world.poll_event() {
            if !matches!(event, Event::Changed { .. }) {
                continue;
            }
            let Some(fixture) = self.stations.iter().position(|&other| other == station) else { continue };
            let outlet = self.world.node(station).and_then(|node| node.server::<Outlet>(0));
            if let Some(is_on) = outlet.map(|outlet| outlet.is_on(now)) {
                self.life.switched(fixture, is_on);
            }
        }
    }
}

/// Keys of the nodes' records: `n`, the address, and the record's own.
const NODE: u8 = b'n';

fn change_of(address: u16, record: Record) -> Change {
    let mut key = vec![NODE];
    key.extend(address.to_be_bytes());
    key.extend(record.key.to_octets());
    (key, record.value)
}

/// Sorts stored records by node.
pub(crate) fn records_of(
    stored: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
) -> BTreeMap<u16, Vec<(RecordKey, Vec<u8>)>> {
    let mut records: BTreeMap<u16, Vec<(RecordKey, Vec<u8>)>> = BTreeMap::new();
    for (key, value) in stored {
        if let [NODE, high, low, rest @ ..] = &key[..]
            && let Some(key) = RecordKey::from_octets(rest)
        {
            records.entry(u16::from_be_bytes([*high, *low])).or_default().push((key, value));
        }
    }
    records
}
