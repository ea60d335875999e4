//! What an element can do, derived from composition data.

use std::collections::BTreeSet;

use mesh_models::messages::{
    BATTERY_SERVER, CTL_SERVER, CTL_TEMPERATURE_SERVER, HSL_HUE_SERVER, HSL_SATURATION_SERVER, HSL_SERVER,
    LEVEL_CLIENT, LEVEL_SERVER, LIGHTNESS_SERVER, ON_OFF_CLIENT, ON_OFF_SERVER,
};
use mesh_models::sensor::SENSOR_SERVER;
use mesh_wire::ModelId;
use mesh_wire::address::UnicastAddress;
use mesh_wire::foundation::{CompositionData, ElementDescription};
use serde::{Deserialize, Serialize};

/// What an element can do, together with those that belong to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) on_off: bool,
    pub(crate) lightness: bool,
    /// The element of the temperature, if it is a tunable lamp.
    pub(crate) temperature: Option<UnicastAddress>,
    /// The elements of hue and saturation, if it is a coloured lamp.
    pub(crate) colour: Option<(UnicastAddress, UnicastAddress)>,
    /// A level that is nothing else.
    pub(crate) level: bool,
    pub(crate) sensor: bool,
    pub(crate) battery: bool,
    /// Buttons: client models that publish what somebody pressed.
    pub(crate) presses: bool,
}

/// The range of a number that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Range {
    pub(crate) min: u16,
    pub(crate) max: u16,
}

impl Range {
    pub(crate) const LIGHTNESS: Self = Self { min: 1, max: u16::MAX };
    pub(crate) const TEMPERATURE: Self = Self { min: 800, max: 20_000 };

    pub(crate) fn clamp(self, value: u16) -> u16 {
        value.max(self.min).min(self.max)
    }
}

impl Capabilities {
    /// Whether people see the element as a thing.
    fn is_functional(&self) -> bool {
        *self != Self::default()
    }

    /// Whether anything of it can be set.
    pub(crate) fn is_controllable(&self) -> bool {
        self.on_off || self.level
    }

    /// The other elements that belong to it.
    pub(crate) fn other_elements(&self) -> impl Iterator<Item = UnicastAddress> {
        let colour = self.colour.into_iter().flat_map(|(hue, saturation)| [hue, saturation]);
        self.temperature.into_iter().chain(colour)
    }
}

/// The elements, by index, that people see as a thing, and what they can do. Those of a lamp's temperature and
/// colour belong to the lamp.
pub(crate) fn functional_elements(
    primary: UnicastAddress,
    composition: &CompositionData,
) -> Vec<(u8, Capabilities)> {
    let elements: Vec<(u8, &ElementDescription)> = (0..=u8::MAX).zip(&composition.elements).collect();
    let mut taken = BTreeSet::new();
    let mut functional = Vec::new();
    for &(index, element) in &elements {
        if taken.contains(&index) {
            continue;
        }
        let has = |model: ModelId| element.models.contains(&model);
        // The next free element with a model, as the models' specifications place it.
        let mut next_with = |model: ModelId| {
            let is_such = |(other, x): &&(u8, &ElementDescription)| {
                *other > index && !taken.contains(other) && x.models.contains(&model)
            };
            let other = elements.iter().find(is_such)?.0;
            taken.insert(other);
            primary.element(other)
        };
        let temperature = has(CTL_SERVER).then(|| next_with(CTL_TEMPERATURE_SERVER)).flatten();
        let hue = has(HSL_SERVER).then(|| next_with(HSL_HUE_SERVER)).flatten();
        let saturation = has(HSL_SERVER).then(|| next_with(HSL_SATURATION_SERVER)).flatten();
        let capabilities = Capabilities {
            on_off: has(ON_OFF_SERVER),
            lightness: has(LIGHTNESS_SERVER),
            temperature,
            colour: hue.zip(saturation),
            level: has(LEVEL_SERVER) && !has(LIGHTNESS_SERVER),
            sensor: has(SENSOR_SERVER),
            battery: has(BATTERY_SERVER),
            presses: has(ON_OFF_CLIENT) || has(LEVEL_CLIENT),
        };
        if capabilities.is_functional() {
            functional.push((index, capabilities));
        }
    }
    functional
}

#[cfg(test)]
mod tests {
    use mesh_wire::CompanyId;
    use mesh_wire::foundation::Features;

    use super::*;

    #[test]
    fn the_elements_of_a_lamp_are_one_thing_and_two_buttons_are_two() {
        let element = |models: &[ModelId]| ElementDescription { location: 0, models: models.to_vec() };
        let composition = CompositionData {
            company: CompanyId(0xffff),
            product: 1,
            version: 1,
            replay_list: 32,
            features: Features::RELAY,
            elements: vec![
                element(&[ON_OFF_SERVER, LEVEL_SERVER, LIGHTNESS_SERVER, HSL_SERVER]),
                element(&[LEVEL_SERVER, HSL_HUE_SERVER]),
                element(&[LEVEL_SERVER, HSL_SATURATION_SERVER]),
                element(&[ON_OFF_CLIENT]),
                element(&[LEVEL_CLIENT]),
                element(&[]),
            ],
        };
        let primary = UnicastAddress::new(0x10).unwrap();
        let functional = functional_elements(primary, &composition);
        let indexes: Vec<u8> = functional.iter().map(|(index, _)| *index).collect();
        assert_eq!(indexes, [0, 3, 4]);
        assert_eq!(functional[0].1.colour, primary.element(1).zip(primary.element(2)));
        assert!(!functional[0].1.level && functional[1].1.presses);
    }
}
