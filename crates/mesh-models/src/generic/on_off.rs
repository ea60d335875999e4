use alloc::vec::Vec;

use clock::Instant;
use mesh_proto::access::{Context, Place, ReceivedMessage, Server};
use mesh_proto::upper_transport::Destination;
use mesh_wire::access::Opcode;
use mesh_wire::address::UnicastAddress;
use mesh_wire::{DecodeError, ModelId};

use crate::transition::{Transactions, Transition, TransitionTime};

/// Generic OnOff Server.
pub const ON_OFF_SERVER: ModelId = ModelId::Sig(0x1000);

/// Generic OnOff Client.
pub const ON_OFF_CLIENT: ModelId = ModelId::Sig(0x1001);

/// What a Generic OnOff Client understands.
pub const ON_OFF_CLIENT_OPCODES: &[Opcode] = &[OnOffStatus::OPCODE];

/// Generic OnOff Get: no parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnOffGet;

/// Generic OnOff Set, acknowledged or not: `OnOff:8 TID:8 [Transition Time:8 Delay:8]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnOffSet {
    /// Whether to be on.
    pub on: bool,
    /// The transaction; a repetition carries the same.
    pub tid: u8,
    /// How the change takes place; `None`: as the server likes.
    pub transition: Option<Transition>,
}

/// Generic OnOff Status: `Present:8 [Target:8 Remaining Time:8]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnOffStatus {
    /// Whether it is on now.
    pub present: bool,
    /// Where a change that is under way leads, and how long that takes yet.
    pub target: Option<(bool, TransitionTime)>,
}

impl OnOffGet {
    /// Its opcode.
    pub const OPCODE: Opcode = Opcode::Two(0x8201);

    /// Opcode and parameters.
    pub fn encode(self) -> Vec<u8> {
        Self::OPCODE.with(&[])
    }
}

impl OnOffSet {
    /// Its opcode, when an answer is wanted.
    pub const OPCODE: Opcode = Opcode::Two(0x8202);

    /// Its opcode, when none is.
    pub const UNACKNOWLEDGED: Opcode = Opcode::Two(0x8203);

    /// A change without delay.
    pub fn new(on: bool, tid: u8, time: Option<TransitionTime>) -> Self {
        Self { on, tid, transition: time.map(|time| Transition { time, delay: 0 }) }
    }

    /// Opcode and parameters, acknowledged.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_as(Self::OPCODE)
    }

    /// Opcode and parameters under either opcode.
    pub fn encode_as(&self, opcode: Opcode) -> Vec<u8> {
        let mut payload = opcode.with(&[u8::from(self.on), self.tid]);
        if let Some(transition) = self.transition {
            payload.extend([transition.time.to_octet(), transition.delay]);
        }
        payload
    }

    /// Reads the parameters.
    ///
    /// # Errors
    /// When they have another length, OnOff is neither 0 nor 1, or the transition time is unknown.
    pub fn decode(parameters: &[u8]) -> Result<Self, DecodeError> {
        let [on, tid, transition @ ..] = parameters else {
            return Err(DecodeError::TooShort);
        };
        Ok(Self { on: decode_on_off(*on)?, tid: *tid, transition: Transition::decode(transition)? })
    }
}

impl OnOffStatus {
    /// Its opcode.
    pub const OPCODE: Opcode = Opcode::Two(0x8204);

    /// Opcode and parameters.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Self::OPCODE.with(&[u8::from(self.present)]);
        if let Some((target, remaining)) = self.target {
            payload.extend([u8::from(target), remaining.to_octet()]);
        }
        payload
    }

    /// Reads the parameters.
    ///
    /// # Errors
    /// When they have another length, or a state is neither 0 nor 1.
    pub fn decode(parameters: &[u8]) -> Result<Self, DecodeError> {
        match *parameters {
            [] | [_, _] => Err(DecodeError::TooShort),
            [present] => Ok(Self { present: decode_on_off(present)?, target: None }),
            [present, target, remaining] => {
                let target = Some((decode_on_off(target)?, TransitionTime::from_octet(remaining)));
                Ok(Self { present: decode_on_off(present)?, target })
            }
            _ => Err(DecodeError::TooLong),
        }
    }

    /// What the state will be when nothing changes any more.
    pub fn destiny(&self) -> bool {
        self.target.map_or(self.present, |(target, _)| target)
    }
}

fn decode_on_off(octet: u8) -> Result<bool, DecodeError> {
    match octet {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Prohibited("OnOff")),
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
    transactions: Transactions<(UnicastAddress, Destination)>,
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
        Self { on, change: None, transactions: Transactions::default() }
    }

    /// Whether it is on at `now`.
    pub fn is_on(&self, now: Instant) -> bool {
        match self.change {
            Some(change) if now >= change.ends => change.target,
            Some(change) if now >= change.begins => change.target || self.on,
            _ => self.on,
        }
    }

    fn set(&mut self, now: Instant, set: &OnOffSet, context: &mut Context) {
        self.on = self.is_on(now);
        self.change = None;
        let transition = set.transition.unwrap_or(Transition { time: TransitionTime::IMMEDIATE, delay: 0 });
        // A transition to the state that is there already is none.
        if transition.total().is_zero() || (self.on == set.on && transition.delay == 0) {
            let is_news = self.on != set.on;
            self.on = set.on;
            if is_news {
                context.changed();
                context.publish(Place::first(ON_OFF_SERVER), self.status_at(now).encode());
            }
            return;
        }
        let begins = now + transition.delay_duration();
        let ends = now + transition.total();
        self.change = Some(Change { target: set.on, begins, ends, has_begun: false });
        self.advance(now, context);
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

    fn status_at(&self, now: Instant) -> OnOffStatus {
        let target = self.change.map(|change| (change.target, TransitionTime::at_least(change.ends - now)));
        OnOffStatus { present: self.is_on(now), target }
    }
}

impl Server for OnOffServer {
    fn models(&self) -> Vec<Place> {
        Vec::from([Place::first(ON_OFF_SERVER)])
    }

    fn understands(&self, _model: ModelId, opcode: Opcode) -> bool {
        [OnOffGet::OPCODE, OnOffSet::OPCODE, OnOffSet::UNACKNOWLEDGED].contains(&opcode)
    }

    fn handle_message(
        &mut self,
        now: Instant,
        _place: Place,
        message: &ReceivedMessage,
        context: &mut Context,
    ) -> Result<(), DecodeError> {
        self.advance(now, context);
        if message.opcode == OnOffGet::OPCODE {
            if !message.parameters.is_empty() {
                return Err(DecodeError::TooLong);
            }
        } else {
            let set = OnOffSet::decode(&message.parameters)?;
            let path = (message.source, message.destination);
            if self.transactions.is_new(now, path, set.tid) {
                self.set(now, &set, context);
            }
        }
        if message.opcode != OnOffSet::UNACKNOWLEDGED {
            context.reply(self.status_at(now).encode());
        }
        Ok(())
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
}
