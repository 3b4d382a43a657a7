// SPDX-License-Identifier: MIT OR Apache-2.0
//! A received segment of an installed flow: RFC 9293 §3.10.7.4 with RFC 5961, 7323 and 8257.

use crate::{
    core::Core,
    flow::Flow,
    parse::{flag, Segment, ECN_CE},
    port::{Packet, Port, Steer},
    word::Word,
};
use abi::{
    core_status::Counter,
    flow::{control_flags, extend, hot_flags, owner_application, NONE},
    kernel_ring::{reason, to_slow, KernelEntry},
};

/// Unacceptable segments without data get an answer this often, Linux's default of `tcp_invalid_ratelimit`:
/// longer than an RTT, so that two confused ends do not acknowledge each other for ever (RFC 5961 §7).
const CHALLENGE_INTERVAL_US: u32 = 500_000;
/// The same for a segment just left of the window: a probe or keepalive, which never answers anything.
const PROBE_INTERVAL_US: u32 = 20_000;
/// TS.Recent is outdated after 24 days (RFC 7323 §5.5), in units of 2^[`TS_RECENT_SHIFT`] µs.
const TS_RECENT_LIFE: u16 = ((24 * 86_400 * 1_000_000u64) >> TS_RECENT_SHIFT) as u16;
/// See `Private::ts_recent_at`.
pub(crate) const TS_RECENT_SHIFT: u32 = 30;
/// A pool that stays empty is reported this often.
const POOL_EMPTY_INTERVAL_US: u64 = 1000;

/// The part of a segment's data that is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Position of the first byte (or of the FIN).
    pub(crate) start: u64,
    /// Its offset in the frame.
    pub(crate) offset: usize,
    /// Bytes.
    pub(crate) bytes: usize,
    /// A FIN follows them.
    pub(crate) fin: bool,
    /// Acknowledge at once: the segment was not quite as expected.
    pub(crate) urgent: bool,
}

impl Arrival {
    /// All of a segment whose first byte is at `start`.
    fn of(segment: &Segment, start: u64) -> Self {
        Self {
            start,
            offset: usize::from(segment.payload_offset),
            bytes: usize::from(segment.payload_bytes),
            fin: segment.flags & flag::FIN != 0,
            urgent: false,
        }
    }
}

impl<'m, P: Port, S: Steer<P::Packet>> Core<'m, P, S> {
    /// Processes one segment. The packet is turned around into the acknowledgement if one leaves at once.
    ///
    /// Here is what most segments need: one that is exactly the next, with nothing that few have.
    #[inline(always)]
    pub(crate) fn receive(&mut self, flow: Flow<'m>, segment: &Segment, packet: P::Packet) {
        const USUAL: u8 = flag::SYN | flag::RST | flag::URG | flag::ACK | flag::FIN;
        let hot = flow.hot;
        self.status.count(Counter::RxSegments);
        let state = hot.flags.get();
        let rcv_nxt = hot.rcv_nxt.get();
        let bytes = usize::from(segment.payload_bytes);
        let next = rcv_nxt.wrapping_add(bytes as u64);
        let timestamps = segment.timestamps && state & hot_flags::TIMESTAMPS != 0;
        if segment.flags & USUAL != flag::ACK
            || segment.seq != rcv_nxt as u32
            || next > flow.advertised(rcv_nxt)
            || (timestamps && self.is_stale(flow, segment))
        {
            return self.receive_unexpected(flow, segment, packet);
        }
        if !self.acknowledged(flow, segment, state, &packet) {
            return self.refuse_acknowledgement(flow, packet);
        }
        if timestamps {
            self.update_recent(flow, segment);
        }
        if bytes == 0 {
            return;
        }
        if state & (hot_flags::RECEIVE_CLOSED | hot_flags::FIN_RECEIVED) != 0 || hot.recovery.get() != NONE {
            let arrival = Arrival::of(segment, rcv_nxt);
            return self.take_data(flow, segment, arrival, rcv_nxt, packet);
        }
        let echo = state & hot_flags::ECN != 0 && self.echo_congestion(flow, segment);
        if self.store_bytes(flow, rcv_nxt, usize::from(segment.payload_offset), bytes, &packet) {
            self.taken(flow, rcv_nxt, next, echo, packet);
        }
    }

