//! An MQTT client for tokio: versions 3.1, 3.1.1 and 5.0, over TCP, TLS, WebSocket, or any stream of bytes.
//!
//! [`Client::open`] and [`Client::connect`] give a [`Client`], which publishes and subscribes and can be cloned, and
//! [`Messages`], what arrives. Publishing with QoS 1 or 2 waits for the broker's word; messages that nobody takes hold
//! the connection back instead of piling up. With [`Options::reconnect`] a lost connection is made again: the session
//! goes on, unacknowledged messages are sent again, and subscriptions that the broker has forgotten are made anew.
//!
//! With [`Options::scram`] the password is proved (MQTT 5.0 §4.12) and not sent. Topics that come again and again are sent
//! as numbers where both sides allow it; nobody has to ask for that.
//!
//! Not for: keeping anything over a restart of the program.
//!
//! ```no_run
//! use mqtt_client::{Broker, Client, Options, Reconnect};
//! use mqtt_wire::{QoS, SubscribeFilter, SubscriptionOptions, TopicFilter};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let broker: Broker = "mqtts://broker.example".parse()?;
//! let options = Options {
//!     username: Some("ann".to_owned()),
//!     password: Some(b"secret".to_vec()),
//!     session_expiry_interval: Some(3600),
//!     reconnect: Some(Reconnect::default()),
//!     ..Options::new("kitchen-panel")
//! };
//! let (client, mut messages) = Client::open(broker, options).await?;
//! let filter = TopicFilter::new("home/+/temperature")?;
//! let options = SubscriptionOptions::at_most(QoS::AtLeastOnce);
//! client.subscribe(vec![SubscribeFilter { filter, options }]).await?;
//! loop {
//!     let message = messages.next().await?;
//!     println!("{} {:?}", message.topic, message.payload);
//! }
//! # }
//! ```
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
//! // Over any stream of bytes, here one in memory.
//! let (client, _messages) = Client::connect(stream, Options::new("example")).await?;
//! let publish = Publish::new(TopicName::new("mesh/lamp/set")?, QoS::AtMostOnce, "ON");
//! client.publish(publish).await?;
//! client.disconnect().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
#![forbid(unsafe_code)]

mod broker;
mod client;
mod driver;
mod options;
mod subscriptions;

pub use broker::{Broker, BrokerError, Scheme, Tls};
pub use client::{Client, Messages, Status};
pub use mqtt_io::tls::TlsError;
pub use options::{ConnectError, Error, Options, Reconnect};
