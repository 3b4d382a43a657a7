// SPDX-License-Identifier: MIT OR Apache-2.0
//! The transmit scheduler: which flow sends next, how much, and the segment itself.

use crate::{
    core::Core,
    flow::Flow,
    header,
    pacing::CREDIT_NS,
    parse::flag,
    path_probe::Wanted,
    port::{Packet, Port, Steer},
    private::{bit, hot_bit},
    word::Word,
};
use abi::{
    core_status::Counter,
    flow::{hot_flags, owner_application, owner_context},
    kernel_ring::{to_slow, KernelEntry},
};

/// Segments of one flow before the next flow's turn.
const QUANTUM: usize = 4;
/// ECN-capable transport (RFC 3168 §5), set on new data only.
const ECT0: u8 = 2;

/// Flags of a flow whose segments take more than the hot path does.
const UNUSUAL: u32 = hot_flags::SCOREBOARD | hot_bit::DRESSED;

/// What to send next for a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    position: u64,
    bytes: usize,
    /// See [`plan`].
    bits: u32,
}

/// Bits of [`Plan::bits`]; one word, so that a plan stays in registers.
mod plan {
    use crate::parse::flag;
    /// The end of the stream goes along.
    pub(super) const FIN: u32 = flag::FIN as u32;
    /// Its last byte is the last one written.
    pub(super) const PUSH: u32 = flag::PSH as u32;
    /// The bits that are TCP flags, too.
    pub(super) const FLAGS: u32 = FIN | PUSH;
    /// A retransmission beside the stream's own progress.
    pub(super) const RESEND: u32 = 1 << 8;
    /// The flow has a scoreboard, or its segments get more than the usual header.
    pub(super) const UNUSUAL: u32 = 1 << 9;
    /// Not a full segment.
    pub(super) const SMALL: u32 = 1 << 10;
    /// Nothing more is to be sent after it.
    pub(super) const LAST: u32 = 1 << 11;
}

impl Plan {
    #[inline(always)]
    fn has(self, bit: u32) -> bool {
        self.bits & bit != 0
    }
}

/// `bit` if `condition`.
#[inline(always)]
fn bit_if(bit: u32, condition: bool) -> u32 {
    if condition {
        bit
    } else {
        0
    }
}

/// What becomes of a flow after its turn.
enum Next {
    /// Nothing to send until something happens.
    Done,
    /// More to send.
    Again,
    /// More to send at this time, µs.
    At(u64),
}

impl<'m, P: Port, S: Steer<P::Packet>> Core<'m, P, S> {
    /// Puts a flow in the scheduler, unless it is there or stopped.
    #[inline]
    pub(crate) fn schedule(&mut self, flow: Flow<'m>) {
        let private = &mut self.private[flow.id as usize];
        if private.bits & (bit::IN_READY | bit::IN_WHEEL | bit::STOPPED) == 0 {
            private.bits |= bit::IN_READY;
            self.ready.push(flow.id);
        }
    }

    /// There is something to send: schedules the flow, and tells the slow path once, which then
    /// samples the flow until it has nothing outstanding (also if the window or the rate is zero).
    #[inline]
    pub(crate) fn activate(&mut self, flow: Flow<'m>) {
        self.report_active(flow);
        self.schedule(flow);
    }

    /// Tells the slow path that the flow has something to send, unless it knows.
    #[inline(always)]
    pub(crate) fn report_active(&mut self, flow: Flow<'m>) {
        let state = flow.hot.flags.get();
        if state & hot_flags::ACTIVE == 0 {
            flow.hot.flags.set(state | hot_flags::ACTIVE);
            self.kernel.report(KernelEntry { op: to_slow::ACTIVE, flow: flow.id, ..KernelEntry::default() });
        }
    }

