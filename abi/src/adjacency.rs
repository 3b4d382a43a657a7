// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Next hops, written by the slow path and read by the fast path.

use core::sync::atomic::{AtomicU32, AtomicU64};

/// One next hop. The fast path reads `mac` once (one 64-bit load) when it builds a frame.
#[repr(C, align(32))]
#[derive(Debug, Default)]
pub struct Adjacency {
    /// Destination MAC in the low 48 bits, first byte on the wire in bits 40..48; bit 63 set when
    /// resolved.
    pub mac: AtomicU64,
    /// Next hop IPv4 address, host order, or the fold of its IPv6 address ([`crate::flow::address_fold`]).
    pub next_hop: AtomicU32,
    /// MTU towards it, bytes.
    pub mtu_bytes: AtomicU32,
    /// VLAN id in the low 12 bits when bit 31 is set.
    pub vlan: AtomicU32,
    /// Zero.
    pub reserved: [AtomicU32; 3],
}
assert_layout!(Adjacency, size 32, mac @ 0, next_hop @ 8, mtu_bytes @ 12, vlan @ 16, reserved @ 20);

/// Set in [`Adjacency::mac`] when the address is known.
pub const RESOLVED: u64 = 1 << 63;
