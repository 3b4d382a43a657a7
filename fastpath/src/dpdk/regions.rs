// SPDX-License-Identifier: MIT OR Apache-2.0
//! The shared memory of an instance, mapped, as the views the library wants.
//!
//! The views are `'static`: they are handed to threads. What makes that sound is the order of
//! things: a mapping is dropped only after every core has carried out the command that removes
//! it, and the tables only after the cores have ended.

use std::collections::HashMap;

use abi::clock::ClockPage;
use abi::context::ContextHeader;
use abi::context::{ring_bytes, ContextLayout};
use abi::core_status::{CoreStatus, CORE_STATUS_STRIDE};
use abi::event::EVENT_WORDS;
use abi::kernel_ring::KERNEL_WORDS;
use abi::limits::{ADJACENCIES_MAX, CONTEXT_RING_ENTRIES, KERNEL_EVENT_ENTRIES, KERNEL_RING_ENTRIES};
use abi::pool::SEGMENT_BYTES;
use abi::region::{recovery_blocks, KernelRingLayout, Region, RegionKind};
use anyhow::{Context, Result};
use ring::SharedBytes;
use tas::control::{ControlChannel, Mapping};

use crate::memory::{Command, ContextMemory, CoreMemory, Tables};

/// Bytes of a page: what the clock's region has.
const PAGE_BYTES: usize = 4096;

/// Maps `region`, explaining a failure.
fn map(channel: &dyn ControlChannel, region: Region, bytes: usize, writable: bool) -> Result<Mapping> {
    channel
        .map(region, bytes, writable, None)
        .with_context(|| format!("cannot map {:?} {} ({bytes} bytes)", region.kind, region.index))
}

/// `count` table entries at `offset` of a mapping.
///
/// # Safety
/// The mapping outlives every use of the result; `T` consists of atomics.
unsafe fn view<T: Sync + 'static>(mapping: &Mapping, offset: usize, count: usize) -> Result<&'static [T]> {
    let bytes = count.saturating_mul(size_of::<T>());
    let start = mapping.at(offset, bytes).context("shared region too short")?;
    // SAFETY: in bounds of a page-aligned mapping at an offset the ABI aligns; the rest is the caller's.
    Ok(unsafe { ring::table(start, count) })
}

/// `bytes` payload bytes at `offset` of a mapping.
///
/// # Safety
/// The mapping is writable and outlives every use of the result.
unsafe fn bytes_view(mapping: &Mapping, offset: usize, bytes: usize) -> Result<SharedBytes<'static>> {
    let start = mapping.at(offset, bytes).context("shared region too short")?;
    // SAFETY: in bounds; the rest is the caller's.
    Ok(unsafe { SharedBytes::new(start, bytes) })
}

/// Everything that lives as long as the process.
pub(super) struct InstanceMemory {
    /// What all cores share.
    pub(super) tables: Tables<'static>,
    /// One per core.
    pub(super) cores: Vec<CoreMemory<'static>>,
    /// The clock.
    pub(super) clock: &'static ClockPage,
    // Dropped last, after the cores ended.
    _mappings: Vec<Mapping>,
}

impl InstanceMemory {
    /// Maps the tables of an instance with `flows` flows, `cores` cores and this MTU.
    ///
    /// # Errors
    /// What the channel reports.
    pub(super) fn map(channel: &dyn ControlChannel, flows: u32, cores: u32, mtu_bytes: u32) -> Result<Self> {
        let whole = |kind, bytes, writable| map(channel, Region::whole(kind, 0), bytes, writable);
        let flow_count = flows as usize;
        let blocks = recovery_blocks(flows) as usize;
        let clock = whole(RegionKind::Clock, PAGE_BYTES, false)?;
        let hot = whole(RegionKind::FlowHot, flow_count * size_of::<abi::flow::HotFlow>(), true)?;
        let cold = whole(RegionKind::FlowCold, flow_count * size_of::<abi::flow::ColdFlow>(), false)?;
        let adjacency_bytes = ADJACENCIES_MAX as usize * size_of::<abi::adjacency::Adjacency>();
        let adjacencies = whole(RegionKind::Adjacencies, adjacency_bytes, false)?;
        let recovery = whole(RegionKind::Recovery, blocks * size_of::<abi::recovery::RecoveryBlock>(), true)?;
        let status = whole(RegionKind::CoreStatus, cores as usize * CORE_STATUS_STRIDE, true)?;
        // SAFETY: the mappings move into Self below, which the caller keeps until the cores ended.
        // The tables are made of atomics.
        let (tables, clock_page) = unsafe {
            let page = view::<ClockPage>(&clock, 0, 1)?.first().context("clock page")?;
            let tables = Tables {
                hot: view(&hot, 0, flow_count)?,
                cold: view(&cold, 0, flow_count)?,
                adjacencies: view(&adjacencies, 0, ADJACENCIES_MAX as usize)?,
                recovery: view(&recovery, 0, blocks)?,
                clock: page,
            };
            (tables, page)
        };
        let mut mappings = vec![clock, hot, cold, adjacencies, recovery];
        let mut memories = Vec::new();
        let layout = KernelRingLayout::of(mtu_bytes);
        for core in 0..cores {
            let rings = map(channel, Region::whole(RegionKind::KernelRings, core), layout.bytes(), true)?;
            // SAFETY: as above.
            memories.push(unsafe { core_memory(&status, &rings, layout, core)? });
            mappings.push(rings);
        }
        mappings.push(status);
        Ok(Self { tables, cores: memories, clock: clock_page, _mappings: mappings })
    }
}

