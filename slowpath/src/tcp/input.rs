// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What comes in: from the frame to whom it concerns.

use crate::{
    counters::Counter,
    fragments::Piece,
    lookup::Found,
    stack::Stack,
    tcp::state::State,
    wire::{
        address::Address,
        checksum, ethernet,
        ethernet::Ethernet,
        ipv4,
        ipv4::Ipv4,
        ipv6,
        ipv6::Ipv6,
        service,
        tcp::{flag, Segment},
    },
};

/// Frames handed back to a core within one [`INJECT_WINDOW_US`]; more would be a loop.
const INJECTS_MAX: u8 = 32;
const INJECT_WINDOW_US: u64 = 10_000;

/// What the headers of both families say of a packet for TCP.
struct Packet {
    source: Address,
    destination: Address,
    /// Bytes of the header with all that stands before TCP's.
    header_bytes: usize,
    /// Traffic class with ECN field, and hop limit.
    class: u8,
    hop_limit: u8,
}

impl From<&Ipv4> for Packet {
    fn from(ip: &Ipv4) -> Self {
        let (source, destination) = (Address::v4(ip.source), Address::v4(ip.destination));
        Self { source, destination, header_bytes: ip.header_bytes, class: ip.class, hop_limit: ip.hop_limit }
    }
}

impl From<&Ipv6> for Packet {
    fn from(ip: &Ipv6) -> Self {
        let Ipv6 { source, destination, header_bytes, class, hop_limit, .. } = *ip;
        Self { source, destination, header_bytes, class, hop_limit }
    }
}

