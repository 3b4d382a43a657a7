// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The path to a peer: its MTU as routers tell it (RFC 1191), as losses suggest it (RFC 4821's black
//! holes), and how both are forgotten again.

use super::{flows::View, path_search::Search, reply::headers_bytes};
use crate::{
    connection::{pending, Connection},
    counters::Counter,
    stack::Stack,
    wire::address::{Address, Family},
};
use abi::{
    flow::extend,
    limits::{ETHERNET_MTU, IPV6_MTU_MIN},
};
use core::sync::atomic::Ordering::Relaxed;

/// What is remembered of a destination. One entry per hash value: a second destination with the same
/// hash takes it over, and the first learns again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Path {
    address: Address,
    mtu_bytes: u32,
    expires_us: u64,
}

/// Which sizes the path of a flow takes, as far as acknowledgements show it (RFC 5927 §7.2, whose `maxsizeacked` and
/// pending errors these are).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Largest segment that is known to be acknowledged, bytes without headers; zero: none.
    proven_bytes: u16,
    /// A segment of this size ends at `mark` or before (zero: no such segment is known).
    marked_bytes: u16,
    mark: u64,
    /// MTU that a router asked for in spite of what is proven; zero: none.
    claimed_mtu: u32,
    /// It is wrong if this is acknowledged: the segment that was dropped, so it said, begins before.
    claim_end: u64,
}

impl Sizes {
    pub(crate) const UNKNOWN: Self =
        Self { proven_bytes: 0, marked_bytes: 0, mark: 0, claimed_mtu: 0, claim_end: 0 };
}

/// No router is believed that asks for less, as Linux's `min_pmtu`: smaller segments would only
/// serve whoever wants us to send many.
const PATH_MTU_MIN: u32 = 552;
/// A lower MTU is probed for after this time (Linux's tcp_probe_interval), microseconds, and forgotten after as much
/// again if no connection could (RFC 1191 §6.3).
pub(crate) const PATH_LIFE_US: u64 = 600_000_000;
/// Timeouts in a row after which the path is suspected: R1 of RFC 9293 §3.8.3, Linux's `tcp_retries1`.
const R1: u8 = 3;
/// MTU tried after R1 timeouts, Linux's `tcp_base_mss` and headers; the smallest after twice as many.
const PATH_MTU_BASE: u32 = 1064;
/// MTUs of networks (RFC 1191 §7.1, and Ethernet without LLC, which most are now), for routers that do not tell theirs.
const PLATEAUS: [u32; 8] = [8166, 4352, 2002, ETHERNET_MTU, 1492, 1006, 576, 552];

/// What is remembered of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Nothing, or no more.
    Gone,
    /// It took this MTU and no more; long enough ago to try again.
    Due,
    /// It takes this MTU, bytes.
    Known(u32),
}

impl Connection {
    /// A segment of this payload was acknowledged.
    pub(crate) fn prove_size(&mut self, bytes: u16) {
        self.sizes.proven_bytes = self.sizes.proven_bytes.max(bytes);
    }

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

    /// What is remembered of the path to an address.
    pub(crate) fn path_memory(&self, address: &Address) -> Memory {
        let path = self.paths.at(self.path_slot(address));
        if path.address != *address || self.now_us >= path.expires_us.saturating_add(PATH_LIFE_US) {
            Memory::Gone
        } else if self.now_us >= path.expires_us {
            Memory::Due
        } else {
            Memory::Known(path.mtu_bytes)
        }
    }

    /// MTU of the path to an address as far as known, bytes.
    pub(crate) fn path_mtu(&self, address: &Address) -> u32 {
        match self.path_memory(address) {
            Memory::Known(mtu_bytes) => mtu_bytes.min(self.config.mtu_bytes),
            _ => self.config.mtu_bytes,
        }
    }

    /// Remembers the MTU of a path for a while.
    pub(crate) fn remember_path(&mut self, address: &Address, mtu_bytes: u32, life_us: u64) {
        let expires_us = self.now_us.saturating_add(life_us);
        let slot = self.path_slot(address);
        *self.paths.at_mut(slot) = Path { address: *address, mtu_bytes, expires_us };
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
        self.remember_path(&address, mtu_bytes, PATH_LIFE_US);
        self.follow_path(flow);
        true
    }

