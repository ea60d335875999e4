use alloc::vec::Vec;
use core::ops::RangeInclusive;

use clock::Instant;
use mesh_proto::access::{Context, Place, ReceivedMessage, Server};
use mesh_proto::upper_transport::Destination;
use mesh_wire::access::Opcode;
use mesh_wire::address::UnicastAddress;
use mesh_wire::{DecodeError, ModelId};

use crate::messages::{DeltaSet, LEVEL_SERVER, LevelGet, LevelSet, LevelStatus, MoveSet};
use crate::ramp::Ramp;
use crate::transition::{Transactions, Transition, TransitionTime};

/// All that a Generic Level Server understands.
pub(crate) const LEVEL_OPCODES: [Opcode; 7] = [
    LevelGet::OPCODE,
    LevelSet::OPCODE,
    LevelSet::UNACKNOWLEDGED,
    DeltaSet::OPCODE,
    DeltaSet::UNACKNOWLEDGED,
    MoveSet::OPCODE,
    MoveSet::UNACKNOWLEDGED,
];

/// What a Level, Delta or Move Set asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LevelChange {
    /// To go to a level.
    To(i32),
    /// To go on at so much per transition time.
    At(i32),
}

/// Which messages belong together, and where a series of Delta Set messages began.
#[derive(Clone, Debug, Default)]
pub(crate) struct LevelTransactions {
    transactions: Path,
    base: i32,
}

/// The transactions of one model: they are told apart by source, destination and TID.
pub(crate) type Path = Transactions<(UnicastAddress, Destination)>;

impl LevelTransactions {
    /// What a Set message asks for, if it is a new one; `present` is the level at `now`.
    pub(crate) fn change(
        &mut self,
        now: Instant,
        message: &ReceivedMessage,
        present: i32,
    ) -> Result<Option<(LevelChange, Option<Transition>)>, DecodeError> {
        let path = (message.source, message.destination);
        match message.opcode {
            LevelSet::OPCODE | LevelSet::UNACKNOWLEDGED => {
                let set = LevelSet::decode(&message.parameters)?;
                let is_new = self.transactions.is_new(now, path, set.tid);
                Ok(is_new.then_some((LevelChange::To(set.level.into()), set.transition)))
            }
            DeltaSet::OPCODE | DeltaSet::UNACKNOWLEDGED => {
                let set = DeltaSet::decode(&message.parameters)?;
                // Messages of one transaction all count from where it began (MMDL §3.3.2.2.3).
                if self.transactions.is_new(now, path, set.tid) {
                    self.base = present;
                }
                Ok(Some((LevelChange::To(self.base.saturating_add(set.delta_level)), set.transition)))
            }
            MoveSet::OPCODE | MoveSet::UNACKNOWLEDGED => {
                let set = MoveSet::decode(&message.parameters)?;
                let is_new = self.transactions.is_new(now, path, set.tid);
                Ok(is_new.then_some((LevelChange::At(set.delta_level.into()), set.transition)))
            }
            _ => LevelGet::decode(&message.parameters).map(|_| None),
        }
    }
}

/// How a state is bound to a Generic Level.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Binding {
    /// It is the level.
    Same,
    /// It is the level + 32768: lightness, hue, saturation (MMDL §6.1.2.1.1, §6.1.4.1.1, §6.1.4.2.1).
    Offset,
    /// Its range is spread over all levels: temperature (MMDL §6.1.3.1.1).
    Spread { min: u16, max: u16 },
}

/// Levels from the lowest to the highest.
const LEVELS: i64 = 0xffff;

impl Binding {
    /// The state that a level means; one beyond the ends means the end.
    pub(crate) fn of_level(self, level: i32) -> i32 {
        let level = level.clamp(i16::MIN.into(), i16::MAX.into());
        match self {
            Self::Same => level,
            Self::Offset => level + 0x8000,
            Self::Spread { min, max } => {
                let span = i64::from(max) - i64::from(min);
                let above = (i64::from(level + 0x8000) * span + LEVELS / 2) / LEVELS;
                i32::from(min) + i32::try_from(above).unwrap_or(0)
            }
        }
    }

    /// The level that a state means.
    pub(crate) fn level_of(self, state: i32) -> i32 {
        match self {
            Self::Same => state,
            Self::Offset => state - 0x8000,
            Self::Spread { min, max } => {
                let span = (i64::from(max) - i64::from(min)).max(1);
                let above = (i64::from(state) - i64::from(min)) * LEVELS / span;
                i32::try_from(above).unwrap_or(0) - 0x8000
            }
        }
    }

    /// How fast a state changes when its level changes with this speed.
    fn speed(self, speed: i32) -> i32 {
        match self {
            Self::Same | Self::Offset => speed,
            Self::Spread { min, max } => {
                let span = i64::from(max) - i64::from(min);
                i32::try_from(i64::from(speed) * span / LEVELS).unwrap_or(0)
            }
        }
    }
}

