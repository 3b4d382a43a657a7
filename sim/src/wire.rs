// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames in memory, a port that takes them from a queue, and a link between two ports.

use crate::random::Random;
use fastpath::{Batch, Capabilities, Packet, Port, RxChecksum, FRAME_BYTES_MAX};
use std::{cell::RefCell, collections::VecDeque, rc::Rc};

/// A frame on the heap.
#[derive(Debug, Clone)]
pub struct Frame {
    bytes: Vec<u8>,
    len: usize,
}

impl Frame {
    fn empty() -> Self {
        Self { bytes: vec![0; FRAME_BYTES_MAX], len: 0 }
    }
    /// A copy of `bytes`, cut to what a frame may have.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut frame = Self::empty();
        let len = bytes.len().min(FRAME_BYTES_MAX);
        frame.bytes[..len].copy_from_slice(&bytes[..len]);
        frame.len = len;
        frame
    }
}

impl Packet for Frame {
    fn data(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
    fn capacity(&self) -> usize {
        self.bytes.len()
    }
    fn set_len(&mut self, len: usize) {
        self.len = len.min(self.bytes.len());
    }
    fn checksum(&self) -> RxChecksum {
        RxChecksum::Unknown
    }
    fn request_tx_checksum(&mut self, _l2_bytes: u8, _l3_bytes: u8, _l4_bytes: u8) {}
}

/// The two queues of a port.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    pub(crate) received: VecDeque<Frame>,
    pub(crate) sent: VecDeque<Frame>,
}

/// A port whose frames come from and go to queues in memory.
#[derive(Debug, Clone, Default)]
pub struct WirePort {
    pub(crate) queues: Rc<RefCell<Queues>>,
}

impl WirePort {
    /// Puts a frame into the receive queue, as the benchmarks and tests do.
    pub fn inject(&self, bytes: &[u8]) {
        self.queues.borrow_mut().received.push_back(Frame::from_bytes(bytes));
    }
    /// Takes the next frame that was sent.
    pub fn sent(&self) -> Option<Vec<u8>> {
        self.queues.borrow_mut().sent.pop_front().map(|frame| frame.data().to_vec())
    }
}

impl Port for WirePort {
    type Packet = Frame;
    fn receive(&mut self, into: &mut Batch<Frame>, limit: usize) -> usize {
        let mut queues = self.queues.borrow_mut();
        let mut taken = 0;
        while into.len() < limit && into.room() > 0 {
            let Some(frame) = queues.received.pop_front() else {
                break;
            };
            drop(into.push(frame));
            taken += 1;
        }
        taken
    }
    fn allocate(&mut self) -> Option<Frame> {
        Some(Frame::empty())
    }
    fn transmit(&mut self, batch: &mut Batch<Frame>) -> usize {
        let count = batch.len();
        let mut queues = self.queues.borrow_mut();
        for index in 0..count {
            queues.sent.extend(batch.take(index));
        }
        batch.remove_front(count);
        count
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
}

/// What a link does to frames, per mille.
#[derive(Debug, Clone, Copy, Default)]
pub struct Impairment {
    /// Lost.
    pub loss: u32,
    /// Delivered twice.
    pub duplicate: u32,
    /// Held back so that later ones overtake it.
    pub reorder: u32,
    /// One bit flipped.
    pub corrupt: u32,
    /// Marked CE if ECN-capable.
    pub mark: u32,
}

/// What a link did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WireStats {
    /// Frames given to it.
    pub offered: u64,
    /// Frames lost.
    pub lost: u64,
    /// Frames that were corrupted.
    pub corrupted: u64,
    /// Frames marked CE.
    pub marked: u64,
}

/// One direction of a link: a rate, a delay, a queue with an ECN threshold, impairments.
pub struct Link {
    from: WirePort,
    to: WirePort,
    /// What it does to frames.
    pub impairment: Impairment,
    /// One-way delay, microseconds.
    pub delay_us: u64,
    /// Microseconds each frame occupies the link for, in 1/1000.
    pub frame_ns: u64,
    busy_until_ns: u64,
    in_flight: Vec<(u64, u64, Frame)>,
    sequence: u64,
    /// What it did.
    pub stats: WireStats,
}

/// How long a frame that is to be overtaken is held back, in one-way delays.
const REORDER_DELAYS: u64 = 3;

impl Link {
    /// From one port to another.
    pub fn new(from: WirePort, to: WirePort, delay_us: u64, impairment: Impairment) -> Self {
        Self {
            from,
            to,
            impairment,
            delay_us,
            frame_ns: 1200,
            busy_until_ns: 0,
            in_flight: Vec::new(),
            sequence: 0,
            stats: WireStats::default(),
        }
    }

    /// Takes what was sent; frames leave at the link's rate.
    pub fn accept(&mut self, now_us: u64, random: &mut Random) {
        loop {
            let Some(frame) = self.from.queues.borrow_mut().sent.pop_front() else {
                break;
            };
            self.stats.offered += 1;
            if random.chance(self.impairment.loss) {
                self.stats.lost += 1;
                continue;
            }
            let copies = 1 + u32::from(random.chance(self.impairment.duplicate));
            for _ in 0..copies {
                self.launch(now_us, frame.clone(), random);
            }
        }
    }

    fn launch(&mut self, now_us: u64, mut frame: Frame, random: &mut Random) {
        if random.chance(self.impairment.corrupt) {
            let bit = random.below(frame.len.max(1) as u64 * 8) as usize;
            if let Some(byte) = frame.bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            self.stats.corrupted += 1;
        }
        if random.chance(self.impairment.mark) && mark_congestion(frame.data_mut()) {
            self.stats.marked += 1;
        }
        self.busy_until_ns = self.busy_until_ns.max(now_us * 1000) + self.frame_ns;
        let mut at_us = self.busy_until_ns / 1000 + self.delay_us;
        if random.chance(self.impairment.reorder) {
            at_us += REORDER_DELAYS * self.delay_us.max(1);
        }
        self.sequence += 1;
        self.in_flight.push((at_us, self.sequence, frame));
    }

    /// Delivers what has arrived by `now_us`, in order of arrival.
    pub fn deliver(&mut self, now_us: u64) {
        let (mut due, later): (Vec<_>, Vec<_>) = self.in_flight.drain(..).partition(|(at, ..)| *at <= now_us);
        self.in_flight = later;
        due.sort_by_key(|(at, sequence, _)| (*at, *sequence));
        self.to.queues.borrow_mut().received.extend(due.into_iter().map(|(_, _, frame)| frame));
    }

    /// When the next frame arrives.
    pub fn next_arrival_us(&self) -> Option<u64> {
        self.in_flight.iter().map(|(at, ..)| *at).min()
    }
}

/// Sets CE (RFC 3168 §5) on an ECN-capable IPv4 frame and corrects the header checksum.
fn mark_congestion(frame: &mut [u8]) -> bool {
    let is_ipv4 = frame.get(12..14) == Some(&[8, 0]);
    let Some(header) = frame.get_mut(14..34).filter(|_| is_ipv4) else {
        return false;
    };
    if header[1] & 3 == 0 {
        return false;
    }
    header[1] |= 3;
    header[10] = 0;
    header[11] = 0;
    let mut sum: u32 =
        header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !(sum as u16);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    true
}
