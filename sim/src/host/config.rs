// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a host is made with.

use crate::segment::ipv6_of;
use abi::message::{congestion, AttachFast, Endpoint};
use abi::version;

/// What a host is made with.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// IPv4 address, host order.
    pub ipv4: u32,
    /// Prefix length.
    pub prefix: u32,
    /// The host has an IPv6 address too, [`ipv6_of`] its other one, and connections are made over IPv6. The MTU is
    /// 1280 at least then.
    pub over_ipv6: bool,
    /// MAC address.
    pub mac: [u8; 6],
    /// Cores of the fast path.
    pub cores: u32,
    /// Flow slots.
    pub flows: u32,
    /// Seed of the slow path's random choices.
    pub seed: u64,
    /// Values of [`abi::message::congestion`].
    pub congestion: u32,
    /// Does the port fill in transmit checksums?
    pub tx_checksum_offload: bool,
    /// MTU, bytes.
    pub mtu_bytes: u32,
    /// Receive buffer of a flow, bytes.
    pub rx_buffer_bytes: u32,
    /// Transmit buffer of a flow, bytes.
    pub tx_buffer_bytes: u32,
    /// Rate of congestion control [`congestion::CONST_RATE`], kilobits per second; zero is unlimited.
    pub const_rate_kbps: u32,
    /// Negotiate ECN.
    pub ecn: bool,
    /// Smallest retransmission timeout, microseconds.
    pub rto_min_us: u32,
    /// First SYN timeout, microseconds.
    pub handshake_timeout_us: u32,
    /// SYN and SYN-ACK transmissions after the first.
    pub handshake_retries: u32,
    /// First ARP retry, microseconds.
    pub arp_timeout_us: u32,
    /// TIME-WAIT, microseconds.
    pub time_wait_us: u32,
    /// Pool segments of an application at the start, and at most.
    pub pool_segments: u32,
    /// See [`Self::pool_segments`].
    pub pool_segments_max: u32,
}

impl HostConfig {
    /// The host 10.0.0.`number`.
    pub fn numbered(number: u8, seed: u64) -> Self {
        Self {
            ipv4: 0x0a00_0000 | u32::from(number),
            prefix: 24,
            over_ipv6: false,
            mac: [2, 0, 0, 0, 0, number],
            cores: 1,
            flows: 1024,
            seed: seed ^ u64::from(number) << 32,
            congestion: congestion::NEWRENO,
            tx_checksum_offload: false,
            mtu_bytes: 1500,
            rx_buffer_bytes: 64 * 1024,
            tx_buffer_bytes: 64 * 1024,
            const_rate_kbps: 0,
            ecn: true,
            rto_min_us: 5_000,
            handshake_timeout_us: 10_000,
            handshake_retries: 10,
            arp_timeout_us: 500,
            time_wait_us: 10_000,
            pool_segments: 8,
            pool_segments_max: abi::pool::POOL_SEGMENTS_MAX,
        }
    }

    /// The name, in the family of this host's connections, of the host with this IPv4 address.
    pub fn name(&self, ipv4: u32, port: u16) -> Endpoint {
        if self.over_ipv6 {
            Endpoint::ipv6(ipv6_of(ipv4), port, 0)
        } else {
            Endpoint::ipv4(ipv4, port)
        }
    }

    /// The call with which the fast path attaches.
    pub(super) fn attach_body(&self) -> AttachFast {
        let mac = self.mac.iter().fold(0, |mac, byte| mac << 8 | u64::from(*byte));
        AttachFast {
            abi_hash: version::FAST_HASH,
            version: version::FAST_VERSION,
            cores: self.cores,
            flows: self.flows,
            mtu_bytes: self.mtu_bytes,
            ipv4: self.ipv4,
            prefix: self.prefix,
            ipv6: if self.over_ipv6 { ipv6_of(self.ipv4) } else { [0; 4] },
            ipv6_prefix: 64,
            mac,
            congestion: self.congestion,
            handshake_timeout_us: self.handshake_timeout_us,
            handshake_retries: self.handshake_retries,
            rto_min_us: self.rto_min_us,
            rx_buffer_bytes: self.rx_buffer_bytes,
            tx_buffer_bytes: self.tx_buffer_bytes,
            link_kbps: 10_000_000,
            rtt_init_us: 50,
            control_interval_rtts: 2,
            dctcp_weight: 4096,
            dctcp_init_kbps: 10_000,
            dctcp_step_kbps: 0,
            dctcp_min_kbps: 1_000,
            const_rate_kbps: self.const_rate_kbps,
            arp_timeout_us: self.arp_timeout_us,
            arp_age_us: 60_000_000,
            time_wait_us: self.time_wait_us,
            features: u32::from(self.ecn) | u32::from(self.tx_checksum_offload) << 2,
            ..AttachFast::default()
        }
    }
}
