// SPDX-License-Identifier: MIT OR Apache-2.0
//! What leaves: frames to the port, pure acknowledgements.

use crate::{
    core::Core,
    flow::Flow,
    header::{self, Header, OPTIONS_MAX, PLAIN_BYTES, TIMESTAMP_BYTES},
    ipv6::{self, IPV6_BYTES},
    parse::{flag, ETHERNET_BYTES, IPV4_BYTES, TCP_BYTES},
    port::{Packet, Port, Steer},
    private::{bit, hot_bit},
    word::Word,
};
use abi::{
    adjacency::RESOLVED,
    clock::timestamp_value,
    core_status::Counter,
    flow::{hot_flags, NONE},
};

const MAC_MASK: u64 = (1 << 48) - 1;

impl<'m, P: Port, S: Steer<P::Packet>> Core<'m, P, S> {
    /// Queues a finished frame.
    #[inline(always)]
    pub(crate) fn emit(&mut self, packet: P::Packet) {
        let bytes = packet.data().len() as u64;
        match self.tx.push(packet) {
            Ok(()) => self.status.add(Counter::TxBytes, bytes),
            Err(packet) => self.emit_after_flush(packet),
        }
    }

    #[cold]
    fn emit_after_flush(&mut self, packet: P::Packet) {
        self.flush();
        let bytes = packet.data().len() as u64;
        match self.tx.push(packet) {
            Ok(()) => self.status.add(Counter::TxBytes, bytes),
            Err(_dropped) => self.status.count(Counter::TxFull),
        }
    }

    /// Room for another frame, made by giving the port what is queued if need be.
    #[inline]
    pub(crate) fn has_tx_room(&mut self) -> bool {
        if self.tx.room() == 0 {
            self.flush();
        }
        self.tx.room() > 0
    }

    /// Gives queued frames to the port.
    pub(crate) fn flush(&mut self) {
        if self.tx.is_empty() {
            return;
        }
        let sent = self.port.transmit(&mut self.tx);
        self.work.sent = self.work.sent.wrapping_add(sent as u32);
        self.status.add(Counter::TxPackets, sent as u64);
    }

    /// An empty packet, or `None` (counted).
    #[inline]
    pub(crate) fn allocate(&mut self) -> Option<P::Packet> {
        let packet = self.port.allocate();
        if packet.is_none() {
            self.status.count(Counter::NoBuffer);
        }
        packet
    }

    /// Sets the frame's length, writes the headers of a segment of `flow` and asks for the port's checksums. The payload
    /// follows at the returned offset. `None`: the next hop is unknown.
    #[inline(always)]
    pub(crate) fn write_headers(
        &mut self,
        flow: Flow<'m>,
        packet: &mut P::Packet,
        sequence: u64,
        flags: u8,
        payload: usize,
        ecn: u8,
    ) -> Option<usize> {
        let state = flow.hot.flags.get();
        if state & hot_flags::IPV6 != 0 {
            return self.write_headers_ipv6(flow, state, packet, sequence, flags, payload, ecn);
        }
        self.write_headers_of::<false>(flow, state, packet, sequence, flags, payload, ecn)
    }

