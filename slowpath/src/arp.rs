// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Neighbours: who has which MAC address.

use abi::flow::NONE;

/// What is known about a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Free,
    /// Asked for, no answer yet.
    Asking,
    /// Known.
    Known,
    /// Known, old, being asked for again.
    Confirming,
}

/// A neighbour, of the same index as its adjacency.
#[derive(Debug, Clone, Copy)]
pub struct Neighbor {
    pub(crate) reach: Reach,
    pub(crate) tries: u8,
    pub(crate) address: u32,
    pub(crate) mac: u64,
    /// Connections that use it.
    pub(crate) users: u32,
    /// When its address was last confirmed or asked for.
    pub(crate) confirmed_us: u64,
    /// First lookup node waiting for it.
    pub(crate) waiting: u32,
    /// Head of the hash chain of this index, and next in the chain this entry is in.
    pub(crate) bucket: u32,
    pub(crate) next: u32,
}

impl Default for Neighbor {
    fn default() -> Self {
        Self {
            reach: Reach::Free, tries: 0, address: 0, mac: 0, users: 0, confirmed_us: 0,
            waiting: NONE, bucket: NONE, next: NONE,
        }
    }
}
