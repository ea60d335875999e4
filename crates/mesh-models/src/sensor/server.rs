use alloc::vec::Vec;
use core::time::Duration;

use clock::Instant;
use mesh_proto::access::{Context, Periodic, Place, ReceivedMessage, Server};
use mesh_wire::access::{MAX_PAYLOAD, Opcode};
use mesh_wire::{DecodeError, ModelId, Reader};

use super::cadence::{Cadence, SensorCadenceSet, SensorCadenceStatus};
use super::descriptor::{SensorDescriptor, SensorDescriptorStatus};
use super::measurement::{Measurement, SensorStatus};
use super::property::PropertyId;
use super::series::{SensorColumn, SensorColumnGet, SensorColumnStatus, SensorSeriesGet, SensorSeriesStatus};
use super::settings::{SensorSettingSet, SensorSettingStatus, SensorSettingsStatus, SettingAccess};
use crate::messages::{
    SENSOR_SERVER, SENSOR_SETUP_SERVER, SensorCadenceGet, SensorDescriptorGet, SensorGet, SensorSettingGet,
    SensorSettingsGet,
};

/// Most sensors of an element: what a Sensor Descriptor Status has room for.
const MAX_SENSORS: usize = 47;

/// The longest Publish Period: 63 steps of 10 minutes.
const LONG: Duration = Duration::from_secs(63 * 600);

/// A sensor: a property that an element measures.
#[derive(Clone, Debug)]
pub struct Sensor {
    descriptor: SensorDescriptor,
    value: Option<Measurement>,
    cadence: Option<Cadence>,
    settings: Vec<Setting>,
    columns: Vec<SensorColumn>,
    published: Option<Published>,
    /// When the period began that is running.
    period_began: Option<Instant>,
    /// Whether a change waits for the least interval to be over.
    is_waiting: bool,
}

#[derive(Clone, Debug)]
struct Setting {
    value: Measurement,
    access: SettingAccess,
}

#[derive(Clone, Copy, Debug)]
struct Published {
    number: Option<f64>,
    at: Instant,
}

impl Sensor {
    /// A sensor that has measured nothing yet, and publishes periodically only.
    pub fn new(property: PropertyId) -> Self {
        Self {
            descriptor: SensorDescriptor::new(property),
            value: None,
            cadence: None,
            settings: Vec::new(),
            columns: Vec::new(),
            published: None,
            period_began: None,
            is_waiting: false,
        }
    }

    /// What it says of itself; the property stays.
    #[must_use]
    pub fn with_descriptor(mut self, descriptor: SensorDescriptor) -> Self {
        self.descriptor = SensorDescriptor { property_id: self.property(), ..descriptor };
        self
    }

    /// How often it publishes, until a client says otherwise. Not for properties of several fields.
    #[must_use]
    pub fn with_cadence(mut self, cadence: Cadence) -> Self {
        self.cadence = Some(cadence).filter(|cadence| cadence.fits(self.property()));
        self
    }

    /// Adds a setting.
    #[must_use]
    pub fn with_setting(mut self, value: Measurement, access: SettingAccess) -> Self {
        self.settings.push(Setting { value, access });
        self
    }

    /// What it measures.
    pub const fn property(&self) -> PropertyId {
        self.descriptor.property_id
    }

    /// What it measured last; without octets before it has.
    pub fn measurement(&self) -> Measurement {
        self.value.clone().unwrap_or_else(|| Measurement::none(self.property()))
    }

    /// A setting's value, in the form of its property.
    pub fn setting(&self, property: PropertyId) -> Option<&[u8]> {
        self.settings
            .iter()
            .map(|setting| &setting.value)
            .find(|value| value.property() == property)
            .map(Measurement::raw)
    }

    fn number(&self) -> Option<f64> {
        self.value.as_ref()?.number()
    }

    fn is_triggered(&self) -> bool {
        let (Some(cadence), Some(number)) = (&self.cadence, self.number()) else { return false };
        let before = self.published.and_then(|published| published.number);
        before.is_none_or(|before| cadence.is_triggered(self.property(), before, number))
    }

    /// When it may publish again.
    fn next_allowed(&self) -> Option<Instant> {
        let (published, cadence) = (self.published?, self.cadence.as_ref()?);
        Some(published.at + cadence.min_interval())
    }

    /// The time from one periodic publication to the next.
    fn period(&self, period: Duration) -> Duration {
        self.cadence.as_ref().map_or(period, |cadence| cadence.period(self.property(), self.number(), period))
    }

    fn mark_published(&mut self, now: Instant) {
        self.published = Some(Published { number: self.number(), at: now });
        self.is_waiting = false;
    }
}