    /// [`Self::write_headers`] over IPv6, away from IPv4's path.
    #[inline(never)]
    #[allow(clippy::too_many_arguments)]
    fn write_headers_ipv6(
        &mut self,
        flow: Flow<'m>,
        state: u32,
        packet: &mut P::Packet,
        sequence: u64,
        flags: u8,
        payload: usize,
        ecn: u8,
    ) -> Option<usize> {
        self.write_headers_of::<true>(flow, state, packet, sequence, flags, payload, ecn)
    }

    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn write_headers_of<const IPV6: bool>(
        &mut self,
        flow: Flow<'m>,
        state: u32,
        packet: &mut P::Packet,
        sequence: u64,
        flags: u8,
        payload: usize,
        ecn: u8,
    ) -> Option<usize> {
        let hot = flow.hot;
        let mac = self.tables.adjacencies.get(hot.adjacency.get() as usize)?.mac.get();
        if mac & RESOLVED == 0 {
            return None;
        }
        let mut state = state;
        let rcv_nxt = hot.rcv_nxt.get();
        let scale = flow.scale();
        const ECHO: u32 = hot_flags::ECN | hot_flags::ECN_ECHO;
        let echo = if state & ECHO == ECHO { flag::ECE } else { 0 };
        if state & hot_flags::ACK_PENDING != 0 {
            state &= !hot_flags::ACK_PENDING;
            hot.flags.set(state);
        }
        let private = &mut self.private[flow.id as usize];
        private.last_ack = rcv_nxt as u32;
        let ts_offset = private.ts_offset;
        self.ip_id = self.ip_id.wrapping_add(1);
        let timestamps = state & hot_flags::TIMESTAMPS != 0;
        let options = if timestamps { TIMESTAMP_BYTES } else { 0 };
        let plain = if IPV6 { ipv6::PLAIN_BYTES } else { PLAIN_BYTES };
        packet.set_len(plain.wrapping_add(options).wrapping_add(payload));
        let frame = packet.data_mut();
        let header = Header {
            destination_mac: mac & MAC_MASK,
            source_mac: self.mac,
            local_ip: hot.local_ip.get(),
            remote_ip: hot.remote_ip.get(),
            ports: hot.ports.get(),
            seq: sequence as u32,
            ack: rcv_nxt as u32,
            window: flow.advertise(rcv_nxt, scale.mss(), scale.our_shift()),
            flags: flags | flag::ACK | echo,
            ecn,
            ttl: self.config.ttl,
            id: self.ip_id,
            options_bytes: options as u8,
        };
        if IPV6 {
            let addresses = ipv6::flow_addresses(self.tables.cold.get(flow.id as usize)?);
            ipv6::write(frame, &header, &addresses, self.config.label_key);
        } else {
            header::write(frame, &header);
        }
        if timestamps {
            let value = timestamp_value(self.now_us, ts_offset);
            header::write_timestamps(frame, plain, value, hot.ts_recent.get());
        }
        if self.offload {
            packet.request_tx_checksum(
                ETHERNET_BYTES as u8,
                if IPV6 { IPV6_BYTES } else { IPV4_BYTES } as u8,
                (TCP_BYTES as u8).wrapping_add(options as u8),
            );
        }
        Some(plain.wrapping_add(options))
    }

    /// Sees to the checksums of a finished segment and queues it.
    #[inline(always)]
    pub(crate) fn emit_segment(&mut self, mut packet: P::Packet) {
        if !self.offload {
            header::write_checksums(packet.data_mut());
        }
        self.status.count(Counter::TxSegments);
        self.emit(packet);
    }

    /// Sends a pure acknowledgement in `packet`, or in a new one.
    pub(crate) fn acknowledge_now(&mut self, flow: Flow<'m>, packet: Option<P::Packet>) {
        // Not `snd_nxt`, which a timeout has pulled back: the peer would find the ACK's sequence number
        // unacceptable (RFC 9293 §3.10.7.4), and two sides that both resend would never hear each other.
        self.send_empty(flow, packet, flow.hot.snd_max.get());
    }

    /// Sends a segment without data at `sequence`.
    #[inline(never)]
    pub(crate) fn send_empty(&mut self, flow: Flow<'m>, packet: Option<P::Packet>, sequence: u64) {
        let Some(mut packet) = packet.or_else(|| self.allocate()) else {
            return;
        };
        packet.clear_tx_offload();
        let Some(offset) = self.write_headers(flow, &mut packet, sequence, 0, 0, 0) else {
            return;
        };
        if (flow.hot.recovery.get() != NONE || self.twice.0 == flow.id) && flow.has(hot_flags::SACK) {
            self.append_sack(flow, &mut packet, offset);
        }
        if flow.has(hot_bit::DRESSED) {
            self.dress(flow, sequence, packet.data_mut());
        }
        self.status.count(Counter::TxAcks);
        self.emit_segment(packet);
    }

