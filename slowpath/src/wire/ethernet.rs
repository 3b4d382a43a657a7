// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Ethernet II headers.

use super::{address::Address, get_mac, get_u16, put, put_mac};

/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = 14;
/// EtherType of IPv4.
pub(crate) const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub(crate) const IPV6: u16 = 0x86dd;
/// EtherType of ARP.
pub(crate) const ARP: u16 = 0x0806;
/// Smallest frame without its check sequence.
pub(crate) const FRAME_MIN_BYTES: usize = 60;
/// Group bit of a MAC address, first byte highest.
pub(crate) const GROUP: u64 = 1 << 40;
/// The broadcast address.
pub(crate) const BROADCAST: u64 = 0xffff_ffff_ffff;

/// EtherType of the packets that carry an address.
pub(crate) const fn of(address: &Address) -> u16 {
    if address.is_v4() {
        IPV4
    } else {
        IPV6
    }
}

/// A header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ethernet {
    pub(crate) destination: u64,
    pub(crate) source: u64,
    pub(crate) ethertype: u16,
}

impl Ethernet {
    pub(crate) fn parse(frame: &[u8]) -> Option<Self> {
        Some(Self {
            destination: get_mac(frame, 0)?,
            source: get_mac(frame, 6)?,
            ethertype: get_u16(frame, 12)?,
        })
    }
    pub(crate) fn write(&self, frame: &mut [u8]) {
        put_mac(frame, 0, self.destination);
        put_mac(frame, 6, self.source);
        put(frame, 12, &self.ethertype.to_be_bytes());
    }
}
