// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Segments the slow path sends itself.

use super::rtt::RTO_MAX_US;
use crate::{
    connection::Connection,
    counters::Counter,
    lookup::{Found, Tuple},
    stack::Stack,
    tcp::half_open::HalfOpen,
    wire::{
        address::Address,
        options::Options,
        tcp::{flag, Outgoing, Segment, HEADER_BYTES},
    },
};
use abi::{
    clock::{timestamp_us, timestamp_value},
    flow::NONE,
};

/// TCP header bytes taken by timestamps and their padding.
pub(crate) const TIMESTAMP_BYTES: u16 = 12;

/// IP and TCP header bytes without options towards a peer.
pub(crate) const fn headers_bytes(peer: &Address) -> u32 {
    peer.header_bytes().wrapping_add(HEADER_BYTES) as u32
}

impl Stack<'_> {
    /// MSS we announce to a peer (RFC 6691: without options); `limit` is TCP_MAXSEG, or zero.
    pub(crate) fn announced_mss(&self, peer: &Address, limit: u16) -> u16 {
        let mss = self.config.mtu_bytes.saturating_sub(headers_bytes(peer)) as u16;
        match limit {
            0 => mss,
            limit => mss.min(limit),
        }
    }

    /// Shift that lets the 16-bit window cover `buffer_bytes`.
    pub(crate) fn shift_for(buffer_bytes: u32) -> u8 {
        let mut shift = 0u8;
        while buffer_bytes.checked_shr(shift as u32).unwrap_or(0) > u16::MAX as u32 {
            shift = shift.saturating_add(1);
        }
        shift
    }

    /// Window of a SYN, which is never scaled (RFC 7323 §2.2).
    pub(crate) fn syn_window(buffer_bytes: u32) -> u16 {
        buffer_bytes.min(u16::MAX as u32) as u16
    }

    /// Window of an ACK during the handshake: that of the SYN, scaled if both ends scale. A window taken for
    /// larger than it is would be taken back by the first segment of data (RFC 9293 §3.8.6).
    pub(crate) fn handshake_window(buffer_bytes: u32, scaled: bool) -> u16 {
        let shift = if scaled { Self::shift_for(buffer_bytes) } else { 0 };
        Self::syn_window(buffer_bytes).wrapping_shr(shift as u32)
    }

    /// Initial sequence number (RFC 6528): a clock of 4 µs and a keyed hash of the four-tuple.
    pub(crate) fn initial_sequence(&self, tuple: &Tuple) -> u32 {
        (tuple.hash(&self.sequence_key) as u32).wrapping_add((self.clock_us / 4) as u32)
    }

    /// Offset of a four-tuple's timestamps (RFC 7323 §7.1): the same each time, so that timestamps
    /// grow across successive connections.
    pub(crate) fn timestamp_offset(&self, tuple: &Tuple) -> u32 {
        (tuple.hash(&self.sequence_key) >> 32) as u32
    }

    /// TSval now for a four-tuple.
    fn timestamp(&self, tuple: &Tuple) -> u32 {
        timestamp_value(self.clock_us, self.timestamp_offset(tuple))
    }

    /// The RTT that an echoed timestamp shows, microseconds, rounded up to a tick: of use where a segment was repeated, and
    /// the time since it was sent says nothing (RFC 7323 §4.1). `None` without timestamps.
    pub(crate) fn echoed_rtt_us(&self, segment: &Segment) -> Option<u64> {
        let (_, echo) = segment.options.timestamps?;
        let ticks = self.timestamp(&segment.tuple).wrapping_sub(echo);
        let rtt_us = timestamp_us(ticks.max(1));
        (rtt_us <= RTO_MAX_US).then_some(rtt_us)
    }

    /// Sends RST in answer to a segment that belongs to nothing (RFC 9293 §3.10.7.1).
    pub(crate) fn refuse(&mut self, core: u32, segment: &Segment) {
        if segment.has(flag::RST) {
            return;
        }
        if !self.answers.allow(self.now_us) {
            self.counters.add(Counter::RateLimited);
            return;
        }
        let (seq, ack, flags) = if segment.has(flag::ACK) {
            (segment.ack, 0, flag::RST)
        } else {
            (0, segment.seq.wrapping_add(segment.length()), flag::RST | flag::ACK)
        };
        self.counters.add(Counter::ResetsSent);
        self.transmit(
            core,
            &Outgoing {
                tuple: segment.tuple,
                destination_mac: segment.source_mac,
                seq,
                ack,
                flags,
                window: 0,
                options: Options::default(),
            },
        );
    }

    /// Sends an ACK in answer to a segment of a connection the fast path does not know.
    pub(crate) fn acknowledge(
        &mut self,
        core: u32,
        segment: &Segment,
        seq: u32,
        ack: u32,
        window: u16,
        ts_recent: Option<u32>,
    ) {
        if !self.may_challenge() {
            return;
        }
        let timestamps = ts_recent.map(|echo| (self.timestamp(&segment.tuple), echo));
        self.transmit(
            core,
            &Outgoing {
                tuple: segment.tuple,
                destination_mac: segment.source_mac,
                seq,
                ack,
                flags: flag::ACK,
                window,
                options: Options { timestamps, ..Options::default() },
            },
        );
    }

    /// Sends the SYN of a connection in SYN-SENT, or its SYN-ACK in SYN-RECEIVED.
    pub(crate) fn send_syn(&mut self, flow: u32) {
        use crate::connection::flag as fact;
        let connection = *self.connections.at(flow);
        let tuple = self.lookup.tuple(Found::Connection(flow));
        let answer = connection.state == super::state::State::SynReceived;
        let offers = |fact| !answer || connection.is(fact);
        // RFC 3168 §6.1.1.1: a SYN that was lost is repeated without ECN.
        let ecn = match answer {
            true if connection.is(fact::ECN) => flag::ECE,
            false if self.config.ecn && connection.backoff == 0 => flag::ECE | flag::CWR,
            _ => 0,
        };
        let syn = if answer { flag::SYN | flag::ACK } else { flag::SYN };
        let shift = Self::shift_for(connection.rcv_buffer_bytes);
        let echo = if answer { connection.ts_recent } else { 0 };
        let first = !answer && connection.backoff == 0;
        let options = Options {
            mss: Some(self.announced_mss(&tuple.remote, connection.max_segment)),
            window_shift: offers(fact::WINDOW_SCALE).then_some(shift),
            timestamps: offers(fact::TIMESTAMPS).then_some((self.timestamp(&tuple), echo)),
            sack_permitted: offers(fact::SACK),
            fast_open: if first { self.cookie_to_show(flow) } else { None },
        };
        let outgoing = Outgoing {
            tuple,
            destination_mac: self.neighbors.at(connection.neighbor).mac,
            seq: connection.iss,
            ack: if answer { connection.irs.wrapping_add(1) } else { 0 },
            flags: syn | ecn,
            window: Self::syn_window(connection.rcv_buffer_bytes),
            options,
        };
        if first {
            self.transmit_syn(flow, &outgoing);
        } else {
            self.transmit_as(connection.core, &outgoing, connection.service);
        }
    }

    /// Sends the SYN-ACK of a half-open connection.
    pub(crate) fn send_syn_ack(&mut self, id: u32) {
        let half: HalfOpen = *self.half_open.at(id);
        let owner = if half.fast { Found::Connection(half.flow) } else { Found::HalfOpen(id) };
        let tuple = self.lookup.tuple(owner);
        let buffer = half.buffer_bytes;
        // What a fast open took is acknowledged at once, and takes its place in the window.
        let (next, window) = match owner {
            Found::Connection(flow) => {
                let view = self.view(flow);
                (view.rcv_nxt as u32, view.rcv_adv.wrapping_sub(view.rcv_nxt as u32))
            }
            _ => (half.irs.wrapping_add(1), buffer),
        };
        let cookie = half.offers_cookie && half.sent == 0;
        // Also when it is repeated: the peer may have seen none of the earlier ones (RFC 3168 §6.1.1).
        let ecn = if half.ecn { flag::ECE } else { 0 };
        let options = Options {
            mss: Some(self.announced_mss(&tuple.remote, half.max_segment)),
            window_shift: half.window_scale.then_some(Self::shift_for(buffer)),
            timestamps: half.timestamps.then_some((self.timestamp(&tuple), half.ts_recent)),
            sack_permitted: half.sack,
            fast_open: cookie.then(|| self.fast_open_cookie(half.listener, &tuple)),
        };
        let outgoing = Outgoing {
            tuple,
            destination_mac: self.neighbors.at(half.neighbor).mac,
            seq: half.iss,
            ack: next,
            flags: flag::SYN | flag::ACK | ecn,
            window: Self::syn_window(window),
            options,
        };
        let flow = if half.fast { half.flow } else { NONE };
        self.transmit_for(flow, half.core, &outgoing, half.service);
    }

    /// Sends RST for a connection that the fast path has forgotten; its hot entry is at rest.
    pub(crate) fn send_reset(&mut self, flow: u32) {
        let view = self.view(flow);
        let connection: Connection = *self.connections.at(flow);
        let installed = connection.is(crate::connection::flag::INSTALLED);
        let (seq, ack) = if installed {
            (view.snd_max.max(view.snd_nxt) as u32, view.rcv_nxt as u32)
        } else {
            (connection.iss.wrapping_add(1), connection.irs.wrapping_add(1))
        };
        self.counters.add(Counter::ResetsSent);
        let outgoing = Outgoing {
            tuple: self.lookup.tuple(Found::Connection(flow)),
            destination_mac: self.neighbors.at(connection.neighbor).mac,
            seq,
            ack,
            flags: flag::RST | flag::ACK,
            window: 0,
            options: Options::default(),
        };
        self.transmit_as(connection.core, &outgoing, connection.service);
    }
}
