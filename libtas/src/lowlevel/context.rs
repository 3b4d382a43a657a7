// SPDX-License-Identifier: MIT OR Apache-2.0
//! A context: the rings between some threads of the application, the cores and the slow path, the
//! connections whose events come here, and the sleep and wake protocol.

use super::{
    application::Application,
    chunks::Cache,
    event::Event,
    flow::{Flow, Progress},
    lanes::Lanes,
    lock::{Guard, Lock},
    quarantine::Quarantine,
    table::Table,
};
use crate::{
    control::{explained, Mapping, Target},
    sys,
};
use abi::{
    context::{ContextHeader, ContextLayout, RING_HEADER_BYTES},
    event::{FlowEvent, EVENT_WORDS},
    limits::CORES_MAX,
    message::{self, Message, Op},
    region::{Region, RegionKind},
};
use ring::{Consumer, Producer};
use std::{
    collections::{HashMap, VecDeque},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{atomic::Ordering::*, Arc},
};

/// Idle connections are looked through when at least this part of all has settled since the last time.
const SETTLED_PART: usize = 16;

/// The rings between some threads of the application, the fast-path cores and the slow path.
pub struct Context {
    inner: Lock<Inner>,
    pub(super) header: &'static ContextHeader,
    eventfd: OwnedFd,
    id: u32,
    application: Arc<Application>,
    /// What the rings and `header` are in.
    _region: Mapping,
}

/// What the context's lock protects.
pub(super) struct Inner {
    pub(super) lanes: Lanes,
    pub(super) incoming: Vec<Consumer<'static, EVENT_WORDS>>,
    pub(super) kernel: Consumer<'static, EVENT_WORDS>,
    pub(super) table: Table,
    pub(super) cache: Cache,
    pub(super) quarantine: Quarantine,
    /// Flows with events in the last batch, or read since: what is read of them is announced by the next poll.
    pub(super) touched: Vec<u32>,
    /// Flows whose writer was at work when an acknowledgement came.
    pub(super) deferred: Vec<u32>,
    /// Flows whose writer found no chunk.
    pub(super) starved: Vec<u32>,
    /// Flows whose writer found the ring full.
    pub(super) crowded: Vec<u32>,
    /// Events made outside of poll.
    pub(super) backlog: VecDeque<Event>,
    /// Opens and accepts under way: events of flows not yet known are kept in `early`.
    pub(super) expecting: u32,
    pub(super) early: HashMap<u32, FlowEvent>,
    /// errno of flows not yet known that failed, with their tokens.
    pub(super) early_failures: HashMap<u32, (u64, i32)>,
    /// Threads between `prepare_wait` and `finish_wait`.
    pub(super) waiters: u32,
    /// The core whose ring is looked at first.
    pub(super) first_core: usize,
    /// Times since the last [`Self::reclaim_idle`] that a connection had all its data acknowledged,
    /// and may have kept a chunk.
    pub(super) settled: usize,
    /// Entries that made no sense.
    pub(super) refused: u64,
}

impl Context {
    /// Creates a context with an eventfd of its own.
    ///
    /// # Errors
    /// EMFILE, or what the control call reports (ENOBUFS: too many contexts).
    pub fn new(application: &Arc<Application>) -> io::Result<Arc<Self>> {
        let eventfd = sys::eventfd()?;
        let channel = application.channel();
        let mut message = Message::new(Op::CreateContext, 0);
        channel.call(Target::Instance, &mut message, Some(eventfd.as_fd()))?;
        let reply = message.get::<message::Context>();
        let region = map(application, &reply).inspect_err(|_| {
            let _ =
                channel.call(Target::Instance, &mut Message::new(Op::DestroyContext, reply.context), None);
        })?;
        // SAFETY: page-aligned, mapped for as long as the context, made of atomics.
        let header = unsafe { &ring::table(region.start(), 1)[0] };
        let inner = Inner::new(application, &region, &reply).ok_or_else(nonsense)?;
        let context = Arc::new(Self {
            inner: Lock::new(inner),
            header,
            eventfd,
            id: reply.context,
            application: application.clone(),
            _region: region,
        });
        application.register(&context);
        Ok(context)
    }

