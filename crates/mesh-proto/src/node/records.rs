//! What a node must remember over a restart, and how it takes it back.
//!
//! The rule is the host's to keep and the node's to enforce: what a node sends or tells while records wait is held
//! back until the host has said that they are stored. So after any crash no sequence number is used twice, and
//! nothing that was taken once is taken again.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use clock::Instant;
use mesh_wire::access::Opcode;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::foundation::{
    ConfigMessage, FeatureState, KeyRefreshTransition, ModelRef, SubscriptionChange,
};
use mesh_wire::{DecodeError, IvIndex, NetKeyIndex, Reader, Seq, SeqAuth};

use super::Node;
use crate::keys::KeyRefreshPhase;
use crate::lower_transport::{SarReceiver, SarTransmitter};
use crate::network::{IvUpdate, StoredIvUpdate};
use crate::sabotage::{self, Fault};
use crate::upper_transport::Destination;

/// Sequence numbers that are reserved at a time. A restart wastes what is left of them: at most 1 in 30,000 of
/// those that an IV Index has.
const SEQUENCE_BLOCK: u32 = 512;

/// What a record is about. Its octets are for the host's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKey {
    /// `IV Index:32 SEQ:24`, big-endian: smaller sequence numbers may have been used.
    Sequence,
    /// Of one source `IV Index:32 SEQ:24` of the newest PDU, and then, if there was one, of the newest segmented
    /// message.
    Replay(UnicastAddress),
    /// The Configuration Server's states, as the messages that bring them about: each `length:16` and the message.
    Configuration,
    /// `IV Index:32 state:8 hours:16 hours since recovery:16`, big-endian: the IV Index of the network, whether an
    /// update is in progress (bit 0) and was begun by this node (bit 1), for how long, and when it was recovered last;
    /// 0xFFFF hours: long ago.
    IvUpdate,
    /// SAR Transmitter in 4 octets and SAR Receiver in 3, as their messages write them; there is none while they are as
    /// they were at first.
    Sar,
    /// The states of the server on this element, in its own form; several servers in the order of their elements.
    Server(u8),
}

/// A record, to be stored in place of an earlier one with the same key; `None`: the earlier one is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub key: RecordKey,
    /// What it says.
    pub value: Option<Vec<u8>>,
}

/// The records of a node whose host stores them.
#[derive(Debug)]
pub(super) struct Records {
    changed: BTreeMap<RecordKey, Option<Vec<u8>>>,
    /// Whether some were handed out that are not stored yet.
    is_storing: bool,
    /// Sequence numbers below this one are reserved.
    reserved: SeqAuth,
    configuration: Vec<u8>,
}

/// What is wrong with a stored record. The node would not be safe without it, so it is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the stored record {key:?} of the node cannot be read ({source}); restore a copy, or provision it anew"
)]
pub struct RestoreError {
    /// Which record.
    pub key: RecordKey,
    /// What is wrong.
    pub source: DecodeError,
}

impl RecordKey {
    /// `kind:8 number:16`, big-endian.
    pub fn to_octets(self) -> [u8; 3] {
        let (kind, number) = match self {
            Self::Sequence => (1, 0),
            Self::Replay(source) => (2, source.into()),
            Self::Configuration => (3, 0),
            Self::Server(number) => (4, u16::from(number)),
            Self::IvUpdate => (5, 0),
            Self::Sar => (6, 0),
        };
        let [high, low] = number.to_be_bytes();
        [kind, high, low]
    }

    /// The key with these octets.
    pub fn from_octets(octets: &[u8]) -> Option<Self> {
        let &[kind, high, low] = octets else { return None };
        match (kind, high, low) {
            (1, 0, 0) => Some(Self::Sequence),
            (2, _, _) => UnicastAddress::new(u16::from_be_bytes([high, low])).map(Self::Replay),
            (3, 0, 0) => Some(Self::Configuration),
            (4, 0, number) => Some(Self::Server(number)),
            (5, 0, 0) => Some(Self::IvUpdate),
            (6, 0, 0) => Some(Self::Sar),
            _ => None,
        }
    }
}

impl Node {
    /// Has the node keep records from now on, after it took back those that were stored.
    ///
    /// # Errors
    /// The first record that cannot be read.
    pub(super) fn remember(
        &mut self,
        now: Instant,
        stored: impl IntoIterator<Item = (RecordKey, Vec<u8>)>,
    ) -> Result<(), RestoreError> {
        let mut stored: Vec<(RecordKey, Vec<u8>)> = stored.into_iter().collect();
        // What sequence numbers are worth depends on the IV Index.
        stored.sort_by_key(|(key, _)| *key != RecordKey::IvUpdate);
        for (key, value) in stored {
            self.take_back(now, key, &value).map_err(|source| RestoreError { key, source })?;
        }
        let configuration = self.configuration();
        self.records = Some(Records {
            changed: BTreeMap::new(),
            is_storing: false,
            reserved: SeqAuth { iv_index: self.network.iv_index(), seq: self.network.next_seq() },
            configuration,
        });
        Ok(())
    }

