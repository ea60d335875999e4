//! The models of the Bluetooth Mesh Model specification: typed messages, and servers with their states.
//!
//! A server implements [`mesh_proto::access::Server`] and is given to an element of a node. A client is a list of
//! opcodes: its host decodes what arrives with the messages of this crate.
//!
//! Not for: deciding who may control what, or talking to MQTT (`gateway` does).
//!
//! ```
//! use clock::Instant;
//! use mesh_models::generic::OnOffServer;
//! use mesh_models::messages::OnOffSet;
//! use mesh_models::transition::TransitionTime;
//! use core::time::Duration;
//!
//! let set = OnOffSet::new(true, 1, Some(TransitionTime::at_least(Duration::from_secs(2))));
//! assert_eq!(set.encode(), [0x82, 0x02, 0x01, 0x01, 0x14, 0x00]);
//! assert!(!OnOffServer::new(false).is_on(Instant::ORIGIN));
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod client;
pub mod generic;
pub mod lighting;
mod message;
pub mod messages;
mod ramp;
pub mod sensor;
pub mod switch;
pub mod transition;
#[cfg(test)]
mod vectors;

pub use message::RangeStatus;
