// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a script's options and commands set before the host begins.

use super::Mismatch;
use crate::script::{Action, Script};
use abi::message::{congestion, AttachFast};

/// Linux's default, of packetdrill's `--tolerance_usecs`.
const TOLERANCE_US: u64 = 4000;
/// Bit of `AttachFast::features`: negotiate ECN.
const FEATURE_ECN: u32 = 1;
/// packetdrill's own set-up script, which makes Linux what TAS is anyway.
const DEFAULTS_SCRIPT: &str = "defaults.sh";

/// Settings of a run.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// How far from its time a segment or a return may be.
    pub(super) tolerance_us: u64,
    /// Microseconds of a tick of the script's timestamps; zero: their distances are not checked.
    pub(super) tick_us: u64,
    /// MTU of both ends.
    pub(super) mtu_bytes: u32,
    ecn: bool,
    congestion: u32,
    retries: Option<u32>,
    receive_buffer: u32,
    transmit_buffer: u32,
    rto_min_us: u32,
}

impl Settings {
    /// From the options of a script, and from its commands, all of which count from the start.
    pub(super) fn of(script: &Script) -> Result<Self, Mismatch> {
        let mut settings = Self {
            tolerance_us: TOLERANCE_US,
            tick_us: 0,
            mtu_bytes: 1500,
            ecn: false,
            congestion: congestion::NEWRENO,
            retries: None,
            receive_buffer: 64 * 1024,
            transmit_buffer: 64 * 1024,
            rto_min_us: 200_000,
        };
        for (name, value) in &script.options {
            settings.option(name, value).map_err(|text| Mismatch { line: 0, text })?;
        }
        for event in &script.events {
            if let Action::Command(command) = &event.action {
                settings.command(command).map_err(|text| Mismatch { line: event.line, text })?;
            }
        }
        Ok(settings)
    }

    fn option(&mut self, name: &str, value: &str) -> Result<(), String> {
        let number = || value.parse::<u64>().map_err(|_| format!("--{name}: {value} is no number"));
        match name {
            "tolerance_usecs" => self.tolerance_us = number()?,
            "tcp_ts_tick_usecs" => self.tick_us = number()?,
            "mtu" => self.mtu_bytes = number()? as u32,
            "ip_version" if value == "ipv4" => {}
            _ => return Err(format!("--{name}={value} is not supported")),
        }
        Ok(())
    }

    fn command(&mut self, command: &str) -> Result<(), String> {
        for part in command.split([';', '\n']).map(str::trim).filter(|part| !part.is_empty()) {
            if part.ends_with(DEFAULTS_SCRIPT) {
                continue;
            }
            let Some(settings) = part.strip_prefix("sysctl") else {
                return Err(format!("`{part}` is not supported: commands are not executed"));
            };
            let text = settings.replace("-q", "").replace("-w", "");
            let (name, value) = text.split_once('=').ok_or(format!("`{part}`: expected name=value"))?;
            self.sysctl(name.trim(), value.trim().trim_matches('"'))?;
        }
        Ok(())
    }

    fn sysctl(&mut self, name: &str, value: &str) -> Result<(), String> {
        let unknown = || format!("sysctl {name}={value} has no counterpart");
        let number = |text: &str| text.parse::<u32>().map_err(|_| unknown());
        // "least default most": the default is what a socket gets.
        let default = || number(value.split_whitespace().nth(1).unwrap_or(""));
        match name.strip_prefix("net.ipv4.").ok_or_else(unknown)? {
            "tcp_ecn" if matches!(value, "0" | "1") => self.ecn = value == "1",
            "tcp_syn_retries" | "tcp_synack_retries" => self.retries = Some(number(value)?),
            "tcp_congestion_control" => {
                self.congestion = match value {
                    "reno" => congestion::NEWRENO,
                    "dctcp" => congestion::DCTCP_RATE,
                    _ => return Err(unknown()),
                }
            }
            "tcp_rmem" => self.receive_buffer = default()?,
            "tcp_wmem" => self.transmit_buffer = default()?,
            "tcp_rto_min_us" => self.rto_min_us = number(value)?,
            // What TAS always does.
            "tcp_sack" | "tcp_timestamps" | "tcp_window_scaling" | "tcp_dsack" if value == "1" => {}
            _ => return Err(unknown()),
        }
        Ok(())
    }

    /// Linux's times and the script's wishes, where the simulator has its own.
    pub(super) fn apply(&self, attach: &mut AttachFast) {
        attach.mtu_bytes = self.mtu_bytes;
        attach.congestion = self.congestion;
        attach.features = (attach.features & !FEATURE_ECN) | (u32::from(self.ecn) * FEATURE_ECN);
        attach.rx_buffer_bytes = self.receive_buffer;
        attach.tx_buffer_bytes = self.transmit_buffer;
        attach.rto_min_us = self.rto_min_us;
        // Zero: the slow path's defaults, which are Linux's.
        attach.handshake_timeout_us = 0;
        attach.handshake_retries = self.retries.unwrap_or(0);
        attach.time_wait_us = 0;
        attach.arp_age_us = 0;
    }
}
