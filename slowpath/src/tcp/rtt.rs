// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The retransmission timeout (RFC 6298), in integers.

use crate::{connection::flag, stack::Stack};
use core::sync::atomic::Ordering::Relaxed;

/// Timeout before anything was measured (RFC 6298 §2.1).
const RTO_INITIAL_US: u64 = 1_000_000;
/// The same if the handshake was lost once: the path may be longer than that (RFC 6298 §5.7).
const RTO_INITIAL_REPEATED_US: u64 = 3_000_000;
/// Longest timeout, as Linux's TCP_RTO_MAX.
pub(crate) const RTO_MAX_US: u64 = 120_000_000;
/// Clock granularity G: the timing wheel's tick.
const GRANULARITY_US: u64 = 64;

/// SRTT and RTTVAR after a measurement (RFC 6298 §2.2, §2.3); both zero before the first.
pub(crate) fn smooth(srtt_us: u32, rttvar_us: u32, rtt_us: u32) -> (u32, u32) {
    let rtt = (rtt_us as u64).max(1);
    if srtt_us == 0 {
        return (rtt as u32, (rtt / 2) as u32);
    }
    let (srtt, rttvar) = (srtt_us as u64, rttvar_us as u64);
    let difference = srtt.abs_diff(rtt);
    let rttvar = rttvar.saturating_mul(3).saturating_add(difference) / 4;
    let srtt = srtt.saturating_mul(7).saturating_add(rtt) / 8;
    ((srtt.max(1)) as u32, rttvar as u32)
}

/// The timeout after `backoff` doublings (RFC 6298 §2.3, §5.5); `initial_us` until there is a measurement.
pub(crate) fn timeout(srtt_us: u32, rttvar_us: u32, initial_us: u64, minimum_us: u64, backoff: u8) -> u64 {
    let base = match srtt_us {
        0 => initial_us.max(minimum_us),
        srtt => {
            let spread = (rttvar_us as u64).saturating_mul(4).max(GRANULARITY_US);
            (srtt as u64).saturating_add(spread).max(minimum_us)
        }
    };
    base.saturating_mul(1u64.wrapping_shl((backoff as u32).min(20))).min(RTO_MAX_US)
}

/// What is added to two RTTs before a tail loss probe, microseconds: RTTs vary, and two of a fast network's are
/// shorter than a look at the flow.
const PROBE_SLACK_US: u64 = 500;
/// The same when a single segment is out: its acknowledgement may be delayed (RFC 8985 §7.2,
/// `TLP.max_ack_delay`, with its default). Else every request to a server that thinks would go twice.
const ACK_DELAY_MAX_US: u64 = 200_000;

impl Stack<'_> {
    /// How long nothing is acknowledged before a tail loss probe leaves (RFC 8985 §7.2).
    pub(crate) fn probe_timeout(&self, flow: u32) -> u64 {
        let Some(hot) = self.hot(flow) else { return RTO_INITIAL_US };
        let flight_bytes = hot.snd_max.load(Relaxed).wrapping_sub(hot.snd_una.load(Relaxed));
        let mss_bytes = u64::from(hot.mss_scale.load(Relaxed) & 0xffff);
        let slack_us = if flight_bytes <= mss_bytes { ACK_DELAY_MAX_US } else { PROBE_SLACK_US };
        match self.connections.at(flow).srtt_us {
            0 => RTO_INITIAL_US,
            srtt => (srtt as u64).saturating_mul(2).saturating_add(slack_us),
        }
    }

    /// Takes an RTT measurement into a connection's estimate.
    pub(crate) fn measure(&mut self, flow: u32, rtt_us: u32) {
        let connection = self.connections.at_mut(flow);
        (connection.srtt_us, connection.rttvar_us) = smooth(connection.srtt_us, connection.rttvar_us, rtt_us);
        let srtt_us = connection.srtt_us;
        if let Some(cold) = self.cold(flow) {
            cold.srtt_us.store(srtt_us, Relaxed);
        }
    }

    /// The retransmission timeout of a connection now.
    pub(crate) fn retransmission_timeout(&self, flow: u32) -> u64 {
        let connection = self.connections.at(flow);
        let repeated = connection.is(flag::SYN_REPEATED);
        let initial_us = if repeated { RTO_INITIAL_REPEATED_US } else { RTO_INITIAL_US };
        let minimum_us = self.config.rto_min_us;
        timeout(connection.srtt_us, connection.rttvar_us, initial_us, minimum_us, connection.backoff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, SipKey};

    #[test]
    fn follows_rfc_6298_against_a_float_oracle() {
        for seed in 0..10 {
            std::println!("seed {seed}");
            let mut random = Random::new(SipKey(seed, 6));
            let (mut srtt, mut rttvar) = (0u32, 0u32);
            let (mut s, mut v) = (0f64, 0f64);
            for _ in 0..500 {
                let rtt = 50 + random.below(20_000);
                (srtt, rttvar) = smooth(srtt, rttvar, rtt);
                let r = rtt as f64;
                if s == 0.0 {
                    (s, v) = (r, r / 2.0);
                } else {
                    v = 0.75 * v + 0.25 * (s - r).abs();
                    s = 0.875 * s + 0.125 * r;
                }
                assert!((srtt as f64 - s).abs() < 10.0 && (rttvar as f64 - v).abs() < 10.0);
            }
        }
    }

    #[test]
    fn doubles_up_to_its_limit() {
        assert_eq!(timeout(0, 0, RTO_INITIAL_US, 200_000, 0), 1_000_000);
        assert_eq!(timeout(0, 0, RTO_INITIAL_REPEATED_US, 200_000, 1), 6_000_000);
        assert_eq!(timeout(100, 0, RTO_INITIAL_US, 0, 0), 164);
        assert_eq!(timeout(100, 50, RTO_INITIAL_US, 1000, 0), 1000);
        assert_eq!(timeout(100, 50, RTO_INITIAL_US, 1000, 3), 8000);
        assert_eq!(timeout(u32::MAX, u32::MAX, RTO_INITIAL_US, 0, 255), RTO_MAX_US);
    }
}
