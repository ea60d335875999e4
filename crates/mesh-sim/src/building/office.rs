use super::{Building, Kind};
use crate::config::{Floor, MediumConfig, Position, Wall};

/// What is in a room, in this order, as far as the nodes suffice.
const THINGS: [(&str, Kind); 6] = [
    ("ceiling", Kind::Tunable),
    ("switch", Kind::Switch),
    ("motion", Kind::Motion),
    ("window", Kind::Dimmable),
    ("temperature", Kind::Thermometer),
    ("screen", Kind::Plug),
];

/// What some rooms have instead: every third a coloured lamp and a door's contact, every fifth a light sensor.
const VARIANTS: [(usize, &str, &str, Kind); 3] = [
    (3, "window", "wall", Kind::Coloured),
    (3, "temperature", "door", Kind::Contact),
    (5, "screen", "light", Kind::LightSensor),
];

/// A room is as wide as deep, in metres; the rooms of a storey stand in two rows.
const ROOM: f64 = 5.0;
const STOREY: f64 = 3.2;

/// Plasterboard, and a concrete floor, in dB.
const WALL_DB: f64 = 5.0;
const FLOOR_DB: f64 = 15.0;

/// Rooms of a storey, per storey: the building is about four times as long as it is high in storeys.
const ROOMS_PER_STOREY: usize = 6;

pub(super) fn build(nodes: usize) -> Building {
    let rooms = nodes.div_ceil(THINGS.len()).max(1);
    let storeys = (1..).find(|&storeys| storeys * storeys * ROOMS_PER_STOREY >= rooms).unwrap_or(1);
    let columns = rooms.div_ceil(storeys).div_ceil(2);
    let mut building = Building {
        rooms: Vec::new(),
        fixtures: Vec::new(),
        gateway: Position::new(number(columns) * ROOM / 2.0 + 0.5, ROOM - 0.5)
            .at_height(number(storeys / 2) * STOREY + 1.5),
        medium: medium(storeys, columns),
    };
    let mut left = nodes;
    for room in 0..rooms {
        let (storey, place) = (room / (2 * columns), room % (2 * columns));
        let (column, row) = (place / 2, place % 2);
        let corner = (number(column) * ROOM, number(row) * ROOM, number(storey) * STOREY);
        let share = left.div_ceil(rooms - room);
        left -= share;
        let name = format!("floor-{storey}/room-{}", (storey + 1) * 100 + place + 1);
        let added = building.add_room(&name, things(room).take(share).map(|x| placed(x, corner)));
        // Along the corridor, across it, and up the stairs at its end.
        let before = match (place, storey) {
            (0, 0) => None,
            (0, _) => Some(added - 2 * columns),
            (1, _) => Some(added - 1),
            _ => Some(added - 2),
        };
        if let Some(before) = before {
            building.add_door(before, added);
        }
    }
    building.plan_relays();
    building
}

/// The names and kinds of what is in a room, and the number of each.
fn things(room: usize) -> impl Iterator<Item = (usize, &'static str, Kind)> {
    THINGS.iter().enumerate().map(move |(place, &(name, kind))| {
        let variant =
            VARIANTS.iter().find(|(every, instead_of, ..)| room % every == 1 && name == *instead_of);
        variant.map_or((place, name, kind), |&(_, _, name, kind)| (place, name, kind))
    })
}

fn placed((place, name, kind): (usize, &str, Kind), (x, y, z): (f64, f64, f64)) -> (Kind, String, Position) {
    const PLACES: [(f64, f64, f64); THINGS.len()] = [
        (2.5, 2.5, 2.8),
        (0.4, 0.6, 1.1),
        (4.2, 4.2, 2.5),
        (2.5, 4.4, 2.4),
        (1.0, 3.5, 1.4),
        (3.8, 1.0, 0.6),
    ];
    let (east, north, up) = PLACES[place % PLACES.len()];
    (kind, name.to_owned(), Position::new(x + east, y + north).at_height(z + up))
}

fn medium(storeys: usize, columns: usize) -> MediumConfig {
    let length = number(columns) * ROOM;
    let across = |column: usize| {
        let x = number(column) * ROOM;
        Wall { from: Position::new(x, -1.0), to: Position::new(x, 2.0 * ROOM + 1.0), loss_db: WALL_DB }
    };
    let along =
        Wall { from: Position::new(-1.0, ROOM), to: Position::new(length + 1.0, ROOM), loss_db: WALL_DB };
    MediumConfig {
        walls: (1..columns).map(across).chain([along]).collect(),
        floors: (1..storeys)
            .map(|storey| Floor { height: number(storey) * STOREY, loss_db: FLOOR_DB })
            .collect(),
        ..MediumConfig::default()
    }
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
