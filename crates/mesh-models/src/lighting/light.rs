use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use clock::Instant;
use mesh_proto::access::{Context, Place, ReceivedMessage, Server};
use mesh_wire::access::Opcode;
use mesh_wire::{DecodeError, ModelId, Reader};

use super::TEMPERATURES;
use super::handle::opcodes_of;
use crate::generic::OnPowerUp;
use crate::generic::level::{Binding, LevelTransactions, Path};
use crate::generic::power::Power;
use crate::messages::{
    CTL_SERVER, CTL_SETUP_SERVER, CTL_TEMPERATURE_SERVER, DEFAULT_TRANSITION_TIME_SERVER, HSL_HUE_SERVER,
    HSL_SATURATION_SERVER, HSL_SERVER, HSL_SETUP_SERVER, LEVEL_SERVER, LIGHTNESS_SERVER,
    LIGHTNESS_SETUP_SERVER, ON_OFF_SERVER, POWER_ON_OFF_SERVER, POWER_ON_OFF_SETUP_SERVER,
};
use crate::ramp::Ramp;
use crate::transition::Transition;

/// What a lamp can do beside being dimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LightKind {
    /// Nothing: Light Lightness, on one element.
    Dimmable,
    /// White of several temperatures: Light CTL, on two elements.
    Tunable,
    /// Colours: Light HSL, on three elements.
    Coloured,
}

/// A lamp: the Light Lightness (Setup) Server and all that it extends, with Light CTL or Light HSL if it has them
/// (MMDL §6.3). Its states are bound to each other, whichever model they are set by.
#[derive(Clone, Debug)]
pub struct Light {
    pub(super) lightness: Ramp,
    pub(super) last: u16,
    pub(super) default: u16,
    pub(super) range: (u16, u16),
    pub(super) power: Power,
    pub(super) ctl: Option<Ctl>,
    pub(super) hsl: Option<Hsl>,
    pub(super) transactions: BTreeMap<Place, Path>,
    pub(super) levels: BTreeMap<u8, LevelTransactions>,
}

/// The states of Light CTL.
#[derive(Clone, Debug)]
pub(super) struct Ctl {
    pub(super) temperature: Ramp,
    pub(super) delta_uv: Ramp,
    pub(super) range: (u16, u16),
    pub(super) default_temperature: u16,
    pub(super) default_delta_uv: i16,
}

/// The states of Light HSL, but lightness.
#[derive(Clone, Debug)]
pub(super) struct Hsl {
    pub(super) hue: Ramp,
    pub(super) saturation: Ramp,
    pub(super) hue_range: (u16, u16),
    pub(super) saturation_range: (u16, u16),
    pub(super) default_hue: u16,
    pub(super) default_saturation: u16,
}

/// A number that the lamp can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Lightness,
    Temperature,
    DeltaUv,
    Hue,
    Saturation,
}

const AXES: [Axis; 5] = [Axis::Lightness, Axis::Temperature, Axis::DeltaUv, Axis::Hue, Axis::Saturation];

/// The elements of the second and third states, counted from the lamp's first.
pub(super) const TEMPERATURE_ELEMENT: u8 = 1;
pub(super) const HUE_ELEMENT: u8 = 1;
pub(super) const SATURATION_ELEMENT: u8 = 2;

/// The models of every lamp.
const BASE: [ModelId; 7] = [
    ON_OFF_SERVER,
    LEVEL_SERVER,
    DEFAULT_TRANSITION_TIME_SERVER,
    POWER_ON_OFF_SERVER,
    POWER_ON_OFF_SETUP_SERVER,
    LIGHTNESS_SERVER,
    LIGHTNESS_SETUP_SERVER,
];

impl Light {
    /// A lamp that is off, and wakes as it went. A tunable one goes from 2,700 K to 6,500 K.
    pub fn new(kind: LightKind) -> Self {
        let ctl = Ctl {
            temperature: Ramp::new(2_700),
            delta_uv: Ramp::new(0),
            range: (2_700, 6_500),
            default_temperature: 2_700,
            default_delta_uv: 0,
        };
        let hsl = Hsl {
            hue: Ramp::new(0),
            saturation: Ramp::new(0),
            hue_range: (0, u16::MAX),
            saturation_range: (0, u16::MAX),
            default_hue: 0,
            default_saturation: 0,
        };
        Self {
            lightness: Ramp::new(0),
            last: u16::MAX,
            default: 0,
            range: (1, u16::MAX),
            power: Power { on_power_up: OnPowerUp::Restore, ..Power::default() },
            ctl: (kind == LightKind::Tunable).then_some(ctl),
            hsl: (kind == LightKind::Coloured).then_some(hsl),
            transactions: BTreeMap::new(),
            levels: BTreeMap::new(),
        }
    }

