use alloc::vec::Vec;
use core::time::Duration;

use mesh_wire::access::Opcode;
use mesh_wire::{DecodeError, Reader};

use super::measurement::Measurement;
use super::property::PropertyId;

/// The largest power of two that divides a Publish Period (MMDL §4.1.3.1).
const MAX_DIVISOR: u8 = 15;

/// The largest Status Min Interval: 2 to the power of 26 milliseconds, 18 hours (MMDL §4.1.3.5).
const MAX_INTERVAL: u8 = 26;

/// One percent in the steps of a trigger.
const PERCENT: f64 = 100.0;

/// How often a sensor publishes (MMDL §4.1.3): `FastCadencePeriodDivisor:7 StatusTriggerType:1 TriggerDeltaDown
/// TriggerDeltaUp StatusMinInterval:8 FastCadenceLow FastCadenceHigh`. Values are in the form of the property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cadence {
    /// The Publish Period is divided by 2 to the power of this, 0 to 15, while the value is in the fast range.
    pub divisor: u8,
    /// Which changes are published at once.
    pub trigger: Trigger,
    /// Two publications are at least 2 to the power of this apart, 0 to 26, in milliseconds.
    pub min_interval: u8,
    /// Where the fast range begins.
    pub fast_low: Vec<u8>,
    /// Where it ends. If that is below its beginning, the fast range is all that lies outside of the two.
    pub fast_high: Vec<u8>,
}

/// By more than what a value has to change to be published at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// By so much, in the form of the property.
    Value {
        /// Towards less.
        down: Vec<u8>,
        /// Towards more.
        up: Vec<u8>,
    },
    /// By so much of what was published last, in 0.01 %.
    Percent {
        /// Towards less.
        down: u16,
        /// Towards more.
        up: u16,
    },
}

impl Cadence {
    /// Has a change by more than `delta` of the property's unit published at once, if nothing was published within
    /// 2 to the power of `min_interval` milliseconds before. `None` when the property is not one number or boolean.
    pub fn on_change(property: PropertyId, delta: f64, min_interval: u8) -> Option<Self> {
        let delta = Measurement::of(property, delta)?.raw().to_vec();
        let zero = Measurement::of(property, 0.0)?.raw().to_vec();
        Some(Self {
            divisor: 0,
            trigger: Trigger::Value { down: delta.clone(), up: delta },
            min_interval: min_interval.min(MAX_INTERVAL),
            fast_low: zero.clone(),
            fast_high: zero,
        })
    }

    /// Whether its values have the form of a property that is one number or boolean.
    pub(super) fn fits(&self, property: PropertyId) -> bool {
        let Some(property) = property.property() else { return false };
        let has_form = |raw: &[u8]| raw.len() == property.size();
        let fits = match &self.trigger {
            Trigger::Value { down, up } => has_form(down) && has_form(up),
            Trigger::Percent { .. } => true,
        };
        fits && has_form(&self.fast_low) && has_form(&self.fast_high) && is_one_value(property)
    }

    /// The least time between two publications.
    pub(super) fn min_interval(&self) -> Duration {
        Duration::from_millis(1 << self.min_interval.min(MAX_INTERVAL))
    }

    /// The time between two periodic publications while the value is `number`, if it is `period` ordinarily.
    pub(super) fn period(&self, property: PropertyId, number: Option<f64>, period: Duration) -> Duration {
        let fast = number.filter(|&number| self.is_fast(property, number)).map_or(0, |_| self.divisor);
        (period / (1 << fast.min(MAX_DIVISOR))).max(self.min_interval().min(period))
    }

    fn is_fast(&self, property: PropertyId, number: f64) -> bool {
        let (Some(low), Some(high)) =
            (number_of(property, &self.fast_low), number_of(property, &self.fast_high))
        else {
            return false;
        };
        if high < low { number <= high || number >= low } else { (low..=high).contains(&number) }
    }

    /// Whether a change is one to be published at once.
    pub(super) fn is_triggered(&self, property: PropertyId, before: f64, now: f64) -> bool {
        let is_up = now > before;
        let limit = match &self.trigger {
            Trigger::Value { down, up } => number_of(property, if is_up { up } else { down }),
            Trigger::Percent { down, up } => {
                Some(before.abs() * f64::from(if is_up { *up } else { *down }) / PERCENT / 100.0)
            }
        };
        limit.is_some_and(|limit| (now - before).abs() > limit.abs())
    }

