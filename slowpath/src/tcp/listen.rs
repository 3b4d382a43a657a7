// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Passive open: SYN to SYN queue, ACK to accept queue.

use crate::{
    connection::flag as fact,
    counters::Counter,
    lookup::{Found, Tuple},
    ports::{Place, Use},
    socket::{event, flag as option, Kind},
    stack::Stack,
    tcp::{half_open::HalfOpen, install::Opening, limits::ANSWER_INTERVAL_US},
    timers::Timer,
    wire::{
        address::Address,
        tcp::{before, flag, Segment},
    },
};
use abi::flow::NONE;

/// Half-open connections a listener may have whatever its backlog.
pub(crate) const HALF_OPEN_MIN: u32 = 16;
/// MSS of an IPv4 and of an IPv6 peer that announces none (RFC 9293 §3.7.1, MUST-15).
const MSS_DEFAULT: u16 = 536;
const MSS_DEFAULT_V6: u16 = 1220;
/// Smallest MSS a peer may announce, as Linux's `tcp_min_snd_mss`.
pub(crate) const MSS_MIN: u16 = 48;

/// MSS of a peer that announces none.
pub(crate) const fn default_mss(peer: &Address) -> u16 {
    if peer.is_v4() {
        MSS_DEFAULT
    } else {
        MSS_DEFAULT_V6
    }
}