/// Sensor Server and Sensor Setup Server of an element (MMDL §4.3.1, §4.3.2).
///
/// A sensor is published when its Publish Period is over, which its cadence makes shorter while the value is in the
/// fast range, and when the value changes by more than its cadence's trigger.
#[derive(Clone, Debug)]
pub struct SensorServer {
    /// By property.
    sensors: Vec<Sensor>,
}

impl SensorServer {
    /// The sensors of an element, one for each property. Of more than 47 those with the lowest Property IDs are
    /// taken, since no message could describe more.
    pub fn new(mut sensors: Vec<Sensor>) -> Self {
        sensors.sort_by_key(Sensor::property);
        sensors.dedup_by_key(|sensor| sensor.property());
        sensors.truncate(MAX_SENSORS);
        Self { sensors }
    }

    /// The sensor of a property.
    pub fn sensor(&self, property: PropertyId) -> Option<&Sensor> {
        self.sensors.iter().find(|sensor| sensor.property() == property)
    }

    /// Takes what the sensor of a property has measured, as a number of the property's unit (of a boolean property 0
    /// or 1), and publishes what is to be published. `false` if there is no such sensor, or its property is not one
    /// number.
    pub fn set_value(
        &mut self,
        now: Instant,
        property: PropertyId,
        number: f64,
        context: &mut Context,
    ) -> bool {
        Measurement::of(property, number).is_some_and(|measurement| self.set(now, measurement, context))
    }

    /// The same for properties of any form.
    pub fn set(&mut self, now: Instant, measurement: Measurement, context: &mut Context) -> bool {
        let Some(sensor) = self.sensor_mut(measurement.property()) else { return false };
        let period = LONG;
        let before = sensor.period(period);
        sensor.value = Some(measurement);
        if sensor.period(period) < before {
            context.hurry(Place::first(SENSOR_SERVER));
        }
        sensor.is_waiting = sensor.is_triggered();
        self.publish_waiting(now, context);
        true
    }

    /// Sets the columns of a property's series; those of another form than the property's are left out.
    pub fn set_columns(&mut self, property: PropertyId, columns: Vec<SensorColumn>) {
        if let Some(sensor) = self.sensor_mut(property) {
            sensor.columns = columns;
            sensor.columns.retain(|column| column.fits(property));
        }
    }

    fn sensor_mut(&mut self, property: PropertyId) -> Option<&mut Sensor> {
        self.sensors.iter_mut().find(|sensor| sensor.property() == property)
    }

    /// Publishes the changes whose least interval is over.
    fn publish_waiting(&mut self, now: Instant, context: &mut Context) {
        let mut measurements = Vec::new();
        for sensor in &mut self.sensors {
            if sensor.is_waiting && sensor.next_allowed().is_none_or(|at| now >= at) {
                measurements.push(sensor.measurement());
                sensor.mark_published(now);
            }
        }
        if !measurements.is_empty() {
            context.publish(Place::first(SENSOR_SERVER), status_of(measurements));
        }
    }

    fn handle_get(&self, opcode: Opcode, parameters: &[u8]) -> Result<Vec<u8>, DecodeError> {
        Ok(match opcode {
            SensorDescriptorGet::OPCODE => match SensorDescriptorGet::decode(parameters)?.property_id {
                Some(property) => {
                    self.sensor(property).map_or(SensorDescriptorStatus::Unknown(property), |sensor| {
                        SensorDescriptorStatus::Descriptors([sensor.descriptor].into())
                    })
                }
                None => {
                    SensorDescriptorStatus::Descriptors(self.sensors.iter().map(|x| x.descriptor).collect())
                }
            }
            .encode(),
            SensorGet::OPCODE => match SensorGet::decode(parameters)?.property_id {
                Some(property) => status_of([self.measurement(property)]),
                None => status_of(self.sensors.iter().map(Sensor::measurement)),
            },
            SensorColumnGet::OPCODE => self.column_status(SensorColumnGet::decode(parameters)?).encode(),
            _ => self.series_status(&SensorSeriesGet::decode(parameters)?).encode(),
        })
    }

    fn measurement(&self, property: PropertyId) -> Measurement {
        self.sensor(property).map_or_else(|| Measurement::none(property), Sensor::measurement)
    }

    fn column_status(&self, SensorColumnGet { property_id, x }: SensorColumnGet) -> SensorColumnStatus {
        let columns = self.sensor(property_id).into_iter().flat_map(|sensor| &sensor.columns);
        let column = columns.clone().find(|column| column.x == x);
        SensorColumnStatus {
            property_id,
            x,
            column: column.map(|column| (column.width.clone(), column.y.clone())),
        }
    }

