// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Active open: SYN-SENT, and SYN-RECEIVED after a simultaneous open (RFC 9293 §3.5).

use crate::{
    connection::{flag as fact, pending, Connection},
    counters::Counter,
    errno::Errno,
    lookup::{Found, Tuple},
    ports::{Place, Ports, Use, EPHEMERAL_COUNT},
    socket::{event, flag as option, Kind, Socket},
    stack::Stack,
    tcp::{
        install::Opening,
        listen::{default_mss, MSS_MIN},
        rtt::RTO_MAX_US,
        state::State,
    },
    timers::Timer,
    wire::{
        address::Address,
        tcp::{flag, Segment},
    },
};
use abi::flow::NONE;

/// Doublings of the SYN timeout at most.
const SHIFT_MAX: u32 = 16;

/// What TCP_USER_TIMEOUT leaves of a connection's attempt after `elapsed_us`; without one, ages.
fn user_timeout_left(connection: &Connection, elapsed_us: u64) -> u64 {
    match connection.user_timeout_ms {
        0 => u64::MAX,
        limit_ms => (limit_ms as u64).saturating_mul(1000).saturating_sub(elapsed_us),
    }
}

impl Stack<'_> {
    /// Begins to connect `socket` to a remote address; its answer is EINPROGRESS.
    ///
    /// # Errors
    /// ENETDOWN: no fast path. ENETUNREACH: no route, or the address is our own. EADDRNOTAVAIL: no
    /// local port or address for this peer. ENOBUFS: no flow, record or neighbour entry is free.
    pub(crate) fn begin_connect(
        &mut self,
        id: u32,
        address: Address,
        port: u16,
        fast: bool,
    ) -> Result<(), Errno> {
        let (hop, local) = self.may_connect(id, &address)?;
        let socket = *self.sockets.at(id);
        let tuple = if socket.is(option::BOUND) {
            let tuple = Tuple::new(local, socket.port, address, port);
            if self.lookup.find(&tuple) != Found::Nothing {
                return Err(Errno::EADDRNOTAVAIL);
            }
            tuple
        } else {
            self.ephemeral_tuple(local, address, port)?
        };
        let neighbor = self.resolve(&hop).ok_or(Errno::ENOBUFS)?;
        let flow = self.new_connection(socket.application, tuple)?;
        self.count_port(
            flow,
            Use {
                reuse_address: socket.is(option::REUSE_ADDRESS),
                reuse_port: socket.is(option::REUSE_PORT),
                ephemeral: !socket.is(option::BOUND),
            },
        );
        self.inherit_options(flow, &socket);
        let iss = self.initial_sequence(&tuple);
        let core = (tuple.hash(&self.sequence_key) >> 16) as u32;
        let core = core.checked_rem(self.config.cores).unwrap_or(0);
        let buffer = match socket.rcv_buffer_bytes {
            0 => self.config.rx_buffer_bytes,
            bytes => bytes,
        };
        let connection = self.connections.at_mut(flow);
        connection.iss = iss;
        connection.core = core;
        connection.socket = id;
        connection.context = socket.context;
        connection.neighbor = neighbor;
        connection.rcv_buffer_bytes = buffer;
        if fast {
            self.prepare_fast_open(id, flow);
        }
        self.set_state(flow, State::SynSent);
        let socket = self.sockets.at_mut(id);
        socket.kind = Kind::Connecting;
        socket.flow = flow;
        socket.error = 0;
        self.counters.add(Counter::ActiveOpens);
        self.start_handshake(flow, neighbor);
        Ok(())
    }

    /// The local address of a connection: the one the socket is bound to, or the one that suits the peer.
    fn local_of(&self, socket: &Socket, peer: &Address) -> Result<Address, Errno> {
        let local = if !socket.local.is_unspecified() {
            Some(socket.local).filter(|local| local.family() == peer.family())
        } else if !socket.is(option::BOUND) || socket.places().has_family(peer.family()) {
            self.config.local_for(peer)
        } else {
            None
        };
        local.filter(|local| self.owns(local)).ok_or(Errno::EADDRNOTAVAIL)
    }

    /// The next hop to an address that a socket can connect to, and the local address for it.
    ///
    /// # Errors
    /// As [`Stack::begin_connect`]'s.
    pub(crate) fn may_connect(&self, id: u32, address: &Address) -> Result<(Address, Address), Errno> {
        if !self.attached {
            return Err(Errno::ENETDOWN);
        }
        let socket = self.sockets.at(id);
        let only_v6 = socket.is(option::V6ONLY) && address.is_v4();
        if only_v6 || !self.config.is_host(address) {
            return Err(Errno::ENETUNREACH);
        }
        let hop = self.next_hop(address)?;
        Ok((hop, self.local_of(socket, address)?))
    }

    fn start_handshake(&mut self, flow: u32, neighbor: u32) {
        if self.is_resolved(neighbor) {
            self.first_syn(flow);
        } else {
            // ARP has its own retries and limit; the SYN's begin with the SYN.
            self.connections.at_mut(flow).set(fact::WAITS_FOR_ARP, true);
            self.wait_for_neighbor(neighbor, Found::Connection(flow));
        }
    }

    /// The first SYN, once the next hop is known.
    pub(crate) fn first_syn(&mut self, flow: u32) {
        let now_us = self.now_us;
        let connection = self.connections.at_mut(flow);
        connection.set(fact::WAITS_FOR_ARP, false);
        connection.started_us = now_us;
        connection.backoff = 0;
        self.send_syn(flow);
        let left_us = user_timeout_left(self.connections.at(flow), 0);
        self.arm_handshake(flow, left_us);
    }

    /// A local port for a connection to this peer: a random start, then one after the other. A port
    /// may serve many peers; only the four-tuple must be new (RFC 6056 §3.3.1).
    fn ephemeral_tuple(&mut self, own: Address, address: Address, port: u16) -> Result<Tuple, Errno> {
        let start = self.random.below(EPHEMERAL_COUNT);
        for step in 0..EPHEMERAL_COUNT {
            let local = Ports::ephemeral(start, step);
            if !self.ports.may_connect_from(local, Place::of(&own)) {
                continue;
            }
            let tuple = Tuple::new(own, local, address, port);
            if self.lookup.find(&tuple) == Found::Nothing {
                return Ok(tuple);
            }
        }
        Err(Errno::EADDRNOTAVAIL)
    }

    /// The SYN, or SYN-ACK of a simultaneous open, was not answered (RFC 9293 §3.8.3, MUST-23).
    pub(crate) fn handshake_timer(&mut self, flow: u32) {
        let connection = self.connections.at(flow);
        let retries = match connection.syn_retries {
            0 => self.config.handshake_retries,
            chosen => chosen as u32,
        };
        let elapsed_us = self.now_us.saturating_sub(connection.started_us);
        let left_us = user_timeout_left(connection, elapsed_us);
        if connection.backoff as u32 >= retries || left_us == 0 {
            let error = match connection.soft_error {
                0 => Errno::ETIMEDOUT,
                noted => Errno(noted),
            };
            self.note_fast_open_loss(flow, false);
            self.fail_handshake(flow, error);
            return;
        }
        let connection = self.connections.at_mut(flow);
        connection.backoff = connection.backoff.saturating_add(1);
        self.counters.add(Counter::HandshakeRetransmits);
        self.send_syn(flow);
        self.arm_handshake(flow, left_us);
    }

    /// Sets the timer for the next SYN, at the latest for the end of the user timeout.
    fn arm_handshake(&mut self, flow: u32, left_us: u64) {
        let shift = (self.connections.at(flow).backoff as u32).min(SHIFT_MAX);
        let timeout_us = self.config.handshake_timeout_us.saturating_mul(1u64.wrapping_shl(shift));
        self.set_timer(Timer::Lifecycle(flow), timeout_us.min(RTO_MAX_US).min(left_us));
    }

    /// Ends an active open: the socket gets the error and may connect again.
    pub(crate) fn fail_handshake(&mut self, flow: u32, error: Errno) {
        let id = self.connections.at(flow).socket;
        self.counters.add(Counter::HandshakesFailed);
        self.free_connection(flow);
        if self.sockets.has(id) {
            let socket = self.sockets.at_mut(id);
            socket.kind = Kind::Idle;
            socket.flow = NONE;
            socket.error = error.0;
            self.notify(id, event::FAILED);
        }
    }

    /// A segment in SYN-SENT (RFC 9293 §3.10.7.3).
    pub(crate) fn syn_sent_input(&mut self, core: u32, flow: u32, segment: &Segment, frame: &[u8]) {
        if segment.has(flag::ACK) && !self.acknowledges_syn(flow, segment.ack) {
            self.refuse(core, segment);
            return;
        }
        if segment.has(flag::RST) {
            if segment.has(flag::ACK) {
                self.counters.add(Counter::ResetsReceived);
                if self.connections.at(flow).backoff > 0 {
                    // It answers the SYN without data.
                    self.note_fast_open_loss(flow, false);
                }
                self.fail_handshake(flow, Errno::ECONNREFUSED);
            }
            return;
        }
        if !segment.has(flag::SYN) {
            return;
        }
        self.note_peer(flow, segment);
        if segment.has(flag::ACK) {
            // RFC 3168 §6.1.1: ECE without CWR accepts.
            let ecn = self.config.ecn
                && self.connections.at(flow).backoff == 0
                && segment.flags & (flag::ECE | flag::CWR) == flag::ECE;
            self.connections.at_mut(flow).set(fact::ECN, ecn);
            self.learn_fast_open(flow, segment);
            self.establish(core, flow, segment, frame, segment.window as u32);
        } else {
            let ecn = self.config.ecn && segment.flags & (flag::ECE | flag::CWR) == flag::ECE | flag::CWR;
            let connection = self.connections.at_mut(flow);
            connection.set(fact::ECN, ecn);
            connection.core = core;
            self.set_state(flow, State::SynReceived);
            self.send_syn(flow);
        }
    }

    /// Keeps what the peer's SYN says.
    fn note_peer(&mut self, flow: u32, segment: &Segment) {
        let options = segment.options;
        let connection = self.connections.at_mut(flow);
        connection.irs = segment.seq;
        connection.set(fact::TIMESTAMPS, options.timestamps.is_some());
        connection.set(fact::WINDOW_SCALE, options.window_shift.is_some());
        connection.set(fact::SACK, options.sack_permitted);
        connection.ts_recent = options.timestamps.map_or(0, |(value, _)| value);
        connection.peer_shift = options.window_shift.unwrap_or(0);
        connection.mss_bytes = options.mss.unwrap_or(default_mss(&segment.tuple.remote)).max(MSS_MIN);
    }

    /// A segment in SYN-RECEIVED after a simultaneous open (RFC 9293 §3.10.7.4).
    pub(crate) fn syn_received_input(&mut self, core: u32, flow: u32, segment: &Segment, frame: &[u8]) {
        let connection = *self.connections.at(flow);
        let offset = segment.seq.wrapping_sub(connection.irs.wrapping_add(1));
        let window = Self::syn_window(connection.rcv_buffer_bytes) as u32;
        if segment.has(flag::RST) {
            if offset == 0 {
                self.counters.add(Counter::ResetsReceived);
                self.fail_handshake(flow, Errno::ECONNREFUSED);
            } else if offset < window {
                self.answer_syn_received(core, flow, segment);
            }
            return;
        }
        // PAWS (RFC 7323 §5.3 R1).
        let old = connection.is(fact::TIMESTAMPS) && segment.is_older_than(connection.ts_recent);
        if old {
            self.counters.add(Counter::PawsRejected);
        }
        // The peer's SYN-ACK repeats its SYN; anything else lies behind it.
        let repeats = segment.has(flag::SYN) && segment.seq == connection.irs;
        if old || (!repeats && (segment.has(flag::SYN) || offset >= window)) {
            self.answer_syn_received(core, flow, segment);
            return;
        }
        if !segment.has(flag::ACK) {
            return;
        }
        if !self.acknowledges_syn(flow, segment.ack) {
            self.refuse(core, segment);
            return;
        }
        if let (Some((value, _)), true) = (segment.options.timestamps, connection.is(fact::TIMESTAMPS)) {
            self.connections.at_mut(flow).ts_recent = value;
        }
        // The window of a SYN is not scaled.
        let shift = if repeats || !connection.is(fact::WINDOW_SCALE) { 0 } else { connection.peer_shift };
        let peer_window = (segment.window as u32).wrapping_shl(shift as u32);
        self.establish(core, flow, segment, frame, peer_window);
    }

    /// Answers an unacceptable segment with an ACK, within the limits.
    fn answer_syn_received(&mut self, core: u32, flow: u32, segment: &Segment) {
        if !self.may_answer(flow) {
            return;
        }
        let connection = *self.connections.at(flow);
        let window = Self::handshake_window(connection.rcv_buffer_bytes, connection.is(fact::WINDOW_SCALE));
        let ts_recent = connection.is(fact::TIMESTAMPS).then_some(connection.ts_recent);
        let (seq, ack) = (connection.iss.wrapping_add(1), connection.irs.wrapping_add(1));
        self.acknowledge(core, segment, seq, ack, window, ts_recent);
    }

    /// Our SYN is acknowledged and the peer's is known.
    fn establish(&mut self, core: u32, flow: u32, segment: &Segment, frame: &[u8], peer_window: u32) {
        let now_us = self.now_us;
        let connection = self.connections.at_mut(flow);
        connection.core = core;
        let taken = segment.ack.wrapping_sub(connection.iss.wrapping_add(1));
        connection.syn_data_bytes = taken as u16;
        let repeated = connection.backoff != 0;
        let once_us = (!repeated).then(|| now_us.saturating_sub(connection.started_us));
        let has_timestamps = connection.is(fact::TIMESTAMPS);
        let peer_shift = if connection.is(fact::WINDOW_SCALE) { connection.peer_shift } else { 0 };
        let (peer_mss, id) = (connection.mss_bytes, connection.socket);
        let rtt_us = once_us.or_else(|| self.echoed_rtt_us(segment).filter(|_| has_timestamps));
        self.install(flow, &Opening { peer_mss, peer_shift, peer_window, rtt_us, repeated });
        self.command(flow, pending::ACKNOWLEDGE);
        if self.sockets.has(id) {
            self.sockets.at_mut(id).kind = Kind::Connected;
            self.notify(id, event::CONNECTED);
        }
        if !segment.has(flag::SYN) && (segment.payload_bytes > 0 || segment.has(flag::FIN)) {
            self.inject(flow, frame);
        }
    }
}
