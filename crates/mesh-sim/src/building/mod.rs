//! Buildings to live in: where what is, and how the walls and floors part it.

mod home;
mod office;

use std::collections::BTreeSet;

use crate::config::{MediumConfig, Position};
use crate::relays;

/// What hangs on a wall, a ceiling or a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A lamp that can be dimmed.
    Dimmable,
    /// A lamp of white light, warm to cold.
    Tunable,
    /// A lamp of any colour.
    Coloured,
    /// A switch with two rockers: on and off, brighter and darker.
    Switch,
    /// Tells whether a door is closed.
    Contact,
    /// Tells whether somebody moves.
    Motion,
    /// Measures light.
    LightSensor,
    /// Measures the temperature.
    Thermometer,
    /// A plug between the wall and what it feeds, which measures what that takes.
    Plug,
}

impl Kind {
    /// Whether it is a lamp.
    pub const fn is_lamp(self) -> bool {
        matches!(self, Self::Dimmable | Self::Tunable | Self::Coloured)
    }

    /// Whether it lives on a battery, and so never relays.
    pub const fn has_battery(self) -> bool {
        matches!(self, Self::Contact | Self::Motion | Self::Thermometer)
    }
}

/// A room.
#[derive(Clone, Debug, PartialEq)]
pub struct Room {
    /// `floor/room`.
    pub name: String,
    /// What is in it, by number.
    pub fixtures: Vec<usize>,
    /// The rooms that one walks to from here, by number.
    pub doors: Vec<usize>,
}

/// A thing that becomes a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Fixture {
    /// `floor/room/thing`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The number of its room.
    pub room: usize,
    /// Where it is.
    pub position: Position,
    /// Whether it relays.
    pub relay: bool,
    /// Transmissions between it and the gateway over good links, if all goes well.
    pub hops: u8,
}

/// A building.
#[derive(Clone, Debug, PartialEq)]
pub struct Building {
    /// Its rooms.
    pub rooms: Vec<Room>,
    /// Its nodes-to-be.
    pub fixtures: Vec<Fixture>,
    /// Where the gateway is.
    pub gateway: Position,
    /// The air in it.
    pub medium: MediumConfig,
}

/// A link that loses more than this is not counted on.
const GOOD: f64 = 0.25;

impl Building {
    /// The home of the demo: two storeys of five rooms, and a shed.
    ///
    /// ```text
    ///  upper   landing │ bathroom │ nursery │ guest room │ bedroom
    ///  ground  hall    │ kitchen  │ dining  │ living     │ office  ┃ shed
    ///         gateway
    /// ```
    ///
    /// Neighbouring rooms hear each other through one wall or one floor; two let next to nothing through. So it takes
    /// five transmissions from the gateway to the bedroom, and as many to the shed, which only the office reaches.
    pub fn home() -> Self {
        home::build()
    }

    /// An office building for so many nodes: storeys of rooms on both sides of a corridor, the gateway in the middle.
    pub fn office(nodes: usize) -> Self {
        office::build(nodes)
    }

    /// The hops of the farthest node.
    pub fn farthest_hops(&self) -> u8 {
        self.fixtures.iter().map(|fixture| fixture.hops).max().unwrap_or(0)
    }

    /// Adds a room, and what is in it: kind, name and place.
    fn add_room(&mut self, name: &str, things: impl IntoIterator<Item = (Kind, String, Position)>) -> usize {
        let room = self.rooms.len();
        let first = self.fixtures.len();
        for (kind, thing, position) in things {
            let name = format!("{name}/{thing}");
            self.fixtures.push(Fixture { name, kind, room, position, relay: false, hops: 0 });
        }
        let fixtures = (first..self.fixtures.len()).collect();
        self.rooms.push(Room { name: name.to_owned(), fixtures, doors: Vec::new() });
        room
    }

    fn add_door(&mut self, a: usize, b: usize) {
        self.rooms[a].doors.push(b);
        self.rooms[b].doors.push(a);
    }

    /// Chooses the relays, and counts the hops with them. Number 0 stands for the gateway here.
    fn plan_relays(&mut self) {
        let places: Vec<Position> =
            std::iter::once(self.gateway).chain(self.fixtures.iter().map(|x| x.position)).collect();
        let is_good = |a: Position, b: Position| {
            self.medium.loss(self.medium.rssi_dbm(a, b)).is_some_and(|loss| loss < GOOD)
        };
        let neighbours: Vec<Vec<usize>> = (0..places.len())
            .map(|a| (0..places.len()).filter(|&b| a != b && is_good(places[a], places[b])).collect())
            .collect();
        let candidates: BTreeSet<usize> =
            (1..places.len()).filter(|&number| !self.fixtures[number - 1].kind.has_battery()).collect();
        let relays = relays::choose(&neighbours, &candidates, 0);
        let hops = relays::hops(&neighbours, &relays, 0);
        for (number, fixture) in (1..).zip(&mut self.fixtures) {
            fixture.relay = relays.contains(&number);
            fixture.hops = hops[number].unwrap_or(u8::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(building: &Building) {
        let names: BTreeSet<&str> = building.fixtures.iter().map(|x| x.name.as_str()).collect();
        assert_eq!(names.len(), building.fixtures.len(), "names are unique");
        for fixture in &building.fixtures {
            assert!(fixture.hops < u8::MAX, "{} is reached", fixture.name);
            assert!(!(fixture.relay && fixture.kind.has_battery()), "{} relays on a battery", fixture.name);
            assert!(fixture.name.starts_with(&building.rooms[fixture.room].name));
        }
        let mut reached = BTreeSet::from([0]);
        while let Some(next) =
            reached.iter().flat_map(|&x| &building.rooms[x].doors).find(|x| !reached.contains(x)).copied()
        {
            reached.insert(next);
        }
        assert_eq!(reached.len(), building.rooms.len(), "one can walk everywhere");
    }

    #[test]
    fn the_home_has_two_floors_all_kinds_and_five_hops() {
        let home = Building::home();
        check(&home);
        assert!(home.fixtures.len() >= 24, "{}", home.fixtures.len());
        let kinds: BTreeSet<Kind> = home.fixtures.iter().map(|x| x.kind).collect();
        assert_eq!(kinds.len(), 9);
        assert_eq!(home.farthest_hops(), 5);
        let lamp = |name: &str| home.fixtures.iter().find(|x| x.name == name).unwrap();
        assert_eq!((lamp("ground/kitchen/ceiling").hops, lamp("upper/bedroom/ceiling").hops), (1, 5));
        let relays = home.fixtures.iter().filter(|x| x.relay).count();
        assert!(relays < home.fixtures.len() * 2 / 3, "{relays} relays");
    }

    #[test]
    fn offices_of_all_sizes_are_connected_with_few_relays() {
        for nodes in [1, 2, 7, 40, 137, 500, 900] {
            let office = Building::office(nodes);
            check(&office);
            assert_eq!(office.fixtures.len(), nodes);
            let relays = office.fixtures.iter().filter(|x| x.relay).count();
            println!("{nodes} nodes: {relays} relays, {} hops", office.farthest_hops());
            assert!(nodes < 100 || relays < nodes / 4, "{relays} relays of {nodes}");
        }
    }
}
