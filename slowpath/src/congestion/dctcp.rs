// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Rate-based DCTCP, as in TAS, after RFC 8257. Differences from the original, each on purpose:
//! bytes and time are gathered together; the rate has a floor; a flow that was not limited by its
//! rate neither grows nor shrinks (the original clamps every flow to 1.2 times what it sent, which
//! strangles flows whose application pauses).

use super::{kbps, Allowance, CongestionControl, Interval, Limit, Parameters, WINDOW_MAX_BYTES};

/// One, in alpha's fixed point.
const ONE: u64 = 1 << 16;
/// Segments that must be acknowledged before the rate is judged.
const GATHER_SEGMENTS: u64 = 2;

/// Rate state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dctcp {
    rate_kbps: u32,
    /// Delivered rate: EWMA with weight 1/8.
    delivered_kbps: u32,
    /// Fraction of marked bytes, in units of 1/65536.
    alpha: u32,
    slow_start: bool,
    /// A timeout left the window small until something is acknowledged.
    after_timeout: bool,
    gathered_bytes: u64,
    gathered_us: u64,
}

impl Dctcp {
    /// Starts with the initial window per RTT, or the configured rate if that is higher.
    pub(crate) fn new(srtt_us: u32, parameters: &Parameters) -> Self {
        let initial = kbps(parameters.initial_window() as u64, (srtt_us as u64).max(1));
        Self {
            rate_kbps: initial.max(parameters.dctcp_init_kbps).min(parameters.link_kbps),
            delivered_kbps: 0,
            alpha: ONE as u32,
            slow_start: true,
            after_timeout: false,
            gathered_bytes: 0,
            gathered_us: 0,
        }
    }

    /// The floor: the configured one, or one segment per eight RTTs.
    fn set(&mut self, rate_kbps: u64, srtt_us: u32, parameters: &Parameters) {
        let slow = kbps(parameters.mss_bytes as u64, (srtt_us as u64).max(1).saturating_mul(8));
        let floor = slow.max(parameters.dctcp_min_kbps).max(1).min(parameters.link_kbps);
        self.rate_kbps = rate_kbps.clamp(floor as u64, parameters.link_kbps as u64) as u32;
    }

    /// Adds the interval; the delivered rate when enough was gathered to judge.
    fn gather(&mut self, interval: &Interval, parameters: &Parameters) -> Option<u32> {
        self.gathered_bytes = self.gathered_bytes.saturating_add(interval.acked_bytes as u64);
        self.gathered_us = self.gathered_us.saturating_add(interval.length_us);
        if interval.acked_bytes > 0 {
            self.after_timeout = false;
        }
        let enough = (parameters.mss_bytes as u64).saturating_mul(GATHER_SEGMENTS);
        if self.gathered_bytes < enough {
            return None;
        }
        let now = kbps(self.gathered_bytes, self.gathered_us);
        self.gathered_bytes = 0;
        self.gathered_us = 0;
        let average = (self.delivered_kbps as u64).saturating_mul(7).saturating_add(now as u64) / 8;
        self.delivered_kbps = average as u32;
        Some(now.max(average as u32))
    }

    /// RFC 8257 §3.3 step 6, with the marks of one interval.
    fn mark(&mut self, marked_bytes: u32, acked_bytes: u32, parameters: &Parameters) {
        let acked = acked_bytes as u64;
        let marked = (marked_bytes as u64).min(acked);
        let fraction = marked.saturating_mul(ONE).checked_div(acked).unwrap_or(0);
        let weight = (parameters.dctcp_weight as u64).min(ONE);
        let kept = (self.alpha as u64).saturating_mul(ONE.saturating_sub(weight));
        self.alpha = (fraction.saturating_mul(weight).saturating_add(kept) / ONE).min(ONE) as u32;
    }
}

impl CongestionControl for Dctcp {
    fn on_ack(&mut self, interval: &Interval, parameters: &Parameters) {
        self.mark(0, interval.acked_bytes, parameters);
        let Some(delivered) = self.gather(interval, parameters) else {
            return;
        };
        if interval.limit != Limit::Rate {
            return;
        }
        let rate = self.rate_kbps as u64;
        let delivered = delivered as u64;
        let grown = if self.slow_start {
            // Double, unless less than a quarter arrives: then the path is no faster.
            rate.saturating_mul(2).min(delivered.saturating_mul(4))
        } else {
            let step = rate.saturating_add(parameters.dctcp_step_kbps as u64);
            step.min(delivered.saturating_mul(6) / 5)
        };
        self.set(grown.max(rate), interval.srtt_us, parameters);
    }

