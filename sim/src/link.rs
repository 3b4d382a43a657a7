// SPDX-License-Identifier: MIT OR Apache-2.0
//! One direction of a link: a rate with a drop-tail queue that marks above a threshold, a delay with
//! jitter, and what goes wrong on the way.

use crate::{random::Random, segment::is_ipv6, wire::Frame, wire::WirePort};
use fastpath::Packet;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

/// How a link hurts what passes. Chances are per thousand frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Impairment {
    /// Frames lost.
    pub loss: u32,
    /// Frames delivered twice.
    pub duplicate: u32,
    /// Frames held back so that later ones overtake them.
    pub reorder: u32,
    /// IP frames of which one bit behind the Ethernet header is flipped. (Ethernet's own check catches
    /// what happens to a whole frame on a wire; this is a router's bad memory.)
    pub corrupt: u32,
    /// ECN-capable frames marked CE.
    pub mark: u32,
    /// A burst of losses begins (Gilbert 1960, Elliott 1963: every frame is lost in the bad state).
    pub burst_begin: u32,
    /// A burst ends.
    pub burst_end: u32,
    /// Longest extra delay of a frame, microseconds; frames stay in order.
    pub jitter_us: u64,
}

/// What a link did to frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WireStats {
    /// Frames given to it.
    pub offered: u64,
    /// Frames lost at random.
    pub lost: u64,
    /// Frames lost in a burst.
    pub burst_lost: u64,
    /// Frames lost because the queue was full.
    pub queue_lost: u64,
    /// Frames lost because the link was down.
    pub outage_lost: u64,
    /// Frames delivered twice.
    pub duplicated: u64,
    /// Frames held back.
    pub reordered: u64,
    /// Frames that were corrupted.
    pub corrupted: u64,
    /// Frames marked CE.
    pub marked: u64,
    /// Times that frames of others entered the queue.
    pub crossed: u64,
}

/// One direction of a link.
pub struct Link {
    from: WirePort,
    to: WirePort,
    /// What it does to frames.
    pub impairment: Impairment,
    /// One-way delay, microseconds.
    pub delay_us: u64,
    /// Nanoseconds that each byte occupies the link for, in 1/1024.
    pub byte_time: u64,
    /// Nanoseconds that each frame occupies it for besides.
    pub frame_ns: u64,
    /// Bytes that may wait; a frame that finds more is lost.
    pub queue_bytes: u64,
    /// Bytes waiting above which ECN-capable frames are marked CE (RFC 8257 §3.1).
    pub mark_bytes: u64,
    /// Nothing passes before this time.
    pub down_until_us: u64,
    /// Before this time others send so many bytes through the same queue for each one that enters it here.
    pub crossing: (u64, u64),
    busy_until_ns: u64,
    last_arrival_us: u64,
    in_burst: bool,
    burst_until_us: u64,
    /// Arrival times, with the key of each frame.
    arrivals: BinaryHeap<Reverse<(u64, u64)>>,
    in_flight: BTreeMap<u64, Frame>,
    sequence: u64,
    /// What it did.
    pub stats: WireStats,
}

/// How long a frame that is to be overtaken is held back, in one-way delays.
const REORDER_DELAYS: u64 = 3;

/// Longest burst of losses: a lone retransmission must not meet the same burst for ever.
const BURST_MAX_US: u64 = 20_000;

impl Link {
    /// From one port to another, at ten frames of any size per 12 µs and with an endless queue.
    pub fn new(from: WirePort, to: WirePort, delay_us: u64, impairment: Impairment) -> Self {
        Self {
            from,
            to,
            impairment,
            delay_us,
            byte_time: 0,
            frame_ns: 1200,
            queue_bytes: u64::MAX,
            mark_bytes: u64::MAX,
            down_until_us: 0,
            crossing: (0, 0),
            busy_until_ns: 0,
            last_arrival_us: 0,
            in_burst: false,
            burst_until_us: 0,
            arrivals: BinaryHeap::new(),
            in_flight: BTreeMap::new(),
            sequence: 0,
            stats: WireStats::default(),
        }
    }

    /// Sets rate, queue and marking threshold.
    pub fn set_rate(&mut self, kbps: u64, queue_bytes: u64, mark_bytes: u64) {
        self.byte_time = (8_000_000 << 10) / kbps.max(1);
        self.frame_ns = 0;
        self.queue_bytes = queue_bytes;
        self.mark_bytes = mark_bytes;
    }

    /// The next frame that the sender gave to its port.
    pub fn take_sent(&self) -> Option<Frame> {
        self.from.take_sent()
    }

    /// Takes what was sent; frames leave at the link's rate.
    pub fn accept(&mut self, now_us: u64, random: &mut Random) {
        while let Some(frame) = self.take_sent() {
            self.launch(now_us, frame, random);
        }
    }