    /// Lets the flows in the scheduler send, each in turn, up to the poll's budget.
    pub(crate) fn transmit_ready(&mut self) {
        if !self.wheel.is_empty() {
            let ready = &mut self.ready;
            self.wheel.advance(self.now_us, &mut self.private, |flow, private| {
                private.bits = private.bits & !bit::IN_WHEEL | bit::IN_READY;
                ready.push(flow);
            });
        }
        let mut budget = 2 * self.config.batch;
        for _ in 0..self.ready.len() {
            if budget == 0 || !self.has_tx_room() {
                return;
            }
            if let Some(hot) = self.ready.nth(2).and_then(|id| self.tables.hot.get(id as usize)) {
                P::prefetch(&hot.snd_end);
            }
            let Some(id) = self.ready.pop() else { return };
            let private = &mut self.private[id as usize];
            private.bits &= !bit::IN_READY;
            if !private.has(bit::OURS) {
                continue;
            }
            let Some(hot) = self.tables.hot.get(id as usize) else {
                continue;
            };
            let flow = Flow { id, hot };
            let next = self.transmit_flow(flow, &mut budget);
            self.reschedule(flow, next);
        }
    }

    /// The application has written. A lone small segment leaves at once if nobody waits for a turn; everything
    /// else takes its turn.
    #[inline(always)]
    pub(crate) fn transmit_written(&mut self, flow: Flow<'m>, end: u64) {
        let lone = end.wrapping_sub(flow.hot.snd_nxt.get()) <= u64::from(flow.mss());
        let queued = bit::IN_WHEEL | bit::STOPPED;
        if !lone || !self.ready.is_empty() || self.private[flow.id as usize].has(queued) {
            return self.schedule(flow);
        }
        let next = self.transmit_flow(flow, &mut 1);
        self.reschedule(flow, next);
    }

    #[inline(always)]
    fn reschedule(&mut self, flow: Flow<'m>, next: Next) {
        match next {
            Next::Done => {}
            Next::Again => self.schedule(flow),
            Next::At(at_us) => {
                self.private[flow.id as usize].bits |= bit::IN_WHEEL;
                self.wheel.insert(&mut self.private, flow.id, at_us);
            }
        }
    }

    /// One flow's turn.
    #[inline(always)]
    fn transmit_flow(&mut self, flow: Flow<'m>, budget: &mut usize) -> Next {
        for _ in 0..QUANTUM {
            let private = &self.private[flow.id as usize];
            let (bits, byte_time, next_send_ns) = (private.bits, private.byte_time, private.next_send_ns);
            if bits & bit::STOPPED != 0 {
                return Next::Done;
            }
            let Some(plan) = self.plan(flow, bits) else {
                return Next::Done;
            };
            if byte_time != 0 && next_send_ns > self.now_us.wrapping_mul(1000) {
                return Next::At(next_send_ns.div_ceil(1000));
            }
            if *budget == 0 || !self.has_tx_room() {
                return Next::Again;
            }
            let Some(packet) = self.allocate() else {
                return Next::Again;
            };
            *budget = budget.wrapping_sub(1);
            if !self.send_segment(flow, plan, packet) || plan.has(plan::LAST) {
                return Next::Done;
            }
        }
        Next::Again
    }

    /// The next segment that window, congestion window and the rules against small segments allow. `bits` are the
    /// flow's private bits.
    #[inline(always)]
    fn plan(&mut self, flow: Flow<'m>, bits: u32) -> Option<Plan> {
        let hot = flow.hot;
        if bits & bit::RESEND != 0 {
            if let Some(plan) = self.plan_first(flow) {
                return plan;
            }
        }
        let state = hot.flags.get();
        let (una, nxt, end) = (hot.snd_una.get(), hot.snd_nxt.get(), hot.snd_end.get());
        let mss = u64::from(flow.scale().mss());
        let mut window = u64::from(hot.cwnd_bytes.get());
        if state & hot_flags::DISORDER != 0 {
            window = nxt.saturating_sub(una).wrapping_add(self.disorder_room(flow));
        }
        let room = una.wrapping_add(window.min(u64::from(hot.snd_wnd.get()))).saturating_sub(nxt);
        let available = end.saturating_sub(nxt);
        let bytes = available.min(room).min(mss);
        let all = bytes == available;
        let fin_queued = state & hot_flags::FIN_QUEUED != 0;
        let fin = fin_queued && all && nxt <= end;
        let small = bytes < mss;
        if bytes == 0 {
            // A FIN alone waits for the window like data, unless it is all there is: then it probes the window.
            if !fin || (room == 0 && nxt != una) {
                return None;
            }
        } else if small
            && !fin
            && (nxt != una || bits & bit::HELD != 0)
            && self.holds_back(flow, una, nxt, all)
        {
            return None;
        }
        Some(Plan {
            position: nxt,
            bytes: bytes as usize,
            bits: bit_if(plan::FIN, fin)
                | bit_if(plan::UNUSUAL, state & UNUSUAL != 0)
                | bit_if(plan::SMALL, small)
                | bit_if(plan::PUSH, all && bytes > 0)
                | bit_if(plan::LAST, all && fin == fin_queued),
        })
    }