    fn put(&self, octets: &mut Vec<u8>) {
        let is_percent = matches!(self.trigger, Trigger::Percent { .. });
        octets.push(u8::from(is_percent) << 7 | self.divisor.min(MAX_DIVISOR));
        match &self.trigger {
            Trigger::Value { down, up } => octets.extend(down.iter().chain(up)),
            Trigger::Percent { down, up } => {
                octets.extend([down, up].into_iter().flat_map(|x| x.to_le_bytes()))
            }
        }
        octets.push(self.min_interval.min(MAX_INTERVAL));
        octets.extend(self.fast_low.iter().chain(&self.fast_high));
    }

    /// Reads what is left. It tells itself how long the property's values are: there are two or four of them.
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let rest = reader.rest().len();
        let head = reader.u8()?;
        let (is_percent, divisor) = (head >> 7 == 1, head & 0x7f);
        let (fixed, values) = if is_percent { (6, 2) } else { (2, 4) };
        let size = rest.checked_sub(fixed).ok_or(DecodeError::TooShort)? / values;
        if size == 0 {
            return Err(DecodeError::TooShort);
        }
        let trigger = if is_percent {
            Trigger::Percent { down: reader.u16_le()?, up: reader.u16_le()? }
        } else {
            Trigger::Value { down: reader.take(size)?.to_vec(), up: reader.take(size)?.to_vec() }
        };
        let min_interval = reader.u8()?;
        if divisor > MAX_DIVISOR || min_interval > MAX_INTERVAL {
            return Err(DecodeError::Prohibited("Sensor Cadence"));
        }
        let (fast_low, fast_high) = (reader.take(size)?.to_vec(), reader.take(size)?.to_vec());
        Ok(Self { divisor, trigger, min_interval, fast_low, fast_high })
    }
}

fn is_one_value(property: &super::Property) -> bool {
    matches!(property.fields(), [field] if field.format.is_number() || field.format == super::Format::Boolean)
}

fn number_of(property: PropertyId, raw: &[u8]) -> Option<f64> {
    Measurement::new(property, raw.to_vec()).ok()?.number()
}

/// Sensor Cadence Set: `PropertyID:16 Cadence`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorCadenceSet {
    /// Whose.
    pub property_id: PropertyId,
    /// What it is to be.
    pub cadence: Cadence,
}

impl SensorCadenceSet {
    /// Its opcode.
    pub const OPCODE: Opcode = Opcode::One(0x55);
    /// Its opcode when no answer is wanted.
    pub const UNACKNOWLEDGED: Opcode = Opcode::One(0x56);

    /// Opcode and parameters.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_as(Self::OPCODE)
    }

    /// Opcode and parameters, under the opcode that says whether an answer is wanted.
    pub fn encode_as(&self, opcode: Opcode) -> Vec<u8> {
        let mut payload = opcode.with(&u16::from(self.property_id).to_le_bytes());
        self.cadence.put(&mut payload);
        payload
    }

    /// Reads the parameters.
    ///
    /// # Errors
    /// When they have no possible length, or a value is prohibited.
    pub fn decode(parameters: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(parameters);
        let property_id = PropertyId::read(&mut reader)?;
        let cadence = Cadence::take(&mut reader)?;
        reader.finish(Self { property_id, cadence })
    }
}

/// Sensor Cadence Status: `PropertyID:16 [Cadence]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorCadenceStatus {
    /// Whose.
    pub property_id: PropertyId,
    /// What it is; `None`: there is no such sensor, or it has none.
    pub cadence: Option<Cadence>,
}

impl SensorCadenceStatus {
    /// Its opcode.
    pub const OPCODE: Opcode = Opcode::One(0x57);

