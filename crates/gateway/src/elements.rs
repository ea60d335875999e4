//! The other way round: things that speak MQTT, as elements of the gateway's own node, so that a wall switch of the
//! mesh drives a lamp that is not Bluetooth.

use std::time::Duration;

use clock::Instant;
use mesh_models::generic::{LevelServer, OnOffServer};
use mesh_models::messages::{LEVEL_SERVER, ON_OFF_SERVER};
use mesh_models::transition::Transition;
use mesh_proto::access::Element;
use mesh_proto::node::Node;
use mesh_wire::ModelId;
use serde_json::Value;

use crate::command::Target;

/// How often a level that is on its way is published.
const LEVEL_PACE: Duration = Duration::from_millis(250);

/// A thing with a pair of topics that the mesh sees as an element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttDevice {
    /// What it is called in `bridge/info`.
    pub name: String,
    /// What it is on the mesh.
    pub kind: MqttDeviceKind,
    /// Where it takes its orders.
    pub command_topic: String,
    /// Where it says what it is, if it does.
    pub state_topic: Option<String>,
    /// Names of the groups that it listens to.
    pub groups: Vec<String>,
}

/// What a thing is on the mesh, and how its topics say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MqttDeviceKind {
    /// A Generic OnOff Server: `ON` and `OFF`.
    OnOff,
    /// A Generic Level Server: a whole number from 0 to this one, such as 254 or 100.
    Level {
        /// The number of the highest level; not 0.
        max: u16,
    },
}

/// The things, in the order of their elements; the first one is on the gateway's second element.
#[derive(Debug)]
pub(crate) struct MqttDevices {
    devices: Vec<Present>,
}

#[derive(Debug)]
struct Present {
    device: MqttDevice,
    /// What was last said on the command topic, or heard on the state topic.
    last: Option<String>,
    /// When a level that is on its way is looked at again.
    look: Option<Instant>,
}

impl MqttDevice {
    pub(crate) fn model(&self) -> ModelId {
        match self.kind {
            MqttDeviceKind::OnOff => ON_OFF_SERVER,
            MqttDeviceKind::Level { .. } => LEVEL_SERVER,
        }
    }

    /// Its element, with what it is at first.
    pub(crate) fn element(&self) -> Element {
        match self.kind {
            MqttDeviceKind::OnOff => Element::new(0).with_server(OnOffServer::new(false)),
            MqttDeviceKind::Level { .. } => Element::new(0).with_server(LevelServer::new(i16::MIN)),
        }
    }

    /// What the state of its element is on its topics.
    fn payload(&self, now: Instant, node: &Node, element: u8) -> Option<String> {
        match self.kind {
            MqttDeviceKind::OnOff => {
                let server: &OnOffServer = node.server(element)?;
                Some(crate::shadow::on_off(server.is_on(now)).to_owned())
            }
            MqttDeviceKind::Level { max } => {
                let server: &LevelServer = node.server(element)?;
                Some(number_of(server.level(now), max).to_string())
            }
        }
    }

    /// Has its element be what the thing says it is.
    fn set(&self, now: Instant, node: &mut Node, element: u8, state: &str) -> Result<(), String> {
        match self.kind {
            MqttDeviceKind::OnOff => {
                let on = on_of(state).ok_or_else(|| format!("{state:?} is neither ON nor OFF"))?;
                node.with_server(now, element, |server: &mut OnOffServer, context| {
                    server.set(now, on, Transition::AT_ONCE, context);
                });
            }
            MqttDeviceKind::Level { max } => {
                let number = state.parse().ok().filter(|number| *number <= max);
                let number = number.ok_or_else(|| format!("{state:?} is no whole number from 0 to {max}"))?;
                node.with_server(now, element, |server: &mut LevelServer, context| {
                    server.set(now, level_of(number, max), context);
                });
            }
        }
        Ok(())
    }
}