    /// Takes the records that are to be stored, all together or none, before anything else happens. Nothing is
    /// sent or told until [`Node::handle_stored`] is called.
    pub fn take_records(&mut self) -> Vec<Record> {
        let Some(records) = &mut self.records else { return Vec::new() };
        let changed = core::mem::take(&mut records.changed);
        records.is_storing |= !changed.is_empty();
        changed.into_iter().map(|(key, value)| Record { key, value }).collect()
    }

    /// The records that were taken are stored.
    pub fn handle_stored(&mut self) {
        if let Some(records) = &mut self.records {
            records.is_storing = false;
        }
    }

    /// Whether what the node sends and tells has to wait for its host.
    pub(super) fn is_held_back(&self) -> bool {
        self.records.as_ref().is_some_and(|records| records.is_storing || !records.changed.is_empty())
    }

    fn take_back(&mut self, now: Instant, key: RecordKey, value: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(value);
        match key {
            RecordKey::Sequence => {
                let SeqAuth { iv_index, seq } = seq_auth(&mut reader)?;
                self.network.continue_from(iv_index, seq);
            }
            RecordKey::Replay(source) => {
                let newest = seq_auth(&mut reader)?;
                let whole = if reader.is_empty() { None } else { Some(seq_auth(&mut reader)?) };
                self.replay_list.restore(source, newest, whole);
            }
            RecordKey::Configuration => return self.configure_from(now, value),
            RecordKey::IvUpdate => {
                let index = IvIndex(u32::from_be_bytes(reader.array()?));
                let state = reader.u8()?;
                let (is_in_progress, is_ours) = (state & 1 != 0, state & 2 != 0);
                let hours = u16::from_be_bytes(reader.array()?);
                let hours_since_recovery = u16::from_be_bytes(reader.array()?);
                let stored = StoredIvUpdate { index, is_in_progress, is_ours, hours, hours_since_recovery };
                self.network.iv = IvUpdate::restore(now, stored);
            }
            RecordKey::Sar => {
                self.segmenter.set_sar(SarTransmitter::from_octets(reader.array()?));
                self.set_sar_receiver(&SarReceiver::from_octets(reader.array()?));
            }
            RecordKey::Server(number) => {
                if let Some(entry) = self.elements.servers_mut().get_mut(usize::from(number)) {
                    entry.server.restore(now, value);
                }
                return Ok(());
            }
        }
        reader.finish(())
    }

    fn configure_from(&mut self, now: Instant, value: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(value);
        // The key that the node was provisioned with may have been refreshed or deleted since.
        self.keys.clear();
        while !reader.is_empty() {
            let length = u16::from_be_bytes(reader.array()?);
            let (opcode, parameters) = Opcode::decode(reader.take(usize::from(length))?)?;
            let request = ConfigMessage::decode(opcode, parameters)?;
            if let ConfigMessage::KeyRefreshPhaseSet { index, .. } = request {
                // Also of a node that was provisioned in the second phase, and has only one key.
                self.keys.use_new_keys(index);
                continue;
            }
            self.configure(now, &request, NetKeyIndex::ZERO).ok_or(DecodeError::UnknownOpcode)?;
        }
        Ok(())
    }

    /// The states of the Configuration Server as the messages that bring them about.
    fn configuration(&self) -> Vec<u8> {
        let relay = on_or_off(self.network.relay.enabled);
        let mut messages = Vec::from([
            ConfigMessage::DefaultTtlSet { ttl: self.default_ttl },
            ConfigMessage::RelaySet { relay, retransmit: self.network.relay.retransmit },
            ConfigMessage::NetworkTransmitSet { transmit: self.network.network_transmit },
            ConfigMessage::BeaconSet { beacon: on_or_off(self.beacons.is_enabled()) },
            ConfigMessage::GattProxySet { proxy: on_or_off(self.features.proxy) },
            ConfigMessage::FriendSet { friend: on_or_off(self.features.friend) },
        ]);
        for subnet in self.keys.subnets() {
            let index = subnet.index;
            messages.push(ConfigMessage::NetKeyAdd { index, key: subnet.current.net_key.clone() });
            let applications = || self.keys.applications_of(index);
            messages.extend(applications().map(|application| ConfigMessage::AppKeyAdd {
                net_key_index: index,
                index: application.index,
                key: application.current.app_key.clone(),
            }));
            let new = subnet.new.as_ref();
            messages.extend(new.map(|new| ConfigMessage::NetKeyUpdate { index, key: new.net_key.clone() }));
            messages.extend(applications().filter_map(|application| {
                let key = application.new.as_ref()?.app_key.clone();
                Some(ConfigMessage::AppKeyUpdate { net_key_index: index, index: application.index, key })
            }));
            if subnet.phase == KeyRefreshPhase::Second {
                let transition = KeyRefreshTransition::UseNewKeys;
                messages.push(ConfigMessage::KeyRefreshPhaseSet { index, transition });
            }
        }
        // With the count that is left, which does not begin anew.
        let publication = self.heartbeats.publication_status();
        if publication.destination != Address::Unassigned {
            messages.push(ConfigMessage::HeartbeatPublicationSet { publication });
        }
        for (element, entry) in self.elements.models() {
            let Some(element) = self.address.element(element) else { continue };
            let model = ModelRef { element, model: entry.id };
            messages.extend(entry.bindings.iter().map(|&index| ConfigMessage::ModelAppBind { index, model }));
            messages.extend(entry.subscriptions.iter().map(|to| match *to {
                Destination::Address(address) => {
                    ConfigMessage::ModelSubscriptionChange { change: SubscriptionChange::Add, address, model }
                }
                Destination::Label(label) => ConfigMessage::ModelSubscriptionVirtualAddressChange {
                    change: SubscriptionChange::Add,
                    label,
                    model,
                },
            }));
            let publication = entry.publication;
            messages.extend(
                publication.map(|publication| ConfigMessage::ModelPublicationSet { publication, model }),
            );
        }
        let mut octets = Vec::new();
        for message in messages {
            let message = message.encode();
            // An access message has at most 380 octets.
            octets.extend(u16::try_from(message.len()).unwrap_or(0).to_be_bytes());
            octets.extend(message);
        }
        octets
    }

