// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Loss-recovery blocks: a bounded pool beside the flow table, used only by flows that lost or
//! reordered something. Allocated and written by the fast path.

use core::sync::atomic::{AtomicU32, AtomicU64};

/// Out-of-order intervals kept per flow.
pub const INTERVALS: usize = 4;

/// One interval of received positions, `start..end`; empty when both are equal.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Interval {
    /// First position.
    pub start: AtomicU64,
    /// Position after the last.
    pub end: AtomicU64,
}

/// One block, two cache lines.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct RecoveryBlock {
    /// Flow id plus one; zero is free. Lets a re-attaching fast path find what is in use.
    pub flow: AtomicU32,
    /// Intervals in use.
    pub count: AtomicU32,
    /// Zero; room for the sender's side of loss recovery.
    pub recover: AtomicU64,
    /// Out-of-order data received, ascending, disjoint.
    pub intervals: [Interval; INTERVALS],
    /// Zero; room for the SACK scoreboard and send times.
    pub reserved: [AtomicU64; 6],
}
assert_layout!(RecoveryBlock, size 128, flow @ 0, count @ 4, recover @ 8, intervals @ 16, reserved @ 80);
