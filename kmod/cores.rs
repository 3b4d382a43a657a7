// SPDX-License-Identifier: GPL-2.0-only
//! The rings between the slow path and each fast-path core, with their packet slots.

use crate::memory::Region;
use abi::{
    context::ring_bytes,
    core_status::{CoreStatus, CORE_STATUS_STRIDE},
    kernel_ring::{to_fast, to_slow, KernelEntry, KERNEL_WORDS},
    limits::KERNEL_RING_ENTRIES,
    region::KernelRingLayout,
};
use core::sync::atomic::Ordering::Relaxed;
use kernel::{error::code::*, prelude::*, sync::Arc};
use ring::{Consumer, Producer, SharedBytes, WakeFlag};

/// What came from a core.
pub(crate) enum Received {
    /// The first `bytes` of the frame buffer; why it came.
    Frame { bytes: usize, reason: u8 },
    /// A report without a frame.
    Report(KernelEntry),
}

/// The slow path's ends of one core's rings.
pub(crate) struct CoreRings {
    to_fast: Producer<'static, KERNEL_WORDS>,
    to_slow: Consumer<'static, KERNEL_WORDS>,
    to_fast_slots: SharedBytes<'static>,
    to_slow_slots: SharedBytes<'static>,
    status: &'static CoreStatus,
    layout: KernelRingLayout,
    /// Something was pushed since the core was last woken.
    pushed: bool,
    /// Last fields: the others point into them.
    memory: Arc<Region>,
    _status_memory: Arc<Region>,
}

impl CoreRings {
    /// The rings of `core`. `status_memory` has the status pages of all cores.
    pub(crate) fn new(core: u32, layout: KernelRingLayout, memory: Arc<Region>, status_memory: Arc<Region>) -> Result<Self> {
        let at = (core as usize).checked_mul(CORE_STATUS_STRIDE).ok_or(EINVAL)?;
        // SAFETY: both regions live as long as the value, which keeps these private.
        let (down_slots, up_slots, status) = unsafe {
            (
                memory.shared_bytes(KernelRingLayout::TO_FAST_SLOTS, layout.slots_bytes())?,
                memory.shared_bytes(layout.to_slow_slots(), layout.slots_bytes())?,
                status_memory.table::<CoreStatus>(at, 1)?.first().ok_or(EINVAL)?,
            )
        };
        // SAFETY: as above.
        let (to_fast, to_slow) = unsafe { ends(&memory)? };
        Ok(Self {
            to_fast,
            to_slow,
            to_fast_slots: down_slots,
            to_slow_slots: up_slots,
            status,
            layout,
            pushed: false,
            memory,
            _status_memory: status_memory,
        })
    }

    /// Empties the rings for a fast path that follows another: that one may have left anything in them, their
    /// headers included, and a ring whose two ends disagree carries nothing. What was on its way is
    /// found again flow by flow ([`slowpath::Stack::fast_path_attached`]). Nobody else has them mapped.
    pub(crate) fn empty(&mut self) -> Result {
        // SAFETY: the memory lives as long as `self`, which keeps the slice private.
        for word in unsafe { self.memory.words(KernelRingLayout::TO_FAST, KernelRingLayout::TO_FAST_SLOTS)? } {
            word.store(0, Relaxed);
        }
        // SAFETY: as above.
        (self.to_fast, self.to_slow) = unsafe { ends(&self.memory)? };
        Ok(())
    }

    /// Pushes an entry, with its frame where it has one. False: the ring is full.
    pub(crate) fn push(&mut self, entry: KernelEntry, frame: &[u8]) -> bool {
        if self.to_fast.free() == 0 {
            return false;
        }
        if matches!(entry.op, to_fast::TRANSMIT | to_fast::INJECT | to_fast::SYN_DATA) {
            let bytes = frame.get(..entry.value as usize).unwrap_or(frame);
            self.to_fast_slots.write(self.layout.slot(self.to_fast.position()), bytes);
        }
        self.pushed = true;
        self.to_fast.push(entry.encode())
    }

    /// Publishes what was pushed. True if the core sleeps and must be woken.
    pub(crate) fn flush(&mut self) -> bool {
        if !core::mem::take(&mut self.pushed) {
            return false;
        }
        self.to_fast.publish();
        WakeFlag::new(&self.status.waiting).take()
    }

    /// Takes what the core pushed next; a frame is copied into `frame`, which has the size of a slot.
    pub(crate) fn receive(&mut self, frame: &mut [u8]) -> Option<Received> {
        let at = self.layout.slot(self.to_slow.position());
        let entry = KernelEntry::decode(self.to_slow.pop()?);
        if entry.op != to_slow::PACKET {
            return Some(Received::Report(entry));
        }
        let bytes = usize::try_from(entry.value).unwrap_or(usize::MAX).min(frame.len());
        if let Some(into) = frame.get_mut(..bytes) {
            self.to_slow_slots.read(at, into);
        }
        Some(Received::Frame { bytes, reason: entry.reason })
    }

    /// Gives the slots of what was received back to the core.
    pub(crate) fn commit(&mut self) {
        self.to_slow.commit();
    }

    /// True if [`Self::receive`] would return something.
    pub(crate) fn has_input(&self) -> bool {
        self.to_slow.is_ready()
    }
}

/// The slow path's ends of the two rings in `memory`.
///
/// # Safety
/// `memory` outlives what is returned.
unsafe fn ends(
    memory: &Region,
) -> Result<(Producer<'static, KERNEL_WORDS>, Consumer<'static, KERNEL_WORDS>)> {
    let bytes = ring_bytes(KERNEL_RING_ENTRIES, KERNEL_WORDS);
    // SAFETY: the caller's contract.
    let (down, up) = unsafe { (memory.words(KernelRingLayout::TO_FAST, bytes)?, memory.words(KernelRingLayout::TO_SLOW, bytes)?) };
    Ok((
        Producer::attach(down, KERNEL_RING_ENTRIES).ok_or(EINVAL)?,
        Consumer::attach(up, KERNEL_RING_ENTRIES).ok_or(EINVAL)?,
    ))
}
