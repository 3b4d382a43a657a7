// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! ICMP (RFC 792): echo is answered, errors are matched to what is under way (RFC 5927).

use crate::{
    connection::flag as fact,
    counters::Counter,
    errno::Errno,
    lookup::{Found, Tuple},
    socket::{event, flag as option},
    stack::Stack,
    tcp::{path::believable_mtu, state::State},
    wire::{
        address::Address, checksum, ethernet, ethernet::Ethernet, get_u16, get_u32, ipv4, ipv4::Ipv4, put,
    },
};
use abi::{flow::NONE, kernel_ring::to_fast};

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;
/// Code of UNREACHABLE: the datagram did not fit and may not be cut (RFC 1191).
const FRAGMENTATION_NEEDED: u8 = 4;
/// Bytes of an error in front of the quoted datagram.
const ERROR_BYTES: usize = 8;

/// What Linux makes of an error (net/ipv4/icmp.c, icmp_err_convert; tcp_v4_err): the errno, and whether
/// RFC 1122 §4.2.3.9 calls it hard. `None`: no error for TCP, as source quench (RFC 6633).
fn error_of(kind: u8, code: u8) -> Option<(Errno, bool)> {
    Some(match (kind, code) {
        (UNREACHABLE, 0 | 6 | 9 | 11) => (Errno::ENETUNREACH, false),
        (UNREACHABLE, 1 | 7 | 8 | 10 | 12) => (Errno::EHOSTUNREACH, false),
        (UNREACHABLE, 2) => (Errno::ENOPROTOOPT, true),
        (UNREACHABLE, 3) => (Errno::ECONNREFUSED, true),
        (UNREACHABLE, 5) => (Errno::EOPNOTSUPP, false),
        (UNREACHABLE, 13) => (Errno::EHOSTUNREACH, true),
        (TIME_EXCEEDED, _) => (Errno::EHOSTUNREACH, false),
        (PARAMETER_PROBLEM, _) => (Errno::EPROTO, false),
        _ => return None,
    })
}

