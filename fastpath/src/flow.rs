// SPDX-License-Identifier: MIT OR Apache-2.0
//! A flow as the core's functions pass it around, and the plain facts read from its hot entry.

use crate::{
    header::{PLAIN_BYTES, TIMESTAMP_BYTES},
    ipv6::{self, IPV6_BYTES},
    parse::{IPV4_BYTES, TCP_BYTES},
    word::Word,
};
use abi::{
    flow::{extend, hot_flags, mss_scale, HotFlow},
    pool::{CHUNK_SHIFT, MAP_ENTRIES},
};

/// Largest window shift (RFC 7323 §2.3).
const SHIFT_MAX: u8 = 14;

/// A flow installed on this core.
#[derive(Clone, Copy)]
pub(crate) struct Flow<'m> {
    /// Its id, below the length of every per-flow table.
    pub(crate) id: u32,
    /// Its hot entry.
    pub(crate) hot: &'m HotFlow,
}

/// `HotFlow::mss_scale`, loaded once: a relaxed load is never merged with another. Its parts were put within
/// bounds when the flow was taken over, and nobody else writes it.
#[derive(Clone, Copy)]
pub(crate) struct Scale(u32);

impl Scale {
    /// Payload of a full segment, 1 … what a frame holds.
    #[inline(always)]
    pub(crate) fn mss(self) -> u32 {
        self.0 & 0xffff
    }

    /// Shift of the windows the peer sends.
    #[inline(always)]
    pub(crate) fn peer_shift(self) -> u32 {
        (self.0 >> 16) & 0xf
    }

    /// Shift of the windows we send.
    #[inline(always)]
    pub(crate) fn our_shift(self) -> u32 {
        (self.0 >> 24) & 0xf
    }
}

