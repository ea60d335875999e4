//! A command as the messages that bring it about.

use std::collections::VecDeque;

use mesh_models::messages::{
    CtlGet, CtlSet, CtlTemperatureSet, HslGet, HslHueSet, HslSaturationSet, HslSet, LevelGet, LevelSet,
    LightnessGet, LightnessSet, OnOffGet, OnOffSet,
};
use mesh_models::transition::{Transition, TransitionTime};
use mesh_wire::access::Opcode;
use mesh_wire::address::Address;

use crate::capabilities::{Capabilities, Range};
use crate::command::{SetCommand, Target};
use crate::facts::Facts;

/// A message that changes states, without its transaction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SetMessage {
    change: Change,
    transition: Option<Transition>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    OnOff(bool),
    Lightness(u16),
    Level(i16),
    Temperature(u16),
    Hue(u16),
    Saturation(u16),
    White { lightness: u16, temperature: u16 },
    Colour { lightness: u16, hue: u16, saturation: u16 },
}

/// One message of a plan.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) destination: Address,
    pub(crate) message: SetMessage,
    /// What the answer has to say.
    pub(crate) wanted: Facts,
}

/// What is known of whoever gets a command.
#[derive(Clone, Debug)]
pub(crate) struct Recipient<'a> {
    /// The element, or the group.
    pub(crate) address: Address,
    pub(crate) capabilities: &'a Capabilities,
    pub(crate) facts: &'a Facts,
    pub(crate) lightness_range: Range,
    pub(crate) temperature_range: Range,
}

impl SetMessage {
    /// Opcode and parameters.
    pub(crate) fn encode(&self, tid: u8, is_acknowledged: bool) -> Vec<u8> {
        let transition = self.transition;
        macro_rules! message {
            ($message:ident { $($field:ident $(: $value:expr)?),* }) => {{
                let message = $message { $($field $(: $value)?,)* tid, transition };
                message.encode_as(if is_acknowledged { $message::OPCODE } else { $message::UNACKNOWLEDGED })
            }};
        }
        match self.change {
            Change::OnOff(on_off) => message!(OnOffSet { on_off }),
            Change::Lightness(lightness) => message!(LightnessSet { lightness }),
            Change::Level(level) => message!(LevelSet { level }),
            Change::Temperature(temperature) => message!(CtlTemperatureSet { temperature, delta_uv: 0 }),
            Change::Hue(hue) => message!(HslHueSet { hue }),
            Change::Saturation(saturation) => message!(HslSaturationSet { saturation }),
            Change::White { lightness, temperature } => {
                message!(CtlSet { lightness, temperature, delta_uv: 0 })
            }
            Change::Colour { lightness, hue, saturation } => message!(HslSet { lightness, hue, saturation }),
        }
    }
}

/// What holds when all steps are done.
pub(crate) fn outcome(steps: &VecDeque<Step>) -> Facts {
    steps.iter().fold(Facts::default(), |mut outcome, step| {
        outcome.learn(&step.wanted);
        outcome
    })
}

/// The messages that ask an element for all its states, and the opcodes of the questions.
pub(crate) fn questions(capabilities: &Capabilities) -> Vec<(Opcode, Vec<u8>)> {
    let mut questions = Vec::new();
    let mut ask = |opcode, payload| questions.push((opcode, payload));
    match (capabilities.temperature, capabilities.colour) {
        (None, None) if capabilities.lightness => ask(LightnessGet::OPCODE, LightnessGet {}.encode()),
        (None, None) if capabilities.on_off => ask(OnOffGet::OPCODE, OnOffGet {}.encode()),
        _ => {}
    }
    if capabilities.temperature.is_some() {
        ask(CtlGet::OPCODE, CtlGet {}.encode());
    }
    if capabilities.colour.is_some() {
        ask(HslGet::OPCODE, HslGet {}.encode());
    }
    if capabilities.level {
        ask(LevelGet::OPCODE, LevelGet {}.encode());
    }
    questions
}

