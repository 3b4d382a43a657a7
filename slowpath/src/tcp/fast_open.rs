// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Fast open, passive side (RFC 7413 §4.2): data of a SYN with a good cookie is given to the application before
//! the handshake is complete.
//!
//! Such a connection is installed in the fast path at once, and its half-open entry lives on beside it: for the
//! SYN-ACK's timer and for the limit of §5.1. The core takes the SYN's data and says so; only then does the
//! SYN-ACK leave, acknowledging what was taken. The first acknowledgement of the peer's ends the handshake.

use crate::{
    counters::Counter,
    errno::Errno,
    lookup::Tuple,
    random::SipKey,
    socket::flag as option,
    stack::Stack,
    tcp::{install::Opening, state::State},
    timers::Timer,
    wire::{
        options::Cookie,
        tcp::{flag, Segment},
    },
};
use abi::{flow::NONE, kernel_ring::to_fast};

/// The instance makes cookies with one key for 2^35 µs, nine and a half hours; they are good for as long again.
const KEY_SHIFT: u32 = 35;
/// A connection that is reset before its handshake is complete counts against the limit for this long, as on Linux:
/// else whoever got hold of a cookie could have the application work without end (RFC 7413 §5.1).
const RESET_HELD_US: u64 = 60_000_000;

/// What a listener makes of a SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FastOpen {
    /// Its data may be taken.
    pub(crate) accepted: bool,
    /// The SYN-ACK brings a cookie.
    pub(crate) cookie: bool,
}

impl FastOpen {
    const NONE: Self = Self { accepted: false, cookie: false };
}

/// The cookie of a peer (RFC 7413 §4.1.2): of both addresses, so that it is good at this host only.
fn cookie(key: &SipKey, tuple: &Tuple) -> Cookie {
    let ([first, second], [third, fourth]) = (tuple.remote.halves(), tuple.local.halves());
    let hash = key.hash([first, second, third, fourth]);
    Cookie::new(&hash.to_le_bytes()).unwrap_or(Cookie::REQUEST)
}