    /// Context id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The application it belongs to.
    pub fn application(&self) -> &Arc<Application> {
        &self.application
    }

    /// Readable after a wake-up. Never read it: [`Self::finish_wait`] does.
    pub fn eventfd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }

    /// Connections whose events come here, and ring entries that were refused as nonsense.
    pub fn statistics(&self) -> (usize, u64) {
        let inner = self.lock();
        (inner.table.len(), inner.refused)
    }

    #[inline]
    pub(super) fn lock(&self) -> Guard<'_, Inner> {
        self.inner.lock()
    }

    /// Wakes those of `cores` (one bit each) that sleep.
    #[inline]
    pub(super) fn wake_cores(&self, mut cores: u32) {
        while cores != 0 {
            self.application.wake_core(cores.trailing_zeros());
            cores &= cores - 1;
        }
    }

    /// `flow` is no longer ours.
    pub(super) fn leave(&self, flow: &Arc<Flow>) {
        self.lock().table.remove(flow);
    }

    /// Gives the chunks that are not in use to the depot, unless the context is in use at the moment.
    pub(super) fn flush_cache(&self) {
        if let Some(mut inner) = self.inner.try_lock() {
            inner.reclaim_idle(&self.application);
            inner.cache.flush(&self.application.depot);
        }
    }

    /// From now on, events of unknown flows are kept: one may be that of a connection being opened.
    pub(super) fn expect(&self) {
        self.lock().expecting += 1;
    }

    /// Ends [`Self::expect`] without a connection.
    pub(super) fn expect_no_more(&self) {
        self.lock().end_expectation();
    }

    /// Ends [`Self::expect`] with `flow`: its events come here.
    pub(super) fn adopt(&self, flow: &Arc<Flow>) {
        let mut inner = self.lock();
        let early = inner.early.remove(&flow.id);
        match inner.early_failures.remove(&flow.id) {
            Some((token, errno)) if token == flow.token => flow.fail(errno),
            _ => {}
        }
        // The list that it was in is another context's.
        flow.touched.store(false, SeqCst);
        inner.insert(flow, &self.application);
        inner.end_expectation();
        let mut event = Event::default();
        if early.is_some_and(|early| inner.early_event(early, &self.application, &mut event)) {
            inner.backlog.push_back(event);
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.flush_cache();
        let mut message = Message::new(Op::DestroyContext, self.id);
        // An error means that the slow path is gone, and the context with it.
        let _ = self.application.channel().call(Target::Instance, &mut message, None);
    }
}

impl Inner {
    fn new(application: &Application, region: &Mapping, reply: &message::Context) -> Option<Self> {
        let layout = layout(reply);
        // SAFETY: the rings live as long as the region, which the context holds; offsets are multiples of 8.
        let words = |offset: usize, entries: u32| unsafe {
            let count = RING_HEADER_BYTES / 8 + entries as usize * EVENT_WORDS;
            Some(ring::words(region.at(offset, count * 8)?, count))
        };
        let (entries, cores) = (reply.entries, 0..reply.cores);
        let producers = cores
            .clone()
            .map(|core| Producer::attach(words(layout.to_fast(core), entries)?, entries))
            .collect::<Option<_>>()?;
        let incoming = cores
            .map(|core| Consumer::attach(words(layout.to_application(core), entries)?, entries))
            .collect::<Option<_>>()?;
        let kernel =
            Consumer::attach(words(layout.from_kernel(), reply.kernel_entries)?, reply.kernel_entries)?;
        Some(Self {
            lanes: Lanes::new(producers),
            incoming,
            kernel,
            table: Table::new(application.info.flows),
            cache: Cache::new(),
            quarantine: Quarantine::default(),
            touched: Vec::new(),
            deferred: Vec::new(),
            starved: Vec::new(),
            crowded: Vec::new(),
            backlog: VecDeque::new(),
            expecting: 0,
            early: HashMap::new(),
            early_failures: HashMap::new(),
            waiters: 0,
            first_core: 0,
            settled: 0,
            refused: 0,
        })
    }

