// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The path to a peer: its MTU as routers tell it (RFC 1191), as losses suggest it (RFC 4821's black
//! holes), and how both are forgotten again.

use super::{flows::View, reply::headers_bytes};
use crate::{
    connection::{pending, Connection},
    counters::Counter,
    stack::Stack,
    wire::address::{Address, Family},
};
use abi::limits::IPV6_MTU_MIN;
use core::sync::atomic::Ordering::Relaxed;

/// What is remembered of a destination. One entry per hash value: a second destination with the same
/// hash takes it over, and the first learns again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Path {
    address: Address,
    mtu_bytes: u32,
    expires_us: u64,
}

/// No router is believed that asks for less, as Linux's `min_pmtu`: smaller segments would only
/// serve whoever wants us to send many.
const PATH_MTU_MIN: u32 = 552;
/// A lower MTU is forgotten after this time (RFC 1191 §6.3), microseconds.
const PATH_LIFE_US: u64 = 600_000_000;
/// Timeouts in a row after which the path is suspected: R1 of RFC 9293 §3.8.3, Linux's `tcp_retries1`.
const R1: u8 = 3;
/// MTU tried after R1 timeouts, Linux's `tcp_base_mss` and headers; the smallest after twice as many.
const PATH_MTU_BASE: u32 = 1064;
/// MTUs of networks (RFC 1191 §7.1), for routers that do not tell theirs.
const PLATEAUS: [u32; 4] = [1492, 1006, 576, 552];

impl Connection {
    /// Effective MSS on a path with this MTU.
    pub(crate) fn mss_for(&self, mtu_bytes: u32) -> u16 {
        use crate::connection::flag::TIMESTAMPS;
        let options = if self.is(TIMESTAMPS) { super::reply::TIMESTAMP_BYTES } else { 0 };
        let room = mtu_bytes.saturating_sub(headers_bytes(&self.tuple.remote)).min(u16::MAX as u32) as u16;
        room.saturating_sub(options).min(self.mss_limit).max(1)
    }
}

/// The MTU a router towards `peer` asks for that dropped a datagram of `dropped_bytes`; `told` is zero if it is
/// an old one (RFC 1191 §5).
pub(crate) fn believable_mtu(peer: &Address, told: u32, dropped_bytes: u32) -> Option<u32> {
    if !peer.is_v4() {
        // What every link must carry is not asked for less (RFC 8201 §4).
        return (IPV6_MTU_MIN..dropped_bytes).contains(&told).then_some(told);
    }
    let mtu = match told {
        0 => PLATEAUS.into_iter().find(|plateau| *plateau < dropped_bytes)?,
        told => told,
    };
    let mtu = mtu.max(PATH_MTU_MIN);
    // A router does not drop what it could forward (RFC 5927 §7).
    (mtu < dropped_bytes).then_some(mtu)
}

impl Stack<'_> {
    fn path_slot(&self, address: &Address) -> u32 {
        let hash = address.hash(&self.sequence_key, 0x7061_7468_0000) & 0xffff_ffff;
        (hash.wrapping_mul(self.paths.len() as u64) >> 32) as u32
    }

    /// MTU of the path to an address as far as known, bytes.
    pub(crate) fn path_mtu(&self, address: &Address) -> u32 {
        let path = self.paths.at(self.path_slot(address));
        if path.address == *address && self.now_us < path.expires_us {
            path.mtu_bytes.min(self.config.mtu_bytes)
        } else {
            self.config.mtu_bytes
        }
    }

    /// Takes over a lower MTU for the path of `flow`; false if it is none. Another flow may have learned of it before.
    pub(crate) fn lower_path_mtu(&mut self, flow: u32, mtu_bytes: u32) -> bool {
        let address = self.connections.at(flow).tuple.remote;
        let known = self.path_mtu(&address);
        if mtu_bytes >= known {
            let connection = self.connections.at(flow);
            let behind = connection.mss_bytes > connection.mss_for(known);
            if behind {
                self.follow_path(flow);
            }
            return behind;
        }
        let expires_us = self.now_us.saturating_add(PATH_LIFE_US);
        let slot = self.path_slot(&address);
        *self.paths.at_mut(slot) = Path { address, mtu_bytes, expires_us };
        self.follow_path(flow);
        true
    }

    /// Gives a flow the MSS of its path. The core cuts what is in flight anew if it shrank.
    fn follow_path(&mut self, flow: u32) {
        let mtu_bytes = self.path_mtu(&self.connections.at(flow).tuple.remote);
        let connection = self.connections.at_mut(flow);
        connection.mss_bytes = connection.mss_for(mtu_bytes);
        let mss_bytes = connection.mss_bytes as u32;
        if let Some(cold) = self.cold(flow) {
            cold.mss_bytes.store(mss_bytes, Relaxed);
        }
        self.command(flow, pending::UPDATE);
    }

    /// Goes back to larger segments when the lower MTU was long ago, or another connection to the
    /// same destination learned of one. For flows that are in use.
    pub(crate) fn age_path(&mut self, flow: u32) {
        let connection = self.connections.at(flow);
        if connection.mss_bytes >= connection.mss_limit {
            return;
        }
        if connection.mss_for(self.path_mtu(&connection.tuple.remote)) > connection.mss_bytes {
            self.counters.add(Counter::PathMtuRaised);
            self.follow_path(flow);
        }
    }

    /// After several timeouts in a row: is the next hop there, and do large segments get through at
    /// all? (RFC 9293 §3.8.3 R1, RFC 4821 §7.7.)
    pub(crate) fn suspect_path(&mut self, flow: u32, view: &View) {
        let connection = self.connections.at(flow);
        let (backoff, neighbor) = (connection.backoff, connection.neighbor);
        let (base, least) = match connection.tuple.remote.family() {
            Family::V4 => (PATH_MTU_BASE, PATH_MTU_MIN),
            Family::V6 => (IPV6_MTU_MIN, IPV6_MTU_MIN),
        };
        let mtu_bytes = match backoff {
            R1 => {
                self.suspect_neighbor(neighbor);
                base
            }
            // Twice R1.
            6 => least,
            _ => return,
        };
        let connection = self.connections.at(flow);
        let in_flight = view.snd_max.saturating_sub(view.snd_una);
        let mss_bytes = connection.mss_for(mtu_bytes);
        let large = connection.mss_bytes > mss_bytes && in_flight > mss_bytes as u64;
        if large && self.lower_path_mtu(flow, mtu_bytes) {
            self.counters.add(Counter::BlackHoles);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routers_are_believed_within_reason() {
        for (told, dropped, mtu) in [
            (1400, 1500, Some(1400)),
            (1500, 1500, None),
            (9000, 1500, None),
            (68, 1500, Some(552)),
            (0, 1500, Some(1492)),
            (0, 1492, Some(1006)),
            (0, 1006, Some(576)),
            (0, 560, Some(552)),
            (0, 300, None),
            (0, 0, None),
        ] {
            assert_eq!(believable_mtu(&Address::v4(1), told, dropped), mtu, "{told} {dropped}");
        }
        let peer = Address::v6([0x2001_0db8, 0, 0, 1]);
        for (told, dropped, mtu) in [
            (1400, 1500, Some(1400)),
            (1280, 1500, Some(1280)),
            (1279, 1500, None),
            (0, 1500, None),
            (1500, 1500, None),
        ] {
            assert_eq!(believable_mtu(&peer, told, dropped), mtu, "{told} {dropped}");
        }
    }
}
