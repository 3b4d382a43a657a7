// SPDX-License-Identifier: GPL-2.0-only
//! What an instance's lock protects: the stack, its rings, applications, contexts, sockets.

use crate::{
    clock::Clock,
    cores::CoreRings,
    errors::from_stack,
    objects::{Application, Context},
    socket::SocketFile,
    table::Table,
    tables::{filled, PrivateTables, Tables},
    wait::WaitQueue,
};
use abi::{
    limits::{APPLICATIONS_MAX, CONTEXTS_MAX},
    region::KernelRingLayout,
};
use kernel::{error::code::*, prelude::*, sync::Arc};
use slowpath::{Config, Sizes, Stack, Storage};

/// The attached fast path.
pub(crate) struct FastPath {
    /// Its file's pollers: a notice waits.
    pub(crate) pollers: Arc<WaitQueue>,
}

/// See the module.
pub(crate) struct State {
    pub(crate) stack: KBox<Stack<'static>>,
    pub(crate) cores: KVec<CoreRings>,
    pub(crate) config: Config,
    pub(crate) applications: Table<Application>,
    pub(crate) contexts: Table<Context>,
    /// By socket id, which the stack hands out.
    pub(crate) sockets: Table<Arc<SocketFile>>,
    pub(crate) fast: Option<FastPath>,
    /// Number of attachments so far.
    pub(crate) epoch: u32,
    /// A fast path has completed its set-up, so applications may attach.
    pub(crate) ready: bool,
    /// Last notice's number.
    pub(crate) notice_sequence: u32,
    /// Of the size of a packet slot.
    pub(crate) in_frame: KVVec<u8>,
    pub(crate) out_frame: KVVec<u8>,
    /// The latest time used: TCP time never runs backwards.
    last_us: u64,
    /// After everything that points into it.
    _private: KBox<PrivateTables>,
}

/// A stack in a box. It is large for the kernel's stack: nothing else may be in this frame.
#[inline(never)]
fn boxed_stack(now_us: u64, config: &Config, storage: Storage<'static>) -> Result<KBox<Stack<'static>>> {
    let room = KBox::<Stack<'static>>::new_uninit(GFP_KERNEL)?;
    match Stack::new(now_us, *config, storage) {
        Ok(stack) => Ok(room.write(stack)),
        Err(errno) => Err(from_stack(errno)),
    }
}

/// A stack over `tables` and `private`, both of which must outlive it.
#[inline(never)]
fn stack_over(
    now_us: u64,
    config: &Config,
    tables: &Tables,
    private: &mut PrivateTables,
) -> Result<KBox<Stack<'static>>> {
    let flows = config.flows as usize;
    // SAFETY: the instance drops its tables, and this value its private ones, after the stack.
    let storage = unsafe {
        Storage {
            hot: tables.hot.table(0, flows)?,
            cold: tables.cold.table(0, flows)?,
            adjacencies: tables.adjacencies.table(0, abi::limits::ADJACENCIES_MAX as usize)?,
            cores: tables.status_pages(config.cores)?,
            private: private.private(),
        }
    };
    boxed_stack(now_us, config, storage)
}

impl State {
    /// A stack over `tables`, which must outlive the result (the instance keeps both, in order).
    #[inline(never)]
    pub(crate) fn new(config: &Config, tables: &Tables, now_us: u64) -> Result<KBox<Self>> {
        let sizes = Sizes::of(config);
        let mut private = PrivateTables::new(&sizes)?;
        let layout = KernelRingLayout::of(config.mtu_bytes);
        let mut cores = KVec::with_capacity(tables.rings.len(), GFP_KERNEL)?;
        for (core, ring) in tables.rings.iter().enumerate() {
            cores.push(CoreRings::new(core as u32, layout, ring.clone(), tables.status.clone())?, GFP_KERNEL)?;
        }
        let stack = stack_over(now_us, config, tables, &mut private)?;
        let state = Self {
            stack,
            cores,
            config: *config,
            applications: Table::new(1, APPLICATIONS_MAX)?,
            contexts: Table::new(0, CONTEXTS_MAX)?,
            sockets: Table::new(0, u32::try_from(sizes.sockets).map_err(|_| ENOMEM)?)?,
            fast: None,
            epoch: 0,
            ready: false,
            notice_sequence: 0,
            in_frame: filled(layout.slot_bytes())?,
            out_frame: filled(layout.slot_bytes())?,
            last_us: now_us,
            _private: private,
        };
        Ok(KBox::new(state, GFP_KERNEL)?)
    }

    /// TCP time, microseconds.
    pub(crate) fn now_us(&mut self, clock: &Clock) -> u64 {
        self.last_us = self.last_us.max(clock.now_us());
        self.last_us
    }
}
