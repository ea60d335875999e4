use alloc::boxed::Box;
use alloc::vec::Vec;
use core::any::Any;

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

/// What a model asks its node to do.
#[derive(Debug, Default)]
pub struct Context {
    pub(crate) reply: Option<Vec<u8>>,
    pub(crate) publish: Option<Vec<u8>>,
    pub(crate) changed: bool,
}

impl Context {
    /// Answers the message that is being handled, under its key, after the random delay of MshPRT §3.7.3.2.
    /// `payload` is opcode and parameters.
    pub fn reply(&mut self, payload: Vec<u8>) {
        self.reply = Some(payload);
    }

    /// Publishes `payload` as the model's publication says, if it has one (MshPRT §3.7.6.1).
    pub fn publish(&mut self, payload: Vec<u8>) {
        self.publish = Some(payload);
    }

    /// Tells the host that the model's state has changed.
    pub fn changed(&mut self) {
        self.changed = true;
    }
}

/// A server model: states, and what messages do to them.
///
/// Time comes as an argument; randomness and keys are the node's business. A model is looked at by its host
/// through `Node::model`.
pub trait Model: Any + Send + Sync {
    /// Which model it is.
    fn id(&self) -> ModelId;

    /// Whether it has a use for messages of this opcode.
    fn understands(&self, opcode: Opcode) -> bool;

    /// Takes a message that it understands.
    ///
    /// # Errors
    /// What is wrong with the parameters; the message is then ignored (MshPRT §3.7.3.4).
    fn handle_message(
        &mut self,
        now: Instant,
        message: &ReceivedMessage,
        context: &mut Context,
    ) -> Result<(), DecodeError>;

    /// Does what is due at `now`.
    fn handle_timeout(&mut self, _now: Instant, _context: &mut Context) {}

    /// When [`Model::handle_timeout`] is next due.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// What is published periodically: opcode and parameters of the status message, if there is one.
    fn status(&self, _now: Instant) -> Option<Vec<u8>> {
        None
    }
}

/// How an element's model comes to its messages.
pub enum Access {
    /// Its states are kept here.
    Server(Box<dyn Model>),
    /// Its messages are given to the host; the opcodes that it understands.
    Client(&'static [Opcode]),
    /// The node itself: the foundation models.
    Foundation,
}

impl core::fmt::Debug for Access {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Server(_) => "Server",
            Self::Client(_) => "Client",
            Self::Foundation => "Foundation",
        })
    }
}
