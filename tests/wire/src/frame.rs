// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is done to a frame's bytes.

use crate::Random;

const ETHERNET_BYTES: usize = 14;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
/// RFC 3168 §5: the low two bits of the traffic class; both set is CE.
const ECN_MASK: u8 = 0b11;

/// The network protocol and where its header starts; VLAN tags are stepped over.
fn network(frame: &[u8]) -> Option<(u16, usize)> {
    let mut at = ETHERNET_BYTES;
    loop {
        let kind = u16::from_be_bytes([*frame.get(at - 2)?, *frame.get(at - 1)?]);
        if kind != VLAN {
            return Some((kind, at));
        }
        at += 4;
    }
}

/// Sets Congestion Experienced (RFC 3168 §5) on an IPv4 or IPv6 packet that is ECN-capable; true if it
/// was and had no mark yet. The IPv4 header's checksum follows (RFC 1624).
pub fn mark_congestion(frame: &mut [u8]) -> bool {
    match network(frame) {
        Some((IPV4, at)) => mark_ipv4(frame.get_mut(at..)),
        Some((IPV6, at)) => mark_ipv6(frame.get_mut(at..)),
        _ => false,
    }
}

fn is_markable(ecn: u8) -> bool {
    ecn & ECN_MASK != 0 && ecn & ECN_MASK != ECN_MASK
}

fn mark_ipv4(header: Option<&mut [u8]>) -> bool {
    let Some(header) = header.filter(|header| header.len() >= 20 && is_markable(header[1])) else {
        return false;
    };
    let before = u16::from_be_bytes([header[0], header[1]]);
    header[1] |= ECN_MASK;
    let after = u16::from_be_bytes([header[0], header[1]]);
    let checksum = u16::from_be_bytes([header[10], header[11]]);
    // RFC 1624 §3, equation 3.
    let sum = u32::from(!checksum) + u32::from(!before) + u32::from(after);
    header[10..12].copy_from_slice(&(!fold(sum)).to_be_bytes());
    true
}

fn mark_ipv6(header: Option<&mut [u8]>) -> bool {
    // The traffic class lies across the first two bytes; its low half is the second byte's high half.
    let Some(header) = header.filter(|header| header.len() >= 40 && is_markable(header[1] >> 4)) else {
        return false;
    };
    header[1] |= ECN_MASK << 4;
    true
}

/// Flips one bit behind the Ethernet header. Only of IPv4 and IPv6 packets, whose checksums show it: a real
/// wire's frame check would have caught it in an ARP packet, which has none of its own.
pub(crate) fn corrupt(frame: &mut [u8], random: &mut Random) -> bool {
    let Some((IPV4 | IPV6, at)) = network(frame) else {
        return false;
    };
    let bits = frame.len().saturating_sub(at) as u64 * 8;
    let bit = random.below(bits) as usize;
    match frame.get_mut(at + bit / 8) {
        Some(byte) => {
            *byte ^= 1 << (bit % 8);
            true
        }
        None => false,
    }
}

/// Writes the checksum that the sender left to the hardware: the ones' complement sum from `start` to
/// the end, at `start + offset` (where the pseudo-header's sum stands). False if it lies outside.
pub fn complete_checksum(frame: &mut [u8], start: usize, offset: usize) -> bool {
    let Some(sum) = frame.get(start..).map(sum) else {
        return false;
    };
    // RFC 768: a UDP checksum that computes to zero is sent as ones; to TCP both are zero.
    let checksum = match !fold(sum) {
        0 => u16::MAX,
        checksum => checksum,
    };
    let Some(field) = frame.get_mut(start.saturating_add(offset)..).and_then(|rest| rest.get_mut(..2)) else {
        return false;
    };
    field.copy_from_slice(&checksum.to_be_bytes());
    true
}

/// Sum of 16-bit words, folded as far as 32 bits.
fn sum(bytes: &[u8]) -> u32 {
    let mut sum = 0u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    }
    ((sum & 0xffff_ffff) % 0xffff_ffff + (sum >> 32)) as u32
}

