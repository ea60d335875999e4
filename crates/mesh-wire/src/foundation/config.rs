use alloc::vec::Vec;

use mesh_crypto::{AppKey, NetKey};

use super::composition::encode_model;
use super::{HeartbeatPublication, HeartbeatSubscription, Publication, PublishDestination, Status};
use crate::access::Opcode;
use crate::address::{Address, LabelUuid, UnicastAddress};
use crate::{AppKeyIndex, CompanyId, DecodeError, KeyIndex, ModelId, NetKeyIndex, Reader, Transmit, Ttl};

/// A model of an element, as messages name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelRef {
    /// The element's address.
    pub element: UnicastAddress,
    /// The model.
    pub model: ModelId,
}

/// Whether a feature is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureState {
    /// 0.
    Disabled,
    /// 1.
    Enabled,
    /// 2: the node does not have the feature. Only a node says so.
    NotSupported,
}

/// What a Configuration Client has a key refresh do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRefreshTransition {
    /// 2: send with the new keys.
    UseNewKeys,
    /// 3: forget the old keys.
    RevokeOldKeys,
}

/// What is done to a subscription list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionChange {
    /// One more address.
    Add,
    /// One less.
    Delete,
    /// This one instead of all.
    Overwrite,
}

/// A message between Configuration Client and Configuration Server (MshPRT §4.3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "names and fields are the specification's")]
pub enum ConfigMessage {
    CompositionDataGet { page: u8 },
    CompositionDataStatus { page: u8, data: Vec<u8> },
    DefaultTtlGet,
    DefaultTtlSet { ttl: Ttl },
    DefaultTtlStatus { ttl: Ttl },
    RelayGet,
    RelaySet { relay: FeatureState, retransmit: Transmit },
    RelayStatus { relay: FeatureState, retransmit: Transmit },
    NetworkTransmitGet,
    NetworkTransmitSet { transmit: Transmit },
    NetworkTransmitStatus { transmit: Transmit },
    NetKeyAdd { index: NetKeyIndex, key: NetKey },
    NetKeyDelete { index: NetKeyIndex },
    NetKeyStatus { status: Status, index: NetKeyIndex },
    NetKeyGet,
    NetKeyList { indexes: Vec<NetKeyIndex> },
    AppKeyAdd { net_key_index: NetKeyIndex, index: AppKeyIndex, key: AppKey },
    AppKeyDelete { net_key_index: NetKeyIndex, index: AppKeyIndex },
    AppKeyStatus { status: Status, net_key_index: NetKeyIndex, index: AppKeyIndex },
    AppKeyGet { net_key_index: NetKeyIndex },
    AppKeyList { status: Status, net_key_index: NetKeyIndex, indexes: Vec<AppKeyIndex> },
    ModelAppBind { index: AppKeyIndex, model: ModelRef },
    ModelAppUnbind { index: AppKeyIndex, model: ModelRef },
    ModelAppStatus { status: Status, index: AppKeyIndex, model: ModelRef },
    ModelAppGet { model: ModelRef },
    ModelAppList { status: Status, model: ModelRef, indexes: Vec<AppKeyIndex> },
    ModelPublicationGet { model: ModelRef },
    ModelPublicationSet { publication: Publication, model: ModelRef },
    ModelPublicationStatus { status: Status, publication: Publication, model: ModelRef },
    ModelSubscriptionChange { change: SubscriptionChange, address: Address, model: ModelRef },
    ModelSubscriptionVirtualAddressChange { change: SubscriptionChange, label: LabelUuid, model: ModelRef },
    ModelSubscriptionDeleteAll { model: ModelRef },
    ModelSubscriptionStatus { status: Status, address: Address, model: ModelRef },
    ModelSubscriptionGet { model: ModelRef },
    ModelSubscriptionList { status: Status, model: ModelRef, addresses: Vec<Address> },
    NodeReset,
    NodeResetStatus,
    BeaconGet,
    BeaconSet { beacon: FeatureState },
    BeaconStatus { beacon: FeatureState },
    GattProxyGet,
    GattProxySet { proxy: FeatureState },
    GattProxyStatus { proxy: FeatureState },
    FriendGet,
    FriendSet { friend: FeatureState },
    FriendStatus { friend: FeatureState },
    NetKeyUpdate { index: NetKeyIndex, key: NetKey },
    AppKeyUpdate { net_key_index: NetKeyIndex, index: AppKeyIndex, key: AppKey },
    KeyRefreshPhaseGet { index: NetKeyIndex },
    KeyRefreshPhaseSet { index: NetKeyIndex, transition: KeyRefreshTransition },
    KeyRefreshPhaseStatus { status: Status, index: NetKeyIndex, phase: u8 },
    NodeIdentityGet { index: NetKeyIndex },
    NodeIdentitySet { index: NetKeyIndex, identity: FeatureState },
    NodeIdentityStatus { status: Status, index: NetKeyIndex, identity: FeatureState },
    LowPowerNodePollTimeoutGet { address: UnicastAddress },
    LowPowerNodePollTimeoutStatus { address: UnicastAddress, poll_timeout: u32 },
    HeartbeatPublicationGet,
    HeartbeatPublicationSet { publication: HeartbeatPublication },
    HeartbeatPublicationStatus { status: Status, publication: HeartbeatPublication },
    HeartbeatSubscriptionGet,
    HeartbeatSubscriptionSet { source: Address, destination: Address, period_log: u8 },
    HeartbeatSubscriptionStatus { status: Status, subscription: HeartbeatSubscription },
}

