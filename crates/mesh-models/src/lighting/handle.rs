//! What messages do to a lamp.

use alloc::vec::Vec;

use clock::Instant;
use mesh_proto::access::{Context, Place, ReceivedMessage};
use mesh_wire::access::Opcode;
use mesh_wire::{DecodeError, ModelId};

use super::actual_of;
use super::light::{Axis, Ctl, Hsl, Light, is_temperature_range};
use crate::generic::ON_OFF_OPCODES;
use crate::generic::level::{LEVEL_OPCODES, is_acknowledged};
use crate::generic::power::Power;
use crate::message::RangeStatus;
use crate::messages::{
    CTL_SERVER, CTL_SETUP_SERVER, CTL_TEMPERATURE_SERVER, CtlDefaultGet, CtlDefaultSet, CtlDefaultStatus,
    CtlGet, CtlSet, CtlTemperatureGet, CtlTemperatureRangeGet, CtlTemperatureRangeSet,
    CtlTemperatureRangeStatus, CtlTemperatureSet, DEFAULT_TRANSITION_TIME_SERVER, HSL_HUE_SERVER,
    HSL_SATURATION_SERVER, HSL_SERVER, HSL_SETUP_SERVER, HslDefaultGet, HslDefaultSet, HslDefaultStatus,
    HslGet, HslHueGet, HslHueSet, HslRangeGet, HslRangeSet, HslRangeStatus, HslSaturationGet,
    HslSaturationSet, HslSet, HslTargetGet, LEVEL_SERVER, LIGHTNESS_SERVER, LIGHTNESS_SETUP_SERVER,
    LightnessDefaultGet, LightnessDefaultSet, LightnessDefaultStatus, LightnessGet, LightnessLastGet,
    LightnessLastStatus, LightnessLinearGet, LightnessLinearSet, LightnessRangeGet, LightnessRangeSet,
    LightnessRangeStatus, LightnessSet, ON_OFF_SERVER, OnOffGet, OnOffSet, OnPowerUpGet, POWER_ON_OFF_SERVER,
    POWER_ON_OFF_SETUP_SERVER,
};
use crate::transition::Transition;

/// What a message leads to: the status that answers it, if it wants one.
type Reply = Result<Option<Vec<u8>>, DecodeError>;

/// What each model of a lamp understands.
pub(super) fn opcodes_of(model: ModelId) -> &'static [Opcode] {
    match model {
        ON_OFF_SERVER => &ON_OFF_OPCODES,
        LEVEL_SERVER => &LEVEL_OPCODES,
        DEFAULT_TRANSITION_TIME_SERVER => &Power::TRANSITION_OPCODES,
        POWER_ON_OFF_SERVER => &[OnPowerUpGet::OPCODE],
        POWER_ON_OFF_SETUP_SERVER => &Power::SETUP_OPCODES,
        LIGHTNESS_SERVER => &[
            LightnessGet::OPCODE,
            LightnessSet::OPCODE,
            LightnessSet::UNACKNOWLEDGED,
            LightnessLinearGet::OPCODE,
            LightnessLinearSet::OPCODE,
            LightnessLinearSet::UNACKNOWLEDGED,
            LightnessLastGet::OPCODE,
            LightnessDefaultGet::OPCODE,
            LightnessRangeGet::OPCODE,
        ],
        LIGHTNESS_SETUP_SERVER => &[
            LightnessDefaultSet::OPCODE,
            LightnessDefaultSet::UNACKNOWLEDGED,
            LightnessRangeSet::OPCODE,
            LightnessRangeSet::UNACKNOWLEDGED,
        ],
        CTL_SERVER => &[
            CtlGet::OPCODE,
            CtlSet::OPCODE,
            CtlSet::UNACKNOWLEDGED,
            CtlTemperatureRangeGet::OPCODE,
            CtlDefaultGet::OPCODE,
        ],
        CTL_SETUP_SERVER => &[
            CtlDefaultSet::OPCODE,
            CtlDefaultSet::UNACKNOWLEDGED,
            CtlTemperatureRangeSet::OPCODE,
            CtlTemperatureRangeSet::UNACKNOWLEDGED,
        ],
        CTL_TEMPERATURE_SERVER => {
            &[CtlTemperatureGet::OPCODE, CtlTemperatureSet::OPCODE, CtlTemperatureSet::UNACKNOWLEDGED]
        }
        HSL_SERVER => &[
            HslGet::OPCODE,
            HslSet::OPCODE,
            HslSet::UNACKNOWLEDGED,
            HslTargetGet::OPCODE,
            HslDefaultGet::OPCODE,
            HslRangeGet::OPCODE,
        ],
        HSL_SETUP_SERVER => &[
            HslDefaultSet::OPCODE,
            HslDefaultSet::UNACKNOWLEDGED,
            HslRangeSet::OPCODE,
            HslRangeSet::UNACKNOWLEDGED,
        ],
        HSL_HUE_SERVER => &[HslHueGet::OPCODE, HslHueSet::OPCODE, HslHueSet::UNACKNOWLEDGED],
        HSL_SATURATION_SERVER => {
            &[HslSaturationGet::OPCODE, HslSaturationSet::OPCODE, HslSaturationSet::UNACKNOWLEDGED]
        }
        _ => &[],
    }
}

