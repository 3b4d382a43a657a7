// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the slow path asks for ([`abi::kernel_ring::to_fast`]).

use crate::{
    core::Core,
    flow::Flow,
    kernel::Operation,
    lookup::flow_hash,
    port::{Packet, Port, RxChecksum, Steer},
    private::{bit, hot_bit, Private},
    receive::TS_RECENT_SHIFT,
    word::Word,
};
use abi::{
    core_status::Counter,
    flow::{control_flags, hot_flags, owner_application, ColdFlow, NONE},
    kernel_ring::{to_fast, to_slow, KernelEntry},
    limits::FRAME_OVERHEAD_BYTES,
    pool::BUFFER_BYTES_MAX,
};

/// MAX.SND.WND at least: an earlier process may have seen a larger window than the present one.
const WINDOW_FLOOR_BYTES: u32 = 0xffff;
/// State bits that make no sense in a flow that is just taken over.
const TRANSIENT: u32 = hot_flags::SCHEDULED
    | hot_flags::EVENT_PENDING
    | hot_flags::RECOVERY
    | hot_flags::DISORDER
    | hot_flags::SCOREBOARD
    | hot_flags::PATH_PROBE
    | hot_flags::ACK_PENDING
    | hot_bit::ALL;

impl<'m, P: Port, S: Steer<P::Packet>> Core<'m, P, S> {
    /// Carries out operations of the slow path.
    pub(crate) fn poll_kernel(&mut self) {
        let mut taken = 0;
        while taken < self.config.kernel_entries {
            let Some(operation) = self.kernel.next() else {
                break;
            };
            taken += 1;
            self.operation(&operation);
        }
        if taken > 0 {
            self.work.entries += taken as u32;
            self.kernel.commit();
        }
    }

    fn operation(&mut self, operation: &Operation) {
        let entry = operation.entry;
        match entry.op {
            to_fast::INSTALL => return self.install(entry.flow),
            to_fast::REMOVE => return self.remove(entry.flow),
            to_fast::TRANSMIT => return self.transmit_frame(operation),
            to_fast::INJECT => return self.inject(operation),
            to_fast::SYN_DATA => return self.take_syn_data(operation),
            _ => {}
        }
        let Some(flow) = self.ours(entry.flow) else {
            return;
        };
        match entry.op {
            to_fast::UPDATE => self.update(flow),
            to_fast::RETRANSMIT => self.retransmit(flow, entry.value),
            to_fast::PROBE => self.probe(flow),
            to_fast::FINISH => self.queue_fin(flow),
            to_fast::ACKNOWLEDGE => self.acknowledge_now(flow, None),
            to_fast::IDLE => self.idle(flow),
            to_fast::TAIL_PROBE => self.tail_probe(flow),
            to_fast::PROBE_PATH => self.ask_path_probe(flow, entry.value),
            _ => {}
        }
    }

