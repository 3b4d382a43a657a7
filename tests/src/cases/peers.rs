// SPDX-License-Identifier: MIT OR Apache-2.0
//! Peers with other options.

use super::{applications, bulk, Case};
use crate::lab::{Lab, Side};
use anyhow::Result;
use std::time::Duration;

/// No timestamps.
pub(crate) const NO_TIMESTAMPS: Case = Case {
    name: "no-timestamps",
    about: "the same with a peer whose net.ipv4.tcp_timestamps=0",
    least_segments: 1000,
    run: |lab| with_sysctl(lab, "net.ipv4.tcp_timestamps", "0"),
};

/// No window scaling.
pub(crate) const NO_WINDOW_SCALING: Case = Case {
    name: "no-window-scaling",
    about: "the same with a peer whose net.ipv4.tcp_window_scaling=0",
    least_segments: 1000,
    run: |lab| with_sysctl(lab, "net.ipv4.tcp_window_scaling", "0"),
};

/// A peer that announces a small MSS.
pub(crate) const SMALL_MTU: Case = Case {
    name: "small-mtu",
    about: "the same with a peer whose interface has an MTU of 600",
    least_segments: 1000,
    run: |lab| {
        let short = Duration::from_secs(20);
        lab.run(Side::Peer, short, "ip link set tas0 mtu 600")?;
        let outcome = traffic(lab);
        lab.run(Side::Peer, short, "ip link set tas0 mtu 1500")?;
        outcome
    },
};

fn with_sysctl(lab: &Lab, name: &str, value: &str) -> Result<()> {
    let short = Duration::from_secs(20);
    let before = lab.run(Side::Peer, short, &format!("sysctl -n {name}"))?;
    lab.run(Side::Peer, short, &format!("sysctl -qw {name}={value}"))?;
    let outcome = traffic(lab);
    lab.run(Side::Peer, short, &format!("sysctl -qw {name}={}", before.trim()))?;
    outcome
}

fn traffic(lab: &Lab) -> Result<()> {
    for case in [
        applications::CURL_FROM_PYTHON,
        applications::CURL_CLIENT,
        bulk::IPERF_SERVER,
        bulk::IPERF_SERVER_REVERSE,
    ] {
        (case.run)(lab)?;
        lab.end_background();
    }
    Ok(())
}
