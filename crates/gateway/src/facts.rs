//! What elements say of themselves, and what people want of them, in the mesh's own numbers.

use std::time::Duration;

use mesh_models::generic::BatteryStatus;
use mesh_models::messages::{
    CtlStatus, CtlTemperatureRangeStatus, CtlTemperatureStatus, HslHueStatus, HslSaturationStatus, HslStatus,
    LevelStatus, LightnessRangeStatus, LightnessStatus, OnOffStatus,
};
use mesh_models::transition::TransitionTime;
use mesh_wire::DecodeError;
use mesh_wire::access::Opcode;

/// States of an element, as far as something is said of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) on: Option<bool>,
    /// Light Lightness Actual.
    pub(crate) lightness: Option<u16>,
    /// Kelvin.
    pub(crate) temperature: Option<u16>,
    pub(crate) hue: Option<u16>,
    pub(crate) saturation: Option<u16>,
    pub(crate) level: Option<i16>,
}

/// What a Status message says of states: what they are, and what they will be when nothing changes any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) present: Facts,
    pub(crate) destiny: Facts,
    /// How long a change takes yet; zero: the element does not know.
    pub(crate) remaining: Option<Duration>,
    /// Whether the message tells where a change leads; a Light HSL Status only says that there is one.
    pub(crate) is_final: bool,
}

/// A message of an element that the gateway has a use for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    States(Report),
    Battery(Option<u8>),
    LightnessRange { min: u16, max: u16 },
    TemperatureRange { min: u16, max: u16 },
}

impl Facts {
    /// A lightness, and whether that is on.
    pub(crate) fn lightness(lightness: u16) -> Self {
        Self { on: Some(lightness > 0), lightness: Some(lightness), ..Self::default() }
    }

    /// Takes what `other` says over what is known.
    pub(crate) fn learn(&mut self, other: &Self) {
        fn take<T: Copy>(known: &mut Option<T>, news: Option<T>) {
            *known = news.or(*known);
        }
        take(&mut self.on, other.on);
        take(&mut self.lightness, other.lightness);
        take(&mut self.temperature, other.temperature);
        take(&mut self.hue, other.hue);
        take(&mut self.saturation, other.saturation);
        take(&mut self.level, other.level);
    }

    /// Whether something that says `other` would undo, or at best repeat, what this says.
    pub(crate) fn replaces(&self, other: &Self) -> bool {
        fn differs<T: Copy + PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            one.is_some() && other.is_some() && one != other
        }
        self.covers(other)
            || differs(self.on, other.on)
            || differs(self.lightness, other.lightness)
            || differs(self.temperature, other.temperature)
            || differs(self.hue, other.hue)
            || differs(self.saturation, other.saturation)
            || differs(self.level, other.level)
    }

    /// What both say.
    pub(crate) fn in_common(self, other: Self) -> Self {
        fn same<T: Copy + PartialEq>(one: Option<T>, other: Option<T>) -> Option<T> {
            one.filter(|one| other == Some(*one))
        }
        Self {
            on: same(self.on, other.on),
            lightness: same(self.lightness, other.lightness),
            temperature: same(self.temperature, other.temperature),
            hue: same(self.hue, other.hue),
            saturation: same(self.saturation, other.saturation),
            level: same(self.level, other.level),
        }
    }

    /// Whether everything that `wanted` says holds.
    pub(crate) fn fulfil(&self, wanted: &Self) -> bool {
        let mut learned = *self;
        learned.learn(wanted);
        learned == *self
    }

    /// Whether this says something of every state that `other` says something of.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        fn is_covered<T: Copy>(by: Option<T>, state: Option<T>) -> bool {
            by.is_some() || state.is_none()
        }
        is_covered(self.on, other.on)
            && is_covered(self.lightness, other.lightness)
            && is_covered(self.temperature, other.temperature)
            && is_covered(self.hue, other.hue)
            && is_covered(self.saturation, other.saturation)
            && is_covered(self.level, other.level)
    }
}

impl Report {
    fn new(present: Facts, target: Option<(Facts, TransitionTime)>) -> Self {
        match target {
            None => Self { present, destiny: present, remaining: None, is_final: true },
            Some((target, remaining)) => {
                let mut destiny = present;
                destiny.learn(&target);
                let remaining = Some(remaining.duration().unwrap_or_default());
                Self { present, destiny, remaining, is_final: true }
            }
        }
    }
}

