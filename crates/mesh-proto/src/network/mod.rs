//! The network layer (MshPRT §3.4): secures and opens network PDUs, relays, and gives out sequence numbers.

mod cache;
mod iv_update;

use core::time::Duration;

use mesh_crypto::NetworkKeys;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::bearer::AdType;
use mesh_wire::lower_transport::LowerTransportPdu;
use mesh_wire::network::{Header, NetworkPdu, ivi_nid};
use mesh_wire::proxy_configuration::ProxyConfigurationPdu;
use mesh_wire::{DecodeError, IvIndex, NetKeyIndex, Seq, SeqAuth, Transmit, Ttl};

use crate::bearer::Transmission;
use crate::discard::Discard;
use crate::keys::{Credentials, Keys, Receiving, Subnet};
use cache::MessageCache;

pub use iv_update::{
    IvChange, IvUpdate, IvUpdateError, MAX_IN_PROGRESS, MIN_BETWEEN_RECOVERIES, MIN_IN_STATE, StoredIvUpdate,
};

/// Longest wait of a relay before it sends, so that neighbours that heard the same PDU do not all send at
/// once (MshPRT §3.4.6.3 asks for "a small random delay").
pub const RELAY_DELAY_MAX: Duration = Duration::from_millis(10);

/// The network layer of one node.
#[derive(Clone, Debug)]
pub struct NetworkLayer {
    /// The address of the primary element.
    address: UnicastAddress,
    element_count: u8,
    pub(crate) iv: IvUpdate,
    next_seq: Seq,
    cache: MessageCache,
    /// The friendship in which this node is the Low Power node, if there is one.
    pub(crate) low_power: Option<LowPowerLink>,
    /// Network Transmit: how what this node sends is repeated.
    pub network_transmit: Transmit,
    /// Relay and Relay Retransmit: whether, and how, this node repeats what others send.
    pub relay: Relay,
}

/// The Relay state and its Relay Retransmit state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Whether the node relays.
    pub enabled: bool,
    /// How what it relays is repeated.
    pub retransmit: Transmit,
}

/// A network PDU that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// What it says.
    pub pdu: NetworkPdu,
    /// The subnet that it came in.
    pub net_key_index: NetKeyIndex,
    /// The IV Index that secured it.
    pub iv_index: IvIndex,
    /// The material that secured it.
    pub credentials: Credentials,
    /// Whether that came from the new key of a refresh.
    pub is_new_key: bool,
    /// Whether the same was here before: so much is told of what a Friend sends, as it is an answer even then.
    pub is_repeated: bool,
}

/// What a Low Power node hears while it has a Friend: nothing in the Friend's subnet but the Friend, and that only
/// when it waits for an answer. What else its radio happens to catch comes from the Friend Queue in due order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LowPowerLink {
    pub(crate) net_key_index: NetKeyIndex,
    pub(crate) credentials: Credentials,
    pub(crate) is_waiting: bool,
}

impl LowPowerLink {
    fn hears(&self, material: &Receiving<'_>) -> bool {
        self.net_key_index != material.net_key_index
            || (self.is_waiting && self.credentials == material.credentials)
    }
}

/// A proxy configuration message that was opened.
#[derive(Clone, Debug)]
pub struct ProxyConfigurationArrived {
    /// What it says.
    pub pdu: ProxyConfigurationPdu,
    /// The IV Index that secured it.
    pub iv_index: IvIndex,
    /// The keys that secured it, with which it is to be answered (MshPRT §6.7).
    pub keys: NetworkKeys,
}

/// What the layer above wants sent.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The subnet.
    pub net_key_index: NetKeyIndex,
    /// The TTL.
    pub ttl: Ttl,
    /// The sending element.
    pub src: UnicastAddress,
    /// The destination.
    pub dst: Address,
    /// The content.
    pub pdu: LowerTransportPdu,
    /// The material that secures it.
    pub credentials: Credentials,
    /// The sequence number that was taken for it already, because the layers above needed it; `None`: the
    /// next one.
    pub seq: Option<Seq>,
}

/// No sequence number is left under this IV Index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("every sequence number of this IV Index has been used; the network needs an IV Update")]
pub struct SequenceExhausted;

impl Arrived {
    /// The PDU's place in what its source sends.
    pub fn seq_auth(&self) -> SeqAuth {
        self.pdu.seq_auth(self.iv_index)
    }

    /// Whether a neighbour sent it to `dst`, as a Low Power node and a Friend send to each other (MshPRT §3.6.6.3,
    /// §3.6.6.4): with TTL 0, so that nobody has relayed it, and no Friend stored it.
    pub(crate) fn is_of_neighbour_to(&self, dst: impl Into<Address>) -> bool {
        self.pdu.ttl == Ttl::ZERO && self.pdu.dst == dst.into()
    }
}

