// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The clock page: written by the slow path's shell, read-only to everyone else.

use core::sync::atomic::{AtomicU32, AtomicU64};

/// TCP time is `((tsc - tsc_base) * mult) >> shift` microseconds, computed in 128 bits.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct ClockPage {
    /// TSC value at TCP time zero.
    pub tsc_base: AtomicU64,
    /// Multiplier.
    pub mult: AtomicU64,
    /// Shift.
    pub shift: AtomicU32,
    /// Non-zero while the slow path's worker sleeps and wants a wake-up (see `ring::WakeFlag`).
    pub slowpath_waiting: AtomicU32,
    /// Incremented each time a fast path attaches; odd while none is attached.
    pub fastpath_epoch: AtomicU32,
    /// Zero.
    pub reserved: [AtomicU32; 9],
}
assert_layout!(ClockPage, size 64, tsc_base @ 0, mult @ 8, shift @ 16, slowpath_waiting @ 20,
    fastpath_epoch @ 24, reserved @ 28);

impl ClockPage {
    /// TCP time in microseconds for a TSC reading.
    #[inline]
    pub fn microseconds(&self, tsc: u64) -> u64 {
        use core::sync::atomic::Ordering::Relaxed;
        let ticks = tsc.wrapping_sub(self.tsc_base.load(Relaxed));
        let product = (ticks as u128).wrapping_mul(self.mult.load(Relaxed) as u128);
        product.wrapping_shr(self.shift.load(Relaxed)) as u64
    }
}

/// TSval at TCP time `now_us` for a flow whose `timestamp_offset` is `offset`: ticks of 1024 µs.
/// RFC 7323 §5.4 asks for at least 1 ms a tick, or the peer's PAWS refuses us after 36 idle
/// minutes. The handshake (slow path) and the data (fast path) must both use this.
#[inline]
pub const fn timestamp_value(now_us: u64, offset: u32) -> u32 {
    ((now_us >> 10) as u32).wrapping_add(offset)
}

/// Microseconds of a difference of two TSvals.
#[inline]
pub const fn timestamp_us(ticks: u32) -> u64 {
    (ticks as u64) << 10
}
