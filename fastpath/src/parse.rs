// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a received frame to a TCP segment. Every length is checked against the frame; any bytes
//! survive.

use crate::{checksum, ipv6, port::RxChecksum};

/// Bytes of an Ethernet header without VLAN tag.
pub(crate) const ETHERNET_BYTES: usize = 14;
/// EtherType of IPv4.
const ETHERTYPE_IPV4: u16 = 0x0800;
/// Bytes of an IPv4 header without options.
pub(crate) const IPV4_BYTES: usize = 20;
/// Bytes of a TCP header without options.
pub(crate) const TCP_BYTES: usize = 20;
/// Offset of the TCP header in what the fast path handles.
pub(crate) const TCP_OFFSET: usize = ETHERNET_BYTES + IPV4_BYTES;

/// TCP flags (RFC 9293 §3.1).
pub(crate) mod flag {
    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const SYN: u8 = 0x02;
    pub(crate) const RST: u8 = 0x04;
    pub(crate) const PSH: u8 = 0x08;
    pub(crate) const ACK: u8 = 0x10;
    pub(crate) const URG: u8 = 0x20;
    pub(crate) const ECE: u8 = 0x40;
    pub(crate) const CWR: u8 = 0x80;
}

/// Offset of the TCP header of a frame that was parsed or written here.
pub(crate) fn tcp_offset(frame: &[u8]) -> usize {
    match frame.get(12..14) {
        Some(ipv6::ETHERTYPE) => ipv6::TCP_OFFSET,
        _ => TCP_OFFSET,
    }
}

/// Congestion Experienced in the IP header's ECN field (RFC 3168 §5).
pub(crate) const ECN_CE: u8 = 3;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Verdict {
    /// A TCP segment over plain IPv4, checksums good.
    Tcp,
    /// A TCP segment over IPv6 without extension headers, checksum good.
    Tcp6,
    /// Something else: for the slow path.
    #[default]
    NotTcp,
    /// IPv4 with options, IPv6 with extension headers, or a fragment: for the slow path.
    IpOptions,
    /// Lengths contradict each other: drop.
    Malformed,
    /// A checksum is wrong: drop.
    BadChecksum,
}

/// A parsed segment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Segment {
    /// Sender's IPv4 address, host order. IPv6 addresses stay in the frame; see [`ipv6::addresses`].
    pub(crate) remote_ip: u32,
    /// Our IPv4 address, host order.
    pub(crate) local_ip: u32,
    /// Our port in the high half, the sender's in the low half: as in `HotFlow::ports`.
    pub(crate) ports: u32,
    /// SEG.SEQ.
    pub(crate) seq: u32,
    /// SEG.ACK.
    pub(crate) ack: u32,
    /// TSval, if `timestamps`.
    pub(crate) ts_value: u32,
    /// SEG.WND, not scaled.
    pub(crate) window: u16,
    /// Offset of the payload in the frame.
    pub(crate) payload_offset: u16,
    /// Bytes of payload.
    pub(crate) payload_bytes: u16,
    /// TCP flags.
    pub(crate) flags: u8,
    /// ECN field of the IP header.
    pub(crate) ecn: u8,
    /// A timestamps option is there.
    pub(crate) timestamps: bool,
    /// A SACK option is there (RFC 2018 §3).
    pub(crate) sack: bool,
}

