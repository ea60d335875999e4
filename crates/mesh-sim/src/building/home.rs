use super::{Building, Kind};
use crate::config::{Floor, MediumConfig, Position, Wall};

/// The width of a room, in metres.
const ROOM: f64 = 6.0;

/// The height of a storey, and of a ceiling lamp above its floor.
const STOREY: f64 = 2.8;
const CEILING: f64 = 2.4;

/// A wall, and a floor, of reinforced concrete, in dB. A floor has underfloor heating as well.
const WALL_DB: f64 = 15.0;
const FLOOR_DB: f64 = 22.0;

/// Name, kind, and place in the room: to the east, to the north, above the floor.
type Thing = (&'static str, Kind, f64, f64, f64);

const GROUND: [(&str, &[Thing]); 6] = [
    (
        "hall",
        &[
            ("ceiling", Kind::Dimmable, 3.0, 2.0, CEILING),
            ("switch", Kind::Switch, 5.6, 1.0, 1.1),
            ("door", Kind::Contact, 0.3, 2.0, 2.0),
            ("motion", Kind::Motion, 1.0, 3.5, 2.2),
        ],
    ),
    (
        "kitchen",
        &[
            ("ceiling", Kind::Tunable, 3.0, 2.0, CEILING),
            ("worktop", Kind::Dimmable, 3.6, 3.4, 1.4),
            ("switch", Kind::Switch, 0.4, 1.0, 1.1),
            ("coffee-machine", Kind::Plug, 4.2, 3.4, 1.0),
        ],
    ),
    ("dining", &[("table", Kind::Tunable, 3.0, 2.0, 1.6), ("temperature", Kind::Thermometer, 4.0, 3.0, 1.3)]),
    (
        "living",
        &[
            ("ceiling", Kind::Coloured, 3.0, 2.0, CEILING),
            ("floor-lamp", Kind::Coloured, 4.4, 3.2, 1.6),
            ("switch", Kind::Switch, 0.4, 1.0, 1.1),
            ("light", Kind::LightSensor, 3.0, 3.9, 1.8),
            ("television", Kind::Plug, 2.0, 3.8, 0.3),
        ],
    ),
    ("office", &[("ceiling", Kind::Tunable, 3.0, 2.0, CEILING), ("motion", Kind::Motion, 4.0, 3.0, 2.2)]),
    ("shed", &[("lamp", Kind::Dimmable, 3.0, 2.0, 2.0), ("door", Kind::Contact, 4.5, 0.5, 1.8)]),
];

const UPPER: [(&str, &[Thing]); 5] = [
    (
        "landing",
        &[
            ("ceiling", Kind::Dimmable, 3.0, 2.0, CEILING),
            ("switch", Kind::Switch, 3.4, 0.4, 1.1),
            ("motion", Kind::Motion, 2.0, 3.0, 2.2),
        ],
    ),
    ("bathroom", &[("mirror", Kind::Tunable, 3.0, 2.4, 1.9), ("motion", Kind::Motion, 3.8, 3.0, 2.2)]),
    ("nursery", &[("ceiling", Kind::Coloured, 3.0, 2.0, CEILING)]),
    ("guest-room", &[("ceiling", Kind::Dimmable, 3.0, 2.0, CEILING)]),
    (
        "bedroom",
        &[
            ("ceiling", Kind::Tunable, 3.0, 2.0, CEILING),
            ("bedside", Kind::Coloured, 4.0, 3.2, 0.8),
            ("switch", Kind::Switch, 0.5, 1.0, 1.1),
            ("temperature", Kind::Thermometer, 4.6, 2.0, 1.3),
            ("balcony-door", Kind::Contact, 5.6, 3.0, 1.9),
        ],
    ),
];

/// The doors, by the names of the rooms.
const STAIRS: (&str, &str) = ("ground/hall", "upper/landing");

pub(super) fn build() -> Building {
    let mut walls: Vec<Wall> = (1..=GROUND.len())
        .map(|number| {
            let x = ROOM * count(number);
            Wall { from: Position::new(x, -1.0), to: Position::new(x, 6.0), loss_db: WALL_DB }
        })
        .collect();
    // The shed stands behind an outer wall that lets the office's middle through, and no other room.
    if let Some(outer) = walls.get_mut(GROUND.len() - 2) {
        outer.loss_db = 20.0;
    }
    let floors = vec![Floor { height: STOREY, loss_db: FLOOR_DB }];
    let mut building = Building {
        rooms: Vec::new(),
        fixtures: Vec::new(),
        gateway: Position::new(3.0, 2.5).at_height(1.0),
        medium: MediumConfig { walls, floors, ..MediumConfig::default() },
    };
    for (floor, rooms, height) in [("ground", &GROUND[..], 0.0), ("upper", &UPPER[..], STOREY)] {
        let mut before = None;
        for (number, (room, things)) in rooms.iter().enumerate() {
            let west = ROOM * count(number);
            let things = things.iter().map(|&(thing, kind, x, y, z)| {
                (kind, thing.to_owned(), Position::new(west + x, y).at_height(height + z))
            });
            let added = building.add_room(&format!("{floor}/{room}"), things);
            if let Some(before) = before.replace(added) {
                building.add_door(before, added);
            }
        }
    }
    let number_of = |name: &str| building.rooms.iter().position(|room| room.name == name);
    if let (Some(below), Some(above)) = (number_of(STAIRS.0), number_of(STAIRS.1)) {
        building.add_door(below, above);
    }
    building.plan_relays();
    building
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(0))
}