    /// A router asks for smaller segments. It is heeded at once, unless segments larger than it lets through were
    /// acknowledged: then only if the one it dropped is not acknowledged either before a timeout (RFC 5927 §7.2).
    /// `sequence`: number of the segment it quotes, which is in flight. False: it asks for nothing new.
    pub(crate) fn heed_router(&mut self, flow: u32, mtu_bytes: u32, sequence: u32) -> bool {
        let una = self.view(flow).snd_una;
        let connection = self.connections.at_mut(flow);
        if connection.mss_for(mtu_bytes) < connection.sizes.proven_bytes {
            let sizes = &mut connection.sizes;
            // Of several the one that costs least.
            if mtu_bytes > sizes.claimed_mtu {
                sizes.claimed_mtu = mtu_bytes;
                sizes.claim_end = extend(sequence, una).wrapping_add(1);
            }
            self.counters.add(Counter::PathMtuDelayed);
            return true;
        }
        let lowered = self.lower_path_mtu(flow, mtu_bytes);
        if lowered {
            self.counters.add(Counter::PathMtuLowered);
        }
        lowered
    }

    /// A timeout: what a router claimed may be true after all.
    pub(crate) fn heed_claim(&mut self, flow: u32, view: &View) {
        let sizes = &mut self.connections.at_mut(flow).sizes;
        let claimed = core::mem::replace(&mut sizes.claimed_mtu, 0);
        if claimed != 0 && view.snd_una < sizes.claim_end && self.lower_path_mtu(flow, claimed) {
            self.counters.add(Counter::PathMtuLowered);
        }
    }

    /// Notes which sizes were acknowledged. The slow path sees positions only: a segment is full if a whole one was
    /// waiting to be sent, or if so much is in flight that the one small segment of RFC 896 cannot be all of it.
    pub(crate) fn watch_sizes(&mut self, flow: u32, view: &View) {
        let connection = self.connections.at_mut(flow);
        let mss = connection.mss_bytes as u64;
        let nagle = !connection.is(crate::connection::flag::NODELAY);
        let sizes = &mut connection.sizes;
        if view.snd_una >= sizes.claim_end {
            sizes.claimed_mtu = 0;
        }
        if sizes.mark != 0 && view.snd_una >= sizes.mark {
            sizes.proven_bytes = sizes.proven_bytes.max(sizes.marked_bytes);
            sizes.mark = 0;
        }
        if sizes.mark != 0 || sizes.proven_bytes as u64 >= mss {
            return;
        }
        let windows = view.snd_wnd.min(view.cwnd_bytes) as u64;
        let waits = view.snd_end.saturating_sub(view.snd_nxt) >= mss && windows >= mss;
        let full = nagle && view.snd_nxt.saturating_sub(view.snd_una) >= mss.saturating_mul(2);
        if waits || full {
            let ahead = if full { 0 } else { mss };
            sizes.mark = view.snd_nxt.saturating_add(ahead);
            sizes.marked_bytes = mss as u16;
        }
    }

    /// Gives a flow the MSS of its path. The core cuts what is in flight anew if it shrank.
    pub(crate) fn follow_path(&mut self, flow: u32) {
        let mtu_bytes = self.path_mtu(&self.connections.at(flow).tuple.remote);
        let connection = self.connections.at_mut(flow);
        connection.mss_bytes = connection.mss_for(mtu_bytes);
        // What was true of the path need not be true of the one that is there now.
        let proven_bytes = connection.sizes.proven_bytes.min(connection.mss_bytes);
        connection.sizes = Sizes { proven_bytes, ..Sizes::UNKNOWN };
        connection.search = Search::NONE;
        self.tell_mss(flow);
    }

    /// Tells the core a flow's MSS.
    pub(crate) fn tell_mss(&mut self, flow: u32) {
        let mss_bytes = self.connections.at(flow).mss_bytes as u32;
        if let Some(cold) = self.cold(flow) {
            cold.mss_bytes.store(mss_bytes, Relaxed);
        }
        self.command(flow, pending::UPDATE);
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
            (0, 9000, Some(8166)),
            (0, 1501, Some(1500)),
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
            (1500, 9000, Some(1500)),
            (9000, 9000, None),
        ] {
            assert_eq!(believable_mtu(&peer, told, dropped), mtu, "{told} {dropped}");
        }
    }
}
