// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What an instance is configured with. A zero in [`AttachFast`] means "the default".

use crate::{errno::Errno, wire::address::Address};
use abi::{
    limits::{CORES_MAX, ETHERNET_MTU, FLOWS_DEFAULT, FLOWS_MAX, IPV6_MTU_MIN, MTU_MAX, MTU_MIN},
    message::{congestion, AttachFast},
    pool::BUFFER_BYTES_MAX,
};

/// Smallest number of flows: keeps every private table non-empty.
pub(crate) const FLOWS_MIN: u32 = 64;
/// Smallest buffer of one direction.
pub(crate) const BUFFER_BYTES_MIN: u32 = 4096;
/// Bit of `AttachFast::features`: negotiate ECN.
pub(crate) const FEATURE_ECN: u32 = 1 << 0;

/// Configuration of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Instance name, zero-padded.
    pub instance: [u8; 16],
    /// Fast-path cores.
    pub cores: u32,
    /// Flow slots, a power of two.
    pub flows: u32,
    /// MTU of the port, bytes.
    pub mtu_bytes: u32,
    /// Local IPv4 address, host order.
    pub ipv4: u32,
    /// Its prefix length.
    pub prefix: u32,
    /// Local IPv6 address, words in host order, most significant first; zero: no IPv6.
    pub ipv6: [u32; 4],
    /// Its prefix length.
    pub ipv6_prefix: u32,
    /// Local IPv6 address of the link; zero without IPv6.
    pub ipv6_link_local: [u32; 4],
    /// Local MAC address in the low 48 bits, first byte on the wire highest.
    pub mac: u64,
    /// Default congestion control: values of [`congestion`].
    pub congestion: u32,
    /// First SYN timeout, microseconds; doubled at every retry.
    pub handshake_timeout_us: u64,
    /// SYN and SYN-ACK transmissions after the first. RFC 9293 MUST-23 wants three minutes of them:
    /// seven take 255 s (Linux's six give up after 127 s).
    pub handshake_retries: u32,
    /// Smallest retransmission timeout, microseconds.
    pub rto_min_us: u64,
    /// Receive buffer of a flow, bytes.
    pub rx_buffer_bytes: u32,
    /// Transmit buffer of a flow, bytes.
    pub tx_buffer_bytes: u32,
    /// Link bandwidth, kilobits per second: no rate is set above it.
    pub link_kbps: u32,
    /// RTT assumed until measured, microseconds.
    pub rtt_init_us: u32,
    /// Control interval in RTTs.
    pub control_interval_rtts: u32,
    /// DCTCP's g in units of 1/65536.
    pub dctcp_weight: u32,
    /// DCTCP's first rate, kilobits per second.
    pub dctcp_init_kbps: u32,
    /// DCTCP's additive step per control interval, kilobits per second; zero: a segment per RTT for each RTT.
    pub dctcp_step_kbps: u32,
    /// DCTCP's floor, kilobits per second.
    pub dctcp_min_kbps: u32,
    /// Constant rate, kilobits per second; `abi::flow::RATE_UNLIMITED` does not pace.
    pub const_rate_kbps: u32,
    /// ARP: first retry, microseconds; doubled at every retry.
    pub arp_timeout_us: u64,
    /// ARP: age at which an entry is asked for again, microseconds.
    pub arp_age_us: u64,
    /// TIME-WAIT, microseconds.
    pub time_wait_us: u64,
    /// Negotiate ECN.
    pub ecn: bool,
    /// Keys for sequence numbers, timestamps offsets and the lookup hash, and the seed of every
    /// other random choice. The shell draws them once from the system's random source.
    pub secret: [u64; 4],
}

