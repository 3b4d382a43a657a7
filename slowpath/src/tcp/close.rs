// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Every way to close (RFC 9293 §3.6): shutdown, release of the last descriptor, FIN from either
//! side in any order, and what limits a connection without a socket.
//!
//! The application's last words travel through its ring to the fast path, while a release comes
//! here at once. So a close first *drains*: it waits until the core has taken what was in every ring,
//! and only then judges what was read and written, and asks for the FIN.

use crate::{
    connection::{flag, pending},
    counters::Counter,
    stack::Stack,
    tcp::state::State,
    timers::Timer,
};
use abi::{
    flow::{hot_flags, NONE},
    limits::{CONTEXTS_PER_LOOP_SHIFT, CONTEXT_ENTRIES_PER_LOOP, CONTEXT_RING_ENTRIES},
};
use core::sync::atomic::Ordering::Relaxed;

/// First pause between looks at a draining core, microseconds; doubled up to the longest.
const DRAIN_FIRST_US: u64 = 64;
const DRAIN_LONGEST_US: u64 = 4096;
/// Loops of the core that take everything out of a ring which was full at the close, with the loop that was
/// going on; times the turns that the contexts take.
const DRAIN_LOOPS: u64 = (CONTEXT_RING_ENTRIES / CONTEXT_ENTRIES_PER_LOOP) as u64;
/// FIN-WAIT-2 without a socket, as Linux's tcp_fin_timeout.
const FIN_WAIT2_US: u64 = 60_000_000;
/// Longest life of an orphan that has not finished sending: ten minutes.
const ORPHAN_US: u64 = 600_000_000;