impl Heard {
    /// Reads a message; `None`: it is none of these.
    pub(crate) fn decode(opcode: Opcode, parameters: &[u8]) -> Option<Result<Self, DecodeError>> {
        Some(match opcode {
            OnOffStatus::OPCODE => OnOffStatus::decode(parameters).map(|status| {
                let on = |on| Facts { on: Some(on), ..Facts::default() };
                let target = status.target.map(|(target, remaining)| (on(target), remaining));
                Self::States(Report::new(on(status.present_on_off), target))
            }),
            LevelStatus::OPCODE => LevelStatus::decode(parameters).map(|status| {
                let level = |level| Facts { level: Some(level), ..Facts::default() };
                let target = status.target.map(|(target, remaining)| (level(target), remaining));
                Self::States(Report::new(level(status.present_level), target))
            }),
            LightnessStatus::OPCODE => LightnessStatus::decode(parameters).map(|status| {
                let target = status.target.map(|(target, remaining)| (Facts::lightness(target), remaining));
                Self::States(Report::new(Facts::lightness(status.present_lightness), target))
            }),
            CtlStatus::OPCODE => CtlStatus::decode(parameters).map(|status| {
                let both = |lightness, temperature| Facts {
                    temperature: Some(temperature),
                    ..Facts::lightness(lightness)
                };
                let target =
                    status.target.map(|(lightness, temperature, time)| (both(lightness, temperature), time));
                Self::States(Report::new(both(status.present_lightness, status.present_temperature), target))
            }),
            CtlTemperatureStatus::OPCODE => CtlTemperatureStatus::decode(parameters).map(|status| {
                let white = |temperature| Facts { temperature: Some(temperature), ..Facts::default() };
                let target = status.target.map(|(temperature, _, time)| (white(temperature), time));
                Self::States(Report::new(white(status.present_temperature), target))
            }),
            HslStatus::OPCODE => HslStatus::decode(parameters).map(|status| Self::States(colour(&status))),
            HslHueStatus::OPCODE => HslHueStatus::decode(parameters).map(|status| {
                let hue = |hue| Facts { hue: Some(hue), ..Facts::default() };
                let target = status.target.map(|(target, time)| (hue(target), time));
                Self::States(Report::new(hue(status.present_hue), target))
            }),
            HslSaturationStatus::OPCODE => HslSaturationStatus::decode(parameters).map(|status| {
                let saturation = |saturation| Facts { saturation: Some(saturation), ..Facts::default() };
                let target = status.target.map(|(target, time)| (saturation(target), time));
                Self::States(Report::new(saturation(status.present_saturation), target))
            }),
            BatteryStatus::OPCODE => {
                BatteryStatus::decode(parameters).map(|status| Self::Battery(status.level))
            }
            LightnessRangeStatus::OPCODE => LightnessRangeStatus::decode(parameters)
                .map(|status| Self::LightnessRange { min: status.range_min, max: status.range_max }),
            CtlTemperatureRangeStatus::OPCODE => CtlTemperatureRangeStatus::decode(parameters)
                .map(|status| Self::TemperatureRange { min: status.range_min, max: status.range_max }),
            _ => return None,
        })
    }
}

fn colour(status: &HslStatus) -> Report {
    let (hue, saturation) = (Some(status.hue), Some(status.saturation));
    let present = Facts { hue, saturation, ..Facts::lightness(status.lightness) };
    let remaining = status.remaining_time.map(|time| time.duration().unwrap_or_default());
    Report { present, destiny: present, remaining, is_final: remaining.is_none() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_is_and_what_will_be() {
        let decode = |opcode, parameters: &[u8]| Heard::decode(opcode, parameters).unwrap();
        let Ok(Heard::States(report)) = decode(LightnessStatus::OPCODE, &[0, 0x80, 0, 0, 0x4a]) else {
            panic!()
        };
        assert_eq!((report.present.on, report.destiny.on), (Some(true), Some(false)));
        assert_eq!(report.destiny.lightness, Some(0));
        assert_eq!(report.remaining, Some(Duration::from_secs(10)));
        assert!(decode(LightnessStatus::OPCODE, &[0]).is_err());
        assert!(Heard::decode(Opcode::One(0x02), &[]).is_none());
    }

    #[test]
    fn a_wish_is_fulfilled_by_what_holds_and_covered_by_what_speaks_of_the_same() {
        let now = Facts { temperature: Some(3_000), ..Facts::lightness(5) };
        let on = Facts { on: Some(true), ..Facts::default() };
        assert!(now.fulfil(&on) && now.fulfil(&Facts::default()) && !now.fulfil(&Facts::lightness(6)));
        assert!(Facts::lightness(0).covers(&on) && !on.covers(&Facts::lightness(0)) && now.covers(&on));
    }
}
