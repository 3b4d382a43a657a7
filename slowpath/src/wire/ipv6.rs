// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! IPv6 headers (RFC 8200).

use super::{address::Address, ethernet, get_u16, get_u32, put, Fragment};

/// Bytes of a header without extension headers.
pub(crate) const HEADER_BYTES: usize = 40;
/// Next header values.
pub(crate) const ICMP: u8 = 58;
/// Hop limit of what we send, as Linux's.
pub(crate) const HOP_LIMIT: u8 = 64;
/// Hop limit of Neighbor Discovery: proof that no router forwarded it (RFC 4861 §11.2).
pub(crate) const HOP_LIMIT_LINK: u8 = 255;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
/// Bytes of a fragment header.
const FRAGMENT_BYTES: usize = 8;
/// Extension headers followed in one packet: each kind once, destination options twice (RFC 8200 §4.1), and some
/// that are repeated; whoever sends more wants us busy.
const EXTENSIONS_MAX: u32 = 8;

/// What a header says, and the extension headers behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ipv6 {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    /// What the last extension header names.
    pub(crate) protocol: u8,
    pub(crate) hop_limit: u8,
    /// A fragment header is there that says more than "whole" (RFC 6946).
    pub(crate) fragment: Option<Fragment>,
    /// Traffic class with ECN field.
    pub(crate) class: u8,
    /// Bytes of the header, extension headers included.
    pub(crate) header_bytes: usize,
    /// Bytes of header and payload.
    pub(crate) total_bytes: usize,
}

/// An address at `offset`.
pub(crate) fn get_address(bytes: &[u8], offset: usize) -> Option<Address> {
    let word = |index: usize| get_u32(bytes, offset.wrapping_add(index));
    Some(Address::v6([word(0)?, word(4)?, word(8)?, word(12)?]))
}

/// Writes an address at `offset`.
pub(crate) fn put_address(bytes: &mut [u8], offset: usize, address: &Address) {
    let mut at = offset;
    for word in address.words() {
        put(bytes, at, &word.to_be_bytes());
        at = at.wrapping_add(4);
    }
}

impl Ipv6 {
    /// Parses `packet`, which begins at the IP header; `None` if it is malformed, or needs what a host must not
    /// do: an unknown option that asks to be dropped for, or a route with segments left.
    pub(crate) fn parse(packet: &[u8]) -> Option<Self> {
        let first = *packet.first()?;
        let total_bytes = HEADER_BYTES.wrapping_add(get_u16(packet, 4)? as usize);
        if first >> 4 != 6 || packet.len() < total_bytes {
            return None;
        }
        let mut header = Self {
            source: get_address(packet, 8)?,
            destination: get_address(packet, 24)?,
            protocol: *packet.get(6)?,
            hop_limit: *packet.get(7)?,
            fragment: None,
            class: (get_u16(packet, 0)? >> 4) as u8,
            header_bytes: HEADER_BYTES,
            total_bytes,
        };
        // On the wire the mapped form is nobody's address (RFC 4291 §2.5.5.2).
        if header.source.is_v4() || header.destination.is_v4() {
            return None;
        }
        header.follow_extensions(packet.get(..total_bytes)?)?;
        Some(header)
    }

    fn follow_extensions(&mut self, packet: &[u8]) -> Option<()> {
        for count in 0..=EXTENSIONS_MAX {
            let extension = packet.get(self.header_bytes..)?;
            let bytes = match self.protocol {
                // Only directly behind the header (RFC 8200 §4.3).
                HOP_BY_HOP if count > 0 => return None,
                HOP_BY_HOP | DESTINATION => {
                    let bytes = extension_bytes(extension)?;
                    are_options_harmless(extension.get(2..bytes)?).then_some(bytes)?
                }
                // RFC 8200 §4.4: with no segment left it is passed over, else it is not for a host.
                ROUTING if *extension.get(3)? == 0 => extension_bytes(extension)?,
                ROUTING => return None,
                FRAGMENT => {
                    // Offset, two reserved bits, and whether more follow.
                    let header = extension.get(..FRAGMENT_BYTES)?;
                    let word = get_u16(header, 2)?;
                    let identification = get_u32(header, 4)?;
                    self.fragment = (word & 0xfff9 != 0).then_some(Fragment {
                        identification,
                        offset: word & 0xfff8,
                        more: word & 1 != 0,
                    });
                    FRAGMENT_BYTES
                }
                _ => return Some(()),
            };
            self.protocol = *extension.first()?;
            self.header_bytes = self.header_bytes.wrapping_add(bytes);
            if self.fragment.is_some() {
                // What follows is in the first fragment only.
                return Some(());
            }
        }
        None
    }
}

/// Length of an extension header, if it is all there.
fn extension_bytes(extension: &[u8]) -> Option<usize> {
    let bytes = (*extension.get(1)? as usize).wrapping_add(1).wrapping_mul(8);
    (extension.len() >= bytes).then_some(bytes)
}

/// Whether all options are known or may be passed over: the two highest bits of the type are zero (RFC 8200
/// §4.2). We know padding only, so no option is answered by an error; the packet is dropped.
fn are_options_harmless(options: &[u8]) -> bool {
    let mut rest = options;
    loop {
        match rest {
            [] => return true,
            // Pad1.
            [0, tail @ ..] => rest = tail,
            [kind, length, tail @ ..] if kind >> 6 == 0 => {
                let Some(tail) = tail.get(*length as usize..) else {
                    return false;
                };
                rest = tail;
            }
            _ => return false,
        }
    }
}

