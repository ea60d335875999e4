//! A node on GATT connections: the server that passes messages on for others, the client that has no other way in, and
//! the advertisements by which they find each other.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use clock::Instant;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::beacon::NetworkFlags;
use mesh_wire::bearer::proxy::MessageType;
use mesh_wire::bearer::proxy_service::ProxyIdentification;
use mesh_wire::proxy_configuration::{ProxyConfiguration, ProxyConfigurationPdu};
use mesh_wire::{IvIndex, NetKeyIndex};
use rand_core::Rng as _;

use super::friendship::fixed_groups;
use super::{CommandError, Event, Node};
use crate::discard::Discard;
use crate::keys::{Credentials, KeyRefreshPhase};
use crate::network::{Arrived, SequenceExhausted};
use crate::proxy::{ConnectionId, ProxyOutput, ProxyRole, SubnetState};
use crate::upper_transport::Destination;

impl Node {
    /// A GATT connection is there: as a server the client has enabled the notifications of Mesh Proxy Data Out, as a
    /// client this node has. A Proxy PDU may have `pdu_size` octets, which is ATT_MTU - 3, so at least 20.
    pub fn handle_proxy_connected(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        role: ProxyRole,
        pdu_size: usize,
    ) {
        if self.is_reset {
            return;
        }
        self.start(now);
        if self.proxy.connect(connection, role, pdu_size) && role == ProxyRole::Server {
            let states = self.subnet_states();
            for &(subnet, ..) in &states {
                self.tell_beacon(subnet, Some(connection));
            }
            // Others know this already; while there was nobody, nobody was told.
            self.proxy.news(states);
        }
        self.flush(now);
    }

    /// A GATT connection is gone.
    pub fn handle_proxy_disconnected(&mut self, connection: ConnectionId) {
        self.proxy.disconnected(connection);
    }

    /// Takes what was written to Mesh Proxy Data In, or notified by Data Out.
    pub fn handle_proxy_pdu(&mut self, now: Instant, connection: ConnectionId, octets: &[u8]) {
        if self.is_reset {
            return;
        }
        self.start(now);
        if let Some((message_type, message)) = self.proxy.receive(now, connection, octets)
            && let Err(discard) = self.receive_by_proxy(now, connection, message_type, &message)
        {
            self.discard(discard);
        }
        self.flush(now);
    }

    /// What is next to be done with a GATT connection; nothing while records wait to be stored.
    pub fn poll_proxy(&mut self) -> Option<ProxyOutput> {
        if self.is_held_back() { None } else { self.proxy.poll_output() }
    }

    /// What a proxy is to advertise from now on in connectable advertisements, one after the other; `None`: as before.
    /// It begins with nothing.
    pub fn poll_proxy_advertising(&mut self) -> Option<Vec<ProxyIdentification>> {
        self.proxy.poll_advertising()
    }

    /// Has a proxy say who it is for 60 seconds in all its subnets, as after a hand's press on it.
    pub(super) fn identify_node(&mut self, now: Instant) -> Result<(), CommandError> {
        if !self.features.proxy {
            return Err(CommandError::NoProxy);
        }
        for subnet in self.keys.subnets() {
            self.features.start_node_identity(now, subnet.index);
        }
        Ok(())
    }

    /// Has a client say itself what its server is to send it.
    pub(super) fn configure_proxy(
        &mut self,
        connection: ConnectionId,
        request: &ProxyConfiguration,
    ) -> Result<(), CommandError> {
        if self.proxy.role(connection) != Some(ProxyRole::Client) {
            return Err(CommandError::NoProxy);
        }
        self.proxy.take_over_filter(connection);
        self.send_proxy_configuration(connection, request)
            .map_err(|SequenceExhausted| CommandError::SequenceExhausted)
    }

    fn receive_by_proxy(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        message_type: MessageType,
        message: &[u8],
    ) -> Result<(), Discard> {
        match message_type {
            MessageType::NetworkPdu => {
                let arrived = self.network.receive(&self.keys, message)?;
                // What a friendship secures comes over no connection (MshPRT §3.4.5.1).
                if arrived.credentials != Credentials::Flooding {
                    return Err(Discard::Proxy);
                }
                if self.proxy.role(connection) == Some(ProxyRole::Server)
                    && let Some(filter) = self.proxy.filter(connection)
                {
                    filter.learn(arrived.pdu.src);
                }
                if self.note_friendship(now, &arrived)? {
                    self.pass_to_bearers(&arrived, Some(connection));
                }
                self.receive_network(now, &arrived, None)
            }
            MessageType::MeshBeacon => self.receive_beacon(now, message),
            MessageType::ProxyConfiguration => self.receive_proxy_configuration(connection, message),
            // A node is provisioned already.
            MessageType::ProvisioningPdu => Err(Discard::Proxy),
        }
    }

    /// Passes a PDU on between bearers, if this node is a proxy (MshPRT §3.4.6.3): from a connection to all others and
    /// to the air, from the air to the connections.
    pub(super) fn pass_to_bearers(&mut self, arrived: &Arrived, from: Option<ConnectionId>) {
        if !self.features.proxy || (from.is_none() && self.proxy.is_idle()) {
            return;
        }
        if let Some(passed) = self.network.forward(&self.keys, arrived) {
            self.proxy.send_network_pdu(arrived.pdu.dst, &passed.data, from);
            if from.is_some() {
                self.transmit.push_back(passed);
            }
        }
    }