    /// [`Self::receive`] of any segment.
    #[inline(never)]
    fn receive_unexpected(&mut self, flow: Flow<'m>, segment: &Segment, packet: P::Packet) {
        let hot = flow.hot;
        if segment.flags & (flag::SYN | flag::RST | flag::URG | flag::ACK) != flag::ACK {
            return self.receive_unusual(flow, segment, packet);
        }
        let state = hot.flags.get();
        let rcv_nxt = hot.rcv_nxt.get();
        let start = extend(segment.seq, rcv_nxt);
        let timestamps = segment.timestamps && state & hot_flags::TIMESTAMPS != 0;
        if timestamps && self.is_stale(flow, segment) {
            self.status.count(Counter::StaleTimestamp);
            return self.refuse(flow, segment, packet);
        }
        let mut arrival = Arrival::of(segment, start);
        let end = start.wrapping_add(arrival.bytes as u64).wrapping_add(u64::from(arrival.fin));
        if start != rcv_nxt || end > flow.advertised(rcv_nxt) {
            match trim(flow, rcv_nxt, arrival) {
                Some(trimmed) => {
                    if start < rcv_nxt {
                        self.twice = (flow.id, start, rcv_nxt);
                    }
                    arrival = trimmed;
                }
                None => {
                    if end <= rcv_nxt && arrival.bytes > 0 {
                        self.twice = (flow.id, start, end);
                    }
                    self.status.count(Counter::Unacceptable);
                    return self.refuse(flow, segment, packet);
                }
            }
        }
        if !self.acknowledged(flow, segment, state, &packet) {
            return self.refuse_acknowledgement(flow, packet);
        }
        if timestamps {
            self.update_recent(flow, segment);
        }
        if arrival.bytes > 0 || arrival.fin {
            self.take_data(flow, segment, arrival, rcv_nxt, packet);
        } else if arrival.urgent {
            self.acknowledge_now(flow, Some(packet));
        }
    }

    /// RFC 5961 §5: with data or without, a guess at the acknowledgement number gets few answers.
    #[cold]
    fn refuse_acknowledgement(&mut self, flow: Flow<'m>, packet: P::Packet) {
        self.status.count(Counter::Unacceptable);
        if self.may_challenge(flow, CHALLENGE_INTERVAL_US) {
            self.acknowledge_now(flow, Some(packet));
        }
    }

    /// [`Self::receive`] away from IPv4's hot path.
    #[inline(never)]
    pub(crate) fn receive_outlined(&mut self, flow: Flow<'m>, segment: &Segment, packet: P::Packet) {
        self.receive(flow, segment, packet);
    }

    /// A flag that the fast path leaves alone, or no ACK (dropped, RFC 9293 §3.10.7.4 fifth step).
    ///
    /// A RST outside the window is dropped (RFC 5961 §3.2); what can lead to a challenge ACK at most is handed
    /// over as often as one may leave, so that a flood of it costs little.
    #[cold]
    fn receive_unusual(&mut self, flow: Flow<'m>, segment: &Segment, packet: P::Packet) {
        if segment.flags & (flag::SYN | flag::RST | flag::ACK) == flag::ACK {
            return self.receive_urgent(flow, segment, packet);
        }
        let resets = segment.flags & flag::RST != 0;
        let rcv_nxt = flow.hot.rcv_nxt.get();
        let start = extend(segment.seq, rcv_nxt);
        // One before the next is the number of a FIN that was received (slow path, `judge_reset`).
        let exact = resets && (start == rcv_nxt || start.wrapping_add(1) == rcv_nxt);
        let inside = exact || (start > rcv_nxt && start < flow.advertised(rcv_nxt));
        let counts = if resets { inside } else { segment.flags & flag::SYN != 0 };
        if counts && (exact || self.may_challenge(flow, CHALLENGE_INTERVAL_US)) {
            self.kernel.packet(reason::FLAGS, flow.id, packet.data(), &self.status);
        } else {
            self.status.count(Counter::Unacceptable);
        }
    }

    /// True if the flow may answer one more unacceptable segment; counts it as answered.
    #[cold]
    fn may_challenge(&mut self, flow: Flow<'m>, interval_us: u32) -> bool {
        let now = self.now_us as u32;
        let private = &mut self.private[flow.id as usize];
        let allowed = now.wrapping_sub(private.challenge_at_us) >= interval_us;
        if allowed {
            private.challenge_at_us = now;
        }
        allowed
    }

    /// PAWS (RFC 7323 §5.3).
    pub(crate) fn is_stale_segment(&self, flow: Flow<'m>, segment: &Segment) -> bool {
        segment.timestamps && flow.has(hot_flags::TIMESTAMPS) && self.is_stale(flow, segment)
    }

    /// [`Self::is_stale_segment`] of a segment with timestamps.
    #[inline]
    fn is_stale(&self, flow: Flow<'m>, segment: &Segment) -> bool {
        if segment.ts_value.wrapping_sub(flow.hot.ts_recent.get()) as i32 >= 0 {
            return false;
        }
        let now = (self.now_us >> TS_RECENT_SHIFT) as u16;
        now.wrapping_sub(self.private[flow.id as usize].ts_recent_at) < TS_RECENT_LIFE
    }

