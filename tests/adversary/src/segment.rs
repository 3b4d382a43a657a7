// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames as an attacker makes them, and what he reads from those that come back.

use crate::{ATTACKER_MAC, TARGET};

/// TCP flags.
pub mod flag {
    /// No more data.
    pub const FIN: u8 = 1;
    /// Synchronise.
    pub const SYN: u8 = 2;
    /// Reset.
    pub const RST: u8 = 4;
    /// Push.
    pub const PSH: u8 = 8;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 16;
    /// The urgent pointer counts.
    pub const URG: u8 = 32;
}

const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const TARGET_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A TCP segment to the host under attack, well formed unless the options are not.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Whose address it claims to come from.
    pub source: u32,
    /// Its port.
    pub source_port: u16,
    /// Port of the host under attack.
    pub port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// See [`flag`].
    pub flags: u8,
    /// Window, not scaled.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options; cut or padded with zeroes to a multiple of four, at most 40 bytes.
    pub options: Vec<u8>,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Default for Segment {
    fn default() -> Self {
        Self {
            source: 0,
            source_port: 0,
            port: crate::PORT,
            sequence: 0,
            acknowledgement: 0,
            flags: flag::ACK,
            window: u16::MAX,
            urgent: 0,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }
}

impl Segment {
    /// The frame, with correct checksums.
    pub fn frame(&self) -> Vec<u8> {
        let mut options = self.options.clone();
        options.truncate(40);
        options.resize(options.len().next_multiple_of(4), 0);
        let mut tcp = Vec::with_capacity(60 + self.payload.len());
        tcp.extend(self.source_port.to_be_bytes());
        tcp.extend(self.port.to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledgement.to_be_bytes());
        tcp.extend([(5 + options.len() as u8 / 4) << 4, self.flags]);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0, 0]);
        tcp.extend(self.urgent.to_be_bytes());
        tcp.extend(options);
        tcp.extend(&self.payload);
        let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0];
        ip[2..4].copy_from_slice(&((IPV4_BYTES + tcp.len()) as u16).to_be_bytes());
        ip.extend(self.source.to_be_bytes());
        ip.extend(TARGET.to_be_bytes());
        let sum = !fold(sum(&ip));
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        let pseudo = sum16(self.source) + sum16(TARGET) + 6 + tcp.len() as u32;
        let sum = !fold(pseudo + self::sum(&tcp));
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        let mut frame = [&TARGET_MAC[..], &ATTACKER_MAC[..], &[8, 0]].concat();
        frame.extend(ip);
        frame.extend(tcp);
        frame
    }
}

/// What the attacker reads from a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A request for the hardware address of this IPv4 address.
    Arp(u32),
    /// A segment to this address and port.
    Tcp {
        /// Address.
        to: u32,
        /// Port.
        port: u16,
        /// Sequence number.
        sequence: u32,
        /// Acknowledgement number.
        acknowledgement: u32,
        /// See [`flag`].
        flags: u8,
        /// Payload.
        payload: Vec<u8>,
    },
    /// Something else.
    Other,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

fn half(bytes: &[u8], at: usize) -> u16 {
    (word(bytes, at) >> 16) as u16
}

impl Heard {
    /// Reads a frame.
    pub fn read(frame: &[u8]) -> Self {
        match half(frame, 12) {
            0x0806 if half(frame, 20) == 1 => Self::Arp(word(frame, 38)),
            0x0800 if frame.get(23) == Some(&6) && frame.len() >= 54 => {
                let ip_end = ETHERNET_BYTES + usize::from(half(frame, 16));
                let data = 34 + usize::from(frame[46] >> 4) * 4;
                Self::Tcp {
                    to: word(frame, 30),
                    port: half(frame, 36),
                    sequence: word(frame, 38),
                    acknowledgement: word(frame, 42),
                    flags: frame[47],
                    payload: frame.get(data..ip_end).unwrap_or(&[]).to_vec(),
                }
            }
            _ => Self::Other,
        }
    }

    /// The reply that puts `address` at the attacker's card.
    pub fn arp_reply(address: u32) -> Vec<u8> {
        let mut reply = [&TARGET_MAC[..], &ATTACKER_MAC[..], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]].concat();
        reply.extend(ATTACKER_MAC);
        reply.extend(address.to_be_bytes());
        reply.extend(TARGET_MAC);
        reply.extend(TARGET.to_be_bytes());
        reply.resize(60, 0);
        reply
    }
}

fn sum16(word: u32) -> u32 {
    (word >> 16) + (word & 0xffff)
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
