//! The access layer (MshPRT §3.7): which models a message reaches, and what models may do with it.

mod elements;
mod server;

pub(crate) use elements::is_member;
pub use elements::{Element, Elements, MAX_BINDINGS, MAX_SUBSCRIPTIONS, ModelEntry, Reach};
pub(crate) use server::ServerEntry;
pub use server::{Access, Context, Periodic, Place, ReceivedMessage, Server};
