//! The building of the demo: a hall with the gateway, and four rooms in a chain behind it, two lamps in each.
//!
//! ```text
//!   hall   │ kitchen │  living │  study  │ bedroom
//!  gateway │  * *    │  * *    │  * *    │  * *
//! ```
//!
//! Neighbouring rooms hear each other through one wall of concrete; two walls let nothing through. So a message
//! takes four hops from the gateway to the bedroom.

use crate::config::{MediumConfig, Position, Wall};

/// The width of a room, in metres.
const ROOM: f64 = 6.0;

/// A wall of reinforced concrete, in dB.
const CONCRETE_DB: f64 = 15.0;

/// The rooms behind the hall, and the lamps of each with their places in it.
const ROOMS: [&str; 4] = ["kitchen", "living", "study", "bedroom"];
const LAMPS: [(&str, f64, f64); 2] = [("ceiling", 3.0, 2.0), ("table", 3.6, 3.2)];

/// A lamp of the building.
#[derive(Clone, Debug, PartialEq)]
pub struct Lamp {
    /// `room/lamp`.
    pub name: String,
    /// Where it is.
    pub position: Position,
    /// Transmissions between it and the gateway.
    pub hops: u8,
}

/// Where the gateway is.
pub const GATEWAY: Position = Position::new(3.0, 2.5);

/// The lamps, the nearest first.
pub fn lamps() -> Vec<Lamp> {
    let mut lamps = Vec::new();
    let mut west = 0.0;
    for (room, hops) in ROOMS.iter().zip(1..) {
        west += ROOM;
        for (lamp, x, y) in LAMPS {
            let position = Position::new(west + x, y);
            lamps.push(Lamp { name: format!("{room}/{lamp}"), position, hops });
        }
    }
    lamps
}

/// The default medium with the building's walls.
pub fn medium() -> MediumConfig {
    let mut walls = Vec::new();
    let mut x = 0.0;
    for _ in ROOMS {
        x += ROOM;
        let (from, to) = (Position::new(x, -1.0), Position::new(x, 6.0));
        walls.push(Wall { from, to, loss_db: CONCRETE_DB });
    }
    MediumConfig { walls, ..MediumConfig::default() }
}