    /// Opcode and parameters.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Self::OPCODE.with(&u16::from(self.property_id).to_le_bytes());
        if let Some(cadence) = &self.cadence {
            cadence.put(&mut payload);
        }
        payload
    }

    /// Reads the parameters.
    ///
    /// # Errors
    /// When they have no possible length, or a value is prohibited.
    pub fn decode(parameters: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(parameters);
        let property_id = PropertyId::read(&mut reader)?;
        let cadence = if reader.is_empty() { None } else { Some(Cadence::take(&mut reader)?) };
        reader.finish(Self { property_id, cadence })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEMPERATURE: PropertyId = PropertyId::PRECISE_PRESENT_AMBIENT_TEMPERATURE;

    fn raw(number: f64) -> Vec<u8> {
        Measurement::of(TEMPERATURE, number).unwrap().raw().to_vec()
    }

    fn cadence(low: f64, high: f64) -> Cadence {
        let trigger = Trigger::Value { down: raw(0.5), up: raw(1.0) };
        Cadence { divisor: 3, trigger, min_interval: 10, fast_low: raw(low), fast_high: raw(high) }
    }

    proptest! {
        #[test]
        fn a_cadence_comes_back_as_it_was_sent(
            (divisor, min_interval, is_percent) in (0..=MAX_DIVISOR, 0..=MAX_INTERVAL, any::<bool>()),
            values in (1..=9_usize).prop_flat_map(|size| proptest::collection::vec(any::<u8>(), 4 * size)),
        ) {
            let mut values = values.chunks_exact(values.len() / 4).map(<[u8]>::to_vec);
            let mut next = || values.next().unwrap();
            let trigger = if is_percent {
                Trigger::Percent { down: 7, up: u16::MAX }
            } else {
                Trigger::Value { down: next(), up: next() }
            };
            let cadence = Cadence { divisor, trigger, min_interval, fast_low: next(), fast_high: next() };
            let set = SensorCadenceSet { property_id: TEMPERATURE, cadence: cadence.clone() };
            prop_assert_eq!(SensorCadenceSet::decode(&set.encode()[1..]), Ok(set));
            let status = SensorCadenceStatus { property_id: TEMPERATURE, cadence: Some(cadence) };
            prop_assert_eq!(SensorCadenceStatus::decode(&status.encode()[1..]), Ok(status));
        }
    }

    #[test]
    fn the_layout_is_that_of_the_specification() {
        let set = SensorCadenceSet { property_id: TEMPERATURE, cadence: cadence(20.0, 25.0) };
        let expected = [0x55, 0x75, 0x00, 0x03, 50, 0, 100, 0, 10, 0xd0, 0x07, 0xc4, 0x09];
        assert_eq!(set.encode(), expected);
        let trigger = Trigger::Percent { down: 0x0102, up: 0x0304 };
        let percent = Cadence { trigger, ..cadence(20.0, 25.0) };
        let set = SensorCadenceSet { property_id: TEMPERATURE, cadence: percent };
        assert_eq!(set.encode()[3..9], [0x83, 0x02, 0x01, 0x04, 0x03, 10]);
    }

    #[test]
    fn the_fast_range_may_lie_outside() {
        let inside = cadence(20.0, 25.0);
        let fast =
            |cadence: &Cadence| [19.9, 20.0, 25.0, 25.1].map(|number| cadence.is_fast(TEMPERATURE, number));
        assert_eq!(fast(&inside), [false, true, true, false]);
        assert_eq!(fast(&cadence(25.0, 20.0)), [true, true, true, true]);
        assert!(!cadence(25.0, 20.0).is_fast(TEMPERATURE, 22.0));
        let minute = Duration::from_secs(60);
        assert_eq!(inside.period(TEMPERATURE, Some(22.0), minute), minute / 8);
        assert_eq!(inside.period(TEMPERATURE, Some(30.0), minute), minute);
        assert_eq!(inside.period(TEMPERATURE, None, minute), minute);
        // It is never below the least interval.
        assert_eq!(
            inside.period(TEMPERATURE, Some(22.0), Duration::from_secs(2)),
            Duration::from_millis(1_024)
        );
    }

    #[test]
    fn a_change_has_to_exceed_its_trigger() {
        let cadence = cadence(0.0, 0.0);
        let triggered = |now| cadence.is_triggered(TEMPERATURE, 20.0, now);
        assert_eq!([21.0, 21.01, 20.0, 19.5, 19.49].map(triggered), [false, true, false, false, true]);
        let trigger = Trigger::Percent { down: 500, up: 1_000 };
        let percent = Cadence { trigger, ..cadence };
        let triggered = |now| percent.is_triggered(TEMPERATURE, -20.0, now);
        assert_eq!([-18.0, -17.9, -21.0, -21.1].map(triggered), [false, true, false, true]);
        let any = Cadence::on_change(PropertyId::PRESENCE_DETECTED, 0.0, 0).unwrap();
        assert!(any.is_triggered(PropertyId::PRESENCE_DETECTED, 0.0, 1.0));
        assert!(!any.is_triggered(PropertyId::PRESENCE_DETECTED, 1.0, 1.0));
    }
}
