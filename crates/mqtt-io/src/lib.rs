//! What carries MQTT besides plain TCP, for both sides of a connection: bytes over a WebSocket, and the files of TLS.
//!
//! [`websocket`] turns the messages of a WebSocket into the stream of bytes that MQTT is (MQTT 5.0 §6). [`tls`] reads
//! certificates, keys and revocation lists, and names the one cryptography provider that the whole workspace uses.
//!
//! Not for: listening or connecting (`mqtt-server`, `mqtt-client`), nor for what the bytes mean (`mqtt-wire`).
//!
//! ```
//! use mqtt_io::websocket::{self, Offer};
//! use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let (near, far) = tokio::io::duplex(4096);
//! let offer = Offer { path: "/mqtt", max_message_size: 1 << 20, allows_origin: &|_| true };
//! let (client, server) =
//!     tokio::join!(websocket::connect(near, "ws://localhost/mqtt", &[]), websocket::accept(far, offer));
//! let (mut client, mut server) = (client?, server?);
//! client.write_all(b"\xc0\x00").await?;
//! client.flush().await?;
//! let mut pingreq = [0; 2];
//! server.read_exact(&mut pingreq).await?;
//! assert_eq!(pingreq, *b"\xc0\x00");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
#![forbid(unsafe_code)]

pub mod tls;
pub mod websocket;
