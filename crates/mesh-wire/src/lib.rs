//! Every PDU of the Mesh Protocol that Trellis speaks: bytes to types and back, by the specification's names.
//!
//! Decoding takes a slice and returns a whole value or a [`DecodeError`]; it never panics and never looks
//! past the slice. Encoding cannot fail, because the types hold only what can be encoded. Network and
//! transport are big-endian, access messages little-endian (MshPRT §3.1.1).
//!
//! Not for: state of any kind. What a PDU means for a node is decided in `mesh-proto`.
//!
//! ```
//! use mesh_wire::access::Opcode;
//! use mesh_wire::address::Address;
//! use mesh_wire::lower_transport::LowerTransportPdu;
//!
//! let (opcode, parameters) = Opcode::decode(&[0x82, 0x02, 0x01, 0x07]).unwrap();
//! assert_eq!((opcode, parameters), (Opcode::Two(0x8202), &[0x01, 0x07][..]));
//! assert_eq!(Address::from(0xffff).to_string(), "ffff");
//! // A segment acknowledgment has 7 octets.
//! assert!(LowerTransportPdu::decode(true, &[0, 0xa6, 0xac, 0, 0, 0]).is_err());
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod access;
pub mod address;
pub mod beacon;
pub mod bearer;
pub mod directed_forwarding;
pub mod foundation;
pub mod friendship;
pub mod heartbeat;
pub mod lower_transport;
pub mod network;
mod numbers;
pub mod provisioning;
pub mod proxy_configuration;
mod reader;

pub use numbers::{
    AppKeyIndex, CompanyId, IvIndex, KeyIndex, ModelId, NetKeyIndex, Seq, SeqAuth, SeqZero, Transmit, Ttl,
};
pub use reader::{DecodeError, Reader};
