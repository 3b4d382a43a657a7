// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line of `tas-fastpath`. Options of the original TAS that still make sense keep
//! their names (some as aliases); what follows `--` goes to DPDK's EAL.

use std::net::IpAddr;
use std::path::PathBuf;

use abi::limits::{CORES_MAX, FLOWS_DEFAULT, FLOWS_MAX, IPV6_MTU_MIN, MTU_MAX, MTU_MIN};
use abi::message::congestion;
use abi::pool::BUFFER_BYTES_MAX;
use clap::{Parser, ValueEnum};

use super::option_values::{
    instance_name, ipv4_host, ipv6_host, rate_kbps, CpuList, Fraction, IpNet, RouteOption,
};

/// Smallest buffer of a flow: two full segments, so that one can be in flight while one is read.
const BUFFER_BYTES_MIN: u32 = 4096;
/// Fewest flows that make a sensible table.
const FLOWS_MIN: u32 = 64;
/// Half a minute is more than any retry needs, and keeps sums of them within 32 bits.
const SHORT_TIME_US_MAX: i64 = 30_000_000;
/// Largest id of a VLAN (IEEE 802.1Q reserves 4095).
const VLAN_MAX: i64 = 4094;
/// Largest time given in seconds: 32 bits of microseconds hold 4294.
const SECONDS_MAX: i64 = 4000;
/// Largest bandwidth: 32 bits of kilobits per second hold 4294 Gbit/s.
const LINK_GBPS_MAX: i64 = 4000;

/// The TAS fast path: TCP data transfer on dedicated cores, over DPDK.
///
/// Connections are set up by the slow path (the tas.ko module, or tas-slowpathd), which must be
/// running. EAL arguments follow `--`, for example `-- --vdev=net_tap0,iface=tas0` or
/// `-- -a 0000:00:03.0`.
#[derive(Debug, Clone, Parser)]
#[command(name = "tas-fastpath", version, max_term_width = 100)]
pub struct Options {
    /// Address TAS serves, with its prefix length
    #[arg(long, value_name = "ADDRESS/PREFIX", alias = "ip-addr", value_parser = ipv4_host)]
    pub ip: IpNet,

    /// IPv6 address TAS serves beside it, with its prefix length. The link-local address is made from the
    /// port's MAC address [default: no IPv6]
    #[arg(long, value_name = "ADDRESS/PREFIX", value_parser = ipv6_host)]
    pub ip6: Option<IpNet>,

    /// Route, IPv4 or IPv6: destination[/prefix],next-hop. Repeatable; the longest prefix wins
    #[arg(long, value_name = "DEST[/PREFIX],NEXT-HOP", alias = "ip-route")]
    pub route: Vec<RouteOption>,

    /// Fast-path cores, one thread each
    #[arg(long, default_value_t = 1, alias = "fp-cores-max",
          value_parser = clap::value_parser!(u32).range(1..=CORES_MAX as i64))]
    pub cores: u32,

    /// Processors for the cores, for example 2,4-6 [default: the last ones this process may use]
    #[arg(long, value_name = "LIST")]
    pub cpus: Option<CpuList>,

    /// Do not tie each core to one processor
    #[arg(long)]
    pub no_pin: bool,

    /// Where the slow path runs
    #[arg(long, value_enum, default_value_t = Backend::Kernel)]
    pub backend: Backend,

    /// Name of this instance
    #[arg(long, default_value = "tas0", value_parser = instance_name)]
    pub instance: String,

    /// Device of the kernel backend
    #[arg(long, value_name = "PATH", default_value = "/dev/tas")]
    pub device: PathBuf,

    /// Socket of the daemon backend [default: /run/tas/INSTANCE.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// Flows the instance has room for, rounded up to a power of two
    #[arg(long, default_value_t = FLOWS_DEFAULT,
          value_parser = clap::value_parser!(u32).range(FLOWS_MIN as i64..=FLOWS_MAX as i64))]
    pub flows: u32,

    /// MTU in bytes, up to 9000 [default: the port's, at most 1500]
    #[arg(long, value_parser = clap::value_parser!(u32).range(MTU_MIN as i64..=MTU_MAX as i64))]
    pub mtu: Option<u32>,

    /// DPDK port by name, when EAL finds more than one
    #[arg(long, value_name = "NAME")]
    pub port: Option<String>,

    /// VLAN that TAS serves (IEEE 802.1Q), by the port's offload or in software. Frames of others, and without a
    /// tag, are dropped [default: what comes without a tag]
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u32).range(1..=VLAN_MAX))]
    pub vlan: Option<u32>,

    /// TCP and ARP
    #[command(flatten)]
    pub tcp: TcpOptions,

    /// Congestion control
    #[command(flatten)]
    pub cc: CongestionOptions,

    /// Cores and port
    #[command(flatten)]
    pub core: CoreOptions,

    /// Write one line to this descriptor once applications can attach, and close it
    #[arg(long, value_name = "FD", value_parser = clap::value_parser!(i32).range(0..))]
    pub ready_fd: Option<i32>,

    /// Print errors only
    #[arg(long)]
    pub quiet: bool,

    /// One more EAL argument; repeatable
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub dpdk_extra: Vec<String>,

    /// Arguments for DPDK's EAL
    #[arg(last = true, value_name = "EAL ARGUMENTS")]
    pub eal: Vec<String>,
}

