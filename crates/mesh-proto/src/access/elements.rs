use alloc::boxed::Box;
use alloc::vec::Vec;

use mesh_crypto::LabelUuid;
use mesh_wire::access::Opcode;
use mesh_wire::address::{Address, GroupAddress, UnicastAddress};
use mesh_wire::foundation::{Features, Publication};
use mesh_wire::{AppKeyIndex, ModelId};

use super::{Access, Place, Server, ServerEntry};
use crate::upper_transport::Destination;

/// Most addresses that a model subscribes to, unless the node says otherwise.
pub const MAX_SUBSCRIPTIONS: usize = 32;

/// Most AppKeys that a model is bound to.
pub const MAX_BINDINGS: usize = 16;

/// The elements of a node, the primary one first.
#[derive(Debug, Default)]
pub struct Elements {
    elements: Vec<Element>,
    servers: Vec<ServerEntry>,
    max_subscriptions: usize,
}

/// An element and its models.
#[derive(Default)]
pub struct Element {
    /// Where it is, in the numbers of the GATT Namespace Descriptors; 0: unknown.
    pub location: u16,
    /// Its models; those of its servers only once it is part of a node.
    pub models: Vec<ModelEntry>,
    servers: Vec<Box<dyn Server>>,
}

/// A model of an element, with what the Configuration Server keeps for it.
#[derive(Debug)]
pub struct ModelEntry {
    /// Which model.
    pub id: ModelId,
    /// How it comes to its messages.
    pub access: Access,
    /// The AppKeys that it is bound to.
    pub bindings: Vec<AppKeyIndex>,
    /// The groups and labels that it subscribes to.
    pub subscriptions: Vec<Destination>,
    /// Where it publishes.
    pub publication: Option<Publication>,
}

/// Which elements and models an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// One element, whatever its models subscribe to.
    Element(u8),
    /// The models that subscribe.
    Subscribers(Destination),
    /// The models of the primary element, and others that subscribe: a fixed group that this node belongs to.
    Fixed(Destination),
}

impl Element {
    /// An element without models.
    pub fn new(location: u16) -> Self {
        Self { location, models: Vec::new(), servers: Vec::new() }
    }

    /// Adds the models of a server, to this element and, where it has more, to those that follow.
    #[must_use]
    pub fn with_server(mut self, server: impl Server) -> Self {
        self.servers.push(Box::new(server));
        self
    }

    /// Adds a client model, or another whose messages the host handles itself, that understands `opcodes`.
    #[must_use]
    pub fn with_host(mut self, id: ModelId, opcodes: &'static [Opcode]) -> Self {
        self.add(id, Access::Host(opcodes));
        self
    }

    pub(crate) fn add(&mut self, id: ModelId, access: Access) {
        let (bindings, subscriptions, publication) = (Vec::new(), Vec::new(), None);
        self.models.push(ModelEntry { id, access, bindings, subscriptions, publication });
    }
}

impl core::fmt::Debug for Element {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Element").field("location", &self.location).field("models", &self.models).finish()
    }
}

impl ModelEntry {
    /// Whether device keys secure its messages: then it is bound to no AppKey, subscribes to nothing and publishes nothing
    /// (MshPRT §4.4.1.1, §4.4.2.1).
    pub(crate) fn has_device_keys(&self) -> bool {
        [ModelId::CONFIGURATION_SERVER, ModelId::CONFIGURATION_CLIENT].contains(&self.id)
    }
}

impl Elements {
    /// Elements, the primary one first. A server that needs more elements than there are gets them.
    pub fn new(mut elements: Vec<Element>) -> Self {
        let mut servers = Vec::new();
        let mut index = 0;
        while index < elements.len() {
            for server in core::mem::take(&mut elements[index].servers) {
                for Place { element, model } in server.models() {
                    let at = index + usize::from(element);
                    while elements.len() <= at {
                        elements.push(Element::new(0));
                    }
                    elements[at].add(model, Access::Server(servers.len()));
                }
                let first_element = u8::try_from(index).unwrap_or(u8::MAX);
                servers.push(ServerEntry { first_element, server });
            }
            index += 1;
        }
        Self { elements, servers, max_subscriptions: MAX_SUBSCRIPTIONS }
    }

    /// Changes how many addresses a model may subscribe to.
    #[must_use]
    pub fn with_max_subscriptions(self, max_subscriptions: usize) -> Self {
        Self { max_subscriptions, ..self }
    }

    pub(crate) fn max_subscriptions(&self) -> usize {
        self.max_subscriptions
    }

