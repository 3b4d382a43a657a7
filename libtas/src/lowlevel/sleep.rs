// SPDX-License-Identifier: MIT OR Apache-2.0
//! A context's sleep and wake protocol (see `ring::WakeFlag`), for several threads at once.

use super::{
    application::Application,
    context::{Context, Inner},
};
use crate::sys;
use ring::{Consumer, WakeFlag};
use std::{io, os::fd::AsRawFd};

impl Context {
    /// Before sleeping: asks for a wake-up and looks at the rings once more. True: sleep on
    /// [`Self::eventfd`] (poll or epoll for reading), then call [`Self::finish_wait`]. False:
    /// there is something to poll, do not call it. Several threads may wait at once: a wake-up wakes
    /// them all, and the eventfd stays readable until the last one left.
    pub fn prepare_wait(&self) -> bool {
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.announce_touched();
        inner.lanes.retry(&mut inner.deferred);
        let pushed = inner.lanes.take_pushed();
        WakeFlag::new(&self.header.waiting).arm();
        let sleep = !inner.has_work(self.application());
        if sleep {
            inner.waiters += 1;
        } else if inner.waiters == 0 {
            WakeFlag::new(&self.header.waiting).disarm();
        }
        drop(guard);
        self.wake_cores(pushed);
        sleep
    }

    /// After [`Self::prepare_wait`] returned true, whatever ended the sleep.
    pub fn finish_wait(&self) {
        let mut inner = self.lock();
        inner.waiters = inner.waiters.saturating_sub(1);
        if inner.waiters == 0 {
            WakeFlag::new(&self.header.waiting).disarm();
            sys::eventfd_drain(self.eventfd());
        }
    }

    /// Wakes all waiting threads, as an event would.
    pub fn wake(&self) {
        // It cannot fail: the eventfd is ours and a full counter counts as success.
        let _ = sys::eventfd_signal(self.eventfd());
    }

    /// Sleeps until there is something to poll, or for `timeout_ms` (None: no limit).
    ///
    /// # Errors
    /// EINTR.
    pub fn wait(&self, timeout_ms: Option<u32>) -> io::Result<()> {
        if !self.prepare_wait() {
            return Ok(());
        }
        let mut entries = [libc::pollfd { fd: self.eventfd().as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        let slept = sys::ppoll(&mut entries, timeout_ms);
        self.finish_wait();
        slept.map(drop)
    }
}

impl Inner {
    /// Whether a poll would find something. With no fast path, full rings are not worked on.
    fn has_work(&self, application: &Application) -> bool {
        !self.backlog.is_empty()
            || !self.deferred.is_empty()
            || (!self.starved.is_empty() && self.has_chunks(application))
            || ((self.lanes.is_blocked() || !self.crowded.is_empty()) && application.has_fastpath())
            || self.kernel.is_ready()
            || self.incoming.iter().any(Consumer::is_ready)
    }
}