/// TCP and ARP.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "TCP")]
pub struct TcpOptions {
    /// Round-trip time assumed until one is measured, microseconds
    #[arg(long, value_name = "US", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=SHORT_TIME_US_MAX))]
    pub tcp_rtt_init: u32,

    /// Bandwidth of the link, Gbit/s
    #[arg(long, value_name = "GBPS", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=LINK_GBPS_MAX))]
    pub tcp_link_bw: u32,

    /// Receive buffer of a connection, bytes
    #[arg(long, value_name = "BYTES", default_value_t = BUFFER_BYTES_MAX,
          value_parser = clap::value_parser!(u32).range(BUFFER_BYTES_MIN as i64..=BUFFER_BYTES_MAX as i64))]
    pub tcp_rxbuf_len: u32,

    /// Transmit buffer of a connection, bytes
    #[arg(long, value_name = "BYTES", default_value_t = BUFFER_BYTES_MAX,
          value_parser = clap::value_parser!(u32).range(BUFFER_BYTES_MIN as i64..=BUFFER_BYTES_MAX as i64))]
    pub tcp_txbuf_len: u32,

    /// Time before a SYN is repeated, microseconds; doubles each time. The default is RFC 6298's; within a
    /// datacentre 10000 is enough
    #[arg(long, value_name = "US", default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u32).range(100..=SHORT_TIME_US_MAX))]
    pub tcp_handshake_timeout: u32,

    /// How often a SYN is repeated before giving up. The default goes on for four minutes (RFC 9293
    /// MUST-23 asks for three); an application has TCP_SYNCNT and TCP_USER_TIMEOUT
    #[arg(long, value_name = "N", default_value_t = 7,
          value_parser = clap::value_parser!(u32).range(1..=15))]
    pub tcp_handshake_retries: u32,

    /// Smallest retransmission timeout, microseconds. The default is Linux's. Within a datacentre 50000 is
    /// enough: above the 40 ms that Linux may delay an acknowledgement
    #[arg(long, value_name = "US", default_value_t = 200_000,
          value_parser = clap::value_parser!(u32).range(100..=SHORT_TIME_US_MAX))]
    pub tcp_rto_min: u32,

    /// TIME-WAIT, seconds
    #[arg(long, value_name = "S", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..=SECONDS_MAX))]
    pub tcp_time_wait: u32,

    /// Time before an ARP request is repeated, microseconds; doubles each time
    #[arg(long, value_name = "US", default_value_t = 20_000, alias = "arp-timout",
          value_parser = clap::value_parser!(u32).range(100..=SHORT_TIME_US_MAX))]
    pub arp_timeout: u32,

    /// Age at which a next hop is asked for again, seconds
    #[arg(long, value_name = "S", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..=SECONDS_MAX))]
    pub arp_age: u32,

    /// Do not negotiate ECN
    #[arg(long)]
    pub no_ecn: bool,
}

/// Congestion control.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Congestion control")]
pub struct CongestionOptions {
    /// Algorithm of connections that do not choose one (TCP_CONGESTION)
    #[arg(long, value_enum, default_value_t = Congestion::DctcpRate)]
    pub cc: Congestion,

    /// Control interval, in round-trip times
    #[arg(long, value_name = "RTTS", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cc_control_interval: u32,

