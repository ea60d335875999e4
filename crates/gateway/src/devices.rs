//! The nodes of the network, their names, and what is known of each.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clock::Instant;
use mesh_models::sensor::PropertyId;
use mesh_wire::CompanyId;
use mesh_wire::address::UnicastAddress;
use mesh_wire::foundation::CompositionData;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::capabilities::{Capabilities, Range, functional_elements};
use crate::convert::BRIGHTNESS_MAX;
use crate::sensors::SensorAttribute;
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
    /// Whether it is there, as far as the gateway can tell; `None` before it was heard or missed.
    pub online: Option<bool>,
    /// When it was heard last.
    pub last_seen: Option<Instant>,
    /// How strong its last PDU arrived at the gateway, in dBm, from whichever relay sent it.
    pub rssi: Option<i8>,
    /// How often it publishes something of itself, as far as the network database says.
    pub(crate) period: Option<Duration>,
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
    pub(crate) capabilities: Capabilities,
    pub(crate) lightness_range: Range,
    pub(crate) temperature_range: Range,
    /// Whether the element has said these ranges itself: of lightness, of temperature.
    pub(crate) has_said: (bool, bool),
    /// What its sensors measure.
    pub(crate) sensors: Vec<SensorAttribute>,
}

/// What an endpoint has said that stays as it is, for the store.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EndpointRecord {
    lightness_range: Range,
    temperature_range: Range,
    has_said: (bool, bool),
    /// Property IDs, in the order in which they were heard of.
    sensors: Vec<u16>,
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
    /// The shortest period with which one of its models publishes.
    pub(crate) period: Option<Duration>,
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
                online: None,
                last_seen: None,
                rssi: None,
                period: node.period,
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

    /// The node that has an element at `address`.
    pub(crate) fn of_element(&self, address: UnicastAddress) -> Option<&Device> {
        let (_, device) = self.by_address.range(..=address).next_back()?;
        let offset = u16::from(address) - u16::from(device.address);
        (offset < u16::from(device.element_count)).then_some(device)
    }

    /// The endpoint that an element is, or belongs to.
    pub(crate) fn endpoint(&self, element: UnicastAddress) -> Option<&Endpoint> {
        self.of_element(element)?.endpoints.iter().find(|endpoint| endpoint.has(element))
    }

    /// The endpoint that an element is, or belongs to.
    pub(crate) fn endpoint_mut(&mut self, element: UnicastAddress) -> Option<&mut Endpoint> {
        self.of_element_mut(element)?.endpoints.iter_mut().find(|endpoint| endpoint.has(element))
    }

    /// The node that is called `name`, or that has an endpoint of this name.
    pub(crate) fn device_named(&self, name: &str) -> Option<&Device> {
        let is_it = |device: &&Device| {
            device.name == name || device.endpoints.iter().any(|endpoint| endpoint.name == name)
        };
        self.iter().find(is_it)
    }

    /// Gives a node another name.
    ///
    /// # Errors
    /// Why it cannot have it.
    pub(crate) fn rename(&mut self, address: UnicastAddress, name: &str) -> Result<(), String> {
        let taken: BTreeSet<String> = self
            .iter()
            .filter(|device| device.address != address)
            .map(|device| device.name.clone())
            .collect();
        usable(name, &taken)?;
        let Some(device) = self.by_address.get_mut(&address) else { return Ok(()) };
        device.name = name.to_owned();
        device.name_endpoints();
        self.endpoints_by_name.retain(|_, element| !device.endpoints.iter().any(|x| x.address == *element));
        for endpoint in &device.endpoints {
            self.endpoints_by_name.entry(endpoint.name.clone()).or_insert(endpoint.address);
        }
        Ok(())
    }

    /// Whether a group can have a name. It may be the first levels of nodes' names, as a room's is.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check_group_name(&self, name: &str) -> Result<(), String> {
        check_name(name).map_err(|error: NameError| error.to_string())?;
        let collides = self.iter().any(|device| device.name == name || is_below(name, &device.name));
        if collides { Err("a node has that name, or one of its elements could".to_owned()) } else { Ok(()) }
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
        device.endpoints = (functional_elements(address, &composition).into_iter())
            .filter_map(|(index, capabilities)| {
                Some(Endpoint {
                    address: address.element(index)?,
                    name: String::new(),
                    shadow: Shadow::default(),
                    capabilities,
                    lightness_range: Range::LIGHTNESS,
                    temperature_range: Range::TEMPERATURE,
                    has_said: (false, false),
                    sensors: Vec::new(),
                })
            })
            .collect();
        device.name_endpoints();
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

