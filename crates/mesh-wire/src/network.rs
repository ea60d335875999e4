//! The network PDU (MshPRT §3.4.4), secured and hidden:
//! `IVI:1 NID:7 · obfuscated{CTL:1 TTL:7 · SEQ:24 · SRC:16} · encrypted{DST:16 · TransportPDU} · NetMIC`.

use mesh_crypto::nonce::{Nonce, NonceFields};
use mesh_crypto::{Mic, NetworkKeys, PrivacyRandom};
use smallvec::SmallVec;

use crate::address::{Address, UnicastAddress};
use crate::bearer::MAX_DATA;
use crate::{DecodeError, IvIndex, Seq, SeqAuth, Ttl};

/// A network PDU as it goes over a bearer: at most 29 octets.
pub type Octets = SmallVec<[u8; MAX_DATA]>;

/// A lower transport PDU: at most 16 octets with an access message, 12 with a control message.
pub type TransportPdu = SmallVec<[u8; 16]>;

/// Where the encrypted part begins.
const ENCRYPTED_AT: usize = 7;

/// What a network PDU says, once it was decrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPdu {
    /// CTL: whether the transport PDU is of a control message; its NetMIC then has 64 bits, else 32.
    pub ctl: bool,
    /// How far it may still go.
    pub ttl: Ttl,
    /// Its place in what the source sends.
    pub seq: Seq,
    /// The element that sent it first.
    pub src: UnicastAddress,
    /// Never unassigned.
    pub dst: Address,
    /// 1 to 16 octets; with CTL, to 12.
    pub transport_pdu: TransportPdu,
}

/// The part of a network PDU that is hidden, not encrypted: it can be read before the NetMIC is checked, and
/// believed only after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// CTL.
    pub ctl: bool,
    /// TTL.
    pub ttl: Ttl,
    /// SEQ.
    pub seq: Seq,
    /// SRC.
    pub src: UnicastAddress,
}

/// The octet in the clear: IVI, and NID.
pub const fn ivi_nid(octets: &[u8]) -> Option<(bool, u8)> {
    match octets {
        [first, ..] => Some((*first >> 7 == 1, *first & 0x7f)),
        [] => None,
    }
}

impl Header {
    /// Shows the header of a received PDU, under the keys and IV Index that its first octet points to.
    ///
    /// # Errors
    /// When the PDU has fewer octets than the smallest, or what shows is no unicast source: other keys hid it.
    pub fn deobfuscate(octets: &[u8], keys: &NetworkKeys, iv_index: IvIndex) -> Result<Self, DecodeError> {
        let hidden: &[u8; 6] =
            octets.get(1..ENCRYPTED_AT).and_then(|x| x.try_into().ok()).ok_or(DecodeError::TooShort)?;
        let random: &PrivacyRandom =
            octets.get(7..14).and_then(|x| x.try_into().ok()).ok_or(DecodeError::TooShort)?;
        let shown = keys.obfuscate(*hidden, iv_index.0, *random);
        Self::from_octets(shown)
    }

    fn from_octets([ctl_ttl, seq_0, seq_1, seq_2, src_0, src_1]: [u8; 6]) -> Result<Self, DecodeError> {
        Ok(Self {
            ctl: ctl_ttl >> 7 == 1,
            ttl: Ttl::new(ctl_ttl & 0x7f).ok_or(DecodeError::Prohibited("TTL"))?,
            seq: Seq::from_be_bytes([seq_0, seq_1, seq_2]),
            src: UnicastAddress::new(u16::from_be_bytes([src_0, src_1]))
                .ok_or(DecodeError::Prohibited("SRC"))?,
        })
    }

    fn to_octets(self) -> [u8; 6] {
        let [seq_0, seq_1, seq_2] = self.seq.to_be_bytes();
        let [src_0, src_1] = u16::from(self.src).to_be_bytes();
        [u8::from(self.ctl) << 7 | u8::from(self.ttl), seq_0, seq_1, seq_2, src_0, src_1]
    }

