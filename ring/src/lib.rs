// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
#![cfg_attr(not(loom), no_std)]
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]
//! Shared memory between two processes that do not trust each other: a single-producer
//! single-consumer ring, the sleep/wake flag that goes with it, and copies in and out of shared
//! bytes. This is the only place that dereferences shared memory; it knows nothing of what the
//! entries mean.
//!
//! **Ring.** Sixteen header words (the producer's cache line and the consumer's), then
//! `entries * W` words. Bit 63 of an entry's first word is its *phase*: it flips every lap, so the
//! consumer sees a new entry in the very line that holds it and shares no index in the common
//! case. The positions in the header serve flow control (the producer reads the consumer's only
//! when the ring seems full), recovery (a restarted process resumes from them) and observers.
//!
//! **Trust.** Capacity and positions are kept in private memory. What the other side writes can
//! make this side see wrong entries, never leave the ring, loop or block.

#[cfg(test)]
extern crate std;

mod bytes;
mod spsc;
mod sync;
mod wake;

pub use bytes::{table, words, SharedBytes};
pub use spsc::{Consumer, Producer, HEADER_WORDS};
pub use wake::WakeFlag;
