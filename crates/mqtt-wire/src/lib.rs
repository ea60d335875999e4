//! MQTT 3.1, 3.1.1 and 5.0 packets: bytes to types and back.
//!
//! There is one set of types for all versions; what a version does not have is absent. Decoding is strict:
//! every malformed form that the standards name is a [`DecodeError`], which knows the reason code to close
//! with, and nothing beyond the packet is looked at. Payloads and texts are slices of the input, not copies.
//!
//! Not for: what may be sent when, and by whom (`mqtt-proto`).
//!
//! ```
//! use bytes::BytesMut;
//! use mqtt_wire::{Decoder, Packet, Publish, QoS, TopicName, Version};
//!
//! let publish = Publish::new(TopicName::new("mesh/lamp/set").unwrap(), QoS::AtMostOnce, "ON");
//! let mut wire = BytesMut::new();
//! Packet::from(publish.clone()).encode(Version::V5, &mut wire).unwrap();
//!
//! let mut decoder = Decoder::new(Version::V5, 1024);
//! let mut first_half = wire.split_to(7);
//! assert_eq!(decoder.decode(&mut first_half), Ok(None), "more bytes are needed");
//! first_half.unsplit(wire);
//! assert_eq!(decoder.decode(&mut first_half), Ok(Some(Packet::from(publish))));
//! ```
#![forbid(unsafe_code)]

mod cursor;
mod decoder;
mod error;
mod packet;
mod property;
mod reason_code;
mod text;
mod topic;

pub use decoder::Decoder;
pub use error::{DecodeError, EncodeError};
pub use packet::{
    Ack, AckKind, Auth, ConnAck, Connect, Disconnect, Packet, PacketId, Publish, QoS, RetainHandling, SubAck,
    Subscribe, SubscribeFilter, SubscriptionOptions, UnsubAck, Unsubscribe, Version, Will,
};
pub use property::{Properties, PropertyScope, property_scopes};
pub use reason_code::ReasonCode;
pub use text::{Text, TextError};
pub use topic::{TopicError, TopicFilter, TopicName};