    fn series_status(&self, get: &SensorSeriesGet) -> SensorSeriesStatus {
        let property_id = get.property_id;
        let columns = self.sensor(property_id).into_iter().flat_map(|sensor| &sensor.columns);
        let columns = columns.filter(|column| get.covers(&column.x)).cloned();
        SensorSeriesStatus { property_id, columns: fitting(columns, SensorColumn::size, MAX_PAYLOAD - 3) }
    }

    /// Takes a message to the Setup Server. The status, and whether a state was set.
    fn handle_setup(&mut self, opcode: Opcode, parameters: &[u8]) -> Result<(Vec<u8>, bool), DecodeError> {
        Ok(match opcode {
            SensorCadenceGet::OPCODE => {
                (self.cadence_status(SensorCadenceGet::decode(parameters)?.property_id), false)
            }
            SensorCadenceSet::OPCODE | SensorCadenceSet::UNACKNOWLEDGED => {
                let SensorCadenceSet { property_id, cadence } = SensorCadenceSet::decode(parameters)?;
                let is_set = self.set_cadence(property_id, cadence)?;
                (self.cadence_status(property_id), is_set)
            }
            SensorSettingsGet::OPCODE => {
                let property_id = SensorSettingsGet::decode(parameters)?.property_id;
                let settings = self.sensor(property_id).into_iter().flat_map(|sensor| &sensor.settings);
                let settings = settings.map(|setting| setting.value.property()).collect();
                (SensorSettingsStatus { property_id, settings }.encode(), false)
            }
            SensorSettingGet::OPCODE => {
                let SensorSettingGet { property_id, setting_property_id } =
                    SensorSettingGet::decode(parameters)?;
                (self.setting_status(property_id, setting_property_id), false)
            }
            _ => self.set_setting(SensorSettingSet::decode(parameters)?)?,
        })
    }

    /// Whether there is such a sensor, and it has a cadence now.
    fn set_cadence(&mut self, property: PropertyId, cadence: Cadence) -> Result<bool, DecodeError> {
        let Some(sensor) = self.sensor_mut(property) else { return Ok(false) };
        if !cadence.fits(property) {
            return Err(DecodeError::Prohibited("Sensor Cadence"));
        }
        sensor.cadence = Some(cadence);
        Ok(true)
    }

    fn cadence_status(&self, property_id: PropertyId) -> Vec<u8> {
        let cadence = self.sensor(property_id).and_then(|sensor| sensor.cadence.clone());
        SensorCadenceStatus { property_id, cadence }.encode()
    }

    fn setting_status(&self, property_id: PropertyId, setting_property_id: PropertyId) -> Vec<u8> {
        let settings = self.sensor(property_id).into_iter().flat_map(|sensor| &sensor.settings);
        let setting = settings.clone().find(|setting| setting.value.property() == setting_property_id);
        let setting = setting.map(|setting| (setting.access, setting.value.raw().to_vec()));
        SensorSettingStatus { property_id, setting_property_id, setting }.encode()
    }

    /// Sets a setting that can be written; one that cannot is answered as if it were not there.
    fn set_setting(&mut self, set: SensorSettingSet) -> Result<(Vec<u8>, bool), DecodeError> {
        let SensorSettingSet { property_id, setting_property_id, raw } = set;
        let settings = self.sensor_mut(property_id).into_iter().flat_map(|sensor| &mut sensor.settings);
        let setting = settings.filter(|setting| setting.access == SettingAccess::ReadWrite);
        let Some(setting) =
            setting.into_iter().find(|setting| setting.value.property() == setting_property_id)
        else {
            let none = SensorSettingStatus { property_id, setting_property_id, setting: None };
            return Ok((none.encode(), false));
        };
        let value = Measurement::new(setting_property_id, raw)?;
        value.readings()?;
        setting.value = value;
        Ok((self.setting_status(property_id, setting_property_id), true))
    }

    /// The measurements whose period is over, and when the next is.
    fn next_period(&mut self, now: Instant, period: Duration) -> (Vec<Measurement>, Duration) {
        let mut measurements = Vec::new();
        let mut next = period;
        for sensor in &mut self.sensors {
            let own = sensor.period(period);
            let mut due = sensor.period_began.map_or(now, |began| began + own);
            if let Some(allowed) = sensor.next_allowed() {
                due = due.max(allowed);
            }
            if now >= due {
                measurements.push(sensor.measurement());
                sensor.mark_published(now);
                sensor.period_began = Some(now);
                due = now + own;
            }
            next = next.min(due - now);
        }
        (measurements, next)
    }
}

/// A Sensor Status of as many measurements as a message has room for.
fn status_of(measurements: impl IntoIterator<Item = Measurement>) -> Vec<u8> {
    SensorStatus { measurements: fitting(measurements, Measurement::size, MAX_PAYLOAD - 1) }.encode()
}

