//! Bluetooth Mesh on MQTT topics: every lamp of a mesh is a topic, and its state is what the lamp has confirmed.
//!
//! [`Gateway`] holds the gateway's own mesh node and the rules of its topics. PDUs of a bearer and messages of a
//! broker go in and out, and time is an argument: the same gateway runs in front of any broker, over any radio,
//! and in a simulation.
//!
//! Not for: connecting to brokers and radios (its host does), or changing the network (commissioning does not exist
//! yet).
//!
//! ```
//! use clock::Instant;
//! use gateway::{Gateway, GatewayConfig, Inbox};
//! use mesh_commission::cdb::NetworkDatabase;
//!
//! let database = NetworkDatabase::from_json(include_str!("../tests/network.json")).unwrap();
//! let config = GatewayConfig::new([0; 32]);
//! let mut gateway = Gateway::new(Instant::ORIGIN, &config, &database, []).unwrap();
//! assert_eq!(gateway.subscriptions()[0].0, "mesh/#");
//! // What it must remember is stored before anything is sent.
//! assert!(!gateway.take_records().is_empty() && gateway.poll_transmit().is_none());
//! gateway.handle_stored(Instant::ORIGIN);
//! // It asks its nodes what they are; until they have said it, they cannot be controlled.
//! assert!(gateway.poll_transmit().is_some());
//! let command = Inbox::new("mesh/lamp/set", b"ON").answered_on("answers", None);
//! gateway.handle_publish(Instant::ORIGIN, &command);
//! let answer = std::iter::from_fn(|| gateway.poll_publish()).find(|x| x.topic == "answers").unwrap();
//! assert!(String::from_utf8(answer.payload).unwrap().contains("has not said yet what it is"));
//! ```
#![forbid(unsafe_code)]

mod bridge;
mod capabilities;
mod command;
mod convert;
mod devices;
mod discovery;
mod elements;
mod exposes;
mod facts;
mod gateway;
mod groups;
mod own_node;
mod plan;
mod record;
pub mod reference;
mod requester;
mod scheduler;
mod sensors;
mod shadow;
mod topics;

pub use crate::bridge::{Inbox, Publication, Statistics};
pub use crate::command::SetCommandError;
pub use crate::devices::{Device, Endpoint};
pub use crate::elements::{MqttDevice, MqttDeviceKind};
pub use crate::gateway::{Gateway, GatewayConfig, GatewayError};
pub use crate::scheduler::Airtime;
pub use crate::shadow::Shadow;
pub use crate::topics::NameError;
