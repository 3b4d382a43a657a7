// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! A SYN queue that is full (RFC 4987): the listener goes on with cookies, which cost no memory.

use crate::{
    counters::Counter,
    stack::Stack,
    tcp::{
        cookies::{self, Stamped},
        half_open::HalfOpen,
        listen::{MSS_DEFAULT, MSS_MIN},
    },
    wire::{
        options::Options,
        tcp::{flag, Outgoing, Segment},
    },
};
use abi::clock::timestamp_value;

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
        let mss = offered.mss.unwrap_or(MSS_DEFAULT).max(MSS_MIN);
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
        self.transmit(
            core,
            &Outgoing {
                tuple,
                destination_mac: segment.source_mac,
                seq,
                ack: segment.seq.wrapping_add(1),
                flags: flag::SYN | flag::ACK | if stamped.ecn { flag::ECE } else { 0 },
                window: Self::syn_window(buffer),
                options: Options {
                    mss: Some(self.announced_mss(self.sockets.at(listener).max_segment)),
                    window_shift: scaled.then(|| Self::shift_for(buffer)),
                    timestamps: echo.map(|echo| (value, echo)),
                    sack_permitted: echo.is_some() && offered.sack_permitted,
                },
            },
        );
    }

    /// Whether a segment for a listener can be the answer to a cookie.
    pub(crate) fn may_be_cookie(&self, listener: u32, segment: &Segment) -> bool {
        let acknowledges = segment.flags & (flag::ACK | flag::SYN | flag::RST) == flag::ACK;
        acknowledges && self.now_us < self.sockets.at(listener).cookies_until_us
    }

    /// An ACK that may bring a cookie back: the connection is established, or the ACK refused.
    pub(crate) fn cookie_input(&mut self, core: u32, listener: u32, segment: &Segment, frame: &[u8]) {
        let tuple = segment.tuple;
        let (iss, irs) = (segment.ack.wrapping_sub(1), segment.seq.wrapping_sub(1));
        let tick = cookies::ticks(self.clock_us);
        let Some(peer_mss) = cookies::check(&self.sequence_key, &tuple, irs, iss, tick) else {
            self.counters.add(Counter::CookiesFailed);
            self.refuse(core, segment);
            return;
        };
        if self.is_accept_full(listener) {
            return;
        }
        let neighbor = self.next_hop(tuple.remote_ip).ok().and_then(|hop| self.resolve(hop));
        let Some(neighbor) = neighbor else {
            self.counters.add(Counter::Exhausted);
            return;
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
            ..HalfOpen::default()
        };
        if self.admit(core, listener, &half, None, segment, frame) {
            self.counters.add(Counter::CookiesAccepted);
        }
    }
}
