//! One MQTT connection and its session, both roles, without I/O.
//!
//! [`session`] is what both roles share: the messages of QoS 1 and 2 that are on their way, in either direction.
//! [`client::ClientConnection`] is a client's side of a connection; [`server`] is a server's view of what one of
//! its clients may do; [`topic_alias`] is a table that either side keeps. Packets go in and out, time is an
//! argument.
//!
//! Not for: subscriptions, routing and retained messages (`mqtt-broker`), or sockets (`mqtt-server`,
//! `mqtt-client`).
//!
//! ```
//! use mqtt_proto::session::{Outbound, Resend};
//! use mqtt_wire::{QoS, ReasonCode};
//!
//! let mut outbound = Outbound::new(2);
//! let id = outbound.send("a message", QoS::ExactlyOnce).unwrap();
//! assert!(outbound.handle_pubrec(id, ReasonCode::Success).is_ok());
//! // After a reconnect, what was received is released, not sent again.
//! assert_eq!(outbound.resend().collect::<Vec<_>>(), [Resend::PubRel(id)]);
//! assert!(outbound.handle_pubcomp(id).is_ok());
//! assert!(outbound.is_empty());
//! ```
#![forbid(unsafe_code)]

pub mod client;
mod error;
pub mod server;
pub mod session;
pub mod topic_alias;
