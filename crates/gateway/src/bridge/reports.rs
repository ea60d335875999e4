//! What elements say, and what follows from it.

use std::time::Duration;

use clock::Instant;
use mesh_models::generic::BatteryStatus;
use mesh_models::messages::{
    BatteryGet, CtlGet, CtlStatus, CtlTemperatureGet, CtlTemperatureRangeGet, CtlTemperatureRangeStatus,
    CtlTemperatureStatus, DeltaSet, HslGet, HslHueGet, HslHueStatus, HslSaturationGet, HslSaturationStatus,
    HslStatus, LevelGet, LevelSet, LevelStatus, LightnessGet, LightnessRangeGet, LightnessRangeStatus,
    LightnessStatus, MoveSet, OnOffGet, OnOffSet, OnOffStatus,
};
use mesh_models::sensor::{SensorGet, SensorStatus};
use mesh_proto::access::ReceivedMessage;
use mesh_wire::DecodeError;
use mesh_wire::access::Opcode;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::foundation::{CompositionData, ConfigMessage};
use serde_json::{Value, json};

use super::{Bridge, Purpose};
use crate::capabilities::Range;
use crate::facts::{Facts, Heard, Report};
use crate::scheduler::{Ended, Lane, Subject};
use crate::sensors::value_of;

/// How long after the end of a transition the gateway waits for the lamp's own report before it asks.
const TRANSITION_GRACE: Duration = Duration::from_millis(700);

/// How long a lamp that has said that it is on has to say how bright, before it is asked: members of a group publish
/// at random times up to half a second.
const BRIGHTNESS_GRACE: Duration = Duration::from_millis(600);

/// Beyond the periods in which a node should have been heard: its own random delays, and the way.
pub(crate) const SILENCE_GRACE: Duration = Duration::from_secs(2);

/// How long messages with the same transaction, source and destination are one press (MMDL §3.4.1.2.2).
pub(crate) const PRESS_TIME: Duration = Duration::from_secs(6);

/// Presses that are remembered, so that their repetitions are not taken for further ones.
const MAX_PRESSES: usize = 256;

/// A message that a button sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Press {
    source: UnicastAddress,
    destination: Address,
    opcode: Opcode,
    /// The Transaction Identifier is in there; of a dial that is turned also how far by now.
    parameters: Vec<u8>,
    at: Instant,
}

impl Bridge {
    /// Takes an access message that came under the application key.
    pub(crate) fn handle_message(&mut self, now: Instant, message: &ReceivedMessage) {
        let ReceivedMessage { source, opcode, parameters, .. } = message;
        if *source == self.settings.own {
            return;
        }
        self.note_heard(now, message);
        if let Some(heard) = Heard::decode(*opcode, parameters) {
            match heard {
                Ok(heard) => self.handle_heard(now, *source, *opcode, &heard),
                Err(error) => self.complain_of(*source, *opcode, &error),
            }
        } else if *opcode == SensorStatus::OPCODE {
            match SensorStatus::decode(parameters) {
                Ok(status) => self.handle_measurements(now, *source, &status),
                Err(error) => self.complain_of(*source, *opcode, &error),
            }
        } else if let Some(action) = action_of(*opcode, parameters) {
            let destination = message.destination.address();
            let (opcode, parameters) = (*opcode, parameters.clone());
            self.handle_press(Press { source: *source, destination, opcode, parameters, at: now }, action);
        }
    }

    /// Takes what a node says of itself; it came under that node's device key.
    pub(crate) fn handle_composition(&mut self, now: Instant, source: UnicastAddress, page_0: &[u8]) {
        let subject = Subject { destination: source.into(), lane: Lane::Configure };
        let is_asked = matches!(self.scheduler.owner_mut(subject), Some(Purpose::Interview));
        if !is_asked || self.scheduler.answered(now, subject).is_none() {
            return;
        }
        if let Err(error) = self.take_composition(source, page_0) {
            return self.log_error(&format!("the composition data of {source} cannot be read: {error}"));
        }
        self.changes.insert(crate::record::device(source), Some(page_0.to_vec()));
        self.announce_device(source);
        if let Some(device) = self.devices.get(source) {
            let data = json!({"friendly_name": device.name, "status": "successful"});
            self.event("device_interview", &data);
        }
        self.ask_everything(source);
    }

