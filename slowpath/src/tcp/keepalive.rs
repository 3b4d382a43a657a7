// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Keepalive (RFC 9293 §3.8.4): off unless asked for.
//!
//! The slow path sees a flow's positions and timestamps, not each segment: what changed between two
//! looks is activity. A peer without timestamps answers a probe with a segment that changes nothing,
//! so it is probed but never given up.

use crate::{
    connection::{flag, pending},
    counters::Counter,
    errno::Errno,
    stack::Stack,
    tcp::state::State,
    timers::Timer,
};

/// Keepalive of a socket or a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keepalive {
    /// TCP_KEEPIDLE, seconds.
    pub(crate) idle_s: u16,
    /// TCP_KEEPINTVL, seconds.
    pub(crate) interval_s: u16,
    /// TCP_KEEPCNT.
    pub(crate) count: u8,
    /// Probes sent since the last activity.
    pub(crate) probes: u8,
    /// Fingerprint of the flow at the last look.
    seen: u64,
}

impl Keepalive {
    /// Linux's defaults (RFC 9293 MUST-28: two hours at least).
    pub(crate) const DEFAULT: Self = Self { idle_s: 7200, interval_s: 75, count: 9, probes: 0, seen: 0 };
}

const SECOND_US: u64 = 1_000_000;

impl Stack<'_> {
    /// Begins to watch a connection whose socket asks for keepalive.
    pub(crate) fn arm_keepalive(&mut self, flow: u32) {
        let seen = self.fingerprint(flow);
        let connection = self.connections.at_mut(flow);
        let busy = flag::ORPHAN | flag::DRAINING | flag::REMOVING;
        if !connection.is(flag::KEEPALIVE) || connection.is(busy) {
            return;
        }
        connection.keepalive.probes = 0;
        connection.keepalive.seen = seen;
        let idle_us = (connection.keepalive.idle_s as u64).saturating_mul(SECOND_US);
        self.set_timer(Timer::Lifecycle(flow), idle_us);
    }

    /// What every segment that matters changes.
    fn fingerprint(&self, flow: u32) -> u64 {
        let view = self.view(flow);
        let echo = (view.ts_recent as u64).rotate_left(32);
        view.rcv_nxt ^ view.snd_una.rotate_left(20) ^ echo
    }

    /// The idle time, or the pause after a probe, is over.
    pub(crate) fn keepalive_timer(&mut self, flow: u32) {
        let connection = *self.connections.at(flow);
        if !connection.is(flag::KEEPALIVE) || connection.state == State::Closed {
            return;
        }
        // With data in flight the retransmission timeout is in charge.
        let active = self.fingerprint(flow) != connection.keepalive.seen;
        if active || connection.is(flag::SAMPLED) {
            self.arm_keepalive(flow);
            return;
        }
        if connection.keepalive.probes >= connection.keepalive.count {
            if connection.is(flag::TIMESTAMPS) {
                self.counters.add(Counter::GivenUp);
                self.fail_connection(flow, Errno::ETIMEDOUT);
            } else {
                self.arm_keepalive(flow);
            }
            return;
        }
        let keepalive = &mut self.connections.at_mut(flow).keepalive;
        keepalive.probes = keepalive.probes.saturating_add(1);
        let pause_us = (keepalive.interval_s as u64).saturating_mul(SECOND_US);
        self.counters.add(Counter::Probes);
        self.command(flow, pending::PROBE);
        self.set_timer(Timer::Lifecycle(flow), pause_us);
    }
}
