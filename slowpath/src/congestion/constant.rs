// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! A constant rate, for measurements and for links with reserved bandwidth.

use super::{Allowance, CongestionControl, Parameters, WINDOW_MAX_BYTES};

/// No state: the rate is the instance's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Constant;

impl CongestionControl for Constant {
    fn allowance(&self, parameters: &Parameters) -> Allowance {
        Allowance { rate_kbps: parameters.const_rate_kbps, cwnd_bytes: WINDOW_MAX_BYTES }
    }
}
