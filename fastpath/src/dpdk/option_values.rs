// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kinds of values that options of `tas-fastpath` take.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use abi::limits::INSTANCE_NAME_BYTES;

/// An address with a prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpNet {
    /// Address, host bits included.
    pub address: IpAddr,
    /// Prefix length, 0..=32 or 128.
    pub prefix: u32,
}

impl IpNet {
    /// The IPv4 address in host order; zero if it is not one.
    pub fn ipv4_bits(self) -> u32 {
        match self.address {
            IpAddr::V4(address) => address.to_bits(),
            IpAddr::V6(_) => 0,
        }
    }

    /// The address at the top of 128 bits.
    fn bits(address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        }
    }

    /// Bits of an address of this family.
    fn width(self) -> u32 {
        if self.address.is_ipv4() {
            32
        } else {
            128
        }
    }

    /// The host's part of the address, and what it is with every bit set.
    fn host_bits(self) -> (u128, u128) {
        let all = u128::MAX.checked_shl(128 - self.width()).unwrap_or(0);
        let mask = u128::MAX.checked_shr(self.prefix).unwrap_or(0) & all;
        (Self::bits(self.address) & mask, mask)
    }

    /// True if `other` is of the same network.
    pub fn contains(self, other: IpAddr) -> bool {
        let differs = Self::bits(self.address) ^ Self::bits(other);
        let host = u128::MAX.checked_shr(self.prefix).unwrap_or(0);
        self.address.is_ipv4() == other.is_ipv4() && differs & !host == 0
    }

    /// Without a prefix length it is one address.
    fn parse(text: &str, prefix_may_miss: bool) -> Result<Self, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let parsed: IpAddr =
            address.parse().map_err(|_| format!("{address} is not an IPv4 or IPv6 address"))?;
        let whole = Self { address: parsed, prefix: 0 }.width();
        let usual = if whole == 32 { 24 } else { 64 };
        let prefix = match prefix {
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|bits| *bits <= whole)
                .ok_or_else(|| format!("the prefix length in {text} is not 0 to {whole}"))?,
            None if prefix_may_miss => whole,
            None => return Err(format!("prefix length missing: say {text}/{usual}")),
        };
        Ok(Self { address: parsed, prefix })
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The IPv4 address of a host, with its prefix length.
pub(super) fn ipv4_host(text: &str) -> Result<IpNet, String> {
    let net = IpNet::parse(text, false)?;
    let IpAddr::V4(address) = net.address else {
        return Err(format!("{} is not an IPv4 address; say --ip6 {text}", net.address));
    };
    let [first, ..] = address.octets();
    if first == 0 || first == 127 || first >= 224 {
        return Err(format!("{address} cannot be the address of a host"));
    }
    let (host, mask) = net.host_bits();
    if net.prefix < 31 && (host == 0 || host == mask) {
        return Err(format!("{address} is the network's own or its broadcast address"));
    }
    Ok(net)
}

/// The global IPv6 address of a host, with its prefix length.
pub(super) fn ipv6_host(text: &str) -> Result<IpNet, String> {
    let net = IpNet::parse(text, false)?;
    let IpAddr::V6(address) = net.address else {
        return Err(format!("{} is not an IPv6 address; say --ip {text}", net.address));
    };
    if address.is_unicast_link_local() {
        return Err(format!("{address} is an address of the link; TAS makes its own beside a global one"));
    }
    let embeds_ipv4 = address.to_ipv4_mapped().is_some();
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || embeds_ipv4 {
        return Err(format!("{address} cannot be the address of a host"));
    }
    // The all-zeros host part is every router's (RFC 4291 §2.6.1), except on a link of two (RFC 6164).
    if net.prefix < 127 && net.host_bits().0 == 0 {
        return Err(format!("{address} is the anycast address of the subnet's routers"));
    }
    Ok(net)
}

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteOption {
    /// Destination network.
    pub destination: IpNet,
    /// Next hop, of the same family.
    pub next_hop: IpAddr,
}

impl FromStr for RouteOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (destination, next_hop) =
            text.split_once(',').ok_or("next hop missing: say 0.0.0.0/0,10.0.0.254")?;
        let next_hop: IpAddr =
            next_hop.parse().map_err(|_| format!("{next_hop} is not an IPv4 or IPv6 address"))?;
        let destination = match (destination, next_hop) {
            ("default", IpAddr::V4(_)) => IpNet { address: Ipv4Addr::UNSPECIFIED.into(), prefix: 0 },
            ("default", IpAddr::V6(_)) => IpNet { address: Ipv6Addr::UNSPECIFIED.into(), prefix: 0 },
            (other, _) => IpNet::parse(other, true)?,
        };
        if destination.address.is_ipv4() != next_hop.is_ipv4() {
            return Err(format!("{destination} and its next hop {next_hop} are of different families"));
        }
        if destination.host_bits().0 != 0 {
            return Err(format!("{destination} has host bits set"));
        }
        Ok(Self { destination, next_hop })
    }
}

/// Processor numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is not a list like 2,4-6");
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (usize, usize) =
                (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
            if last < first || last >= MAX_CPUS {
                return Err(wrong());
            }
            cpus.extend(first..=last);
        }
        let given = cpus.len();
        cpus.sort_unstable();
        cpus.dedup();
        if cpus.len() != given {
            return Err(format!("{text} names a processor twice"));
        }
        Ok(Self(cpus))
    }
}

/// The size of glibc's `cpu_set_t`.
const MAX_CPUS: usize = 1024;

/// A fraction in 65536ths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fraction(pub u32);

impl FromStr for Fraction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is not a number above 0 and at most 1");
        let value: f64 = match text.split_once('/') {
            Some((top, bottom)) => {
                let bottom: f64 = bottom.parse().map_err(|_| wrong())?;
                top.parse::<f64>().map_err(|_| wrong())? / bottom
            }
            None => text.parse().map_err(|_| wrong())?,
        };
        let scaled = (value * 65536.0).round();
        if !(1.0..=65536.0).contains(&scaled) {
            return Err(wrong());
        }
        Ok(Self(scaled as u32))
    }
}

/// A rate: zero would stop the flow for good, all ones means unlimited.
pub(super) fn rate_kbps(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|rate| (1..u32::MAX).contains(rate))
        .ok_or_else(|| format!("{text} is not a rate from 1 to 4294967294 kbit/s"))
}

/// An instance's name as messages can carry it.
pub(super) fn instance_name(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.len() < INSTANCE_NAME_BYTES;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if fits && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(format!("an instance name has 1 to {} letters, digits, - or _", INSTANCE_NAME_BYTES - 1))
    }
}
