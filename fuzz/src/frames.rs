// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames of a peer, built and read without the code under test.

use crate::model::{be16, be32, ones_sum};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// Addresses.
pub(crate) const LOCAL: u32 = 0x0a00_0001;
pub(crate) const PEER: u32 = 0x0a00_0002;
pub(crate) const LOCAL_MAC: u64 = 0x0200_0000_0001;
pub(crate) const PEER_MAC: u64 = 0x0200_0000_0002;

/// A segment between us and the peer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Segment {
    /// Our port and the peer's.
    pub(crate) ports: (u16, u16),
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// MSS 1460, SACK permitted, timestamps, window scale 7, as Linux sends them.
pub(crate) fn linux_options(value: u32, echo: u32) -> Vec<u8> {
    let mut options = vec![2, 4, 5, 0xb4, 4, 2, 8, 10];
    options.extend(value.to_be_bytes());
    options.extend(echo.to_be_bytes());
    options.extend([1, 3, 3, 7]);
    options
}

fn ethernet(destination: u64, source: u64, ethertype: u16) -> Vec<u8> {
    let mut frame = destination.to_be_bytes()[2..].to_vec();
    frame.extend(&source.to_be_bytes()[2..]);
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// A datagram from the peer.
pub(crate) fn ipv4(protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45 + (options.len() / 4) as u8, 0];
    header.extend(((20 + options.len() + payload.len()) as u16).to_be_bytes());
    header.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
    header.extend(PEER.to_be_bytes());
    header.extend(LOCAL.to_be_bytes());
    header.extend(options);
    let sum = !ones_sum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [ethernet(LOCAL_MAC, PEER_MAC, 0x0800), header, payload.to_vec()].concat()
}

/// An ICMP message from the peer.
pub(crate) fn icmp(kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0], rest].concat();
    let sum = !ones_sum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv4(1, &[], &message)
}

/// ARP from the owner of `sender`, for us.
pub(crate) fn arp(operation: u8, sender: u32) -> Vec<u8> {
    let mut frame = ethernet(0xffff_ffff_ffff, PEER_MAC, 0x0806);
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(&PEER_MAC.to_be_bytes()[2..]);
    frame.extend(sender.to_be_bytes());
    frame.extend(&LOCAL_MAC.to_be_bytes()[2..]);
    frame.extend(LOCAL.to_be_bytes());
    frame.resize(60, 0);
    frame
}

/// The address that a frame of ours asks for, if it is an ARP request.
pub(crate) fn arp_request(frame: &[u8]) -> Option<u32> {
    (be16(frame, 12) == Some(0x0806) && be16(frame, 20) == Some(1)).then(|| be32(frame, 38))?
}

impl Segment {
    /// The frame from the peer to us.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut options = self.options.clone();
        options.truncate(40);
        options.resize(options.len().div_ceil(4) * 4, 0);
        let mut segment = self.ports.1.to_be_bytes().to_vec();
        segment.extend(self.ports.0.to_be_bytes());
        segment.extend(self.seq.to_be_bytes());
        segment.extend(self.ack.to_be_bytes());
        segment.extend([(((20 + options.len()) / 4) << 4) as u8, self.flags]);
        segment.extend(self.window.to_be_bytes());
        segment.extend([0, 0, 0, 0]);
        segment.extend(&options);
        segment.extend(&self.payload);
        let sum = !tcp_sum(PEER, LOCAL, &segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        ipv4(6, &[], &segment)
    }

    /// A frame of ours; `None` if it is no TCP. Panics if it is not as it should be.
    pub(crate) fn decode(frame: &[u8]) -> Option<Self> {
        if be16(frame, 12) != Some(0x0800) {
            return None;
        }
        let ip = &frame[14..];
        let (header, total) = (usize::from(ip[0] & 15) * 4, usize::from(be16(ip, 2)?));
        assert!(ip[0] >> 4 == 4 && header >= 20 && total <= ip.len(), "{frame:02x?}");
        assert_eq!(ones_sum(&ip[..header]), 0xffff, "IP checksum");
        if ip[9] != 6 {
            return None;
        }
        let segment = &ip[header..total];
        assert_eq!(tcp_sum(be32(ip, 12)?, be32(ip, 16)?, segment), 0xffff, "TCP checksum");
        let data = usize::from(segment[12] >> 4) * 4;
        Some(Self {
            ports: (be16(segment, 0)?, be16(segment, 2)?),
            seq: be32(segment, 4)?,
            ack: be32(segment, 8)?,
            flags: segment[13],
            window: be16(segment, 14)?,
            options: segment[20..data].to_vec(),
            payload: segment[data..].to_vec(),
        })
    }
}

fn tcp_sum(source: u32, destination: u32, segment: &[u8]) -> u16 {
    let mut pseudo = source.to_be_bytes().to_vec();
    pseudo.extend(destination.to_be_bytes());
    pseudo.extend([0, 6]);
    pseudo.extend((segment.len() as u16).to_be_bytes());
    pseudo.extend(segment);
    ones_sum(&pseudo)
}
