// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Keepalive (RFC 9293 §3.8.4): off unless asked for.
//!
//! The slow path sees a flow's positions and timestamps, not each segment: what changed between two
//! looks is activity. An answer to a probe that changes neither (a peer without timestamps) shows in
//! [`hot_flags::HEARD`].

use crate::{
    connection::{flag, pending},
    counters::Counter,
    errno::Errno,
    stack::Stack,
    tcp::state::State,
    timers::Timer,
};
use abi::flow::hot_flags;

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
    /// When something was last heard, microseconds.
    since_us: u64,
}

impl Keepalive {
    /// Linux's defaults (RFC 9293 MUST-28: two hours at least).
    pub(crate) const DEFAULT: Self =
        Self { idle_s: 7200, interval_s: 75, count: 9, probes: 0, seen: 0, since_us: 0 };
}

const SECOND_US: u64 = 1_000_000;
/// Looks at a flow during the idle time: a probe is late by a part of it, never early.
const LOOKS: u64 = 64;
/// Shortest pause between looks, microseconds: many flows with a short idle time must not keep the slow path busy.
const LOOK_MIN_US: u64 = 250_000;

impl Stack<'_> {
    /// Begins to watch a connection whose socket asks for keepalive.
    pub(crate) fn arm_keepalive(&mut self, flow: u32) {
        let (seen, now_us) = (self.fingerprint(flow), self.now_us);
        let connection = self.connections.at_mut(flow);
        let busy = flag::ORPHAN | flag::DRAINING | flag::REMOVING;
        // In TIME-WAIT the timer is another's.
        let over = connection.state == State::TimeWait;
        if !connection.is(flag::KEEPALIVE) || connection.is(busy) || over {
            return;
        }
        connection.keepalive.probes = 0;
        connection.keepalive.seen = seen;
        connection.keepalive.since_us = now_us;
        self.watch_idle(flow);
    }

    /// Looks again before the idle time is over; true if it is not over.
    fn watch_idle(&mut self, flow: u32) -> bool {
        let keepalive = self.connections.at(flow).keepalive;
        let idle_us = (keepalive.idle_s as u64).saturating_mul(SECOND_US);
        let left_us = keepalive.since_us.saturating_add(idle_us).saturating_sub(self.now_us);
        if left_us > 0 {
            self.set_timer(Timer::Lifecycle(flow), (idle_us / LOOKS).max(LOOK_MIN_US).min(left_us));
        }
        left_us > 0
    }

    /// What every segment that matters changes.
    fn fingerprint(&self, flow: u32) -> u64 {
        let view = self.view(flow);
        let echo = (view.ts_recent as u64).rotate_left(32);
        view.rcv_nxt ^ view.snd_una.rotate_left(20) ^ echo ^ (view.snd_wnd as u64).rotate_left(44)
    }

    /// The idle time, or the pause after a probe, is over.
    pub(crate) fn keepalive_timer(&mut self, flow: u32) {
        let connection = *self.connections.at(flow);
        if !connection.is(flag::KEEPALIVE) || connection.state == State::Closed {
            return;
        }
        // With data in flight the retransmission timeout is in charge.
        let probes = connection.keepalive.probes;
        let active = self.fingerprint(flow) != connection.keepalive.seen;
        if connection.is(flag::SAMPLED) || (active && probes == 0) {
            self.arm_keepalive(flow);
            return;
        }
        if probes > 0 && (active || self.view(flow).has(hot_flags::HEARD)) {
            // The answer came at some time since the probe, most likely at once: the idle time runs from there.
            let interval_us = (connection.keepalive.interval_s as u64).saturating_mul(SECOND_US);
            self.arm_keepalive(flow);
            let keepalive = &mut self.connections.at_mut(flow).keepalive;
            keepalive.since_us = keepalive.since_us.saturating_sub(interval_us);
        }
        let keepalive = self.connections.at(flow).keepalive;
        if keepalive.probes == 0 && self.watch_idle(flow) {
            return;
        }
        // As Linux: TCP_USER_TIMEOUT takes the place of the number of probes.
        let idle_us = self.now_us.saturating_sub(keepalive.since_us);
        let over = match connection.user_timeout_ms {
            0 => keepalive.probes >= keepalive.count,
            limit_ms => keepalive.probes > 0 && idle_us >= u64::from(limit_ms).saturating_mul(1000),
        };
        if over {
            // The peer may live and have forgotten us, or sit behind something that did.
            self.counters.add(Counter::GivenUp);
            self.send_reset(flow);
            self.fail_connection(flow, Errno::ETIMEDOUT);
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
