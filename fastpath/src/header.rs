// SPDX-License-Identifier: MIT OR Apache-2.0
//! Building Ethernet, IPv4 and TCP headers.

use crate::{
    checksum, ipv6,
    parse::{ETHERNET_BYTES, IPV4_BYTES, TCP_BYTES, TCP_OFFSET},
};

/// Frame bytes before the payload without timestamps.
pub(crate) const PLAIN_BYTES: usize = TCP_OFFSET + TCP_BYTES;
/// Bytes of the timestamps option with its two NOPs.
pub(crate) const TIMESTAMP_BYTES: usize = 12;
/// Most option bytes of a TCP header.
pub(crate) const OPTIONS_MAX: usize = 40;

/// Everything that varies.
#[derive(Clone, Copy)]
pub(crate) struct Header {
    /// MAC addresses, low 48 bits.
    pub(crate) destination_mac: u64,
    pub(crate) source_mac: u64,
    /// IPv4 addresses; not used over IPv6.
    pub(crate) local_ip: u32,
    pub(crate) remote_ip: u32,
    /// Local port in the high half.
    pub(crate) ports: u32,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) window: u16,
    pub(crate) flags: u8,
    /// ECN field.
    pub(crate) ecn: u8,
    pub(crate) ttl: u8,
    /// IPv4 identification.
    pub(crate) id: u16,
    /// Bytes of options that follow the fixed header, a multiple of four.
    pub(crate) options_bytes: u8,
}

/// Writes the headers up to the options into a frame of its final length. The IPv4 checksum is left zero and the
/// TCP checksum is the pseudo-header's: what a port with offload wants.
#[inline]
pub(crate) fn write(frame: &mut [u8], h: &Header) {
    let total = (frame.len() - ETHERNET_BYTES) as u64;
    let tcp_bytes = total as u32 - IPV4_BYTES as u32;
    let pseudo = checksum::partial(checksum::pseudo_header(h.local_ip, h.remote_ip, tcp_bytes));
    let Some(out) = frame.first_chunk_mut::<PLAIN_BYTES>() else {
        return;
    };
    let source = h.source_mac;
    put64(out, 0, h.destination_mac << 16 | source >> 32);
    put64(out, 8, source << 32 | 0x0800_4500 | u64::from(h.ecn));
    // Total length, identification, DF, TTL, TCP.
    put64(out, 16, total << 48 | u64::from(h.id) << 32 | 0x4000_0006 | u64::from(h.ttl) << 8);
    // Checksum zero, source, first half of the destination.
    put64(out, 24, u64::from(h.local_ip) << 16 | u64::from(h.remote_ip) >> 16);
    put64(out, 32, u64::from(h.remote_ip) << 48 | u64::from(h.ports) << 16 | u64::from(h.seq) >> 16);
    let offset = (TCP_BYTES as u64 + u64::from(h.options_bytes)) / 4;
    put64(out, 40, u64::from(h.seq) << 48 | u64::from(h.ack) << 16 | offset << 12 | u64::from(h.flags));
    let tail = u64::from(h.window) << 32 | u64::from(pseudo) << 16;
    out[48..54].copy_from_slice(&tail.to_be_bytes()[2..]);
}

/// Writes the timestamps option (RFC 7323 §3.2) behind the fixed header, which ends at `at`.
#[inline]
pub(crate) fn write_timestamps(frame: &mut [u8], at: usize, value: u32, echo: u32) {
    if let Some(out) = frame.get_mut(at..at.wrapping_add(TIMESTAMP_BYTES)) {
        out[..4].copy_from_slice(&[1, 1, 8, 10]);
        out[4..8].copy_from_slice(&value.to_be_bytes());
        out[8..12].copy_from_slice(&echo.to_be_bytes());
    }
}

/// The header got `more` bytes of options after [`write`]: corrects the lengths in it and the pseudo-header's sum.
#[cold]
pub(crate) fn lengthen(frame: &mut [u8], more: usize) {
    if is_ipv6(frame) {
        return ipv6::lengthen(frame, more);
    }
    let total = (frame.len() - ETHERNET_BYTES) as u16;
    let Some(out) = frame.first_chunk_mut::<PLAIN_BYTES>() else {
        return;
    };
    out[16..18].copy_from_slice(&total.to_be_bytes());
    out[46] += ((more / 4) << 4) as u8;
    let source = u32::from_be_bytes([out[26], out[27], out[28], out[29]]);
    let destination = u32::from_be_bytes([out[30], out[31], out[32], out[33]]);
    let pseudo = checksum::pseudo_header(source, destination, u32::from(total) - IPV4_BYTES as u32);
    out[50..52].copy_from_slice(&checksum::partial(pseudo).to_be_bytes());
}

