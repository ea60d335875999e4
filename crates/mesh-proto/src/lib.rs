//! A Bluetooth Mesh node, from the bearer to the foundation models, as a state machine without I/O.
//!
//! The modules are the layers of the Mesh Protocol specification, and each imports only those before it:
//! keys, bearer, provisioning, beacon, network, proxy, lower transport, upper transport, friend, low power, heartbeat,
//! access, foundation, node.
//! [`node::Node`] joins them: advertisements go in and out, commands and events connect it to its host, and time is
//! an argument. [`provisioning`] makes a device a node, and is on its own.
//!
//! Not for: radios and clocks (a driver's), models other than the foundation models (`mesh-models`), storing what
//! must outlast a restart (the node says what that is; its host stores it).
//!
//! ```
//! use clock::Instant;
//! use mesh_crypto::{AppKey, DevKey, NetKey};
//! use mesh_proto::access::Element;
//! use mesh_proto::bearer::Received;
//! use mesh_proto::foundation::Product;
//! use mesh_proto::keys::MessageKey;
//! use mesh_proto::network::Relay;
//! use mesh_proto::node::{Command, Node, NodeConfig, NodeOptions, OutgoingMessage, Provisioned};
//! use mesh_proto::upper_transport::Destination;
//! use mesh_wire::address::UnicastAddress;
//! use mesh_wire::foundation::ConfigMessage;
//! use mesh_wire::{CompanyId, IvIndex, NetKeyIndex, Transmit, Ttl};
//!
//! # fn node(address: u16) -> Node {
//! #     let transmit = Transmit::from_octet(0);
//! #     Node::new(
//! #         Provisioned {
//! #             net_key: NetKey::new([1; 16]),
//! #             net_key_index: NetKeyIndex::ZERO,
//! #             iv_index: IvIndex(0),
//! #             address: UnicastAddress::new(address).unwrap(),
//! #             dev_key: DevKey::new([2; 16]),
//! #         },
//! #         NodeConfig {
//! #             product: Product { company: CompanyId(0xffff), product: 1, version: 1 },
//! #             elements: vec![Element::new(0)],
//! #             network_transmit: transmit,
//! #             relay: Relay { enabled: false, retransmit: transmit },
//! #             default_ttl: Ttl::new(5).unwrap(),
//! #             seed: [0; 32],
//! #             options: NodeOptions::default(),
//! #         },
//! #     )
//! # }
//! // A Configuration Client that holds the other node's device key asks it what it is.
//! let (mut client, mut server) = (node(0x0001), node(0x0002));
//! let now = Instant::ORIGIN;
//! let address = server.address();
//! let key = DevKey::new([2; 16]);
//! client.handle_command(now, Command::AddDeviceKey { address, elements: 1, key }).unwrap();
//! let request = OutgoingMessage {
//!     element: 0,
//!     destination: Destination::Address(address.into()),
//!     key: MessageKey::RemoteDevice,
//!     ttl: None,
//!     payload: ConfigMessage::CompositionDataGet { page: 0 }.encode(),
//!     segmented: false,
//! };
//! client.handle_command(now, Command::Send(request)).unwrap();
//! let sent = client.poll_transmit().unwrap();
//! server.handle_pdu(now, &Received { ad_type: sent.ad_type, data: &sent.data, rssi: -50 });
//! // The answer waits for 20 to 50 ms.
//! assert!(server.poll_timeout().unwrap() > now);
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "sabotage")]
extern crate std;

mod discard;

pub mod access;
pub mod beacon;
pub mod bearer;
pub mod foundation;
pub mod friend;
pub mod heartbeat;
pub mod keys;
pub mod low_power;
pub mod lower_transport;
pub mod network;
pub mod node;
pub mod provisioning;
pub mod proxy;
pub mod sabotage;
pub mod upper_transport;

pub use discard::{Discard, DiscardCounts};