    fn on_ecn(&mut self, interval: &Interval, parameters: &Parameters) {
        self.slow_start = false;
        self.mark(interval.ecn_bytes, interval.acked_bytes, parameters);
        self.gather(interval, parameters);
        let keep = ONE.saturating_sub(self.alpha as u64 / 2);
        self.set((self.rate_kbps as u64).saturating_mul(keep) / ONE, interval.srtt_us, parameters);
    }

    fn on_loss(&mut self, interval: &Interval, parameters: &Parameters) {
        // In slow start the rate may be far above what the path carries: fall to that.
        let delivered = self.gather(interval, parameters).unwrap_or(self.delivered_kbps) as u64;
        let half = self.rate_kbps as u64 / 2;
        let rate = if self.slow_start && delivered > 0 { half.min(delivered) } else { half };
        self.slow_start = false;
        self.set(rate, interval.srtt_us, parameters);
    }

    fn on_timeout(&mut self, _in_flight_bytes: u32, parameters: &Parameters) {
        self.slow_start = false;
        self.after_timeout = true;
        self.set(self.rate_kbps as u64 / 2, u32::MAX, parameters);
    }

    fn allowance(&self, parameters: &Parameters) -> Allowance {
        let cwnd_bytes = if self.after_timeout { parameters.initial_window() } else { WINDOW_MAX_BYTES };
        Allowance { rate_kbps: self.rate_kbps, cwnd_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        random::{Random, SipKey},
    };

    fn interval(acked_bytes: u32, ecn_bytes: u32, limit: Limit) -> Interval {
        Interval {
            acked_bytes,
            ecn_bytes,
            losses: 0,
            length_us: 1000,
            srtt_us: 500,
            in_flight_bytes: 0,
            limit,
        }
    }

    #[test]
    fn alpha_follows_rfc_8257_against_a_float_oracle() {
        let parameters = Parameters::new(&Config::default(), 1448);
        for seed in 0..10 {
            std::println!("seed {seed}");
            let mut random = Random::new(SipKey(seed, 3));
            let mut control = Dctcp::new(100, &parameters);
            let mut alpha = 1.0f64;
            for _ in 0..500 {
                let acked = 1 + random.below(1_000_000);
                let marked = random.below(acked + 1);
                control.mark(marked, acked, &parameters);
                alpha = alpha * 15.0 / 16.0 + marked as f64 / acked as f64 / 16.0;
                assert!((control.alpha as f64 / 65536.0 - alpha).abs() < 0.001);
            }
        }
    }

    #[test]
    fn rate_follows_marks_against_a_float_oracle() {
        let parameters = Parameters::new(&Config::default(), 1448);
        let mut control = Dctcp::new(100, &parameters);
        let (mut rate, mut alpha) = (control.rate_kbps as f64, 1.0f64);
        for step in 0..60u32 {
            let acked = 125_000u32; // 1 Gbit/s
            if step % 3 == 0 {
                let marked = acked / 10;
                control.on_ecn(&interval(acked, marked, Limit::Rate), &parameters);
                alpha = alpha * 15.0 / 16.0 + 0.1 / 16.0;
                rate *= 1.0 - alpha / 2.0;
            } else {
                control.on_ack(&interval(acked, 0, Limit::Rate), &parameters);
                alpha *= 15.0 / 16.0;
                rate = rate.max((rate + 10_000.0).min(1_200_000.0));
            }
            assert!((control.rate_kbps as f64 - rate).abs() < rate / 100.0 + 10.0, "step {step}");
        }
    }

    #[test]
    fn an_application_limited_flow_keeps_its_rate() {
        let parameters = Parameters::new(&Config::default(), 1448);
        let mut control = Dctcp::new(100, &parameters);
        let before = control.rate_kbps;
        for _ in 0..1000 {
            control.on_ack(&interval(3000, 0, Limit::Application), &parameters);
        }
        assert_eq!(control.rate_kbps, before);
    }

    #[test]
    fn the_rate_never_falls_to_zero_nor_exceeds_the_link() {
        let parameters = Parameters::new(&Config::default(), 1448);
        let mut control = Dctcp::new(20_000, &parameters);
        for _ in 0..100 {
            control.on_loss(&interval(0, 0, Limit::Rate), &parameters);
            control.on_timeout(0, &parameters);
        }
        assert!(control.rate_kbps >= 1);
        let mut control = Dctcp::new(20_000, &parameters);
        for _ in 0..100 {
            let acked = control.rate_kbps / 8;
            control.on_ack(&interval(acked, 0, Limit::Rate), &parameters);
        }
        assert_eq!(control.rate_kbps, parameters.link_kbps, "slow start reaches the link");
    }
}
