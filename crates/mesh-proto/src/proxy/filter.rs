use alloc::collections::BTreeSet;

use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::proxy_configuration::{FilterType, ProxyConfiguration};

/// Addresses that a filter has room for.
pub const MAX_FILTER_ADDRESSES: usize = 256;

/// The proxy filter of a connection (MshPRT §6.4): which network PDUs the client gets.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    filter_type: FilterType,
    addresses: BTreeSet<Address>,
}

impl Filter {
    /// Whether the client gets what is for `dst`.
    pub fn passes(&self, dst: Address) -> bool {
        self.addresses.contains(&dst) == (self.filter_type == FilterType::AcceptList)
    }

    /// The client sent a PDU with this source: it gets what is sent there (MshPRT §6.7).
    pub fn learn(&mut self, src: UnicastAddress) {
        match self.filter_type {
            FilterType::AcceptList => self.add(src.into()),
            FilterType::RejectList => {
                self.addresses.remove(&src.into());
            }
        }
    }

    /// Does what a client asked for, and returns the answer; `None` of what only servers send.
    pub fn handle(&mut self, request: &ProxyConfiguration) -> Option<ProxyConfiguration> {
        match request {
            ProxyConfiguration::SetFilterType(filter_type) => {
                self.filter_type = *filter_type;
                self.addresses.clear();
            }
            ProxyConfiguration::AddAddresses(addresses) => {
                addresses.iter().for_each(|&address| self.add(address));
            }
            ProxyConfiguration::RemoveAddresses(addresses) => {
                addresses.iter().for_each(|address| {
                    self.addresses.remove(address);
                });
            }
            ProxyConfiguration::FilterStatus { .. } => return None,
        }
        let list_size = u16::try_from(self.addresses.len()).unwrap_or(u16::MAX);
        Some(ProxyConfiguration::FilterStatus { filter_type: self.filter_type, list_size })
    }

    /// The unassigned address is ignored, and so is what there is no room for.
    fn add(&mut self, address: Address) {
        if address != Address::Unassigned && self.addresses.len() < MAX_FILTER_ADDRESSES {
            self.addresses.insert(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(filter: &mut Filter, request: &ProxyConfiguration) -> (FilterType, u16) {
        match filter.handle(request) {
            Some(ProxyConfiguration::FilterStatus { filter_type, list_size }) => (filter_type, list_size),
            other => panic!("{other:?}"),
        }
    }

    fn addresses(addresses: &[u16]) -> mesh_wire::proxy_configuration::Addresses {
        addresses.iter().map(|&address| Address::from(address)).collect()
    }

    #[test]
    fn a_list_lets_through_or_keeps_back_and_learns_who_is_behind() {
        use ProxyConfiguration as M;
        let (group, other) = (Address::from(0xc000), Address::from(0xc001));
        let client = UnicastAddress::new(9).unwrap();
        let mut filter = Filter::default();
        assert!(!filter.passes(group), "an empty accept list lets nothing through");
        filter.learn(client);
        assert!(filter.passes(client.into()));
        // Twice the same, and the unassigned address, add nothing.
        let add = M::AddAddresses(addresses(&[0xc000, 0xc000, 0]));
        assert_eq!(status(&mut filter, &add), (FilterType::AcceptList, 2));
        assert!(filter.passes(group) && !filter.passes(other));
        // What is not there is not removed.
        let remove = M::RemoveAddresses(addresses(&[0xc001, 0, 0xc000]));
        assert_eq!(status(&mut filter, &remove), (FilterType::AcceptList, 1));
        // Another type, or the same again, empties the list.
        let reject = M::SetFilterType(FilterType::RejectList);
        assert_eq!(status(&mut filter, &reject), (FilterType::RejectList, 0));
        assert!(filter.passes(group));
        assert_eq!(status(&mut filter, &M::AddAddresses(addresses(&[9, 0xc000]))).1, 2);
        assert!(!filter.passes(group) && !filter.passes(client.into()) && filter.passes(other));
        filter.learn(client);
        assert!(filter.passes(client.into()), "who sends is not rejected");
        assert_eq!(
            filter.handle(&M::FilterStatus { filter_type: FilterType::AcceptList, list_size: 0 }),
            None
        );
    }

    #[test]
    fn a_full_list_takes_no_more() {
        let mut filter = Filter::default();
        for address in 1..=300 {
            filter.handle(&ProxyConfiguration::AddAddresses(addresses(&[address])));
        }
        assert!(filter.passes(Address::from(256)) && !filter.passes(Address::from(257)));
        assert_eq!(status(&mut filter, &ProxyConfiguration::AddAddresses(addresses(&[400]))).1, 256);
    }
}