impl From<FeatureState> for u8 {
    fn from(state: FeatureState) -> Self {
        match state {
            FeatureState::Disabled => 0,
            FeatureState::Enabled => 1,
            FeatureState::NotSupported => 2,
        }
    }
}

impl FeatureState {
    fn decode(octet: u8) -> Result<Self, DecodeError> {
        match octet {
            0 => Ok(Self::Disabled),
            1 => Ok(Self::Enabled),
            2 => Ok(Self::NotSupported),
            _ => Err(DecodeError::Prohibited("feature state")),
        }
    }

    /// What a Set message may ask for.
    fn decode_wanted(octet: u8) -> Result<Self, DecodeError> {
        Self::decode(octet).and_then(|state| match state {
            Self::NotSupported => Err(DecodeError::Prohibited("feature state")),
            state => Ok(state),
        })
    }
}

impl SubscriptionChange {
    const fn opcode(self) -> u16 {
        match self {
            Self::Add => 0x801b,
            Self::Delete => 0x801c,
            Self::Overwrite => 0x801e,
        }
    }

    const fn virtual_opcode(self) -> u16 {
        match self {
            Self::Add => 0x8020,
            Self::Delete => 0x8021,
            Self::Overwrite => 0x8022,
        }
    }
}

impl ConfigMessage {
    /// The opcode, which for lists depends on whether the model is a vendor's.
    #[expect(clippy::too_many_lines, reason = "one arm for each message of §4.3.2")]
    pub fn opcode(&self) -> Opcode {
        let of = |model: &ModelRef, sig, vendor| {
            if matches!(model.model, ModelId::Sig(_)) { sig } else { vendor }
        };
        Opcode::Two(match self {
            Self::AppKeyAdd { .. } => return Opcode::One(0x00),
            Self::CompositionDataStatus { .. } => return Opcode::One(0x02),
            Self::ModelPublicationSet { publication, .. } => match publication.destination {
                PublishDestination::Address(_) => return Opcode::One(0x03),
                PublishDestination::Label(_) => 0x801a,
            },
            Self::AppKeyDelete { .. } => 0x8000,
            Self::AppKeyGet { .. } => 0x8001,
            Self::AppKeyList { .. } => 0x8002,
            Self::AppKeyStatus { .. } => 0x8003,
            Self::CompositionDataGet { .. } => 0x8008,
            Self::DefaultTtlGet => 0x800c,
            Self::DefaultTtlSet { .. } => 0x800d,
            Self::DefaultTtlStatus { .. } => 0x800e,
            Self::ModelPublicationGet { .. } => 0x8018,
            Self::ModelPublicationStatus { .. } => 0x8019,
            Self::ModelSubscriptionChange { change, .. } => change.opcode(),
            Self::ModelSubscriptionVirtualAddressChange { change, .. } => change.virtual_opcode(),
            Self::ModelSubscriptionDeleteAll { .. } => 0x801d,
            Self::ModelSubscriptionStatus { .. } => 0x801f,
            Self::NetworkTransmitGet => 0x8023,
            Self::NetworkTransmitSet { .. } => 0x8024,
            Self::NetworkTransmitStatus { .. } => 0x8025,
            Self::RelayGet => 0x8026,
            Self::RelaySet { .. } => 0x8027,
            Self::RelayStatus { .. } => 0x8028,
            Self::ModelSubscriptionGet { model } => of(model, 0x8029, 0x802b),
            Self::ModelSubscriptionList { model, .. } => of(model, 0x802a, 0x802c),
            Self::ModelAppBind { .. } => 0x803d,
            Self::ModelAppStatus { .. } => 0x803e,
            Self::ModelAppUnbind { .. } => 0x803f,
            Self::NetKeyAdd { .. } => 0x8040,
            Self::NetKeyDelete { .. } => 0x8041,
            Self::NetKeyGet => 0x8042,
            Self::NetKeyList { .. } => 0x8043,
            Self::NetKeyStatus { .. } => 0x8044,
            Self::NodeReset => 0x8049,
            Self::NodeResetStatus => 0x804a,
            Self::AppKeyUpdate { .. } => return Opcode::One(0x01),
            Self::HeartbeatPublicationStatus { .. } => return Opcode::One(0x06),
            Self::BeaconGet => 0x8009,
            Self::BeaconSet { .. } => 0x800a,
            Self::BeaconStatus { .. } => 0x800b,
            Self::FriendGet => 0x800f,
            Self::FriendSet { .. } => 0x8010,
            Self::FriendStatus { .. } => 0x8011,
            Self::GattProxyGet => 0x8012,
            Self::GattProxySet { .. } => 0x8013,
            Self::GattProxyStatus { .. } => 0x8014,
            Self::KeyRefreshPhaseGet { .. } => 0x8015,
            Self::KeyRefreshPhaseSet { .. } => 0x8016,
            Self::KeyRefreshPhaseStatus { .. } => 0x8017,
            Self::LowPowerNodePollTimeoutGet { .. } => 0x802d,
            Self::LowPowerNodePollTimeoutStatus { .. } => 0x802e,
            Self::HeartbeatPublicationGet => 0x8038,
            Self::HeartbeatPublicationSet { .. } => 0x8039,
            Self::HeartbeatSubscriptionGet => 0x803a,
            Self::HeartbeatSubscriptionSet { .. } => 0x803b,
            Self::HeartbeatSubscriptionStatus { .. } => 0x803c,
            Self::NetKeyUpdate { .. } => 0x8045,
            Self::NodeIdentityGet { .. } => 0x8046,
            Self::NodeIdentitySet { .. } => 0x8047,
            Self::NodeIdentityStatus { .. } => 0x8048,
            Self::ModelAppGet { model } => of(model, 0x804b, 0x804d),
            Self::ModelAppList { model, .. } => of(model, 0x804c, 0x804e),
        })
    }

