// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! ARP packets (RFC 826) for IPv4 over Ethernet.

use super::{ethernet, get_mac, get_u16, get_u32, put, put_mac, tcp::pad};

/// Request.
pub(crate) const REQUEST: u16 = 1;
/// Reply.
pub(crate) const REPLY: u16 = 2;
const PACKET_BYTES: usize = 28;

/// A packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arp {
    pub(crate) operation: u16,
    pub(crate) sender_mac: u64,
    pub(crate) sender_ip: u32,
    pub(crate) target_mac: u64,
    pub(crate) target_ip: u32,
}

impl Arp {
    /// Parses what follows the Ethernet header.
    pub(crate) fn parse(packet: &[u8]) -> Option<Self> {
        // Ethernet, IPv4, address lengths 6 and 4.
        if !packet.starts_with(&[0, 1, 8, 0, 6, 4]) {
            return None;
        }
        Some(Self {
            operation: get_u16(packet, 6)?,
            sender_mac: get_mac(packet, 8)?,
            sender_ip: get_u32(packet, 14)?,
            target_mac: get_mac(packet, 18)?,
            target_ip: get_u32(packet, 24)?,
        })
    }

    /// Writes the whole frame to `destination`; its length.
    pub(crate) fn write(&self, frame: &mut [u8], destination: u64) -> usize {
        let ethernet = ethernet::Ethernet { destination, source: self.sender_mac, ethertype: ethernet::ARP };
        ethernet.write(frame);
        let Some(packet) = frame.get_mut(ethernet::HEADER_BYTES..) else {
            return 0;
        };
        put(packet, 0, &[0, 1, 8, 0, 6, 4]);
        put(packet, 6, &self.operation.to_be_bytes());
        put_mac(packet, 8, self.sender_mac);
        put(packet, 14, &self.sender_ip.to_be_bytes());
        put_mac(packet, 18, self.target_mac);
        put(packet, 24, &self.target_ip.to_be_bytes());
        pad(frame, ethernet::HEADER_BYTES.wrapping_add(PACKET_BYTES))
    }
}