    /// Light Lightness Actual at `now`; 0 is off.
    pub fn lightness(&self, now: Instant) -> u16 {
        number(self.lightness.value(now))
    }

    /// The temperature in kelvin at `now`, if the lamp has one.
    pub fn temperature(&self, now: Instant) -> Option<u16> {
        self.ctl.as_ref().map(|ctl| number(ctl.temperature.value(now)))
    }

    /// Hue and saturation at `now`, if the lamp has them.
    pub fn colour(&self, now: Instant) -> Option<(u16, u16)> {
        self.hsl.as_ref().map(|hsl| (number(hsl.hue.value(now)), number(hsl.saturation.value(now))))
    }

    /// Generic OnOff: on is whatever is not dark, and what has begun to become so.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.lightness.value(now) > 0 || (self.lightness.is_moving(now) && self.lightness.target() > 0)
    }

    /// The lightness that turning on leads to (MMDL §6.1.2.2.1).
    pub(super) fn lightness_when_on(&self) -> i32 {
        self.in_range(if self.default == 0 { self.last } else { self.default })
    }

    /// A lightness within the range; 0 is off whatever the range.
    pub(super) fn in_range(&self, lightness: u16) -> i32 {
        if lightness == 0 { 0 } else { lightness.clamp(self.range.0, self.range.1).into() }
    }

    pub(super) fn ramp(&self, axis: Axis) -> Option<&Ramp> {
        match axis {
            Axis::Lightness => Some(&self.lightness),
            Axis::Temperature => self.ctl.as_ref().map(|ctl| &ctl.temperature),
            Axis::DeltaUv => self.ctl.as_ref().map(|ctl| &ctl.delta_uv),
            Axis::Hue => self.hsl.as_ref().map(|hsl| &hsl.hue),
            Axis::Saturation => self.hsl.as_ref().map(|hsl| &hsl.saturation),
        }
    }

    pub(super) fn ramp_mut(&mut self, axis: Axis) -> Option<&mut Ramp> {
        match axis {
            Axis::Lightness => Some(&mut self.lightness),
            Axis::Temperature => self.ctl.as_mut().map(|ctl| &mut ctl.temperature),
            Axis::DeltaUv => self.ctl.as_mut().map(|ctl| &mut ctl.delta_uv),
            Axis::Hue => self.hsl.as_mut().map(|hsl| &mut hsl.hue),
            Axis::Saturation => self.hsl.as_mut().map(|hsl| &mut hsl.saturation),
        }
    }

    /// The state that the Generic Level of an element is bound to.
    pub(super) fn axis_of(&self, element: u8) -> Axis {
        match element {
            TEMPERATURE_ELEMENT if self.ctl.is_some() => Axis::Temperature,
            HUE_ELEMENT if self.hsl.is_some() => Axis::Hue,
            SATURATION_ELEMENT if self.hsl.is_some() => Axis::Saturation,
            _ => Axis::Lightness,
        }
    }

    pub(super) fn binding(&self, axis: Axis) -> Binding {
        match (&self.ctl, axis) {
            (Some(ctl), Axis::Temperature) => Binding::Spread { min: ctl.range.0, max: ctl.range.1 },
            _ => Binding::Offset,
        }
    }

    pub(super) fn limits(&self, axis: Axis) -> RangeInclusive<i32> {
        let (min, max) = match (axis, &self.ctl, &self.hsl) {
            (Axis::Temperature, Some(ctl), _) => ctl.range,
            // A range of hues may go through 0; then it limits nothing in one direction.
            (Axis::Hue, _, Some(hsl)) if hsl.hue_range.0 <= hsl.hue_range.1 => hsl.hue_range,
            (Axis::Saturation, _, Some(hsl)) => hsl.saturation_range,
            (Axis::Lightness, ..) => self.range,
            _ => (0, u16::MAX),
        };
        min.into()..=max.into()
    }

    /// Sends states to their targets, and publishes what that changes.
    pub(super) fn go(
        &mut self,
        now: Instant,
        targets: &[(Axis, i32)],
        transition: Transition,
        context: &mut Context,
    ) {
        self.change(now, context, |light| {
            for &(axis, target) in targets {
                if let Some(ramp) = light.ramp_mut(axis) {
                    ramp.go(now, target, transition);
                }
            }
        });
    }

    /// Changes states, and publishes those that are other than before or on their way.
    pub(super) fn change(&mut self, now: Instant, context: &mut Context, change: impl FnOnce(&mut Self)) {
        let picture =
            |light: &Self| AXES.map(|axis| light.ramp(axis).map(|ramp| (ramp.value(now), ramp.target())));
        let before = picture(self);
        change(self);
        self.settle(now);
        let news: Vec<Axis> = (AXES.into_iter().zip(before).zip(picture(self)))
            .filter(|((_, before), after)| before != after)
            .map(|((axis, _), _)| axis)
            .collect();
        self.publish(now, &news, context);
    }

    pub(super) fn publish(&self, now: Instant, axes: &[Axis], context: &mut Context) {
        if axes.is_empty() {
            return;
        }
        context.changed();
        for place in self.models() {
            if axes.iter().any(|&axis| shows(place, axis, self.axis_of(place.element)))
                && let Some(status) = self.status(now, place)
            {
                context.publish(place, status);
            }
        }
    }

    /// Light Lightness Last follows what the lamp has come to (MMDL §6.1.2.3).
    fn settle(&mut self, now: Instant) {
        if self.lightness.remaining(now).is_none() && self.lightness.target() > 0 {
            self.last = number(self.lightness.target());
        }
    }
}

