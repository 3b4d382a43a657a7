// SPDX-License-Identifier: MIT OR Apache-2.0
//! The core's status page: loops, run time, counters.

use crate::word::Word;
use abi::core_status::{CoreStatus, Counter};
use ring::WakeFlag;

/// A longer gap between two polls means that the core did not run; it does not count as run time,
/// so that the slow path's retransmission timeouts do not run in it either.
const GAP_MAX_US: u64 = 1000;

/// Writer of the page.
pub(crate) struct Status<'m> {
    page: &'m CoreStatus,
    last_us: u64,
    run_us: u64,
    loops: u64,
}

impl<'m> Status<'m> {
    /// Goes on where an earlier process stopped.
    pub(crate) fn new(page: &'m CoreStatus, now_us: u64) -> Self {
        page.waiting.set(0);
        page.now_us.set(now_us);
        page.running.set(1);
        Self { page, last_us: now_us, run_us: page.run_us.get(), loops: page.loops.get() }
    }

    /// A poll begins.
    #[inline]
    pub(crate) fn begin(&mut self, now_us: u64) {
        let gap = now_us.wrapping_sub(self.last_us);
        if gap <= GAP_MAX_US {
            self.run_us += gap;
            self.page.run_us.set(self.run_us);
        }
        self.last_us = now_us;
        self.page.now_us.set(now_us);
        self.loops += 1;
        self.page.loops.set(self.loops);
    }

    /// The core slept by its own will until now.
    pub(crate) fn slept(&mut self, now_us: u64) {
        self.run_us += now_us.saturating_sub(self.last_us);
        self.page.run_us.set(self.run_us);
        self.last_us = self.last_us.max(now_us);
        self.page.now_us.set(self.last_us);
        self.loops += 1;
        self.page.loops.set(self.loops);
    }

    /// Adds to a counter.
    #[inline(always)]
    pub(crate) fn add(&self, counter: Counter, amount: u64) {
        if let Some(word) = self.page.counters.get(counter as usize) {
            word.set(word.get().wrapping_add(amount));
        }
    }

    /// Adds one.
    #[inline(always)]
    pub(crate) fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// The flag that asks for wake-ups.
    pub(crate) fn wake_flag(&self) -> WakeFlag<'m> {
        WakeFlag::new(&self.page.waiting)
    }

    /// The core ends.
    pub(crate) fn stop(&self) {
        self.page.running.set(0);
    }
}
