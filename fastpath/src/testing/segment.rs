// SPDX-License-Identifier: MIT OR Apache-2.0
//! A TCP segment as a peer writes and reads it.

use crate::{
    checksum, header, ipv6,
    parse::{parse, Segment, Verdict},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bits of [`TestSegment::flags`].
pub const FIN: u8 = 0x01;
/// See [`FIN`].
pub const SYN: u8 = 0x02;
/// See [`FIN`].
pub const RST: u8 = 0x04;
/// See [`FIN`].
pub const PSH: u8 = 0x08;
/// See [`FIN`].
pub const ACK: u8 = 0x10;
/// See [`FIN`].
pub const URG: u8 = 0x20;
/// See [`FIN`].
pub const ECE: u8 = 0x40;
/// See [`FIN`].
pub const CWR: u8 = 0x80;

/// A segment; `encode` makes the frame, checksums included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestSegment {
    /// MAC addresses.
    pub destination_mac: [u8; 6],
    /// See above.
    pub source_mac: [u8; 6],
    /// Addresses, both of one family.
    pub source_ip: IpAddr,
    /// See above.
    pub destination_ip: IpAddr,
    /// Ports.
    pub source_port: u16,
    /// See above.
    pub destination_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// Window field.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// ECN field of the IP header.
    pub ecn: u8,
    /// Option bytes, padded with zeros to a multiple of four by `encode`.
    pub options: Vec<u8>,
    /// Payload.
    pub payload: Vec<u8>,
}

impl TestSegment {
    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().div_ceil(4) * 4, 0);
        assert!(options.len() <= 40);
        let mut frame = Vec::new();
        frame.extend(self.destination_mac);
        frame.extend(self.source_mac);
        let tcp_bytes = (20 + options.len() + self.payload.len()) as u16;
        match (self.source_ip, self.destination_ip) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([0x08, 0x00, 0x45, self.ecn]);
                frame.extend((20 + tcp_bytes).to_be_bytes());
                frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend([0x86, 0xdd, 0x60, self.ecn << 4, 0, 0]);
                frame.extend(tcp_bytes.to_be_bytes());
                frame.extend([6, 64]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            _ => panic!("addresses of two families"),
        }
        frame.extend(self.source_port.to_be_bytes());
        frame.extend(self.destination_port.to_be_bytes());
        frame.extend(self.seq.to_be_bytes());
        frame.extend(self.ack.to_be_bytes());
        frame.extend([(((20 + options.len()) / 4) << 4) as u8, self.flags]);
        frame.extend(self.window.to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(self.urgent.to_be_bytes());
        frame.extend(&options);
        frame.extend(&self.payload);
        Self::fill_checksums(&mut frame);
        frame
    }

    /// Makes both checksums of a frame right.
    pub fn fill_checksums(frame: &mut [u8]) {
        let v6 = &frame[12..14] == ipv6::ETHERTYPE;
        let (addresses, tcp) = if v6 { (22..54, 54) } else { (26..34, 34) };
        if !v6 {
            frame[24..26].fill(0);
        }
        let pseudo = checksum::sum(&frame[addresses]) + 6 + (frame.len() - tcp) as u32;
        frame[tcp + 16..tcp + 18].copy_from_slice(&checksum::partial(pseudo).to_be_bytes());
        header::write_checksums(frame);
    }

    /// Reads a frame; checks lengths and checksums on the way.
    pub fn decode(frame: &[u8]) -> Self {
        let mut segment = Segment::default();
        let verdict = parse(frame, crate::RxChecksum::Unknown, &mut segment);
        assert!(
            matches!(verdict, Verdict::Tcp | Verdict::Tcp6),
            "{verdict:?}: not a good TCP frame: {frame:02x?}"
        );
        let (source_ip, destination_ip, plain) = if verdict == Verdict::Tcp6 {
            let ipv6::Addresses { remote, local } = ipv6::addresses(frame);
            let address = |[high, low]: [u64; 2]| {
                IpAddr::V6(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)))
            };
            assert_eq!(frame[14] >> 4, 6, "version");
            (address(remote), address(local), ipv6::PLAIN_BYTES)
        } else {
            let address = |bits| IpAddr::V4(Ipv4Addr::from_bits(bits));
            (address(segment.remote_ip), address(segment.local_ip), header::PLAIN_BYTES)
        };
        let offset = usize::from(segment.payload_offset);
        let end = offset + usize::from(segment.payload_bytes);
        assert_eq!(end, frame.len(), "bytes after the datagram");
        Self {
            destination_mac: frame[0..6].try_into().unwrap(),
            source_mac: frame[6..12].try_into().unwrap(),
            source_ip,
            destination_ip,
            source_port: segment.ports as u16,
            destination_port: (segment.ports >> 16) as u16,
            seq: segment.seq,
            ack: segment.ack,
            flags: segment.flags,
            window: segment.window,
            urgent: u16::from_be_bytes([frame[plain - 2], frame[plain - 1]]),
            ecn: segment.ecn,
            options: frame[plain..offset].to_vec(),
            payload: frame[offset..end].to_vec(),
        }
    }

    /// The timestamps option as the fast path writes it.
    pub fn timestamps(value: u32, echo: u32) -> Vec<u8> {
        let mut options = vec![1, 1, 8, 10];
        options.extend(value.to_be_bytes());
        options.extend(echo.to_be_bytes());
        options
    }
}
