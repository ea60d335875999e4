//! Messages of the foundation models (MshPRT §4.3), little-endian: what the Configuration Server and Client
//! exchange about keys, bindings, subscriptions, publication, heartbeats and composition data, and what the Health
//! Server and Client exchange about faults.

mod composition;
mod config;
mod health;
mod heartbeat;
mod publication;
mod status;

pub use composition::{CompositionData, ElementDescription, Features};
pub use config::{ConfigMessage, FeatureState, KeyRefreshTransition, ModelRef, SubscriptionChange};
pub use health::{FaultStatus, HealthMessage};
pub use heartbeat::{HeartbeatPublication, HeartbeatSubscription};
pub use publication::{Publication, PublishDestination, PublishPeriod, PublishRetransmit};
pub use status::Status;
