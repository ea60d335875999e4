//! The upper transport layer (MshPRT §3.6): secures access messages with application and device keys.

use alloc::vec::Vec;

use mesh_crypto::nonce::{Nonce, NonceFields};
use mesh_crypto::{Key128, LabelUuid, Mic};
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::lower_transport::KeyHint;
use mesh_wire::{NetKeyIndex, SeqAuth};

use crate::discard::Discard;
use crate::keys::{Keys, MessageKey};

/// Whom a message is for. A virtual address is named by its label, which also authenticates the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// An element or a group.
    Address(Address),
    /// All that subscribe to a Label UUID.
    Label(LabelUuid),
}

/// What a nonce and the choice of a key depend on.
#[derive(Clone, Copy, Debug)]
pub struct Envelope {
    /// The subnet.
    pub net_key_index: NetKeyIndex,
    /// The sender.
    pub src: UnicastAddress,
    /// The destination.
    pub dst: Address,
    /// The PDU's place in what its source sends; for a segmented message its SeqAuth.
    pub seq_auth: SeqAuth,
}

/// An access message that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The key that fitted.
    pub key: MessageKey,
    /// The label that fitted, of a message to a virtual address.
    pub label: Option<LabelUuid>,
    /// Opcode and parameters.
    pub payload: Vec<u8>,
}

/// An access message that was secured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secured {
    /// AKF and AID.
    pub hint: KeyHint,
    /// The message and its TransMIC.
    pub upper: Vec<u8>,
}

/// There is no such key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node does not have the key that the message is to be secured with")]
pub struct UnknownKey;

impl Destination {
    /// The 16 bits that stand for it in a PDU.
    pub fn address(&self) -> Address {
        match self {
            Self::Address(address) => *address,
            Self::Label(label) => Address::from(label.hash()),
        }
    }

    fn label(&self) -> Option<&LabelUuid> {
        match self {
            Self::Address(_) => None,
            Self::Label(label) => Some(label),
        }
    }
}

impl Envelope {
    fn nonce(&self, hint: KeyHint, mic: Mic) -> Nonce {
        let fields = NonceFields {
            seq: self.seq_auth.seq.into(),
            src: self.src.into(),
            iv_index: self.seq_auth.iv_index.0,
        };
        let aszmic = mic == Mic::Bits64;
        match hint {
            KeyHint::Application(_) => Nonce::application(aszmic, fields, self.dst.into()),
            KeyHint::Device => Nonce::device(aszmic, fields, self.dst.into()),
        }
    }
}

/// The subnet in which messages under `key` are sent: the one that an AppKey is bound to, and for device keys
/// that of `otherwise`.
pub fn subnet_of(keys: &Keys, key: MessageKey, otherwise: NetKeyIndex) -> Result<NetKeyIndex, UnknownKey> {
    match key {
        MessageKey::App(index) => keys.application(index).map(|x| x.net_key_index).ok_or(UnknownKey),
        MessageKey::LocalDevice | MessageKey::RemoteDevice => Ok(otherwise),
    }
}

/// Secures an access message (MshPRT §3.6.4.1).
pub fn secure(
    keys: &Keys,
    key: MessageKey,
    destination: &Destination,
    envelope: &Envelope,
    payload: &[u8],
    mic: Mic,
) -> Result<Secured, UnknownKey> {
    let (hint, key): (KeyHint, &Key128) = match key {
        MessageKey::App(index) => {
            let application = keys.sending_application(index).ok_or(UnknownKey)?;
            (KeyHint::Application(application.aid), application.app_key.as_bytes())
        }
        MessageKey::LocalDevice => (KeyHint::Device, keys.device().as_bytes()),
        MessageKey::RemoteDevice => {
            let node = envelope.dst.unicast().ok_or(UnknownKey)?;
            (KeyHint::Device, keys.remote_device(node).ok_or(UnknownKey)?.as_bytes())
        }
    };
    let aad = destination.label().map_or(&[][..], |label| &label.0);
    let upper = mesh_crypto::encrypt(key, &envelope.nonce(hint, mic), payload, aad, mic);
    Ok(Secured { hint, upper })
}

/// Opens an access message: with each key that `hint` may mean and, for a virtual address, each of `labels`
/// that has its hash (MshPRT §3.6.4.2).
pub fn open(
    keys: &Keys,
    labels: &[LabelUuid],
    hint: KeyHint,
    envelope: &Envelope,
    upper: &[u8],
    mic: Mic,
) -> Result<Opened, Discard> {
    let nonce = envelope.nonce(hint, mic);
    let attempt = |key: &Key128, aad: &[u8]| mesh_crypto::decrypt(key, &nonce, upper, aad, mic).ok();
    match hint {
        KeyHint::Device => {
            // Device keys secure messages between two nodes only.
            if envelope.dst.unicast().is_none() {
                return Err(Discard::TransportKey);
            }
            let remote = keys.remote_device(envelope.src).map(|key| (MessageKey::RemoteDevice, key));
            let own = (MessageKey::LocalDevice, keys.device());
            (remote.into_iter().chain([own])).find_map(|(key, octets)| {
                Some(Opened { key, label: None, payload: attempt(octets.as_bytes(), &[])? })
            })
        }
        KeyHint::Application(aid) => (keys
            .applications_of(envelope.net_key_index)
            .flat_map(|application| {
                application.receiving().map(move |material| (application.index, material))
            })
            .filter(|(_, material)| material.aid == aid))
        .find_map(|(index, material)| {
            let key = MessageKey::App(index);
            let octets = material.app_key.as_bytes();
            if let Address::Virtual(_) = envelope.dst {
                let with_hash = labels.iter().filter(|label| Address::from(label.hash()) == envelope.dst);
                return with_hash.into_iter().find_map(|&label| {
                    Some(Opened { key, label: Some(label), payload: attempt(octets, &label.0)? })
                });
            }
            Some(Opened { key, label: None, payload: attempt(octets, &[])? })
        }),
    }
    .ok_or(Discard::TransportKey)
}
