// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What the slow path counts: the values of SLOW_COUNTERS, in this order.

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// A counter of the slow path.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter { $($(#[doc = $doc])+ $name,)+ }
        /// Names, as `tasctl` prints them, in the order of the values.
        pub const NAMES: &[&str] = &[$($text,)+];
    };
}
counters! {
    /// Frames handed to the slow path.
    Frames = "frames",
    /// Frames that were malformed or not for us.
    Malformed = "malformed",
    /// Fragments, which are not reassembled.
    Fragments = "fragments_dropped",
    /// SYNs received for a listener.
    Syns = "syns",
    /// SYNs dropped because the SYN queue or the accept queue was full.
    SynsDropped = "syns_dropped",
    /// Connections accepted into an accept queue.
    PassiveOpens = "passive_opens",
    /// connect() calls that sent a SYN.
    ActiveOpens = "active_opens",
    /// Connections that reached ESTABLISHED.
    Established = "established",
    /// Handshakes that failed or timed out.
    HandshakesFailed = "handshakes_failed",
    /// SYNs and SYN-ACKs retransmitted.
    HandshakeRetransmits = "handshake_retransmits",
    /// Final ACKs dropped because the accept queue was full.
    AcceptOverflows = "accept_overflows",
    /// RSTs sent.
    ResetsSent = "resets_sent",
    /// RSTs received that ended a connection.
    ResetsReceived = "resets_received",
    /// Challenge ACKs sent (RFC 5961).
    ChallengeAcks = "challenge_acks",
    /// Answers suppressed by a rate limit.
    RateLimited = "rate_limited",
    /// Retransmission timeouts.
    Timeouts = "retransmission_timeouts",
    /// Connections given up after too many of them.
    GivenUp = "connections_given_up",
    /// Zero-window probes.
    Probes = "window_probes",
    /// Connections whose application let go before all data was sent.
    Orphans = "orphans",
    /// Orphans ended by a limit.
    OrphansEnded = "orphans_ended",
    /// Connections put into TIME-WAIT.
    TimeWaits = "time_waits",
    /// TIME-WAIT connections ended early: reused by a SYN, or the table was full.
    TimeWaitsEarly = "time_waits_early",
    /// ARP requests and replies sent.
    ArpSent = "arp_sent",
    /// Neighbours that did not answer.
    ArpFailed = "arp_failed",
    /// ICMP echo requests answered.
    Echoes = "icmp_echoes",
    /// ICMP errors that matched a connection.
    IcmpErrors = "icmp_errors",
    /// Frames dropped because the queue to the fast path was full.
    FramesDropped = "frames_dropped",
    /// No flow slot, buffer record or socket was free.
    Exhausted = "exhausted",
    /// Frames handed back to the fast path.
    Injected = "injected",
    /// Requests refused with an error.
    RequestsRefused = "requests_refused",
}

/// Number of counters: what the message has room for.
pub const COUNT: usize = 30;
const _: () = assert!(NAMES.len() == COUNT);

/// The values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counters(pub(crate) [u64; COUNT]);

impl Counters {
    pub(crate) const fn new() -> Self {
        Self([0; COUNT])
    }
    #[inline]
    pub(crate) fn add(&mut self, counter: Counter) {
        if let Some(value) = self.0.get_mut(counter as usize) {
            *value = value.wrapping_add(1);
        }
    }
    pub(crate) fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or(0)
    }
}