    fn receive_proxy_configuration(
        &mut self,
        connection: ConnectionId,
        message: &[u8],
    ) -> Result<(), Discard> {
        let arrived = self.network.receive_proxy_configuration(&self.keys, message)?;
        let (src, seq_auth) = (arrived.pdu.src, arrived.seq_auth());
        if self.network.own_element(src).is_some() {
            return Err(Discard::OwnSource);
        }
        self.replay_list.check(src, seq_auth)?;
        self.replay_list.note(src, seq_auth);
        self.record_replay(src);
        let message = ProxyConfiguration::decode(&arrived.pdu.message).map_err(|_| Discard::Proxy)?;
        match (self.proxy.role(connection), message) {
            (Some(ProxyRole::Client), ProxyConfiguration::FilterStatus { filter_type, list_size }) => {
                self.events.push_back(Event::ProxyFilter { connection, filter_type, list_size });
                Ok(())
            }
            (Some(ProxyRole::Server), request) => {
                let filter = self.proxy.filter(connection).ok_or(Discard::Proxy)?;
                let answer = filter.handle(&request).ok_or(Discard::Proxy)?;
                // Without sequence numbers there is no answer.
                let _ = self.secure_proxy_configuration(connection, &answer, &arrived.keys);
                Ok(())
            }
            _ => Err(Discard::Proxy),
        }
    }

    fn send_proxy_configuration(
        &mut self,
        connection: ConnectionId,
        message: &ProxyConfiguration,
    ) -> Result<(), SequenceExhausted> {
        let Some(subnet) = self.keys.subnets().first() else { return Ok(()) };
        let keys = subnet.sending().flooding.clone();
        self.secure_proxy_configuration(connection, message, &keys)
    }

    fn secure_proxy_configuration(
        &mut self,
        connection: ConnectionId,
        message: &ProxyConfiguration,
        keys: &mesh_crypto::NetworkKeys,
    ) -> Result<(), SequenceExhausted> {
        let seq = self.network.take_seq()?;
        self.record_sequence();
        self.segmenter.handle_seq(seq);
        let pdu = ProxyConfigurationPdu { seq, src: self.address, message: message.encode() };
        let octets = pdu.secure(keys, self.network.iv_index());
        self.proxy.send(connection, MessageType::ProxyConfiguration, &octets);
        Ok(())
    }

    /// Has connections and advertisements follow what has changed about the node.
    pub(super) fn follow_proxy(&mut self, now: Instant) {
        self.features.node_identity.retain(|_, &mut end| now < end);
        if !self.features.proxy {
            self.proxy.disconnect_clients();
        }
        self.follow_advertising();
        if !self.proxy.is_idle() {
            for subnet in self.proxy.news(self.subnet_states()) {
                self.tell_beacon(subnet, None);
            }
            self.follow_filters(now);
        }
    }

    fn subnet_states(&self) -> BTreeSet<SubnetState> {
        let iv_update = self.network.iv.is_in_progress();
        let iv_index: IvIndex = self.network.iv.index();
        (self.keys.subnets().iter())
            .map(|subnet| {
                let flags = NetworkFlags { key_refresh: subnet.phase == KeyRefreshPhase::Second, iv_update };
                (subnet.index, subnet.sending().network_id, flags.to_octet(), iv_index)
            })
            .collect()
    }

    /// In each subnet who the node is, while it says so, else which network it is of (MshPRT §7.2.2.2).
    fn follow_advertising(&mut self) {
        let mut identifications = Vec::new();
        for subnet in self.keys.subnets().iter().filter(|_| self.features.proxy) {
            let material = subnet.sending();
            let identification = match self.features.node_identity.get(&subnet.index) {
                None => ProxyIdentification::NetworkId(material.network_id),
                Some(&end) => self.proxy.identity(subnet.index, end, || {
                    let random = self.beacon_rng.next_u64().to_be_bytes();
                    ProxyIdentification::node_identity(&material.net_key, self.address, random)
                }),
            };
            identifications.push(identification);
        }
        self.proxy.advertise(identifications);
    }

    /// Sends the beacon of a subnet to one client, or to all.
    fn tell_beacon(&mut self, subnet: NetKeyIndex, client: Option<ConnectionId>) {
        let Some(beacon) = self.secure_network_beacon(subnet) else { return };
        match client {
            Some(client) => self.proxy.send_beacon(client, beacon),
            None => {
                let clients: Vec<ConnectionId> = self.proxy.clients().collect();
                clients.into_iter().for_each(|client| self.proxy.send_beacon(client, beacon));
            }
        }
    }

    /// As a client, has the servers send what this node wants to hear.
    fn follow_filters(&mut self, now: Instant) {
        let servers: Vec<ConnectionId> = self.proxy.servers().collect();
        if servers.is_empty() {
            return;
        }
        let wanted = self.wanted_addresses(now);
        for server in servers {
            for request in self.proxy.follow_filter(server, &wanted) {
                if self.send_proxy_configuration(server, &request).is_err() {
                    return;
                }
            }
        }
    }

    /// All addresses that reach this node.
    fn wanted_addresses(&self, now: Instant) -> BTreeSet<Address> {
        let elements = (0..=u8::MAX).take(self.elements.len());
        let own = elements.filter_map(|element| self.address.element(element)).map(UnicastAddress::into);
        let subscribed = (self.elements.models())
            .flat_map(|(_, model)| model.subscriptions.iter().map(Destination::address));
        let fixed = fixed_groups(self.features());
        own.chain(subscribed).chain(fixed).chain(self.heartbeats.subscribed(now)).collect()
    }
}
