//! The demo's building in virtual time, gateway included: as fast as it can be computed, and the same for the same
//! seed.

use std::fmt;
use std::time::Duration;

use clock::Instant;
use gateway::{Gateway, GatewayConfig, Inbox};
use mesh_commission::cdb::NetworkDatabase;
use mesh_sim::{LinkCounts, Pcap};
use serde_json::Value;

use crate::demo::{Home, Living, Plan};

/// How long the gateway has to get to know its nodes.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long after a confirmation the next command comes.
const PAUSE: Duration = Duration::from_millis(500);

/// What a simulation dates its network with: its time is not ours.
const TIMESTAMP: &str = "2000-01-01T00:00:00Z";

/// A building and its gateway.
#[derive(Debug)]
pub(crate) struct Simulation {
    home: Home,
    gateway: Gateway,
    published: Vec<(String, Vec<u8>)>,
    /// When the gateway put something on the air.
    sent: Vec<Instant>,
}

/// What a run showed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    /// The farthest node, and the hops that its messages took.
    pub(crate) farthest: (String, u8),
    /// From each command to its confirmation.
    pub(crate) round_trips: Vec<Duration>,
    /// Commands that were not confirmed.
    pub(crate) lost: u32,
    /// Transmissions of requests beyond the first.
    pub(crate) retries: u64,
    /// The least and the most over all links in range: single receptions that the medium itself took.
    pub(crate) medium_loss: (f64, f64),
    /// The same, of those that were lost for whatever reason.
    pub(crate) loss: (f64, f64),
}

impl Simulation {
    /// A building whose randomness all comes from `seed`.
    pub(crate) fn new(plan: &Plan, seed: u64, with_log: bool, with_pcap: bool) -> anyhow::Result<Self> {
        let living = Living { time_of_day: Duration::from_secs(27_000), speed: 1.0, with_people: false };
        let mut home = Home::forgetful(plan, &living, seed, TIMESTAMP.to_owned())?;
        if with_log {
            home.world.log_events();
        }
        if with_pcap {
            home.world.capture(Pcap::new(0));
        }
        let mut gateway_seed = [0x5a; 32];
        gateway_seed[..8].copy_from_slice(&seed.to_be_bytes());
        let config = GatewayConfig { discovery_prefix: None, ..GatewayConfig::new(gateway_seed) };
        let gateway = Gateway::new(Instant::ORIGIN, &config, &home.database, [])?;
        let mut simulation = Self { home, gateway, published: Vec::new(), sent: Vec::new() };
        simulation.gateway.handle_connected(Instant::ORIGIN);
        simulation.carry();
        Ok(simulation)
    }

    pub(crate) fn database(&self) -> &NetworkDatabase {
        &self.home.database
    }

    pub(crate) fn take_pcap(&mut self) -> Vec<u8> {
        self.home.world.take_pcap()
    }

