// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Congestion control: one trait with defaulted hooks, and an enum that dispatches. Integer
//! arithmetic only. Controllers see one [`Interval`] per control interval of an active flow and
//! answer with a rate and a window.

mod constant;
mod dctcp;
mod newreno;

use crate::config::Config;
use abi::{flow::RATE_UNLIMITED, message::congestion, pool::BUFFER_BYTES_MAX};

/// Initial window in bytes (RFC 6928 §2): two segments if those are more.
const INITIAL_WINDOW_BYTES: u32 = 14_600;
/// No more than so many segments.
pub(crate) const INITIAL_WINDOW_SEGMENTS: u32 = 10;
/// A window that never limits: what the buffers hold.
pub(crate) const WINDOW_MAX_BYTES: u32 = BUFFER_BYTES_MAX;

/// What kept the flow from sending more when it was sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Everything written was sent.
    Application,
    /// The peer's window.
    Peer,
    /// The congestion window.
    Window,
    /// The rate.
    Rate,
}

/// One control interval of a flow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interval {
    /// Bytes acknowledged in it.
    pub(crate) acked_bytes: u32,
    /// Those acknowledged with ECE.
    pub(crate) ecn_bytes: u32,
    /// Fast retransmits in it.
    pub(crate) losses: u32,
    /// Its length, microseconds; at least 1.
    pub(crate) length_us: u64,
    /// Smoothed RTT, microseconds; at least 1. A guess while nothing was measured.
    pub(crate) srtt_us: u32,
    /// Whether it is not a guess.
    pub(crate) is_rtt_measured: bool,
    /// Bytes in flight at its end.
    pub(crate) in_flight_bytes: u32,
    /// What limited the flow at its end.
    pub(crate) limit: Limit,
}

/// What a controller allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// Rate, kilobits per second; [`RATE_UNLIMITED`] does not pace. Never zero.
    pub(crate) rate_kbps: u32,
    /// Window, bytes. Never below one segment.
    pub(crate) cwnd_bytes: u32,
}

/// Constants of a flow and of the instance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameters {
    /// Effective MSS, bytes; at least 1.
    pub(crate) mss_bytes: u32,
    /// See [`Config`].
    pub(crate) link_kbps: u32,
    pub(crate) dctcp_weight: u32,
    pub(crate) dctcp_init_kbps: u32,
    pub(crate) dctcp_step_kbps: u32,
    pub(crate) dctcp_min_kbps: u32,
    pub(crate) const_rate_kbps: u32,
}

impl Parameters {
    pub(crate) fn new(config: &Config, mss_bytes: u16) -> Self {
        Self {
            mss_bytes: (mss_bytes as u32).max(1),
            link_kbps: config.link_kbps.max(1),
            dctcp_weight: config.dctcp_weight,
            dctcp_init_kbps: config.dctcp_init_kbps,
            dctcp_step_kbps: config.dctcp_step_kbps,
            dctcp_min_kbps: config.dctcp_min_kbps,
            const_rate_kbps: config.const_rate_kbps,
        }
    }
    /// The initial window, bytes.
    pub(crate) fn initial_window(&self) -> u32 {
        let large = self.mss_bytes.saturating_mul(2).max(INITIAL_WINDOW_BYTES);
        self.mss_bytes.saturating_mul(INITIAL_WINDOW_SEGMENTS).min(large)
    }
}

/// A congestion controller. Every hook may be left out.
pub(crate) trait CongestionControl {
    /// Bytes were acknowledged, without loss or mark in this interval.
    fn on_ack(&mut self, _interval: &Interval, _parameters: &Parameters) {}
    /// Some acknowledgements carried ECE. At most once per interval.
    fn on_ecn(&mut self, interval: &Interval, parameters: &Parameters) {
        self.on_loss(interval, parameters);
    }
    /// The fast path retransmitted. At most once per interval.
    fn on_loss(&mut self, _interval: &Interval, _parameters: &Parameters) {}
    /// The retransmission timeout fired with `in_flight_bytes` outstanding.
    fn on_timeout(&mut self, _in_flight_bytes: u32, _parameters: &Parameters) {}
    /// The flow was idle for longer than its retransmission timeout, and sends again.
    fn on_idle(&mut self, _parameters: &Parameters) {}
    /// What the flow may send.
    fn allowance(&self, parameters: &Parameters) -> Allowance;
}

