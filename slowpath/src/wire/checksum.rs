// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The internet checksum (RFC 1071).

use super::address::Address;

/// Adds `bytes` to a running sum of 16-bit words.
pub(crate) fn add(sum: u32, bytes: &[u8]) -> u32 {
    let mut sum = sum as u64;
    let mut rest = bytes;
    while let [a, b, tail @ ..] = rest {
        sum = sum.wrapping_add(u16::from_be_bytes([*a, *b]) as u64);
        rest = tail;
    }
    if let [a] = rest {
        sum = sum.wrapping_add((*a as u64) << 8);
    }
    // A frame is below 64 KiB, so that the sum fits 32 bits.
    sum as u32
}

/// Folds a sum and inverts it.
pub(crate) fn finish(sum: u32) -> u16 {
    let once = (sum & 0xffff).wrapping_add(sum >> 16);
    let twice = (once & 0xffff).wrapping_add(once >> 16);
    !(twice as u16)
}

/// Sum of the pseudo header of TCP over IPv4 (RFC 9293 §3.1) or IPv6 (RFC 8200 §8.1).
pub(crate) fn pseudo_header(source: &Address, destination: &Address, protocol: u8, length: u16) -> u32 {
    let sum = (protocol as u32).wrapping_add(length as u32);
    let words = |address: &Address, sum: u32| {
        // Of an IPv4 address the words in front do not count.
        address
            .as_cold()
            .iter()
            .fold(sum, |sum, word| sum.wrapping_add(word >> 16).wrapping_add(word & 0xffff))
    };
    words(source, words(destination, sum))
}

/// Whether the checksum of a TCP segment holds.
pub(crate) fn is_segment_good(source: &Address, destination: &Address, segment: &[u8]) -> bool {
    let sum = pseudo_header(source, destination, super::ipv4::TCP, segment.len() as u16);
    finish(add(sum, segment)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_1071_example_and_verification() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        let sum = finish(add(0, &data));
        assert_eq!(sum, !0xddf2);
        let mut whole = data.to_vec();
        whole.extend(sum.to_be_bytes());
        assert_eq!(finish(add(0, &whole)), 0);
        assert_eq!(add(0, &[0xab]), 0xab00, "an odd byte is the high half");
    }
}
