// SPDX-License-Identifier: GPL-2.0-only
//! Wait queue. Unlike the kernel crate's `PollCondVar` its drop does not wait for an RCU grace period
//! (12 ms for every close): whoever waits on it holds the file that owns it, and epoll leaves
//! before the file's release.

use kernel::{bindings, ffi, fs::File, prelude::*, types::Opaque};

/// A wait queue head.
#[pin_data]
pub(crate) struct WaitQueue {
    #[pin]
    head: Opaque<bindings::wait_queue_head>,
}

// SAFETY: locks itself.
unsafe impl Send for WaitQueue {}
// SAFETY: as above.
unsafe impl Sync for WaitQueue {}

/// Why [`WaitQueue::wait`] returned.
#[derive(PartialEq, Eq)]
pub(crate) enum Woken {
    /// The condition holds.
    Ready,
    /// The time is up.
    Timeout,
    /// A fatal signal is pending.
    Killed,
}

/// How a wait sleeps.
#[derive(Clone, Copy)]
pub(crate) enum Sleep {
    /// A process in a call: ended by a fatal signal.
    Killable,
    /// A kernel thread with nothing to do: not counted as load.
    Idle,
}

impl WaitQueue {
    pub(crate) fn new() -> impl PinInit<Self> {
        let key = kernel::static_lock_class!();
        pin_init!(Self {
            head <- Opaque::ffi_init(move |slot: *mut bindings::wait_queue_head| {
                // SAFETY: `slot` stays pinned; name and key are 'static.
                unsafe { bindings::__init_waitqueue_head(slot, c"tas".as_ptr().cast(), key.as_ptr()) }
            }),
        })
    }

    /// Wakes everybody; `events` is what pollers are told.
    pub(crate) fn wake(&self, events: u32) {
        // SAFETY: initialised; the key is passed through as a number.
        unsafe {
            bindings::__wake_up(self.head.get(), bindings::TASK_NORMAL, 0, events as usize as *mut ffi::c_void);
        }
    }

    /// Registers a poller.
    ///
    /// # Safety
    /// Called from the poll operation of `file`, whose private data keeps `self` alive.
    pub(crate) unsafe fn register(&self, file: &File, table: *mut bindings::poll_table) {
        // SAFETY: the caller's contract.
        unsafe { bindings::poll_wait(file.as_ptr(), self.head.get(), table) }
    }

    /// Sleeps until `ready` says true, or for `timeout_ns`. `ready` must not sleep.
    pub(crate) fn wait(&self, sleep: Sleep, timeout_ns: Option<u64>, mut ready: impl FnMut() -> bool) -> Woken {
        let state = match sleep {
            Sleep::Killable => bindings::TASK_KILLABLE,
            Sleep::Idle => bindings::TASK_IDLE,
        };
        let mut left = timeout_ns.map(|ns| i64::try_from(ns).unwrap_or(i64::MAX));
        // SAFETY: the entry lives on this stack until `finish_wait`; the state is set by
        // `prepare_to_wait_event` and reset by it.
        unsafe {
            let mut entry: bindings::wait_queue_entry = core::mem::zeroed();
            bindings::init_wait_entry(&mut entry, 0);
            let woken = loop {
                let signal = bindings::prepare_to_wait_event(self.head.get(), &mut entry, state as ffi::c_int);
                if ready() {
                    break Woken::Ready;
                }
                if signal != 0 {
                    break Woken::Killed;
                }
                match left.as_mut() {
                    None => bindings::schedule(),
                    Some(ns) => {
                        // Whether time is up or somebody woke us: callers compute the next
                        // duration afresh.
                        let mode = bindings::hrtimer_mode_HRTIMER_MODE_REL;
                        bindings::schedule_hrtimeout_range(ns, TIMER_SLACK_NS, mode);
                        break if ready() { Woken::Ready } else { Woken::Timeout };
                    }
                }
            };
            bindings::finish_wait(self.head.get(), &mut entry);
            woken
        }
    }
}

/// How late a timed sleep may end, so that the kernel can join it with others. TCP timers
/// are milliseconds.
const TIMER_SLACK_NS: u64 = 50_000;