impl Stack<'_> {
    /// An ICMP message to us; `frame` ends where IP says.
    pub(crate) fn icmp_input(&mut self, core: u32, header: &Ethernet, ip: &Ipv4, frame: &[u8]) {
        let start = ethernet::HEADER_BYTES.saturating_add(ip.header_bytes);
        let message = frame.get(start..).unwrap_or_default();
        let [kind, code, ..] = *message else { return };
        if message.len() < ERROR_BYTES || checksum::finish(checksum::add(0, message)) != 0 {
            self.counters.add(Counter::Malformed);
            return;
        }
        match kind {
            ECHO => self.answer_echo(core, header, ip, message),
            UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM => {
                let too_big = (kind, code) == (UNREACHABLE, FRAGMENTATION_NEEDED);
                let told = Told {
                    failure: error_of(kind, code),
                    mtu_bytes: get_u16(message, 6).map(u32::from).filter(|_| too_big),
                };
                let quote = message.get(ERROR_BYTES..).and_then(Quote::parse);
                self.icmp_error(&told, quote.as_ref());
            }
            _ => {}
        }
    }

    fn answer_echo(&mut self, core: u32, header: &Ethernet, ip: &Ipv4, message: &[u8]) {
        let start = ethernet::HEADER_BYTES.saturating_add(ipv4::HEADER_BYTES);
        let length = start.saturating_add(message.len());
        if length > self.frame_bytes.each_bytes() || !self.answers.allow(self.now_us) {
            self.counters.add(Counter::RateLimited);
            return;
        }
        let (mac, local) = (self.config.mac, self.config.ipv4);
        let Some(id) = self.new_frame() else { return };
        let reply = self.frame_bytes.at_mut(id);
        let ethernet = Ethernet { destination: header.source, source: mac, ethertype: ethernet::IPV4 };
        ethernet.write(reply);
        put(reply, start, message);
        if let Some(body) = reply.get_mut(start..length) {
            put(body, 0, &[ECHO_REPLY, 0, 0, 0]);
            let sum = checksum::finish(checksum::add(0, body));
            put(body, 2, &sum.to_be_bytes());
        }
        ipv4::write(reply, local, ip.source, ipv4::ICMP, message.len());
        let length = crate::wire::tcp::pad(reply, length);
        self.counters.add(Counter::Echoes);
        self.send(core, id, to_fast::TRANSMIT, NONE, length);
    }

    /// An error about a datagram of ours. It counts only if the datagram it quotes is under way (RFC
    /// 5927 §4): a SYN or SYN-ACK, or something in flight.
    pub(crate) fn icmp_error(&mut self, told: &Told, quote: Option<&Quote>) {
        let Some(quote) = quote else {
            self.counters.add(Counter::IcmpIgnored);
            return;
        };
        let applied = match self.lookup.find(&quote.tuple) {
            Found::Connection(flow) if self.connections.at(flow).state == State::SynSent => {
                self.error_about_syn(flow, told, quote)
            }
            Found::Connection(flow) => self.error_about_flow(flow, told, quote),
            Found::HalfOpen(id) => self.error_about_half_open(id, told, quote),
            _ => false,
        };
        self.counters.add(if applied { Counter::IcmpErrors } else { Counter::IcmpIgnored });
    }

    fn error_about_syn(&mut self, flow: u32, told: &Told, quote: &Quote) -> bool {
        let Some((error, hard)) = told.failure else {
            return false;
        };
        if quote.sequence != self.connections.at(flow).iss {
            return false;
        }
        if hard {
            self.fail_handshake(flow, error);
        } else {
            // A soft error (RFC 1122 §4.2.3.9): told if the handshake fails for good.
            self.connections.at_mut(flow).soft_error = error.0;
        }
        true
    }

    /// A connection beyond its handshake takes no error for its end (RFC 5927 §5.2, RFC 5461): a hard
    /// one too is only the reason told if timeouts end it.
    fn error_about_flow(&mut self, flow: u32, told: &Told, quote: &Quote) -> bool {
        if !self.is_installed(flow) || self.is_removing(flow) {
            return false;
        }
        let view = self.view(flow);
        let una = view.snd_una as u32;
        let in_flight = (view.snd_max as u32).wrapping_sub(una);
        if quote.sequence.wrapping_sub(una) >= in_flight || self.connections.at(flow).state == State::Closed {
            return false;
        }
        if let Some(told_bytes) = told.mtu_bytes {
            let mtu_bytes = believable_mtu(&quote.tuple.remote, told_bytes, quote.total_bytes as u32);
            return mtu_bytes.is_some_and(|mtu_bytes| self.heed_router(flow, mtu_bytes, quote.sequence));
        }
        let Some((error, _)) = told.failure else {
            return false;
        };
        let (socket, waiting) = {
            let connection = self.connections.at(flow);
            (connection.socket, connection.is(fact::IN_ACCEPT_QUEUE))
        };
        if !waiting && self.sockets.has(socket) && self.sockets.at(socket).is(option::RECEIVE_ERRORS) {
            // Told at once, and only so (Linux: sk_err instead of sk_err_soft).
            self.sockets.at_mut(socket).soft_error = error.0;
            self.notify(socket, event::SOFT_ERROR);
            return true;
        }
        let connection = self.connections.at_mut(flow);
        connection.soft_error = error.0;
        connection.soft_error_una = una;
        true
    }

    /// A half-open connection is forgotten if its peer says there is nobody.
    fn error_about_half_open(&mut self, id: u32, told: &Told, quote: &Quote) -> bool {
        let hard = told.failure.is_some_and(|(_, hard)| hard);
        let ours = quote.sequence == self.half_open.at(id).iss;
        if hard && ours {
            self.counters.add(Counter::HandshakesFailed);
            self.free_half_open(id);
        }
        hard && ours
    }
}

/// What an error says, of either family.
pub(crate) struct Told {
    /// What Linux makes of it, and whether it is hard; `None`: no error for TCP.
    pub(crate) failure: Option<(Errno, bool)>,
    /// The datagram was too big for a link of this MTU (zero: of one the router does not tell).
    pub(crate) mtu_bytes: Option<u32>,
}

/// What an error quotes of a TCP segment of ours, of which only the first eight bytes need to be there.
pub(crate) struct Quote {
    /// Ours first.
    pub(crate) tuple: Tuple,
    pub(crate) sequence: u32,
    /// Length of the datagram it was in, bytes.
    pub(crate) total_bytes: u16,
}

impl Quote {
    fn parse(datagram: &[u8]) -> Option<Self> {
        let first = *datagram.first()?;
        let header_bytes = ((first & 15) as usize).wrapping_mul(4);
        if first >> 4 != 4 || header_bytes < ipv4::HEADER_BYTES || *datagram.get(9)? != ipv4::TCP {
            return None;
        }
        let (source, destination) = (get_u32(datagram, 12)?, get_u32(datagram, 16)?);
        let segment = datagram.get(header_bytes..)?;
        let (source, destination) = (Address::v4(source), Address::v4(destination));
        let tuple = Tuple::new(source, get_u16(segment, 0)?, destination, get_u16(segment, 2)?);
        Some(Self { tuple, sequence: get_u32(segment, 4)?, total_bytes: get_u16(datagram, 2)? })
    }
}
