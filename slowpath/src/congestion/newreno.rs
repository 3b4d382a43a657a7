// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! NewReno (RFC 5681, RFC 6582), sampled: what an ACK adds to the window is added per control
//! interval. The fast path halves its copy at once on a fast retransmit and recovers per RFC 6582;
//! this is the window it returns to.

use super::{Allowance, CongestionControl, Interval, Parameters, WINDOW_MAX_BYTES};
use abi::flow::RATE_UNLIMITED;

/// Window state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewReno {
    cwnd_bytes: u32,
    ssthresh_bytes: u32,
}

impl NewReno {
    pub(crate) fn new(parameters: &Parameters) -> Self {
        Self { cwnd_bytes: parameters.initial_window(), ssthresh_bytes: u32::MAX }
    }

    /// RFC 5681 equation (4), with the window standing for the flight size: the flight size at the
    /// time of the loss is gone when the interval is sampled.
    fn halve(&mut self, flight_bytes: u32, parameters: &Parameters) {
        let floor = parameters.mss_bytes.saturating_mul(2);
        self.ssthresh_bytes = (flight_bytes / 2).max(floor);
    }
}

impl CongestionControl for NewReno {
    fn on_ack(&mut self, interval: &Interval, parameters: &Parameters) {
        let used = interval.in_flight_bytes.max(interval.acked_bytes);
        // RFC 7661 in spirit: a window that was not used says nothing about the path.
        if used < self.cwnd_bytes / 2 {
            return;
        }
        let acked = interval.acked_bytes as u64;
        let cwnd = (self.cwnd_bytes as u64).max(1);
        let grown = if self.cwnd_bytes < self.ssthresh_bytes {
            cwnd.saturating_add(acked).min(self.ssthresh_bytes as u64)
        } else {
            let step = (parameters.mss_bytes as u64).saturating_mul(acked).checked_div(cwnd);
            cwnd.saturating_add(step.unwrap_or(0))
        };
        self.cwnd_bytes = grown.min(WINDOW_MAX_BYTES as u64) as u32;
    }

    fn on_loss(&mut self, _interval: &Interval, parameters: &Parameters) {
        self.halve(self.cwnd_bytes, parameters);
        self.cwnd_bytes = self.ssthresh_bytes;
    }

    fn on_timeout(&mut self, in_flight_bytes: u32, parameters: &Parameters) {
        // RFC 5681 §3.1: the flight size, and the loss window of one segment.
        if self.cwnd_bytes > parameters.mss_bytes {
            self.halve(in_flight_bytes, parameters);
        }
        self.cwnd_bytes = parameters.mss_bytes;
    }

    /// RFC 5681 §4.1: what was learned about the path is old when the flow sends again.
    fn on_idle(&mut self, parameters: &Parameters) {
        self.cwnd_bytes = self.cwnd_bytes.min(parameters.initial_window());
    }

    fn allowance(&self, _parameters: &Parameters) -> Allowance {
        Allowance { rate_kbps: RATE_UNLIMITED, cwnd_bytes: self.cwnd_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Limit;
    use super::*;
    use crate::config::Config;

    fn interval(acked_bytes: u32, in_flight_bytes: u32) -> Interval {
        Interval {
            acked_bytes,
            ecn_bytes: 0,
            losses: 0,
            length_us: 1000,
            srtt_us: 500,
            is_rtt_measured: true,
            in_flight_bytes,
            limit: Limit::Window,
        }
    }

    #[test]
    fn follows_rfc_5681_against_a_float_oracle() {
        let parameters = Parameters::new(&Config::default(), 1000);
        let mut control = NewReno::new(&parameters);
        let (mut cwnd, mut threshold) = (10_000f64, f64::MAX);
        for step in 0..400u32 {
            let acked = (cwnd as u32) / 2 + step % 7 * 100;
            if step % 97 == 96 {
                control.on_loss(&interval(0, 0), &parameters);
                threshold = (cwnd / 2.0).max(2000.0);
                cwnd = threshold;
            } else {
                control.on_ack(&interval(acked, cwnd as u32), &parameters);
                cwnd = if cwnd < threshold {
                    (cwnd + acked as f64).min(threshold)
                } else {
                    cwnd + 1000.0 * acked as f64 / cwnd
                }
                .min(WINDOW_MAX_BYTES as f64);
            }
            let ours = control.allowance(&parameters).cwnd_bytes as f64;
            assert!((ours - cwnd).abs() <= 2.0 + cwnd / 100.0, "step {step}: {ours} {cwnd}");
        }
    }

    #[test]
    fn timeout_takes_one_segment_and_keeps_the_threshold_of_the_first() {
        let parameters = Parameters::new(&Config::default(), 1000);
        let mut control = NewReno::new(&parameters);
        control.on_ack(&interval(40_000, 10_000), &parameters);
        control.on_timeout(50_000, &parameters);
        control.on_timeout(50_000, &parameters);
        assert_eq!(control.allowance(&parameters).cwnd_bytes, 1000);
        for _ in 0..20 {
            let cwnd = control.cwnd_bytes;
            control.on_ack(&interval(cwnd, cwnd), &parameters);
            if control.cwnd_bytes >= 25_000 {
                break;
            }
        }
        assert_eq!(control.cwnd_bytes, 25_000, "slow start ends at half the flight");
    }

    #[test]
    fn begins_anew_after_idleness() {
        let parameters = Parameters::new(&Config::default(), 1000);
        let mut control = NewReno::new(&parameters);
        control.on_ack(&interval(90_000, 10_000), &parameters);
        assert_eq!(control.cwnd_bytes, 100_000);
        control.on_idle(&parameters);
        assert_eq!(control.allowance(&parameters).cwnd_bytes, 10_000);
        control.on_timeout(0, &parameters);
        control.on_idle(&parameters);
        assert_eq!(control.cwnd_bytes, 1000, "a smaller window stays");
    }

    #[test]
    fn an_unused_window_does_not_grow() {
        let parameters = Parameters::new(&Config::default(), 1000);
        let mut control = NewReno::new(&parameters);
        for _ in 0..100 {
            control.on_ack(&interval(100, 0), &parameters);
        }
        assert_eq!(control.allowance(&parameters).cwnd_bytes, 10_000);
    }
}
