//! A shard of the broker as a state machine: sessions, subscriptions, routing, retained messages, wills.
//!
//! A broker is several [`Shard`]s that share one [`Shared`]: the route table, which says which shards a topic
//! interests, and the retained messages. A session belongs to one shard, [`Shared::shard_of`] its Client
//! Identifier, and everything about it is plain single-threaded code. Shards hand each other messages in batches
//! ([`Shard::poll_peer`], [`Shard::handle_peer`]), and only where there is interest.
//!
//! What outlasts a restart is appended to a log in memory (`journal`), whose writer is somebody else's; what an earlier
//! run wrote is put together by [`Recovery`].
//!
//! Not for: sockets, threads and disks (`mqtt-server`, `journal`).
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
mod durable;
mod end;
mod filters;
mod lanes;
mod limits;
mod memory;
mod message;
mod overflow;
mod queue;
mod retained;
mod routes;
mod row;
pub mod sabotage;
mod shard;
mod shared;
mod stats;
mod subscriptions;
mod sys_topics;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use journal::log::Log;
use mqtt_wire::Text;

pub use durable::{ExportError, Import, LineError, Recovery, Totals, Unreadable};
pub use end::{EndKind, EndReason, Ended};
pub use lanes::PeerMessage;
pub use limits::{Limits, OnQuota, SharedStrategy};
pub use memory::Memory;
pub use message::Message;
pub use overflow::{BLOCK, Blocks};
pub use retained::{RetainedMessages, Scan};
pub use routes::{RouteTable, ShardId, ShardSet};
pub use shard::{ConnectionId, Job, Load, Output, Shard};
pub use shard::{Credentials, Lookup, LookupId, Opening, Refusal, Verdict};
pub use stats::Stats;
pub use subscriptions::SubscriptionTree;
pub use sys_topics::{SysTopics, SystemInfo};

/// How a broker is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What clients may use.
    pub limits: Limits,
    /// The node's name in `$SYS/brokers/…`.
    pub node: String,
    /// What clients of MQTT 5.0 that ask for Response Information get (§3.2.2.3.15).
    pub response_information: Option<Text>,
    /// The wall clock's time at [`clock::Instant::ORIGIN`], since 1970, for events that people read.
    pub started: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            node: "trellis@127.0.0.1".to_owned(),
            response_information: None,
            started: Duration::ZERO,
        }
    }
}

/// What all shards of a broker share, and nothing else is.
#[derive(Debug)]
pub struct Shared {
    /// Which shards a topic interests.
    pub routes: RouteTable,
    /// The retained messages.
    pub retained: RetainedMessages,
    /// The rules of access, which may be replaced at any time; without any, everybody may do everything.
    pub acl: ArcSwapOption<access::Acl>,
    /// Users that may prove their password instead of sending it, which may be replaced at any time.
    pub scram: ArcSwapOption<access::scram::Verifiers>,
    /// The limits.
    pub limits: Limits,
    /// How it is set up.
    pub settings: Settings,
    /// The memory that messages take.
    pub memory: Memory,
    /// What outlasts a restart; without a log nothing does.
    pub log: Option<Arc<Log>>,
    order: lanes::RetainedOrder,
    shards: usize,
}

/// Sessions are spread over so many partitions, and these over the shards: the number of cores may change, a
/// session's partition does not.
const PARTITIONS: usize = 256;

impl Shared {
    /// For a broker of `shards` shards, 1 to 64.
    pub fn new(shards: usize, limits: Limits) -> Arc<Self> {
        Self::with_settings(shards, Settings { limits, ..Settings::default() })
    }

    /// The same, with more to set.
    pub fn with_settings(shards: usize, settings: Settings) -> Arc<Self> {
        Self::with_log(shards, settings, None)
    }

    /// The same, with a log, whose records an earlier run wrote ([`Recovery`]) and this one goes on with.
    pub fn with_log(shards: usize, settings: Settings, log: Option<Arc<Log>>) -> Arc<Self> {
        let shards = shards.clamp(1, ShardSet::MAX);
        let limits = settings.limits;
        Arc::new(Self {
            routes: RouteTable::new(),
            retained: RetainedMessages::new(limits.max_retained, limits.max_retained_bytes),
            acl: ArcSwapOption::empty(),
            scram: ArcSwapOption::empty(),
            limits,
            settings,
            memory: Memory::new(shards, limits.max_memory),
            log,
            order: lanes::RetainedOrder::new(shards),
            shards,
        })
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// The shard that the session of this Client Identifier belongs to.
    pub fn shard_of(&self, client_id: &str) -> ShardId {
        shard_of_partition(partition_of(client_id.as_bytes()), self.shards)
    }

    /// The shard that owns a shared subscription, by its whole filter.
    pub(crate) fn shard_of_group(&self, group: &mqtt_wire::TopicFilter) -> ShardId {
        shard_of_partition(partition_of(group.as_bytes()), self.shards)
    }
}

fn partition_of(name: &[u8]) -> usize {
    usize::try_from(stable_hash(name) % PARTITIONS as u64).unwrap_or(0)
}

/// The shard of a partition, of so many.
fn shard_of_partition(partition: usize, shards: usize) -> ShardId {
    partition % shards.max(1)
}

/// FNV-1a, 64 bits: the same on every machine and in every version, as partitions outlive both.
fn stable_hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
