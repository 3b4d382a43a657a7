// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! ICMPv6 (RFC 4443): echo is answered, errors are matched to what is under way as those of IPv4 are, and
//! Neighbor Discovery is passed on.

use crate::{
    counters::Counter,
    errno::Errno,
    icmp::{Quote, Told},
    lookup::Tuple,
    stack::Stack,
    wire::{
        checksum,
        discovery::{ADVERTISEMENT, SOLICITATION},
        ethernet,
        ethernet::Ethernet,
        get_u16, get_u32, ipv4, ipv6,
        ipv6::{get_address, Ipv6},
        membership::QUERY,
        put,
    },
};
use abi::{flow::NONE, kernel_ring::to_fast};

const UNREACHABLE: u8 = 1;
const TOO_BIG: u8 = 2;
const TIME_EXCEEDED: u8 = 3;
const PARAMETER_PROBLEM: u8 = 4;
const ECHO: u8 = 128;
const ECHO_REPLY: u8 = 129;
/// Bytes of an error in front of the quoted packet.
const ERROR_BYTES: usize = 8;

/// What Linux makes of an error (net/ipv6/icmp.c, icmpv6_err_convert): the errno, and whether it is hard.
fn error_of(kind: u8, code: u8) -> Option<(Errno, bool)> {
    Some(match (kind, code) {
        (UNREACHABLE, 0) => (Errno::ENETUNREACH, false),
        (UNREACHABLE, 1 | 5 | 6) => (Errno::EACCES, true),
        (UNREACHABLE, 2 | 3) => (Errno::EHOSTUNREACH, false),
        (UNREACHABLE, 4) => (Errno::ECONNREFUSED, true),
        (TIME_EXCEEDED, _) => (Errno::EHOSTUNREACH, false),
        (PARAMETER_PROBLEM, _) => (Errno::EPROTO, true),
        _ => return None,
    })
}

impl Stack<'_> {
    /// An ICMPv6 message; `frame` ends where IP says. `for_us`: to an address of ours, not to a group.
    pub(crate) fn icmpv6_input(
        &mut self,
        core: u32,
        header: &Ethernet,
        ip: &Ipv6,
        for_us: bool,
        frame: &[u8],
    ) {
        let start = ethernet::HEADER_BYTES.saturating_add(ip.header_bytes);
        let message = frame.get(start..).unwrap_or_default();
        let sum = checksum::pseudo_header(&ip.source, &ip.destination, ipv6::ICMP, message.len() as u16);
        let [kind, code, ..] = *message else { return };
        if message.len() < ERROR_BYTES || checksum::finish(checksum::add(sum, message)) != 0 {
            self.counters.add(Counter::Malformed);
            return;
        }
        match kind {
            SOLICITATION | ADVERTISEMENT => self.discovery_input(core, header, ip, message),
            QUERY => self.membership_query(ip, frame, message),
            _ if !for_us => {}
            ECHO => self.answer_echo_v6(core, header, ip, message),
            UNREACHABLE | TOO_BIG | TIME_EXCEEDED | PARAMETER_PROBLEM => {
                let told = Told {
                    failure: error_of(kind, code),
                    mtu_bytes: get_u32(message, 4).filter(|_| kind == TOO_BIG),
                };
                let quote = message.get(ERROR_BYTES..).and_then(quote_of);
                self.icmp_error(&told, quote.as_ref());
            }
            _ => {}
        }
    }

    fn answer_echo_v6(&mut self, core: u32, header: &Ethernet, ip: &Ipv6, message: &[u8]) {
        let start = ethernet::HEADER_BYTES.saturating_add(ipv6::HEADER_BYTES);
        let length = start.saturating_add(message.len());
        if length > self.frame_bytes.each_bytes() || !self.answers.allow(self.now_us) {
            self.counters.add(Counter::RateLimited);
            return;
        }
        let macs =
            Ethernet { destination: header.source, source: self.config.mac, ethertype: ethernet::IPV6 };
        let (source, destination) = (ip.destination, ip.source);
        let Some(id) = self.new_frame() else { return };
        let reply = self.frame_bytes.at_mut(id);
        macs.write(reply);
        put(reply, start, message);
        if let Some(body) = reply.get_mut(start..length) {
            put(body, 0, &[ECHO_REPLY, 0, 0, 0]);
            let sum = checksum::pseudo_header(&source, &destination, ipv6::ICMP, body.len() as u16);
            let sum = checksum::finish(checksum::add(sum, body));
            put(body, 2, &sum.to_be_bytes());
        }
        ipv6::write(reply, &source, &destination, ipv6::ICMP, ipv6::HOP_LIMIT, message.len());
        let length = crate::wire::tcp::pad(reply, length);
        self.counters.add(Counter::Echoes);
        self.send(core, id, to_fast::TRANSMIT, NONE, length);
    }
}

/// What an error quotes of a TCP segment of ours, which has no extension headers.
fn quote_of(packet: &[u8]) -> Option<Quote> {
    if *packet.first()? >> 4 != 6 || *packet.get(6)? != ipv4::TCP {
        return None;
    }
    let (source, destination) = (get_address(packet, 8)?, get_address(packet, 24)?);
    let segment = packet.get(ipv6::HEADER_BYTES..)?;
    let tuple = Tuple::new(source, get_u16(segment, 0)?, destination, get_u16(segment, 2)?);
    let total_bytes = get_u16(packet, 4)?.saturating_add(ipv6::HEADER_BYTES as u16);
    Some(Quote { tuple, sequence: get_u32(segment, 4)?, total_bytes })
}
