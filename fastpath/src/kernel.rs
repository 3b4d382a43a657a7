// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rings between this core and the slow path, with a packet slot per entry.

use crate::{memory::CoreMemory, status::Status};
use abi::{
    core_status::Counter,
    kernel_ring::{to_slow, KernelEntry, KERNEL_WORDS},
    limits::KERNEL_RING_ENTRIES,
    region::KernelRingLayout,
};
use ring::{Consumer, Producer, SharedBytes};
use std::collections::VecDeque;

/// Both rings.
pub(crate) struct Kernel<'m> {
    from: Consumer<'m, KERNEL_WORDS>,
    to: Producer<'m, KERNEL_WORDS>,
    layout: KernelRingLayout,
    from_slots: SharedBytes<'m>,
    to_slots: SharedBytes<'m>,
    /// Reports that found the ring full. Bounded by the flow table: each flow reports each of its few
    /// transitions once, and no operation is taken from the slow path meanwhile.
    backlog: VecDeque<KernelEntry>,
    /// Something was pushed since the slow path was last looked after.
    pushed: bool,
}

/// An operation from the slow path, and where its frame is.
pub(crate) struct Operation {
    pub(crate) entry: KernelEntry,
    pub(crate) slot: usize,
}

impl<'m> Kernel<'m> {
    /// Attaches to both rings of an instance with this MTU. `None`: a region is too short.
    pub(crate) fn attach(memory: &CoreMemory<'m>, mtu_bytes: u32) -> Option<Self> {
        let layout = KernelRingLayout::of(mtu_bytes);
        let slots = layout.slots_bytes();
        if memory.to_fast_slots.len() < slots || memory.to_slow_slots.len() < slots {
            return None;
        }
        Some(Self {
            from: Consumer::attach(memory.to_fast, KERNEL_RING_ENTRIES)?,
            to: Producer::attach(memory.to_slow, KERNEL_RING_ENTRIES)?,
            layout,
            from_slots: memory.to_fast_slots,
            to_slots: memory.to_slow_slots,
            backlog: VecDeque::new(),
            pushed: false,
        })
    }

    /// Hands a frame to the slow path; dropped and counted if the ring is full.
    pub(crate) fn packet(&mut self, reason: u8, flow: u32, frame: &[u8], status: &Status<'_>) {
        if !self.drained() || self.to.free() == 0 {
            return status.count(Counter::SlowpathFull);
        }
        let slot = self.layout.slot(self.to.position());
        if frame.len() > self.layout.slot_bytes() || !self.to_slots.write(slot, frame) {
            return status.count(Counter::Malformed);
        }
        self.push(KernelEntry { op: to_slow::PACKET, reason, flow, value: frame.len() as u64 });
        status.count(Counter::ToSlowpath);
    }

    /// Reports something that must not be lost.
    pub(crate) fn report(&mut self, entry: KernelEntry) {
        if !self.drained() || !self.push(entry) {
            self.backlog.push_back(entry);
        }
    }

    /// Reports something that will be said again if it matters.
    pub(crate) fn hint(&mut self, entry: KernelEntry) {
        if self.drained() {
            self.push(entry);
        }
    }

    fn push(&mut self, entry: KernelEntry) -> bool {
        let pushed = self.to.push(entry.encode());
        self.pushed |= pushed;
        pushed
    }

    /// Pushes what waits. True if nothing waits any more.
    fn drained(&mut self) -> bool {
        while let Some(entry) = self.backlog.front().copied() {
            if !self.push(entry) {
                return false;
            }
            self.backlog.pop_front();
        }
        true
    }

    /// The next operation; none while reports wait for room.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Operation> {
        if !self.backlog.is_empty() && !self.drained() {
            return None;
        }
        let position = self.from.position();
        let words = self.from.pop()?;
        Some(Operation { entry: KernelEntry::decode(words), slot: self.layout.slot(position) })
    }

    /// Bytes of a frame that a slot holds.
    pub(crate) fn slot_bytes(&self) -> usize {
        self.layout.slot_bytes()
    }

    /// Copies the frame of an operation that was not committed yet.
    pub(crate) fn read_frame(&self, slot: usize, into: &mut [u8]) -> bool {
        into.len() <= self.layout.slot_bytes() && self.from_slots.read(slot, into)
    }

    /// Gives the slots of the operations taken so far back.
    pub(crate) fn commit(&mut self) {
        self.from.commit();
    }

    /// Publishes what was pushed.
    #[inline]
    pub(crate) fn flush(&mut self) {
        if !self.backlog.is_empty() {
            self.drained();
        }
        if self.pushed {
            self.to.publish();
        }
    }

    /// True once after something was pushed.
    pub(crate) fn take_pushed(&mut self) -> bool {
        std::mem::take(&mut self.pushed)
    }

    /// True if there is an operation to take, or a report to push.
    pub(crate) fn is_ready(&self) -> bool {
        self.from.is_ready() || !self.backlog.is_empty()
    }
}