impl Stack<'_> {
    /// Loops of the core that owns a flow, and whether it sleeps (and so has seen every ring).
    fn core_progress(&self, core: u32) -> Option<(u64, bool)> {
        let status = (*self.cores.get(core as usize)?)?;
        Some((status.loops.load(Relaxed), status.waiting.load(Relaxed) != 0))
    }

    /// Begins to close our end, after everything the application handed over up to `end` (zero:
    /// whatever there is).
    pub(crate) fn begin_drain(&mut self, flow: u32, end: u64) {
        let core = self.connections.at(flow).core;
        let loops = self.core_progress(core).map_or(0, |(loops, _)| loops);
        let connection = self.connections.at_mut(flow);
        connection.drain_end = end;
        connection.drain_loops = loops;
        connection.backoff_drain = 0;
        connection.set(flag::DRAINING, true);
        // UPDATE makes a sleeping core look.
        self.command(flow, pending::UPDATE);
        self.set_timer(Timer::Lifecycle(flow), DRAIN_FIRST_US);
    }

    /// Whether the core has seen everything the application said before the close.
    fn is_drained(&self, flow: u32) -> bool {
        let connection = self.connections.at(flow);
        let view = self.view(flow);
        let reached = connection.drain_end != 0 && view.snd_end >= connection.drain_end;
        if reached && !connection.is(flag::ORPHAN) {
            return true;
        }
        let Some((loops, asleep)) = self.core_progress(connection.core) else {
            return true;
        };
        let passed = loops.wrapping_sub(connection.drain_loops);
        let turns = (self.context_count as u64 >> CONTEXTS_PER_LOOP_SHIFT).saturating_add(1);
        passed > DRAIN_LOOPS.saturating_mul(turns) || (asleep && passed > 0)
    }

    fn drain_timer(&mut self, flow: u32) {
        if !self.is_drained(flow) {
            let connection = self.connections.at_mut(flow);
            connection.backoff_drain = connection.backoff_drain.saturating_add(1).min(6);
            let pause = DRAIN_FIRST_US.saturating_mul(1u64.wrapping_shl(connection.backoff_drain as u32));
            self.set_timer(Timer::Lifecycle(flow), pause.min(DRAIN_LONGEST_US));
            return;
        }
        self.connections.at_mut(flow).set(flag::DRAINING, false);
        if self.connections.at(flow).is(flag::ORPHAN) {
            self.finish_orphan(flow);
        } else {
            self.ask_fin(flow);
            self.arm_keepalive(flow);
        }
    }

    /// Asks the fast path for a FIN behind what was written.
    pub(crate) fn ask_fin(&mut self, flow: u32) {
        self.connections.at_mut(flow).set(flag::FIN_ASKED, true);
        self.command(flow, pending::FINISH);
        self.refresh_state(flow);
    }

    /// The descriptor of an established (or dead) connection is gone.
    pub(crate) fn orphan(&mut self, flow: u32, reset: bool) {
        if !self.is_installed(flow) || self.is_removing(flow) {
            return;
        }
        self.refresh_state(flow);
        let limit = (self.connections.len() / 4).max(64);
        let crowded = self.orphans >= limit;
        self.orphans = self.orphans.saturating_add(1);
        let connection = self.connections.at_mut(flow);
        connection.socket = NONE;
        connection.set(flag::ORPHAN, true);
        let state = connection.state;
        match state {
            State::Closed => self.begin_remove(flow, 0),
            State::TimeWait => self.begin_remove(flow, flag::TIME_WAIT_AT_REMOVED),
            _ if reset => self.abort(flow),
            _ if crowded => {
                self.counters.add(Counter::OrphansEnded);
                self.abort(flow);
            }
            _ => {
                self.update_flow(flow);
                self.begin_drain(flow, 0);
            }
        }
    }

    /// The core has drained a connection without a socket: RST if something was left unread
    /// (RFC 2525 §2.17, as Linux), else FIN.
    fn finish_orphan(&mut self, flow: u32) {
        let view = self.view(flow);
        let fin = u64::from(view.has(hot_flags::FIN_RECEIVED));
        let unread = view.rcv_nxt.wrapping_sub(fin) > view.rcv_read;
        self.set_flow_context(flow, NONE);
        if unread {
            self.abort(flow);
            return;
        }
        if view.snd_end > view.snd_una {
            self.counters.add(Counter::Orphans);
        }
        self.set_timer(Timer::Lifecycle(flow), ORPHAN_US);
        self.ask_fin(flow);
        self.entered_state(flow, self.connections.at(flow).state);
    }

    /// Derives the state from which ends are closed, and does what a change asks for.
    pub(crate) fn refresh_state(&mut self, flow: u32) {
        let connection = *self.connections.at(flow);
        let settled = matches!(connection.state, State::Closed | State::SynSent | State::SynReceived);
        if !self.is_installed(flow) || self.is_removing(flow) || settled {
            return;
        }
        let view = self.view(flow);
        let asked = connection.is(flag::FIN_ASKED) || view.has(hot_flags::FIN_QUEUED);
        let received = view.has(hot_flags::FIN_RECEIVED);
        // The core knows which end was first, if both turn out closed at once.
        let remote_first = connection.is(flag::REMOTE_FIRST)
            || (received && (!asked || view.has(hot_flags::REMOTE_CLOSED_FIRST)));
        let state = State::from_ends(asked, view.has(hot_flags::FIN_ACKED), received, remote_first);
        let entry = self.connections.at_mut(flow);
        entry.set(flag::FIN_ASKED, asked);
        entry.set(flag::REMOTE_FIRST, received && remote_first);
        if state == connection.state {
            return;
        }
        self.set_state(flow, state);
        self.entered_state(flow, state);
    }

    fn entered_state(&mut self, flow: u32, state: State) {
        let orphan = self.connections.at(flow).is(flag::ORPHAN);
        let draining = self.connections.at(flow).is(flag::DRAINING);
        match state {
            State::FinWait2 if orphan && !draining => {
                self.set_timer(Timer::Lifecycle(flow), FIN_WAIT2_US);
            }
            State::TimeWait if !orphan => {
                // Both ends are closed: there is nothing to drain.
                self.connections.at_mut(flow).set(flag::DRAINING, false);
                self.set_timer(Timer::Lifecycle(flow), self.config.time_wait_us);
            }
            State::TimeWait if !draining => self.begin_remove(flow, flag::TIME_WAIT_AT_REMOVED),
            State::Closed if orphan && !draining => self.begin_remove(flow, 0),
            State::Closed if !orphan => self.release_tuple(flow),
            _ => {}
        }
    }

    /// The lifecycle timer of a flow.
    pub(crate) fn lifecycle_timer(&mut self, flow: u32) {
        let connection = *self.connections.at(flow);
        if !connection.is(flag::USED) || connection.is(flag::REMOVING) {
            return;
        }
        match connection.state {
            State::SynSent | State::SynReceived => self.handshake_timer(flow),
            _ if connection.is(flag::DRAINING) => self.drain_timer(flow),
            // Linux: the FIN-WAIT-2 of an orphan ends without a word.
            State::FinWait2 if connection.is(flag::ORPHAN) => self.begin_remove(flow, 0),
            _ if connection.is(flag::ORPHAN) => {
                self.counters.add(Counter::OrphansEnded);
                self.abort(flow);
            }
            State::TimeWait => self.end_time_wait(flow),
            _ => self.keepalive_timer(flow),
        }
    }
}
