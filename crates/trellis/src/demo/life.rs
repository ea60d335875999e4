//! Life in a building: daylight and weather, people who walk about, switches that they press, doors that they open.
//! A core that is told the time; the same seed lives the same day.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use clock::{Instant, Timers};
use mesh_models::sensor::PropertyId;
use mesh_sim::building::{Building, Kind};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// How often weather and appliances are looked at, in seconds of life.
const LOOK: f64 = 10.0;

/// People in the building, for each ten rooms or part of them.
const PEOPLE_PER_TEN_ROOMS: usize = 2;

/// How long a motion sensor goes on telling that somebody is there, in seconds.
const PRESENCE: f64 = 30.0;

/// How long a door stands open, in seconds.
const DOOR_OPEN: f64 = 6.0;

/// Daylight below which somebody who enters a room turns on its lamps, in lux.
const DUSK: f64 = 250.0;

/// The change of the level that holding a rocker makes in a second: from dark to bright in 4 s.
const HOLD_PER_SECOND: i16 = 0x4000;

const DAY: f64 = 86_400.0;

/// What happens in a building.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Event {
    /// A sensor measures something, in the unit of the property.
    Measure { fixture: usize, property: PropertyId, value: f64 },
    /// A battery has so much charge.
    Battery { fixture: usize, percent: u8 },
    /// Somebody does something with a rocker.
    Press { fixture: usize, element: u8, press: Press },
}

/// What can be done with a rocker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Press {
    On,
    Off,
    /// The beginning of a long press: the level changes by so much in a second.
    Hold(i16),
    Release,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Look,
    /// A person goes to another room.
    Walk(usize),
    /// Nobody was seen by this sensor for a while.
    Empty(usize),
    Close(usize),
    Release(usize),
}

/// The things of a room that matter to people.
#[derive(Debug, Default)]
struct Room {
    doors: Vec<usize>,
    switch: Option<usize>,
    contacts: Vec<usize>,
    motions: Vec<usize>,
    /// What people believe of its lamps.
    is_lit: bool,
}

#[derive(Debug)]
struct Plug {
    is_on: bool,
    watts: f64,
    kilowatt_hours: f64,
}

/// A building's life.
#[derive(Debug)]
pub(super) struct Life {
    rng: ChaCha8Rng,
    /// Seconds since midnight at the origin of time.
    morning: f64,
    speed: f64,
    timers: Timers<Due>,
    rooms: Vec<Room>,
    /// The room of each person.
    people: Vec<usize>,
    lights: Vec<usize>,
    thermometers: Vec<usize>,
    plugs: BTreeMap<usize, Plug>,
    batteries: Vec<usize>,
    events: VecDeque<Event>,
}

