// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! ICMP (RFC 792): echo is answered, errors are matched to connections.

use crate::{
    counters::Counter,
    errno::Errno,
    lookup::{Found, Tuple},
    queues::FRAME_BYTES,
    stack::Stack,
    tcp::state::State,
    wire::{checksum, ethernet, ethernet::Ethernet, get_u16, get_u32, ipv4, ipv4::Ipv4, put},
};
use abi::{flow::NONE, kernel_ring::to_fast};

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO: u8 = 8;
/// Bytes of an error in front of the quoted datagram.
const ERROR_BYTES: usize = 8;

/// What Linux makes of an "unreachable" (net/ipv4/icmp.c, icmp_err_convert): the errno, and whether
/// it ends a connection at once. `None`: fragmentation needed, or unknown.
fn error_of(code: u8) -> Option<(Errno, bool)> {
    Some(match code {
        0 | 6 | 9 | 11 => (Errno::ENETUNREACH, false),
        1 | 7 | 8 | 10 | 12 => (Errno::EHOSTUNREACH, false),
        2 => (Errno::ENOPROTOOPT, true),
        3 => (Errno::ECONNREFUSED, true),
        5 => (Errno::EOPNOTSUPP, false),
        13 => (Errno::EHOSTUNREACH, true),
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
            UNREACHABLE => self.unreachable(code, message),
            _ => {}
        }
    }

    fn answer_echo(&mut self, core: u32, header: &Ethernet, ip: &Ipv4, message: &[u8]) {
        let start = ethernet::HEADER_BYTES.saturating_add(ipv4::HEADER_BYTES);
        let length = start.saturating_add(message.len());
        if length > FRAME_BYTES || !self.answers.allow(self.now_us) {
            self.counters.add(Counter::RateLimited);
            return;
        }
        let (mac, local) = (self.config.mac, self.config.ipv4);
        let Some(id) = self.new_frame() else { return };
        let reply = &mut self.frames.at_mut(id).bytes;
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

    /// An error about a datagram of ours. It counts only if it quotes a SYN that is under way (RFC
    /// 5927 §4): established connections ignore it and let their own timeouts decide.
    fn unreachable(&mut self, code: u8, message: &[u8]) {
        let Some((tuple, sequence)) = message.get(ERROR_BYTES..).and_then(quoted) else {
            return;
        };
        let Found::Connection(flow) = self.lookup.find(&tuple) else {
            return;
        };
        let connection = self.connections.at(flow);
        let state = connection.state;
        if state != State::SynSent || sequence != connection.iss {
            return;
        }
        let Some((error, hard)) = error_of(code) else {
            return;
        };
        self.counters.add(Counter::IcmpErrors);
        if hard {
            self.fail_handshake(flow, error);
        } else {
            // A soft error (RFC 1122 §4.2.3.9): told if the handshake fails for good.
            self.connections.at_mut(flow).soft_error = error.0;
        }
    }
}

/// Four-tuple (ours first) and sequence number of a quoted TCP segment, of which only the first
/// eight bytes need to be there.
fn quoted(datagram: &[u8]) -> Option<(Tuple, u32)> {
    let first = *datagram.first()?;
    let header_bytes = ((first & 15) as usize).wrapping_mul(4);
    if first >> 4 != 4 || header_bytes < ipv4::HEADER_BYTES || *datagram.get(9)? != ipv4::TCP {
        return None;
    }
    let (source, destination) = (get_u32(datagram, 12)?, get_u32(datagram, 16)?);
    let segment = datagram.get(header_bytes..)?;
    let tuple = Tuple::new(source, get_u16(segment, 0)?, destination, get_u16(segment, 2)?);
    Some((tuple, get_u32(segment, 4)?))
}