    /// Makes the endpoints of a node from what it said of itself, now or before a restart.
    pub(super) fn take_composition(
        &mut self,
        node: UnicastAddress,
        page_0: &[u8],
    ) -> Result<(), DecodeError> {
        self.devices.set_composition(node, CompositionData::decode(page_0)?);
        let endpoints = self.devices.get(node).map(|device| device.endpoints.clone()).unwrap_or_default();
        for endpoint in &endpoints {
            self.restore_endpoint(endpoint.address);
        }
        self.groups.note_members(&self.database, &endpoints);
        Ok(())
    }

    /// Takes back what an endpoint was known to have.
    fn restore_endpoint(&mut self, element: UnicastAddress) {
        let Some(device) = self.devices.of_element(element) else { return };
        let Some(product) = device.composition.as_ref().map(|x| (x.company, x.product)) else { return };
        let stored = self.remembered.get(&crate::record::endpoint(element));
        let record = stored.and_then(|value| serde_json::from_slice(value).ok());
        if let (Some(record), Some(endpoint)) = (record, self.devices.endpoint_mut(element)) {
            endpoint.restore(&record, product);
        }
    }

    /// Notes that a node is there, how far away it is and how well it is heard.
    pub(crate) fn note_heard(&mut self, now: Instant, message: &ReceivedMessage) {
        let farthest = self.devices.farthest().map(|(device, hops)| (device.address, hops));
        let Some(device) = self.devices.of_element_mut(message.source) else { return };
        let address = device.address;
        device.last_seen = Some(now);
        device.rssi = message.rssi.or(device.rssi);
        // A message that was sent with another TTL than the node's default says nothing about distance.
        let hops = device.default_ttl.checked_sub(message.ttl.into()).map(|relays| relays + 1);
        if hops.is_some_and(|hops| device.note_hops(hops)) {
            self.devices_changed(now);
        }
        if farthest != self.devices.farthest().map(|(device, hops)| (device.address, hops)) {
            self.info_changed(now);
        }
        self.expect(now, address);
        self.set_online(now, address, true);
    }

    /// Has a node that is not heard in time be offline.
    pub(super) fn expect(&mut self, now: Instant, address: UnicastAddress) {
        let period = self.devices.get(address).and_then(|device| device.period);
        if let Some(period) = period {
            let patience = period * self.settings.availability_periods + SILENCE_GRACE;
            self.silences.set(address, now + patience);
        }
    }

    pub(super) fn set_online(&mut self, now: Instant, address: UnicastAddress, is_online: bool) {
        let Some(device) = self.devices.of_element_mut(address) else { return };
        let before = device.online.replace(is_online);
        if before == Some(is_online) {
            return;
        }
        let (address, is_known) = (device.address, device.composition.is_some());
        self.publish_availability(address);
        if is_online && before == Some(false) {
            // What it did meanwhile it has told nobody.
            if is_known {
                self.ask_everything(address);
            } else {
                self.interview(now, address);
            }
        }
    }

    fn handle_heard(&mut self, now: Instant, source: UnicastAddress, opcode: Opcode, heard: &Heard) {
        match *heard {
            Heard::States(report) => return self.handle_states(now, source, opcode, report),
            Heard::Battery(level) => {
                let Some(endpoint) = self.devices.endpoint_mut(source) else { return };
                endpoint.shadow.confirm_battery(level);
            }
            Heard::LightnessRange { min, max } => {
                let Some(endpoint) = self.devices.endpoint_mut(source) else { return };
                let is_first = !std::mem::replace(&mut endpoint.has_said.0, true);
                let range = Range { min, max };
                if std::mem::replace(&mut endpoint.lightness_range, range) != range || is_first {
                    self.remember_endpoint(source);
                    self.devices_changed(now);
                }
            }
            Heard::TemperatureRange { min, max } => {
                let Some(endpoint) = self.devices.endpoint_mut(source) else { return };
                let is_first = !std::mem::replace(&mut endpoint.has_said.1, true);
                let range = Range { min, max };
                if std::mem::replace(&mut endpoint.temperature_range, range) != range || is_first {
                    self.remember_endpoint(source);
                    self.announce_device(source);
                }
            }
        }
        self.publish_state(source);
        self.settle_question(now, source, opcode);
    }

