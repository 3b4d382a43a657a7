// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! IPv4 headers (RFC 791).

use super::{checksum, ethernet, get_u16, get_u32, put, Fragment};

/// Bytes of a header without options.
pub(crate) const HEADER_BYTES: usize = 20;
/// Protocol numbers.
pub(crate) const ICMP: u8 = 1;
/// TCP.
pub(crate) const TCP: u8 = 6;
const TTL: u8 = 64;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// What a header says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ipv4 {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    pub(crate) protocol: u8,
    /// What it is a fragment of; `None`: whole.
    pub(crate) fragment: Option<Fragment>,
    /// Type of service with ECN field, and time to live.
    pub(crate) class: u8,
    pub(crate) hop_limit: u8,
    /// Bytes of the header, options included.
    pub(crate) header_bytes: usize,
    /// Bytes of header and payload.
    pub(crate) total_bytes: usize,
}

impl Ipv4 {
    /// Parses `packet`, which begins at the IP header; `None` if it is malformed or its header
    /// checksum is wrong.
    pub(crate) fn parse(packet: &[u8]) -> Option<Self> {
        let first = *packet.first()?;
        let header_bytes = ((first & 15) as usize).wrapping_mul(4);
        let total_bytes = get_u16(packet, 2)? as usize;
        if first >> 4 != 4 || header_bytes < HEADER_BYTES || total_bytes < header_bytes {
            return None;
        }
        let header = packet.get(..header_bytes)?;
        if packet.len() < total_bytes || checksum::finish(checksum::add(0, header)) != 0 {
            return None;
        }
        let word = get_u16(packet, 6)?;
        let identification = get_u16(packet, 4)? as u32;
        let fragment = (word & (MORE_FRAGMENTS | OFFSET_MASK) != 0).then_some(Fragment {
            identification,
            offset: (word & OFFSET_MASK).wrapping_shl(3),
            more: word & MORE_FRAGMENTS != 0,
        });
        Some(Self {
            source: get_u32(packet, 12)?,
            destination: get_u32(packet, 16)?,
            protocol: *packet.get(9)?,
            fragment,
            class: *packet.get(1)?,
            hop_limit: *packet.get(8)?,
            header_bytes,
            total_bytes,
        })
    }
}

/// Option kinds: loose and strict source route (RFC 791 §3.1).
const SOURCE_ROUTES: [u8; 2] = [131, 137];

/// Whether the options of a header (its bytes behind the fixed part) hold a source route. What follows a
/// malformed one cannot be told from anything else.
pub(crate) fn is_source_routed(mut options: &[u8]) -> bool {
    while let [kind, rest @ ..] = options {
        match kind {
            0 => return false,
            1 => options = rest,
            kind if SOURCE_ROUTES.contains(kind) => return true,
            _ => {
                let length = rest.first().map_or(0, |length| *length as usize);
                match options.get(length..) {
                    Some(next) if length >= 2 => options = next,
                    _ => return false,
                }
            }
        }
    }
    false
}

/// Writes a header without options for `payload_bytes` behind an Ethernet header. Identification is
/// zero: the datagram may not be fragmented (RFC 6864).
pub(crate) fn write(frame: &mut [u8], source: u32, destination: u32, protocol: u8, payload_bytes: usize) {
    let Some(header) = frame.get_mut(ethernet::HEADER_BYTES..) else {
        return;
    };
    let total = HEADER_BYTES.wrapping_add(payload_bytes) as u16;
    put(header, 0, &[0x45, 0]);
    put(header, 2, &total.to_be_bytes());
    put(header, 4, &[0, 0]);
    put(header, 6, &DONT_FRAGMENT.to_be_bytes());
    put(header, 8, &[TTL, protocol, 0, 0]);
    put(header, 12, &source.to_be_bytes());
    put(header, 16, &destination.to_be_bytes());
    let sum = checksum::finish(checksum::add(0, header.get(..HEADER_BYTES).unwrap_or_default()));
    put(header, 10, &sum.to_be_bytes());
}
