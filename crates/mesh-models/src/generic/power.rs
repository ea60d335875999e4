//! What the power-related models keep beside the state that they control.

use alloc::vec::Vec;

use mesh_wire::access::Opcode;
use mesh_wire::{DecodeError, ModelId, Reader};

use crate::messages::{
    DEFAULT_TRANSITION_TIME_SERVER, DefaultTransitionTimeGet, DefaultTransitionTimeSet,
    DefaultTransitionTimeStatus, OnPowerUpGet, OnPowerUpSet, OnPowerUpStatus, POWER_ON_OFF_SERVER,
};
use crate::transition::{Transition, TransitionTime};

/// Generic OnPowerUp (MMDL §3.1.4): what a device does when the power comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnPowerUp {
    /// It stays off.
    Off,
    /// It turns on, with its default values.
    #[default]
    Default,
    /// It becomes what it was when the power went.
    Restore,
}

impl OnPowerUp {
    /// From its octet.
    ///
    /// # Errors
    /// When the value is prohibited.
    pub const fn from_octet(octet: u8) -> Result<Self, DecodeError> {
        match octet {
            0 => Ok(Self::Off),
            1 => Ok(Self::Default),
            2 => Ok(Self::Restore),
            _ => Err(DecodeError::Prohibited("OnPowerUp")),
        }
    }
}

/// The states of the Generic Default Transition Time Server and the Generic Power OnOff (Setup) Server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Power {
    pub(crate) on_power_up: OnPowerUp,
    pub(crate) default_transition: TransitionTime,
}

/// What a message to one of these servers leads to.
pub(crate) struct Handled {
    /// The status, if the message wants one.
    pub(crate) reply: Option<Vec<u8>>,
    /// The status, if the state changed.
    pub(crate) publish: Option<Vec<u8>>,
}

impl Power {
    pub(crate) const TRANSITION_OPCODES: [Opcode; 3] = [
        DefaultTransitionTimeGet::OPCODE,
        DefaultTransitionTimeSet::OPCODE,
        DefaultTransitionTimeSet::UNACKNOWLEDGED,
    ];
    pub(crate) const SETUP_OPCODES: [Opcode; 2] = [OnPowerUpSet::OPCODE, OnPowerUpSet::UNACKNOWLEDGED];

    /// What is done when a Set message says nothing of a transition (MMDL §3.1.3).
    pub(crate) fn transition(&self, asked: Option<Transition>) -> Transition {
        asked.unwrap_or(Transition { time: self.default_transition, delay: 0 })
    }

    /// Takes a message, if it is for one of these servers.
    pub(crate) fn handle(
        &mut self,
        opcode: Opcode,
        parameters: &[u8],
    ) -> Option<Result<Handled, DecodeError>> {
        Some(match opcode {
            DefaultTransitionTimeGet::OPCODE => {
                DefaultTransitionTimeGet::decode(parameters).map(|_| self.transition_status(false, true))
            }
            DefaultTransitionTimeSet::OPCODE | DefaultTransitionTimeSet::UNACKNOWLEDGED => {
                self.set_transition(parameters, opcode == DefaultTransitionTimeSet::OPCODE)
            }
            OnPowerUpGet::OPCODE => {
                OnPowerUpGet::decode(parameters).map(|_| self.power_up_status(false, true))
            }
            OnPowerUpSet::OPCODE | OnPowerUpSet::UNACKNOWLEDGED => {
                self.set_on_power_up(parameters, opcode == OnPowerUpSet::OPCODE)
            }
            _ => return None,
        })
    }

    fn set_transition(&mut self, parameters: &[u8], is_acknowledged: bool) -> Result<Handled, DecodeError> {
        let time = DefaultTransitionTimeSet::decode(parameters)?.transition_time;
        if time.duration().is_none() {
            return Err(DecodeError::Prohibited("Transition Time"));
        }
        let is_news = core::mem::replace(&mut self.default_transition, time) != time;
        Ok(self.transition_status(is_news, is_acknowledged))
    }

    fn set_on_power_up(&mut self, parameters: &[u8], is_acknowledged: bool) -> Result<Handled, DecodeError> {
        let on_power_up = OnPowerUp::from_octet(OnPowerUpSet::decode(parameters)?.on_power_up)?;
        let is_news = core::mem::replace(&mut self.on_power_up, on_power_up) != on_power_up;
        Ok(self.power_up_status(is_news, is_acknowledged))
    }

    /// What one of these servers publishes periodically.
    pub(crate) fn status(&self, model: ModelId) -> Option<Vec<u8>> {
        match model {
            DEFAULT_TRANSITION_TIME_SERVER => self.transition_status(true, false).publish,
            POWER_ON_OFF_SERVER => self.power_up_status(true, false).publish,
            _ => None,
        }
    }

    fn transition_status(&self, is_news: bool, is_asked: bool) -> Handled {
        let status = DefaultTransitionTimeStatus { transition_time: self.default_transition }.encode();
        Handled { reply: is_asked.then(|| status.clone()), publish: is_news.then_some(status) }
    }

    fn power_up_status(&self, is_news: bool, is_asked: bool) -> Handled {
        let status = OnPowerUpStatus { on_power_up: self.on_power_up as u8 }.encode();
        Handled { reply: is_asked.then(|| status.clone()), publish: is_news.then_some(status) }
    }

    pub(crate) fn save(self, saved: &mut Vec<u8>) {
        saved.extend([self.on_power_up as u8, self.default_transition.to_octet()]);
    }

    pub(crate) fn load(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let on_power_up = OnPowerUp::from_octet(reader.u8()?)?;
        Ok(Self { on_power_up, default_transition: TransitionTime::from_octet(reader.u8()?) })
    }
}
