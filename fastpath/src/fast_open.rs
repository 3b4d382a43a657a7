// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fast open, passive side (RFC 7413 §4.2.2): a flow that is installed before the peer has acknowledged our SYN.

use crate::{
    core::Core,
    flow::Flow,
    kernel::Operation,
    parse::{parse, Segment, Verdict},
    port::{Packet, Port, RxChecksum, Steer},
    private::bit,
    receive::Arrival,
    word::Word,
};
use abi::{
    core_status::Counter,
    flow::{extend, hot_flags},
    kernel_ring::{to_slow, KernelEntry},
};

impl<'m, P: Port, S: Steer<P::Packet>> Core<'m, P, S> {
    /// Takes the data of the SYN that opened a flow. The slow path acknowledges what was taken with its SYN-ACK.
    #[cold]
    pub(crate) fn take_syn_data(&mut self, operation: &Operation) {
        let id = operation.entry.flow;
        if let (Some(flow), Some(packet)) = (self.ours(id), self.frame(operation)) {
            self.store_syn_data(flow, &packet);
        }
        self.kernel.report(KernelEntry { op: to_slow::SYN_DATA, flow: id, ..KernelEntry::default() });
    }

    fn store_syn_data(&mut self, flow: Flow<'m>, packet: &P::Packet) {
        let mut segment = Segment::default();
        if !matches!(parse(packet.data(), RxChecksum::Good, &mut segment), Verdict::Tcp | Verdict::Tcp6) {
            return;
        }
        let hot = flow.hot;
        let rcv_nxt = hot.rcv_nxt.get();
        // Said twice, or not of this flow: the positions tell.
        let next = extend(segment.seq.wrapping_add(1), rcv_nxt) == rcv_nxt;
        let room = flow.advertised(rcv_nxt).min(flow.map_edge()).saturating_sub(rcv_nxt);
        let bytes = u64::from(segment.payload_bytes).min(room);
        if !next || bytes == 0 || !flow.has(hot_flags::SYN_RECEIVED) {
            return;
        }
        let offset = usize::from(segment.payload_offset);
        let arrival = Arrival { start: rcv_nxt, offset, bytes: bytes as usize, fin: false, urgent: false };
        if !self.store(flow, arrival, packet) {
            return;
        }
        let end = rcv_nxt.wrapping_add(bytes);
        self.private[flow.id as usize].last_ack = end as u32;
        hot.rcv_nxt.commit(end);
        self.status.add(Counter::RxPayloadBytes, bytes);
        self.announce(flow);
    }

    /// Our SYN has left, or the peer has it: what the application has written may follow.
    #[cold]
    pub(crate) fn announced(&mut self, flow: Flow<'m>) {
        let private = &mut self.private[flow.id as usize];
        private.bits &= !bit::UNANNOUNCED;
        private.set_rate(flow.hot.rate_kbps.get());
        if flow.has_work() {
            self.schedule(flow);
        }
    }

    /// The peer has acknowledged our SYN: the slow path stops repeating it.
    #[cold]
    pub(crate) fn finish_handshake(&mut self, flow: Flow<'m>) {
        flow.clear(hot_flags::SYN_RECEIVED);
        flow.set_duplicates(flow.duplicates());
        self.announced(flow);
        self.kernel.report(KernelEntry {
            op: to_slow::HANDSHAKE_DONE,
            flow: flow.id,
            ..KernelEntry::default()
        });
    }
}