    /// Whether a writer would find a chunk.
    pub(super) fn has_chunks(&self, application: &Application) -> bool {
        self.cache.len() + application.depot.len() > 0
    }

    fn end_expectation(&mut self) {
        self.expecting = self.expecting.saturating_sub(1);
        if self.expecting == 0 {
            self.early.clear();
            self.early_failures.clear();
        }
    }

    fn insert(&mut self, flow: &Arc<Flow>, application: &Application) {
        if let Ok(Some(old)) = self.table.insert(flow.clone()) {
            // Its slot was given to another connection, so it ended; we were not told why.
            old.fail(libc::ECONNRESET);
            self.abandon(&old, application);
            self.backlog.push_back(Event::failed(old.token, libc::ECONNRESET));
        }
    }

    /// Takes the chunks of a connection that the fast path may still be looking at.
    pub(super) fn abandon(&mut self, flow: &Flow, application: &Application) {
        // A writer at work sees that it failed; then `close` takes the chunks.
        if let Some(mut transmit) = flow.transmit.try_lock() {
            transmit.keep_alive = None;
            self.quarantine.add(flow, &mut transmit, application);
        }
    }

    /// Announces what was read of the flows in the last batch.
    #[inline]
    pub(super) fn announce_touched(&mut self) {
        while let Some(id) = self.touched.pop() {
            let Some(flow) = self.table.get(id) else {
                continue;
            };
            // Pairs with `Readable::consume`: a reader that still saw true stored its position before.
            flow.touched.store(false, SeqCst);
            if flow.rcv_read.load(SeqCst) != flow.told_read.load(Relaxed) {
                self.lanes.announce(flow);
            }
        }
    }

    /// What an acknowledgement may leave to be done; see [`Flow::acknowledged`]. True: the writer
    /// is to be told of room.
    #[cold]
    pub(super) fn acknowledged(&mut self, id: u32, application: &Application) -> bool {
        let Some(flow) = self.table.get(id) else {
            return false;
        };
        match flow.acknowledged(&mut self.cache, &application.depot) {
            Progress::Quiet => false,
            Progress::Writable => true,
            Progress::Busy => {
                self.deferred.push(id);
                false
            }
            Progress::Over => {
                let flow = flow.clone();
                self.table.remove(&flow);
                false
            }
        }
    }

    /// Takes the chunks that idle connections kept for their next write. It looks at all
    /// connections, which those pay for that settled since the last time.
    #[cold]
    pub(super) fn reclaim_idle(&mut self, application: &Application) {
        if self.settled < self.table.len() / SETTLED_PART {
            return;
        }
        self.settled = 0;
        for flow in self.table.iter() {
            if let Some(mut transmit) = flow.transmit.try_lock() {
                let (una, end) = (flow.snd_una.load(Relaxed), flow.snd_end.load(Relaxed));
                transmit.map.release_idle(flow.record, una, end, &mut |chunk| {
                    self.cache.give(chunk, &application.depot)
                });
            }
        }
    }
}

fn layout(reply: &message::Context) -> ContextLayout {
    ContextLayout { cores: reply.cores, entries: reply.entries, kernel_entries: reply.kernel_entries }
}

fn map(application: &Application, reply: &message::Context) -> io::Result<Mapping> {
    let sane = |entries: u32| entries.is_power_of_two() && entries <= 1 << 20;
    let valid = reply.cores == application.info.cores && reply.cores <= CORES_MAX;
    if !valid
        || !sane(reply.entries)
        || !sane(reply.kernel_entries)
        || reply.bytes != layout(reply).bytes() as u64
    {
        return Err(nonsense());
    }
    let region = Region::whole(RegionKind::Context, reply.context);
    application.channel().map(region, reply.bytes as usize, true, None)
}

fn nonsense() -> io::Error {
    explained(libc::EPROTO, "the slow path described a context that cannot be")
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("id", &self.id).finish_non_exhaustive()
    }
}