/// The congestion controller of one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Controller {
    /// None yet.
    None,
    Dctcp(dctcp::Dctcp),
    NewReno(newreno::NewReno),
    Constant(constant::Constant),
}

/// Whether `algorithm` is one of [`congestion`].
pub(crate) const fn is_known(algorithm: u32) -> bool {
    matches!(algorithm, congestion::DCTCP_RATE | congestion::NEWRENO | congestion::CONST_RATE)
}

/// `bytes` in `us` microseconds as kilobits per second.
pub(crate) fn kbps(bytes: u64, us: u64) -> u32 {
    let scaled = bytes.saturating_mul(8000).checked_div(us).unwrap_or(u64::MAX);
    scaled.min(RATE_UNLIMITED.wrapping_sub(1) as u64) as u32
}

impl Controller {
    /// A controller of the given algorithm for a flow whose RTT is about `srtt_us`.
    pub(crate) fn new(algorithm: u32, srtt_us: u32, parameters: &Parameters) -> Self {
        match algorithm {
            congestion::NEWRENO => Self::NewReno(newreno::NewReno::new(parameters)),
            congestion::CONST_RATE => Self::Constant(constant::Constant),
            _ => Self::Dctcp(dctcp::Dctcp::new(srtt_us, parameters)),
        }
    }

    fn with<R>(&mut self, call: impl FnOnce(&mut dyn CongestionControl) -> R) -> Option<R> {
        match self {
            Self::None => None,
            Self::Dctcp(dctcp) => Some(call(dctcp)),
            Self::NewReno(newreno) => Some(call(newreno)),
            Self::Constant(constant) => Some(call(constant)),
        }
    }

    /// One control interval is over.
    pub(crate) fn update(&mut self, interval: &Interval, parameters: &Parameters) {
        self.with(|control| {
            if interval.losses > 0 {
                control.on_loss(interval, parameters);
            } else if interval.ecn_bytes > 0 {
                control.on_ecn(interval, parameters);
            } else if interval.acked_bytes > 0 {
                control.on_ack(interval, parameters);
            }
        });
    }

    /// The retransmission timeout fired.
    pub(crate) fn on_timeout(&mut self, in_flight_bytes: u32, parameters: &Parameters) {
        self.with(|control| control.on_timeout(in_flight_bytes, parameters));
    }

    /// The flow was idle for longer than its retransmission timeout, and sends again.
    pub(crate) fn on_idle(&mut self, parameters: &Parameters) {
        self.with(|control| control.on_idle(parameters));
    }

    /// What the flow may send.
    pub(crate) fn allowance(&mut self, parameters: &Parameters) -> Allowance {
        let initial = Allowance { rate_kbps: RATE_UNLIMITED, cwnd_bytes: parameters.initial_window() };
        let allowance = self.with(|control| control.allowance(parameters)).unwrap_or(initial);
        Allowance {
            rate_kbps: allowance.rate_kbps.max(1),
            cwnd_bytes: allowance
                .cwnd_bytes
                .clamp(parameters.mss_bytes, WINDOW_MAX_BYTES.max(parameters.mss_bytes)),
        }
    }

    /// Values of [`congestion`]; zero before the connection is established.
    pub(crate) fn algorithm(&self) -> u32 {
        match self {
            Self::None => 0,
            Self::Dctcp(_) => congestion::DCTCP_RATE,
            Self::NewReno(_) => congestion::NEWRENO,
            Self::Constant(_) => congestion::CONST_RATE,
        }
    }
}
