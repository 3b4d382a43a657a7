// SPDX-License-Identifier: GPL-2.0-only
//! A named instance: one fast path and its applications, the memory they share, the slow path.

use crate::{
    clock::Clock,
    state::State,
    tables::Tables,
    wait::{Sleep, WaitQueue, Woken},
    wakers::Wakers,
    worker::Worker,
};
use abi::limits::{CONTEXTS_MAX, CORES_MAX};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kernel::{bindings, error::code::*, new_mutex, prelude::*, sync::{Arc, Mutex, MutexGuard}};
use slowpath::Config;

/// See the module.
#[pin_data]
pub(crate) struct Instance {
    pub(crate) name: [u8; 16],
    /// Local address, host order.
    pub(crate) ipv4: u32,
    /// Local IPv6 address, or zero.
    pub(crate) ipv6: [u32; 4],
    pub(crate) clock: Clock,
    /// What keeps the instance: its fast path's file and its applications' files. Changed under the
    /// registry's lock.
    pub(crate) users: AtomicU64,
    /// The last user is gone; control clients and stray sockets find an empty house.
    pub(crate) dead: AtomicBool,
    /// Keys of the flow hash, drawn once.
    pub(crate) hash_key: [u64; 2],
    /// A notice may wait for the fast path.
    notice_waits: AtomicBool,
    /// Counts answers to notices; who waits for one looks again when it changed.
    answers: AtomicU64,
    #[pin]
    answered: WaitQueue,
    /// What the worker sleeps on, until when, and whether it was called.
    #[pin]
    pub(crate) bell: WaitQueue,
    pub(crate) called: AtomicBool,
    pub(crate) sleeps_until_us: AtomicU64,
    #[pin]
    pub(crate) core_wakers: Wakers,
    #[pin]
    pub(crate) context_wakers: Wakers,
    #[pin]
    worker: Mutex<Option<Worker>>,
    #[pin]
    state: Mutex<KBox<State>>,
    /// After `state`, which points into it.
    pub(crate) tables: Tables,
}

impl Instance {
    /// An instance without a fast path, its worker running. ENOMEM; EINTR when killed meanwhile.
    pub(crate) fn new(config: &Config, hash_key: [u64; 2]) -> Result<Arc<Self>> {
        let clock = Clock::new()?;
        let tables = Tables::new(config)?;
        clock.publish(tables.clock_page()?);
        let now_us = clock.now_us();
        let state = State::new(config, &tables, now_us)?;
        let instance = Arc::pin_init(
            try_pin_init!(Self {
                name: config.instance,
                ipv4: config.ipv4,
                ipv6: config.ipv6,
                clock,
                users: AtomicU64::new(0),
                dead: AtomicBool::new(false),
                hash_key,
                notice_waits: AtomicBool::new(false),
                answers: AtomicU64::new(0),
                answered <- WaitQueue::new(),
                bell <- WaitQueue::new(),
                called: AtomicBool::new(false),
                sleeps_until_us: AtomicU64::new(0),
                core_wakers <- Wakers::new(CORES_MAX),
                context_wakers <- Wakers::new(CONTEXTS_MAX),
                worker <- new_mutex!(None, "tas::worker"),
                state <- new_mutex!(state, "tas::state"),
                tables,
            }),
            GFP_KERNEL,
        )?;
        let worker = Worker::spawn(instance.clone())?;
        *instance.worker.lock() = Some(worker);
        instance.publish_epoch(0, false);
        Ok(instance)
    }

    /// The instance's lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, KBox<State>> {
        self.state.lock()
    }

    /// Wakes the worker.
    pub(crate) fn call_worker(&self) {
        self.called.store(true, Ordering::Release);
        self.bell.wake(0);
    }

    /// A notice is there for the fast path.
    pub(crate) fn announce(&self, state: &State) {
        self.notice_waits.store(true, Ordering::Release);
        if let Some(fast) = &state.fast {
            fast.pollers.wake(bindings::POLLIN | bindings::POLLRDNORM);
        }
    }

    /// True if the fast path has a notice to take.
    pub(crate) fn has_notice(&self) -> bool {
        if !self.notice_waits.swap(false, Ordering::AcqRel) {
            return false; // the usual case, without the lock
        }
        let waits = self.lock().has_notice();
        if waits {
            self.notice_waits.store(true, Ordering::Release);
        }
        waits
    }

    /// A notice was answered, or nobody will.
    pub(crate) fn notices_answered(&self) {
        self.answers.fetch_add(1, Ordering::Release);
        self.answered.wake(0);
    }

    /// Waits until `settled` says so of the state, which changes with answers to notices. EINTR
    /// when the caller was killed.
    pub(crate) fn wait_for_fast_path(&self, mut settled: impl FnMut(&mut State) -> bool) -> Result {
        loop {
            let seen = self.answers.load(Ordering::Acquire);
            if settled(&mut self.lock()) {
                return Ok(());
            }
            let changed = || self.answers.load(Ordering::Acquire) != seen;
            if self.answered.wait(Sleep::Killable, None, changed) == Woken::Killed {
                return Err(EINTR);
            }
        }
    }

    /// Publishes the number of attachments, odd while no fast path is attached.
    pub(crate) fn publish_epoch(&self, epoch: u32, attached: bool) {
        if let Ok(page) = self.tables.clock_page() {
            page.fastpath_epoch.store(epoch.wrapping_mul(2) | u32::from(!attached), Ordering::Release);
        }
    }

    /// Ends it: the last user is gone.
    pub(crate) fn shut_down(&self) {
        let worker = self.worker.lock().take();
        drop(worker); // stops the thread; needs the lock of the state meanwhile
        self.dead.store(true, Ordering::Release);
        self.core_wakers.clear();
        self.context_wakers.clear();
        self.notices_answered();
    }
}