    fn handle_states(&mut self, now: Instant, source: UnicastAddress, opcode: Opcode, mut report: Report) {
        let Some(endpoint) = self.devices.endpoint_mut(source) else { return };
        let main = endpoint.address;
        if !endpoint.capabilities.level {
            // A lamp's level is its lightness, temperature or colour, which it says in other messages.
            (report.present.level, report.destiny.level) = (None, None);
            if report.present == Facts::default() {
                return;
            }
        }
        endpoint.shadow.confirm(&report.present);
        match report.remaining {
            // What the element cannot say ("unknown") is asked for soon.
            Some(remaining) => self.transitions.set((main, opcode), now + remaining + TRANSITION_GRACE),
            None => _ = self.transitions.cancel(&(main, opcode)),
        }
        if endpoint.shadow.is_partial(&endpoint.capabilities) {
            // On, after off: how bright it says at once by itself, or is asked.
            self.transitions.set((main, opcode), now + BRIGHTNESS_GRACE);
            self.settle_groups(now, main, &report);
            return self.settle_question(now, source, opcode);
        }
        if report.present.lightness.is_some() {
            self.transitions.cancel(&(main, OnOffStatus::OPCODE));
        }
        self.publish_state(main);
        self.settle_write(now, source, &report);
        self.settle_groups(now, main, &report);
        self.settle_question(now, source, opcode);
    }

    /// Ends the command that a report confirms.
    fn settle_write(&mut self, now: Instant, source: UnicastAddress, report: &Report) {
        let subject = Subject { destination: source.into(), lane: Lane::Set };
        let Some(wanted) = self.scheduler.wanted(subject) else { return };
        if !report.destiny.covers(wanted) {
            return;
        }
        // A report that does not tell where a change leads is the answer to the command that began it.
        if report.destiny.fulfil(wanted) || !report.is_final {
            if let Some(ended) = self.scheduler.answered(now, subject) {
                self.succeed(ended, source);
            }
        } else {
            self.renew_transaction(subject);
        }
    }

    /// Ends the question that a message of this opcode answers, whether it is on the air or still waits.
    fn settle_question(&mut self, now: Instant, source: UnicastAddress, opcode: Opcode) {
        let Some(question) = question_of(opcode) else { return };
        let subject = Subject { destination: source.into(), lane: Lane::Get(question) };
        let ended = self.scheduler.answered(now, subject).or_else(|| {
            let request = self.scheduler.drop_waiting(subject)?;
            Some(Ended { request, attempts: 0, took: Duration::ZERO, is_superseded: false })
        });
        if let Some(ended) = ended {
            self.succeed(ended, source);
        }
    }

    fn handle_measurements(&mut self, now: Instant, source: UnicastAddress, status: &SensorStatus) {
        let Some(device) = self.devices.of_element(source) else { return };
        let Some(product) = device.composition.as_ref().map(|x| (x.company, x.product)) else { return };
        let Some(endpoint) = self.devices.endpoint_mut(source) else { return };
        let mut has_new = false;
        for measurement in &status.measurements {
            let (name, is_new) = endpoint.add_sensor(measurement.property(), product);
            has_new |= is_new;
            endpoint.shadow.confirm_measured(&name, value_of(measurement));
        }
        if has_new {
            self.remember_endpoint(source);
            self.announce_device(source);
        }
        self.publish_state(source);
        self.settle_question(now, source, SensorStatus::OPCODE);
    }

    /// Publishes what somebody did with a button, once however often the message is repeated.
    fn handle_press(&mut self, press: Press, mut action: Value) {
        let Some(endpoint) = self.devices.endpoint(press.source) else { return };
        if !endpoint.capabilities.presses {
            return;
        }
        let topic = self.topics.action(&endpoint.name);
        while self.presses.front().is_some_and(|old| press.at - old.at >= PRESS_TIME) {
            self.presses.pop_front();
        }
        if self.presses.iter().any(|old| Press { at: press.at, ..old.clone() } == press) {
            return;
        }
        if self.presses.len() >= MAX_PRESSES {
            self.presses.pop_front();
        }
        if let Some(group) = self.groups.get(press.destination) {
            action["to"] = json!(group.name);
        }
        self.presses.push_back(press);
        self.publish(topic, &action);
    }

    fn remember_endpoint(&mut self, element: UnicastAddress) {
        let Some(endpoint) = self.devices.endpoint(element) else { return };
        let value = serde_json::to_vec(&endpoint.to_record()).unwrap_or_default();
        let key = crate::record::endpoint(endpoint.address);
        if self.remembered.get(&key) != Some(&value) {
            self.remembered.insert(key.clone(), value.clone());
            self.changes.insert(key, Some(value));
        }
    }

