// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Rate-based DCTCP, as in TAS, after RFC 8257. Differences from the original, each on purpose:
//! bytes and time are gathered together; the rate has a floor, which follows the RTT; it grows by one
//! segment per RTT for every RTT, as a window does (the original's fixed step is less than that on
//! short paths, and more on long ones); a flow that was not limited by its rate neither grows nor
//! shrinks (the original clamps every flow to 1.2 times what it sent, which strangles flows whose
//! application pauses); and a window bounds what is on its way, at twice the product of rate and RTT
//! (without one, flows that begin together put all that their buffers hold into a queue before the first
//! loss is noticed: 100 of them on a link of 400 Mbit/s got 70 % of it).

use super::{kbps, Allowance, CongestionControl, Interval, Limit, Parameters, WINDOW_MAX_BYTES};

/// One, in alpha's fixed point.
const ONE: u64 = 1 << 16;
/// Segments that must be acknowledged before the rate is judged.
const GATHER_SEGMENTS: u64 = 2;
/// Least that a loss leaves, segments per RTT (RFC 5681 equation 4).
const LOSS_SEGMENTS: u64 = 2;
/// Least that marks and timeouts leave, segments per RTT. Where many flows share a queue the RTT grows with it, so that
/// the sum of these stays below any link's rate.
const FLOOR_SEGMENTS: u64 = 1;
/// What the fast path's pacing counts beside a segment's payload, bytes: Ethernet, IPv4 and TCP with timestamps.
const HEADERS_BYTES: u32 = 66;
/// Least window, segments: enough for a fast retransmission where acknowledgements are delayed (RFC 5681 §3.2).
const WINDOW_SEGMENTS: u32 = 4;
/// The window in products of the rate and the RTT without queues: one for what is on its way, one for a queue, and for
/// the time that acknowledgements are delayed.
const WINDOW_PRODUCTS: u64 = 2;
/// By which part of the difference the RTT without queues follows an RTT that became longer, at each judgement, as a shift:
/// routes change, and RTTs vary.
const LEAST_RTT_SHIFT: u32 = 6;
/// Most RTTs whose growth is made up for at once.
const CATCH_UP_RTTS: u64 = 4;

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
    /// Smoothed RTT of the last interval.
    srtt_us: u32,
    /// The RTT without queues: the least of those that were measured; zero before.
    least_srtt_us: u32,
}

/// What was gathered when there was enough to judge.
#[derive(Debug, Clone, Copy)]
struct Gathered {
    /// Delivered rate: the better of this one and the average.
    delivered_kbps: u64,
    /// Over how long.
    length_us: u64,
}