    /// Appends a SACK option (RFC 2018 §3) with what was received twice (RFC 2883 §4) and out of order, as much as
    /// there is room for.
    #[cold]
    fn append_sack(&mut self, flow: Flow<'m>, packet: &mut P::Packet, offset: usize) {
        let mut option = [0u8; OPTIONS_MAX];
        let plain = flow.plain_bytes();
        let room = (plain + OPTIONS_MAX).saturating_sub(offset + 4) / 8;
        let mut blocks = 0;
        if self.twice.0 == flow.id && room > 0 {
            option[4..8].copy_from_slice(&(self.twice.1 as u32).to_be_bytes());
            option[8..12].copy_from_slice(&(self.twice.2 as u32).to_be_bytes());
            self.twice.0 = NONE;
            blocks = 1;
        }
        blocks += self.sack_blocks(flow, &mut option[4 + blocks * 8..4 + room * 8]);
        if blocks == 0 {
            return;
        }
        let bytes = 4 + blocks * 8;
        option[..4].copy_from_slice(&[1, 1, 5, (bytes - 2) as u8]);
        packet.set_len(offset + bytes);
        let frame = packet.data_mut();
        if let Some(out) = frame.get_mut(offset..offset + bytes) {
            out.copy_from_slice(&option[..bytes]);
        }
        // The headers were written for a shorter segment.
        header::lengthen(frame, bytes);
        if self.offload {
            let ip_bytes = plain - ETHERNET_BYTES - TCP_BYTES;
            packet.request_tx_checksum(
                ETHERNET_BYTES as u8,
                ip_bytes as u8,
                (offset + bytes - plain + TCP_BYTES) as u8,
            );
        }
    }

    /// Owes an acknowledgement: sent when the burst is worked on (RFC 9293 MUST-59), unless something takes it along.
    #[inline]
    pub(crate) fn acknowledge_after_burst(&mut self, flow: Flow<'m>) {
        flow.set(hot_flags::ACK_PENDING);
        let private = &mut self.private[flow.id as usize];
        if !private.has(bit::IN_BURST_ACKS) {
            private.bits |= bit::IN_BURST_ACKS;
            self.burst_acks.push(flow.id);
        }
    }

    /// Sends the acknowledgements of a burst, one per flow.
    pub(crate) fn send_burst_acks(&mut self) {
        while let Some(id) = self.burst_acks.pop() {
            self.private[id as usize].bits &= !bit::IN_BURST_ACKS;
            if let Some(flow) = self.ours(id).filter(|flow| flow.has(hot_flags::ACK_PENDING)) {
                self.acknowledge_now(flow, None);
            }
        }
    }

    /// Owes an acknowledgement: sent when the delay is over unless data takes it along.
    #[inline]
    pub(crate) fn acknowledge_later(&mut self, flow: Flow<'m>) {
        let state = flow.hot.flags.get();
        if state & hot_flags::ACK_PENDING != 0 {
            return;
        }
        flow.hot.flags.set(state | hot_flags::ACK_PENDING);
        let now = self.now_us as u32;
        let private = &mut self.private[flow.id as usize];
        private.ack_since_us = now;
        if !private.has(bit::IN_ACKS) {
            private.bits |= bit::IN_ACKS;
            self.acks.push((flow.id, now));
        }
    }

    /// Sends the acknowledgements whose delay is over.
    pub(crate) fn send_delayed_acks(&mut self) {
        let now = self.now_us as u32;
        let delay = self.config.delayed_ack_us;
        while let Some((id, since)) = self.acks.first() {
            if now.wrapping_sub(since) < delay || !self.has_tx_room() {
                return;
            }
            self.acks.pop();
            let private = &mut self.private[id as usize];
            private.bits &= !bit::IN_ACKS;
            let (ours, owed_since) = (private.has(bit::OURS), private.ack_since_us);
            let Some(hot) = self.tables.hot.get(id as usize) else {
                continue;
            };
            let flow = Flow { id, hot };
            if !ours || !flow.has(hot_flags::ACK_PENDING) {
                continue;
            }
            if now.wrapping_sub(owed_since) < delay {
                // A later one: the one that was queued has been sent with data.
                self.private[id as usize].bits |= bit::IN_ACKS;
                self.acks.push((id, owed_since));
                continue;
            }
            self.acknowledge_now(flow, None);
        }
    }
}
