// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Private state of one connection, indexed by flow id.

use crate::{
    congestion::Controller,
    lookup::Tuple,
    tcp::{keepalive::Keepalive, limits::LastAnswer, path::Sizes, path_search::Search, state::State},
    wire::service::Service,
};
use abi::{flow::NONE, message::negotiated};

/// Commands owed to the fast path, in the order they are sent. One bit each, so that a command
/// given twice is sent once.
pub(crate) mod pending {
    pub(crate) const INSTALL: u16 = 1 << 0;
    pub(crate) const ACKNOWLEDGE: u16 = 1 << 1;
    pub(crate) const UPDATE: u16 = 1 << 2;
    pub(crate) const RETRANSMIT: u16 = 1 << 3;
    pub(crate) const PROBE: u16 = 1 << 4;
    pub(crate) const FINISH: u16 = 1 << 5;
    pub(crate) const IDLE: u16 = 1 << 6;
    pub(crate) const REMOVE: u16 = 1 << 7;
    pub(crate) const TAIL_PROBE: u16 = 1 << 8;
    pub(crate) const PROBE_PATH: u16 = 1 << 9;
}

/// Facts about a connection, one bit each in [`Connection::flags`].
pub(crate) mod flag {
    /// The fast path knows the flow (INSTALL was queued).
    pub(crate) const INSTALLED: u32 = 1 << 0;
    /// Waiting in a listener's accept queue.
    pub(crate) const IN_ACCEPT_QUEUE: u32 = 1 << 1;
    /// Linked in a core's queue of flows with pending commands.
    pub(crate) const QUEUED: u32 = 1 << 2;
    /// Our end is to be closed once the fast path has drained what the application announced.
    pub(crate) const DRAINING: u32 = 1 << 3;
    /// FINISH was asked for.
    pub(crate) const FIN_ASKED: u32 = 1 << 4;
    /// The peer closed first.
    pub(crate) const REMOTE_FIRST: u32 = 1 << 5;
    /// No socket holds it any more.
    pub(crate) const ORPHAN: u32 = 1 << 6;
    /// Send RST as soon as the fast path answered REMOVED.
    pub(crate) const RESET_AT_REMOVED: u32 = 1 << 7;
    /// Put into TIME-WAIT as soon as the fast path answered REMOVED.
    pub(crate) const TIME_WAIT_AT_REMOVED: u32 = 1 << 8;
    /// The port counts it as a user without SO_REUSEADDR.
    pub(crate) const PORT_EXCLUSIVE: u32 = 1 << 9;
    /// The port counts it as a user without SO_REUSEPORT.
    pub(crate) const PORT_UNSHARED: u32 = 1 << 10;
    /// The port counts it at all.
    pub(crate) const PORT_COUNTED: u32 = 1 << 11;
    /// Waiting for the next hop's address.
    pub(crate) const WAITS_FOR_ARP: u32 = 1 << 12;
    /// The slow path samples it.
    pub(crate) const SAMPLED: u32 = 1 << 13;
    /// Peer and we use timestamps.
    pub(crate) const TIMESTAMPS: u32 = 1 << 14;
    /// Window scaling is in use.
    pub(crate) const WINDOW_SCALE: u32 = 1 << 15;
    /// The peer permitted SACK.
    pub(crate) const SACK: u32 = 1 << 16;
    /// ECN is in use.
    pub(crate) const ECN: u32 = 1 << 17;
    /// Something was in flight at the last sample.
    pub(crate) const WAS_OUTSTANDING: u32 = 1 << 18;
    /// Our SYN asked for a fast-open cookie, or brought one.
    pub(crate) const FAST_OPEN: u32 = 1 << 19;
    /// TCP_NODELAY.
    pub(crate) const NODELAY: u32 = 1 << 20;
    /// SO_KEEPALIVE.
    pub(crate) const KEEPALIVE: u32 = 1 << 21;
    /// The port was chosen for connect() and may serve other peers.
    pub(crate) const PORT_EPHEMERAL: u32 = 1 << 24;
    /// REMOVE was, or is to be, sent.
    pub(crate) const REMOVING: u32 = 1 << 25;
    /// Counted at its neighbour.
    pub(crate) const USES_NEIGHBOR: u32 = 1 << 26;
    /// The slot is in use.
    pub(crate) const USED: u32 = 1 << 23;
    /// Our SYN or SYN-ACK was repeated: until an RTT is measured the timeout is longer (RFC 6298 §5.7).
    pub(crate) const SYN_REPEATED: u32 = 1 << 27;
}

