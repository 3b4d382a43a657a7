// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Status of each fast-path core: one page per core, written by that core, read-only to
//! applications, `tasctl` and the slow path.

use core::sync::atomic::{AtomicU32, AtomicU64};

/// Number of counters in a page.
pub const COUNTERS: usize = 64;

/// One core's page. The struct occupies the first 1 KiB of a 4 KiB page.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct CoreStatus {
    /// Non-zero while the core sleeps and wants a wake-up (see `ring::WakeFlag`).
    pub waiting: AtomicU32,
    /// Non-zero while the core runs.
    pub running: AtomicU32,
    /// Loop iterations; an advance is a quiescent point.
    pub loops: AtomicU64,
    /// Microseconds in which the core ran or slept by its own will. Gaps in which it was
    /// preempted do not count, so the slow path's timeouts do not run in them.
    pub run_us: AtomicU64,
    /// TCP time of the last iteration, microseconds.
    pub now_us: AtomicU64,
    /// Zero.
    pub reserved: [AtomicU64; 4],
    /// Counters, indexed by [`Counter`].
    pub counters: [AtomicU64; COUNTERS],
}
assert_layout!(CoreStatus, size 576, waiting @ 0, running @ 4, loops @ 8, run_us @ 16, now_us @ 24,
    reserved @ 32, counters @ 64);

/// Bytes between the pages of two cores.
pub const CORE_STATUS_STRIDE: usize = 4096;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident = $index:literal, $text:literal;)+) => {
        /// Index of a counter in [`CoreStatus::counters`].
        #[repr(u32)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counter { $($(#[doc = $doc])+ $name = $index,)+ }
        impl Counter {
            /// All counters with their names as `tasctl` prints them.
            pub const ALL: &'static [(Counter, &'static str)] = &[$((Counter::$name, $text),)+];
        }
    };
}
counters! {
    /// Frames received from the port.
    RxPackets = 0, "rx_packets";
    /// Bytes of those frames.
    RxBytes = 1, "rx_bytes";
    /// Frames sent to the port.
    TxPackets = 2, "tx_packets";
    /// Bytes of those frames.
    TxBytes = 3, "tx_bytes";
    /// TCP segments received for installed flows.
    RxSegments = 4, "rx_segments";
    /// TCP segments sent for installed flows.
    TxSegments = 5, "tx_segments";
    /// Payload bytes accepted in order.
    RxPayloadBytes = 6, "rx_payload_bytes";
    /// Payload bytes sent, retransmissions included.
    TxPayloadBytes = 7, "tx_payload_bytes";
    /// Frames handed to the slow path.
    ToSlowpath = 8, "to_slowpath";
    /// Frames dropped because the ring to the slow path was full.
    SlowpathFull = 9, "slowpath_ring_full";
    /// Segments with a bad IP or TCP checksum.
    BadChecksum = 10, "bad_checksum";
    /// Segments refused by PAWS (RFC 7323 §5).
    StaleTimestamp = 11, "stale_timestamp";
    /// Segments outside the window or with an unacceptable ACK.
    Unacceptable = 12, "unacceptable_segment";
    /// Frames that are too short or malformed.
    Malformed = 13, "malformed";
    /// Out-of-order segments kept.
    OutOfOrder = 14, "out_of_order";
    /// Out-of-order segments dropped (no interval or recovery block free).
    OutOfOrderDropped = 15, "out_of_order_dropped";
    /// Fast retransmits.
    FastRetransmits = 16, "fast_retransmits";
    /// Retransmission timeouts carried out.
    TimeoutRetransmits = 17, "timeout_retransmits";
    /// Zero-window probes sent.
    WindowProbes = 18, "window_probes";
    /// Pure ACKs sent.
    TxAcks = 19, "tx_acks";
    /// Segments dropped because the application's pool had no free chunk.
    PoolEmpty = 20, "pool_empty";
    /// Ring entries of applications that were refused.
    RefusedEntries = 21, "refused_entries";
    /// Events that found the application's ring full and were kept pending.
    ContextRingFull = 22, "context_ring_full";
    /// Frames the port did not take.
    TxFull = 23, "tx_full";
    /// No packet buffer could be had.
    NoBuffer = 24, "no_buffer";
    /// Times the core went to sleep.
    Sleeps = 25, "sleeps";
    /// Wake-ups sent to applications.
    Wakes = 26, "wakes";
    /// Frames steered to another core by software.
    Steered = 27, "steered";
    /// Frames with CE received.
    CongestionExperienced = 28, "congestion_experienced";
    /// Segments sent again because they count as lost.
    Retransmits = 29, "retransmits";
    /// Tail loss probes sent.
    TailProbes = 30, "tail_probes";
    /// Recoveries that were undone: nothing had been lost.
    SpuriousRecoveries = 31, "spurious_recoveries";
    /// Retransmission timeouts that were undone.
    SpuriousTimeouts = 32, "spurious_timeouts";
    /// Segments of no flow dropped because more came than are answered.
    StrangersRefused = 33, "strangers_refused";
    /// Frames of a VLAN that is not served.
    OtherVlan = 34, "other_vlan";
}
