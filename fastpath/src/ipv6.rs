// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is different over IPv6 (RFC 8200): parsing, the flow's identity, the header that is written. A segment with
//! extension headers is the slow path's.

use crate::{
    checksum,
    header::{Header, TIMESTAMP_BYTES},
    parse::{parse_options, Segment, Verdict, ETHERNET_BYTES, TCP_BYTES},
    port::RxChecksum,
    word::Word,
};
use abi::flow::{ColdFlow, HotFlow};
use std::sync::atomic::AtomicU32;

/// EtherType of IPv6.
pub(crate) const ETHERTYPE: &[u8] = &[0x86, 0xdd];
/// Bytes of an IPv6 header.
pub(crate) const IPV6_BYTES: usize = 40;
/// Frame bytes before the payload, without TCP options.
pub(crate) const PLAIN_BYTES: usize = TCP_OFFSET + TCP_BYTES;
/// Offset of the TCP header.
pub(crate) const TCP_OFFSET: usize = ETHERNET_BYTES + IPV6_BYTES;
/// Next header: TCP.
const TCP: u8 = 6;
/// Next headers that extend IPv6's own: hop-by-hop options, routing, fragment, destination options, and those of
/// RFC 7045 that nobody here speaks.
const EXTENSIONS: [u8; 9] = [0, 43, 44, 51, 60, 135, 139, 140, 50];
/// Odd constants without pattern (the golden ratio's and the square root of two's digits): they tell the hash's
/// inputs apart.
const MIX: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0x6a09_e667_f3bc_c909];

/// Both addresses of a flow, each as two halves, most significant first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) remote: [u64; 2],
    pub(crate) local: [u64; 2],
}

impl Addresses {
    /// Those of what goes the other way.
    pub(crate) fn turned(self) -> Self {
        Self { remote: self.local, local: self.remote }
    }
}

fn be64(bytes: &[u8; PLAIN_BYTES], at: usize) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|index| bytes[at + index]))
}

fn be16(bytes: &[u8; PLAIN_BYTES], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8; PLAIN_BYTES], at: usize) -> u32 {
    u32::from_be_bytes(std::array::from_fn(|index| bytes[at + index]))
}

/// The addresses in a received frame: the sender's is the remote one. Zeros if the frame is too short.
#[inline]
pub(crate) fn addresses(frame: &[u8]) -> Addresses {
    match frame.first_chunk::<PLAIN_BYTES>() {
        Some(h) => Addresses { remote: [be64(h, 22), be64(h, 30)], local: [be64(h, 38), be64(h, 46)] },
        None => Addresses { remote: [0; 2], local: [0; 2] },
    }
}

/// The addresses of an installed flow.
#[inline]
pub(crate) fn flow_addresses(cold: &ColdFlow) -> Addresses {
    let halves = |words: &[AtomicU32; 4]| {
        let [a, b, c, d] = words;
        let half = |high: &AtomicU32, low: &AtomicU32| u64::from(high.get()) << 32 | u64::from(low.get());
        [half(a, b), half(c, d)]
    };
    Addresses { remote: halves(&cold.remote_address), local: halves(&cold.local_address) }
}

/// Both halves of a 64×64-bit product folded.
#[inline]
fn mix(left: u64, right: u64) -> u64 {
    let product = u128::from(left).wrapping_mul(u128::from(right));
    (product as u64) ^ (product >> 64) as u64
}

/// Keyed 64-bit hash of a flow's identity. Every bit of the addresses goes through the key: a peer has 2^64
/// addresses to choose from and must not be able to choose colliding ones.
#[inline]
pub(crate) fn hash(key: u64, addresses: &Addresses, ports: u32) -> u64 {
    let Addresses { remote: [r0, r1], local: [l0, l1] } = *addresses;
    let remote = mix(r0 ^ key, r1 ^ key.rotate_left(32) ^ MIX[0]);
    let local = mix(l0 ^ key.rotate_left(16) ^ MIX[1], l1 ^ key.rotate_left(48));
    mix(remote.wrapping_add(local) ^ key, u64::from(ports).wrapping_mul(MIX[0]) ^ key.rotate_left(32))
}

/// The flow label: 20 bits, never zero, the same for every segment of a flow (RFC 6437 §3). `key` is not the one of
/// [`hash`], of which the peer would learn something.
#[inline]
fn flow_label(key: u64, addresses: &Addresses, ports: u32) -> u32 {
    let label = (hash(key, addresses, ports) >> 44) as u32;
    label.max(1)
}

/// Parses a frame with the EtherType of IPv6; see [`crate::parse::parse`].
#[inline]
pub(crate) fn parse(frame: &[u8], checksums: RxChecksum, segment: &mut Segment) -> Verdict {
    let Some(h) = frame.first_chunk::<PLAIN_BYTES>() else {
        return classify(frame);
    };
    if h[14] >> 4 != 6 || h[20] != TCP {
        return classify(frame);
    }
    let total = usize::from(be16(h, 18));
    let tcp_bytes = usize::from(h[66] >> 4) * 4;
    if total + TCP_OFFSET > frame.len() || tcp_bytes < TCP_BYTES || tcp_bytes > total {
        return Verdict::Malformed;
    }
    match checksums {
        RxChecksum::Good => {}
        RxChecksum::Bad => return Verdict::BadChecksum,
        RxChecksum::Unknown => {
            let tcp = frame.get(TCP_OFFSET..TCP_OFFSET + total).unwrap_or(&[]);
            if checksum::finish(pseudo_header(h).wrapping_add(checksum::sum(tcp))) != 0 {
                return Verdict::BadChecksum;
            }
        }
    }
    *segment = Segment {
        remote_ip: 0,
        local_ip: 0,
        ports: u32::from(be16(h, 56)) << 16 | u32::from(be16(h, 54)),
        seq: be32(h, 58),
        ack: be32(h, 62),
        ts_value: 0,
        window: be16(h, 68),
        payload_offset: (TCP_OFFSET + tcp_bytes) as u16,
        payload_bytes: (total - tcp_bytes) as u16,
        flags: h[67],
        // The lower two bits of the traffic class (RFC 3168 §5 over RFC 8200 §7).
        ecn: h[15] >> 4 & 3,
        timestamps: false,
        sack: false,
    };
    if let Some(options) = frame.get(PLAIN_BYTES..TCP_OFFSET + tcp_bytes) {
        parse_options(options, segment);
    }
    Verdict::Tcp6
}