impl Life {
    pub(super) fn new(
        seed: u64,
        building: &Building,
        time_of_day: Duration,
        speed: f64,
        with_people: bool,
    ) -> Self {
        let of_kind = |wanted: fn(Kind) -> bool| {
            let fixtures = building.fixtures.iter().enumerate();
            fixtures.filter(|(_, x)| wanted(x.kind)).map(|(number, _)| number).collect::<Vec<usize>>()
        };
        let rooms: Vec<Room> = building.rooms.iter().map(|room| room_of(building, room)).collect();
        let count = if with_people { rooms.len().div_ceil(10) * PEOPLE_PER_TEN_ROOMS } else { 0 };
        let people: Vec<usize> = (0..count).map(|person| person * 7 % rooms.len().max(1)).collect();
        let plug = |number: usize| {
            (number, Plug { is_on: false, watts: 40.0 + 30.0 * remainder(number, 5), kilowatt_hours: 0.0 })
        };
        let mut life = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            morning: time_of_day.as_secs_f64(),
            speed,
            timers: Timers::new(),
            rooms,
            people,
            lights: of_kind(|kind| kind == Kind::LightSensor),
            thermometers: of_kind(|kind| kind == Kind::Thermometer),
            plugs: of_kind(|kind| kind == Kind::Plug).into_iter().map(plug).collect(),
            batteries: of_kind(Kind::has_battery),
            events: VecDeque::new(),
        };
        life.begin();
        life
    }

    /// Does what is due at `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(due) = self.timers.pop_expired(now) {
            match due {
                Due::Look => self.look(now),
                Due::Walk(person) => self.walk(now, person),
                Due::Empty(fixture) => self.sense(fixture, false),
                Due::Close(fixture) => self.sense(fixture, true),
                Due::Release(fixture) => self.press(fixture, 1, Press::Release),
            }
        }
    }

    /// When [`Life::handle_timeout`] is next due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next thing that happens.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A plug was switched: what it feeds takes power, or does not.
    pub(super) fn switched(&mut self, fixture: usize, is_on: bool) {
        if let Some(plug) = self.plugs.get_mut(&fixture) {
            plug.is_on = is_on;
        }
    }

    fn begin(&mut self) {
        self.timers.set(Due::Look, Instant::ORIGIN);
        for person in 0..self.people.len() {
            let at = self.after(Instant::ORIGIN, 5.0, 40.0);
            self.timers.set(Due::Walk(person), at);
        }
        for fixture in self.rooms.iter().flat_map(|room| room.motions.clone()).collect::<Vec<usize>>() {
            self.sense(fixture, false);
        }
        for fixture in self.rooms.iter().flat_map(|room| room.contacts.clone()).collect::<Vec<usize>>() {
            self.sense(fixture, true);
        }
    }

    /// Weather, light, appliances and batteries.
    fn look(&mut self, now: Instant) {
        let seconds = self.seconds(now);
        let light = daylight(seconds);
        for fixture in self.lights.clone() {
            let value = (light * self.around_one(0.05)).round();
            self.measure(fixture, PropertyId::PRESENT_AMBIENT_LIGHT_LEVEL, value);
        }
        for fixture in self.thermometers.clone() {
            let temperature = indoors(seconds) + remainder(fixture, 3) + self.around_one(0.1) - 1.0;
            let humidity = 62.0 - temperature + 2.0 * self.around_one(0.2);
            let hundredths = |value: f64| (value * 100.0).round() / 100.0;
            self.measure(fixture, PropertyId::PRECISE_PRESENT_AMBIENT_TEMPERATURE, hundredths(temperature));
            self.measure(fixture, PropertyId::PRESENT_AMBIENT_RELATIVE_HUMIDITY, hundredths(humidity));
        }
        let noise = self.around_one(0.02);
        let mut measured = Vec::new();
        for (&fixture, plug) in &mut self.plugs {
            let watts = if plug.is_on { plug.watts * noise } else { 0.4 };
            plug.kilowatt_hours += watts * LOOK / 3_600_000.0;
            measured.push((fixture, (watts * 10.0).round() / 10.0, plug.kilowatt_hours));
        }
        for (fixture, watts, energy) in measured {
            self.measure(fixture, PropertyId::PRESENT_DEVICE_INPUT_POWER, watts);
            self.measure(fixture, PropertyId::PRECISE_TOTAL_DEVICE_ENERGY_USE, energy);
        }
        let days = now.as_micros() as f64 / 1e6 * self.speed / DAY;
        for fixture in self.batteries.clone() {
            // A coin cell lasts some three years.
            let left = (93.0 - remainder(fixture, 20) - days / 11.0).max(1.0);
            self.events.push_back(Event::Battery { fixture, percent: percent(left) });
        }
        let next = self.life_after(now, LOOK);
        self.timers.set(Due::Look, next);
    }

    /// Somebody goes to a neighbouring room, is seen there, and wants to see something.
    fn walk(&mut self, now: Instant, person: usize) {
        let seconds = self.seconds(now);
        let is_night = !(6.5 * 3_600.0..23.0 * 3_600.0).contains(&seconds);
        let from = self.people[person];
        let doors = self.rooms[from].doors.clone();
        if !doors.is_empty() && !is_night {
            let to = doors[self.below(doors.len())];
            self.people[person] = to;
            if !self.people.contains(&from) && self.rooms[from].is_lit && self.below(4) > 0 {
                self.switch(from, false);
            }
            self.enter(now, to, daylight(seconds));
        }
        let at = if is_night { self.after(now, 600.0, 1_800.0) } else { self.after(now, 20.0, 180.0) };
        self.timers.set(Due::Walk(person), at);
    }

    fn enter(&mut self, now: Instant, room: usize, light: f64) {
        for fixture in self.rooms[room].motions.clone() {
            self.sense(fixture, true);
            let empty = self.life_after(now, PRESENCE);
            self.timers.set(Due::Empty(fixture), empty);
        }
        if let Some(&fixture) = self.rooms[room].contacts.first()
            && self.below(3) == 0
        {
            self.sense(fixture, false);
            let closed = self.life_after(now, DOOR_OPEN);
            self.timers.set(Due::Close(fixture), closed);
        }
        if !self.rooms[room].is_lit && light < DUSK {
            self.switch(room, true);
        } else if self.rooms[room].is_lit && self.below(5) == 0 {
            self.dim(now, room);
        }
    }

    fn switch(&mut self, room: usize, on: bool) {
        if let Some(fixture) = self.rooms[room].switch {
            self.rooms[room].is_lit = on;
            self.press(fixture, 0, if on { Press::On } else { Press::Off });
        }
    }

    /// Somebody holds the right rocker for a second or two, of the clock: a hand is as fast as it is.
    fn dim(&mut self, now: Instant, room: usize) {
        let Some(fixture) = self.rooms[room].switch else { return };
        let change = if self.below(2) == 0 { HOLD_PER_SECOND } else { -HOLD_PER_SECOND };
        self.press(fixture, 1, Press::Hold(change));
        let length = Duration::from_millis(600 + u64::try_from(self.below(1_200)).unwrap_or(0));
        self.timers.set(Due::Release(fixture), now + length);
    }

    fn sense(&mut self, fixture: usize, is_so: bool) {
        self.measure(fixture, PropertyId::PRESENCE_DETECTED, f64::from(u8::from(is_so)));
    }

    fn measure(&mut self, fixture: usize, property: PropertyId, value: f64) {
        self.events.push_back(Event::Measure { fixture, property, value });
    }

    fn press(&mut self, fixture: usize, element: u8, press: Press) {
        self.events.push_back(Event::Press { fixture, element, press });
    }

    /// Seconds since midnight.
    fn seconds(&self, now: Instant) -> f64 {
        let lived = (now - Instant::ORIGIN).as_secs_f64() * self.speed;
        (self.morning + lived) % DAY
    }

    /// The instant so many seconds of life after `now`.
    fn life_after(&self, now: Instant, seconds: f64) -> Instant {
        now + Duration::from_secs_f64(seconds / self.speed)
    }

    fn after(&mut self, now: Instant, least: f64, most: f64) -> Instant {
        let share = f64::from(self.rng.next_u32()) / f64::from(u32::MAX);
        self.life_after(now, least + (most - least) * share)
    }

    /// A number around 1, at most `spread` away.
    fn around_one(&mut self, spread: f64) -> f64 {
        1.0 + spread * (f64::from(self.rng.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0)
    }

    fn below(&mut self, count: usize) -> usize {
        let random = usize::try_from(self.rng.next_u32()).unwrap_or(0);
        random % count.max(1)
    }
}