/// What sampling remembers of the hot entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sampling {
    /// TCP time of the last sample, microseconds.
    pub(crate) at_us: u64,
    /// `snd_una` at the last sample.
    pub(crate) snd_una: u64,
    /// Run time of the core when the retransmission timer was started, microseconds.
    pub(crate) timer_run_us: u64,
    /// Run time of the core when the peer last acknowledged something new, microseconds.
    pub(crate) progress_run_us: u64,
    /// TS.Recent at the last probe.
    pub(crate) ts_recent: u32,
    /// Counters of the hot entry.
    pub(crate) acked_bytes: u32,
    pub(crate) ecn_bytes: u32,
    pub(crate) fast_retransmits: u16,
    pub(crate) rtt_count: u8,
    /// Samples in a row in which nothing was acknowledged.
    pub(crate) quiet_samples: u8,
    /// Unanswered probes.
    pub(crate) probes: u8,
    /// Timeouts that the fast path undid, as the hot entry counts them.
    pub(crate) undone_timeouts: u8,
    /// A tail loss probe was sent since the peer last acknowledged something new.
    pub(crate) tail_probed: bool,
}

/// Private state of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    pub(crate) flags: u32,
    pub(crate) state: State,
    /// SYN transmissions, or doublings of the retransmission timeout.
    pub(crate) backoff: u8,
    pub(crate) peer_shift: u8,
    pub(crate) our_shift: u8,
    /// Commands owed to the fast path: [`pending`].
    pub(crate) pending: u16,
    /// Congestion control asked for, or zero for the instance's.
    pub(crate) congestion: u8,
    /// Effective MSS, bytes; and what it is without the path's limit.
    pub(crate) mss_bytes: u16,
    pub(crate) mss_limit: u16,
    /// Which sizes the path is known to take.
    pub(crate) sizes: Sizes,
    /// Whether it takes larger ones.
    pub(crate) search: Search,
    pub(crate) tuple: Tuple,
    pub(crate) core: u32,
    pub(crate) application: u32,
    pub(crate) context: u32,
    /// Socket that holds it (the listener's while it is in the accept queue).
    pub(crate) socket: u32,
    pub(crate) record: u32,
    pub(crate) neighbor: u32,
    pub(crate) generation: u32,
    /// Next in the free list, a core's queue of pending commands (one at a time).
    pub(crate) next: u32,
    /// Next in the accept queue.
    pub(crate) accept_next: u32,
    /// The half-open entry of a connection that is installed before its handshake is complete (RFC 7413), or [`NONE`].
    pub(crate) handshake: u32,
    /// Data that is to go with the SYN, or [`NONE`]; its bytes, also after it went.
    pub(crate) syn_data: u32,
    pub(crate) syn_bytes: u16,
    /// Bytes of a SYN's data that were taken, here or there.
    pub(crate) syn_data_bytes: u16,
    /// Initial sequence numbers.
    pub(crate) iss: u32,
    pub(crate) irs: u32,
    pub(crate) peer_window: u32,
    pub(crate) ts_recent: u32,
    pub(crate) ts_offset: u32,
    pub(crate) rcv_buffer_bytes: u32,
    /// Smoothed RTT and its variance, microseconds; zero until measured (RFC 6298).
    pub(crate) srtt_us: u32,
    pub(crate) rttvar_us: u32,
    pub(crate) timeouts: u32,
    /// TCP_USER_TIMEOUT, milliseconds; zero is the default.
    pub(crate) user_timeout_ms: u32,
    /// TCP_SYNCNT; zero is the instance's.
    pub(crate) syn_retries: u8,
    /// TCP_MAXSEG, bytes; zero is the MTU's.
    pub(crate) max_segment: u16,
    /// IP_TOS and IP_TTL.
    pub(crate) service: Service,
    /// Window given with RETRANSMIT.
    pub(crate) retransmit_window: u32,
    /// errno noted by ICMP, told if the connection fails; and `snd_una` then: progress outdates it.
    pub(crate) soft_error: u32,
    pub(crate) soft_error_una: u32,
    /// When a challenge ACK was sent last (RFC 5961 §7).
    pub(crate) answered: LastAnswer,
    /// Frames handed back to the core in the current window of time.
    pub(crate) injects: u8,
    pub(crate) inject_window: u32,
    /// Loops of the core when draining began.
    pub(crate) drain_loops: u64,
    /// Looks at a draining core, for the pause between them.
    pub(crate) backoff_drain: u8,
    /// Position the drain waits for, or zero.
    pub(crate) drain_end: u64,
    /// When the current SYN or SYN-ACK was sent first; when it was established.
    pub(crate) started_us: u64,
    pub(crate) keepalive: Keepalive,
    pub(crate) sampling: Sampling,
    pub(crate) controller: Controller,
    /// The controller before the last loss and before the last timeout, in case there was none.
    pub(crate) before_loss: Controller,
    /// See above.
    pub(crate) before_timeout: Controller,
}