impl MqttDevices {
    pub(crate) fn new(devices: &[MqttDevice]) -> Self {
        let present = |device: &MqttDevice| Present { device: device.clone(), last: None, look: None };
        Self { devices: devices.iter().map(present).collect() }
    }

    /// The elements of the devices in the gateway's node.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u8, &MqttDevice)> {
        (1..=u8::MAX).zip(self.devices.iter().map(|present| &present.device))
    }

    /// Takes what a thing says of itself; `None`: nobody says anything on this topic.
    pub(crate) fn handle_state(
        &mut self,
        now: Instant,
        node: &mut Node,
        topic: &str,
        payload: &[u8],
    ) -> Option<Result<(), String>> {
        let mut devices = (1..=u8::MAX).zip(&mut self.devices);
        let (element, present) =
            devices.find(|(_, present)| present.device.state_topic.as_deref() == Some(topic))?;
        let state = String::from_utf8_lossy(payload).trim().to_owned();
        let result = present.device.set(now, node, element, &state);
        if result.is_ok() {
            present.last = present.device.payload(now, node, element);
        }
        Some(result.map_err(|why| format!("{topic}: {why}")))
    }

    /// What has to be said to the things, as somebody on the mesh has changed them.
    pub(crate) fn commands(&mut self, now: Instant, node: &Node) -> Vec<(String, String)> {
        let mut commands = Vec::new();
        for (element, present) in (1..=u8::MAX).zip(&mut self.devices) {
            if present.look.is_some_and(|at| at > now) {
                continue;
            }
            present.look = None;
            let Some(payload) = present.device.payload(now, node, element) else { continue };
            if present.last.as_ref() != Some(&payload) {
                // What it was at the start is nobody's wish.
                if present.last.is_some() {
                    commands.push((present.device.command_topic.clone(), payload.clone()));
                }
                present.last = Some(payload);
            }
            let is_moving = node.server::<LevelServer>(element).is_some_and(|server| server.is_moving(now));
            present.look = is_moving.then(|| now + LEVEL_PACE);
        }
        commands
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.devices.iter().filter_map(|present| present.look).min()
    }
}

/// `ON`, `true`, `1`, or JSON with such a `state`.
fn on_of(state: &str) -> Option<bool> {
    if let Ok(Value::Object(members)) = serde_json::from_str(state) {
        return members.get("state").and_then(Value::as_str).and_then(on_of);
    }
    match Target::from_text(state) {
        Some(Target::On) => Some(true),
        Some(Target::Off) => Some(false),
        _ => match state {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
    }
}

fn number_of(level: i16, max: u16) -> u16 {
    let above = u32::try_from(i32::from(level) + 0x8000).unwrap_or(0);
    u16::try_from((above * u32::from(max) + 0x7fff) / 0xffff).unwrap_or(max)
}

fn level_of(number: u16, max: u16) -> i16 {
    let (number, max) = (i64::from(number), i64::from(max.max(1)));
    i16::try_from((number * 0xffff + max / 2) / max - 0x8000).unwrap_or(i16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_reads_back_equal_and_the_ends_are_the_ends() {
        for max in [1, 100, 254, 255, 1_000, u16::MAX] {
            assert!((0..=max).all(|number| number_of(level_of(number, max), max) == number), "{max}");
            assert_eq!((level_of(0, max), level_of(max, max)), (i16::MIN, i16::MAX));
        }
    }

    #[test]
    fn a_switch_says_on_and_off_in_several_ways() {
        for on in ["ON", "on", "true", "1", r#"{"state":"ON","power":3}"#] {
            assert_eq!(on_of(on), Some(true), "{on}");
        }
        for off in ["OFF", "false", "0", r#"{"state":"off"}"#] {
            assert_eq!(on_of(off), Some(false), "{off}");
        }
        assert_eq!([on_of("TOGGLE"), on_of("{}"), on_of("")], [None; 3]);
    }
}