/// A message on its way through the lamp.
struct Handling<'a> {
    now: Instant,
    place: Place,
    message: &'a ReceivedMessage,
    context: &'a mut Context,
}

impl Light {
    pub(super) fn handle(
        &mut self,
        now: Instant,
        place: Place,
        message: &ReceivedMessage,
        context: &mut Context,
    ) -> Result<(), DecodeError> {
        if let Some(handled) = self.power.handle(message.opcode, &message.parameters) {
            handled?.follow(place.model, context);
            return Ok(());
        }
        let mut handling = Handling { now, place, message, context };
        let reply = match place.model {
            ON_OFF_SERVER => self.handle_on_off(&mut handling),
            LEVEL_SERVER => self.handle_level(&mut handling),
            LIGHTNESS_SERVER => self.handle_lightness(&mut handling),
            LIGHTNESS_SETUP_SERVER => self.handle_lightness_setup(&mut handling),
            CTL_SERVER | CTL_TEMPERATURE_SERVER => self.handle_ctl(&mut handling),
            CTL_SETUP_SERVER => self.handle_ctl_setup(&mut handling),
            HSL_SETUP_SERVER => self.handle_hsl_setup(&mut handling),
            _ => self.handle_hsl(&mut handling),
        }?;
        if let Some(reply) = reply {
            context.reply(reply);
        }
        Ok(())
    }

    /// Sends states to their targets, if the message begins a transaction.
    fn set(
        &mut self,
        handling: &mut Handling<'_>,
        tid: u8,
        transition: Option<Transition>,
        to: &[(Axis, i32)],
    ) {
        let path = (handling.message.source, handling.message.destination);
        let transactions = self.transactions.entry(handling.place).or_default();
        if transactions.is_new(handling.now, path, tid) {
            let transition = self.power.transition(transition);
            self.go(handling.now, to, transition, handling.context);
        }
    }

    fn handle_on_off(&mut self, handling: &mut Handling<'_>) -> Reply {
        let ReceivedMessage { opcode, parameters, .. } = handling.message;
        if *opcode == OnOffGet::OPCODE {
            OnOffGet::decode(parameters)?;
        } else {
            let OnOffSet { on_off, tid, transition } = OnOffSet::decode(parameters)?;
            let lightness = if on_off { self.lightness_when_on() } else { 0 };
            self.set(handling, tid, transition, &[(Axis::Lightness, lightness)]);
        }
        Ok((*opcode != OnOffSet::UNACKNOWLEDGED).then(|| self.on_off_status(handling.now)))
    }

    fn handle_level(&mut self, handling: &mut Handling<'_>) -> Reply {
        let (now, element) = (handling.now, handling.place.element);
        let axis = self.axis_of(element);
        let Some(ramp) = self.ramp(axis) else { return Ok(None) };
        let (binding, limits) = (self.binding(axis), self.limits(axis));
        let present = binding.level_of(ramp.value(now));
        let transactions = self.levels.entry(element).or_default();
        if let Some((change, transition)) = transactions.change(now, handling.message, present)? {
            let transition = self.power.transition(transition);
            // The lowest level is off, which the range of lightness has no part in.
            let is_off = axis == Axis::Lightness && change.is_to(|level| binding.of_level(level) == 0);
            let limits = if is_off { 0..=0 } else { limits };
            self.change(now, handling.context, |light| {
                if let Some(ramp) = light.ramp_mut(axis) {
                    change.apply(now, ramp, transition, binding, limits);
                }
            });
        }
        Ok(is_acknowledged(handling.message.opcode).then(|| self.level_status(now, axis)).flatten())
    }

