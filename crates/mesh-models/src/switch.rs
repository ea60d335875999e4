//! A switch on a wall: what Generic OnOff Client and Generic Level Client publish when somebody presses it.

use core::time::Duration;

use clock::Instant;
use mesh_proto::node::Command;
use mesh_wire::ModelId;

use crate::messages::{DeltaSet, LEVEL_CLIENT, LevelSet, MoveSet, ON_OFF_CLIENT, OnOffSet};
use crate::transition::{Transition, TransitionTime};

/// The client models of a switch's element.
pub const SWITCH_MODELS: [ModelId; 2] = [ON_OFF_CLIENT, LEVEL_CLIENT];

/// How long a dial is turned with one TID: well below the 6 s after which lamps take it for another (MMDL §3.3.2.2.3).
const TURN: Duration = Duration::from_secs(4);

/// One rocker, button or dial: an element with a Generic OnOff Client and a Generic Level Client. A message goes
/// where the model publishes, unacknowledged, since that is a group as a rule.
///
/// ```
/// # use mesh_models::switch::Switch;
/// # use mesh_proto::node::Command;
/// let mut rocker = Switch::new(1);
/// let Command::Publish { element, payload, .. } = rocker.on_off(true, None) else { panic!() };
/// assert_eq!((element, payload), (1, vec![0x82, 0x03, 0x01, 0x00]));
/// ```
#[derive(Clone, Debug)]
pub struct Switch {
    element: u8,
    next_tid: u8,
    turn: Option<Turn>,
}

/// A dial that is being turned.
#[derive(Clone, Copy, Debug)]
struct Turn {
    tid: u8,
    began: Instant,
    delta: i32,
}

impl Switch {
    /// A switch that is this element of its node.
    pub const fn new(element: u8) -> Self {
        Self { element, next_tid: 0, turn: None }
    }

    /// A short press: on or off.
    pub fn on_off(&mut self, on: bool, time: Option<TransitionTime>) -> Command {
        let set = OnOffSet::new(on, self.tid(), time);
        self.publish(ON_OFF_CLIENT, set.encode_as(OnOffSet::UNACKNOWLEDGED))
    }

    /// A press of a button that stands for a level.
    pub fn level(&mut self, level: i16, time: Option<TransitionTime>) -> Command {
        let set = LevelSet { level, tid: self.tid(), transition: time.map(at_once) };
        self.publish(LEVEL_CLIENT, set.encode_as(LevelSet::UNACKNOWLEDGED))
    }

    /// A turn of a dial by so much, which may be part of a longer turn: all of it counts from where the lamps were
    /// when it began, so that a message that was lost is made up for by the next.
    pub fn turn(&mut self, now: Instant, delta: i32) -> Command {
        let turn = match self.turn {
            Some(turn) if now - turn.began < TURN => Turn { delta: turn.delta.saturating_add(delta), ..turn },
            _ => Turn { tid: self.tid(), began: now, delta },
        };
        self.turn = Some(turn);
        let set = DeltaSet { delta_level: turn.delta, tid: turn.tid, transition: None };
        self.publish(LEVEL_CLIENT, set.encode_as(DeltaSet::UNACKNOWLEDGED))
    }

    /// The beginning of a long press: the level changes by so much per second until [`Switch::release`].
    pub fn hold(&mut self, per_second: i16) -> Command {
        self.change_at(per_second)
    }

    /// The end of a long press.
    pub fn release(&mut self) -> Command {
        self.change_at(0)
    }

    fn change_at(&mut self, delta_level: i16) -> Command {
        let second = TransitionTime::at_least(Duration::from_secs(1));
        let set = MoveSet { delta_level, tid: self.tid(), transition: Some(at_once(second)) };
        self.publish(LEVEL_CLIENT, set.encode_as(MoveSet::UNACKNOWLEDGED))
    }

    /// Each message but those of one turn is a transaction of its own.
    fn tid(&mut self) -> u8 {
        self.turn = None;
        let tid = self.next_tid;
        self.next_tid = tid.wrapping_add(1);
        tid
    }

    fn publish(&self, model: ModelId, payload: alloc::vec::Vec<u8>) -> Command {
        Command::Publish { element: self.element, model, payload }
    }
}

/// A transition without delay.
fn at_once(time: TransitionTime) -> Transition {
    Transition { time, delay: 0 }
}