impl Endpoint {
    /// What it last confirmed, in a few words for people, such as `on, 79 %` or `21.4 °C` (with a no-break space);
    /// empty before it has said anything.
    pub fn summary(&self) -> String {
        let state = self.shadow.to_json(&self.capabilities);
        let mut words = Vec::new();
        if let Some(on) = self.shadow.on() {
            words.push(if on { "on" } else { "off" }.to_owned());
        }
        if let (Some(true), Some(brightness)) =
            (self.shadow.on(), state.get("brightness").and_then(Value::as_u64))
        {
            words.push(format!("{}\u{a0}%", (brightness * 100).div_ceil(u64::from(BRIGHTNESS_MAX))));
        }
        for sensor in &self.sensors {
            match state.get(&sensor.name) {
                Some(Value::Bool(true)) => words.push(sensor.name.clone()),
                Some(Value::Bool(false)) => words.push(format!("no {}", sensor.name)),
                Some(Value::Number(number)) => {
                    words.push(format!("{number}\u{a0}{}", sensor.unit).trim_end().to_owned())
                }
                _ => {}
            }
        }
        if let Some(battery) = state.get("battery").and_then(Value::as_u64) {
            words.push(format!("battery {battery}\u{a0}%"));
        }
        if words.is_empty() && self.capabilities.presses {
            words.push("buttons".to_owned());
        }
        words.join(", ")
    }

    pub(crate) fn to_record(&self) -> EndpointRecord {
        EndpointRecord {
            lightness_range: self.lightness_range,
            temperature_range: self.temperature_range,
            has_said: self.has_said,
            sensors: self.sensors.iter().map(|sensor| sensor.property.into()).collect(),
        }
    }

    pub(crate) fn restore(&mut self, record: &EndpointRecord, product: (CompanyId, u16)) {
        (self.lightness_range, self.temperature_range) = (record.lightness_range, record.temperature_range);
        self.has_said = record.has_said;
        for property in record.sensors.iter().filter_map(|&id| PropertyId::new(id)) {
            self.add_sensor(property, product);
        }
    }

    /// The attribute of a property that the element measures, and whether it is a new one.
    pub(crate) fn add_sensor(&mut self, property: PropertyId, product: (CompanyId, u16)) -> (String, bool) {
        if let Some(known) = self.sensors.iter().find(|sensor| sensor.property == property) {
            return (known.name.clone(), false);
        }
        let sensor = SensorAttribute::new(property, product, &self.sensors);
        let name = sensor.name.clone();
        self.shadow.expect_measured(&name);
        self.sensors.push(sensor);
        (name, true)
    }

    /// Whether it has said what its ranges are, if it has any.
    pub(crate) fn is_interviewed(&self) -> bool {
        (self.has_said.0 || !self.capabilities.lightness)
            && (self.has_said.1 || self.capabilities.temperature.is_none())
    }

    /// Whether everything that it can say of its states has been said.
    pub fn is_known(&self) -> bool {
        self.shadow.is_complete(&self.capabilities)
    }

    /// Whether an element is this one, or belongs to it.
    pub(crate) fn has(&self, element: UnicastAddress) -> bool {
        self.address == element || self.capabilities.other_elements().any(|other| other == element)
    }
}

impl Device {
    /// Whether the node has said what it is and what its ranges are.
    pub fn is_interviewed(&self) -> bool {
        self.composition.is_some() && self.endpoints.iter().all(Endpoint::is_interviewed)
    }

    /// The names of the endpoints: the node's, and where it has several the element's after it.
    fn name_endpoints(&mut self) {
        let several = self.endpoints.len() > 1;
        for endpoint in &mut self.endpoints {
            let index = u8::try_from(u16::from(endpoint.address) - u16::from(self.address)).unwrap_or(0);
            endpoint.name = if several {
                let element = self.element_names.get(&index).filter(|name| check_name(name).is_ok());
                format!("{}/{}", self.name, element.cloned().unwrap_or_else(|| index.to_string()))
            } else {
                self.name.clone()
            };
        }
    }

    /// How well its last PDU arrived, from 0 (-100 dBm) to 255 (-30 dBm).
    pub(crate) fn link_quality(&self) -> Option<u8> {
        let above = i32::from(self.rssi?).clamp(-100, -30) + 100;
        u8::try_from(above * 255 / 70).ok()
    }

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
    let collides =
        taken.iter().any(|name| name == wanted || is_below(name, wanted) || is_below(wanted, name));
    if collides { Err("another node has that name, or one of its elements could".to_owned()) } else { Ok(()) }
}

/// `a/b` is below `a`, and could be the name of an element of it.
pub(crate) fn is_below(name: &str, other: &str) -> bool {
    name.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'))
}