/// # Safety
/// Both mappings outlive every use of the result.
unsafe fn core_memory(
    status: &Mapping,
    rings: &Mapping,
    layout: KernelRingLayout,
    core: u32,
) -> Result<CoreMemory<'static>> {
    let words = ring_bytes(KERNEL_RING_ENTRIES, KERNEL_WORDS) / 8;
    // SAFETY: the caller's.
    unsafe {
        Ok(CoreMemory {
            status: view::<CoreStatus>(status, core as usize * CORE_STATUS_STRIDE, 1)?
                .first()
                .context("status page")?,
            to_fast: view(rings, KernelRingLayout::TO_FAST, words)?,
            to_slow: view(rings, KernelRingLayout::TO_SLOW, words)?,
            to_fast_slots: bytes_view(rings, KernelRingLayout::TO_FAST_SLOTS, layout.slots_bytes())?,
            to_slow_slots: bytes_view(rings, layout.to_slow_slots(), layout.slots_bytes())?,
        })
    }
}

/// What applications brought, by owner.
#[derive(Default)]
pub(super) struct TenantMemory {
    contexts: HashMap<u16, Mapping>,
    applications: HashMap<u16, Vec<Mapping>>,
}

impl TenantMemory {
    /// Maps a context; the command for each core, in order.
    ///
    /// # Errors
    /// What the channel reports.
    pub(super) fn add_context(
        &mut self,
        channel: &dyn ControlChannel,
        context: u16,
        application: u16,
        cores: u32,
    ) -> Result<Vec<Command<'static>>> {
        let layout =
            ContextLayout { cores, entries: CONTEXT_RING_ENTRIES, kernel_entries: KERNEL_EVENT_ENTRIES };
        let region = Region::whole(RegionKind::Context, u32::from(context));
        let mapping = map(channel, region, layout.bytes(), true)?;
        let words = ring_bytes(CONTEXT_RING_ENTRIES, EVENT_WORDS) / 8;
        let mut commands = Vec::new();
        for core in 0..cores {
            // SAFETY: the mapping goes into self and leaves it by remove_context, after every core
            // carried out RemoveContext.
            let memory = unsafe {
                ContextMemory {
                    waiting: &view::<ContextHeader>(&mapping, 0, 1)?
                        .first()
                        .context("context header")?
                        .waiting,
                    to_fast: view(&mapping, layout.to_fast(core), words)?,
                    to_application: view(&mapping, layout.to_application(core), words)?,
                    entries: CONTEXT_RING_ENTRIES,
                }
            };
            commands.push(Command::AddContext { context, application, memory });
        }
        self.contexts.insert(context, mapping);
        Ok(commands)
    }

    /// Unmaps a context that every core has forgotten.
    pub(super) fn remove_context(&mut self, context: u16) {
        self.contexts.remove(&context);
    }

    /// Maps a segment of an application's pool.
    ///
    /// # Errors
    /// What the channel reports.
    pub(super) fn add_pool_segment(
        &mut self,
        channel: &dyn ControlChannel,
        application: u16,
        segment: u32,
    ) -> Result<SharedBytes<'static>> {
        let mapping = self.map_segment(channel, RegionKind::Pool, application, segment)?;
        // SAFETY: the mapping goes into self and leaves it by remove_application, after every core
        // carried out RemoveApplication.
        let bytes = unsafe { bytes_view(&mapping, 0, SEGMENT_BYTES as usize)? };
        self.applications.entry(application).or_default().push(mapping);
        Ok(bytes)
    }

    /// Maps a segment of an application's buffer maps.
    ///
    /// # Errors
    /// What the channel reports.
    pub(super) fn add_map_segment(
        &mut self,
        channel: &dyn ControlChannel,
        application: u16,
        segment: u32,
    ) -> Result<&'static [std::sync::atomic::AtomicU32]> {
        let mapping = self.map_segment(channel, RegionKind::Maps, application, segment)?;
        // SAFETY: as in add_pool_segment.
        let words = unsafe { view(&mapping, 0, SEGMENT_BYTES as usize / 4)? };
        self.applications.entry(application).or_default().push(mapping);
        Ok(words)
    }

    fn map_segment(
        &self,
        channel: &dyn ControlChannel,
        kind: RegionKind,
        application: u16,
        segment: u32,
    ) -> Result<Mapping> {
        let byte_offset = segment.checked_mul(SEGMENT_BYTES).context("segment number too large")?;
        let region = Region { kind, index: u32::from(application), byte_offset };
        map(channel, region, SEGMENT_BYTES as usize, true)
    }

    /// Unmaps what an application brought, after every core has forgotten it.
    pub(super) fn remove_application(&mut self, application: u16) {
        self.applications.remove(&application);
    }
}