/// Not a TCP segment without extension headers.
#[cold]
fn classify(frame: &[u8]) -> Verdict {
    let (Some(header), Some(next)) = (frame.get(ETHERNET_BYTES..TCP_OFFSET), frame.get(20)) else {
        return Verdict::Malformed;
    };
    match header.first() {
        Some(first) if first >> 4 != 6 => Verdict::Malformed,
        _ if *next == TCP => Verdict::Malformed,
        _ if EXTENSIONS.contains(next) => Verdict::IpOptions,
        _ => Verdict::NotTcp,
    }
}

/// Sum of the pseudo-header (RFC 8200 §8.1) of a frame whose IPv6 header is there, not folded.
#[inline]
fn pseudo_header(h: &[u8; PLAIN_BYTES]) -> u32 {
    let addresses = h.get(22..TCP_OFFSET).map_or(0, checksum::sum);
    addresses.wrapping_add(u32::from(be16(h, 18))).wrapping_add(u32::from(TCP))
}

/// Writes the headers up to the options into a frame of its final length, as [`crate::header::write`] does; `label_key`
/// is the key of the flow label.
#[inline]
pub(crate) fn write(frame: &mut [u8], h: &Header, addresses: &Addresses, label_key: u64) {
    let total = frame.len().saturating_sub(TCP_OFFSET) as u64;
    let Some(out) = frame.first_chunk_mut::<PLAIN_BYTES>() else {
        return;
    };
    let Addresses { remote: [r0, r1], local: [l0, l1] } = *addresses;
    let label = u64::from(flow_label(label_key, addresses, h.ports));
    let source = h.source_mac;
    put64(out, 0, h.destination_mac << 16 | source >> 32);
    // EtherType, version, traffic class, first bits of the flow label.
    put64(out, 8, source << 32 | 0x86dd_6000 | u64::from(h.ecn) << 4 | label >> 16);
    // Rest of the label, payload length, next header, hop limit.
    let limits = u64::from(TCP) << 24 | u64::from(h.ttl) << 16;
    put64(out, 16, label << 48 | total << 32 | limits | l0 >> 48);
    put64(out, 24, l0 << 16 | l1 >> 48);
    put64(out, 32, l1 << 16 | r0 >> 48);
    put64(out, 40, r0 << 16 | r1 >> 48);
    put64(out, 48, r1 << 16 | u64::from(h.ports) >> 16);
    put64(out, 56, u64::from(h.ports) << 48 | u64::from(h.seq) << 16 | u64::from(h.ack) >> 16);
    let offset = (TCP_BYTES as u64 + u64::from(h.options_bytes)) / 4;
    let pseudo = u64::from(checksum::partial(pseudo_header(out)));
    let flags = offset << 44 | u64::from(h.flags) << 32;
    put64(out, 64, u64::from(h.ack) << 48 | flags | u64::from(h.window) << 16 | pseudo);
    out[72..74].fill(0);
}

/// As [`crate::header::lengthen`].
#[cold]
pub(crate) fn lengthen(frame: &mut [u8], more: usize) {
    let total = frame.len().saturating_sub(TCP_OFFSET) as u16;
    let Some(out) = frame.first_chunk_mut::<PLAIN_BYTES>() else {
        return;
    };
    out[18..20].copy_from_slice(&total.to_be_bytes());
    out[66] += ((more / 4) << 4) as u8;
    let pseudo = checksum::partial(pseudo_header(out));
    out[70..72].copy_from_slice(&pseudo.to_be_bytes());
}

/// Fills in the TCP checksum in software; its field holds the pseudo-header's sum.
pub(crate) fn write_checksum(frame: &mut [u8]) {
    let Some(tcp) = frame.get_mut(TCP_OFFSET..) else {
        return;
    };
    let sum = checksum::finish(checksum::sum(tcp));
    if let Some(field) = tcp.get_mut(16..18) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// True if a segment with these addresses and ports is of this flow.
#[inline]
pub(crate) fn matches(hot: &HotFlow, cold: &ColdFlow, addresses: &Addresses, ports: u32) -> bool {
    hot.ports.get() == ports
        && hot.flags.get() & abi::flow::hot_flags::IPV6 != 0
        && flow_addresses(cold) == *addresses
}

#[inline(always)]
fn put64(out: &mut [u8; PLAIN_BYTES], at: usize, value: u64) {
    out[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

// The frame of the longest segment fits: an IPv6 header leaves less room for payload.
const _: () = assert!(PLAIN_BYTES + TIMESTAMP_BYTES < crate::port::FRAME_BYTES_MAX);

#[cfg(test)]
#[path = "tests/ipv6.rs"]
mod tests;