fn room_of(building: &Building, room: &mesh_sim::building::Room) -> Room {
    let of_kind = |kind: Kind| {
        let fixtures = room.fixtures.iter().copied();
        fixtures.filter(move |&number| building.fixtures[number].kind == kind).collect::<Vec<usize>>()
    };
    Room {
        doors: room.doors.clone(),
        switch: of_kind(Kind::Switch).first().copied(),
        contacts: of_kind(Kind::Contact),
        motions: of_kind(Kind::Motion),
        is_lit: false,
    }
}

/// The light at a window, in lux: nothing before six and after half past eight in the evening, 10,000 at noon.
fn daylight(seconds: f64) -> f64 {
    let (sunrise, sunset) = (6.0 * 3_600.0, 20.5 * 3_600.0);
    let height = (std::f64::consts::PI * (seconds - sunrise) / (sunset - sunrise)).sin();
    if (sunrise..sunset).contains(&seconds) { 10_000.0 * height * height } else { 0.0 }
}

/// The temperature of rooms, in °C: coolest at five, warmest at five in the afternoon.
fn indoors(seconds: f64) -> f64 {
    20.5 - 1.5 * (2.0 * std::f64::consts::PI * (seconds / DAY - 5.0 / 24.0)).cos()
}

/// So that things of one kind differ.
fn remainder(number: usize, by: usize) -> f64 {
    f64::from(u32::try_from(number % by).unwrap_or(0))
}

