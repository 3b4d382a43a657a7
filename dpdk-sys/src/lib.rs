// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bindings to the system's libdpdk, 22.11 and newer, linked statically with
//! every driver of the distribution that needs no outside provider.
//!
//! Three layers, no safe wrappers (those are in `tas-fastpath`):
//!
//! - what bindgen makes of an allow-list: set-up and control functions;
//! - `tas_*` functions of a small C shim, for DPDK's inline and thread-local
//!   ones;
//! - [`mbuf`], [`burst`] and [`pool`]: the hot operations written in Rust, so
//!   that no call stands between the fast path and the driver. The mbuf and
//!   the mempool cache are opaque types read at offsets the C compiler gave,
//!   because their layout changes between DPDK releases.

mod bindings {
    #![allow(
        non_camel_case_types,
        non_snake_case,
        non_upper_case_globals,
        dead_code,
        unreachable_pub,
        clippy::all,
        clippy::undocumented_unsafe_blocks
    )]
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;

pub mod burst;
pub mod mbuf;
pub mod pool;

/// The processor's time-stamp counter, in cycles of [`rte_get_tsc_hz`].
#[inline(always)]
pub fn rdtsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has RDTSC and Linux leaves it enabled.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(target_arch = "aarch64")]
    {
        let ticks: u64;
        // SAFETY: CNTVCT_EL0 is readable from user space under Linux.
        unsafe {
            core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack));
        }
        ticks
    }
}