impl ProxyConfigurationArrived {
    /// The message's place in what its source sends.
    pub fn seq_auth(&self) -> SeqAuth {
        SeqAuth { iv_index: self.iv_index, seq: self.pdu.seq }
    }
}

impl NetworkLayer {
    /// A layer for a node whose primary element has `address` and which has so many elements.
    pub fn new(
        address: UnicastAddress,
        element_count: u8,
        iv_index: IvIndex,
        network_transmit: Transmit,
        relay: Relay,
    ) -> Self {
        Self {
            address,
            element_count,
            iv: IvUpdate::new(iv_index, false),
            next_seq: Seq::ZERO,
            cache: MessageCache::default(),
            low_power: None,
            network_transmit,
            relay,
        }
    }

    /// The IV Index with which this node secures.
    pub fn iv_index(&self) -> IvIndex {
        self.iv.sending()
    }

    /// The IV Index of the network, and how far an update of it is.
    pub fn iv_update(&self) -> &IvUpdate {
        &self.iv
    }

    /// The sequence number that is next.
    pub fn next_seq(&self) -> Seq {
        self.next_seq
    }

    /// Goes on where this node stopped: with sequence numbers that it cannot have used. Those of an IV Index before
    /// the one that it now sends with are of no account.
    pub(crate) fn continue_from(&mut self, iv_index: IvIndex, seq: Seq) {
        if iv_index > self.iv.sending() {
            self.iv = IvUpdate::new(iv_index, false);
        }
        if iv_index == self.iv.sending() {
            self.next_seq = seq;
        }
    }

    /// Begins anew with sequence numbers, under an IV Index that this node has not sent with before.
    pub(crate) fn reset_seq(&mut self) {
        self.next_seq = Seq::ZERO;
    }

    /// The element that `address` is, if it is one of this node's.
    pub fn own_element(&self, address: UnicastAddress) -> Option<u8> {
        let offset = u16::from(address).checked_sub(self.address.into())?;
        u8::try_from(offset).ok().filter(|&element| element < self.element_count)
    }

    /// Takes the next sequence number. This is the only place where one is given out: no two PDUs of a node
    /// share one under the same IV Index (MshPRT §3.4.4.5). The last of all is not given out: a record says below
    /// which number all may have been used, and could not say it of that one.
    pub fn take_seq(&mut self) -> Result<Seq, SequenceExhausted> {
        let seq = self.next_seq;
        self.next_seq = seq.next().ok_or(SequenceExhausted)?;
        Ok(seq)
    }

    /// Opens what a bearer received (MshPRT §3.4.6.3). A PDU that was here before is recognised by its
    /// header alone, before the cost of decrypting it.
    pub fn receive(&mut self, keys: &Keys, octets: &[u8]) -> Result<Arrived, Discard> {
        let (ivi, nid) = ivi_nid(octets).ok_or(Discard::NetworkPdu)?;
        let iv_index = self.iv.receiving(ivi).ok_or(Discard::NetworkKey)?;
        let mut discard = Discard::NetworkKey;
        // Several keys may share a NID: each that does is tried.
        let link = self.low_power;
        let is_heard = |material: &Receiving<'_>| link.is_none_or(|link| link.hears(material));
        for material in keys.receiving_material().filter(|x| x.keys.nid() == nid && is_heard(x)) {
            match self.open(&material, octets, iv_index) {
                Ok(arrived) => return Ok(arrived),
                Err(Discard::NetworkKey) => {}
                Err(other) => discard = other,
            }
        }
        Err(discard)
    }

    fn open(
        &mut self,
        material: &Receiving<'_>,
        octets: &[u8],
        iv_index: IvIndex,
    ) -> Result<Arrived, Discard> {
        let wrong = |error| match error {
            // A header that makes no sense was hidden with another key.
            DecodeError::Mic | DecodeError::Prohibited("SRC") => Discard::NetworkKey,
            _ => Discard::NetworkPdu,
        };
        let header = Header::deobfuscate(octets, material.keys, iv_index).map_err(wrong)?;
        let entry = (iv_index, header.src, header.seq);
        let is_repeated = self.cache.contains(&entry);
        if is_repeated && material.credentials == Credentials::Flooding {
            return Err(Discard::Cached);
        }
        let pdu = header.decrypt(octets, material.keys, iv_index).map_err(wrong)?;
        if self.own_element(pdu.src).is_some() {
            return Err(Discard::OwnSource);
        }
        self.cache.insert(entry);
        let Receiving { net_key_index, credentials, is_new: is_new_key, .. } = *material;
        Ok(Arrived { pdu, net_key_index, iv_index, credentials, is_new_key, is_repeated })
    }

