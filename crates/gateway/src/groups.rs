//! The groups of the network: which there are, and who belongs to each.

use std::collections::{BTreeMap, BTreeSet};

use mesh_commission::cdb::{GroupEntry, Hex16, NetworkDatabase};
use mesh_models::messages::{
    CTL_SERVER, CTL_TEMPERATURE_SERVER, HSL_HUE_SERVER, HSL_SATURATION_SERVER, HSL_SERVER, LEVEL_SERVER,
    LIGHTNESS_SERVER, ON_OFF_SERVER,
};
use mesh_wire::ModelId;
use mesh_wire::address::{Address, GroupAddress, UnicastAddress};
use mesh_wire::foundation::ModelRef;

use crate::capabilities::{Capabilities, Range};
use crate::devices::{Devices, Endpoint};

/// A group that has a name and an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) address: Address,
    /// The endpoints that subscribe to it.
    pub(crate) members: BTreeSet<UnicastAddress>,
}

/// All groups, by their addresses.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    by_address: BTreeMap<Address, Group>,
}

/// The models through which an element is controlled, and which so have to subscribe. Those that extend each other
/// should share one list, but not all nodes have it so.
const CONTROLLED: [ModelId; 4] = [ON_OFF_SERVER, LIGHTNESS_SERVER, CTL_SERVER, HSL_SERVER];

impl Groups {
    /// The groups of a database, and complaints of those whose names cannot be used.
    pub(crate) fn new(database: &NetworkDatabase, devices: &Devices) -> (Self, Vec<String>) {
        let mut groups = Self::default();
        let mut complaints = Vec::new();
        for entry in &database.groups {
            let Some(address) = group_address(&entry.address) else { continue };
            match groups.check_name(&entry.name, devices) {
                Ok(()) => groups.insert(entry.name.clone(), address),
                Err(why) => {
                    complaints.push(format!("the group name {:?} cannot be used, as {why}", entry.name));
                    groups.insert(format!("group_{}", entry.address.to_lowercase()), address);
                }
            }
        }
        (groups, complaints)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.by_address.values()
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Group> {
        self.iter().find(|group| group.name == name)
    }

    pub(crate) fn get(&self, address: Address) -> Option<&Group> {
        self.by_address.get(&address)
    }

    pub(crate) fn get_mut(&mut self, address: Address) -> Option<&mut Group> {
        self.by_address.get_mut(&address)
    }

    /// The groups that an endpoint belongs to.
    pub(crate) fn of(&self, member: UnicastAddress) -> impl Iterator<Item = &Group> {
        self.iter().filter(move |group| group.members.contains(&member))
    }

    pub(crate) fn insert(&mut self, name: String, address: Address) {
        self.by_address.insert(address, Group { name, address, members: BTreeSet::new() });
    }

    pub(crate) fn remove(&mut self, address: Address) {
        self.by_address.remove(&address);
    }

    /// Whether a group can have this name.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check_name(&self, name: &str, devices: &Devices) -> Result<(), String> {
        if self.named(name).is_some() {
            return Err("another group has that name".to_owned());
        }
        devices.check_group_name(name)
    }

    /// The first address of the provisioner's range that no group has.
    pub(crate) fn free_address(&self, database: &NetworkDatabase) -> Option<Address> {
        let ranges = database.provisioners.iter().flat_map(|x| &x.allocated_group_range);
        let mut addresses = ranges.flat_map(|range| range.low_address.0..=range.high_address.0);
        addresses.find_map(|address| {
            let address = Address::from(GroupAddress::new(address)?);
            (!self.by_address.contains_key(&address)).then_some(address)
        })
    }

    /// Notes which endpoints of a node subscribe, as the database says.
    pub(crate) fn note_members(&mut self, database: &NetworkDatabase, endpoints: &[Endpoint]) {
        for endpoint in endpoints {
            for group in self.by_address.values_mut() {
                let element: u16 = endpoint.address.into();
                let is_member = database.nodes.iter().any(|node| {
                    node.elements.iter().any(|entry| {
                        node.unicast_address.0 + u16::from(entry.index) == element
                            && entry.models.iter().any(|model| {
                                CONTROLLED.iter().any(|id| id.to_string() == model.model_id)
                                    && model
                                        .subscribe
                                        .iter()
                                        .any(|to| group_address(to) == Some(group.address))
                            })
                    })
                });
                if is_member {
                    group.members.insert(endpoint.address);
                }
            }
        }
    }

    /// What some member of a group can do, for a command to all of them.
    pub(crate) fn capabilities(&self, group: &Group, devices: &Devices) -> Capabilities {
        let mut all = Capabilities::default();
        for endpoint in group.members.iter().filter_map(|&member| devices.endpoint(member)) {
            let one = &endpoint.capabilities;
            all.on_off |= one.on_off;
            all.lightness |= one.lightness;
            all.temperature = all.temperature.or(one.temperature);
            all.colour = all.colour.or(one.colour);
        }
        all
    }
}

impl Group {
    /// The ranges within which a command to all is sent; each member has its own beyond them.
    pub(crate) const LIGHTNESS_RANGE: Range = Range::LIGHTNESS;
    pub(crate) const TEMPERATURE_RANGE: Range = Range::TEMPERATURE;

    /// As the database writes its address.
    pub(crate) fn hex(&self) -> String {
        Hex16(self.address.into()).to_string()
    }

    pub(crate) fn to_entry(&self) -> GroupEntry {
        GroupEntry { name: self.name.clone(), address: self.hex(), parent_address: "0000".to_owned() }
    }
}

/// The models of an endpoint that subscribe to its groups.
pub(crate) fn subscribers(
    endpoint: &Endpoint,
    has: impl Fn(UnicastAddress, ModelId) -> bool,
) -> Vec<ModelRef> {
    let at = |element, model| ModelRef { element, model };
    let main = CONTROLLED.into_iter().chain([LEVEL_SERVER]).map(|model| at(endpoint.address, model));
    let white = endpoint.capabilities.temperature.map(|element| at(element, CTL_TEMPERATURE_SERVER));
    let colour = endpoint
        .capabilities
        .colour
        .map(|(hue, saturation)| [at(hue, HSL_HUE_SERVER), at(saturation, HSL_SATURATION_SERVER)]);
    main.chain(white).chain(colour.into_iter().flatten()).filter(|x| has(x.element, x.model)).collect()
}

pub(crate) fn group_address(hex: &str) -> Option<Address> {
    let address = u16::from_str_radix(hex, 16).ok()?;
    GroupAddress::new(address).map(Address::from)
}