    /// The whole access message.
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = self.opcode().with(&[]);
        self.encode_parameters(&mut octets);
        octets
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each layout of §4.3.2, none with logic")]
    fn encode_parameters(&self, out: &mut Vec<u8>) {
        match self {
            Self::CompositionDataGet { page } => out.push(*page),
            Self::CompositionDataStatus { page, data } => {
                out.push(*page);
                out.extend_from_slice(data);
            }
            Self::DefaultTtlSet { ttl } | Self::DefaultTtlStatus { ttl } => out.push((*ttl).into()),
            Self::RelaySet { relay, retransmit } | Self::RelayStatus { relay, retransmit } => {
                out.extend([u8::from(*relay), retransmit.to_octet()]);
            }
            Self::NetworkTransmitSet { transmit } | Self::NetworkTransmitStatus { transmit } => {
                out.push(transmit.to_octet());
            }
            Self::BeaconSet { beacon: state }
            | Self::BeaconStatus { beacon: state }
            | Self::GattProxySet { proxy: state }
            | Self::GattProxyStatus { proxy: state }
            | Self::FriendSet { friend: state }
            | Self::FriendStatus { friend: state } => out.push((*state).into()),
            Self::KeyRefreshPhaseSet { index, transition } => {
                out.extend(index.to_le_bytes());
                out.push(match transition {
                    KeyRefreshTransition::UseNewKeys => 2,
                    KeyRefreshTransition::RevokeOldKeys => 3,
                });
            }
            Self::KeyRefreshPhaseStatus { status, index, phase } => {
                out.push(*status as u8);
                out.extend(index.to_le_bytes());
                out.push(*phase);
            }
            Self::NodeIdentitySet { index, identity } => {
                out.extend(index.to_le_bytes());
                out.push((*identity).into());
            }
            Self::NodeIdentityStatus { status, index, identity } => {
                out.push(*status as u8);
                out.extend(index.to_le_bytes());
                out.push((*identity).into());
            }
            Self::LowPowerNodePollTimeoutGet { address } => out.extend(u16::from(*address).to_le_bytes()),
            Self::LowPowerNodePollTimeoutStatus { address, poll_timeout } => {
                out.extend(u16::from(*address).to_le_bytes());
                out.extend_from_slice(&poll_timeout.to_le_bytes()[..3]);
            }
            Self::HeartbeatPublicationSet { publication } => publication.encode(out),
            Self::HeartbeatPublicationStatus { status, publication } => {
                out.push(*status as u8);
                publication.encode(out);
            }
            Self::HeartbeatSubscriptionSet { source, destination, period_log } => {
                out.extend(u16::from(*source).to_le_bytes());
                out.extend(u16::from(*destination).to_le_bytes());
                out.push(*period_log);
            }
            Self::HeartbeatSubscriptionStatus { status, subscription } => {
                out.push(*status as u8);
                subscription.encode(out);
            }
            Self::NetKeyAdd { index, key } | Self::NetKeyUpdate { index, key } => {
                out.extend(index.to_le_bytes());
                out.extend(key.as_bytes());
            }
            Self::NetKeyDelete { index }
            | Self::AppKeyGet { net_key_index: index }
            | Self::KeyRefreshPhaseGet { index }
            | Self::NodeIdentityGet { index } => out.extend(index.to_le_bytes()),
            Self::NetKeyStatus { status, index } => {
                out.push(*status as u8);
                out.extend(index.to_le_bytes());
            }
            Self::NetKeyList { indexes } => encode_indexes(indexes, out),
            Self::AppKeyAdd { net_key_index, index, key }
            | Self::AppKeyUpdate { net_key_index, index, key } => {
                out.extend(KeyIndex::pack_pair(*net_key_index, *index));
                out.extend(key.as_bytes());
            }
            Self::AppKeyDelete { net_key_index, index } => {
                out.extend(KeyIndex::pack_pair(*net_key_index, *index))
            }
            Self::AppKeyStatus { status, net_key_index, index } => {
                out.push(*status as u8);
                out.extend(KeyIndex::pack_pair(*net_key_index, *index));
            }
            Self::AppKeyList { status, net_key_index, indexes } => {
                out.push(*status as u8);
                out.extend(net_key_index.to_le_bytes());
                encode_indexes(indexes, out);
            }
            Self::ModelAppBind { index, model } | Self::ModelAppUnbind { index, model } => {
                out.extend(u16::from(model.element).to_le_bytes());
                out.extend(index.to_le_bytes());
                encode_model(model.model, out);
            }
            Self::ModelAppStatus { status, index, model } => {
                out.push(*status as u8);
                out.extend(u16::from(model.element).to_le_bytes());
                out.extend(index.to_le_bytes());
                encode_model(model.model, out);
            }
            Self::ModelAppGet { model }
            | Self::ModelPublicationGet { model }
            | Self::ModelSubscriptionDeleteAll { model }
            | Self::ModelSubscriptionGet { model } => model.encode(out),
            Self::ModelAppList { status, model, indexes } => {
                out.push(*status as u8);
                model.encode(out);
                encode_indexes(indexes, out);
            }
            Self::ModelPublicationSet { publication, model } => {
                out.extend(u16::from(model.element).to_le_bytes());
                match publication.destination {
                    PublishDestination::Address(address) => {
                        out.extend(u16::from(address).to_le_bytes());
                    }
                    PublishDestination::Label(label) => out.extend(label.0),
                }
                publication.encode_parameters(out);
                encode_model(model.model, out);
            }
            Self::ModelPublicationStatus { status, publication, model } => {
                out.push(*status as u8);
                out.extend(u16::from(model.element).to_le_bytes());
                out.extend(u16::from(publication.destination.address()).to_le_bytes());
                publication.encode_parameters(out);
                encode_model(model.model, out);
            }
            Self::ModelSubscriptionChange { address, model, .. } => {
                out.extend(u16::from(model.element).to_le_bytes());
                out.extend(u16::from(*address).to_le_bytes());
                encode_model(model.model, out);
            }
            Self::ModelSubscriptionVirtualAddressChange { label, model, .. } => {
                out.extend(u16::from(model.element).to_le_bytes());
                out.extend(label.0);
                encode_model(model.model, out);
            }
            Self::ModelSubscriptionStatus { status, address, model } => {
                out.push(*status as u8);
                out.extend(u16::from(model.element).to_le_bytes());
                out.extend(u16::from(*address).to_le_bytes());
                encode_model(model.model, out);
            }
            Self::ModelSubscriptionList { status, model, addresses } => {
                out.push(*status as u8);
                model.encode(out);
                out.extend(addresses.iter().flat_map(|&address| u16::from(address).to_le_bytes()));
            }
            Self::BeaconGet
            | Self::GattProxyGet
            | Self::FriendGet
            | Self::HeartbeatPublicationGet
            | Self::HeartbeatSubscriptionGet
            | Self::DefaultTtlGet
            | Self::RelayGet
            | Self::NetworkTransmitGet
            | Self::NetKeyGet
            | Self::NodeReset
            | Self::NodeResetStatus => {}
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`DecodeError::UnknownOpcode`] for messages of other models and those of Mesh Protocol 1.1; else what is
    /// wrong with the parameters, in which case the specification has the message ignored (§3.7.3.4).
    #[expect(clippy::too_many_lines, reason = "one arm for each layout of §4.3.2, none with logic")]
    pub fn decode(opcode: Opcode, parameters: &[u8]) -> Result<Self, DecodeError> {
        use SubscriptionChange::{Add, Delete, Overwrite};
        let mut reader = Reader::new(parameters);
        let r = &mut reader;
        let message = match opcode {
            Opcode::One(0x00) => {
                let (net_key_index, index) = KeyIndex::unpack_pair(r.array()?);
                Self::AppKeyAdd { net_key_index, index, key: AppKey::new(r.array()?) }
            }
            Opcode::One(0x01) => {
                let (net_key_index, index) = KeyIndex::unpack_pair(r.array()?);
                Self::AppKeyUpdate { net_key_index, index, key: AppKey::new(r.array()?) }
            }
            Opcode::One(0x06) => Self::HeartbeatPublicationStatus {
                status: status(r)?,
                publication: HeartbeatPublication::decode_status(r)?,
            },
            Opcode::Two(0x8009) => Self::BeaconGet,
            Opcode::Two(0x800a) => Self::BeaconSet { beacon: FeatureState::decode_wanted(r.u8()?)? },
            Opcode::Two(0x800b) => Self::BeaconStatus { beacon: FeatureState::decode_wanted(r.u8()?)? },
            Opcode::Two(0x800f) => Self::FriendGet,
            Opcode::Two(0x8010) => Self::FriendSet { friend: FeatureState::decode_wanted(r.u8()?)? },
            Opcode::Two(0x8011) => Self::FriendStatus { friend: FeatureState::decode(r.u8()?)? },
            Opcode::Two(0x8012) => Self::GattProxyGet,
            Opcode::Two(0x8013) => Self::GattProxySet { proxy: FeatureState::decode_wanted(r.u8()?)? },
            Opcode::Two(0x8014) => Self::GattProxyStatus { proxy: FeatureState::decode(r.u8()?)? },
            Opcode::Two(0x8015) => Self::KeyRefreshPhaseGet { index: KeyIndex::from_le_bytes(r.array()?)? },
            Opcode::Two(0x8016) => Self::KeyRefreshPhaseSet {
                index: KeyIndex::from_le_bytes(r.array()?)?,
                transition: match r.u8()? {
                    2 => KeyRefreshTransition::UseNewKeys,
                    3 => KeyRefreshTransition::RevokeOldKeys,
                    _ => return Err(DecodeError::Prohibited("Transition")),
                },
            },
            Opcode::Two(0x8017) => Self::KeyRefreshPhaseStatus {
                status: status(r)?,
                index: KeyIndex::from_le_bytes(r.array()?)?,
                phase: match r.u8()? {
                    phase @ 0..=2 => phase,
                    _ => return Err(DecodeError::Prohibited("Phase")),
                },
            },
            Opcode::Two(0x802d) => Self::LowPowerNodePollTimeoutGet { address: element(r)? },
            Opcode::Two(0x802e) => Self::LowPowerNodePollTimeoutStatus {
                address: element(r)?,
                poll_timeout: match r.u24_le()? {
                    timeout @ (0 | 0x0a..=0x34_bbff) => timeout,
                    _ => return Err(DecodeError::Prohibited("PollTimeout")),
                },
            },
            Opcode::Two(0x8038) => Self::HeartbeatPublicationGet,
            Opcode::Two(0x8039) => {
                Self::HeartbeatPublicationSet { publication: HeartbeatPublication::decode(r)? }
            }
            Opcode::Two(0x803a) => Self::HeartbeatSubscriptionGet,
            Opcode::Two(0x803b) => {
                let (source, destination) = HeartbeatSubscription::decode_addresses(r)?;
                let period_log @ 0..=0x11 = r.u8()? else {
                    return Err(DecodeError::Prohibited("PeriodLog"));
                };
                Self::HeartbeatSubscriptionSet { source, destination, period_log }
            }
            Opcode::Two(0x803c) => Self::HeartbeatSubscriptionStatus {
                status: status(r)?,
                subscription: HeartbeatSubscription::decode(r)?,
            },
            Opcode::Two(0x8045) => Self::NetKeyUpdate {
                index: KeyIndex::from_le_bytes(r.array()?)?,
                key: NetKey::new(r.array()?),
            },
            Opcode::Two(0x8046) => Self::NodeIdentityGet { index: KeyIndex::from_le_bytes(r.array()?)? },
            Opcode::Two(0x8047) => Self::NodeIdentitySet {
                index: KeyIndex::from_le_bytes(r.array()?)?,
                identity: FeatureState::decode_wanted(r.u8()?)?,
            },
            Opcode::Two(0x8048) => Self::NodeIdentityStatus {
                status: status(r)?,
                index: KeyIndex::from_le_bytes(r.array()?)?,
                identity: FeatureState::decode(r.u8()?)?,
            },
            Opcode::One(0x02) => {
                let page = r.u8()?;
                let rest = r.rest().len();
                Self::CompositionDataStatus { page, data: r.take(rest)?.to_vec() }
            }
            Opcode::One(0x03) => {
                let element = element(r)?;
                let address = Address::from(r.u16_le()?);
                if matches!(address, Address::Virtual(_)) {
                    return Err(DecodeError::Prohibited("PublishAddress"));
                }
                let publication = Publication::decode_parameters(PublishDestination::Address(address), r)?;
                Self::ModelPublicationSet { publication, model: ModelRef { element, model: model(r)? } }
            }
            Opcode::Two(0x801a) => {
                let element = element(r)?;
                let label = PublishDestination::Label(LabelUuid(r.array()?));
                let publication = Publication::decode_parameters(label, r)?;
                Self::ModelPublicationSet { publication, model: ModelRef { element, model: model(r)? } }
            }
            Opcode::Two(0x8000) => {
                let (net_key_index, index) = KeyIndex::unpack_pair(r.array()?);
                Self::AppKeyDelete { net_key_index, index }
            }
            Opcode::Two(0x8001) => Self::AppKeyGet { net_key_index: KeyIndex::from_le_bytes(r.array()?)? },
            Opcode::Two(0x8002) => Self::AppKeyList {
                status: status(r)?,
                net_key_index: KeyIndex::from_le_bytes(r.array()?)?,
                indexes: indexes(r)?,
            },
            Opcode::Two(0x8003) => {
                let status = status(r)?;
                let (net_key_index, index) = KeyIndex::unpack_pair(r.array()?);
                Self::AppKeyStatus { status, net_key_index, index }
            }
            Opcode::Two(0x8008) => Self::CompositionDataGet { page: r.u8()? },
            Opcode::Two(0x800c) => Self::DefaultTtlGet,
            Opcode::Two(0x800d) => Self::DefaultTtlSet { ttl: default_ttl(r)? },
            Opcode::Two(0x800e) => Self::DefaultTtlStatus { ttl: default_ttl(r)? },
            Opcode::Two(0x8018) => Self::ModelPublicationGet { model: ModelRef::decode(r)? },
            Opcode::Two(0x8019) => {
                let status = status(r)?;
                let element = element(r)?;
                let destination = PublishDestination::Address(Address::from(r.u16_le()?));
                let publication = Publication::decode_parameters(destination, r)?;
                let model = ModelRef { element, model: model(r)? };
                Self::ModelPublicationStatus { status, publication, model }
            }
            Opcode::Two(0x801b) => subscription(Add, r)?,
            Opcode::Two(0x801c) => subscription(Delete, r)?,
            Opcode::Two(0x801e) => subscription(Overwrite, r)?,
            Opcode::Two(0x8020) => virtual_subscription(Add, r)?,
            Opcode::Two(0x8021) => virtual_subscription(Delete, r)?,
            Opcode::Two(0x8022) => virtual_subscription(Overwrite, r)?,
            Opcode::Two(0x801d) => Self::ModelSubscriptionDeleteAll { model: ModelRef::decode(r)? },
            Opcode::Two(0x801f) => {
                let status = status(r)?;
                let element = element(r)?;
                let address = Address::from(r.u16_le()?);
                Self::ModelSubscriptionStatus {
                    status,
                    address,
                    model: ModelRef { element, model: model(r)? },
                }
            }
            Opcode::Two(0x8023) => Self::NetworkTransmitGet,
            Opcode::Two(0x8024) => Self::NetworkTransmitSet { transmit: Transmit::from_octet(r.u8()?) },
            Opcode::Two(0x8025) => Self::NetworkTransmitStatus { transmit: Transmit::from_octet(r.u8()?) },
            Opcode::Two(0x8026) => Self::RelayGet,
            Opcode::Two(0x8027) => Self::RelaySet {
                relay: FeatureState::decode_wanted(r.u8()?)?,
                retransmit: Transmit::from_octet(r.u8()?),
            },
            Opcode::Two(0x8028) => Self::RelayStatus {
                relay: FeatureState::decode(r.u8()?)?,
                retransmit: Transmit::from_octet(r.u8()?),
            },
            Opcode::Two(0x8029 | 0x802b) => Self::ModelSubscriptionGet { model: ModelRef::decode(r)? },
            Opcode::Two(list @ (0x802a | 0x802c)) => {
                let (status, element) = (status(r)?, element(r)?);
                let model = ModelRef { element, model: model_of(list == 0x802c, r)? };
                Self::ModelSubscriptionList { status, model, addresses: addresses(r)? }
            }
            Opcode::Two(0x803d) => {
                let (index, model) = binding(r)?;
                Self::ModelAppBind { index, model }
            }
            Opcode::Two(0x803e) => {
                let status = status(r)?;
                let (index, model) = binding(r)?;
                Self::ModelAppStatus { status, index, model }
            }
            Opcode::Two(0x803f) => {
                let (index, model) = binding(r)?;
                Self::ModelAppUnbind { index, model }
            }
            Opcode::Two(0x8040) => {
                Self::NetKeyAdd { index: KeyIndex::from_le_bytes(r.array()?)?, key: NetKey::new(r.array()?) }
            }
            Opcode::Two(0x8041) => Self::NetKeyDelete { index: KeyIndex::from_le_bytes(r.array()?)? },
            Opcode::Two(0x8042) => Self::NetKeyGet,
            Opcode::Two(0x8043) => Self::NetKeyList { indexes: indexes(r)? },
            Opcode::Two(0x8044) => {
                Self::NetKeyStatus { status: status(r)?, index: KeyIndex::from_le_bytes(r.array()?)? }
            }
            Opcode::Two(0x8049) => Self::NodeReset,
            Opcode::Two(0x804a) => Self::NodeResetStatus,
            Opcode::Two(0x804b | 0x804d) => Self::ModelAppGet { model: ModelRef::decode(r)? },
            Opcode::Two(list @ (0x804c | 0x804e)) => {
                let (status, element) = (status(r)?, element(r)?);
                let model = ModelRef { element, model: model_of(list == 0x804e, r)? };
                Self::ModelAppList { status, model, indexes: indexes(r)? }
            }
            _ => return Err(DecodeError::UnknownOpcode),
        };
        // Messages that name SIG and vendor models under different opcodes take only their own kind.
        if message.opcode() != opcode {
            return Err(DecodeError::TooLong);
        }
        reader.finish(message)
    }
}

impl ModelRef {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(u16::from(self.element).to_le_bytes());
        encode_model(self.model, out);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { element: element(r)?, model: model(r)? })
    }
}

