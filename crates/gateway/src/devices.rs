//! The nodes of the network, their names, and what is known of each.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use mesh_wire::address::UnicastAddress;
use mesh_wire::foundation::CompositionData;

use crate::exposes;
use crate::shadow::Shadow;
use crate::topics::{NameError, check_name};

/// A node of the network, other than the gateway's own.
#[derive(Clone, Debug)]
pub struct Device {
    /// The address of its primary element.
    pub address: UnicastAddress,
    /// Its UUID, as the network database writes it.
    pub uuid: String,
    /// Its friendly name: the database's, or its address where that one cannot be used.
    pub name: String,
    /// The TTL with which it sends what it is not told another TTL for.
    pub default_ttl: u8,
    /// Transmissions between it and the gateway; the smallest number seen, `None` before it was heard.
    pub hops: Option<u8>,
    /// What it says it is, once it has said it.
    pub composition: Option<CompositionData>,
    /// Its functional elements, once the composition is known.
    pub endpoints: Vec<Endpoint>,
    /// Messages that were heard of it, and the transmissions that they took together.
    heard: (u64, u64),
    element_count: u8,
    element_names: BTreeMap<u8, String>,
}

/// An element that people see as a thing: a lamp, a switch.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The element's address.
    pub address: UnicastAddress,
    /// Its name in topics: the node's, or `<node>/<element>` where the node has several.
    pub name: String,
    /// What it last confirmed.
    pub shadow: Shadow,
}

/// A node as the network database describes it.
#[derive(Clone, Debug)]
pub(crate) struct KnownNode {
    /// The address of its primary element.
    pub(crate) address: UnicastAddress,
    /// How many elements the database gives it; at least 1.
    pub(crate) element_count: u8,
    /// Names of its elements by their index, where they have one.
    pub(crate) element_names: BTreeMap<u8, String>,
    /// Its UUID.
    pub(crate) uuid: String,
    /// Its name, if it has one.
    pub(crate) name: Option<String>,
    /// Its Default TTL.
    pub(crate) default_ttl: u8,
}

/// A name that could not be used, and what is used instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Renamed {
    pub(crate) wanted: String,
    pub(crate) used: String,
    pub(crate) why: String,
}

/// All nodes, in the order of their addresses.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    by_address: BTreeMap<UnicastAddress, Device>,
    endpoints_by_name: BTreeMap<String, UnicastAddress>,
}