    fn mic(self) -> Mic {
        if self.ctl { Mic::Bits64 } else { Mic::Bits32 }
    }

    fn nonce(self, iv_index: IvIndex) -> Nonce {
        let fields = NonceFields { seq: self.seq.into(), src: self.src.into(), iv_index: iv_index.0 };
        Nonce::network(self.to_octets()[0], fields)
    }

    /// Decrypts the rest of the PDU whose header this is.
    ///
    /// # Errors
    /// [`DecodeError::Mic`] when it was not secured with these keys; else what is wrong with its content.
    pub fn decrypt(
        self,
        octets: &[u8],
        keys: &NetworkKeys,
        iv_index: IvIndex,
    ) -> Result<NetworkPdu, DecodeError> {
        let (dst, transport_pdu) = self.open(octets, keys, &self.nonce(iv_index))?;
        // §3.4.4.7: no message goes nowhere, and no control message to a virtual address.
        if dst == Address::Unassigned || (self.ctl && matches!(dst, Address::Virtual(_))) {
            return Err(DecodeError::Prohibited("DST"));
        }
        let Self { ctl, ttl, seq, src } = self;
        Ok(NetworkPdu { ctl, ttl, seq, src, dst, transport_pdu })
    }

    /// DST and TransportPDU of the PDU whose header this is.
    pub(crate) fn open(
        self,
        octets: &[u8],
        keys: &NetworkKeys,
        nonce: &Nonce,
    ) -> Result<(Address, TransportPdu), DecodeError> {
        let secured = octets.get(ENCRYPTED_AT..).ok_or(DecodeError::TooShort)?;
        if octets.len() > MAX_DATA {
            return Err(DecodeError::TooLong);
        }
        let opened = mesh_crypto::decrypt(keys.encryption_key(), nonce, secured, &[], self.mic())
            .map_err(|_| DecodeError::Mic)?;
        let (dst, transport_pdu) = opened.split_first_chunk().ok_or(DecodeError::TooShort)?;
        if transport_pdu.is_empty() {
            return Err(DecodeError::TooShort);
        }
        Ok((Address::from(u16::from_be_bytes(*dst)), transport_pdu.into()))
    }

    /// Encrypts and hides the PDU whose header this is (MshPRT §3.4.6.2, §3.9.7).
    pub(crate) fn seal(
        self,
        dst: Address,
        transport_pdu: &[u8],
        keys: &NetworkKeys,
        iv_index: IvIndex,
        nonce: &Nonce,
    ) -> Octets {
        let mut content = SmallVec::<[u8; 18]>::from_slice(&u16::from(dst).to_be_bytes());
        content.extend_from_slice(transport_pdu);
        let secured = mesh_crypto::encrypt(keys.encryption_key(), nonce, &content, &[], self.mic());
        let mut random = PrivacyRandom::default();
        random.copy_from_slice(&secured[..7]);
        let mut octets = Octets::new();
        octets.push(u8::from(iv_index.ivi()) << 7 | keys.nid());
        octets.extend(keys.obfuscate(self.to_octets(), iv_index.0, random));
        octets.extend_from_slice(&secured);
        octets
    }
}

impl NetworkPdu {
    /// The part of it that is hidden, not encrypted.
    pub const fn header(&self) -> Header {
        Header { ctl: self.ctl, ttl: self.ttl, seq: self.seq, src: self.src }
    }

    /// Its place in what the source sends, under the IV Index that secured it.
    pub const fn seq_auth(&self, iv_index: IvIndex) -> SeqAuth {
        SeqAuth { iv_index, seq: self.seq }
    }

    /// Encrypts and hides it (MshPRT §3.4.6.2, §3.9.7).
    pub fn secure(&self, keys: &NetworkKeys, iv_index: IvIndex) -> Octets {
        let header = self.header();
        header.seal(self.dst, &self.transport_pdu, keys, iv_index, &header.nonce(iv_index))
    }
}