impl Flow<'_> {
    #[inline(always)]
    pub(crate) fn has(self, flag: u32) -> bool {
        self.hot.flags.get() & flag != 0
    }
    #[inline(always)]
    pub(crate) fn set(self, flag: u32) {
        self.hot.flags.set(self.hot.flags.get() | flag);
    }
    #[inline(always)]
    pub(crate) fn clear(self, flag: u32) {
        self.hot.flags.set(self.hot.flags.get() & !flag);
    }

    /// Most payload that a frame of the flow holds, on a port with this MTU.
    pub(crate) fn mss_room(self, mtu_bytes: u32) -> u32 {
        let options = if self.has(hot_flags::TIMESTAMPS) { TIMESTAMP_BYTES as u32 } else { 0 };
        let longer = if self.has(hot_flags::IPV6) { (IPV6_BYTES - IPV4_BYTES) as u32 } else { 0 };
        mtu_bytes.saturating_sub(IPV4_BYTES as u32 + TCP_BYTES as u32 + options + longer).max(1)
    }

    /// Puts MSS and shifts within bounds; see [`Scale`].
    pub(crate) fn bound_scale(self, mtu_bytes: u32) {
        let room = self.mss_room(mtu_bytes);
        let [mss_low, mss_high, peer_shift, our_shift] = self.hot.mss_scale.get().to_le_bytes();
        let mss = u32::from(u16::from_le_bytes([mss_low, mss_high])).clamp(1, room) as u16;
        self.hot.mss_scale.set(mss_scale(mss, peer_shift.min(SHIFT_MAX), our_shift.min(SHIFT_MAX)));
    }

    /// Takes over another MSS, if there is one. True if it is smaller.
    pub(crate) fn follow_mss(self, bytes: u32, mtu_bytes: u32) -> bool {
        let old = self.mss();
        if bytes == 0 || bytes == old {
            return false;
        }
        let word = self.hot.mss_scale.get() & 0xffff_0000;
        self.hot.mss_scale.set(word | bytes.min(u32::from(u16::MAX)));
        self.bound_scale(mtu_bytes);
        self.mss() < old
    }

    /// Frame bytes before the TCP options.
    #[inline]
    pub(crate) fn plain_bytes(self) -> usize {
        if self.has(hot_flags::IPV6) {
            ipv6::PLAIN_BYTES
        } else {
            PLAIN_BYTES
        }
    }

    /// MSS and shifts, in one load.
    #[inline(always)]
    pub(crate) fn scale(self) -> Scale {
        Scale(self.hot.mss_scale.get())
    }

    /// Payload of a full segment; see [`Scale::mss`].
    #[inline(always)]
    pub(crate) fn mss(self) -> u32 {
        self.scale().mss()
    }

    /// Right edge of the window last advertised, never left of `rcv_nxt`.
    #[inline(always)]
    pub(crate) fn advertised(self, rcv_nxt: u64) -> u64 {
        extend(self.hot.rcv_adv.get(), rcv_nxt).max(rcv_nxt)
    }

    /// Position after the last byte the receive buffer may hold now (its size was bounded when it was read).
    #[inline(always)]
    pub(crate) fn buffer_edge(self) -> u64 {
        self.hot.rcv_read.get().wrapping_add(u64::from(self.hot.rcv_buffer_bytes.get()))
    }

    /// Position from which the buffer map would wrap onto unread bytes. Beyond the window, except for
    /// the rounding of a scaled window.
    #[inline(always)]
    pub(crate) fn map_edge(self) -> u64 {
        ((self.hot.rcv_read.get() >> CHUNK_SHIFT) + u64::from(MAP_ENTRIES)) << CHUNK_SHIFT
    }

    /// Duplicate acknowledgements in a row.
    #[inline(always)]
    pub(crate) fn duplicates(self) -> u32 {
        (self.hot.loss_counts.get() >> 16) & 0xff
    }

    pub(crate) fn set_duplicates(self, count: u32) {
        let counts = self.hot.loss_counts.get() & !0x00ff_0000;
        self.hot.loss_counts.set(counts | count.min(0xff) << 16);
        if count != 0 {
            self.set(hot_flags::DISORDER);
        } else if !self.has(hot_flags::SCOREBOARD | hot_flags::SYN_RECEIVED) {
            self.clear(hot_flags::DISORDER);
        }
    }

    /// Counts a recovery.
    pub(crate) fn count_fast_retransmit(self) {
        let counts = self.hot.loss_counts.get();
        self.hot.loss_counts.set(counts & !0xffff | counts.wrapping_add(1) & 0xffff);
    }

    /// The last recovery was not justified.
    pub(crate) fn uncount_recovery(self) {
        let counts = self.hot.loss_counts.get();
        self.hot.loss_counts.set(counts & !0xffff | counts.wrapping_sub(1) & 0xffff);
    }

    /// Counts a timeout that was not justified.
    pub(crate) fn count_spurious_timeout(self) {
        self.hot.loss_counts.set(self.hot.loss_counts.get().wrapping_add(1 << 24));
    }

    /// Stores an RTT sample for the slow path.
    #[inline]
    pub(crate) fn set_rtt(self, rtt_us: u32) {
        let count = (self.hot.rtt_sample.get() >> 24).wrapping_add(1);
        self.hot.rtt_sample.set(count << 24 | rtt_us.min(0x00ff_ffff));
    }

    /// The window field of a segment that leaves now; its right edge is stored.
    ///
    /// The edge moves right only by a worthwhile amount (RFC 9293 §3.8.6.2.2, silly window avoidance). What a
    /// scaled field cannot express is held back from the peer, but stays acceptable (RFC 7323 §2.4).
    #[inline(always)]
    pub(crate) fn advertise(self, rcv_nxt: u64, mss: u32, shift: u32) -> u16 {
        let old = self.advertised(rcv_nxt);
        let buffer = self.hot.rcv_buffer_bytes.get();
        let offer = self.hot.rcv_read.get().wrapping_add(u64::from(buffer));
        let edge = if offer >= old.wrapping_add(worthwhile(mss, buffer)) { offer } else { old };
        let field = (edge.wrapping_sub(rcv_nxt) >> shift).min(0xffff);
        let right = rcv_nxt.wrapping_add(field << shift);
        if right > old {
            self.hot.rcv_adv.set(right as u32);
        }
        field as u16
    }

    /// True if the peer should hear that the application has freed space: the window it knows is at most half
    /// of what can be offered.
    #[inline]
    pub(crate) fn window_update_due(self, rcv_nxt: u64) -> bool {
        let known = self.advertised(rcv_nxt).wrapping_sub(rcv_nxt);
        let buffer = self.hot.rcv_buffer_bytes.get();
        if known > u64::from(buffer / 2) {
            return false;
        }
        let shift = self.scale().our_shift();
        let known = known >> shift << shift;
        let offer = self.buffer_edge().saturating_sub(rcv_nxt);
        offer >= known * 2 && offer.saturating_sub(known) >= worthwhile(self.mss(), buffer)
    }

    /// Something is sent and not acknowledged, or waits to be sent.
    pub(crate) fn has_work(self) -> bool {
        let una = self.hot.snd_una.get();
        let fin = self.has(hot_flags::FIN_QUEUED) && !self.has(hot_flags::FIN_ACKED);
        una < self.hot.snd_max.get() || una < self.hot.snd_end.get() || fin
    }
}

/// Smallest step of the window's right edge: half the buffer or one segment.
#[inline(always)]
fn worthwhile(mss: u32, buffer: u32) -> u64 {
    u64::from(mss.min(buffer / 2).max(1))
}
