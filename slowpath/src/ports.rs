// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Local ports: who may bind what, and which ephemeral port a connection gets.
//!
//! Each local address has its ports: there is one IPv4 address, and with IPv6 one global address and one of the link. A
//! socket bound to no address in particular is at all of those whose family it takes. At one address two binds of one
//! port always overlap; the rules below are Linux's `inet_csk_bind_conflict` for that case.

use crate::{
    errno::Errno,
    table::Table,
    wire::address::{Address, Family},
};
use abi::flow::NONE;

/// First ephemeral port, as Linux's `ip_local_port_range`.
pub(crate) const EPHEMERAL_FIRST: u16 = 32_768;
/// Last ephemeral port.
const EPHEMERAL_LAST: u16 = 60_999;
/// Ephemeral ports.
pub(crate) const EPHEMERAL_COUNT: u32 = (EPHEMERAL_LAST - EPHEMERAL_FIRST) as u32 + 1;
/// First port that needs no capability.
pub(crate) const UNPRIVILEGED_FIRST: u16 = 1024;
/// Listeners that share one port with SO_REUSEPORT: bounds the walk at every SYN.
pub(crate) const LISTENERS_PER_PORT: u32 = 128;
/// User id of connections in TIME-WAIT, which hold a port for nobody in particular.
pub(crate) const NO_USER: u32 = u32::MAX;

/// Ports of one local address.
const PORTS_PER_PLACE: u32 = 65_536;
/// Entries of the port table.
pub(crate) const PORTS: u32 = PORTS_PER_PLACE.wrapping_mul(3);

/// A local address, as the port table has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The IPv4 address.
    V4,
    /// The global IPv6 address.
    V6,
    /// The IPv6 address of the link.
    Link,
}

impl Place {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::V4, Self::V6, Self::Link];

    /// That of a local address.
    pub(crate) fn of(address: &Address) -> Self {
        match address.family() {
            Family::V4 => Self::V4,
            Family::V6 if address.is_link_local() => Self::Link,
            Family::V6 => Self::V6,
        }
    }
}

/// The local addresses that a socket serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    v4: bool,
    v6: bool,
    link: bool,
}

impl Places {
    /// IPv4 only.
    pub(crate) const V4: Self = Self { v4: true, v6: false, link: false };
    /// IPv6 only.
    pub(crate) const V6: Self = Self { v4: false, v6: true, link: true };
    /// All.
    pub(crate) const ALL: Self = Self { v4: true, v6: true, link: true };

    /// One address.
    pub(crate) fn of(address: &Address) -> Self {
        let place = Place::of(address);
        Self { v4: place == Place::V4, v6: place == Place::V6, link: place == Place::Link }
    }
    /// Whether `place` is one of them.
    pub(crate) const fn has(&self, place: Place) -> bool {
        match place {
            Place::V4 => self.v4,
            Place::V6 => self.v6,
            Place::Link => self.link,
        }
    }
    /// Whether one of them is of `family`.
    pub(crate) const fn has_family(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6 || self.link,
        }
    }
    /// One after the other.
    pub(crate) fn iter(self) -> impl Iterator<Item = Place> {
        Place::ALL.into_iter().filter(move |place| self.has(*place))
    }
}

/// Use of one port of one address.
#[derive(Debug, Clone, Copy)]
pub struct Port {
    /// Sockets bound to it, connections and TIME-WAIT entries.
    users: u32,
    /// Those without SO_REUSEADDR.
    exclusive: u32,
    /// Those without SO_REUSEPORT.
    unshared: u32,
    /// Users whose port was chosen for a connect() and may serve other peers too.
    ephemeral: u32,
    /// User id of the SO_REUSEPORT group.
    uid: u32,
    /// First listening socket of any address (in the entry of IPv4).
    listeners: u32,
    /// How many listen.
    pub(crate) listener_count: u32,
}

impl Default for Port {
    fn default() -> Self {
        Self { users: 0, exclusive: 0, unshared: 0, ephemeral: 0, uid: 0, listeners: NONE, listener_count: 0 }
    }
}

impl Port {
    /// Whether somebody is bound to it, or connected from it.
    pub(crate) fn is_used(&self) -> bool {
        self.users != 0 || self.listener_count != 0
    }
    fn add(&mut self, how: Use, uid: u32) {
        if self.users == 0 || self.uid == NO_USER {
            self.uid = uid;
        }
        self.users = self.users.saturating_add(1);
        if !how.reuse_address {
            self.exclusive = self.exclusive.saturating_add(1);
        }
        if !how.reuse_port {
            self.unshared = self.unshared.saturating_add(1);
        }
        if how.ephemeral {
            self.ephemeral = self.ephemeral.saturating_add(1);
        }
    }
    fn remove(&mut self, how: Use) {
        self.users = self.users.saturating_sub(1);
        if !how.reuse_address {
            self.exclusive = self.exclusive.saturating_sub(1);
        }
        if !how.reuse_port {
            self.unshared = self.unshared.saturating_sub(1);
        }
        if how.ephemeral {
            self.ephemeral = self.ephemeral.saturating_sub(1);
        }
    }
}

