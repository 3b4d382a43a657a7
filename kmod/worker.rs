// SPDX-License-Identifier: GPL-2.0-only
//! The worker thread of an instance: packets and reports from the fast path, timers. It sleeps when
//! there is nothing to do.

use crate::{cores::Received, instance::Instance, shim, state::State, wait::Sleep};
use core::{ptr::NonNull, sync::atomic::Ordering};
use kernel::{bindings, error::{code::*, from_err_ptr}, ffi, prelude::*, sync::Arc};

/// Entries taken from a core under one hold of the lock, so that control calls wait at most for
/// that many packets.
const BATCH: usize = 64;

/// What a turn came to.
enum Turn {
    /// There is more.
    Again,
    /// Nothing to do before this time (`u64::MAX`: until called).
    Sleep(u64),
}

/// A running worker; dropping it stops and waits for the thread.
pub(crate) struct Worker {
    task: NonNull<bindings::task_struct>,
    instance: *const Instance,
}

// SAFETY: a task may be stopped from any other.
unsafe impl Send for Worker {}
// SAFETY: no `&self` methods.
unsafe impl Sync for Worker {}

impl Worker {
    /// Starts the thread; it keeps a reference to the instance. ENOMEM, EINTR.
    pub(crate) fn spawn(instance: Arc<Instance>) -> Result<Self> {
        let name = instance.name;
        let instance = Arc::into_raw(instance);
        // SAFETY: `body` gets a pointer that stays valid until the thread was stopped; the format
        // takes a length and a string.
        let task = from_err_ptr(unsafe {
            bindings::kthread_create_on_node(
                Some(body),
                instance.cast_mut().cast(),
                -1,
                c"tas/%.10s".as_ptr().cast(),
                name.as_ptr(),
            )
        });
        match task {
            Ok(task) => {
                // SAFETY: a new task; the reference keeps it valid for `kthread_stop`.
                unsafe {
                    bindings::get_task_struct(task);
                    bindings::wake_up_process(task);
                }
                Ok(Self { task: NonNull::new(task).ok_or(ENOMEM)?, instance })
            }
            Err(error) => {
                // SAFETY: from `into_raw` above.
                drop(unsafe { Arc::from_raw(instance) });
                Err(error)
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // SAFETY: we hold a reference to the task, and the thread's to the instance.
        unsafe {
            bindings::kthread_stop(self.task.as_ptr());
            bindings::put_task_struct(self.task.as_ptr());
            drop(Arc::from_raw(self.instance));
        }
    }
}

unsafe extern "C" fn body(argument: *mut ffi::c_void) -> ffi::c_int {
    // SAFETY: kept alive until `kthread_stop` has returned.
    let instance = unsafe { &*argument.cast::<Instance>() };
    while !should_stop() {
        match instance.turn() {
            // SAFETY: no lock is held.
            Turn::Again => unsafe { shim::tas_shim_cond_resched() },
            Turn::Sleep(until_us) => instance.sleep(until_us),
        }
    }
    0
}

fn should_stop() -> bool {
    // SAFETY: called by a kernel thread.
    unsafe { bindings::kthread_should_stop() }
}

impl Instance {
    /// One bounded batch of work.
    fn turn(&self) -> Turn {
        let mut state = self.lock();
        self.sleeps_until_us.store(0, Ordering::Relaxed);
        let now_us = state.now_us(&self.clock);
        let mut more = false;
        for core in 0..state.cores.len() {
            more |= self.receive(&mut state, core, now_us);
        }
        state.stack.handle_timer(now_us);
        more |= self.carry_out(&mut state);
        if more {
            return Turn::Again;
        }
        let until_us = state.stack.next_deadline().unwrap_or(u64::MAX);
        if until_us <= now_us {
            return Turn::Again;
        }
        self.sleeps_until_us.store(until_us, Ordering::Relaxed);
        Turn::Sleep(until_us)
    }

    /// Takes a batch from one core; true if there is more.
    fn receive(&self, state: &mut State, core: usize, now_us: u64) -> bool {
        let id = core as u32;
        for _ in 0..BATCH {
            let State { cores, in_frame, stack, .. } = &mut *state;
            let Some(rings) = cores.get_mut(core) else { return false };
            match rings.receive(in_frame) {
                None => break,
                Some(Received::Report(entry)) => stack.handle_report(now_us, id, entry),
                Some(Received::Frame { bytes, reason }) => {
                    if let Some(frame) = in_frame.get_mut(..bytes) {
                        stack.handle_packet(now_us, id, reason, frame);
                    }
                }
            }
            // The stack's queues are short: empty them as they fill.
            self.carry_out(state);
        }
        let Some(rings) = state.cores.get_mut(core) else { return false };
        rings.commit();
        rings.has_input()
    }

    /// Sleeps until `until_us`, or until the fast path or a control call needs the worker.
    fn sleep(&self, until_us: u64) {
        let Ok(page) = self.tables.clock_page() else { return };
        let flag = ring::WakeFlag::new(&page.slowpath_waiting);
        flag.arm();
        // Look again: an entry may have come before the flag was seen.
        if !self.lock().cores.iter().any(|rings| rings.has_input()) {
            let timeout_ns = match until_us {
                u64::MAX => None,
                _ => Some(until_us.saturating_sub(self.clock.now_us()).saturating_mul(1000)),
            };
            self.bell.wait(Sleep::Idle, timeout_ns, || should_stop() || self.called.swap(false, Ordering::AcqRel));
        }
        flag.disarm();
    }
}