    /// DCTCP: weight g of a new sample, above 0 and at most 1
    #[arg(long, value_name = "G", default_value = "0.0625")]
    pub cc_dctcp_weight: Fraction,

    /// DCTCP: first rate, kbit/s
    #[arg(long, value_name = "KBPS", default_value_t = 10_000, value_parser = rate_kbps)]
    pub cc_dctcp_init: u32,

    /// DCTCP: additive increase per control interval, kbit/s; 0 is one segment per RTT for each RTT
    #[arg(long, value_name = "KBPS", default_value_t = 0)]
    pub cc_dctcp_step: u32,

    /// DCTCP: lowest rate, kbit/s
    #[arg(long, value_name = "KBPS", default_value_t = 1000, value_parser = rate_kbps)]
    pub cc_dctcp_min: u32,

    /// Constant rate: kbit/s; 0 is unlimited
    #[arg(long, value_name = "KBPS", default_value_t = 0)]
    pub cc_const_rate: u32,
}

/// The fast-path cores and their port.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Cores and port")]
pub struct CoreOptions {
    /// Time without work before a core sleeps, microseconds
    #[arg(long, value_name = "US", default_value_t = 10_000, alias = "fp-poll-interval-tas",
          value_parser = clap::value_parser!(u32).range(0..=SHORT_TIME_US_MAX))]
    pub poll_interval: u32,

    /// Never sleep
    #[arg(long, alias = "fp-no-ints")]
    pub no_ints: bool,

    /// Compute transmit checksums in software
    #[arg(long, alias = "fp-no-xsumoffload")]
    pub no_xsumoffload: bool,

    /// Verify receive checksums in software, whatever the port says of them
    #[arg(long)]
    pub no_rx_xsumoffload: bool,

    /// Use ordinary pages even where huge pages are free
    #[arg(long, alias = "fp-no-hugepages")]
    pub no_hugepages: bool,
}

/// Which slow path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The tas.ko module
    Kernel,
    /// tas-slowpathd
    Daemon,
}

/// Congestion control algorithms by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Congestion {
    /// DCTCP, rate based (RFC 8257's marking fraction)
    DctcpRate,
    /// NewReno (RFC 5681, RFC 6582)
    #[value(alias = "reno")]
    Newreno,
    /// A fixed rate, see --cc-const-rate
    ConstRate,
}

impl Congestion {
    /// Its number in [`abi::message::congestion`].
    pub fn number(self) -> u32 {
        match self {
            Self::DctcpRate => congestion::DCTCP_RATE,
            Self::Newreno => congestion::NEWRENO,
            Self::ConstRate => congestion::CONST_RATE,
        }
    }
}

impl Options {
    /// Checks what concerns more than one option.
    ///
    /// # Errors
    /// What is wrong and what to type.
    pub fn check(&self) -> Result<(), String> {
        if let Some(CpuList(cpus)) = &self.cpus {
            if cpus.len() != self.cores as usize {
                return Err(format!("--cpus names {} processors for --cores {}", cpus.len(), self.cores));
            }
            if self.no_pin {
                return Err("--cpus and --no-pin exclude each other".into());
            }
        }
        if self.backend == Backend::Kernel && self.socket.is_some() {
            return Err("--socket belongs to --backend daemon".into());
        }
        if self.ip6.is_some() && self.mtu.is_some_and(|mtu| mtu < IPV6_MTU_MIN) {
            return Err(format!("--ip6 needs an --mtu of {IPV6_MTU_MIN} or more (RFC 8200)"));
        }
        self.route.iter().try_for_each(|route| self.check_route(route))
    }

    fn check_route(&self, route: &RouteOption) -> Result<(), String> {
        let hop = route.next_hop;
        let own = match (hop, self.ip6) {
            (IpAddr::V4(_), _) => self.ip,
            (IpAddr::V6(_), Some(net)) => net,
            (IpAddr::V6(_), None) => return Err(format!("route over {hop} without --ip6")),
        };
        let link_local = matches!(hop, IpAddr::V6(hop) if hop.is_unicast_link_local());
        if !own.contains(hop) && !link_local {
            return Err(format!("next hop {hop} is not on the link {own}"));
        }
        if hop == own.address {
            return Err(format!("next hop {hop} is TAS itself"));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