impl Stack<'_> {
    /// Keys of a listener's cookies: the one they are made with, and another that is still good.
    fn fast_open_keys(&self, listener: u32) -> [SipKey; 2] {
        let period = self.clock_us >> KEY_SHIFT;
        let own = |period: u64| {
            let half = |name| self.sequence_key.hash([period, name]);
            SipKey(half(0x7461_735f_6661_7374), half(0x7461_735f_6f70_656e))
        };
        self.sockets.at(listener).fast_open_keys.unwrap_or_else(|| [own(period), own(period.wrapping_sub(1))])
    }

    /// The cookie that a listener gives to a peer now.
    pub(crate) fn fast_open_cookie(&self, listener: u32, tuple: &Tuple) -> Cookie {
        let [key, _] = self.fast_open_keys(listener);
        cookie(&key, tuple)
    }

    /// Judges the fast-open option of a SYN (RFC 7413 §4.2.2, §5.1).
    pub(crate) fn judge_fast_open(&mut self, listener: u32, segment: &Segment) -> FastOpen {
        let socket = self.sockets.at(listener);
        let asked = segment.options.fast_open;
        if socket.fast_open_limit == 0 || (asked.is_none() && segment.payload_bytes == 0) {
            return FastOpen::NONE;
        }
        if socket.fast_open_pending >= socket.fast_open_limit {
            self.counters.add(Counter::FastOpenOverflows);
            return FastOpen::NONE;
        }
        if socket.is(option::FAST_OPEN_NO_COOKIE) {
            return FastOpen { accepted: true, cookie: false };
        }
        let Some(shown) = asked else {
            return FastOpen::NONE;
        };
        if shown.is_request() {
            return FastOpen { accepted: false, cookie: true };
        }
        let [key, former] = self.fast_open_keys(listener);
        let fresh = shown == cookie(&key, &segment.tuple);
        let accepted = fresh || shown == cookie(&former, &segment.tuple);
        if !accepted {
            self.counters.add(Counter::FastOpenRefused);
        }
        FastOpen { accepted, cookie: !fresh }
    }

    /// Makes a connection of half-open connection `id`, whose SYN has a good cookie. False: no memory, or the frame is
    /// too large; it goes on as an ordinary handshake.
    pub(crate) fn open_fast(&mut self, listener: u32, id: u32, segment: &Segment, frame: &[u8]) -> bool {
        let half = *self.half_open.at(id);
        if frame.len() > self.frame_bytes.each_bytes() {
            return false;
        }
        let Some(carrier) = self.new_frame() else {
            return false;
        };
        let shift = if half.window_scale { half.peer_shift } else { 0 };
        let opening = Opening {
            peer_mss: half.peer_mss,
            peer_shift: shift,
            // The window of a SYN is not scaled.
            peer_window: segment.window as u32,
            rtt_us: None,
            repeated: false,
        };
        let Some(flow) = self.make_connection(listener, &half, segment.tuple, id, &opening) else {
            self.free_frame(carrier);
            return false;
        };
        let half = self.half_open.at_mut(id);
        half.fast = true;
        half.flow = flow;
        let socket = self.sockets.at_mut(listener);
        socket.fast_open_pending = socket.fast_open_pending.saturating_add(1);
        crate::wire::put(self.frame_bytes.at_mut(carrier), 0, frame);
        let core = self.connections.at(flow).core;
        self.send(core, carrier, to_fast::SYN_DATA, flow, frame.len());
        true
    }

    /// The core has taken as much of the SYN's data as there was room for: the SYN-ACK may acknowledge it, and the
    /// application may have the connection.
    pub(crate) fn syn_data_taken(&mut self, flow: u32) {
        let (id, irs) = (self.connections.at(flow).handshake, self.connections.at(flow).irs);
        let half = *self.half_open.at(id);
        if !self.half_open.has(id) || half.sent != 0 || self.is_removing(flow) {
            return;
        }
        let Some(listener) = self.listener_of(&half) else {
            self.abort(flow);
            return;
        };
        let taken = (self.view(flow).rcv_nxt as u32).wrapping_sub(irs.wrapping_add(1));
        self.connections.at_mut(flow).syn_data_bytes = taken.min(u16::MAX as u32) as u16;
        self.counters.add(Counter::FastOpens);
        self.first_syn_ack(id);
        self.queue_for_accept(listener, flow);
    }

    /// The timer of a half-open connection that is a connection already.
    pub(crate) fn fast_open_timer(&mut self, id: u32) {
        let half = *self.half_open.at(id);
        let flow = half.flow;
        if !self.is_installed(flow) || self.is_removing(flow) {
            self.free_half_open(id);
            return;
        }
        if half.sent == 0 {
            // The fast path went away with the SYN's data; the peer sends it again.
            self.syn_data_taken(flow);
        } else if half.sent as u32 > self.config.handshake_retries {
            self.counters.add(Counter::HandshakesFailed);
            self.fail_connection(flow, Errno::ETIMEDOUT);
            self.free_half_open(id);
            return;
        } else {
            self.counters.add(Counter::HandshakeRetransmits);
            self.send_syn_ack(id);
            self.half_open.at_mut(id).sent = half.sent.saturating_add(1);
        }
        self.arm_syn_ack(id, half.sent);
    }

    /// The peer has acknowledged our SYN.
    pub(crate) fn handshake_done(&mut self, flow: u32) {
        let id = self.connections.at(flow).handshake;
        if !self.half_open.has(id) {
            return;
        }
        let half = *self.half_open.at(id);
        self.free_half_open(id);
        if half.sent == 1 {
            let rtt_us = self.now_us.saturating_sub(half.sent_us);
            self.measure(flow, rtt_us.min(u32::MAX as u64) as u32);
        }
        self.set_state(flow, self.connections.at(flow).state);
    }

    /// A SYN for a connection whose handshake is not complete: our SYN-ACK got lost. False: it is not that one.
    pub(crate) fn repeats_fast_open(&mut self, core: u32, flow: u32, segment: &Segment) -> bool {
        let connection = self.connections.at(flow);
        let id = connection.handshake;
        let same = segment.seq == connection.irs && !segment.has(flag::ACK | flag::RST);
        if !self.half_open.has(id) || !same {
            return false;
        }
        if self.half_open.at(id).sent > 0 {
            self.repeated_syn(core, id, segment);
        }
        true
    }

    /// The connection is reset before its handshake is complete; see [`RESET_HELD_US`].
    pub(crate) fn hold_fast_open(&mut self, flow: u32) {
        let id = core::mem::replace(&mut self.connections.at_mut(flow).handshake, NONE);
        if self.half_open.has(id) {
            self.half_open.at_mut(id).flow = NONE;
            self.set_timer(Timer::SynAck(id), RESET_HELD_US);
        }
    }

    /// The state that others are shown: SYN-RECEIVED until the handshake is over.
    pub(crate) fn shown_state(&self, flow: u32) -> State {
        let connection = self.connections.at(flow);
        match connection.state {
            State::Established if self.half_open.has(connection.handshake) => State::SynReceived,
            state => state,
        }
    }
}
