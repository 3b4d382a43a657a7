// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! ARP (RFC 826): asking for an IPv4 neighbour, and answering for ourselves.

use crate::{
    counters::Counter,
    stack::Stack,
    wire::{address::Address, arp, arp::Arp, ethernet},
};
use abi::{flow::NONE, kernel_ring::to_fast};

impl Stack<'_> {
    /// Asks for an IPv4 neighbour: everybody, or `known` whether it still is the one.
    pub(crate) fn send_arp_request(&mut self, address: u32, known: Option<u64>) {
        let request = Arp {
            operation: arp::REQUEST,
            sender_mac: self.config.mac,
            sender_ip: self.config.ipv4,
            target_mac: 0,
            target_ip: address,
        };
        self.send_arp(0, &request, known.unwrap_or(ethernet::BROADCAST));
    }

    fn send_arp(&mut self, core: u32, packet: &Arp, destination: u64) {
        let Some(id) = self.new_frame() else { return };
        let length = packet.write(self.frame_bytes.at_mut(id), destination);
        self.counters.add(Counter::ArpSent);
        self.send(core, id, to_fast::TRANSMIT, NONE, length);
    }

    /// An ARP packet (RFC 826).
    pub(crate) fn arp_input(&mut self, core: u32, frame: &[u8]) {
        let Some(packet) = frame.get(ethernet::HEADER_BYTES..).and_then(Arp::parse) else {
            self.counters.add(Counter::Malformed);
            return;
        };
        let sender = Address::v4(packet.sender_ip);
        let ours = packet.target_ip == self.config.ipv4;
        let announces = packet.sender_ip == packet.target_ip;
        let sane = packet.sender_mac & ethernet::GROUP == 0
            && packet.sender_mac != 0
            && packet.sender_ip != self.config.ipv4
            && self.is_on_link(&sender);
        if !sane || !(ours || announces) {
            // A probe for our own address (RFC 5227) has no sender address, and is answered.
            if !(ours && packet.sender_ip == 0 && packet.operation == arp::REQUEST) {
                return;
            }
        } else if let Some(id) = self.find_neighbor(&sender) {
            self.learn(id, packet.sender_mac);
        } else if ours && packet.operation == arp::REQUEST {
            // Whoever asks for us is about to talk to us.
            if let Some(id) = self.new_neighbor(&sender) {
                self.learn(id, packet.sender_mac);
            }
        }
        if ours && packet.operation == arp::REQUEST && self.answers.allow(self.now_us) {
            let reply = Arp {
                operation: arp::REPLY,
                sender_mac: self.config.mac,
                sender_ip: self.config.ipv4,
                target_mac: packet.sender_mac,
                target_ip: packet.sender_ip,
            };
            self.send_arp(core, &reply, packet.sender_mac);
        }
    }
}
