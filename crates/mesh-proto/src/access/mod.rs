//! The access layer (MshPRT §3.7): which models a message reaches, and what models may do with it.

mod elements;
mod model;

pub use elements::{Element, Elements, MAX_BINDINGS, MAX_SUBSCRIPTIONS, ModelEntry, Reach};
pub use model::{Access, Context, Model, ReceivedMessage};