    /// True if a small segment must wait for what is in flight: silly window avoidance (RFC 9293 §3.8.6.2.1),
    /// Nagle (§3.7.4) as Minshall amended it; or for what the application will write soon.
    fn holds_back(&self, flow: Flow<'m>, una: u64, nxt: u64, all: bool) -> bool {
        let private = &self.private[flow.id as usize];
        if private.has(bit::URGENT) || flow.has(hot_bit::URGENT_MODE) {
            return false;
        }
        if private.has(bit::HELD) {
            // What waits for more is the end. Where the peer's window has no room for a full segment (its buffer may be
            // smaller than one), more would not help.
            return all || nxt != una;
        }
        let small_in_flight = private.small_end.wrapping_sub(una as u32) as i32 > 0;
        !all || (!private.has(bit::NODELAY) && small_in_flight && nxt == flow.hot.snd_max.get())
    }

    /// What goes before what is new: a probe of the path, or what is to be sent again. `None`: neither.
    #[cold]
    fn plan_first(&mut self, flow: Flow<'m>) -> Option<Option<Plan>> {
        let bytes = match self.path_probe_wanted(flow) {
            Wanted::Soon => return Some(None),
            Wanted::Now(bytes) => bytes as usize,
            Wanted::No => {
                let left = self.private[flow.id as usize].has(bit::RESEND);
                return if left { self.plan_resend(flow).map(Some) } else { None };
            }
        };
        Some(Some(Plan { position: flow.hot.snd_nxt.get(), bytes, bits: plan::UNUSUAL }))
    }

    /// What is lost first, or else the first unacknowledged segment, once more. It was within the windows when it was
    /// sent first.
    #[cold]
    fn plan_resend(&mut self, flow: Flow<'m>) -> Option<Plan> {
        let hot = flow.hot;
        let (una, end, max) = (hot.snd_una.get(), hot.snd_end.get(), hot.snd_max.get());
        if max <= una {
            self.private[flow.id as usize].bits &= !bit::RESEND;
            return None;
        }
        let disorder = flow.has(hot_flags::SCOREBOARD);
        let (from, to) = if disorder { self.next_lost(flow)? } else { (una, max) };
        let bytes = to.min(end).saturating_sub(from).min(u64::from(flow.mss()));
        let push = bytes > 0 && from + bytes == end;
        let fin = flow.has(hot_flags::FIN_SENT) && from + bytes == end && to > end;
        Some(Plan {
            position: from,
            bytes: bytes as usize,
            bits: plan::RESEND
                | bit_if(plan::FIN, fin)
                | bit_if(plan::UNUSUAL, flow.has(UNUSUAL))
                | bit_if(plan::PUSH, push),
        })
    }

    /// Builds and queues a planned segment. False: its bytes or its next hop are not there.
    #[inline(always)]
    fn send_segment(&mut self, flow: Flow<'m>, plan: Plan, mut packet: P::Packet) -> bool {
        let hot = flow.hot;
        let max = hot.snd_max.get();
        let new = plan.position >= max;
        let mut flags = (plan.bits & plan::FLAGS) as u8;
        let mut ecn = 0;
        if hot.flags.get() & hot_flags::ECN != 0 && new && plan.bytes > 0 {
            ecn = ECT0;
            if self.private[flow.id as usize].has(bit::CWR_DUE) {
                flags |= flag::CWR;
            }
        }
        let Some(offset) = self.write_headers(flow, &mut packet, plan.position, flags, plan.bytes, ecn)
        else {
            return false;
        };
        if plan.bytes > 0 && !self.load(flow, plan, &mut packet, offset) {
            return false;
        }
        self.sent(flow, plan, max, offset);
        if plan.has(plan::UNUSUAL) {
            self.sent_unusually(flow, plan, packet.data_mut());
        }
        self.emit_segment(packet);
        true
    }