#[inline(always)]
fn be16(bytes: &[u8; 54], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
#[inline(always)]
fn be32(bytes: &[u8; 54], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Parses `frame` into `segment`, which is complete only if the verdict is [`Verdict::Tcp`] or [`Verdict::Tcp6`].
#[inline(always)]
pub(crate) fn parse(frame: &[u8], checksums: RxChecksum, segment: &mut Segment) -> Verdict {
    let Some(h) = frame.first_chunk::<54>() else {
        return parse_short(frame);
    };
    if be16(h, 12) != ETHERTYPE_IPV4 {
        return parse_other(frame, checksums, segment);
    }
    // Version 4 and IHL 5; no fragment; TCP.
    if h[14] != 0x45 || be16(h, 20) & 0x3fff != 0 || h[23] != 6 {
        return classify_ipv4(h);
    }
    let total = usize::from(be16(h, 16));
    let tcp_bytes = usize::from(h[46] >> 4) * 4;
    if total + ETHERNET_BYTES > frame.len() || tcp_bytes < TCP_BYTES || IPV4_BYTES + tcp_bytes > total {
        return Verdict::Malformed;
    }
    match checksums {
        RxChecksum::Good => {}
        RxChecksum::Bad => return Verdict::BadChecksum,
        RxChecksum::Unknown => {
            if !verify(frame, total) {
                return Verdict::BadChecksum;
            }
        }
    }
    segment.remote_ip = be32(h, 26);
    segment.local_ip = be32(h, 30);
    segment.ports = u32::from(be16(h, 36)) << 16 | u32::from(be16(h, 34));
    segment.seq = be32(h, 38);
    segment.ack = be32(h, 42);
    segment.flags = h[47];
    segment.window = be16(h, 48);
    segment.ecn = h[15] & 3;
    segment.payload_offset = (TCP_OFFSET + tcp_bytes) as u16;
    segment.payload_bytes = (total - IPV4_BYTES - tcp_bytes) as u16;
    segment.timestamps = false;
    segment.sack = false;
    if tcp_bytes > TCP_BYTES {
        if let Some(options) = frame.get(TCP_OFFSET + TCP_BYTES..TCP_OFFSET + tcp_bytes) {
            parse_options(options, segment);
        }
    }
    Verdict::Tcp
}

/// Not IPv4.
#[inline(never)]
fn parse_other(frame: &[u8], checksums: RxChecksum, segment: &mut Segment) -> Verdict {
    match frame.get(12..14) {
        Some(ipv6::ETHERTYPE) => ipv6::parse(frame, checksums, segment),
        _ => Verdict::NotTcp,
    }
}

/// Not the plain header of the fast path.
#[cold]
fn classify_ipv4(h: &[u8; 54]) -> Verdict {
    let header_bytes = usize::from(h[14] & 0xf) * 4;
    if h[14] >> 4 != 4 || header_bytes < IPV4_BYTES || header_bytes > usize::from(be16(h, 16)) {
        Verdict::Malformed
    } else if h[23] != 6 {
        Verdict::NotTcp
    } else {
        Verdict::IpOptions
    }
}

/// A frame too short for TCP: ARP or a short datagram is for the slow path.
#[cold]
fn parse_short(frame: &[u8]) -> Verdict {
    match frame.get(12..14) {
        None => Verdict::Malformed,
        Some([0x08, 0x00]) => match (frame.get(14), frame.get(20..22), frame.get(23)) {
            (Some(version), _, Some(protocol)) if version >> 4 == 4 && *protocol != 6 => Verdict::NotTcp,
            // Of TCP only the end of a fragmented datagram can be so short.
            (Some(0x45), Some([high, low]), Some(_)) if high & 0x1f | low != 0 => Verdict::IpOptions,
            _ => Verdict::Malformed,
        },
        // Not even an IPv6 header.
        Some(ipv6::ETHERTYPE) => Verdict::Malformed,
        Some(_) => Verdict::NotTcp,
    }
}

/// True if the IPv4 header's and the TCP segment's checksum hold. `total` is the IPv4 total length.
fn verify(frame: &[u8], total: usize) -> bool {
    let Some(datagram) = frame.get(ETHERNET_BYTES..ETHERNET_BYTES + total) else {
        return false;
    };
    let Some((header, tcp)) = datagram.split_at_checked(IPV4_BYTES) else {
        return false;
    };
    if checksum::finish(checksum::sum(header)) != 0 {
        return false;
    }
    let addresses = header.get(12..20).map_or(0, checksum::sum);
    let sum = addresses + 6 + tcp.len() as u32 + checksum::sum(tcp);
    checksum::finish(sum) == 0
}

/// Finds the timestamps option (RFC 7323 §3.2). A length below two or past the end (RFC 9293
/// MUST-7) ends the search.
#[inline(always)]
pub(crate) fn parse_options(options: &[u8], segment: &mut Segment) {
    match options {
        [1, 1, 8, 10, a, b, c, d, _, _, _, _] => {
            segment.timestamps = true;
            segment.ts_value = u32::from_be_bytes([*a, *b, *c, *d]);
        }
        _ => parse_options_slowly(options, segment),
    }
}

#[cold]
fn parse_options_slowly(mut rest: &[u8], segment: &mut Segment) {
    while let [kind, after @ ..] = rest {
        match kind {
            0 => return,
            1 => rest = after,
            _ => {
                let Some(len) = after.first().map(|len| usize::from(*len)) else {
                    return;
                };
                if len < 2 {
                    return;
                }
                let Some((option, next)) = rest.split_at_checked(len) else {
                    return;
                };
                segment.sack |= *kind == 5;
                if let [8, 10, a, b, c, d, _, _, _, _] = option {
                    segment.timestamps = true;
                    segment.ts_value = u32::from_be_bytes([*a, *b, *c, *d]);
                }
                rest = next;
            }
        }
    }
}

#[cfg(test)]
#[path = "tests/parse.rs"]
mod tests;