    /// One frame enters the link.
    pub fn launch(&mut self, now_us: u64, frame: Frame, random: &mut Random) {
        self.stats.offered += 1;
        if self.loses(now_us, random) {
            return;
        }
        let others = if now_us < self.crossing.0 { self.crossing.1 * frame.data().len() as u64 } else { 0 };
        self.occupy(now_us, others);
        let waiting = self.waiting_bytes(now_us);
        if waiting.saturating_add(frame.data().len() as u64) > self.queue_bytes {
            self.stats.queue_lost += 1;
            return;
        }
        let twice = random.chance(self.impairment.duplicate);
        self.stats.duplicated += u64::from(twice);
        if twice {
            self.fly(now_us, frame.clone(), waiting, random);
        }
        self.fly(now_us, frame, waiting, random);
    }

    fn loses(&mut self, now_us: u64, random: &mut Random) -> bool {
        if now_us < self.down_until_us {
            self.stats.outage_lost += 1;
            return true;
        }
        if self.impairment.burst_begin > 0 {
            let turn = if self.in_burst { self.impairment.burst_end } else { self.impairment.burst_begin };
            let was = self.in_burst;
            self.in_burst ^= random.chance(turn) || (was && now_us >= self.burst_until_us);
            if self.in_burst && !was {
                self.burst_until_us = now_us + BURST_MAX_US;
            }
            if self.in_burst {
                self.stats.burst_lost += 1;
                return true;
            }
        }
        let lost = random.chance(self.impairment.loss);
        self.stats.lost += u64::from(lost);
        lost
    }

    /// Frames of others enter the queue, as far as there is room.
    fn occupy(&mut self, now_us: u64, bytes: u64) {
        let taken = bytes.min(self.queue_bytes.saturating_sub(self.waiting_bytes(now_us)));
        if taken > 0 {
            self.busy_until_ns = self.busy_until_ns.max(now_us * 1000) + ((taken * self.byte_time) >> 10);
            self.stats.crossed += 1;
        }
    }

    fn waiting_bytes(&self, now_us: u64) -> u64 {
        let backlog_ns = self.busy_until_ns.saturating_sub(now_us * 1000);
        (backlog_ns << 10).checked_div(self.byte_time).unwrap_or(0)
    }

    fn fly(&mut self, now_us: u64, mut frame: Frame, waiting: u64, random: &mut Random) {
        let congested = waiting > self.mark_bytes || random.chance(self.impairment.mark);
        if congested && mark_congestion(frame.data_mut()) {
            self.stats.marked += 1;
        }
        // After the mark, which writes a new checksum.
        let is_ip = frame.data().get(12..14) == Some(&[8, 0]) || is_ipv6(frame.data());
        if is_ip && random.chance(self.impairment.corrupt) {
            let bit = random.below((frame.data().len() as u64 - 14) * 8) as usize;
            if let Some(byte) = frame.data_mut().get_mut(14 + bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            self.stats.corrupted += 1;
        }
        let occupied = self.frame_ns + ((frame.data().len() as u64 * self.byte_time) >> 10);
        self.busy_until_ns = self.busy_until_ns.max(now_us * 1000) + occupied;
        let mut at_us = self.busy_until_ns.div_ceil(1000) + self.delay_us;
        if self.impairment.jitter_us > 0 {
            at_us += random.below(self.impairment.jitter_us + 1);
        }
        at_us = at_us.max(self.last_arrival_us);
        if random.chance(self.impairment.reorder) {
            at_us += REORDER_DELAYS * self.delay_us.max(1);
            self.stats.reordered += 1;
        } else {
            self.last_arrival_us = at_us;
        }
        self.sequence += 1;
        self.arrivals.push(Reverse((at_us, self.sequence)));
        self.in_flight.insert(self.sequence, frame);
    }

    /// The next frame that has arrived by `now_us`, in order of arrival.
    pub fn next_arrived(&mut self, now_us: u64) -> Option<Frame> {
        let Reverse((at_us, key)) = *self.arrivals.peek()?;
        if at_us > now_us {
            return None;
        }
        self.arrivals.pop();
        self.in_flight.remove(&key)
    }

    /// Gives a frame to the receiver's port.
    pub fn hand_over(&self, frame: Frame) {
        self.to.push_received(frame);
    }

    /// Delivers what has arrived by `now_us`, in order of arrival.
    pub fn deliver(&mut self, now_us: u64) {
        while let Some(frame) = self.next_arrived(now_us) {
            self.hand_over(frame);
        }
    }

    /// When the next frame arrives.
    pub fn next_arrival_us(&self) -> Option<u64> {
        self.arrivals.peek().map(|Reverse((at_us, _))| *at_us)
    }
}

/// Sets CE (RFC 3168 §5) on an ECN-capable frame and corrects the header checksum of IPv4.
fn mark_congestion(frame: &mut [u8]) -> bool {
    if is_ipv6(frame) {
        let capable = frame.get(15).is_some_and(|byte| byte & 0x30 != 0);
        if let (true, Some(byte)) = (capable, frame.get_mut(15)) {
            *byte |= 0x30;
        }
        return capable;
    }
    let is_ipv4 = frame.get(12..14) == Some(&[8, 0]);
    let Some(header) = frame.get_mut(14..34).filter(|_| is_ipv4) else {
        return false;
    };
    if header[1] & 3 == 0 {
        return false;
    }
    header[1] |= 3;
    crate::segment::write_ipv4_checksum(header);
    true
}