impl Stack<'_> {
    /// The listener for a four-tuple: among those that share the port, always the same one.
    pub(crate) fn find_listener(&self, tuple: &Tuple) -> Option<u32> {
        let port = tuple.local_port();
        let count = self.ports.at(Place::of(&tuple.local), port).listener_count;
        let mut skip = match count {
            0 => return None,
            1 => 0,
            _ => {
                let hash = tuple.hash(&self.sequence_key) & 0xffff;
                (hash.wrapping_mul(count as u64) >> 16) as u32
            }
        };
        let mut found = None;
        let mut id = self.ports.first_listener(port);
        while self.sockets.has(id) {
            let socket = self.sockets.at(id);
            if socket.accepts(&tuple.local) {
                found = Some(id);
                if skip == 0 {
                    break;
                }
                skip = skip.saturating_sub(1);
            }
            id = socket.listener_next;
        }
        found
    }

    /// Receive buffer of the connections of a listener.
    pub(crate) fn listener_buffer(&self, listener: u32) -> u32 {
        match self.sockets.at(listener).rcv_buffer_bytes {
            0 => self.config.rx_buffer_bytes,
            bytes => bytes,
        }
    }

    /// The listener of a half-open connection, if it still listens.
    pub(crate) fn listener_of(&self, half: &HalfOpen) -> Option<u32> {
        let socket = self.sockets.at(half.listener);
        let same = socket.kind == Kind::Listening && socket.generation == half.generation;
        (self.sockets.has(half.listener) && same).then_some(half.listener)
    }

    /// A SYN for a listener.
    pub(crate) fn listen_input(
        &mut self,
        core: u32,
        listener: u32,
        segment: &Segment,
        frame: &[u8],
        least_iss: Option<u32>,
    ) {
        self.counters.add(Counter::Syns);
        let socket = *self.sockets.at(listener);
        if socket.accept_count > socket.backlog {
            // As Linux: whoever could not be accepted anyway is not even answered.
            self.counters.add(Counter::SynsDropped);
            return;
        }
        if socket.half_open >= socket.backlog.max(HALF_OPEN_MIN) || !self.half_open.has(self.half_open_free) {
            self.send_cookie(core, listener, segment, least_iss);
            return;
        }
        let neighbor = self.next_hop(&segment.tuple.remote).ok().and_then(|hop| self.resolve(&hop));
        let Some(neighbor) = neighbor else {
            self.counters.add(Counter::SynsDropped);
            return;
        };
        let fast = self.judge_fast_open(listener, segment);
        let buffer_bytes = self.listener_buffer(listener);
        let generation = socket.generation;
        let mut iss = self.initial_sequence(&segment.tuple);
        if let Some(least) = least_iss {
            if before(iss, least) {
                iss = least;
            }
        }
        let options = &segment.options;
        let half = HalfOpen {
            timestamps: options.timestamps.is_some(),
            window_scale: options.window_shift.is_some(),
            sack: options.sack_permitted,
            ecn: self.config.ecn && segment.flags & (flag::ECE | flag::CWR) == flag::ECE | flag::CWR,
            peer_shift: options.window_shift.unwrap_or(0),
            peer_mss: options.mss.unwrap_or(default_mss(&segment.tuple.remote)).max(MSS_MIN),
            max_segment: socket.max_segment,
            service: socket.service,
            offers_cookie: fast.cookie,
            iss,
            irs: segment.seq,
            ts_recent: options.timestamps.map_or(0, |(value, _)| value),
            listener,
            generation,
            neighbor,
            core,
            buffer_bytes,
            ..HalfOpen::default()
        };
        let Some(id) = self.remember_half_open(half, segment.tuple) else {
            return;
        };
        let resolved = self.is_resolved(neighbor);
        if fast.accepted && resolved {
            self.lookup.remove(Found::HalfOpen(id));
            if self.open_fast(listener, id, segment, frame) {
                return;
            }
            self.lookup.insert(Found::HalfOpen(id), segment.tuple);
        }
        if resolved {
            self.first_syn_ack(id);
        } else {
            self.half_open.at_mut(id).waits_for_arp = true;
            self.wait_for_neighbor(neighbor, Found::HalfOpen(id));
        }
    }

    /// Puts a half-open connection in its listener's queue and starts its timer. `None`: the table is full.
    pub(crate) fn remember_half_open(&mut self, half: HalfOpen, tuple: Tuple) -> Option<u32> {
        let id = self.half_open_free;
        if !self.half_open.has(id) {
            return None;
        }
        let entry = self.half_open.at_mut(id);
        self.half_open_free = entry.next;
        *entry = HalfOpen { used: true, ..half };
        self.half_open_used = self.half_open_used.saturating_add(1);
        let socket = self.sockets.at_mut(half.listener);
        socket.half_open = socket.half_open.saturating_add(1);
        self.lookup.insert(Found::HalfOpen(id), tuple);
        self.set_timer(Timer::SynAck(id), self.config.handshake_timeout_us);
        Some(id)
    }

    /// The first SYN-ACK, once the next hop is known.
    pub(crate) fn first_syn_ack(&mut self, id: u32) {
        self.send_syn_ack(id);
        let now_us = self.now_us;
        let half = self.half_open.at_mut(id);
        half.waits_for_arp = false;
        half.sent = 1;
        half.sent_us = now_us;
    }

    /// No ACK came in time (RFC 9293 §3.8.3; Linux's tcp_synack_retries).
    pub(crate) fn syn_ack_timer(&mut self, id: u32) {
        let half = *self.half_open.at(id);
        if !half.used {
            return;
        }
        if half.fast {
            self.fast_open_timer(id);
            return;
        }
        let tries = half.sent;
        if tries as u32 > self.config.handshake_retries || self.listener_of(&half).is_none() {
            self.counters.add(Counter::HandshakesFailed);
            self.free_half_open(id);
            return;
        }
        if half.waits_for_arp {
            self.half_open.at_mut(id).sent = tries.saturating_add(1);
        } else {
            self.counters.add(Counter::HandshakeRetransmits);
            self.send_syn_ack(id);
            self.half_open.at_mut(id).sent = tries.saturating_add(1);
        }
        self.arm_syn_ack(id, tries);
    }

    /// Sets the timer of the next SYN-ACK after `tries`.
    pub(crate) fn arm_syn_ack(&mut self, id: u32, tries: u8) {
        let shift = (tries as u32).min(16);
        let timeout = self.config.handshake_timeout_us.saturating_mul(1u64.wrapping_shl(shift));
        self.set_timer(Timer::SynAck(id), timeout);
    }

    /// Forgets a half-open connection.
    pub(crate) fn free_half_open(&mut self, id: u32) {
        let half = *self.half_open.at(id);
        if !half.used {
            return;
        }
        self.cancel_timer(Timer::SynAck(id));
        if half.fast {
            if self.connections.at(half.flow).handshake == id {
                self.connections.at_mut(half.flow).handshake = NONE;
            }
        } else {
            self.leave_neighbor(Found::HalfOpen(id));
            self.lookup.remove(Found::HalfOpen(id));
        }
        if let Some(listener) = self.listener_of(&half) {
            let socket = self.sockets.at_mut(listener);
            socket.half_open = socket.half_open.saturating_sub(1);
            socket.fast_open_pending = socket.fast_open_pending.saturating_sub(u32::from(half.fast));
        }
        *self.half_open.at_mut(id) = HalfOpen { next: self.half_open_free, ..HalfOpen::default() };
        self.half_open_free = id;
        self.half_open_used = self.half_open_used.saturating_sub(1);
    }

    /// A segment for a half-open connection (RFC 9293 §3.10.7.4, SYN-RECEIVED).
    pub(crate) fn half_open_input(&mut self, core: u32, id: u32, segment: &Segment, frame: &[u8]) {
        let half = *self.half_open.at(id);
        let offset = segment.seq.wrapping_sub(half.irs.wrapping_add(1));
        let window = Self::syn_window(half.buffer_bytes) as u32;
        if segment.has(flag::RST) {
            // RFC 5961 §3.2: only the exact number resets; a passive open just forgets.
            if offset == 0 {
                self.counters.add(Counter::ResetsReceived);
                self.free_half_open(id);
            } else if offset < window {
                self.answer_half_open(core, id, segment);
            }
            return;
        }
        if half.timestamps && segment.is_older_than(half.ts_recent) {
            // PAWS (RFC 7323 §5.3 R1).
            self.counters.add(Counter::PawsRejected);
            self.answer_half_open(core, id, segment);
            return;
        }
        if segment.has(flag::SYN) {
            self.repeated_syn(core, id, segment);
            return;
        }
        if !segment.has(flag::ACK) {
            return;
        }
        if segment.ack != half.iss.wrapping_add(1) {
            self.other_ack(core, id, segment, frame);
            return;
        }
        if offset >= window {
            // Not acceptable: an ACK tells the peer where we are.
            self.answer_half_open(core, id, segment);
            return;
        }
        self.complete(core, id, segment, frame);
    }

    /// An ACK of something else than our SYN-ACK. It may answer a cookie, if the peer repeated its SYN and the SYN queue had
    /// room by then: what the peer was told first is the connection that it has.
    fn other_ack(&mut self, core: u32, id: u32, segment: &Segment, frame: &[u8]) {
        let listener = self.listener_of(self.half_open.at(id));
        match listener.filter(|listener| self.is_cookie(*listener, segment)) {
            Some(listener) => {
                self.free_half_open(id);
                self.cookie_input(core, listener, segment, frame);
            }
            None => self.refuse(core, segment),
        }
    }

    /// Answers an unacceptable segment of a half-open connection with an ACK, within the limits.
    fn answer_half_open(&mut self, core: u32, id: u32, segment: &Segment) {
        let now_us = self.now_us;
        if !self.half_open.at_mut(id).answered.allow(now_us, ANSWER_INTERVAL_US) {
            self.counters.add(Counter::RateLimited);
            return;
        }
        let half = *self.half_open.at(id);
        let ts_recent = half.timestamps.then_some(half.ts_recent);
        let (seq, ack) = (half.iss.wrapping_add(1), half.irs.wrapping_add(1));
        let window = Self::handshake_window(half.buffer_bytes, half.window_scale);
        self.acknowledge(core, segment, seq, ack, window, ts_recent);
    }

    /// A SYN for a half-open connection: the same one again, or an attempt to confuse us. RFC 9293
    /// would return to LISTEN for the latter; asking first, as RFC 5961 §4 does later, costs an
    /// honest peer no more and a blind one everything.
    pub(crate) fn repeated_syn(&mut self, core: u32, id: u32, segment: &Segment) {
        let half = *self.half_open.at(id);
        if segment.seq != half.irs || segment.has(flag::ACK) {
            self.answer_half_open(core, id, segment);
            return;
        }
        let now_us = self.now_us;
        let allowed = self.half_open.at_mut(id).answered.allow(now_us, ANSWER_INTERVAL_US);
        if half.waits_for_arp || !allowed || !self.answers.allow(now_us) {
            self.counters.add(Counter::RateLimited);
            return;
        }
        // A peer that repeats its SYN without ECN goes on without (RFC 3168 §6.1.1.1).
        let asks_ecn = segment.flags & (flag::ECE | flag::CWR) == flag::ECE | flag::CWR;
        self.half_open.at_mut(id).ecn = half.ecn && asks_ecn;
        // Our SYN-ACK was lost, or is on its way. The timer goes on as it was.
        self.counters.add(Counter::HandshakeRetransmits);
        self.send_syn_ack(id);
        self.half_open.at_mut(id).sent = half.sent.max(2);
    }

    /// The ACK of our SYN-ACK: the connection is established and waits to be accepted.
    fn complete(&mut self, core: u32, id: u32, segment: &Segment, frame: &[u8]) {
        let half = *self.half_open.at(id);
        let Some(listener) = self.listener_of(&half) else {
            self.free_half_open(id);
            self.refuse(core, segment);
            return;
        };
        if self.is_accept_full(listener) {
            return;
        }
        let once_us = (half.sent == 1).then(|| self.now_us.saturating_sub(half.sent_us));
        let rtt_us = once_us.or_else(|| self.echoed_rtt_us(segment).filter(|_| half.timestamps));
        self.lookup.remove(Found::HalfOpen(id));
        if self.admit(core, listener, &half, rtt_us, segment, frame) {
            self.free_half_open(id);
        } else {
            self.lookup.insert(Found::HalfOpen(id), segment.tuple);
        }
    }

    /// Whether no more may wait to be accepted. As Linux: the ACK is then ignored and counted, and
    /// the SYN-ACK's timer goes on.
    pub(crate) fn is_accept_full(&mut self, listener: u32) -> bool {
        let socket = self.sockets.at(listener);
        let full = socket.accept_count > socket.backlog;
        if full {
            self.counters.add(Counter::AcceptOverflows);
        }
        full
    }

    /// Makes a connection of what was agreed in a handshake; false: no memory for it.
    pub(crate) fn admit(
        &mut self,
        core: u32,
        listener: u32,
        half: &HalfOpen,
        rtt_us: Option<u64>,
        segment: &Segment,
        frame: &[u8],
    ) -> bool {
        let mut half = *half;
        if let (true, Some((value, _))) = (half.timestamps, segment.options.timestamps) {
            half.ts_recent = value;
        }
        let shift = if half.window_scale { half.peer_shift } else { 0 };
        let opening = Opening {
            peer_mss: half.peer_mss,
            peer_shift: shift,
            peer_window: (segment.window as u32).wrapping_shl(shift as u32),
            rtt_us,
            repeated: half.sent > 1,
        };
        half.core = core;
        let Some(flow) = self.make_connection(listener, &half, segment.tuple, NONE, &opening) else {
            return false;
        };
        self.queue_for_accept(listener, flow);
        if segment.payload_bytes > 0 || segment.has(flag::FIN) {
            self.inject(flow, frame);
        }
        true
    }

    /// Installs the connection of a half-open one; `None`: no memory. `handshake`: the half-open entry if it lives on.
    pub(crate) fn make_connection(
        &mut self,
        listener: u32,
        half: &HalfOpen,
        tuple: Tuple,
        handshake: u32,
        opening: &Opening,
    ) -> Option<u32> {
        let socket = *self.sockets.at(listener);
        let flow = self.new_connection(socket.application, tuple).ok()?;
        self.count_port(
            flow,
            Use {
                reuse_address: socket.is(option::REUSE_ADDRESS),
                reuse_port: socket.is(option::REUSE_PORT),
                ephemeral: false,
            },
        );
        self.inherit_options(flow, &socket);
        let connection = self.connections.at_mut(flow);
        connection.set(fact::TIMESTAMPS, half.timestamps);
        connection.set(fact::WINDOW_SCALE, half.window_scale);
        connection.set(fact::SACK, half.sack);
        connection.set(fact::ECN, half.ecn);
        connection.iss = half.iss;
        connection.irs = half.irs;
        connection.core = half.core;
        connection.rcv_buffer_bytes = half.buffer_bytes;
        connection.socket = listener;
        connection.neighbor = half.neighbor;
        connection.ts_recent = half.ts_recent;
        connection.handshake = handshake;
        self.install(flow, opening);
        Some(flow)
    }

    pub(crate) fn queue_for_accept(&mut self, listener: u32, flow: u32) {
        self.counters.add(Counter::PassiveOpens);
        let connection = self.connections.at_mut(flow);
        connection.set(fact::IN_ACCEPT_QUEUE, true);
        connection.accept_next = NONE;
        let tail = self.sockets.at(listener).accept_tail;
        if self.connections.has(tail) {
            self.connections.at_mut(tail).accept_next = flow;
        }
        let socket = self.sockets.at_mut(listener);
        if socket.accept_head == NONE {
            socket.accept_head = flow;
        }
        socket.accept_tail = flow;
        socket.accept_count = socket.accept_count.saturating_add(1);
        self.notify(listener, event::ACCEPTABLE);
    }

    /// Takes the oldest connection out of an accept queue.
    pub(crate) fn take_accepted(&mut self, listener: u32) -> Option<u32> {
        let flow = self.sockets.at(listener).accept_head;
        if !self.connections.has(flow) {
            return None;
        }
        let connection = self.connections.at_mut(flow);
        connection.set(fact::IN_ACCEPT_QUEUE, false);
        let next = core::mem::replace(&mut connection.accept_next, NONE);
        connection.socket = NONE;
        let socket = self.sockets.at_mut(listener);
        socket.accept_head = next;
        if next == NONE {
            socket.accept_tail = NONE;
        }
        socket.accept_count = socket.accept_count.saturating_sub(1);
        Some(flow)
    }
}
