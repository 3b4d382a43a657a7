// SPDX-License-Identifier: MIT OR Apache-2.0
//! The IPv4 header's checksum (RFC 1071), for ports that look at TCP's only.

/// Bytes of an Ethernet header.
const ETHERNET_BYTES: usize = 14;
/// EtherType of IPv4.
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
/// Offset of the checksum in the header.
const CHECKSUM: usize = 10;

fn header(frame: &[u8]) -> Option<&[u8]> {
    if frame.get(12..ETHERNET_BYTES)? != ETHERTYPE_IPV4 {
        return None;
    }
    let bytes = usize::from(frame.get(ETHERNET_BYTES)? & 0xf) * 4;
    if bytes < 20 {
        return None;
    }
    frame.get(ETHERNET_BYTES..ETHERNET_BYTES + bytes)
}

/// The complemented sum over an IPv4 frame's header as it stands: zero if its checksum is right.
/// `None` if the frame is not IPv4 or too short.
#[inline]
pub(super) fn header_checksum(frame: &[u8]) -> Option<u16> {
    let words = header(frame)?.chunks_exact(2);
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    Some(!(folded as u16))
}

/// Fills in the checksum of an IPv4 frame's header.
#[inline]
pub(super) fn set_header_checksum(frame: &mut [u8]) {
    const AT: usize = ETHERNET_BYTES + CHECKSUM;
    if header(frame).is_none() {
        return;
    }
    frame[AT..AT + 2].fill(0);
    if let Some(sum) = header_checksum(frame) {
        frame[AT..AT + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of RFC 1071 examples' kind, with its known checksum 0xb861.
    fn frame() -> Vec<u8> {
        let mut frame = vec![0u8; ETHERNET_BYTES];
        frame[12] = 0x08;
        frame.extend([
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01,
            0xc0, 0xa8, 0x00, 0xc7,
        ]);
        frame
    }

    #[test]
    fn known_header() {
        let mut good = frame();
        assert_eq!(header_checksum(&good), Some(0));
        good[30] ^= 1;
        assert_ne!(header_checksum(&good), Some(0));
        set_header_checksum(&mut good);
        assert_eq!(header_checksum(&good), Some(0));
        let mut again = frame();
        again[24..26].fill(0xff);
        set_header_checksum(&mut again);
        assert_eq!(again, frame());
    }

    #[test]
    fn any_frame_is_survived() {
        for len in 0..40 {
            for first in 0..=255u8 {
                let mut bytes = frame();
                bytes.truncate(len);
                if let Some(byte) = bytes.get_mut(ETHERNET_BYTES) {
                    *byte = first;
                }
                set_header_checksum(&mut bytes);
                let _ = header_checksum(&bytes);
            }
        }
    }
}
