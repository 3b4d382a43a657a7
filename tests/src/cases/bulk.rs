// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bulk transfer with iperf3: both directions, no stall.

use super::Case;
use crate::lab::{Lab, Side, PEER, TAS};
use anyhow::{ensure, Context, Result};
use std::time::Duration;

/// TAS receives.
pub(crate) const IPERF_SERVER: Case = Case {
    name: "iperf3-server",
    about: "iperf3 server on TAS, Linux sends, no second without data",
    least_segments: 500,
    run: |lab| iperf(lab, Side::Tas, TAS, ""),
};
/// TAS sends.
pub(crate) const IPERF_SERVER_REVERSE: Case = Case {
    name: "iperf3-server-reverse",
    about: "iperf3 server on TAS sends to Linux, no second without data",
    least_segments: 500,
    run: |lab| iperf(lab, Side::Tas, TAS, "-R"),
};
/// TAS sends.
pub(crate) const IPERF_CLIENT: Case = Case {
    name: "iperf3-client",
    about: "iperf3 client on TAS sends to Linux, no second without data",
    least_segments: 500,
    run: |lab| iperf(lab, Side::Peer, PEER, ""),
};
/// TAS receives.
pub(crate) const IPERF_CLIENT_REVERSE: Case = Case {
    name: "iperf3-client-reverse",
    about: "iperf3 client on TAS receives from Linux, no second without data",
    least_segments: 500,
    run: |lab| iperf(lab, Side::Peer, PEER, "-R"),
};

/// One run against a server at `address`.
pub(super) fn iperf(lab: &Lab, server: Side, address: &str, direction: &str) -> Result<()> {
    let seconds = lab.volume(6, 3);
    lab.start(server, "iperf3 -s -1")?;
    let line = format!("iperf3 -c {address} -t {seconds} -J {direction}");
    // iperf3 -s -1 serves one client only, so its readiness cannot be probed by connecting.
    let mut text = String::new();
    for _ in 0..100 {
        let output = lab.output(server.other(), Duration::from_secs(seconds + 60), &line, b"")?;
        text = String::from_utf8_lossy(&output.stdout).into_owned();
        // With -J the status is 0 even then.
        if !text.contains("Connection refused") {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    ensure!(!text.contains("\"error\""), "iperf3: {text}");
    let report: serde_json::Value = serde_json::from_str(&text).context("iperf3's report")?;
    let intervals = report["intervals"].as_array().context("no intervals in the report")?;
    let rates: Vec<f64> =
        intervals.iter().map(|i| i["sum"]["bits_per_second"].as_f64().unwrap_or(0.0) / 1e6).collect();
    ensure!(rates.len() as u64 >= seconds - 1, "only {} intervals", rates.len());
    ensure!(rates.iter().all(|&rate| rate > 0.0), "a second without data: {rates:?} Mbit/s");
    println!("  Mbit/s by second: {rates:.0?}");
    Ok(())
}
