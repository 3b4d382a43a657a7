// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Where to send what: the local networks, and routes, longest prefix first. Routes come from the operator, with
//! the fast path; router advertisements and redirects change none.

use crate::{errno::Errno, stack::Stack, table::Table, wire::address::Address};
use abi::message::{Endpoint, Route};

/// One route.
#[derive(Debug, Clone, Copy, Default)]
pub struct RouteEntry {
    used: bool,
    /// Within the family of `destination`.
    prefix: u32,
    destination: Address,
    next_hop: Address,
}

/// The route table.
pub(crate) struct Routes<'m> {
    table: Table<'m, RouteEntry>,
}

impl<'m> Routes<'m> {
    pub(crate) fn new(table: &'m mut [RouteEntry]) -> Option<Self> {
        Some(Self { table: Table::new(table)? })
    }

    /// Forgets all routes.
    pub(crate) fn clear(&mut self) {
        self.table.fill(RouteEntry::default());
    }

    /// Adds a route; one for the same destination and prefix is replaced.
    ///
    /// # Errors
    /// EINVAL: prefix longer than the address. ENOBUFS: the table is full.
    pub(crate) fn add(
        &mut self,
        destination: &Address,
        prefix: u32,
        next_hop: &Address,
    ) -> Result<(), Errno> {
        if prefix > destination.bits() {
            return Err(Errno::EINVAL);
        }
        let destination = destination.masked(prefix);
        let mut place = None;
        for id in 0..self.table.len() {
            let entry = self.table.at(id);
            if entry.used && entry.destination == destination && entry.prefix == prefix {
                place = Some(id);
                break;
            }
            if !entry.used && place.is_none() {
                place = Some(id);
            }
        }
        let Some(id) = place else {
            return Err(Errno::ENOBUFS);
        };
        *self.table.at_mut(id) = RouteEntry { used: true, prefix, destination, next_hop: *next_hop };
        Ok(())
    }

    /// Next hop of the longest matching route.
    pub(crate) fn find(&self, address: &Address) -> Option<Address> {
        let mut best: Option<RouteEntry> = None;
        for id in 0..self.table.len() {
            let entry = *self.table.at(id);
            let matches = entry.used && entry.destination.matches(address, entry.prefix);
            if matches && best.is_none_or(|known| known.prefix < entry.prefix) {
                best = Some(entry);
            }
        }
        best.map(|entry| entry.next_hop)
    }
}

impl Stack<'_> {
    /// Next hop towards an address (RFC 1122 §3.3.1, RFC 4861 §5.2).
    ///
    /// # Errors
    /// ENETUNREACH: no route.
    pub(crate) fn next_hop(&self, address: &Address) -> Result<Address, Errno> {
        if self.is_on_link(address) {
            return Ok(*address);
        }
        self.routes.find(address).ok_or(Errno::ENETUNREACH)
    }

    /// Whether an address is reached without a router.
    pub(crate) fn is_on_link(&self, address: &Address) -> bool {
        if address.is_v4() {
            return address.matches(&Address::v4(self.config.ipv4), self.config.prefix);
        }
        let near =
            |local: Address| address.is_link_local() || address.matches(&local, self.config.ipv6_prefix);
        self.config.global_v6().is_some_and(near)
    }

    /// Adds a route.
    ///
    /// # Errors
    /// EAFNOSUPPORT: of no family we know. EINVAL: the prefix is longer than the address, or the next hop is not
    /// another host of the local network. ENOBUFS: table full.
    pub fn add_route(&mut self, route: &Route) -> Result<(), Errno> {
        let family = u16::try_from(route.family).unwrap_or(0);
        let address = |address| {
            let endpoint = Endpoint { address, family, ..Endpoint::default() };
            Address::of(&endpoint).ok_or(Errno::EAFNOSUPPORT)
        };
        let (destination, next_hop) = (address(route.destination)?, address(route.next_hop)?);
        let same = destination.is_v4() == next_hop.is_v4();
        if !same || !self.is_on_link(&next_hop) || !self.config.is_host(&next_hop) {
            return Err(Errno::EINVAL);
        }
        self.routes.add(&destination, route.prefix, &next_hop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_prefix_wins_in_any_order() {
        let (v4, v6) = (Address::v4, |first, last| Address::v6([first, 0, 0, last]));
        let routes = [
            (v4(0x0a00_0000), 8, v4(1)),
            (v4(0), 0, v4(2)),
            (v4(0x0a01_0000), 16, v4(3)),
            (v4(0x0a01_0203), 32, v4(4)),
            (v6(0x2001_0000, 0), 16, v6(0xfe80_0000, 1)),
            (v6(0, 0), 0, v6(0xfe80_0000, 2)),
            (v6(0x2001_0db8, 0), 32, v6(0xfe80_0000, 3)),
            (v6(0x2001_0db8, 9), 128, v6(0xfe80_0000, 4)),
        ];
        for rotation in 0..routes.len() {
            let mut table = std::vec![RouteEntry::default(); 9];
            let mut all = Routes::new(&mut table).unwrap();
            for index in 0..routes.len() {
                let (destination, prefix, hop) = routes[(index + rotation) % routes.len()];
                all.add(&destination, prefix, &hop).unwrap();
            }
            for (address, hop) in [(0x0a01_0203, 4), (0x0a01_0204, 3), (0x0a02_0204, 1), (0x0b02_0204, 2)]
                .map(|(a, b)| (v4(a), v4(b)))
            {
                assert_eq!(all.find(&address), Some(hop));
            }
            for (first, last, hop) in
                [(0x2001_0db8, 9, 4), (0x2001_0db8, 8, 3), (0x2001_0db9, 9, 1), (0x3001_0db8, 9, 2)]
            {
                assert_eq!(all.find(&v6(first, last)), Some(v6(0xfe80_0000, hop)));
            }
        }
    }

    #[test]
    fn bad_and_too_many_routes_are_refused() {
        let mut table = std::vec![RouteEntry::default(); 3];
        let mut all = Routes::new(&mut table).unwrap();
        let v4 = Address::v4;
        assert_eq!(all.add(&v4(0), 33, &v4(1)), Err(Errno::EINVAL));
        assert_eq!(all.add(&Address::UNSPECIFIED, 129, &v4(1)), Err(Errno::EINVAL));
        all.add(&v4(1 << 24), 8, &v4(1)).unwrap();
        all.add(&v4(2 << 24), 8, &v4(1)).unwrap();
        all.add(&v4(2 << 24), 8, &v4(9)).unwrap();
        assert_eq!(all.add(&v4(3 << 24), 8, &v4(1)), Err(Errno::ENOBUFS));
        assert_eq!(all.find(&v4(2 << 24 | 5)), Some(v4(9)));
        assert_eq!(all.find(&v4(7 << 24)), None);
    }
}