/// The plan for a command. Where one message can say several things, it does.
///
/// # Errors
/// What the recipient cannot do, as a clause that follows its name.
pub(crate) fn steps(command: &SetCommand, to: &Recipient<'_>) -> Result<VecDeque<Step>, String> {
    let capabilities = to.capabilities;
    let needs = |has: bool, what: &str| if has { Ok(()) } else { Err(format!("has no {what}")) };
    needs(command.state.is_none() || capabilities.on_off, "\"state\"")?;
    needs(command.lightness.is_none() || capabilities.lightness, "\"brightness\"")?;
    needs(command.temperature.is_none() || capabilities.temperature.is_some(), "\"color_temp\"")?;
    needs(command.hue.or(command.saturation).is_none() || capabilities.colour.is_some(), "\"color\"")?;
    needs(command.level.is_none() || capabilities.level, "\"level\"")?;
    let on = match command.state {
        None => None,
        Some(Target::On) => Some(true),
        Some(Target::Off) => Some(false),
        Some(Target::Toggle) => match to.facts.on {
            Some(on) => Some(!on),
            None => return Err("cannot be toggled, as its state is not known yet; say ON or OFF".to_owned()),
        },
    };
    // Off is off, however bright.
    let wish = if on == Some(false) { Some(0) } else { command.lightness };
    let lightness = wish.map(|x| if x == 0 { 0 } else { to.lightness_range.clamp(x) });
    let transition =
        command.transition.map(|time| Transition { time: TransitionTime::at_least(time), delay: 0 });
    let mut plan = Plan { steps: VecDeque::new(), transition, address: to.address };
    // Dark is said last, and light with the colour if one message can.
    let early = lightness.filter(|&lightness| lightness > 0);
    let is_done = plan.colour(command, to, early) | plan.white(command, to, early);
    if let Some(level) = command.level {
        let wanted = Facts { level: Some(level), ..Facts::default() };
        plan.push(Change::Level(level), wanted);
    }
    match (on, lightness) {
        (_, Some(lightness)) if lightness > 0 && !is_done => {
            plan.push(Change::Lightness(lightness), Facts::lightness(lightness));
        }
        (Some(false), _) => plan.push_on_off(false),
        (Some(true), None) => plan.push_on_off(true),
        (_, Some(0)) => plan.push(Change::Lightness(0), Facts::lightness(0)),
        _ => {}
    }
    Ok(plan.steps)
}

struct Plan {
    steps: VecDeque<Step>,
    transition: Option<Transition>,
    address: Address,
}

impl Plan {
    fn push(&mut self, change: Change, wanted: Facts) {
        self.push_to(self.address, change, wanted);
    }

    fn push_to(&mut self, destination: Address, change: Change, wanted: Facts) {
        let message = SetMessage { change, transition: self.transition };
        self.steps.push_back(Step { destination, message, wanted });
    }

    fn push_on_off(&mut self, on: bool) {
        self.push(Change::OnOff(on), Facts { on: Some(on), ..Facts::default() });
    }

    /// Hue and saturation; tells whether the lightness was said as well.
    fn colour(&mut self, command: &SetCommand, to: &Recipient<'_>, lightness: Option<u16>) -> bool {
        let Some((hue_element, saturation_element)) = to.capabilities.colour else { return false };
        if command.hue.or(command.saturation).is_none() {
            return false;
        }
        let (hue, saturation) = (command.hue, command.saturation);
        let all = hue.or(to.facts.hue).zip(saturation.or(to.facts.saturation));
        // Without a lightness of its own the command keeps what the lamp has, if that is known.
        let kept = lightness.or(to.facts.lightness.filter(|_| matches!(to.address, Address::Unicast(_))));
        if let Some(((hue, saturation), lightness)) = all.zip(kept) {
            let colour =
                Facts { hue: Some(hue), saturation: Some(saturation), ..Facts::lightness(lightness) };
            self.push(Change::Colour { lightness, hue, saturation }, colour);
            return true;
        }
        let of = |element: Address| match self.address {
            Address::Unicast(_) => element,
            group => group,
        };
        let (hue_address, saturation_address) = (of(hue_element.into()), of(saturation_element.into()));
        if let Some(hue) = hue {
            self.push_to(hue_address, Change::Hue(hue), Facts { hue: Some(hue), ..Facts::default() });
        }
        if let Some(saturation) = saturation {
            let wanted = Facts { saturation: Some(saturation), ..Facts::default() };
            self.push_to(saturation_address, Change::Saturation(saturation), wanted);
        }
        false
    }

