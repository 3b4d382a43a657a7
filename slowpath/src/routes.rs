// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Routes, longest prefix first.

use crate::{errno::Errno, table::Table};

/// One route.
#[derive(Debug, Clone, Copy, Default)]
pub struct RouteEntry {
    used: bool,
    destination: u32,
    prefix: u32,
    next_hop: u32,
}

/// Mask of a prefix length.
pub(crate) const fn mask(prefix: u32) -> u32 {
    if prefix == 0 {
        0
    } else {
        match u32::MAX.checked_shl(32u32.saturating_sub(prefix)) {
            Some(mask) => mask,
            None => u32::MAX,
        }
    }
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
    /// EINVAL: prefix above 32. ENOBUFS: the table is full.
    pub(crate) fn add(&mut self, destination: u32, prefix: u32, next_hop: u32) -> Result<(), Errno> {
        if prefix > 32 {
            return Err(Errno::EINVAL);
        }
        let destination = destination & mask(prefix);
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
        *self.table.at_mut(id) = RouteEntry { used: true, destination, prefix, next_hop };
        Ok(())
    }

    /// Next hop of the longest matching route.
    pub(crate) fn find(&self, address: u32) -> Option<u32> {
        let mut best: Option<RouteEntry> = None;
        for id in 0..self.table.len() {
            let entry = *self.table.at(id);
            let matches = entry.used && (address & mask(entry.prefix)) == entry.destination;
            if matches && best.is_none_or(|known| known.prefix < entry.prefix) {
                best = Some(entry);
            }
        }
        best.map(|entry| entry.next_hop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_prefix_wins_in_any_order() {
        let routes = [(0x0a00_0000, 8, 1), (0, 0, 2), (0x0a01_0000, 16, 3), (0x0a01_0203, 32, 4)];
        for rotation in 0..routes.len() {
            let mut table = std::vec![RouteEntry::default(); 9];
            let mut all = Routes::new(&mut table).unwrap();
            for index in 0..routes.len() {
                let (destination, prefix, hop) = routes[(index + rotation) % routes.len()];
                all.add(destination, prefix, hop).unwrap();
            }
            assert_eq!(all.find(0x0a01_0203), Some(4));
            assert_eq!(all.find(0x0a01_0204), Some(3));
            assert_eq!(all.find(0x0a02_0204), Some(1));
            assert_eq!(all.find(0x0b02_0204), Some(2));
        }
    }

    #[test]
    fn bad_and_too_many_routes_are_refused() {
        let mut table = std::vec![RouteEntry::default(); 3];
        let mut all = Routes::new(&mut table).unwrap();
        assert_eq!(all.add(0, 33, 1), Err(Errno::EINVAL));
        all.add(1 << 24, 8, 1).unwrap();
        all.add(2 << 24, 8, 1).unwrap();
        all.add(2 << 24, 8, 9).unwrap();
        assert_eq!(all.add(3 << 24, 8, 1), Err(Errno::ENOBUFS));
        assert_eq!(all.find(2 << 24 | 5), Some(9));
        assert_eq!(all.find(7 << 24), None);
    }
}
