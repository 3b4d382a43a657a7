// SPDX-License-Identifier: MIT OR Apache-2.0
//! TCP time: the processor's time-stamp counter, scaled once against CLOCK_MONOTONIC and published in
//! the clock page, so that every process reads the same time without a call.

use abi::clock::ClockPage;
use nix::time::{clock_gettime, ClockId};
use std::{sync::atomic::Ordering::Release, time::Duration};

/// Fraction bits of the multiplier: microseconds per tick to better than one in 10^9 at 10 GHz.
const SHIFT: u32 = 40;
/// Time over which the counter is measured: two reads 100 ms apart, each within 100 ns, are off by
/// two parts in a million at most.
const CALIBRATION: Duration = Duration::from_millis(100);
/// Attempts at reading both clocks without an interruption between.
const ATTEMPTS: usize = 16;

/// The time-stamp counter.
#[cfg(target_arch = "x86_64")]
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The generic timer's virtual count.
#[cfg(target_arch = "aarch64")]
pub fn ticks() -> u64 {
    let count: u64;
    // SAFETY: readable from user space on Linux.
    unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) count, options(nomem, nostack)) };
    count
}

/// How ticks become microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    base: u64,
    mult: u64,
}

impl Scale {
    /// Measures the counter's rate. Takes a tenth of a second.
    pub fn calibrate() -> Self {
        let (first_ticks, first_ns) = both_clocks();
        std::thread::sleep(CALIBRATION);
        let (last_ticks, last_ns) = both_clocks();
        Self::from_measurement(
            first_ticks,
            last_ticks.wrapping_sub(first_ticks),
            last_ns.wrapping_sub(first_ns),
        )
    }

    /// Time zero is at `base`; `ticks` pass in `nanoseconds`.
    pub fn from_measurement(base: u64, ticks: u64, nanoseconds: u64) -> Self {
        let mult = (u128::from(nanoseconds) << SHIFT) / (u128::from(ticks.max(1)) * 1000);
        Self { base, mult: mult.clamp(1, u128::from(u64::MAX)) as u64 }
    }

    /// Writes the scale into the clock page.
    pub fn publish(&self, page: &ClockPage) {
        page.tsc_base.store(self.base, Release);
        page.shift.store(SHIFT, Release);
        page.mult.store(self.mult, Release);
    }
}

/// The counter and CLOCK_MONOTONIC in nanoseconds at the same moment: the closest of a few pairs.
fn both_clocks() -> (u64, u64) {
    let mut best = (u64::MAX, 0, 0);
    for _ in 0..ATTEMPTS {
        let before = ticks();
        let monotonic =
            clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| Duration::from(time).as_nanos() as u64);
        let after = ticks();
        let gap = after.wrapping_sub(before);
        if gap < best.0 {
            best = (gap, before.wrapping_add(gap / 2), monotonic);
        }
    }
    (best.1, best.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_follow_the_measurement_for_years() {
        let page = ClockPage::default();
        Scale::from_measurement(1000, 230_000_000, 100_000_000).publish(&page);
        assert_eq!(page.microseconds(1000), 0);
        let day = 86_400u64 * 2_300_000_000;
        let microseconds = page.microseconds(1000 + 3650 * day);
        let exact = 3650u64 * 86_400 * 1_000_000;
        assert!(microseconds.abs_diff(exact) < exact / 100_000_000, "{microseconds} is not {exact}");
    }
}