/// Writes a header for `payload_bytes` behind an Ethernet header. Without a flow label (RFC 6437 allows zero).
pub(crate) fn write(
    frame: &mut [u8],
    source: &Address,
    destination: &Address,
    protocol: u8,
    hop_limit: u8,
    payload_bytes: usize,
) {
    let Some(header) = frame.get_mut(ethernet::HEADER_BYTES..) else {
        return;
    };
    put(header, 0, &[0x60, 0, 0, 0]);
    put(header, 4, &(payload_bytes as u16).to_be_bytes());
    put(header, 6, &[protocol, hop_limit]);
    put_address(header, 8, source);
    put_address(header, 24, destination);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, SipKey};
    use std::{vec, vec::Vec};

    const SOURCE: Address = Address::v6([0x2001_0db8, 0, 0, 1]);
    const DESTINATION_ADDRESS: Address = Address::v6([0x2001_0db8, 0, 0, 2]);

    /// A packet whose first next header is `protocol` and whose payload is `rest`.
    fn packet(protocol: u8, rest: &[u8]) -> Vec<u8> {
        let mut frame = vec![0u8; ethernet::HEADER_BYTES + HEADER_BYTES];
        write(&mut frame, &SOURCE, &DESTINATION_ADDRESS, protocol, 64, rest.len());
        frame.extend(rest);
        frame.split_off(ethernet::HEADER_BYTES)
    }

    #[test]
    fn plain_packets_and_the_padding_behind_them() {
        let mut bytes = packet(6, &[1, 2, 3]);
        bytes.extend([0; 9]);
        let ip = Ipv6::parse(&bytes).unwrap();
        assert_eq!((ip.source, ip.destination), (SOURCE, DESTINATION_ADDRESS));
        assert_eq!((ip.protocol, ip.header_bytes, ip.total_bytes, ip.fragment), (6, 40, 43, None));
        assert!(Ipv6::parse(&bytes[..42]).is_none(), "cut short");
        bytes[0] = 0x45;
        assert!(Ipv6::parse(&bytes).is_none());
    }

    #[test]
    fn extension_headers_are_passed_over() {
        let pad = [1u8, 4, 0, 0, 0, 0];
        let hop_by_hop = [&[DESTINATION, 0][..], &pad].concat();
        let destination = [&[ROUTING, 0][..], &pad].concat();
        let routing = [FRAGMENT, 0, 0, 0, 0, 0, 0, 0];
        let whole = [6u8, 0, 0, 0, 0, 0, 0, 9];
        let all = [&hop_by_hop[..], &destination, &routing, &whole, &[7; 20]].concat();
        let ip = Ipv6::parse(&packet(HOP_BY_HOP, &all)).unwrap();
        assert_eq!((ip.protocol, ip.header_bytes, ip.fragment), (6, 40 + 32, None));
    }

    #[test]
    fn what_a_host_must_not_take_is_refused() {
        let segments_left = [6u8, 0, 0, 1, 0, 0, 0, 0];
        assert!(Ipv6::parse(&packet(ROUTING, &segments_left)).is_none());
        let unknown_drop = [6u8, 0, 0x40 | 3, 4, 0, 0, 0, 0];
        assert!(Ipv6::parse(&packet(DESTINATION, &unknown_drop)).is_none());
        let unknown_skip = [6u8, 0, 3, 4, 0, 0, 0, 0];
        assert_eq!(Ipv6::parse(&packet(DESTINATION, &unknown_skip)).unwrap().protocol, 6);
        let beyond = [6u8, 0, 1, 5, 0, 0, 0, 0];
        assert!(Ipv6::parse(&packet(DESTINATION, &beyond)).is_none(), "an option longer than its header");
        let long = [6u8, 1, 1, 4, 0, 0, 0, 0];
        assert!(Ipv6::parse(&packet(DESTINATION, &long)).is_none(), "a header longer than the packet");
        let hop_by_hop_again = [&[HOP_BY_HOP, 0, 1, 4, 0, 0, 0, 0][..], &[6, 0, 1, 4, 0, 0, 0, 0]].concat();
        assert!(Ipv6::parse(&packet(DESTINATION, &hop_by_hop_again)).is_none());
        let many: Vec<u8> = [DESTINATION, 0, 1, 4, 0, 0, 0, 0].repeat(9);
        assert!(Ipv6::parse(&packet(DESTINATION, &many)).is_none(), "too many");
        let mapped = {
            let mut bytes = packet(6, &[]);
            bytes[8..24].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 2]);
            bytes
        };
        assert!(Ipv6::parse(&mapped).is_none());
    }

    #[test]
    fn fragments_are_seen() {
        for (word, fragment) in [(0u16, false), (1, true), (8, true), (9, true), (6, false)] {
            let [high, low] = word.to_be_bytes();
            let ip = Ipv6::parse(&packet(FRAGMENT, &[6, 0, high, low, 0, 0, 0, 1, 9, 9])).unwrap();
            assert_eq!(ip.fragment.is_some(), fragment, "{word}");
        }
    }

    #[test]
    fn any_bytes_end() {
        for seed in 0..300u64 {
            let mut random = Random::new(SipKey(seed, 61));
            let length = random.below(200) as usize;
            let kinds = [HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION, 6];
            let rest: Vec<u8> = (0..length)
                .map(|_| match random.below(3) {
                    0 => kinds[random.below(5) as usize],
                    1 => random.below(3) as u8,
                    _ => random.next() as u8,
                })
                .collect();
            let bytes = packet(kinds[random.below(5) as usize], &rest);
            if let Some(ip) = Ipv6::parse(&bytes) {
                assert!(ip.header_bytes <= ip.total_bytes && ip.total_bytes <= bytes.len(), "seed {seed}");
            }
        }
    }
}