    fn handle_lightness(&mut self, handling: &mut Handling<'_>) -> Reply {
        let ReceivedMessage { opcode, parameters, .. } = handling.message;
        let now = handling.now;
        Ok(match *opcode {
            LightnessGet::OPCODE => {
                LightnessGet::decode(parameters).map(|_| Some(self.lightness_status(now)))?
            }
            LightnessLinearGet::OPCODE => {
                LightnessLinearGet::decode(parameters).map(|_| Some(self.linear_status(now)))?
            }
            LightnessLastGet::OPCODE => {
                LightnessLastGet::decode(parameters)?;
                Some(LightnessLastStatus { lightness: self.last }.encode())
            }
            LightnessDefaultGet::OPCODE => {
                LightnessDefaultGet::decode(parameters)?;
                Some(LightnessDefaultStatus { lightness: self.default }.encode())
            }
            LightnessRangeGet::OPCODE => {
                LightnessRangeGet::decode(parameters)?;
                Some(self.lightness_range_status())
            }
            LightnessLinearSet::OPCODE | LightnessLinearSet::UNACKNOWLEDGED => {
                let LightnessLinearSet { lightness, tid, transition } =
                    LightnessLinearSet::decode(parameters)?;
                let target = self.in_range(actual_of(lightness));
                self.set(handling, tid, transition, &[(Axis::Lightness, target)]);
                (*opcode == LightnessLinearSet::OPCODE).then(|| self.linear_status(now))
            }
            _ => {
                let LightnessSet { lightness, tid, transition } = LightnessSet::decode(parameters)?;
                let target = self.in_range(lightness);
                self.set(handling, tid, transition, &[(Axis::Lightness, target)]);
                (*opcode == LightnessSet::OPCODE).then(|| self.lightness_status(now))
            }
        })
    }

    fn handle_lightness_setup(&mut self, handling: &mut Handling<'_>) -> Reply {
        let ReceivedMessage { opcode, parameters, .. } = handling.message;
        if matches!(*opcode, LightnessDefaultSet::OPCODE | LightnessDefaultSet::UNACKNOWLEDGED) {
            self.default = LightnessDefaultSet::decode(parameters)?.lightness;
            let status = LightnessDefaultStatus { lightness: self.default }.encode();
            return Ok(handling.setup(*opcode == LightnessDefaultSet::OPCODE, LIGHTNESS_SERVER, status));
        }
        let LightnessRangeSet { range_min, range_max } = LightnessRangeSet::decode(parameters)?;
        if range_min == 0 || range_min > range_max {
            return Err(DecodeError::Prohibited("Range"));
        }
        self.range = (range_min, range_max);
        let status = self.lightness_range_status();
        Ok(handling.setup(*opcode == LightnessRangeSet::OPCODE, LIGHTNESS_SERVER, status))
    }

    fn lightness_range_status(&self) -> Vec<u8> {
        let (range_min, range_max) = self.range;
        LightnessRangeStatus { status_code: RangeStatus::Success, range_min, range_max }.encode()
    }