    pub(super) fn record_configuration(&mut self) {
        let configuration = self.configuration();
        if let Some(records) = &mut self.records
            && records.configuration != configuration
        {
            records.configuration.clone_from(&configuration);
            records.changed.insert(RecordKey::Configuration, Some(configuration));
        }
    }

    /// Reserves sequence numbers, if the last one taken was the last that was reserved.
    pub(super) fn record_sequence(&mut self) {
        let Some(records) = &mut self.records else { return };
        if sabotage::is(Fault::SequenceNotReserved) {
            return;
        }
        let next = SeqAuth { iv_index: self.network.iv_index(), seq: self.network.next_seq() };
        if next > records.reserved {
            let end = u32::from(next.seq) + SEQUENCE_BLOCK;
            records.reserved = SeqAuth { seq: Seq::new(end).unwrap_or(Seq::MAX), ..next };
            let value = encode(&records.reserved);
            records.changed.insert(RecordKey::Sequence, Some(value));
        }
    }

    pub(super) fn record_replay(&mut self, source: UnicastAddress) {
        let Some(records) = &mut self.records else { return };
        let Some((newest, whole)) = self.replay_list.entry(source) else {
            records.changed.insert(RecordKey::Replay(source), None);
            return;
        };
        let mut value = encode(&newest);
        value.extend(whole.iter().flat_map(encode));
        records.changed.insert(RecordKey::Replay(source), Some(value));
    }

    pub(super) fn record_iv_update(&mut self, now: Instant) {
        let Some(records) = &mut self.records else { return };
        let stored = self.network.iv.stored(now);
        let mut value = Vec::from(stored.index.0.to_be_bytes());
        value.push(u8::from(stored.is_in_progress) | u8::from(stored.is_ours) << 1);
        value.extend(stored.hours.to_be_bytes());
        value.extend(stored.hours_since_recovery.to_be_bytes());
        records.changed.insert(RecordKey::IvUpdate, Some(value));
    }

    pub(super) fn record_sar(&mut self) {
        let Some(records) = &mut self.records else { return };
        let mut value = Vec::from(self.segmenter.sar().to_octets());
        value.extend(self.reassembler.sar().to_octets());
        records.changed.insert(RecordKey::Sar, Some(value));
    }

    pub(super) fn record_server(&mut self, number: usize) {
        let Some(records) = &mut self.records else { return };
        let Some(entry) = self.elements.servers().get(number) else { return };
        if let Ok(number) = u8::try_from(number) {
            records.changed.insert(RecordKey::Server(number), Some(entry.server.save()));
        }
    }

    /// A node that was reset has nothing to remember.
    pub(super) fn forget(&mut self) {
        let sources: Vec<UnicastAddress> = self.replay_list.sources().collect();
        let Some(records) = &mut self.records else { return };
        let servers = (0..=u8::MAX).take(self.elements.servers().len()).map(RecordKey::Server);
        let keys = [RecordKey::Sequence, RecordKey::IvUpdate, RecordKey::Configuration, RecordKey::Sar];
        let keys = keys.into_iter();
        let keys = keys.chain(servers).chain(sources.into_iter().map(RecordKey::Replay));
        records.changed = keys.map(|key| (key, None)).collect();
    }
}

const fn on_or_off(is_on: bool) -> FeatureState {
    if is_on { FeatureState::Enabled } else { FeatureState::Disabled }
}

fn encode(at: &SeqAuth) -> Vec<u8> {
    let mut octets = Vec::from(at.iv_index.0.to_be_bytes());
    octets.extend(at.seq.to_be_bytes());
    octets
}

fn seq_auth(reader: &mut Reader<'_>) -> Result<SeqAuth, DecodeError> {
    let iv_index = IvIndex(u32::from_be_bytes(reader.array()?));
    Ok(SeqAuth { iv_index, seq: Seq::from_be_bytes(reader.array()?) })
}