    /// Copies the payload into the frame.
    #[inline(always)]
    fn load(&mut self, flow: Flow<'m>, plan: Plan, packet: &mut P::Packet, offset: usize) -> bool {
        let owner = flow.hot.owner.get();
        let application =
            self.applications.get(usize::from(owner_application(owner))).and_then(Option::as_ref);
        let record = application.and_then(|a| a.record(flow.hot.buffers.get()));
        if let (Some(application), Some(record)) = (application, record) {
            if let Some(payload) = packet.data_mut().get_mut(offset..) {
                if application.read(record, plan.position, payload) {
                    return true;
                }
            }
        }
        // Announced, but the map does not say where it is.
        self.status.count(Counter::RefusedEntries);
        self.kernel.hint(KernelEntry {
            op: to_slow::FAULT,
            flow: flow.id,
            value: owner_context(owner).into(),
            ..KernelEntry::default()
        });
        false
    }

    /// Book-keeping of a segment that is about to leave. `snd_max` is stored before the port gets the frame,
    /// so that a restarted fast path knows of everything that may be acknowledged.
    #[inline(always)]
    fn sent(&mut self, flow: Flow<'m>, plan: Plan, max: u64, offset: usize) {
        let hot = flow.hot;
        let end = plan.position.wrapping_add(plan.bytes as u64);
        let next = end.wrapping_add(u64::from(plan.has(plan::FIN)));
        let now = self.now_us;
        let private = &mut self.private[flow.id as usize];
        let mut bits = private.bits & !bit::URGENT;
        if plan.has(plan::RESEND) {
            bits &= !(bit::RESEND | bit::TIMED);
        } else {
            hot.snd_nxt.set(next);
        }
        if next > max {
            hot.snd_max.set(next);
        }
        if plan.position >= max {
            bits &= !bit::CWR_DUE;
            if bits & bit::TIMED == 0 {
                bits |= bit::TIMED;
                private.timed_end = next as u32;
                private.timed_at_us = now as u32;
            }
        }
        if plan.has(plan::SMALL) {
            private.small_end = end as u32;
        }
        private.bits = bits;
        if private.byte_time != 0 {
            // What the sender missed is made up for by at most the credit.
            let from = private.next_send_ns.max(now.wrapping_mul(1000).saturating_sub(CREDIT_NS));
            let frame = (plan.bytes as u64).wrapping_add(offset as u64);
            private.next_send_ns = from.wrapping_add(frame.wrapping_mul(u64::from(private.byte_time)) >> 10);
        }
        if plan.has(plan::FIN) {
            flow.set(hot_flags::FIN_SENT);
        }
        self.status.add(Counter::TxPayloadBytes, plan.bytes as u64);
    }

    /// The rest of the work on a segment of a flow with one of the [`UNUSUAL`] flags.
    #[cold]
    fn sent_unusually(&mut self, flow: Flow<'m>, plan: Plan, frame: &mut [u8]) {
        if flow.has(hot_flags::SCOREBOARD) {
            let next = plan.position + plan.bytes as u64 + u64::from(plan.has(plan::FIN));
            self.sent_in_disorder(flow, plan.position, next, plan.has(plan::RESEND));
        }
        if plan.bytes > flow.mss() as usize {
            self.path_probe_sent(flow, plan.position, plan.position + plan.bytes as u64);
        }
        self.dress(flow, plan.position, frame);
    }

    /// Adds to a finished header what few flows have.
    #[cold]
    pub(crate) fn dress(&mut self, flow: Flow<'m>, position: u64, frame: &mut [u8]) {
        if flow.has(hot_bit::URGENT_MODE) {
            self.mark_urgent(flow, position, frame);
        }
        if flow.has(hot_bit::SERVICE) {
            if let Some(cold) = self.tables.cold.get(flow.id as usize) {
                header::set_service(frame, cold.service.get());
            }
        }
    }
}
