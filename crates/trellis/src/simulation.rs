//! The demo's building in virtual time, gateway included: as fast as it can be computed, and the same for the same
//! seed.

use std::fmt;
use std::time::Duration;

use clock::Instant;
use gateway::{Gateway, Inbox};
use mesh_commission::cdb::NetworkDatabase;
use mesh_sim::{LinkCounts, Pcap};
use serde_json::Value;

use crate::demo::Home;

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
}

/// What a run showed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    /// The farthest lamp, and the hops that its messages took.
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
    pub(crate) fn new(seed: u64, with_log: bool, with_pcap: bool) -> anyhow::Result<Self> {
        let mut home = Home::build(seed, TIMESTAMP.to_owned())?;
        if with_log {
            home.world.log_events();
        }
        if with_pcap {
            home.world.capture(Pcap::new(0));
        }
        let gateway = Gateway::new(Instant::ORIGIN, &home.gateway_config(), &home.database)?;
        let mut simulation = Self { home, gateway, published: Vec::new() };
        simulation.gateway.handle_connected();
        simulation.carry();
        Ok(simulation)
    }

    pub(crate) fn database(&self) -> &NetworkDatabase {
        &self.home.database
    }

    pub(crate) fn take_pcap(&mut self) -> Vec<u8> {
        self.home.world.take_pcap()
    }

    /// Waits until the gateway knows all nodes, and then has it switch the farthest lamp so many times.
    pub(crate) fn switch_farthest(
        &mut self,
        times: u32,
        mut log: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<Report> {
        let end = self.now() + PATIENCE;
        while !self.is_complete() && self.now() < end {
            self.step(end);
            log(&self.home.world.take_log())?;
        }
        let (farthest, _) = self.farthest()?;
        let mut round_trips = Vec::new();
        for number in 0..times {
            let on = number % 2 == 0;
            round_trips.extend(self.switch(&farthest, on));
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

    /// Switches a lamp; how long it took until its state was published.
    fn switch(&mut self, name: &str, on: bool) -> Option<Duration> {
        let started = self.now();
        let payload: &[u8] =
            if on { br#"{"state":"ON","transition":0}"# } else { br#"{"state":"OFF","transition":0}"# };
        let topic = format!("mesh/{name}/set");
        self.published.clear();
        self.gateway.handle_publish(started, &Inbox::new(&topic, payload));
        self.carry();
        let state_topic = format!("mesh/{name}");
        let wanted = Value::from(if on { "ON" } else { "OFF" });
        let end = started + Duration::from_secs(10);
        while self.now() < end {
            let is_confirmed = self.published.iter().any(|(topic, payload)| {
                let state: Value = serde_json::from_slice(payload).unwrap_or_default();
                *topic == state_topic && state["state"] == wanted
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
        devices.all(|device| {
            device.composition.is_some()
                && device.endpoints.iter().all(|endpoint| endpoint.shadow.on().is_some())
        })
    }

    /// Lets the next thing happen, at most up to `end`.
    fn step(&mut self, end: Instant) {
        let due = self.gateway.poll_timeout().map_or(end, |at| at.min(end));
        if !self.home.world.step_until(due) {
            self.home.world.handle_timeout(due);
            let now = self.now();
            self.gateway.handle_timeout(now);
        }
        let now = self.now();
        while let Some((_, received)) = self.home.world.poll_received() {
            self.gateway.handle_pdu(now, &received.as_received());
        }
        while self.home.world.poll_event().is_some() {}
        self.carry();
    }

    fn carry(&mut self) {
        while let Some(transmission) = self.gateway.poll_transmit() {
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
        writeln!(f, "farthest lamp   {}, {} hops", self.farthest.0, self.farthest.1)?;
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

    #[test]
    fn a_hundred_round_trips_over_four_hops_are_all_confirmed() {
        let mut simulation = Simulation::new(7, false, false).unwrap();
        let report = simulation.switch_farthest(100, |_| Ok(())).unwrap();
        println!("{report}");
        assert_eq!(report.farthest.1, 4);
        assert_eq!((report.round_trips.len(), report.lost), (100, 0));
        let mut sorted = report.round_trips.clone();
        sorted.sort_unstable();
        assert!(sorted[50] < Duration::from_millis(400), "{report}");
        assert!(report.medium_loss.0 >= 0.05 && report.medium_loss.1 <= 0.20, "{report}");
    }

    #[test]
    fn the_same_seed_gives_the_same_log_and_another_one_another() {
        let log_of = |seed| {
            let mut log = String::new();
            let mut simulation = Simulation::new(seed, true, false).unwrap();
            let report = simulation.switch_farthest(3, |lines| {
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
}
