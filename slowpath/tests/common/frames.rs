// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Frames of the peer, built and read without the code under test.

use super::{LOCAL, LOCAL_MAC, PEER, PEER_MAC};

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
        let mut pseudo = vec![];
        pseudo.extend(self.from.to_be_bytes());
        pseudo.extend(self.to.to_be_bytes());
        pseudo.extend([0, 6]);
        pseudo.extend((segment.len() as u16).to_be_bytes());
        let checksum = fold(sum(&pseudo) + sum(&segment));
        segment[16..18].copy_from_slice(&checksum.to_be_bytes());
        ipv4(self.from, self.to, 6, &self.ip_options, &segment)
    }

    /// Parses a frame of ours, checking both checksums.
    pub fn parse(frame: &[u8]) -> Self {
        let ip = &frame[14..];
        let header = usize::from(ip[0] & 15) * 4;
        assert_eq!(fold(sum(&ip[..header])), 0, "IP checksum");
        let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        let segment = &ip[header..total];
        let mut pseudo = ip[12..20].to_vec();
        pseudo.extend([0, 6]);
        pseudo.extend((segment.len() as u16).to_be_bytes());
        assert_eq!(fold(sum(&pseudo) + sum(segment)), 0, "TCP checksum");
        let word = |at: usize| u32::from_be_bytes(segment[at..at + 4].try_into().unwrap());
        let half = |at: usize| u16::from_be_bytes(segment[at..at + 2].try_into().unwrap());
        let data = usize::from(segment[12] >> 4) * 4;
        Self {
            from: u32::from_be_bytes(ip[12..16].try_into().unwrap()),
            to: u32::from_be_bytes(ip[16..20].try_into().unwrap()),
            source: half(0),
            destination: half(2),
            seq: word(4),
            ack: word(8),
            flags: segment[13],
            window: half(14),
            options: segment[20..data].to_vec(),
            payload: segment[data..].to_vec(),
            ip_options: ip[20..header].to_vec(),
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

pub fn icmp(kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest);
    let checksum = fold(sum(&message));
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    ipv4(PEER, LOCAL, 1, &[], &message)
}

pub fn arp(operation: u8, mac: u64, ip: u32, target_mac: u64, target_ip: u32) -> Vec<u8> {
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
