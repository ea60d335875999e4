//! Bearers of Bluetooth Mesh on sockets and devices: they carry advertisements and decide nothing.
//!
//! [`UnixDatagram`] speaks the protocol of the "unit" io of BlueZ's `bluetooth-meshd`, on which mesh nodes of one
//! machine hear each other without a radio. [`Repeater`] sends each transmission as often, and as far apart, as the
//! node that handed it out has asked for.
//!
//! Not for: deciding what is sent (`mesh-proto`), simulating a radio (`mesh-sim`), or real radios, which are to come.
//!
//! ```
//! use clock::Instant;
//! use core::time::Duration;
//! use mesh_io::Repeater;
//! use mesh_proto::bearer::Transmission;
//! use mesh_wire::bearer::AdType;
//!
//! let transmission = Transmission {
//!     ad_type: AdType::MeshMessage,
//!     data: [0x68, 1, 2, 3][..].into(),
//!     count: 2,
//!     interval: Duration::from_millis(20),
//!     delay: Duration::ZERO,
//! };
//! let mut repeater = Repeater::new([0; 32]);
//! repeater.push(Instant::ORIGIN, transmission);
//! assert!(repeater.pop_due(Instant::ORIGIN).is_some());
//! assert!(repeater.pop_due(Instant::ORIGIN).is_none());
//! // The second follows 20 to 30 ms after the first.
//! assert!(repeater.poll_timeout().unwrap() >= Instant::ORIGIN + Duration::from_millis(20));
//! ```
#![forbid(unsafe_code)]

mod repeater;
mod unix_datagram;

pub use repeater::Repeater;
pub use unix_datagram::{Advertisement, UnixDatagram};
