// SPDX-License-Identifier: GPL-2.0-only
//! The memory of an instance: regions that others map, and the stack's private tables.

use crate::memory::{Charge, Region};
use abi::{
    adjacency::Adjacency,
    clock::ClockPage,
    core_status::{CoreStatus, CORE_STATUS_STRIDE},
    flow::{ColdFlow, HotFlow},
    limits::{ADJACENCIES_MAX, CORES_MAX},
    recovery::RecoveryBlock,
    region::{recovery_blocks, KernelRingLayout, Region as Name, RegionKind},
};
use core::mem::size_of;
use kernel::{error::code::*, page::PAGE_SIZE, prelude::*, sync::Arc};
use slowpath::{Config, Private, Sizes};

/// Regions of an instance, apart from those of applications.
pub(crate) struct Tables {
    pub(crate) clock: Arc<Region>,
    pub(crate) hot: Arc<Region>,
    pub(crate) cold: Arc<Region>,
    pub(crate) adjacencies: Arc<Region>,
    pub(crate) recovery: Arc<Region>,
    pub(crate) status: Arc<Region>,
    /// One for each core.
    pub(crate) rings: KVec<Arc<Region>>,
}

impl Tables {
    /// Bytes of memory that an instance needs, its private tables included.
    pub(crate) fn bytes(config: &Config) -> usize {
        let flows = config.flows as usize;
        let per_flow = size_of::<HotFlow>() + size_of::<ColdFlow>();
        let recovery = recovery_blocks(config.flows) as usize * size_of::<RecoveryBlock>();
        let rings = config.cores as usize * KernelRingLayout::of(config.mtu_bytes).bytes();
        flows * per_flow + recovery + rings + Sizes::of(config).bytes()
    }

    /// Allocates them. ENOMEM.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        // Large allocations would sooner have other processes killed than fail.
        // SAFETY: FFI without preconditions.
        let available = unsafe { crate::shim::tas_shim_available_pages() } * PAGE_SIZE;
        let needed = Self::bytes(config);
        if needed > available {
            pr_err!(
                "{} flows and {} cores need {} MiB of memory, {} MiB are available: configure fewer flows\n",
                config.flows, config.cores, needed >> 20, available >> 20
            );
            return Err(ENOMEM);
        }
        let region = |kind, bytes| Region::new(Name::whole(kind, 0), bytes, Charge::Host, true);
        let flows = config.flows as usize;
        let blocks = recovery_blocks(config.flows) as usize;
        let layout = KernelRingLayout::of(config.mtu_bytes);
        let mut rings = KVec::new();
        for core in 0..config.cores {
            let name = Name::whole(RegionKind::KernelRings, core);
            rings.push(Region::new(name, layout.bytes(), Charge::Host, true)?, GFP_KERNEL)?;
        }
        Ok(Self {
            clock: region(RegionKind::Clock, PAGE_SIZE)?,
            hot: region(RegionKind::FlowHot, flows * size_of::<HotFlow>())?,
            cold: region(RegionKind::FlowCold, flows * size_of::<ColdFlow>())?,
            adjacencies: region(RegionKind::Adjacencies, ADJACENCIES_MAX as usize * size_of::<Adjacency>())?,
            recovery: region(RegionKind::Recovery, blocks * size_of::<RecoveryBlock>())?,
            status: region(RegionKind::CoreStatus, config.cores as usize * CORE_STATUS_STRIDE)?,
            rings,
        })
    }

    /// The clock page. Valid as long as `self`.
    pub(crate) fn clock_page(&self) -> Result<&ClockPage> {
        // SAFETY: borrowed from `self`, which keeps the region.
        unsafe { self.clock.table::<ClockPage>(0, 1)? }.first().ok_or(EINVAL)
    }

    /// The status page of each core.
    ///
    /// # Safety
    /// Not used after `self` is gone.
    pub(crate) unsafe fn status_pages<'m>(&self, cores: u32) -> Result<[Option<&'m CoreStatus>; CORES_MAX as usize]> {
        let mut pages = [None; CORES_MAX as usize];
        for (core, page) in pages.iter_mut().enumerate().take(cores as usize) {
            // SAFETY: the caller's contract.
            *page = unsafe { self.status.table::<CoreStatus>(core * CORE_STATUS_STRIDE, 1)? }.first();
        }
        Ok(pages)
    }
}

macro_rules! owned_tables {
    ($($field:ident: $type:ty,)+) => {
        /// The stack's private tables.
        pub(crate) struct PrivateTables { $($field: KVVec<$type>,)+ }
        impl PrivateTables {
            /// Allocates them. ENOMEM.
            #[inline(never)]
            pub(crate) fn new(sizes: &Sizes) -> Result<KBox<Self>> {
                let mut tables = KBox::new(Self { $($field: KVVec::new(),)+ }, GFP_KERNEL)?;
                $(tables.$field = filled::<$type>(sizes.$field)?;)+
                Ok(tables)
            }
            /// The tables as the stack takes them.
            ///
            /// # Safety
            /// The result is gone before `self`, and `self` is not used meanwhile.
            pub(crate) unsafe fn private(&mut self) -> Private<'static> {
                // SAFETY: the caller's contract; the elements do not move with `self`.
                Private { $($field: unsafe { core::slice::from_raw_parts_mut(self.$field.as_mut_ptr(), self.$field.len()) },)+ }
            }
        }
    };
}
slowpath::private_tables!(owned_tables);

/// A table of `count` empty elements. ENOMEM.
pub(crate) fn filled<T: Copy + Default>(count: usize) -> Result<KVVec<T>> {
    let mut table = KVVec::with_capacity(count, GFP_KERNEL)?;
    for (index, slot) in table.spare_capacity_mut().iter_mut().take(count).enumerate() {
        slot.write(T::default()); // in place: an element may be too large for the kernel's stack
        if index % 4096 == 0 {
            // SAFETY: no lock of the module that forbids sleeping is held.
            unsafe { crate::shim::tas_shim_cond_resched() };
        }
    }
    // SAFETY: that many elements were written.
    unsafe { table.inc_len(count) };
    Ok(table)
}
