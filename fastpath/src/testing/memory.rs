// SPDX-License-Identifier: MIT OR Apache-2.0
//! Zeroed memory that lives as long as the process, in the place of shared mappings.

use crate::{ContextMemory, CoreMemory};
use abi::{
    context::{ContextHeader, ContextLayout, RING_HEADER_BYTES},
    event::EVENT_WORDS,
    kernel_ring::KERNEL_WORDS,
    limits::KERNEL_RING_ENTRIES,
    region::KernelRingLayout,
};
use ring::SharedBytes;
use std::{cell::RefCell, ptr::NonNull};

/// Entries of the context's rings in a test world: few, so that full rings are easy to have.
pub const CONTEXT_ENTRIES: u32 = 64;
const RING_HEADER_WORDS: usize = RING_HEADER_BYTES / 8;

/// Memory given out.
struct Leaked {
    start: NonNull<u8>,
    bytes: usize,
    /// A table, which is given out again as zeroes; payload bytes have any value.
    table: bool,
    used: bool,
}

thread_local! {
    static LEAKED: RefCell<Vec<Leaked>> = const { RefCell::new(Vec::new()) };
}

/// The memory of this thread's worlds may be given out again: for those who make many. Worlds that there are still
/// share it with those to come.
#[allow(unsafe_code)]
pub fn recycle() {
    LEAKED.with_borrow_mut(|leaked| {
        for one in leaked.iter_mut().filter(|one| one.used) {
            if one.table {
                // SAFETY: never freed; all references to it are to atomics, and no other thread has one.
                unsafe { one.start.as_ptr().write_bytes(0, one.bytes) };
            }
            one.used = false;
        }
    });
}

/// Zeroed (unless it is recycled and no table), page-aligned, never freed.
fn leak(bytes: usize, table: bool) -> NonNull<u8> {
    LEAKED.with_borrow_mut(|leaked| {
        let free = leaked.iter_mut().find(|one| !one.used && one.bytes == bytes && one.table == table);
        if let Some(one) = free {
            one.used = true;
            return one.start;
        }
        let start = leak_new(bytes);
        leaked.push(Leaked { start, bytes, table, used: true });
        start
    })
}

fn leak_new(bytes: usize) -> NonNull<u8> {
    const PAGE: usize = 4096;
    let memory: &'static mut [u8] = Box::leak(vec![0u8; bytes + PAGE].into_boxed_slice());
    let offset = memory.as_ptr().align_offset(PAGE);
    NonNull::from(&mut memory[offset..]).cast()
}

/// `count` elements of a table of atomics, all zero.
#[allow(unsafe_code)]
pub fn zeroed_table<T: Sync>(count: usize) -> &'static [T] {
    let memory = leak(count * std::mem::size_of::<T>(), true);
    // SAFETY: zeroed, page-aligned, never freed; `T` is a struct of atomics.
    unsafe { ring::table(memory, count) }
}

/// Bytes, all zero.
#[allow(unsafe_code)]
pub fn zeroed_bytes(bytes: usize) -> SharedBytes<'static> {
    let memory = leak(bytes, false);
    // SAFETY: never freed, and only the view knows of it.
    unsafe { SharedBytes::new(memory, bytes) }
}

/// Memory of a core of an instance with this MTU.
pub fn core_memory(mtu_bytes: u32) -> CoreMemory<'static> {
    let slots_bytes = KernelRingLayout::of(mtu_bytes).slots_bytes();
    let words = RING_HEADER_WORDS + KERNEL_RING_ENTRIES as usize * KERNEL_WORDS;
    CoreMemory {
        status: &zeroed_table(1)[0],
        to_fast: zeroed_table(words),
        to_slow: zeroed_table(words),
        to_fast_slots: zeroed_bytes(slots_bytes),
        to_slow_slots: zeroed_bytes(slots_bytes),
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
