// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Frames of the peer, built and read without the code under test.

use super::{address, is_v6, number, LOCAL, LOCAL_MAC, PEER, PEER_MAC};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;
pub const URG: u8 = 32;
pub const ECE: u8 = 64;
pub const CWR: u8 = 128;

/// A TCP segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tcp {
    pub from: u32,
    pub to: u32,
    pub source: u16,
    pub destination: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
    pub ip_options: Vec<u8>,
}

/// MSS 1460, SACK permitted, timestamps, window scale 7, as Linux sends them.
pub fn linux_options(value: u32, echo: u32) -> Vec<u8> {
    let mut options = vec![2, 4, 5, 0xb4, 4, 2, 8, 10];
    options.extend(value.to_be_bytes());
    options.extend(echo.to_be_bytes());
    options.extend([1, 3, 3, 7]);
    options
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
}

fn fold(mut value: u32) -> u16 {
    while value > 0xffff {
        value = (value & 0xffff) + (value >> 16);
    }
    !(value as u16)
}

/// Sum of the pseudo header of either family.
fn pseudo(from: &[u8], to: &[u8], protocol: u8, length: usize) -> u32 {
    sum(from) + sum(to) + u32::from(protocol) + length as u32
}

impl Tcp {
    pub fn new(source: u16, destination: u16, seq: u32, ack: u32, flags: u8) -> Self {
        Self {
            from: PEER,
            to: LOCAL,
            source,
            destination,
            seq,
            ack,
            flags,
            window: 1000,
            options: vec![],
            payload: vec![],
            ip_options: vec![],
        }
    }
    pub fn syn(source: u16, destination: u16, seq: u32) -> Self {
        Self { options: linux_options(77, 0), ..Self::new(source, destination, seq, 0, SYN) }
    }
    pub fn syn_ack(source: u16, destination: u16, seq: u32, ack: u32) -> Self {
        Self { options: linux_options(77, 0), ..Self::new(source, destination, seq, ack, SYN | ACK) }
    }
    pub fn ack(source: u16, destination: u16, seq: u32, ack: u32) -> Self {
        Self::new(source, destination, seq, ack, ACK)
    }
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    pub fn frame(&self) -> Vec<u8> {
        assert!(self.options.len() % 4 == 0 && self.ip_options.len() % 4 == 0);
        let mut segment = vec![];
        segment.extend(self.source.to_be_bytes());
        segment.extend(self.destination.to_be_bytes());
        segment.extend(self.seq.to_be_bytes());
        segment.extend(self.ack.to_be_bytes());
        segment.push((((20 + self.options.len()) / 4) << 4) as u8);
        segment.push(self.flags);
        segment.extend(self.window.to_be_bytes());
        segment.extend([0, 0, 0, 0]);
        segment.extend(&self.options);
        segment.extend(&self.payload);
        let checksum = fold(pseudo(&address(self.from), &address(self.to), 6, segment.len()) + sum(&segment));
        segment[16..18].copy_from_slice(&checksum.to_be_bytes());
        if is_v6() {
            if self.ip_options.is_empty() {
                return ipv6(&address(self.from), &address(self.to), 6, 64, &segment);
            }
            // Of about the same length: destination options, all padding.
            let length = self.ip_options.len().next_multiple_of(8);
            let mut extension = vec![0; length];
            extension[..4].copy_from_slice(&[6, (length / 8 - 1) as u8, 1, (length - 4) as u8]);
            extension.extend(segment);
            return ipv6(&address(self.from), &address(self.to), 60, 64, &extension);
        }
        ipv4(self.from, self.to, 6, &self.ip_options, &segment)
    }

    /// As [`Tcp::parse`], of a frame with IPv6.
    fn parse_v6(frame: &[u8]) -> Self {
        let ip = &frame[14..];
        let (from, to) = (&ip[8..24], &ip[24..40]);
        let total = 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]]));
        assert_eq!((ip[0] >> 4, ip[6]), (6, 6), "version, next header");
        let segment = &ip[40..total];
        assert_eq!(fold(pseudo(from, to, 6, segment.len()) + sum(segment)), 0, "TCP checksum");
        Self::parse_segment(number(from), number(to), segment)
    }

    /// Parses a frame of ours, checking both checksums.
    pub fn parse(frame: &[u8]) -> Self {
        if is_v6() {
            return Self::parse_v6(frame);
        }
        let ip = &frame[14..];
        let header = usize::from(ip[0] & 15) * 4;
        assert_eq!(fold(sum(&ip[..header])), 0, "IP checksum");
        let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        let segment = &ip[header..total];
        assert_eq!(
            fold(pseudo(&ip[12..16], &ip[16..20], 6, segment.len()) + sum(segment)),
            0,
            "TCP checksum"
        );
        let parsed = Self::parse_segment(number(&ip[12..16]), number(&ip[16..20]), segment);
        Self { ip_options: ip[20..header].to_vec(), ..parsed }
    }

    fn parse_segment(from: u32, to: u32, segment: &[u8]) -> Self {
        let word = |at: usize| u32::from_be_bytes(segment[at..at + 4].try_into().unwrap());
        let half = |at: usize| u16::from_be_bytes(segment[at..at + 2].try_into().unwrap());
        let data = usize::from(segment[12] >> 4) * 4;
        Self {
            from,
            to,
            source: half(0),
            destination: half(2),
            seq: word(4),
            ack: word(8),
            flags: segment[13],
            window: half(14),
            options: segment[20..data].to_vec(),
            payload: segment[data..].to_vec(),
            ip_options: vec![],
        }
    }

    /// Value of an option of ours, if it is there.
    pub fn option(&self, kind: u8) -> Option<Vec<u8>> {
        let mut rest = &self.options[..];
        while let Some(&first) = rest.first() {
            match first {
                0 => return None,
                1 => rest = &rest[1..],
                _ => {
                    let length = usize::from(rest[1]);
                    if first == kind {
                        return Some(rest[2..length].to_vec());
                    }
                    rest = &rest[length..];
                }
            }
        }
        None
    }
}