    /// Waits until the gateway knows all nodes, and then has it dim the lamps in turn, so many times in all.
    pub(crate) fn dim_lamps(
        &mut self,
        times: u32,
        mut log: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<Report> {
        let end = self.now() + PATIENCE;
        while !self.is_complete() && self.now() < end {
            self.step(end);
            log(&self.home.world.take_log())?;
        }
        let lamps = self.lamps();
        let mut round_trips = Vec::new();
        for (number, lamp) in (0..times).zip(lamps.iter().cycle()) {
            round_trips.extend(self.dim(lamp, 20 + number * 7 % 230));
            self.run_for(PAUSE);
            log(&self.home.world.take_log())?;
        }
        let lost = times - u32::try_from(round_trips.len()).unwrap_or(times);
        let retries = self.gateway.statistics().retries;
        let farthest = self.farthest()?;
        let medium_loss = self.losses(LinkCounts::medium_loss);
        Ok(Report { farthest, round_trips, lost, retries, medium_loss, loss: self.losses(LinkCounts::loss) })
    }

    fn farthest(&self) -> anyhow::Result<(String, u8)> {
        let farthest = self.gateway.farthest().map(|(device, hops)| (device.name.clone(), hops));
        farthest.ok_or_else(|| anyhow::anyhow!("the gateway has heard no node"))
    }

    /// The names of all lamps, the farthest first.
    fn lamps(&self) -> Vec<String> {
        let lamps = self.home.fixtures().iter().filter(|fixture| fixture.kind.is_lamp());
        let mut lamps: Vec<(u8, String)> = lamps.map(|lamp| (lamp.hops, lamp.name.clone())).collect();
        lamps.sort_by_key(|(hops, _)| std::cmp::Reverse(*hops));
        lamps.into_iter().map(|(_, name)| name).collect()
    }

    /// Dims a lamp; how long it took until its state was published.
    fn dim(&mut self, name: &str, brightness: u32) -> Option<Duration> {
        let started = self.now();
        let payload = format!(r#"{{"brightness":{brightness},"transition":0}}"#);
        let topic = format!("mesh/{name}/set");
        self.published.clear();
        self.gateway.handle_publish(started, &Inbox::new(&topic, payload.as_bytes()));
        self.carry();
        let state_topic = format!("mesh/{name}");
        let end = started + Duration::from_secs(10);
        while self.now() < end {
            let is_confirmed = self.published.iter().any(|(topic, payload)| {
                let state: Value = serde_json::from_slice(payload).unwrap_or_default();
                *topic == state_topic && state["brightness"] == brightness
            });
            if is_confirmed {
                return Some(self.now() - started);
            }
            self.step(end);
        }
        None
    }

    fn run_for(&mut self, duration: Duration) {
        let end = self.now() + duration;
        while self.now() < end {
            self.step(end);
        }
    }

    fn now(&self) -> Instant {
        self.home.world.now()
    }

    fn is_complete(&self) -> bool {
        let mut devices = self.gateway.devices();
        devices
            .all(|device| device.is_interviewed() && device.endpoints.iter().all(gateway::Endpoint::is_known))
    }

    /// Lets the next thing happen, at most up to `end`.
    fn step(&mut self, end: Instant) {
        let due = self.gateway.poll_timeout().map_or(end, |at| at.min(end));
        if !self.home.step_until(due) {
            self.home.handle_timeout(due);
            let now = self.now();
            self.gateway.handle_timeout(now);
        }
        let now = self.now();
        while let Some(received) = self.home.poll_received() {
            self.gateway.handle_pdu(now, &received.as_received());
        }
        // Virtual disks are as fast as virtual radios: what is to be stored is stored.
        let _ = self.home.take_records();
        self.home.world.handle_stored();
        self.carry();
    }

    fn carry(&mut self) {
        while !self.gateway.take_records().is_empty() {
            self.gateway.handle_stored(self.now());
        }
        while let Some(transmission) = self.gateway.poll_transmit() {
            self.sent.push(self.now());
            self.home.world.transmit(self.home.port, transmission);
        }
        while let Some(publication) = self.gateway.poll_publish() {
            self.published.push((publication.topic, publication.payload));
        }
    }

    /// The least and the most of a share over the links that had some traffic.
    fn losses(&self, share: fn(&LinkCounts) -> f64) -> (f64, f64) {
        let counts = self.home.world.medium().counts().values().filter(|counts| counts.events >= 100);
        counts.map(share).fold((1.0, 0.0), |(least, most), loss| (least.min(loss), most.max(loss)))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.round_trips.clone();
        sorted.sort_unstable();
        let at = |share: usize| sorted.get((sorted.len() * share / 100).min(sorted.len().saturating_sub(1)));
        let ms = |duration: Option<&Duration>| duration.map_or(0, Duration::as_millis);
        writeln!(f, "farthest node   {}, {} hops", self.farthest.0, self.farthest.1)?;
        writeln!(f, "round trips     {} confirmed, {} lost", self.round_trips.len(), self.lost)?;
        writeln!(f, "retries         {}", self.retries)?;
        writeln!(
            f,
            "round trip time median {} ms, 95 % {} ms, most {} ms",
            ms(at(50)),
            ms(at(95)),
            ms(at(100))
        )?;
        let percent = |(least, most): (f64, f64)| format!("{:.1} to {:.1} %", least * 100.0, most * 100.0);
        writeln!(f, "single receptions that the medium took on the links: {}", percent(self.medium_loss))?;
        writeln!(f, "with collisions and receivers that were sending: {}", percent(self.loss))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Plan = Plan { nodes: None, status_period: Duration::from_secs(30) };

    #[test]
    fn a_hundred_round_trips_over_all_lamps_are_all_confirmed() {
        let mut simulation = Simulation::new(&HOME, 7, false, false).unwrap();
        let report = simulation.dim_lamps(100, |_| Ok(())).unwrap();
        println!("{report}");
        assert!(report.farthest.1 >= 4, "{report}");
        assert_eq!((report.round_trips.len(), report.lost), (100, 0));
        let mut sorted = report.round_trips.clone();
        sorted.sort_unstable();
        assert!(sorted[50] < Duration::from_millis(400), "{report}");
        assert!(report.medium_loss.0 >= 0.05, "the air is not free of losses: {report}");
    }

    /// Publishes a command with a Response Topic, lets `duration` go by, and returns what was published.
    fn command(
        simulation: &mut Simulation,
        topic: &str,
        payload: &str,
        duration: Duration,
    ) -> Vec<(String, Value)> {
        simulation.published.clear();
        let correlation_data = Some(bytes::Bytes::from_static(b"7"));
        let inbox = Inbox::new(topic, payload.as_bytes()).answered_on("answers", correlation_data);
        simulation.gateway.handle_publish(simulation.now(), &inbox);
        simulation.run_for(duration);
        let parse = |payload: Vec<u8>| serde_json::from_slice(&payload).unwrap();
        std::mem::take(&mut simulation.published)
            .into_iter()
            .map(|(topic, payload)| (topic, parse(payload)))
            .collect()
    }

    fn of<'a>(published: &'a [(String, Value)], topic: &str) -> Vec<&'a Value> {
        published.iter().filter(|(other, _)| other == topic).map(|(_, payload)| payload).collect()
    }

    #[test]
    fn without_its_relay_a_lamp_confirms_nothing_and_with_it_again_it_does() {
        let mut simulation = Simulation::new(&HOME, 3, false, false).unwrap();
        simulation.dim_lamps(1, |_| Ok(())).unwrap();
        // The shed is reached through the office only.
        let (lamp, relays) = ("ground/shed/lamp", ["ground/office/ceiling"]);
        assert!(relays.iter().all(|relay| simulation.home.set_cut(relay, true)));
        let topic = format!("mesh/{lamp}/set");
        let published = command(&mut simulation, &topic, r#"{"state":"ON"}"#, Duration::from_secs(10));
        let [answer] = of(&published, "answers")[..] else { panic!("one answer: {published:?}") };
        assert_eq!((&answer["status"], &answer["attempts"]), (&Value::from("error"), &Value::from(5)));
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains("ground/shed/lamp did not answer 5 attempts in"), "{error}");
        assert!(of(&published, &format!("mesh/{lamp}")).is_empty(), "nothing pretends");
        let availability = format!("mesh/{lamp}/availability");
        assert_eq!(of(&published, &availability), [&serde_json::json!({"state": "offline"})]);
        assert!(relays.iter().all(|relay| simulation.home.set_cut(relay, false)));
        let published = command(&mut simulation, &topic, r#"{"state":"ON"}"#, Duration::from_secs(5));
        assert_eq!(of(&published, "answers")[0]["status"], "ok");
        assert_eq!(of(&published, &availability), [&serde_json::json!({"state": "online"})]);
    }

    #[test]
    fn the_same_seed_gives_the_same_log_and_another_one_another() {
        let log_of = |seed| {
            let mut log = String::new();
            let mut simulation = Simulation::new(&HOME, seed, true, false).unwrap();
            let report = simulation.dim_lamps(3, |lines| {
                log.push_str(lines);
                Ok(())
            });
            (log, report.unwrap())
        };
        let (log, report) = log_of(1);
        assert!(log.lines().count() > 1_000);
        assert_eq!((log.clone(), report), log_of(1));
        assert_ne!(log, log_of(2).0);
    }

    /// While the gateway gets to know five hundred nodes, which is the longest bulk read that there is.
    #[test]
    fn among_five_hundred_nodes_a_person_is_served_within_a_second_and_the_budget_is_kept() {
        let plan = Plan { nodes: Some(500), status_period: Duration::from_secs(30) };
        let mut simulation = Simulation::new(&plan, 1, false, false).unwrap();
        let mut times = Vec::new();
        let (mut commands, mut lost) = (0_usize, 0_usize);
        while commands < 40 {
            simulation.run_for(Duration::from_secs(2));
            let known: Vec<String> = (simulation.gateway.devices())
                .flat_map(|device| &device.endpoints)
                .filter(|endpoint| endpoint.is_known() && endpoint.shadow.on().is_some())
                .map(|endpoint| endpoint.name.clone())
                .filter(|name| simulation.lamps().contains(name))
                .collect();
            if known.len() < 20 {
                continue;
            }
            let lamp = &known[commands * 13 % known.len()];
            match simulation.dim(lamp, u32::try_from(20 + commands).unwrap()) {
                Some(took) => times.push(took),
                None => lost += 1,
            }
            commands += 1;
        }
        let unread = simulation.gateway.devices().filter(|device| {
            device.composition.is_none() || device.endpoints.iter().any(|endpoint| !endpoint.is_known())
        });
        assert!(unread.count() > 0, "the bulk read went on all the time");
        times.sort_unstable();
        let (median, p95) = (times[times.len() / 2], times[times.len() * 95 / 100]);
        println!("{} confirmed, {lost} lost, median {median:?}, 95 % {p95:?}", times.len());
        assert!(lost <= 1 && p95 < Duration::from_secs(1), "{lost} lost, 95 % {p95:?}");
        let airtime = gateway::Airtime::default();
        for (index, from) in simulation.sent.iter().enumerate() {
            for (count, until) in (1_u32..).zip(simulation.sent[index..].iter().take(200)) {
                let allowed = airtime.burst + (*until - *from).as_secs_f64() * airtime.per_second;
                assert!(f64::from(count) <= allowed + 6.0, "{count} PDUs in {:?}", *until - *from);
            }
        }
    }
}
