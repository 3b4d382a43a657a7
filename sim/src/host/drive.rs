// SPDX-License-Identifier: MIT OR Apache-2.0
//! Driving a host by its wake-ups alone: a core sleeps when it may and runs again for a frame, a wake-up
//! or its deadline; the slow path's worker likewise; both can be made to stall. A wake-up that is lost
//! shows as a world that makes no progress.

use super::{Host, STEP_ROUNDS};
use crate::wire::{Frame, WirePort};
use daemon::Wake;
use fastpath::{Port, Steer};
use std::{io, sync::atomic::Ordering::Relaxed};

/// Longest sleep of a core, as the DPDK shell's.
const SLEEP_MAX_US: u64 = 10_000;
/// Longest time between two polls of a core that does not sleep.
const POLL_MAX_US: u64 = 500;

/// Who is kept from running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    /// A fast-path core (preempted): the number counts round.
    Core(usize),
    /// The slow path's worker (late). Control calls go on: they run in their caller.
    SlowPath,
}

/// A core.
#[derive(Debug, Clone, Default)]
struct Lane {
    asleep_since_us: Option<u64>,
    woken: bool,
    polled_us: u64,
    stalled_until_us: u64,
}

#[derive(Debug)]
pub(super) struct Drive {
    never_sleeps: bool,
    lanes: Vec<Lane>,
    slow_woken: bool,
    slow_deadline_us: Option<u64>,
    slow_stalled_until_us: u64,
    slow_lag_us: u64,
    /// When what woke the slow path is looked at.
    slow_due_us: Option<u64>,
    notices: bool,
    contexts: Vec<u32>,
    /// Times that the core polled and the slow path's worker ran.
    turns: u64,
}

impl Drive {
    pub(super) fn new(cores: usize) -> Self {
        Self {
            never_sleeps: false,
            lanes: vec![Lane::default(); cores],
            slow_woken: false,
            slow_deadline_us: None,
            slow_stalled_until_us: 0,
            slow_lag_us: 0,
            slow_due_us: None,
            notices: false,
            contexts: Vec::new(),
            turns: 0,
        }
    }

    pub(super) fn attached(&mut self) {
        for lane in &mut self.lanes {
            lane.asleep_since_us = None;
            lane.woken = true;
        }
        self.slow_woken = true;
        self.notices = true;
    }
}

impl<P: Port, S: Steer<P::Packet>> Host<P, S> {
    /// After a control call: timers may have changed.
    pub(super) fn slow_path_was_called(&mut self) {
        self.drive.slow_woken = true;
        self.take_wakes();
    }

    fn take_wakes(&mut self) {
        let mut instance = self.instance.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while let Some(wake) = instance.poll_wake() {
            match wake {
                Wake::Core(core) => {
                    if let Some(lane) = self.drive.lanes.get_mut(core as usize) {
                        lane.woken = true;
                    }
                }
                Wake::Context(id) => self.drive.contexts.push(id),
                Wake::Notice => self.drive.notices = true,
            }
        }
    }
}

impl<S: Steer<Frame>> Host<WirePort, S> {
    /// The cores poll without ever sleeping, as with `--fp-no-sleep`… or a busy host.
    pub fn never_sleep(&mut self) {
        self.drive.never_sleeps = true;
    }

    /// Keeps somebody from running until `until_us`.
    pub fn stall(&mut self, who: Stall, until_us: u64) {
        let entry = match who {
            Stall::Core(number) => {
                let lanes = &mut self.drive.lanes;
                let lane = number % lanes.len();
                &mut lanes[lane].stalled_until_us
            }
            Stall::SlowPath => &mut self.drive.slow_stalled_until_us,
        };
        *entry = (*entry).max(until_us);
    }

    /// From now on the slow path's worker runs so many microseconds after what woke it: a kernel that is slow.
    pub fn lag_slow_path(&mut self, us: u64) {
        self.drive.slow_lag_us = us;
    }

    /// Times that the core polled and the slow path's worker ran.
    pub fn turns(&self) -> u64 {
        self.drive.turns
    }

