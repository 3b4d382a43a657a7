// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Internet checksum (RFC 1071), used where the port does not compute it.

/// Sum of 16-bit big-endian words, not yet folded. A missing last byte counts as zero.
///
/// Summed in native order, eight bytes at a time: the ones' complement sum is the same in either
/// byte order once its bytes are swapped (RFC 1071 §2 (B)).
#[inline]
pub(crate) fn sum(bytes: &[u8]) -> u32 {
    let mut total = 0u64;
    let mut eights = bytes.chunks_exact(8);
    for eight in &mut eights {
        if let Some(word) = eight.first_chunk::<8>() {
            let word = u64::from_ne_bytes(*word);
            total = total.wrapping_add((word & 0xffff_ffff).wrapping_add(word >> 32));
        }
    }
    let mut rest = [0u8; 8];
    for (to, from) in rest.iter_mut().zip(eights.remainder()) {
        *to = *from;
    }
    let word = u64::from_ne_bytes(rest);
    total = total.wrapping_add((word & 0xffff_ffff).wrapping_add(word >> 32));
    u32::from(u16::from_be(fold(total)))
}

/// Folds a sum to 16 bits.
#[inline]
fn fold(mut total: u64) -> u16 {
    total = (total & 0xffff_ffff).wrapping_add(total >> 32);
    total = (total & 0xffff_ffff).wrapping_add(total >> 32);
    total = (total & 0xffff).wrapping_add(total >> 16);
    total = (total & 0xffff).wrapping_add(total >> 16);
    total = (total & 0xffff).wrapping_add(total >> 16);
    total as u16
}

/// The checksum field's value for a sum.
#[inline]
pub(crate) fn finish(sum: u32) -> u16 {
    !fold(u64::from(sum))
}

/// Sum of the TCP pseudo-header (RFC 9293 §3.1) over IPv4.
#[inline]
pub(crate) fn pseudo_header(source: u32, destination: u32, tcp_bytes: u32) -> u32 {
    (source >> 16)
        .wrapping_add(source & 0xffff)
        .wrapping_add(destination >> 16)
        .wrapping_add(destination & 0xffff)
        .wrapping_add(6)
        .wrapping_add(tcp_bytes)
}

/// A sum folded to 16 bits but not complemented: what a port with checksum offload wants to find.
#[inline]
pub(crate) fn partial(sum: u32) -> u16 {
    fold(u64::from(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(bytes: &[u8]) -> u16 {
        let mut total = 0u64;
        for pair in bytes.chunks(2) {
            total += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
        }
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    #[test]
    fn agrees_with_the_plain_definition_at_every_length() {
        let bytes: Vec<u8> = (0..1600u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in 0..bytes.len() {
            assert_eq!(partial(sum(&bytes[..len])), reference(&bytes[..len]), "{len} bytes");
        }
        assert_eq!(partial(sum(&[0xff; 1501])), reference(&[0xff; 1501]));
    }

    #[test]
    fn known_header() {
        // RFC 1071's example words.
        assert_eq!(partial(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
    }
}
