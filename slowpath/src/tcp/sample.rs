// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! One sample of an active flow: RTT, retransmission timeout, zero-window probe, user timeout,
//! congestion control.

use super::flows::View;
use crate::{
    congestion::{Controller, Interval, Limit},
    connection::{flag, pending, Connection},
    counters::Counter,
    errno::Errno,
    stack::Stack,
    tcp::state::State,
};
use abi::flow::hot_flags;
use core::sync::atomic::Ordering::Relaxed;

/// Timeouts in a row after which a connection is given up, as Linux's tcp_retries2.
const TIMEOUTS_MAX: u8 = 15;
/// The same for a connection without a socket, as Linux's tcp_orphan_retries.
const TIMEOUTS_MAX_ORPHAN: u8 = 8;
/// Samples in a row with nothing to send or to be acknowledged before the flow counts as idle.
const IDLE_SAMPLES: u8 = 4;
/// Mask of the RTT in the hot entry's sample.
const RTT_MASK: u32 = 0x00ff_ffff;

/// Whether something was sent and not acknowledged.
fn is_outstanding(view: &View) -> bool {
    let fin = view.has(hot_flags::FIN_SENT) && !view.has(hot_flags::FIN_ACKED);
    view.snd_max > view.snd_una || fin
}

/// Whether something is to be sent.
fn is_unsent(view: &View) -> bool {
    let fin = view.has(hot_flags::FIN_QUEUED) && !view.has(hot_flags::FIN_SENT);
    view.snd_end > view.snd_nxt || fin
}

/// Timeouts in a row after which a connection is given up: fewer if the application has closed it.
fn timeouts_max(connection: &Connection, view: &View) -> u8 {
    if connection.is(flag::ORPHAN) || view.has(hot_flags::ABANDONED) {
        TIMEOUTS_MAX_ORPHAN
    } else {
        TIMEOUTS_MAX
    }
}

