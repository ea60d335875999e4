use alloc::vec::Vec;

use crate::{CompanyId, DecodeError, ModelId, Reader};

/// Composition Data page 0 (MshPRT §4.2.2.1): what a node is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompositionData {
    /// CID: the company that made the node.
    pub company: CompanyId,
    /// PID: the company's number for the product.
    pub product: u16,
    /// VID: the company's number for the version.
    pub version: u16,
    /// CRPL: the least number of entries in the node's replay list.
    pub replay_list: u16,
    /// The features that the node supports.
    pub features: Features,
    /// Its elements, the primary one first; at least one.
    pub elements: Vec<ElementDescription>,
}

/// The features of a node: `relay, proxy, friend, low power` from bit 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(pub u16);

impl Features {
    /// Relay.
    pub const RELAY: Self = Self(1);
    /// GATT proxy.
    pub const PROXY: Self = Self(2);
    /// Friend.
    pub const FRIEND: Self = Self(4);
    /// Low power.
    pub const LOW_POWER: Self = Self(8);

    /// Whether all of `other` are among them.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// An element of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ElementDescription {
    /// Loc: where the element is, in the numbers of the GATT Namespace Descriptors; 0: unknown.
    pub location: u16,
    /// Its models: those of the Bluetooth SIG first.
    pub models: Vec<ModelId>,
}

impl CompositionData {
    /// `CID · PID · VID · CRPL · Features · { Loc · NumS:8 · NumV:8 · SIG models · vendor models }…`.
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        for field in [self.company.0, self.product, self.version, self.replay_list, self.features.0] {
            octets.extend(field.to_le_bytes());
        }
        for element in &self.elements {
            octets.extend(element.location.to_le_bytes());
            let of = |vendor: bool| {
                element.models.iter().filter(move |x| matches!(x, ModelId::Vendor(..)) == vendor)
            };
            for vendor in [false, true] {
                octets.push(u8::try_from(of(vendor).count()).unwrap_or(u8::MAX));
            }
            for model in of(false).chain(of(true)) {
                encode_model(*model, &mut octets);
            }
        }
        octets
    }

    /// Reads page 0.
    ///
    /// # Errors
    /// When it is cut short, or holds no element.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(octets);
        let mut composition = Self {
            company: CompanyId(reader.u16_le()?),
            product: reader.u16_le()?,
            version: reader.u16_le()?,
            replay_list: reader.u16_le()?,
            features: Features(reader.u16_le()?),
            elements: Vec::new(),
        };
        while !reader.is_empty() || composition.elements.is_empty() {
            let location = reader.u16_le()?;
            let (sig, vendor) = (reader.u8()?, reader.u8()?);
            let mut models = Vec::with_capacity(usize::from(sig) + usize::from(vendor));
            for _ in 0..sig {
                models.push(ModelId::Sig(reader.u16_le()?));
            }
            for _ in 0..vendor {
                models.push(ModelId::Vendor(CompanyId(reader.u16_le()?), reader.u16_le()?));
            }
            composition.elements.push(ElementDescription { location, models });
        }
        Ok(composition)
    }
}

/// A model identifier: two octets, or a vendor's four.
pub(super) fn encode_model(model: ModelId, octets: &mut Vec<u8>) {
    match model {
        ModelId::Sig(id) => octets.extend(id.to_le_bytes()),
        ModelId::Vendor(company, id) => {
            octets.extend(company.0.to_le_bytes());
            octets.extend(id.to_le_bytes());
        }
    }
}
