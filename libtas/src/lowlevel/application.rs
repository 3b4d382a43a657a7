// SPDX-License-Identifier: MIT OR Apache-2.0
//! An application attached to an instance: its memory, and what its contexts share.

use super::{chunks::Depot, context::Context, memory::Memory};
use crate::control::{self, attach, ControlChannel, Mapping, Target};
use abi::{
    clock::ClockPage,
    core_status::{CoreStatus, CORE_STATUS_STRIDE},
    limits::CORES_MAX,
    message::{AttachApplication, Grow, Message, Op},
    region::{Region, RegionKind},
};
use ring::WakeFlag;
use std::{
    io,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering::*},
        Arc, Mutex, PoisonError, Weak,
    },
};

/// Bytes of the clock page.
const CLOCK_BYTES: usize = 4096;
/// After the slow path refused to grow the pool, every so many shortages ask again: a limit may have
/// been raised, but a program that lives at its limit must not make a call per write.
const ASK_AGAIN: u64 = 256;

/// How to attach.
#[derive(Debug, Clone)]
pub struct Options {
    /// Instance name.
    pub instance: String,
    /// Command name for `tasctl`.
    pub command: [u8; 16],
}

impl Default for Options {
    /// The instance of TAS_INSTANCE or `tas0`, the name of this process.
    fn default() -> Self {
        Self { instance: control::instance_from_environment(), command: attach::command_name() }
    }
}

/// An application attached to an instance: its payload pool, and what all contexts share.
pub struct Application {
    pub(super) info: AttachApplication,
    pub(super) memory: Memory,
    pub(super) depot: Depot,
    /// A context found no chunk; whoever frees some tells it.
    pub(super) is_starving: AtomicBool,
    shortages: AtomicU64,
    is_at_limit: AtomicBool,
    contexts: Mutex<Vec<Weak<Context>>>,
    growing: Mutex<()>,
    clock: &'static ClockPage,
    cores: Vec<&'static CoreStatus>,
    /// What `clock` and `cores` are in.
    _pages: [Mapping; 2],
    channel: Arc<dyn ControlChannel>,
}

impl Application {
    /// Attaches and maps. The channel must be fresh.
    ///
    /// # Errors
    /// See [`attach::application`]; what mapping reports.
    pub fn attach(channel: Arc<dyn ControlChannel>, options: &Options) -> io::Result<Arc<Self>> {
        let info = attach::application(&*channel, &options.instance, options.command)?;
        if info.cores == 0 || info.cores > CORES_MAX {
            return Err(control::explained(
                libc::EPROTO,
                format!("the slow path names {} cores", info.cores),
            ));
        }
        let clock = channel.map(Region::whole(RegionKind::Clock, 0), CLOCK_BYTES, false, None)?;
        let status_bytes = info.cores as usize * CORE_STATUS_STRIDE;
        let status = channel.map(Region::whole(RegionKind::CoreStatus, 0), status_bytes, false, None)?;
        let cores = (0..info.cores as usize).filter_map(|core| {
            let page = status.at(core * CORE_STATUS_STRIDE, size_of::<CoreStatus>())?;
            // SAFETY: page-aligned, mapped for as long as the application, made of atomics.
            unsafe { ring::table(page, 1) }.first()
        });
        let cores = cores.collect();
        // SAFETY: as above.
        let clock_page = unsafe { &ring::table(clock.start(), 1)[0] };
        let application = Self {
            info,
            memory: Memory::new()?,
            depot: Depot::default(),
            is_starving: AtomicBool::new(false),
            shortages: AtomicU64::new(0),
            is_at_limit: AtomicBool::new(false),
            contexts: Mutex::default(),
            growing: Mutex::default(),
            clock: clock_page,
            cores,
            _pages: [clock, status],
            channel,
        };
        application.extend_pool(info.pool_segments)?;
        application.memory.extend_maps(application.channel(), info.application, info.map_segments)?;
        Ok(Arc::new(application))
    }

    /// The channel given to `attach`.
    pub fn channel(&self) -> &dyn ControlChannel {
        &*self.channel
    }

    /// Application id.
    pub fn id(&self) -> u32 {
        self.info.application
    }

    /// The instance's IPv4 address (host order) and prefix length.
    pub fn ipv4(&self) -> (u32, u32) {
        (self.info.ipv4, self.info.prefix)
    }

    /// The instance's IPv6 address, four words in host order, most significant first, and prefix length; `None`: it has
    /// no IPv6.
    pub fn ipv6(&self) -> Option<([u32; 4], u32)> {
        (self.info.ipv6 != [0; 4]).then_some((self.info.ipv6, self.info.ipv6_prefix))
    }

