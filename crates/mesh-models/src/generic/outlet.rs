use alloc::vec::Vec;

use clock::Instant;
use mesh_proto::access::{Context, Place, ReceivedMessage, Server};
use mesh_wire::access::Opcode;
use mesh_wire::{DecodeError, ModelId, Reader};

use super::power::{Handled, OnPowerUp, Power};
use super::{ON_OFF_OPCODES, OnOffServer};
use crate::messages::{
    DEFAULT_TRANSITION_TIME_SERVER, ON_OFF_SERVER, OnPowerUpGet, POWER_ON_OFF_SERVER,
    POWER_ON_OFF_SETUP_SERVER,
};
use crate::transition::Transition;

/// What is switched and remembers how to wake: Generic OnOff, Default Transition Time, Power OnOff and Power OnOff
/// Setup Server on one element (MMDL §3.3.4, §3.3.5). A smart plug.
#[derive(Clone, Debug)]
pub struct Outlet {
    on_off: OnOffServer,
    power: Power,
}

impl Outlet {
    /// An outlet that is off at first, and wakes as it went.
    pub fn new() -> Self {
        let power = Power { on_power_up: OnPowerUp::Restore, ..Power::default() };
        Self { on_off: OnOffServer::new(false), power }
    }

    /// Whether it is on at `now`.
    pub fn is_on(&self, now: Instant) -> bool {
        self.on_off.is_on(now)
    }

    /// A hand on its button.
    pub fn press(&mut self, now: Instant, context: &mut Context) {
        let on = !self.on_off.destiny();
        self.on_off.set(now, on, Transition::AT_ONCE, context);
    }
}

impl Default for Outlet {
    fn default() -> Self {
        Self::new()
    }
}

impl Server for Outlet {
    fn models(&self) -> Vec<Place> {
        [ON_OFF_SERVER, DEFAULT_TRANSITION_TIME_SERVER, POWER_ON_OFF_SERVER, POWER_ON_OFF_SETUP_SERVER]
            .map(Place::first)
            .to_vec()
    }

    fn understands(&self, model: ModelId, opcode: Opcode) -> bool {
        match model {
            ON_OFF_SERVER => ON_OFF_OPCODES.contains(&opcode),
            DEFAULT_TRANSITION_TIME_SERVER => Power::TRANSITION_OPCODES.contains(&opcode),
            POWER_ON_OFF_SERVER => opcode == OnPowerUpGet::OPCODE,
            _ => Power::SETUP_OPCODES.contains(&opcode),
        }
    }

    fn handle_message(
        &mut self,
        now: Instant,
        place: Place,
        message: &ReceivedMessage,
        context: &mut Context,
    ) -> Result<(), DecodeError> {
        let power = self.power;
        if let Some(handled) = self.power.handle(message.opcode, &message.parameters) {
            handled?.follow(place.model, context);
            return Ok(());
        }
        self.on_off.handle(now, message, |asked| power.transition(asked), context)
    }

    fn handle_timeout(&mut self, now: Instant, context: &mut Context) {
        self.on_off.handle_timeout(now, context);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.on_off.poll_timeout()
    }

    fn status(&self, now: Instant, place: Place) -> Option<Vec<u8>> {
        match place.model {
            ON_OFF_SERVER => Some(self.on_off.status_at(now).encode()),
            model => self.power.status(model),
        }
    }

    fn save(&self) -> Vec<u8> {
        let mut saved = Vec::from([u8::from(self.on_off.destiny())]);
        self.power.save(&mut saved);
        saved
    }

    fn restore(&mut self, _now: Instant, saved: &[u8]) {
        let mut reader = Reader::new(saved);
        let (Ok(on), Ok(power)) = (reader.u8(), Power::load(&mut reader)) else { return };
        self.power = power;
        self.on_off.power_up(match power.on_power_up {
            OnPowerUp::Off => false,
            OnPowerUp::Default => true,
            OnPowerUp::Restore => on == 1,
        });
    }
}

impl Handled {
    /// Answers and publishes; the publication is that of the model which has the state, not its setup server's.
    pub(crate) fn follow(self, model: ModelId, context: &mut Context) {
        if let Some(payload) = self.publish {
            let model = if model == POWER_ON_OFF_SETUP_SERVER { POWER_ON_OFF_SERVER } else { model };
            context.changed();
            context.publish(Place::first(model), payload);
        }
        if let Some(payload) = self.reply {
            context.reply(payload);
        }
    }
}
