//! The Proxy protocol (MshPRT §6) on GATT connections: what goes over a connection, and what does not. The connections
//! themselves are the host's, which hands over what was written and notified.

mod filter;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use clock::Instant;
use mesh_wire::address::Address;
use mesh_wire::beacon::{Beacon, SecureNetwork};
use mesh_wire::bearer::proxy::{MessageType, segment};
use mesh_wire::bearer::proxy_service::ProxyIdentification;
use mesh_wire::proxy_configuration::{Addresses, MAX_ADDRESSES, ProxyConfiguration};
use mesh_wire::{IvIndex, NetKeyIndex};

use crate::bearer::{ProxyProtocolError, ProxyReassembler};
pub use filter::{Filter, MAX_FILTER_ADDRESSES};

/// Connections that a node keeps at the same time; more are refused.
pub const MAX_CONNECTIONS: usize = 8;

/// Proxy PDUs that may wait for the host to take them. A connection over which nothing goes any more is ended.
const MAX_WAITING: usize = 1024;

/// What a beacon says of a subnet: index, Network ID, Flags, IV Index.
pub type SubnetState = (NetKeyIndex, [u8; 8], u8, IvIndex);

/// What names a connection; the host chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(pub u16);

/// Which end of a connection the node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyRole {
    /// It has the Mesh Proxy Service, and passes messages on for the client.
    Server,
    /// It reaches the network through the server.
    Client,
}

/// What the host is to do with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyOutput {
    /// Write this to Mesh Proxy Data In (client), or notify it with Data Out (server).
    Pdu {
        /// The connection.
        connection: ConnectionId,
        /// A Proxy PDU.
        octets: Vec<u8>,
    },
    /// End it.
    Disconnect(ConnectionId),
}

/// The connections of a node, and what it advertises as a proxy.
#[derive(Debug, Default)]
pub struct Proxy {
    connections: BTreeMap<ConnectionId, Connection>,
    output: VecDeque<ProxyOutput>,
    /// What clients were told last: they get what is new.
    told: BTreeSet<SubnetState>,
    /// What is drawn for a Node Identity while it is advertised.
    identities: BTreeMap<NetKeyIndex, (Instant, ProxyIdentification)>,
    advertised: Vec<ProxyIdentification>,
    is_advertising_new: bool,
}

/// One connection. `pdu_size` and all else are fixed with it; Proxy Privacy of Mesh Protocol 1.1 would be too.
#[derive(Debug)]
struct Connection {
    role: ProxyRole,
    /// Octets of a Proxy PDU: ATT_MTU - 3.
    pdu_size: usize,
    reassembler: ProxyReassembler,
    /// The server's.
    filter: Filter,
    /// What a client has asked for; `None`: the host sees to that.
    asked: Option<BTreeSet<Address>>,
}

impl Proxy {
    /// A connection is there; on a server its filter is an empty accept list. Returns whether there was room for it.
    pub fn connect(&mut self, connection: ConnectionId, role: ProxyRole, pdu_size: usize) -> bool {
        if self.connections.len() >= MAX_CONNECTIONS && !self.connections.contains_key(&connection) {
            self.output.push_back(ProxyOutput::Disconnect(connection));
            return false;
        }
        let (reassembler, filter) = (ProxyReassembler::default(), Filter::default());
        let asked = Some(BTreeSet::new());
        self.connections.insert(connection, Connection { role, pdu_size, reassembler, filter, asked });
        true
    }

    /// A connection is gone, and its filter with it.
    pub fn disconnected(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
        self.output.retain(|output| match output {
            ProxyOutput::Pdu { connection: of, .. } | ProxyOutput::Disconnect(of) => *of != connection,
        });
    }

    /// Ends a connection.
    pub fn disconnect(&mut self, connection: ConnectionId) {
        if self.connections.contains_key(&connection) {
            self.disconnected(connection);
            self.output.push_back(ProxyOutput::Disconnect(connection));
        }
    }

    /// Ends the connections of all clients: the GATT Proxy state was turned off (MshPRT §4.2.12).
    pub fn disconnect_clients(&mut self) {
        let clients: Vec<ConnectionId> = self.clients().collect();
        clients.into_iter().for_each(|client| self.disconnect(client));
    }

    /// Which end of the connection this node is.
    pub fn role(&self, connection: ConnectionId) -> Option<ProxyRole> {
        self.connections.get(&connection).map(|x| x.role)
    }

    /// The filter that a client behind this connection set.
    pub fn filter(&mut self, connection: ConnectionId) -> Option<&mut Filter> {
        self.connections.get_mut(&connection).map(|x| &mut x.filter)
    }

    /// The connections on which this node is the server.
    pub fn clients(&self) -> impl Iterator<Item = ConnectionId> {
        self.of_role(ProxyRole::Server)
    }

    /// The connections on which this node is the client.
    pub fn servers(&self) -> impl Iterator<Item = ConnectionId> {
        self.of_role(ProxyRole::Client)
    }

    fn of_role(&self, role: ProxyRole) -> impl Iterator<Item = ConnectionId> {
        self.connections.iter().filter(move |(_, x)| x.role == role).map(|(&id, _)| id)
    }

