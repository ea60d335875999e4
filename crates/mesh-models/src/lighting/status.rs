//! What a lamp says of itself.

use alloc::vec::Vec;

use clock::Instant;
use mesh_proto::access::Place;

use super::light::{Axis, Ctl, Hsl, Light, number};
use super::linear_of;
use crate::generic::level::level_status;
use crate::messages::{
    CTL_SERVER, CTL_TEMPERATURE_SERVER, CtlStatus, CtlTemperatureStatus, HSL_HUE_SERVER,
    HSL_SATURATION_SERVER, HSL_SERVER, HslHueStatus, HslSaturationStatus, HslStatus, HslTargetStatus,
    LEVEL_SERVER, LIGHTNESS_SERVER, LightnessLinearStatus, LightnessStatus, ON_OFF_SERVER, OnOffStatus,
};
use crate::ramp::Ramp;
use crate::transition::TransitionTime;

impl Light {
    /// What the model at `place` publishes of its state.
    pub(super) fn status_of(&self, now: Instant, place: Place) -> Option<Vec<u8>> {
        match place.model {
            ON_OFF_SERVER => Some(self.on_off_status(now)),
            LEVEL_SERVER => self.level_status(now, self.axis_of(place.element)),
            LIGHTNESS_SERVER => Some(self.lightness_status(now)),
            CTL_SERVER => self.ctl.as_ref().map(|ctl| self.ctl_status(now, ctl)),
            CTL_TEMPERATURE_SERVER => self.ctl.as_ref().map(|ctl| ctl.temperature_status(now)),
            HSL_SERVER => self.hsl.as_ref().map(|hsl| self.hsl_status(now, hsl)),
            HSL_HUE_SERVER => self.hsl.as_ref().map(|hsl| hsl.hue_status(now)),
            HSL_SATURATION_SERVER => self.hsl.as_ref().map(|hsl| hsl.saturation_status(now)),
            model => self.power.status(model),
        }
    }

    pub(super) fn on_off_status(&self, now: Instant) -> Vec<u8> {
        let target = self.lightness.remaining(now).map(|remaining| (self.lightness.target() > 0, remaining));
        OnOffStatus { present_on_off: self.is_on(now), target }.encode()
    }

    pub(super) fn level_status(&self, now: Instant, axis: Axis) -> Option<Vec<u8>> {
        let (ramp, binding) = (self.ramp(axis)?, self.binding(axis));
        let (present, target) = (binding.level_of(ramp.value(now)), binding.level_of(ramp.target()));
        Some(level_status(present, target, ramp.remaining(now)))
    }

    pub(super) fn lightness_status(&self, now: Instant) -> Vec<u8> {
        let target = target_of(&self.lightness, now);
        LightnessStatus { present_lightness: self.lightness(now), target }.encode()
    }

    pub(super) fn linear_status(&self, now: Instant) -> Vec<u8> {
        let target =
            target_of(&self.lightness, now).map(|(target, remaining)| (linear_of(target), remaining));
        LightnessLinearStatus { present_lightness: linear_of(self.lightness(now)), target }.encode()
    }

    pub(super) fn ctl_status(&self, now: Instant, ctl: &Ctl) -> Vec<u8> {
        let remaining = longest([self.lightness.remaining(now), ctl.temperature.remaining(now)]);
        let target = remaining
            .map(|remaining| (number(self.lightness.target()), number(ctl.temperature.target()), remaining));
        let present_temperature = number(ctl.temperature.value(now));
        CtlStatus { present_lightness: self.lightness(now), present_temperature, target }.encode()
    }

    pub(super) fn hsl_status(&self, now: Instant, hsl: &Hsl) -> Vec<u8> {
        let (hue, saturation) = (number(hsl.hue.value(now)), number(hsl.saturation.value(now)));
        HslStatus {
            lightness: self.lightness(now),
            hue,
            saturation,
            remaining_time: self.hsl_remaining(now, hsl),
        }
        .encode()
    }

    pub(super) fn hsl_target_status(&self, now: Instant, hsl: &Hsl) -> Vec<u8> {
        HslTargetStatus {
            lightness_target: number(self.lightness.target()),
            hue_target: number(hsl.hue.target()),
            saturation_target: number(hsl.saturation.target()),
            remaining_time: self.hsl_remaining(now, hsl),
        }
        .encode()
    }

    fn hsl_remaining(&self, now: Instant, hsl: &Hsl) -> Option<TransitionTime> {
        longest([self.lightness.remaining(now), hsl.hue.remaining(now), hsl.saturation.remaining(now)])
    }
}

impl Ctl {
    pub(super) fn temperature_status(&self, now: Instant) -> Vec<u8> {
        let delta_uv = |value: i32| i16::try_from(value).unwrap_or_default();
        let remaining = longest([self.temperature.remaining(now), self.delta_uv.remaining(now)]);
        let target = remaining.map(|remaining| {
            (number(self.temperature.target()), delta_uv(self.delta_uv.target()), remaining)
        });
        let present_temperature = number(self.temperature.value(now));
        CtlTemperatureStatus {
            present_temperature,
            present_delta_uv: delta_uv(self.delta_uv.value(now)),
            target,
        }
        .encode()
    }
}

impl Hsl {
    pub(super) fn hue_status(&self, now: Instant) -> Vec<u8> {
        let present_hue = number(self.hue.value(now));
        HslHueStatus { present_hue, target: target_of(&self.hue, now) }.encode()
    }

    pub(super) fn saturation_status(&self, now: Instant) -> Vec<u8> {
        let present_saturation = number(self.saturation.value(now));
        HslSaturationStatus { present_saturation, target: target_of(&self.saturation, now) }.encode()
    }
}

/// Where a state leads, and how long that takes yet.
fn target_of(ramp: &Ramp, now: Instant) -> Option<(u16, TransitionTime)> {
    ramp.remaining(now).map(|remaining| (number(ramp.target()), remaining))
}

fn longest<const N: usize>(remaining: [Option<TransitionTime>; N]) -> Option<TransitionTime> {
    remaining.into_iter().flatten().max_by_key(|time| time.duration())
}
