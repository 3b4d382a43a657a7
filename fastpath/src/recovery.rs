// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loss recovery of the sender, for flows that have a scoreboard: detection as RACK (RFC 8985) over SACK (RFC 2018),
//! proportional rate reduction (RFC 6937), undo of what was not justified (RFC 2883, 3522, 4015, 5682). Cold code
//! beside the hot path. A peer without SACK, or an empty pool of blocks, leaves a flow with NewReno (`acknowledge`).

use crate::{
    core::Core,
    flow::Flow,
    parse::{flag, Segment},
    port::{Packet, Port, Steer},
    private::bit,
    sack::Report,
    scoreboard::{Board, Delivered},
    word::Word,
};
use abi::{
    clock::timestamp_value,
    core_status::Counter,
    flow::{extend, hot_flags, NONE},
    kernel_ring::{to_slow, KernelEntry},
    recovery::RecoveryBlock,
};

/// Values of the low byte of [`RecoveryBlock::phase`], and bits beside them.
pub(crate) mod phase {
    /// Something is missing, nothing counts as lost.
    pub(crate) const DISORDER: u32 = 0;
    /// Fast recovery.
    pub(crate) const RECOVERY: u32 = 1;
    /// After a retransmission timeout.
    pub(crate) const TIMEOUT: u32 = 2;
    pub(crate) const MASK: u32 = 0xff;
    /// Something was sent again in this phase.
    pub(crate) const RESENT: u32 = 1 << 8;
    /// The block is kept although nothing is missing, for a DSACK that may come.
    pub(crate) const LINGERS: u32 = 1 << 9;
    /// Something was acknowledged since the timeout.
    pub(crate) const ANSWERED: u32 = 1 << 10;
    /// A tail loss probe is out.
    pub(crate) const PROBED: u32 = 1 << 11;
}

/// Bytes selectively acknowledged, in segments, beyond which a gap is a loss unless the path reorders (RFC 6675 §4).
const DUP_SEGMENTS: u64 = 2;
/// An RTT if none is known, µs.
const RTT_UNKNOWN_US: u32 = 1000;
/// A block is kept for late DSACKs for this many RTTs.
const LINGER_RTTS: u32 = 2;
/// Recoveries for which a widened reordering window is kept (RFC 8985 §6.2 step 4).
const PERSIST: u32 = 16;

impl<'m, P: Port, S: Steer<P::Packet>> Core<'m, P, S> {
    /// An acknowledgement with SACK, or of a flow in disorder: `una` was the oldest position before it.
    #[cold]
    #[inline(never)]
    pub(crate) fn disordered(
        &mut self,
        flow: Flow<'m>,
        segment: &Segment,
        packet: &P::Packet,
        (una, ack): (u64, u64),
        same_window: bool,
    ) {
        if flow.has(hot_flags::SYN_RECEIVED) {
            self.finish_handshake(flow);
            if ack == una {
                // It acknowledges our SYN, and repeats nothing.
                return;
            }
        }
        let max = flow.hot.snd_max.get();
        let options = packet.data().get(flow.plain_bytes()..usize::from(segment.payload_offset));
        let report = Report::read(options.unwrap_or(&[]), una, ack, max);
        if ack == una && segment.payload_bytes == 0 {
            self.heard(flow);
        }
        let wanted = flow.has(hot_flags::SCOREBOARD) || !report.blocks().is_empty();
        let block = if wanted && flow.has(hot_flags::SACK) { self.scoreboard(flow, una) } else { None };
        match block {
            Some(block) => self.report(flow, block, &report, una, ack),
            None => {
                if ack > una {
                    self.answered_without_scoreboard(flow, &report);
                } else if segment.payload_bytes == 0
                    && segment.flags & flag::FIN == 0
                    && (same_window || segment.sack)
                    && report.duplicate.is_none()
                {
                    // With SACK the window may differ (RFC 6675 §2): a receiver that buffers out of order changes it.
                    self.duplicate(flow, una);
                }
            }
        }
    }

