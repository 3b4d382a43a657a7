// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! When a flow is sampled: from the moment the fast path says it is active until nothing is left
//! to send or to be acknowledged. Idle flows cost nothing.

use crate::{
    connection::{flag, pending},
    stack::Stack,
    tcp::state::State,
    timers::Timer,
};
use core::sync::atomic::Ordering::Relaxed;

/// Shortest control interval, microseconds.
const INTERVAL_MIN_US: u64 = 250;
/// Longest, so that a close or a stop is noticed.
const INTERVAL_MAX_US: u64 = 1_000_000;
/// What a sample may take of the slow path's time: with n flows sampled, the interval is at least
/// n times this, microseconds (a sample costs a tenth of it).
const SAMPLE_SHARE_US: u64 = 2;
/// Samples without progress by which the interval doubles at most.
const QUIET_SHIFT_MAX: u32 = 10;

impl Stack<'_> {
    /// Microseconds the core that owns a flow has run; `None` if there is no such core.
    pub(crate) fn run_us(&self, flow: u32) -> Option<u64> {
        let core = self.connections.at(flow).core;
        let status = (*self.cores.get(core as usize)?)?;
        Some(status.run_us.load(Relaxed))
    }

    /// The fast path has something to send or to be acknowledged on `flow`.
    pub(crate) fn start_sampling(&mut self, flow: u32) {
        let connection = self.connections.at(flow);
        let skip = connection.is(flag::SAMPLED) || connection.state == State::Closed;
        if !self.is_installed(flow) || self.is_removing(flow) || skip {
            if connection.is(flag::SAMPLED) {
                // The core wants to be looked at: it undid a recovery.
                self.set_timer(Timer::Sample(flow), 0);
            }
            return;
        }
        let run_us = self.run_us(flow).unwrap_or(0);
        let now_us = self.now_us;
        let Some(hot) = self.hot(flow) else { return };
        let (acked, ecn) = (hot.acked_bytes.load(Relaxed), hot.ecn_bytes.load(Relaxed));
        let counts = hot.loss_counts.load(Relaxed);
        let (losses, undone) = (counts as u16, (counts >> 24) as u8);
        let rtt_count = (hot.rtt_sample.load(Relaxed) >> 24) as u8;
        let (snd_una, ts_recent) = (hot.snd_una.load(Relaxed), hot.ts_recent.load(Relaxed));
        let connection = self.connections.at_mut(flow);
        connection.set(flag::SAMPLED | flag::WAS_OUTSTANDING, true);
        // An interrupted IDLE would stop what has just begun.
        connection.pending &= !pending::IDLE;
        let first = connection.sampling.at_us == 0;
        let sampling = &mut connection.sampling;
        let idle_us = now_us.saturating_sub(sampling.at_us);
        sampling.at_us = now_us.max(1);
        sampling.timer_run_us = run_us;
        sampling.progress_run_us = run_us;
        sampling.quiet_samples = 0;
        sampling.probes = 0;
        sampling.tail_probed = false;
        sampling.snd_una = snd_una;
        sampling.ts_recent = ts_recent;
        if !first {
            // What was acknowledged between two busy times belongs to neither.
            sampling.acked_bytes = acked;
            sampling.ecn_bytes = ecn;
            sampling.fast_retransmits = losses;
            sampling.undone_timeouts = undone;
            sampling.rtt_count = rtt_count;
        }
        connection.backoff = 0;
        if !first && idle_us > self.retransmission_timeout(flow) {
            // RFC 5681 §4.1. The first burst after the pause has left with the old window.
            let parameters = self.parameters(flow);
            let connection = self.connections.at_mut(flow);
            connection.controller.on_idle(&parameters);
            self.apply_allowance(flow);
        }
        self.sampled = self.sampled.saturating_add(1);
        self.schedule_sample(flow);
    }

    /// Ends sampling without telling the fast path.
    pub(crate) fn stop_sampling(&mut self, flow: u32) {
        self.cancel_timer(Timer::Sample(flow));
        let connection = self.connections.at_mut(flow);
        if connection.is(flag::SAMPLED) {
            connection.set(flag::SAMPLED, false);
            self.sampled = self.sampled.saturating_sub(1);
        }
    }

    /// Ends sampling: nothing is outstanding.
    pub(crate) fn go_idle(&mut self, flow: u32) {
        self.stop_sampling(flow);
        self.command(flow, pending::IDLE);
    }

    /// Sets the timer for the next sample: some RTTs, longer while nothing is acknowledged, but
    /// often enough to see the retransmission timeout within a quarter of itself.
    pub(crate) fn schedule_sample(&mut self, flow: u32) {
        let connection = self.connections.at(flow);
        let srtt_us = if connection.srtt_us == 0 { self.config.rtt_init_us } else { connection.srtt_us };
        let share = (self.sampled as u64).saturating_mul(SAMPLE_SHARE_US);
        let base = (srtt_us as u64).saturating_mul(self.config.control_interval_rtts as u64);
        let quiet = (connection.sampling.quiet_samples as u32).min(QUIET_SHIFT_MAX);
        let stretched = base.max(INTERVAL_MIN_US).saturating_mul(1u64.wrapping_shl(quiet));
        let watch = (self.retransmission_timeout(flow) / 4).clamp(INTERVAL_MIN_US, INTERVAL_MAX_US);
        let mut wait = stretched.min(watch);
        if !connection.sampling.tail_probed && connection.backoff == 0 {
            wait = wait.min(self.probe_timeout(flow));
        }
        self.set_timer(Timer::Sample(flow), wait.max(share));
    }
}
