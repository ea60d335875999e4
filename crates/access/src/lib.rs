//! Who may connect, and what they may publish and subscribe to: a password file and an ACL file.
//!
//! [`Users`] holds the entries of a password file, one line each, hashed with Argon2id. [`Acl`] holds the rules of an
//! ACL file; the first that speaks of a request decides, and what no rule speaks of is denied. [`scram`] is for clients
//! that prove their password without sending it.
//!
//! Not for: reading files, threads to hash on, or what follows from an answer (`mqtt-server`, `mqtt-broker`). This
//! crate does no I/O: it is given text and salt.
//!
//! ```
//! use access::{Acl, Identity, Users, entry};
//! use mqtt_wire::{TopicFilter, TopicName};
//!
//! let users = Users::parse(&entry("ann", b"correct horse", b"a salt of 16 byte")?)?;
//! assert!(users.verify("ann", b"correct horse") && !users.verify("ann", b"guess"));
//!
//! let acl = Acl::parse(
//!     r#"
//!     [[rules]]
//!     allow = "all"
//!     topics = ["home/${username}/#"]
//!     "#,
//! )?;
//! let ann = Identity { username: Some("ann"), client_id: "phone" };
//! assert!(acl.may_publish(&ann, &TopicName::new("home/ann/door")?));
//! assert!(!acl.may_subscribe(&ann, &TopicFilter::new("home/#")?));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod acl;
mod password;
mod pattern;
pub mod scram;

pub use acl::{Acl, AclError, Identity};
pub use password::{EntryError, Users, UsersError, entry, scram_entry, without};