impl LevelChange {
    /// Whether it goes to a level of some kind.
    pub(crate) fn is_to(self, is_such: impl Fn(i32) -> bool) -> bool {
        matches!(self, Self::To(level) if is_such(level))
    }

    /// Carries it out on a state that is bound to a level, within `limits`; a move goes on to their end.
    pub(crate) fn apply(
        self,
        now: Instant,
        ramp: &mut Ramp,
        transition: Transition,
        binding: Binding,
        limits: RangeInclusive<i32>,
    ) {
        match self {
            Self::To(level) => {
                let target = binding.of_level(level).clamp(*limits.start(), *limits.end());
                // A repetition of a Delta Set is not a new beginning.
                if ramp.target() != target || ramp.remaining(now).is_none() {
                    ramp.go(now, target, transition);
                }
            }
            Self::At(speed) => {
                let limit = if speed < 0 { *limits.start() } else { *limits.end() };
                ramp.go_at(now, binding.speed(speed), limit, transition);
            }
        }
    }
}

pub(crate) fn is_acknowledged(opcode: Opcode) -> bool {
    ![LevelSet::UNACKNOWLEDGED, DeltaSet::UNACKNOWLEDGED, MoveSet::UNACKNOWLEDGED].contains(&opcode)
}

/// The status of a level that `present` and `target` convert to.
pub(crate) fn level_status(present: i32, target: i32, remaining: Option<TransitionTime>) -> Vec<u8> {
    let octets =
        |level: i32| i16::try_from(level.clamp(i16::MIN.into(), i16::MAX.into())).unwrap_or_default();
    let target = remaining.map(|remaining| (octets(target), remaining));
    LevelStatus { present_level: octets(present), target }.encode()
}

/// Generic Level Server (MMDL §3.3.2): a number from -32768 to 32767 that means what the device makes of it.
#[derive(Clone, Debug)]
pub struct LevelServer {
    level: Ramp,
    transactions: LevelTransactions,
}

impl LevelServer {
    /// A server with this level at the start.
    pub fn new(level: i16) -> Self {
        Self { level: Ramp::new(level.into()), transactions: LevelTransactions::default() }
    }

    /// The level at `now`.
    pub fn level(&self, now: Instant) -> i16 {
        i16::try_from(self.level.value(now)).unwrap_or_default()
    }

    /// Whether the level is on its way to another.
    pub fn is_moving(&self, now: Instant) -> bool {
        self.level.is_moving(now)
    }

    /// Takes the level that the device itself says it has; publishes it when it is news.
    pub fn set(&mut self, now: Instant, level: i16, context: &mut Context) {
        let is_news = self.level(now) != level;
        self.level.jump(level.into());
        if is_news {
            context.changed();
            context.publish(Place::first(LEVEL_SERVER), self.status_at(now));
        }
    }

    fn status_at(&self, now: Instant) -> Vec<u8> {
        level_status(self.level.value(now), self.level.target(), self.level.remaining(now))
    }
}

impl Server for LevelServer {
    fn models(&self) -> Vec<Place> {
        Vec::from([Place::first(LEVEL_SERVER)])
    }

    fn understands(&self, _model: ModelId, opcode: Opcode) -> bool {
        LEVEL_OPCODES.contains(&opcode)
    }

    fn handle_message(
        &mut self,
        now: Instant,
        _place: Place,
        message: &ReceivedMessage,
        context: &mut Context,
    ) -> Result<(), DecodeError> {
        let before = self.level.value(now);
        if let Some((change, transition)) = self.transactions.change(now, message, before)? {
            let transition = transition.unwrap_or(Transition::AT_ONCE);
            let limits = i16::MIN.into()..=i16::MAX.into();
            change.apply(now, &mut self.level, transition, Binding::Same, limits);
            if self.level.remaining(now).is_some() || self.level.value(now) != before {
                context.changed();
                context.publish(Place::first(LEVEL_SERVER), self.status_at(now));
            }
        }
        if is_acknowledged(message.opcode) {
            context.reply(self.status_at(now));
        }
        Ok(())
    }

    fn handle_timeout(&mut self, now: Instant, context: &mut Context) {
        if self.level.advance(now) {
            context.changed();
            context.publish(Place::first(LEVEL_SERVER), self.status_at(now));
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.level.poll_timeout()
    }

    fn status(&self, now: Instant, _place: Place) -> Option<Vec<u8>> {
        Some(self.status_at(now))
    }

    fn save(&self) -> Vec<u8> {
        self.level.target().to_be_bytes().to_vec()
    }

    fn restore(&mut self, _now: Instant, saved: &[u8]) {
        if let Ok(level) = saved.try_into() {
            self.level.jump(i32::from_be_bytes(level));
        }
    }
}
