//! A shard of the broker as a state machine: sessions, subscriptions, routing, retained messages, wills.
//!
//! A broker is several [`Shard`]s that share one [`Shared`]: the route table, which says which shards a topic
//! interests, and the retained messages. A session belongs to one shard, [`Shared::shard_of`] its Client
//! Identifier, and everything about it is plain single-threaded code. Shards hand each other messages in batches
//! ([`Shard::poll_peer`], [`Shard::handle_peer`]), and only where there is interest.
//!
//! Not for: sockets and threads (`mqtt-server`), or keeping anything over a restart.
//!
//! ```
//! use bytes::BytesMut;
//! use clock::Instant;
//! use mqtt_broker::{Limits, Shard, Shared};
//! use mqtt_wire::{Connect, Decoder, Packet, Text, Version};
//!
//! let shared = Shared::new(1, Limits::default());
//! let mut shard = Shard::new(0, shared);
//! let connect = Connect::new(Version::V5, Text::new("lamp").unwrap());
//! let id = shard.handle_connect(Instant::ORIGIN, connect, Decoder::new(Version::V5, 1024)).unwrap();
//! let (connection, output) = shard.poll_transmit().unwrap();
//! assert_eq!(connection, id);
//! let connack = Decoder::new(Version::V5, 1024).decode(&mut BytesMut::from(&output.bytes[..]));
//! assert!(matches!(connack, Ok(Some(Packet::ConnAck(_)))));
//! ```
#![forbid(unsafe_code)]

mod client;
mod limits;
mod message;
mod retained;
mod routes;
mod shard;
mod stats;
mod subscriptions;

use std::sync::Arc;

use arc_swap::ArcSwapOption;

pub use limits::Limits;
pub use message::Message;
pub use retained::RetainedMessages;
pub use routes::{RouteTable, ShardId, ShardSet};
pub use shard::{ConnectionId, EndReason, Ended, Output, PeerMessage, Shard};
pub use shard::{Credentials, Lookup, LookupId, Opening, Refusal, Verdict};
pub use stats::Stats;
pub use subscriptions::SubscriptionTree;

/// What all shards of a broker share, and nothing else is.
#[derive(Debug)]
pub struct Shared {
    /// Which shards a topic interests.
    pub routes: RouteTable,
    /// The retained messages.
    pub retained: RetainedMessages,
    /// The rules of access, which may be replaced at any time; without any, everybody may do everything.
    pub acl: ArcSwapOption<access::Acl>,
    /// The limits.
    pub limits: Limits,
    shards: usize,
}

/// Sessions are spread over so many partitions, and these over the shards: the number of cores may change, a
/// session's partition does not.
const PARTITIONS: u64 = 256;

impl Shared {
    /// For a broker of `shards` shards, 1 to 64.
    pub fn new(shards: usize, limits: Limits) -> Arc<Self> {
        let shards = shards.clamp(1, ShardSet::MAX);
        let retained = RetainedMessages::new(limits.max_retained, limits.max_retained_bytes);
        Arc::new(Self { routes: RouteTable::new(), retained, acl: ArcSwapOption::empty(), limits, shards })
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// The shard that the session of this Client Identifier belongs to.
    pub fn shard_of(&self, client_id: &str) -> ShardId {
        let partition = stable_hash(client_id.as_bytes()) % PARTITIONS;
        usize::try_from(partition).unwrap_or(0) % self.shards
    }
}

/// FNV-1a, 64 bits: the same on every machine and in every version, as partitions outlive both.
fn stable_hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