    fn handle_ctl(&mut self, handling: &mut Handling<'_>) -> Reply {
        let Some(ctl) = self.ctl.clone() else { return Ok(None) };
        let ReceivedMessage { opcode, parameters, .. } = handling.message;
        let now = handling.now;
        Ok(match *opcode {
            CtlGet::OPCODE => CtlGet::decode(parameters).map(|_| Some(self.ctl_status(now, &ctl)))?,
            CtlTemperatureGet::OPCODE => {
                CtlTemperatureGet::decode(parameters).map(|_| Some(ctl.temperature_status(now)))?
            }
            CtlTemperatureRangeGet::OPCODE => {
                CtlTemperatureRangeGet::decode(parameters).map(|_| Some(ctl.range_status()))?
            }
            CtlDefaultGet::OPCODE => {
                CtlDefaultGet::decode(parameters).map(|_| Some(self.ctl_default_status(&ctl)))?
            }
            CtlSet::OPCODE | CtlSet::UNACKNOWLEDGED => {
                let CtlSet { lightness, temperature, delta_uv, tid, transition } =
                    CtlSet::decode(parameters)?;
                let lightness = (Axis::Lightness, self.in_range(lightness));
                let [temperature, delta_uv] = ctl.targets(temperature, delta_uv)?;
                self.set(handling, tid, transition, &[lightness, temperature, delta_uv]);
                let is_asked = *opcode == CtlSet::OPCODE;
                self.ctl.as_ref().filter(|_| is_asked).map(|ctl| self.ctl_status(now, ctl))
            }
            _ => {
                let CtlTemperatureSet { temperature, delta_uv, tid, transition } =
                    CtlTemperatureSet::decode(parameters)?;
                self.set(handling, tid, transition, &ctl.targets(temperature, delta_uv)?);
                let is_asked = *opcode == CtlTemperatureSet::OPCODE;
                self.ctl.as_ref().filter(|_| is_asked).map(|ctl| ctl.temperature_status(now))
            }
        })
    }

    fn handle_ctl_setup(&mut self, handling: &mut Handling<'_>) -> Reply {
        let ReceivedMessage { opcode, parameters, .. } = handling.message;
        let Some(ctl) = &mut self.ctl else { return Ok(None) };
        if matches!(*opcode, CtlDefaultSet::OPCODE | CtlDefaultSet::UNACKNOWLEDGED) {
            let CtlDefaultSet { lightness, temperature, delta_uv } = CtlDefaultSet::decode(parameters)?;
            if !super::TEMPERATURES.contains(&temperature) {
                return Err(DecodeError::Prohibited("Temperature"));
            }
            (ctl.default_temperature, ctl.default_delta_uv) = (temperature, delta_uv);
            self.default = lightness;
            let status = CtlDefaultStatus { lightness, temperature, delta_uv }.encode();
            return Ok(handling.setup(*opcode == CtlDefaultSet::OPCODE, CTL_SERVER, status));
        }
        let CtlTemperatureRangeSet { range_min, range_max } = CtlTemperatureRangeSet::decode(parameters)?;
        if !is_temperature_range(range_min, range_max) {
            return Err(DecodeError::Prohibited("Range"));
        }
        ctl.range = (range_min, range_max);
        let status = ctl.range_status();
        Ok(handling.setup(*opcode == CtlTemperatureRangeSet::OPCODE, CTL_SERVER, status))
    }

    fn ctl_default_status(&self, ctl: &Ctl) -> Vec<u8> {
        let (temperature, delta_uv) = (ctl.default_temperature, ctl.default_delta_uv);
        CtlDefaultStatus { lightness: self.default, temperature, delta_uv }.encode()
    }

    fn handle_hsl(&mut self, handling: &mut Handling<'_>) -> Reply {
        let Some(hsl) = self.hsl.clone() else { return Ok(None) };
        let ReceivedMessage { opcode, parameters, .. } = handling.message;
        let now = handling.now;
        let is_asked = [HslSet::OPCODE, HslHueSet::OPCODE, HslSaturationSet::OPCODE].contains(opcode);
        match *opcode {
            HslSet::OPCODE | HslSet::UNACKNOWLEDGED => {
                let HslSet { lightness, hue, saturation, tid, transition } = HslSet::decode(parameters)?;
                let lightness = (Axis::Lightness, self.in_range(lightness));
                let colour = [self.clamped(Axis::Hue, hue), self.clamped(Axis::Saturation, saturation)];
                self.set(handling, tid, transition, &[lightness, colour[0], colour[1]]);
                return Ok(self.hsl.as_ref().filter(|_| is_asked).map(|hsl| self.hsl_status(now, hsl)));
            }
            HslHueSet::OPCODE | HslHueSet::UNACKNOWLEDGED => {
                let HslHueSet { hue, tid, transition } = HslHueSet::decode(parameters)?;
                self.set(handling, tid, transition, &[self.clamped(Axis::Hue, hue)]);
                return Ok(self.hsl.as_ref().filter(|_| is_asked).map(|hsl| hsl.hue_status(now)));
            }
            HslSaturationSet::OPCODE | HslSaturationSet::UNACKNOWLEDGED => {
                let HslSaturationSet { saturation, tid, transition } = HslSaturationSet::decode(parameters)?;
                self.set(handling, tid, transition, &[self.clamped(Axis::Saturation, saturation)]);
                return Ok(self.hsl.as_ref().filter(|_| is_asked).map(|hsl| hsl.saturation_status(now)));
            }
            _ => {}
        }
        // The rest are Get messages, which have no parameters.
        HslGet::decode(parameters)?;
        Ok(Some(match *opcode {
            HslTargetGet::OPCODE => self.hsl_target_status(now, &hsl),
            HslDefaultGet::OPCODE => self.hsl_default_status(&hsl),
            HslRangeGet::OPCODE => hsl.range_status(),
            HslHueGet::OPCODE => hsl.hue_status(now),
            HslSaturationGet::OPCODE => hsl.saturation_status(now),
            _ => self.hsl_status(now, &hsl),
        }))
    }