/// How a user counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Use {
    /// SO_REUSEADDR was set.
    pub(crate) reuse_address: bool,
    /// SO_REUSEPORT was set.
    pub(crate) reuse_port: bool,
    /// The port was chosen for a connect().
    pub(crate) ephemeral: bool,
}

/// The port table.
pub(crate) struct Ports<'m> {
    table: Table<'m, Port>,
}

impl<'m> Ports<'m> {
    pub(crate) fn new(table: &'m mut [Port]) -> Option<Self> {
        Some(Self { table: Table::new(table)? })
    }
    const fn index(place: Place, port: u16) -> u32 {
        let first = match place {
            Place::V4 => 0,
            Place::V6 => PORTS_PER_PLACE,
            Place::Link => PORTS_PER_PLACE.wrapping_mul(2),
        };
        first.wrapping_add(port as u32)
    }
    /// A port of an address.
    pub(crate) fn at(&self, place: Place, port: u16) -> &Port {
        self.table.at(Self::index(place, port))
    }
    fn at_mut(&mut self, place: Place, port: u16) -> &mut Port {
        self.table.at_mut(Self::index(place, port))
    }

    /// Whether a socket of user `uid` may bind `port`.
    ///
    /// # Errors
    /// EADDRINUSE.
    pub(crate) fn may_bind(&self, port: u16, places: Places, how: Use, uid: u32) -> Result<(), Errno> {
        for place in places.iter() {
            let entry = self.at(place, port);
            let free = entry.users == 0;
            let reusable = how.reuse_address && entry.exclusive == 0 && entry.listener_count == 0;
            let same_user = entry.uid == uid || entry.uid == NO_USER;
            let shared = how.reuse_port && entry.unshared == 0 && same_user;
            if !(free || reusable || shared) {
                return Err(Errno::EADDRINUSE);
            }
        }
        Ok(())
    }

    /// Whether a socket bound to `port` may begin to listen.
    ///
    /// # Errors
    /// EADDRINUSE: another listens. ENOBUFS: the SO_REUSEPORT group is full.
    pub(crate) fn may_listen(&self, port: u16, places: Places, how: Use) -> Result<(), Errno> {
        for place in places.iter() {
            let entry = self.at(place, port);
            if entry.listener_count != 0 && !(how.reuse_port && entry.unshared == 0) {
                return Err(Errno::EADDRINUSE);
            }
            if entry.listener_count >= LISTENERS_PER_PORT {
                return Err(Errno::ENOBUFS);
            }
        }
        Ok(())
    }

    /// First listener of `port`, of whatever address.
    pub(crate) fn first_listener(&self, port: u16) -> u32 {
        self.at(Place::V4, port).listeners
    }

    /// Puts `socket` in front of the listeners of `port`; the first until now.
    pub(crate) fn set_first_listener(&mut self, port: u16, socket: u32) -> u32 {
        core::mem::replace(&mut self.at_mut(Place::V4, port).listeners, socket)
    }

    /// Counts a listener.
    pub(crate) fn add_listener(&mut self, port: u16, places: Places) {
        for place in places.iter() {
            let entry = self.at_mut(place, port);
            entry.listener_count = entry.listener_count.saturating_add(1);
        }
    }

    /// Forgets a listener that was counted.
    pub(crate) fn remove_listener(&mut self, port: u16, places: Places) {
        for place in places.iter() {
            let entry = self.at_mut(place, port);
            entry.listener_count = entry.listener_count.saturating_sub(1);
        }
    }

    /// Whether nobody but other ephemeral users has `port`.
    pub(crate) fn may_connect_from(&self, port: u16, place: Place) -> bool {
        let entry = self.at(place, port);
        entry.users == entry.ephemeral
    }

    /// Counts a user.
    pub(crate) fn add(&mut self, port: u16, places: Places, how: Use, uid: u32) {
        for place in places.iter() {
            self.at_mut(place, port).add(how, uid);
        }
    }

    /// Forgets a user that was counted with the same `how`.
    pub(crate) fn remove(&mut self, port: u16, places: Places, how: Use) {
        for place in places.iter() {
            self.at_mut(place, port).remove(how);
        }
    }

    /// The ephemeral port at `step` of a search that begins at `start`.
    pub(crate) fn ephemeral(start: u32, step: u32) -> u16 {
        let mut offset = start.wrapping_add(step);
        if offset >= EPHEMERAL_COUNT {
            offset = offset.wrapping_sub(EPHEMERAL_COUNT);
        }
        EPHEMERAL_FIRST.wrapping_add(offset as u16)
    }