/// Writes what the application chose (`abi::flow::ColdFlow::service`) into a header of [`write`]. The ECN field stays.
#[cold]
pub(crate) fn set_service(frame: &mut [u8], service: u32) {
    let [class, ttl, ..] = service.to_le_bytes();
    let Some(out) = frame.first_chunk_mut::<PLAIN_BYTES>() else {
        return;
    };
    let place = match (out[12], out[13]) {
        (0x08, 0x00) => {
            out[15] = class & !3 | out[15] & 3;
            22
        }
        (0x86, 0xdd) => {
            // Version and traffic class share the first byte, traffic class and flow label the second (RFC 8200 §3).
            out[14] = 0x60 | class >> 4;
            out[15] = (class & 0x0c) << 4 | out[15] & 0x3f;
            21
        }
        _ => return,
    };
    if ttl != 0 {
        out[place] = ttl;
    }
}

/// True if the frame is IPv6.
#[inline(always)]
fn is_ipv6(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(ipv6::ETHERTYPE)
}

/// Fills in the checksums in software: IPv4's header's and TCP's.
pub(crate) fn write_checksums(frame: &mut [u8]) {
    if is_ipv6(frame) {
        return ipv6::write_checksum(frame);
    }
    let Some((ethernet, datagram)) = frame.split_at_mut_checked(ETHERNET_BYTES) else {
        return;
    };
    debug_assert_eq!(ethernet.len(), ETHERNET_BYTES);
    let Some((ip, tcp)) = datagram.split_at_mut_checked(IPV4_BYTES) else {
        return;
    };
    let sum = checksum::finish(checksum::sum(ip));
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    // The field holds the pseudo-header's sum, so that it is part of the sum below.
    let sum = checksum::finish(checksum::sum(tcp));
    if let Some(field) = tcp.get_mut(16..18) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

#[inline(always)]
fn put64(out: &mut [u8; PLAIN_BYTES], at: usize, value: u64) {
    out[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        parse::{parse, Segment, Verdict},
        port::RxChecksum,
    };

    #[test]
    fn a_chosen_class_and_hop_limit_leave_all_else_alone() {
        // Version 6, traffic class 0x02 (ECT(0)), flow label 0x12345, hop limit 64.
        let mut frame = vec![0xaa; 74];
        frame[12..18].copy_from_slice(&[0x86, 0xdd, 0x60, 0x21, 0x23, 0x45]);
        frame[21] = 64;
        let before = frame.clone();
        set_service(&mut frame, 0xb8 | 9 << 8);
        assert_eq!((frame[14], frame[15], frame[21]), (0x6b, 0xa1, 9));
        frame[14..16].copy_from_slice(&before[14..16]);
        frame[21] = 64;
        assert_eq!(frame, before);
        // Neither IPv4 nor IPv6: nothing.
        frame[13] = 0;
        let before = frame.clone();
        set_service(&mut frame, 0xb8 | 9 << 8);
        assert_eq!(frame, before);
    }

    #[test]
    fn what_is_written_parses() {
        let header = Header {
            destination_mac: 0x0200_0000_0002,
            source_mac: 0x0200_0000_0001,
            local_ip: 0x0a00_0001,
            remote_ip: 0x0a00_0002,
            ports: 6379 << 16 | 40_000,
            seq: 0x1234_5678,
            ack: 0x9abc_def0,
            window: 0xfedc,
            flags: 0x18,
            ecn: 2,
            ttl: 64,
            id: 7,
            options_bytes: 12,
        };
        for payload in 0..40u8 {
            let mut frame = vec![0xa5; PLAIN_BYTES + TIMESTAMP_BYTES + usize::from(payload)];
            write(&mut frame, &header);
            write_timestamps(&mut frame, PLAIN_BYTES, 77, 88);
            write_checksums(&mut frame);
            let mut segment = Segment::default();
            assert_eq!(parse(&frame, RxChecksum::Unknown, &mut segment), Verdict::Tcp);
            // Seen from the other side.
            assert_eq!((segment.remote_ip, segment.local_ip), (header.local_ip, header.remote_ip));
            assert_eq!(segment.ports, 40_000 << 16 | 6379);
            assert_eq!((segment.seq, segment.ack, segment.window), (header.seq, header.ack, header.window));
            assert_eq!((segment.flags, segment.ecn, segment.ts_value), (0x18, 2, 77));
            assert_eq!((segment.payload_offset, segment.payload_bytes), (66, u16::from(payload)));
            assert_eq!(&frame[..12], &[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
            assert_eq!(frame[20] & 0x40, 0x40, "DF");
        }
    }
}