impl Stack<'_> {
    /// The control interval of a flow is over.
    pub(crate) fn sample(&mut self, flow: u32) {
        self.refresh_state(flow);
        let connection = self.connections.at(flow);
        let live = self.is_installed(flow) && !self.is_removing(flow);
        if !live || !connection.is(flag::SAMPLED) || connection.state == State::Closed {
            return;
        }
        let view = self.view(flow);
        let interval = self.take_interval(flow, &view);
        let busy = is_outstanding(&view) || is_unsent(&view);
        self.watch_progress(flow, &view);
        self.watch_sizes(flow, &view);
        self.search_path(flow, &view);
        if busy && self.watch_timeout(flow, &view) {
            return;
        }
        if let Some(interval) = interval {
            self.control(flow, &interval);
        }
        let quiet = self.connections.at(flow).sampling.quiet_samples;
        if !busy && quiet >= IDLE_SAMPLES {
            self.go_idle(flow);
        } else {
            self.schedule_sample(flow);
        }
    }

    /// What happened since the last sample.
    fn take_interval(&mut self, flow: u32, view: &View) -> Option<Interval> {
        let hot = self.hot(flow)?;
        let (acked, ecn) = (hot.acked_bytes.load(Relaxed), hot.ecn_bytes.load(Relaxed));
        let counts = hot.loss_counts.load(Relaxed);
        let (losses, undone) = (counts as u16, (counts >> 24) as u8);
        let rtt_sample = hot.rtt_sample.load(Relaxed);
        let rtt_count = (rtt_sample >> 24) as u8;
        let now_us = self.now_us;
        let sampling = &mut self.connections.at_mut(flow).sampling;
        let acked_bytes = acked.wrapping_sub(sampling.acked_bytes);
        let ecn_bytes = ecn.wrapping_sub(sampling.ecn_bytes).min(acked_bytes);
        // Less than before: the last recovery was undone.
        let lost = losses.wrapping_sub(sampling.fast_retransmits) as i16;
        let undone_timeout = undone != sampling.undone_timeouts;
        sampling.undone_timeouts = undone;
        let length_us = now_us.saturating_sub(sampling.at_us).max(1);
        let measured = rtt_count != sampling.rtt_count;
        sampling.acked_bytes = acked;
        sampling.ecn_bytes = ecn;
        sampling.fast_retransmits = losses;
        sampling.rtt_count = rtt_count;
        sampling.at_us = now_us;
        sampling.quiet_samples = if acked_bytes > 0 { 0 } else { sampling.quiet_samples.saturating_add(1) };
        if measured {
            self.measure(flow, rtt_sample & RTT_MASK);
        }
        if undone_timeout || lost < 0 {
            self.restore(flow, undone_timeout);
        }
        if lost > 0 {
            // RFC 6675 §5: the timer starts anew with the first retransmission.
            let run_us = self.run_us(flow).unwrap_or(0);
            self.connections.at_mut(flow).sampling.timer_run_us = run_us;
        }
        let in_flight = view.snd_nxt.saturating_sub(view.snd_una).min(u32::MAX as u64) as u32;
        let srtt_us = match self.connections.at(flow).srtt_us {
            0 => self.config.rtt_init_us.max(1),
            srtt => srtt,
        };
        Some(Interval {
            acked_bytes,
            ecn_bytes,
            losses: lost.max(0) as u32,
            length_us,
            srtt_us,
            is_rtt_measured: self.connections.at(flow).srtt_us != 0,
            in_flight_bytes: in_flight,
            limit: self.limit_of(flow, view, in_flight),
        })
    }

    /// What keeps the flow from sending more.
    fn limit_of(&self, flow: u32, view: &View, in_flight: u32) -> Limit {
        let mss = self.connections.at(flow).mss_bytes as u32;
        let next = in_flight.saturating_add(mss);
        if view.snd_end <= view.snd_nxt {
            Limit::Application
        } else if next > view.snd_wnd {
            Limit::Peer
        } else if next > view.cwnd_bytes {
            Limit::Window
        } else {
            Limit::Rate
        }
    }

    /// Restarts the timeout when something was acknowledged (RFC 6298 §5.3), or is outstanding for
    /// the first time (§5.1). A core that restarted may have an earlier clock.
    fn watch_progress(&mut self, flow: u32, view: &View) {
        let run_us = self.run_us(flow).unwrap_or(0);
        let outstanding = is_outstanding(view);
        let connection = self.connections.at_mut(flow);
        let was = connection.is(flag::WAS_OUTSTANDING);
        connection.set(flag::WAS_OUTSTANDING, outstanding);
        let sampling = &mut connection.sampling;
        let progress = view.snd_una != sampling.snd_una;
        sampling.snd_una = view.snd_una;
        if progress || (outstanding && !was) || run_us < sampling.timer_run_us {
            sampling.timer_run_us = run_us;
            sampling.progress_run_us = run_us;
        }
        if progress {
            sampling.probes = 0;
            sampling.tail_probed = false;
            connection.backoff = 0;
        }
    }

    /// Acts if the timeout is over; true if that ended the connection.
    fn watch_timeout(&mut self, flow: u32, view: &View) -> bool {
        let Some(run_us) = self.run_us(flow) else {
            return false;
        };
        let connection = *self.connections.at(flow);
        let stalled_us = run_us.saturating_sub(connection.sampling.progress_run_us);
        let user_us = (connection.user_timeout_ms as u64).saturating_mul(1000);
        if user_us > 0 && stalled_us >= user_us {
            return self.give_up(flow);
        }
        let waited_us = run_us.saturating_sub(connection.sampling.timer_run_us);
        if waited_us < self.retransmission_timeout(flow) {
            self.watch_tail(flow, view, waited_us);
            return false;
        }
        if view.snd_wnd == 0 || !is_outstanding(view) {
            self.probe(flow, view)
        } else {
            self.time_out(flow, view)
        }
    }

    /// Sends a tail loss probe when nothing was acknowledged for a while (RFC 8985 §7): a lost end of a burst is then
    /// repaired without a timeout.
    fn watch_tail(&mut self, flow: u32, view: &View, waited_us: u64) {
        let connection = self.connections.at(flow);
        let due = connection.backoff == 0 && waited_us >= self.probe_timeout(flow);
        if !due || connection.sampling.tail_probed || view.snd_wnd == 0 || view.snd_max <= view.snd_una {
            return;
        }
        if !view.has(hot_flags::SACK) || view.has(hot_flags::RECOVERY) {
            return;
        }
        self.connections.at_mut(flow).sampling.tail_probed = true;
        self.command(flow, pending::TAIL_PROBE);
    }

    /// The fast path found that a recovery or a timeout was not justified: the controller is what it was before
    /// (RFC 4015 §3.2, RFC 5682 §3.1).
    fn restore(&mut self, flow: u32, timeout: bool) {
        let connection = self.connections.at_mut(flow);
        let before = if timeout { &mut connection.before_timeout } else { &mut connection.before_loss };
        let before = core::mem::replace(before, Controller::None);
        if timeout {
            connection.backoff = 0;
        }
        if before.algorithm() == connection.controller.algorithm() {
            connection.controller = before;
        }
        self.command(flow, pending::UPDATE);
    }

    /// The retransmission timer expired (RFC 6298 §5.4 to §5.6).
    fn time_out(&mut self, flow: u32, view: &View) -> bool {
        let connection = *self.connections.at(flow);
        if connection.backoff >= timeouts_max(&connection, view) {
            return self.give_up(flow);
        }
        self.counters.add(Counter::Timeouts);
        let parameters = self.parameters(flow);
        let in_flight = view.snd_max.saturating_sub(view.snd_una).min(u32::MAX as u64) as u32;
        self.restart_timer(flow);
        let connection = self.connections.at_mut(flow);
        connection.timeouts = connection.timeouts.saturating_add(1);
        if connection.backoff == 1 {
            connection.before_timeout = connection.controller;
        }
        connection.controller.on_timeout(in_flight, &parameters);
        let allowance = connection.controller.allowance(&parameters);
        connection.retransmit_window = allowance.cwnd_bytes;
        let timeouts = connection.timeouts;
        self.heed_claim(flow, view);
        self.suspect_path(flow, view);
        self.suspect_fast_open(flow, view);
        if let Some(cold) = self.cold(flow) {
            cold.timeouts.store(timeouts, Relaxed);
            cold.rate_kbps.store(allowance.rate_kbps, Relaxed);
            cold.cwnd_bytes.store(allowance.cwnd_bytes, Relaxed);
        }
        // The core reads the cold entry with it: with an UPDATE before it, it could not tell what to go back to.
        self.command(flow, pending::RETRANSMIT);
        false
    }

    /// Nothing can be sent because of the peer's window: probe it (RFC 9293 §3.8.6.1). The same
    /// wakes a flow that could send and does not.
    fn probe(&mut self, flow: u32, view: &View) -> bool {
        let connection = *self.connections.at(flow);
        let mss = connection.mss_bytes as u32;
        self.restart_timer(flow);
        if view.snd_wnd >= mss {
            self.command(flow, pending::UPDATE);
            return false;
        }
        // A peer that answers shows it by its timestamps, or by `HEARD`, which each probe clears.
        let stale = view.ts_recent == connection.sampling.ts_recent;
        let silent = stale && !(view.has(hot_flags::HEARD) && connection.sampling.probes > 0);
        let limit = timeouts_max(&connection, view);
        let sampling = &mut self.connections.at_mut(flow).sampling;
        sampling.ts_recent = view.ts_recent;
        sampling.probes = if silent { sampling.probes.saturating_add(1) } else { 0 };
        if sampling.probes > limit {
            return self.give_up(flow);
        }
        self.counters.add(Counter::Probes);
        self.command(flow, pending::PROBE);
        false
    }

    /// Starts the timer again, doubled.
    fn restart_timer(&mut self, flow: u32) {
        let run_us = self.run_us(flow).unwrap_or(0);
        let connection = self.connections.at_mut(flow);
        connection.backoff = connection.backoff.saturating_add(1);
        connection.sampling.timer_run_us = run_us;
    }

    /// Too long without an answer (RFC 9293 §3.8.3, R2).
    fn give_up(&mut self, flow: u32) -> bool {
        self.counters.add(Counter::GivenUp);
        if self.connections.at(flow).is(flag::ORPHAN) {
            self.counters.add(Counter::OrphansEnded);
        }
        self.fail_connection(flow, Errno::ETIMEDOUT);
        true
    }

    /// Runs the congestion controller and tells the core what changed.
    fn control(&mut self, flow: u32, interval: &Interval) {
        let parameters = self.parameters(flow);
        let connection = self.connections.at_mut(flow);
        if interval.losses > 0 {
            connection.before_loss = connection.controller;
        }
        connection.controller.update(interval, &parameters);
        if interval.losses > 0 {
            // A timeout that is undone later does not take this back.
            connection.before_timeout.update(interval, &parameters);
        }
        if interval.losses > 0 {
            // The core changed its own copy of the window: it gets ours even if that is the same.
            self.command(flow, pending::UPDATE);
        }
        self.apply_allowance(flow);
    }

    /// Writes what the controller allows to the cold entry, and tells the core if it changed.
    pub(crate) fn apply_allowance(&mut self, flow: u32) {
        let parameters = self.parameters(flow);
        let allowance = self.connections.at_mut(flow).controller.allowance(&parameters);
        let Some(cold) = self.cold(flow) else { return };
        let same = cold.rate_kbps.load(Relaxed) == allowance.rate_kbps
            && cold.cwnd_bytes.load(Relaxed) == allowance.cwnd_bytes;
        if !same {
            cold.rate_kbps.store(allowance.rate_kbps, Relaxed);
            cold.cwnd_bytes.store(allowance.cwnd_bytes, Relaxed);
            self.command(flow, pending::UPDATE);
        }
    }
}
