// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cases. Each runs on either backend and says how many TAS segments it cannot do without.

mod adversaries;
mod applications;
mod bulk;
mod closing;
mod interop;
mod ipv6;
mod misbehaviour;
mod peers;
mod posix;

use crate::lab::Lab;
use anyhow::Result;

/// One case.
pub(crate) struct Case {
    /// Short name, for `--filter`.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// Fewest segments TAS must have carried.
    pub least_segments: u64,
    /// The case.
    pub run: fn(&Lab) -> Result<()>,
}

/// All cases, in the order in which they are run.
pub(crate) const ALL: &[Case] = &[
    applications::REDIS_SERVER,
    applications::REDIS_CLIENT,
    applications::CURL_FROM_PYTHON,
    applications::CURL_CLIENT,
    applications::PYTHON_ASYNCIO,
    applications::MANY_CONNECTIONS,
    bulk::IPERF_SERVER,
    bulk::IPERF_SERVER_REVERSE,
    bulk::IPERF_CLIENT,
    bulk::IPERF_CLIENT_REVERSE,
    closing::HALF_CLOSE,
    closing::RESET,
    closing::KILLED_SERVER,
    closing::REFUSED,
    closing::SLOW_READER,
    ipv6::IPV6_TRANSFER,
    ipv6::IPV6_DUAL_STACK,
    ipv6::IPV6_CONNECT,
    ipv6::IPV6_IPERF,
    peers::NO_TIMESTAMPS,
    peers::NO_WINDOW_SCALING,
    peers::SMALL_MTU,
    interop::PAIRS,
    posix::POSIX_PROBE,
    misbehaviour::GARBAGE_APPLICATION,
    adversaries::SYN_FLOOD,
    adversaries::HOSTILE_PEER,
    adversaries::HOSTILE_APPLICATION,
];
