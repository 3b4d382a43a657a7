// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! TIME-WAIT: a compact table, oldest out first.

use crate::{
    connection::flag as connection_flag,
    counters::Counter,
    lookup::{Found, Tuple},
    ports::{Places, Use, NO_USER},
    stack::Stack,
    tcp::{
        limits::{LastAnswer, ANSWER_INTERVAL_US},
        state::State,
    },
    timers::Timer,
    wire::tcp::{before, flag, Segment},
};
use abi::flow::NONE;

/// A connection in TIME-WAIT; its four-tuple is in the lookup table.
#[derive(Debug, Clone, Copy)]
pub struct TimeWait {
    pub(crate) used: bool,
    pub(crate) timestamps: bool,
    pub(crate) port_use: Use,
    pub(crate) snd_nxt: u32,
    pub(crate) rcv_nxt: u32,
    pub(crate) ts_recent: u32,
    pub(crate) expires_us: u64,
    /// When the last ACK was sent in answer, for the rate limit.
    pub(crate) answered: LastAnswer,
    /// Order of age; `next` also links the free list.
    pub(crate) next: u32,
    pub(crate) prev: u32,
}

impl Default for TimeWait {
    fn default() -> Self {
        Self {
            used: false,
            timestamps: false,
            port_use: Use { reuse_address: false, reuse_port: false, ephemeral: false },
            snd_nxt: 0,
            rcv_nxt: 0,
            ts_recent: 0,
            expires_us: 0,
            answered: LastAnswer::NEVER,
            next: NONE,
            prev: NONE,
        }
    }
}

/// A FIN that comes again is answered this often, microseconds: faster than a peer repeats it.
const FIN_INTERVAL_US: u64 = 20_000;
/// How far a reused four-tuple's sequence numbers begin behind the old ones, as Linux.
const REUSE_GAP: u32 = 65_537;