impl Devices {
    /// Gives each node a name that works in topics, and returns those that could not have theirs.
    pub(crate) fn new(nodes: impl IntoIterator<Item = KnownNode>) -> (Self, Vec<Renamed>) {
        let mut by_address = BTreeMap::new();
        let mut names = BTreeSet::new();
        let mut renamed = Vec::new();
        for node in nodes {
            let fallback = node.address.to_string();
            let name = match node.name {
                None => fallback,
                Some(wanted) => match usable(&wanted, &names) {
                    Ok(()) => wanted,
                    Err(why) => {
                        renamed.push(Renamed { wanted, used: fallback.clone(), why });
                        fallback
                    }
                },
            };
            names.insert(name.clone());
            let device = Device {
                address: node.address,
                uuid: node.uuid,
                name,
                default_ttl: node.default_ttl,
                hops: None,
                composition: None,
                endpoints: Vec::new(),
                heard: (0, 0),
                element_count: node.element_count,
                element_names: node.element_names,
            };
            by_address.insert(device.address, device);
        }
        (Self { by_address, endpoints_by_name: BTreeMap::new() }, renamed)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Device> {
        self.by_address.values()
    }

    pub(crate) fn get(&self, address: UnicastAddress) -> Option<&Device> {
        self.by_address.get(&address)
    }

    /// The node that has an element at `address`.
    pub(crate) fn of_element_mut(&mut self, address: UnicastAddress) -> Option<&mut Device> {
        let (_, device) = self.by_address.range_mut(..=address).next_back()?;
        let offset = u16::from(address) - u16::from(device.address);
        (offset < u16::from(device.element_count)).then_some(device)
    }

    pub(crate) fn endpoint(&self, address: UnicastAddress) -> Option<&Endpoint> {
        let (_, device) = self.by_address.range(..=address).next_back()?;
        device.endpoints.iter().find(|endpoint| endpoint.address == address)
    }

    pub(crate) fn endpoint_mut(&mut self, address: UnicastAddress) -> Option<&mut Endpoint> {
        self.of_element_mut(address)?.endpoints.iter_mut().find(|endpoint| endpoint.address == address)
    }

    /// The endpoint that topics call `name`, or why there is none.
    pub(crate) fn find(&self, name: &str) -> Result<&Endpoint, String> {
        if let Some(endpoint) = self.endpoints_by_name.get(name).and_then(|&address| self.endpoint(address)) {
            return Ok(endpoint);
        }
        Err(match self.iter().find(|device| device.name == name) {
            None => format!("there is no device named {name:?}; bridge/devices lists their names"),
            Some(device) if device.composition.is_none() => {
                format!(
                    "{name} has not said yet what it is; try again when bridge/devices shows what it exposes"
                )
            }
            Some(device) if device.endpoints.is_empty() => {
                format!("{name} has no model that can be controlled")
            }
            Some(device) => {
                let names: Vec<&str> =
                    device.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
                format!("{name} has several elements; name one of them: {}", names.join(", "))
            }
        })
    }

    /// Takes what the node at `address` said of itself, and makes its endpoints.
    pub(crate) fn set_composition(&mut self, address: UnicastAddress, composition: CompositionData) {
        let Some(device) = self.by_address.get_mut(&address) else { return };
        self.endpoints_by_name.retain(|_, element| !device.endpoints.iter().any(|x| x.address == *element));
        device.element_count = u8::try_from(composition.elements.len()).unwrap_or(u8::MAX).max(1);
        let functional = exposes::functional_elements(&composition);
        let several = functional.len() > 1;
        device.endpoints = (functional.into_iter())
            .filter_map(|index| {
                let name = if several {
                    let element = device.element_names.get(&index).filter(|name| check_name(name).is_ok());
                    format!("{}/{}", device.name, element.cloned().unwrap_or_else(|| index.to_string()))
                } else {
                    device.name.clone()
                };
                let address = address.element(index)?;
                Some(Endpoint { address, name, shadow: Shadow::default() })
            })
            .collect();
        device.composition = Some(composition);
        for endpoint in &device.endpoints {
            self.endpoints_by_name.entry(endpoint.name.clone()).or_insert(endpoint.address);
        }
    }

    /// The node that most transmissions lie between, of those that were heard. Where several have the same
    /// smallest number, the one whose messages took more on average.
    pub(crate) fn farthest(&self) -> Option<(&Device, u8)> {
        let heard = self.iter().filter_map(|device| Some((device, device.hops?)));
        heard.max_by(|(a, a_hops), (b, b_hops)| a_hops.cmp(b_hops).then_with(|| a.compare_mean(b)))
    }
}

impl Device {
    /// Notes that a message of it took so many transmissions; tells whether that is the smallest number yet.
    pub(crate) fn note_hops(&mut self, hops: u8) -> bool {
        self.heard.0 += 1;
        self.heard.1 += u64::from(hops);
        let is_news = self.hops.is_none_or(|known| hops < known);
        if is_news {
            self.hops = Some(hops);
        }
        is_news
    }

    fn compare_mean(&self, other: &Self) -> Ordering {
        // a/b against c/d, without dividing.
        (self.heard.1 * other.heard.0).cmp(&(other.heard.1 * self.heard.0))
    }
}

/// Checks a wanted name against the rules and against the names that are taken.
fn usable(wanted: &str, taken: &BTreeSet<String>) -> Result<(), String> {
    check_name(wanted).map_err(|error: NameError| error.to_string())?;
    let collides = taken.iter().any(|name| {
        // `a` and `a/b`: the second could be an element of the first.
        let below =
            |long: &str, short: &str| long.strip_prefix(short).is_some_and(|rest| rest.starts_with('/'));
        name == wanted || below(name, wanted) || below(wanted, name)
    });
    if collides { Err("another node has that name, or one of its elements could".to_owned()) } else { Ok(()) }
}