fn element(r: &mut Reader<'_>) -> Result<UnicastAddress, DecodeError> {
    UnicastAddress::new(r.u16_le()?).ok_or(DecodeError::Prohibited("ElementAddress"))
}

/// A model at the end of a message: the length says whose it is.
fn model(r: &mut Reader<'_>) -> Result<ModelId, DecodeError> {
    model_of(r.rest().len() == 4, r)
}

fn model_of(vendor: bool, r: &mut Reader<'_>) -> Result<ModelId, DecodeError> {
    let first = r.u16_le()?;
    if vendor { Ok(ModelId::Vendor(CompanyId(first), r.u16_le()?)) } else { Ok(ModelId::Sig(first)) }
}

fn status(r: &mut Reader<'_>) -> Result<Status, DecodeError> {
    Status::try_from(r.u8()?)
}

/// Default TTL is 0 or 2 to 127 (§4.2.8).
fn default_ttl(r: &mut Reader<'_>) -> Result<Ttl, DecodeError> {
    let ttl = r.u8()?;
    Ttl::new(ttl).filter(|_| ttl != 1).ok_or(DecodeError::Prohibited("TTL"))
}

fn binding(r: &mut Reader<'_>) -> Result<(AppKeyIndex, ModelRef), DecodeError> {
    let element = element(r)?;
    let index = KeyIndex::from_le_bytes(r.array()?)?;
    Ok((index, ModelRef { element, model: model(r)? }))
}

