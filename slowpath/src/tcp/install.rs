// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Handing an established connection to the fast path.

use crate::{
    congestion::{Controller, Parameters},
    connection::{flag, pending},
    counters::Counter,
    socket::Socket,
    stack::Stack,
    tcp::{reply::TIMESTAMP_BYTES, state::State},
};
use abi::flow::{hot_flags, mss_scale, slot_state, NONE};
use core::sync::atomic::Ordering::Relaxed;

/// What the handshake told about the peer.
pub(crate) struct Opening {
    /// MSS the peer announced.
    pub(crate) peer_mss: u16,
    /// Shift of the windows the peer sends; zero without window scaling.
    pub(crate) peer_shift: u8,
    /// Its window, bytes.
    pub(crate) peer_window: u32,
    /// RTT of the handshake, if nothing was retransmitted.
    pub(crate) rtt_us: Option<u64>,
    /// Our SYN or SYN-ACK was sent more than once.
    pub(crate) repeated: bool,
}

/// Position of a sequence number at the start of a stream (ARCHITECTURE, "Stream positions").
const fn start_position(sequence: u32) -> u64 {
    1 << 32 | sequence as u64
}

impl Stack<'_> {
    /// Options of a socket that its connection keeps.
    pub(crate) fn inherit_options(&mut self, flow: u32, socket: &Socket) {
        use crate::socket::flag as option;
        let connection = self.connections.at_mut(flow);
        connection.set(flag::NODELAY, socket.is(option::NODELAY));
        connection.set(flag::KEEPALIVE, socket.is(option::KEEPALIVE));
        connection.user_timeout_ms = socket.user_timeout_ms;
        connection.syn_retries = socket.syn_retries;
        connection.max_segment = socket.max_segment;
        connection.service = socket.service;
        connection.keepalive = socket.keepalive;
        connection.congestion = socket.congestion as u8;
    }

    /// Congestion control's constants for a flow.
    pub(crate) fn parameters(&self, flow: u32) -> Parameters {
        Parameters::new(&self.config, self.connections.at(flow).mss_bytes)
    }

    /// The handshake is complete: fills hot and cold entry and gives the flow to its core.
    pub(crate) fn install(&mut self, flow: u32, opening: &Opening) {
        self.stop_timers(flow);
        let remote = self.connections.at(flow).tuple.remote;
        let announced = self.announced_mss(&remote, self.connections.at(flow).max_segment);
        let path_mtu = self.path_mtu(&remote);
        let (tuple_offset, now_us) = {
            let tuple = self.lookup.tuple(crate::lookup::Found::Connection(flow));
            (self.timestamp_offset(&tuple), self.now_us)
        };
        let connection = self.connections.at_mut(flow);
        let taken = if connection.is(flag::TIMESTAMPS) { TIMESTAMP_BYTES } else { 0 };
        connection.mss_limit = opening.peer_mss.min(announced).saturating_sub(taken).max(1);
        connection.mss_bytes = connection.mss_for(path_mtu);
        connection.ts_offset = tuple_offset;
        connection.peer_shift = opening.peer_shift;
        connection.peer_window = opening.peer_window;
        connection.our_shift =
            if connection.is(flag::WINDOW_SCALE) { Self::shift_for(connection.rcv_buffer_bytes) } else { 0 };
        connection.backoff = 0;
        connection.soft_error = 0;
        connection.started_us = now_us;
        connection.set(flag::INSTALLED, true);
        connection.set(flag::SYN_REPEATED, opening.repeated);
        connection.state = State::Established;
        if let Some(rtt_us) = opening.rtt_us {
            self.measure(flow, rtt_us.min(u32::MAX as u64) as u32);
        }
        let parameters = self.parameters(flow);
        // A handshake faster than the assumed RTT is no ground to begin faster still.
        let srtt_us = self.connections.at(flow).srtt_us.max(self.config.rtt_init_us);
        let algorithm = match self.connections.at(flow).congestion {
            0 => self.config.congestion,
            chosen => chosen as u32,
        };
        self.connections.at_mut(flow).controller = Controller::new(algorithm, srtt_us, &parameters);
        self.write_hot(flow);
        self.describe(flow, slot_state::INSTALLED);
        self.counters.add(Counter::Established);
        self.retain_neighbor(self.connections.at(flow).neighbor);
        self.connections.at_mut(flow).set(flag::USES_NEIGHBOR, true);
        self.command(flow, pending::INSTALL);
        self.arm_keepalive(flow);
    }

    /// Fills the hot entry, which is ours until INSTALL, and the allowance and start positions in
    /// the cold one.
    fn write_hot(&mut self, flow: u32) {
        let parameters = self.parameters(flow);
        let allowance = self.connections.at_mut(flow).controller.allowance(&parameters);
        let connection = *self.connections.at(flow);
        let (Some(hot), Some(cold)) = (self.hot(flow), self.cold(flow)) else {
            return;
        };
        let acknowledged = connection.syn_data_bytes;
        // What went with our SYN and was taken is done with (zero for a passive open).
        let send = start_position(connection.iss.wrapping_add(1).wrapping_add(acknowledged as u32));
        let receive = start_position(connection.irs.wrapping_add(1));
        let mut flags = hot_flags::INSTALLED;
        if !connection.tuple.local.is_v4() {
            flags |= hot_flags::IPV6;
        }
        if connection.handshake != NONE {
            flags |= hot_flags::SYN_RECEIVED;
        }
        for (fact, bit) in [
            (flag::TIMESTAMPS, hot_flags::TIMESTAMPS),
            (flag::ECN, hot_flags::ECN),
            (flag::SACK, hot_flags::SACK),
        ] {
            if connection.is(fact) {
                flags |= bit;
            }
        }
        hot.remote_ip.store(connection.tuple.remote.as_hot(), Relaxed);
        hot.ports.store(connection.tuple.ports, Relaxed);
        hot.local_ip.store(connection.tuple.local.as_hot(), Relaxed);
        hot.flags.store(flags, Relaxed);
        hot.rcv_nxt.store(receive, Relaxed);
        hot.rcv_read.store(receive, Relaxed);
        hot.snd_una.store(send, Relaxed);
        hot.snd_nxt.store(send, Relaxed);
        hot.snd_wnd.store(connection.peer_window, Relaxed);
        hot.ts_recent.store(connection.ts_recent, Relaxed);
        hot.buffers.store(connection.record, Relaxed);
        hot.snd_end.store(send, Relaxed);
        hot.snd_max.store(send, Relaxed);
        let window = Self::syn_window(connection.rcv_buffer_bytes) as u32;
        hot.rcv_adv.store((receive as u32).wrapping_add(window), Relaxed);
        let scale = mss_scale(connection.mss_bytes, connection.peer_shift, connection.our_shift);
        hot.mss_scale.store(scale, Relaxed);
        hot.rate_kbps.store(allowance.rate_kbps, Relaxed);
        hot.cwnd_bytes.store(allowance.cwnd_bytes, Relaxed);
        hot.adjacency.store(connection.neighbor, Relaxed);
        hot.recovery.store(NONE, Relaxed);
        hot.acked_bytes.store(0, Relaxed);
        hot.ecn_bytes.store(0, Relaxed);
        hot.rtt_sample.store(0, Relaxed);
        hot.loss_counts.store(0, Relaxed);
        hot.rcv_buffer_bytes.store(connection.rcv_buffer_bytes, Relaxed);
        hot.generation.store(connection.generation, Relaxed);
        cold.rate_kbps.store(allowance.rate_kbps, Relaxed);
        cold.cwnd_bytes.store(allowance.cwnd_bytes, Relaxed);
        let [low, high] = &cold.snd_start;
        low.store(send as u32, Relaxed);
        high.store((send >> 32) as u32, Relaxed);
        let [low, high] = &cold.rcv_start;
        low.store(receive as u32, Relaxed);
        high.store((receive >> 32) as u32, Relaxed);
        hot.owner.store(self.owner_word(flow), Relaxed);
    }
}
