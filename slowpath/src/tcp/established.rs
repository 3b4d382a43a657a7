// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Segments on an installed flow that the fast path leaves alone: RST and SYN (RFC 5961).

use crate::{
    connection::{flag as fact, pending},
    counters::Counter,
    errno::Errno,
    lookup::Found,
    socket::{event, Kind},
    stack::Stack,
    tcp::state::State,
    wire::tcp::{flag, Segment},
};
use abi::flow::{hot_flags, slot_state};
use core::sync::atomic::Ordering::Relaxed;

/// What becomes of a RST.
enum Verdict {
    Reset,
    Challenge,
    Drop,
}

impl Stack<'_> {
    /// RST or SYN for a connection beyond the handshake (RFC 9293 §3.10.7.4, second and fourth step).
    pub(crate) fn control_input(&mut self, core: u32, flow: u32, segment: &Segment, frame: &[u8]) {
        if !self.is_installed(flow) || self.is_removing(flow) {
            return;
        }
        let state = self.connections.at(flow).state;
        // In TIME-WAIT nobody is to be told (RFC 1337): both ends finished, and a peer that has
        // forgotten the connection answers our repeated acknowledgement of its FIN with RST.
        let finished = segment.has(flag::RST) && state == State::TimeWait;
        if finished || state == State::Closed {
            return;
        }
        if !segment.has(flag::RST) {
            if state == State::TimeWait && self.reopen_held(core, flow, segment, frame) {
                return;
            }
            // RFC 5961 §4: whatever its number, once the peer has acknowledged our own.
            if !self.repeats_fast_open(core, flow, segment) {
                self.challenge(flow);
            }
            return;
        }
        match self.judge_reset(flow, segment.seq) {
            Verdict::Reset => {
                self.counters.add(Counter::ResetsReceived);
                let error = match state {
                    State::CloseWait => Errno::EPIPE,
                    _ => Errno::ECONNRESET,
                };
                self.hold_fast_open(flow);
                self.fail_connection(flow, error);
            }
            Verdict::Challenge => self.challenge(flow),
            Verdict::Drop => {}
        }
    }

    /// RFC 5961 §3.2: only the exact number resets; what is merely in the window is asked about.
    fn judge_reset(&self, flow: u32, seq: u32) -> Verdict {
        let view = self.view(flow);
        let next = view.rcv_nxt as u32;
        let offset = seq.wrapping_sub(next);
        // An end that sent FIN and is then killed numbers its RST like the FIN (macOS); Linux takes it.
        let after_fin = view.has(hot_flags::FIN_RECEIVED) && offset == u32::MAX;
        if offset == 0 || after_fin {
            Verdict::Reset
        } else if offset < view.rcv_adv.wrapping_sub(next) {
            Verdict::Challenge
        } else {
            Verdict::Drop
        }
    }

    /// The connection is dead: reset by the peer, or given up. What was received stays readable
    /// until the socket is released, so the flow stays installed, but sends nothing more.
    pub(crate) fn fail_connection(&mut self, flow: u32, error: Errno) {
        if !self.is_installed(flow) || self.is_removing(flow) {
            return;
        }
        let error = self.error_to_tell(flow, error);
        self.stop_sampling(flow);
        self.stop_timers(flow);
        self.set_state(flow, State::Closed);
        let connection = self.connections.at_mut(flow);
        connection.soft_error = error.0;
        connection.set(fact::DRAINING, false);
        let (id, waiting) = (connection.socket, connection.is(fact::IN_ACCEPT_QUEUE));
        // One that opens fast may fail before anybody was told of it; its socket is the listener until then.
        let socket = self.sockets.at(id);
        let is_held = waiting || (socket.kind == Kind::Connected && socket.flow == flow);
        if connection.is(fact::ORPHAN) || !is_held {
            self.begin_remove(flow, 0);
            return;
        }
        if let Some(cold) = self.cold(flow) {
            // Zero stops.
            cold.rate_kbps.store(0, Relaxed);
            cold.cwnd_bytes.store(0, Relaxed);
        }
        self.release_tuple(flow);
        if !waiting && self.sockets.has(id) {
            self.sockets.at_mut(id).error = error.0;
            self.notify(id, event::FAILED);
        }
    }

    /// The connection is over and its socket still held: the peer may use the four-tuple again at once. One that is
    /// alive after all gets RST.
    pub(crate) fn release_tuple(&mut self, flow: u32) {
        self.lookup.remove(Found::Connection(flow));
        self.update_flow(flow);
    }

    /// The reason ICMP gave for a timeout, unless something was acknowledged since (Linux's
    /// `sk_err_soft`).
    fn error_to_tell(&self, flow: u32, error: Errno) -> Errno {
        let connection = self.connections.at(flow);
        let current = self.view(flow).snd_una as u32 == connection.soft_error_una;
        if error == Errno::ETIMEDOUT && connection.soft_error != 0 && current {
            Errno(connection.soft_error)
        } else {
            error
        }
    }

    /// Has the fast path forget the flow. `then`: what follows REMOVED
    /// ([`fact::RESET_AT_REMOVED`], [`fact::TIME_WAIT_AT_REMOVED`]).
    pub(crate) fn begin_remove(&mut self, flow: u32, then: u32) {
        if !self.is_installed(flow) || self.is_removing(flow) {
            return;
        }
        self.stop_sampling(flow);
        self.stop_timers(flow);
        let connection = self.connections.at_mut(flow);
        connection.set(fact::REMOVING | then, true);
        connection.set(fact::DRAINING, false);
        connection.pending = 0;
        if let Some(cold) = self.cold(flow) {
            cold.state.store(slot_state::REMOVING, Relaxed);
        }
        self.command(flow, pending::REMOVE);
    }

    /// Ends a connection with RST.
    pub(crate) fn abort(&mut self, flow: u32) {
        let dead = self.connections.at(flow).state == State::Closed;
        self.begin_remove(flow, if dead { 0 } else { fact::RESET_AT_REMOVED });
    }

    /// The core holds no reference to the flow any more.
    pub(crate) fn removed(&mut self, flow: u32) {
        let connection = *self.connections.at(flow);
        if !connection.is(fact::USED)
            || !connection.is(fact::REMOVING)
            || connection.pending & pending::REMOVE != 0
        {
            return;
        }
        if connection.is(fact::RESET_AT_REMOVED) {
            self.send_reset(flow);
        }
        let time_wait = connection.is(fact::TIME_WAIT_AT_REMOVED).then(|| self.time_wait_of(flow));
        let tuple = self.lookup.tuple(Found::Connection(flow));
        self.free_connection(flow);
        if let Some(entry) = time_wait {
            self.enter_time_wait(tuple, entry);
        }
    }
}