impl Default for Config {
    fn default() -> Self {
        Self {
            instance: *b"tas0\0\0\0\0\0\0\0\0\0\0\0\0",
            cores: 1,
            flows: FLOWS_DEFAULT,
            mtu_bytes: ETHERNET_MTU,
            ipv4: 0,
            prefix: 24,
            ipv6: [0; 4],
            ipv6_prefix: 64,
            ipv6_link_local: [0; 4],
            mac: 0,
            congestion: congestion::DCTCP_RATE,
            handshake_timeout_us: 1_000_000,
            handshake_retries: 7,
            rto_min_us: 200_000,
            rx_buffer_bytes: BUFFER_BYTES_MAX,
            tx_buffer_bytes: BUFFER_BYTES_MAX,
            link_kbps: 10_000_000,
            rtt_init_us: 50,
            control_interval_rtts: 2,
            dctcp_weight: 65_536 / 16,
            dctcp_init_kbps: 10_000,
            dctcp_step_kbps: 0,
            dctcp_min_kbps: 1_000,
            const_rate_kbps: abi::flow::RATE_UNLIMITED,
            arp_timeout_us: 500_000,
            arp_age_us: 60_000_000,
            time_wait_us: 60_000_000,
            ecn: true,
            secret: [0; 4],
        }
    }
}

const fn or(value: u32, default: u32) -> u32 {
    if value == 0 {
        default
    } else {
        value
    }
}

const fn or_us(value: u32, default: u64) -> u64 {
    if value == 0 {
        default
    } else {
        value as u64
    }
}

/// Link-local address with the interface identifier made of a MAC address (RFC 4291 §2.5.6, appendix A).
const fn link_local_of(mac: u64) -> [u32; 4] {
    let (high, low) = ((mac >> 24) as u32 & 0x00ff_ffff, mac as u32 & 0x00ff_ffff);
    // The universal/local bit is turned around.
    [0xfe80_0000, 0, (high ^ 0x0002_0000) << 8 | 0xff, 0xfe00_0000 | low]
}

impl Config {
    /// From the fast path's ATTACH call and the instance's keys.
    ///
    /// # Errors
    /// EINVAL: a value is outside its limits (cores, flows, MTU, prefix, buffers, congestion
    /// control), or a local address is not a unicast address of its kind. With IPv6 the MTU is 1280 at least.
    pub fn from_attach(body: &AttachFast, secret: [u64; 4]) -> Result<Self, Errno> {
        let default = Self::default();
        let ipv6_link_local = match (body.ipv6, body.ipv6_link_local) {
            ([0, 0, 0, 0], _) => [0; 4],
            (_, [0, 0, 0, 0]) => link_local_of(body.mac & 0xffff_ffff_ffff),
            (_, given) => given,
        };
        let config = Self {
            instance: if body.instance == [0; 16] { default.instance } else { body.instance },
            cores: body.cores,
            flows: or(body.flows, default.flows).checked_next_power_of_two().unwrap_or(u32::MAX),
            mtu_bytes: or(body.mtu_bytes, default.mtu_bytes),
            ipv4: body.ipv4,
            prefix: body.prefix,
            ipv6: body.ipv6,
            ipv6_prefix: body.ipv6_prefix,
            ipv6_link_local,
            mac: body.mac & 0xffff_ffff_ffff,
            congestion: or(body.congestion, default.congestion),
            handshake_timeout_us: or_us(body.handshake_timeout_us, default.handshake_timeout_us),
            handshake_retries: or(body.handshake_retries, default.handshake_retries),
            rto_min_us: or_us(body.rto_min_us, default.rto_min_us),
            rx_buffer_bytes: or(body.rx_buffer_bytes, default.rx_buffer_bytes),
            tx_buffer_bytes: or(body.tx_buffer_bytes, default.tx_buffer_bytes),
            link_kbps: or(body.link_kbps, default.link_kbps),
            rtt_init_us: or(body.rtt_init_us, default.rtt_init_us),
            control_interval_rtts: or(body.control_interval_rtts, default.control_interval_rtts),
            dctcp_weight: or(body.dctcp_weight, default.dctcp_weight),
            dctcp_init_kbps: or(body.dctcp_init_kbps, default.dctcp_init_kbps),
            dctcp_step_kbps: or(body.dctcp_step_kbps, default.dctcp_step_kbps),
            dctcp_min_kbps: or(body.dctcp_min_kbps, default.dctcp_min_kbps),
            const_rate_kbps: or(body.const_rate_kbps, default.const_rate_kbps),
            arp_timeout_us: or_us(body.arp_timeout_us, default.arp_timeout_us),
            arp_age_us: or_us(body.arp_age_us, default.arp_age_us),
            time_wait_us: or_us(body.time_wait_us, default.time_wait_us),
            ecn: body.features & FEATURE_ECN != 0,
            secret,
        };
        config.validate()?;
        Ok(config)
    }

