// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hostile peer's own connection to the host under attack: it knows the handshake, the rest is up to the attack.

use crate::{flag, Arena, Heard, Segment};

/// A connection of the attacker's.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: u32,
    /// Its port.
    pub port: u16,
    /// The port it connects to.
    pub target_port: u16,
    /// The next sequence number it would send.
    pub sequence: u32,
    /// The next that it expects.
    pub expected: u32,
    /// The handshake is done.
    pub is_established: bool,
    /// It was reset.
    pub is_reset: bool,
    /// Payload bytes that came, repetitions included.
    pub received_bytes: u64,
}

impl Peer {
    /// Sends the SYN to the victim's server.
    pub fn connect(arena: &Arena, address: u32, port: u16, options: Vec<u8>) -> Self {
        Self::connect_to(arena, crate::PORT, address, port, options)
    }

    /// Sends the SYN to another port.
    pub fn connect_to(arena: &Arena, target_port: u16, address: u32, port: u16, options: Vec<u8>) -> Self {
        let mut peer = Self {
            address,
            port,
            target_port,
            sequence: 7_000_000,
            expected: 0,
            is_established: false,
            is_reset: false,
            received_bytes: 0,
        };
        arena.inject(&Segment { flags: flag::SYN, options, ..peer.segment() }.frame());
        peer.sequence += 1;
        peer
    }

    /// A segment of this connection as it ought to be.
    pub fn segment(&self) -> Segment {
        Segment {
            source: self.address,
            source_port: self.port,
            port: self.target_port,
            sequence: self.sequence,
            acknowledgement: self.expected,
            ..Segment::default()
        }
    }

    /// Sends payload.
    pub fn send(&mut self, arena: &Arena, payload: &[u8]) {
        let flags = flag::ACK | flag::PSH;
        arena.inject(&Segment { payload: payload.to_vec(), flags, ..self.segment() }.frame());
        self.sequence = self.sequence.wrapping_add(payload.len() as u32);
    }

    /// Takes what the attacker's card heard: answers ARP for every address of `peers`, completes handshakes, moves
    /// `expected` behind data that is in order. Data is not acknowledged.
    pub fn listen(arena: &mut Arena, peers: &mut [Self]) {
        while let Some(frame) = arena.heard.pop_front() {
            match Heard::read(&frame) {
                Heard::Arp(address) if peers.iter().any(|peer| peer.address == address) => {
                    arena.inject(&Heard::arp_reply(address));
                }
                Heard::Tcp { to, port, sequence, flags, payload, .. } => {
                    let known = peers.iter_mut().find(|peer| peer.address == to && peer.port == port);
                    if let Some(peer) = known {
                        peer.hear(arena, sequence, flags, &payload);
                    }
                }
                _ => {}
            }
        }
    }

    fn hear(&mut self, arena: &Arena, sequence: u32, flags: u8, payload: &[u8]) {
        if flags & flag::RST != 0 {
            self.is_reset = true;
        } else if flags & flag::SYN != 0 {
            self.expected = sequence.wrapping_add(1);
            self.is_established = true;
            arena.inject(&self.segment().frame());
        } else if sequence == self.expected {
            self.expected = self.expected.wrapping_add(payload.len() as u32);
        }
        self.received_bytes += payload.len() as u64;
    }
}