    /// The flow's block with a scoreboard in it; `None` if there is no block to be had. `una`: where the scoreboard begins.
    fn scoreboard(&mut self, flow: Flow<'m>, una: u64) -> Option<&'m RecoveryBlock> {
        let block = self.block_or_new(flow)?;
        if flow.has(hot_flags::SCOREBOARD) {
            return Some(block);
        }
        let hot = flow.hot;
        let (nxt, max) = (hot.snd_nxt.get(), hot.snd_max.get());
        let sender =
            [&block.ranges_used, &block.allowance, &block.delivered, &block.sent, &block.undo_cwnd_bytes];
        sender.into_iter().for_each(|word| word.set(0));
        block.widened.set(una as u32);
        block.recover.set(max as u32);
        block.min_rtt_us.set(self.shortest_rtt(flow));
        block.flight.set((max.saturating_sub(una)) as u32);
        let mut now = phase::DISORDER;
        if flow.has(hot_flags::RECOVERY) {
            now = phase::RECOVERY;
            block.recover.set(self.private[flow.id as usize].recover);
        } else if nxt < max {
            // Going back after a timeout: what is behind is to be sent again.
            now = phase::TIMEOUT;
            let mut board = Board::empty(una);
            board.tile(nxt.max(una));
            board.lose_rest(max);
            board.store(block);
            hot.snd_nxt.set(max);
        }
        block.phase.set(now);
        flow.set_duplicates(0);
        flow.set(hot_flags::SCOREBOARD | hot_flags::DISORDER);
        self.private[flow.id as usize].bits &= !bit::RESEND;
        Some(block)
    }

    /// Ends the flow's scoreboard, if it has one.
    pub(crate) fn end_board(&mut self, flow: Flow<'m>) {
        if let Some(block) = self.block(flow).filter(|_| flow.has(hot_flags::SCOREBOARD)) {
            self.end_scoreboard(flow, block);
        }
    }

    /// Ends the scoreboard; the block goes back unless the receiving side uses it.
    pub(crate) fn end_scoreboard(&mut self, flow: Flow<'m>, block: &RecoveryBlock) {
        block.ranges_used.set(0);
        block.phase.set(0);
        flow.clear(hot_flags::SCOREBOARD | hot_flags::DISORDER | hot_flags::RECOVERY);
        self.private[flow.id as usize].bits &= !bit::RESEND;
        self.release_if_empty(flow, block);
    }

    fn smoothed_rtt(&self, flow: Flow<'m>) -> u32 {
        match self.tables.cold.get(flow.id as usize).map_or(0, |cold| cold.srtt_us.get()) {
            0 => RTT_UNKNOWN_US,
            srtt => srtt,
        }
    }

    fn shortest_rtt(&self, flow: Flow<'m>) -> u32 {
        match flow.hot.rtt_sample.get() & 0x00ff_ffff {
            0 => self.smoothed_rtt(flow),
            sample => sample.min(self.smoothed_rtt(flow)),
        }
    }

    /// What the acknowledgement says, into the scoreboard.
    fn report(&mut self, flow: Flow<'m>, block: &'m RecoveryBlock, report: &Report, una: u64, ack: u64) {
        let now = self.now_us as u32;
        if ack > una && self.private[flow.id as usize].has(bit::TIMED_OUT) {
            self.timeout_answered(flow);
        }
        let mut board = Board::load(block, una, flow.hot.snd_max.get());
        let shortest = block.min_rtt_us.get().min(self.shortest_rtt(flow));
        block.min_rtt_us.set(shortest);
        let mut delivered = Delivered::default();
        board.acknowledge(ack, &mut delivered, (now, shortest));
        for (start, end) in report.blocks() {
            board.sack(*start, *end, &mut delivered, (now, shortest));
        }
        if delivered.late || delivered.needless {
            self.private[flow.id as usize].bits |= bit::REORDERED;
        }
        self.take_duplicate(flow, block, report, ack);
        self.probe_answered(flow, block, report, ack);
        if is_spurious(block, &board, report, &delivered, ack > una) {
            self.undo(flow, block, &mut board, report);
        }
        let window = self.reordering_window(flow, block, &board);
        board.overtake(&delivered, now, window);
        self.settle(flow, block, board, delivered.bytes as u32);
    }

    /// Data was received twice (RFC 2883): what was sent again had not been lost.
    fn take_duplicate(&mut self, flow: Flow<'m>, block: &RecoveryBlock, report: &Report, ack: u64) {
        let Some((start, end)) = report.duplicate else {
            return;
        };
        if block.phase.get() & phase::RESENT == 0 {
            // Doubled by the network.
            return;
        }
        block.undo_bytes.set(block.undo_bytes.get().saturating_sub((end - start) as u32));
        let private = &mut self.private[flow.id as usize];
        private.bits |= bit::REORDERED;
        // RFC 8985 §6.2 step 4: wider by a quarter of an RTT, once per round.
        if (ack as u32).wrapping_sub(block.widened.get()) as i32 >= 0 {
            block.widened.set(flow.hot.snd_max.get() as u32);
            private.widen(PERSIST);
        }
    }

    /// How long what was overtaken may still arrive, µs (RFC 8985 §6.2 step 4).
    fn reordering_window(&self, flow: Flow<'m>, block: &RecoveryBlock, board: &Board) -> u32 {
        let private = &self.private[flow.id as usize];
        let sacked = board.sacked_bytes() > DUP_SEGMENTS * u64::from(flow.mss())
            || board.sacked_ranges() > DUP_SEGMENTS as usize;
        let recovers = block.phase.get() & phase::MASK != phase::DISORDER;
        if !private.has(bit::REORDERED) && (sacked || recovers) {
            return 0;
        }
        let quarters = (block.min_rtt_us.get() / 4).saturating_mul(private.reordering_quarters());
        quarters.min(self.smoothed_rtt(flow))
    }

    /// After the scoreboard changed or time passed: losses, phases, what may be sent, the timer.
    fn settle(&mut self, flow: Flow<'m>, block: &'m RecoveryBlock, mut board: Board, delivered: u32) {
        let now = self.now_us as u32;
        let una = flow.hot.snd_una.get();
        let max = flow.hot.snd_max.get();
        let at_once = self.reordering_window(flow, block, &board) == 0;
        let lost = board.detect(now, at_once);
        let current = block.phase.get() & phase::MASK;
        if current != phase::DISORDER && una >= extend(block.recover.get(), una) {
            self.finish(flow, block);
        }
        if lost > 0
            && block.phase.get() & phase::MASK == phase::DISORDER
            && !self.is_path_probe_lost(flow, &board)
        {
            self.begin(flow, block);
        }
        refill(flow, block, &board, delivered);
        let private = &mut self.private[flow.id as usize];
        private.bits &= !bit::RESEND;
        if board.lost_bytes() > 0 {
            private.bits |= bit::RESEND;
        }
        if !board.is_empty() {
            // What is behind a gap is acknowledged late: no measure of the RTT.
            private.bits &= !bit::TIMED;
        }
        board.store(block);
        let word = block.phase.get();
        let waits = word & phase::LINGERS != 0 && (block.linger_us.get().wrapping_sub(now) as i32) > 0;
        let quiet = board.is_empty() && word & phase::MASK == phase::DISORDER;
        if quiet && (!waits || una >= max && word & phase::RESENT == 0) {
            return self.end_scoreboard(flow, block);
        }
        let due = board.due_us(now).or(quiet.then(|| block.linger_us.get()));
        if let Some(due) = due {
            self.arm(flow, due);
        }
    }

    /// Data counts as lost: fast recovery (RFC 6675 §5). The window is halved at once; the slow path's controller,
    /// which owns it, follows when it samples the flow.
    fn begin(&mut self, flow: Flow<'m>, block: &RecoveryBlock) {
        let hot = flow.hot;
        let (una, max) = (hot.snd_una.get(), hot.snd_max.get());
        block.recover.set(max as u32);
        block.phase.set(phase::RECOVERY);
        block.undo_bytes.set(0);
        block.undo_cwnd_bytes.set(hot.cwnd_bytes.get());
        block.undo_rate_kbps.set(hot.rate_kbps.get());
        block.delivered.set(0);
        block.sent.set(0);
        block.flight.set(max.saturating_sub(una) as u32);
        self.begin_recovery(flow, una, max);
    }

    /// Everything sent when the phase began is acknowledged.
    fn finish(&mut self, flow: Flow<'m>, block: &RecoveryBlock) {
        self.end_recovery(flow);
        let word = block.phase.get();
        let mut after = phase::DISORDER;
        if word & phase::RESENT != 0 && block.undo_cwnd_bytes.get() != 0 && block.undo_bytes.get() != 0 {
            after |= phase::RESENT | phase::LINGERS | word & phase::MASK << 16;
            block.linger_us.set(self.linger_until(flow));
        }
        block.phase.set(after);
        let quarters = self.private[flow.id as usize].reordering_quarters();
        if quarters > 1 {
            self.private[flow.id as usize].persist_less();
        }
    }

    fn linger_until(&self, flow: Flow<'m>) -> u32 {
        (self.now_us as u32).wrapping_add(self.smoothed_rtt(flow).min(1_000_000) * LINGER_RTTS)
    }

    /// Takes back what a phase did to window and rate: nothing had been lost (RFC 4015, 5682). The slow path sees it in
    /// the counts of the flow, and restores its controller.
    fn undo(&mut self, flow: Flow<'m>, block: &RecoveryBlock, board: &mut Board, report: &Report) {
        let hot = flow.hot;
        let word = block.phase.get();
        let timeout = word & phase::MASK == phase::TIMEOUT || word >> 16 == phase::TIMEOUT;
        board.forgive();
        flow.clear(hot_flags::RECOVERY);
        let cwnd = hot.cwnd_bytes.get().max(block.undo_cwnd_bytes.get());
        hot.cwnd_bytes.set(cwnd);
        block.undo_cwnd_bytes.set(0);
        block.phase.set(phase::DISORDER);
        let private = &mut self.private[flow.id as usize];
        private.bits &= !bit::WINDOW_DUE;
        if timeout {
            let rate = block.undo_rate_kbps.get();
            hot.rate_kbps.set(rate);
            private.set_rate(rate);
            // RFC 4015 §3.3: the estimate learns of the delay that was too long for it.
            if let Some(echo) = report.echo {
                let sent = echo.wrapping_sub(private.ts_offset);
                let ticks = timestamp_value(self.now_us, 0).wrapping_sub(sent);
                flow.set_rtt(ticks.saturating_mul(1 << 10));
            }
            self.status.count(Counter::SpuriousTimeouts);
            flow.count_spurious_timeout();
        } else {
            private.bits |= bit::REORDERED;
            self.status.count(Counter::SpuriousRecoveries);
            flow.uncount_recovery();
        }
        // Asks for a sample now.
        self.kernel.report(KernelEntry { op: to_slow::ACTIVE, flow: flow.id, ..KernelEntry::default() });
    }

    /// Retransmission timeout of a flow with SACK: what the peer does not have is to be sent again, in order, as the
    /// window allows. False: no scoreboard to be had. `before`: window and rate before the timeout.
    pub(crate) fn time_out(&mut self, flow: Flow<'m>, before: (u32, u32)) -> bool {
        let hot = flow.hot;
        let (una, max) = (hot.snd_una.get(), hot.snd_max.get());
        if !flow.has(hot_flags::SACK) {
            return false;
        }
        let Some(block) = self.scoreboard(flow, una) else {
            return false;
        };
        let mut board = Board::load(block, una, max);
        let again =
            block.phase.get() & phase::MASK == phase::TIMEOUT && block.phase.get() & phase::RESENT != 0;
        if !again {
            block.undo_cwnd_bytes.set(before.0);
            block.undo_rate_kbps.set(before.1);
            block.undo_bytes.set(0);
            block.phase.set(phase::TIMEOUT);
        }
        block.recover.set(max as u32);
        flow.clear(hot_flags::RECOVERY);
        let reneged = board.is_reneged();
        board.lose_all(max, reneged);
        board.store(block);
        hot.snd_nxt.set(max);
        self.private[flow.id as usize].bits |= bit::RESEND | bit::TIMED_OUT;
        true
    }

    /// The first answer after a timeout: the slow path ends its back-off at once, not when its backed-off look is due.
    fn timeout_answered(&mut self, flow: Flow<'m>) {
        self.private[flow.id as usize].bits &= !bit::TIMED_OUT;
        self.kernel.report(KernelEntry { op: to_slow::ACTIVE, flow: flow.id, ..KernelEntry::default() });
    }

    /// A timeout of a flow without scoreboard was answered by an acknowledgement of something new.
    fn answered_without_scoreboard(&mut self, flow: Flow<'m>, report: &Report) {
        let private = &mut self.private[flow.id as usize];
        if !private.has(bit::TIMED_OUT) {
            return;
        }
        let resent =
            timestamp_value(u64::from(private.timed_at_us) | self.now_us & !0xffff_ffff, private.ts_offset);
        // Ticks of the upper half may be off by a wrap of the low word; then nothing is undone.
        if report.echo.is_some_and(|echo| (echo.wrapping_sub(resent) as i32) < 0) {
            // Eifel (RFC 3522): the first copy arrived. What follows it is in flight as before.
            flow.hot.snd_nxt.set(flow.hot.snd_max.get());
            self.status.count(Counter::SpuriousTimeouts);
            flow.count_spurious_timeout();
        }
        self.timeout_answered(flow);
    }

    /// Tail loss probe (RFC 8985 §7.3): the last segment once more. If it is all that is missing that repairs it; if not,
    /// the peer's answer tells what is.
    pub(crate) fn tail_probe(&mut self, flow: Flow<'m>) {
        let hot = flow.hot;
        let (una, max) = (hot.snd_una.get(), hot.snd_max.get());
        if max <= una || hot.snd_wnd.get() == 0 || !flow.has(hot_flags::SACK) || flow.has(hot_flags::RECOVERY)
        {
            return;
        }
        let Some(block) = self.scoreboard(flow, una) else {
            return;
        };
        let mut board = Board::load(block, una, max);
        let busy = block.phase.get() & (phase::MASK | phase::PROBED) != 0 || board.has_losses();
        let start = max.saturating_sub(u64::from(flow.mss())).max(una);
        if busy || !board.lose(start, max) {
            return;
        }
        block.phase.set(phase::PROBED);
        block.undo_cwnd_bytes.set(0);
        block.recover.set(max as u32);
        board.store(block);
        // At the pace, as everything that is sent again.
        let private = &mut self.private[flow.id as usize];
        private.bits = (private.bits | bit::RESEND) & !bit::TIMED;
        self.status.count(Counter::TailProbes);
        self.schedule(flow);
    }

    /// Was a tail loss probe what repaired a loss? Then the window is reduced as for any loss (RFC 8985 §7.4).
    fn probe_answered(&mut self, flow: Flow<'m>, block: &RecoveryBlock, report: &Report, ack: u64) {
        let word = block.phase.get();
        let end = extend(block.recover.get(), ack);
        if word & phase::PROBED == 0 || ack < end {
            return;
        }
        let first = report.echo.is_some_and(|echo| (echo.wrapping_sub(block.undo_tsval.get()) as i32) < 0);
        let unneeded = first || report.duplicate.is_some_and(|(_, high)| high == end);
        if !unneeded && ack == end {
            // Perhaps a DSACK follows.
            block.phase.set(word | phase::LINGERS);
            block.linger_us.set(self.linger_until(flow));
            return;
        }
        block.phase.set(word & !(phase::PROBED | phase::RESENT));
        if !unneeded {
            self.begin_recovery(flow, ack, flow.hot.snd_max.get());
            self.end_recovery(flow);
        }
    }

    /// Calls back when `due_us` has come.
    fn arm(&mut self, flow: Flow<'m>, due_us: u32) {
        let private = &mut self.private[flow.id as usize];
        if private.has(bit::IN_TIMERS) {
            return;
        }
        private.bits |= bit::IN_TIMERS;
        let wait = due_us.wrapping_sub(self.now_us as u32) as i32;
        self.timers.push(std::cmp::Reverse((self.now_us.wrapping_add(wait.max(1) as u64), flow.id)));
    }

    /// Looks at the flows whose reordering window is over.
    #[cold]
    pub(crate) fn run_timers(&mut self) {
        while let Some(std::cmp::Reverse((at, id))) = self.timers.peek().copied() {
            if at > self.now_us {
                return;
            }
            self.timers.pop();
            if let Some(private) = self.private.get_mut(id as usize) {
                private.bits &= !bit::IN_TIMERS;
            }
            let Some(flow) = self.ours(id).filter(|flow| flow.has(hot_flags::SCOREBOARD)) else {
                continue;
            };
            let Some(block) = self.block(flow) else {
                continue;
            };
            let board = Board::load(block, flow.hot.snd_una.get(), flow.hot.snd_max.get());
            self.settle(flow, block, board, 0);
            if flow.has_work() {
                self.schedule(flow);
            }
        }
    }

    /// How far beyond `snd_nxt` the flow may send, from the window's point of view.
    pub(crate) fn disorder_room(&self, flow: Flow<'m>) -> u64 {
        let hot = flow.hot;
        let cwnd = u64::from(hot.cwnd_bytes.get());
        let mss = u64::from(flow.mss());
        let (una, nxt) = (hot.snd_una.get(), hot.snd_nxt.get());
        let block = if flow.has(hot_flags::SCOREBOARD) { self.block(flow) } else { None };
        let Some(block) = block else {
            // Each duplicate acknowledgement says that a segment has left the network (RFC 5681 §3.2, RFC 3042).
            let window = cwnd.wrapping_add(u64::from(flow.duplicates()) * mss);
            return window.saturating_sub(nxt.saturating_sub(una));
        };
        if block.phase.get() & phase::MASK == phase::RECOVERY {
            return match block.allowance.get() {
                0 => 0,
                allowance => u64::from(allowance).max(mss),
            };
        }
        cwnd.saturating_sub(Board::load(block, una, hot.snd_max.get()).pipe(nxt))
    }

    /// What is to be sent again next, if the window allows it: the first lost range, up to a full segment.
    pub(crate) fn next_lost(&mut self, flow: Flow<'m>) -> Option<(u64, u64)> {
        let hot = flow.hot;
        let una = hot.snd_una.get();
        let block = self.block(flow)?;
        let board = Board::load(block, una, hot.snd_max.get());
        let Some((start, end)) = board.first_lost() else {
            self.private[flow.id as usize].bits &= !bit::RESEND;
            return None;
        };
        let end = end.min(start + u64::from(flow.mss()));
        (self.disorder_room(flow) >= end - start || board.pipe(hot.snd_nxt.get()) == 0)
            .then_some((start, end))
    }

    /// A segment of a flow with a scoreboard leaves.
    #[cold]
    #[inline(never)]
    pub(crate) fn sent_in_disorder(&mut self, flow: Flow<'m>, start: u64, end: u64, resend: bool) {
        let Some(block) = self.block(flow).filter(|_| flow.has(hot_flags::SCOREBOARD)) else {
            return;
        };
        let bytes = (end - start) as u32;
        block.allowance.set(block.allowance.get().saturating_sub(bytes));
        block.sent.set(block.sent.get().wrapping_add(bytes));
        if !resend {
            return;
        }
        let hot = flow.hot;
        let (una, max) = (hot.snd_una.get(), hot.snd_max.get());
        let mut board = Board::load(block, una, max);
        board.resend(start, end, self.now_us as u32, max);
        board.store(block);
        let word = block.phase.get();
        if word & phase::RESENT == 0 {
            block.phase.set(word | phase::RESENT);
            block.undo_bytes.set(0);
            let offset = self.private[flow.id as usize].ts_offset;
            block.undo_tsval.set(timestamp_value(self.now_us, offset));
        }
        block.undo_bytes.set(block.undo_bytes.get().wrapping_add(bytes));
        let private = &mut self.private[flow.id as usize];
        if board.lost_bytes() > 0 {
            private.bits |= bit::RESEND;
        }
        self.status.count(Counter::Retransmits);
    }

    /// The flow's recovery block.
    pub(crate) fn block(&self, flow: Flow<'m>) -> Option<&'m RecoveryBlock> {
        match flow.hot.recovery.get() {
            NONE => None,
            index => self.tables.recovery.get(index as usize),
        }
    }
}

/// True if the phase was not justified: the first copies arrived.
fn is_spurious(
    block: &RecoveryBlock,
    board: &Board,
    report: &Report,
    delivered: &Delivered,
    advanced: bool,
) -> bool {
    let word = block.phase.get();
    if block.undo_cwnd_bytes.get() == 0 || word & phase::RESENT == 0 {
        return false;
    }
    let timeout = word & phase::MASK == phase::TIMEOUT;
    if report.duplicate.is_some() && block.undo_bytes.get() == 0 && !board.has_losses() {
        return true;
    }
    if word & phase::MASK == phase::DISORDER {
        return false;
    }
    match report.echo {
        // Eifel (RFC 3522): the acknowledgement answers something sent before the first retransmission.
        Some(echo) if advanced => {
            let first = (echo.wrapping_sub(block.undo_tsval.get()) as i32) < 0;
            if timeout && !first {
                // Justified; not to be asked again.
                block.undo_cwnd_bytes.set(0);
            }
            first && (timeout || !board.has_losses())
        }
        Some(_) => false,
        // F-RTO (RFC 5682 §3): the second acknowledgement covers data that was not sent again.
        None => {
            let second = word & phase::ANSWERED != 0;
            if advanced {
                block.phase.set(word | phase::ANSWERED);
            }
            timeout && second && delivered.needless
        }
    }
}

/// What may be sent after an acknowledgement that delivered `delivered` bytes (RFC 6937 §3.1).
fn refill(flow: Flow<'_>, block: &RecoveryBlock, board: &Board, delivered: u32) {
    if block.phase.get() & phase::MASK != phase::RECOVERY {
        return;
    }
    let mss = u64::from(flow.mss());
    let total = block.delivered.get().saturating_add(delivered);
    block.delivered.set(total);
    let (total, sent) = (u64::from(total), u64::from(block.sent.get()));
    let threshold = u64::from(flow.hot.cwnd_bytes.get());
    let pipe = board.pipe(flow.hot.snd_nxt.get());
    let allowance = if pipe > threshold {
        let flight = u64::from(block.flight.get()).max(1);
        total.saturating_mul(threshold).div_ceil(flight).saturating_sub(sent)
    } else {
        let limit = total.saturating_sub(sent).max(u64::from(delivered)) + mss;
        limit.min(threshold - pipe)
    };
    // The first retransmission leaves at once.
    let allowance = if sent == 0 { allowance.max(mss) } else { allowance };
    block.allowance.set(u32::try_from(allowance).unwrap_or(u32::MAX));
}