pub fn ipv4(from: u32, to: u32, protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut frame = LOCAL_MAC.to_be_bytes()[2..].to_vec();
    frame.extend(&PEER_MAC.to_be_bytes()[2..]);
    frame.extend([8, 0]);
    let mut header = vec![0x40 | ((20 + options.len()) / 4) as u8, 0];
    header.extend(((20 + options.len() + payload.len()) as u16).to_be_bytes());
    header.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
    header.extend(from.to_be_bytes());
    header.extend(to.to_be_bytes());
    header.extend(options);
    let checksum = fold(sum(&header));
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(header);
    frame.extend(payload);
    frame
}

/// An ICMP message; over IPv6 the one that means the same.
pub fn icmp(kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    if is_v6() {
        let (kind, code) = match (kind, code) {
            (3, 0) => (1, 0),
            (3, 1) => (1, 3),
            (3, 2) => (1, 1),
            (3, 3) => (1, 4),
            (3, 4) => (2, 0),
            (3, code) => (1, code),
            (4 | 5, _) => (137, 0),
            (8, code) => (128, code),
            (11, code) => (3, code),
            (12, code) => (4, code),
            other => other,
        };
        return icmpv6(&address(PEER), &address(LOCAL), 64, kind, code, rest);
    }
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest);
    let checksum = fold(sum(&message));
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    ipv4(PEER, LOCAL, 1, &[], &message)
}

/// An IPv6 packet of the peer's.
pub fn ipv6(from: &[u8], to: &[u8], protocol: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = LOCAL_MAC.to_be_bytes()[2..].to_vec();
    frame.extend(&PEER_MAC.to_be_bytes()[2..]);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([protocol, hop_limit]);
    frame.extend(from);
    frame.extend(to);
    frame.extend(payload);
    frame
}

/// An ICMPv6 message.
pub fn icmpv6(from: &[u8], to: &[u8], hop_limit: u8, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest);
    let checksum = fold(pseudo(from, to, 58, message.len()) + sum(&message));
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    ipv6(from, to, 58, hop_limit, &message)
}

/// A neighbor solicitation (1) or advertisement (2), as [`arp`] would say it.
fn discovery(operation: u8, mac: u64, ip: u32, target_ip: u32) -> Vec<u8> {
    let (kind, flags, about, option) =
        if operation == 1 { (135, 0, target_ip, 1) } else { (136, 0x60, ip, 2) };
    let mut rest = vec![flags, 0, 0, 0];
    rest.extend(address(about));
    rest.extend([option, 1]);
    rest.extend(&mac.to_be_bytes()[2..]);
    let mut frame = icmpv6(&address(ip), &address(target_ip), 255, kind, 0, &rest);
    frame[6..12].copy_from_slice(&mac.to_be_bytes()[2..]);
    frame
}

/// Whom a frame of ours asks for, if it asks for a neighbour.
pub fn asks_for(frame: &[u8]) -> Option<u32> {
    if frame[12..14] == [8, 6] && frame[20..22] == [0, 1] {
        return Some(number(&frame[38..42]));
    }
    let solicitation = frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] == 135;
    // Not the detection of duplicates.
    (solicitation && frame[22..38] != [0; 16]).then(|| number(&frame[62..78]))
}

/// What the peer answers to a frame of ours that asks for a neighbour, whichever family it is of.
pub fn neighbor_answer(frame: &[u8]) -> Option<Vec<u8>> {
    let target = asks_for(frame)?;
    if frame[12..14] == [8, 6] {
        return Some(plain_arp(2, PEER_MAC, target, LOCAL_MAC, LOCAL));
    }
    let mut rest = vec![0x60, 0, 0, 0];
    rest.extend(&frame[62..78]);
    rest.extend([2, 1]);
    rest.extend(&PEER_MAC.to_be_bytes()[2..]);
    Some(icmpv6(&frame[62..78], &frame[22..38], 255, 136, 0, &rest))
}

/// What a host tells about its MAC address: request (1) or reply (2).
pub fn arp(operation: u8, mac: u64, ip: u32, target_mac: u64, target_ip: u32) -> Vec<u8> {
    if is_v6() {
        discovery(operation, mac, ip, target_ip)
    } else {
        plain_arp(operation, mac, ip, target_mac, target_ip)
    }
}

fn plain_arp(operation: u8, mac: u64, ip: u32, target_mac: u64, target_ip: u32) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(&mac.to_be_bytes()[2..]);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(&mac.to_be_bytes()[2..]);
    frame.extend(ip.to_be_bytes());
    frame.extend(&target_mac.to_be_bytes()[2..]);
    frame.extend(target_ip.to_be_bytes());
    frame.resize(60, 0);
    frame
}