    /// The local IPv6 address that is valid beyond the link, if there is IPv6.
    pub(crate) const fn global_v6(&self) -> Option<Address> {
        match self.ipv6 {
            [0, 0, 0, 0] => None,
            words => Some(Address::v6(words)),
        }
    }

    /// The local IPv6 address of the link, if there is IPv6.
    pub(crate) const fn link_local_v6(&self) -> Option<Address> {
        match self.ipv6 {
            [0, 0, 0, 0] => None,
            _ => Some(Address::v6(self.ipv6_link_local)),
        }
    }

    /// Whether an address is ours.
    pub(crate) fn is_local(&self, address: &Address) -> bool {
        match address.as_v4() {
            Some(address) => address == self.ipv4,
            None => self.global_v6() == Some(*address) || self.link_local_v6() == Some(*address),
        }
    }

    /// The local address to talk with `peer` from: the link's for peers of the link only (RFC 6724 rule 2).
    pub(crate) const fn local_for(&self, peer: &Address) -> Option<Address> {
        if peer.is_v4() {
            Some(Address::v4(self.ipv4))
        } else if peer.is_link_local() {
            self.link_local_v6()
        } else {
            self.global_v6()
        }
    }

    /// Whether an address can belong to another single host: a unicast address, neither ours nor our subnet's
    /// own or broadcast address (RFC 9293 MUST-46, MUST-63).
    pub(crate) fn is_host(&self, address: &Address) -> bool {
        match address.as_v4() {
            Some(address) => self.is_host_v4(address),
            None => address.is_unicast_v6() && !self.is_local(address),
        }
    }

    const fn is_host_v4(&self, address: u32) -> bool {
        if !is_unicast(address) || address == self.ipv4 {
            return false;
        }
        // A subnet of two addresses has neither (RFC 3021).
        if self.prefix == 0 || self.prefix >= 31 {
            return true;
        }
        let hosts = u32::MAX.wrapping_shr(self.prefix);
        let local = address & !hosts == self.ipv4 & !hosts;
        !local || (address & hosts != 0 && address & hosts != hosts)
    }

    fn is_ipv6_valid(&self) -> bool {
        let (Some(global), Some(link_local)) = (self.global_v6(), self.link_local_v6()) else {
            return true;
        };
        global.is_unicast_v6()
            && !global.is_link_local()
            && link_local.is_link_local()
            && self.ipv6_prefix <= 128
            && self.mtu_bytes >= IPV6_MTU_MIN
    }

    fn validate(&self) -> Result<(), Errno> {
        let fits = matches!(self.cores, 1..=CORES_MAX)
            && matches!(self.flows, FLOWS_MIN..=FLOWS_MAX)
            && self.flows.is_power_of_two()
            && matches!(self.mtu_bytes, MTU_MIN..=MTU_MAX)
            && self.prefix <= 32
            && matches!(self.rx_buffer_bytes, BUFFER_BYTES_MIN..=BUFFER_BYTES_MAX)
            && matches!(self.tx_buffer_bytes, BUFFER_BYTES_MIN..=BUFFER_BYTES_MAX)
            && matches!(self.control_interval_rtts, 1..=64)
            && self.handshake_retries <= 15
            && self.dctcp_weight <= 65_536
            && crate::congestion::is_known(self.congestion)
            && is_unicast(self.ipv4)
            && self.is_ipv6_valid();
        if fits {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }
}

/// Whether an IPv4 address (host order) can belong to one host: not 0/8, not 127/8, not class D or E.
pub(crate) const fn is_unicast(address: u32) -> bool {
    let first = address >> 24;
    first != 0 && first != 127 && first < 224
}
