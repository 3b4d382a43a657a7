// SPDX-License-Identifier: MIT OR Apache-2.0
//! A flow as the core's functions pass it around, and the plain facts read from its hot entry.

use crate::{parse::TCP_BYTES, word::Word};
use abi::{
    flow::{extend, hot_flags, HotFlow},
    limits::MTU_MAX,
    pool::{BUFFER_BYTES_MAX, CHUNK_SHIFT, MAP_ENTRIES},
};

/// Most payload of a segment: what the largest MTU leaves.
const MSS_MAX: u32 = MTU_MAX - 20 - TCP_BYTES as u32;
/// Largest window shift (RFC 7323 §2.3).
const SHIFT_MAX: u32 = 14;

/// A flow installed on this core.
#[derive(Clone, Copy)]
pub(crate) struct Flow<'m> {
    /// Its id, below the length of every per-flow table.
    pub(crate) id: u32,
    /// Its hot entry.
    pub(crate) hot: &'m HotFlow,
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

    /// Payload of a full segment, 1 … what a frame holds.
    #[inline(always)]
    pub(crate) fn mss(self) -> u32 {
        let room = if self.has(hot_flags::TIMESTAMPS) { MSS_MAX - 12 } else { MSS_MAX };
        (self.hot.mss_scale.get() & 0xffff).clamp(1, room)
    }

    /// Shift of the windows the peer sends.
    #[inline(always)]
    pub(crate) fn peer_shift(self) -> u32 {
        ((self.hot.mss_scale.get() >> 16) & 0xff).min(SHIFT_MAX)
    }

    /// Shift of the windows we send.
    #[inline(always)]
    pub(crate) fn our_shift(self) -> u32 {
        (self.hot.mss_scale.get() >> 24).min(SHIFT_MAX)
    }

    /// Right edge of the window last advertised, never left of `rcv_nxt`.
    #[inline(always)]
    pub(crate) fn advertised(self, rcv_nxt: u64) -> u64 {
        extend(self.hot.rcv_adv.get(), rcv_nxt).max(rcv_nxt)
    }

    /// Position after the last byte the receive buffer may hold now.
    #[inline(always)]
    pub(crate) fn buffer_edge(self) -> u64 {
        self.hot.rcv_read.get().wrapping_add(u64::from(self.hot.rcv_buffer_bytes.get().min(BUFFER_BYTES_MAX)))
    }

    /// Position from which the buffer map would wrap onto unread bytes. Beyond the window, except for
    /// the rounding of a scaled window.
    #[inline(always)]
    pub(crate) fn map_edge(self) -> u64 {
        ((self.hot.rcv_read.get() >> CHUNK_SHIFT) + u64::from(MAP_ENTRIES)) << CHUNK_SHIFT
    }

    /// Position up to which the application may read: `rcv_nxt` without the peer's FIN.
    #[inline(always)]
    pub(crate) fn readable_end(self) -> u64 {
        self.hot.rcv_nxt.get().wrapping_sub(u64::from(self.has(hot_flags::FIN_RECEIVED)))
    }

    /// Duplicate acknowledgements in a row.
    #[inline(always)]
    pub(crate) fn duplicates(self) -> u32 {
        (self.hot.loss_counts.get() >> 16) & 0xff
    }

    pub(crate) fn set_duplicates(self, count: u32) {
        let counts = self.hot.loss_counts.get() & !0x00ff_0000;
        self.hot.loss_counts.set(counts | count.min(0xff) << 16);
    }

    /// Counts a fast retransmit.
    pub(crate) fn count_fast_retransmit(self) {
        let counts = self.hot.loss_counts.get();
        self.hot.loss_counts.set(counts & !0xffff | counts.wrapping_add(1) & 0xffff);
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
    #[inline]
    pub(crate) fn advertise(self, rcv_nxt: u64) -> u16 {
        let shift = self.our_shift();
        let old = self.advertised(rcv_nxt);
        let offer = self.buffer_edge();
        let edge = if offer >= old.wrapping_add(self.worthwhile()) { offer } else { old };
        let field = (edge.wrapping_sub(rcv_nxt) >> shift).min(0xffff);
        let right = rcv_nxt.wrapping_add(field << shift);
        if right > old {
            self.hot.rcv_adv.set(right as u32);
        }
        field as u16
    }

    /// Smallest step of the window's right edge: half the buffer or one segment.
    #[inline]
    fn worthwhile(self) -> u64 {
        u64::from(self.mss().min(self.hot.rcv_buffer_bytes.get() / 2).max(1))
    }

    /// True if the peer should hear that the application has freed space: the window it knows is at most half
    /// of what can be offered.
    #[inline]
    pub(crate) fn window_update_due(self) -> bool {
        let rcv_nxt = self.hot.rcv_nxt.get();
        let shift = self.our_shift();
        let known = (self.advertised(rcv_nxt) - rcv_nxt) >> shift << shift;
        let offer = self.buffer_edge().saturating_sub(rcv_nxt);
        offer >= known * 2 && offer - known >= self.worthwhile()
    }

    /// Something is sent and not acknowledged, or waits to be sent.
    pub(crate) fn has_work(self) -> bool {
        let una = self.hot.snd_una.get();
        let fin = self.has(hot_flags::FIN_QUEUED) && !self.has(hot_flags::FIN_ACKED);
        una < self.hot.snd_max.get() || una < self.hot.snd_end.get() || fin
    }
}