impl Connection {
    pub(crate) const EMPTY: Self = Self {
        flags: 0,
        state: State::Closed,
        backoff: 0,
        peer_shift: 0,
        our_shift: 0,
        pending: 0,
        congestion: 0,
        mss_bytes: 0,
        mss_limit: 0,
        sizes: Sizes::UNKNOWN,
        search: Search::NONE,
        tuple: Tuple::EMPTY,
        core: 0,
        application: NONE,
        context: NONE,
        socket: NONE,
        record: NONE,
        neighbor: NONE,
        generation: 0,
        next: NONE,
        accept_next: NONE,
        handshake: NONE,
        syn_data: NONE,
        syn_bytes: 0,
        syn_data_bytes: 0,
        iss: 0,
        irs: 0,
        peer_window: 0,
        ts_recent: 0,
        ts_offset: 0,
        rcv_buffer_bytes: 0,
        srtt_us: 0,
        rttvar_us: 0,
        timeouts: 0,
        user_timeout_ms: 0,
        syn_retries: 0,
        max_segment: 0,
        service: Service::DEFAULT,
        retransmit_window: 0,
        soft_error: 0,
        soft_error_una: 0,
        answered: LastAnswer::NEVER,
        injects: 0,
        inject_window: 0,
        drain_loops: 0,
        backoff_drain: 0,
        drain_end: 0,
        started_us: 0,
        keepalive: Keepalive::DEFAULT,
        sampling: Sampling {
            at_us: 0,
            snd_una: 0,
            timer_run_us: 0,
            progress_run_us: 0,
            ts_recent: 0,
            acked_bytes: 0,
            ecn_bytes: 0,
            fast_retransmits: 0,
            rtt_count: 0,
            quiet_samples: 0,
            probes: 0,
            undone_timeouts: 0,
            tail_probed: false,
        },
        controller: Controller::None,
        before_loss: Controller::None,
        before_timeout: Controller::None,
    };
    #[inline]
    pub(crate) fn is(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }
    #[inline]
    pub(crate) fn set(&mut self, flags: u32, on: bool) {
        if on {
            self.flags |= flags
        } else {
            self.flags &= !flags
        }
    }
    /// What was agreed on with the peer, as `FlowInfo` tells it.
    pub(crate) fn negotiated(&self) -> u32 {
        let bit = |fact, bit| if self.is(fact) { bit } else { 0 };
        bit(flag::TIMESTAMPS, negotiated::TIMESTAMPS)
            | bit(flag::SACK, negotiated::SACK)
            | bit(flag::WINDOW_SCALE, negotiated::WINDOW_SCALE)
            | bit(flag::ECN, negotiated::ECN)
    }
    /// Local port.
    #[inline]
    pub(crate) fn local_port(&self) -> u16 {
        self.tuple.local_port()
    }
    /// Remote port.
    #[inline]
    pub(crate) fn remote_port(&self) -> u16 {
        self.tuple.remote_port()
    }
}

impl Default for Connection {
    fn default() -> Self {
        Self::EMPTY
    }
}
