// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a segment acknowledges: RFC 9293 §3.10.7.4 fifth step, RFC 5681, 5961 §5, 6582, 7323.

use crate::{
    core::Core,
    flow::Flow,
    parse::{flag, Segment},
    port::{Port, Steer},
    private::bit,
    word::Word,
};
use abi::{
    core_status::Counter,
    flow::{extend, hot_flags},
    kernel_ring::{to_slow, KernelEntry},
    pool::BUFFER_BYTES_MAX,
};

/// Duplicate acknowledgements that mean a loss (RFC 5681 §3.2).
const DUPLICATES: u32 = 3;

impl<'m, P: Port, S: Steer<P::Packet>> Core<'m, P, S> {
    /// Processes acknowledgement and window. False: the acknowledgement is not acceptable. `state` is the
    /// flow's flags.
    #[inline]
    pub(crate) fn acknowledged(
        &mut self,
        flow: Flow<'m>,
        segment: &Segment,
        state: u32,
        packet: &P::Packet,
    ) -> bool {
        let hot = flow.hot;
        let una = hot.snd_una.get();
        let ack = extend(segment.ack, una);
        let peer_shift = flow.scale().peer_shift();
        if ack > hot.snd_max.get() {
            return false;
        }
        if ack < una {
            return ack >= self.oldest_acceptable(flow, una);
        }
        let window = u32::from(segment.window) << peer_shift;
        let old_window = hot.snd_wnd.get();
        let mut nxt = hot.snd_nxt.get();
        if ack > una {
            if nxt < ack {
                nxt = ack;
                hot.snd_nxt.set(ack);
            }
            self.advance(flow, segment, state, una, ack);
        }
        if u32::from(segment.sack) | state & hot_flags::DISORDER != 0 {
            self.disordered(flow, segment, packet, (una, ack), window == old_window);
            nxt = hot.snd_nxt.get();
        } else if ack == una
            && segment.payload_bytes == 0
            && segment.flags & flag::FIN == 0
            && window == old_window
        {
            self.heard(flow);
            self.duplicate(flow, una);
        }
        let private = &mut self.private[flow.id as usize];
        let newer = segment.seq.wrapping_sub(private.snd_wl1) as i32;
        if ack > una || newer > 0 || (newer == 0 && window > old_window) {
            private.snd_wl1 = segment.seq;
            if window != old_window {
                hot.snd_wnd.set(window);
                private.max_window = private.max_window.max(segment.window);
            }
        }
        let end = hot.snd_end.get();
        if nxt < end || private.has(bit::RESEND) || (nxt == end && state & hot_flags::FIN_QUEUED != 0) {
            self.schedule(flow);
        }
        true
    }

    /// RFC 5961 §5.2: an acknowledgement within the largest window the peer ever offered is merely old.
    #[cold]
    pub(crate) fn oldest_acceptable(&self, flow: Flow<'m>, una: u64) -> u64 {
        let largest = u64::from(self.private[flow.id as usize].max_window) << flow.scale().peer_shift();
        una.saturating_sub(largest)
    }

    /// The peer answered a probe, or sent one: the slow path, which sees positions only, is told.
    #[cold]
    pub(crate) fn heard(&mut self, flow: Flow<'m>) {
        if !flow.has(hot_flags::HEARD) {
            flow.set(hot_flags::HEARD);
        }
    }

    /// `una..ack` is acknowledged for the first time.
    #[inline]
    fn advance(&mut self, flow: Flow<'m>, segment: &Segment, state: u32, una: u64, ack: u64) {
        let hot = flow.hot;
        let acked = ack.wrapping_sub(una) as u32;
        hot.acked_bytes.set(hot.acked_bytes.get().wrapping_add(acked));
        if segment.flags & flag::ECE != 0 && state & hot_flags::ECN != 0 {
            self.congestion_echoed(flow, acked, ack);
        }
        let now = self.now_us as u32;
        let private = &mut self.private[flow.id as usize];
        if private.has(bit::TIMED) && (ack as u32).wrapping_sub(private.timed_end) as i32 >= 0 {
            private.bits &= !bit::TIMED;
            let rtt = now.wrapping_sub(private.timed_at_us);
            flow.set_rtt(rtt);
        }
        if state & (hot_flags::RECOVERY | hot_flags::DISORDER) != 0 {
            self.recovering(flow, ack, acked);
        }
        hot.snd_una.commit(ack);
        if state & (hot_flags::FIN_SENT | hot_flags::FIN_ACKED) == hot_flags::FIN_SENT
            && ack > hot.snd_end.get()
        {
            flow.set(hot_flags::FIN_ACKED);
            self.kernel.report(KernelEntry {
                op: to_slow::FIN_ACKED,
                flow: flow.id,
                ..KernelEntry::default()
            });
        }
        self.announce(flow);
    }

