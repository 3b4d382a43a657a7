// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What the slow path counts: the values of SLOW_COUNTERS, in this order, [`PAGE`] at a time.

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
    /// Fragments received.
    Fragments = "fragments",
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
    /// TIME-WAIT connections ended early because the table was full.
    TimeWaitsEarly = "time_waits_early",
    /// ARP requests and replies sent.
    ArpSent = "arp_sent",
    /// Neighbours that did not answer.
    NeighborsAbsent = "neighbors_absent",
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
    /// ICMP errors about nothing of ours that is under way, or that cannot be true (RFC 5927).
    IcmpIgnored = "icmp_errors_ignored",
    /// Path MTUs lowered by ICMP (RFC 1191).
    PathMtuLowered = "path_mtu_lowered",
    /// ICMP errors that asked for segments smaller than were acknowledged: heeded if a timeout follows (RFC 5927 §7.2).
    PathMtuDelayed = "path_mtu_delayed",
    /// Path MTUs lowered because large segments alone got lost (RFC 4821).
    BlackHoles = "path_mtu_black_holes",
    /// Connections that went back to larger segments.
    PathMtuRaised = "path_mtu_raised",
    /// Probes for a larger path MTU sent, and lost (RFC 4821).
    PathProbes = "path_mtu_probes",
    /// See above.
    PathProbesLost = "path_mtu_probes_lost",
    /// TIME-WAIT connections ended by a new incarnation's SYN (RFC 6191).
    TimeWaitsReused = "time_waits_reused",
    /// Segments of connections being opened or in TIME-WAIT refused by PAWS (RFC 7323 §5).
    PawsRejected = "paws_rejected",
    /// SYN cookies sent (RFC 4987 §3.6).
    CookiesSent = "syn_cookies_sent",
    /// ACKs that brought a good cookie back.
    CookiesAccepted = "syn_cookies_accepted",
    /// ACKs that were taken for a cookie and were none.
    CookiesFailed = "syn_cookies_failed",
    /// Datagrams with a source route, which are dropped (RFC 7126 §4.3, §4.4).
    SourceRouted = "source_routed_dropped",
    /// Neighbor solicitations and advertisements sent.
    DiscoverySent = "discovery_sent",
    /// Reports of multicast groups sent (RFC 3810).
    MembershipReports = "membership_reports_sent",
    /// Times another host had, or wanted, an IPv6 address of ours.
    DuplicateAddresses = "duplicate_addresses",
    /// Connections made before their handshake was complete (RFC 7413).
    FastOpens = "fast_opens",
    /// SYNs with a fast-open cookie that was not ours, or too old.
    FastOpenRefused = "fast_open_cookies_refused",
    /// SYNs that could have opened fast, had the listener's limit allowed it.
    FastOpenOverflows = "fast_open_overflows",
    /// SYNs sent with data, and those of them whose data the peer took.
    FastOpensSent = "fast_opens_sent",
    /// See above.
    FastOpensTaken = "fast_opens_taken",
    /// Fragments dropped: not of TCP, malformed, received before, or of a datagram whose fragments overlap.
    FragmentsDropped = "fragments_dropped",
    /// Datagrams put together.
    Reassembled = "reassembled",
    /// Datagrams given up: too old, too many, or not what their checksum says.
    ReassembliesFailed = "reassemblies_failed",
}

/// Number of counters.
pub const COUNT: usize = NAMES.len();
/// Counters in one SLOW_COUNTERS reply: its `object` says with which it begins.
pub const PAGE: usize = 30;
const _: () = assert!(core::mem::size_of::<abi::message::SlowCounters>() == PAGE * 8);

/// The values, in a table of their own: within [`crate::Stack`] they would stand in the frame that makes it.
pub(crate) struct Counters<'m>(&'m mut [u64]);

impl<'m> Counters<'m> {
    pub(crate) fn new(values: &'m mut [u64]) -> Self {
        Self(values)
    }
    #[inline]
    pub(crate) fn add(&mut self, counter: Counter) {
        if let Some(value) = self.0.get_mut(counter as usize) {
            *value = value.wrapping_add(1);
        }
    }
    /// The values from number `first` on, zero behind the last.
    pub(crate) fn page(&self, first: u32) -> [u64; PAGE] {
        let mut values = [0; PAGE];
        let rest = self.0.get(first as usize..).unwrap_or_default();
        for (value, counter) in values.iter_mut().zip(rest) {
            *value = *counter;
        }
        values
    }
    pub(crate) fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or(0)
    }
}
