// SPDX-License-Identifier: MIT OR Apache-2.0
//! The receive stage: a burst of frames is parsed, its flows are looked up, each step for the whole burst, so
//! that memory is fetched for the later frames while the earlier are worked on.

use crate::{
    core::Core,
    flow::Flow,
    ipv6, lookup,
    parse::{flag, parse, Segment, Verdict},
    port::{Batch, Packet, Port, RxChecksum, Steer, BATCH_MAX},
    vlan::{self, Tag},
    word::Word,
};
use abi::{
    core_status::Counter,
    flow::{hot_flags, NONE},
    kernel_ring::reason,
};

/// A frame of the burst.
#[derive(Clone, Copy, Default)]
struct Frame {
    segment: Segment,
    verdict: Verdict,
    hash: u64,
    /// The flow that probably is it.
    candidate: Option<u32>,
}

/// Room for a burst; kept, so that no poll has to clear it.
#[derive(Default)]
pub(crate) struct Parsed {
    frames: [Frame; BATCH_MAX],
}

impl<'m, P: Port, S: Steer<P::Packet>> Core<'m, P, S> {
    /// Receives from the port, then from other cores.
    #[inline]
    pub(crate) fn poll_port(&mut self) {
        // Each frame may become one to send: none is taken that would have to be dropped for want of room.
        self.flush();
        let limit = self.config.batch.min(self.tx.room());
        let Some(mut rx) = self.rx.take() else { return };
        let count = self.port.receive(&mut rx, limit);
        let foreign = self.port.take_foreign();
        if foreign > 0 {
            self.status.add(Counter::OtherVlan, foreign);
        }
        if count > 0 {
            let bytes = self.receive_burst(&mut rx, false);
            self.status.add(Counter::RxPackets, count as u64);
            self.status.add(Counter::RxBytes, bytes);
        }
        if self.config.cores > 1 && self.steer.is_ready() {
            let limit = self.config.batch.min(self.tx.room());
            self.steer.take(&mut rx, limit);
            self.receive_burst(&mut rx, true);
        }
        self.rx = Some(rx);
    }

    /// Works on a burst. Returns its bytes.
    #[inline]
    fn receive_burst(&mut self, rx: &mut Batch<P::Packet>, steered: bool) -> u64 {
        let Some(mut parsed) = self.parsed.take() else { return 0 };
        let count = rx.len();
        let mut bytes = 0u64;
        self.work.received += count as u32;
        rx.iter().for_each(Packet::prefetch);
        for (packet, frame) in rx.iter().zip(parsed.frames.iter_mut()) {
            bytes = bytes.wrapping_add(packet.data().len() as u64);
            frame.verdict = parse(packet.data(), packet.checksum(), &mut frame.segment);
            frame.hash = identify(self.config.hash_key, frame, packet.data());
            if let Some(line) = self.lookup.line(frame.hash) {
                P::prefetch(line);
            }
        }
        for frame in parsed.frames.iter_mut().take(count) {
            frame.candidate = self.lookup.candidate(frame.hash);
            let Some(id) = frame.candidate else { continue };
            if let (Some(hot), Some(private)) =
                (self.tables.hot.get(id as usize), self.private.get(id as usize))
            {
                P::prefetch(hot);
                P::prefetch(&hot.snd_end);
                P::prefetch(private);
            }
        }
        for (index, frame) in parsed.frames.iter().take(count).enumerate() {
            if let Some(packet) = rx.take(index) {
                self.dispatch(packet, frame, steered);
            }
        }
        rx.reset();
        self.parsed = Some(parsed);
        if !self.burst_acks.is_empty() {
            self.send_burst_acks();
        }
        bytes
    }

    /// One frame outside a burst, from the slow path.
    #[cold]
    pub(crate) fn receive_frame(&mut self, packet: P::Packet, checksum: RxChecksum) {
        self.work_on(packet, checksum, true);
        self.send_burst_acks();
    }

    /// [`Self::receive_frame`], maybe within a burst.
    #[cold]
    fn work_on(&mut self, packet: P::Packet, checksum: RxChecksum, steered: bool) {
        let mut frame = Frame::default();
        frame.verdict = parse(packet.data(), checksum, &mut frame.segment);
        frame.hash = identify(self.config.hash_key, &frame, packet.data());
        frame.candidate = self.lookup.candidate(frame.hash);
        self.dispatch(packet, &frame, steered);
    }

    /// To the flow, or to whom it concerns.
    #[inline(always)]
    fn dispatch(&mut self, packet: P::Packet, frame: &Frame, steered: bool) {
        if frame.verdict != Verdict::Tcp {
            return self.dispatch_other(packet, frame, steered);
        }
        let segment = &frame.segment;
        if let Some(id) = frame.candidate {
            if let Some(hot) = self.tables.hot.get(id as usize).filter(|hot| matches(hot, segment)) {
                return self.receive(Flow { id, hot }, segment, packet);
            }
        }
        self.dispatch_slowly(packet, frame, steered);
    }