/// Bytes of a full segment as the rate counts them.
fn frame_bytes(parameters: &Parameters) -> u64 {
    parameters.mss_bytes.saturating_add(HEADERS_BYTES) as u64
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
            srtt_us: srtt_us.max(1),
            least_srtt_us: 0,
        }
    }

    /// Sets the rate, which is at least the configured floor, and `segments` per RTT.
    fn set(&mut self, rate_kbps: u64, segments: u64, parameters: &Parameters) {
        let slow = kbps(frame_bytes(parameters).saturating_mul(segments), self.srtt_us as u64);
        let floor = slow.max(parameters.dctcp_min_kbps).max(1).min(parameters.link_kbps);
        self.rate_kbps = rate_kbps.clamp(floor as u64, parameters.link_kbps as u64) as u32;
    }

    /// What `length_us` of congestion avoidance adds: a segment per RTT for each RTT (RFC 8257 §3.5, RFC 5681 §3.1), or the
    /// configured step.
    fn step(&self, length_us: u64, parameters: &Parameters) -> u64 {
        if parameters.dctcp_step_kbps > 0 {
            return parameters.dctcp_step_kbps as u64;
        }
        let srtt_us = self.srtt_us as u64;
        let length_us = length_us.min(srtt_us.saturating_mul(CATCH_UP_RTTS));
        let per_rtt = kbps(frame_bytes(parameters), srtt_us) as u64;
        per_rtt.saturating_mul(length_us).checked_div(srtt_us).unwrap_or(0)
    }

    /// Adds the interval; what was delivered when enough was gathered to judge.
    fn gather(&mut self, interval: &Interval, parameters: &Parameters) -> Option<Gathered> {
        self.srtt_us = interval.srtt_us.max(1);
        self.gathered_bytes = self.gathered_bytes.saturating_add(interval.acked_bytes as u64);
        self.gathered_us = self.gathered_us.saturating_add(interval.length_us);
        if interval.acked_bytes > 0 {
            self.after_timeout = false;
        }
        let enough = (parameters.mss_bytes as u64).saturating_mul(GATHER_SEGMENTS);
        if self.gathered_bytes < enough {
            return None;
        }
        self.watch_rtt(interval);
        let length_us = self.gathered_us;
        let now = kbps(self.gathered_bytes, length_us);
        self.gathered_bytes = 0;
        self.gathered_us = 0;
        let average = (self.delivered_kbps as u64).saturating_mul(7).saturating_add(now as u64) / 8;
        self.delivered_kbps = average as u32;
        Some(Gathered { delivered_kbps: average.max(now as u64), length_us })
    }

    /// Follows the RTT without queues.
    fn watch_rtt(&mut self, interval: &Interval) {
        if !interval.is_rtt_measured {
            return;
        }
        let before = if self.least_srtt_us == 0 { self.srtt_us } else { self.least_srtt_us };
        let longer = self.srtt_us.saturating_sub(before);
        self.least_srtt_us = before.min(self.srtt_us).saturating_add(longer >> LEAST_RTT_SHIFT);
    }

    /// What may be on its way. A rate alone is no limit of that: where it is above the path's share, everything that the
    /// buffers hold would leave before the first loss is noticed.
    fn window_bytes(&self, parameters: &Parameters) -> u32 {
        let product = (self.rate_kbps as u64).saturating_mul(self.least_srtt_us as u64) / 8000;
        let least = match self.slow_start {
            true => parameters.initial_window(),
            false => parameters.mss_bytes.saturating_mul(WINDOW_SEGMENTS),
        };
        product.saturating_mul(WINDOW_PRODUCTS).max(least as u64).min(WINDOW_MAX_BYTES as u64) as u32
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
        let Some(gathered) = self.gather(interval, parameters) else {
            return;
        };
        if !matches!(interval.limit, Limit::Rate | Limit::Window) {
            return;
        }
        let rate = self.rate_kbps as u64;
        let delivered = gathered.delivered_kbps;
        let grown = if self.slow_start {
            // Double, unless less than a quarter arrives: then the path is no faster.
            rate.saturating_mul(2).min(delivered.saturating_mul(4))
        } else {
            // Not far beyond what arrives: a fifth and a step, since the headers do not count there, nor what was lost.
            let step = self.step(gathered.length_us, parameters);
            let most = (delivered.saturating_mul(6) / 5).saturating_add(step);
            rate.saturating_add(step).min(most)
        };
        self.set(grown.max(rate), FLOOR_SEGMENTS, parameters);
    }

    fn on_ecn(&mut self, interval: &Interval, parameters: &Parameters) {
        self.slow_start = false;
        self.mark(interval.ecn_bytes, interval.acked_bytes, parameters);
        self.gather(interval, parameters);
        let keep = ONE.saturating_sub(self.alpha as u64 / 2);
        self.set((self.rate_kbps as u64).saturating_mul(keep) / ONE, FLOOR_SEGMENTS, parameters);
    }

    fn on_loss(&mut self, interval: &Interval, parameters: &Parameters) {
        // In slow start the rate may be far above what the path carries: fall to that.
        let gathered = self.gather(interval, parameters);
        let delivered = gathered.map_or(self.delivered_kbps as u64, |gathered| gathered.delivered_kbps);
        // The interval went on before and after the loss: half of what it would have added is there by now.
        let length_us = gathered.map_or(0, |gathered| gathered.length_us);
        let added = if self.slow_start { 0 } else { self.step(length_us, parameters) };
        let half = (self.rate_kbps as u64).saturating_add(added) / 2;
        let rate = if self.slow_start && delivered > 0 { half.min(delivered) } else { half };
        self.slow_start = false;
        self.set(rate, LOSS_SEGMENTS, parameters);
    }

    fn on_timeout(&mut self, _in_flight_bytes: u32, parameters: &Parameters) {
        self.slow_start = false;
        self.after_timeout = true;
        self.set(self.rate_kbps as u64 / 2, FLOOR_SEGMENTS, parameters);
    }

    fn allowance(&self, parameters: &Parameters) -> Allowance {
        let window_bytes = self.window_bytes(parameters);
        let cwnd_bytes =
            if self.after_timeout { parameters.initial_window().min(window_bytes) } else { window_bytes };
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
            is_rtt_measured: true,
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
        // Without a configured step, and with one.
        for fixed_kbps in [0, 10_000] {
            rate_follows_marks(Parameters {
                dctcp_step_kbps: fixed_kbps,
                ..Parameters::new(&Config::default(), 1448)
            });
        }
    }

    fn rate_follows_marks(parameters: Parameters) {
        let mut control = Dctcp::new(500, &parameters);
        let (mut rate, mut alpha) = (control.rate_kbps as f64, 1.0f64);
        // Intervals of 1000 µs are two RTTs; a segment per RTT is 24,224 kbit/s.
        let added = if parameters.dctcp_step_kbps > 0 { 10_000.0 } else { 2.0 * 24_224.0 };
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
                rate = rate.max((rate + added).min(1_200_000.0 + added));
            }
            assert!((control.rate_kbps as f64 - rate).abs() < rate / 100.0 + 10.0, "step {step}");
        }
    }

    /// One interval of 2 ms in which the rate limited the flow.
    fn measured(srtt_us: u32, acked_bytes: u32) -> Interval {
        Interval { srtt_us, length_us: 2000, ..interval(acked_bytes, 0, Limit::Rate) }
    }

    #[test]
    fn the_window_is_two_products_of_the_rate_and_the_rtt_without_queues() {
        let parameters = Parameters::new(&Config::default(), 1448);
        let mut control = Dctcp::new(500, &parameters);
        assert_eq!(control.allowance(&parameters).cwnd_bytes, 14_480, "nothing is known: RFC 6928");
        control.on_loss(&measured(1000, 20_000), &parameters);
        assert_eq!(control.allowance(&parameters).cwnd_bytes, 20_000, "80 Mbit/s in 1 ms are 10,000 bytes");
        // A queue makes the RTT longer, and the window hardly. The rate does not grow beyond what arrives.
        control.on_ack(&measured(4000, 0), &parameters);
        control.on_ack(&measured(4000, 20_000), &parameters);
        let window = control.allowance(&parameters).cwnd_bytes;
        assert!((20_000..26_000).contains(&window), "{window}");
        // But a longer path is believed in the end.
        for _ in 0..400 {
            control.on_ack(&measured(4000, 20_000), &parameters);
        }
        let window = control.allowance(&parameters).cwnd_bytes;
        assert!(window > 75_000, "{window}");
        // And a shorter one at once.
        control.on_ack(&measured(1000, 20_000), &parameters);
        let window = control.allowance(&parameters).cwnd_bytes;
        assert!(window < 32_000, "{window}");
    }

    #[test]
    fn few_bytes_may_always_be_on_their_way() {
        let parameters = Parameters::new(&Config::default(), 1448);
        let mut control = Dctcp::new(500, &parameters);
        for _ in 0..20 {
            control.on_ecn(&Interval { ecn_bytes: 3000, ..measured(50, 3000) }, &parameters);
        }
        assert_eq!(
            control.allowance(&parameters).cwnd_bytes,
            4 * 1448,
            "a fast retransmission needs as many"
        );
    }

    #[test]
    fn a_guessed_rtt_does_not_bound_the_window() {
        let parameters = Parameters::new(&Config::default(), 1448);
        let mut control = Dctcp::new(50, &parameters);
        for _ in 0..10 {
            control.on_ack(&Interval { is_rtt_measured: false, ..measured(50, 20_000) }, &parameters);
        }
        assert_eq!(control.allowance(&parameters).cwnd_bytes, 14_480);
        control.on_ack(&measured(3000, 20_000), &parameters);
        assert!(control.allowance(&parameters).cwnd_bytes > 60_000);
    }

    #[test]
    fn a_flow_that_the_window_limits_finds_a_higher_rate() {
        let parameters = Parameters::new(&Config::default(), 1448);
        let mut control = Dctcp::new(500, &parameters);
        control.on_loss(&measured(1000, 20_000), &parameters);
        let before = control.rate_kbps;
        control.on_ack(&Interval { limit: Limit::Window, ..measured(1000, 20_000) }, &parameters);
        assert!(control.rate_kbps > before);
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
            control.on_timeout(0, &parameters);
        }
        assert_eq!(control.rate_kbps, parameters.dctcp_min_kbps, "an RTT of 20 ms: a segment is 605 kbit/s");
        let mut control = Dctcp::new(500, &parameters);
        for _ in 0..100 {
            control.on_loss(&interval(0, 0, Limit::Rate), &parameters);
        }
        assert_eq!(control.rate_kbps, 2 * 24_224, "two segments per RTT");
        for _ in 0..100 {
            control.on_timeout(0, &parameters);
        }
        assert_eq!(control.rate_kbps, 24_224, "one segment per RTT");
        let mut control = Dctcp::new(20_000, &parameters);
        for _ in 0..100 {
            let acked = control.rate_kbps / 8;
            control.on_ack(&interval(acked, 0, Limit::Rate), &parameters);
        }
        assert_eq!(control.rate_kbps, parameters.link_kbps, "slow start reaches the link");
    }
}
