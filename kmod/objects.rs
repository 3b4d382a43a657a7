// SPDX-License-Identifier: GPL-2.0-only
//! What the shell knows of applications and contexts, and how far the fast path has come with each.

use crate::{
    eventfd::EventFd,
    memory::{Charge, Region},
    socket::Owner,
};
use abi::{
    context::{ring_bytes, ContextHeader, ContextLayout},
    event::{KernelEvent, EVENT_WORDS},
    limits::{CONTEXT_RING_ENTRIES, KERNEL_EVENT_ENTRIES},
    pool::SEGMENT_BYTES,
    region::{Region as Name, RegionKind},
};
use kernel::{error::code::*, prelude::*, sync::Arc};

/// Whether the fast path knows of an object. Notices are not queued: they are read off these
/// states, so there is no queue to fill up, and a new fast path is told everything again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It has yet to take the notice.
    Not,
    /// It took the notice with this sequence number and has not answered.
    Taken(u32),
    /// It carried the notice out.
    Done,
}

/// 2 MiB of an application's pool or maps.
pub(crate) struct Segment {
    pub(crate) memory: Arc<Region>,
    pub(crate) told: Told,
}

impl Segment {
    /// Segment `number` of `application`, charged to the caller. ENOMEM.
    pub(crate) fn new(kind: RegionKind, application: u32, number: u32) -> Result<Self> {
        let byte_offset = number.checked_mul(SEGMENT_BYTES).ok_or(ENOMEM)?;
        let name = Name { kind, index: application, byte_offset };
        let memory = Region::new(name, SEGMENT_BYTES as usize, Charge::Caller, false)?;
        Ok(Self { memory, told: Told::Not })
    }
}

/// How far the end of an application has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Its file is open.
    Alive,
    /// Its file is closed; some of its flows still send what it had written.
    Dying,
    /// No flow is left: the fast path is to unmap its pool and maps.
    Drained(Told),
    /// The fast path has none of its memory mapped.
    Unmapped,
}

/// An application, alive or dying.
pub(crate) struct Application {
    /// Contexts that exist, those being removed included.
    pub(crate) contexts: u32,
    pub(crate) pool: KVec<Segment>,
    pub(crate) maps: KVec<Segment>,
    pub(crate) life: Life,
    /// What its sockets know of it.
    pub(crate) owner: Arc<Owner>,
}

impl Application {
    /// Its segments of one kind.
    pub(crate) fn segments(&self, kind: RegionKind) -> &KVec<Segment> {
        if kind == RegionKind::Maps { &self.maps } else { &self.pool }
    }
    pub(crate) fn segments_mut(&mut self, kind: RegionKind) -> &mut KVec<Segment> {
        if kind == RegionKind::Maps { &mut self.maps } else { &mut self.pool }
    }
    /// The segment at a byte offset.
    pub(crate) fn segment_at(&self, kind: RegionKind, byte_offset: u32) -> Option<Arc<Region>> {
        if byte_offset % SEGMENT_BYTES != 0 {
            return None;
        }
        Some(self.segments(kind).get((byte_offset / SEGMENT_BYTES) as usize)?.memory.clone())
    }
}

/// Where a context is in its life.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// In use, once the fast path was told.
    Added(Told),
    /// Destroyed; the slot is free again when the fast path has let go of it.
    Removed(Told),
}

/// A context: the slow path's end of its kernel ring and the way to wake its thread.
pub(crate) struct Context {
    pub(crate) application: u32,
    pub(crate) phase: Phase,
    pub(crate) wake: Arc<EventFd>,
    ring: ring::Producer<'static, EVENT_WORDS>,
    header: &'static ContextHeader,
    /// Last field: `ring` and `header` point into it.
    pub(crate) memory: Arc<Region>,
}

/// Layout of every context's region.
pub(crate) const fn context_layout(cores: u32) -> ContextLayout {
    ContextLayout { cores, entries: CONTEXT_RING_ENTRIES, kernel_entries: KERNEL_EVENT_ENTRIES }
}

impl Context {
    /// Context `id` of `application`, its memory charged to the caller. ENOMEM.
    pub(crate) fn new(id: u32, application: u32, cores: u32, wake: EventFd) -> Result<Self> {
        let layout = context_layout(cores);
        let name = Name::whole(RegionKind::Context, id);
        let memory = Region::new(name, layout.bytes(), Charge::Caller, true)?;
        let bytes = ring_bytes(layout.kernel_entries, EVENT_WORDS);
        // SAFETY: `memory` lives as long as the context, which keeps these private.
        let words = unsafe { memory.words(layout.from_kernel(), bytes)? };
        // SAFETY: as above.
        let [header] = (unsafe { memory.table::<ContextHeader>(0, 1)? }) else { return Err(EINVAL) };
        let ring = ring::Producer::attach(words, layout.kernel_entries).ok_or(EINVAL)?;
        let wake = Arc::new(wake, GFP_KERNEL)?;
        Ok(Self { application, phase: Phase::Added(Told::Not), wake, ring, header, memory })
    }

    /// True while the context can be used.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Added(_))
    }

    /// Puts an event on the kernel ring and wakes the thread if it waits. False: the ring is full.
    pub(crate) fn notify(&mut self, event: KernelEvent) -> bool {
        if !self.ring.push(event.encode()) {
            return false;
        }
        self.ring.publish();
        if ring::WakeFlag::new(&self.header.waiting).take() {
            self.wake.signal();
        }
        true
    }
}
