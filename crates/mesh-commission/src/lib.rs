//! The network database: keys, nodes, addresses and names of a mesh network, in the Mesh Configuration Database
//! format 1.0.1.
//!
//! Other programs write and read the same files. What they write beyond the format is passed over, and older
//! spellings are understood.
//!
//! Not for: changing a network (commissioning jobs do not exist yet), or the IV Index and sequence numbers, which
//! are not part of the format.
//!
//! ```
//! use mesh_commission::cdb::NetworkDatabase;
//!
//! let error = NetworkDatabase::from_json(r#"{"meshName": "Home"}"#).unwrap_err();
//! assert!(error.to_string().contains("missing field"), "{error}");
//! ```
#![forbid(unsafe_code)]

pub mod cdb;