    /// Over IPv6, or not a segment.
    #[inline(never)]
    fn dispatch_other(&mut self, packet: P::Packet, frame: &Frame, steered: bool) {
        if frame.verdict != Verdict::Tcp6 {
            return self.no_segment(packet, frame.verdict, steered);
        }
        let (addresses, ports) = (ipv6::addresses(packet.data()), frame.segment.ports);
        let (hot, cold) = (self.tables.hot, self.tables.cold);
        let found = self.lookup.find(frame.hash, |id| match (hot.get(id as usize), cold.get(id as usize)) {
            (Some(hot), Some(cold)) => ipv6::matches(hot, cold, &addresses, ports),
            _ => false,
        });
        match found.and_then(|id| self.ours(id)) {
            Some(flow) => self.receive_outlined(flow, &frame.segment, packet),
            None => self.dispatch_unknown(packet, frame, steered),
        }
    }

    /// Another flow with the same half of the hash, another core's flow, or none.
    #[cold]
    fn dispatch_slowly(&mut self, packet: P::Packet, frame: &Frame, steered: bool) {
        let segment = &frame.segment;
        let hot = self.tables.hot;
        let found =
            self.lookup.find(frame.hash, |id| hot.get(id as usize).is_some_and(|hot| matches(hot, segment)));
        if let Some(flow) = found.and_then(|id| self.ours(id)) {
            return self.receive_outlined(flow, segment, packet);
        }
        self.dispatch_unknown(packet, frame, steered);
    }

    /// No flow of this core: perhaps another's.
    #[cold]
    fn dispatch_unknown(&mut self, packet: P::Packet, frame: &Frame, steered: bool) {
        if self.config.cores > 1 && !steered {
            let by_hash = (((frame.hash >> 32) * u64::from(self.config.cores)) >> 32) as usize;
            let here = self.config.core as usize;
            let core = self.shared.hint(frame.hash).unwrap_or(if self.spread { by_hash } else { here });
            if core != here && core < self.config.cores as usize {
                match self.steer.offer(core, packet) {
                    Ok(()) => self.status.count(Counter::Steered),
                    Err(_full) => self.status.count(Counter::NoBuffer),
                }
                return;
            }
        }
        let opens = frame.segment.flags & (flag::SYN | flag::ACK | flag::RST) == flag::SYN;
        if self.strangers.admit(frame.hash, opens, self.now_us) {
            self.hand_over(&packet, reason::NO_FLOW);
        } else {
            self.status.count(Counter::StrangersRefused);
        }
    }

    #[cold]
    fn no_segment(&mut self, packet: P::Packet, verdict: Verdict, steered: bool) {
        match verdict {
            Verdict::NotTcp => self.not_tcp(packet, steered),
            Verdict::IpOptions => self.hand_over(&packet, reason::IP_OPTIONS),
            Verdict::BadChecksum => self.status.count(Counter::BadChecksum),
            Verdict::Malformed | Verdict::Tcp | Verdict::Tcp6 => self.status.count(Counter::Malformed),
        }
    }

    /// Not TCP, unless that was behind a priority tag (IEEE 802.1Q §6.9).
    fn not_tcp(&mut self, mut packet: P::Packet, steered: bool) {
        match vlan::tag(packet.data()) {
            Tag::None => self.hand_over(&packet, reason::NOT_TCP),
            Tag::Vlan => self.status.count(Counter::OtherVlan),
            Tag::Priority => {
                vlan::remove_tag(&mut packet);
                // One tag, or else a frame of them would be worked on hundreds of times.
                if vlan::tag(packet.data()) != Tag::None {
                    return self.status.count(Counter::Malformed);
                }
                let checksum = packet.checksum();
                self.work_on(packet, checksum, steered);
            }
        }
    }

    /// Hands a frame that no flow claims to the slow path, if it is for us: our MAC address, or a group address.
    fn hand_over(&mut self, packet: &P::Packet, why: u8) {
        let frame = packet.data();
        let Some(destination) = frame.first_chunk::<6>() else {
            return;
        };
        if destination[0] & 1 != 0 || *destination == self.config.mac {
            self.kernel.packet(why, NONE, frame, &self.status);
        }
    }
}

/// The hash of a frame's flow; any value if it is not a segment.
#[inline(always)]
fn identify(key: u64, frame: &Frame, data: &[u8]) -> u64 {
    let segment = &frame.segment;
    if frame.verdict == Verdict::Tcp6 {
        return ipv6::hash(key, &ipv6::addresses(data), segment.ports);
    }
    lookup::hash(key, segment.remote_ip, segment.local_ip, segment.ports)
}

/// True if the segment, over IPv4, is of this flow.
#[inline]
fn matches(hot: &abi::flow::HotFlow, segment: &Segment) -> bool {
    hot.remote_ip.get() == segment.remote_ip
        && hot.ports.get() == segment.ports
        && hot.local_ip.get() == segment.local_ip
        && hot.flags.get() & hot_flags::IPV6 == 0
}
