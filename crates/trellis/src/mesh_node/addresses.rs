//! The addresses that were given: none is given twice, also after a restart.

use anyhow::{Context as _, ensure};
use mesh_wire::address::UnicastAddress;

/// Ranges of addresses, each of a node's elements.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    given: Vec<(UnicastAddress, u8)>,
}

impl Addresses {
    pub(super) fn give(&mut self, address: UnicastAddress, elements: u8) {
        self.given.push((address, elements));
    }

    /// Where so many elements have room: at `wanted`, or else behind all that was given.
    pub(super) fn find(
        &self,
        wanted: Option<UnicastAddress>,
        elements: u8,
    ) -> anyhow::Result<UnicastAddress> {
        let last = |first: u16, elements: u8| first.saturating_add(u16::from(elements.max(1)) - 1);
        let ranges = self.given.iter().map(|&(address, elements)| {
            let first = u16::from(address);
            (first, last(first, elements))
        });
        let highest = ranges.clone().map(|(_, last)| last).max().unwrap_or(0);
        let next = UnicastAddress::new(highest + 1);
        let address =
            wanted.or(next).context("no addresses are left at the end; say which is to be given")?;
        let (first, end) = (u16::from(address), last(address.into(), elements));
        let taken = ranges.clone().find(|&(from, to)| first <= to && from <= end);
        ensure!(
            taken.is_none(),
            "{address} and the {} after it are not free: they, or some of them, were given before; say another address, \
             or next",
            elements.max(1) - 1
        );
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: u16) -> UnicastAddress {
        UnicastAddress::new(address).unwrap()
    }

    #[test]
    fn no_address_is_given_twice_whatever_the_number_of_elements() {
        let mut addresses = Addresses::default();
        assert_eq!(addresses.find(None, 1).unwrap(), at(1));
        addresses.give(at(1), 1);
        addresses.give(at(0x100), 3);
        for (address, elements, is_free) in [
            (1, 1, false),
            (2, 1, true),
            (0xfe, 2, true),
            (0xfe, 3, false),
            (0x50, 255, false),
            (0x102, 1, false),
            (0x103, 255, true),
        ] {
            let found = addresses.find(Some(at(address)), elements);
            assert_eq!(found.is_ok(), is_free, "{address:04x} {elements}");
        }
        assert_eq!(addresses.find(None, 9).unwrap(), at(0x103));
        addresses.give(at(0x7fff), 1);
        assert!(addresses.find(None, 1).is_err());
    }
}