/// The first of `items`, as many as there is room for.
fn fitting<T>(items: impl IntoIterator<Item = T>, size: impl Fn(&T) -> usize, mut room: usize) -> Vec<T> {
    let mut fitting = Vec::new();
    for item in items {
        let Some(left) = room.checked_sub(size(&item)) else { break };
        room = left;
        fitting.push(item);
    }
    fitting
}

impl Server for SensorServer {
    fn models(&self) -> Vec<Place> {
        [SENSOR_SERVER, SENSOR_SETUP_SERVER].map(Place::first).to_vec()
    }

    fn understands(&self, model: ModelId, opcode: Opcode) -> bool {
        match model {
            SENSOR_SERVER => [
                SensorDescriptorGet::OPCODE,
                SensorGet::OPCODE,
                SensorColumnGet::OPCODE,
                SensorSeriesGet::OPCODE,
            ]
            .contains(&opcode),
            _ => [
                SensorCadenceGet::OPCODE,
                SensorCadenceSet::OPCODE,
                SensorCadenceSet::UNACKNOWLEDGED,
                SensorSettingsGet::OPCODE,
                SensorSettingGet::OPCODE,
                SensorSettingSet::OPCODE,
                SensorSettingSet::UNACKNOWLEDGED,
            ]
            .contains(&opcode),
        }
    }

    fn handle_message(
        &mut self,
        now: Instant,
        place: Place,
        message: &ReceivedMessage,
        context: &mut Context,
    ) -> Result<(), DecodeError> {
        if place.model == SENSOR_SERVER {
            context.reply(self.handle_get(message.opcode, &message.parameters)?);
            return Ok(());
        }
        let (status, is_set) = self.handle_setup(message.opcode, &message.parameters)?;
        if is_set {
            context.changed();
            context.publish(place, status.clone());
            context.hurry(Place::first(SENSOR_SERVER));
            self.publish_waiting(now, context);
        }
        if ![SensorCadenceSet::UNACKNOWLEDGED, SensorSettingSet::UNACKNOWLEDGED].contains(&message.opcode) {
            context.reply(status);
        }
        Ok(())
    }

    fn handle_timeout(&mut self, now: Instant, context: &mut Context) {
        self.publish_waiting(now, context);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.sensors.iter().filter(|sensor| sensor.is_waiting);
        waiting.map(|sensor| sensor.next_allowed().unwrap_or(Instant::ORIGIN)).min()
    }

    fn status(&self, _now: Instant, place: Place) -> Option<Vec<u8>> {
        (place.model == SENSOR_SERVER).then(|| status_of(self.sensors.iter().map(Sensor::measurement)))
    }

    fn periodic(&mut self, now: Instant, place: Place, period: Duration) -> Periodic {
        if place.model != SENSOR_SERVER {
            return Periodic { payload: None, next: period };
        }
        let (measurements, next) = self.next_period(now, period);
        let payload = (!measurements.is_empty()).then(|| status_of(measurements));
        Periodic { payload, next }
    }

    /// The cadences and the settings that can be written, as the parameters of their Set messages: `0 or 1:8
    /// length:16 parameters`, big-endian.
    fn save(&self) -> Vec<u8> {
        let mut saved = Vec::new();
        let mut put = |kind: u8, payload: &[u8]| {
            // A Set message has an opcode of one octet.
            let parameters = &payload[1..];
            saved.push(kind);
            saved.extend(u16::try_from(parameters.len()).unwrap_or_default().to_be_bytes());
            saved.extend(parameters);
        };
        for sensor in &self.sensors {
            let property_id = sensor.property();
            if let Some(cadence) = sensor.cadence.clone() {
                put(0, &SensorCadenceSet { property_id, cadence }.encode());
            }
            for setting in sensor.settings.iter().filter(|setting| setting.access == SettingAccess::ReadWrite)
            {
                let (setting_property_id, raw) = (setting.value.property(), setting.value.raw().to_vec());
                put(1, &SensorSettingSet { property_id, setting_property_id, raw }.encode());
            }
        }
        saved
    }

    fn restore(&mut self, _now: Instant, saved: &[u8]) {
        let mut reader = Reader::new(saved);
        while let (Ok(kind), Ok(length)) = (reader.u8(), reader.array().map(u16::from_be_bytes)) {
            let Ok(parameters) = reader.take(length.into()) else { return };
            // What no longer fits, because the device has become another, is left out.
            let opcode = if kind == 0 { SensorCadenceSet::OPCODE } else { SensorSettingSet::OPCODE };
            let _ = self.handle_setup(opcode, parameters);
        }
    }
}