    /// TS.Recent (RFC 7323 §4.3), from an acceptable segment with SEG.SEQ <= Last.ACK.sent.
    #[inline]
    fn update_recent(&mut self, flow: Flow<'m>, segment: &Segment) {
        let private = &mut self.private[flow.id as usize];
        if segment.seq.wrapping_sub(private.last_ack) as i32 <= 0 {
            private.ts_recent_at = (self.now_us >> TS_RECENT_SHIFT) as u16;
            flow.hot.ts_recent.set(segment.ts_value);
        }
    }

    /// Answers an unacceptable segment with an acknowledgement (RFC 9293 §3.10.7.4 first step).
    #[cold]
    pub(crate) fn refuse(&mut self, flow: Flow<'m>, segment: &Segment, packet: P::Packet) {
        if segment.payload_bytes != 0 || segment.flags & flag::FIN != 0 {
            // Data may be a retransmission whose acknowledgement was lost: always answered, and never an answer itself.
            // One answer serves a burst, unless each must name what came twice.
            if self.twice.0 == flow.id && flow.has(hot_flags::SACK) {
                return self.acknowledge_now(flow, Some(packet));
            }
            return self.acknowledge_after_burst(flow);
        }
        let probe = segment.seq.wrapping_add(1) == flow.hot.rcv_nxt.get() as u32;
        if probe {
            self.heard(flow);
        }
        let interval_us = if probe { PROBE_INTERVAL_US } else { CHALLENGE_INTERVAL_US };
        if self.may_challenge(flow, interval_us) {
            self.acknowledge_now(flow, Some(packet));
        }
    }

    /// Takes data and FIN, both already within the window.
    #[inline(never)]
    fn take_data(
        &mut self,
        flow: Flow<'m>,
        segment: &Segment,
        mut arrival: Arrival,
        rcv_nxt: u64,
        packet: P::Packet,
    ) {
        let hot = flow.hot;
        let state = hot.flags.get();
        if state & (hot_flags::RECEIVE_CLOSED | hot_flags::FIN_RECEIVED) != 0 && !self.may_take(flow, arrival)
        {
            return;
        }
        if state & hot_flags::ECN != 0 && arrival.bytes > 0 {
            arrival.urgent |= self.echo_congestion(flow, segment);
        }
        if arrival.start != rcv_nxt {
            self.take_out_of_order(flow, arrival, &packet);
            return self.acknowledge_now(flow, Some(packet));
        }
        if arrival.bytes > 0 && !self.store(flow, arrival, &packet) {
            return;
        }
        let mut next = rcv_nxt.wrapping_add(arrival.bytes as u64);
        if hot.recovery.get() != NONE {
            next = self.absorb(flow, next, &mut arrival);
        }
        if arrival.fin {
            next = next.wrapping_add(1);
            let first = state & hot_flags::FIN_QUEUED == 0;
            flow.set(hot_flags::FIN_RECEIVED | if first { hot_flags::REMOTE_CLOSED_FIRST } else { 0 });
            self.kernel.report(KernelEntry {
                op: to_slow::FIN_RECEIVED,
                flow: flow.id,
                ..KernelEntry::default()
            });
        }
        self.taken(flow, rcv_nxt, next, arrival.urgent || arrival.fin, packet);
    }

    /// Everything from `rcv_nxt` to `next` is stored: commits it, tells the application and owes the peer an
    /// acknowledgement, which leaves `at_once` if it must.
    #[inline(always)]
    fn taken(&mut self, flow: Flow<'m>, rcv_nxt: u64, next: u64, at_once: bool, packet: P::Packet) {
        // The commit point: everything before is stored, nothing after is acknowledged.
        flow.hot.rcv_nxt.commit(next);
        self.status.add(Counter::RxPayloadBytes, next.wrapping_sub(rcv_nxt));
        self.announce(flow);
        let unacknowledged = (next as u32).wrapping_sub(self.private[flow.id as usize].last_ack);
        let full = 2 * flow.scale().mss();
        // RFC 9293 §3.8.6.3: at least every second full segment.
        if at_once {
            self.acknowledge_now(flow, Some(packet));
        } else if self.config.delayed_ack_us == 0 || unacknowledged >= full {
            self.acknowledge_after_burst(flow);
        } else {
            self.acknowledge_later(flow);
        }
    }

    /// Data for a receiver that is closed, or after the peer's own FIN.
    #[cold]
    fn may_take(&mut self, flow: Flow<'m>, arrival: Arrival) -> bool {
        if flow.has(hot_flags::FIN_RECEIVED) {
            // Nothing can follow a FIN; what does is ignored (RFC 9293 §3.10.7.4, seventh step).
            return false;
        }
        if arrival.bytes > 0 {
            self.kernel.hint(KernelEntry {
                op: to_slow::DATA_AFTER_CLOSE,
                flow: flow.id,
                ..KernelEntry::default()
            });
            return false;
        }
        true
    }

