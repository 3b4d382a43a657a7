// SPDX-License-Identifier: MIT OR Apache-2.0
//! A plan in words, for whoever reads a failure.

use super::{Impairment, Plan, Side};
use std::fmt;

fn impairment(f: &mut fmt::Formatter<'_>, of: &Impairment) -> fmt::Result {
    let chances = [
        ("loss", of.loss),
        ("duplicate", of.duplicate),
        ("reorder", of.reorder),
        ("corrupt", of.corrupt),
        ("mark", of.mark),
        ("burst begin", of.burst_begin),
        ("burst end", of.burst_end),
    ];
    for (name, chance) in chances.into_iter().filter(|(_, chance)| *chance > 0) {
        write!(f, ", {name} {chance}‰")?;
    }
    if of.jitter_us > 0 {
        write!(f, ", jitter {} µs", of.jitter_us)?;
    }
    Ok(())
}

fn side(f: &mut fmt::Formatter<'_>, name: &str, of: &Side) -> fmt::Result {
    write!(f, "    {name} sends {} B in pieces of {}", of.bytes, of.piece_bytes)?;
    if of.write_pause_us > 0 {
        write!(f, " every {} µs", of.write_pause_us)?;
    }
    write!(f, ", reads {} at once, ends {:?}", of.read_bytes, of.end)?;
    if let Some((after, pause)) = of.read_stop {
        write!(f, ", stops reading after {after} B for {pause} µs")?;
    }
    if of.nodelay {
        write!(f, ", nodelay")?;
    }
    if let Some(bytes) = of.receive_buffer_bytes {
        write!(f, ", receive buffer {bytes}")?;
    }
    if let Some(at) = of.urgent_at {
        write!(f, ", byte {at} urgent")?;
    }
    if of.more > 0 {
        write!(f, ", more {}‰", of.more)?;
    }
    if of.keeps_us > 0 {
        write!(f, ", keeps its socket {} µs", of.keeps_us)?;
    }
    for (name, is) in [("urgent in line", of.urgent_inline), ("linger 0", of.lingers_zero)] {
        if is {
            write!(f, ", {name}")?;
        }
    }
    writeln!(f)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.hosts[0].over_ipv6 { "IPv6" } else { "IPv4" };
        writeln!(f, "world {} over {family}", self.seed)?;
        for (number, link) in self.links.iter().enumerate() {
            write!(f, "  link {} → {}: ", number, 1 - number)?;
            write!(f, "{} kbit/s, {} µs, queue {} B", link.kbps, link.delay_us, link.queue_bytes)?;
            if link.mark_bytes != u64::MAX {
                write!(f, ", marks above {} B", link.mark_bytes)?;
            }
            impairment(f, &link.impairment)?;
            writeln!(f)?;
        }
        for (number, host) in self.hosts.iter().enumerate() {
            let lags = match self.slow_path_lag_us[number] {
                0 => String::new(),
                us => format!(", slow path {us} µs late"),
            };
            let sleeps = if self.never_sleeps[number] { ", never sleeps" } else { "" };
            writeln!(
                f,
                "  host {number}: MTU {}, buffers {}/{}, congestion {} at {} kbit/s, ECN {}, RTO {} µs, SYN {} µs, TIME-WAIT {} µs, {} cores, {} flows, {} pool segments{sleeps}{lags}",
                host.mtu_bytes, host.rx_buffer_bytes, host.tx_buffer_bytes, host.congestion, host.const_rate_kbps,
                host.ecn, host.rto_min_us, host.handshake_timeout_us, host.time_wait_us, host.cores, host.flows, host.pool_segments_max,
            )?;
        }
        if self.strip != super::Strip::default() {
            writeln!(f, "  the middle: {:?}", self.strip)?;
        }
        for (number, process) in self.processes.iter().enumerate() {
            writeln!(
                f,
                "  process {number} on host {}: {} contexts, {:?}, {:?}",
                process.host, process.contexts, process.listen, process.death
            )?;
        }
        for (number, connect) in self.connections.iter().enumerate() {
            write!(
                f,
                "  connection {number} at {} from {} to {:?}",
                connect.at_us, connect.client, connect.server
            )?;
            if let Some(us) = connect.gives_up_us {
                write!(f, ", gives up after {us} µs")?;
            }
            if connect.fast_open {
                write!(f, ", fast open")?;
            }
            writeln!(f, "{}", if self.may_fail(connect) { ", may fail" } else { "" })?;
            side(f, "client", &connect.sides[0])?;
            side(f, "server", &connect.sides[1])?;
        }
        for (at, trouble) in &self.troubles {
            writeln!(f, "  at {at}: {trouble:?}")?;
        }
        Ok(())
    }
}