    /// The flow, if it is installed on this core.
    #[inline]
    pub(crate) fn ours(&self, id: u32) -> Option<Flow<'m>> {
        let ours = self.private.get(id as usize)?.has(bit::OURS);
        let hot = self.tables.hot.get(id as usize)?;
        ours.then_some(Flow { id, hot })
    }

    fn install(&mut self, id: u32) {
        let hot = self.tables.hot.get(id as usize);
        let (Some(hot), Some(cold)) = (hot, self.tables.cold.get(id as usize)) else {
            return;
        };
        if self.private[id as usize].has(bit::OURS) {
            // Said twice: entries are idempotent.
            return;
        }
        self.take_over(Flow { id, hot }, cold);
    }

    /// Publishes a flow in this core's table and announces it. Also used at attach.
    pub(crate) fn take_over(&mut self, flow: Flow<'m>, cold: &'m ColdFlow) {
        let hot = flow.hot;
        let owes_ack = flow.has(hot_flags::ACK_PENDING);
        hot.flags.set(hot.flags.get() & !TRANSIENT | hot_flags::INSTALLED);
        if flow.has(hot_flags::SYN_RECEIVED) {
            flow.set(hot_flags::DISORDER);
        }
        hot.recovery.set(NONE);
        self.urgent.forget(flow.id);
        self.path_probes.forget(flow.id);
        let una = hot.snd_una.get() as u32;
        if self.twice.0 == flow.id {
            // What the slot's last flow received twice is no news to the peer of this one.
            self.twice.0 = NONE;
        }
        // The slot's last flow may still stand in queues, and in the wheel with others behind it.
        let Private { bits, next, .. } = self.private[flow.id as usize];
        self.private[flow.id as usize] = Private {
            bits: bits & bit::QUEUES | bit::OURS,
            next,
            ts_offset: cold.timestamp_offset.get(),
            last_ack: hot.rcv_nxt.get() as u32,
            snd_wl1: (hot.rcv_nxt.get() as u32).wrapping_sub(1),
            ts_recent_at: (self.now_us >> TS_RECENT_SHIFT) as u16,
            max_window: (hot.snd_wnd.get().max(WINDOW_FLOOR_BYTES) >> flow.scale().peer_shift()) as u16,
            challenge_at_us: (self.now_us as u32).wrapping_sub(u32::MAX / 2),
            small_end: una,
            recover: una,
            cwr_end: una.wrapping_sub(1),
            ..Private::EMPTY
        };
        if flow.has(hot_flags::SYN_RECEIVED) {
            self.private[flow.id as usize].bits |= bit::UNANNOUNCED | bit::STOPPED;
        }
        self.read_cold(flow, cold);
        flow.follow_mss(cold.mss_bytes.get(), self.config.mtu_bytes);
        flow.bound_scale(self.config.mtu_bytes);
        repair(flow);
        if cold.control.get() & control_flags::DETACHED == 0 {
            let hash = flow_hash(self.config.hash_key, hot, cold);
            self.lookup.insert(hash, flow.id);
            self.shared.set_hint(hash, self.config.core);
        }
        self.announce(flow);
        if owes_ack {
            self.acknowledge_later(flow);
        }
        if hot.snd_max.get() > hot.snd_una.get() {
            // In flight when an earlier process ended: the answer tells what arrived.
            self.private[flow.id as usize].bits |= bit::RESEND;
        }
        if flow.has_work() {
            self.activate(flow);
        }
    }

    /// Copies what the slow path decides from the cold entry, but for the MSS.
    fn read_cold(&mut self, flow: Flow<'m>, cold: &ColdFlow) {
        let hot = flow.hot;
        let rate = cold.rate_kbps.get();
        hot.rate_kbps.set(rate);
        self.take_window(flow, cold.cwnd_bytes.get());
        hot.owner.set(cold.owner.get());
        hot.adjacency.set(cold.adjacency.get());
        hot.rcv_buffer_bytes.set(cold.rcv_buffer_bytes.get().min(BUFFER_BYTES_MAX));
        let control = cold.control.get();
        if control & control_flags::RECEIVE_CLOSED != 0 {
            flow.set(hot_flags::RECEIVE_CLOSED);
        }
        flow.clear(hot_bit::SERVICE);
        if cold.service.get() != 0 {
            flow.set(hot_bit::SERVICE);
        }
        let mtu_bytes = self.config.mtu_bytes;
        let private = &mut self.private[flow.id as usize];
        private.bits &= !bit::NODELAY;
        if control & control_flags::NODELAY != 0 {
            private.bits |= bit::NODELAY;
        }
        private.set_rate(rate);
        // A rate that rises ends a wait that was computed from the old one.
        let wait = (u64::from(private.byte_time) * u64::from(mtu_bytes + FRAME_OVERHEAD_BYTES)) >> 10;
        private.next_send_ns = private.next_send_ns.min(self.now_us.wrapping_mul(1000).wrapping_add(wait));
    }

    /// The controller's window. During fast recovery the smaller holds: the controller may not know of the loss yet.
    fn take_window(&mut self, flow: Flow<'m>, cwnd_bytes: u32) {
        let hot = flow.hot;
        if flow.has(hot_flags::RECOVERY) {
            self.private[flow.id as usize].bits |= bit::WINDOW_DUE;
            hot.cwnd_bytes.set(hot.cwnd_bytes.get().min(cwnd_bytes));
        } else {
            hot.cwnd_bytes.set(cwnd_bytes);
        }
    }

    fn update(&mut self, flow: Flow<'m>) {
        let Some(cold) = self.tables.cold.get(flow.id as usize) else {
            return;
        };
        let owner = flow.hot.owner.get();
        self.read_cold(flow, cold);
        if cold.control.get() & control_flags::DETACHED != 0 {
            self.forget_tuple(flow);
        }
        if flow.follow_mss(cold.mss_bytes.get(), self.config.mtu_bytes)
            && flow.hot.snd_max.get() > flow.hot.snd_una.get()
        {
            // RFC 1191 §6.4: what was too large is lost, and not by congestion.
            self.retransmit(flow, flow.hot.cwnd_bytes.get().into());
        }
        if owner != flow.hot.owner.get() {
            // An event parked at the old context does not hold up the new one's.
            self.private[flow.id as usize].bits &= !bit::PARKED;
            self.tell_urgent_again(flow);
            self.announce(flow);
        }
        if flow.has_work() {
            self.schedule(flow);
        }
    }

    /// No segment is for this flow any more.
    fn forget_tuple(&mut self, flow: Flow<'m>) {
        let (key, hot, cold) = (self.config.hash_key, self.tables.hot, self.tables.cold);
        let hash_of = |id: u32| match (hot.get(id as usize), cold.get(id as usize)) {
            (Some(hot), Some(cold)) => flow_hash(key, hot, cold),
            _ => 0,
        };
        let hash = hash_of(flow.id);
        self.lookup.remove(hash, flow.id, hash_of);
        // Its peer may not know yet.
        self.strangers.expect(hash);
    }

    fn remove(&mut self, id: u32) {
        if let Some(flow) = self.ours(id) {
            self.forget_tuple(flow);
            self.release_block(flow);
            let number = usize::from(owner_application(flow.hot.owner.get()));
            if let Some(Some(application)) = self.applications.get_mut(number) {
                if let Some(record) = application.record(flow.hot.buffers.get()) {
                    application.free_all(&self.shared, record);
                }
            }
            // Positions in queues stay; the entries are skipped when they are reached.
            self.private[id as usize].bits &= bit::QUEUES;
            self.urgent.forget(id);
            self.path_probes.forget(id);
            flow.hot.flags.set(0);
        }
        self.kernel.report(KernelEntry { op: to_slow::REMOVED, flow: id, ..KernelEntry::default() });
    }

    /// Retransmission timeout: everything from `snd_una` again (RFC 5681 §3.1, RFC 6582 §4); with a scoreboard only
    /// what the peer does not have.
    fn retransmit(&mut self, flow: Flow<'m>, window_bytes: u64) {
        let hot = flow.hot;
        let una = hot.snd_una.get();
        if hot.snd_max.get() <= una {
            return;
        }
        self.status.count(Counter::TimeoutRetransmits);
        self.drop_path_probe(flow);
        let before = (hot.cwnd_bytes.get(), hot.rate_kbps.get());
        self.update(flow);
        hot.cwnd_bytes.set(u32::try_from(window_bytes).unwrap_or(u32::MAX).max(flow.mss()));
        let again = hot.snd_nxt.get() < hot.snd_max.get();
        self.private[flow.id as usize].bits &= !(bit::TIMED | bit::RESEND | bit::WINDOW_DUE);
        if hot.snd_wnd.get() == 0 || !self.time_out(flow, before) {
            hot.snd_nxt.set(una);
            self.end_board(flow);
            flow.clear(hot_flags::RECOVERY);
            flow.set_duplicates(0);
            flow.set(hot_flags::DISORDER);
            let private = &mut self.private[flow.id as usize];
            if !again {
                private.bits |= bit::TIMED_OUT;
                private.timed_at_us = self.now_us as u32;
            }
        }
        // What was sent before still counts against the rate: a timeout may be shorter than a frame takes at it.
        let private = &mut self.private[flow.id as usize];
        private.recover = hot.snd_max.get() as u32;
        private.bits |= bit::URGENT;
        if hot.snd_wnd.get() == 0 {
            // The peer took its window back: ask for it.
            return self.probe(flow);
        }
        self.schedule(flow);
    }

    /// A segment just left of the window: the peer answers with an acknowledgement that carries its window.
    fn probe(&mut self, flow: Flow<'m>) {
        self.status.count(Counter::WindowProbes);
        flow.clear(hot_flags::HEARD);
        self.send_empty(flow, None, flow.hot.snd_una.get().wrapping_sub(1));
    }

    fn idle(&mut self, flow: Flow<'m>) {
        if flow.has_work() {
            flow.set(hot_flags::ACTIVE);
            self.kernel.report(KernelEntry { op: to_slow::ACTIVE, flow: flow.id, ..KernelEntry::default() });
        } else {
            flow.clear(hot_flags::ACTIVE);
        }
    }

    /// A new packet with the frame of an operation.
    pub(crate) fn frame(&mut self, operation: &Operation) -> Option<P::Packet> {
        let bytes = usize::try_from(operation.entry.value).ok()?;
        if bytes > self.kernel.slot_bytes() {
            self.status.count(Counter::Malformed);
            return None;
        }
        let mut packet = self.allocate()?;
        if bytes > packet.capacity() {
            self.status.count(Counter::Malformed);
            return None;
        }
        packet.set_len(bytes);
        self.kernel.read_frame(operation.slot, packet.data_mut()).then_some(packet)
    }

    fn transmit_frame(&mut self, operation: &Operation) {
        if let Some(packet) = self.frame(operation) {
            self.expect_answer(packet.data());
            self.emit(packet);
        }
        if let Some(flow) = self.ours(operation.entry.flow) {
            self.announced(flow);
        }
    }

    fn inject(&mut self, operation: &Operation) {
        if let Some(packet) = self.frame(operation) {
            self.receive_frame(packet, RxChecksum::Good);
        }
    }
}

/// Brings positions in order that an earlier process may have left half-way.
fn repair(flow: Flow<'_>) {
    let hot = flow.hot;
    let una = hot.snd_una.get();
    let top = hot.snd_end.get().wrapping_add(u64::from(flow.has(hot_flags::FIN_SENT)));
    hot.snd_max.set(hot.snd_max.get().clamp(una, top.max(una)));
    hot.snd_nxt.set(hot.snd_nxt.get().clamp(una, hot.snd_max.get()));
    flow.set_duplicates(0);
    let rcv_nxt = hot.rcv_nxt.get();
    if flow.advertised(rcv_nxt) > flow.buffer_edge().max(rcv_nxt) {
        hot.rcv_adv.set(flow.buffer_edge().max(rcv_nxt) as u32);
    }
}
