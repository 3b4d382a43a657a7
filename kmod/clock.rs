// SPDX-License-Identifier: GPL-2.0-only
//! TCP time: microseconds since an instance was made, computed from the TSC by everybody with
//! the scale in the instance's clock page.

use crate::shim;
use abi::clock::ClockPage;
use core::sync::atomic::Ordering::Relaxed;
use kernel::{bindings, error::code::*, prelude::*};

/// Fraction bits of the multiplier: 40 leave it 25 significant bits at 30 GHz.
const SHIFT: u32 = 40;

/// The kernel's private copy of the scale; the page itself others can read, so they could not
/// change it, but reading it here costs nothing less.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    base: u64,
    mult: u64,
}

impl Clock {
    /// A clock that starts at one microsecond now. ENODEV if the kernel does not know its TSC.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: written once, at boot.
        let khz = u64::from(unsafe { (&raw const bindings::tsc_khz).read() });
        if khz == 0 {
            pr_err!("the frequency of the TSC is unknown (tsc_khz = 0): TAS needs a TSC as its clock\n");
            return Err(ENODEV);
        }
        let mult = (1000u64 << SHIFT) / khz;
        // SAFETY: FFI without preconditions.
        let now = unsafe { shim::tas_shim_tsc() };
        Ok(Self { base: now.wrapping_sub(khz / 1000 + 1), mult })
    }

    /// Publishes the scale.
    pub(crate) fn publish(&self, page: &ClockPage) {
        page.tsc_base.store(self.base, Relaxed);
        page.mult.store(self.mult, Relaxed);
        page.shift.store(SHIFT, Relaxed);
    }

    /// TCP time in microseconds.
    pub(crate) fn now_us(&self) -> u64 {
        // SAFETY: FFI without preconditions.
        let ticks = unsafe { shim::tas_shim_tsc() }.wrapping_sub(self.base);
        (u128::from(ticks).wrapping_mul(u128::from(self.mult)) >> SHIFT) as u64
    }
}