impl Stack<'_> {
    /// What TIME-WAIT must remember of a flow whose hot entry is at rest.
    pub(crate) fn time_wait_of(&self, flow: u32) -> TimeWait {
        let view = self.view(flow);
        let connection = self.connections.at(flow);
        TimeWait {
            used: true,
            timestamps: connection.is(connection_flag::TIMESTAMPS),
            port_use: self.port_use(flow),
            // Our FIN takes one position after the data.
            snd_nxt: view.snd_una.max(view.snd_end.wrapping_add(1)) as u32,
            rcv_nxt: view.rcv_nxt as u32,
            ts_recent: view.ts_recent,
            expires_us: self.now_us.saturating_add(self.config.time_wait_us),
            ..TimeWait::default()
        }
    }

    /// Enters a connection; the oldest makes room when the table is full.
    pub(crate) fn enter_time_wait(&mut self, tuple: Tuple, entry: TimeWait) {
        if !self.time_wait.has(self.time_wait_free) {
            self.counters.add(Counter::TimeWaitsEarly);
            self.leave_time_wait(self.time_wait_head);
        }
        let id = self.time_wait_free;
        if !self.time_wait.has(id) || self.lookup.find(&tuple) != Found::Nothing {
            return;
        }
        self.counters.add(Counter::TimeWaits);
        self.time_wait_free = self.time_wait.at(id).next;
        *self.time_wait.at_mut(id) = entry;
        self.time_wait_used = self.time_wait_used.saturating_add(1);
        self.ports.add(tuple.local_port(), Places::of(&tuple.local), entry.port_use, NO_USER);
        self.lookup.insert(Found::TimeWait(id), tuple);
        self.append_time_wait(id);
        self.arm_time_wait();
    }

    fn append_time_wait(&mut self, id: u32) {
        let tail = self.time_wait_tail;
        let entry = self.time_wait.at_mut(id);
        entry.next = NONE;
        entry.prev = tail;
        if self.time_wait.has(tail) {
            self.time_wait.at_mut(tail).next = id;
        } else {
            self.time_wait_head = id;
        }
        self.time_wait_tail = id;
    }

    fn unlink_time_wait(&mut self, id: u32) {
        let TimeWait { next, prev, .. } = *self.time_wait.at(id);
        if self.time_wait.has(prev) {
            self.time_wait.at_mut(prev).next = next;
        } else {
            self.time_wait_head = next;
        }
        if self.time_wait.has(next) {
            self.time_wait.at_mut(next).prev = prev;
        } else {
            self.time_wait_tail = prev;
        }
    }

    /// Forgets a connection in TIME-WAIT.
    pub(crate) fn leave_time_wait(&mut self, id: u32) {
        if !self.time_wait.has(id) || !self.time_wait.at(id).used {
            return;
        }
        self.unlink_time_wait(id);
        let tuple = self.lookup.tuple(Found::TimeWait(id));
        self.lookup.remove(Found::TimeWait(id));
        self.ports.remove(tuple.local_port(), Places::of(&tuple.local), self.time_wait.at(id).port_use);
        let next = core::mem::replace(&mut self.time_wait_free, id);
        *self.time_wait.at_mut(id) = TimeWait { next, ..TimeWait::default() };
        self.time_wait_used = self.time_wait_used.saturating_sub(1);
    }

    fn arm_time_wait(&mut self) {
        let head = self.time_wait_head;
        if self.time_wait.has(head) {
            let expires_us = self.time_wait.at(head).expires_us;
            self.wheel.set(self.numbering.node(Timer::TimeWait), expires_us);
        }
    }

    /// The oldest is over: one per call, so that work stays bounded.
    pub(crate) fn time_wait_timer(&mut self) {
        let head = self.time_wait_head;
        if self.time_wait.has(head) && self.time_wait.at(head).expires_us <= self.now_us {
            self.leave_time_wait(head);
        }
        self.arm_time_wait();
    }

    /// A segment for a connection in TIME-WAIT (RFC 9293 §3.10.7.4).
    pub(crate) fn time_wait_input(&mut self, core: u32, id: u32, segment: &Segment, frame: &[u8]) {
        let entry = *self.time_wait.at(id);
        if segment.has(flag::RST) {
            // RFC 1337: an old duplicate must not end TIME-WAIT.
            return;
        }
        let opens = segment.has(flag::SYN) && !segment.has(flag::ACK);
        if opens && may_reopen(&entry, segment) {
            if let Some(listener) = self.find_listener(&segment.tuple) {
                self.counters.add(Counter::TimeWaitsReused);
                self.leave_time_wait(id);
                let least = entry.snd_nxt.wrapping_add(REUSE_GAP);
                self.listen_input(core, listener, segment, frame, Some(least));
                return;
            }
        }
        let old = entry.timestamps && segment.is_older_than(entry.ts_recent);
        if old {
            self.counters.add(Counter::PawsRejected);
        }
        let end = segment.seq.wrapping_add(segment.length());
        let fin = segment.has(flag::FIN) && !segment.has(flag::SYN) && end == entry.rcv_nxt && !old;
        if fin {
            // The peer did not get our last ACK: TIME-WAIT begins anew.
            self.unlink_time_wait(id);
            let expires_us = self.now_us.saturating_add(self.config.time_wait_us);
            self.time_wait.at_mut(id).expires_us = expires_us;
            self.append_time_wait(id);
            self.arm_time_wait();
        }
        // Nothing to say to the ACK of our FIN, or to one that is merely old.
        let next = segment.length() == 0 && segment.seq == entry.rcv_nxt && !old;
        if next && !before(entry.snd_nxt, segment.ack) {
            return;
        }
        let interval_us = if fin { FIN_INTERVAL_US } else { ANSWER_INTERVAL_US };
        let now_us = self.now_us;
        if !self.time_wait.at_mut(id).answered.allow(now_us, interval_us) {
            self.counters.add(Counter::RateLimited);
            return;
        }
        let ts_recent = entry.timestamps.then_some(entry.ts_recent);
        self.acknowledge(core, segment, entry.snd_nxt, entry.rcv_nxt, 0, ts_recent);
    }

    /// A SYN for a connection in TIME-WAIT whose socket is still held: true if it opens a new incarnation. The socket
    /// keeps what it has not read, and nothing else: the old flow is detached, as that of a dead connection.
    pub(crate) fn reopen_held(&mut self, core: u32, flow: u32, segment: &Segment, frame: &[u8]) -> bool {
        let entry = self.time_wait_of(flow);
        if segment.has(flag::ACK) || !may_reopen(&entry, segment) {
            return false;
        }
        let Some(listener) = self.find_listener(&segment.tuple) else {
            return false;
        };
        self.counters.add(Counter::TimeWaitsReused);
        self.end_time_wait(flow);
        let least = entry.snd_nxt.wrapping_add(REUSE_GAP);
        self.listen_input(core, listener, segment, frame, Some(least));
        true
    }

    /// TIME-WAIT is over and the socket still held: nothing is left of the connection but what it received.
    pub(crate) fn end_time_wait(&mut self, flow: u32) {
        self.stop_sampling(flow);
        self.stop_timers(flow);
        self.set_state(flow, State::Closed);
        self.release_tuple(flow);
    }
}

/// Whether a SYN may begin a new incarnation (RFC 6191 §2): its timestamp is newer than the last one
/// seen, or says nothing and its sequence number lies behind the old ones (RFC 1122 §4.2.2.13).
fn may_reopen(entry: &TimeWait, segment: &Segment) -> bool {
    let behind = before(entry.rcv_nxt, segment.seq);
    match segment.options.timestamps {
        Some((value, _)) if entry.timestamps => {
            before(entry.ts_recent, value) || (value == entry.ts_recent && behind)
        }
        // The old incarnation had none: its segments cannot pass for the new one's.
        Some(_) => true,
        None => behind,
    }
}