    /// MTU of the instance, bytes.
    pub fn mtu_bytes(&self) -> u32 {
        self.info.mtu_bytes
    }

    /// Receive and transmit buffer of a flow, bytes.
    pub fn buffer_bytes(&self) -> (u32, u32) {
        (self.info.rx_buffer_bytes, self.info.tx_buffer_bytes)
    }

    /// Microseconds to poll without work before a thread sleeps.
    pub fn poll_interval_us(&self) -> u32 {
        self.info.poll_interval_us
    }

    /// Whether a fast path is attached at the moment.
    pub fn has_fastpath(&self) -> bool {
        self.clock.fastpath_epoch.load(Relaxed) & 1 == 0
    }

    /// Transmit chunks: all there are, and those that neither a connection nor a context holds.
    pub fn transmit_chunks(&self) -> (usize, usize) {
        let per_segment = abi::pool::SEGMENT_CHUNKS - abi::pool::SEGMENT_RECEIVE_CHUNKS;
        (self.memory.pool_segments() as usize * per_segment as usize, self.depot.len())
    }

    /// Status page of `core`.
    pub(super) fn core(&self, core: u32) -> Option<&CoreStatus> {
        self.cores.get(core as usize).copied()
    }

    /// After entries were pushed to `core`'s ring: wakes it if it sleeps.
    #[inline]
    pub(super) fn wake_core(&self, core: u32) {
        let Some(status) = self.cores.get(core as usize) else {
            return;
        };
        if WakeFlag::new(&status.waiting).is_armed() {
            // A core that cannot be woken is gone; its successor finds the entries.
            let _ = self.channel.wake_core(core);
        }
    }

    pub(super) fn register(&self, context: &Arc<Context>) {
        let mut contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        contexts.retain(|context| context.strong_count() > 0);
        contexts.push(Arc::downgrade(context));
    }

    fn contexts(&self) -> Vec<Arc<Context>> {
        let contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        contexts.iter().filter_map(Weak::upgrade).collect()
    }

    /// A writer found no chunk: grows the pool, or else collects what other contexts keep. The
    /// caller holds no context's lock.
    pub(super) fn relieve(&self) -> bool {
        let shortage = self.shortages.fetch_add(1, Relaxed);
        if (!self.is_at_limit.load(Relaxed) || shortage % ASK_AGAIN == 0) && self.grow_pool().is_ok() {
            return true;
        }
        for context in self.contexts() {
            context.flush_cache();
        }
        self.is_starving.store(true, SeqCst);
        self.depot.len() > 0
    }

    /// Chunks became free while somebody starves: tells all contexts.
    pub(super) fn end_starving(&self) {
        self.is_starving.store(false, SeqCst);
        for context in self.contexts() {
            context.wake();
        }
    }

    /// Whether the pool should grow before it is empty.
    #[inline]
    pub(super) fn is_pool_low(&self) -> bool {
        self.depot.is_low() && !self.is_at_limit.load(Relaxed)
    }

    /// Adds a segment to the pool, unless another thread just did.
    ///
    /// # Errors
    /// ENOBUFS at the tenant's limit; what mapping reports.
    pub(super) fn grow_pool(&self) -> io::Result<()> {
        let before = self.memory.pool_segments();
        let _growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.memory.pool_segments() != before {
            return Ok(());
        }
        let granted = self.grow(RegionKind::Pool);
        self.is_at_limit.store(granted.is_err(), Relaxed);
        self.extend_pool(granted?)
    }

    /// Adds a segment to the buffer maps: room for more flows.
    ///
    /// # Errors
    /// As [`Self::grow_pool`].
    pub(super) fn grow_maps(&self) -> io::Result<()> {
        let _growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let granted = self.grow(RegionKind::Maps)?;
        self.memory.extend_maps(self.channel(), self.info.application, granted)
    }

    fn grow(&self, kind: RegionKind) -> io::Result<u32> {
        let mut message = Message::with(Op::Grow, 0, &Grow { kind: kind as u32, ..Grow::default() });
        self.channel.call(Target::Instance, &mut message, None)?;
        Ok(message.get::<Grow>().segments)
    }

    fn extend_pool(&self, granted: u32) -> io::Result<()> {
        for segment in self.memory.extend_pool(self.channel(), self.info.application, granted)? {
            self.depot.add_segment(segment);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Application {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Application").field("id", &self.id()).finish_non_exhaustive()
    }
}
