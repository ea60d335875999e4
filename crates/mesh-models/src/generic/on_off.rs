use alloc::vec::Vec;

use clock::Instant;
use mesh_proto::access::{Context, Place, ReceivedMessage, Server};
use mesh_wire::access::Opcode;
use mesh_wire::{DecodeError, ModelId};

use super::level::Path;
use crate::messages::{ON_OFF_SERVER, OnOffGet, OnOffSet, OnOffStatus};
use crate::transition::{Transition, TransitionTime};

/// All that a Generic OnOff Server understands.
pub(crate) const ON_OFF_OPCODES: [Opcode; 3] = [OnOffGet::OPCODE, OnOffSet::OPCODE, OnOffSet::UNACKNOWLEDGED];

impl OnOffSet {
    /// A change without delay.
    pub fn new(on: bool, tid: u8, time: Option<TransitionTime>) -> Self {
        Self { on_off: on, tid, transition: time.map(|time| Transition { time, delay: 0 }) }
    }
}

impl OnOffStatus {
    /// What the state will be when nothing changes any more.
    pub fn destiny(&self) -> bool {
        self.target.map_or(self.present_on_off, |(target, _)| target)
    }
}

/// Generic OnOff Server (MMDL §3.3.1): one state, on or off.
///
/// A state of two values has nothing between them: during a transition to on it is on from the end of the
/// delay, during one to off it is off at the end (MMDL §3.1.1.1).
#[derive(Clone, Debug)]
pub struct OnOffServer {
    on: bool,
    change: Option<Change>,
    transactions: Path,
}

/// A change that is under way.
#[derive(Clone, Copy, Debug)]
struct Change {
    target: bool,
    begins: Instant,
    ends: Instant,
    has_begun: bool,
}

impl OnOffServer {
    /// A server that is on or off at the start.
    pub fn new(on: bool) -> Self {
        Self { on, change: None, transactions: Path::default() }
    }

    /// Whether it is on at `now`.
    pub fn is_on(&self, now: Instant) -> bool {
        match self.change {
            Some(change) if now >= change.ends => change.target,
            Some(change) if now >= change.begins => change.target || self.on,
            _ => self.on,
        }
    }

    /// Goes on or off, as a message or a hand on the device asks; publishes what changes.
    pub fn set(&mut self, now: Instant, on: bool, transition: Transition, context: &mut Context) {
        self.on = self.is_on(now);
        self.change = None;
        // A transition to the state that is there already is none.
        if transition.total().is_zero() || (self.on == on && transition.delay == 0) {
            let is_news = self.on != on;
            self.on = on;
            if is_news {
                context.changed();
                context.publish(Place::first(ON_OFF_SERVER), self.status_at(now).encode());
            }
            return;
        }
        let begins = now + transition.delay_duration();
        let ends = now + transition.total();
        self.change = Some(Change { target: on, begins, ends, has_begun: false });
        self.advance(now, context);
    }

    /// What it is, and where a change that is under way leads.
    pub fn status_at(&self, now: Instant) -> OnOffStatus {
        let target = self.change.map(|change| (change.target, TransitionTime::at_least(change.ends - now)));
        OnOffStatus { present_on_off: self.is_on(now), target }
    }

    /// Takes a message; without a transition of its own it takes place as `default` says.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        message: &ReceivedMessage,
        default: impl Fn(Option<Transition>) -> Transition,
        context: &mut Context,
    ) -> Result<(), DecodeError> {
        self.advance(now, context);
        if message.opcode == OnOffGet::OPCODE {
            OnOffGet::decode(&message.parameters)?;
        } else {
            let set = OnOffSet::decode(&message.parameters)?;
            let path = (message.source, message.destination);
            if self.transactions.is_new(now, path, set.tid) {
                self.set(now, set.on_off, default(set.transition), context);
            }
        }
        if message.opcode != OnOffSet::UNACKNOWLEDGED {
            context.reply(self.status_at(now).encode());
        }
        Ok(())
    }

    /// What it will be when nothing changes any more.
    pub(crate) fn destiny(&self) -> bool {
        self.change.map_or(self.on, |change| change.target)
    }

    pub(crate) fn power_up(&mut self, on: bool) {
        (self.on, self.change) = (on, None);
    }

    /// Takes the steps of a change that are due.
    fn advance(&mut self, now: Instant, context: &mut Context) {
        let Some(change) = &mut self.change else {
            return;
        };
        let before = self.on;
        let begins_now = !change.has_begun && now >= change.begins;
        if begins_now {
            change.has_begun = true;
            self.on |= change.target;
        }
        let ends_now = now >= change.ends;
        if ends_now {
            self.on = change.target;
            self.change = None;
        }
        if self.on != before {
            context.changed();
        }
        if begins_now || ends_now {
            context.publish(Place::first(ON_OFF_SERVER), self.status_at(now).encode());
        }
    }
}

impl Server for OnOffServer {
    fn models(&self) -> Vec<Place> {
        Vec::from([Place::first(ON_OFF_SERVER)])
    }

    fn understands(&self, _model: ModelId, opcode: Opcode) -> bool {
        ON_OFF_OPCODES.contains(&opcode)
    }

    fn handle_message(
        &mut self,
        now: Instant,
        _place: Place,
        message: &ReceivedMessage,
        context: &mut Context,
    ) -> Result<(), DecodeError> {
        self.handle(now, message, |asked| asked.unwrap_or(Transition::AT_ONCE), context)
    }

    fn handle_timeout(&mut self, now: Instant, context: &mut Context) {
        self.advance(now, context);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.change.map(|change| if change.has_begun { change.ends } else { change.begins })
    }

    fn status(&self, now: Instant, _place: Place) -> Option<Vec<u8>> {
        Some(self.status_at(now).encode())
    }

    fn save(&self) -> Vec<u8> {
        Vec::from([u8::from(self.destiny())])
    }

    fn restore(&mut self, _now: Instant, saved: &[u8]) {
        self.power_up(saved == [1]);
    }
}
