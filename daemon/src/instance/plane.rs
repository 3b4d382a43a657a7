// SPDX-License-Identifier: MIT OR Apache-2.0
//! What exists from the first attach of a fast path on: the flow tables, the rings to its cores and
//! the stack that works on them.

use crate::memory::{Memory, MemoryKind, TableEntry, Writers};
use abi::{
    adjacency::Adjacency,
    context::ring_bytes,
    core_status::{CoreStatus, CORE_STATUS_STRIDE},
    flow::{ColdFlow, HotFlow},
    kernel_ring::{KernelEntry, KERNEL_WORDS},
    limits::{ADJACENCIES_MAX, CORES_MAX, KERNEL_RING_ENTRIES},
    recovery::RecoveryBlock,
    region::{recovery_blocks, KernelRingLayout, Region, RegionKind},
};
use ring::{Consumer, Producer, SharedBytes, WakeFlag};
use slowpath::{Config, Sizes, Stack, Storage};
use std::{
    io,
    sync::{atomic::Ordering::Relaxed, Arc},
};

/// What became of an entry or event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It is in the ring.
    Yes,
    /// It is in the ring, and whoever reads it sleeps.
    Wake,
    /// The ring is full.
    Full,
}

macro_rules! owned_tables {
    ($($field:ident: $type:ty,)+) => {
        /// The stack's private tables, in ordinary memory.
        struct Tables { $($field: Box<[$type]>,)+ }
        impl Tables {
            fn new(sizes: &Sizes) -> Self {
                Self { $($field: vec![<$type>::default(); sizes.$field].into_boxed_slice(),)+ }
            }
            /// # Safety
            /// The tables must outlive what is returned, and not be used otherwise meanwhile.
            unsafe fn private(&mut self) -> slowpath::Private<'static> {
                // SAFETY: the caller's contract.
                unsafe { slowpath::Private { $($field: &mut *std::ptr::from_mut::<[$type]>(&mut self.$field),)+ } }
            }
        }
    };
}
slowpath::private_tables!(owned_tables);

/// The rings and the status page of one core.
pub(super) struct CoreEnd {
    to_fast: Producer<'static, KERNEL_WORDS>,
    to_slow: Consumer<'static, KERNEL_WORDS>,
    to_fast_slots: SharedBytes<'static>,
    to_slow_slots: SharedBytes<'static>,
    status: &'static CoreStatus,
    layout: KernelRingLayout,
}

/// True for entries that carry a frame.
pub(super) fn has_frame(entry: &KernelEntry) -> bool {
    use abi::kernel_ring::to_fast::{INJECT, SYN_DATA, TRANSMIT};
    matches!(entry.op, INJECT | SYN_DATA | TRANSMIT)
}

impl CoreEnd {
    /// Pushes an entry, with its frame if it has one.
    pub(super) fn push(&mut self, entry: KernelEntry, frame: &[u8]) -> Pushed {
        if self.to_fast.free() == 0 {
            return Pushed::Full;
        }
        if has_frame(&entry) {
            let bytes = frame.len().min(entry.value as usize);
            self.to_fast_slots.write(self.layout.slot(self.to_fast.position()), &frame[..bytes]);
        }
        self.to_fast.push(entry.encode());
        self.to_fast.publish();
        // The slow path only reads the flag: a wake-up too many does no harm.
        if WakeFlag::new(&self.status.waiting).is_armed() {
            Pushed::Wake
        } else {
            Pushed::Yes
        }
    }

    /// The next entry from the core; a frame is copied into `frame`, which has the size of a slot, its length returned.
    pub(super) fn pop(&mut self, frame: &mut [u8]) -> Option<(KernelEntry, usize)> {
        let position = self.to_slow.position();
        let entry = KernelEntry::decode(self.to_slow.pop()?);
        if entry.op != abi::kernel_ring::to_slow::PACKET {
            return Some((entry, 0));
        }
        let bytes = frame.len().min(entry.value as usize);
        self.to_slow_slots.read(self.layout.slot(position), &mut frame[..bytes]);
        Some((entry, bytes))
    }

    pub(super) fn commit(&mut self) {
        self.to_slow.commit();
    }

    pub(super) fn is_ready(&self) -> bool {
        self.to_slow.is_ready()
    }
}

/// See the module.
pub(super) struct Plane {
    pub(super) stack: Box<Stack<'static>>,
    pub(super) cores: Vec<CoreEnd>,
    pub(super) config: Config,
    /// The frame of the action polled last, and the one received last; kept, so that nothing has to clear one.
    pub(super) frame: Box<[u8]>,
    pub(super) received: Box<[u8]>,
    layout: KernelRingLayout,
    // What the fields above point into comes after them.
    _tables: Box<Tables>,
    hot: Arc<Memory>,
    cold: Arc<Memory>,
    adjacencies: Arc<Memory>,
    recovery: Arc<Memory>,
    status: Arc<Memory>,
    rings: Vec<Arc<Memory>>,
}

/// # Safety
/// The memory must outlive what is returned.
unsafe fn forever<T: TableEntry>(memory: &Memory, offset: usize, count: usize) -> io::Result<&'static [T]> {
    let table = memory.table::<T>(offset, count).ok_or_else(too_small)?;
    // SAFETY: the caller's contract.
    Ok(unsafe { std::slice::from_raw_parts(table.as_ptr(), table.len()) })
}

fn too_small() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOMEM)
}

