//! A seeded radio world: Bluetooth advertising between stations that have positions, walls between them, and one
//! antenna each.
//!
//! [`Medium`] carries advertisements and knows nothing of the mesh; [`World`] joins it with [`mesh_proto`]'s nodes.
//! Time is an argument: the same world runs as fast as it can in tests, and at the pace of a clock in the demo.
//! The same seed gives the same event log, byte for byte.
//!
//! Not for: real radios, energy, or connections (GATT).
//!
//! ```
//! use clock::Instant;
//! use core::time::Duration;
//! use mesh_proto::bearer::Transmission;
//! use mesh_sim::{MediumConfig, Position, World};
//! use mesh_wire::bearer::AdType;
//!
//! let mut world = World::new(1, MediumConfig { interference: 0.0, ..MediumConfig::default() });
//! let speaker = world.add_port("speaker", Position::new(0.0, 0.0));
//! let listener = world.add_port("listener", Position::new(3.0, 0.0));
//! let data = [1, 2, 3].as_slice().into();
//! let (interval, delay) = (Duration::from_millis(20), Duration::ZERO);
//! let ad_type = AdType::MeshMessage;
//! world.transmit(speaker, Transmission { ad_type, data, count: 1, interval, delay });
//! world.handle_timeout(Instant::ORIGIN + Duration::from_millis(50));
//! let (station, received) = world.poll_received().unwrap();
//! assert_eq!((station, &received.data[..]), (listener, &[1, 2, 3][..]));
//! ```
#![forbid(unsafe_code)]

pub mod building;
mod config;
mod medium;
mod pcap;
mod relays;
mod world;

pub use config::{AdvertiserTiming, Floor, MediumConfig, Position, Scan, Wall};
pub use medium::{LinkCounts, Medium, Reception, StationId};
pub use pcap::Pcap;
pub use world::{OwnedReceived, World};
