// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Searching upwards for the MTU of a path (RFC 4821 §7.3, RFC 8899): when a lower one was long ago, one longer segment
//! tells whether it still holds. The size that the link takes is tried first, since the path may be what it was, then that
//! of standard Ethernet, which most paths of a link with jumbo frames have; then the search halves what is left. The fast path sends the probe, and tells if it is lost; no window shrinks for it.

use super::{
    flows::View,
    path::{Memory, PATH_LIFE_US},
    reply::{headers_bytes, TIMESTAMP_BYTES},
    state::State,
};
use crate::{
    connection::{flag, pending, Connection},
    counters::Counter,
    stack::Stack,
};
use abi::{flow::hot_flags, limits::ETHERNET_MTU};
use core::sync::atomic::{fence, Ordering::Acquire, Ordering::Relaxed};

/// The search is over when what is left of it is no more than this, bytes (Linux's tcp_probe_threshold).
const SEARCH_STEP: u16 = 8;
/// Full segments that wait behind a probe, so that its loss is found without a timeout.
const FOLLOWERS: u64 = 4;
/// A probe that does not leave in this time is asked for anew, microseconds.
const PATIENCE_US: u64 = 1_000_000;

/// A connection's search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Search {
    /// Smallest payload that did not pass; zero: none yet.
    too_large: u16,
    /// Payload of the probe that was asked for, zero: none.
    asked_bytes: u16,
    /// Position after the probe in flight, zero: none.
    end: u64,
    /// Until when the probe that was asked for may leave, microseconds.
    at_us: u64,
}

impl Search {
    pub(crate) const NONE: Self = Self { too_large: 0, asked_bytes: 0, end: 0, at_us: 0 };

    /// Payload of the probe to be sent, as PROBE_PATH has it.
    pub(crate) fn asked_bytes(&self) -> u64 {
        self.asked_bytes as u64
    }
}

impl Connection {
    /// MTU of a path that takes segments with this payload.
    fn mtu_for(&self, mss_bytes: u16) -> u32 {
        let options = if self.is(flag::TIMESTAMPS) { TIMESTAMP_BYTES } else { 0 };
        (mss_bytes as u32).saturating_add(options as u32).saturating_add(headers_bytes(&self.tuple.remote))
    }
}

impl Stack<'_> {
    /// Goes back to larger segments: at once if another connection to the same destination has learned that they pass,
    /// or if nobody has probed for so long that the lower MTU is forgotten; else when a probe has shown it. For flows that
    /// are in use.
    pub(crate) fn search_path(&mut self, flow: u32, view: &View) {
        let connection = *self.connections.at(flow);
        let ceiling = connection.mss_for(self.config.mtu_bytes);
        if connection.mss_bytes >= ceiling {
            return;
        }
        let memory = self.path_memory(&connection.tuple.remote);
        let better = match memory {
            Memory::Known(mtu_bytes) => connection.mss_for(mtu_bytes) > connection.mss_bytes,
            Memory::Gone => true,
            // Without SACK the loss of a probe cannot be told from any other.
            Memory::Due => !connection.is(flag::SACK),
        };
        if better {
            self.counters.add(Counter::PathMtuRaised);
            self.follow_path(flow);
            return;
        }
        let search = connection.search;
        if search.end != 0 {
            self.judge_probe(flow, view);
        } else if search.asked_bytes != 0 {
            if self.now_us >= search.at_us {
                // It could not leave.
                self.connections.at_mut(flow).search.asked_bytes = 0;
            }
        } else if memory == Memory::Due || search.too_large != 0 {
            self.ask_probe(flow, view, ceiling);
        }
    }

    /// Asks for a probe if the flow has enough to send.
    fn ask_probe(&mut self, flow: u32, view: &View, ceiling: u16) {
        let connection = self.connections.at(flow);
        let mss = connection.mss_bytes;
        let standard = connection.mss_for(ETHERNET_MTU);
        let bytes = match connection.search.too_large {
            0 => ceiling,
            too_large if mss < standard && standard < too_large => standard,
            too_large => mss.saturating_add(too_large.saturating_sub(mss) / 2),
        };
        let needed = (bytes as u64).saturating_add((mss as u64).saturating_mul(FOLLOWERS));
        let windows = view.cwnd_bytes.min(view.snd_wnd) as u64;
        let calm = !view.has(hot_flags::RECOVERY | hot_flags::DISORDER) && connection.backoff == 0;
        let sends = matches!(connection.state, State::Established | State::CloseWait);
        let enough = view.snd_end.saturating_sub(view.snd_nxt) >= needed && windows >= needed;
        if !calm || !sends || !enough || bytes <= mss {
            return;
        }
        let at_us = self.now_us.saturating_add(PATIENCE_US);
        let search = &mut self.connections.at_mut(flow).search;
        search.asked_bytes = bytes;
        search.at_us = at_us;
        self.command(flow, pending::PROBE_PATH);
    }

    /// The probe has left, and ends at `end`.
    pub(crate) fn probe_left(&mut self, flow: u32, end: u64) {
        let search = &mut self.connections.at_mut(flow).search;
        if search.asked_bytes != 0 && search.end == 0 {
            search.end = end;
            self.counters.add(Counter::PathProbes);
        }
    }

    /// Has the probe in flight passed?
    fn judge_probe(&mut self, flow: u32, view: &View) {
        let Search { end, asked_bytes, .. } = self.connections.at(flow).search;
        // The fast path clears the flag before it sends again what was lost: who sees that acknowledged sees the flag.
        fence(Acquire);
        let intact = self.hot(flow).is_some_and(|hot| hot.flags.load(Relaxed) & hot_flags::PATH_PROBE != 0);
        if intact && view.snd_una < end {
            return;
        }
        let connection = self.connections.at_mut(flow);
        connection.search = Search { too_large: connection.search.too_large, ..Search::NONE };
        if intact {
            connection.mss_bytes = asked_bytes;
            connection.prove_size(asked_bytes);
            self.counters.add(Counter::PathMtuRaised);
            self.tell_mss(flow);
        } else {
            connection.search.too_large = asked_bytes;
            self.counters.add(Counter::PathProbesLost);
        }
        let connection = self.connections.at_mut(flow);
        let left = connection.search.too_large.saturating_sub(connection.mss_bytes);
        if left <= SEARCH_STEP {
            connection.search = Search::NONE;
        }
        let (address, mtu_bytes) = (connection.tuple.remote, connection.mtu_for(connection.mss_bytes));
        self.remember_path(&address, mtu_bytes, PATH_LIFE_US);
    }
}
