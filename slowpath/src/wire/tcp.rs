// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! TCP segments (RFC 9293 §3.1).

use super::{address::Address, checksum, ethernet, get_u16, get_u32, ipv4, ipv6, options::Options, put};
use crate::lookup::Tuple;

/// Bytes of a header without options.
pub(crate) const HEADER_BYTES: usize = 20;

/// Flags.
pub(crate) mod flag {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const SYN: u8 = 2;
    pub(crate) const RST: u8 = 4;
    pub(crate) const ACK: u8 = 16;
    pub(crate) const ECE: u8 = 64;
    pub(crate) const CWR: u8 = 128;
}

/// A received segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    /// Seen from us: local is the destination.
    pub(crate) tuple: Tuple,
    /// Who sent the frame.
    pub(crate) source_mac: u64,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) options: Options,
    pub(crate) payload_bytes: u32,
}

impl Segment {
    /// Parses the TCP segment `packet`, which ends where IP says.
    pub(crate) fn parse(packet: &[u8], local: Address, remote: Address, source_mac: u64) -> Option<Self> {
        let header_bytes = ((*packet.get(12)? >> 4) as usize).wrapping_mul(4);
        if header_bytes < HEADER_BYTES {
            return None;
        }
        let options = packet.get(HEADER_BYTES..header_bytes)?;
        Some(Self {
            tuple: Tuple::new(local, get_u16(packet, 2)?, remote, get_u16(packet, 0)?),
            source_mac,
            seq: get_u32(packet, 4)?,
            ack: get_u32(packet, 8)?,
            flags: *packet.get(13)?,
            window: get_u16(packet, 14)?,
            options: Options::parse(options),
            payload_bytes: packet.len().saturating_sub(header_bytes) as u32,
        })
    }

    /// Whether any of `flags` is set.
    pub(crate) fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// Whether its timestamp, if it has one, comes before `ts_recent` (PAWS, RFC 7323 §5.2).
    pub(crate) fn is_older_than(&self, ts_recent: u32) -> bool {
        self.options.timestamps.is_some_and(|(value, _)| before(value, ts_recent))
    }

    /// Sequence space it takes: payload, SYN and FIN.
    pub(crate) fn length(&self) -> u32 {
        let control = u32::from(self.has(flag::SYN)).wrapping_add(u32::from(self.has(flag::FIN)));
        self.payload_bytes.wrapping_add(control)
    }
}

/// A segment to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing {
    /// Seen from us: local is the source.
    pub(crate) tuple: Tuple,
    pub(crate) destination_mac: u64,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) options: Options,
}

impl Outgoing {
    /// Writes the whole frame, with as much of `payload` as there is room for; its length.
    pub(crate) fn write(&self, frame: &mut [u8], source_mac: u64, payload: &[u8]) -> usize {
        let (source, destination) = (self.tuple.local, self.tuple.remote);
        let ethernet = ethernet::Ethernet {
            destination: self.destination_mac,
            source: source_mac,
            ethertype: ethernet::of(&source),
        };
        ethernet.write(frame);
        let start = ethernet::HEADER_BYTES.wrapping_add(source.header_bytes());
        let Some(segment) = frame.get_mut(start..) else {
            return 0;
        };
        let options = segment.get_mut(HEADER_BYTES..).map_or(0, |bytes| self.options.write(bytes));
        let header_bytes = HEADER_BYTES.wrapping_add(options);
        let payload = payload.get(..segment.len().saturating_sub(header_bytes)).unwrap_or(payload);
        let length = header_bytes.wrapping_add(payload.len());
        put(segment, header_bytes, payload);
        put(segment, 0, &self.tuple.local_port().to_be_bytes());
        put(segment, 2, &self.tuple.remote_port().to_be_bytes());
        put(segment, 4, &self.seq.to_be_bytes());
        put(segment, 8, &self.ack.to_be_bytes());
        put(segment, 12, &[((header_bytes / 4) as u8).wrapping_shl(4), self.flags]);
        put(segment, 14, &self.window.to_be_bytes());
        put(segment, 16, &[0, 0, 0, 0]);
        let sum = checksum::pseudo_header(&source, &destination, ipv4::TCP, length as u16);
        let sum = checksum::finish(checksum::add(sum, segment.get(..length).unwrap_or_default()));
        put(segment, 16, &sum.to_be_bytes());
        match (source.as_v4(), destination.as_v4()) {
            (Some(source), Some(destination)) => ipv4::write(frame, source, destination, ipv4::TCP, length),
            _ => ipv6::write(frame, &source, &destination, ipv4::TCP, ipv6::HOP_LIMIT, length),
        }
        pad(frame, start.wrapping_add(length))
    }
}

/// Zeroes up to the smallest frame; the length to send.
pub(crate) fn pad(frame: &mut [u8], length: usize) -> usize {
    if let Some(padding) = frame.get_mut(length..ethernet::FRAME_MIN_BYTES) {
        padding.fill(0);
    }
    length.max(ethernet::FRAME_MIN_BYTES)
}

/// Whether `a` comes before `b` in sequence space.
#[inline]
pub(crate) const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}