    pub(crate) fn servers(&self) -> &[ServerEntry] {
        &self.servers
    }

    pub(crate) fn servers_mut(&mut self) -> &mut [ServerEntry] {
        &mut self.servers
    }

    /// The models beside the servers that they belong to.
    pub(crate) fn split_mut(&mut self) -> (&[Element], &mut [ServerEntry]) {
        (&self.elements, &mut self.servers)
    }

    /// Has the models of one server on one element, which extend each other, share the subscriptions of
    /// `from` (MshPRT §4.2.4).
    pub(crate) fn share_subscriptions(&mut self, element: u8, from: ModelId) {
        let Some(entry) = self.model(element, from) else { return };
        let Access::Server(server) = entry.access else { return };
        let list = entry.subscriptions.clone();
        for model in self.elements.get_mut(usize::from(element)).into_iter().flat_map(|x| &mut x.models) {
            if matches!(model.access, Access::Server(other) if other == server) {
                model.subscriptions.clone_from(&list);
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Element> {
        self.elements.iter()
    }

    /// All models with the index of their element.
    pub fn models(&self) -> impl Iterator<Item = (u8, &ModelEntry)> {
        (0..=u8::MAX)
            .zip(&self.elements)
            .flat_map(|(index, element)| element.models.iter().map(move |x| (index, x)))
    }

    /// All models with the index of their element.
    pub fn models_mut(&mut self) -> impl Iterator<Item = (u8, &mut ModelEntry)> {
        (0..=u8::MAX)
            .zip(&mut self.elements)
            .flat_map(|(index, element)| element.models.iter_mut().map(move |x| (index, x)))
    }

    /// A model by element and id.
    pub fn model(&self, element: u8, id: ModelId) -> Option<&ModelEntry> {
        self.elements.get(usize::from(element))?.models.iter().find(|model| model.id == id)
    }

    /// A model by element and id.
    pub fn model_mut(&mut self, element: u8, id: ModelId) -> Option<&mut ModelEntry> {
        self.elements.get_mut(usize::from(element))?.models.iter_mut().find(|model| model.id == id)
    }

    /// The labels that any model subscribes to.
    pub fn labels(&self) -> Vec<LabelUuid> {
        let mut labels: Vec<LabelUuid> = (self.models())
            .flat_map(|(_, model)| &model.subscriptions)
            .filter_map(|subscription| match subscription {
                Destination::Label(label) => Some(*label),
                Destination::Address(_) => None,
            })
            .collect();
        labels.sort_unstable();
        labels.dedup();
        labels
    }

    /// Whether any model subscribes to something with this address.
    pub fn has_subscriber(&self, address: Address) -> bool {
        self.models().any(|(_, model)| model.subscriptions.iter().any(|x| x.address() == address))
    }
}

impl Reach {
    /// What a message to `destination` reaches, on a node where `own_element` finds elements and these features are
    /// in use. `None`: nothing.
    pub fn of(
        destination: Destination,
        own_element: impl Fn(UnicastAddress) -> Option<u8>,
        features: Features,
    ) -> Option<Self> {
        match destination {
            Destination::Address(Address::Unicast(address)) => own_element(address).map(Self::Element),
            // Fixed groups reach the primary element of the nodes with the feature (MshPRT §3.4.2.4).
            Destination::Address(Address::Group(group)) if is_member(group, features) => {
                Some(Self::Fixed(destination))
            }
            Destination::Address(Address::Unassigned | Address::Virtual(_)) => None,
            subscribed => Some(Self::Subscribers(subscribed)),
        }
    }

    /// Whether it reaches a model of this element.
    pub fn covers(self, element: u8, model: &ModelEntry) -> bool {
        match self {
            Self::Element(index) => index == element,
            Self::Subscribers(destination) => model.subscriptions.contains(&destination),
            // A model of any element may subscribe to a fixed group, too (MshPRT §3.7.3.4).
            Self::Fixed(destination) => element == 0 || model.subscriptions.contains(&destination),
        }
    }
}

/// Whether a node with these features in use belongs to a fixed group.
pub(crate) fn is_member(group: GroupAddress, features: Features) -> bool {
    match group {
        GroupAddress::ALL_NODES => true,
        GroupAddress::ALL_RELAYS => features.contains(Features::RELAY),
        GroupAddress::ALL_FRIENDS => features.contains(Features::FRIEND),
        GroupAddress::ALL_PROXIES => features.contains(Features::PROXY),
        _ => false,
    }
}
