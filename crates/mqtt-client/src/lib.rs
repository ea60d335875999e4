//! An MQTT client for tokio: versions 3.1, 3.1.1 and 5.0, over TCP or any stream of bytes.
//!
//! [`Client::connect`] gives a [`Client`], which publishes and subscribes and can be cloned, and [`Messages`], what
//! arrives. Publishing with QoS 1 or 2 waits for the broker's word; messages that nobody takes hold the connection
//! back instead of piling up.
//!
//! Not for: TLS, WebSocket and automatic reconnection, which do not exist yet: when the connection is lost,
//! [`Messages::next`] says why.
//!
//! ```
//! use mqtt_client::{Client, Options};
//! use mqtt_wire::{Publish, QoS, TopicName};
//! # use mqtt_wire::{ConnAck, Decoder, Packet, Properties, ReasonCode, Version};
//! # use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # let (stream, mut broker) = tokio::io::duplex(1024);
//! # tokio::spawn(async move {
//! #     let mut input = bytes::BytesMut::new();
//! #     broker.read_buf(&mut input).await.unwrap();
//! #     let connack = ConnAck { session_present: false, reason_code: ReasonCode::Success, properties: Properties::default() };
//! #     let mut out = bytes::BytesMut::new();
//! #     Packet::from(connack).encode(Version::V5, &mut out).unwrap();
//! #     broker.write_all(&out).await.unwrap();
//! #     while broker.read_buf(&mut input).await.unwrap() > 0 {}
//! # });
//! // `Client::connect_tcp("localhost:1883", Options::new("example"))` does the same over TCP.
//! let (client, _messages) = Client::connect(stream, Options::new("example")).await?;
//! let publish = Publish::new(TopicName::new("mesh/lamp/set")?, QoS::AtMostOnce, "ON");
//! client.publish(publish).await?;
//! client.disconnect().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
#![forbid(unsafe_code)]

mod client;
mod driver;
mod options;

pub use client::{Client, Messages};
pub use options::{ConnectError, Error, Options};
