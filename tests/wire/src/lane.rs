// SPDX-License-Identifier: MIT OR Apache-2.0
//! One direction of the wire.

use crate::{frame, Counters, Impairment, LossProcess, Random};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

/// Most frames on one lane, whatever its delay: 100 MB of full-sized ones.
const IN_FLIGHT_MAX: usize = 1 << 16;
/// An Ethernet header; the MTU counts from behind it.
const ETHERNET_BYTES: u64 = 14;
/// Nanoseconds of a second, times bits of a byte.
const BIT_NS_PER_BYTE: u64 = 8 * 1_000_000_000;

/// The streams of random numbers, one for each kind of choice.
#[derive(Debug)]
struct Streams {
    duplicate: Random,
    corrupt: Random,
    ecn: Random,
    jitter: Random,
    reorder: Random,
}

/// A frame on its way. Ordered by arrival, then by departure.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    arrival_ns: u64,
    number: u64,
    frame: Vec<u8>,
}

/// One direction of the wire.
#[derive(Debug)]
pub struct Lane {
    impairment: Impairment,
    loss: LossProcess,
    streams: Streams,
    /// When the frames that wait for the rate will have left, oldest first.
    waiting: VecDeque<u64>,
    /// Arrival of the last frame that was not held back: those do not overtake each other.
    last_arrival_ns: u64,
    in_flight: BinaryHeap<Reverse<InFlight>>,
    next_number: u64,
    /// One more than the highest number delivered.
    delivered_number: u64,
    counters: Counters,
}

impl Lane {
    /// A lane whose choices follow from `seed` and its `direction`.
    pub fn new(impairment: Impairment, seed: u64, direction: u64) -> Self {
        // Six streams for each direction.
        let stream = |kind: u64| Random::new(seed, direction * 8 + kind);
        Self {
            impairment,
            loss: LossProcess::new(stream(0)),
            streams: Streams {
                duplicate: stream(1),
                corrupt: stream(2),
                ecn: stream(3),
                jitter: stream(4),
                reorder: stream(5),
            },
            waiting: VecDeque::new(),
            last_arrival_ns: 0,
            in_flight: BinaryHeap::new(),
            next_number: 0,
            delivered_number: 0,
            counters: Counters::default(),
        }
    }

    /// What it did so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Frames on their way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Goes on as `fresh`, which has carried nothing yet: its impairment, random choices and counters. Frames
    /// on their way keep their time, and are counted as offered to it.
    pub fn replace_by(&mut self, fresh: Self) {
        let old = std::mem::replace(self, fresh);
        self.counters.offered = old.in_flight.len() as u64;
        self.in_flight = old.in_flight;
        self.waiting = old.waiting;
        self.last_arrival_ns = old.last_arrival_ns;
        self.next_number = old.next_number;
        self.delivered_number = old.delivered_number;
    }

    /// Takes a frame, at a time that never goes back, nanoseconds.
    pub fn offer(&mut self, now_ns: u64, frame: Vec<u8>) {
        self.counters.offered += 1;
        let longest = self.impairment.mtu_bytes.map_or(u64::MAX, |mtu| mtu.saturating_add(ETHERNET_BYTES));
        if frame.len() as u64 > longest {
            self.counters.too_long += 1;
            return;
        }
        if self.loss.loses(&self.impairment.loss) {
            self.counters.lost += 1;
            return;
        }
        if self.streams.duplicate.chance(self.impairment.duplicate) {
            self.counters.duplicated += 1;
            self.launch(now_ns, frame.clone());
        }
        self.launch(now_ns, frame);
    }

    fn launch(&mut self, now_ns: u64, mut frame: Vec<u8>) {
        let Some(departure_ns) = self.depart(now_ns, &mut frame) else {
            self.counters.overflowed += 1;
            return;
        };
        if self.streams.corrupt.chance(self.impairment.corrupt) {
            self.counters.corrupted += u64::from(frame::corrupt(&mut frame, &mut self.streams.corrupt));
        }
        let arrival_ns = self.arrive(departure_ns);
        self.in_flight.push(Reverse(InFlight { arrival_ns, number: self.next_number, frame }));
        self.next_number += 1;
    }

    /// When the frame has left at the lane's rate, and the marks it gets while it waits; none if there
    /// is no room.
    fn depart(&mut self, now_ns: u64, frame: &mut [u8]) -> Option<u64> {
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            return None;
        }
        while self.waiting.front().is_some_and(|left_ns| *left_ns <= now_ns) {
            self.waiting.pop_front();
        }
        let waiting = self.waiting.len() as u64;
        let mut departure_ns = now_ns;
        if let Some(rate) = self.impairment.rate_bps {
            if waiting >= self.impairment.queue_frames.max(1) {
                return None;
            }
            let free_ns = self.waiting.back().map_or(now_ns, |busy_ns| now_ns.max(*busy_ns));
            departure_ns = free_ns + (frame.len() as u64).saturating_mul(BIT_NS_PER_BYTE) / rate;
            self.waiting.push_back(departure_ns);
        }
        let congested = self.impairment.mark_frames.is_some_and(|threshold| waiting >= threshold);
        if congested || self.streams.ecn.chance(self.impairment.ecn) {
            self.counters.marked += u64::from(frame::mark_congestion(frame));
        }
        Some(departure_ns)
    }

    fn arrive(&mut self, departure_ns: u64) -> u64 {
        let jitter_ns = self.streams.jitter.below(self.impairment.jitter_ns);
        let in_order_ns = (departure_ns + self.impairment.delay_ns + jitter_ns).max(self.last_arrival_ns);
        if self.impairment.reorder_ns > 0 && self.streams.reorder.chance(self.impairment.reorder) {
            self.counters.held_back += 1;
            return in_order_ns + self.streams.reorder.below(self.impairment.reorder_ns);
        }
        self.last_arrival_ns = in_order_ns;
        in_order_ns
    }

    /// When the next frame arrives, nanoseconds.
    pub fn next_arrival_ns(&self) -> Option<u64> {
        self.in_flight.peek().map(|Reverse(next)| next.arrival_ns)
    }

    /// The next frame if it has arrived. [`Self::delivered`] removes it.
    pub fn arrived(&self, now_ns: u64) -> Option<&[u8]> {
        let Reverse(next) = self.in_flight.peek()?;
        (next.arrival_ns <= now_ns).then_some(&next.frame)
    }

    /// The frame that [`Self::arrived`] showed was handed over.
    pub fn delivered(&mut self) {
        let Some(Reverse(next)) = self.in_flight.pop() else {
            return;
        };
        self.counters.delivered += 1;
        self.counters.delivered_bytes += next.frame.len() as u64;
        self.counters.overtaken += u64::from(next.number < self.delivered_number);
        self.delivered_number = self.delivered_number.max(next.number + 1);
    }
}