    /// ECE: counted for the slow path's congestion control, answered by CWR once per window.
    #[cold]
    fn congestion_echoed(&mut self, flow: Flow<'m>, acked: u32, ack: u64) {
        let hot = flow.hot;
        hot.ecn_bytes.set(hot.ecn_bytes.get().wrapping_add(acked));
        let private = &mut self.private[flow.id as usize];
        if (ack as u32).wrapping_sub(private.cwr_end) as i32 > 0 {
            private.cwr_end = hot.snd_max.get() as u32;
            private.bits |= bit::CWR_DUE;
        }
    }

    /// New data is acknowledged after duplicates, or during fast recovery (RFC 6582 §3.2 step 3), without a scoreboard.
    #[cold]
    fn recovering(&mut self, flow: Flow<'m>, ack: u64, acked: u32) {
        if flow.has(hot_flags::SCOREBOARD) {
            return;
        }
        let private = &mut self.private[flow.id as usize];
        if !flow.has(hot_flags::RECOVERY) {
            return flow.set_duplicates(0);
        }
        if (ack as u32).wrapping_sub(private.recover) as i32 >= 0 {
            flow.set_duplicates(0);
            return self.end_recovery(flow);
        }
        // Partial: the next segment is lost too. Deflate by what left the network, less one segment.
        private.bits |= bit::RESEND;
        let left = flow.duplicates().saturating_sub(acked / flow.mss()) + 1;
        flow.set_duplicates(left);
    }

    /// A duplicate acknowledgement (RFC 5681 §2), if something is outstanding.
    #[cold]
    pub(crate) fn duplicate(&mut self, flow: Flow<'m>, una: u64) {
        let hot = flow.hot;
        let max = hot.snd_max.get();
        if max == una {
            return;
        }
        let count = flow.duplicates() + 1;
        flow.set_duplicates(count);
        if flow.has(hot_flags::RECOVERY) || count < DUPLICATES {
            return;
        }
        let private = &mut self.private[flow.id as usize];
        // RFC 6582 §3.2 step 2: not for segments sent before the last recovery or timeout. A `recover`
        // farther ahead than anything can be in flight is an old one, seen around the wrap.
        let ahead = private.recover.wrapping_sub(una as u32);
        if count > DUPLICATES || (ahead != 0 && ahead <= BUFFER_BYTES_MAX + 1) {
            return;
        }
        private.bits |= bit::RESEND;
        self.begin_recovery(flow, una, max);
    }

    /// Fast recovery begins: the window is halved here and now; the slow path's controller follows.
    pub(crate) fn begin_recovery(&mut self, flow: Flow<'m>, una: u64, max: u64) {
        let hot = flow.hot;
        let private = &mut self.private[flow.id as usize];
        private.recover = max as u32;
        private.bits &= !(bit::TIMED | bit::WINDOW_DUE);
        flow.set(hot_flags::RECOVERY);
        flow.count_fast_retransmit();
        self.status.count(Counter::FastRetransmits);
        let cwnd = hot.cwnd_bytes.get();
        if cwnd != u32::MAX {
            let flight = max.saturating_sub(una).min(u64::from(cwnd)) as u32;
            hot.cwnd_bytes.set((flight / 2).max(2 * flow.mss()));
        }
    }

    /// Fast recovery is over: the window that the slow path gave meanwhile holds.
    pub(crate) fn end_recovery(&mut self, flow: Flow<'m>) {
        flow.clear(hot_flags::RECOVERY);
        let private = &mut self.private[flow.id as usize];
        if private.has(bit::WINDOW_DUE) {
            private.bits &= !bit::WINDOW_DUE;
            if let Some(cold) = self.tables.cold.get(flow.id as usize) {
                flow.hot.cwnd_bytes.set(cold.cwnd_bytes.get());
            }
        }
    }
}