    /// What this node relays of a PDU that arrived (MshPRT §3.4.6.3): the same with a TTL of one less, unless
    /// the node does not relay, the TTL is used up, or the PDU has come to its only destination. What a Low Power
    /// node secured with the material of its friendship goes on in the whole subnet, even if the Friend does not
    /// relay; the caller has seen to it that this node is the Friend.
    pub fn relay(&self, keys: &Keys, arrived: &Arrived, delay: Duration) -> Option<Transmission> {
        let is_flooding = arrived.credentials == Credentials::Flooding;
        if is_flooding && !self.relay.enabled {
            return None;
        }
        let transmit = if is_flooding { self.relay.retransmit } else { self.network_transmit };
        self.pass_on(keys, arrived, transmit, delay)
    }

    /// The same between bearers, as a proxy passes it on whether it relays or not: Relay Retransmit is of what comes
    /// and goes by advertising, so all else is repeated as Network Transmit says.
    pub fn forward(&self, keys: &Keys, arrived: &Arrived) -> Option<Transmission> {
        self.pass_on(keys, arrived, self.network_transmit, Duration::ZERO)
    }

    fn pass_on(
        &self,
        keys: &Keys,
        arrived: &Arrived,
        transmit: Transmit,
        delay: Duration,
    ) -> Option<Transmission> {
        if arrived.pdu.dst.unicast().is_some_and(|dst| self.own_element(dst).is_some()) {
            return None;
        }
        let pdu = NetworkPdu { ttl: arrived.pdu.ttl.relayed()?, ..arrived.pdu.clone() };
        let material = keys.sending_material(arrived.net_key_index, Credentials::Flooding)?;
        Some(transmission(&pdu, material, arrived.iv_index, transmit, delay))
    }

    /// Opens a proxy configuration message (MshPRT §6.5).
    pub fn receive_proxy_configuration(
        &self,
        keys: &Keys,
        octets: &[u8],
    ) -> Result<ProxyConfigurationArrived, Discard> {
        let (ivi, nid) = ivi_nid(octets).ok_or(Discard::NetworkPdu)?;
        let iv_index = self.iv.receiving(ivi).ok_or(Discard::NetworkKey)?;
        let materials = keys.subnets().iter().flat_map(Subnet::receiving);
        for material in materials.filter(|material| material.flooding.nid() == nid) {
            if let Ok(pdu) = ProxyConfigurationPdu::open(octets, &material.flooding, iv_index) {
                return Ok(ProxyConfigurationArrived { pdu, iv_index, keys: material.flooding.clone() });
            }
        }
        Err(Discard::NetworkKey)
    }

    /// Secures what the layers above send (MshPRT §3.4.6.2).
    ///
    /// Returns `None` when the node is not, or no longer, part of the subnet, or when the TTL is 1, with
    /// which nothing is originated.
    pub fn send(
        &mut self,
        keys: &Keys,
        outgoing: &Outgoing,
    ) -> Result<Option<Transmission>, SequenceExhausted> {
        let material = keys.sending_material(outgoing.net_key_index, outgoing.credentials);
        let Some(material) = material.filter(|_| u8::from(outgoing.ttl) != 1) else {
            return Ok(None);
        };
        let seq = match outgoing.seq {
            Some(seq) => seq,
            None => self.take_seq()?,
        };
        let pdu = outgoing.to_pdu(seq);
        Ok(Some(transmission(&pdu, material, self.iv_index(), self.network_transmit, Duration::ZERO)))
    }

    /// Secures what goes between a Friend and its Low Power node, which is sent once (MshPRT §3.4.6.4).
    pub(crate) fn send_once(
        &self,
        keys: &Keys,
        net_key_index: NetKeyIndex,
        credentials: Credentials,
        (pdu, iv_index): (&NetworkPdu, IvIndex),
    ) -> Option<Transmission> {
        let material = keys.sending_material(net_key_index, credentials)?;
        let once = Transmit::from_octet(0);
        Some(transmission(pdu, material, iv_index, once, Duration::ZERO))
    }
}

impl Outgoing {
    /// The PDU with its sequence number.
    pub(crate) fn to_pdu(&self, seq: Seq) -> NetworkPdu {
        NetworkPdu {
            ctl: self.pdu.ctl(),
            ttl: self.ttl,
            seq,
            src: self.src,
            dst: self.dst,
            transport_pdu: self.pdu.encode(),
        }
    }
}

fn transmission(
    pdu: &NetworkPdu,
    material: &NetworkKeys,
    iv_index: IvIndex,
    transmit: Transmit,
    delay: Duration,
) -> Transmission {
    Transmission {
        ad_type: AdType::MeshMessage,
        data: pdu.secure(material, iv_index),
        count: transmit.transmissions(),
        interval: transmit.interval(),
        delay,
    }
}