fn fold(mut sum: u32) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 packet in a frame; `ecn` in its header.
    fn ipv4(ecn: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        let length = (20 + payload.len()) as u16;
        let mut header =
            vec![0x45, 0xb8 | ecn, 0, 0, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2];
        header[2..4].copy_from_slice(&length.to_be_bytes());
        let checksum = !fold(sum(&header));
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        frame.extend(header);
        frame.extend(payload);
        frame
    }

    fn header_is_good(frame: &[u8]) -> bool {
        fold(sum(&frame[14..34])) == 0xffff
    }

    #[test]
    fn only_capable_packets_are_marked_and_the_checksum_follows() {
        for (ecn, marked) in [(0, false), (1, true), (2, true), (3, false)] {
            let mut frame = ipv4(ecn, b"abc");
            assert!(header_is_good(&frame));
            assert_eq!(mark_congestion(&mut frame), marked, "ECN {ecn}");
            assert!(header_is_good(&frame));
            assert_eq!(frame[15] & 3, if marked { 3 } else { ecn });
        }
    }

    #[test]
    fn ipv6_and_tagged_packets_are_marked() {
        let mut ipv6 = vec![0; 14 + 40];
        ipv6[12..14].copy_from_slice(&[0x86, 0xdd]);
        ipv6[14] = 0x60;
        assert!(!mark_congestion(&mut ipv6));
        ipv6[15] = 0x20;
        assert!(mark_congestion(&mut ipv6));
        assert_eq!(ipv6[15], 0x30);
        let plain = ipv4(2, b"abc");
        let mut tagged = plain[..12].to_vec();
        tagged.extend([0x81, 0, 0, 7]);
        tagged.extend(&plain[12..]);
        assert!(mark_congestion(&mut tagged));
        assert_eq!(tagged[19] & 3, 3);
    }

    #[test]
    fn short_and_foreign_frames_are_left_alone() {
        for length in 0..34 {
            let mut frame = ipv4(2, b"")[..length].to_vec();
            assert!(!mark_congestion(&mut frame), "{length} bytes");
        }
        let mut arp = vec![0xff; 42];
        arp[12..14].copy_from_slice(&[8, 6]);
        let before = arp.clone();
        assert!(!mark_congestion(&mut arp) && !corrupt(&mut arp, &mut Random::new(1, 1)));
        assert_eq!(arp, before);
    }

    #[test]
    fn corruption_flips_one_bit_behind_the_ethernet_header() {
        let mut random = Random::new(9, 0);
        let clean = ipv4(0, &[0x5a; 100]);
        let mut touched = std::collections::HashSet::new();
        for _ in 0..5000 {
            let mut frame = clean.clone();
            assert!(corrupt(&mut frame, &mut random));
            let changed: Vec<_> = (0..frame.len()).filter(|at| frame[*at] != clean[*at]).collect();
            assert_eq!(changed.len(), 1);
            assert_eq!((frame[changed[0]] ^ clean[changed[0]]).count_ones(), 1);
            touched.insert(changed[0]);
        }
        assert_eq!(touched.len(), clean.len() - 14, "every byte behind the Ethernet header, and none before");
    }

    #[test]
    fn an_unfilled_checksum_is_completed() {
        // A UDP-like header: the field holds the pseudo-header's sum, odd length.
        let mut frame = ipv4(0, &[1, 2, 3, 4, 0x12, 0x34, 7, 8, 9]);
        assert!(complete_checksum(&mut frame, 34, 4));
        let filled = sum(&frame[34..]);
        // What a receiver adds up, less the pseudo-header that replaced the field, is all ones.
        assert_eq!(fold(filled + 0x1234), 0xffff);
        assert!(!complete_checksum(&mut frame, 1000, 4));
        assert!(!complete_checksum(&mut frame, 34, 8));
        assert!(!complete_checksum(&mut frame, 34, usize::MAX));
    }
}