impl Stack<'_> {
    /// A frame from fast-path core `core`, for one of the reasons in `abi::kernel_ring::reason`;
    /// the fast path has verified its TCP checksum. The bytes may be changed.
    pub fn handle_packet(&mut self, now_us: u64, core: u32, _reason: u8, frame: &mut [u8]) {
        self.enter(now_us);
        self.counters.add(Counter::Frames);
        let core = if core < self.config.cores { core } else { 0 };
        let Some(header) = Ethernet::parse(frame) else {
            self.counters.add(Counter::Malformed);
            return;
        };
        match header.ethertype {
            ethernet::ARP => self.arp_input(core, frame),
            ethernet::IPV4 => self.ipv4_input(core, &header, frame),
            ethernet::IPV6 => self.ipv6_input(core, &header, frame),
            _ => self.counters.add(Counter::Malformed),
        }
    }

    fn ipv4_input(&mut self, core: u32, header: &Ethernet, frame: &mut [u8]) {
        let parsed = frame.get(ethernet::HEADER_BYTES..).and_then(Ipv4::parse);
        let Some(ip) = parsed else {
            self.counters.add(Counter::Malformed);
            return;
        };
        let for_us = ip.destination == self.config.ipv4;
        // Nothing sent to a group is answered, whatever its IP address says (MUST-57).
        if !for_us
            || !self.config.is_host(&Address::v4(ip.source))
            || header.destination & ethernet::GROUP != 0
        {
            self.counters.add(Counter::Malformed);
            return;
        }
        let options = frame
            .get(ethernet::HEADER_BYTES.saturating_add(ipv4::HEADER_BYTES)..)
            .and_then(|rest| rest.get(..ip.header_bytes.saturating_sub(ipv4::HEADER_BYTES)));
        if ipv4::is_source_routed(options.unwrap_or_default()) {
            self.counters.add(Counter::SourceRouted);
            return;
        }
        let end = ethernet::HEADER_BYTES.saturating_add(ip.total_bytes);
        let Some(frame) = frame.get_mut(..end) else {
            return;
        };
        if let Some(fragment) = ip.fragment {
            let (source, destination) = (Address::v4(ip.source), Address::v4(ip.destination));
            let Ipv4 { protocol, class, hop_limit, .. } = ip;
            let piece = Piece { source, destination, protocol, fragment, class, hop_limit };
            let start = ethernet::HEADER_BYTES.saturating_add(ip.header_bytes);
            let payload = frame.get(start..).unwrap_or_default();
            self.fragment_input(core, header, &piece, payload);
            return;
        }
        match ip.protocol {
            ipv4::TCP => self.tcp_input(core, header, &Packet::from(&ip), frame),
            ipv4::ICMP => self.icmp_input(core, header, &ip, frame),
            _ => self.counters.add(Counter::Malformed),
        }
    }

    fn ipv6_input(&mut self, core: u32, header: &Ethernet, frame: &mut [u8]) {
        let Some(ip) = frame.get(ethernet::HEADER_BYTES..).and_then(Ipv6::parse) else {
            self.counters.add(Counter::Malformed);
            return;
        };
        let end = ethernet::HEADER_BYTES.saturating_add(ip.total_bytes);
        let Some(frame) = frame.get_mut(..end) else {
            return;
        };
        // As with IPv4: nothing sent to a group is answered, but for solicitations.
        let for_us = self.owns(&ip.destination) && header.destination & ethernet::GROUP == 0;
        let from_host = self.config.is_host(&ip.source);
        if let Some(fragment) = ip.fragment {
            let Ipv6 { source, destination, protocol, class, hop_limit, .. } = ip;
            let piece = Piece { source, destination, protocol, fragment, class, hop_limit };
            let start = ethernet::HEADER_BYTES.saturating_add(ip.header_bytes);
            match frame.get(start..) {
                Some(payload) if for_us && from_host => {
                    self.fragment_input(core, header, &piece, payload);
                }
                _ => self.counters.add(Counter::Malformed),
            }
            return;
        }
        match ip.protocol {
            ipv4::TCP if for_us && from_host => self.tcp_input(core, header, &Packet::from(&ip), frame),
            ipv6::ICMP => self.icmpv6_input(core, header, &ip, for_us && from_host, frame),
            _ => self.counters.add(Counter::Malformed),
        }
    }

    /// A segment that came in fragments, in a frame without options.
    pub(crate) fn whole_input(&mut self, core: u32, header: &Ethernet, piece: &Piece, frame: &mut [u8]) {
        let Piece { source, destination, class, hop_limit, .. } = *piece;
        let packet = Packet { source, destination, header_bytes: source.header_bytes(), class, hop_limit };
        self.tcp_input(core, header, &packet, frame);
    }

    fn tcp_input(&mut self, core: u32, header: &Ethernet, ip: &Packet, frame: &mut [u8]) {
        let start = ethernet::HEADER_BYTES.saturating_add(ip.header_bytes);
        // The fast path verifies the checksum where it finds it: behind a plain header.
        let plain = ip.header_bytes == ip.source.header_bytes();
        let packet = frame.get(start..).unwrap_or_default();
        if !plain && !checksum::is_segment_good(&ip.source, &ip.destination, packet) {
            self.counters.add(Counter::Malformed);
            return;
        }
        let segment = frame
            .get(start..)
            .and_then(|packet| Segment::parse(packet, ip.destination, ip.source, header.source));
        let Some(segment) = segment else {
            self.counters.add(Counter::Malformed);
            return;
        };
        match self.lookup.find(&segment.tuple) {
            Found::Connection(flow) => self.connection_input(core, flow, ip, &segment, frame),
            Found::HalfOpen(id) => self.half_open_input(core, id, &segment, frame),
            Found::TimeWait(id) => self.time_wait_input(core, id, &segment, frame),
            Found::Nothing => self.stranger_input(core, &segment, frame),
        }
    }

    /// A segment that belongs to no connection (RFC 9293 §3.10.7.1, §3.10.7.2): for a listener, the
    /// answer to a SYN cookie, or refused.
    fn stranger_input(&mut self, core: u32, segment: &Segment, frame: &[u8]) {
        if segment.has(flag::RST) {
            return;
        }
        match self.find_listener(&segment.tuple) {
            Some(listener) if segment.has(flag::SYN) && !segment.has(flag::ACK) => {
                self.listen_input(core, listener, segment, frame, None);
            }
            Some(listener) if self.may_be_cookie(listener, segment) => {
                self.cookie_input(core, listener, segment, frame);
            }
            // Neither SYN nor ACK: LISTEN drops it (RFC 9293 §3.10.7.2, fourth step).
            Some(_) if !segment.has(flag::ACK) => {}
            _ => self.refuse(core, segment),
        }
    }

    fn connection_input(&mut self, core: u32, flow: u32, ip: &Packet, segment: &Segment, frame: &mut [u8]) {
        match self.connections.at(flow).state {
            State::SynSent => self.syn_sent_input(core, flow, segment, frame),
            State::SynReceived => self.syn_received_input(core, flow, segment, frame),
            _ if segment.has(flag::SYN | flag::RST) => self.control_input(core, flow, segment, frame),
            _ => self.hand_back(core, flow, ip, frame),
        }
    }

    /// Hands a frame to the core that owns the flow: it came to the wrong core or before the core
    /// knew the flow, or carries what the fast path leaves alone.
    fn hand_back(&mut self, core: u32, flow: u32, ip: &Packet, frame: &mut [u8]) {
        if !self.is_installed(flow) || self.is_removing(flow) {
            return;
        }
        let window = (self.now_us / INJECT_WINDOW_US) as u32;
        let connection = self.connections.at_mut(flow);
        if connection.inject_window != window {
            connection.inject_window = window;
            connection.injects = 0;
        }
        connection.injects = connection.injects.saturating_add(1);
        if connection.injects > INJECTS_MAX {
            // The owner itself keeps refusing it: make sure it knows the flow, and let the peer
            // send again.
            if connection.core == core {
                self.command(flow, crate::connection::pending::INSTALL);
            }
            self.counters.add(Counter::RateLimited);
            return;
        }
        let end = simplify(ip, frame);
        if let Some(bytes) = frame.get(..end) {
            self.inject(flow, bytes);
        }
    }
}

/// Makes a TCP frame one that the fast path takes: without IP options or extension headers. The frame's new length.
fn simplify(ip: &Packet, frame: &mut [u8]) -> usize {
    let extra = ip.header_bytes.saturating_sub(ip.source.header_bytes());
    let start = ethernet::HEADER_BYTES.saturating_add(ip.source.header_bytes());
    let mut end = frame.len();
    let from = start.saturating_add(extra);
    // The other conditions always hold; with them the compiler can see that nothing here panics.
    if extra > 0 && start <= from && from <= end {
        frame.copy_within(from..end, start);
        end = end.saturating_sub(extra);
        let payload = end.saturating_sub(start);
        match (ip.source.as_v4(), ip.destination.as_v4()) {
            (Some(source), Some(destination)) => ipv4::write(frame, source, destination, ipv4::TCP, payload),
            _ => ipv6::write(frame, &ip.source, &ip.destination, ipv4::TCP, ipv6::HOP_LIMIT, payload),
        }
        service::stamp(frame, ip.class, ip.hop_limit);
    }
    end
}