    fn handle_hsl_setup(&mut self, handling: &mut Handling<'_>) -> Reply {
        let ReceivedMessage { opcode, parameters, .. } = handling.message;
        let Some(hsl) = &mut self.hsl else { return Ok(None) };
        if matches!(*opcode, HslDefaultSet::OPCODE | HslDefaultSet::UNACKNOWLEDGED) {
            let HslDefaultSet { lightness, hue, saturation } = HslDefaultSet::decode(parameters)?;
            (hsl.default_hue, hsl.default_saturation) = (hue, saturation);
            self.default = lightness;
            let status = HslDefaultStatus { lightness, hue, saturation }.encode();
            return Ok(handling.setup(*opcode == HslDefaultSet::OPCODE, HSL_SERVER, status));
        }
        let range = HslRangeSet::decode(parameters)?;
        if range.saturation_range_min > range.saturation_range_max {
            return Err(DecodeError::Prohibited("Range"));
        }
        hsl.hue_range = (range.hue_range_min, range.hue_range_max);
        hsl.saturation_range = (range.saturation_range_min, range.saturation_range_max);
        let status = hsl.range_status();
        Ok(handling.setup(*opcode == HslRangeSet::OPCODE, HSL_SERVER, status))
    }

    fn hsl_default_status(&self, hsl: &Hsl) -> Vec<u8> {
        let (hue, saturation) = (hsl.default_hue, hsl.default_saturation);
        HslDefaultStatus { lightness: self.default, hue, saturation }.encode()
    }

    /// A state within its range.
    fn clamped(&self, axis: Axis, value: u16) -> (Axis, i32) {
        let limits = self.limits(axis);
        (axis, i32::from(value).clamp(*limits.start(), *limits.end()))
    }
}

impl Ctl {
    fn targets(&self, temperature: u16, delta_uv: i16) -> Result<[(Axis, i32); 2], DecodeError> {
        if !super::TEMPERATURES.contains(&temperature) {
            return Err(DecodeError::Prohibited("Temperature"));
        }
        let temperature = temperature.clamp(self.range.0, self.range.1);
        Ok([(Axis::Temperature, temperature.into()), (Axis::DeltaUv, delta_uv.into())])
    }

    fn range_status(&self) -> Vec<u8> {
        let (range_min, range_max) = self.range;
        CtlTemperatureRangeStatus { status_code: RangeStatus::Success, range_min, range_max }.encode()
    }
}

impl Hsl {
    fn range_status(&self) -> Vec<u8> {
        HslRangeStatus {
            status_code: RangeStatus::Success,
            hue_range_min: self.hue_range.0,
            hue_range_max: self.hue_range.1,
            saturation_range_min: self.saturation_range.0,
            saturation_range_max: self.saturation_range.1,
        }
        .encode()
    }
}

impl Handling<'_> {
    /// After a setup message: the state is stored and published by the model that has it.
    fn setup(&mut self, is_asked: bool, publisher: ModelId, status: Vec<u8>) -> Option<Vec<u8>> {
        self.context.changed();
        self.context.publish(Place::first(publisher), status.clone());
        is_asked.then_some(status)
    }
}

impl Light {
    /// A hand on the lamp's own switch.
    pub fn press(&mut self, now: Instant, context: &mut Context) {
        let lightness = if self.lightness.target() > 0 { 0 } else { self.lightness_when_on() };
        self.go(now, &[(Axis::Lightness, lightness)], Transition::AT_ONCE, context);
    }
}