fn percent(value: f64) -> u8 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies between 0 and 100")]
    {
        value.clamp(0.0, 100.0).round() as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(seed: u64, hour: u64, hours: u64, with_people: bool) -> Vec<(Instant, Event)> {
        let start = Duration::from_secs(hour * 3_600);
        let mut life = Life::new(seed, &Building::home(), start, 1.0, with_people);
        let end = Instant::ORIGIN + Duration::from_secs(hours * 3_600);
        let mut events = Vec::new();
        while let Some(at) = life.poll_timeout().filter(|&at| at <= end) {
            life.handle_timeout(at);
            events.extend(std::iter::from_fn(|| life.poll_event()).map(|event| (at, event)));
        }
        events
    }

    fn presses(events: &[(Instant, Event)]) -> Vec<Press> {
        let press = |(_, event): &(Instant, Event)| match event {
            Event::Press { press, .. } => Some(*press),
            _ => None,
        };
        events.iter().filter_map(press).collect()
    }

    #[test]
    fn the_same_seed_lives_the_same_day_and_another_one_another() {
        assert_eq!(live(1, 17, 4, true), live(1, 17, 4, true));
        assert_ne!(live(1, 17, 4, true), live(2, 17, 4, true));
    }

    #[test]
    fn people_turn_lamps_on_in_the_dark_and_off_when_they_leave_and_sleep_at_night() {
        let evening = presses(&live(3, 19, 3, true));
        assert!(evening.contains(&Press::On) && evening.contains(&Press::Off), "{evening:?}");
        let holds = evening.iter().filter(|press| matches!(press, Press::Hold(_))).count();
        assert_eq!(holds, evening.iter().filter(|press| **press == Press::Release).count());
        assert!(!presses(&live(3, 11, 2, true)).contains(&Press::On), "at noon nobody needs lamps");
        assert!(presses(&live(3, 0, 5, true)).is_empty());
        assert!(presses(&live(3, 19, 3, false)).is_empty());
    }

    #[test]
    fn doors_that_open_close_and_who_was_seen_is_gone_after_a_while() {
        let mut state = BTreeMap::new();
        let mut changes = 0;
        for (_, event) in live(5, 8, 10, true) {
            if let Event::Measure { fixture, property: PropertyId::PRESENCE_DETECTED, value } = event {
                changes += usize::from(state.insert(fixture, value) != Some(value));
            }
        }
        assert!(changes > 50, "{changes}");
        let home = Building::home();
        // Ten hours of a day later, in the evening, the doors are closed unless somebody is just going through.
        let open =
            state.iter().filter(|(x, value)| home.fixtures[**x].kind == Kind::Contact && **value == 0.0);
        assert!(open.count() <= 1);
    }

    #[test]
    fn days_have_their_curves() {
        assert!([0.0, 5.0, 21.0, 23.9].iter().all(|hour| daylight(hour * 3_600.0) == 0.0));
        assert!(daylight(13.25 * 3_600.0) > 9_999.0 && daylight(7.0 * 3_600.0) < daylight(9.0 * 3_600.0));
        assert!(indoors(5.0 * 3_600.0) < 19.1 && indoors(17.0 * 3_600.0) > 21.9);
    }

    #[test]
    fn what_is_switched_on_takes_power() {
        let home = Building::home();
        let plug = home.fixtures.iter().position(|fixture| fixture.kind == Kind::Plug).unwrap();
        let mut life = Life::new(1, &home, Duration::ZERO, 1.0, false);
        let mut power_at = |seconds, is_on| {
            life.switched(plug, is_on);
            life.handle_timeout(Instant::ORIGIN + Duration::from_secs(seconds));
            let events: Vec<Event> = std::iter::from_fn(|| life.poll_event()).collect();
            events.iter().rev().find_map(|event| match event {
                Event::Measure { fixture, property: PropertyId::PRESENT_DEVICE_INPUT_POWER, value } => {
                    (*fixture == plug).then_some(*value)
                }
                _ => None,
            })
        };
        assert!(power_at(0, false).unwrap() < 1.0);
        assert!(power_at(10, true).unwrap() > 30.0);
    }
}
