// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--so_flags`: what Linux's scripts set by sysctl, by the same names, and the addresses.

use abi::{
    message::{congestion, AttachFast},
    pool::BUFFER_BYTES_MAX,
};
use std::net::Ipv4Addr;

/// Bit of `AttachFast::features`: negotiate ECN.
const FEATURE_ECN: u32 = 1 << 0;
/// Buffer of a socket where the script says nothing. Power of two, so that its window needs no shift beyond 1.
const BUFFER_BYTES: u32 = 64 * 1024;
/// Ethernet's.
const MTU_BYTES: u32 = 1500;

/// What differs from script to script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The host's address; every other is a neighbour's.
    pub(crate) local: Ipv4Addr,
    pub(crate) mtu_bytes: u32,
    ecn: bool,
    congestion: u32,
    retries: u32,
    receive_buffer: u32,
    transmit_buffer: u32,
    rto_min_us: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            local: Ipv4Addr::new(192, 168, 0, 1),
            mtu_bytes: MTU_BYTES,
            ecn: false,
            congestion: congestion::NEWRENO,
            retries: 0,
            receive_buffer: BUFFER_BYTES,
            transmit_buffer: BUFFER_BYTES,
            rto_min_us: 0,
        }
    }
}

impl Settings {
    /// Reads `name=value,name=value`.
    ///
    /// # Errors
    /// A name or value that means nothing here.
    pub(crate) fn parse(flags: &str) -> Result<Self, String> {
        let mut settings = Self::default();
        for flag in flags.split(',').map(str::trim).filter(|flag| !flag.is_empty()) {
            let unknown = || format!("{flag} has no counterpart");
            let (name, value) = flag.split_once('=').ok_or_else(unknown)?;
            let number = || value.parse::<u32>().map_err(|_| unknown());
            match name {
                "ipv4" => settings.local = value.parse().map_err(|_| unknown())?,
                "mtu" => settings.mtu_bytes = number()?,
                // 2: only if the peer asks. An active open by TAS asks in either case.
                "tcp_ecn" => settings.ecn = number()? != 0,
                "tcp_syn_retries" | "tcp_synack_retries" => settings.retries = number()?,
                "tcp_rmem" => settings.receive_buffer = number()?.min(BUFFER_BYTES_MAX),
                "tcp_wmem" => settings.transmit_buffer = number()?.min(BUFFER_BYTES_MAX),
                "tcp_rto_min_us" => settings.rto_min_us = number()?,
                "tcp_congestion_control" => {
                    settings.congestion = match value {
                        "reno" | "cubic" => congestion::NEWRENO,
                        "dctcp" => congestion::DCTCP_RATE,
                        _ => return Err(unknown()),
                    }
                }
                _ => return Err(unknown()),
            }
        }
        Ok(settings)
    }

    /// Linux's times and the script's wishes, where the simulator has its own.
    pub(crate) fn apply(&self, attach: &mut AttachFast) {
        attach.ipv4 = self.local.into();
        // Whoever the peer is, it is on this link.
        attach.prefix = 0;
        attach.mtu_bytes = self.mtu_bytes;
        attach.congestion = self.congestion;
        attach.features = (attach.features & !FEATURE_ECN) | (u32::from(self.ecn) * FEATURE_ECN);
        attach.rx_buffer_bytes = self.receive_buffer;
        attach.tx_buffer_bytes = self.transmit_buffer;
        // Zero: the slow path's defaults, which are Linux's.
        attach.rto_min_us = self.rto_min_us;
        attach.handshake_timeout_us = 0;
        attach.handshake_retries = self.retries;
        attach.time_wait_us = 0;
        attach.arp_age_us = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_or_refused() {
        let settings = Settings::parse("ipv4=10.1.2.3, tcp_ecn=1,tcp_rmem=40000").unwrap();
        assert_eq!((settings.local, settings.ecn), (Ipv4Addr::new(10, 1, 2, 3), true));
        assert_eq!(settings.receive_buffer, 40_000);
        assert_eq!(Settings::parse(""), Ok(Settings::default()));
        for wrong in ["tcp_ecn", "tcp_ecn=yes", "tcp_fack=1", "tcp_congestion_control=bbr", "ipv4=here"] {
            assert!(Settings::parse(wrong).is_err(), "{wrong}");
        }
    }
}