    /// Takes the contexts that were woken since the last call.
    pub fn take_woken_contexts(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.drive.contexts)
    }

    /// Applications of this host had their turn: they may have called the slow path or closed sockets.
    pub fn applications_ran(&mut self) {
        for channel in &self.channels {
            channel.release_closed();
        }
        self.slow_path_was_called();
    }

    /// Runs what is due now and not stalled.
    ///
    /// # Errors
    /// What carrying out a notice reports.
    pub fn run(&mut self) -> io::Result<()> {
        let now = self.now_us.load(Relaxed);
        for _ in 0..STEP_ROUNDS {
            self.take_wakes();
            if std::mem::take(&mut self.drive.notices) {
                self.carry_out_notices()?;
            }
            let mut worked = false;
            for core in 0..self.cores.len() {
                worked |= self.run_core(core, now);
            }
            if !self.run_slow_path(now) && !worked {
                break;
            }
        }
        Ok(())
    }

    /// When a core is to run, if nothing else wakes it.
    fn core_due_us(&self, number: usize) -> Option<u64> {
        let deadline = self.cores.get(number)?.next_deadline_us().unwrap_or(u64::MAX);
        let lane = &self.drive.lanes[number];
        let limit = match lane.asleep_since_us {
            Some(since) => since + SLEEP_MAX_US,
            None if self.drive.never_sleeps => lane.polled_us + POLL_MAX_US,
            // Awake with something it cannot do at the moment.
            None => lane.polled_us + 1,
        };
        Some(deadline.min(limit).max(lane.stalled_until_us))
    }

    fn run_core(&mut self, number: usize, now: u64) -> bool {
        let due = self.core_due_us(number).is_some_and(|due| due <= now);
        let drive = &mut self.drive;
        let (core, lane) = (&mut self.cores[number], &mut drive.lanes[number]);
        let called = lane.woken || !core.port_mut().is_idle();
        if now < lane.stalled_until_us || !(due || called) {
            return false;
        }
        lane.woken = false;
        if lane.asleep_since_us.take().is_some() {
            core.finish_sleep(now);
        }
        let work = core.poll(now);
        drive.turns += 1;
        lane.polled_us = now;
        core.drain_wakes(|context| drive.contexts.push(u32::from(context)));
        drive.slow_woken |= core.slow_path_needs_wake();
        if work.is_idle() && !drive.never_sleeps && core.prepare_sleep() {
            lane.asleep_since_us = Some(now);
        }
        !work.is_idle()
    }

    fn run_slow_path(&mut self, now: u64) -> bool {
        let due = self.drive.slow_deadline_us.is_some_and(|at| at <= now);
        if now < self.drive.slow_stalled_until_us || !(due || self.drive.slow_woken) {
            return false;
        }
        let lag_us = self.drive.slow_lag_us;
        if now < *self.drive.slow_due_us.get_or_insert(now + lag_us) {
            return false;
        }
        self.drive.slow_due_us = None;
        self.drive.slow_woken = false;
        self.drive.turns += 1;
        let instance = self.instance.clone();
        let mut instance = instance.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let flag = ring::WakeFlag::new(&instance.clock().slowpath_waiting);
        flag.disarm();
        let deadline = instance.run_once(now);
        let flag = ring::WakeFlag::new(&instance.clock().slowpath_waiting);
        flag.arm();
        self.drive.slow_deadline_us = deadline;
        let more = instance.has_input();
        self.drive.slow_woken = more;
        drop(instance);
        self.take_wakes();
        let woken = self.drive.lanes.iter().any(|lane| lane.woken);
        more || deadline.is_some_and(|at| at <= now) || woken || self.drive.notices
    }

    /// When [`Self::run`] is to be called again, if no frame arrives and no application runs.
    pub fn next_run_us(&self) -> u64 {
        let drive = &self.drive;
        let slow = if drive.slow_woken { Some(0) } else { drive.slow_deadline_us };
        let earliest = drive.slow_stalled_until_us.max(drive.slow_due_us.unwrap_or(0));
        let slow = slow.map(|at| at.max(earliest));
        let core = |(number, lane): (usize, &Lane)| {
            if lane.woken && number < self.cores.len() {
                return Some(lane.stalled_until_us);
            }
            self.core_due_us(number)
        };
        let cores = drive.lanes.iter().enumerate().filter_map(core);
        cores.chain(slow).min().unwrap_or(u64::MAX)
    }

    /// Polls the cores as often as it takes until nobody waits for them to have forgotten anything.
    pub fn spin(&mut self, polls: usize) {
        let now = self.now_us.load(Relaxed);
        for core in &mut self.cores {
            for _ in 0..polls {
                core.poll(now);
            }
        }
    }
}