    /// What a client has to ask its server for, so that it gets what is for `wanted`: its list begins empty, and the
    /// server accepts what is in it.
    pub fn follow_filter(
        &mut self,
        server: ConnectionId,
        wanted: &BTreeSet<Address>,
    ) -> Vec<ProxyConfiguration> {
        let open = self.connections.get_mut(&server);
        let Some(asked) = open.and_then(|open| open.asked.as_mut()).filter(|asked| *asked != wanted) else {
            return Vec::new();
        };
        let part = |addresses: &[Address]| -> Addresses { addresses.iter().copied().collect() };
        let added: Vec<Address> = wanted.difference(asked).copied().collect();
        let removed: Vec<Address> = asked.difference(wanted).copied().collect();
        asked.clone_from(wanted);
        let added = added.chunks(MAX_ADDRESSES).map(|x| ProxyConfiguration::AddAddresses(part(x)));
        let removed = removed.chunks(MAX_ADDRESSES).map(|x| ProxyConfiguration::RemoveAddresses(part(x)));
        added.chain(removed).collect()
    }

    /// Leaves it to the host what a client asks for.
    pub fn take_over_filter(&mut self, server: ConnectionId) {
        if let Some(open) = self.connections.get_mut(&server) {
            open.asked = None;
        }
    }

    /// Takes a Proxy PDU. Returns the message that it makes whole; a connection that breaks the protocol is ended.
    pub fn receive(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        octets: &[u8],
    ) -> Option<(MessageType, Vec<u8>)> {
        let result = self.connections.get_mut(&connection)?.reassembler.handle_pdu(now, octets);
        self.or_disconnect(connection, result).flatten()
    }

    fn or_disconnect<T>(
        &mut self,
        connection: ConnectionId,
        result: Result<T, ProxyProtocolError>,
    ) -> Option<T> {
        if result.is_err() {
            self.disconnect(connection);
        }
        result.ok()
    }

    /// Sends a message over one connection.
    pub fn send(&mut self, connection: ConnectionId, message_type: MessageType, message: &[u8]) {
        let Some(open) = self.connections.get(&connection) else { return };
        if self.output.len() >= MAX_WAITING {
            self.disconnect(connection);
            return;
        }
        let pdus = segment(message_type, message, open.pdu_size);
        self.output.extend(pdus.into_iter().map(|octets| ProxyOutput::Pdu { connection, octets }));
    }

    /// Sends a network PDU over all connections but the one that it came from: to servers, and to the clients whose
    /// filters let it through (MshPRT §6.4).
    pub fn send_network_pdu(&mut self, dst: Address, octets: &[u8], except: Option<ConnectionId>) {
        let wanted = |(id, open): (&ConnectionId, &Connection)| {
            let passes = open.role == ProxyRole::Client || open.filter.passes(dst);
            (passes && Some(*id) != except).then_some(*id)
        };
        let connections: Vec<ConnectionId> = self.connections.iter().filter_map(wanted).collect();
        for connection in connections {
            self.send(connection, MessageType::NetworkPdu, octets);
        }
    }

    /// Whether there is any connection.
    pub fn is_idle(&self) -> bool {
        self.connections.is_empty()
    }

    /// The subnets of which there is something new to tell: another IV Index, other flags, or that they are there
    /// (MshPRT §6.7).
    pub fn news(&mut self, states: BTreeSet<SubnetState>) -> Vec<NetKeyIndex> {
        let news = states.difference(&self.told).map(|&(index, ..)| index).collect();
        self.told = states;
        news
    }

    /// Sends one client a beacon.
    pub fn send_beacon(&mut self, client: ConnectionId, beacon: SecureNetwork) {
        let beacon = Beacon::SecureNetwork(beacon).encode();
        self.send(client, MessageType::MeshBeacon, &beacon);
    }

    /// What identifies the node in a subnet until `end`; `draw` makes it when it is not there yet.
    pub fn identity(
        &mut self,
        subnet: NetKeyIndex,
        end: Instant,
        draw: impl FnOnce() -> ProxyIdentification,
    ) -> ProxyIdentification {
        match self.identities.get(&subnet) {
            Some(&(known, identity)) if known == end => identity,
            _ => {
                let identity = draw();
                self.identities.insert(subnet, (end, identity));
                identity
            }
        }
    }

    /// Ends every connection, and advertises nothing more.
    pub fn end(&mut self) {
        while let Some(&connection) = self.connections.keys().next() {
            self.disconnect(connection);
        }
        self.advertise(Vec::new());
    }

    /// Has these advertised from now on.
    pub fn advertise(&mut self, identifications: Vec<ProxyIdentification>) {
        if identifications != self.advertised {
            self.advertised = identifications;
            self.is_advertising_new = true;
        }
    }

    /// What is to be advertised, if that has changed.
    pub fn poll_advertising(&mut self) -> Option<Vec<ProxyIdentification>> {
        core::mem::take(&mut self.is_advertising_new).then(|| self.advertised.clone())
    }

    /// Ends the connections whose messages had their time.
    pub fn handle_timeout(&mut self, now: Instant) {
        let slow: Vec<ConnectionId> = (self.connections.iter_mut())
            .filter_map(|(&id, open)| open.reassembler.handle_timeout(now).is_err().then_some(id))
            .collect();
        for connection in slow {
            self.disconnect(connection);
        }
    }

    /// When [`Proxy::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.connections.values().filter_map(|open| open.reassembler.poll_timeout()).min()
    }

    /// What is next to be done with a connection.
    pub fn poll_output(&mut self) -> Option<ProxyOutput> {
        self.output.pop_front()
    }
}
