// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a core remembers of a flow beyond the shared entry: one cache line per flow, in private
//! memory, rebuilt from defaults at attach. Nothing here is needed to go on without losing data.

use abi::flow::RATE_UNLIMITED;

/// Bits of [`Private::bits`].
pub(crate) mod bit {
    /// The flow is installed on this core: the only core that may write its hot entry.
    pub(crate) const OURS: u32 = 1 << 0;
    /// In the queue of flows with something to send. Queue bits outlive the flow: a stale
    /// entry is skipped when it is reached.
    pub(crate) const IN_READY: u32 = 1 << 1;
    /// In the timing wheel.
    pub(crate) const IN_WHEEL: u32 = 1 << 2;
    /// In the queue of delayed acknowledgements.
    pub(crate) const IN_ACKS: u32 = 1 << 3;
    /// In the queue of events for applications.
    pub(crate) const IN_EVENTS: u32 = 1 << 4;
    /// Bits that say in which queue the flow is.
    pub(crate) const QUEUES: u32 =
        IN_READY | IN_WHEEL | IN_ACKS | IN_EVENTS | PARKED | IN_TIMERS | IN_BURST_ACKS | IN_HELD;
    /// Send small segments at once (TCP_NODELAY).
    pub(crate) const NODELAY: u32 = 1 << 5;
    /// An RTT measurement is under way.
    pub(crate) const TIMED: u32 = 1 << 6;
    /// Send one segment again from `snd_una` (fast retransmit, partial acknowledgement).
    pub(crate) const RESEND: u32 = 1 << 7;
    /// The next new segment carries CWR (RFC 3168 §6.1.2).
    pub(crate) const CWR_DUE: u32 = 1 << 8;
    /// Send even a small segment now: the flow was told to retransmit.
    pub(crate) const URGENT: u32 = 1 << 9;
    /// An event is parked at the flow's context, whose ring is full.
    pub(crate) const PARKED: u32 = 1 << 11;
    /// Rate zero: stopped by the slow path.
    pub(crate) const STOPPED: u32 = 1 << 10;
    /// In the heap of the recovery's timers.
    pub(crate) const IN_TIMERS: u32 = 1 << 12;
    /// The path was seen to reorder (RFC 8985 §6.2).
    pub(crate) const REORDERED: u32 = 1 << 13;
    /// Went back after a timeout (without a scoreboard at `timed_at_us`), and nothing was acknowledged since.
    pub(crate) const TIMED_OUT: u32 = 1 << 14;
    /// The slow path gave a window during recovery: it holds after it.
    pub(crate) const WINDOW_DUE: u32 = 1 << 15;
    /// In the queue of acknowledgements that leave when the burst is worked on.
    pub(crate) const IN_BURST_ACKS: u32 = 1 << 27;
    /// In the queue of flows that hold a small segment back.
    pub(crate) const IN_HELD: u32 = 1 << 28;
    /// The application will write more soon: no small segment until then (TCP_CORK, MSG_MORE).
    pub(crate) const HELD: u32 = 1 << 29;
    /// Our SYN has not left yet: nothing may leave before it. [`STOPPED`] goes with it.
    pub(crate) const UNANNOUNCED: u32 = 1 << 30;
    /// Quarters of an RTT by which the reordering window is wider than one quarter, 6 bits.
    pub(crate) const QUARTERS_SHIFT: u32 = 16;
    /// Recoveries for which that is kept, 5 bits.
    pub(crate) const PERSIST_SHIFT: u32 = 22;
}

/// The fast path's own bits of `HotFlow::flags`; see `abi::flow::hot_flags::PRIVATE_SHIFT`.
pub(crate) mod hot_bit {
    use abi::flow::hot_flags::PRIVATE_SHIFT;
    /// The application must hear of urgent data.
    pub(crate) const URGENT_NEWS: u32 = 1 << PRIVATE_SHIFT;
    /// The application has written urgent data that is not acknowledged.
    pub(crate) const URGENT_MODE: u32 = 2 << PRIVATE_SHIFT;
    /// The application chose DiffServ field or time to live (`ColdFlow::service`).
    pub(crate) const SERVICE: u32 = 4 << PRIVATE_SHIFT;
    /// Segments get more than the usual header.
    pub(crate) const DRESSED: u32 = URGENT_MODE | SERVICE;
    /// All of them.
    pub(crate) const ALL: u32 = URGENT_NEWS | DRESSED;
}

/// Largest values of the fields beside the bits.
const QUARTERS_MAX: u32 = 0x3f;
/// See above.
const PERSIST_MAX: u32 = 0x1f;

