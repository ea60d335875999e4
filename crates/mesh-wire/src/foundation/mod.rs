//! Messages of the foundation models (MshPRT §4.3), little-endian: what the Configuration Server and Client
//! exchange about keys, bindings, subscriptions, publication and composition data.

mod composition;
mod config;
mod publication;
mod status;

pub use composition::{CompositionData, ElementDescription, Features};
pub use config::{ConfigMessage, FeatureState, ModelRef, SubscriptionChange};
pub use publication::{Publication, PublishDestination, PublishPeriod, PublishRetransmit};
pub use status::Status;
