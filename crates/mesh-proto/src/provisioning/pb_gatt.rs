//! The PB-GATT bearer (MshPRT §5.2.2): the connection is the link, and carries Proxy PDUs.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use clock::Instant;
use mesh_wire::bearer::proxy::{MessageType, segment};

use super::{LinkEnd, Protocol};
use crate::bearer::ProxyReassembler;

/// One end of the provisioning protocol on a GATT connection: what is written to Mesh Provisioning Data In, and what
/// Data Out notifies.
#[derive(Debug)]
pub struct PbGatt<P> {
    protocol: P,
    /// Octets of a Proxy PDU, and what came of the other end's; `None` without a connection.
    connection: Option<(usize, ProxyReassembler)>,
    transmit: VecDeque<Vec<u8>>,
    wants_disconnect: bool,
}

impl<P: Protocol> PbGatt<P> {
    /// An end without a connection.
    pub fn new(protocol: P) -> Self {
        Self { protocol, connection: None, transmit: VecDeque::new(), wants_disconnect: false }
    }

    /// The end of the protocol that is carried.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    /// Has the host act on it, and sends what it then has to say.
    pub fn with_protocol<T>(&mut self, act: impl FnOnce(&mut P) -> T) -> T {
        let result = act(&mut self.protocol);
        self.flush();
        result
    }

    /// A connection is there, notifications are enabled, and a Proxy PDU may have so many octets: ATT_MTU - 3, so
    /// at least 20.
    pub fn handle_connected(&mut self, now: Instant, pdu_size: usize) {
        self.connection = Some((pdu_size, ProxyReassembler::default()));
        self.wants_disconnect = false;
        self.transmit.clear();
        self.protocol.handle_link_open(now);
        self.flush();
    }

    /// The connection is gone.
    pub fn handle_disconnected(&mut self, now: Instant) {
        self.wants_disconnect = false;
        if self.connection.take().is_some() {
            self.transmit.clear();
            self.protocol.handle_link_end(now, LinkEnd::Lost);
        }
    }

    /// Takes a Proxy PDU.
    pub fn handle_pdu(&mut self, now: Instant, octets: &[u8]) {
        let Some((_, reassembler)) = &mut self.connection else { return };
        match reassembler.handle_pdu(now, octets) {
            Ok(Some((MessageType::ProvisioningPdu, pdu))) => {
                self.protocol.handle_pdu(now, &pdu);
                self.flush();
            }
            // Of the other types a device that is no node has no use (§6.3.2).
            Ok(_) => {}
            Err(_) => self.disconnect(now),
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some((_, reassembler)) = &mut self.connection
            && reassembler.handle_timeout(now).is_err()
        {
            self.disconnect(now);
        }
        self.protocol.handle_timeout(now);
        self.flush();
    }

    /// When [`PbGatt::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sar = self.connection.as_ref().and_then(|(_, reassembler)| reassembler.poll_timeout());
        sar.into_iter().chain(self.protocol.poll_timeout()).min()
    }

    /// The next Proxy PDU to be sent.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.pop_front()
    }

    /// Whether the connection is to be ended, once all Proxy PDUs are sent.
    pub fn wants_disconnect(&self) -> bool {
        self.wants_disconnect && self.transmit.is_empty()
    }

    fn disconnect(&mut self, now: Instant) {
        self.wants_disconnect = true;
        self.connection = None;
        self.protocol.handle_link_end(now, LinkEnd::Lost);
    }

    /// A connection says nothing of what has arrived, so that nothing counts as delivered: a device is a node when the
    /// provisioner, having got its Complete, ends the connection.
    fn flush(&mut self) {
        while let Some(pdu) = self.protocol.poll_transmit() {
            if let Some((pdu_size, _)) = &self.connection {
                self.transmit.extend(segment(MessageType::ProvisioningPdu, &pdu, *pdu_size));
            }
        }
        // The reason has no place in a connection (§5.2.2).
        if self.protocol.poll_close().is_some() {
            self.wants_disconnect = true;
        }
    }
}
