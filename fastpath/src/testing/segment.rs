// SPDX-License-Identifier: MIT OR Apache-2.0
//! A TCP segment as a peer writes and reads it.

use crate::{
    header::{write_checksums, PLAIN_BYTES},
    parse::ETHERNET_BYTES,
};

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
    /// IPv4 addresses, host order.
    pub source_ip: u32,
    /// See above.
    pub destination_ip: u32,
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
        frame.extend([0x08, 0x00, 0x45, self.ecn]);
        frame.extend(((40 + options.len() + self.payload.len()) as u16).to_be_bytes());
        frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0]);
        frame.extend(self.source_ip.to_be_bytes());
        frame.extend(self.destination_ip.to_be_bytes());
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
        let total = frame.len() - ETHERNET_BYTES;
        frame[24..26].fill(0);
        let source = u32::from_be_bytes([frame[26], frame[27], frame[28], frame[29]]);
        let destination = u32::from_be_bytes([frame[30], frame[31], frame[32], frame[33]]);
        let pseudo = crate::checksum::pseudo_header(source, destination, total as u32 - 20);
        frame[50..52].copy_from_slice(&crate::checksum::partial(pseudo).to_be_bytes());
        write_checksums(frame);
    }

    /// Reads a frame; checks lengths and checksums on the way.
    pub fn decode(frame: &[u8]) -> Self {
        assert!(frame.len() >= PLAIN_BYTES, "short frame");
        let mut segment = crate::parse::Segment::default();
        let verdict = crate::parse::parse(frame, crate::RxChecksum::Unknown, &mut segment);
        assert_eq!(verdict, crate::parse::Verdict::Tcp, "not a good TCP frame: {frame:02x?}");
        let offset = usize::from(segment.payload_offset);
        let end = offset + usize::from(segment.payload_bytes);
        assert_eq!(end, frame.len(), "bytes after the datagram");
        Self {
            destination_mac: frame[0..6].try_into().unwrap(),
            source_mac: frame[6..12].try_into().unwrap(),
            source_ip: segment.remote_ip,
            destination_ip: segment.local_ip,
            source_port: segment.ports as u16,
            destination_port: (segment.ports >> 16) as u16,
            seq: segment.seq,
            ack: segment.ack,
            flags: segment.flags,
            window: segment.window,
            urgent: u16::from_be_bytes([frame[52], frame[53]]),
            ecn: segment.ecn,
            options: frame[PLAIN_BYTES..offset].to_vec(),
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