/// Whether the status of a model, on an element whose level is bound to `level`, says something of a state.
fn shows(place: Place, axis: Axis, level: Axis) -> bool {
    match place.model {
        ON_OFF_SERVER | LIGHTNESS_SERVER => axis == Axis::Lightness,
        LEVEL_SERVER => axis == level,
        CTL_SERVER => matches!(axis, Axis::Lightness | Axis::Temperature | Axis::DeltaUv),
        CTL_TEMPERATURE_SERVER => matches!(axis, Axis::Temperature | Axis::DeltaUv),
        HSL_SERVER => matches!(axis, Axis::Lightness | Axis::Hue | Axis::Saturation),
        HSL_HUE_SERVER => axis == Axis::Hue,
        HSL_SATURATION_SERVER => axis == Axis::Saturation,
        _ => false,
    }
}

/// A state of 16 bits.
pub(super) fn number(value: i32) -> u16 {
    u16::try_from(value.clamp(0, 0xffff)).unwrap_or_default()
}

impl Server for Light {
    fn models(&self) -> Vec<Place> {
        let mut models = BASE.map(Place::first).to_vec();
        let on = |element, model| Place { element, model };
        if self.ctl.is_some() {
            models.extend([CTL_SERVER, CTL_SETUP_SERVER].map(Place::first));
            models.extend([LEVEL_SERVER, CTL_TEMPERATURE_SERVER].map(|model| on(TEMPERATURE_ELEMENT, model)));
        }
        if self.hsl.is_some() {
            models.extend([HSL_SERVER, HSL_SETUP_SERVER].map(Place::first));
            models.extend([LEVEL_SERVER, HSL_HUE_SERVER].map(|model| on(HUE_ELEMENT, model)));
            models.extend([LEVEL_SERVER, HSL_SATURATION_SERVER].map(|model| on(SATURATION_ELEMENT, model)));
        }
        models
    }

    fn understands(&self, model: ModelId, opcode: Opcode) -> bool {
        opcodes_of(model).contains(&opcode)
    }

    fn handle_message(
        &mut self,
        now: Instant,
        place: Place,
        message: &ReceivedMessage,
        context: &mut Context,
    ) -> Result<(), DecodeError> {
        self.handle(now, place, message, context)
    }

    fn handle_timeout(&mut self, now: Instant, context: &mut Context) {
        let mut news = Vec::new();
        for axis in AXES {
            if self.ramp_mut(axis).is_some_and(|ramp| ramp.advance(now)) {
                news.push(axis);
            }
        }
        self.settle(now);
        self.publish(now, &news, context);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        AXES.into_iter().filter_map(|axis| self.ramp(axis)?.poll_timeout()).min()
    }

