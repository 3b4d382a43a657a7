// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Loss-recovery blocks: a bounded pool beside the flow table, used only by flows that lost or
//! reordered something. Allocated and written by the fast path. A re-attaching fast path throws
//! their content away: what was in flight or out of order is then sent again.

use core::sync::atomic::{AtomicU32, AtomicU64};

/// Out-of-order intervals kept per flow, receiving.
pub const INTERVALS: usize = 12;
/// Ranges of the scoreboard per flow, sending.
pub const RANGES: usize = 32;

/// One interval of received positions, `start..end`; empty when both are equal.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Interval {
    /// First position.
    pub start: AtomicU64,
    /// Position after the last.
    pub end: AtomicU64,
}

/// One range of sent data; it begins where the one before ends, the first at `snd_una`.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Range {
    /// Low 32 bits of the position after the last.
    pub end: AtomicU32,
    /// What is known of it: the fast path's own numbers.
    pub state: AtomicU32,
    /// When it was sent again, low 32 bits of TCP time, microseconds.
    pub sent_us: AtomicU32,
    /// Low 32 bits of `snd_max` when it was sent again.
    pub above: AtomicU32,
    /// When it counts as lost, low 32 bits of TCP time, microseconds.
    pub due_us: AtomicU32,
}

/// One block, fifteen cache lines.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct RecoveryBlock {
    /// Flow id plus one; zero is free. Lets a re-attaching fast path find what is in use.
    pub flow: AtomicU32,
    /// Intervals in use.
    pub count: AtomicU32,
    /// Position of a FIN received out of order, or zero.
    pub fin: AtomicU64,
    /// Changes of the intervals so far.
    pub latest: AtomicU64,
    /// Out-of-order data received, ascending, disjoint.
    pub intervals: [Interval; INTERVALS],
    /// Ranges in use.
    pub ranges_used: AtomicU32,
    /// Phase of the sender's recovery: the fast path's own numbers.
    pub phase: AtomicU32,
    /// Low 32 bits of the position at which this phase ends.
    pub recover: AtomicU32,
    /// Bytes that may be sent now (RFC 6937, sndcnt).
    pub allowance: AtomicU32,
    /// Bytes delivered in this recovery (RFC 6937, prr_delivered).
    pub delivered: AtomicU32,
    /// Bytes sent in this recovery (RFC 6937, prr_out).
    pub sent: AtomicU32,
    /// Bytes in flight when it began (RFC 6937, RecoverFS).
    pub flight: AtomicU32,
    /// Window and rate before it began, for the case that it was not justified.
    pub undo_cwnd_bytes: AtomicU32,
    /// See above; kilobits per second.
    pub undo_rate_kbps: AtomicU32,
    /// Bytes sent again in it of which the peer has not said that it had them (RFC 2883).
    pub undo_bytes: AtomicU32,
    /// TSval of the first segment sent again in it (RFC 3522).
    pub undo_tsval: AtomicU32,
    /// Shortest RTT seen, microseconds.
    pub min_rtt_us: AtomicU32,
    /// Low 32 bits of `snd_max` when the reordering window was last widened (RFC 8985 §6.2 step 4).
    pub widened: AtomicU32,
    /// Until when the block is kept for late DSACKs, low 32 bits of TCP time, microseconds.
    pub linger_us: AtomicU32,
    /// The scoreboard.
    pub ranges: [Range; RANGES],
    /// Low 32 bits of [`Self::latest`] when each interval changed last: SACK reports the newest first (RFC 2018 §4).
    pub ages: [AtomicU32; INTERVALS],
}
assert_layout!(Range, size 20, end @ 0, state @ 4, sent_us @ 8, above @ 12, due_us @ 16);
assert_layout!(RecoveryBlock, size 960, flow @ 0, count @ 4, fin @ 8, latest @ 16, intervals @ 24,
    ranges_used @ 216, phase @ 220, recover @ 224, allowance @ 228, delivered @ 232, sent @ 236,
    flight @ 240, undo_cwnd_bytes @ 244, undo_rate_kbps @ 248, undo_bytes @ 252, undo_tsval @ 256,
    min_rtt_us @ 260, widened @ 264, linger_us @ 268, ranges @ 272, ages @ 912);
