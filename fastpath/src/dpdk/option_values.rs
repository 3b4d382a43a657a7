// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kinds of values that options of `tas-fastpath` take.

use std::net::Ipv4Addr;
use std::str::FromStr;

use abi::limits::INSTANCE_NAME_BYTES;

/// An IPv4 address with a prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Net {
    /// Address, host bits included.
    pub address: Ipv4Addr,
    /// Prefix length, 0..=32.
    pub prefix: u32,
}

impl Ipv4Net {
    /// The address in host order.
    pub fn address_bits(self) -> u32 {
        u32::from(self.address)
    }

    fn parse(text: &str, default_prefix: Option<u32>) -> Result<Self, String> {
        let (address, prefix) = match (text.split_once('/'), default_prefix) {
            (Some((address, prefix)), _) => {
                let prefix = prefix.parse().ok().filter(|bits| *bits <= 32);
                (address, prefix.ok_or_else(|| format!("the prefix length in {text} is not 0 to 32"))?)
            }
            (None, Some(prefix)) => (text, prefix),
            (None, None) => return Err(format!("prefix length missing: say {text}/24")),
        };
        let address = address.parse().map_err(|_| format!("{address} is not an IPv4 address"))?;
        Ok(Self { address, prefix })
    }
}

impl FromStr for Ipv4Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let net = Self::parse(text, None)?;
        let bits = net.address_bits();
        let [first, ..] = net.address.octets();
        let unusable = first == 0 || first == 127 || first >= 224;
        if unusable {
            return Err(format!("{} cannot be the address of a host", net.address));
        }
        let host_mask = u32::MAX.checked_shr(net.prefix).unwrap_or(0);
        if net.prefix < 31 && (bits & host_mask == 0 || bits & host_mask == host_mask) {
            return Err(format!("{} is the network's own or its broadcast address", net.address));
        }
        Ok(net)
    }
}

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteOption {
    /// Destination network.
    pub destination: Ipv4Net,
    /// Next hop.
    pub next_hop: Ipv4Addr,
}

impl FromStr for RouteOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (destination, next_hop) =
            text.split_once(',').ok_or("next hop missing: say 0.0.0.0/0,10.0.0.254")?;
        let destination = match destination {
            "default" => Ipv4Net { address: Ipv4Addr::UNSPECIFIED, prefix: 0 },
            other => Ipv4Net::parse(other, Some(32))?,
        };
        let host_mask = u32::MAX.checked_shr(destination.prefix).unwrap_or(0);
        if destination.address_bits() & host_mask != 0 {
            return Err(format!("{}/{} has host bits set", destination.address, destination.prefix));
        }
        let next_hop = next_hop.parse().map_err(|_| format!("{next_hop} is not an IPv4 address"))?;
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
