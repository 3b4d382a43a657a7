// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Local ports: who may bind what, and which ephemeral port a connection gets.
//!
//! An instance has one local address, so that two binds of one port always overlap; the rules
//! below are Linux's `inet_csk_bind_conflict` for that case.

use crate::{errno::Errno, table::Table};
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

/// Use of one port.
#[derive(Debug, Clone, Copy)]
pub struct Port {
    /// Sockets bound to it, connections and TIME-WAIT entries.
    users: u32,
    /// Those without SO_REUSEADDR.
    exclusive: u32,
    /// Those without SO_REUSEPORT.
    unshared: u32,
    /// Users whose port was chosen for a connect() and may serve other peers too.
    pub(crate) ephemeral: u32,
    /// User id of the SO_REUSEPORT group.
    uid: u32,
    /// First listening socket, and how many.
    pub(crate) listeners: u32,
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
    pub(crate) fn at(&self, port: u16) -> &Port {
        self.table.at(port as u32)
    }
    pub(crate) fn at_mut(&mut self, port: u16) -> &mut Port {
        self.table.at_mut(port as u32)
    }

    /// Whether a socket of user `uid` may bind `port`.
    ///
    /// # Errors
    /// EADDRINUSE.
    pub(crate) fn may_bind(&self, port: u16, how: Use, uid: u32) -> Result<(), Errno> {
        let entry = self.at(port);
        let free = entry.users == 0;
        let reusable = how.reuse_address && entry.exclusive == 0 && entry.listener_count == 0;
        let same_user = entry.uid == uid || entry.uid == NO_USER;
        let shared = how.reuse_port && entry.unshared == 0 && same_user;
        if free || reusable || shared {
            Ok(())
        } else {
            Err(Errno::EADDRINUSE)
        }
    }

    /// Whether a socket bound to `port` may begin to listen.
    ///
    /// # Errors
    /// EADDRINUSE: another listens. ENOBUFS: the SO_REUSEPORT group is full.
    pub(crate) fn may_listen(&self, port: u16, how: Use) -> Result<(), Errno> {
        let entry = self.at(port);
        if entry.listener_count == 0 {
            return Ok(());
        }
        if !(how.reuse_port && entry.unshared == 0) {
            return Err(Errno::EADDRINUSE);
        }
        if entry.listener_count >= LISTENERS_PER_PORT {
            Err(Errno::ENOBUFS)
        } else {
            Ok(())
        }
    }

    /// Whether nobody but other ephemeral users has `port`.
    pub(crate) fn may_connect_from(&self, port: u16) -> bool {
        let entry = self.at(port);
        entry.users == entry.ephemeral
    }

    /// Counts a user.
    pub(crate) fn add(&mut self, port: u16, how: Use, uid: u32) {
        let entry = self.at_mut(port);
        if entry.users == 0 || entry.uid == NO_USER {
            entry.uid = uid;
        }
        entry.users = entry.users.saturating_add(1);
        if !how.reuse_address {
            entry.exclusive = entry.exclusive.saturating_add(1);
        }
        if !how.reuse_port {
            entry.unshared = entry.unshared.saturating_add(1);
        }
        if how.ephemeral {
            entry.ephemeral = entry.ephemeral.saturating_add(1);
        }
    }

    /// Forgets a user that was counted with the same `how`.
    pub(crate) fn remove(&mut self, port: u16, how: Use) {
        let entry = self.at_mut(port);
        entry.users = entry.users.saturating_sub(1);
        if !how.reuse_address {
            entry.exclusive = entry.exclusive.saturating_sub(1);
        }
        if !how.reuse_port {
            entry.unshared = entry.unshared.saturating_sub(1);
        }
        if how.ephemeral {
            entry.ephemeral = entry.ephemeral.saturating_sub(1);
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
    pub(crate) fn unused(&self, start: u32) -> Option<u16> {
        (0..EPHEMERAL_COUNT).map(|step| Self::ephemeral(start, step)).find(|&port| self.at(port).users == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Use = Use { reuse_address: false, reuse_port: false, ephemeral: false };
    const ADDRESS: Use = Use { reuse_address: true, reuse_port: false, ephemeral: false };
    const PORT: Use = Use { reuse_address: false, reuse_port: true, ephemeral: false };
    const AUTO: Use = Use { reuse_address: false, reuse_port: false, ephemeral: true };

    #[test]
    fn bind_rules_are_linuxs() {
        let mut table = std::vec![Port::default(); 65_537];
        let mut ports = Ports::new(&mut table).unwrap();
        for how in [PLAIN, ADDRESS, PORT] {
            assert_eq!(ports.may_bind(80, how, 1), Ok(()));
        }
        ports.add(80, ADDRESS, 1);
        assert_eq!(ports.may_bind(80, PLAIN, 1), Err(Errno::EADDRINUSE));
        assert_eq!(ports.may_bind(80, PORT, 1), Err(Errno::EADDRINUSE));
        assert_eq!(ports.may_bind(80, ADDRESS, 2), Ok(()), "reuse with nobody listening");
        ports.at_mut(80).listener_count = 1;
        assert_eq!(ports.may_bind(80, ADDRESS, 1), Err(Errno::EADDRINUSE), "a listener is there");
        ports.at_mut(80).listener_count = 0;
        ports.remove(80, ADDRESS);
        ports.add(80, PORT, 7);
        assert_eq!(ports.may_bind(80, PORT, 7), Ok(()));
        assert_eq!(ports.may_bind(80, PORT, 8), Err(Errno::EADDRINUSE), "another user's group");
        assert!(!ports.may_connect_from(80));
        ports.remove(80, PORT);
        ports.add(80, AUTO, 0);
        assert!(ports.may_connect_from(80), "one ephemeral port serves many peers");
        assert_eq!(ports.may_bind(80, ADDRESS, 0), Err(Errno::EADDRINUSE));
    }

    #[test]
    fn ephemeral_search_covers_the_range_and_ends() {
        let mut table = std::vec![Port::default(); 65_537];
        let mut ports = Ports::new(&mut table).unwrap();
        let mut seen = std::collections::HashSet::new();
        while let Some(port) = ports.unused(28_000) {
            assert!((EPHEMERAL_FIRST..=EPHEMERAL_LAST).contains(&port));
            assert!(seen.insert(port));
            ports.add(port, PLAIN, 0);
            if seen.len() == 300 {
                break;
            }
        }
        for port in EPHEMERAL_FIRST..=EPHEMERAL_LAST {
            if !seen.contains(&port) {
                ports.add(port, PLAIN, 0);
            }
        }
        assert_eq!(ports.unused(5), None);
    }
}
