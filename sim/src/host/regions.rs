// SPDX-License-Identifier: MIT OR Apache-2.0
//! The instance's memory as the fast path of the same process maps it.

use abi::{
    adjacency::Adjacency,
    clock::ClockPage,
    context::{ring_bytes, ContextHeader, ContextLayout},
    core_status::{CoreStatus, CORE_STATUS_STRIDE},
    event::EVENT_WORDS,
    flow::{ColdFlow, HotFlow},
    kernel_ring::KERNEL_WORDS,
    limits,
    recovery::RecoveryBlock,
    region::{recovery_blocks, KernelRingLayout, Region, RegionKind},
};
use daemon::{Instance, Memory};
use fastpath::{ContextMemory, CoreMemory, Tables};
use ring::SharedBytes;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

/// Extends a borrow of memory that the host holds for as long as its core.
///
/// # Safety
/// The memory behind it is in `Host::held` and is dropped after everything that uses the result.
pub(super) unsafe fn forever<T: ?Sized>(borrowed: &T) -> &'static T {
    // SAFETY: the caller's contract.
    unsafe { &*std::ptr::from_ref(borrowed) }
}

/// As [`forever`], for bytes.
///
/// # Safety
/// As [`forever`].
pub(super) unsafe fn bytes_forever(bytes: SharedBytes<'_>) -> SharedBytes<'static> {
    // SAFETY: the caller's contract.
    unsafe { std::mem::transmute::<SharedBytes<'_>, SharedBytes<'static>>(bytes) }
}

pub(super) fn gone(what: &str) -> io::Error {
    io::Error::other(format!("the instance has no {what}"))
}

/// Regions of the instance, kept for the life of the host.
pub(super) struct Regions<'a> {
    pub(super) instance: &'a Mutex<Instance>,
    pub(super) held: &'a mut Vec<Arc<Memory>>,
}

impl Regions<'_> {
    pub(super) fn get(&mut self, region: Region) -> io::Result<&'static Memory> {
        let memory = self.instance.lock().unwrap_or_else(PoisonError::into_inner).region(region);
        let memory = memory.ok_or_else(|| gone("such region"))?;
        // SAFETY: held until the host is dropped, after its core.
        let view = unsafe { forever(&*memory) };
        self.held.push(memory);
        Ok(view)
    }
    fn whole(&mut self, kind: RegionKind) -> io::Result<&'static Memory> {
        self.get(Region::whole(kind, 0))
    }
}

pub(super) fn map_tables(
    regions: &mut Regions<'_>,
    flows: u32,
    cores: u32,
    mtu_bytes: u32,
) -> io::Result<(Tables<'static>, Vec<CoreMemory<'static>>)> {
    let count = flows as usize;
    let tables = Tables {
        hot: regions
            .whole(RegionKind::FlowHot)?
            .table::<HotFlow>(0, count)
            .ok_or_else(|| gone("hot flows"))?,
        cold: regions
            .whole(RegionKind::FlowCold)?
            .table::<ColdFlow>(0, count)
            .ok_or_else(|| gone("cold flows"))?,
        adjacencies: regions
            .whole(RegionKind::Adjacencies)?
            .table::<Adjacency>(0, limits::ADJACENCIES_MAX as usize)
            .ok_or_else(|| gone("adjacencies"))?,
        recovery: regions
            .whole(RegionKind::Recovery)?
            .table::<RecoveryBlock>(0, recovery_blocks(flows) as usize)
            .ok_or_else(|| gone("recovery blocks"))?,
        clock: regions
            .whole(RegionKind::Clock)?
            .table::<ClockPage>(0, 1)
            .and_then(<[_]>::first)
            .ok_or_else(|| gone("clock"))?,
    };
    let memories = (0..cores)
        .map(|core| core_memory(regions, KernelRingLayout::of(mtu_bytes), core))
        .collect::<io::Result<_>>()?;
    Ok((tables, memories))
}

fn core_memory(
    regions: &mut Regions<'_>,
    layout: KernelRingLayout,
    core: u32,
) -> io::Result<CoreMemory<'static>> {
    let pages = regions.whole(RegionKind::CoreStatus)?;
    let status = pages.table::<CoreStatus>(core as usize * CORE_STATUS_STRIDE, 1).and_then(<[_]>::first);
    let rings = regions.get(Region::whole(RegionKind::KernelRings, core))?;
    let words = ring_bytes(limits::KERNEL_RING_ENTRIES, KERNEL_WORDS) / 8;
    let slots = |offset| {
        // SAFETY: the memory is held by the host.
        rings.bytes().slice(offset, layout.slots_bytes()).map(|bytes| unsafe { bytes_forever(bytes) })
    };
    Ok(CoreMemory {
        status: status.ok_or_else(|| gone("core status"))?,
        to_fast: rings.words(KernelRingLayout::TO_FAST, words).ok_or_else(|| gone("kernel ring"))?,
        to_slow: rings.words(KernelRingLayout::TO_SLOW, words).ok_or_else(|| gone("kernel ring"))?,
        to_fast_slots: slots(KernelRingLayout::TO_FAST_SLOTS).ok_or_else(|| gone("packet slots"))?,
        to_slow_slots: slots(layout.to_slow_slots()).ok_or_else(|| gone("packet slots"))?,
    })
}

/// What each of `cores` has of a context.
pub(super) fn context_memory(memory: &'static Memory, cores: u32) -> io::Result<Vec<ContextMemory<'static>>> {
    let entries = limits::CONTEXT_RING_ENTRIES;
    let layout = ContextLayout { cores, entries, kernel_entries: limits::KERNEL_EVENT_ENTRIES };
    let words = ring_bytes(entries, EVENT_WORDS) / 8;
    let header =
        memory.table::<ContextHeader>(0, 1).and_then(<[_]>::first).ok_or_else(|| gone("context header"))?;
    let of = |core| {
        Ok(ContextMemory {
            waiting: &header.waiting,
            to_fast: memory.words(layout.to_fast(core), words).ok_or_else(|| gone("context ring"))?,
            to_application: memory
                .words(layout.to_application(core), words)
                .ok_or_else(|| gone("context ring"))?,
            entries,
        })
    };
    (0..cores).map(of).collect()
}
