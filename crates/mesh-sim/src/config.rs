use std::time::Duration;

/// A place, in metres.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// To the east.
    pub x: f64,
    /// To the north.
    pub y: f64,
    /// Above the ground.
    pub z: f64,
}

/// A wall, from one end to the other, and through all floors; the heights of its ends do not matter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wall {
    /// One end.
    pub from: Position,
    /// The other.
    pub to: Position,
    /// What it takes from a signal that goes through, in dB.
    pub loss_db: f64,
}

/// A floor that is the ceiling of what is below it: a plane without end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floor {
    /// Metres above the ground.
    pub height: f64,
    /// What it takes from a signal that goes through, in dB.
    pub loss_db: f64,
}

/// When an advertiser sends what it is given. Devices differ, and measurements rarely say which they used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdvertiserTiming {
    /// As soon as the radio is free.
    AtOnce,
    /// At the next event of an advertiser that runs all the time with this interval.
    FreeRunning(Duration),
}

/// How a station scans: each `interval` it goes to the next channel and listens for `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Scan interval.
    pub interval: Duration,
    /// Scan window; at most the interval.
    pub window: Duration,
}

/// All settings of the medium. The defaults are ordinary indoor values, chosen before anything was measured
/// with them; each says where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct MediumConfig {
    /// Transmit power, in dBm. 0 dBm is the usual default of Bluetooth chips.
    pub transmit_power_dbm: f64,
    /// Loss over the first metre, in dB: free space at 2.44 GHz.
    pub reference_loss_db: f64,
    /// Path loss exponent: 2 is free space, 3 a furnished building.
    pub path_loss_exponent: f64,
    /// The walls.
    pub walls: Vec<Wall>,
    /// The floors between storeys.
    pub floors: Vec<Floor>,
    /// Receiver sensitivity, in dBm: at this strength half of the PDUs are lost. 6 dB worse than data sheets of
    /// current chips (-96 dBm) say, for antennas in lamps.
    pub sensitivity_dbm: f64,
    /// How steep the edge is: the share that is lost goes from 73 % to 27 % within this many dB on either
    /// side of the sensitivity. Below ten times that nothing is heard at all.
    pub sensitivity_slope_db: f64,
    /// Share of PDUs that are lost to everything else in the band, on each link, however strong the signal is.
    /// 8 % is a home with Wi-Fi.
    pub interference: f64,
    /// How much stronger than all others a PDU has to be to be heard in spite of them, in dB. The co-channel
    /// rejection of Bluetooth's LE 1M receivers is 21 dB in the specification, and some 8 dB in practice.
    pub capture_db: f64,
    /// Time between the PDUs of an advertising event on channels 37, 38 and 39.
    pub channel_gap: Duration,
    /// advDelay: the most that is added at random to each advertising event (Core specification, 10 ms).
    pub adv_delay_max: Duration,
    /// When advertisers send.
    pub timing: AdvertiserTiming,
    /// How stations scan. Mesh nodes scan all the time.
    pub scan: Scan,
    /// PDUs that may wait at a station; one more is dropped.
    pub queue: usize,
}

impl Default for MediumConfig {
    fn default() -> Self {
        Self {
            transmit_power_dbm: 0.0,
            reference_loss_db: 40.0,
            path_loss_exponent: 3.0,
            walls: Vec::new(),
            floors: Vec::new(),
            sensitivity_dbm: -90.0,
            sensitivity_slope_db: 1.0,
            interference: 0.08,
            capture_db: 8.0,
            channel_gap: Duration::from_micros(300),
            adv_delay_max: Duration::from_millis(10),
            timing: AdvertiserTiming::AtOnce,
            scan: Scan { interval: Duration::from_millis(30), window: Duration::from_millis(30) },
            queue: 64,
        }
    }
}

impl Position {
    /// A place on the ground.
    pub const fn new(x: f64, y: f64) -> Self {
        Self { x, y, z: 0.0 }
    }

    /// The same place at another height.
    #[must_use]
    pub const fn at_height(self, z: f64) -> Self {
        Self { z, ..self }
    }

    /// How far away another place is, in metres.
    pub fn distance(self, other: Self) -> f64 {
        (self.x - other.x).hypot(self.y - other.y).hypot(self.z - other.z)
    }
}

impl Wall {
    /// Whether the straight way between two places goes through the wall.
    pub fn is_between(&self, a: Position, b: Position) -> bool {
        let side = |from: Position, to: Position, point: Position| {
            (to.x - from.x) * (point.y - from.y) - (to.y - from.y) * (point.x - from.x)
        };
        side(self.from, self.to, a) * side(self.from, self.to, b) < 0.0
            && side(a, b, self.from) * side(a, b, self.to) < 0.0
    }
}

impl MediumConfig {
    /// How strong `from` is heard at `to`, in dBm. Distances below 1 m count as 1 m.
    pub fn rssi_dbm(&self, from: Position, to: Position) -> f64 {
        let distance = from.distance(to).max(1.0);
        let walls: f64 =
            self.walls.iter().filter(|wall| wall.is_between(from, to)).map(|wall| wall.loss_db).sum();
        let floors: f64 = (self.floors.iter())
            .filter(|floor| (from.z - floor.height) * (to.z - floor.height) < 0.0)
            .map(|floor| floor.loss_db)
            .sum();
        self.transmit_power_dbm
            - self.reference_loss_db
            - 10.0 * self.path_loss_exponent * distance.log10()
            - walls
            - floors
    }

    /// The share of PDUs of this strength that are lost when nobody else sends; `None`: nothing is heard.
    pub fn loss(&self, rssi_dbm: f64) -> Option<f64> {
        let margin = (rssi_dbm - self.sensitivity_dbm) / self.sensitivity_slope_db;
        let weak = 1.0 / (1.0 + margin.exp());
        (margin > -10.0).then_some(self.interference + (1.0 - self.interference) * weak)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_fall_with_distance_and_walls() {
        let mut config = MediumConfig::default();
        let (a, b) = (Position::new(0.0, 0.0), Position::new(10.0, 0.0));
        assert!((config.rssi_dbm(a, b) - -70.0).abs() < 1e-9);
        let wall = Wall { from: Position::new(5.0, -1.0), to: Position::new(5.0, 1.0), loss_db: 15.0 };
        config.walls = vec![wall];
        assert!((config.rssi_dbm(a, b) - -85.0).abs() < 1e-9);
        assert!(
            !wall.is_between(a, Position::new(4.0, 0.0)) && !wall.is_between(a, Position::new(10.0, 9.0))
        );
        config.floors = vec![Floor { height: 2.5, loss_db: 20.0 }];
        assert!((config.rssi_dbm(a, a.at_height(10.0)) - -90.0).abs() < 1e-9);
        assert!((config.rssi_dbm(a, a.at_height(1.0)) - -40.0).abs() < 1e-9);
    }

    #[test]
    fn loss_is_interference_alone_for_the_strong_and_everything_for_the_far() {
        let config = MediumConfig::default();
        assert!((config.loss(-60.0).unwrap() - config.interference).abs() < 1e-6);
        let edge = config.loss(config.sensitivity_dbm).unwrap();
        assert!((edge - (0.08 + 0.92 / 2.0)).abs() < 1e-9);
        assert_eq!(config.loss(-101.0), None);
    }
}
