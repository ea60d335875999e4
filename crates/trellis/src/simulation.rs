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
    fn a_command_that_no_lamp_confirms_is_an_error_and_changes_no_state() {
        let mut simulation = Simulation::new(3, false, false).unwrap();
        simulation.switch_farthest(1, |_| Ok(())).unwrap();
        let lamps: Vec<_> = mesh_sim::building::lamps().into_iter().filter(|lamp| lamp.hops == 2).collect();
        let stations: Vec<_> = (0..9).map(mesh_sim::StationId).collect();
        let of_second_room = |name: &str| lamps.iter().any(|lamp| lamp.name == name);
        for &station in &stations {
            if of_second_room(simulation.home.world.name(station)) {
                simulation.home.world.set_cut(station, true);
            }
        }
        let topic = "mesh/bedroom/ceiling/set";
        let published = command(&mut simulation, topic, r#"{"state":"ON"}"#, Duration::from_secs(9));
        let [answer] = of(&published, "answers")[..] else { panic!("one answer: {published:?}") };
        assert_eq!((&answer["status"], &answer["attempts"]), (&Value::from("error"), &Value::from(5)));
        assert!(
            answer["error"].as_str().unwrap().contains("bedroom/ceiling did not answer 5 attempts in 7.9 s")
        );
        let [log] = of(&published, "mesh/bridge/logging")[..] else { panic!("one line of the log") };
        assert_eq!((&log["level"], &log["message"]), (&Value::from("error"), &answer["error"]));
        assert!(of(&published, "mesh/bedroom/ceiling").is_empty(), "nothing pretends");
        // With the relays back it works again.
        for &station in &stations {
            simulation.home.world.set_cut(station, false);
        }
        let published = command(&mut simulation, topic, r#"{"state":"ON"}"#, Duration::from_secs(3));
        assert_eq!(of(&published, "answers")[0]["status"], "ok");
        assert_eq!(of(&published, "mesh/bedroom/ceiling"), [&serde_json::json!({"state": "ON"})]);
    }

    #[test]
    fn a_transition_publishes_the_present_at_once_and_the_end_when_it_is_confirmed() {
        let mut simulation = Simulation::new(4, false, false).unwrap();
        simulation.switch_farthest(0, |_| Ok(())).unwrap();
        let topic = "mesh/kitchen/table/set";
        command(&mut simulation, topic, "ON", Duration::from_secs(2));
        let off = r#"{"state":"OFF","transition":2}"#;
        let published = command(&mut simulation, topic, off, Duration::from_secs(1));
        assert_eq!(
            of(&published, "answers")[0]["data"],
            serde_json::json!({"state": "ON"}),
            "still on its way"
        );
        simulation.run_for(Duration::from_secs(4));
        let last = simulation.published.iter().rfind(|(topic, _)| topic == "mesh/kitchen/table").unwrap();
        assert_eq!(last.1, br#"{"state":"OFF"}"#);
    }

    #[test]
    fn what_cannot_be_obeyed_is_answered_and_retained_commands_are_not_obeyed() {
        let mut simulation = Simulation::new(5, false, false).unwrap();
        simulation.switch_farthest(0, |_| Ok(())).unwrap();
        let second = Duration::from_secs(1);
        let mut error_of = |topic: &str, payload: &str| {
            let published = command(&mut simulation, topic, payload, second);
            of(&published, "answers")
                .first()
                .map(|answer| answer["error"].as_str().unwrap_or("none").to_owned())
        };
        assert!(error_of("mesh/attic/set", "ON").unwrap().contains("no device named \"attic\""));
        assert!(error_of("mesh/kitchen/table/set", "MAYBE").unwrap().contains("neither JSON nor"));
        assert!(error_of("mesh/kitchen/table/set/brightness", "3").unwrap().contains("cannot be set"));
        assert_eq!(error_of("mesh/kitchen/table/get", "").as_deref(), Some("none"));
        assert_eq!(error_of("mesh/kitchen/table", "ON"), None, "a state topic is no command");
        let retained = Inbox { retain: true, ..Inbox::new("mesh/kitchen/table/set", b"ON") };
        let before = simulation.gateway.statistics().commands;
        simulation.gateway.handle_publish(simulation.now(), &retained);
        assert_eq!(simulation.gateway.statistics().commands, before);
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