    /// ECE follows the CE marks of the data. True if an acknowledgement must leave at once.
    #[inline]
    fn echo_congestion(&mut self, flow: Flow<'m>, segment: &Segment) -> bool {
        let marked = segment.ecn == ECN_CE;
        if marked {
            self.status.count(Counter::CongestionExperienced);
        }
        marked != flow.has(hot_flags::ECN_ECHO) && self.change_echo(flow, segment, marked)
    }

    /// RFC 8257 §3.2, or §6.1.3 of RFC 3168: then only CWR ends the echo, and nothing hurries.
    #[cold]
    fn change_echo(&mut self, flow: Flow<'m>, segment: &Segment, marked: bool) -> bool {
        let control = self.tables.cold.get(flow.id as usize).map_or(0, |cold| cold.control.get());
        if !marked && control & control_flags::ECHO_UNTIL_CWR != 0 {
            if segment.flags & flag::CWR != 0 {
                flow.clear(hot_flags::ECN_ECHO);
            }
            return false;
        }
        if flow.has(hot_flags::ACK_PENDING) {
            // For the data so far, with the state so far.
            self.acknowledge_now(flow, None);
        }
        if marked {
            flow.set(hot_flags::ECN_ECHO);
        } else {
            flow.clear(hot_flags::ECN_ECHO);
        }
        true
    }

    /// [`Self::store_bytes`] of an arrival.
    #[inline(never)]
    pub(crate) fn store(&mut self, flow: Flow<'m>, arrival: Arrival, packet: &P::Packet) -> bool {
        self.store_bytes(flow, arrival.start, arrival.offset, arrival.bytes, packet)
    }

    /// Copies `count` bytes at `offset` of the frame to `position` in the application's chunks. False: dropped and
    /// counted.
    #[inline(always)]
    fn store_bytes(
        &mut self,
        flow: Flow<'m>,
        position: u64,
        offset: usize,
        count: usize,
        packet: &P::Packet,
    ) -> bool {
        let number = owner_application(flow.hot.owner.get());
        let Some(application) = self.applications.get_mut(usize::from(number)).and_then(Option::as_mut)
        else {
            self.status.count(Counter::PoolEmpty);
            return false;
        };
        let bytes = packet.data().get(offset..offset + count);
        let (Some(bytes), Some(record)) = (bytes, application.record(flow.hot.buffers.get())) else {
            self.status.count(Counter::PoolEmpty);
            return false;
        };
        if application.write(&self.shared, record, position, bytes) {
            return true;
        }
        self.status.count(Counter::PoolEmpty);
        if self.now_us.wrapping_sub(application.pool_empty_at_us) >= POOL_EMPTY_INTERVAL_US {
            application.pool_empty_at_us = self.now_us;
            self.kernel.hint(KernelEntry {
                op: to_slow::POOL_EMPTY,
                flow: flow.id,
                value: number.into(),
                ..KernelEntry::default()
            });
        }
        false
    }
}

/// The acceptability test and trimming of RFC 9293 §3.10.7.4 for a segment that is not simply the
/// next one. `None`: unacceptable.
pub(crate) fn trim(flow: Flow<'_>, rcv_nxt: u64, mut arrival: Arrival) -> Option<Arrival> {
    // Rounding of a scaled window must not let the buffer map wrap.
    let edge = flow.advertised(rcv_nxt).min(flow.map_edge()).max(rcv_nxt);
    let end = arrival.start.wrapping_add(arrival.bytes as u64).wrapping_add(u64::from(arrival.fin));
    if end == arrival.start {
        // At the very edge too: a sender that filled the window acknowledges from there.
        return (arrival.start >= rcv_nxt && arrival.start <= edge).then_some(arrival);
    }
    if end <= rcv_nxt {
        return None;
    }
    if arrival.start < rcv_nxt {
        let old = (rcv_nxt - arrival.start) as usize;
        arrival.start = rcv_nxt;
        arrival.offset += old.min(arrival.bytes);
        arrival.bytes = arrival.bytes.saturating_sub(old);
        arrival.urgent = true;
    }
    if arrival.start > edge || (arrival.start == edge && arrival.start != rcv_nxt) {
        return None;
    }
    // A FIN needs no buffer, so it is taken at the edge of a closed window.
    let room = (edge - arrival.start) as usize;
    if arrival.bytes > room {
        arrival.bytes = room;
        arrival.fin = false;
        arrival.urgent = true;
    }
    Some(arrival)
}
