// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Layout of a context's region: a header page, then for each fast-path core the ring from the
//! application and the ring to it, then the ring from the slow path.
//!
//! Mapped by the application and the fast path (and the kernel); whatever is in it is input to each.

use crate::event::EVENT_WORDS;
use core::sync::atomic::AtomicU32;

/// Header of the region.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct ContextHeader {
    /// Non-zero while the application thread sleeps and wants a wake-up (see `ring::WakeFlag`).
    pub waiting: AtomicU32,
    /// Zero.
    pub reserved: [AtomicU32; 15],
}
assert_layout!(ContextHeader, size 64, waiting @ 0, reserved @ 4);

/// Bytes of the header page.
pub const HEADER_BYTES: usize = 4096;
/// Bytes in front of a ring's entries: the producer's line and the consumer's line.
pub const RING_HEADER_BYTES: usize = 128;

/// Bytes of a ring of `entries` entries of `words` words.
pub const fn ring_bytes(entries: u32, words: usize) -> usize {
    RING_HEADER_BYTES.wrapping_add((entries as usize).wrapping_mul(words.wrapping_mul(8)))
}

/// Where the parts of a context's region are. All values in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextLayout {
    /// Fast-path cores.
    pub cores: u32,
    /// Entries of each ring between application and fast path.
    pub entries: u32,
    /// Entries of the ring from the slow path.
    pub kernel_entries: u32,
}

impl ContextLayout {
    const fn pair(&self) -> usize {
        ring_bytes(self.entries, EVENT_WORDS).wrapping_mul(2)
    }
    /// Offset of the ring from the application to `core`.
    pub const fn to_fast(&self, core: u32) -> usize {
        HEADER_BYTES.wrapping_add(self.pair().wrapping_mul(core as usize))
    }
    /// Offset of the ring from `core` to the application.
    pub const fn to_application(&self, core: u32) -> usize {
        self.to_fast(core).wrapping_add(ring_bytes(self.entries, EVENT_WORDS))
    }
    /// Offset of the ring from the slow path.
    pub const fn from_kernel(&self) -> usize {
        self.to_fast(self.cores)
    }
    /// Bytes of the whole region, rounded up to a page.
    pub const fn bytes(&self) -> usize {
        let end = self.from_kernel().wrapping_add(ring_bytes(self.kernel_entries, EVENT_WORDS));
        end.wrapping_add(4095) & !4095
    }
}