impl Plane {
    /// Allocates the tables and rings for `config` and makes a stack over them.
    pub(super) fn new(kind: MemoryKind, config: Config, now_us: u64) -> io::Result<Self> {
        let flows = config.flows as usize;
        let region = |name, bytes, writers| Memory::new(kind, name, bytes, writers, false).map(Arc::new);
        let hot = region("tas-hot", flows * size_of::<HotFlow>(), Writers::Shared)?;
        let cold = region("tas-cold", flows * size_of::<ColdFlow>(), Writers::Daemon)?;
        let adjacencies =
            region("tas-adjacencies", ADJACENCIES_MAX as usize * size_of::<Adjacency>(), Writers::Daemon)?;
        let blocks = recovery_blocks(config.flows) as usize;
        let recovery = region("tas-recovery", blocks * size_of::<RecoveryBlock>(), Writers::Shared)?;
        let status = region("tas-status", config.cores as usize * CORE_STATUS_STRIDE, Writers::Shared)?;
        let layout = KernelRingLayout::of(config.mtu_bytes);
        let rings: Vec<Arc<Memory>> = (0..config.cores)
            .map(|_| region("tas-kernel-rings", layout.bytes(), Writers::Shared))
            .collect::<io::Result<_>>()?;
        let mut tables = Box::new(Tables::new(&Sizes::of(&config)));
        let mut pages = [None; CORES_MAX as usize];
        let mut cores = Vec::new();
        for (index, page) in pages.iter_mut().enumerate().take(config.cores as usize) {
            // SAFETY: the memory is kept in the same struct and dropped later.
            let end = unsafe { core_end(&rings[index], &status, layout, index)? };
            *page = Some(end.status);
            cores.push(end);
        }
        // SAFETY: all memory is kept in the same struct as the stack, and dropped later.
        let storage = unsafe {
            Storage {
                hot: forever(&hot, 0, flows)?,
                cold: forever(&cold, 0, flows)?,
                adjacencies: forever(&adjacencies, 0, ADJACENCIES_MAX as usize)?,
                cores: pages,
                private: tables.private(),
            }
        };
        let stack = Box::new(
            Stack::new(now_us, config, storage)
                .map_err(|error| io::Error::from_raw_os_error(error.0 as i32))?,
        );
        let buffer = || vec![0; layout.slot_bytes()].into_boxed_slice();
        Ok(Self {
            stack,
            cores,
            config,
            frame: buffer(),
            received: buffer(),
            layout,
            _tables: tables,
            hot,
            cold,
            adjacencies,
            recovery,
            status,
            rings,
        })
    }

    /// Empties the rings of every core for a fast path that follows another: that one may have left anything in them,
    /// and a ring whose two ends disagree carries nothing. What was on its way is found again flow by flow
    /// ([`Stack::fast_path_attached`]).
    pub(super) fn empty_rings(&mut self) -> io::Result<()> {
        for (index, (core, rings)) in self.cores.iter_mut().zip(&self.rings).enumerate() {
            let words =
                rings.words(0, KernelRingLayout::TO_FAST_SLOTS / size_of::<u64>()).ok_or_else(too_small)?;
            for word in words {
                word.store(0, Relaxed);
            }
            // SAFETY: the memory is kept in the same struct and dropped later.
            *core = unsafe { core_end(rings, &self.status, self.layout, index)? };
        }
        Ok(())
    }

    pub(super) fn cores(&self) -> u32 {
        self.config.cores
    }

    /// Whether the rings and the contexts were laid out for a fast path like this.
    pub(super) fn fits(&self, config: &Config) -> bool {
        self.config.cores == config.cores && self.layout == KernelRingLayout::of(config.mtu_bytes)
    }

    pub(super) fn has_input(&self) -> bool {
        self.cores.iter().any(CoreEnd::is_ready)
    }

    /// A region of the fast path.
    pub(super) fn region(&self, region: Region) -> Option<Arc<Memory>> {
        let memory = match region.kind {
            RegionKind::FlowHot => &self.hot,
            RegionKind::FlowCold => &self.cold,
            RegionKind::Adjacencies => &self.adjacencies,
            RegionKind::Recovery => &self.recovery,
            RegionKind::CoreStatus => &self.status,
            RegionKind::KernelRings => self.rings.get(region.index as usize)?,
            _ => return None,
        };
        Some(memory.clone())
    }
}

/// # Safety
/// Both regions must outlive what is returned.
unsafe fn core_end(
    rings: &Memory,
    status: &Memory,
    layout: KernelRingLayout,
    index: usize,
) -> io::Result<CoreEnd> {
    let words = ring_bytes(KERNEL_RING_ENTRIES, KERNEL_WORDS) / 8;
    // SAFETY: the caller's contract.
    let (to_fast, to_slow, page) = unsafe {
        (
            forever(rings, KernelRingLayout::TO_FAST, words)?,
            forever(rings, KernelRingLayout::TO_SLOW, words)?,
            forever::<CoreStatus>(status, index * CORE_STATUS_STRIDE, 1)?,
        )
    };
    // SAFETY: the caller's contract; the slots lie within the region and are only copied.
    let all: SharedBytes<'static> = unsafe { SharedBytes::new(rings.start(), rings.len()) };
    let slots = |offset| all.slice(offset, layout.slots_bytes()).ok_or_else(too_small);
    Ok(CoreEnd {
        to_fast: Producer::attach(to_fast, KERNEL_RING_ENTRIES).ok_or_else(too_small)?,
        to_slow: Consumer::attach(to_slow, KERNEL_RING_ENTRIES).ok_or_else(too_small)?,
        to_fast_slots: slots(KernelRingLayout::TO_FAST_SLOTS)?,
        to_slow_slots: slots(layout.to_slow_slots())?,
        status: page.first().ok_or_else(too_small)?,
        layout,
    })
}
