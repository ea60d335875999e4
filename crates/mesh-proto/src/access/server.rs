use alloc::boxed::Box;
use alloc::vec::Vec;
use core::any::Any;
use core::time::Duration;

use clock::Instant;
use mesh_wire::access::Opcode;
use mesh_wire::address::UnicastAddress;
use mesh_wire::{DecodeError, ModelId, Ttl};

use crate::keys::MessageKey;
use crate::upper_transport::Destination;

/// An access message that reached a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedMessage {
    /// The element of this node that the model belongs to: 0 is the primary one.
    pub element: u8,
    /// The model.
    pub model: ModelId,
    /// Who sent it.
    pub source: UnicastAddress,
    /// Whom it was sent to: an element of this node, or something that the model subscribes to.
    pub destination: Destination,
    /// The TTL with which it arrived.
    pub ttl: Ttl,
    /// How strong its last PDU was, in dBm; `None` when it came from this node itself.
    pub rssi: Option<i8>,
    /// The key that secured it.
    pub key: MessageKey,
    /// What it is.
    pub opcode: Opcode,
    /// What follows the opcode.
    pub parameters: Vec<u8>,
}

/// One of a server's models: on which element, counted from the server's first, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The element, counted from the one that the server was given to.
    pub element: u8,
    /// The model.
    pub model: ModelId,
}

/// What a server asks its node to do.
#[derive(Debug, Default)]
pub struct Context {
    pub(crate) reply: Option<Vec<u8>>,
    pub(crate) publications: Vec<(Place, Vec<u8>)>,
    pub(crate) hurried: Vec<Place>,
    pub(crate) changed: bool,
}

/// What a server has to say when a Publish Period is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Periodic {
    /// Opcode and parameters of what is published, if something is.
    pub payload: Option<Vec<u8>>,
    /// After which time the node asks again.
    pub next: Duration,
}

impl Place {
    /// A model of the server's first element.
    pub const fn first(model: ModelId) -> Self {
        Self { element: 0, model }
    }
}

impl Context {
    /// Answers the message that is being handled, under its key, after the random delay of MshPRT §3.7.3.2.
    /// `payload` is opcode and parameters.
    pub fn reply(&mut self, payload: Vec<u8>) {
        self.reply = Some(payload);
    }

    /// Publishes `payload` as the publication of the model at `place` says, if it has one (MshPRT §3.7.6.1).
    pub fn publish(&mut self, place: Place, payload: Vec<u8>) {
        self.publications.retain(|(other, _)| *other != place);
        self.publications.push((place, payload));
    }

    /// Has the node ask [`Server::periodic`] now, if the model at `place` publishes periodically: its period may have
    /// become shorter.
    pub fn hurry(&mut self, place: Place) {
        self.hurried.push(place);
    }

    /// Tells the host that a state has changed, and has it stored.
    pub fn changed(&mut self) {
        self.changed = true;
    }
}

/// One or several server models whose states are bound to each other, on one element or on several that follow
/// one another: a lamp, say. What messages do to the states, and what time does.
///
/// Models of one server on the same element extend each other, and so share one list of subscriptions
/// (MshPRT §4.2.4). Time comes as an argument; randomness and keys are the node's business. A server is looked
/// at by its host through `Node::server`.
pub trait Server: Any + Send + Sync {
    /// The models that it is.
    fn models(&self) -> Vec<Place>;

    /// Whether its model `model` has a use for messages of this opcode.
    fn understands(&self, model: ModelId, opcode: Opcode) -> bool;

    /// Takes a message that its model at `place` understands.
    ///
    /// # Errors
    /// What is wrong with the parameters; the message is then ignored (MshPRT §3.7.3.4).
    fn handle_message(
        &mut self,
        now: Instant,
        place: Place,
        message: &ReceivedMessage,
        context: &mut Context,
    ) -> Result<(), DecodeError>;

    /// Does what is due at `now`.
    fn handle_timeout(&mut self, _now: Instant, _context: &mut Context) {}

    /// When [`Server::handle_timeout`] is next due.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// What the model at `place` publishes periodically: opcode and parameters of its status message, if it
    /// has one.
    fn status(&self, _now: Instant, _place: Place) -> Option<Vec<u8>> {
        None
    }

    /// What the model at `place` publishes when its Publish Period is over, or the node was told to hurry, and when
    /// the next is. A sensor in its fast range says a time below `period` (MMDL §4.1.3.1).
    fn periodic(&mut self, now: Instant, place: Place, period: Duration) -> Periodic {
        Periodic { payload: self.status(now, place), next: period }
    }

    /// What has to outlast a loss of power, in a form of its own; empty: nothing.
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Takes back what [`Server::save`] gave, at power-up. What it cannot read it ignores.
    fn restore(&mut self, _now: Instant, _saved: &[u8]) {}
}

/// How an element's model comes to its messages.
pub enum Access {
    /// One of the models of the server with this number.
    Server(usize),
    /// Its messages are given to the host; the opcodes that it understands.
    Host(&'static [Opcode]),
    /// The node itself: the foundation models.
    Foundation,
}

/// A server and the element that it was given to.
pub(crate) struct ServerEntry {
    pub(crate) first_element: u8,
    pub(crate) server: Box<dyn Server>,
}

impl core::fmt::Debug for Access {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Server(number) => write!(f, "Server({number})"),
            Self::Host(_) => f.write_str("Host"),
            Self::Foundation => f.write_str("Foundation"),
        }
    }
}

impl core::fmt::Debug for ServerEntry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Server of element {}", self.first_element)
    }
}
