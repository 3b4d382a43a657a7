// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames of a Linux peer, made and taken apart by hand.

/// TAS's address.
pub const LOCAL_IP: u32 = 0x0a00_0001;
/// TAS's MAC address.
pub const LOCAL_MAC: u64 = 0x0200_0000_0001;
/// The peer's address.
pub const PEER_IP: u32 = 0x0a00_0002;
/// The peer's MAC address.
pub const PEER_MAC: u64 = 0x0200_0000_0002;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// A TCP segment, as far as the tests look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Segment {
    pub source: u16,
    pub destination: u16,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
}

fn ethernet(to: u64, from: u64, kind: u16) -> Vec<u8> {
    let mut frame = to.to_be_bytes()[2..].to_vec();
    frame.extend(&from.to_be_bytes()[2..]);
    frame.extend(kind.to_be_bytes());
    frame
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
}

fn checksum(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A segment of the peer, with an MSS option on a SYN.
pub fn from_peer(segment: Segment, payload: &[u8]) -> Vec<u8> {
    let options: &[u8] = if segment.flags & SYN != 0 { &[2, 4, 0x05, 0xb4] } else { &[] };
    let mut tcp = Vec::new();
    tcp.extend(segment.source.to_be_bytes());
    tcp.extend(segment.destination.to_be_bytes());
    tcp.extend(segment.sequence.to_be_bytes());
    tcp.extend(segment.acknowledgement.to_be_bytes());
    tcp.extend([((20 + options.len()) as u8 / 4) << 4, segment.flags, 0xff, 0xff, 0, 0, 0, 0]);
    tcp.extend(options);
    tcp.extend(payload);
    let mut pseudo = Vec::new();
    pseudo.extend(PEER_IP.to_be_bytes());
    pseudo.extend(LOCAL_IP.to_be_bytes());
    pseudo.extend([0, 6]);
    pseudo.extend((tcp.len() as u16).to_be_bytes());
    let check = checksum(sum(&pseudo) + sum(&tcp));
    tcp[16..18].copy_from_slice(&check.to_be_bytes());
    let mut ip = vec![0x45, 0];
    ip.extend((20 + tcp.len() as u16).to_be_bytes());
    ip.extend([0, 1, 0x40, 0, 64, 6, 0, 0]);
    ip.extend(PEER_IP.to_be_bytes());
    ip.extend(LOCAL_IP.to_be_bytes());
    let check = checksum(sum(&ip));
    ip[10..12].copy_from_slice(&check.to_be_bytes());
    let mut frame = ethernet(LOCAL_MAC, PEER_MAC, 0x0800);
    frame.extend(ip);
    frame.extend(tcp);
    frame
}

/// The peer's answer to an ARP request, or (`operation` 1) its own request for our address.
pub fn arp(operation: u16) -> Vec<u8> {
    let mut frame = ethernet(LOCAL_MAC, PEER_MAC, 0x0806);
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    frame.extend(&PEER_MAC.to_be_bytes()[2..]);
    frame.extend(PEER_IP.to_be_bytes());
    frame.extend(&LOCAL_MAC.to_be_bytes()[2..]);
    frame.extend(LOCAL_IP.to_be_bytes());
    frame
}

/// True for an ARP request by us for the peer's address.
pub fn is_arp_request(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 6])
        && frame.get(20..22) == Some(&[0, 1])
        && frame.get(38..42) == Some(&PEER_IP.to_be_bytes())
}

/// The segment in a frame of ours, if it is one and both its checksums are right.
pub fn to_peer(frame: &[u8]) -> Option<Segment> {
    if frame.get(12..14)? != [8, 0] || frame.get(23)? != &6 {
        return None;
    }
    let length = usize::from(u16::from_be_bytes(frame.get(16..18)?.try_into().ok()?));
    let (ip, tcp) = (frame.get(14..34)?, frame.get(34..14 + length)?);
    let pseudo = [&ip[12..20], &[0, 6], &(tcp.len() as u16).to_be_bytes()].concat();
    assert_eq!(checksum(sum(ip)), 0, "IP checksum of a frame of the slow path");
    assert_eq!(checksum(sum(&pseudo) + sum(tcp)), 0, "TCP checksum of a frame of the slow path");
    let u32_at = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
    Some(Segment {
        source: u16::from_be_bytes([tcp[0], tcp[1]]),
        destination: u16::from_be_bytes([tcp[2], tcp[3]]),
        sequence: u32_at(4),
        acknowledgement: u32_at(8),
        flags: *tcp.get(13)?,
    })
}