    /// The temperature; tells whether the lightness was said as well.
    fn white(&mut self, command: &SetCommand, to: &Recipient<'_>, lightness: Option<u16>) -> bool {
        let (Some(temperature), Some(element)) = (command.temperature, to.capabilities.temperature) else {
            return false;
        };
        let temperature = to.temperature_range.clamp(temperature);
        let white = Facts { temperature: Some(temperature), ..Facts::default() };
        if let Some(lightness) = lightness {
            let wanted = Facts { temperature: Some(temperature), ..Facts::lightness(lightness) };
            self.push(Change::White { lightness, temperature }, wanted);
            return true;
        }
        let destination = match self.address {
            Address::Unicast(_) => element.into(),
            group => group,
        };
        self.push_to(destination, Change::Temperature(temperature), white);
        false
    }
}

#[cfg(test)]
mod tests {
    use mesh_wire::address::UnicastAddress;

    use super::*;

    fn element(index: u8) -> UnicastAddress {
        UnicastAddress::new(0x10).unwrap().element(index).unwrap()
    }

    fn plan(payload: &str, address: u16, facts: &Facts) -> Vec<(u16, Change)> {
        let capabilities = Capabilities {
            on_off: true,
            lightness: true,
            temperature: Some(element(3)),
            colour: Some((element(1), element(2))),
            ..Capabilities::default()
        };
        let to = Recipient {
            address: Address::from(address),
            capabilities: &capabilities,
            facts,
            lightness_range: Range { min: 0x1000, max: u16::MAX },
            temperature_range: Range { min: 2_700, max: 6_500 },
        };
        let command = SetCommand::parse(None, payload.as_bytes()).unwrap();
        let steps = steps(&command, &to).unwrap();
        steps.into_iter().map(|step| (step.destination.into(), step.message.change)).collect()
    }

    #[test]
    fn one_message_says_what_one_message_can() {
        let facts = Facts { hue: Some(7), saturation: Some(8), ..Facts::lightness(9) };
        let plan = |payload| plan(payload, 0x10, &facts);
        assert_eq!(plan("ON"), [(0x10, Change::OnOff(true))]);
        assert_eq!(plan(r#"{"brightness":254}"#), [(0x10, Change::Lightness(0xffff))]);
        assert_eq!(plan(r#"{"state":"ON","brightness":1}"#), [(0x10, Change::Lightness(0x1000))]);
        assert_eq!(plan(r#"{"brightness":0}"#), [(0x10, Change::Lightness(0))]);
        assert_eq!(plan(r#"{"state":"OFF","brightness":254}"#), [(0x10, Change::OnOff(false))]);
        assert_eq!(plan(r#"{"color_temp":250}"#), [(0x13, Change::Temperature(4_000))]);
        let white = Change::White { lightness: 0xffff, temperature: 2_700 };
        assert_eq!(plan(r#"{"color_temp":500,"brightness":254}"#), [(0x10, white)]);
        let colour = Change::Colour { lightness: 9, hue: 0, saturation: 0xffff };
        assert_eq!(plan(r#"{"color":{"hue":0,"saturation":100}}"#), [(0x10, colour)]);
        let colour = Change::Colour { lightness: 9, hue: 7, saturation: 0xffff };
        assert_eq!(plan(r#"{"color":{"saturation":100}}"#), [(0x10, colour)], "the hue stays");
        let on = plan(r#"{"state":"ON","color_temp":250}"#);
        assert_eq!(on, [(0x13, Change::Temperature(4_000)), (0x10, Change::OnOff(true))]);
    }

    #[test]
    fn what_is_not_known_is_not_made_up() {
        let plan = |payload| plan(payload, 0x10, &Facts::default());
        let hue_and_saturation = [(0x11, Change::Hue(0)), (0x12, Change::Saturation(0xffff))];
        assert_eq!(plan(r#"{"color":{"hue":0,"saturation":100}}"#), hue_and_saturation);
        let colour = Change::Colour { lightness: 0xffff, hue: 0, saturation: 0xffff };
        assert_eq!(plan(r#"{"brightness":254,"color":{"hue":0,"saturation":100}}"#), [(0x10, colour)]);
    }

    #[test]
    fn a_group_gets_messages_that_say_nothing_of_other_states() {
        let plan = |payload| plan(payload, 0xc000, &Facts::lightness(9));
        assert_eq!(plan(r#"{"color":{"hue":0}}"#), [(0xc000, Change::Hue(0))]);
        assert_eq!(plan(r#"{"color_temp":250}"#), [(0xc000, Change::Temperature(4_000))]);
    }
}