    fn status(&self, now: Instant, place: Place) -> Option<Vec<u8>> {
        self.status_of(now, place)
    }

    /// `lightness last default range_min range_max`, each 16 bits, `OnPowerUp:8 default transition:8`, and then of
    /// CTL `temperature delta_uv range_min range_max default_temperature default_delta_uv` or of HSL
    /// `hue saturation hue_min hue_max saturation_min saturation_max default_hue default_saturation`.
    fn save(&self) -> Vec<u8> {
        let mut saved = Vec::new();
        let mut put = |values: &[u16]| saved.extend(values.iter().flat_map(|value| value.to_be_bytes()));
        put(&[number(self.lightness.target()), self.last, self.default, self.range.0, self.range.1]);
        if let Some(ctl) = &self.ctl {
            put(&[number(ctl.temperature.target()), signed(ctl.delta_uv.target()), ctl.range.0, ctl.range.1]);
            put(&[ctl.default_temperature, signed(ctl.default_delta_uv.into())]);
        }
        if let Some(hsl) = &self.hsl {
            put(&[
                number(hsl.hue.target()),
                number(hsl.saturation.target()),
                hsl.hue_range.0,
                hsl.hue_range.1,
            ]);
            put(&[hsl.saturation_range.0, hsl.saturation_range.1, hsl.default_hue, hsl.default_saturation]);
        }
        self.power.save(&mut saved);
        saved
    }

    fn restore(&mut self, _now: Instant, saved: &[u8]) {
        let mut restored = self.clone();
        if restored.load(saved).is_ok() {
            restored.power_up();
            *self = restored;
        }
    }
}

impl Light {
    fn load(&mut self, saved: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(saved);
        let mut take = || reader.array().map(u16::from_be_bytes);
        self.lightness.jump(take()?.into());
        (self.last, self.default, self.range) = (take()?, take()?, (take()?, take()?));
        if let Some(ctl) = &mut self.ctl {
            ctl.temperature.jump(take()?.into());
            ctl.delta_uv.jump(take()?.cast_signed().into());
            ctl.range = (take()?, take()?);
            (ctl.default_temperature, ctl.default_delta_uv) = (take()?, take()?.cast_signed());
        }
        if let Some(hsl) = &mut self.hsl {
            hsl.hue.jump(take()?.into());
            hsl.saturation.jump(take()?.into());
            (hsl.hue_range, hsl.saturation_range) = ((take()?, take()?), (take()?, take()?));
            (hsl.default_hue, hsl.default_saturation) = (take()?, take()?);
        }
        self.power = Power::load(&mut reader)?;
        if !self.has_ranges() {
            return Err(DecodeError::Prohibited("Range"));
        }
        reader.finish(())
    }

    /// Whether its ranges are some: a record may have been damaged.
    fn has_ranges(&self) -> bool {
        let is_range = |(min, max): (u16, u16)| min <= max;
        self.range.0 > 0
            && is_range(self.range)
            && self.ctl.as_ref().is_none_or(|ctl| is_temperature_range(ctl.range.0, ctl.range.1))
            && self.hsl.as_ref().is_none_or(|hsl| is_range(hsl.saturation_range))
    }

    /// What OnPowerUp says (MMDL §6.1.2.2.4, §6.1.3.1.2, §6.1.4.1.2).
    fn power_up(&mut self) {
        match self.power.on_power_up {
            OnPowerUp::Restore => return,
            OnPowerUp::Off => self.lightness.jump(0),
            OnPowerUp::Default => self.lightness.jump(self.lightness_when_on()),
        }
        if let Some(ctl) = &mut self.ctl {
            ctl.temperature.jump(ctl.default_temperature.into());
            ctl.delta_uv.jump(ctl.default_delta_uv.into());
        }
        if let Some(hsl) = &mut self.hsl {
            hsl.hue.jump(hsl.default_hue.into());
            hsl.saturation.jump(hsl.default_saturation.into());
        }
    }
}

fn signed(value: i32) -> u16 {
    i16::try_from(value).unwrap_or_default().cast_unsigned()
}

/// Whether a range of temperatures is one that a lamp can have.
pub(super) fn is_temperature_range(min: u16, max: u16) -> bool {
    TEMPERATURES.contains(&min) && TEMPERATURES.contains(&max) && min <= max
}