    /// A port that nobody uses, searched from `start` (below `EPHEMERAL_COUNT`).
    pub(crate) fn unused(&self, start: u32, places: Places) -> Option<u16> {
        let unused = |port: &u16| places.iter().all(|place| self.at(place, *port).users == 0);
        (0..EPHEMERAL_COUNT).map(|step| Self::ephemeral(start, step)).find(unused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: Places = Places::V4;
    const PLAIN: Use = Use { reuse_address: false, reuse_port: false, ephemeral: false };
    const ADDRESS: Use = Use { reuse_address: true, reuse_port: false, ephemeral: false };
    const PORT: Use = Use { reuse_address: false, reuse_port: true, ephemeral: false };
    const AUTO: Use = Use { reuse_address: false, reuse_port: false, ephemeral: true };

    #[test]
    fn bind_rules_are_linuxs() {
        let mut table = std::vec![Port::default(); PORTS as usize + 1];
        let mut ports = Ports::new(&mut table).unwrap();
        for how in [PLAIN, ADDRESS, PORT] {
            assert_eq!(ports.may_bind(80, V4, how, 1), Ok(()));
        }
        ports.add(80, V4, ADDRESS, 1);
        assert_eq!(ports.may_bind(80, V4, PLAIN, 1), Err(Errno::EADDRINUSE));
        assert_eq!(ports.may_bind(80, V4, PORT, 1), Err(Errno::EADDRINUSE));
        assert_eq!(ports.may_bind(80, V4, ADDRESS, 2), Ok(()), "reuse with nobody listening");
        ports.add_listener(80, V4);
        assert_eq!(ports.may_bind(80, V4, ADDRESS, 1), Err(Errno::EADDRINUSE), "a listener is there");
        ports.remove_listener(80, V4);
        ports.remove(80, V4, ADDRESS);
        ports.add(80, V4, PORT, 7);
        assert_eq!(ports.may_bind(80, V4, PORT, 7), Ok(()));
        assert_eq!(ports.may_bind(80, V4, PORT, 8), Err(Errno::EADDRINUSE), "another user's group");
        assert!(!ports.may_connect_from(80, Place::V4));
        ports.remove(80, V4, PORT);
        ports.add(80, V4, AUTO, 0);
        assert!(ports.may_connect_from(80, Place::V4), "one ephemeral port serves many peers");
        assert_eq!(ports.may_bind(80, V4, ADDRESS, 0), Err(Errno::EADDRINUSE));
    }

    #[test]
    fn families_conflict_where_they_meet() {
        let all = [Places::V4, Places::V6, Places::ALL];
        for (index, first) in all.into_iter().enumerate() {
            let mut table = std::vec![Port::default(); PORTS as usize + 1];
            let mut ports = Ports::new(&mut table).unwrap();
            ports.add(80, first, PLAIN, 1);
            ports.add_listener(80, first);
            for (other, second) in all.into_iter().enumerate() {
                let apart = (index, other) == (0, 1) || (index, other) == (1, 0);
                assert_eq!(ports.may_bind(80, second, PLAIN, 1).is_ok(), apart, "{first:?} {second:?}");
                assert_eq!(ports.may_listen(80, second, PLAIN).is_ok(), apart, "{first:?} {second:?}");
            }
            ports.remove_listener(80, first);
            ports.remove(80, first, PLAIN);
            for second in all {
                assert_eq!(ports.may_bind(80, second, PLAIN, 1), Ok(()));
            }
        }
    }

    /// The global address and that of the link are two: what is bound at one leaves the other free.
    #[test]
    fn addresses_of_one_family_do_not_conflict() {
        let global = Places::of(&Address::v6([0x2001_0db8, 0, 0, 1]));
        let link = Places::of(&Address::v6([0xfe80_0000, 0, 0, 1]));
        for (first, second) in [(global, link), (link, global)] {
            let mut table = std::vec![Port::default(); PORTS as usize + 1];
            let mut ports = Ports::new(&mut table).unwrap();
            ports.add(80, first, PLAIN, 1);
            ports.add_listener(80, first);
            assert_eq!(
                (ports.may_bind(80, second, PLAIN, 1), ports.may_listen(80, second, PLAIN)),
                (Ok(()), Ok(()))
            );
            for overlapping in [first, Places::V6, Places::ALL] {
                assert_eq!(ports.may_bind(80, overlapping, PLAIN, 1), Err(Errno::EADDRINUSE));
            }
            assert_eq!(ports.may_bind(80, V4, PLAIN, 1), Ok(()));
        }
    }

    #[test]
    fn ephemeral_search_covers_the_range_and_ends() {
        let mut table = std::vec![Port::default(); PORTS as usize + 1];
        let mut ports = Ports::new(&mut table).unwrap();
        let mut seen = std::collections::HashSet::new();
        while let Some(port) = ports.unused(28_000, V4) {
            assert!((EPHEMERAL_FIRST..=EPHEMERAL_LAST).contains(&port));
            assert!(seen.insert(port));
            ports.add(port, V4, PLAIN, 0);
            if seen.len() == 300 {
                break;
            }
        }
        for port in EPHEMERAL_FIRST..=EPHEMERAL_LAST {
            if !seen.contains(&port) {
                ports.add(port, V4, PLAIN, 0);
            }
        }
        assert_eq!(ports.unused(5, V4), None);
    }
}
