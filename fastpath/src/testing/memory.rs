// SPDX-License-Identifier: MIT OR Apache-2.0
//! Zeroed memory that lives as long as the process, in the place of shared mappings.

use crate::{ContextMemory, CoreMemory};
use abi::{
    context::{ContextHeader, ContextLayout, RING_HEADER_BYTES},
    event::EVENT_WORDS,
    kernel_ring::KERNEL_WORDS,
    limits::KERNEL_RING_ENTRIES,
    region::kernel_rings,
};
use ring::SharedBytes;
use std::ptr::NonNull;

/// Entries of the context's rings in a test world: few, so that full rings are easy to have.
pub const CONTEXT_ENTRIES: u32 = 64;
const RING_HEADER_WORDS: usize = RING_HEADER_BYTES / 8;

/// Zeroed, page-aligned, never freed.
fn leak(bytes: usize) -> NonNull<u8> {
    const PAGE: usize = 4096;
    let memory: &'static mut [u8] = Box::leak(vec![0u8; bytes + PAGE].into_boxed_slice());
    let offset = memory.as_ptr().align_offset(PAGE);
    NonNull::from(&mut memory[offset..]).cast()
}

/// `count` elements of a table of atomics, all zero.
#[allow(unsafe_code)]
pub fn zeroed_table<T: Sync>(count: usize) -> &'static [T] {
    let memory = leak(count * std::mem::size_of::<T>());
    // SAFETY: zeroed, page-aligned, never freed; `T` is a struct of atomics.
    unsafe { ring::table(memory, count) }
}

/// Bytes, all zero.
#[allow(unsafe_code)]
pub fn zeroed_bytes(bytes: usize) -> SharedBytes<'static> {
    let memory = leak(bytes);
    // SAFETY: never freed, and only the view knows of it.
    unsafe { SharedBytes::new(memory, bytes) }
}

/// Memory of a core.
pub fn core_memory() -> CoreMemory<'static> {
    let words = RING_HEADER_WORDS + KERNEL_RING_ENTRIES as usize * KERNEL_WORDS;
    CoreMemory {
        status: &zeroed_table(1)[0],
        to_fast: zeroed_table(words),
        to_slow: zeroed_table(words),
        to_fast_slots: zeroed_bytes(kernel_rings::SLOTS_BYTES),
        to_slow_slots: zeroed_bytes(kernel_rings::SLOTS_BYTES),
    }
}

/// Memory of a context with one core.
pub fn context_memory() -> ContextMemory<'static> {
    let layout = ContextLayout { cores: 1, entries: CONTEXT_ENTRIES, kernel_entries: 1 };
    let words = RING_HEADER_WORDS + CONTEXT_ENTRIES as usize * EVENT_WORDS;
    debug_assert!(layout.bytes() > words * 16);
    let header: &'static [ContextHeader] = zeroed_table(1);
    ContextMemory {
        waiting: &header[0].waiting,
        to_fast: zeroed_table(words),
        to_application: zeroed_table(words),
        entries: CONTEXT_ENTRIES,
    }
}