/// One flow's private state.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Private {
    /// When the flow may send next (nanoseconds), if it is paced.
    pub(crate) next_send_ns: u64,
    /// Nanoseconds per byte at the allowed rate, times 1024; zero: not paced.
    pub(crate) byte_time: u32,
    /// See [`bit`].
    pub(crate) bits: u32,
    /// Added to the clock to make TSval.
    pub(crate) ts_offset: u32,
    /// Last acknowledgement number sent (Last.ACK.sent, RFC 7323 §4.3).
    pub(crate) last_ack: u32,
    /// SND.WL1: sequence number of the segment that last updated the peer's window.
    pub(crate) snd_wl1: u32,
    /// When TS.Recent was last updated, in units of 2^30 µs (RFC 7323 §5.5): 18 minutes, so that it wraps after two
    /// years.
    pub(crate) ts_recent_at: u16,
    /// Largest window field that the peer sent (MAX.SND.WND of RFC 5961 §5.2, before it is scaled).
    pub(crate) max_window: u16,
    /// Next flow in the same slot of the timing wheel.
    pub(crate) next: u32,
    /// End of the segment being timed, and when it was sent.
    pub(crate) timed_end: u32,
    pub(crate) timed_at_us: u32,
    /// End of the last segment sent that was not full (Nagle as amended by Minshall).
    pub(crate) small_end: u32,
    /// When the oldest acknowledgement owed fell due for delay, µs.
    pub(crate) ack_since_us: u32,
    /// When an unacceptable segment without data was last answered, µs.
    pub(crate) challenge_at_us: u32,
    /// `recover` of RFC 6582: no second fast retransmit before this is acknowledged.
    pub(crate) recover: u32,
    /// ECE received before this is acknowledged belongs to a reduction already announced by CWR.
    pub(crate) cwr_end: u32,
}

const _: () = assert!(core::mem::size_of::<Private>() == 64);

impl Private {
    /// Nothing known.
    pub(crate) const EMPTY: Self = Self {
        next_send_ns: 0,
        byte_time: 0,
        bits: 0,
        ts_offset: 0,
        last_ack: 0,
        snd_wl1: 0,
        ts_recent_at: 0,
        max_window: 0,
        next: 0,
        timed_end: 0,
        timed_at_us: 0,
        small_end: 0,
        ack_since_us: 0,
        challenge_at_us: 0,
        recover: 0,
        cwr_end: 0,
    };

    /// True if a bit is set.
    #[inline(always)]
    pub(crate) fn has(&self, bit: u32) -> bool {
        self.bits & bit != 0
    }

    /// The reordering window in quarters of an RTT, at least one (RFC 8985 §6.2, reo_wnd_mult).
    pub(crate) fn reordering_quarters(&self) -> u32 {
        1 + (self.bits >> bit::QUARTERS_SHIFT & QUARTERS_MAX)
    }

    /// Widens the reordering window by a quarter of an RTT, for `recoveries` recoveries.
    pub(crate) fn widen(&mut self, recoveries: u32) {
        let quarters = self.reordering_quarters().min(QUARTERS_MAX);
        self.set_reordering(quarters, recoveries);
    }

    /// A recovery is over: the window is narrow again after enough of them.
    pub(crate) fn persist_less(&mut self) {
        let left = (self.bits >> bit::PERSIST_SHIFT & PERSIST_MAX).saturating_sub(1);
        let quarters = if left == 0 { 0 } else { self.reordering_quarters() - 1 };
        self.set_reordering(quarters, left);
    }

    fn set_reordering(&mut self, quarters: u32, recoveries: u32) {
        let mask = QUARTERS_MAX << bit::QUARTERS_SHIFT | PERSIST_MAX << bit::PERSIST_SHIFT;
        let words = quarters.min(QUARTERS_MAX) << bit::QUARTERS_SHIFT
            | recoveries.min(PERSIST_MAX) << bit::PERSIST_SHIFT;
        self.bits = self.bits & !mask | words;
    }

    /// Takes over a rate in kilobits per second. The one division, off the hot path.
    pub(crate) fn set_rate(&mut self, rate_kbps: u32) {
        if !self.has(bit::UNANNOUNCED) {
            self.bits &= !bit::STOPPED;
        }
        self.byte_time = match rate_kbps {
            0 => {
                self.bits |= bit::STOPPED;
                0
            }
            RATE_UNLIMITED => 0,
            // 8 bits per byte and 10^6 ns·kbit/s, times 1024; a rate below 2 kbit/s counts as 2.
            rate => u32::try_from(8_000_000u64 * 1024 / u64::from(rate)).unwrap_or(u32::MAX).max(1),
        };
    }
}
