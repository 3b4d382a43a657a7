// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! A SYN queue that is full (RFC 4987): the listener goes on with cookies, which cost no memory.

use crate::{
    counters::Counter,
    stack::Stack,
    tcp::{
        cookies::{self, Stamped},
        half_open::HalfOpen,
        listen::{default_mss, HALF_OPEN_MIN, MSS_MIN},
    },
    wire::{
        options::Options,
        tcp::{flag, Outgoing, Segment},
    },
};
use abi::clock::timestamp_value;

/// Peers whose cookie was good while the accept queue was full are remembered beyond what the SYN queue may hold, so
/// many times as much: they are where they say they are, and may never speak again by themselves.
const PROVEN_TIMES: u32 = 4;

impl Stack<'_> {
    /// Answers a SYN with a cookie. One that reuses a four-tuple out of TIME-WAIT is dropped: a cookie
    /// cannot be made to lie behind the old sequence numbers, and the peer will ask again.
    pub(crate) fn send_cookie(
        &mut self,
        core: u32,
        listener: u32,
        segment: &Segment,
        least_iss: Option<u32>,
    ) {
        if least_iss.is_some() {
            self.counters.add(Counter::SynsDropped);
            return;
        }
        let until_us = self.now_us.saturating_add(cookies::LIFE_US);
        self.sockets.at_mut(listener).cookies_until_us = until_us;
        let (tuple, offered) = (segment.tuple, segment.options);
        let mss = offered.mss.unwrap_or(default_mss(&tuple.remote)).max(MSS_MIN);
        let tick = cookies::ticks(self.clock_us);
        let seq = cookies::make(&self.sequence_key, &tuple, segment.seq, mss, tick);
        let buffer = self.listener_buffer(listener);
        let asks_ecn = segment.flags & (flag::ECE | flag::CWR) == flag::ECE | flag::CWR;
        // Only what will come back in the timestamp may be agreed to.
        let echo = offered.timestamps.map(|(value, _)| value);
        let stamped = Stamped {
            window_shift: offered.window_shift,
            sack: offered.sack_permitted,
            ecn: asks_ecn && self.config.ecn && echo.is_some(),
        };
        let stamp = cookies::stamp(timestamp_value(self.clock_us, 0), &stamped);
        let value = stamp.wrapping_add(self.timestamp_offset(&tuple));
        let scaled = echo.is_some() && offered.window_shift.is_some();
        self.counters.add(Counter::CookiesSent);
        let service = self.sockets.at(listener).service;
        self.transmit_as(
            core,
            &Outgoing {
                tuple,
                destination_mac: segment.source_mac,
                seq,
                ack: segment.seq.wrapping_add(1),
                flags: flag::SYN | flag::ACK | if stamped.ecn { flag::ECE } else { 0 },
                window: Self::syn_window(buffer),
                options: Options {
                    mss: Some(self.announced_mss(&tuple.remote, self.sockets.at(listener).max_segment)),
                    window_shift: scaled.then(|| Self::shift_for(buffer)),
                    timestamps: echo.map(|echo| (value, echo)),
                    sack_permitted: echo.is_some() && offered.sack_permitted,
                    fast_open: None,
                },
            },
            service,
        );
    }

    /// Whether a segment for a listener can be the answer to a cookie.
    pub(crate) fn may_be_cookie(&self, listener: u32, segment: &Segment) -> bool {
        let acknowledges = segment.flags & (flag::ACK | flag::SYN | flag::RST) == flag::ACK;
        acknowledges && self.now_us < self.sockets.at(listener).cookies_until_us
    }

    /// MSS of the peer whose cookie a segment brings back.
    fn cookie_of(&self, segment: &Segment) -> Option<u16> {
        let (iss, irs) = (segment.ack.wrapping_sub(1), segment.seq.wrapping_sub(1));
        cookies::check(&self.sequence_key, &segment.tuple, irs, iss, cookies::ticks(self.clock_us))
    }

    /// Whether a segment is the answer to a cookie of a listener.
    pub(crate) fn is_cookie(&self, listener: u32, segment: &Segment) -> bool {
        self.may_be_cookie(listener, segment) && self.cookie_of(segment).is_some()
    }

    /// An ACK that may bring a cookie back: the connection is established, or the ACK refused.
    pub(crate) fn cookie_input(&mut self, core: u32, listener: u32, segment: &Segment, frame: &[u8]) {
        let tuple = segment.tuple;
        let (iss, irs) = (segment.ack.wrapping_sub(1), segment.seq.wrapping_sub(1));
        let Some(peer_mss) = self.cookie_of(segment) else {
            // What follows an ACK that got lost or found no room carries no cookie, and is no reason to reset what the
            // peer takes for established: it sends it all again. Whoever else it is from gets his RST when no cookie
            // is under way any more.
            return self.counters.add(Counter::CookiesFailed);
        };
        let neighbor = self.next_hop(&tuple.remote).ok().and_then(|hop| self.resolve(&hop));
        let Some(neighbor) = neighbor else {
            return self.counters.add(Counter::Exhausted);
        };
        let offset = self.timestamp_offset(&tuple);
        let stamped = segment.options.timestamps.map(|(_, echo)| cookies::unstamp(echo.wrapping_sub(offset)));
        let shift = stamped.and_then(|stamped| stamped.window_shift);
        let half = HalfOpen {
            timestamps: stamped.is_some(),
            window_scale: shift.is_some(),
            sack: stamped.is_some_and(|stamped| stamped.sack),
            ecn: stamped.is_some_and(|stamped| stamped.ecn) && self.config.ecn,
            peer_shift: shift.unwrap_or(0),
            peer_mss,
            iss,
            irs,
            ts_recent: segment.options.timestamps.map_or(0, |(value, _)| value),
            neighbor,
            buffer_bytes: self.listener_buffer(listener),
            listener,
            generation: self.sockets.at(listener).generation,
            max_segment: self.sockets.at(listener).max_segment,
            core,
            // The first SYN-ACK was the cookie; when that was is not known.
            sent: 2,
            ..HalfOpen::default()
        };
        if self.is_accept_full(listener) {
            return self.postpone(half, segment);
        }
        if self.admit(core, listener, &half, None, segment, frame) {
            self.counters.add(Counter::CookiesAccepted);
        }
    }

    /// A good cookie, but nobody may wait to be accepted: the peer is asked again by the SYN-ACK's timer, as one in the
    /// SYN queue would be. Without that, a peer which waits for the server to speak first would wait for ever.
    fn postpone(&mut self, half: HalfOpen, segment: &Segment) {
        let socket = self.sockets.at(half.listener);
        let limit = socket.backlog.max(HALF_OPEN_MIN).saturating_mul(PROVEN_TIMES);
        let crowded = socket.half_open >= limit;
        if !crowded {
            // Without room the peer's next segment finds nothing, and is no reason to reset it either.
            self.remember_half_open(half, segment.tuple);
        }
    }
}
