// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What an application chooses of a datagram's header: DiffServ field (RFC 2474) and time to live.

use super::{checksum, ethernet, get_u16, ipv4, put};

/// The ECN field beside the DiffServ field (RFC 3168 §5): never the application's.
const ECN_MASK: u8 = 3;

/// DiffServ field and time to live of a socket's datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Service {
    /// IP_TOS without its two ECN bits.
    class: u8,
    /// IP_TTL; zero is the default.
    hop_limit: u8,
}

impl Service {
    /// What nobody asked to change.
    pub(crate) const DEFAULT: Self = Self { class: 0, hop_limit: 0 };

    /// With another DiffServ field; its ECN bits do not count.
    pub(crate) const fn with_class(self, class: u8) -> Self {
        Self { class: class & !ECN_MASK, ..self }
    }

    /// With another time to live, zero for the default.
    pub(crate) const fn with_hop_limit(self, hop_limit: u8) -> Self {
        Self { hop_limit, ..self }
    }

    /// DiffServ field, as IP_TOS tells it.
    pub(crate) const fn class(self) -> u8 {
        self.class
    }

    /// Time to live, zero for the default.
    pub(crate) const fn hop_limit(self) -> u8 {
        self.hop_limit
    }

    /// As `abi::flow::ColdFlow::service` has it.
    pub(crate) const fn word(self) -> u32 {
        self.class as u32 | (self.hop_limit as u32) << 8
    }

    /// Writes it into a finished frame of ours, whose class is zero but for the ECN field.
    pub(crate) fn apply(self, frame: &mut [u8]) {
        if self == Self::DEFAULT {
            return;
        }
        let ecn = class_of(frame) & ECN_MASK;
        stamp(frame, self.class | ecn, self.hop_limit);
    }
}

/// Type of service or traffic class of a frame, with its ECN field.
fn class_of(frame: &[u8]) -> u8 {
    let word = get_u16(frame, ethernet::HEADER_BYTES).unwrap_or(0);
    match get_u16(frame, 12) {
        Some(ethernet::IPV6) => (word >> 4) as u8,
        _ => word as u8,
    }
}

/// Writes class and ECN field, and the hop limit unless it is zero, into a finished frame.
pub(crate) fn stamp(frame: &mut [u8], class: u8, hop_limit: u8) {
    let ethertype = get_u16(frame, 12);
    let Some(ip) = frame.get_mut(ethernet::HEADER_BYTES..) else {
        return;
    };
    if ethertype == Some(ethernet::IPV6) {
        let word = get_u16(ip, 0).unwrap_or(0) & 0xf00f | (class as u16) << 4;
        put(ip, 0, &word.to_be_bytes());
        if hop_limit != 0 {
            put(ip, 7, &[hop_limit]);
        }
        return;
    }
    let Some(header) = ip.get_mut(..ipv4::HEADER_BYTES) else {
        return;
    };
    put(header, 1, &[class]);
    if hop_limit != 0 {
        put(header, 8, &[hop_limit]);
    }
    put(header, 10, &[0, 0]);
    let sum = checksum::finish(checksum::add(0, header));
    put(header, 10, &sum.to_be_bytes());
}
