//! What carries the node's advertisements: a socket, or air that is simulated in this process.

use std::collections::VecDeque;
use std::io;

use clock::Instant;
use mesh_io::{Advertisement, Repeater, UnixDatagram};
use mesh_proto::bearer::{Received, Transmission};
use mesh_sim::{Medium, MediumConfig, Position, StationId};
use mesh_wire::bearer::AdType;
use mesh_wire::network::Octets;
use serde_json::{Value, json};

use super::host::Host;

/// Metres between two devices: each hears the next ones well.
const DISTANCE_M: f64 = 8.0;

/// How strong an advertisement of a socket is said to be, in dBm.
const SOCKET_RSSI: i8 = -50;

/// An advertisement that arrived.
pub(super) struct Heard {
    pub(super) advertisement: Advertisement,
    pub(super) rssi: i8,
}

pub(super) enum Air {
    Socket { bearer: UnixDatagram, repeater: Box<Repeater> },
    Simulated(Box<Corridor>),
}

impl Air {
    pub(super) fn send(&mut self, now: Instant, transmission: Transmission) {
        match self {
            Self::Socket { repeater, .. } => repeater.push(now, transmission),
            Self::Simulated(corridor) => corridor.medium.transmit(now, OWN, transmission),
        }
    }

    /// Does what is due, and returns what the node's own radio sent.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> io::Result<Vec<(AdType, Octets)>> {
        let mut sent = Vec::new();
        match self {
            Self::Socket { bearer, repeater } => {
                while let Some((ad_type, data)) = repeater.pop_due(now) {
                    bearer.send(ad_type, &data)?;
                    sent.push((ad_type, data));
                }
            }
            Self::Simulated(corridor) => corridor.handle_timeout(now, &mut sent),
        }
        Ok(sent)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Socket { repeater, .. } => repeater.poll_timeout(),
            Self::Simulated(corridor) => corridor.poll_timeout(),
        }
    }

    /// The next advertisement. Nothing is lost when the future is dropped.
    pub(super) async fn recv(&mut self) -> io::Result<Heard> {
        match self {
            Self::Socket { bearer, .. } => {
                Ok(Heard { advertisement: bearer.recv().await?, rssi: SOCKET_RSSI })
            }
            Self::Simulated(corridor) => match corridor.heard.pop_front() {
                Some(heard) => Ok(heard),
                None => std::future::pending().await,
            },
        }
    }

    /// Has the lamp that asks for a value take this one.
    pub(super) fn enter(&mut self, now: Instant, value: &str) -> bool {
        match self {
            Self::Socket { .. } => false,
            Self::Simulated(corridor) => corridor.devices.iter_mut().any(|device| device.enter(now, value)),
        }
    }

    /// What the other devices say.
    pub(super) fn take_lines(&mut self) -> Vec<Value> {
        match self {
            Self::Socket { .. } => Vec::new(),
            Self::Simulated(corridor) => corridor.take_lines(),
        }
    }
}

/// The node's own station.
const OWN: StationId = StationId(0);

/// The node at the end of a corridor, and lamps along it that wait to be provisioned.
pub(super) struct Corridor {
    medium: Medium,
    devices: Vec<Host>,
    heard: VecDeque<Heard>,
}

impl Corridor {
    /// Simulated air with these devices, the first the nearest.
    pub(super) fn new(seed: u64, devices: Vec<Host>) -> Self {
        let mut medium = Medium::new(seed, MediumConfig::default());
        let mut x = 0.0;
        for _ in 0..=devices.len() {
            medium.add_station(Position { x, y: 0.0, z: 0.0 });
            x += DISTANCE_M;
        }
        Self { medium, devices, heard: VecDeque::new() }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let devices = self.devices.iter().filter_map(Host::poll_timeout);
        devices.chain(self.medium.poll_timeout()).min()
    }

    fn handle_timeout(&mut self, now: Instant, sent: &mut Vec<(AdType, Octets)>) {
        loop {
            for (station, device) in (1..).zip(&mut self.devices) {
                if device.poll_timeout().is_some_and(|at| at <= now) {
                    device.handle_timeout(now);
                }
                while let Some(transmission) = device.poll_transmit() {
                    self.medium.transmit(now, StationId(station), transmission);
                }
            }
            if self.medium.poll_timeout().is_none_or(|at| at > now) {
                return;
            }
            self.medium.handle_timeout(now);
            while let Some((_, station, ad_type, data)) = self.medium.poll_started() {
                if station == OWN {
                    sent.push((ad_type, data));
                }
            }
            while let Some(reception) = self.medium.poll_reception() {
                let (ad_type, data, rssi) = (reception.ad_type, reception.data, reception.rssi);
                match reception.to.0.checked_sub(1).and_then(|index| self.devices.get_mut(index)) {
                    Some(device) => device.handle_pdu(now, &Received { ad_type, data: &data, rssi }),
                    None => {
                        self.heard.push_back(Heard { advertisement: Advertisement { ad_type, data }, rssi })
                    }
                }
            }
        }
    }

    /// Only what somebody in the corridor would see: what a device is told to do, what it shows or asks for, and that it
    /// has become a node.
    fn take_lines(&mut self) -> Vec<Value> {
        let mut lines = Vec::new();
        for (number, device) in (1..).zip(&mut self.devices) {
            let said = device.take_lines().into_iter();
            lines.extend(said.filter_map(|line| match line["event"].as_str() {
                Some("changed") => Some(json!({"event": "lamp", "lamp": number, "on": line["on"]})),
                Some("provisioned") => {
                    Some(json!({"event": "lamp", "lamp": number, "address": line["address"]}))
                }
                Some("show") => Some(json!({
                    "event": "lamp",
                    "lamp": number,
                    "shows": line["action"],
                    "value": line["value"],
                })),
                Some("enter") => Some(json!({
                    "event": "lamp",
                    "lamp": number,
                    "asks": line["action"],
                    "size": line["size"],
                })),
                _ => None,
            }));
        }
        lines
    }
}