    fn complain_of(&mut self, source: UnicastAddress, opcode: Opcode, error: &DecodeError) {
        let opcode = hex::encode(opcode.with(&[]));
        self.log(
            "warning",
            &format!("{source} sent a message of opcode {opcode} that cannot be read: {error}"),
        );
    }

    /// Takes the answer of a node's Configuration Server.
    pub(crate) fn handle_configured(&mut self, now: Instant, source: UnicastAddress, answer: &ConfigMessage) {
        let subject = Subject { destination: source.into(), lane: Lane::Configure };
        let Some(Purpose::Configure { job, about }) = self.scheduler.owner_mut(subject) else { return };
        let (ConfigMessage::ModelSubscriptionChange { address, model, .. }, job) = (about.clone(), *job)
        else {
            return;
        };
        let ConfigMessage::ModelSubscriptionStatus { status, address: of, model: on } = answer else {
            return;
        };
        if (address, model) != (*of, *on) || self.scheduler.answered(now, subject).is_none() {
            return;
        }
        self.continue_request(job, *status);
    }
}

/// What a button's message means.
fn action_of(opcode: Opcode, parameters: &[u8]) -> Option<Value> {
    Some(match opcode {
        OnOffSet::OPCODE | OnOffSet::UNACKNOWLEDGED => {
            let on = OnOffSet::decode(parameters).ok()?.on_off;
            json!({"action": if on { "on" } else { "off" }})
        }
        LevelSet::OPCODE | LevelSet::UNACKNOWLEDGED => {
            json!({"action": "level", "level": LevelSet::decode(parameters).ok()?.level})
        }
        DeltaSet::OPCODE | DeltaSet::UNACKNOWLEDGED => {
            let delta = DeltaSet::decode(parameters).ok()?.delta_level;
            let action = if delta < 0 { "brightness_step_down" } else { "brightness_step_up" };
            json!({"action": action, "step": delta.unsigned_abs()})
        }
        MoveSet::OPCODE | MoveSet::UNACKNOWLEDGED => {
            let action = match MoveSet::decode(parameters).ok()?.delta_level {
                0 => "brightness_stop",
                ..0 => "brightness_move_down",
                _ => "brightness_move_up",
            };
            json!({"action": action})
        }
        _ => return None,
    })
}

/// The question that a status message answers.
fn question_of(status: Opcode) -> Option<Opcode> {
    Some(match status {
        OnOffStatus::OPCODE => OnOffGet::OPCODE,
        LevelStatus::OPCODE => LevelGet::OPCODE,
        LightnessStatus::OPCODE => LightnessGet::OPCODE,
        LightnessRangeStatus::OPCODE => LightnessRangeGet::OPCODE,
        CtlStatus::OPCODE => CtlGet::OPCODE,
        CtlTemperatureStatus::OPCODE => CtlTemperatureGet::OPCODE,
        CtlTemperatureRangeStatus::OPCODE => CtlTemperatureRangeGet::OPCODE,
        HslStatus::OPCODE => HslGet::OPCODE,
        HslHueStatus::OPCODE => HslHueGet::OPCODE,
        HslSaturationStatus::OPCODE => HslSaturationGet::OPCODE,
        BatteryStatus::OPCODE => BatteryGet::OPCODE,
        SensorStatus::OPCODE => SensorGet::OPCODE,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buttons_say_what_was_done_with_them() {
        let action = |payload: Vec<u8>| {
            let (opcode, parameters) = Opcode::decode(&payload).unwrap();
            action_of(opcode, parameters).map(|action| action.to_string())
        };
        let on = OnOffSet { on_off: true, tid: 3, transition: None }.encode_as(OnOffSet::UNACKNOWLEDGED);
        assert_eq!(action(on), Some(r#"{"action":"on"}"#.to_owned()));
        let step = DeltaSet { delta_level: -4_096, tid: 4, transition: None }.encode();
        assert_eq!(action(step), Some(r#"{"action":"brightness_step_down","step":4096}"#.to_owned()));
        let moved = |delta_level| MoveSet { delta_level, tid: 5, transition: None }.encode();
        let name = |payload| action(payload).unwrap();
        assert_eq!(name(moved(0)), r#"{"action":"brightness_stop"}"#);
        assert_eq!(name(moved(9)), r#"{"action":"brightness_move_up"}"#);
        assert_eq!(action(OnOffGet {}.encode()), None);
    }
}