/// Groups only; a Label UUID has messages of its own, and all-nodes cannot be subscribed to (§4.3.2.19).
fn subscription(change: SubscriptionChange, r: &mut Reader<'_>) -> Result<ConfigMessage, DecodeError> {
    let element = element(r)?;
    let address = Address::from(r.u16_le()?);
    match address {
        Address::Group(group) if group != crate::address::GroupAddress::ALL_NODES => {}
        _ => return Err(DecodeError::Prohibited("Address")),
    }
    Ok(ConfigMessage::ModelSubscriptionChange {
        change,
        address,
        model: ModelRef { element, model: model(r)? },
    })
}

fn virtual_subscription(
    change: SubscriptionChange,
    r: &mut Reader<'_>,
) -> Result<ConfigMessage, DecodeError> {
    let element = element(r)?;
    let label = LabelUuid(r.array()?);
    let model = ModelRef { element, model: model(r)? };
    Ok(ConfigMessage::ModelSubscriptionVirtualAddressChange { change, label, model })
}

fn addresses(r: &mut Reader<'_>) -> Result<Vec<Address>, DecodeError> {
    let mut addresses = Vec::new();
    while !r.is_empty() {
        addresses.push(Address::from(r.u16_le()?));
    }
    Ok(addresses)
}

/// Pairs of indexes in three octets, an odd last one in two (§4.3.1.1).
fn encode_indexes(indexes: &[KeyIndex], out: &mut Vec<u8>) {
    for pair in indexes.chunks(2) {
        match pair {
            [first, second] => out.extend(KeyIndex::pack_pair(*first, *second)),
            _ => out.extend(pair.iter().flat_map(|index| index.to_le_bytes())),
        }
    }
}

fn indexes(r: &mut Reader<'_>) -> Result<Vec<KeyIndex>, DecodeError> {
    let mut indexes = Vec::new();
    while r.rest().len() >= 3 {
        let (first, second) = KeyIndex::unpack_pair(r.array()?);
        indexes.extend([first, second]);
    }
    if !r.is_empty() {
        indexes.push(KeyIndex::from_le_bytes(r.array()?)?);
    }
    Ok(indexes)
}
