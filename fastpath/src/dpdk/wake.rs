// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sleeping and waking of a core.
//!
//! A core that is about to sleep arms its wake flag and looks at every ring again (the library
//! does that), arms the port's interrupt and looks at the port again, and only then waits. What
//! arrives after either look finds the flag or the interrupt armed.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::AtomicU32;
use std::sync::Arc;

use anyhow::{Context, Result};
use dpdk_sys::{rte_eth_dev_rx_intr_disable, rte_eth_dev_rx_intr_enable};
use nix::poll::{ppoll, PollFd, PollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::{TimeSpec, TimeValLike};
use ring::WakeFlag;

use super::device::Device;

/// Longest sleep, microseconds: the slow path counts a flow's time-out in time in which its core
/// ran or chose to sleep, which the core publishes when it wakes.
const SLEEP_MAX_US: u64 = 10_000;
/// First and longest sleep of a core whose port has no interrupt, microseconds.
const TIMED_SLEEP_US: std::ops::RangeInclusive<u64> = 50..=1000;

/// What wakes one core.
pub(super) struct CoreWake {
    event: Arc<EventFd>,
    waiting: &'static AtomicU32,
}

impl CoreWake {
    /// For a core with this flag (its status page's).
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn new(waiting: &'static AtomicU32) -> Result<Self> {
        let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        Ok(Self { event: Arc::new(event.context("eventfd")?), waiting })
    }

    /// The descriptor, for the slow path and the applications.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// After something was queued for the core: wakes it if it sleeps.
    #[inline]
    pub(super) fn after_push(&self) {
        if WakeFlag::new(self.waiting).take() {
            self.signal();
        }
    }

    /// Wakes the core, whatever it does.
    pub(super) fn signal(&self) {
        // Fails only if 2^64 - 1 wake-ups are pending: the core wakes then too.
        let _ = self.event.write(1);
    }

    /// The core's own end.
    pub(super) fn sleeper(&self, interrupt: Option<RxInterrupt>) -> Sleeper {
        Sleeper { event: Arc::clone(&self.event), interrupt, timed_us: *TIMED_SLEEP_US.start() }
    }
}

/// The receive interrupt of one queue.
pub(super) struct RxInterrupt {
    port: u16,
    queue: u16,
    /// Ours to poll; the driver's to close.
    fd: i32,
    /// An eventfd, to be emptied; otherwise the descriptor is readable while packets wait.
    counts: bool,
}

impl RxInterrupt {
    /// The interrupt of `queue`, if the port has one that works.
    pub(super) fn of(device: &Device, queue: u16) -> Option<Self> {
        let fd = device.interrupt_fd(queue)?;
        let target = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
        let interrupt =
            Self { port: device.port, queue, fd, counts: target.to_string_lossy().contains("[eventfd]") };
        let works = interrupt.enable();
        interrupt.disable();
        works.then_some(interrupt)
    }

    fn enable(&self) -> bool {
        // SAFETY: a started port's queue; only its own core calls this.
        let code = unsafe { rte_eth_dev_rx_intr_enable(self.port, self.queue) };
        // net_tap has nothing to enable: its descriptor is the tap's.
        code >= 0 || code == -libc::ENOTSUP && !self.counts
    }

    fn disable(&self) {
        // SAFETY: as above.
        unsafe { rte_eth_dev_rx_intr_disable(self.port, self.queue) };
    }

    fn borrow(&self) -> BorrowedFd<'_> {
        // SAFETY: the driver keeps the descriptor open until the device is closed, after its cores ended.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }

    fn empty(&self) {
        if self.counts {
            drain(self.borrow());
        }
    }
}

/// Reads an eventfd's count away, if it has one.
fn drain(fd: BorrowedFd<'_>) {
    let ready = ppoll(&mut [PollFd::new(fd, PollFlags::POLLIN)], Some(TimeSpec::nanoseconds(0)), None);
    if ready == Ok(1) {
        let _ = nix::unistd::read(fd, &mut [0u8; 8]);
    }
}

/// Puts one core to sleep.
pub(super) struct Sleeper {
    event: Arc<EventFd>,
    interrupt: Option<RxInterrupt>,
    timed_us: u64,
}

impl Sleeper {
    /// Arms the port's interrupt. Look at the port again after this.
    pub(super) fn arm(&self) {
        if let Some(interrupt) = &self.interrupt {
            interrupt.enable();
        }
    }

    /// Disarms it.
    pub(super) fn disarm(&self) {
        if let Some(interrupt) = &self.interrupt {
            interrupt.disable();
            interrupt.empty();
        }
        drain(self.event.as_fd());
    }

    /// Work was found: the next timed sleep is a short one again.
    #[inline]
    pub(super) fn busy(&mut self) {
        self.timed_us = *TIMED_SLEEP_US.start();
    }

    /// Sleeps until the port, another thread or an application wakes the core, or `timeout_us`
    /// have passed; shorter where the port cannot wake it. The longest it meant to sleep.
    pub(super) fn sleep(&mut self, timeout_us: Option<u64>) -> u64 {
        let mut limit = timeout_us.unwrap_or(SLEEP_MAX_US).min(SLEEP_MAX_US);
        if self.interrupt.is_none() {
            limit = limit.min(self.timed_us);
            self.timed_us = (self.timed_us * 2).min(*TIMED_SLEEP_US.end());
        }
        let timeout = TimeSpec::microseconds(limit as i64);
        let event = PollFd::new(self.event.as_fd(), PollFlags::POLLIN);
        // An interrupted or failed wait is a short sleep: the loop looks at everything anyway.
        let _ = match &self.interrupt {
            Some(interrupt) => {
                ppoll(&mut [event, PollFd::new(interrupt.borrow(), PollFlags::POLLIN)], Some(timeout), None)
            }
            None => ppoll(&mut [event], Some(timeout), None),
        };
        limit
    }
}
